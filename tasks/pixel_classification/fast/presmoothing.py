"""Gaussian smoothing of a block for one scale, from which that scale's features are computed.

Each output voxel is the same sequence of float32 operations as in the reference engine: along z, then y, then x,
from the centre outwards. Only the rows that the result needs are computed, and the passes along y and x share a row
that stays in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint64
from numpy.typing import NDArray

from blockwise.compiled import Integer, compiled

Volume = NDArray[np.float32]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def mirrored(start: int, stop: int, size: int) -> NDArray[np.int64]:
    """Indices start..stop along an axis, those outside 0..size reflected without repeating the border voxel."""
    if size == 1:
        return np.zeros(stop - start, np.int64)
    index = np.abs(np.arange(start, stop, dtype=np.int64)) % (2 * size - 2)
    return np.where(index < size, index, 2 * size - 2 - index)


@compiled
def _weigh(
    out: Any, at: Integer, n: Integer, src: Any, taps: Any, rows: Any, row: Integer, stride: Integer, offset: Integer
) -> None:
    """Correlate n voxels along an axis other than x.

    `rows[row]` is the index of the middle line, `rows[row ± t]` of the lines t away; a line starts in `src` at its
    index times `stride` plus `offset`. Four pairs of taps at a time, so that the sum stays in a register for long.
    """
    first, middle, centre = uint64(at), uint64(rows[row] * stride + offset), taps[0]
    for i in range(uint64(n)):
        out[first + i] = src[middle + i] * centre
    t = 1
    while t + 3 < taps.size:
        a0, b0 = uint64(rows[row - t] * stride + offset), uint64(rows[row + t] * stride + offset)
        a1, b1 = uint64(rows[row - t - 1] * stride + offset), uint64(rows[row + t + 1] * stride + offset)
        a2, b2 = uint64(rows[row - t - 2] * stride + offset), uint64(rows[row + t + 2] * stride + offset)
        a3, b3 = uint64(rows[row - t - 3] * stride + offset), uint64(rows[row + t + 3] * stride + offset)
        k0, k1, k2, k3 = taps[t], taps[t + 1], taps[t + 2], taps[t + 3]
        for i in range(uint64(n)):
            total = out[first + i] + k0 * (src[b0 + i] + src[a0 + i])
            total = total + k1 * (src[b1 + i] + src[a1 + i])
            total = total + k2 * (src[b2 + i] + src[a2 + i])
            out[first + i] = total + k3 * (src[b3 + i] + src[a3 + i])
        t += 4
    while t < taps.size:
        a0, b0 = uint64(rows[row - t] * stride + offset), uint64(rows[row + t] * stride + offset)
        k0 = taps[t]
        for i in range(uint64(n)):
            out[first + i] += k0 * (src[b0 + i] + src[a0 + i])
        t += 1


@compiled
def _smooth(raw: Any, taps: Any, zs: Any, ys: Any, xs: Any, needed: Any, in_2d: bool, corner: Any, out: Any) -> None:
    """See `presmooth`.

    Args:
        raw: float32 (z, y, x).
        taps: of the kernel, 0..r.
        zs: indices in `raw` of the result's slices and of r more on each side; `ys` and `xs` likewise.
        ys: see zs.
        xs: see zs.
        needed: the first and the last + 1 of `ys`, then of `xs`.
        in_2d: smooth each z slice by itself.
        corner: place of the result in `out`.
        out: float32 (z, y, x).
    """
    r, zero, one = taps.size - 1, np.int64(0), np.int64(1)
    n_z, n_y, n_x = zs.size - 2 * r, ys.size - 2 * r, xs.size - 2 * r
    size_y, size_x = raw.shape[1], raw.shape[2]
    plane, left, width = size_y * size_x, needed[2], needed[3] - needed[2]
    flat, result = raw.reshape(-1), out.reshape(-1)
    between = np.empty(1 if in_2d else n_z * plane, np.float32)
    if not in_2d:
        for y in range(needed[0], needed[1]):
            for z in range(n_z):
                at = z * plane + y * size_x + left
                _weigh(between, at, width, flat, taps, zs, r + z, plane, y * size_x + left)
    line = np.empty(n_x + 2 * r, np.float32)
    gathered = np.empty(size_x, np.float32)
    positions = np.arange(n_x + 2 * r)
    for z in range(n_z):
        source, start = (flat, zs[r + z] * plane) if in_2d else (between, z * plane)
        for y in range(n_y):
            _weigh(gathered, left, width, source, taps, ys, r + y, size_x, start + left)
            for x in range(n_x + 2 * r):
                line[x] = gathered[xs[x]]
            at = ((corner[0] + z) * out.shape[1] + corner[1] + y) * out.shape[2] + corner[2]
            _weigh(result, at, n_x, line, taps, positions, r, one, zero)


def presmooth(raw: Volume, taps: Volume, box: Box, in_2d: bool, corner: tuple[int, int, int], out: Volume) -> None:
    """Smooth a part of a volume, mirrored at its borders.

    Args:
        raw: C-contiguous float32 (z, y, x).
        taps: even kernel, taps 0..r.
        box: (start, stop) per axis of the part, within the volume.
        in_2d: smooth each z slice by itself.
        corner: where in `out` the part's first voxel goes.
        out: C-contiguous float32 (z, y, x).
    """
    r = taps.size - 1
    zs, ys, xs = (mirrored(a - r, b + r, n) for (a, b), n in zip(box, raw.shape, strict=True))
    needed = np.array([ys.min(), ys.max() + 1, xs.min(), xs.max() + 1], np.int64)
    _smooth(raw, taps, zs, ys, xs, needed, in_2d, np.array(corner, np.int64), out)
