"""A map of a step's blocks: a plane of the grid, with a letter for the state of each block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from blockwise.claims import claimed_blocks
from blockwise.grid import Grid
from blockwise.step import BlockStep
from pipeline.viewing.refusals import RefusedError

DONE, RUNNING, FAILED, WAITING, OUTSIDE = "drfw."
"""States of a block; outside are those that a region or a mask leaves out."""

MOST_BLOCKS = 1 << 18
"""In one map."""


def map_of_blocks(step: BlockStep, position: Mapping[str, int]) -> dict[str, Any]:
    """The states of the blocks of one plane along y and x, from markers, failure records and claims.

    Args:
        step: whose blocks.
        position: which plane is meant, in voxels along t and z; what is left out is 0, and cut at the end.

    Returns:
        ``states``, a letter for each block of the plane, row after row; ``rows``, ``columns``; ``plane``, the numbers
        of the plane along the other axes, and ``planes``, how many there are; ``block_shape`` in voxels and ``axes``
        of the grid.

    Raises:
        RefusedError: 413: the plane has too many blocks.
    """
    grid = step.grid
    counts = dict(zip(grid.axes, grid.blocks_per_axis, strict=True))
    rows, columns = counts.get("y", 1), counts["x"]
    if rows * columns > MOST_BLOCKS:
        raise RefusedError(413, f"the plane has {rows * columns:,} blocks, a map at most {MOST_BLOCKS:,}")
    plane = {
        axis: min(max(position.get(axis, 0), 0) // b, counts[axis] - 1)
        for axis, b in zip(grid.axes, grid.block_shape, strict=True)
        if axis not in "yx"
    }
    return {
        "step": step.label,
        "axes": grid.axes,
        "shape": list(grid.shape),
        "block_shape": list(grid.block_shape),
        "rows": rows,
        "columns": columns,
        "plane": plane,
        "planes": {axis: counts[axis] for axis in plane},
        "states": states_of(step, plane_of(grid, plane)),
    }


def plane_of(grid: Grid, plane: Mapping[str, int]) -> list[int]:
    """Ids of all blocks of a plane of the whole grid, row after row, those that are never computed included."""
    counts = grid.blocks_per_axis
    ids = np.arange(math.prod(counts)).reshape(counts)
    chosen = ids[tuple(plane.get(axis, slice(None)) for axis in grid.axes)]
    return [int(i) for i in chosen.ravel()]


def states_of(step: BlockStep, blocks: list[int]) -> str:
    """A letter for each of some blocks."""
    inside = [block for block in blocks if step.grid.index_of(block) in step.grid]
    states = dict.fromkeys(inside, WAITING)
    states.update(dict.fromkeys(step.markers.failed_among(inside), FAILED))
    states.update(dict.fromkeys(step.markers.done_among(inside), DONE))
    claimed = states.keys() & claimed_blocks(step)  # also what was done once and is done anew
    states.update(dict.fromkeys(claimed, RUNNING))
    return "".join(states.get(block, OUTSIDE) for block in blocks)
