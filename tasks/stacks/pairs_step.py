"""Step 3 of an alignment: how each slice lies on the next ones, with evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box, grow
from blockwise.identity import canonical_json, digest
from blockwise.sources import Source
from blockwise.stamps import Checksums, Snapshot
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource, finished_checksums
from tasks.alignment.pairs import estimate_pair
from tasks.alignment.slices import neighbours
from tasks.alignment.transforms import Model
from tasks.stacks.features_step import SliceFeaturesStep
from tasks.stacks.slices_step import SlicesStep, SliceStep

NEAR = 16
"""Numbers within which a slice's neighbours lie, unless there is a wider gap."""


class PairRecord(msgspec.Struct, frozen=True):
    """What is known of a pair; see ``tasks.alignment.pairs.Pair``.

    Attributes:
        first: number of its first slice.
        second: number of its second slice.
        unit: pixels of the slices along one pixel of the picture in which key points were found.
    """

    first: int
    second: int
    matrix: list[list[float]]
    unit: int
    matches: int
    inliers: int
    cells: int
    residual: float | None
    likeness: float | None
    refused: str


_PAIRS = msgspec.json.Decoder(list[PairRecord])


class SlicePairsStep(SliceStep):
    """Estimates for the pairs of each slice with the next ones that can be used; a gap is skipped.

    Attributes:
        features: the step that has found key points.
        model: of the transforms.
        reach: how many of the next slices.
    """

    name: ClassVar[str] = "slice_pairs"
    version: ClassVar[int] = 2  # 2: phase correlation is asked at a jump too; a box's pictures lie where it does

    features: Before[SliceFeaturesStep]
    model: Model
    reach: int = 3

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        return {"model": self.model, "reach": self.reach}

    def sources(self) -> tuple[Source, ...]:
        """Key points of a slice and its neighbours; which ones these are."""
        return (PairedFeatures(self.features, self.reach), Neighbours(self.features.slices, self.reach))

    def reads(self, block: Block) -> Mapping[str, Box]:
        """From a slice to where its neighbours usually lie."""
        box = grow(block.write_box, (NEAR,), self.grid.domain)
        return dict.fromkeys(self.inputs, (slice(block.write_box[0].start, box[0].stop),))

    def projected_memory(self) -> int:
        """Features of two slices, and their small pictures on each other."""
        return BASE_MEMORY + 120_000_000

    def prepare(self) -> dict[int, tuple[int, ...]]:
        """Find the neighbours of all slices."""
        return neighbours(self.features.slices.verdicts(), self.reach)

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Compare a slice with the next ones."""
        others = prepared.get(block.id, ())
        first = self.features.features(block.id) if others else None
        records = []
        for other in others:
            if first is not None:
                second = self.features.features(other)
                pair = estimate_pair(first, second, self.model)
                records.append(
                    PairRecord(
                        first=block.id,
                        second=other,
                        matrix=pair.matrix.tolist(),
                        unit=max(first.factor, second.factor),
                        matches=pair.matches,
                        inliers=pair.inliers,
                        cells=pair.cells,
                        residual=_number(pair.residual),
                        likeness=_number(pair.likeness),
                        refused=pair.refused,
                    )
                )
        return {"pairs": np.frombuffer(msgspec.json.encode(records), np.uint8)}

    def pairs(self) -> list[PairRecord]:
        """All pairs, in the order of their first slices."""
        found: list[PairRecord] = []
        for block in self.grid:
            found += _PAIRS.decode(self.output().read(block, "pairs").tobytes())
        return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


class PairedFeatures(BlocksSource):
    """Key points of a slice and of those that it makes pairs with; the stamp is over these alone."""

    def __init__(self, step: SliceFeaturesStep, reach: int) -> None:
        super().__init__(step)
        self.slices, self.reach = step.slices, reach

    def snapshot(self) -> Snapshot:
        """Read the other step's markers."""
        return _PairedStamps(finished_checksums(self.step), neighbours(self.slices.verdicts(), self.reach))


class Neighbours(BlocksSource):
    """Which slices a slice makes pairs with: what is known of all of them decides it."""

    def __init__(self, step: SlicesStep, reach: int) -> None:
        super().__init__(step)
        self.slices, self.reach = step, reach

    def snapshot(self) -> Snapshot:
        """Look at what is known of all slices."""
        known = neighbours(self.slices.verdicts(), self.reach)
        return _PairedStamps(finished_checksums(self.step), known, with_checksums=False)


class _PairedStamps:
    def __init__(
        self, checksums: Checksums, known: Mapping[int, tuple[int, ...]], *, with_checksums: bool = True
    ) -> None:
        self.digest = checksums.digest
        self.checksums, self.known, self.with_checksums = checksums, known, with_checksums

    def stamp(self, box: Box) -> str:
        z = box[0].start
        others = self.known.get(z, ())
        if not self.with_checksums:
            return digest(canonical_json(list(others)))
        parts = [self.checksums.stamp((slice(n, n + 1),)) for n in ((z, *others) if others else ())]
        return digest(canonical_json(parts))
