"""Ends arrays, and waits until they are gone."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from types import FrameType

from blockwise.backends.slurm.answers import SlurmUnavailableError
from blockwise.backends.slurm.commands import SlurmCommands

logger = logging.getLogger(__name__)

TERM_S = 10.0
"""How long tasks have to go after TERM, before KILL is sent; SLURM itself sends it after its KillWait, often 30 s."""

KILL_S = 20.0
"""How long to wait after KILL."""

POLL_S = 0.2


def cancel_arrays(commands: SlurmCommands, jobs: Sequence[int], targets: Sequence[str] | None = None) -> bool:
    """End arrays in two steps, TERM and KILL; whether all tasks are known to be gone.

    Args:
        commands: SLURM.
        jobs: ids of the arrays.
        targets: parts of them, as ``17_[0-3]``; None for all of them.

    Raises:
        SlurmUnavailableError: the first step could not be taken.
    """
    if not jobs:
        return True
    wanted = list(targets or map(str, jobs))
    commands.cancel(wanted)
    if wait_until_gone(commands, jobs, wanted, TERM_S):
        return True
    logger.warning("jobs %s are still there %.0f s after TERM; sending KILL", ", ".join(wanted), TERM_S)
    with contextlib.suppress(SlurmUnavailableError):
        commands.cancel(wanted, kill=True)
    gone = wait_until_gone(commands, jobs, wanted, KILL_S)
    # After KILL no process is left; a node's epilog may keep a task in this state for minutes.
    return gone or wait_until_gone(commands, jobs, wanted, 0, leaving={"COMPLETING"})


def wait_until_gone(
    commands: SlurmCommands,
    jobs: Sequence[int],
    targets: Sequence[str],
    limit_s: float,
    leaving: Collection[str] = (),
) -> bool:
    """Wait until no task of some arrays, or of the named parts of them, is alive.

    Args:
        commands: SLURM.
        jobs: ids of the arrays.
        targets: these ids, or parts of the arrays, as text.
        limit_s: longest time to wait.
        leaving: states of living tasks that count as gone.
    """
    end = time.monotonic() + limit_s
    wanted = set(targets)
    while True:
        with contextlib.suppress(SlurmUnavailableError):
            states = list(commands.states(jobs).values())
            alive = [
                s
                for s in states
                if not s.ended and s.state not in leaving and {str(s.job), f"{s.job}_{s.index}"} & wanted
            ]
            unknown = set(jobs).difference(s.job for s in states)
            if not alive and all(map(commands.is_forgotten, unknown)):
                return True
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)


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
