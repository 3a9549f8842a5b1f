"""Ends a job's program when one block takes longer than it may: what hangs cannot be told to stop."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

from blockwise.logs import keep_log
from blockwise.worker import Worker

GAVE_UP = "job ends early: "
"""Begins the last line of a job's log when the failure of a block that took too long is on record."""

EXIT_CODE = 124
"""As ``timeout(1)`` has it, so that people find it among the exit codes of jobs."""

LAST_S = 30.0
"""How long the record of a failure may take; then the process ends without one."""


class BlockTimeoutError(Exception):
    """A block takes longer than it may."""


class Watchdog:
    """Watches the blocks of one worker.

    Attributes:
        worker: who computes, in the main thread.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._begin: Callable[[], None] = lambda: None
        worker.on_turn = self.restart

    def restart(self) -> None:
        """The time begins now: the worker had to wait for another process that has computed its block."""
        self._begin()

    @contextlib.contextmanager
    def watching(self, block: int, attempt: int, limit_s: float | None, what: str = "") -> Iterator[None]:
        """End the process when the body takes longer than the limit, with a failure record of the block.

        Args:
            block: id of the block.
            attempt: at it.
            limit_s: None for no limit.
            what: it is that takes so long; for the message.
        """
        if limit_s is None:
            yield
            return
        with contextlib.ExitStack() as timers:

            def begin() -> None:
                timers.close()
                timers.enter_context(self._timers(block, attempt, limit_s, what))

            begin()
            self._begin = begin
            try:
                yield
            finally:
                self._begin = lambda: None

    @contextlib.contextmanager
    def _timers(self, block: int, attempt: int, limit_s: float, what: str) -> Iterator[None]:
        timer = threading.Timer(limit_s, self._end, (block, attempt, f"{what}took longer than {limit_s:g} s"))
        timer.daemon = True
        # A library that keeps the interpreter's lock stops the timer's thread as well, and a file system that hangs
        # stops the record. This one needs neither.
        faulthandler.dump_traceback_later(limit_s + LAST_S, exit=True)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()

    def _end(self, block: int, attempt: int, message: str) -> None:
        error = BlockTimeoutError(f"{message}; {self.worker.advice.time}")
        place = sys._current_frames().get(threading.main_thread().ident or 0)
        error.add_note("It was at:\n" + "".join(traceback.format_stack(place)))
        with self.worker.settling:  # kept to the end: no result of this block can come between
            if self.worker.settled == block:
                return
            if self.worker.record(block, attempt, error):
                with contextlib.suppress(OSError):
                    print(f"{GAVE_UP}block {block} {error}")
                    keep_log(self.worker.step, self.worker.log)
            os._exit(EXIT_CODE)
