"""Sums of products of voxels' coordinates, from which the axes and radii of objects follow."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from tasks.objects.exact_sums import LIMB_BITS

ROOM = 1 << 62
"""What sums of whole numbers may reach before they need Python's integers."""


def coordinate_products(
    labels: NDArray[np.uint32], shape: tuple[int, ...], origin: tuple[int, ...], axes: int, count: int
) -> NDArray[np.int64]:
    """Add up the products of coordinates in the volume.

    Args:
        labels: of a block, 0 for none, then 1 to ``count``, flat.
        shape: of the block, (z, y, x); at most 2**30 voxels, 2**16 along an axis.
        origin: its first voxel in the volume.
        axes: how many of the axes count, from the last.
        count: of objects.

    Returns:
        int64 (count, pairs * 2): sums of the products of axes (z, z), (z, y), (z, x), (y, y), ..., in two limbs.
    """
    sums = np.zeros((count, 10), np.int64)
    _add(labels, shape[1], shape[2], sums)
    voxels, firsts = sums[:, 0], sums[:, 1:4]
    products = dict(zip(combinations_with_replacement(range(3), 2), sums[:, 4:].T, strict=True))
    farthest = max(o + n for o, n in zip(origin, shape, strict=True))
    if int(voxels.max(initial=0)) * farthest**2 >= ROOM:
        voxels, firsts = voxels.astype(object), firsts.astype(object)
        products = {pair: values.astype(object) for pair, values in products.items()}
    found = []
    for i, j in combinations_with_replacement(range(3 - axes, 3), 2):
        moved = products[i, j] + origin[i] * firsts[:, j] + origin[j] * firsts[:, i] + origin[i] * origin[j] * voxels
        found += [moved >> LIMB_BITS, moved & ((1 << LIMB_BITS) - 1)]
    return np.stack(found, axis=1).astype(np.int64)


@compiled
def _add(labels: Any, height: Any, width: Any, sums: Any) -> None:
    """Number of voxels, sums of their coordinates in the block, and of the products of these."""
    z = y = x = 0
    for i in range(labels.size):
        if labels[i]:
            row = sums[np.int64(labels[i]) - 1]
            row[0] += 1
            row[1] += z
            row[2] += y
            row[3] += x
            row[4] += z * z
            row[5] += z * y
            row[6] += z * x
            row[7] += y * y
            row[8] += y * x
            row[9] += x * x
        x += 1
        if x == width:
            x = 0
            y += 1
            if y == height:
                y = 0
                z += 1
