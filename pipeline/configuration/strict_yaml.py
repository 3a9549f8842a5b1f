"""YAML without its traps: of what a person may have meant otherwise nothing is taken silently."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from blockwise.errors import UserError

REPETITIONS = 10
"""Values that a sign of the text may stand for; one without aliases stands for one at most."""

_TYPES = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "merge": (r"<<", "<"),
}
"""Patterns of plain words that are no text, and their first signs. As in YAML 1.2, ``no``, ``on``, ``12:30`` and
dates are text, which older YAML takes for false, true, 750 and a day; so are numbers with leading zeros (007)."""


class _StrictLoader(yaml.SafeLoader):
    """Plain words as in YAML 1.2, keys that are text, and each key once."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (PyYAML's table, made below)

    def compose_mapping_node(self, anchor: Any) -> Any:
        """A mapping as it stands in the text; merged keys (``<<``) come in later, and stand behind its own."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag not in (_tag("str"), _tag("merge")):
                found = key.value if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                raise _KeyRefusedError(
                    f"line {line}: the key {found} is read as {_kind(key)}; quote it where a name is meant"
                )
            if key.value in lines:
                raise _KeyRefusedError(
                    f"the key {key.value!r} stands twice, in line {lines[key.value]} and in line {line}; leave one "
                    "of them out"
                )
            lines[key.value] = line
        return node


class _KeyRefusedError(yaml.YAMLError):
    """A key that cannot be taken."""


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML.

    Args:
        text: one document.
        where: name of the file, for the message.

    Raises:
        UserError: it is not YAML, or a mapping has a key twice, or one that is no text, or aliases repeat so much
            that a few lines would fill the memory.
    """
    try:
        value = yaml.load(text, _StrictLoader)  # noqa: S506 (a SafeLoader)
        size = _size(value, {})
    except _KeyRefusedError as error:
        raise UserError(f"{where}: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise UserError(f"{where} is not valid YAML: it is nested too deep") from error
    if size > REPETITIONS * (len(text) + 1000):
        raise UserError(
            f"{where}: its aliases (*) repeat one another until they hold {size:.3g} values; write them out"
        )
    return value


def _size(value: Any, known: dict[int, float]) -> float:
    """How many values there are where each alias stands for all that it names; infinite where one holds itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # met again within itself
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in inner)
    return known[id(value)]


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


def _kind(key: yaml.Node) -> str:
    kind = key.tag.rpartition(":")[2]
    return {"bool": "a boolean", "int": "a number", "float": "a number", "null": "nothing"}.get(kind, f"a {kind}")


for _name, (_pattern, _first) in _TYPES.items():
    _StrictLoader.add_implicit_resolver(_tag(_name), re.compile(f"^(?:{_pattern})$"), list(_first))
