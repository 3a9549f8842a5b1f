"""A Dask cluster as others start one: a scheduler and Dask workers as programs, each of which can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import wait_for

ROOT = Path(__file__).resolve().parents[2]


class Nodes:
    """Each Dask worker stands for a machine.

    Attributes:
        folder: for what they write.
        address: of the scheduler.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.number = 0
        self.start_scheduler()

    def start_scheduler(self) -> None:
        self.number += 1
        file = self.folder / f"scheduler-{self.number}.json"
        self._start(
            "scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
            "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file),
        )  # fmt: skip
        self.address: str = wait_for(lambda: _address(file), 180, lambda: self.text("scheduler"))

    def start(self, name: str, *options: str, cwd: Path | None = None, **environment: str) -> None:
        """Start a Dask worker; it is not waited for."""
        self._start(
            name, "distributed.cli.dask_worker", self.address, "--name", name, "--nthreads", "1", "--no-nanny",
            "--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(self.folder / "scratch"), *options,
            cwd=cwd, **environment,
        )  # fmt: skip

    def kill(self, name: str) -> None:
        """Play a machine that loses power: all processes die."""
        process = self.processes.pop(name)
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()

    def at_work(self) -> list[psutil.Process]:
        """Worker processes of ours beside the Dask workers."""
        found = []
        for process in self.processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(process.pid).children(recursive=True)
        return found

    def text(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def _start(self, name: str, module: str, *arguments: str, cwd: Path | None = None, **environment: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                # Where the tests themselves are killed, these end too.
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", module, *arguments],
                stdout=out,
                stderr=out,
                cwd=cwd or self.folder,  # not the one with our packages: Python looks there first
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )


def _address(file: Path) -> str:
    try:
        return str(json.loads(file.read_text())["address"])
    except (OSError, ValueError):
        return ""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    folder = tmp_path / "nodes"
    folder.mkdir()
    found = Nodes(folder)
    yield found
    found.stop()
