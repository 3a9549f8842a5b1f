"""Connected components of one block, and what has to be known of them to join them across blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

CONNECTIVITIES = {2: (4, 8), 3: (6, 18, 26)}
"""Numbers of neighbours that may be chosen, by number of spatial axes."""


def neighbour_axes(connectivity: int) -> int:
    """Along how many axes at once two neighbours may differ: 1 over faces, 2 over edges too, 3 over corners too."""
    return {4: 1, 6: 1, 8: 2, 18: 2, 26: 3}[connectivity]


def label_components(mask: NDArray[Any], foreground: int, connectivity: int) -> NDArray[Any]:
    """Label the connected components of a block.

    Args:
        mask: (z, y, x) or (y, x), zero and non-zero.
        foreground: 1 labels what is not zero, 0 labels the zeros.
        connectivity: 4 or 8 in 2D; 6, 18 or 26 in 3D.

    Returns:
        Unsigned labels of the mask's shape; 0 is background, components count from 1 in raster order (last axis
        fastest) of their first voxels. The order is what makes a second labelling of the same block agree with the
        first on every machine.
    """
    objects = (mask != 0) if foreground else (mask == 0)
    labels: NDArray[Any] = cc3d.connected_components(np.ascontiguousarray(objects), connectivity=connectivity)
    first = first_voxels(labels)
    if len(first) != int(labels.max(initial=0)):
        raise RuntimeError("cc3d did not number components in raster order; this version of it cannot be used")
    return labels


def first_voxels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Flat index of the first voxel of each of the labels 1, 2, ..., given that they appear in this order.

    Returns:
        int64 (components,), ascending. Shorter than the largest label where the labels do not appear in order.
    """
    flat = labels.ravel()
    highest = np.maximum.accumulate(flat)
    before = np.concatenate(([0], highest[:-1]))
    return np.flatnonzero(highest == before + 1).astype(np.int64) if flat.size else np.empty(0, np.int64)


def measure_components(
    labels: NDArray[Any], origin: tuple[int, ...], volume_shape: tuple[int, ...]
) -> dict[str, NDArray[np.int64]]:
    """Measure the components of a block in coordinates of the volume.

    Args:
        labels: as ``label_components`` gives them; n components.
        origin: the block's first voxel in the volume.
        volume_shape: shape of the volume.

    Returns:
        int64 arrays: ``voxels`` (n,), ``first`` (n,) raster index of the first voxel in the volume, ``start`` and
        ``stop`` (n, axes) bounding box, ``sums`` (n, axes) sums of the voxels' coordinates, which unlike centroids
        can be added up exactly over blocks.
    """
    count = int(labels.max(initial=0))
    axes = labels.ndim
    if count == 0:
        empty = np.empty((0, axes), np.int64)
        return {"voxels": empty[:, 0], "first": empty[:, 0], "start": empty, "stop": empty, "sums": empty}
    statistics = cc3d.statistics(labels, no_slice_conversion=True)
    voxels = statistics["voxel_counts"][1:].astype(np.int64)
    boxes = statistics["bounding_boxes"][1:].astype(np.int64)
    local_sums = np.rint(statistics["centroids"][1:] * voxels[:, None]).astype(np.int64)
    first = np.unravel_index(first_voxels(labels), labels.shape)
    shift = np.asarray(origin, np.int64)
    return {
        "voxels": voxels,
        "first": np.ravel_multi_index(tuple(f + o for f, o in zip(first, origin, strict=True)), volume_shape),
        "start": boxes[:, 0::2] + shift,
        "stop": boxes[:, 1::2] + 1 + shift,
        "sums": local_sums + shift * voxels[:, None],
    }


def face_labels(labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Labels on the faces of a block.

    Returns:
        For each axis, ``lower<axis>`` and ``upper<axis>``: the labels with the first and the last index along it.
    """
    faces = {}
    for axis in range(labels.ndim):
        faces[f"lower{axis}"] = labels.take(0, axis)
        faces[f"upper{axis}"] = labels.take(-1, axis)
    return faces


def touching_pairs(
    block: Mapping[str, NDArray[Any]],
    neighbour: Mapping[str, NDArray[Any]],
    offset: tuple[int, ...],
    reach: int,
) -> NDArray[np.int64]:
    """Pairs of labels that touch across the border of two blocks.

    ::

        +-------+-------+     offset (0, 1): the upper face of the block along axis 1 lies against the lower face of
        | block | (0,1) |     its neighbour; the faces are compared in place and, for wider neighbourhoods, shifted by
        +-------+-------+     one voxel along their own axes.
        | (1,0) | (1,1) |     offset (1, 1): only one edge of each face is left (in 3D; a corner in 2D).
        +-------+-------+

    Args:
        block: faces of the block, as ``face_labels`` gives them.
        neighbour: faces of the neighbour.
        offset: from block to neighbour, in blocks, each -1, 0 or 1, the first that is not 0 being 1.
        reach: along how many axes at once neighbouring voxels may differ, see ``neighbour_axes``.

    Returns:
        int64 (pairs, 2), each pair once: label in the block, label in the neighbour.
    """
    axis = offset.index(1)
    others = offset[:axis] + offset[axis + 1 :]
    here = block[f"upper{axis}"][tuple({0: slice(None), 1: -1, -1: 0}[o] for o in others)]
    there = neighbour[f"lower{axis}"][tuple({0: slice(None), 1: 0, -1: -1}[o] for o in others)]
    spare = reach - sum(o != 0 for o in offset)
    found = [
        _pairs(here[a], there[b])
        for shift in np.ndindex((3,) * here.ndim)
        if sum(s != 1 for s in shift) <= spare
        for a, b in [_shifted(shift)]
    ]
    return np.unique(np.concatenate(found), axis=0)


def _shifted(shift: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices that lay an array over another one moved by ``shift - 1`` voxels."""
    all_but_first, everything, all_but_last = slice(1, None), slice(None), slice(None, -1)
    choices = ((all_but_first, all_but_last), (everything, everything), (all_but_last, all_but_first))
    pairs = [choices[s] for s in shift]
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)


def _pairs(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
    both = (a != 0) & (b != 0)
    pairs = np.stack([a[both], b[both]], axis=-1).astype(np.int64).reshape(-1, 2)
    # Neighbouring voxels repeat their pair; dropping runs here leaves little to sort.
    changes = np.any(pairs[1:] != pairs[:-1], axis=1)
    return pairs[np.concatenate(([True], changes))] if len(pairs) else pairs
