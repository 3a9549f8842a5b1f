"""Measures of an image below labelled objects, such that parts of an object can be added up exactly, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from tasks.components.measures import MeasureColumns, Measures
from tasks.objects.exact_sums import ACCUMULATORS, LIMB_BITS, ExactSums, exact_sums, values_of, whole_numbers

EXACT_DTYPES = tuple(ACCUMULATORS)
"""Types of images whose sums and sums of squares are exact for any volume that can be stored."""


@dataclass(frozen=True)
class Image:
    """Something that is measured below each object.

    Attributes:
        name: begins the names of its measures, such as ``intensity``.
        dtype: of a voxel, without byte order.
        channels: their numbers, as the table calls them.
    """

    name: str
    dtype: str
    channels: tuple[int, ...]

    @property
    def layout(self) -> MeasureColumns:
        """The measures that ``measure_image`` gives."""
        kind, n = ACCUMULATORS[self.dtype], len(self.channels)
        found = [("sums", n * kind.limbs), ("squares", n * kind.square_limbs), ("min", n), ("max", n)]
        if kind.is_float:
            found.append(("odd", n))
        return tuple((f"{self.name}_{measure}", width) for measure, width in found)


def dense_labels(labels: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Number the objects of a block through.

    Args:
        labels: 0 is background.

    Returns:
        uint32 of the same shape, the objects being 1, 2, ... in ascending order of their labels; and these labels.
    """
    flat = labels.ravel()
    # Neighbours mostly have the same label: only where runs begin is there anything to sort.
    begins = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    values, places = np.unique(flat[begins], return_inverse=True)
    has_background = len(values) > 0 and values[0] == 0
    numbers = (places + (0 if has_background else 1)).astype(np.uint32)
    dense = np.repeat(numbers, np.diff(begins, append=len(flat)))
    return dense.reshape(labels.shape), values[1:] if has_background else values


def measure_image(
    image: Image, labels: NDArray[Any], channels: Sequence[NDArray[Any]]
) -> dict[str, NDArray[np.int64]]:
    """Measure an image below each object of a block.

    Args:
        image: what it is.
        labels: 0 for none, then 1 to n.
        channels: of the image, of the labels' shape and one of ``EXACT_DTYPES``.

    Returns:
        int64 arrays, channel after channel, under the names of ``image.layout``: ``sums`` (n, channels * limbs)
        and ``squares`` (n, channels * square_limbs) in limbs, see ``ExactSums``; ``min`` and ``max`` (n, channels),
        as keys of ``values_of``; for floats ``odd`` (n, channels), how many are no numbers.
    """
    count = int(labels.max(initial=0))
    measure = _narrow_sums if ACCUMULATORS[image.dtype].limbs == 1 else exact_sums
    found = [measure(labels, values, count) for values in channels]
    parts = {
        "sums": np.concatenate([sums.sums for sums in found], axis=1),
        "squares": np.concatenate([sums.squares for sums in found], axis=1),
        "min": np.stack([sums.smallest for sums in found], axis=1),
        "max": np.stack([sums.largest for sums in found], axis=1),
        "odd": np.stack([sums.odd for sums in found], axis=1),
    }
    return {name: parts[name.rpartition("_")[2]] for name, _ in image.layout}


def _narrow_sums(labels: NDArray[Any], values: NDArray[Any], count: int) -> ExactSums:
    """The same as ``exact_sums``, of 8 and 16 bits, whose sums over a block need no limbs."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    table = np.zeros((count, 4), np.int64)
    _below(labels.ravel(), values.ravel(), table)
    squares = np.stack(np.divmod(table[:, 1], 1 << LIMB_BITS), axis=1)
    return ExactSums(table[:, :1], squares, table[:, 2], table[:, 3], np.zeros(count, np.int64))


@compiled
def _below(labels: Any, values: Any, found: Any) -> None:
    """Sum, sum of squares, smallest and largest value below each label; a block's sums stay below 2**63."""
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


def channel_statistics(objects: Measures, image: Image, place: int) -> dict[str, NDArray[Any]]:
    """Mean, standard deviation, minimum and maximum of one channel of an image below each object.

    Args:
        objects: their measures, ``voxels`` among them.
        image: what was measured.
        place: of the channel among those that were measured.

    Returns:
        ``mean`` and ``std``, float64 (objects,); ``min`` and ``max``, int64 or, for floats, float32. All four are NaN
        where any voxel of the object is NaN or infinite.
    """
    kind = ACCUMULATORS[image.dtype]
    sums = objects[f"{image.name}_sums"][:, place * kind.limbs : (place + 1) * kind.limbs]
    squares = objects[f"{image.name}_squares"][:, place * kind.square_limbs : (place + 1) * kind.square_limbs]
    mean, deviation = mean_and_deviation(objects["voxels"], sums, squares, kind.exponent)
    found: dict[str, NDArray[Any]] = {"mean": mean, "std": deviation}
    for name in ("min", "max"):
        found[name] = values_of(objects[f"{image.name}_{name}"][:, place], image.dtype)
    if kind.is_float:
        odd = objects[f"{image.name}_odd"][:, place] > 0
        for values in found.values():
            values[odd] = np.nan
    return found
