"""How long what is left will take, on each engine, and how much it will write: from the rates of blocks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blockwise.backends.registry import BlocksAtOnce
from blockwise.outputs import VolumeOutput
from blockwise.step import BlockStep
from blockwise.volume import Address
from pipeline.inspecting.forecast import StepForecast
from pipeline.inspecting.rates import Rate
from tasks.nodes.terminal import duration


@dataclass(frozen=True)
class StepOutlook:
    """What is left of a step, in seconds and bytes.

    Attributes:
        step: whose blocks.
        left: number of blocks that are to be done, at most.
        rate: of its blocks; None where none was ever measured.
        written: bytes that are to be written, uncompressed.
    """

    step: BlockStep
    left: int
    rate: Rate | None
    written: int

    def seconds(self, at_once: int) -> float | None:
        """Wall time with so many blocks at a time; None where it is not known. Steps wait for each other."""
        if not self.left:
            return 0.0
        if self.rate is None:
            return None
        grid = self.step.grid
        voxels = grid.voxels / len(grid) if self.step.unit == "voxel" else 1
        return -(-self.left // at_once) * voxels * self.rate.seconds

    @property
    def stored(self) -> int | None:
        """Bytes that its files will have; None where that is not known."""
        return None if self.rate is None or self.rate.stored is None else round(self.written * self.rate.stored)


def outlooks(
    steps: Sequence[BlockStep], rows: Sequence[StepForecast], rates: Sequence[Rate | None]
) -> list[StepOutlook]:
    """What is left of steps, of which there is a forecast and, perhaps, a rate each."""
    return [
        StepOutlook(step, row.left, rate, row.bytes_written * row.left // max(row.blocks, 1))
        for step, row, rate in zip(steps, rows, rates, strict=True)
    ]


def time_notes(found: Sequence[StepOutlook], engines: Mapping[str, BlocksAtOnce], chosen: str) -> list[str]:
    """How long what is left will take on each engine, the chosen one first, and where that is known from."""
    left = [outlook for outlook in found if outlook.left]
    measured = [outlook for outlook in left if outlook.rate is not None]
    if not left:
        return []
    if not measured:
        return ["time: not known yet; `plan --probe` computes a few blocks, which the run will find done"]
    notes = []
    for _, engine in sorted(engines.items(), key=lambda item: item[0] != chosen):
        seconds = sum(outlook.seconds(engine.number) or 0.0 for outlook in measured)
        notes.append(f"time: about {duration(seconds)} on {engine.title} ({engine.what})")
    notes.append(f"  as measured on {', '.join(map(_measured, measured))}")
    if unknown := [outlook.step.label for outlook in left if outlook.rate is None]:
        notes.append(f"  without {', '.join(unknown)}, of which no block was measured yet")
    return notes


def _measured(outlook: StepOutlook) -> str:
    rate = outlook.rate
    if rate is None:
        raise ValueError(f"{outlook.step.label} has no rate")
    unit, label = f"{outlook.step.unit}s", outlook.step.label
    things = label if unit == label else f"of {label}" if unit == "voxels" else f"{unit} of {label}"
    return f"{rate.blocks:,} {things}" + (f" ({rate.origin})" if rate.origin else "")


def free_bytes(step: BlockStep) -> tuple[int, str] | None:
    """What is free where a step writes a dataset, and where that is; None in a store, or where nobody tells."""
    output = step.output()
    if not isinstance(output, VolumeOutput) or Address.parse(output.address).is_remote:
        return None
    place = Path(Address.parse(output.address).location).absolute()
    there = next((folder for folder in (place, *place.parents) if folder.exists()), None)
    try:
        return None if there is None else (shutil.disk_usage(there).free, str(there))
    except OSError:
        return None
