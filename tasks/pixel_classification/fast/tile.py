"""Features of one tile of voxels, from the pre-smoothed volumes, in buffers that stay in the processor's cache.

A tile has a margin of `MARGIN` voxels on every side. All its buffers are flat and share one index space (see
`passes`); after each filter the region with valid values shrinks towards the tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint64

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.passes import (
    difference,
    eigenvalues,
    magnitude,
    product,
    smooth,
    smooth_and_slope,
    smooth_slope_and_curve,
    trace,
)

MARGIN = 3
N_BUFFERS = 16
# columns of a scale's plan: first feature column of each filter for raw channel 0, or -1; then other numbers
IN_2D, GAUSSIAN, LAPLACIAN, MAGNITUDE, DIFFERENCE, TENSOR, HESSIAN, TENSOR_MARGIN = range(8)
# rows of a scale's kernels (taps 0..2 each): orders 0, 1, 2 of the filter; the narrow Gaussian of the difference;
# orders 0 and 1 for the structure tensor's slopes; the smoothing of their products
NARROW, INNER, OUTER = 3, 4, 6
N_KERNELS = 7


@compiled
def load(
    volume: Any,
    z0: Integer,
    y0: Integer,
    x0: Integer,
    n_z: Integer,
    n_y: Integer,
    n_x: Integer,
    out: Any,
    at: Integer,
) -> None:
    """Copy a box of a volume into a flat buffer, from index `at` on."""
    first = uint64(at)
    for z in range(n_z):
        for y in range(n_y):
            row = volume[z0 + z, y0 + y]
            for x in range(uint64(n_x)):
                out[first + x] = row[uint64(x0) + x]
            first += uint64(n_x)


@compiled
def derivatives(work: Any, taps: Any, plan: Any, shape: Any) -> None:
    """Derivatives at the filter's sigma: Hessian into work[7:13], gradient into work[13:16], smoothed into work[2].

    Reads the pre-smoothed tile in work[0]; uses work[1:7]. Only what the plan needs is computed.
    """
    m, zero, one = np.int64(MARGIN), np.int64(0), np.int64(1)
    n_z, n_y, row = shape[0], shape[1], shape[2] + 2 * m
    plane = (n_y + 2 * m) * row
    a, b = m, m + n_z
    rows, stop_rows, cells, stop_cells = m * row, (m + n_y) * row, m * row + m, (m + n_y) * row - m
    p, z_0, z_1, z_2, y_0, y_1, y_2 = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    zz, zy, zx, yy, yx, xx = work[7], work[8], work[9], work[10], work[11], work[12]
    gz, gy, gx = work[13], work[14], work[15]
    order0, order1 = taps[0], taps[1]
    second, mixed = plan[LAPLACIAN] >= 0 or plan[HESSIAN] >= 0, plan[HESSIAN] >= 0
    first = plan[MAGNITUDE] >= 0
    if plan[IN_2D]:
        z_0 = p
    elif second:
        smooth_slope_and_curve(z_0, z_1, z_2, p, taps, a, b, plane, zero, plane, plane)
    elif first:
        smooth_and_slope(z_0, z_1, p, order0, order1, a, b, plane, zero, plane, plane)
    else:
        smooth(z_0, p, order0, a, b, plane, zero, plane, plane)
    if not plan[IN_2D]:
        if second:
            smooth(y_0, z_2, order0, a, b, plane, rows, stop_rows, row)
            smooth(zz, y_0, order0, a, b, plane, cells, stop_cells, one)
        if mixed:
            smooth_and_slope(y_0, y_1, z_1, order0, order1, a, b, plane, rows, stop_rows, row)
            smooth_and_slope(gz, zx, y_0, order0, order1, a, b, plane, cells, stop_cells, one)
            smooth(zy, y_1, order0, a, b, plane, cells, stop_cells, one)
        elif first:
            smooth(y_0, z_1, order0, a, b, plane, rows, stop_rows, row)
            smooth(gz, y_0, order0, a, b, plane, cells, stop_cells, one)
    smoothed = work[2]
    if second:
        smooth_slope_and_curve(y_0, y_1, y_2, z_0, taps, a, b, plane, rows, stop_rows, row)
        smooth_slope_and_curve(smoothed, gx, xx, y_0, taps, a, b, plane, cells, stop_cells, one)
        smooth_and_slope(gy, yx, y_1, order0, order1, a, b, plane, cells, stop_cells, one)
        smooth(yy, y_2, order0, a, b, plane, cells, stop_cells, one)
    elif first:
        smooth_and_slope(y_0, y_1, z_0, order0, order1, a, b, plane, rows, stop_rows, row)
        smooth_and_slope(smoothed, gx, y_0, order0, order1, a, b, plane, cells, stop_cells, one)
        smooth(gy, y_1, order0, a, b, plane, cells, stop_cells, one)
    else:
        smooth(y_0, z_0, order0, a, b, plane, rows, stop_rows, row)
        smooth(smoothed, y_0, order0, a, b, plane, cells, stop_cells, one)


@compiled
def _copy_layer(buffer: Any, axis: Integer, step: Integer, to: Integer, source: Integer, shape: Any) -> None:
    """Copy one layer of the tile with its margin, perpendicular to an axis, to another place along it."""
    n_y, n_x = shape[1] + 2 * MARGIN, shape[2] + 2 * MARGIN
    for z in range(1 if axis == 0 else shape[0] + 2 * MARGIN):
        for y in range(1 if axis == 1 else n_y):
            for x in range(1 if axis == 2 else n_x):
                i = (z * n_y + y) * n_x + x
                buffer[i + to * step] = buffer[i + source * step]


@compiled
def _reflect(buffer: Any, m: Integer, m_z: Integer, shape: Any, ends: Any) -> None:
    """Fill what of the margin lies outside the volume from the mirrored place, `m` deep, along z `m_z`.

    `ends` = (first, last + 1) of the volume along z, y and x, counted from the tile's first voxel.
    """
    n_y, n_x = shape[1] + 2 * MARGIN, shape[2] + 2 * MARGIN
    for axis in range(3):
        step = (n_y * n_x, n_x, 1)[axis]
        deep = m_z if axis == 0 else m
        first, last = ends[axis, 0], ends[axis, 1] - 1
        for i in range(-deep, first):
            _copy_layer(buffer, axis, step, MARGIN + i, MARGIN + 2 * first - i, shape)
        for i in range(last + 1, shape[axis] + deep):
            _copy_layer(buffer, axis, step, MARGIN + i, MARGIN + 2 * last - i, shape)


@compiled
def structure_tensor(work: Any, taps: Any, plan: Any, shape: Any, ends: Any) -> None:
    """Smoothed products of the slopes into work[7:13]; reads the pre-smoothed tile in work[0], uses work[1:7]."""
    m, zero, one = np.int64(MARGIN), np.int64(0), np.int64(1)
    n_z, n_y, row = shape[0], shape[1], shape[2] + 2 * m
    reach = plan[TENSOR_MARGIN]
    plane = (n_y + 2 * m) * row
    in_2d = plan[IN_2D]
    a, b = (m, m + n_z) if in_2d else (m - reach, m + n_z + reach)
    wide, stop_wide = (m - reach) * row, (m + n_y + reach) * row
    rows, stop_rows, cells, stop_cells = m * row, (m + n_y) * row, m * row + m, (m + n_y) * row - m
    even, odd, outer = taps[INNER], taps[INNER + 1], taps[OUTER]
    p, z_0, z_1, y_0, y_1, y_2 = work[0], work[1], work[2], work[3], work[4], work[5]
    gz, gy, gx = work[6], work[1], work[2]
    if in_2d:
        z_0 = p
    else:
        smooth_and_slope(z_0, z_1, p, even, odd, a, b, plane, zero, plane, plane)
        smooth(y_2, z_1, even, a, b, plane, wide, stop_wide, row)
        smooth(gz, y_2, even, a, b, plane, wide + 1, stop_wide - 1, one)
    smooth_and_slope(y_0, y_1, z_0, even, odd, a, b, plane, wide, stop_wide, row)
    smooth(gy, y_1, even, a, b, plane, wide + 1, stop_wide - 1, one)
    smooth_and_slope(y_1, gx, y_0, even, odd, a, b, plane, wide + 1, stop_wide - 1, one)
    at_border = False
    for axis in range(1 if in_2d else 0, 3):
        at_border |= ends[axis, 0] > -reach or ends[axis, 1] < shape[axis] + reach
    for k in range(3 if in_2d else 0, 6):
        left, right = (gz if k < 3 else gy if k < 5 else gx), (gz if k == 0 else gy if k in (1, 3) else gx)
        product(y_0, left, right, a, b, plane, wide, stop_wide)
        if at_border:
            _reflect(y_0, reach, 0 if in_2d else reach, shape, ends)
        if in_2d:
            smooth(y_2, y_0, outer, m, m + n_z, plane, rows, stop_rows, row)
        else:
            smooth(y_1, y_0, outer, m, m + n_z, plane, wide, stop_wide, plane)
            smooth(y_2, y_1, outer, m, m + n_z, plane, rows, stop_rows, row)
        smooth(work[7 + k], y_2, outer, m, m + n_z, plane, cells, stop_cells, one)


@compiled
def scale_features(work: Any, taps: Any, plan: Any, channel: Integer, shape: Any, ends: Any, features: Any) -> None:
    """All features of one scale and raw channel, from the pre-smoothed tile in work[0].

    Args:
        work: float32 (N_BUFFERS, cells).
        taps: float32 (N_KERNELS, 3), kernels of the scale.
        plan: int64 (8,), see the constants above.
        channel: raw channel.
        shape: of the tile without its margin.
        ends: int64 (3, 2), the volume's first voxel and end relative to the tile.
        features: float32 (features, cells); the rows of this scale and channel are written.
    """
    m, zero, one = np.int64(MARGIN), np.int64(0), np.int64(1)
    n_z, n_y, row = shape[0], shape[1], shape[2] + 2 * m
    plane = (n_y + 2 * m) * row
    lo, hi = m * row + m, (m + n_y) * row - m
    in_2d = plan[IN_2D] != 0
    n_axes = 2 if in_2d else 3
    derivatives(work, taps, plan, shape)
    smoothed = work[2]
    if plan[GAUSSIAN] >= 0:
        out = features[plan[GAUSSIAN] + channel]
        for z in range(m, m + n_z):
            for i in range(uint64(z * plane + lo), uint64(z * plane + hi)):
                out[i] = smoothed[i]
    if plan[LAPLACIAN] >= 0:
        trace(features[plan[LAPLACIAN] + channel], work[7:13], in_2d, m, m + n_z, plane, lo, hi)
    if plan[MAGNITUDE] >= 0:
        magnitude(features[plan[MAGNITUDE] + channel], work[13:16], in_2d, m, m + n_z, plane, lo, hi)
    if plan[HESSIAN] >= 0:
        first = plan[HESSIAN] + channel * n_axes
        eigenvalues(features[first : first + n_axes], work[7:13], in_2d, m, m + n_z, plane, lo, hi)
    if plan[DIFFERENCE] >= 0:
        source, narrow = work[0], taps[NARROW]
        if not in_2d:
            smooth(work[1], source, narrow, m, m + n_z, plane, zero, plane, plane)
            source = work[1]
        smooth(work[3], source, narrow, m, m + n_z, plane, m * row, (m + n_y) * row, row)
        smooth(work[4], work[3], narrow, m, m + n_z, plane, lo, hi, one)
        difference(features[plan[DIFFERENCE] + channel], smoothed, work[4], m, m + n_z, plane, lo, hi)
    if plan[TENSOR] >= 0:
        structure_tensor(work, taps, plan, shape, ends)
        first = plan[TENSOR] + channel * n_axes
        eigenvalues(features[first : first + n_axes], work[7:13], in_2d, m, m + n_z, plane, lo, hi)
