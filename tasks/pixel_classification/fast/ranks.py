"""A feature's value as its rank among the thresholds that a forest compares it with, in bytes.

A value lies below a threshold if and only if its rank, the number of thresholds that it is not below, is at most that
threshold's place among them. So the comparisons of a forest can be made with ranks, exactly, and 64 bytes are
compared at the price of 16 floats. Where a feature has more than 255 thresholds its rank is spread over several
columns: the part that exceeds 255 j, at least 0 and at most 255, is column j, and a threshold is compared in the one
that holds its place.

To find ranks quickly, values fall into buckets, numbered in their order: a table knows how many thresholds lie in the
buckets before, and those few in the same one are compared. Buckets are of one width near the middle of the thresholds
and grow with the distance from there, because thresholds lie as the values do: most of them close together, a few far
away. None of that has to be right for a rank to be exact, only for it to be fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import uint64
from numpy.typing import NDArray

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.vectors import GROUP, as_byte, bucket

IN_COLUMN = 255  # thresholds that a column of bytes tells apart
MOST = 255 * IN_COLUMN  # thresholds of a source, so that ranks fit in uint16
BUCKETS = 8  # for each threshold
# columns of a list of sources
FEATURE, COLUMN, END_COLUMN, FLOORS, THRESHOLDS, LOWEST, HIGHEST, SHIFT = range(8)


@dataclass(frozen=True)
class Ranks:
    """How values become ranks.

    A source is a feature with at most `MOST` of its thresholds.

    Attributes:
        sources: int64 (sources, 8), by feature: the feature, first column and end of its columns, where its part of
            `floors` and of `thresholds` starts; smallest and largest key, and shift, of its buckets.
        scales: float32 (sources, 2): centre and unit of its buckets, see `keys`.
        floors: uint16; for each bucket, and the end, how many thresholds lie in the buckets before.
        thresholds: float32; those of each source in ascending order, then NaN.
    """

    sources: NDArray[np.int64]
    scales: NDArray[np.float32]
    floors: NDArray[np.uint16]
    thresholds: NDArray[np.float32]

    @property
    def columns(self) -> int:
        """Bytes of a voxel."""
        return int(self.sources[-1, END_COLUMN]) if len(self.sources) else 0

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What `rank` takes."""
        return self.sources, self.scales, self.floors, self.thresholds


NO_RANKS = Ranks(np.empty((0, 8), np.int64), *(np.empty(n, t) for n, t in (((0, 2), "f4"), (0, "u2"), (0, "f4"))))


def keys(values: NDArray[np.float32], centre: np.float32, unit: np.float32) -> NDArray[np.int64]:
    """Whole numbers in the order of the values: about the logarithm of a value's distance from the centre, in units.

    The bits of a positive float32, read as a whole number, are in the order of the floats. What is below the centre
    has negative keys. Each operation is monotonic, rounding included.
    """
    with np.errstate(over="ignore"):  # an infinite distance is the largest key, which is right
        away = values - centre
        size = (np.abs(away) + unit).astype(np.float32).view(np.int32).astype(np.int64)
    key = size - int(unit.view(np.int32))
    ordered: NDArray[np.int64] = np.where(away < 0, -key, key)
    return ordered


Buckets = tuple[tuple[np.float32, np.float32], tuple[int, int, int], NDArray[np.uint16]]


