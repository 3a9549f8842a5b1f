"""The borders of a block: what touches across them, found on the faces of the blocks on both sides.

Faces are labels as ``pack_faces`` has them, and a face of a 2D block is one row of a plane. All is one call of
compiled code for each block: there are a dozen neighbours, and Python would take longer to name their faces than it
takes to compare them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from blockwise.grid import Block, Grid

FACE_CACHE_BYTES = 512_000_000
"""Of faces that later blocks may touch; those that have no room are read again."""


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


class Borders:
    """Borders between blocks, which come in the order of the grid."""

    def __init__(self, grid: Grid, again: Callable[[Block], NDArray[Any]], reach: int) -> None:
        """Begin before the first block.

        Args:
            grid: of the blocks.
            again: gives the packed faces of a block that was there before.
            reach: along how many axes at once neighbouring voxels may differ, see ``neighbour_axes``.
        """
        self._grid, self._again, self._reach = grid, again, reach
        self._axes = [i for i, axis in enumerate(grid.axes) if axis != "t"]
        self._is_timed = len(self._axes) < len(grid.axes)
        self._flat = 3 - len(self._axes)
        self._offsets = self._in_three_axes(forward_offsets("".join(grid.axes[i] for i in self._axes), reach), 0)
        self._blocks = self._in_three_axes([tuple(grid.blocks_per_axis[i] for i in self._axes)], 1)[0]
        self._lengths = self._lengths_of_blocks()
        self._firsts = np.full(math.prod(grid.blocks_per_axis), -1, np.int64)
        self._slots = np.full(len(self._firsts), -1, np.int64)
        self._holders = np.full(max(1, min(cached_blocks(grid), len(grid))), -1, np.int64)
        self._kept = np.empty((len(self._holders), face_bytes(grid) // 4), np.uint32)
        self._next = 0

    def _in_three_axes(self, rows: list[tuple[int, ...]], filler: int) -> NDArray[np.int64]:
        return np.array([(filler,) * self._flat + row for row in rows], np.int64).reshape(-1, 3)

    def _lengths_of_blocks(self) -> NDArray[np.int64]:
        """Along each axis, by a block's index, how many voxels it writes."""
        lengths = np.ones((3, self._blocks.max()), np.int64)
        for axis, place in enumerate(self._axes, self._flat):
            for index, part in self._grid.write_ranges[place].items():
                lengths[axis, index] = part.stop - part.start
        return lengths

    def join(self, parents: NDArray[np.int64], block: Block, first: int, faces: NDArray[Any]) -> None:
        """Join the things of a block to what they touch in blocks before it.

        Args:
            parents: see ``Groups``.
            block: the block.
            first: number of the thing with the label 1.
            faces: the block's, packed.
        """
        faces, index = self._checked(block, faces)
        time = block.index[0] if self._is_timed else 0
        self._firsts[block.id] = first
        begin, missing = 0, np.full(1, -1, np.int64)
        while True:
            begin = _join_block(
                parents, self._firsts, self._slots, self._kept, faces, index, time, self._blocks, self._lengths,
                self._offsets, self._reach, self._flat, begin, missing,
            )  # fmt: skip
            if begin == len(self._offsets):
                break
            other = self._grid.block(int(missing[0]))
            self._keep(other, self._checked(other, self._again(other))[0])
        self._keep(block, faces)

    def _checked(self, block: Block, faces: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """A block's faces and index; compiled code reads beyond the ends of arrays."""
        index = np.array((0,) * self._flat + tuple(block.index[i] for i in self._axes), np.int64)
        lengths = [int(self._lengths[axis, index[axis]]) for axis in range(3)]
        expected = 2 * sum(math.prod(lengths) // length for length in lengths[self._flat :])
        if faces.shape != (expected,):
            raise ValueError(f"block {block.id}: {faces.shape} labels on faces, expected {expected}")
        return np.ascontiguousarray(faces, np.uint32), index

    def _keep(self, block: Block, faces: NDArray[np.uint32]) -> None:
        slot = self._next
        self._next = (slot + 1) % len(self._holders)
        if self._holders[slot] >= 0:
            self._slots[self._holders[slot]] = -1
        self._holders[slot], self._slots[block.id] = block.id, slot
        upper = faces[len(faces) // 2 :]
        self._kept[slot, : len(upper)] = upper


@compiled
def _join_block(
    parents: Any, firsts: Any, slots: Any, kept: Any, faces: Any, index: Any, time: Any, blocks: Any, lengths: Any,
    offsets: Any, reach: Any, flat: Any, begin: Any, missing: Any,
) -> int:  # fmt: skip
    """Join a block to its neighbours at the offsets from ``begin`` on.

    Returns:
        Where it stops because the faces of a block are not there, whose number is put into ``missing``; beyond the
        last if there are all.
    """
    here = time
    for axis in range(3):
        here = here * blocks[axis] + index[axis]
    there = np.empty(3, np.int64)
    for number in range(begin, offsets.shape[0]):
        offset = offsets[number]
        other, is_inside, spare, face = time, True, reach, -1
        for axis in range(3):
            there[axis] = index[axis] - offset[axis]
            is_inside = is_inside and there[axis] >= 0 and there[axis] < blocks[axis]
            other = other * blocks[axis] + there[axis]
            if offset[axis] != 0:
                spare -= 1
                face = axis if face < 0 else face
        if not is_inside or firsts[other] < 0:
            continue
        if slots[other] < 0:
            missing[0] = other
            return number
        one, two = 0 if face > 0 else 1, 2 if face < 2 else 1
        width_there, width_here = lengths[two, there[two]], lengths[two, index[two]]
        rows = 1 if offset[one] else lengths[one, index[one]]
        columns = 1 if offset[two] else width_here
        # Of a face along one of its axes: all of it, or the side that lies against a block beyond it.
        begin_there = _begin_of_face(lengths, there, flat, face)
        begin_there += (lengths[one, there[one]] - 1) * width_there if offset[one] > 0 else 0
        begin_there += width_there - 1 if offset[two] > 0 else 0
        begin_here = _begin_of_face(lengths, index, flat, face)
        begin_here += (lengths[one, index[one]] - 1) * width_here if offset[one] < 0 else 0
        begin_here += width_here - 1 if offset[two] < 0 else 0
        _join_planes(
            parents, kept[slots[other]], begin_there, width_there, firsts[other] - 1,
            faces, begin_here, width_here, firsts[here] - 1, rows, columns, spare,
        )  # fmt: skip
    return int(offsets.shape[0])


@compiled
def _begin_of_face(lengths: Any, index: Any, flat: Any, face: Any) -> int:
    """Where a face begins among those on the same side of a block."""
    voxels = lengths[0, index[0]] * lengths[1, index[1]] * lengths[2, index[2]]
    begin = 0
    for axis in range(flat, face):
        begin += voxels // lengths[axis, index[axis]]
    return begin


@compiled
def _join_planes(
    parents: Any, one: Any, begin_one: Any, width_one: Any, before_one: Any, two: Any, begin_two: Any, width_two: Any,
    before_two: Any, rows: Any, columns: Any, spare: Any,
) -> None:  # fmt: skip
    """Join what touches across a border; an edge is one row, a corner one voxel."""
    last_a, last_b = np.int64(0), np.int64(0)
    for i in range(rows):
        for j in range(columns):
            a = np.int64(one[begin_one + i * width_one + j])
            if a == 0:
                continue
            b = np.int64(two[begin_two + i * width_two + j])
            if b != 0:
                # All others that may touch this voxel touch the one right across, too, and have its label.
                if a != last_a or b != last_b:  # neighbouring voxels mostly give the same pair
                    last_a, last_b = a, b
                    _join(parents, a + before_one, b + before_two)
                continue
            if spare == 0:
                continue
            for k in range(max(0, i - 1), min(rows, i + 2)):
                for m in range(max(0, j - 1), min(columns, j + 2)):
                    b = np.int64(two[begin_two + k * width_two + m])
                    if b == 0 or (a == last_a and b == last_b) or (k != i) + (m != j) > spare:
                        continue
                    last_a, last_b = a, b
                    _join(parents, a + before_one, b + before_two)


@compiled
def _join(parents: Any, one: Any, other: Any) -> None:
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    while parents[other] != other:
        parents[other] = parents[parents[other]]
        other = parents[other]
    parents[max(one, other)] = min(one, other)


def cached_blocks(grid: Grid) -> int:
    """Of how many blocks the upper faces stay in memory: of as many as lie between neighbours, if there is room."""
    spatial = [n for n, axis in zip(grid.blocks_per_axis, grid.axes, strict=True) if axis != "t"]
    between = sum(math.prod(spatial[i + 1 :]) for i in range(len(spatial))) + 1
    return max(2, min(between + 1, FACE_CACHE_BYTES // face_bytes(grid)))


def face_bytes(grid: Grid) -> int:
    """Of a block's upper faces: labels of four bytes, one face an axis."""
    return sum(4 * math.prod(grid.block_shape) // n for n in grid.block_shape)
