"""Statistics of exact sums of powers: each is a quotient of whole numbers, and rounded when it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[Any]
"""Python's integers, which know no overflow: an array of objects."""

Floats = NDArray[np.float64]


def quotient(numerators: Whole, denominators: Whole) -> Floats:
    """Quotients of whole numbers, rounded correctly; NaN where the denominator is 0."""
    is_defined = (denominators != 0).astype(bool)
    found = np.full(len(numerators), np.nan)
    found[is_defined] = (numerators[is_defined] / denominators[is_defined]).astype(np.float64)
    return found


def central(count: Whole, sums: Mapping[int, Whole], power: int) -> Whole:
    """``count**(power - 1)`` times the sum of powers of the values less their mean, which is a whole number.

    Args:
        count: how many values, (objects,).
        sums: of their powers, by the exponent, (objects,).
        power: 2, 3 or 4.
    """
    n, first, second = count, sums[1], sums[2]
    found: Whole
    if power == 2:
        found = n * second - first * first
    elif power == 3:
        found = n * n * sums[3] - 3 * n * first * second + 2 * first**3
    else:
        found = n**3 * sums[4] - 4 * n * n * first * sums[3] + 6 * n * first * first * second - 3 * first**4
    return found


def mean(count: Whole, sums: Mapping[int, Whole], parts: int) -> Floats:
    """Mean value; ``parts`` is how many units of the sums make 1."""
    return quotient(sums[1], count * parts)


def variance(count: Whole, sums: Mapping[int, Whole], parts: int) -> Floats:
    """Mean squared distance to the mean."""
    return quotient(central(count, sums, 2), count * count * parts**2)


def central_sum(count: Whole, sums: Mapping[int, Whole], parts: int, power: int) -> Floats:
    """Sum of powers of the values less their mean."""
    return quotient(central(count, sums, power), count ** (power - 1) * parts**power)


def skewness(count: Whole, sums: Mapping[int, Whole]) -> Floats:
    """``sqrt(n) * sum((v - mean)**3) / sum((v - mean)**2)**1.5``; NaN where all values are the same."""
    second, third = central(count, sums, 2), central(count, sums, 3)
    # The root of a quotient of whole numbers: rounded twice.
    size = np.sqrt(quotient(third * third, second**3))
    return np.where((third < 0).astype(bool), -size, size)


def kurtosis(count: Whole, sums: Mapping[int, Whole]) -> Floats:
    """``n * sum((v - mean)**4) / sum((v - mean)**2)**2 - 3``; NaN where all values are the same."""
    second, fourth = central(count, sums, 2), central(count, sums, 4)
    return quotient(fourth - 3 * second * second, second * second)


def covariance(count: Whole, first: Whole, second: Whole, cross: Whole, parts: int) -> Floats:
    """Mean product of the distances to the means of two channels, given their sums, and that of their products."""
    return quotient(count * cross - first * second, count * count * parts**2)
