"""One small file per finished block, one per failed block: the truth about what is done."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blockwise.files import read_json, write_json

BLOCKS_PER_FOLDER = 1000


@dataclass(frozen=True, slots=True)
class Marker:
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


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt at a block.

    Attributes:
        final: another attempt cannot help.
        upstream: name of the step whose damaged blocks are to be computed again first.
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


class Markers:
    """Markers and failure records of one step with one fingerprint, below one folder."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def write(self, marker: Marker) -> None:
        """Record a finished block; its data has been written before. A failure record of the block goes."""
        write_json(self._path("done", marker.block), asdict(marker), indent=None)
        self._path("failed", marker.block).unlink(missing_ok=True)

    def write_failure(self, failure: Failure) -> None:
        """Record a failed attempt."""
        write_json(self._path("failed", failure.block), asdict(failure))

    def read(self, block: int) -> Marker | None:
        """Read one marker; None where it is absent, cut off or of another fingerprint."""
        return self._parse(str(self._path("done", block)))

    def remove(self, block: int) -> None:
        """Forget that a block is done."""
        self._path("done", block).unlink(missing_ok=True)

    def read_failure(self, block: int) -> Failure | None:
        """Read one failure record; None where it is absent, cut off or of another fingerprint."""
        value = read_json(self._path("failed", block))
        return Failure(**value) if value and value.get("fingerprint") == self.fingerprint else None

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
        found = map(self._parse, itertools.islice(self._files("done"), number))
        return [marker for marker in found if marker is not None]

    def scan(self) -> dict[int, Marker]:
        """Read all valid markers, by block."""
        return {marker.block: marker for marker in self}

    def __iter__(self) -> Iterator[Marker]:
        """Read all valid markers one after the other, in no order that means anything."""
        found = (self._parse(path) for path in self._files("done"))
        return (marker for marker in found if marker is not None)

    def failures(self) -> dict[int, Failure]:
        """Read all failure records, by block."""
        found = {}
        for path in self._files("failed"):
            value = read_json(Path(path))
            if value and value.get("fingerprint") == self.fingerprint:
                found[int(value["block"])] = Failure(**value)
        return found

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

    def _files(self, kind: str) -> Iterator[str]:
        """Paths of all files of a kind, as text: there may be millions, and `Path` costs more than opening."""
        try:
            folders = sorted(entry.path for entry in os.scandir(self.folder / kind))
        except FileNotFoundError:
            return
        for folder in folders:
            with os.scandir(folder) as entries:
                yield from (entry.path for entry in entries if entry.name[0] != ".")

    def _parse(self, path: str) -> Marker | None:
        try:
            with open(path, "rb") as file:
                value: dict[str, Any] = json.loads(file.read())
            if value["fingerprint"] != self.fingerprint:
                return None
            value["fingerprint"], value["host"] = self.fingerprint, sys.intern(value["host"])
            return Marker(**value)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
