"""A driver in a process of its own, so that it can be killed: ``python -m tests.slurm.driver FOLDER OPTIONS``."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from blockwise.advice import Names
from blockwise.backends import Outcome
from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.run import failure_summary, run_step
from tasks.nodes.signals import terminate_like_interrupt
from tests.contract.steps import Workspace
from tests.processes import wait_for

ROOT = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, Any] = {"poll_s": 0.2, "grace_s": 0.5, "blocks_per_job": 2, "time_min": 5, "memory_gb": 0.5}


def main() -> None:
    """Run the addition over a workspace that exists."""
    value = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    work = Workspace.open(Path(value["folder"]), value["place"])
    kind = BACKENDS[value["kind"]]
    names = Names(option=f"backend.{value['kind']}.")
    backend = kind.make(Setup(kind.options(**value["options"]), detach=value["detach"], names=names), ())
    with terminate_like_interrupt():
        step = work.addition(value["addend"])
        try:
            outcome: Outcome = run_step(step, backend, 3, lambda outcome: None)
        except UserError as error:
            print(f"error: {error}", flush=True)
            sys.exit(2)
    print(failure_summary(step, outcome) if outcome.failed or outcome.stopped else f"done: {outcome.computed}")


class Driver:
    """The other end: starts it, signals it, reads what it says."""

    def __init__(
        self, work: Workspace, addend: int = 1, detach: bool = False, kind: str = "slurm", **options: Any
    ) -> None:
        value = {"folder": str(work.folder), "place": work.place, "addend": addend, "detach": detach, "kind": kind}
        value["options"] = {**OPTIONS, **options}
        self.work = work
        self.out = work.folder / "driver.out"
        self.start = self.out.stat().st_size if self.out.exists() else 0
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                # Where the tests themselves are killed, the driver ends too.
                ["setpriv", "--pdeathsig", "TERM", sys.executable, "-u", "-m", __name__, json.dumps(value)],
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.out.read_text()[self.start :]

    def wait_for_text(self, text: str, seconds: float = 60) -> None:
        wait_for(lambda: text in self.text or self.process.poll() is not None, seconds, lambda: self.text)
        assert text in self.text, self.text

    def wait_until_running(self, *blocks: int) -> None:
        wait_for(lambda: all(map(self.work.runs, blocks)), 60, lambda: self.text)

    def send(self, *signals: signal.Signals) -> None:
        for number in signals:
            os.kill(self.process.pid, number)
        self.process.wait(60)

    def kill(self) -> None:
        """End it whatever it does, where a test has failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def finish(self, seconds: float = 120) -> str:
        self.process.wait(seconds)
        return self.text


if __name__ == "__main__":
    main()
