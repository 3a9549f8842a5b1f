"""What a run needs around it: the lock on its work folder, its log, and quiet ends."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from rich.logging import RichHandler

from blockwise.errors import UserError
from blockwise.files import read_json, write_json
from tasks.progress import TERMINAL

LOCK = ".lock"
OWNER = ".lock-owner.json"
PACKAGES = ("blockwise", "tasks", "pipeline")
"""Packages whose loggers write the run's log."""

_locks: dict[str, FileLock] = {}
"""Locks held by this process until it ends; the system releases them even when it is killed."""


class WorkDirBusyError(UserError):
    """Another run uses the work folder."""


def begin_session(work_dir: str) -> None:
    """Lock the work folder for the rest of this process, and log to it.

    A lock whose process has died, however it died, is free again.

    Raises:
        WorkDirBusyError: another run holds the lock.
        UserError: the folder cannot be made or written.
    """
    folder = Path(work_dir)
    key = str(folder.resolve())
    if key in _locks:
        return
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise WorkDirBusyError(_busy_message(folder)) from None
    except OSError as error:
        raise UserError(f"work_dir {work_dir}: cannot be written: {error}") from error
    _locks[key] = lock
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_json(folder / OWNER, owner)
    _log_to(folder / "logs" / "run.log")
    sys.excepthook = _quiet_interrupt


def end_sessions() -> None:
    """Release the locks of this process; for programs that go on after a run."""
    for lock in _locks.values():
        lock.release()
    _locks.clear()
    for name in PACKAGES:
        package = logging.getLogger(name)
        for handler in package.handlers:
            handler.close()
        package.handlers = []


def hide_tracebacks_of_user_errors() -> None:
    """Have Luigi log errors that a user can mend without a traceback; all others keep theirs."""
    logging.getLogger("luigi-interface").addFilter(_without_user_traceback)


def _busy_message(folder: Path) -> str:
    owner = read_json(folder / OWNER) or {}
    who = "process {pid} on {host}, since {since}".format(**owner) if owner else "owner unknown"
    return (
        f"work_dir {folder}: another run is using it ({who}); wait for it, stop it, or set another `work_dir` "
        "and `output`"
    )


def _without_user_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, UserError):
        record.msg, record.args = str(error), ()
        record.exc_info = None
        record.exc_text = None
    return True


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal: logging.Handler = logging.StreamHandler()
    if TERMINAL.is_terminal:
        to_terminal = RichHandler(
            console=TERMINAL, show_path=False, show_time=False, show_level=False, highlighter=None
        )
    for name in PACKAGES:
        package = logging.getLogger(name)
        package.setLevel(logging.INFO)
        package.handlers = [to_file, to_terminal]


def _quiet_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted; finished blocks are kept, the same command goes on from here", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
