"""How many blocks a job gets: enough that it lasts minutes, not seconds, and no more than its time limit allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from blockwise.backends.jobs.needs import JobOptions
from blockwise.job import Order

PILOT_BLOCKS = 8
"""Most blocks of a job while nobody knows how long one takes."""

SHORTEST_JOB_S = 60.0
"""Work is spread over more jobs at once only while each lasts at least this long."""

PART_OF_TIME_LIMIT = 0.5
"""Part of its time limit that a job is planned to use."""


def blocks_per_job(options: JobOptions, time_min: int, left: int, seconds: float | None) -> int:
    """Number of blocks for each job.

    Args:
        options: ``blocks_per_job`` decides, else ``job_minutes``.
        time_min: time limit of the jobs.
        left: blocks that wait.
        seconds: of one block; None where it is not known.
    """
    if options.blocks_per_job:
        return options.blocks_per_job
    spread = math.ceil(left / options.max_running)
    if seconds is None:
        return max(1, min(PILOT_BLOCKS, spread))
    seconds = max(seconds, 1e-3)
    target = min(60 * options.job_minutes, 60 * time_min * PART_OF_TIME_LIMIT)
    return max(1, min(int(target / seconds), max(spread, math.ceil(SHORTEST_JOB_S / seconds))))


def deal(orders: Sequence[Order], per_job: int, jobs: int) -> tuple[list[list[Order]], list[Order]]:
    """Cut orders into at most so many lists, a list of its own for each that must be alone; and what remains.

    Lists are runs of neighbours, so that blocks of one job share chunks in the file system's cache.
    """
    lists: list[list[Order]] = []
    current: list[Order] = []
    for number, order in enumerate(orders):
        if order.alone or not current or len(current) >= per_job or current[-1].alone:
            if len(lists) == jobs:
                return lists, list(orders[number:])
            current = []
            lists.append(current)
        current.append(order)
    return lists, []


def share_slots(sizes: Sequence[int], slots: int) -> list[int]:
    """How many tasks of each array may run at once, so that together they are no more than ``slots``.

    Small arrays go first: they hold what is tried again. Each gets one at least, because 0 may be read as no limit.

    Args:
        sizes: tasks of each array that have not ended.
        slots: for all of them together.
    """
    shares = [1] * len(sizes)
    for rank, number in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        others = len(sizes) - rank - 1
        shares[number] = max(1, min(sizes[number], slots - others))
        slots -= shares[number]
    return shares
