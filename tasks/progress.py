"""How a step stands, for the eyes: a bar on the terminal, percentage and status in luigid."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from blockwise.backends import Outcome

if TYPE_CHECKING:
    from blockwise.step import BlockStep
    from tasks.base import BlockTask

logger = logging.getLogger(__name__)

TERMINAL = Console(stderr=True)
"""Shared with the run's log, so that a line of the log goes above the bar and not into it."""

LUIGID_INTERVAL_S = 5.0
LUIGID_LAST_WORD_S = 2.0
"""How long the end of a step waits for luigid to take its last status."""


@contextlib.contextmanager
def showing_progress(task: BlockTask, show: bool) -> Iterator[Callable[[Outcome], None]]:
    """Give a function that shows an outcome wherever somebody may look."""
    with contextlib.ExitStack() as stack:
        shows: list[Callable[[Outcome], None]] = [stack.enter_context(_luigid(task))]
        if show and sys.stderr.isatty():
            shows.append(stack.enter_context(_terminal(task.step)))

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


def rate(per_second: float, unit: str = "voxel") -> str:
    """Voxels per second with the prefix that fits; of other things, such as images, their number."""
    if unit != "voxel":
        return f"{per_second:.1f} {unit}s/s"
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if per_second >= limit:
            return f"{per_second / limit:.1f} {prefix}voxel/s"
    return f"{per_second:.0f} voxel/s"


def duration(seconds: float) -> str:
    """Time in at most two units, such as ``3 h 20 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3600
    if minutes < 60:
        return f"{minutes} min {seconds % 60} s"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


@contextlib.contextmanager
def _terminal(step: BlockStep) -> Iterator[Callable[[Outcome], None]]:
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=TERMINAL) as progress:
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
def progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """Give a function that shows which fraction of something is done, where there is a terminal."""
    with Progress(console=TERMINAL, transient=True, disable=not TERMINAL.is_terminal) as progress:
        bar = progress.add_task(name, total=1.0)
        yield lambda fraction: progress.update(bar, completed=fraction)


@contextlib.contextmanager
def counting_bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how many of something were just done, where there is a terminal."""
    columns = Progress.get_default_columns()
    with Progress(*columns, console=TERMINAL, transient=True, disable=not TERMINAL.is_terminal) as progress:
        bar = progress.add_task(name, total=total)
        yield lambda number: progress.advance(bar, number)


@contextlib.contextmanager
def _luigid(task: BlockTask) -> Iterator[Callable[[Outcome], None]]:
    """Tell luigid from a thread of its own: when luigid is gone, a call blocks for minutes and then raises."""
    latest: list[Outcome] = []
    wake = threading.Event()
    end = threading.Event()

    def tell() -> None:
        _link_logs(task)
        while not end.is_set():
            wake.wait()
            wake.clear()
            if latest:
                _tell_luigid(task, latest[-1])
            end.wait(LUIGID_INTERVAL_S)
        if latest:
            _tell_luigid(task, latest[-1])

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


def _link_logs(task: BlockTask) -> None:
    """Link luigid's page to the step's logs; once, because each call resets what else luigid shows of the task."""
    try:
        task.set_tracking_url(task.step.logs.resolve().as_uri())
    except Exception as error:  # see below
        logger.debug("luigid was not told: %s", error)


def _tell_luigid(task: BlockTask, outcome: Outcome) -> None:
    try:
        task.set_status_message(status_text(outcome, task.step.unit))
        task.set_progress_percentage(round(100 * outcome.done / max(outcome.total, 1)))
    except Exception as error:  # luigid only shows; the step goes on without it
        logger.debug("luigid was not told: %s", error)
