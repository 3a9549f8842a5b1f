"""What is known of a component, such that it can be combined exactly over blocks, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from tasks.component_labels import first_voxels
from tasks.pixel_classification.compiled import compiled

Measures = Mapping[str, NDArray[np.int64]]

COMBINE = {
    "voxels": np.add,
    "first": np.minimum,
    "start": np.minimum,
    "stop": np.maximum,
    "sums": np.add,
    "core": np.maximum,
    "intensity_sums": np.add,
    "intensity_squares": np.add,
    "intensity_min": np.minimum,
    "intensity_max": np.maximum,
}
"""How the measures of two parts of an object become those of both, in the order in which they are stored.

The first five are always there, see ``measure_components``; for ``core`` see ``core_flags``, for the others
``measure_intensities``.
"""

SQUARE_LOW_BITS = 32
INTENSITY_DTYPES = ("uint8", "int8", "uint16", "int16")
"""Types of raw volumes whose sums and sums of squares stay below 2**63 for any volume that can be stored."""

Layout = tuple[tuple[str, int], ...]
"""Names of measures and numbers of their columns, 0 for one value a component."""


def layout(axes: int, *, core: bool = False, channels: int = 0) -> Layout:
    """The measures of a step's components.

    Args:
        axes: number of spatial axes.
        core: whether cores are marked.
        channels: number of raw channels whose intensities are measured.
    """
    found: list[tuple[str, int]] = [("voxels", 0), ("first", 0), ("start", axes), ("stop", axes), ("sums", axes)]
    if core:
        found.append(("core", 0))
    if channels:
        found += [("intensity_sums", channels), ("intensity_squares", 2 * channels)]
        found += [("intensity_min", channels), ("intensity_max", channels)]
    return tuple(found)


def columns(measures: Measures) -> NDArray[np.int64]:
    """All measures side by side, int64 (components, columns), in the order of ``COMBINE``."""
    return np.concatenate([np.atleast_2d(measures[name].T).T for name in COMBINE if name in measures], axis=1)


def from_columns(components: NDArray[np.int64], names: Layout) -> dict[str, NDArray[np.int64]]:
    """The measures of what ``columns`` gives, for any number of blocks one below the other."""
    found, begin = {}, 0
    for name, width in names:
        found[name] = components[:, begin : begin + width] if width else components[:, begin]
        begin += width or 1
    return found


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


def core_flags(labels: NDArray[Any], is_core: NDArray[np.bool_]) -> NDArray[np.int64]:
    """1 for each component that holds a voxel of the core, else 0; int64 (components,)."""
    flags = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    flags[labels[is_core]] = 1
    return flags[1:]


def measure_intensities(labels: NDArray[Any], channels: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Measure the raw volume below each component, so that parts of an object can be added up exactly.

    Args:
        labels: as ``label_components`` gives them; n components.
        channels: raw channels of the same shape, of one of ``INTENSITY_DTYPES``.

    Returns:
        int64 arrays: ``intensity_sums``, ``intensity_min`` and ``intensity_max`` (n, channels), and
        ``intensity_squares`` (n, 2 channels): the sum of squares in units of 2**32, then what remains, per channel.
    """
    count = int(labels.max(initial=0))
    found = [_intensities(labels.ravel(), np.ascontiguousarray(values).ravel(), count) for values in channels]
    squares = [np.divmod(table[:, 1], np.int64(1) << SQUARE_LOW_BITS) for table in found]
    return {
        "intensity_sums": np.stack([table[:, 0] for table in found], axis=1),
        "intensity_squares": np.stack([part for pair in squares for part in pair], axis=1),
        "intensity_min": np.stack([table[:, 2] for table in found], axis=1),
        "intensity_max": np.stack([table[:, 3] for table in found], axis=1),
    }


@compiled
def _intensities(labels: Any, values: Any, count: Any) -> Any:
    """Sum, sum of squares, smallest and largest value of each component; a block's sums stay below 2**63."""
    found = np.zeros((count, 4), np.int64)
    found[:, 2] = np.iinfo(np.int64).max
    found[:, 3] = np.iinfo(np.int64).min
    for i in range(labels.size):
        if labels[i] == 0:
            continue
        row = np.int64(labels[i]) - 1
        value = np.int64(values[i])
        found[row, 0] += value
        found[row, 1] += value * value
        found[row, 2] = min(found[row, 2], value)
        found[row, 3] = max(found[row, 3], value)
    return found


def mean_and_deviation(
    voxels: NDArray[np.int64], sums: NDArray[np.int64], squares: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of one channel, from exact whole numbers.

    Args:
        voxels: (objects,).
        sums: (objects,).
        squares: (objects, 2), as ``measure_intensities`` gives them.

    Returns:
        float64 (objects,) each. The mean is rounded once; the deviation, that of the voxels themselves (divided by
        their number, not by one less), twice.
    """
    # As Python's integers, which know no overflow; their quotient is rounded correctly.
    n, s = voxels.astype(object), sums.astype(object)
    square = (squares[:, 0].astype(object) * 2**SQUARE_LOW_BITS) + squares[:, 1].astype(object)
    variance = (square * n - s * s) / (n * n)
    return (s / n).astype(np.float64), np.sqrt(variance.astype(np.float64))
