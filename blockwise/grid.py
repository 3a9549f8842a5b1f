"""The grid of blocks over a volume: write boxes that tile it, read boxes with a halo around them.

::

    volume border ->  +-----------------------------+
                      |        |  read box |        |
                      |     ...+...........+...     |
                      |     :  +-----------+  :     |
                      |     :  | write box |  :     |     a block's write box, a halo around it,
                      |     :  +-----------+  :     |     cut off where the domain ends
                      |     ...+...........+...     |
                      +-----------------------------+

Blocks lie on multiples of the block shape counted from the origin of the *volume*, so a region of interest moves no
block; it only cuts blocks and leaves out those that it does not touch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

Box = tuple[slice, ...]
Index = tuple[int, ...]


def box_shape(box: Box) -> tuple[int, ...]:
    """Lengths of a box per axis, in voxels."""
    return tuple(s.stop - s.start for s in box)


def box_size(box: Box) -> int:
    """Number of voxels in a box."""
    return math.prod(box_shape(box))


def grow(box: Box, halo: tuple[int, ...], domain: Box) -> Box:
    """Enlarge a box by a halo on both sides of each axis, cut to the domain."""
    return tuple(
        slice(max(s.start - h, d.start), min(s.stop + h, d.stop)) for s, h, d in zip(box, halo, domain, strict=True)
    )


def relative(inner: Box, outer: Box) -> Box:
    """The place of ``inner`` within an array that holds ``outer``."""
    return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))


@dataclass(frozen=True)
class Block:
    """One unit of work.

    Attributes:
        id: position in raster order over the whole grid; the same for every region of interest.
        index: position per axis, in blocks.
        write_box: the voxels that the block writes, in voxels of the volume; no two blocks share one.
    """

    id: int
    index: Index
    write_box: Box


@dataclass(frozen=True)
class Grid:
    """Blocks over a volume.

    Attributes:
        axes: names of the axes, some of ``tzyx`` in this order.
        shape: shape of the volume, in voxels.
        block_shape: shape of a block, in voxels; 1 along t, because time steps are independent.
        roi: start and stop per axis, in voxels, of the region that is computed; None for the whole volume.
    """

    axes: str
    shape: tuple[int, ...]
    block_shape: tuple[int, ...]
    roi: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.axes) == len(self.shape) == len(self.block_shape):
            raise ValueError(f"axes {self.axes!r}, shape {self.shape}, blocks {self.block_shape} differ in length")
        if min(self.block_shape, default=0) < 1 or min(self.shape, default=0) < 1:
            raise ValueError(f"empty shape {self.shape} or block {self.block_shape}")

    @cached_property
    def domain(self) -> Box:
        """The box that is computed: the region of interest, or the whole volume."""
        if self.roi is None:
            return tuple(slice(0, n) for n in self.shape)
        return tuple(slice(start, stop) for start, stop in self.roi)

    @cached_property
    def blocks_per_axis(self) -> tuple[int, ...]:
        """Number of blocks along each axis of the whole volume, those outside the region of interest included."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block_shape, strict=True))

    @cached_property
    def _index_ranges(self) -> tuple[range, ...]:
        return self.index_ranges(self.domain)

    def __len__(self) -> int:
        return math.prod(len(r) for r in self._index_ranges)

    def __iter__(self) -> Iterator[Block]:
        """All blocks that touch the domain, in raster order."""
        return (self.block_at(index) for index in itertools.product(*self._index_ranges))

    def ids(self) -> Iterator[int]:
        """Ids of all blocks that touch the domain, ascending."""
        return (self.id_of(index) for index in itertools.product(*self._index_ranges))

    def __contains__(self, index: Index) -> bool:
        return all(i in r for i, r in zip(index, self._index_ranges, strict=True))

    def id_of(self, index: Index) -> int:
        """Raster-order number of the block at an index."""
        number = 0
        for i, n in zip(index, self.blocks_per_axis, strict=True):
            number = number * n + i
        return number

    def index_of(self, block_id: int) -> Index:
        """The index of a block from its number."""
        index = []
        for n in reversed(self.blocks_per_axis):
            block_id, i = divmod(block_id, n)
            index.append(i)
        return tuple(reversed(index))

    def block(self, block_id: int) -> Block:
        """The block with this number."""
        return self.block_at(self.index_of(block_id))

    def block_at(self, index: Index) -> Block:
        """The block at an index; its write box is cut to the domain."""
        box = tuple(
            slice(max(i * b, d.start), min((i + 1) * b, d.stop))
            for i, b, d in zip(index, self.block_shape, self.domain, strict=True)
        )
        return Block(self.id_of(index), index, box)

    def index_ranges(self, box: Box) -> tuple[range, ...]:
        """Per axis, the indices of the blocks that a box touches."""
        return tuple(range(s.start // b, -(-s.stop // b)) for s, b in zip(box, self.block_shape, strict=True))

    def ids_touching(self, box: Box) -> list[int]:
        """Ids of the blocks that a box inside the domain touches, ascending."""
        return [self.id_of(index) for index in itertools.product(*self.index_ranges(box))]

    def halo_waste(self, halo: tuple[int, ...]) -> float:
        """How much more is read than written: voxels of all read boxes over voxels of all write boxes, minus 1.

        The product over the axes is exact because both boxes are products of intervals.
        """
        ratio = 1.0
        for axis, (h, b, d) in enumerate(zip(halo, self.block_shape, self.domain, strict=True)):
            read = sum(
                min(min((i + 1) * b, d.stop) + h, d.stop) - max(max(i * b, d.start) - h, d.start)
                for i in self._index_ranges[axis]
            )
            ratio *= read / (d.stop - d.start)
        return ratio - 1.0

    def largest_read_shape(self, halo: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the largest read box, in voxels."""
        return tuple(
            min(b + 2 * h, d.stop - d.start) for b, h, d in zip(self.block_shape, halo, self.domain, strict=True)
        )
