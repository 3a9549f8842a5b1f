"""Ends arrays, and waits until they are gone."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

from blockwise.backends.jobs.scheduler import Scheduler, SchedulerUnavailableError, Target

logger = logging.getLogger(__name__)

KILL_S = 20.0
"""How long to wait after tasks have been killed."""

FIRST_POLL_S, LAST_POLL_S = 0.2, 2.0


def cancel(scheduler: Scheduler, targets: Sequence[Target]) -> bool:
    """End arrays, or tasks of them, in two steps; whether all of them are known to be gone.

    Raises:
        SchedulerUnavailableError: the first step could not be taken.
    """
    if not targets:
        return True
    scheduler.cancel(targets)
    if wait_until_gone(scheduler, targets, scheduler.grace_s):
        return True
    logger.warning(
        "jobs %s are still there %.0f s after they were asked to end; they are killed",
        ", ".join(target_names(scheduler, targets)), scheduler.grace_s,
    )  # fmt: skip
    with contextlib.suppress(SchedulerUnavailableError):
        scheduler.cancel(targets, kill=True)
    gone = wait_until_gone(scheduler, targets, KILL_S)
    # No process is left now; a node's epilog may keep a task in such a state for minutes.
    return gone or wait_until_gone(scheduler, targets, 0, leaving=False)


def wait_until_gone(scheduler: Scheduler, targets: Sequence[Target], limit_s: float, leaving: bool = True) -> bool:
    """Wait until no task of some arrays, or none of some tasks, is alive.

    Args:
        scheduler: who is asked.
        targets: the arrays or tasks.
        limit_s: longest time to wait.
        leaving: see ``Scheduler.alive``.
    """
    end = time.monotonic() + limit_s
    pause = FIRST_POLL_S
    while True:
        with contextlib.suppress(SchedulerUnavailableError):
            if not scheduler.alive(targets, leaving):
                return True
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(1.2 * pause, LAST_POLL_S)


def target_names(scheduler: Scheduler, targets: Sequence[Target]) -> list[str]:
    """Targets as the scheduler's own commands call them."""
    return [one.array if one.index is None else scheduler.task_name(one.array, one.index) for one in targets]


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGINT or SIGTERM only; those that follow wait until the end.

    They come together where a terminal and Luigi's main process both end a task, and the second one would otherwise
    end the cancelling of jobs that the first has begun. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")
        logger.info("%s: jobs are being cancelled, please wait", signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
