"""The configuration's keys, for messages of the floors below, which know no configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from blockwise.advice import Names
from blockwise.errors import UserError
from blockwise.outputs import NotOursError

KEYS = {"output": "output", "work folder": "work_dir"}
"""Keys of what decides where results are written, as ``NotOursError`` calls it."""


def backend_names(kind: str) -> Names:
    """What messages of a backend call the settings."""
    return Names(
        block_shape="blocks.shape",
        workers="backend.workers",
        timeout="backend.timeout_s",
        kind=f"backend.name: {kind}",
        option=f"backend.{kind}.",
    )


@contextlib.contextmanager
def naming_keys() -> Iterator[None]:
    """Say by which key another place is chosen, where something that is not ours lies in that of a result."""
    try:
        yield
    except NotOursError as error:
        raise UserError(f"{error}: set another `{KEYS[error.setting]}`") from error
