"""What a stand-in for AWS Batch runs its jobs on: process groups of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
"""Variables of this process that a job is given; credentials are not among them."""

KILL_S = 2.0
"""AWS waits 30 s."""


class Container:
    """One attempt at a job.

    Attributes:
        process: its first process, of a group of its own.
        ended_by: reasons, of the container and of its job, where it was not the program that ended itself.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        variables: Mapping[str, str],
        log: Path,
        limit_s: float,
        role: Mapping[str, str],
        wrapped: Callable[[list[str], Mapping[str, str]], list[str]] | None = None,
    ) -> None:
        overrides = request["containerOverrides"]
        told = {one["name"]: one["value"] for one in overrides["environment"]}
        needs = {one["type"]: one["value"] for one in overrides["resourceRequirements"]}
        self.memory = int(needs["MEMORY"]) * 2**20
        self.ended_by: tuple[str, str] | None = None
        self._until = time.monotonic() + limit_s
        self._kill_at = float("inf")
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        command = overrides["command"]
        if wrapped is not None:
            command = wrapped(command, {**told, **variables})
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                # Where the tests themselves are killed, jobs end too.
                ["setpriv", "--pdeathsig", "KILL", *command],
                env={**kept, **role, "PYTHONPATH": str(ROOT), **told, **variables},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def look(self) -> int | None:
        """Enforce its limits; the exit code as a container has it, or None while it runs."""
        code = self.process.poll()
        if code is not None:
            self.kill()  # what it has left
            return code if code >= 0 else 128 - code
        if time.monotonic() > self._until:
            self.end("", "Job attempt duration exceeded timeout", signal.SIGKILL)
        elif self._uses() > self.memory:
            self.end("OutOfMemoryError: Container killed due to memory usage", "Essential container in task exited",
                     signal.SIGKILL)  # fmt: skip
        if time.monotonic() > self._kill_at:
            self.kill()
        return None

    def end(self, container: str, job: str, number: signal.Signals) -> None:
        """Signal its first process, as a container's; the group is killed a little later."""
        self.ended_by = self.ended_by or (container, job)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        self._kill_at = min(self._kill_at, time.monotonic() + KILL_S)

    def kill(self) -> None:
        """End all of it at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def _uses(self) -> int:
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0
