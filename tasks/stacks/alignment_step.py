"""Step 4 of an alignment: a transform for every slice, and tables of what is known of slices and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box
from blockwise.identity import array_checksum
from blockwise.outputs import FilesOutput, Table
from blockwise.sources import Source
from blockwise.stamps import Snapshot
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from tasks.alignment.placement import Estimate, Placement, Wish, place
from tasks.alignment.slices import SliceFacts, Verdict, judge
from tasks.alignment.transforms import Floats, Model
from tasks.alignment.transforms_file import read_transforms, write_transforms
from tasks.alignment.warp import Interpolation, applied
from tasks.stacks.features_step import refuse_bad_slices
from tasks.stacks.pairs_step import PairRecord, SlicePairsStep
from tasks.stacks.slices_step import SlicesStep
from tasks.stacks.tables import read_residuals, write_pairs, write_slices

BYTES_PER_SLICE = 20_000
Six = tuple[float, float, float, float, float, float]
"""Numbers of a transform, row after row."""


class AlignmentStep(BlockStep):
    """Where all slices lie, in one job; its grid has one block.

    Attributes:
        slices: the step that has looked at the slices.
        pairs: the step that has compared them; None where transforms are given.
        given: path of a file with transforms; None where they are estimated.
        given_digest: of its content.
        model: of the transforms.
        ridge: see ``tasks.alignment.solve``; None for the model's own.
        anchors: slices whose transforms are given, each with its numbers row after row.
        drift: what becomes of slow shifts; see ``tasks.alignment.drift``.
        drift_slices: see there.
        allow_parts: place a stack that falls apart all the same.
        refuse_bad: whether slices that are not what they are meant to be are refused.
    """

    name: ClassVar[str] = "alignment"
    version: ClassVar[int] = 1

    slices: Before[SlicesStep]
    pairs: Before[SlicePairsStep] | None = None
    given: str | None = None
    given_digest: str | None = None
    model: Model
    ridge: float | None = None
    anchors: tuple[tuple[int, Six], ...] = ()
    drift: str = "keep"
    drift_slices: float = 50.0
    allow_parts: bool = False
    refuse_bad: bool = True

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        drift = {} if self.drift == "keep" else {"drift": [self.drift, self.drift_slices]}
        return {
            "model": self.model,
            "ridge": self.ridge,
            "anchors": {str(z): list(numbers) for z, numbers in self.anchors},
            "allow_parts": self.allow_parts,
            "refuse_bad": self.refuse_bad,
            "given": self.given_digest,
            **drift,
        }

    def sources(self) -> tuple[Source, ...]:
        """What is known of slices and pairs."""
        steps = (self.slices, *(() if self.pairs is None else (self.pairs,)))
        return tuple(map(BlocksSource, steps))

    def output(self) -> FilesOutput:
        """Transforms for the next step, and files for people and other programs."""
        tables = tuple(Table(self.work, name) for name in ("transforms.json", "slices.csv", "pairs.csv"))
        return FilesOutput(self.records, ("matrices", "placed", "sizes"), tables, (self.label,))

    def projected_memory(self) -> int:
        """Grows with slices."""
        return BASE_MEMORY + BYTES_PER_SLICE * len(self.slices.grid)

    def make_ready(self) -> None:
        """Refuse slices that cannot be used."""
        if self.refuse_bad:
            refuse_bad_slices(self.slices)

    def compute(self, block: Block, prepared: Any) -> Mapping[str, NDArray[Any]]:
        """Place all slices; write the tables."""
        facts = self.slices.all_facts()
        verdicts = judge(facts)
        pairs = [] if self.pairs is None else self.pairs.pairs()
        with self.output().tables[2].writing() as path:  # a stack that falls apart is an error, and this says why
            write_pairs(path, pairs, {})
        placement = self._given(facts, verdicts) if self.given else self._estimated(facts, verdicts, pairs)
        self._write_tables(facts, verdicts, pairs, placement)
        numbers = list(self.slices.grid.ids())
        nothing = np.full((2, 3), np.nan)
        return {
            "matrices": np.array([placement.matrices.get(z, nothing) for z in numbers]),
            "placed": np.array([z in placement.matrices for z in numbers]),
            "sizes": np.array([facts[z].size for z in numbers]),
        }

    def _estimated(
        self, facts: Mapping[int, SliceFacts], verdicts: Mapping[int, Verdict], pairs: list[PairRecord]
    ) -> Placement:
        estimates = [Estimate(p.first, p.second, np.array(p.matrix), p.unit) for p in pairs if not p.refused]
        anchors = {z: np.array(numbers).reshape(2, 3) for z, numbers in self.anchors}
        wish = Wish(self.model, self.ridge, anchors, self.drift, self.drift_slices, self.allow_parts)
        return place({z: facts[z].size for z, v in verdicts.items() if not v.unusable}, estimates, wish)

    def _given(self, facts: Mapping[int, SliceFacts], verdicts: Mapping[int, Verdict]) -> Placement:
        """Transforms as they are given; slices that cannot be used, or have none, are not placed."""
        matrices, flagged = read_transforms(str(self.given))
        good = [z for z, fact in facts.items() if not fact.problem and not fact.excluded and z not in flagged]
        placed = {z: matrices[z] for z in good if z in matrices}
        return Placement(placed, tuple(z for z in good if z not in placed), (tuple(placed),), ())

    def _write_tables(
        self,
        facts: Mapping[int, SliceFacts],
        verdicts: Mapping[int, Verdict],
        pairs: list[PairRecord],
        placement: Placement,
    ) -> None:
        transforms, slices, table = self.output().tables
        flagged = [z for z in facts if z not in placement.matrices]
        accepted = [pair for pair in pairs if not pair.refused]
        residuals = {(p.first, p.second): r for p, r in zip(accepted, placement.residuals, strict=False)}
        about = {
            "model": "given" if self.given else self.model,
            "sizes": {str(z): facts[z].size for z in placement.matrices},
            "parts": [[min(part), max(part), len(part)] for part in placement.parts if part],
        }
        with slices.writing() as path:
            write_slices(path, facts, verdicts, placement, pairs, self.slices.by_number)
        with table.writing() as path:
            write_pairs(path, pairs, residuals)
        with transforms.writing() as path:
            write_transforms(path, placement.matrices, flagged, about)

    def placed(self) -> tuple[dict[int, Floats], dict[int, tuple[int, int]]]:
        """Transforms and sizes of the slices that are placed, by number; the step is finished."""
        output = self.output()
        matrices, placed, sizes = (output.load(name) for name in output.arrays)
        numbers = [z for z, there in zip(self.slices.grid.ids(), placed, strict=True) if there]
        return (
            dict(zip(numbers, matrices[placed], strict=True)),
            {z: (int(w), int(h)) for z, (w, h) in zip(numbers, sizes[placed], strict=True)},
        )

    def residuals(self) -> dict[tuple[int, int], float]:
        """How far each pair that counts is from what all of them say, in pixels; the step is finished."""
        return read_residuals(self.output().tables[2].file())


class TransformsSource(BlocksSource):
    """Transforms of slices; the stamp of a range of slices is over these alone, as they are applied.

    Attributes:
        interpolation: how they are applied.
    """

    def __init__(self, step: AlignmentStep, interpolation: Interpolation) -> None:
        super().__init__(step)
        self.alignment, self.interpolation = step, interpolation

    def identity(self) -> str:
        """That there are transforms; what they are is in the stamps."""
        return "transforms"

    def snapshot(self) -> Snapshot:
        """Read all transforms."""
        return _TransformStamps(self.alignment, self.interpolation, str(self.digest()))


class _TransformStamps:
    def __init__(self, step: AlignmentStep, interpolation: Interpolation, digest: str) -> None:
        self.digest = digest
        self.first = step.slices.grid.domain[0].start
        self.numbers = np.full((len(step.slices.grid), 8), np.nan)
        matrices, sizes = step.placed()
        for z, matrix in matrices.items():
            self.numbers[z - self.first] = [*applied(matrix, interpolation).ravel(), *sizes[z]]

    def stamp(self, box: Box) -> str:
        return array_checksum(self.numbers[box[0].start - self.first : box[0].stop - self.first])
