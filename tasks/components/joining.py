"""Components of all blocks that touch across their borders, joined while the blocks are read one after the other."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from blockwise.grid import Block, Grid

Faces = Mapping[str, NDArray[Any]]

FACE_CACHE_BYTES = 512_000_000
"""Of faces that later blocks may touch; those that have no room are read again."""


class Groups:
    """Things numbered from 0, and which of them belong together: a forest in one array (union-find)."""

    def __init__(self) -> None:
        self.count = 0
        self._parents = np.empty(1024, np.int64)

    def add(self, count: int) -> None:
        """Add things, each by itself."""
        begin, self.count = self.count, self.count + count
        if self.count > len(self._parents):
            self._parents.resize(max(self.count, len(self._parents) * 5 // 4), refcheck=False)
        self._parents[begin : self.count] = np.arange(begin, self.count)

    def join_touching(
        self, here: NDArray[np.uint32], there: NDArray[np.uint32], spare: int, first_here: int, first_there: int
    ) -> None:
        """Join what touches across a border.

        Args:
            here: labels on one side, as a plane; an edge is one row, a corner one voxel. 0 is background.
            there: on the other side, of the same shape.
            spare: along how many axes of the plane neighbours may differ.
            first_here: number of the thing with the label 1 here.
            first_there: likewise there.
        """
        _join_touching(self._parents, here, there, spare, first_here - 1, first_there - 1)

    def numbers(self) -> tuple[NDArray[np.int64], int]:
        """The group of each thing, from 0 in the order of their first things, and how many groups there are.

        Nothing can be joined afterwards.
        """
        found = self._parents[: self.count]
        return found, _number(found)


@compiled
def _join_touching(parents: Any, here: Any, there: Any, spare: Any, before_here: Any, before_there: Any) -> None:
    rows, columns = here.shape
    last = np.zeros((3, 3, 2), np.int64)
    for i in range(rows):
        for j in range(columns):
            a = np.int64(here[i, j])
            if a == 0:
                continue
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    k, m = i + di, j + dj
                    if (di != 0) + (dj != 0) > spare or k < 0 or m < 0 or k >= rows or m >= columns:
                        continue
                    b = np.int64(there[k, m])
                    # Neighbouring voxels mostly give the same pair.
                    if b == 0 or (last[di + 1, dj + 1, 0] == a and last[di + 1, dj + 1, 1] == b):
                        continue
                    last[di + 1, dj + 1, 0], last[di + 1, dj + 1, 1] = a, b
                    one, other = a + before_here, b + before_there
                    while parents[one] != one:
                        parents[one] = parents[parents[one]]
                        one = parents[one]
                    while parents[other] != other:
                        parents[other] = parents[parents[other]]
                        other = parents[other]
                    parents[max(one, other)] = min(one, other)


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
    groups, nothing = Groups(), np.zeros((1, 1), np.uint32)
    groups.add(1)
    groups.join_touching(nothing, nothing, 0, 0, 0)
    groups.numbers()


def forward_offsets(axes: str, reach: int) -> list[tuple[int, ...]]:
    """Offsets to the neighbouring blocks that a voxel's neighbours can lie in, one of each opposite pair.

    None leads along t: time steps are independent.
    """
    choices = [(0,) if axis == "t" else (-1, 0, 1) for axis in axes]
    return [
        offset
        for offset in itertools.product(*choices)
        if offset > (0,) * len(axes) and sum(o != 0 for o in offset) <= reach
    ]


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
            ``face_labels``; called once for each block, in their order.
        again: gives the faces of a block that was read.
        reach: along how many axes at once neighbouring voxels may differ, see ``neighbour_axes``.

    Returns:
        The groups of things, which are numbered block after block; and where those of each block begin, int64
        (block ids + 1,), blocks that are not computed included.
    """
    spatial = [i for i, axis in enumerate(grid.axes) if axis != "t"]
    offsets = [(offset, tuple(offset[i] for i in spatial)) for offset in forward_offsets(grid.axes, reach)]
    blocks = int(np.prod(grid.blocks_per_axis))
    counts = np.zeros(blocks + 1, np.int64)
    groups = Groups()
    firsts: dict[int, int] = {}
    kept = _UpperFaces(grid, again)
    for block in grid:
        count, faces = read(block)
        counts[block.id + 1] = count
        if not count:
            continue
        firsts[block.id] = groups.count
        groups.add(count)
        for offset, direction in offsets:
            index = tuple(i - o for i, o in zip(block.index, offset, strict=True))
            if index not in grid or (other := grid.id_of(index)) not in firsts:
                continue
            axis = direction.index(1)
            rest = direction[:axis] + direction[axis + 1 :]
            upper, lower = kept.faces(grid.block(other))[f"upper{axis}"], faces[f"lower{axis}"]
            here = _plane(upper[tuple(_SIDES[o] for o in rest)])
            there = _plane(lower[tuple(_SIDES[-o] for o in rest)])
            groups.join_touching(here, there, reach - sum(o != 0 for o in direction), firsts[other], firsts[block.id])
        kept.keep(block, faces)
    return groups, np.cumsum(counts)


_SIDES: dict[int, Any] = {0: slice(None), 1: -1, -1: 0}
"""Of a face along one of its axes: all of it, or the side that lies against a block beyond it."""


def _plane(face: NDArray[Any]) -> NDArray[np.uint32]:
    """A face, an edge or a corner as two axes."""
    return np.ascontiguousarray(face, np.uint32).reshape((1,) * (2 - face.ndim) + face.shape)


class _UpperFaces:
    """The faces of blocks against which later ones lie, as long as there is room."""

    def __init__(self, grid: Grid, again: Callable[[Block], Faces]) -> None:
        self._again = again
        self._kept: OrderedDict[int, Faces] = OrderedDict()
        self._most = cached_blocks(grid)

    def keep(self, block: Block, faces: Faces) -> None:
        self._kept[block.id] = {name: np.array(face) for name, face in faces.items() if name.startswith("upper")}
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def faces(self, block: Block) -> Faces:
        if block.id not in self._kept:
            self.keep(block, self._again(block))
        return self._kept[block.id]


def cached_blocks(grid: Grid) -> int:
    """Of how many blocks the upper faces stay in memory: of as many as lie between neighbours, if there is room."""
    spatial = [n for n, axis in zip(grid.blocks_per_axis, grid.axes, strict=True) if axis != "t"]
    between = sum(int(np.prod(spatial[i + 1 :])) for i in range(len(spatial))) + 1
    return max(2, min(between + 1, FACE_CACHE_BYTES // face_bytes(grid)))


def face_bytes(grid: Grid) -> int:
    """Of a block's upper faces: labels of four bytes, one face an axis."""
    return sum(4 * int(np.prod(grid.block_shape)) // n for n in grid.block_shape)


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
