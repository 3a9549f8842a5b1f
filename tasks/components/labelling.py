"""Connected components of one block, and the labels on its faces, by which they are joined across blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled

CONNECTIVITIES = {2: (4, 8), 3: (6, 18, 26)}
"""Numbers of neighbours that may be chosen, by number of spatial axes."""


def neighbour_axes(connectivity: int) -> int:
    """Along how many axes at once two neighbours may differ: 1 over faces, 2 over edges too, 3 over corners too."""
    return {4: 1, 6: 1, 8: 2, 18: 2, 26: 3}[connectivity]


def label_components(
    mask: NDArray[Any], foreground: int, connectivity: int, inside: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Label the connected components of a block.

    Args:
        mask: (z, y, x) or (y, x), zero and non-zero.
        foreground: 1 labels what is not zero, 0 labels the zeros.
        connectivity: 4 or 8 in 2D; 6, 18 or 26 in 3D.
        inside: voxels that may belong to an object, of the same shape; None for all.

    Returns:
        uint32 labels of the mask's shape; 0 is background, components count from 1 in raster order (last axis
        fastest) of their first voxels. The order is what makes a second labelling of the same block agree with the
        first on every machine.
    """
    objects = (mask != 0) if foreground else (mask == 0)
    if inside is not None:
        objects &= inside
    # As uint8: with bool, cc3d 4.1 mislabels some images at connectivity 8 and raises for some tiny blocks at 26.
    labels: NDArray[Any] = cc3d.connected_components(
        np.ascontiguousarray(objects).view(np.uint8), connectivity=connectivity, out_dtype=np.uint32
    )
    if len(first_voxels(labels)) != int(labels.max(initial=0)):
        raise RuntimeError("cc3d did not number components in raster order; this version of it cannot be used")
    return labels


def first_voxels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Flat index of the first voxel of each of the labels 1, 2, ..., given that they appear in this order.

    Returns:
        int64 (components,), ascending. Shorter than the largest label where the labels do not appear in order.
    """
    found = np.empty(int(labels.max(initial=0)), np.int64)
    return found[: _first_voxels(labels.ravel(), found)]


@compiled
def _first_voxels(labels: Any, found: Any) -> int:
    """Note where each label appears that is one more than all before; how many there are."""
    count = 0
    for i in range(labels.size):
        if labels[i] == count + 1:
            found[count] = i
            count += 1
    return count


def load_labelling() -> None:
    """Read what is compiled for ``label_components``, so that no block pays for it."""
    first_voxels(np.zeros(1, np.uint32))


def pack_faces(faces: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """All faces in one flat array: the lower ones, then the upper ones, in the order of their axes.

    Opening many small arrays costs more than reading them.
    """
    return np.concatenate([faces[name].ravel() for name in sorted(faces)])


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
