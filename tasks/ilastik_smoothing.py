"""The Gaussian of ilastik's threshold applet: vigra's, which reaches two sigmas and mirrors at the border.

Source: vigra 1.11.1, ``separableconvolution.hxx`` and ``multi_convolution.hxx``. Taps are doubles, a voxel is their
sum from left to right in double precision, and each axis is rounded to float32, x before y before z. So values equal
vigra's bit for bit, and do not depend on where a voxel lies in its block.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled

WINDOW = 2.0
"""The Gaussian ends after this many sigmas."""

LEAST_SIGMA = 0.1
"""Where the sigma of any axis is smaller, nothing is smoothed along any."""


def reach(sigma: float) -> int:
    """How far the Gaussian looks along an axis, in voxels."""
    return max(1, math.floor(WINDOW * sigma + 0.5)) if sigma > 0 else 0


def effective_sigma(sigma: tuple[float, ...], lengths: tuple[int, ...]) -> tuple[float, ...]:
    """What ilastik makes of the standard deviations along the axes, 0 where it does not smooth.

    Args:
        sigma: per axis, in voxels.
        lengths: of the volume, in voxels; an axis of length 1 is left out.
    """
    found = tuple(0.0 if n == 1 else float(s) for s, n in zip(sigma, lengths, strict=True))
    smoothed = [s for s, n in zip(found, lengths, strict=True) if n > 1]
    return found if min(smoothed, default=0.0) >= LEAST_SIGMA else (0.0,) * len(found)


def smooth_as_ilastik(probabilities: NDArray[Any], sigma: tuple[float, ...]) -> NDArray[np.float32]:
    """Smooth with ilastik's Gaussian.

    Args:
        probabilities: any axes, zyx in this order at the end; float32 as it is, uint8 as 0..255 for 0..1. Where the
            array ends it is mirrored, without the voxel at the edge.
        sigma: standard deviation per axis, in voxels; 0 for axes along which nothing is smoothed.

    Returns:
        float32 of the same shape.
    """
    values = probabilities.astype(np.float32, order="C")
    if probabilities.dtype.kind == "u":
        values /= np.float32(np.iinfo(probabilities.dtype).max)
    for axis in reversed(range(values.ndim)):
        if sigma[axis] > 0:
            out = np.empty_like(values)
            shape = math.prod(values.shape[:axis]), values.shape[axis], math.prod(values.shape[axis + 1 :])
            _correlate(values.reshape(shape), taps(sigma[axis]), out.reshape(shape))
            values = out
    return values


@lru_cache(maxsize=64)
def taps(sigma: float) -> NDArray[np.float64]:
    """The Gaussian at -r..r, whose sum is 1; float64 (2r + 1,)."""
    r = reach(sigma)
    found = [math.exp(-0.5 / (sigma * sigma) * x * x) for x in range(-r, r + 1)]
    total = 0.0
    for tap in found:
        total += tap
    kernel = np.array([tap * (1.0 / total) for tap in found])
    kernel.flags.writeable = False  # shared by all callers
    return kernel


@compiled
def _correlate(source: Any, kernel: Any, out: Any) -> None:
    """Correlate along the middle axis."""
    n_outer, n, n_inner = source.shape
    r = kernel.size // 2
    total = np.empty(max(n, n_inner), np.float64)
    for o in range(n_outer):
        if n_inner == 1:  # whole rows are added up, tap by tap
            row = np.empty(n + 2 * r, np.float64)
            for i in range(n + 2 * r):
                row[i] = source[o, _mirrored(i - r, n), 0]
            total[:n] = 0
            for t in range(kernel.size):
                tap = kernel[t]
                for i in range(n):
                    total[i] += tap * row[i + t]
            for i in range(n):
                out[o, i, 0] = total[i]
        else:
            for i in range(n):
                total[:n_inner] = 0
                for t in range(kernel.size):
                    tap, line = kernel[t], source[o, _mirrored(i + t - r, n)]
                    for j in range(n_inner):
                        total[j] += tap * line[j]
                for j in range(n_inner):
                    out[o, i, j] = total[j]


@compiled
def _mirrored(index: int, length: int) -> int:
    """Index of the voxel that stands for one outside; in the margin of a block it may be any that there is."""
    if index < 0:
        index = -index
    if index >= length:
        index = 2 * length - 2 - index
    return max(0, min(index, length - 1))
