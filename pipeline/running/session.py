"""What a run needs around it: the lock on its work folder, its log, and quiet ends."""

from __future__ import annotations

import atexit
import contextlib
import logging
import logging.handlers
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from blockwise.errors import UserError
from blockwise.files import replacing
from blockwise.logs import LARGEST_LOG, LOGS, keep_run_log
from blockwise.records import in_store, open_records
from pipeline.running.lock import RunLock, WorkDirBusyError, lock_of
from tasks.nodes.terminal import terminal

logger = logging.getLogger(__name__)

PACKAGES = ("blockwise", "tasks", "pipeline")
"""Packages whose loggers write the run's log."""

_locks: dict[str, RunLock] = {}
"""Locks held by this process until it ends; the system releases those of folders even when it is killed."""

_stores: list[str] = []
"""Work folders in stores that this process has locked."""

RUN_LOG = "run.log"


def begin_session(work_dir: str, quiet: bool = False) -> None:
    """Lock the work folder for the rest of this process, and log to it.

    A lock whose process has died, however it died, is free again.

    Args:
        work_dir: the folder.
        quiet: tell the terminal of warnings and errors only; the log has everything.

    Raises:
        WorkDirBusyError: another run holds the lock.
        UserError: the folder cannot be made or written.
    """
    key = work_dir if in_store(work_dir) else str(Path(work_dir).resolve())
    if key in _locks:
        return
    lock = lock_of(work_dir, _end_at_once)
    try:
        lock.acquire()
        try:
            _log_to(_run_log(work_dir), quiet)
        except BaseException:  # of a store, too, where nothing else gives the lock back
            with contextlib.suppress(OSError, UserError):
                lock.release()
            raise
    except OSError as error:
        raise UserError(f"work_dir {work_dir}: cannot be written: {error}") from error
    if in_store(work_dir) and not _stores:
        atexit.register(_end_in_stores)
    if in_store(work_dir):
        _stores.append(work_dir)
    _locks[key] = lock
    sys.excepthook = _quiet_interrupt


def begin_run(work_dir: str, quiet: bool = False) -> None:
    """As ``begin_session``, for a workflow: where that fails, the program ends, before Luigi schedules anything.

    Raises:
        PidLockAlreadyTakenExit: another run holds the lock; Luigi ends with its code for that.
        SystemExit: the folder cannot be made or written; with Luigi's code for what nobody has caught.
    """
    from luigi.interface import PidLockAlreadyTakenExit  # slow to load: commands need the rest of this module
    from luigi.retcodes import retcode

    try:
        begin_session(work_dir, quiet)
    except WorkDirBusyError as error:
        print(error, file=sys.stderr)
        raise PidLockAlreadyTakenExit from error
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        raise SystemExit(retcode().unhandled_exception) from error


def end_sessions() -> None:
    """Release the locks of this process; for programs that go on after a run."""
    for name in PACKAGES:
        package = logging.getLogger(name)
        for handler in package.handlers:
            handler.close()
        package.handlers = []
    _end_in_stores()
    for lock in _locks.values():
        lock.release()
    _locks.clear()


def _end_in_stores() -> None:
    """Copy logs to stores, and give back the locks there, which no system ends with their process."""
    while _stores:
        work_dir = _stores.pop()
        keep_run_log(work_dir, RUN_LOG)
        with contextlib.suppress(OSError, UserError):
            _locks.pop(work_dir).release()


def _run_log(work_dir: str) -> Path:
    """The log of runs, a file of this machine; where the work folder is in a store it goes on with what is there."""
    records = open_records(work_dir)
    path = records.on_this_machine / LOGS / RUN_LOG
    if in_store(work_dir) and (kept := records.get(f"{LOGS}/{RUN_LOG}")) is not None:
        with replacing(path) as temporary:
            temporary.write_bytes(kept)
    return path


def hide_tracebacks_of_user_errors() -> None:
    """Have Luigi log errors that a user can mend without a traceback; all others keep theirs."""
    logging.getLogger("luigi-interface").addFilter(_without_user_traceback)


def _without_user_traceback(record: logging.LogRecord) -> bool:
    # Where requires() fails, Luigi puts the traceback into the text while it handles the error.
    error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
    if isinstance(error, UserError):
        record.msg, record.args = str(error), ()
        record.exc_info = None
        record.exc_text = None
    return True


def _log_to(path: Path, quiet: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    to_file = _RunLog(path, maxBytes=LARGEST_LOG, backupCount=1)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():
        from rich.logging import RichHandler  # slow to load, and only where a bar may be drawn as well

        to_terminal = RichHandler(
            console=terminal(), show_path=False, show_time=False, show_level=False, highlighter=None
        )
    to_terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    for name in PACKAGES:
        package = logging.getLogger(name)
        package.setLevel(logging.INFO)
        package.handlers = [to_file, to_terminal]


class _RunLog(logging.handlers.RotatingFileHandler):
    """The run's log, put aside where it is large.

    Where it cannot be written (a full disk), the run goes on, and the terminal has it all.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name that logging calls)
        """Say nothing: the step that meets the same disk says it."""


def _end_at_once(message: str) -> None:
    """End as by Ctrl-C, which ends workers and jobs on the way out: another run has taken the work folder."""
    logger.error("%s. This run ends: it was not heard of for too long", message)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _quiet_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted; finished blocks are kept, the same command goes on from here", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
