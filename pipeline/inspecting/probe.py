"""A few blocks computed before a run, to learn how long it will take: real ones, which the run finds done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from blockwise.backends.executor import Executor
from blockwise.demand import Demand
from blockwise.demand.beginning import why_taken
from blockwise.demand.presence import Presence, needed_blocks, stands_alone
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource

FEWEST = 4
MOST_NEEDED = 8
"""Blocks of steps before it that may be computed for the sake of one block: as many as meet at a corner."""
LOOKED_AT = 64


def probe(steps: Sequence[BlockStep], executor: Executor, max_attempts: int, wanted: int | None = None) -> list[str]:
    """Compute blocks of those steps whose blocks need no tables; lines for people about what was done, and what not.

    Args:
        steps: each after those that it reads.
        executor: what computes.
        max_attempts: how often a block is tried.
        wanted: blocks of a step that reads no other; None for two for each worker, and ``FEWEST`` at least. Of one
            that reads others it is one block.

    Raises:
        BlockFailedError: a block cannot be computed.
    """
    return asyncio.run(_probe(steps, executor, max_attempts, wanted or max(FEWEST, 2 * executor.size)))


async def _probe(steps: Sequence[BlockStep], executor: Executor, max_attempts: int, wanted: int) -> list[str]:
    notes: list[str] = []
    presence = Presence()
    demand = Demand(presence, executor, max_attempts)
    try:
        # The last first: what its blocks need counts for the steps before it.
        for step in reversed([step for step in steps if stands_alone(step)]):
            blocks, note = _chosen(presence, step, wanted)
            notes += [note] if note else []
            await demand.need(step, blocks)
    finally:
        demand.close()
    done = [f"{demand.computed[step.label]:,} of {step.label}" for step in steps if demand.computed[step.label]]
    told = "nothing to compute"
    if done:
        told = f"computed {', '.join(done)} here, {executor.size} at a time; they stay, and the run finds them done"
    return [f"probe: {told}", *(f"probe: {note}" for note in notes)]


def _chosen(presence: Presence, step: BlockStep, wanted: int) -> tuple[list[int], str]:
    """Blocks of a step to compute, and what is said where there are none although some are left."""
    if presence.seems_complete(step):
        return [], ""
    if why := next(filter(None, map(why_taken, (*_before(step), step))), ""):
        return [], f"not measured: {why}"
    if not list(_before(step)):
        missing = wanted - step.markers.count()
        return list(_spread(step, missing)), ""
    if step.markers.count():
        return [], ""
    block, needed = min(
        ((block, _needed(presence, step, block)) for block in _spread(step, LOOKED_AT)),
        key=lambda pair: pair[1],
        default=(None, 0),
    )
    if block is None:
        return [], ""
    if needed > MOST_NEEDED:
        return [], f"not measured: {step.label}, each of whose blocks needs {needed} or more of steps before it"
    return [block], ""


def _before(step: BlockStep) -> Iterator[BlockStep]:
    """The steps that a step reads, directly or not; all stand alone."""
    for source in step.inputs.values():
        if isinstance(source, BlocksSource):
            yield from _before(source.step)
            yield source.step


def _spread(step: BlockStep, number: int) -> Iterator[int]:
    """So many blocks that are not done, the first and the last among them, as evenly as it goes."""
    done = step.markers.scan().keys() if step.markers.count() else set()
    left = [block for block in step.grid.ids() if block not in done]
    number = min(number, len(left))
    for place in range(number):
        yield left[place * (len(left) - 1) // max(number - 1, 1)]


def _needed(presence: Presence, step: BlockStep, block: int) -> int:
    """How many blocks of steps before it are missing for a block."""
    missing: set[tuple[str, int]] = set()
    todo = [(step, block)]
    while todo:
        for needed in needed_blocks(*todo.pop()):
            key = (needed[0].label, needed[1])
            if key not in missing and not presence.is_done(*needed):
                missing.add(key)
                todo.append(needed)
    return len(missing)
