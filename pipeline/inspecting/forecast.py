"""What a run would do, and how far one has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockwise.absence import absent_chunks
from blockwise.plan import is_complete, plan_step
from blockwise.step import BlockStep
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

    step: str
    done: int
    failed: int
    missing: int
    finished: bool
    messages: tuple[str, ...]


def forecast_all(steps: Sequence[BlockStep]) -> list[StepForecast]:
    """Look at steps, each after those that it reads; nothing is changed."""
    left: dict[str, int] = {}
    rows = []
    for step in steps:
        read = [source.step.label for source in step.sources() if isinstance(source, BlocksSource)]
        row = _forecast(step, all(left[label] == 0 for label in read))
        left[row.step] = row.left
        rows.append(row)
    return rows


def _forecast(step: BlockStep, nothing_before: bool) -> StepForecast:
    exact = nothing_before and all(source.digest() is not None for source in step.sources())
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


def status(step: BlockStep, shown: int = 3) -> StepStatus:
    """Count a step's markers and failure records."""
    done = step.markers.count()
    failures = step.markers.failures()
    messages = [
        f"block {block}, attempt {f.attempt}: {f.error}: {f.message} [log: {f.log}]"
        for block, f in sorted(failures.items())[:shown]
    ]
    if len(failures) > shown:
        messages.append(f"... and {len(failures) - shown} more in {step.folder / 'failed'}")
    missing = max(0, len(step.grid) - done - len(failures))
    return StepStatus(step.label, done, len(failures), missing, step.read_target() is not None, tuple(messages))
