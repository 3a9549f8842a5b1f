"""What every output offers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from blockwise.errors import UserError
from blockwise.grid import Block, Box
from blockwise.stamps import WrittenFiles


class NotOursError(UserError):
    """Something that no run of ours has written lies where a result is to be written.

    Attributes:
        setting: what decides about the place: ``output``, or ``work folder``.
    """

    def __init__(self, message: str, setting: str = "output") -> None:
        super().__init__(message)
        self.setting = setting


class Output(Protocol):
    """A place for the results of a step's blocks."""

    @property
    def address(self) -> str:
        """Where it lies, as messages name it."""

    def places(self) -> Iterable[str]:
        """Folders of this machine that are written to, beside the step's own."""

    def check_ours(self) -> None:
        """Raise NotOursError where something lies in this place that no run of ours has written."""

    def found(self) -> Mapping[str, Any] | None:
        """Attributes ``fingerprint`` and ``id`` of what lies there; None where nothing does."""

    def description_files(self) -> tuple[Path, ...]:
        """Files of this machine that ``found`` reads, there or not; empty where they are in a store."""

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Put an empty output there, with these attributes; what lay there (ours) goes."""

    def write(self, block: Block, data: Any) -> str:
        """Write a block's result, and return its checksum."""

    def checksum(self, block: Block) -> str:
        """Read a block's result back, and return its checksum."""

    def grid_box(self, box: Box) -> Box:
        """The grid's part of the box that a DamagedDataError of this output names."""

    def files_stamp(self, block: Block) -> str:
        """Digest over size and time of one block's files; equal to the stamp that ``files`` has for it."""

    def files(self) -> WrittenFiles:
        """Size and time of all files."""


def new_attributes(fingerprint: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a new output; ``id`` tells it from another one with the same fingerprint elsewhere."""
    return {"fingerprint": fingerprint, "id": uuid.uuid4().hex, "provenance": dict(provenance)}
