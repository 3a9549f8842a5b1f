"""One-dimensional filters and pointwise formulas on the flat buffers of a tile.

All buffers of a tile share one index space: voxel (z, y, x) of the tile with its margin stands at
``z * plane + y * row + x``, and a filter along an axis reads at that index plus and minus multiples of the axis'
step. So one loop serves all three axes, runs over whole planes and is vectorised; where it runs past the end of a
row it computes values that nobody reads. Kernels are even or odd, of radius 2 at most (taps 0..2, float32). Sums
start at the centre and go outwards, without fused operations: the same roundings as in the reference engine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import uint64

from blockwise.compiled import Integer, compiled, inlined
from tasks.pixel_classification.symmetric import solve_2x2, solve_3x3

Buffer = np.ndarray[Any, np.dtype[np.float32]]


@inlined
def _steps(even: Buffer, step: Integer) -> tuple[Integer, Integer]:
    """Distances of the taps; a tap that is 0 stays where memory has been written."""
    s1 = step if even[1] != 0 else 0
    return uint64(s1), uint64(2 * step if even[2] != 0 else s1)


@compiled
def smooth(
    out: Buffer,
    src: Buffer,
    even: Buffer,
    z0: Integer,
    z1: Integer,
    plane: Integer,
    lo: Integer,
    hi: Integer,
    step: Integer,
) -> None:
    """Filter with an even kernel: planes z0..z1, within each the flat range lo..hi."""
    a0, a1, a2 = even[0], even[1], even[2]
    s1, s2 = _steps(even, step)
    for z in range(z0, z1):
        for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
            out[i] = src[i] * a0 + a1 * (src[i + s1] + src[i - s1]) + a2 * (src[i + s2] + src[i - s2])


@compiled
def smooth_and_slope(
    out0: Buffer,
    out1: Buffer,
    src: Buffer,
    even: Buffer,
    odd: Buffer,
    z0: Integer,
    z1: Integer,
    plane: Integer,
    lo: Integer,
    hi: Integer,
    step: Integer,
) -> None:
    """Filter with an even and with an odd kernel in one go."""
    a0, a1, a2, b1, b2 = even[0], even[1], even[2], odd[1], odd[2]
    s1, s2 = _steps(even, step)
    for z in range(z0, z1):
        for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
            p1, q1, p2, q2 = src[i + s1], src[i - s1], src[i + s2], src[i - s2]
            out0[i] = src[i] * a0 + a1 * (p1 + q1) + a2 * (p2 + q2)
            out1[i] = b1 * (p1 - q1) + b2 * (p2 - q2)


@compiled
def smooth_slope_and_curve(
    out0: Buffer,
    out1: Buffer,
    out2: Buffer,
    src: Buffer,
    taps: Buffer,
    z0: Integer,
    z1: Integer,
    plane: Integer,
    lo: Integer,
    hi: Integer,
    step: Integer,
) -> None:
    """Filter with the derivatives of order 0, 1 and 2 (the rows of `taps`) in one go."""
    a0, a1, a2, b1, b2 = taps[0, 0], taps[0, 1], taps[0, 2], taps[1, 1], taps[1, 2]
    c0, c1, c2 = taps[2, 0], taps[2, 1], taps[2, 2]
    s1, s2 = _steps(taps[0], step)
    for z in range(z0, z1):
        for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
            p1, q1, p2, q2 = src[i + s1], src[i - s1], src[i + s2], src[i - s2]
            e1, e2 = p1 + q1, p2 + q2
            out0[i] = src[i] * a0 + a1 * e1 + a2 * e2
            out1[i] = b1 * (p1 - q1) + b2 * (p2 - q2)
            out2[i] = src[i] * c0 + c1 * e1 + c2 * e2


@compiled
def product(
    out: Buffer, a: Buffer, b: Buffer, z0: Integer, z1: Integer, plane: Integer, lo: Integer, hi: Integer
) -> None:
    """Multiply voxel by voxel."""
    for z in range(z0, z1):
        for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
            out[i] = a[i] * b[i]


@compiled
def difference(
    out: Buffer, a: Buffer, b: Buffer, z0: Integer, z1: Integer, plane: Integer, lo: Integer, hi: Integer
) -> None:
    """Subtract voxel by voxel."""
    for z in range(z0, z1):
        for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
            out[i] = a[i] - b[i]


@compiled
def trace(
    out: Buffer, h: Buffer, in_2d: bool, z0: Integer, z1: Integer, plane: Integer, lo: Integer, hi: Integer
) -> None:
    """Laplacian from the second derivatives `h` (rows zz, zy, zx, yy, yx, xx)."""
    zz, yy, xx = h[0], h[3], h[5]
    for z in range(z0, z1):
        if in_2d:
            for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
                out[i] = yy[i] + xx[i]
        else:
            for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
                out[i] = zz[i] + yy[i] + xx[i]


@compiled
def magnitude(
    out: Buffer, g: Buffer, in_2d: bool, z0: Integer, z1: Integer, plane: Integer, lo: Integer, hi: Integer
) -> None:
    """Length of the gradient `g` (rows z, y, x)."""
    gz, gy, gx = g[0], g[1], g[2]
    for z in range(z0, z1):
        if in_2d:
            for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
                out[i] = math.sqrt(gy[i] * gy[i] + gx[i] * gx[i])
        else:
            for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
                out[i] = math.sqrt(gz[i] * gz[i] + gy[i] * gy[i] + gx[i] * gx[i])


@compiled
def eigenvalues(
    out: Buffer, h: Buffer, in_2d: bool, z0: Integer, z1: Integer, plane: Integer, lo: Integer, hi: Integer
) -> None:
    """Eigenvalues of the matrices `h` (rows zz, zy, zx, yy, yx, xx) into the first 3, or in 2D 2, rows of `out`."""
    zz, zy, zx, yy, yx, xx = h[0], h[1], h[2], h[3], h[4], h[5]
    first, second, third = out[0], out[1], out[out.shape[0] - 1]
    for z in range(z0, z1):
        if in_2d:
            for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
                first[i], second[i] = solve_2x2(yy[i], yx[i], xx[i])
        else:
            for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
                first[i], second[i], third[i] = solve_3x3(zz[i], zy[i], zx[i], yy[i], yx[i], xx[i])
