"""Which kinds of values a key takes: true is no number, 2.5 no whole one, and a number no name."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

_SWITCH = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_DEEPEST = 4
"""Lists in lists of a value are looked at down to here; no key takes deeper ones."""


def check_kind(value: Any, annotation: Any) -> Any:
    """Refuse what would become a value of another kind, which pydantic finds right where it loses nothing.

    Args:
        value: as it stands in the file.
        annotation: of the field.

    Returns:
        The value; true or false for the words on, off, yes and no where a switch is meant.

    Raises:
        ValueError: the value, or one in its lists, is of a kind that the field has not.
    """
    kinds = _kinds(annotation)
    if kinds == {bool} and isinstance(value, str):
        return _SWITCH.get(value.lower(), value)
    if kinds:
        _check(value, kinds, _DEEPEST)
    return value


def is_text(annotation: Any) -> bool:
    """Whether a field takes text and nothing else, so that what looks like a number is text as well."""
    return _kinds(annotation) == {str}


def _check(value: Any, kinds: frozenset[type], depth: int) -> None:
    if isinstance(value, list | tuple) and depth:
        for item in value:
            _check(item, kinds, depth - 1)
    elif isinstance(value, bool) and bool not in kinds:
        word = str(value).lower()
        raise ValueError(
            f"{word} is a boolean, which is no number and no name; quote it where a name is meant"
            if str in kinds
            else f"{word} is a boolean; expected {_words(kinds)}"
        )
    elif isinstance(value, float) and float not in kinds and int in kinds:
        raise ValueError(f"expected {_words(kinds)}; it has a decimal point")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if kinds == {str}:
            raise ValueError("expected text; quote it where a name is meant")
        if kinds == {bool}:
            raise ValueError("expected true or false")
    elif isinstance(value, str) and str not in kinds and bool not in kinds:
        raise ValueError(f"this is text; expected {_words(kinds)}")


def _words(kinds: frozenset[type]) -> str:
    number = "a number" if float in kinds else "an integer"
    return f"{number}, or a name" if str in kinds else number


@functools.cache  # a batch has thousands of configurations
def _kinds(annotation: Any) -> frozenset[type]:
    """Kinds of scalars that a field takes, alone or in lists; none where it is a section."""
    if get_origin(annotation) is Literal:
        return frozenset(type(value) for value in get_args(annotation)) - {type(None)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset()
    if annotation in (bool, int, float, str):
        return frozenset({annotation})
    return frozenset(kind for part in get_args(annotation) for kind in _kinds(part))
