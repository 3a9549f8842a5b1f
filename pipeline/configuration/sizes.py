"""Sizes of objects: a number of voxels, or a volume or area with its unit, such as ``0.5 um3``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator

from blockwise.volume.axes import unit_name
from blockwise.volume.lengths import MICROMETERS

_PHYSICAL = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?\s*([^\W\d_]+)\s*\^?\s*([23²³])", re.IGNORECASE)


@dataclass(frozen=True)
class PhysicalSize:
    """A volume or an area.

    Attributes:
        micrometers: cubic, or square, micrometres.
        axes: 3 for a volume, 2 for an area.
    """

    micrometers: Fraction
    axes: int


def parse_size(text: str) -> PhysicalSize:
    """A size from text such as ``0.5 um3``, ``0.5 µm³`` or ``200 nm^2``.

    Raises:
        ValueError: it is something else.
    """
    found = _PHYSICAL.fullmatch(text.strip())
    unit = MICROMETERS.get(unit_name(found[3])) if found else None
    if found is None or unit is None:
        raise ValueError("expected a number of voxels, or a size with its unit, such as 0.5 um3 or 200 nm2")
    axes = {"2": 2, "²": 2, "3": 3, "³": 3}[found[4]]
    return PhysicalSize(Fraction(found[1] + (found[2] or "")) * unit**axes, axes)


def _check(value: int | str) -> int | str:
    if isinstance(value, str):
        parse_size(value)
    elif value < 0:
        raise ValueError("expected 0 or more voxels, or a size with its unit, such as 0.5 um3")
    return value


Size = Annotated[int | str, AfterValidator(_check)]
"""Voxels, or text that ``parse_size`` understands."""
