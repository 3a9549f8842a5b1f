"""Step 1 of an alignment: every slice is looked at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, canonical_json, digest
from blockwise.outputs import FolderOutput
from blockwise.sources import Source
from blockwise.stamps import UNWATCHED, Snapshot
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.volume import DamagedDataError
from tasks.alignment.slices import MISSING, SliceFacts, Verdict, describe_slice, judge
from tasks.stacks.slice_files import SliceFile, UnusableSliceError, read_slice
from tasks.stacks.slice_markers import SliceMarkers

_FACTS = msgspec.json.Decoder(SliceFacts)


def slice_grid(numbers: list[int]) -> Grid:
    """A grid along z whose blocks are called by the numbers of slices, from the first to the last."""
    stop = numbers[-1] + 1
    return Grid("z", (stop,), (1,), ((numbers[0], stop),))


class SliceStep(BlockStep):
    """A step whose blocks are slices, each called by its number.

    Which slices there are does not decide about the result for one of them: it is not in the fingerprint.
    """

    unit: ClassVar[str] = "slice"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the fingerprint is made of; without the grid."""
        found = dict(super().identity)
        del found["grid"]
        return found

    @cached_property
    def markers(self) -> SliceMarkers:
        """Markers of the slices that there are."""
        return SliceMarkers(self.records, self.fingerprint, self.grid)

    def output(self) -> FolderOutput:
        """One file per slice."""
        return FolderOutput(self.records, self.grid)

    def title(self, block: int) -> str:
        """The slice's number."""
        return f"slice {block}"


class SlicesStep(SliceStep):
    """What each slice is like by itself: size, type, grey values, sharpness, checksum of its pixels.

    Attributes:
        numbers: of the slices, ascending.
        files: where they lie, in the same order.
        excluded: numbers of slices that are left out.
        voxels: pixels of the largest slice, as far as is known before they are read.
    """

    name: ClassVar[str] = "slices"
    version: ClassVar[int] = 1

    numbers: tuple[int, ...]
    files: tuple[SliceFile, ...]
    excluded: tuple[int, ...] = ()
    voxels: int = 0

    def settings(self) -> Mapping[str, Any]:
        """None: what a slice is made of stands in its marker's stamp."""
        return {}

    def sources(self) -> tuple[Source, ...]:
        """The files."""
        return (SliceFilesSource(self),)

    def projected_memory(self) -> int:
        """A slice as stored, and a few pictures of it."""
        return BASE_MEMORY + 24 * self.voxels

    @cached_property
    def by_number(self) -> dict[int, SliceFile]:
        """Where each slice lies."""
        return dict(zip(self.numbers, self.files, strict=True))

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Look at a slice; one that cannot be read is described as such."""
        excluded = block.id in self.excluded
        file = self.by_number.get(block.id)
        if file is None:
            facts = SliceFacts(problem=MISSING, excluded=excluded)
        else:
            try:
                facts = describe_slice(read_slice(file), excluded=excluded)
            except UnusableSliceError as error:
                facts = SliceFacts(problem=str(error), excluded=excluded)
        return {"facts": np.frombuffer(msgspec.json.encode(facts), np.uint8)}

    def facts(self, z: int) -> SliceFacts:
        """What is known of a slice."""
        return _FACTS.decode(self.output().read(self.grid.block(z), "facts").tobytes())

    def all_facts(self) -> dict[int, SliceFacts]:
        """What is known of all slices, by number."""
        return {z: self.facts(z) for z in self.grid.ids()}

    def verdicts(self) -> dict[int, Verdict]:
        """What the whole stack says about each slice."""
        return judge(self.all_facts())

    def read(self, z: int, facts: SliceFacts) -> NDArray[Any]:
        """Pixels of a slice that are those which were looked at.

        Raises:
            DamagedDataError: the file holds something else by now; the slice is to be looked at again.
        """
        where = (slice(z, z + 1),)
        try:
            image = read_slice(self.by_number[z])
        except UnusableSliceError as error:
            raise DamagedDataError(f"slice {z} {error}", self.output().address, where) from error
        if array_checksum(image) != facts.digest:
            message = f"slice {z} ({self.by_number[z].path}) is no longer what it was when it was looked at"
            raise DamagedDataError(message, self.output().address, where)
        return image


class SliceFilesSource:
    """The files of a stack; the stamp of a slice says which file, and in which state."""

    name = label = "files"
    address = ""

    def __init__(self, step: SlicesStep) -> None:
        self.step = step

    def identity(self) -> Any:
        """That there are files; which ones is in the stamps."""
        return "slices"

    def snapshot(self) -> Snapshot:
        """Look at all files."""
        return _FileStamps(self.step)

    def digest(self) -> str:
        """Digest over all of them."""
        return self.snapshot().digest

    def forget(self, damaged: Box) -> bool:
        """Given files cannot be made again."""
        return False


class _FileStamps:
    def __init__(self, step: SlicesStep) -> None:
        watch = step.change_detection == "files"
        self.stamps = {}
        for z in step.grid.ids():
            file = step.by_number.get(z)
            state = "" if file is None else file.state() if watch else UNWATCHED
            which = None if file is None else file.model_dump(mode="json")
            self.stamps[z] = digest(canonical_json([which, state, z in step.excluded]))
        self.digest = digest(canonical_json({str(z): stamp for z, stamp in self.stamps.items()}))

    def stamp(self, box: Box) -> str:
        return self.stamps[box[0].start]
