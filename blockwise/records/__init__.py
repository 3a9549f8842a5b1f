"""What a run knows, in small named pieces: markers, targets, identities, tables, reports, locks.

Whoever has them goes through ``Records``; where they lie is decided here, and nowhere else.
"""

from __future__ import annotations

import functools
from pathlib import Path

from blockwise.records.base import ABSENT, ANY, Records, Version, read_json, write_json
from blockwise.records.folder import FolderRecords
from blockwise.records.places import in_store, within

__all__ = [
    "ABSENT",
    "ANY",
    "FolderRecords",
    "Records",
    "Version",
    "in_store",
    "open_records",
    "read_json",
    "within",
    "write_json",
]


def open_records(place: str | Path) -> Records:
    """The records in a work folder, or below any other place; nothing is made or looked at.

    Args:
        place: path of a folder, or an address in an object store, as ``s3://bucket/prefix``.
    """
    if in_store(place):
        from blockwise.records.store import StoreRecords  # with all that opens datasets, which few records need

        return StoreRecords.at(str(place))
    return _folder(str(place))


@functools.lru_cache(maxsize=1024)
def _folder(place: str) -> FolderRecords:
    """Steps ask for theirs at every turn."""
    return FolderRecords(str(Path(place)))
