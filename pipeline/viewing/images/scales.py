"""Coarser scales of a layer, made of its finest one when they are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 256
"""A layer has coarser scales until it is no longer than this along y and x, in voxels."""

MOST_VOXELS = 1 << 24
"""That may be read to make one chunk of a coarser scale."""


@dataclass(frozen=True)
class Scale:
    """One resolution.

    Attributes:
        factors: voxels of the finest scale along one of it, per axis of the layer.
    """

    factors: tuple[int, ...]

    @property
    def is_finest(self) -> bool:
        """Whether it is the layer itself."""
        return all(factor == 1 for factor in self.factors)

    def shape(self, finest: Sequence[int]) -> tuple[int, ...]:
        """Its shape in its own voxels, from that of the finest scale."""
        return tuple(-(-n // f) for n, f in zip(finest, self.factors, strict=True))


def scales_of(shape: tuple[int, ...], chunk: tuple[int, ...], steps: tuple[float, ...]) -> list[tuple[int, ...]]:
    """Factors of the scales along spatial axes, the finest first.

    From one to the next an axis is halved unless its voxels are already long: more than 1.5 times the shortest.

    Args:
        shape: in voxels.
        chunk: of every scale, in its own voxels.
        steps: distance between voxels.

    >>> scales_of((100, 600, 600), (64, 64, 64), (4.0, 1.0, 1.0))
    [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    """
    found = [(1,) * len(shape)]
    while max(-(-n // f) for n, f in zip(shape[-2:], found[-1][-2:], strict=True)) > LONGEST:
        lengths = [step * f for step, f in zip(steps, found[-1], strict=True)]
        short = [length < 1.5 * min(lengths) for length in lengths]
        coarser = tuple(
            2 * f if is_short and f < n else f for f, is_short, n in zip(found[-1], short, shape, strict=True)
        )
        if coarser == found[-1] or math.prod(coarser) * math.prod(chunk) > MOST_VOXELS:
            break
        found.append(coarser)
    return found


def coarsened(data: NDArray[Any], factors: tuple[int, ...], *, is_mean: bool) -> NDArray[Any]:
    """Fewer voxels for many.

    Args:
        data: voxels of the finest scale, beginning at a whole multiple of ``factors``.
        factors: voxels along one of the result, per axis.
        is_mean: the mean of those that there are (at the end of the volume fewer), integers rounded half to even;
            else the first of them, as for labels, which have no mean.

    Returns:
        Of the same dtype, ``ceil(n / f)`` voxels along each axis.
    """
    if not is_mean:
        return data[tuple(slice(None, None, f) for f in factors)]
    total, counts = data.astype(np.float64), np.ones((1,) * data.ndim)
    for axis, f in enumerate(factors):
        starts = np.arange(0, data.shape[axis], f)
        total = np.add.reduceat(total, starts, axis)
        lengths = np.diff(np.append(starts, data.shape[axis]))
        counts = counts * lengths.reshape([-1 if i == axis else 1 for i in range(data.ndim)])
    total /= counts  # once, or halves would not be rounded as halves
    return (np.rint(total) if data.dtype.kind in "iu" else total).astype(data.dtype)
