"""One small file per finished block, one per failed block: the truth about what is done."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from blockwise.files import replacing
from blockwise.not_finite import NotFinite

BLOCKS_PER_FOLDER = 1000

READERS = 8
WAITS = 3.0
"""Where reading markers takes so many times the processor time, the disk is cold or far away: it answers many readers
as fast as one. Where it does not wait, threads would only take turns with Python's lock."""


class Marker(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A finished block.

    Attributes:
        block: id of the block.
        fingerprint: of the step.
        checksum: of the data that was written.
        stamps: what the block read, per source; see ``blockwise.sources``.
        files: digest over size and time of the files that were written.
        seconds: wall time.
        cpu_seconds: processor time.
        peak_memory_mb: largest resident memory of the worker so far.
        attempt: 1 for the first.
        host: name of the machine.
        not_finite: voxels of given data, in the block's write box, that hold NaN or infinity; None where none does,
            or an earlier version has not looked.
    """

    block: int
    fingerprint: str
    checksum: str
    stamps: dict[str, str]
    files: str
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    attempt: int
    host: str
    not_finite: NotFinite | None = None


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The last failed attempt at a block.

    Attributes:
        final: another attempt cannot help.
        upstream: name of the step whose damaged blocks are to be computed again first.
        transient: the file system or a store had trouble for a short time; see ``blockwise.transient``.
    """

    block: int
    fingerprint: str
    error: str
    message: str
    traceback: str
    log: str
    attempt: int
    host: str
    final: bool = False
    upstream: str = ""
    transient: bool = False


class Markers:
    """Markers and failure records of one step with one fingerprint, below one folder."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def write(self, marker: Marker) -> None:
        """Record a finished block; its data has been written before. A failure record of the block goes."""
        _write(self._path("done", marker.block), marker)
        self._path("failed", marker.block).unlink(missing_ok=True)

    def write_failure(self, failure: Failure) -> None:
        """Record a failed attempt."""
        _write(self._path("failed", failure.block), failure)

    def read(self, block: int) -> Marker | None:
        """Read one marker; None where it is absent, cut off or of another fingerprint."""
        return self._valid(_read(str(self._path("done", block)), _MARKER))

    def remove(self, block: int) -> None:
        """Forget that a block is done."""
        self._path("done", block).unlink(missing_ok=True)

    def read_failure(self, block: int) -> Failure | None:
        """Read one failure record; None where it is absent, cut off or of another fingerprint."""
        return self._valid(_read(str(self._path("failed", block)), _FAILURE))

    def remove_failure(self, block: int) -> None:
        """Forget that a block has failed."""
        self._path("failed", block).unlink(missing_ok=True)

    def done_among(self, blocks: Iterable[int]) -> dict[int, int]:
        """Those of some blocks that have a marker file, each with the file's inode; no file is opened."""
        return self._listed("done", blocks)

    def failed_among(self, blocks: Iterable[int]) -> dict[int, int]:
        """Those of some blocks that have a failure record, each with the file's inode; no file is opened."""
        return self._listed("failed", blocks)

    def sample(self, number: int) -> list[Marker]:
        """Read at most this many valid markers."""
        found = (self._valid(_read(path, _MARKER)) for path in itertools.islice(self._files("done"), number))
        return [marker for marker in found if marker is not None]

    def scan(self) -> dict[int, Marker]:
        """Read all valid markers, by block."""
        return {marker.block: marker for marker in self}

    def __iter__(self) -> Iterator[Marker]:
        """Read all valid markers one after the other, in no order that means anything."""
        folders = self._folders("done")
        waits = False
        while folders and not waits:
            wall, cpu = time.perf_counter(), time.process_time()
            markers = self._read_folder(folders.pop())
            waits = time.perf_counter() - wall > WAITS * (time.process_time() - cpu)
            yield from markers
        if folders:
            with ThreadPoolExecutor(READERS) as readers:
                yield from itertools.chain.from_iterable(readers.map(self._read_folder, folders))

    def failures(self) -> dict[int, Failure]:
        """Read all failure records, by block."""
        found = (self._valid(_read(path, _FAILURE)) for path in self._files("failed"))
        return {failure.block: failure for failure in found if failure is not None}

    def count(self) -> int:
        """Count marker files without reading them."""
        return sum(1 for _ in self._files("done"))

    def _path(self, kind: str, block: int) -> Path:
        return self.folder / kind / f"{block // BLOCKS_PER_FOLDER:06d}" / f"{block}.json"

    def _listed(self, kind: str, blocks: Iterable[int]) -> dict[int, int]:
        wanted = {str(self._path(kind, block)): block for block in blocks}
        found = {}
        for folder in {os.path.dirname(path) for path in wanted}:
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                found.update({wanted[e.path]: e.inode() for e in entries if e.path in wanted})
        return found

    def _folders(self, kind: str) -> list[str]:
        try:
            return [entry.path for entry in os.scandir(self.folder / kind)]
        except FileNotFoundError:
            return []

    def _files(self, kind: str) -> Iterator[str]:
        """Paths of all files of a kind."""
        return itertools.chain.from_iterable(map(_paths, self._folders(kind)))

    def _read_folder(self, folder: str) -> list[Marker]:
        found = (self._valid(_read(path, _MARKER)) for path in _paths(folder))
        return [marker for marker in found if marker is not None]

    def _valid(self, record: Record | None) -> Record | None:
        return record if record is not None and record.fingerprint == self.fingerprint else None


Record = TypeVar("Record", Marker, Failure)
_MARKER = msgspec.json.Decoder(Marker)
_FAILURE = msgspec.json.Decoder(Failure)


def _write(path: Path, record: Marker | Failure) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.encode(record))


def _read(path: str, decoder: msgspec.json.Decoder[Record]) -> Record | None:
    """Read a record; None where it is absent, cut off, or something else.

    There may be millions, and Python's own way to open a file takes four times as long as this one.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        content = os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _paths(folder: str) -> list[str]:
    """Files in a folder, as text: `Path` costs more than opening; those that are being written are left out."""
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.name[0] != "."]
