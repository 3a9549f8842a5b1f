"""Features of one tile of voxels, from the pre-smoothed volumes, plane by plane in buffers that stay in the cache.

Filters read a margin of `MARGIN` voxels on every side. Along z they read the pre-smoothed volume itself; what they
give is a plane with its margin along y and x, from which the passes along y and x make dense planes (see `passes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.correlations import FLOATS, smooth_products_1, smooth_products_2
from tasks.pixel_classification.fast.passes import (
    copy,
    difference,
    eigenvalues,
    magnitude,
    product,
    slope_inner,
    smooth,
    smooth_and_slope,
    smooth_and_slope_inner,
    smooth_inner,
    smooth_slope_and_curve,
    steps,
    trace,
)

MARGIN = 3
ROOM = 2 * FLOATS  # behind a buffer's last voxel, for what is computed or read with it
N_BUFFERS = 17
# columns of a scale's plan: first feature column of each filter for raw channel 0, or -1; then other numbers
IN_2D, GAUSSIAN, LAPLACIAN, MAGNITUDE, DIFFERENCE, TENSOR, HESSIAN, TENSOR_MARGIN = range(8)
# rows of a scale's kernels (taps 0..2 each): orders 0, 1, 2 of the filter; the narrow Gaussian of the difference;
# orders 0 and 1 for the structure tensor's slopes; the smoothing of their products
NARROW, INNER, OUTER = 3, 4, 6
N_KERNELS = 7
# rows of the buffers: after the pass along z, along y, dense
ALONG_Z, ALONG_Y, SMOOTHED, SECOND, FIRST, END = 0, 3, 6, 7, 13, 16


@compiled
def _derivatives(work: Any, volume: Any, start: Integer, strides: Any, taps: Any, plan: Any, shape: Any) -> None:
    """Derivatives of a plane at the filter's sigma, dense: SECOND zz, zy, zx, yy, yx, xx; FIRST z, y, x; SMOOTHED.

    Only what the plan needs is computed. For the arguments see `scale_features`; `start` is the plane's.
    """
    m, zero, one = np.int64(MARGIN), np.int64(0), np.int64(1)
    n_y, n_x, row = shape[1], shape[2], shape[2] + 2 * m
    through = (zero, start, row, n_y + 2 * m, row, strides[1])
    down, across = (zero, m * row, n_y * row, one, zero, zero), (zero, m, n_x, n_y, n_x, row)
    z_0, z_1, z_2 = work[ALONG_Z], work[ALONG_Z + 1], work[ALONG_Z + 2]
    y_0, y_1, y_2 = work[ALONG_Y], work[ALONG_Y + 1], work[ALONG_Y + 2]
    zz, zy, zx, yy, yx, xx = work[7], work[8], work[9], work[10], work[11], work[12]
    gz, gy, gx, smoothed = work[13], work[14], work[15], work[SMOOTHED]
    order0, order1 = taps[0], taps[1]
    second, mixed = plan[LAPLACIAN] >= 0 or plan[HESSIAN] >= 0, plan[HESSIAN] >= 0
    first = plan[MAGNITUDE] >= 0
    if plan[IN_2D]:
        copy(z_0, volume, through)
    elif second:
        smooth_slope_and_curve(z_0, z_1, z_2, volume, through, strides[0], taps)
    elif first:
        smooth_and_slope(z_0, z_1, volume, through, strides[0], order0, order1)
    else:
        smooth(z_0, volume, through, strides[0], order0)
    if not plan[IN_2D]:
        if second:
            smooth(y_0, z_2, down, row, order0)
            smooth(zz, y_0, across, one, order0)
        if mixed:
            smooth_and_slope(y_0, y_1, z_1, down, row, order0, order1)
            smooth_and_slope(gz, zx, y_0, across, one, order0, order1)
            smooth(zy, y_1, across, one, order0)
        elif first:
            smooth(y_0, z_1, down, row, order0)
            smooth(gz, y_0, across, one, order0)
    if second:
        smooth_slope_and_curve(y_0, y_1, y_2, z_0, down, row, taps)
        smooth_slope_and_curve(smoothed, gx, xx, y_0, across, one, taps)
        smooth_and_slope(gy, yx, y_1, across, one, order0, order1)
        smooth(yy, y_2, across, one, order0)
    elif first:
        smooth_and_slope(y_0, y_1, z_0, down, row, order0, order1)
        smooth_and_slope(smoothed, gx, y_0, across, one, order0, order1)
        smooth(gy, y_1, across, one, order0)
    else:
        smooth(y_0, z_0, down, row, order0)
        smooth(smoothed, y_0, across, one, order0)


@compiled
def _narrow(work: Any, volume: Any, start: Integer, strides: Any, taps: Any, plan: Any, shape: Any) -> None:
    """The narrow Gaussian of a plane, dense, into SECOND; otherwise see `_derivatives`."""
    m, zero, one = np.int64(MARGIN), np.int64(0), np.int64(1)
    n_y, n_x, row = shape[1], shape[2], shape[2] + 2 * m
    through, even = (zero, start, row, n_y + 2 * m, row, strides[1]), taps[NARROW]
    if plan[IN_2D]:
        copy(work[ALONG_Z], volume, through)
    else:
        smooth(work[ALONG_Z], volume, through, strides[0], even)
    smooth(work[ALONG_Y], work[ALONG_Z], (zero, m * row, n_y * row, one, zero, zero), row, even)
    smooth(work[SECOND], work[ALONG_Y], (zero, m, n_x, n_y, n_x, row), one, even)


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
def _slopes(
    work: Any, slopes: Any, at: Integer, volume: Any, start: Integer, strides: Any, taps: Any, plan: Any, shape: Any
) -> None:
    """Slopes z, y, x of a plane with its margin, from index `at` of `slopes` on; otherwise see `_derivatives`."""
    m, zero, one = np.int64(MARGIN), np.int64(0), np.int64(1)
    row, reach = shape[2] + 2 * m, plan[TENSOR_MARGIN]
    wide, n = (m - reach) * row, (shape[1] + 2 * reach) * row
    even, odd = taps[INNER], taps[INNER + 1]
    through, down = (zero, start, row, shape[1] + 2 * m, row, strides[1]), (wide, wide, n, one, zero, zero)
    across = (at + wide, wide, n, one, zero, zero)
    z_0, z_1, y_0, y_1 = work[ALONG_Z], work[ALONG_Z + 1], work[ALONG_Y], work[ALONG_Y + 1]
    if plan[IN_2D]:
        copy(z_0, volume, through)
    else:
        smooth_and_slope_inner(z_0, z_1, volume, through, strides[0], even, odd)
        smooth_inner(y_0, z_1, down, row, even)
        smooth_inner(slopes[0], y_0, across, one, even)
    smooth_and_slope_inner(y_0, y_1, z_0, down, row, even, odd)
    smooth_inner(slopes[1], y_1, across, one, even)
    slope_inner(slopes[2], y_0, across, one, even, odd)


@compiled
def structure_tensor(
    work: Any,
    slopes: Any,
    volume: Any,
    start: Integer,
    strides: Any,
    taps: Any,
    plan: Any,
    shape: Any,
    ends: Any,
    out: Any,
) -> None:
    """Eigenvalues of the smoothed products of the slopes into `out`, 3 or in 2D 2 rows; see `scale_features`."""
    m, zero, one = np.int64(MARGIN), np.int64(0), np.int64(1)
    n_z, n_y, n_x, row = shape[0], shape[1], shape[2], shape[2] + 2 * m
    reach, in_2d, outer = plan[TENSOR_MARGIN], plan[IN_2D] != 0, taps[OUTER]
    plane, wide, n_wide = (n_y + 2 * m) * row, (m - reach) * row, (n_y + 2 * reach) * row
    deep = zero if in_2d else reach
    for z in range(-deep, n_z + deep):
        _slopes(work, slopes, (m + z) * plane, volume, start + z * strides[0], strides, taps, plan, shape)
    at_border = False
    for axis in range(1 if in_2d else 0, 3):
        at_border |= ends[axis, 0] > -reach or ends[axis, 1] < shape[axis] + reach
    if at_border:
        for k in range(1 if in_2d else 0, 3):
            _reflect(slopes[k], reach, deep, shape, ends)
    gz, gy, gx = slopes[0], slopes[1], slopes[2]
    zz, zy, zx, yy, yx, xx = work[0], work[1], work[2], work[3], work[4], work[5]
    near, far = steps(outer, plane)
    for z in range(n_z):
        first = (m + z) * plane + wide
        if in_2d:
            product(yy, wide, gy, gy, first, n_wide)
            product(yx, wide, gy, gx, first, n_wide)
            product(xx, wide, gx, gx, first, n_wide)
        elif outer[2] == 0:
            smooth_products_1(zz, zy, zx, yy, yx, xx, wide, gz, gy, gx, first, n_wide, near, far, outer)
        else:
            smooth_products_2(zz, zy, zx, yy, yx, xx, wide, gz, gy, gx, first, n_wide, near, far, outer)
        for k in range(3 if in_2d else 0, 6):
            smooth(work[SMOOTHED], work[k], (zero, m * row, n_y * row, one, zero, zero), row, outer)
            smooth(work[SECOND + k], work[SMOOTHED], (zero, m, n_x, n_y, n_x, row), one, outer)
        eigenvalues(out, z * n_y * n_x, work[SECOND:FIRST], in_2d, n_y * n_x)


@compiled
def scale_features(
    work: Any,
    slopes: Any,
    volume: Any,
    start: Integer,
    strides: Any,
    taps: Any,
    plan: Any,
    channel: Integer,
    shape: Any,
    ends: Any,
    features: Any,
) -> None:
    """All features of one scale and raw channel.

    Args:
        work: float32 (N_BUFFERS, a plane with its margin, and ROOM).
        slopes: float32 (3, the tile with its margin, and ROOM).
        volume: flat float32, pre-smoothed volumes, with ROOM behind them.
        start: index of the tile's first plane in it, with its margin along y and x.
        strides: int64 (2,), how far planes and rows of `volume` are apart.
        taps: float32 (N_KERNELS, 3), kernels of the scale.
        plan: int64 (8,), see the constants above.
        channel: raw channel.
        shape: of the tile without its margin.
        ends: int64 (3, 2), the volume's first voxel and end relative to the tile.
        features: float32 (features, voxels of the tile); the rows of this scale and channel are written.
    """
    in_2d, n = plan[IN_2D] != 0, shape[1] * shape[2]
    n_axes, plain = 2 if in_2d else 3, False
    for column in (GAUSSIAN, LAPLACIAN, MAGNITUDE, DIFFERENCE, HESSIAN):
        plain |= plan[column] >= 0
    for z in range(shape[0] if plain else 0):
        at, plane = z * n, start + z * strides[0]
        _derivatives(work, volume, plane, strides, taps, plan, shape)
        if plan[GAUSSIAN] >= 0:
            copy(features[plan[GAUSSIAN] + channel], work[SMOOTHED], (at, 0, n, 1, 0, 0))
        if plan[LAPLACIAN] >= 0:
            trace(features[plan[LAPLACIAN] + channel], at, work[SECOND:FIRST], in_2d, n)
        if plan[MAGNITUDE] >= 0:
            magnitude(features[plan[MAGNITUDE] + channel], at, work[FIRST:END], in_2d, n)
        if plan[HESSIAN] >= 0:
            first = plan[HESSIAN] + channel * n_axes
            eigenvalues(features[first : first + n_axes], at, work[SECOND:FIRST], in_2d, n)
        if plan[DIFFERENCE] >= 0:
            _narrow(work, volume, plane, strides, taps, plan, shape)
            difference(features[plan[DIFFERENCE] + channel], at, work[SMOOTHED], work[SECOND], n)
    if plan[TENSOR] >= 0:
        first = plan[TENSOR] + channel * n_axes
        out = features[first : first + n_axes]
        structure_tensor(work, slopes, volume, start, strides, taps, plan, shape, ends, out)
