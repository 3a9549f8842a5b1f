"""Markers of images."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from blockwise.identity import digest
from blockwise.records import Records
from blockwise.records.markers import FAILED, FAILURE, Failure, Marker, Markers


class NamedMarkers(Markers):
    """Markers in records that are called as the images: numbers change when images come and go."""

    def __init__(self, records: Records, fingerprint: str, names: tuple[str, ...]) -> None:
        super().__init__(records, fingerprint)
        self.names = names

    def read(self, block: int) -> Marker | None:
        """Read one marker."""
        marker = super().read(block)
        return marker and msgspec.structs.replace(marker, block=block)

    def read_failure(self, block: int) -> Failure | None:
        """Read one failure record."""
        failure = super().read_failure(block)
        return failure and msgspec.structs.replace(failure, block=block)

    def __iter__(self) -> Iterator[Marker]:
        """Read all valid markers."""
        return iter(self.read_many(range(len(self.names))).values())

    def failures(self) -> dict[int, Failure]:
        """Read all failure records, by number."""
        wanted = {self.key(FAILED, block): block for block in range(len(self.names))}
        found = {wanted[key]: self._valid(content, FAILURE) for key, content in self.records.get_many(wanted)}
        return {block: msgspec.structs.replace(failure, block=block) for block, failure in found.items() if failure}

    def _of(self, marker: Marker, block: int) -> Marker:
        return msgspec.structs.replace(marker, block=block)

    def key(self, kind: str, block: int) -> str:
        """Key of an image's record."""
        name = self.names[block]
        return f"{kind}/{digest(name)[:2]}/{name}.json"

    def _keys(self, kind: str) -> Iterator[str]:
        keys = (self.key(kind, block) for block in range(len(self.names)))
        return iter(self.records.states(keys))
