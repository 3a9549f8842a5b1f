"""Block of pre-smoothed volumes -> probabilities, tile by tile: no feature ever exists for more than one tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint64

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.ranks import END_COLUMN, FEATURE, rank
from tasks.pixel_classification.fast.tile import MARGIN, N_BUFFERS, ROOM, scale_features
from tasks.pixel_classification.fast.vectors import GROUP, LANES, WORDS, copy_8, is_nan
from tasks.pixel_classification.fast.voting import TREES, vote

ROW = 8  # a group is rows of 8 voxels along x
ROWS = GROUP // ROW
GROUP_3D = (4, 4, 8)
GROUP_2D = (1, 16, 8)


@compiled
def place(shape: Any, group: Any, extent: Any, starts: Any, bits: Any) -> None:
    """Find the rows of a group of voxels in a tile.

    Args:
        shape: of the tile without its margin.
        group: first voxel (z, y, x) of the group in the tile.
        extent: shape of a group.
        starts: int64 (ROWS,), receives the tile's voxel where each row starts; that of the first for rows outside.
        bits: uint64 (WORDS,), receives the bits of those voxels that lie in the tile.
    """
    row, plane = shape[2], shape[1] * shape[2]
    first = group[0] * plane + group[1] * row + group[2]
    bits[:] = 0
    r = 0
    for z in range(extent[0]):
        for y in range(extent[1]):
            for x in range(0, extent[2], ROW):
                width = min(shape[2] - group[2] - x, ROW)
                starts[r] = first
                if group[0] + z < shape[0] and group[1] + y < shape[1] and width > 0:
                    starts[r] = first + z * plane + y * row + x
                    bits[ROW * r // LANES] |= uint64((1 << width) - 1) << uint64(ROW * r % LANES)
                r += 1


@compiled
def gather(features: Any, starts: Any, ranks: Any, found: Any, group: Any) -> None:
    """Bring the features of a group of voxels together.

    Args:
        features: float32 (features, voxels of the tile, and room for a row).
        starts: see `place`.
        ranks: arrays of `Ranks`. Without sources, feature k is written to values at GROUP * k, else its columns.
        found: see `rank`.
        group: values, flat float32, (GROUP * features,) or with sources (GROUP,); columns, see `rank`; bits, uint64
            (WORDS,), from which those of voxels with a feature that is not a number are taken away.
    """
    values, columns, bits = group
    n_sources, voxels = ranks[0].shape[0], features.shape[1]
    flat = features.reshape(-1)
    at, source = np.int64(0), np.int64(0)  # one type from the start: what they call is compiled for each
    for k in range(features.shape[0]):
        for r in range(ROWS):
            copy_8(values, at + r * ROW, flat, k * voxels + starts[r])
        for word in range(WORDS):
            bits[word] &= ~is_nan(values, at + word * LANES)
        while source < n_sources and ranks[0][source, FEATURE] == k:
            rank(values, at, source, ranks, found, columns)
            source += np.int64(1)
        at += np.int64(GROUP if n_sources == 0 else 0)


@compiled
def scatter(values: Any, classes: Any, shape: Any, group: Any, extent: Any, corner: Any, out: Any) -> None:
    """Write the probabilities (columns, GROUP) of a group to their place in the block (classes, z, y, x)."""
    given, to, r = values.reshape(-1), out.reshape(-1), np.int64(0)
    for z in range(group[0], group[0] + extent[0]):
        for y in range(group[1], group[1] + extent[1]):
            for x in range(group[2], group[2] + extent[2], ROW):
                width = min(shape[2] - x, ROW) if z < shape[0] and y < shape[1] else np.int64(0)
                for column in range(classes.size):
                    at = (classes[column] * out.shape[1] + corner[0] + z) * out.shape[2] + corner[1] + y
                    at, first = at * out.shape[3] + corner[2] + x, column * GROUP + ROW * r
                    if width == ROW:
                        copy_8(to, at, given, first)
                    else:
                        for i in range(width):
                            to[at + i] = given[first + i]
                r += 1


@compiled
def is_uniform(smoothed: Any, corner: Any, shape: Any, margin_z: Integer) -> bool:
    """Whether each pre-smoothed volume has one value all over a tile and its margin, so that its features have."""
    z0, y0, x0 = corner[0], corner[1], uint64(corner[2])
    for volume in range(smoothed.shape[0]):
        value = smoothed[volume, z0, y0, x0]
        for z in range(z0, z0 + shape[0] + 2 * margin_z):
            for y in range(y0, y0 + shape[1] + 2 * MARGIN):
                row = smoothed[volume, z, y]
                different = 0
                for x in range(uint64(shape[2] + 2 * MARGIN)):
                    different |= int(row[x0 + x] != value)
                if different:
                    return False
    return True


@compiled
def tile_features(
    smoothed: Any,
    taps: Any,
    plans: Any,
    n_channels: Integer,
    corner: Any,
    shape: Any,
    limits: Any,
    margin_z: Integer,
    work: Any,
    slopes: Any,
    out: Any,
) -> None:
    """Features of a tile at a corner of the block; `limits` as in `scale_features`, otherwise see `predict_tiles`."""
    flat, strides = smoothed.reshape(-1), np.zeros(2, np.int64)
    strides[0], strides[1] = smoothed.shape[2] * smoothed.shape[3], smoothed.shape[3]
    start = (corner[0] + margin_z) * strides[0] + corner[1] * strides[1] + corner[2]
    for scale in range(plans.shape[0]):
        for channel in range(n_channels):
            first = start + (scale * n_channels + channel) * smoothed.shape[1] * strides[0]
            scale_features(work, slopes, flat, first, strides, taps[scale], plans[scale], channel, shape, limits, out)


@compiled
def spread(out: Any, corner: Any, shape: Any) -> None:
    """Copy the probabilities of a tile's first voxel to all of it."""
    for c in range(out.shape[0]):
        value = out[c, corner[0], corner[1], corner[2]]
        for z in range(corner[0], corner[0] + shape[0]):
            for y in range(corner[1], corner[1] + shape[1]):
                for x in range(corner[2], corner[2] + shape[2]):
                    out[c, z, y, x] = value


