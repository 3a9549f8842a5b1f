"""One small record per finished block, one per failed block: the truth about what is done."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from blockwise.not_finite import NotFinite
from blockwise.records import Records, Version

BLOCKS_PER_FOLDER = 1000


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
    """Markers and failure records of one step with one fingerprint.

    Attributes:
        records: those of the step and fingerprint, or of whatever else has markers of its own.
        fingerprint: of the step; others do not count.
    """

    def __init__(self, records: Records, fingerprint: str) -> None:
        self.records = records.packed()
        self.fingerprint = fingerprint

    def write(self, marker: Marker) -> None:
        """Record a finished block; its data has been written before. A failure record of the block goes."""
        self.records.put(self.key(DONE, marker.block), msgspec.json.encode(marker))
        self.records.forget(self.key(FAILED, marker.block))

    def write_failure(self, failure: Failure) -> None:
        """Record a failed attempt."""
        self.records.put(self.key(FAILED, failure.block), msgspec.json.encode(failure))

    def read(self, block: int) -> Marker | None:
        """Read one marker; None where it is absent, cut off or of another fingerprint."""
        return self._valid(self.records.get(self.key(DONE, block)), _MARKER)

    def read_many(self, blocks: Iterable[int]) -> dict[int, Marker]:
        """Read those of some markers that are valid, by block."""
        wanted = {self.key(DONE, block): block for block in blocks}
        found = ((key, self._valid(content, _MARKER)) for key, content in self.records.get_many(wanted))
        return {wanted[key]: self._of(marker, wanted[key]) for key, marker in found if marker is not None}

    def remove(self, *blocks: int) -> None:
        """Forget that blocks are done."""
        self.records.delete(*(self.key(DONE, block) for block in blocks))

    def read_failure(self, block: int) -> Failure | None:
        """Read one failure record; None where it is absent, cut off or of another fingerprint."""
        return self._valid(self.records.get(self.key(FAILED, block)), FAILURE)

    def remove_failure(self, block: int) -> None:
        """Forget that a block has failed."""
        self.records.delete(self.key(FAILED, block))

    def done_among(self, blocks: Iterable[int]) -> dict[int, Version]:
        """Those of some blocks that have a marker, each with the version of its record, which is not read."""
        return self._versions(DONE, blocks)

    def failed_among(self, blocks: Iterable[int]) -> dict[int, Version]:
        """Those of some blocks that have a failure record, each with the version of it; it is not read."""
        return self._versions(FAILED, blocks)

    def sample(self, number: int) -> list[Marker]:
        """Read at most this many valid markers."""
        return list(self._all(itertools.islice(self._keys(DONE), number), _MARKER))

    def scan(self) -> dict[int, Marker]:
        """Read all valid markers, by block."""
        return {marker.block: marker for marker in self}

    def __iter__(self) -> Iterator[Marker]:
        """Read all valid markers one after the other, in no order that means anything."""
        return self._all(self._keys(DONE), _MARKER)

    def failures(self) -> dict[int, Failure]:
        """Read all failure records, by block."""
        return {failure.block: failure for failure in self._all(self._keys(FAILED), FAILURE)}

    def count(self) -> int:
        """Count markers without reading them."""
        return sum(1 for _ in self._keys(DONE))

    def _of(self, marker: Marker, block: int) -> Marker:
        """A marker that was found under the key of a block."""
        return marker

    def key(self, kind: str, block: int) -> str:
        """Key of a block's record: there may be millions, so a folder never gets more than a thousand."""
        return f"{kind}/{block // BLOCKS_PER_FOLDER:06d}/{block}.json"

    def _keys(self, kind: str) -> Iterator[str]:
        """Keys of all records of a kind."""
        return self.records.keys(kind)

    def _versions(self, kind: str, blocks: Iterable[int]) -> dict[int, Version]:
        wanted = {self.key(kind, block): block for block in blocks}
        return {wanted[key]: version for key, version in self.records.versions(wanted).items()}

    def _all(self, keys: Iterable[str], decoder: msgspec.json.Decoder[Record]) -> Iterator[Record]:
        for _, content in self.records.get_many(keys):
            try:
                record = decoder.decode(content)
            except SPOILT:
                continue
            if record.fingerprint == self.fingerprint:
                yield record

    def _valid(self, content: bytes | None, decoder: msgspec.json.Decoder[Record]) -> Record | None:
        """What a record says; None where it is absent, cut off, something else, or of another fingerprint."""
        if content is None:
            return None
        try:
            record = decoder.decode(content)
        except SPOILT:
            return None
        return record if record.fingerprint == self.fingerprint else None


DONE, FAILED = "done", "failed"
"""What keys of markers and of failure records begin with."""

Record = TypeVar("Record", Marker, Failure)
SPOILT = (msgspec.DecodeError, UnicodeDecodeError)
_MARKER = msgspec.json.Decoder(Marker)
FAILURE = msgspec.json.Decoder(Failure)
