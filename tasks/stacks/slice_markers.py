"""Markers of steps whose blocks are slices."""

from __future__ import annotations

from collections.abc import Iterator

from blockwise.grid import Grid
from blockwise.records import Records
from blockwise.records.markers import Markers


class SliceMarkers(Markers):
    """Markers of the slices that there are: a stack may have had others, and may have them again."""

    def __init__(self, records: Records, fingerprint: str, grid: Grid) -> None:
        super().__init__(records, fingerprint)
        self._names = {f"{z}.json" for z in grid.ids()}

    def _keys(self, kind: str) -> Iterator[str]:
        return (key for key in super()._keys(kind) if key.rpartition("/")[2] in self._names)
