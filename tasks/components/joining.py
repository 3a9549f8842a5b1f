"""Components of all blocks that touch across their borders, joined while the blocks are read one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from blockwise.grid import Block, Grid
from tasks.components.borders import Borders

Faces = NDArray[Any]
"""Labels on all faces of a block, as ``pack_faces`` gives them."""


class Groups:
    """Things numbered from 0, and which of them belong together: a forest in one array (union-find).

    Attributes:
        count: of things.
        parents: int64; of each thing itself, or an earlier one of its group; there is room for more than are there.
    """

    def __init__(self) -> None:
        self.count = 0
        self.parents = np.empty(1024, np.int64)

    def add(self, count: int) -> int:
        """Add things, each by itself; the number of the first is returned."""
        begin, self.count = self.count, self.count + count
        if self.count > len(self.parents):
            self.parents.resize(max(self.count, len(self.parents) * 5 // 4), refcheck=False)
        self.parents[begin : self.count] = np.arange(begin, self.count)
        return begin

    def numbers(self) -> tuple[NDArray[np.int64], int]:
        """The group of each thing, from 0 in the order of their first things, and how many groups there are.

        Nothing can be joined afterwards.
        """
        found = self.parents[: self.count]
        return found, _number(found)


@compiled
def _number(parents: Any) -> int:
    """Put the numbers of groups in the place of parents, which always come before their children."""
    count = 0
    for i in range(parents.size):
        if parents[i] == i:
            parents[i] = count
            count += 1
        else:
            parents[i] = parents[parents[i]]
    return count


def load_joining() -> None:
    """Read what is compiled for ``join_blocks``, so that no block pays for it."""
    no_labels = np.zeros(6, np.uint32)
    groups, _ = join_blocks(Grid("zyx", (1, 1, 1), (1, 1, 1)), lambda _: (1, no_labels), lambda _: no_labels, 1)
    groups.numbers()


def join_blocks(
    grid: Grid, read: Callable[[Block], tuple[int, Faces]], again: Callable[[Block], Faces], reach: int
) -> tuple[Groups, NDArray[np.int64]]:
    """Join what touches across the borders of all blocks.

    ::

        +-------+-------+     A block is joined to those that were read before it. Offset (0, 1): the upper face
        |earlier| (0,1) |     of the earlier block along axis 1 lies against the lower face of the later one; the
        +-------+-------+     faces are compared in place and, for wider neighbourhoods, shifted by one voxel along
        | (1,0) | (1,1) |     their own axes. Offset (1, 1): only one edge of each face is left (in 3D; a corner in
        +-------+-------+     2D).

    Args:
        grid: of the blocks.
        read: gives the number of things in a block, whose labels are 1, 2, ..., and the labels on its faces, see
            ``pack_faces``; called once for each block, in their order.
        again: gives the faces of a block that was read, likewise packed.
        reach: along how many axes at once neighbouring voxels may differ, see ``neighbour_axes``.

    Returns:
        The groups of things, which are numbered block after block; and where those of each block begin, int64
        (block ids + 1,), blocks that are not computed included.
    """
    groups, borders = Groups(), Borders(grid, again, reach)
    counts = np.zeros(math.prod(grid.blocks_per_axis) + 1, np.int64)
    for block in grid:
        count, faces = read(block)
        if count:
            counts[block.id + 1] = count
            first = groups.add(count)
            borders.join(groups.parents, block, first, faces)
    return groups, np.cumsum(counts)


def combined(values: NDArray[np.int64], groups: NDArray[np.int64], count: int, reduce: np.ufunc) -> NDArray[np.int64]:
    """Values of groups.

    Args:
        values: of things, (things,) or (things, columns).
        groups: number of each one's group, int64 (things,).
        count: of groups.
        reduce: ``np.add``, ``np.minimum`` or ``np.maximum``.
    """
    limits = np.iinfo(np.int64)
    begin = 0 if reduce is np.add else limits.max if reduce is np.minimum else limits.min
    found = np.full((count, *values.shape[1:]), begin, np.int64)
    if values.ndim == 1:
        reduce.at(found, groups, values)
        return found
    for column, into in zip(values.T, found.T, strict=True):
        reduce.at(into, groups, column)
    return found
