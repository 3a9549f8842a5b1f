"""Values that were found by trying, written into a configuration file beside the first one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from blockwise.errors import UserError
from blockwise.records import ABSENT, open_records
from pipeline.configuration.paths import expand_path
from pipeline.configuration.strict_yaml import parse_yaml

MOST_FILES = 1000


def with_thresholds(text: str, thresholds: list[dict[str, Any]]) -> str:
    """A configuration with other thresholds; all else stays as it is written, comments included, where that can be.

    Args:
        text: of the configuration file.
        thresholds: as they stand in such a file.
    """
    values = parse_yaml(text, "configuration")
    section = thresholds[0] if len(thresholds) == 1 else thresholds
    wanted = {**values, "threshold": section}
    line = "threshold: " + yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=10_000).strip()
    found = _replaced(text, line)
    try:
        if parse_yaml(found, "configuration") == wanted:  # not so with references, or a file in braces
            return found
    except UserError:
        pass
    return yaml.safe_dump(wanted, sort_keys=False)


def _replaced(text: str, line: str) -> str:
    """The text with this line in place of its section of thresholds, or at its end."""
    root = yaml.compose(text, yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "threshold":
            return text[: key.start_mark.index] + line + text[_end_of(value) :]
    return f"{text.rstrip()}\n{line}\n"


def _end_of(node: yaml.Node) -> int:
    """Where a value ends: a block ends for the parser where the next one begins, after comments between them."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def write_beside(config: str, text: str) -> Path:
    """Write a configuration beside another one, ``mine.2.yaml`` or the first number that is free; never over a file.

    Raises:
        UserError: the folder cannot be written.
    """
    first = Path(expand_path(config))
    for number in range(2, MOST_FILES):
        path = first.with_name(f"{first.stem}.{number}{first.suffix}")
        try:
            if open_records(path.parent).put(path.name, text.encode(), ABSENT) is not None:
                return path
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    raise UserError(f"{first}: {MOST_FILES} configurations lie beside it; remove some")
