"""Which scales a volume gets: by which factors each is coarser, and how long its axes are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from blockwise.grid import Grid, Region, pack_blocks, unpack_blocks

SMALLEST = 256
"""Scales are added until no spatial axis is longer than this, where their number is not given."""


@dataclass(frozen=True)
class Scale:
    """A coarser scale.

    Attributes:
        shape: in its own voxels.
        step: voxels of the scale before along one of it, 1 or 2 per axis.
        factors: the same for the finest scale.
    """

    shape: tuple[int, ...]
    step: tuple[int, ...]
    factors: tuple[int, ...]


def coarser_scales(
    shape: tuple[int, ...], axes: str, voxel_size: tuple[float, ...] | None, number: int | None
) -> tuple[Scale, ...]:
    """The scales after the finest, as far as there is anything to make coarser.

    From one to the next an axis is halved unless its voxels are twice as long as those of another one that can still
    be halved; so voxels become cubes, as far as they can. Time and channels are never halved.

    Args:
        shape: of the finest scale.
        axes: its axes, letters of ``tczyx``.
        voxel_size: per axis, all spatial ones in one unit; None for cubes.
        number: of scales, the finest included; None for as many as it takes until no spatial axis has more than 256
            voxels.
    """
    found: list[Scale] = []
    here, factors = shape, (1,) * len(shape)
    spatial = [axis for axis, name in enumerate(axes) if name in "zyx"]
    while number is None or len(found) + 1 < number:
        if number is None and max(here[axis] for axis in spatial) <= SMALLEST:
            break
        lengths = [f * size for f, size in zip(factors, voxel_size or (1.0,) * len(shape), strict=True)]
        able = [axis for axis in spatial if here[axis] > 1]
        if not able:
            break
        limit = 2 * min(lengths[axis] for axis in able)
        step = tuple(2 if axis in able and lengths[axis] < limit else 1 for axis in range(len(shape)))
        factors = tuple(f * s for f, s in zip(factors, step, strict=True))
        here = tuple(-(-n // s) for n, s in zip(here, step, strict=True))
        found.append(Scale(here, step, factors))
    return tuple(found)


def coarser_grid(grid: Grid, step: tuple[int, ...]) -> Grid:
    """The grid of a scale: blocks of as many voxels as those of the scale before, over all that it has computed.

    Args:
        grid: of the scale before.
        step: voxels of it along one of the coarser scale, per axis.
    """
    shape = tuple(-(-n // s) for n, s in zip(grid.shape, step, strict=True))
    coarse = Grid(grid.axes, shape, grid.block_shape)
    region = _coarser_region(grid, step, coarse.blocks_per_axis)
    known = None if grid.known is None else _coarser_region(grid.within(grid.known), step, coarse.blocks_per_axis)
    return replace(coarse, roi=region.roi, kept=region.kept, known=known)


def _coarser_region(grid: Grid, step: tuple[int, ...], blocks_per_axis: tuple[int, ...]) -> Region:
    """The voxels and blocks of a scale that lie over any of the scale before."""
    roi = grid.roi and tuple((a // s, -(-b // s)) for (a, b), s in zip(grid.roi, step, strict=True))
    if grid.kept is None:
        return Region(roi)
    kept = unpack_blocks(grid.kept, grid.blocks_per_axis)
    for axis, (count, s) in enumerate(zip(blocks_per_axis, step, strict=True)):
        # A coarse block lies over s blocks, the last of which may not be there.
        below = [kept.take(range(s * i, min(s * (i + 1), kept.shape[axis])), axis) for i in range(count)]
        kept = np.stack([part.any(axis) for part in below], axis)
    return Region(roi, pack_blocks(kept))
