"""Sums of powers of an image's values, and of products of its channels, exact in limbs; see ``exact_sums``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled, inlined
from tasks.objects.exact_sums import ACCUMULATORS, carried
from tasks.objects.features.accumulators import Part, Sums, limbs_of

_LOW = np.uint64(2**32 - 1)
_32 = np.uint64(32)


def as_numbers(channels: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Values as whole numbers, those of float32 as their bits: int64 (channels, voxels)."""
    found = np.empty((len(channels), channels[0].size), np.int64)
    for row, values in zip(found, channels, strict=True):
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
        row[:] = (values.view(np.uint32) if values.dtype.kind == "f" else values).ravel()
    return found


@dataclass(frozen=True)
class PowerSums:
    """Sums of n objects while voxels are added, the lowest limb first.

    Attributes:
        dtype: of the image.
        sums: which.
        starts: int64 (5,), where the limbs of the first power begin, and so on.
        powers: int64 (n, channels, limbs).
        cross: int64 (n, pairs of channels, limbs).
        pairs: int64 (pairs of channels, 2).
        extremes: int64 (n, channels, 3): least and greatest value as keys of ``values_of``, number of odd values.
        count: int64 (n,), how many voxels.
    """

    dtype: str
    sums: Sums
    starts: NDArray[np.int64]
    powers: NDArray[np.int64]
    cross: NDArray[np.int64]
    pairs: NDArray[np.int64]
    extremes: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def zero(cls, dtype: str, sums: Sums, channels: int, count: int) -> PowerSums:
        """Those of no voxel."""
        limbs = [limbs_of(dtype, power) if power <= sums.power else 0 for power in range(1, 5)]
        pairs = np.array(list(combinations(range(channels), 2)) if sums.cross else [], np.int64).reshape(-1, 2)
        extremes = np.zeros((count, channels, 3), np.int64)
        extremes[..., 0], extremes[..., 1] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        return cls(
            dtype,
            sums,
            np.cumsum([0, *limbs]),
            np.zeros((count, channels, sum(limbs)), np.int64),
            np.zeros((count, len(pairs), limbs_of(dtype, 2)), np.int64),
            pairs,
            extremes,
            np.zeros(count, np.int64),
        )

    @property
    def kind(self) -> tuple[bool, bool, int]:
        """Whether values are floats, whether they are of 8 or 16 bits, and the highest power."""
        return ACCUMULATORS[self.dtype].is_float, np.dtype(self.dtype).itemsize <= 2, self.sums.power

    @property
    def arrays(self) -> tuple[NDArray[np.int64], ...]:
        """What ``add_voxel`` takes."""
        return self.starts, self.powers, self.cross, self.pairs, self.extremes

    def measures(self, part: Part) -> dict[str, NDArray[np.int64]]:
        """The sums as ``Accumulators.columns`` has them."""
        found = {f"{part}_count": self.count}
        for power in range(1, self.sums.power + 1):
            limbs = self.powers[:, :, self.starts[power - 1] : self.starts[power]]
            found[f"{part}_power{power}"] = _carried(limbs)
        found[f"{part}_cross"] = _carried(self.cross)
        for place, name in enumerate(("min", "max", "odd")):
            found[f"{part}_{name}"] = self.extremes[:, :, place]
        return found


