"""The interface to records, which a folder can have as well as an object store.

A record is a piece of content under a *key*, a path such as ``prediction/ab12cd/done/000000/17.json``. It appears
whole or not at all. There are no folders: a *prefix* is there as long as a record is below it, and no record lies at
a prefix. A part of a key that begins with a dot hides it from those who list.

``tests/contract/test_records.py`` says what every home of records must do.
"""

from __future__ import annotations

import enum
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal, NewType, Protocol

from blockwise.records.keys import matches

Version = NewType("Version", str)
"""Tells the contents that a record has had from each other. To be compared and handed back, and nothing else; two
versions of one content may differ."""


class Expected(enum.Enum):
    """What a record must be for another one to take its place, besides a certain version."""

    ANY = "whatever it is"
    ABSENT = "not there"


ANY: Final = Expected.ANY
ABSENT: Final = Expected.ABSENT


class SmallRecords(Protocol):
    """As much of ``Records`` as markers need."""

    def get(self, key: str) -> bytes | None:
        """See ``Records.get``."""

    def put(self, key: str, content: bytes) -> Version | None:
        """See ``Records.put``."""

    def delete(self, *keys: str) -> None:
        """See ``Records.delete``."""

    def forget(self, *keys: str) -> None:
        """Delete records that were there when somebody last looked, if they are still there."""

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """See ``Records.get_many``."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See ``Records.keys``."""

    def versions(self, keys: Iterable[str]) -> dict[str, Version]:
        """See ``Records.versions``."""

    def states(self, keys: Iterable[str]) -> dict[str, str]:
        """See ``Records.states``."""


class Records(ABC):
    """Records below one place; several threads and processes may use them at once.

    What passes (see ``blockwise.transient``) is raised as it is: a record counts as absent only where its home says
    so. A key that would lead out of the place is refused with a ValueError.
    """

    @abstractmethod
    def place(self, key: str = "") -> str:
        """Where a record, or all of them, lies, as messages name it."""

    @abstractmethod
    def below(self, prefix: str) -> Records:
        """The records below a prefix, whose keys then begin after it."""

    @property
    @abstractmethod
    def on_this_machine(self) -> Path:
        """Folder of this machine for what is no record, logs and the kernel's locks, there or not."""

    # One record.

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The content of a record; None where there is none."""

    @abstractmethod
    def put(
        self, key: str, content: bytes | memoryview, expected: Version | Literal[Expected.ANY, Expected.ABSENT] = ANY
    ) -> Version | None:
        """Write a record whole: who reads finds the old content or the new one.

        Args:
            key: of the record.
            content: all of it.
            expected: what must be there at present. Of several who expect the same at once, one succeeds.

        Returns:
            The new version; None where something else was there than expected, or another is replacing it at this
            moment: nothing was written then.

        Raises:
            DiskFullError: there is no room; what was there stays.
            UserError: it may not be written.
        """

    @abstractmethod
    def delete(self, *keys: str) -> None:
        """Remove records; those that are not there are no error."""

    def forget(self, *keys: str) -> None:
        """Delete records that most likely are not there; a home may know that without asking."""
        self.delete(*keys)

    @abstractmethod
    def version(self, key: str) -> Version | None:
        """The present version of a record; None where there is none."""

    @abstractmethod
    def state(self, key: str) -> str | None:
        """Text that changes whenever a record is written, and that markers may keep; None where there is none.

        It stays when a folder is copied with its times, other than a version.
        """

    @abstractmethod
    def file(self, key: str) -> Path:
        """A file of this machine with a record's content, to be mapped into memory or read in pieces, not written.

        Raises:
            FileNotFoundError: there is no such record.
        """

    def packed(self) -> SmallRecords:
        """The same place for very many small records of JSON, called ``kind/group/name.json``.

        A store keeps many of them in one object; there the others of ``Records`` do not find them.
        """
        return self

    def local(self, key: str) -> Path | None:
        """Path of this machine at which a record lies, there or not; None where it lies elsewhere."""
        return None

    @abstractmethod
    def writing(self, key: str) -> AbstractContextManager[Path]:
        """Give a path of this machine to write to; at the end of the body what lies there becomes the record.

        On an error what was there stays.

        Raises:
            DiskFullError: there is no room.
            UserError: it may not be written.
        """

    # Many records.

    @abstractmethod
    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Contents of many records, with their keys, in any order; those that are not there are left out."""

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys of all records below a prefix, hidden ones left out, in any order."""

    def matching(self, *patterns: str) -> list[str]:
        """Keys of records that match any of some patterns, part by part, sorted; hidden ones left out."""
        return sorted(key for key in self.keys() if any(matches(key, pattern) for pattern in patterns))

    @abstractmethod
    def children(self, prefix: str = "") -> list[str]:
        """The parts that follow after a prefix and below which there may be records, sorted; hidden ones left out."""

    @abstractmethod
    def versions(self, keys: Iterable[str]) -> dict[str, Version]:
        """Versions of those of some records that are there; few of them are opened."""

    @abstractmethod
    def states(self, keys: Iterable[str]) -> dict[str, str]:
        """States of those of some records that are there; see ``state``."""

    @abstractmethod
    def holds(self, prefix: str) -> bool:
        """Whether there is anything below a prefix, or a folder for it."""

    @abstractmethod
    def clear(self, prefix: str) -> None:
        """Remove all records below a prefix.

        One that is broken off leaves none of them under its key, or all of them, or, in a store, some, of which none
        lies right at the prefix; the rest goes with the next one.
        """

    def leave_this_machine(self) -> None:
        """Remove what lies on this machine of records that are elsewhere; of those that are here, nothing."""
        return

    @abstractmethod
    def settle(self, key: str = "") -> None:
        """Bring a record, or all of them, to where a power failure does not reach them."""


def read_json(records: Records, key: str) -> dict[str, Any] | None:
    """Read a JSON object; None where it is absent, cut off, or something else."""
    content = records.get(key)
    try:
        value = None if content is None else json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def write_json(records: Records, key: str, value: Any, indent: int | None = 1) -> None:
    """Write a value as JSON; without indent it takes a tenth of the time."""
    records.put(key, (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode())
