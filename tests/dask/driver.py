"""A driver in a process of its own, so that it can be killed: ``python -m tests.dask.driver FOLDER OPTIONS``."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from blockwise.advice import Names
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.run import failure_summary, run_step
from tasks.nodes.signals import terminate_like_interrupt
from tests.contract.steps import Workspace
from tests.processes import wait_for

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run the addition over a workspace that exists."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    work = Workspace.open(Path(sys.argv[1]))
    options = DaskOptions(**json.loads(sys.argv[2]))
    backend: Any = BACKENDS["dask"].make(Setup(options, names=Names(option="backend.dask.")), ())
    step = work.addition()
    with terminate_like_interrupt():
        try:
            outcome = run_step(step, backend, 3, lambda outcome: None)
        except UserError as error:
            print(f"error: {error}", flush=True)
            sys.exit(2)
    print(failure_summary(step, outcome) if outcome.failed or outcome.stopped else f"done: {outcome.computed}")


class Driver:
    """The other end: starts it, reads what it says."""

    def __init__(self, work: Workspace, **options: Any) -> None:
        self.work = work
        self.out = work.folder / "driver.out"
        self.start = self.out.stat().st_size if self.out.exists() else 0
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", __name__, work.folder, json.dumps(options)],
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.out.read_text()[self.start :]

    def wait_until_begun(self, *blocks: int) -> None:
        wait_for(lambda: all(map(self.work.runs, blocks)) or self.process.poll() is not None, 300, lambda: self.text)

    def finish(self, seconds: float = 300) -> str:
        self.process.wait(seconds)
        return self.text

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


if __name__ == "__main__":
    main()
