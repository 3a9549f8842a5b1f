"""Connected components of one block, and the labels on its faces, by which they are joined across blocks."""

from __future__ import annotations

import math
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


def group_numbers(count: int, pairs: NDArray[np.int64]) -> NDArray[Any]:
    """Numbers 0, 1, ... for what belongs together, over any number of pairs.

    Args:
        count: of things, numbered from 0.
        pairs: int64 (pairs, 2), things that belong together.

    Returns:
        int32 (count,): the group of each; the groups' order means nothing.
    """
    from scipy.sparse import coo_array, csgraph  # slow to load, and needed once a run

    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    groups: NDArray[Any] = csgraph.connected_components(links, directed=False)[1]
    return groups


def pack_faces(faces: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """All faces in one flat array: opening many small arrays costs more than reading them."""
    return np.concatenate([faces[name].ravel() for name in sorted(faces)])


def unpack_faces(faces: NDArray[Any], shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Give the faces of a packed block of this shape."""
    found, begin = {}, 0
    for side in ("lower", "upper"):  # in the order of their sorted names
        for axis in range(len(shape)):
            face = shape[:axis] + shape[axis + 1 :]
            size = math.prod(face)
            found[f"{side}{axis}"] = faces[begin : begin + size].reshape(face)
            begin += size
    return found


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
    last, first, all_of_it = -1, 0, slice(None)
    here = block[f"upper{axis}"][tuple(all_of_it if o == 0 else last if o > 0 else first for o in others)]
    there = neighbour[f"lower{axis}"][tuple(all_of_it if o == 0 else first if o > 0 else last for o in others)]
    spare = reach - sum(o != 0 for o in offset)
    pairs: NDArray[np.int64] = _touching(_as_plane(here), _as_plane(there), spare)
    if len(pairs) < 2:  # so it is at most edges and corners, which are most of all borders
        return pairs
    width = int(there.max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(pairs[:, 0] * width + pairs[:, 1]), width), axis=-1)


def _as_plane(face: NDArray[Any]) -> NDArray[np.uint32]:
    """A face, an edge or a corner as two axes."""
    return np.ascontiguousarray(face, np.uint32).reshape((1,) * (2 - face.ndim) + face.shape)


@compiled
def _touching(here: Any, there: Any, spare: int) -> Any:
    """Pairs of labels of voxels that lie against each other, ``spare`` axes of the plane being free for a step.

    Runs of the same pair, which neighbouring voxels give, are left out; a few repetitions stay.
    """
    rows, columns = here.shape
    found = np.empty((256, 2), np.int64)
    last = np.zeros((3, 3, 2), np.int64)
    count = 0
    for i in range(rows):
        for j in range(columns):
            a = np.int64(here[i, j])
            if a == 0:
                continue
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    k, m = i + di, j + dj
                    if (di != 0) + (dj != 0) > spare or k < 0 or m < 0 or k >= rows or m >= columns:
                        continue
                    b = np.int64(there[k, m])
                    if b == 0 or (last[di + 1, dj + 1, 0] == a and last[di + 1, dj + 1, 1] == b):
                        continue
                    last[di + 1, dj + 1, 0], last[di + 1, dj + 1, 1] = a, b
                    if count == found.shape[0]:
                        larger = np.empty((2 * count, 2), np.int64)
                        larger[:count] = found
                        found = larger
                    found[count, 0], found[count, 1] = a, b
                    count += 1
    return found[:count]
