"""The home folder (``~``) and variables of the environment in paths, put in once, where they come in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.records import in_store, open_records

PATHS = (
    "work_dir",
    "raw",
    "raw.path",
    "raw.moved_from",
    "output",
    "blocks.mask",
    "prediction.project",
    "pyramid.output",
    "prediction.probabilities",
    "threshold.project",
    "threshold.connected_components.classifier",
    "connected_components.classifier",
    "batch.files",
    "batch.manifest",
    "alignment.slices",
    "alignment.transforms",
    *(f"backend.{name}.{option}" for name, kind in BACKENDS.items() for option in kind.paths),
)
"""Keys of the configuration that hold a path or an address, or a list of them."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def expand_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, or a part of it, with the home folder and variables in all of its paths.

    Raises:
        UserError: naming the key, as ``expand_path``.
    """
    return _expanded(values, "")


def check_local(path: str) -> str:
    """A path that must be one of this machine.

    Raises:
        ValueError: it is an address in a store; as a path it would make folders that are called ``s3:``.
    """
    if is_url(path):
        raise ValueError(
            "this must lie on this machine, or on a file system that it has mounted; only work_dir, raw, output, "
            "blocks.mask, prediction.probabilities and projects may lie in a store"
        )
    return path


LocalPath = Annotated[str, AfterValidator(check_local)]


def check_project(path: str) -> str:
    """A file of this machine, or an object of a store of s3:// or gs://, which is fetched.

    Raises:
        ValueError: it is neither.
    """
    return path if in_store(path) else check_local(path)


ProjectPath = Annotated[str, AfterValidator(check_project)]


def check_work_dir(path: str) -> str:
    """A folder of this machine, or an address in a store that can tell who was first.

    Raises:
        ValueError: it is neither.
    """
    if not is_url(path):
        return path
    if not in_store(path):
        raise ValueError("a work folder lies on this machine, or in a store of s3:// or gs://, which others are not")
    try:
        open_records(path)
    except UserError as error:
        raise ValueError(str(error)) from None
    return path


WorkPlace = Annotated[str, AfterValidator(check_work_dir)]


def is_url(path: str) -> bool:
    """Whether a path begins as an address in a store, or on a server, does."""
    return bool(_SCHEME.match(path))


def expand_path(text: str) -> str:
    """A path or address with the home folder in place of ``~``, and values in place of ``$NAME`` and ``${NAME}``.

    Raises:
        UserError: there is no such variable, or no such user.
    """
    path = _VARIABLE.sub(lambda found: _value(found, text), text)
    if not path.startswith("~"):
        return path
    home = os.path.expanduser(path)
    if home.startswith("~"):
        name = path.partition("/")[0]
        raise UserError(f"{text!r}: there is no home folder of {name}; for a path that begins so, write ./{name}")
    return home


def _value(found: re.Match[str], text: str) -> str:
    name = found[1] or found[2]
    if name in os.environ:
        return os.environ[name]
    if any(os.path.lexists(path) for path in (text, text.rpartition(":")[0]) if path):  # a name can have the sign
        return found[0]
    raise UserError(f"{text!r}: the variable {name} is not set in the environment; set it, or write the path out")


def _expanded(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found[key] = _expanded(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            found[key] = [_expanded(item, f"{name}.") if isinstance(item, Mapping) else item for item in value]
        elif name in PATHS:
            found[key] = [_item(item, name) for item in value] if isinstance(value, list) else _item(value, name)
        else:
            found[key] = value
    return found


def _item(value: Any, name: str) -> Any:
    if not isinstance(value, str):  # refused in a moment
        return value
    try:
        return expand_path(value)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
