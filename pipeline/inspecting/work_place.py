"""What lies in a work folder, to be listed and removed: files and folders, or records in a store."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from blockwise.claims import LOCKS
from blockwise.records import Records, in_store, open_records, read_json, within
from blockwise.records.keys import matches


class StoredPlace(str):
    """A record in a store, or the prefix of several, as text.

    Attributes:
        records: in which it lies.
        key: its key, or the prefix.
        is_prefix: whether there is no record of that key.
    """

    records: Records
    key: str
    is_prefix: bool

    @classmethod
    def of(cls, records: Records, key: str, *, is_prefix: bool) -> StoredPlace:
        """The place of a key."""
        place = cls(records.place(key))
        place.records, place.key, place.is_prefix = records, key, is_prefix
        return place

    def remove(self) -> None:
        """Remove it, or what is below it."""
        if self.is_prefix:
            self.records.clear(self.key)
        else:
            self.records.delete(self.key)


class WorkPlace:
    """A work folder, wherever it is.

    Attributes:
        place: its path, or address.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.records = open_records(place)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.place.partition("?")[0].rstrip("/").rpartition("/")[2]

    def inner(self, key: str) -> WorkPlace:
        """One that lies in it."""
        return WorkPlace(within(self.place, key))

    def read(self, key: str) -> dict[str, Any] | None:
        """A record of JSON."""
        return read_json(self.records, key)

    def matching(self, pattern: str) -> list[str]:
        """Keys of records that match a pattern, part by part, sorted."""
        if self._folder is not None:
            return self.records.matching(pattern)
        return [key for key in self._keys if matches(key, pattern)]

    def present(self, *keys: str) -> list[str]:
        """Those records and prefixes that there are, as places."""
        if self._folder is not None:
            return [str(path) for path in (self._folder / key for key in keys) if path.exists()]
        found = []
        for key in keys:
            if key in self._all_keys:
                found.append(StoredPlace.of(self.records, key, is_prefix=False))
            elif any(other.startswith(f"{key}/") for other in self._keys):
                found.append(StoredPlace.of(self.records, key, is_prefix=True))
        return [*found]

    def remove_remains(self, keys: Iterable[str], folders: Iterable[str]) -> None:
        """Remove what the removal itself has made: records of these keys, locks, and folders that are empty."""
        if self._folder is None:
            self.records.delete(*keys)
            self.records.leave_this_machine()
            return
        for key in keys:
            (self._folder / key).unlink(missing_ok=True)
        for folder in map(Path, (*folders, str(self._folder))):
            shutil.rmtree(folder / LOCKS, ignore_errors=True)
            for inner in folder.glob("*"):
                _remove_if_empty(inner)
            _remove_if_empty(folder)

    @cached_property
    def _folder(self) -> Path | None:
        return None if in_store(self.place) else Path(self.place)

    @cached_property
    def _keys(self) -> list[str]:
        """Of all records in a store, listed once."""
        return sorted(self.records.keys())

    @cached_property
    def _all_keys(self) -> set[str]:
        return set(self._keys)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
