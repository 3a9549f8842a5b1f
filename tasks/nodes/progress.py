"""How a step stands, for the eyes: a bar on the terminal, percentage and status in luigid."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from blockwise.backends import Outcome
from blockwise.step import BlockStep
from tasks.nodes.terminal import duration, rate, terminal

logger = logging.getLogger(__name__)

LUIGID_INTERVAL_S = 5.0
LUIGID_LAST_WORD_S = 2.0
"""How long the end of a step waits for luigid to take its last status."""


class Teller(Protocol):
    """What of a Luigi task tells luigid how a step stands; all three are None where no scheduler listens."""

    set_tracking_url: Callable[[str], None] | None
    set_status_message: Callable[[str], None] | None
    set_progress_percentage: Callable[[int], None] | None


@contextlib.contextmanager
def showing_progress(step: BlockStep, teller: Teller, show: bool) -> Iterator[Callable[[Outcome], None]]:
    """Give a function that shows an outcome wherever somebody may look.

    Args:
        step: that is under way.
        teller: who tells luigid.
        show: draw a bar where there is a terminal.
    """
    with contextlib.ExitStack() as stack:
        shows: list[Callable[[Outcome], None]] = [stack.enter_context(_luigid(step, teller))]
        if show and sys.stderr.isatty():
            shows.append(stack.enter_context(_terminal(step)))

        def report(outcome: Outcome) -> None:
            for one in shows:
                one(outcome)

        yield report


def status_text(outcome: Outcome, unit: str = "voxel") -> str:
    """Several short lines for luigid's status box; for ``unit`` see ``BlockStep``."""
    things = "blocks" if unit == "voxel" else f"{unit}s"
    lines = [f"{outcome.done} of {outcome.total} {things} done, {len(outcome.failed)} failed"]
    left = outcome.seconds_left
    if left is not None:
        lines.append(f"{rate(outcome.voxels_per_second, unit)}, {duration(left)} left")
    if outcome.note:
        lines.append(outcome.note)
    for block, result in list(outcome.failed.items())[-1:]:
        lines.append(f"last failure: block {block}: {result.error}: {result.message}")
    return "\n".join(lines)


@contextlib.contextmanager
def _terminal(step: BlockStep) -> Iterator[Callable[[Outcome], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=terminal()) as progress:
        bar = progress.add_task(step.label, total=None, detail="")

        def report(outcome: Outcome) -> None:
            left = outcome.seconds_left
            speed = rate(outcome.voxels_per_second, step.unit)
            detail = outcome.note if left is None else f"{speed}, {duration(left)} left"
            if outcome.failed:
                detail += f", {len(outcome.failed)} failed"
            progress.update(bar, total=outcome.total, completed=outcome.done, detail=detail)

        yield report


@contextlib.contextmanager
def _luigid(step: BlockStep, teller: Teller) -> Iterator[Callable[[Outcome], None]]:
    """Tell luigid from a thread of its own: when luigid is gone, a call blocks for minutes and then raises."""
    latest: list[Outcome] = []
    wake = threading.Event()
    end = threading.Event()

    def tell() -> None:
        _link_logs(step, teller)
        while not end.is_set():
            wake.wait()
            wake.clear()
            if latest:
                _tell_luigid(step, teller, latest[-1])
            end.wait(LUIGID_INTERVAL_S)
        if latest:
            _tell_luigid(step, teller, latest[-1])

    thread = threading.Thread(target=tell, daemon=True, name="luigid-status")
    thread.start()

    def report(outcome: Outcome) -> None:
        latest[:] = [outcome]
        wake.set()

    try:
        yield report
    finally:
        end.set()
        wake.set()
        thread.join(LUIGID_LAST_WORD_S)


def _link_logs(step: BlockStep, teller: Teller) -> None:
    """Link luigid's page to the step's logs; once, because each call resets what else luigid shows of the task."""
    try:
        if teller.set_tracking_url:
            teller.set_tracking_url(step.logs.resolve().as_uri())
    except Exception as error:  # see below
        logger.debug("luigid was not told: %s", error)


def _tell_luigid(step: BlockStep, teller: Teller, outcome: Outcome) -> None:
    try:
        if teller.set_status_message and teller.set_progress_percentage:
            teller.set_status_message(status_text(outcome, step.unit))
            teller.set_progress_percentage(100 * outcome.done // max(outcome.total, 1))
    except Exception as error:  # luigid only shows; the step goes on without it
        logger.debug("luigid was not told: %s", error)
