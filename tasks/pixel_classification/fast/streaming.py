"""Block of pre-smoothed volumes -> probabilities, tile by tile: no feature ever exists for more than one tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import uint64

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.tile import MARGIN, N_BUFFERS, load, scale_features
from tasks.pixel_classification.fast.traversal import add_probabilities, count_votes, reach
from tasks.pixel_classification.fast.vectors import LANES, copy_8, is_nan

MOST_VOTES = 255  # that a count can hold
ROW = 8  # a group of 64 voxels is 8 rows along x of 8 voxels each


@compiled
def gather(features: Any, shape: Any, group: Any, group_y: Integer, values: Any) -> Any:
    """Copy the features of a group of voxels together; returns the bits of its voxels that lie in the tile.

    Args:
        features: float32 (features, cells) of the tile with its margin.
        shape: of the tile.
        group: first voxel (z, y, x) of the group in the tile.
        group_y: rows of the group in one z slice; 8 rows in all.
        values: flat float32, receives feature k at 64 k.
    """
    row = shape[2] + 2 * MARGIN
    plane = (shape[1] + 2 * MARGIN) * row
    width = min(shape[2] - group[2], ROW)
    cells = features.shape[1]
    flat = features.reshape(-1)
    bits = uint64(0)
    for r in range(ROW):
        z, y = group[0] + r // group_y, group[1] + r % group_y
        if z < shape[0] and y < shape[1]:
            bits |= uint64((1 << width) - 1) << uint64(ROW * r)
            start = (z + MARGIN) * plane + (y + MARGIN) * row + group[2] + MARGIN
            for k in range(features.shape[0]):
                copy_8(values, k * LANES + r * ROW, flat, k * cells + start)
    for k in range(features.shape[0]):
        bits &= ~is_nan(values, k * LANES)
    return bits


@compiled
def scatter(values: Any, classes: Any, shape: Any, group: Any, group_y: Integer, corner: Any, out: Any) -> None:
    """Write the probabilities (columns, 64) of a group to their place in the block (classes, z, y, x)."""
    width = min(shape[2] - group[2], ROW)
    x = corner[2] + group[2]
    for r in range(ROW):
        z, y = group[0] + r // group_y, group[1] + r % group_y
        if z < shape[0] and y < shape[1]:
            for column in range(classes.size):
                target = out[classes[column], corner[0] + z, corner[1] + y]
                for i in range(width):
                    target[x + i] = values[column, ROW * r + i]


@compiled
def vote(
    values: Any, bits: Integer, forest: Any, ends: Any, outcomes: Any, pure: bool, scratch: Any, out: Any
) -> None:
    """Probabilities (columns, 64) of a group; 0 for voxels without their bit.

    The operations and their order are those of `tasks.pixel_classification.forest.evaluate`. Counts of votes are
    whole numbers, so for trees with pure leaves their order does not matter.
    """
    nodes, thresholds, roots = forest
    queue, members, counts, sums, totals = scratch
    out[:] = 0
    first = 0
    for end in ends:
        sums[:] = 0
        totals[:] = end - first if pure else 0
        step = MOST_VOTES if pure else 1
        for tree in range(first, end, step):
            found = reach(values, bits, nodes, thresholds, roots[tree : min(tree + step, end)], queue, members)
            if pure:
                count_votes(counts, queue, members, found)
                for column in range(out.shape[0]):
                    for i in range(LANES):
                        sums[column, i] += np.float32(counts[column * LANES + i])
            else:
                add_probabilities(sums, totals, outcomes, queue, members, found)
        for column in range(out.shape[0]):
            for i in range(LANES):
                if (bits >> uint64(i)) & uint64(1):
                    out[column, i] += sums[column, i] / np.float32(totals[i]) * np.float32(end - first)
        first = end
    for column in range(out.shape[0]):
        for i in range(LANES):
            out[column, i] /= np.float32(first)


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
    out: Any,
) -> None:
    """Features of a tile at a corner of the block; `limits` as in `scale_features`, otherwise see `predict_tiles`."""
    box_y, box_x = shape[1] + 2 * MARGIN, shape[2] + 2 * MARGIN
    z, y, x = corner
    at = (MARGIN - margin_z) * box_y * box_x
    for scale in range(plans.shape[0]):
        for channel in range(n_channels):
            volume = smoothed[scale * n_channels + channel]
            load(volume, z, y, x, shape[0] + 2 * margin_z, box_y, box_x, work[0], at)
            scale_features(work, taps[scale], plans[scale], channel, shape, limits, out)


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
    ends: Any,
    outcomes: Any,
    pure: bool,
    classes: Any,
    out: Any,
) -> None:
    """Fill a block with probabilities.

    Args:
        smoothed: float32 (scales * channels, z, y, x) with a margin of MARGIN along y and x, and along z unless all
            scales are in 2D.
        taps: float32 (scales, N_KERNELS, 3).
        plans: int64 (scales, 8), see `tile`.
        n_channels: of the raw image.
        start: int64 (3,), the block's first voxel in the volume.
        size: int64 (3,), the volume's shape.
        tile: int64 (3,), shape of a tile.
        n_features: length of the feature vector.
        forest: (nodes, thresholds, roots) of a PackedForest.
        ends: int64 (forests,), end of each stored forest in the list of trees.
        outcomes: float32 (outcomes, columns).
        pure: see PackedForest.
        classes: int64 (columns,), class of each column.
        out: float32 (classes, z, y, x); classes without a column are left alone.
    """
    margin_z = (smoothed.shape[1] - out.shape[1]) // 2
    cells = (tile[0] + 2 * MARGIN) * (tile[1] + 2 * MARGIN) * (tile[2] + 2 * MARGIN) + LANES
    work = np.zeros((N_BUFFERS, cells), np.float32)
    features = np.zeros((n_features, cells), np.float32)
    values = np.zeros(n_features * LANES, np.float32)
    result = np.zeros((classes.size, LANES), np.float32)
    queue_size = forest[0].size // 2 + forest[2].size + 2
    scratch = (
        np.zeros(queue_size, np.int32),
        np.zeros(queue_size, np.uint64),
        np.zeros(outcomes.shape[0] * LANES, np.uint8),
        np.zeros((classes.size, LANES), np.float32),
        np.zeros(LANES, np.float64),
    )
    group_y = ROW if out.shape[1] == 1 else ROW // 2
    corner, shape, part, group = np.zeros((4, 3), np.int64)
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
                tile_features(smoothed, taps, plans, n_channels, corner, part, limits, margin_z, work, features)
                for group[0] in range(0, part[0], ROW // group_y):
                    for group[1] in range(0, part[1], group_y):
                        for group[2] in range(0, part[2], ROW):
                            bits = gather(features, part, group, group_y, values)
                            vote(values, bits, forest, ends, outcomes, pure, scratch, result)
                            scatter(result, classes, part, group, group_y, corner, out)
                if uniform:
                    spread(out, corner, shape)
