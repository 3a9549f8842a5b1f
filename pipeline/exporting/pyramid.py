"""The coarser scales of an OME-Zarr image, for viewers of large data, each made of the one before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box
from blockwise.volume import Address, Spacing
from blockwise.volume.formats import open_volume
from blockwise.volume.ingest import chunks_for, slabs
from blockwise.volume.ome import Level

SMALLEST = 256
"""Scales are added until y and x are no longer than this, where their number is not given."""


@dataclass(frozen=True)
class Scales:
    """Which scales are written.

    Attributes:
        number: of them, the finest included; None for as many as it takes until y and x have 256 voxels at most.
        is_mean: a coarser voxel is the mean of those that it stands for, as for probabilities; else the first of
            them, as for labels.
    """

    number: int | None = 1
    is_mean: bool = False


ONE_SCALE = Scales()
"""The finest alone."""


def coarser_levels(shape: tuple[int, ...], axes: str, spacing: Spacing | None, scales: Scales) -> tuple[Level, ...]:
    """The scales below the finest, as far as there is anything to make coarser.

    From one to the next y and x are halved, and so is z, unless its voxels are twice as long as those of y or x.

    Args:
        shape: of the finest scale.
        axes: its axes.
        spacing: of its voxels; where it says nothing, or has several units, they are taken for cubes.
        scales: how many.
    """
    levels: list[Level] = []
    total = (1,) * len(shape)
    while scales.number is None or len(levels) + 1 < scales.number:
        here = levels[-1].shape if levels else shape
        if scales.number is None and max(n for n, axis in zip(here, axes, strict=True) if axis in "yx") <= SMALLEST:
            break
        halved = _halved(here, axes, spacing, total)
        if not any(halved):
            break
        total = tuple(f * (1 + is_halved) for f, is_halved in zip(total, halved, strict=True))
        smaller = tuple(-(-n // (1 + is_halved)) for n, is_halved in zip(here, halved, strict=True))
        levels.append(Level(smaller, chunks_for(smaller, axes), total, scales.is_mean))
    return tuple(levels)


def _halved(shape: tuple[int, ...], axes: str, spacing: Spacing | None, factors: tuple[int, ...]) -> list[bool]:
    """Along which axes a scale of this shape, coarser by these factors, is halved."""
    units = spacing and {unit for axis, unit in zip(axes, spacing.units, strict=True) if axis in "zyx"}
    steps = spacing.steps if spacing and units and len(units) == 1 else (1.0,) * len(axes)
    lengths = {axis: step * f for axis, step, f in zip(axes, steps, factors, strict=True) if axis in "zyx"}
    return [
        axis in lengths and n > 1 and (axis in "yx" or lengths[axis] < 2 * min(lengths["y"], lengths["x"]))
        for axis, n in zip(axes, shape, strict=True)
    ]


def write_levels(address: Address, levels: tuple[Level, ...], memory_bytes: int) -> None:
    """Fill the coarser scales of an image whose finest one is written.

    Args:
        address: of the image.
        levels: the coarser scales.
        memory_bytes: bound for the voxels held at a time, which are at least those below one chunk.
    """
    before: tuple[int, ...] | None = None
    for number, level in enumerate(levels, 1):
        source, target = (open_volume(scale_address(address, n), "a") for n in (number - 1, number))
        factors = tuple(b // a for a, b in zip(before or (1,) * len(level.factors), level.factors, strict=True))
        per_voxel = source.dtype.itemsize + (16 if level.is_mean else 0)
        for box in slabs(level.shape, level.chunks, memory_bytes // (per_voxel * math.prod(factors))):
            below = source.read(_below(box, factors, source.shape))
            target.write(box, coarser(below, factors, is_mean=level.is_mean))
        before = level.factors


def scale_address(address: Address, number: int) -> Address:
    """One of the scales of an image, 0 being the finest."""
    return address.within("/".join(filter(None, (address.key, str(number)))))


def _below(box: Box, factors: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    return tuple(slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(box, factors, shape, strict=True))


def coarser(data: NDArray[Any], factors: tuple[int, ...], *, is_mean: bool) -> NDArray[Any]:
    """Make voxels larger.

    Args:
        data: any axes; begins where a larger voxel begins.
        factors: 1 or 2 along each axis.
        is_mean: see ``Scales``. At the end of an odd axis the mean is of what there is.

    Returns:
        The same dtype; means of integers are rounded.
    """
    if not is_mean:
        return data[tuple(slice(None, None, f) for f in factors)]
    exact = np.float32 if data.dtype.itemsize < 4 or data.dtype == np.float32 else np.float64
    found: NDArray[Any] = data.astype(exact)
    for axis in np.flatnonzero(np.array(factors) == 2):
        lines = np.moveaxis(found, axis, 0)
        means, others = lines[0::2].copy(), lines[1::2]
        means[: len(others)] = (means[: len(others)] + others) / 2
        found = np.moveaxis(means, 0, axis)
    return (np.rint(found) if data.dtype.kind in "iu" else found).astype(data.dtype)
