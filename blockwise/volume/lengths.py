"""Lengths in one unit: micrometres, exactly as far as the numbers in the metadata are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from blockwise.volume.axes import Spacing, unit_name

SMALLEST, LARGEST = Fraction(1, 10**9), Fraction(10**9)
"""Micrometres from voxel to voxel that are believed: a femtometre to a kilometre."""

MICROMETERS = {
    "picometer": Fraction(1, 10**6),
    "angstrom": Fraction(1, 10**4),
    "nanometer": Fraction(1, 10**3),
    "micrometer": Fraction(1),
    "millimeter": Fraction(10**3),
    "centimeter": Fraction(10**4),
    "meter": Fraction(10**6),
}
"""Length of each unit that is known; inches are of screens and printers, not of samples."""


def in_micrometers(spacing: Spacing | None, axes: str, chosen: str) -> tuple[float, ...] | None:
    """Distance between voxels in micrometres.

    Args:
        spacing: of a volume.
        axes: of the volume.
        chosen: the axes that are asked for.

    Returns:
        One number for each of these, or None where one of them has no unit of length that is known, or no distance
        that can be meant.
    """
    if spacing is None:
        return None
    found = spacing.along(axes, chosen)
    lengths = [_length(step, unit) for step, unit in zip(found.steps, found.units, strict=True)]
    return None if None in lengths else tuple(float(length) for length in lengths if length is not None)


def _length(step: float, unit: str) -> Fraction | None:
    known = MICROMETERS.get(unit_name(unit))
    if known is None or not math.isfinite(step):
        return None
    length = abs(as_meant(step)) * known  # an axis that runs backwards has as large voxels
    return length if SMALLEST <= length <= LARGEST else None


def as_meant(number: float) -> Fraction:
    """The decimal number that was meant by a binary one; of one of single precision the shortest that gives it.

    >>> as_meant(0.1), as_meant(0.10000000149011612)
    (Fraction(1, 10), Fraction(1, 10))
    """
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(number)
    return Fraction(str(single) if float(single) == number else repr(float(number)))


def voxel_size(step_um: Sequence[float]) -> Fraction:
    """Volume, or area, of a voxel whose sides are this long."""
    return math.prod((as_meant(step) for step in step_um), start=Fraction(1))
