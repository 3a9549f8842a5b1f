"""A step: what a worker needs to compute its blocks, as values that go through JSON."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from blockwise.grid import Block, Box, Grid, grow
from blockwise.identity import fingerprint
from blockwise.mask import Mask, MaskSource
from blockwise.not_finite import NotFiniteTotals, place
from blockwise.outputs import Output
from blockwise.records import Records, in_store, open_records, read_json
from blockwise.records.markers import Failure, Marker, Markers
from blockwise.sources import Source, by_name

BASE_MEMORY = 250_000_000
"""Bytes that a worker needs before it has read a voxel: the interpreter and the libraries."""


CHECKSUMS = "checksums.npy"
"""Record with the checksums of all blocks of a finished step, so that nobody has to read a million markers."""


class BlockStep(BaseModel, ABC):
    """One step over a grid of blocks.

    A subclass has the step's settings as further fields, says with ``settings`` which of them can change the result,
    and computes one block. ``compute`` must depend on nothing else, and must give the same bytes each time.

    Attributes:
        work_dir: folder of markers and logs, or an address in a store.
        grid: the blocks.
        change_detection: ``files`` (size and time of every chunk file) or ``metadata`` (of datasets only).
        mask: voxels that are computed; the grid has the blocks that hold any. None for all voxels.
        variant: tells steps of one kind in one run from each other; empty where there is only one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever the same settings give another result."""
    layout: ClassVar[int] = 1
    """Raised whenever the same result is kept in other files, or with more beside it: the step is done again, and
    what reads it only where what it reads differs."""
    unit: ClassVar[str] = "voxel"
    """What the grid counts, in the singular; the speed of a run is told in it."""

    work_dir: str
    grid: Grid
    change_detection: str = "files"
    mask: Mask | None = None
    variant: str = ""

    def __repr__(self) -> str:
        """Name and place: Luigi makes a text of whatever its tasks are given, several times, for errors."""
        return f"{type(self).__name__}({self.label!r}, {self.work_dir!r})"

    # What a subclass says about itself.

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result, as JSON."""

    @abstractmethod
    def sources(self) -> tuple[Source, ...]:
        """What the step reads."""

    @abstractmethod
    def output(self) -> Output:
        """Where the step writes."""

    @abstractmethod
    def projected_memory(self) -> int:
        """Bytes that a worker needs at its peak, the interpreter included."""

    @property
    def halo(self) -> tuple[int, ...]:
        """Voxels that a block reads beyond its write box, per axis of the grid."""
        return (0,) * len(self.grid.shape)

    @property
    def read_domain(self) -> Box:
        """Box that read boxes are cut to: what the source has."""
        return self.grid.domain

    def mask_sources(self) -> tuple[Source, ...]:
        """The mask, if there is one."""
        if self.mask is None:
            return ()
        return (MaskSource(self.mask, self.grid, self.work_dir, watch_files=self.change_detection == "files"),)

    def reads(self, block: Block) -> Mapping[str, Box]:
        """What a block reads of each source, by its name in ``inputs``: a box in the source's own grid.

        Its stamps are taken of these boxes. Unless a step says otherwise it is the read box for all sources, which
        then have the step's own grid.
        """
        return dict.fromkeys(self.inputs, self.read_box(block))

    def adopts(self, marker: Marker, stamps: Mapping[str, str]) -> bool:
        """Whether a finished block may be good although its marker's stamps are not the present ones.

        Then its data is compared with the marker's checksum before anything is computed. Unless a step knows better,
        what it reads has changed, and the block is computed again.
        """
        return False

    def progress(self) -> tuple[int, dict[int, Failure]]:
        """Number of blocks that are done, and records of those that have failed, as far as markers tell."""
        return self.markers.count(), self.markers.failures()

    def readable(self, markers: Mapping[int, Marker]) -> list[int]:
        """Those of the finished blocks, which have markers, whose results lie where the step looks for them."""
        return sorted(markers)

    def title(self, block: int) -> str:
        """What messages call a block."""
        start = ", ".join(str(s.start) for s in self.grid.block(block).write_box)
        return f"block {block} at ({start})"

    @property
    def looks_at_numbers(self) -> bool:
        """Whether blocks may note what they read that is not finite; see ``blockwise.not_finite``."""
        return False

    def not_finite_text(self, found: NotFiniteTotals) -> str:
        """What is said of voxels that blocks have read and that hold NaN or infinity."""
        things = "blocks" if self.unit == "voxel" else f"{self.unit}s"
        first = (
            f"at {place(found.first, self.grid.axes)}" if self.unit == "voxel" else f"in {self.title(found.block)}"
        )
        return (
            f"{found} in what is given, in {found.blocks:,} of {len(self.grid):,} {things}, the first {first}; "
            "what is computed around them, as far as filters reach, has no meaning"
        )

    def make_ready(self) -> None:
        """Do what is done once for all workers, before any of them starts: called where the step is run from."""
        return

    def prepare(self) -> Any:
        """Load what all blocks share; called once per worker."""
        return None

    @abstractmethod
    def compute(self, block: Block, prepared: Any) -> Any:
        """Compute one block; the result is what the step's output can write."""

    def provenance(self) -> Mapping[str, Any]:
        """Readable account of where the result comes from; goes into the output's attributes."""
        return {"step": self.name, "step_version": self.version, **self.settings()}

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Bytes, uncompressed, that all blocks together read and write; an estimate for plans."""
        return 0, 0

    # What follows from it.

    @property
    def label(self) -> str:
        """Name of the step in this run, its variant included; names its files."""
        return f"{self.name}_{self.variant}" if self.variant else self.name

    @cached_property
    def inputs(self) -> dict[str, Source]:
        """The sources by the names under which the step's records keep them."""
        return by_name(self.sources())

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the fingerprint is made of."""
        return {
            "step": self.name,
            "version": self.version,
            "settings": dict(self.settings()),
            "inputs": {name: source.identity() for name, source in self.inputs.items()},
            "grid": self.grid.identity(),
            **({"variant": self.variant} if self.variant else {}),
        }

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal characters that change when the result may change."""
        return fingerprint(self.identity)

    @property
    def folder(self) -> Path:
        """Folder of this step and fingerprint, where the work folder is one; what is known lies in ``records``."""
        if in_store(self.work_dir):
            raise RuntimeError(f"{self.work_dir}: is no folder")
        return Path(self.work_dir, self.label, self.fingerprint)

    @property
    def logs(self) -> Path:
        """Folder of this machine for the workers' logs."""
        return self.work.on_this_machine / "logs" / self.label

    @property
    def target(self) -> str:
        """Key, in the work folder, of the record that says that the step is finished."""
        return f"{self.label}.json"

    @property
    def work(self) -> Records:
        """The records of the work folder."""
        return open_records(self.work_dir)

    @property
    def records(self) -> Records:
        """Those of this step and fingerprint."""
        return self.work.below(f"{self.label}/{self.fingerprint}")

    @cached_property
    def markers(self) -> Markers:
        """The step's markers."""
        return Markers(self.records, self.fingerprint)

    def read_box(self, block: Block) -> Box:
        """A block's write box with the halo, cut to what there is."""
        return tuple(part[i] for part, i in zip(self._read_ranges, block.index, strict=True))

    @cached_property
    def _read_ranges(self) -> tuple[dict[int, slice], ...]:
        """Per axis and index of a block, what is read along the axis: made once, there may be a million blocks."""
        return tuple(
            {i: grow((s,), (h,), (d,))[0] for i, s in part.items()}
            for part, h, d in zip(self.grid.write_ranges, self.halo, self.read_domain, strict=True)
        )

    def read_target(self) -> dict[str, Any] | None:
        """The target's content; None where there is none of this fingerprint."""
        target = read_json(self.work, self.target)
        return target if target and target.get("fingerprint") == self.fingerprint else None

    def forget_target(self) -> None:
        """From here on the step counts as unfinished."""
        self.work.delete(self.target)

    def to_json(self) -> str:
        """Text from which ``load_step`` makes the step again."""
        return json.dumps(_as_value(self))


def load_step(text: str) -> BlockStep:
    """Make a step from the text of ``BlockStep.to_json``."""
    step: BlockStep = _from_value(json.loads(text))
    return step


def _as_value(step: BlockStep) -> dict[str, Any]:
    kind = f"{type(step).__module__}:{type(step).__qualname__}"
    return {"kind": kind, "step": step.model_dump(mode="json")}


def _from_value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    module, _, name = value["kind"].partition(":")
    kind: type[BlockStep] = getattr(importlib.import_module(module), name)
    return kind.model_validate(value["step"])


StepT = TypeVar("StepT", bound=BlockStep)

Before = Annotated[StepT, PlainSerializer(_as_value), BeforeValidator(_from_value)]
"""A field of a step with a step before it: any that gives what the field's type says, of whatever kind."""
