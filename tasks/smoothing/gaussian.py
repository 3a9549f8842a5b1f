"""A Gaussian of float32, cut to a part of its volume: the bits of `scipy.ndimage.gaussian_filter`, in less time.

As there, every value is a sum in double, from the outermost pair of voxels inwards, rounded to float32 after each
axis.
After an axis only what the part needs is kept, rows are added up as a whole, and nothing depends on how a library was
compiled.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import Integer, compiled
from blockwise.grid import Box

LEAST_SIGMA = 1e-15
"""Below it scipy leaves an axis alone."""


def smoothed_part(
    volume: NDArray[np.float32], sigma: tuple[float, ...], truncate: float, part: Box
) -> NDArray[np.float32]:
    """Smooth a volume, of which a part is wanted.

    Args:
        volume: float32, any axes. Where it ends the edge value is repeated.
        sigma: standard deviation per axis, in voxels; an axis with 0 is left alone.
        truncate: the Gaussian ends after this many sigmas.
        part: the part to return.

    Returns:
        float32 of the part's shape.
    """
    found = np.ascontiguousarray(volume)
    for axis, (size, kept) in enumerate(zip(sigma, part, strict=True)):
        shape = list(found.shape)
        first, stop, _ = kept.indices(shape[axis])
        if size <= LEAST_SIGMA:
            found = np.ascontiguousarray(found[(slice(None),) * axis + (slice(first, stop),)])
            continue
        before, n, after = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        shape[axis] = stop - first
        out = np.empty(shape, np.float32)
        taps = half_gaussian(size, truncate)
        filtered = _along_rows if axis == len(sigma) - 1 else _across_rows
        filtered(found.reshape(-1), before, n, after, taps, first, stop, out.reshape(-1))
        found = out
    return found


def half_gaussian(sigma: float, truncate: float) -> NDArray[np.float64]:
    """Taps 0..r of a sampled Gaussian whose sum over both sides is 1; float64."""
    r = int(truncate * sigma + 0.5)
    both = np.exp(-0.5 / (sigma * sigma) * np.arange(-r, r + 1) ** 2)
    taps: NDArray[np.float64] = (both / both.sum())[r:]
    return taps


@compiled
def _add_pairs(total: Any, line: Any, here: Any, taps: Any, t: Integer) -> None:
    """Add the pair of rows t away, and the next one inwards, if any; `here` are starts of rows by distance."""
    r, n = taps.size - 1, total.size
    a0, b0, k0 = line[here[r - t] : here[r - t] + n], line[here[r + t] : here[r + t] + n], taps[t]
    if t == 1:
        for i in range(n):
            total[i] += (np.float64(a0[i]) + np.float64(b0[i])) * k0
        return
    a1, b1, k1 = line[here[r - t + 1] : here[r - t + 1] + n], line[here[r + t - 1] : here[r + t - 1] + n], taps[t - 1]
    for i in range(n):
        some = total[i] + (np.float64(a0[i]) + np.float64(b0[i])) * k0
        total[i] = some + (np.float64(a1[i]) + np.float64(b1[i])) * k1


@compiled
def _weigh(line: Any, here: Any, taps: Any, total: Any, out: Any) -> None:
    """Filter a row from the rows in `line` that start at `here`."""
    r, n = taps.size - 1, out.size
    middle, centre = line[here[r] : here[r] + n], taps[0]
    for i in range(n):
        total[i] = np.float64(middle[i]) * centre
    for t in range(r, 0, -2):
        _add_pairs(total, line, here, taps, t)
    for i in range(n):
        out[i] = np.float32(total[i])


@compiled
def _across_rows(
    volume: Any, before: Integer, n: Integer, after: Integer, taps: Any, first: Integer, stop: Integer, out: Any
) -> None:
    """Filter flat (before, n, after) along its middle axis into (before, stop - first, after)."""
    r = taps.size - 1
    here, total = np.empty(2 * r + 1, np.int64), np.empty(after, np.float64)
    for b in range(before):
        for i in range(first, stop):
            for t in range(-r, r + 1):
                here[r + t] = (b * n + min(max(i + t, 0), n - 1)) * after
            at = (b * (stop - first) + i - first) * after
            _weigh(volume, here, taps, total, out[at : at + after])


@compiled
def _along_rows(
    volume: Any, before: Integer, n: Integer, after: Integer, taps: Any, first: Integer, stop: Integer, out: Any
) -> None:
    """Filter flat (before, n) along its last axis into (before, stop - first); `after` is 1."""
    r, width = taps.size - 1, stop - first
    line, total, here = np.empty(width + 2 * r, np.float32), np.empty(width, np.float64), np.arange(2 * r + 1)
    for b in range(before):
        row = volume[b * n : (b + 1) * n]
        for i in range(width + 2 * r):
            line[i] = row[min(max(first - r + i, 0), n - 1)]
        _weigh(line, here, taps, total, out[b * width : (b + 1) * width])
