"""Filters along an axis of a tile's plane, and pointwise formulas on flat buffers.

A plane with its margin is a flat buffer: voxel (y, x) stands at ``y * row + x``, rows of the margin included, so that
one loop runs over all rows at once. Where it runs past the end of a row it computes values that nobody reads. What is
filtered along x has no margin any more, and is dense: ``y * n_x + x``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import uint64

from blockwise.compiled import Integer, compiled, inlined
from tasks.pixel_classification.fast.correlations import (
    slope_1,
    slope_2,
    smooth_1,
    smooth_2,
    smooth_and_slope_1,
    smooth_and_slope_2,
    smooth_slope_and_curve_2,
)
from tasks.pixel_classification.symmetric import solve_2x2, solve_3x3

Buffer = np.ndarray[Any, np.dtype[np.float32]]
Span = tuple[Integer, Integer, Integer, Integer, Integer, Integer]
"""Where a filter's first voxel goes, where it stands in the source, voxels of a row, rows, how far rows of the output
and of the source are apart."""


@inlined
def steps(even: Buffer, step: Integer) -> tuple[Integer, Integer]:
    """Distances of the taps; a tap that is 0 stays where memory has been written."""
    near = step if even[1] != 0 else 0
    return near, 2 * step if even[2] != 0 else near


@compiled
def smooth(out: Buffer, src: Buffer, span: Span, step: Integer, even: Buffer) -> None:
    """Filter with an even kernel."""
    at, start, n, rows, row_out, row_src = span
    near, far = steps(even, step)
    for y in range(rows):
        smooth_2(out, at + y * row_out, src, start + y * row_src, n, near, far, even)


@compiled
def smooth_and_slope(
    out0: Buffer, out1: Buffer, src: Buffer, span: Span, step: Integer, even: Buffer, odd: Buffer
) -> None:
    """Filter with an even and with an odd kernel in one go."""
    at, start, n, rows, row_out, row_src = span
    near, far = steps(even, step)
    for y in range(rows):
        smooth_and_slope_2(out0, out1, at + y * row_out, src, start + y * row_src, n, near, far, even, odd)


@compiled
def smooth_slope_and_curve(
    out0: Buffer, out1: Buffer, out2: Buffer, src: Buffer, span: Span, step: Integer, taps: Buffer
) -> None:
    """Filter with the derivatives of order 0, 1 and 2 (the rows of `taps`) in one go."""
    at, start, n, rows, row_out, row_src = span
    order0, order1, order2 = taps[0], taps[1], taps[2]
    near, far = steps(order0, step)
    for y in range(rows):
        to, first = at + y * row_out, start + y * row_src
        smooth_slope_and_curve_2(out0, out1, out2, to, src, first, n, near, far, order0, order1, order2)


@compiled
def smooth_inner(out: Buffer, src: Buffer, span: Span, step: Integer, even: Buffer) -> None:
    """As `smooth`, without the second tap where it is 0: for slopes that are squared, the signs of zeros are lost."""
    at, start, n, rows, row_out, row_src = span
    near, far = steps(even, step)
    for y in range(rows):
        to, first = at + y * row_out, start + y * row_src
        if even[2] == 0:
            smooth_1(out, to, src, first, n, near, far, even)
        else:
            smooth_2(out, to, src, first, n, near, far, even)


@compiled
def slope_inner(out: Buffer, src: Buffer, span: Span, step: Integer, even: Buffer, odd: Buffer) -> None:
    """Filter with an odd kernel; see `smooth_inner`. The even one belongs to it."""
    at, start, n, rows, row_out, row_src = span
    near, far = steps(even, step)
    for y in range(rows):
        to, first = at + y * row_out, start + y * row_src
        if even[2] == 0:
            slope_1(out, to, src, first, n, near, far, odd)
        else:
            slope_2(out, to, src, first, n, near, far, odd)


@compiled
def smooth_and_slope_inner(
    out0: Buffer, out1: Buffer, src: Buffer, span: Span, step: Integer, even: Buffer, odd: Buffer
) -> None:
    """As `smooth_and_slope`, see `smooth_inner`."""
    at, start, n, rows, row_out, row_src = span
    near, far = steps(even, step)
    for y in range(rows):
        to, first = at + y * row_out, start + y * row_src
        if even[2] == 0:
            smooth_and_slope_1(out0, out1, to, src, first, n, near, far, even, odd)
        else:
            smooth_and_slope_2(out0, out1, to, src, first, n, near, far, even, odd)


@compiled
def copy(out: Buffer, src: Buffer, span: Span) -> None:
    """Copy voxels."""
    at, start, n, rows, row_out, row_src = span
    for y in range(rows):
        to, first = uint64(at + y * row_out), uint64(start + y * row_src)
        for i in range(uint64(n)):
            out[to + i] = src[first + i]


@compiled
def product(out: Buffer, at: Integer, a: Buffer, b: Buffer, start: Integer, n: Integer) -> None:
    """Multiply voxel by voxel."""
    to, first = uint64(at), uint64(start)
    for i in range(uint64(n)):
        out[to + i] = a[first + i] * b[first + i]


@compiled
def difference(out: Buffer, at: Integer, a: Buffer, b: Buffer, n: Integer) -> None:
    """Subtract voxel by voxel."""
    to = uint64(at)
    for i in range(uint64(n)):
        out[to + i] = a[i] - b[i]


@compiled
def trace(out: Buffer, at: Integer, h: Buffer, in_2d: bool, n: Integer) -> None:
    """Laplacian from the second derivatives `h` (rows zz, zy, zx, yy, yx, xx)."""
    zz, yy, xx = h[0], h[3], h[5]
    to = uint64(at)
    if in_2d:
        for i in range(uint64(n)):
            out[to + i] = yy[i] + xx[i]
    else:
        for i in range(uint64(n)):
            out[to + i] = zz[i] + yy[i] + xx[i]


@compiled
def magnitude(out: Buffer, at: Integer, g: Buffer, in_2d: bool, n: Integer) -> None:
    """Length of the gradient `g` (rows z, y, x)."""
    gz, gy, gx = g[0], g[1], g[2]
    to = uint64(at)
    if in_2d:
        for i in range(uint64(n)):
            out[to + i] = math.sqrt(gy[i] * gy[i] + gx[i] * gx[i])
    else:
        for i in range(uint64(n)):
            out[to + i] = math.sqrt(gz[i] * gz[i] + gy[i] * gy[i] + gx[i] * gx[i])


@compiled
def eigenvalues(out: Buffer, at: Integer, h: Buffer, in_2d: bool, n: Integer) -> None:
    """Eigenvalues of the matrices `h` (rows zz, zy, zx, yy, yx, xx) into the first 3, or in 2D 2, rows of `out`."""
    zz, zy, zx, yy, yx, xx = h[0], h[1], h[2], h[3], h[4], h[5]
    first, second, third = out[0], out[1], out[out.shape[0] - 1]
    to = uint64(at)
    if in_2d:
        for i in range(uint64(n)):
            first[to + i], second[to + i] = solve_2x2(yy[i], yx[i], xx[i])
    else:
        for i in range(uint64(n)):
            first[to + i], second[to + i], third[to + i] = solve_3x3(zz[i], zy[i], zx[i], yy[i], yx[i], xx[i])
