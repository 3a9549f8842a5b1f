"""How values lie in a project file: text, axis tags, and what is said when something is not where it belongs."""

from __future__ import annotations

import json
from typing import Any

import h5py


class LayoutError(Exception):
    """A project file is not laid out as it should be; the message says where, and what to do."""


def decode(value: Any) -> str:
    """Text as ilastik writes it: declared ASCII, in fact UTF-8."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def read_text(group: h5py.Group, name: str, default: str = "") -> str:
    """Text of a dataset below a group; the default where there is none."""
    node = group.get(name)
    return decode(node[()]) if isinstance(node, h5py.Dataset) else default


def read_class_names(names: Any, highest: int, what: str) -> tuple[str, ...]:
    """Names of all classes, in their order.

    Args:
        names: the dataset ``LabelNames``; empty lists are stored as garbage, and None or such gives names made here.
        highest: number of the highest class that is there, from 1.
        what: says so, for people, such as ``classifier knows``.

    Raises:
        LayoutError: it names fewer.
    """
    if not isinstance(names, h5py.Dataset) or not names.size or names.attrs.get("isEmpty", False):
        return tuple(f"Class {i + 1}" for i in range(highest))
    classes = tuple(decode(name) for name in names[()])
    if highest > len(classes):
        raise LayoutError(f"its {what} class {highest}, but it names only {len(classes)}; save it again in ilastik")
    return classes


def axes_of_tags(tags: Any) -> str:
    """Names of the axes, such as ``zyxc``, from axis tags in JSON.

    Raises:
        LayoutError: it is no such JSON.
    """
    try:
        return "".join(axis["key"] for axis in json.loads(decode(tags))["axes"])
    except (ValueError, KeyError, TypeError) as error:
        raise LayoutError(f"axis tags {decode(tags)!r:.60} cannot be read; open and save it with ilastik") from error
