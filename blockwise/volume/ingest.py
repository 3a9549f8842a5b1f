"""Copy a volume into N5 or Zarr once, so that a block of it can be read at the cost of what it holds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from blockwise.errors import UserError
from blockwise.grid import Box, box_size
from blockwise.not_finite import NOT_FINITE, count_not_finite, together
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing
from blockwise.volume.base import Volume
from blockwise.volume.containers.metadata import written_dtype
from blockwise.volume.creation import begin_volume, finish_volume
from blockwise.volume.formats import open_volume

CHUNK = 64
"""Length of a chunk along z, y and x, in voxels."""
MEMORY_BYTES = 1 << 28
"""Voxels that are held at a time, in bytes."""


def ingest(
    source: Address | str,
    target: Address | str,
    *,
    axes: str | None = None,
    chunks: tuple[int, ...] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    progress: Callable[[float], None] | None = None,
) -> Volume:
    """Copy a volume in slabs of whole chunks; axes and spacing go along.

    Of floats the values that are NaN or infinite are counted; where there are any, the copy has an attribute
    ``not_finite`` with the fields of ``blockwise.not_finite.NotFinite``. A copy that is broken off cannot be opened,
    and the next call begins it anew.

    Args:
        source: any volume.
        target: where the copy goes, such as ``path.n5:key``; nothing finished may lie there.
        axes: names of the axes, where the source's metadata says nothing or is wrong.
        chunks: of the copy, in voxels; by default 64 along z, y and x and 1 along t and c.
        memory_bytes: bound for the voxels held at a time. Where it does not hold one layer of chunks, the layer is
            cut along y, and a source that decodes whole slices decodes each of them once for every part.
        progress: called with the fraction that is done.

    Returns:
        The copy, opened.

    Raises:
        UserError: the target exists, or the source has defects.
    """
    volume = open_volume(source)
    volume.verify()
    axes = axes or volume.axes
    if axes is not None and len(axes) != len(volume.shape):
        raise UserError(f"{volume.address}: {len(axes)} axes {axes!r} do not fit its shape {volume.shape}")
    chunks = chunks or chunks_for(volume.shape, axes)
    dtype = written_dtype(volume.dtype)
    described = attributes_of(axes, volume.spacing) | {"source": volume.address.identity}
    begin_volume(target, volume.shape, chunks, dtype.name, described, maker=f"ingest of {volume.address.identity}")
    copy = open_volume(target, "a")
    done, odd = 0, []
    for box in slabs(volume.shape, chunks, memory_bytes // dtype.itemsize):
        values = volume.read(box)
        odd.append(count_not_finite(values, tuple(s.start for s in box)))
        copy.write(box, values.astype(dtype, copy=False))
        done += box_size(box)
        if progress:
            progress(done / math.prod(volume.shape))
    found = together(part for part in odd if part is not None)
    finish_volume(target, {} if found is None else {NOT_FINITE: msgspec.to_builtins(found)})
    return open_volume(target)


def attributes_of(axes: str | None, spacing: Spacing | None) -> dict[str, Any]:
    """Attributes that describe the axes of a new dataset, as far as they are known."""
    return ({"axes": list(axes)} if axes else {}) | (spacing.as_attributes() if spacing else {})


def chunks_for(shape: tuple[int, ...], axes: str | None) -> tuple[int, ...]:
    """Chunks of 64 along z, y and x, cut to the shape, and of 1 along t and c."""
    names = axes or "tczyx"[-len(shape) :]
    return tuple(min(CHUNK, n) if axis in "zyx" else 1 for axis, n in zip(names, shape, strict=True))


def slabs(shape: tuple[int, ...], unit: tuple[int, ...], limit: int) -> Iterator[Box]:
    """Boxes of whole units, in raster order, that tile a volume.

    They are as long as possible along the last axes, and hold at most ``limit`` voxels, but at least one unit.

    >>> [tuple((s.start, s.stop) for s in box) for box in slabs((4, 6), (2, 3), 12)]
    [((0, 2), (0, 6)), ((2, 4), (0, 6))]
    """
    extents = [min(u, n) for u, n in zip(unit, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        fitting = max(1, limit // math.prod(extents))
        extents[axis] = min(shape[axis], extents[axis] * fitting)
        if extents[axis] < shape[axis]:
            break
    starts = [range(0, n, extent) for n, extent in zip(shape, extents, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(a, min(a + e, n)) for a, e, n in zip(corner, extents, shape, strict=True))
