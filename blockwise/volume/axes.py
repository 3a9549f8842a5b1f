"""Axis names in a dataset's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def axes_from_attributes(attributes: Mapping[str, Any], ndim: int) -> str | None:
    """Axis names such as ``zyx`` from attributes ``axes``, ilastik's ``axistags``, or HDF5's ``DIMENSION_LABELS``.

    Returns:
        One letter of ``tczyx`` per axis, or None where no attribute names exactly ``ndim`` different ones.
    """
    for names in (_plain(attributes.get("axes")), _axistags(attributes.get("axistags")),
                  _plain(attributes.get("DIMENSION_LABELS"))):  # fmt: skip
        if len(names) == ndim and len(set(names)) == ndim and set(names) <= set("tczyx"):
            return "".join(names)
    return None


def _plain(value: Any) -> list[str]:
    if value is None:
        return []
    return [_text(name) for name in value]


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
