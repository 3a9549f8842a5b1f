"""A region of interest and a mask that grow: which finished blocks stay as they are.

A fingerprint holds the region that results were begun with, so that it need not change when the region grows. Which
region the blocks of a step were last computed in stands beside its markers. What a block writes, and what it reads,
may have been cut by the borders of that region: such blocks are done again. All others have been computed from the
same voxels as now, as far as the stamps of what they read say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blockwise.grid import Block, Region, grow
from blockwise.step import BlockStep


def region_as_json(region: Region) -> dict[str, Any]:
    """A region as a record holds it."""
    return {"roi": region.roi and [list(part) for part in region.roi], "kept": region.kept}


def region_from_json(value: Mapping[str, Any]) -> Region:
    """The region of a record.

    Raises:
        TypeError, KeyError, ValueError: it is none.
    """
    roi, kept = value["roi"], value["kept"]
    return Region(None if roi is None else tuple((int(start), int(stop)) for start, stop in roi), kept)


def outgrown(step: BlockStep, before: Region) -> Callable[[Block], bool]:
    """Tells of a finished block whether the borders of a smaller, earlier region have cut what it reads or writes."""
    grid = step.grid.within(before)
    earlier = step.model_copy(update={"grid": grid})
    if grid.domain == step.grid.domain:  # the mask alone has grown, which stamps tell
        return lambda block: False
    was, now = earlier.read_domain, step.read_domain

    def is_cut(block: Block) -> bool:
        if block.index not in grid:
            return True
        written = grid.block_at(block.index).write_box
        return written != block.write_box or grow(written, step.halo, was) != grow(block.write_box, step.halo, now)

    return is_cut
