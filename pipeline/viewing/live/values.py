"""Values that are moved in the panel, and the sections of the configuration that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.configuration.settings import OF_CORES, Settings, Threshold
from pipeline.viewing.refusals import RefusedError

MOVED = ("class", "sigma", "method", "threshold", "core", "final")
"""Keys of a threshold that the panel has; all others stay as they are in the configuration."""

OF_METHODS = {"simple": {"threshold"}, "hysteresis": {"core", "final", *OF_CORES}}
"""Keys that belong to one method and must not be given with the other."""


def values_of(threshold: Threshold) -> dict[str, Any]:
    """What the panel shows of a threshold: the keys of ``MOVED`` that its method has."""
    values = threshold.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: values[key] for key in MOVED if key in values and key not in _of_others(threshold.method)}


def tried(settings: Settings, name: str, values: Mapping[str, Any]) -> Threshold:
    """A threshold of the configuration with other values.

    Args:
        settings: the configuration.
        name: of the threshold; empty where it has none.
        values: for keys of ``MOVED``; those that are left out stay.

    Raises:
        RefusedError: 404: there is no such threshold; 400: a key or value is not right.
    """
    base = next((one for one in settings.threshold if (one.name or "") == name), None)
    if base is None:
        known = [one.name or "" for one in settings.threshold]
        raise RefusedError(404, f"there is no threshold {name!r:.80}; there are {known}", thresholds=known)
    if unknown := [key for key in values if key not in MOVED]:
        raise RefusedError(400, f"{unknown[0]!r:.80} is not to be moved here; known are {', '.join(MOVED)}")
    wanted = as_written(base) | dict(values)
    others = _of_others(wanted.get("method", "simple"))
    try:
        return Threshold.model_validate({key: value for key, value in wanted.items() if key not in others})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'][:1]))}: {item['msg']}".lstrip(": ") for item in error.errors()]
        raise RefusedError(400, "; ".join(dict.fromkeys(lines))) from None


def as_written(threshold: Threshold) -> dict[str, Any]:
    """A threshold as it stands in a configuration file: what is left out there is left out."""
    return threshold.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _of_others(method: Any) -> set[str]:
    return {key for name, keys in OF_METHODS.items() if name != method for key in keys}
