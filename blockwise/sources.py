"""What a step reads, and how to tell later whether it has changed.

A source is looked at once, before a step starts. This snapshot gives each block a *stamp* of what it is about to
read, which goes into the block's marker, and the whole step one *digest*, which goes into its target. Stamps are
taken before the data is read: a change in between makes a stamp too old, so the block is redone, never the other way
round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from blockwise.grid import Box
from blockwise.stamps import FileStates, Snapshot, Unwatched
from blockwise.volume import open_volume
from blockwise.volume.address import identity_of
from blockwise.volume.info import VolumeInfo


class Source(Protocol):
    """Something that a step reads."""

    @property
    def name(self) -> str:
        """What kind of thing it is: ``raw``, ``mask``, or the name of a step."""

    @property
    def label(self) -> str:
        """Name that nothing else in a run has."""

    def identity(self) -> Any:
        """What of it goes into the step's fingerprint."""

    def snapshot(self) -> Snapshot:
        """Look at it now."""

    def digest(self) -> str | None:
        """Its digest now, without looking at every block; None where it is not finished."""

    @property
    def address(self) -> str:
        """Where it lies, as errors name it."""

    def forget(self, damaged: Box) -> bool:
        """Have the blocks below a damaged box (of the dataset) computed again; False where nobody can."""


def by_name(sources: Sequence[Source]) -> dict[str, Source]:
    """Sources by the names under which the records of a step keep them.

    That of its kind where one source has it (``prediction``), else its label (``prediction_2``): so the records of
    steps that read no two results of one kind are called after what they read, however it is labelled.
    """
    kinds = Counter(source.name for source in sources)
    return {source.name if kinds[source.name] == 1 else source.label: source for source in sources}


class RawSource:
    """A volume that is given. Its fingerprint is in its metadata, its stamps are its chunk files' sizes and times.

    Attributes:
        info: the volume.
        axes: the grid's axes.
        watch_files: compare the files' states; False looks at the metadata only.
    """

    name = label = "raw"

    def __init__(self, info: VolumeInfo, axes: str, watch_files: bool) -> None:
        self.info = info
        self.address = info.address
        self.spatial = tuple(info.axes.index(axis) for axis in axes)
        self.watch_files = watch_files

    def identity(self) -> Mapping[str, Any]:
        """Address (not how to log in, or how long to wait), axes, shape, dtype and chunking; never the content."""
        known_as = self.info.known_as or self.info.address
        return self.info.model_dump(mode="json", exclude={"known_as"}) | {"address": identity_of(known_as)}

    def snapshot(self) -> Snapshot:
        """Stat every chunk file once."""
        return FileStates(open_volume(self.info.address), self.spatial) if self.watch_files else Unwatched()

    def digest(self) -> str:
        """Digest over all files' states."""
        return self.snapshot().digest

    def forget(self, damaged: Box) -> bool:
        """A given volume cannot be computed again."""
        return False
