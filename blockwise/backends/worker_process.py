"""One worker process of this machine: started, given blocks, watched, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from blockwise.advice import Advice
from blockwise.backends.base import THREAD_VARIABLES, python_path
from blockwise.backends.memory import available_memory, oom_kills
from blockwise.backends.worker_link import WorkerLink, log_path
from blockwise.errors import UserError
from blockwise.faults import VARIABLE, Faults
from blockwise.logs import put_aside
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.worker import REST_LIMIT_S, memory_advice

END_LIMIT_S = 5.0


@dataclass(frozen=True)
class Home:
    """Where worker processes are at home.

    Attributes:
        log_name: begins the names of their logs.
        folder: that relative paths in a step begin at; empty for the present one.
    """

    log_name: str = "worker"
    folder: str = ""

    def log(self, step: BlockStep, number: int) -> Path:
        """Log of a worker of a step."""
        return Path(self.folder) / log_path(step, number, self.log_name)

    @property
    def there(self) -> str | None:
        """The folder to start in; None to stay, also where there is no such folder, and so no relative path."""
        return self.folder if self.folder and os.path.isdir(self.folder) else None


HERE = Home()


class WorkerProcess(WorkerLink):
    """One worker process; see ``WorkerLink``."""

    def __init__(self, step: BlockStep, number: int, faults: Faults, advice: Advice, home: Home = HERE) -> None:
        self._home = home
        with open_log(home.log(step, number)) as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "blockwise.worker"],  # -P: the user's own tasks.py is not ours
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(faults),
                cwd=home.there,
                start_new_session=True,  # Ctrl-C in a terminal goes to the driver alone, which ends its workers
            )
        stdin, self.stdout = _pipes(self.process)
        super().__init__(self.stdout.fileno(), stdin, advice, home.log_name)
        self._kills = oom_kills()
        self.begin(step, number)

    def log_of(self, step: BlockStep, number: int) -> Path:
        """Log of a step."""
        return self._home.log(step, number)

    def rest(self) -> None:
        """Have it let go of the step."""
        self.since = time.monotonic()
        self.send({"rest": True})

    @property
    def may_go_on(self) -> bool:
        """Whether a resting process is there for certain when it gets its next step, and has given back its memory.

        Steps project what they need on top of what a new process has. The tables' libraries alone are more.
        """
        if self.process.poll() is not None or time.monotonic() - self.since > REST_LIMIT_S / 2:
            return False
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            family = (process, *process.children(recursive=True))  # engines may have a process of their own
            return sum(int(member.memory_info().rss) for member in family) <= BASE_MEMORY
        return False

    @property
    def title(self) -> str:
        """See ``WorkerLink``."""
        return f"worker process {self.process.pid}"

    def end(self, why: str) -> tuple[str, bool]:
        """See ``WorkerLink``."""
        if not why:
            try:
                self.process.wait(END_LIMIT_S)  # its answers have ended; let it end by itself, to learn how
            except subprocess.TimeoutExpired:
                why = f"gave no more answers, and did not end within {END_LIMIT_S:.0f} s"
        code = None if why else self.process.returncode
        self.kill()
        is_oom = oom_kills() > self._kills
        return (
            why or _describe_end(self.process.returncode, self.step, self._advice, is_oom),
            code == -signal.SIGKILL,
        )

    def kill(self) -> None:
        """End it, and wait for its end."""
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._writing.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a worker process was started without pipes")
    return process.stdin, process.stdout


def open_log(path: Path) -> IO[bytes]:
    """Open a log to be written on; a large one is put aside first.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_aside(path)
        return path.open("ab")
    except OSError as error:
        raise UserError(f"{path}: the log of a worker cannot be written: {error.strerror}") from error


def _describe_end(code: int, step: BlockStep, advice: Advice, memory_was_short: bool = False) -> str:
    """How a process has ended.

    Args:
        code: as ``subprocess`` has it, negative for a signal.
        step: what it worked on.
        advice: what can be done about too little memory.
        memory_was_short: the kernel has ended a process here for want of memory since it was started.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    if name != "SIGKILL":
        return f"was ended by {name}"
    if not memory_was_short:
        return f"was ended by {name} (out of memory? {memory_advice(step, advice)})"
    memory = available_memory()
    return (
        f"was ended by the kernel for want of memory, of which {memory.owner} has {memory.size / 1e9:.2f} GB "
        f"({memory_advice(step, advice)})"
    )


def _environment(faults: Faults) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    environment[VARIABLE] = faults.model_dump_json()
    environment["PYTHONPATH"] = python_path()
    return environment
