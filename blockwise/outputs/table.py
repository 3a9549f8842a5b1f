"""A record for people: a table, a report, a page."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from blockwise.records import Records


@dataclass(frozen=True)
class Table:
    """A record for people, in a work folder.

    Attributes:
        records: of the work folder.
        key: its key.
    """

    records: Records
    key: str

    def __str__(self) -> str:
        """Where it lies."""
        return self.records.place(self.key)

    def state(self) -> str | None:
        """Changes whenever it is written; None where it is not there."""
        return self.records.state(self.key)

    def file(self) -> Path:
        """A file of this machine with its content."""
        return self.records.file(self.key)

    def writing(self) -> AbstractContextManager[Path]:
        """Gives a path to write it to."""
        return self.records.writing(self.key)
