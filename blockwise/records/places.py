"""Where records lie, as a configuration names it: a folder, or a prefix in an object store."""

from __future__ import annotations

from pathlib import Path

SCHEMES = ("s3://", "gs://")
"""What addresses in stores begin with that have conditional writes."""


def in_store(place: str | Path) -> bool:
    """Whether a place is one in an object store."""
    return isinstance(place, str) and place.lower().startswith(SCHEMES)


def within(place: str, key: str) -> str:
    """The place of what lies below another one; how its store is reached stays."""
    if not in_store(place):
        return f"{place}/{key}"
    path, mark, options = place.partition("?")
    return f"{path.rstrip('/')}/{key}{mark}{options}"
