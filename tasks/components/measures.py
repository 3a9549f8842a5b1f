"""What is known of a component, such that it can be combined exactly over blocks, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from tasks.components.labelling import first_voxels

Measures = Mapping[str, NDArray[np.int64]]

MeasureColumns = tuple[tuple[str, int], ...]
"""Names of measures, in the order in which they are stored, and numbers of their columns, 0 for one value each."""

COMBINE = {
    "voxels": np.add,
    "first": np.minimum,
    "start": np.minimum,
    "stop": np.maximum,
    "sums": np.add,
    "core": np.maximum,
    "squares": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "odd": np.add,
    "whole": np.maximum,
    "part": np.maximum,
    "uncut": np.maximum,
    "count": np.add,
    "products": np.add,
    "power1": np.add,
    "power2": np.add,
    "power3": np.add,
    "power4": np.add,
    "cross": np.add,
    "histogram": np.add,
}
"""How the measures of two parts of an object become those of both, by the last word of their names.

The first five are always there, see ``measure_components``; for ``core`` see ``core_flags``, for the others
``tasks.objects.image_measures`` and, from ``count`` on, ``tasks.objects.features``; for ``whole``, ``part`` and
``uncut`` ``tasks.splitting.parts_step``.
"""


def component_columns(axes: int, *, core: bool = False) -> MeasureColumns:
    """The measures of a block's components.

    Args:
        axes: number of spatial axes.
        core: whether cores are marked.
    """
    found: list[tuple[str, int]] = [("voxels", 0), ("first", 0), ("start", axes), ("stop", axes), ("sums", axes)]
    return (*found, ("core", 0)) if core else tuple(found)


def side_by_side(measures: Measures, names: MeasureColumns) -> NDArray[np.int64]:
    """All measures side by side, int64 (components, columns), in the order of the layout."""
    return np.concatenate([np.atleast_2d(measures[name].T).T for name, _ in names], axis=1)


def from_columns(components: NDArray[np.int64], names: MeasureColumns) -> dict[str, NDArray[np.int64]]:
    """The measures of what ``side_by_side`` gives, for any number of blocks one below the other."""
    found, begin = {}, 0
    for name, width in names:
        found[name] = components[:, begin : begin + width] if width else components[:, begin]
        begin += width or 1
    return found


def combine_measures(measures: Measures, groups: NDArray[Any]) -> dict[str, NDArray[np.int64]]:
    """Measures of groups of components.

    Args:
        measures: of all components by dense number.
        groups: the number of each one's group, int64.

    Returns:
        The same measures of the groups, in the order of their numbers.
    """
    if len(groups) == 0:
        return {name: np.asarray(values, np.int64) for name, values in measures.items()}
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return {
        name: COMBINE[name.rpartition("_")[2]].reduceat(values[order], starts) for name, values in measures.items()
    }


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


def border_flags(
    start: NDArray[np.int64], stop: NDArray[np.int64], domain: Sequence[slice], axes: str
) -> NDArray[np.bool_]:
    """Which objects touch the border of what is computed, by their bounding boxes.

    Args:
        start: first voxels, (objects, axes).
        stop: voxels after the last, likewise.
        domain: what is computed, a range per spatial axis.
        axes: the spatial axes. One slice is an image: z does not count where it is one voxel long.

    Returns:
        bool (objects,): a voxel of the object is the first or the last along an axis, as
        ``skimage.segmentation.clear_border`` has it. Unlike that function, which drops labels, it works on objects.
    """
    touches = np.zeros(len(start), bool)
    for place, (axis, part) in enumerate(zip(axes, domain, strict=True)):
        if axis != "z" or part.stop - part.start > 1:
            touches |= (start[:, place] <= part.start) | (stop[:, place] >= part.stop)
    return touches


def core_flags(labels: NDArray[Any], is_core: NDArray[np.bool_]) -> NDArray[np.int64]:
    """1 for each component that holds a voxel of the core, else 0; int64 (components,)."""
    flags = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    flags[labels[is_core]] = 1
    return flags[1:]
