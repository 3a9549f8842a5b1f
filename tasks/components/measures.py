"""What is known of a component, such that it can be combined exactly over blocks, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from tasks.components.exact_sums import ACCUMULATORS, LIMB_BITS, ExactSums, exact_sums, values_of, whole_numbers
from tasks.components.labelling import first_voxels

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
    "intensity_odd": np.add,
}
"""How the measures of two parts of an object become those of both, in the order in which they are stored.

The first five are always there, see ``measure_components``; for ``core`` see ``core_flags``, for the others
``measure_intensities``.
"""

INTENSITY_DTYPES = tuple(ACCUMULATORS)
"""Types of raw volumes whose sums and sums of squares are exact for any volume that can be stored."""

Layout = tuple[tuple[str, int], ...]
"""Names of measures and numbers of their columns, 0 for one value a component."""


def layout(axes: int, *, core: bool = False, channels: int = 0, dtype: str = "uint8") -> Layout:
    """The measures of a step's components.

    Args:
        axes: number of spatial axes.
        core: whether cores are marked.
        channels: number of raw channels whose intensities are measured.
        dtype: of the raw volume.
    """
    found: list[tuple[str, int]] = [("voxels", 0), ("first", 0), ("start", axes), ("stop", axes), ("sums", axes)]
    if core:
        found.append(("core", 0))
    if channels:
        kind = ACCUMULATORS[dtype]
        found += [("intensity_sums", channels * kind.limbs), ("intensity_squares", channels * kind.square_limbs)]
        found += [("intensity_min", channels), ("intensity_max", channels)]
        if kind.is_float:
            found.append(("intensity_odd", channels))
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
        channels: raw channels of the same shape and type, which is one of ``INTENSITY_DTYPES``.

    Returns:
        int64 arrays, channel after channel: ``intensity_sums`` (n, channels * limbs) and ``intensity_squares``
        (n, channels * square_limbs) in limbs, see ``ExactSums``; ``intensity_min`` and ``intensity_max`` (n,
        channels), as keys of ``values_of``; for floats ``intensity_odd`` (n, channels), how many are no numbers.
    """
    count = int(labels.max(initial=0))
    kind = ACCUMULATORS[channels[0].dtype.name]
    measure = _narrow_sums if kind.limbs == 1 else exact_sums
    found = [measure(labels, values, count) for values in channels]
    odd = {"intensity_odd": np.stack([sums.odd for sums in found], axis=1)} if kind.is_float else {}
    return {
        "intensity_sums": np.concatenate([sums.sums for sums in found], axis=1),
        "intensity_squares": np.concatenate([sums.squares for sums in found], axis=1),
        "intensity_min": np.stack([sums.smallest for sums in found], axis=1),
        "intensity_max": np.stack([sums.largest for sums in found], axis=1),
        **odd,
    }


def _narrow_sums(labels: NDArray[Any], values: NDArray[Any], count: int) -> ExactSums:
    """The same as ``exact_sums``, of 8 and 16 bits, whose sums over a block need no limbs."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    table = _intensities(labels.ravel(), values.ravel(), count)
    squares = np.stack(np.divmod(table[:, 1], 1 << LIMB_BITS), axis=1)
    return ExactSums(table[:, :1], squares, table[:, 2], table[:, 3], np.zeros(count, np.int64))


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
    voxels: NDArray[np.int64], sums: NDArray[np.int64], squares: NDArray[np.int64], exponent: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of one channel, from exact sums.

    Args:
        voxels: (objects,).
        sums: (objects, limbs).
        squares: (objects, square_limbs).
        exponent: of the sums' unit, at most 0; see ``Accumulator``.

    Returns:
        float64 (objects,) each. The mean is rounded once; the deviation, that of the voxels themselves (divided by
        their number, not by one less), twice.
    """
    # As Python's integers, whose quotient is rounded correctly.
    n, s, square = voxels.astype(object), whole_numbers(sums), whole_numbers(squares)
    parts = 1 << -exponent
    variance = (square * n - s * s) / (n * n * (parts * parts))
    return (s / (n * parts)).astype(np.float64), np.sqrt(variance.astype(np.float64))


def intensity_statistics(objects: Measures, place: int, dtype: str) -> dict[str, NDArray[Any]]:
    """Mean, standard deviation, minimum and maximum of one channel below each object.

    Args:
        objects: their measures.
        place: of the channel among those that were measured.
        dtype: of the raw volume.

    Returns:
        ``mean`` and ``std``, float64 (objects,); ``min`` and ``max``, int64 or, for floats, float32. All four are NaN
        where any voxel of the object is NaN or infinite.
    """
    kind = ACCUMULATORS[dtype]
    sums = objects["intensity_sums"][:, place * kind.limbs : (place + 1) * kind.limbs]
    squares = objects["intensity_squares"][:, place * kind.square_limbs : (place + 1) * kind.square_limbs]
    mean, deviation = mean_and_deviation(objects["voxels"], sums, squares, kind.exponent)
    found: dict[str, NDArray[Any]] = {"mean": mean, "std": deviation}
    for name in ("min", "max"):
        found[name] = values_of(objects[f"intensity_{name}"][:, place], dtype)
    if kind.is_float:
        odd = objects["intensity_odd"][:, place] > 0
        for values in found.values():
            values[odd] = np.nan
    return found
