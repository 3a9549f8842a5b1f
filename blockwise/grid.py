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

import base64
import itertools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from blockwise.identity import digest

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


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share a voxel."""
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def pack_blocks(kept: NDArray[np.bool_]) -> str:
    """One bit per block as text: what a mask leaves of a million blocks takes a few kilobytes."""
    return base64.b85encode(zlib.compress(np.packbits(kept).tobytes())).decode()


def unpack_blocks(text: str, blocks_per_axis: tuple[int, ...]) -> NDArray[np.bool_]:
    """The array that ``pack_blocks`` was given."""
    bits = np.frombuffer(zlib.decompress(base64.b85decode(text)), np.uint8)
    return np.unpackbits(bits, count=math.prod(blocks_per_axis)).astype(bool).reshape(blocks_per_axis)


class Block(msgspec.Struct, frozen=True):
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
class Region:
    """The part of a grid that is computed.

    Attributes:
        roi: start and stop per axis, in voxels; None for the whole volume.
        kept: blocks that a mask leaves, as ``pack_blocks`` gives them; None for all.
    """

    roi: tuple[tuple[int, int], ...] | None = None
    kept: str | None = None


@dataclass(frozen=True)
class Grid:
    """Blocks over a volume.

    Attributes:
        axes: names of the axes, some of ``tzyx`` in this order.
        shape: shape of the volume, in voxels.
        block_shape: shape of a block, in voxels; 1 along t, because time steps are independent.
        roi: start and stop per axis, in voxels, of the region that is computed; None for the whole volume.
        kept: blocks that a mask leaves, as ``pack_blocks`` gives them; None for all. The others are never computed.
        known: region that results were begun with, where it has grown since; see ``blockwise.region``.
    """

    axes: str
    shape: tuple[int, ...]
    block_shape: tuple[int, ...]
    roi: tuple[tuple[int, int], ...] | None = None
    kept: str | None = None
    known: Region | None = None

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

    @cached_property
    def write_ranges(self) -> tuple[dict[int, slice], ...]:
        """Per axis and index, what blocks write along the axis: made once, there may be a million blocks."""
        return tuple(
            {i: slice(max(i * b, d.start), min((i + 1) * b, d.stop)) for i in indices}
            for indices, b, d in zip(self._index_ranges, self.block_shape, self.domain, strict=True)
        )

    @cached_property
    def _kept(self) -> NDArray[np.bool_] | None:
        return None if self.kept is None else unpack_blocks(self.kept, self.blocks_per_axis)

    @cached_property
    def _kept_in_domain(self) -> NDArray[np.bool_]:
        """Per block of the domain, whether it is computed."""
        if self._kept is None:
            return np.ones([len(r) for r in self._index_ranges], bool)
        return self._kept[tuple(slice(r.start, r.stop) for r in self._index_ranges)]

    @property
    def computed(self) -> NDArray[np.bool_]:
        """Per block of the whole volume, whether it touches the domain and is kept."""
        found = np.zeros(self.blocks_per_axis, bool)
        found[tuple(slice(r.start, r.stop) for r in self._index_ranges)] = self._kept_in_domain
        return found

    def identity(self) -> dict[str, Any]:
        """What of the grid can change a result, as JSON; of a region that has grown, what it was at first."""
        region = self.known or self.region
        return {
            "axes": self.axes,
            "shape": list(self.shape),
            "blocks": list(self.block_shape),
            "roi": region.roi and [list(part) for part in region.roi],
            **({} if region.kept is None else {"blocks of the mask": digest(region.kept)}),
        }

    @property
    def region(self) -> Region:
        """The part that is computed."""
        return Region(self.roi, self.kept)

    def within(self, region: Region) -> Grid:
        """The same blocks over another region."""
        return replace(self, roi=region.roi, kept=region.kept, known=None)

    def covers(self, region: Region) -> bool:
        """Whether every voxel of a region's blocks is one of this grid's, too."""
        if region == self.region:
            return True
        other = self.within(region)
        inside = all(s.start <= o.start and o.stop <= s.stop for s, o in zip(self.domain, other.domain, strict=True))
        if not inside or self._kept is None:
            return inside
        mine = self._kept[tuple(slice(r.start, r.stop) for r in other._index_ranges)]
        return bool(np.all(mine | ~other._kept_in_domain))

    @cached_property
    def _count(self) -> int:
        if self._kept is None:
            return math.prod(len(r) for r in self._index_ranges)
        return int(np.count_nonzero(self._kept_in_domain))

    def __len__(self) -> int:
        return self._count

    @cached_property
    def voxels(self) -> int:
        """Number of voxels in all write boxes."""
        if self._kept is None:
            return box_size(self.domain)
        sizes = self._kept_in_domain.astype(np.int64)
        for axis, (r, b, d) in enumerate(zip(self._index_ranges, self.block_shape, self.domain, strict=True)):
            lengths = [min((i + 1) * b, d.stop) - max(i * b, d.start) for i in r]
            sizes = sizes * np.reshape(lengths, [-1 if i == axis else 1 for i in range(sizes.ndim)])
        return int(sizes.sum())

    def _indices(self, ranges: tuple[range, ...]) -> Iterator[Index]:
        indices = itertools.product(*ranges)
        kept = self._kept
        return indices if kept is None else (index for index in indices if kept[index])

    def __iter__(self) -> Iterator[Block]:
        """All blocks that touch the domain and are kept, in raster order."""
        return (self.block_at(index) for index in self._indices(self._index_ranges))

    def ids(self) -> Iterator[int]:
        """Ids of all blocks that touch the domain and are kept, ascending."""
        return (self.id_of(index) for index in self._indices(self._index_ranges))

    def __contains__(self, index: Index) -> bool:
        touches = all(i in r for i, r in zip(index, self._index_ranges, strict=True))
        return touches and (self._kept is None or bool(self._kept[index]))

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
        box = tuple(part[i] for part, i in zip(self.write_ranges, index, strict=True))
        return Block(self.id_of(index), index, box)

    def index_ranges(self, box: Box) -> tuple[range, ...]:
        """Per axis, the indices of the blocks that a box touches."""
        return tuple(range(s.start // b, -(-s.stop // b)) for s, b in zip(box, self.block_shape, strict=True))

    def ids_touching(self, box: Box) -> list[int]:
        """Ids of the kept blocks that a box inside the domain touches, ascending."""
        return [self.id_of(index) for index in self._indices(self.index_ranges(box))]

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
