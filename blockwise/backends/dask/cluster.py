"""The cluster of a run: one that is there, or one that is started when it is first needed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from blockwise.advice import Names
from blockwise.backends.base import python_path
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.worker_process import open_log
from blockwise.errors import UserError
from blockwise.records import open_records

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 10.0
"""How long a scheduler may take to answer, also where the connection has broken."""
END_S = 30.0
"""How long a cluster of one's own may take to end."""


@dataclass(frozen=True)
class _Host:
    """The process that keeps a cluster of one's own.

    Attributes:
        address: of the scheduler.
        log: what the process has to say.
    """

    process: subprocess.Popen[str]
    address: str
    log: Path


class Cluster:
    """Gives connections to a cluster; there is none between two steps, so that Luigi may fork.

    Attributes:
        options: which cluster.
        workers: number of Dask workers, where it is one of this machine and the options do not say.
        names: what messages call settings.
    """

    def __init__(self, options: DaskOptions, workers: int, names: Names) -> None:
        self.options = options
        self.workers = options.workers or workers
        self.names = names
        self._pid = os.getpid()
        self._hosts: list[_Host] = []
        """None or one; in a list, so that the end of this process finds it."""
        weakref.finalize(self, _end_hosts, self._hosts, os.getpid())

    @contextlib.contextmanager
    def connected(self, work_dir: str) -> Iterator[Client]:
        """A connection; the cluster is started where it is this run's own and not there yet.

        Args:
            work_dir: the work folder, for logs.

        Raises:
            UserError: no scheduler answers, or the cluster cannot be started.
        """
        client = self.connect(work_dir)
        try:
            yield client
        finally:
            client.close(timeout=CONNECT_S)

    def connect(self, work_dir: str) -> Client:
        """The same, for one who closes it."""
        from distributed import Client

        for name in ("distributed", "distributed.client"):  # of a lost connection we say all there is to say
            logging.getLogger(name).setLevel(logging.CRITICAL)
        address = self._address(work_dir)
        try:
            return Client(address, timeout=CONNECT_S, set_as_default=False, name="blockwise")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.names.kind} is chosen, and no Dask scheduler answers at {address} ({error}); start one there "
                f"(`dask scheduler`), or set {self.names.option}address to that of one that runs"
            ) from error

    def why_gone(self, address: str) -> str:
        """What has become of a scheduler that answers no more, for people."""
        where = "".join(f" (its log: {host.log})" for host in self._own())
        return (
            f"the Dask scheduler at {address} is gone{where}; finished blocks are kept: run the same command again"
            + ("" if where else " when it is there")
        )

    @property
    def threads(self) -> int | None:
        """How many blocks are to be computed at once; None where nobody knows before."""
        if self.options.address is not None:
            return None
        if self.options.slurm is not None and self.options.jobs is not None:
            return self.options.jobs * int(self.options.slurm.get("cores", 1))
        return self.workers

    def close(self) -> None:
        """End a cluster of one's own."""
        _end_hosts(self._own(), self._pid)

    def _address(self, work_dir: str) -> str:
        if self.options.address is not None:
            return self.options.address
        hosts = self._own()
        if hosts and hosts[0].process.poll() is not None:
            _end_hosts(hosts, self._pid)
        if not hosts:
            hosts.append(self._start(open_records(work_dir).on_this_machine / "logs"))
        return hosts[0].address

    def _own(self) -> list[_Host]:
        """The cluster of this process; in a fork, as Luigi makes one for each of several tasks, not its parent's."""
        if self._pid != os.getpid():
            self._pid, self._hosts = os.getpid(), []
        return self._hosts

    def _start(self, logs: Path) -> _Host:
        log = logs / "dask.log"
        with open_log(log) as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "blockwise.backends.dask.host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "PYTHONPATH": python_path()},
                start_new_session=True,  # Ctrl-C in a terminal goes to the driver alone, which ends the cluster
            )
        try:
            answer = _asked(process, self._wanted(logs))
        except BaseException:  # Ctrl-C, while it starts
            _end(process)
            raise
        if "address" not in answer:
            _end(process)
            why = answer.get("error", f"it has ended with exit code {process.returncode}")
            raise UserError(f"{self.names.kind} is chosen, and its cluster cannot be started: {why} [log: {log}]")
        return _Host(process, answer["address"], log)

    def _wanted(self, logs: Path) -> dict[str, Any]:
        value = {"workers": self.workers, "slurm": self.options.slurm, "jobs": self.options.jobs}
        return value | {"logs": str((logs / "dask").resolve())}


def _asked(process: subprocess.Popen[str], wanted: dict[str, Any]) -> dict[str, str]:
    """What a host says of the cluster that it was to start; nothing where it has ended without a word."""
    stdin, stdout = _pipes(process)
    with contextlib.suppress(BrokenPipeError):
        stdin.write(json.dumps(wanted) + "\n")
        stdin.flush()
    line = stdout.readline()
    answer: dict[str, str] = json.loads(line) if line else {}
    return answer


def _end(process: subprocess.Popen[str]) -> None:
    """Have a host end its cluster, and wait until both are gone."""
    for pipe in _pipes(process):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()  # whatever it has started ends with it
        process.wait()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process was started without pipes")
    return process.stdin, process.stdout


def _end_hosts(hosts: list[_Host], pid: int) -> None:
    """End a cluster; only the process ``pid``, which has started it, does that, and no fork of it."""
    while hosts:
        host = hosts.pop()
        if pid == os.getpid():
            _end(host.process)
