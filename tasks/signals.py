"""SIGTERM treated like Ctrl-C, so that workers and jobs are ended on the way out."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt where SIGTERM or SIGINT arrives; outside the main thread nothing changes.

    Luigi ends the processes of its tasks by SIGTERM, which by itself runs no ``finally``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
