"""Coarser scales of a layer: those of its pyramid, else made of its finest one when they are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from blockwise.grid import Box
from blockwise.volume_step import VolumeStep
from tasks.pyramid.coarser import Method, coarser
from tasks.pyramid.scales import coarser_scales

MOST_VOXELS = 1 << 24
"""That may be read to make one chunk of a coarser scale."""


@dataclass(frozen=True)
class Scale:
    """One resolution.

    Attributes:
        factors: voxels of the finest scale along one of it, per axis of the layer.
        steps: voxels of the scale before along one of it, 1 or 2, for each scale from the second to this one.
        step: of the pyramid, that makes it; None where there is none.
    """

    factors: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...] = ()
    step: VolumeStep | None = None

    def along(self, axes: str, others: str) -> Scale:
        """The same of another layer, which has some of the axes; no pyramid makes it."""
        places = [axes.index(axis) for axis in others]
        return Scale(
            tuple(self.factors[i] for i in places), tuple(tuple(step[i] for i in places) for step in self.steps)
        )

    def shape(self, finest: Sequence[int]) -> tuple[int, ...]:
        """Its shape in its own voxels, from that of the finest scale."""
        return tuple(-(-n // f) for n, f in zip(finest, self.factors, strict=True))

    def finest(self, box: Box, shape: Sequence[int]) -> Box:
        """A box of it in voxels of the finest scale, which has this shape."""
        return tuple(slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(box, self.factors, shape, strict=True))

    def is_small(self, chunks: Sequence[int]) -> bool:
        """Whether a chunk of it can be made of the finest scale while somebody waits."""
        return math.prod(self.factors) * math.prod(chunks) <= MOST_VOXELS


def scales_of(
    shape: tuple[int, ...],
    axes: str,
    chunks: tuple[int, ...],
    voxel_size: tuple[float, ...],
    made: Sequence[tuple[tuple[int, ...], VolumeStep]] = (),
) -> tuple[Scale, ...]:
    """The scales of a layer, the finest first, as a pyramid has them.

    Those that no pyramid makes end where a chunk would cost too much.

    Args:
        shape: in voxels.
        axes: letters of ``tczyx``.
        chunks: of every scale, in its own voxels.
        voxel_size: distance between voxels.
        made: factors and steps of the pyramid's scales.
    """
    found = [Scale((1,) * len(shape))]
    steps_by_factors = dict(made)
    for scale in coarser_scales(shape, axes, voxel_size, None):
        step = steps_by_factors.get(scale.factors)
        found.append(Scale(scale.factors, (*found[-1].steps, scale.step), step))
        if step is None and not found[-1].is_small(chunks):
            return tuple(found[:-1])
    return tuple(found)


def coarsened(data: NDArray[Any], scale: Scale, method: Method) -> NDArray[Any]:
    """Voxels of a coarser scale, as a pyramid has them.

    Args:
        data: voxels of the finest scale, beginning where one of the coarser scale begins.
        scale: which one.
        method: ``mean`` or ``mode``.

    Returns:
        Of the same dtype (float32 for float16), ``ceil(n / f)`` voxels along each axis.
    """
    found = data.astype({"float16": "float32", "bool": "uint8"}.get(data.dtype.name, data.dtype), copy=False)
    for step in scale.steps:
        found = coarser(found, step, method)
    return found