@compiled
def group_buffers(n_features: Integer, n_columns: Integer, forest: Any, ranks: Any) -> Any:
    """Memory for one group at a time: found, group (values, columns, bits), scratch and result of `vote`, starts."""
    nodes, _, roots, _, outcomes, _, pure, _, by_ranks = forest
    queue_size = nodes.size // 2 + roots.size + 2
    room = 0 if pure else GROUP * TREES
    group = (
        np.zeros(GROUP * (1 if by_ranks else n_features), np.float32),
        np.zeros(GROUP * (ranks[0][-1, END_COLUMN] if by_ranks else 1), np.int8),
        np.zeros(WORDS, np.uint64),
    )
    scratch = (
        np.zeros(queue_size, np.int32),
        np.zeros(WORDS * queue_size, np.uint64),
        np.zeros(GROUP * n_columns, np.uint8),
        np.zeros(GROUP * outcomes.shape[1], np.float32),
        np.zeros(GROUP, np.float64),
        (np.zeros(room, np.int32), np.zeros(room, np.uint8), np.zeros(TREES, np.uint8)),
    )
    return (
        np.zeros(GROUP, np.int32),
        group,
        scratch,
        np.zeros((n_columns, GROUP), np.float32),
        np.zeros(ROWS, np.int64),
    )


@compiled
def predict_groups(
    features: Any,
    shape: Any,
    extent: Any,
    forest: Any,
    ranks: Any,
    classes: Any,
    buffers: Any,
    corner: Any,
    out: Any,
) -> None:
    """Probabilities of a tile at a corner of the block, from its features; see `predict_tiles`."""
    found, together, scratch, result, starts = buffers
    group = np.zeros(3, np.int64)
    for group[0] in range(0, shape[0], extent[0]):
        for group[1] in range(0, shape[1], extent[1]):
            for group[2] in range(0, shape[2], extent[2]):
                place(shape, group, extent, starts, together[2])
                gather(features, starts, ranks, found, together)
                vote(together, forest, scratch, result)
                scatter(result, classes, shape, group, extent, corner, out)


@compiled
def predict_tiles(
    smoothed: Any,
    taps: Any,
    plans: Any,
    n_channels: Integer,
    start: Any,
    size: Any,
    tile: Any,
    n_features: Integer,
    forest: Any,
    ranks: Any,
    classes: Any,
    out: Any,
) -> None:
    """Fill a block with probabilities.

    Args:
        smoothed: float32 (scales * channels, z, y, x) with a margin of MARGIN along y and x, and along z unless all
            scales are in 2D, and ROOM behind it.
        taps: float32 (scales, N_KERNELS, 3).
        plans: int64 (scales, 8), see `tile`.
        n_channels: of the raw image.
        start: int64 (3,), the block's first voxel in the volume.
        size: int64 (3,), the volume's shape.
        tile: int64 (3,), shape of a tile.
        n_features: length of the feature vector.
        forest: arrays of a PackedForest.
        ranks: arrays of `Ranks`.
        classes: int64 (columns,), class of each column.
        out: float32 (classes, z, y, x); classes without a column are left alone.
    """
    margin_z = (smoothed.shape[1] - out.shape[1]) // 2
    plane = (tile[1] + 2 * MARGIN) * (tile[2] + 2 * MARGIN)
    work = np.zeros((N_BUFFERS, plane + ROOM), np.float32)
    slopes = np.zeros((3, (tile[0] + 2 * MARGIN) * plane + ROOM), np.float32)
    features = np.zeros((n_features, tile[0] * tile[1] * tile[2] + LANES), np.float32)
    buffers = group_buffers(n_features, classes.size, forest, ranks)
    extent = np.array(GROUP_2D if out.shape[1] == 1 else GROUP_3D)
    corner, shape, part = np.zeros((3, 3), np.int64)
    limits = np.zeros((3, 2), np.int64)
    for corner[0] in range(0, out.shape[1], tile[0]):
        for corner[1] in range(0, out.shape[2], tile[1]):
            for corner[2] in range(0, out.shape[3], tile[2]):
                for axis in range(3):
                    shape[axis] = min(tile[axis], out.shape[1 + axis] - corner[axis])
                    limits[axis, 0] = -start[axis] - corner[axis]
                    limits[axis, 1] = limits[axis, 0] + size[axis]
                uniform = is_uniform(smoothed, corner, shape, margin_z)
                for axis in range(3):
                    part[axis] = 1 if uniform else shape[axis]
                tile_features(
                    smoothed, taps, plans, n_channels, corner, part, limits, margin_z, work, slopes, features
                )
                predict_groups(features, part, extent, forest, ranks, classes, buffers, corner, out)
                if uniform:
                    spread(out, corner, shape)
