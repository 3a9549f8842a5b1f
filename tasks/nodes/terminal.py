"""The terminal: the one that log and bars share, bars for work that is no step, and numbers in words."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@functools.cache
def terminal() -> Console:
    """Shared with the run's log, so that a line of the log goes above the bar and not into it."""
    from rich.console import Console  # slow to load: a run that shows nothing needs none

    return Console(stderr=True)


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
def progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """Give a function that shows which fraction of something is done, where there is a terminal."""
    from rich.progress import Progress

    with Progress(console=terminal(), transient=True, disable=not terminal().is_terminal) as progress:
        bar = progress.add_task(name, total=1.0)
        yield lambda fraction: progress.update(bar, completed=fraction)


@contextlib.contextmanager
def counting_bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how many of something were just done, where there is a terminal."""
    from rich.progress import Progress

    columns = Progress.get_default_columns()
    with Progress(*columns, console=terminal(), transient=True, disable=not terminal().is_terminal) as progress:
        bar = progress.add_task(name, total=total)
        yield lambda number: progress.advance(bar, number)
