"""What a run would do, and how far one has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blockwise.plan import is_complete, not_finite_of, plan_step, warnings_of
from blockwise.records.markers import FAILED, Failure
from blockwise.step import BlockStep
from blockwise.trust.absence import absent_chunks
from blockwise.trust.ownership import recorded_region
from blockwise.upstream import BlocksSource


@dataclass(frozen=True)
class StepForecast:
    """What a run would do in one step.

    Attributes:
        step: its name.
        blocks: number of blocks.
        left: blocks to do; an upper bound where ``exact`` is False, because a step before it is not finished.
        exact: see there.
        bytes_read: by all blocks, uncompressed.
        bytes_written: the same.
        halo_waste: voxels read beyond those written, as a part of the latter.
        memory: bytes that a worker needs.
        reasons: why something is to be done.
        warnings: what looks wrong with what it reads.
    """

    step: str
    blocks: int
    left: int
    exact: bool
    bytes_read: int
    bytes_written: int
    halo_waste: float
    memory: int
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepStatus:
    """How far one step has come, from its markers alone."""

    step: BlockStep
    done: int
    missing: int
    finished: bool
    failures: Mapping[int, Failure]
    warnings: tuple[str, ...] = ()
    """What looks wrong with what was read."""

    def messages(self, shown: int = 3) -> list[str]:
        """A line for each of the first failures."""
        lines = [f"block {block}, {describe(failure)}" for block, failure in sorted(self.failures.items())]
        more = f"... and {len(lines) - shown} more in {self.step.records.place(FAILED)}"
        return lines[:shown] + [more] * (len(lines) > shown)


def forecast_all(steps: Sequence[BlockStep]) -> list[StepForecast]:
    """Look at steps, each after those that it reads; nothing is changed."""
    left: dict[str, int] = {}
    rows = []
    for step in steps:
        read = [source for source in step.sources() if isinstance(source, BlocksSource)]
        is_read = all(left[source.label] == 0 and source.digest() is not None for source in read)
        row = _forecast(step, is_read)
        left[row.step] = row.left
        rows.append(row)
    return rows


def _forecast(step: BlockStep, exact: bool) -> StepForecast:
    left = len(step.grid)
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    if exact and is_complete(step):
        left = 0
    elif exact:
        plan = plan_step(step)
        left, reasons = len(plan.items), tuple(plan.reasons)
        warnings = tuple(absent_chunks(step, plan.snapshots))
    read, written = step.bytes_of_all_blocks()
    return StepForecast(
        step=step.label,
        blocks=len(step.grid),
        left=left,
        exact=exact,
        bytes_read=read,
        bytes_written=written,
        halo_waste=step.grid.halo_waste(step.halo),
        memory=step.projected_memory(),
        reasons=reasons,
        warnings=warnings,
    )


def status(step: BlockStep) -> StepStatus:
    """Count a step's markers and failure records."""
    done, failures = step.progress()
    missing = max(0, len(step.grid) - done - len(failures))
    target = step.read_target()
    is_region = recorded_region(step) == step.grid.region
    finished = target is not None and done >= len(step.grid) and is_region
    return StepStatus(step, done, missing, finished, failures, tuple(_warnings(step, target)))


def _warnings(step: BlockStep, target: Mapping[str, Any] | None) -> list[str]:
    """Of a finished step from its target; else from the markers that there are."""
    if target is not None:
        return warnings_of(step, target)
    found = not_finite_of(step, step.markers.scan()) if step.looks_at_numbers else None
    return [] if found is None else [step.not_finite_text(found)]


def describe(failure: Failure) -> str:
    """What has failed, and where its log is."""
    return f"attempt {failure.attempt}: {failure.error}: {failure.message} [log: {failure.log}]"