def _buckets(thresholds: NDArray[np.float32]) -> Buckets:
    """(centre, unit), (lowest, highest, shift) and floors of those buckets that need the fewest comparisons."""
    finite = thresholds[np.isfinite(thresholds)]
    if not finite.size:
        finite = np.zeros(1, np.float32)
    centre = finite[finite.size // 2]
    spread = float(np.abs(finite.astype(np.float64) - centre).max())
    found: list[tuple[float, Buckets]] = []
    for exponent in range(-12, 2):
        unit = np.float32(np.clip(spread * 2.0**exponent, 1e-30, 1e30))
        lowest, highest = (int(key) for key in keys(finite[[0, -1]], centre, unit))
        shift = max(0, ((highest - lowest) // (BUCKETS * thresholds.size)).bit_length())
        number = (np.clip(keys(thresholds, centre, unit), lowest, highest) - lowest) >> shift
        counts = np.bincount(number, minlength=((highest - lowest) >> shift) + 1)
        comparisons = float((counts * np.log2(counts + 1)).sum())
        floors = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint16)
        found.append((comparisons, ((centre, unit), (lowest, highest, shift), floors)))
    return min(found, key=lambda one: one[0])[1]


def make_ranks(
    feature: NDArray[np.int32], threshold: NDArray[np.float32], most: int = MOST
) -> tuple[Ranks, NDArray[np.int64], NDArray[np.int64]]:
    """Tables for the tests of a forest.

    Args:
        feature: int32 (tests,), the feature column of each test.
        threshold: float32 (tests,): a voxel passes if its value is less.
        most: thresholds of a source, at most `MOST`.

    Returns:
        The tables, and for each test the column of bytes, and the int8 that a byte is less than if the voxel passes.
    """
    sources: list[tuple[int, ...]] = []
    scales, floors, thresholds = [], [], list[NDArray[np.float32]]()
    column, limit = np.zeros(feature.size, np.int64), np.full(feature.size, -128, np.int64)
    columns = n_floors = n_thresholds = 0
    for k in np.unique(feature):
        tests = np.flatnonzero((feature == k) & ~np.isnan(threshold))  # nothing is less than NaN, nor than -128
        distinct = np.unique(threshold[tests])
        place = np.searchsorted(distinct, threshold[tests])
        for start in range(0, distinct.size, most):
            part = distinct[start : start + most]
            inside = (place >= start) & (place < start + most)
            column[tests[inside]] = columns + (place[inside] - start) // IN_COLUMN
            limit[tests[inside]] = (place[inside] - start) % IN_COLUMN + 1 - 128
            scale, numbers, floor = _buckets(part)
            end = columns - (-part.size // IN_COLUMN)
            sources.append((int(k), columns, end, n_floors, n_thresholds, *numbers))
            scales.append(scale)
            floors.append(floor)
            thresholds += [part, np.full(1, np.nan, np.float32)]
            columns, n_floors, n_thresholds = end, n_floors + floor.size, n_thresholds + part.size + 1
    if not sources:
        return NO_RANKS, column, limit
    made = Ranks(
        np.array(sources, np.int64),
        np.array(scales, np.float32),
        np.concatenate(floors),
        np.concatenate(thresholds).astype(np.float32),
    )
    return made, column, limit


@compiled
def find(values: Any, at: Integer, floors: Any, thresholds: Any, found: Any) -> None:
    """Replace the buckets of a group's values by their ranks."""
    first, one = uint64(at), uint64(1)
    for i in range(uint64(GROUP)):
        value, number = values[first + i], uint64(found[i])
        rank = uint64(floors[number])
        rank += uint64(thresholds[rank] <= value)
        if thresholds[rank] <= value:  # seldom: two thresholds in one bucket
            low, high = rank + one, uint64(floors[number + one])
            while low < high:
                middle = (low + high) >> one
                if thresholds[middle] <= value:
                    low = middle + one
                else:
                    high = middle
            rank = low
        found[i] = np.int32(rank)


@compiled
def rank(values: Any, at: Integer, source: Integer, ranks: Any, found: Any, columns: Any) -> None:
    """Fill the columns of a source for a group of voxels.

    Args:
        values: flat float32; the feature's value of voxel i stands at ``at + i``.
        at: see there.
        source: which.
        ranks: arrays of `Ranks`.
        found: int32 (GROUP,), is written over.
        columns: int8, column c of voxel i is written to GROUP * c + i.
    """
    sources, scales, floors, thresholds = ranks
    centre, unit = scales[source, 0], scales[source, 1]
    lowest, highest = np.int32(sources[source, LOWEST]), np.int32(sources[source, HIGHEST])
    shift, first = np.int32(sources[source, SHIFT]), uint64(at)
    for i in range(uint64(GROUP)):
        found[i] = bucket(values[first + i], centre, unit, lowest, highest, shift)
    find(values, at, floors[sources[source, FLOORS] :], thresholds[sources[source, THRESHOLDS] :], found)
    begin, offset = sources[source, COLUMN], np.int32(0)
    for column in range(begin, sources[source, END_COLUMN]):
        out = uint64(column * GROUP)
        for i in range(uint64(GROUP)):
            columns[out + i] = as_byte(found[i], offset)
        offset = np.int32(offset + np.int32(IN_COLUMN))
