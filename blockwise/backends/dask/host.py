"""A Dask cluster of one's own, in a process of its own: ``python -m blockwise.backends.dask.host``.

It takes from standard input a line of JSON that says which cluster, answers with a line that holds the scheduler's
address, or what is wrong, and keeps the cluster until standard input ends, which it does with the process that has
asked for it, however that ends. That process may fork, and what Dask starts does not run its main program again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import dask
from distributed import LocalCluster
from distributed.deploy import SpecCluster

from blockwise.backends.base import python_path

LOOK_S = 2.0
LOST_S = 10.0
"""What has been without its Dask worker for so long is gone; another one takes its place."""

QUIET = {
    # A task whose Dask worker has died comes back at once: the driver knows better what to do with its blocks.
    "distributed.scheduler.allowed-failures": 0,
    # Nobody looks at these, and they take a twentieth of a processor of each Dask worker that has nothing to do.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.log-format": "%(asctime)s %(name)s %(levelname)s %(message)s",
}


def main() -> None:
    """Keep a cluster until standard input ends."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what libraries print goes to the log
        signal.signal(signal.SIGTERM, _end)
        wanted = json.loads(sys.stdin.readline())
        try:
            _keep(wanted, answers)
        except Exception as error:
            # The driver has an ear for this only as long as it waits for the address; later it sees the end.
            with contextlib.suppress(OSError):
                answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
            raise


def _keep(wanted: dict[str, Any], answers: IO[str]) -> None:
    start = _local if wanted.get("slurm") is None else _slurm
    with (
        dask.config.set(QUIET),
        tempfile.TemporaryDirectory(prefix="blockwise-dask-") as scratch,
        start(wanted, scratch) as upkeep,
    ):
        answers.write(json.dumps({"address": upkeep.cluster.scheduler_address}) + "\n")
        while not select.select([sys.stdin], [], [], LOOK_S)[0]:
            upkeep.look_after()


@contextlib.contextmanager
def _local(wanted: dict[str, Any], scratch: str) -> Iterator[Upkeep]:
    """Dask workers of this machine, with one thread each; Dask replaces those that die."""
    with LocalCluster(
        n_workers=wanted["workers"],
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        memory_limit=0,  # blocks are not computed in it
        dashboard_address="127.0.0.1:0",
        local_directory=scratch,
    ) as cluster:
        yield Upkeep(cluster, wanted["workers"])


@contextlib.contextmanager
def _slurm(wanted: dict[str, Any], scratch: str) -> Iterator[Upkeep]:
    """Dask workers in jobs; others take the place of those that end."""
    from dask_jobqueue import SLURMCluster

    options = wanted["slurm"]
    logs = Path(wanted["logs"])
    logs.mkdir(parents=True, exist_ok=True)
    given = {
        "cores": 1,
        "job_name": "blockwise-dask",
        "python": sys.executable,
        "log_directory": str(logs),
        **options,
        "job_script_prologue": [
            f"export PYTHONPATH={shlex.quote(python_path())}",
            *options.get("job_script_prologue", ()),
        ],
        "scheduler_options": {"dashboard_address": ":0", **options.get("scheduler_options", {})},
    }
    with SLURMCluster(**given) as cluster:
        _try_to_submit(cluster.job_script(), scratch)
        upkeep = Upkeep(cluster, wanted["jobs"] * int(options.get("processes", 1)))
        upkeep.look_after()
        yield upkeep


def _try_to_submit(script: str, scratch: str) -> None:
    """Have SLURM say whether it would take a job: Dask does not tell.

    Raises:
        RuntimeError: it would not.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise RuntimeError("sbatch: no such program; is this a machine from which jobs are submitted?")
    path = Path(scratch, "job.sh")
    path.write_text(script)
    command = [program, "--test-only", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (what the user has chosen)
    if done.returncode:
        raise RuntimeError(f"SLURM refuses its jobs: {done.stderr.strip()}")


class Upkeep:
    """Keeps as many Dask workers as there are to be.

    Dask by itself replaces no job that has ended, and a process of this machine only where it has died late enough.

    Attributes:
        cluster: that they belong to.
        number: how many there are to be.
    """

    def __init__(self, cluster: SpecCluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self._seen: dict[Any, float] = {}

    def look_after(self) -> None:
        """Forget those that have come and gone, and start others."""
        now = time.monotonic()
        present = [str(worker["name"]) for worker in self.cluster.scheduler_info["workers"].values()]
        for name in list(self.cluster.workers):
            # A job may have several, called after it.
            if any(one == str(name) or one.startswith(f"{name}-") for one in present):
                self._seen[name] = now
            elif now - self._seen.get(name, now) > LOST_S:
                self._seen.pop(name)
                self.cluster.sync(self._forget, name)
        self.cluster.scale(self.number)

    async def _forget(self, name: Any) -> None:
        worker = self.cluster.workers.pop(name, None)
        if worker is not None:
            await worker.close()


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
