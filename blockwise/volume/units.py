"""Names of units, in the words of OME-Zarr."""

from __future__ import annotations

_NAMES = {
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
_KNOWN = {short: name for name, shorts in _NAMES.items() for short in shorts}


def unit_name(text: str) -> str:
    """The unit's full name, such as ``micrometer`` for ``µm``; as it is written where it is not known."""
    text = text.strip().strip('"')
    return _KNOWN.get(text.lower(), text)
