"""Sums of numbers, and of their squares, that are exact: the same in whatever order and in whatever parts.

A sum is a whole number of units, kept in *limbs* of 32 bits, each in an int64 of its own, the highest first::

    sum = (limb[0] * 2**64 + limb[1] * 2**32 + limb[2]) * 2**exponent      here with three limbs

Sums are added limb by limb; the 31 bits that are left hold what would have to be carried, and of the highest limb all
64 count. For float32 the unit is the
smallest number above 0, and the limbs reach from there to the largest (a fixed-point superaccumulator: Kulisch 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled

LIMB_BITS = 32
_LOW = 2**LIMB_BITS - 1


@dataclass(frozen=True)
class Accumulator:
    """What sums of numbers of one type need, for up to 2**45 of them.

    Attributes:
        limbs: of a sum.
        square_limbs: of a sum of squares.
        exponent: numbers are whole multiples of ``2**exponent``; squares, of its square.
        is_float: numbers may be infinite, or none.
    """

    limbs: int
    square_limbs: int
    exponent: int = 0
    is_float: bool = False


ACCUMULATORS = {
    **dict.fromkeys(("uint8", "int8", "uint16", "int16"), Accumulator(1, 2)),
    **dict.fromkeys(("uint32", "int32"), Accumulator(2, 3)),
    # Bits of the largest number over 2**-149, of how many there are, and a sign: 277 + 45 + 1 and 554 + 45 + 1, where
    # 32 * 9 + 64 and 32 * 17 + 64 have room.
    "float32": Accumulator(10, 18, -149, is_float=True),
}
"""By the type of the numbers. For those of 8 and 16 bits one limb holds any sum, and needs no ``exact_sums``."""


@dataclass(frozen=True)
class ExactSums:
    """Sums of the values below each of n labels.

    Attributes:
        sums: int64 (n, limbs), the highest first.
        squares: int64 (n, square_limbs), likewise.
        smallest: int64 (n,), a key that is ordered as the values are: see ``values_of``.
        largest: int64 (n,), likewise.
        odd: int64 (n,), how many values are infinite or none; they are in none of the others.
    """

    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    smallest: NDArray[np.int64]
    largest: NDArray[np.int64]
    odd: NDArray[np.int64]


def exact_sums(labels: NDArray[Any], values: NDArray[Any], count: int) -> ExactSums:
    """Add up the values below each label.

    Args:
        labels: 0 for none, then 1 to ``count``; any shape.
        values: of the same shape, of one of the types of ``ACCUMULATORS`` that have several limbs.
        count: number of labels.
    """
    kind = ACCUMULATORS[values.dtype.name]
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    numbers = (values.view(np.uint32) if kind.is_float else values).astype(np.int64)
    sums = np.zeros((count, kind.limbs), np.int64)
    squares = np.zeros((count, kind.square_limbs), np.int64)
    found = np.zeros((count, 3), np.int64)
    found[:, 0], found[:, 1] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    _add(labels.ravel(), numbers.ravel(), kind.is_float, sums, squares, found)
    return ExactSums(carried(sums), carried(squares), *found.T)


@compiled
def _add(labels: Any, numbers: Any, is_float: Any, sums: Any, squares: Any, found: Any) -> None:
    """Add numbers, or the bits of float32 numbers, to limbs, the lowest first; at most 2**30 of them."""
    for i in range(labels.size):
        if labels[i] == 0:
            continue
        row = np.int64(labels[i]) - 1
        number = numbers[i]
        key = number
        place = 0
        if is_float:
            size = number & 0x7FFFFFFF
            is_negative = number != size
            exponent = size >> 23
            if exponent == 255:
                found[row, 2] += 1
                continue
            key = -1 - size if is_negative else size
            number = size & 0x7FFFFF
            if exponent > 0:
                number |= 0x800000
                place = exponent - 1
            if is_negative:
                number = -number
        found[row, 0] = min(found[row, 0], key)
        found[row, 1] = max(found[row, 1], key)
        shifted = number << (place & 31)
        sums[row, place >> 5] += shifted & _LOW
        sums[row, (place >> 5) + 1] += shifted >> 32
        place *= 2
        magnitude = np.uint64(abs(number))
        square = magnitude * magnitude
        low = np.int64(square & np.uint64(_LOW)) << (place & 31)
        high = np.int64(square >> np.uint64(32)) << (place & 31)
        limb = place >> 5
        squares[row, limb] += low & _LOW
        squares[row, limb + 1] += (low >> 32) + (high & _LOW)
        squares[row, limb + 2] += high >> 32


def carried(limbs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Carry upwards from the lowest limb, which is the first, so that all but the highest are 0 to 2**32 - 1.

    Returns:
        The limbs, the highest first.
    """
    for i in range(limbs.shape[1] - 1):
        carry, limbs[:, i] = np.divmod(limbs[:, i], 1 << LIMB_BITS)
        limbs[:, i + 1] += carry
    return limbs[:, ::-1]


def whole_numbers(limbs: NDArray[np.int64]) -> NDArray[Any]:
    """The sums, as Python's integers, which know no overflow; from (n, limbs), the highest first."""
    total = np.zeros(len(limbs), object)
    for limb in limbs.T:
        total = total * (1 << LIMB_BITS) + limb.astype(object)
    return total


def values_of(keys: NDArray[np.int64], dtype: str) -> NDArray[Any]:
    """The values of keys: int64 of integers, float32 of float32."""
    if not ACCUMULATORS[dtype].is_float:
        return keys
    return np.where(keys < 0, (-1 - keys) | 0x80000000, keys).astype(np.uint32).view(np.float32)
