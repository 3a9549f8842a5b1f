"""Axis names and voxel sizes in a dataset's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AXES = "tczyx"

_UNIT_NAMES = {
    "picometer": ("pm", "picometers", "picometre"),
    "angstrom": ("a", "å", "ångström", "angstroms"),
    "nanometer": ("nm", "nanometers", "nanometre"),
    "micrometer": ("µm", "μm", "um", "micron", "microns", "micrometers", "micrometre", "\\u00b5m"),
    "millimeter": ("mm", "millimeters", "millimetre"),
    "centimeter": ("cm", "centimeters", "centimetre"),
    "meter": ("m", "meters", "metre"),
    "second": ("s", "sec", "seconds"),
    "millisecond": ("ms", "msec", "milliseconds"),
    "microsecond": ("us", "usec", "µs", "microseconds"),
    "": ("pixel", "pixels", "unknown", "none"),
}
_KNOWN_UNITS = {short: name for name, shorts in _UNIT_NAMES.items() for short in shorts}


@dataclass(frozen=True)
class Spacing:
    """How far voxels lie apart.

    Attributes:
        steps: distance per axis, in the order of the volume's axes; 1 where it says nothing (channels).
        units: of these distances, such as ``micrometer``; empty where unknown.
    """

    steps: tuple[float, ...]
    units: tuple[str, ...]

    def as_attributes(self) -> dict[str, Any]:
        """Attributes ``resolution`` and ``units`` for ``create_volume``: outputs carry the input's spacing."""
        return {"resolution": list(self.steps), "units": list(self.units)}

    def along(self, axes: str, chosen: str) -> Spacing:
        """The spacing of some of ``axes``, in the order of ``chosen``; axes that are not there have step 1."""
        at = {name: (step, unit) for name, step, unit in zip(axes, self.steps, self.units, strict=True)}
        pairs = [at.get(name, (1.0, "")) for name in chosen]
        return Spacing(tuple(step for step, _ in pairs), tuple(unit for _, unit in pairs))


def axes_from_attributes(attributes: Mapping[str, Any], ndim: int) -> str | None:
    """Axis names such as ``zyx`` from attributes ``axes``, ilastik's ``axistags``, or HDF5's ``DIMENSION_LABELS``.

    Returns:
        One letter of ``tczyx`` per axis, or None where no attribute names exactly ``ndim`` different ones.
    """
    for names in (texts(attributes.get("axes")), _axistags(attributes.get("axistags")),
                  texts(attributes.get("DIMENSION_LABELS"))):  # fmt: skip
        axes = known_axes(names, ndim)
        if axes is not None:
            return axes
    return None


def known_axes(names: Sequence[str], ndim: int) -> str | None:
    """The names as one word, or None unless they are ``ndim`` different letters of ``tczyx``."""
    if len(names) == ndim and len(set(names)) == ndim and set(names) <= set(AXES):
        return "".join(names)
    return None


def spacing_from_attributes(attributes: Mapping[str, Any], axes: str | None) -> Spacing | None:
    """Voxel spacing from attributes ``resolution`` and ``units``, ilastik's ``axistags``, or ``element_size_um``.

    ``resolution`` and ``units`` are in the order of the axes; ``element_size_um`` holds zyx or yx in micrometres.
    None where nothing is said or its length fits nothing.
    """
    if axes is None:
        return None
    steps = numbers(attributes.get("resolution"))
    if len(steps) == len(axes):
        named = attributes.get("units")
        units = [_text(named)] * len(axes) if isinstance(named, str | bytes) else texts(named)
        return Spacing(tuple(steps), tuple(units) if len(units) == len(axes) else ("",) * len(axes))
    if (tagged := _tagged_spacing(attributes, axes)) is not None:
        return tagged
    steps = numbers(attributes.get("element_size_um"))
    spatial = "".join(axis for axis in "zyx" if axis in axes)
    if steps and len(steps) == len(spatial):
        return Spacing(tuple(steps), ("micrometer",) * len(steps)).along(spatial, axes)
    return None


def axistags(axes: str, spacing: Spacing | None = None) -> str:
    """The attribute by which ilastik (vigra) knows the axes of an HDF5 or N5 dataset, as JSON."""
    kinds = {"c": 1, "x": 2, "y": 2, "z": 2, "t": 8}  # vigra's flags: Channels, Space, Time
    steps = spacing.steps if spacing else (0,) * len(axes)
    tags = [
        {"key": axis, "typeFlags": kinds[axis], "resolution": 0 if axis == "c" else step, "description": ""}
        for axis, step in zip(axes, steps, strict=True)
    ]
    return json.dumps({"axes": tags})


def unit_name(text: str) -> str:
    """The full name of a unit, as OME-Zarr has it: ``micrometer`` for ``µm``; the text itself where unknown."""
    text = text.strip().strip('"')
    lower = text.lower()
    return lower if lower in _UNIT_NAMES else _KNOWN_UNITS.get(lower, text)


def single(value: float) -> float:
    """The number that was meant by one that went through single precision, and was divided there.

    >>> single(0.10000000149011612)
    0.1
    """
    return float(f"{value:.6g}")


def _tagged_spacing(attributes: Mapping[str, Any], axes: str) -> Spacing | None:
    """Ilastik keeps steps in ``axistags`` and units in ``axis_units``; a step of 0 says nothing."""
    try:
        tags = json.loads(_text(attributes["axistags"]))["axes"]
        steps = {tag["key"]: float(tag.get("resolution", 0)) for tag in tags}
        units = json.loads(_text(attributes.get("axis_units", "{}")))
    except (KeyError, ValueError, TypeError):
        return None
    if not any(steps.get(axis) for axis in axes if axis in "zyx"):
        return None
    return Spacing(tuple(steps.get(a) or 1.0 for a in axes), tuple(str(units.get(a) or "") for a in axes))


def texts(value: Any) -> list[str]:
    """A list of names in an attribute; empty where it is none. A word counts as the list of its letters."""
    try:
        return [] if value is None else [_text(name) for name in value]
    except TypeError:
        return []


def numbers(value: Any) -> list[float]:
    """A list of numbers in an attribute; empty where it is none."""
    try:
        return [] if value is None else [float(number) for number in value]
    except (TypeError, ValueError, OverflowError):
        return []


def _axistags(value: Any) -> list[str]:
    if value is None:
        return []
    try:
        tags = json.loads(_text(value)) if isinstance(value, str | bytes) else value
        return [axis["key"] for axis in tags["axes"]]
    except (ValueError, KeyError, TypeError):
        return []


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
