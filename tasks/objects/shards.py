"""Rows of blocks, put together object by object: a shard of the objects at a time, however many there are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blockwise.files import explained
from tasks.components.measures import MeasureColumns, Measures, combine_measures, from_columns, side_by_side

BUFFER_BYTES = 128_000_000
"""Rows of blocks that are held until they are written to the files of their shards."""

SHARD_BYTES = 128_000_000
"""Rows of a shard's objects."""

LARGEST_SHARD = 1 << 17
"""Objects; their statistics are computed with Python's integers, which need some hundred bytes each."""

Rows = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Places of objects, int64 (rows,), and what is known of parts of them, int64 (rows, columns)."""


@dataclass(frozen=True)
class RowSource:
    """Rows of all blocks, of one kind.

    Attributes:
        name: of what has made them, for messages.
        columns: of a row.
        read: gives the rows of the blocks, one block after the other.
    """

    name: str
    columns: MeasureColumns
    read: Callable[[], Iterable[Rows]]

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return sum(max(width, 1) for _, width in self.columns)


def objects_of_a_shard(sources: Iterable[RowSource]) -> int:
    """How many objects are looked at together."""
    row = 8 * sum(source.width + 1 for source in sources)
    return max(1, min(LARGEST_SHARD, SHARD_BYTES // row))


def combined_by_shards(source: RowSource, count: int, per_shard: int, folder: Path) -> Iterator[Measures]:
    """Measures of the objects 0, 1, ..., by shards.

    Args:
        source: the rows; each object has at least one.
        count: of objects.
        per_shard: objects of a shard.
        folder: where rows are kept meanwhile, if there is more than one shard.

    Yields:
        Measures of a shard's objects, in their order; one empty shard where there are no objects.

    Raises:
        RuntimeError: the rows are not of these objects.
        DiskFullError: there is no room for the rows.
    """
    if count <= per_shard:
        table = _Table(source)
        for rows in source.read():
            table.add(rows)
        yield table.measures(range(count))
        return
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".shards-", dir=folder))
    try:
        with explained(scratch):
            _deal(source, count, per_shard, scratch)
        for begin in range(0, count, per_shard):
            table = _Table(source)
            for rows in _dealt(_file(scratch, begin // per_shard), source.width):
                table.add(rows)
            yield table.measures(range(begin, min(begin + per_shard, count)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Table:
    """Rows of objects, put together now and then, so that an object in many blocks takes no more than others."""

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.pieces: list[Rows] = []
        self.waiting = 0
        self.known = 0

    def add(self, rows: Rows) -> None:
        self.pieces.append(rows)
        self.waiting += rows[1].nbytes
        if self.waiting > 2 * self.known + BUFFER_BYTES:
            self._combine()

    def _combine(self) -> None:
        places = np.concatenate([np.empty(0, np.int64), *(piece[0] for piece in self.pieces)])
        rows = np.concatenate([np.empty((0, self.source.width), np.int64), *(piece[1] for piece in self.pieces)])
        self.pieces.clear()
        measures = combine_measures(from_columns(rows, self.source.columns), places)
        rows = side_by_side(measures, self.source.columns)
        self.pieces.append((np.unique(places), rows))
        self.known, self.waiting = rows.nbytes, 0

    def measures(self, objects: range) -> Measures:
        """Of these objects, which all must be there."""
        self._combine()
        places, rows = self.pieces[0]
        if not np.array_equal(places, np.arange(objects.start, objects.stop)):
            raise RuntimeError(f"{self.source.name}: its objects are not those that the components were joined to")
        return from_columns(rows, self.source.columns)


def _file(folder: Path, shard: int) -> Path:
    return folder / f"{shard}"


def _deal(source: RowSource, count: int, per_shard: int, folder: Path) -> None:
    """Write all rows to the files of their shards, each with its object's place in front."""
    waiting: dict[int, list[NDArray[np.int64]]] = {}
    held = 0
    for places, rows in source.read():
        if len(places) and not 0 <= places.min() <= places.max() < count:
            raise RuntimeError(f"{source.name}: its objects are not those that the components were joined to")
        order = np.argsort(places, kind="stable")
        shards = places[order] // per_shard
        table = np.concatenate([places[order, None], rows[order]], axis=1)
        cuts = np.flatnonzero(np.diff(shards, prepend=-1))
        for piece, shard in zip(np.split(table, cuts[1:]), shards[cuts].tolist(), strict=True):
            waiting.setdefault(shard, []).append(piece)
        held += table.nbytes
        if held > BUFFER_BYTES:
            _flush(waiting, folder)
            held = 0
    _flush(waiting, folder)


def _flush(waiting: dict[int, list[NDArray[np.int64]]], folder: Path) -> None:
    for shard, pieces in waiting.items():
        with _file(folder, shard).open("ab") as file:
            np.concatenate(pieces).tofile(file)
    waiting.clear()


def _dealt(path: Path, width: int) -> Iterator[Rows]:
    """The rows of a shard, in pieces."""
    if not path.exists():
        return
    per_piece = max(1, BUFFER_BYTES // (8 * (width + 1)))
    with path.open("rb") as file:
        while len(table := np.fromfile(file, np.int64, per_piece * (width + 1))):
            table = table.reshape(-1, width + 1)
            yield table[:, 0], table[:, 1:]