def _carried(limbs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of (objects, sums, limbs), the lowest limb first: (objects, sums * limbs), the highest first."""
    n, sums, width = limbs.shape
    return carried(limbs.reshape(n * sums, width).copy()).reshape(n, sums * width)


def add_below(sums: PowerSums, labels: NDArray[np.uint32], numbers: NDArray[np.int64]) -> None:
    """Add all voxels to the objects that they belong to.

    Args:
        sums: of n objects.
        labels: 0 for none, then 1 to n, (voxels,).
        numbers: of ``as_numbers``.
    """
    arguments: tuple[Any, ...] = (labels, numbers, *sums.kind, *sums.arrays, sums.count)
    _add_below(*arguments)


@compiled
def _add_below(
    labels: Any,
    numbers: Any,
    is_float: Any,
    is_narrow: Any,
    power: Any,
    starts: Any,
    powers: Any,
    cross: Any,
    pairs: Any,
    extremes: Any,
    count: Any,
) -> None:
    buffer = np.empty(4, np.uint64)
    for i in range(labels.size):
        if labels[i]:
            row = np.int64(labels[i]) - 1
            count[row] += 1
            add_voxel(i, row, buffer, numbers, is_float, is_narrow, power, starts, powers, cross, pairs, extremes)


@inlined
def add_voxel(
    voxel: Any,
    row: Any,
    buffer: Any,
    numbers: Any,
    is_float: Any,
    is_narrow: Any,
    power: Any,
    starts: Any,
    powers: Any,
    cross: Any,
    pairs: Any,
    extremes: Any,
) -> None:
    """Add a voxel, at a place in ``numbers``, to the sums of an object, at most 2**30 between two carries.

    ``numbers`` are those of ``as_numbers``; what follows them is ``PowerSums.kind`` and ``PowerSums.arrays``; the
    buffer is uint64 (4,).
    """
    for c in range(numbers.shape[0]):
        key, size, place, is_negative = _parts(numbers[c, voxel], is_float)
        if place < 0:
            extremes[row, c, 2] += 1
            continue
        extremes[row, c, 0] = min(extremes[row, c, 0], key)
        extremes[row, c, 1] = max(extremes[row, c, 1], key)
        if is_narrow:
            _add_narrow(powers[row, c], starts, key, power)
        else:
            _add_wide(powers[row, c], starts, size, place, is_negative, power, buffer)
    for k in range(len(pairs)):
        _, one, place, is_negative = _parts(numbers[pairs[k, 0], voxel], is_float)
        _, other, other_place, other_is_negative = _parts(numbers[pairs[k, 1], voxel], is_float)
        if place >= 0 and other_place >= 0:
            product = one * other
            buffer[0], buffer[1] = product & _LOW, product >> _32
            _add_shifted(cross[row, k], 0, buffer, 2, place + other_place, is_negative != other_is_negative)


@inlined
def _parts(number: Any, is_float: Any) -> Any:
    """Of a number, or a float32's bits: its key, and its value as ``size * 2**place``; place -1 where it is none."""
    if not is_float:
        return number, np.uint64(abs(number)), np.int64(0), number < 0
    bits = number & 0x7FFFFFFF
    is_negative = bits != number
    exponent = bits >> 23
    key = -1 - bits if is_negative else bits
    if exponent == 255:
        return key, np.uint64(0), np.int64(-1), is_negative
    if exponent == 0:
        return key, np.uint64(bits), np.int64(0), is_negative
    return key, np.uint64((bits & 0x7FFFFF) | 0x800000), exponent - 1, is_negative


@inlined
def _add_narrow(sums: Any, starts: Any, value: Any, power: Any) -> None:
    """Add powers of a number of at most 16 bits and a sign: the lowest limbs have room."""
    if power >= 1:
        sums[starts[0]] += value
    square = value * value
    if power >= 2:
        sums[starts[1]] += square
    if power >= 3:
        cube = square * value
        sums[starts[2]] += cube & 0xFFFFFFFF
        sums[starts[2] + 1] += cube >> 32
    if power >= 4:
        fourth = np.uint64(square) * np.uint64(square)
        sums[starts[3]] += np.int64(fourth & _LOW)
        sums[starts[3] + 1] += np.int64(fourth >> _32)


@inlined
def _add_wide(sums: Any, starts: Any, size: Any, place: Any, is_negative: Any, power: Any, buffer: Any) -> None:
    """Add powers of ``size * 2**place``, of at most 32 bits."""
    buffer[0] = 1
    for p in range(1, power + 1):
        carry = np.uint64(0)
        for k in range(p):
            product = (buffer[k] if k < p - 1 or p == 1 else np.uint64(0)) * size + carry
            buffer[k] = product & _LOW
            carry = product >> _32
        _add_shifted(sums, starts[p - 1], buffer, p, place * p, is_negative and p % 2 == 1)


@inlined
def _add_shifted(sums: Any, start: Any, buffer: Any, count: Any, shift: Any, is_negative: Any) -> None:
    """Add ``count`` limbs, the lowest first, that are shifted upwards by bits; or subtract them."""
    at = start + (shift >> 5)
    bits = np.uint64(shift & 31)
    for k in range(count):
        shifted = buffer[k] << bits
        low, high = np.int64(shifted & _LOW), np.int64(shifted >> _32)
        if is_negative:
            low, high = -low, -high
        if low:  # where limbs are few, the higher ones are not there
            sums[at + k] += low
        if high:
            sums[at + k + 1] += high
