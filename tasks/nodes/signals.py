"""SIGTERM treated like Ctrl-C, so that workers and jobs are ended on the way out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 128 + signal.SIGINT


@contextlib.contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt where SIGTERM or SIGINT arrives; outside the main thread nothing changes.

    Luigi ends the processes of its tasks by SIGTERM, which by itself runs no ``finally``. After a Ctrl-C a task's
    process gets both, SIGINT from the terminal and SIGTERM from Luigi: the latter must not disturb the way out.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        if multiprocessing.parent_process() is not None:
            _leave_quietly()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_quietly() -> NoReturn:
    """End a task's own process: it would print a traceback, while the main process says all there is to say."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(EXIT_INTERRUPTED)
