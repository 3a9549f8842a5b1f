"""Reads every finished block back and compares it with the checksum in its marker."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from blockwise.errors import UserError
from blockwise.records.markers import Marker
from blockwise.region import outgrown
from blockwise.step import BlockStep, load_step
from blockwise.transient import refuse_transient
from blockwise.trust.ownership import recorded_region, why_not_ours
from blockwise.volume import DamagedDataError
from pipeline.configuration.settings import Settings
from pipeline.inspecting.runs import Run
from pipeline.running.session import begin_session
from tasks.nodes.terminal import counting_bar

BLOCKS_AT_ONCE = 16


@dataclass(frozen=True)
class DamagedBlock:
    """A finished block whose data is not what was written."""

    block: int
    found: str


def check(runs: Iterable[Run], settings: Settings) -> int:
    """Read finished blocks back and print what is damaged; the number of damaged blocks."""
    begin_session(settings.work_dir)
    damaged = 0
    for run in runs:
        if run.error:
            print(f"{run.label}: not read, the next run will meet it as well: {run.error}")
        damaged += sum(_check(step, run.name(step), settings.backend.workers) for step in run.steps)
    return damaged


def _check(step: BlockStep, name: str, workers: int) -> int:
    markers = step.markers.scan()
    blocks = _readable(step, markers)
    left_out = len(markers) - len(blocks)
    with counting_bar(name, len(blocks)) as progress:
        damaged = verify(step, workers, progress, blocks)
    what = "blocks" if step.unit == "voxel" else f"{step.unit}s"
    note = f"; {left_out} not read: file or settings have changed, the next run computes them again"
    print(f"{name}: {len(blocks)} {what} read, {len(damaged)} damaged{note if left_out else ''}")
    for item in damaged:
        print(f"  {step.title(item.block)}: {item.found}")
    return len(damaged)


def _readable(step: BlockStep, markers: Mapping[int, Marker]) -> list[int]:
    """Blocks that lie where the step looks for them, and were computed as large as they are now."""
    before = recorded_region(step)
    if before == step.grid.region:
        return step.readable(markers)
    if before is None or why_not_ours(step):
        return []
    is_cut = outgrown(step, before)
    return [block for block in step.readable(markers) if not is_cut(step.grid.block(block))]


def verify(
    step: BlockStep, workers: int, progress: Callable[[int], None], blocks: Sequence[int]
) -> list[DamagedBlock]:
    """Check blocks that have a marker; drop the markers of damaged ones, and with any the step's target.

    Args:
        step: the step.
        workers: number of processes.
        progress: called with the number of blocks that were just checked.
        blocks: ids of finished blocks.

    Returns:
        The damaged blocks; the next run computes them again, and only them.
    """
    damaged: list[DamagedBlock] = []
    check = functools.partial(_check_blocks, step.to_json())
    parts = list(_parts(blocks))
    with contextlib.ExitStack() as stack:
        run: Callable[..., Iterable[list[DamagedBlock]]] = map
        if len(parts) > 1:  # a few blocks are read sooner than processes start
            context = multiprocessing.get_context("spawn")
            run = stack.enter_context(ProcessPoolExecutor(workers, mp_context=context)).map
        for part, found in zip(parts, run(check, parts), strict=True):
            damaged += found
            progress(len(part))
    if damaged:
        step.forget_target()
        for item in damaged:
            step.markers.remove(item.block)
    return damaged


def _parts(blocks: Sequence[int]) -> Iterator[Sequence[int]]:
    for i in range(0, len(blocks), BLOCKS_AT_ONCE):
        yield blocks[i : i + BLOCKS_AT_ONCE]


_load_step = functools.lru_cache(maxsize=1)(load_step)
"""A step over thousands of images is a long text."""


def _check_blocks(step_text: str, blocks: Sequence[int]) -> list[DamagedBlock]:
    step = _load_step(step_text)
    found = (_check_block(step, block_id) for block_id in blocks)
    return [item for item in found if item is not None]


def _check_block(step: BlockStep, block_id: int) -> DamagedBlock | None:
    block = step.grid.block(block_id)
    marker = step.markers.read(block_id)
    try:
        checksum = step.output().checksum(block)
        found = f"checksum {checksum[:8]}, written was {marker.checksum[:8]}" if marker else "no marker"
    except (DamagedDataError, OSError, UserError, ValueError) as error:
        refuse_transient(error)
        checksum, found = "", str(error)
    if marker is not None and checksum == marker.checksum:
        return None
    return DamagedBlock(block_id, found)
