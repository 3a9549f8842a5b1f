"""The coarser scales of an OME-Zarr image that is exported, each made of the one before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blockwise.grid import Box
from blockwise.volume import Address, Spacing
from blockwise.volume.containers.ome import Level
from blockwise.volume.formats import open_volume
from blockwise.volume.ingest import chunks_for, slabs
from tasks.pyramid.coarser import Method, coarser
from tasks.pyramid.scales import coarser_scales


@dataclass(frozen=True)
class Scales:
    """Which scales are written.

    Attributes:
        number: of them, the finest included; None for as many as it takes until no spatial axis is longer than 256.
        method: what a coarser voxel is of those that it stands for.
    """

    number: int | None = 1
    method: Method = "mode"


ONE_SCALE = Scales()
"""The finest alone."""


def coarser_levels(shape: tuple[int, ...], axes: str, spacing: Spacing | None, scales: Scales) -> tuple[Level, ...]:
    """The scales after the finest, as far as there is anything to make coarser.

    Args:
        shape: of the finest scale.
        axes: its axes.
        spacing: of its voxels; where it says nothing, or has several units, they are taken for cubes.
        scales: how many.
    """
    units = spacing and {unit for axis, unit in zip(axes, spacing.units, strict=True) if axis in "zyx"}
    steps = spacing.steps if spacing and units and len(units) == 1 else None
    found = coarser_scales(shape, axes, steps, scales.number)
    return tuple(Level(each.shape, chunks_for(each.shape, axes), each.factors, scales.method) for each in found)


def write_levels(address: Address, levels: tuple[Level, ...], method: Method, memory_bytes: int) -> None:
    """Fill the coarser scales of an image whose finest one is written.

    Args:
        address: of the image.
        levels: the coarser scales.
        method: how they are made.
        memory_bytes: bound for the voxels held at a time, which are at least those below one chunk.
    """
    before: tuple[int, ...] | None = None
    for number, level in enumerate(levels, 1):
        source, target = (open_volume(scale_address(address, n), "a") for n in (number - 1, number))
        factors = tuple(b // a for a, b in zip(before or (1,) * len(level.factors), level.factors, strict=True))
        per_voxel = 2 * source.dtype.itemsize * (math.prod(factors) + 1)  # libraries copy what they read and write
        for box in slabs(level.shape, level.chunks, memory_bytes // per_voxel):
            below = source.read(_below(box, factors, source.shape))
            target.write(box, coarser(below, factors, method))
        before = level.factors


def scale_address(address: Address, number: int) -> Address:
    """One of the scales of an image, 0 being the finest."""
    return address.within("/".join(filter(None, (address.key, str(number)))))


def _below(box: Box, factors: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    return tuple(slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(box, factors, shape, strict=True))
