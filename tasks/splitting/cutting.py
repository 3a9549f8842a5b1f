"""How one object is cut: a pure function of the object, so that nothing depends on where it lies in a block."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from tasks.components.labelling import neighbour_axes


def neighbourhood(ndim: int, connectivity: int) -> NDArray[np.bool_]:
    """The neighbours of a voxel and itself, 3 voxels along each axis."""
    reach = neighbour_axes(connectivity)
    found = np.zeros((3,) * ndim, bool)
    for offset in itertools.product((-1, 0, 1), repeat=ndim):
        found[tuple(o + 1 for o in offset)] = sum(o != 0 for o in offset) <= reach
    return found


def cut_by_distance(
    inside: NDArray[np.bool_], connectivity: int, h: float, walls: tuple[tuple[bool, bool], ...] | None = None
) -> NDArray[np.uint32]:
    """Cut an object where it is thin.

    Seeds are the maxima of the Euclidean distance to the outside that rise by ``h`` over the saddle to a higher one
    (extended h-maxima: P. Soille, Morphological Image Analysis, 2003, 6.3.5); from them the distance is flooded, the
    highest first (watershed).

    Args:
        inside: the object in its bounding box.
        connectivity: neighbours of a voxel, as those of the object; the parts are connected in the same way.
        h: in voxels, above 0.
        walls: per axis, whether the lower and the upper side of the box is where the volume ends: nothing is known of
            what lies beyond, so there is no distance to it. None for no such side.

    Returns:
        uint32 of the same shape: 0 outside, the parts from 1 in raster order of their first voxels.
    """
    from scipy.ndimage import distance_transform_edt

    margins = [tuple(int(not wall) for wall in sides) for sides in walls or ((False, False),) * inside.ndim]
    padded = np.pad(inside, margins)
    if padded.all():
        return inside.astype(np.uint32)
    distance = distance_transform_edt(padded)
    box = tuple(slice(a, a + n) for (a, _), n in zip(margins, inside.shape, strict=True))
    # Within its box an object has all that counts: outside the distance is 0.
    return _flooded(distance[box], inside, _peaks(distance[box], h, connectivity), connectivity)


def cut_by_seeds(
    inside: NDArray[np.bool_],
    seeds: NDArray[np.bool_],
    heights: NDArray[np.floating],
    connectivity: int,
    min_size: int = 0,
    max_size: int | None = None,
) -> NDArray[np.uint32]:
    """Cut an object so that each part has one seed.

    Args:
        inside: the object in its bounding box.
        seeds: voxels of seeds; those that are connected are one.
        heights: what is flooded, the highest first.
        connectivity: see ``cut_by_distance``.
        min_size: smallest seed that counts, in voxels.
        max_size: largest one; None for no limit.

    Returns:
        See ``cut_by_distance``.
    """
    from scipy.ndimage import label

    markers, _ = label(seeds & inside, neighbourhood(inside.ndim, connectivity))
    sizes = np.bincount(markers.ravel())
    fits = (sizes >= min_size) & (sizes <= (inside.size if max_size is None else max_size))
    return _flooded(heights, inside, np.where(fits[markers], markers, 0), connectivity)


def _peaks(distance: NDArray[np.floating], h: float, connectivity: int) -> NDArray[np.int32]:
    """Seeds from 1; 0 elsewhere."""
    from scipy.ndimage import label
    from skimage.morphology import local_maxima, reconstruction

    neighbours = neighbourhood(distance.ndim, connectivity)
    lowered = np.maximum(distance - h, 0)
    if not lowered.any():
        return np.zeros(distance.shape, np.int32)
    raised = reconstruction(lowered, distance, footprint=neighbours)
    tops = local_maxima(raised, footprint=neighbours) if raised.min() < raised.max() else raised > 0
    found: NDArray[np.int32] = label(tops & (raised > 0), neighbours, output=np.int32)[0]
    return found


def _flooded(
    heights: NDArray[np.floating], inside: NDArray[np.bool_], markers: NDArray[np.integer], connectivity: int
) -> NDArray[np.uint32]:
    """Parts in raster order of their first voxels; one part where there is no choice."""
    if np.count_nonzero(np.bincount(markers.ravel())[1:]) < 2:
        return inside.astype(np.uint32)
    from skimage.segmentation import watershed

    parts = watershed(-heights, markers, neighbourhood(inside.ndim, connectivity), mask=inside)
    return in_raster_order(parts)


def in_raster_order(parts: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Number parts from 1 in the order in which they first appear; 0 stays."""
    values, first, places = np.unique(parts, return_index=True, return_inverse=True)
    order = np.argsort(np.where(values == 0, -1, first), kind="stable")
    numbers = np.empty(len(values), np.uint32)
    numbers[order] = np.arange(len(values)) + (0 if values[0] == 0 else 1)
    found: NDArray[np.uint32] = numbers[places].reshape(parts.shape)
    return found
