"""What is wrong in a configuration file, in words."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

Model = type[BaseModel]


def explanations(error: ValidationError, values: dict[str, Any], model: Model) -> list[str]:
    """One line for each key that is not right.

    Args:
        error: of pydantic.
        values: keys and values as they stand in the file.
        model: what they were meant to become.
    """
    return [_explain(item, model) for item in _distinct(error, values, model)]


def _distinct(error: ValidationError, values: dict[str, Any], model: Model) -> list[Any]:
    """One entry per key: pydantic reports each branch of a union."""
    found: dict[tuple[str, ...], Any] = {}
    for item in error.errors():
        location = item["loc"]
        if location[:2] == ("threshold", 0) and not isinstance(values["threshold"], list):
            location = (location[0], *location[2:])  # one threshold needs no list in the file
        found.setdefault(_key(location, model), {**item, "loc": location})
    return list(found.values())


def _key(location: tuple[int | str, ...], model: Any) -> tuple[str, ...]:
    """The keys of a location that stand in the file; pydantic adds names of types."""
    keys: list[str] = []
    for part in location:
        fields = _fields(model)
        if isinstance(part, str) and keys and part not in fields and model is None:
            continue
        keys.append(str(part))
        if isinstance(part, str):
            model = fields.get(part)
    return tuple(keys)


def _fields(model: Any) -> dict[str, Any]:
    """Keys of a section, each with its own section or None."""
    if model is None:
        return {}
    return {field.alias or name: section_of(field.annotation) for name, field in model.model_fields.items()}


def section_of(annotation: Any) -> Model | None:
    """The section that a key holds, one or several of it."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _explain(item: Any, model: Model) -> str:
    keys = _key(item["loc"], model)
    name = ".".join(keys)
    if item["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1], model)
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
        return f"{name}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{name}: this key is needed"
    message = item["msg"].removeprefix("Value error, ")
    return f"{name}: found {item['input']!r:.80}; {message[0].lower()}{message[1:]}"


def _known_keys(path: tuple[str, ...], model: Any) -> list[str]:
    for key in path:
        model = model if key.isdigit() else _fields(model).get(key)
    return list(_fields(model))
