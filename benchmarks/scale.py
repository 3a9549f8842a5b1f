"""How the engine's own work grows with blocks, without any image data.

    python -m benchmarks.scale --blocks 100000 1000000

A virtual volume is described, its markers are written as if all blocks were done, and then the driver's work is
measured, each part in a process of its own: looking whether a step is complete, planning a step (the resume scan),
cutting it into jobs of a cluster and writing them down, or into slices for Dask. Processor time is what counts on a
machine that does other things as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.backends.dask.afar import PATIENCE_S, packed
from blockwise.backends.dask.brief import Place
from blockwise.backends.dask.dealing import Dealing
from blockwise.backends.jobs.dealing import blocks_per_job, deal
from blockwise.backends.jobs.ledger import Ledger
from blockwise.backends.jobs.needs import first_needs
from blockwise.backends.jobs.scheduler import Submission
from blockwise.backends.slurm.backend import JOBS
from blockwise.backends.slurm.cluster import SCRIPT
from blockwise.backends.slurm.script import SlurmOptions, batch_script
from blockwise.faults import Faults
from blockwise.grid import Grid
from blockwise.job import Order
from blockwise.plan import Item, Totals, begin, finish, is_complete, plan_step
from blockwise.records.markers import BLOCKS_PER_FOLDER, DONE, Marker
from blockwise.stamps import Checksums
from blockwise.volume import create_volume
from blockwise.volume.info import VolumeInfo
from tasks.prediction import PredictionStep
from tasks.threshold import ThresholdStep

BLOCK = 64
SECONDS_PER_BLOCK = 1.0


def main() -> None:
    """Run all parts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs="+", default=[100_000], help="of the virtual volumes")
    parser.add_argument("--undone", action="store_true", help="only what needs no markers: there are two a block")
    parser.add_argument("--folder", help="where to work; on the kind of disk that is to be measured")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = []
        for blocks in options.blocks:
            place, side = Path(folder) / f"blocks{blocks}", round(blocks ** (1 / 3))
            rows += ([] if options.undone else _done(place, side)) + _undone(place, side)
    show(rows, options.json)


def show(rows: list[dict[str, Any]], file: str | None) -> None:
    """Print a table of what was measured, and write it to a file."""
    table = Table("part", "seconds", "CPU seconds", "CPU microseconds each", "peak memory, MB", box=SIMPLE)
    for row in rows:
        cells = (
            f"{row['seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['each_us']:.2f}",
            f"{row['peak_mb']:.0f}",
        )
        table.add_row(row["part"], *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if file:
        Path(file).write_text(json.dumps(rows, indent=1) + "\n")


def _done(folder: Path, side: int) -> list[dict[str, Any]]:
    """Driver's work over finished blocks."""
    step = threshold_step(folder, (side * BLOCK,) * 3)
    count = len(step.grid)
    rows = [
        measured(f"write {2 * count:,} markers", 2 * count, _finish_all, str(folder), side),
        measured(f"is_complete, {count:,} blocks", count, _is_complete, str(folder), side),
        measured(f"plan with all done, {count:,} blocks", count, _plan, str(folder), side),
    ]
    shutil.rmtree(folder)
    return rows


def _undone(folder: Path, side: int) -> list[dict[str, Any]]:
    """Driver's work over blocks that are to be computed."""
    count = len(threshold_step(folder, (side * BLOCK,) * 3).grid)
    where = (str(folder), side)
    rows = [
        measured(f"make two datasets, finish one step of {count:,} blocks", count, _finish_first, *where),
        measured(f"plan with nothing done, {count:,} blocks", count, _plan, *where),
        measured(f"cut {count:,} blocks into jobs and write them", count, _write_jobs, *where),
        measured(f"read the jobs of {count:,} blocks", count, _read_jobs, *where),
        measured(f"deal {count:,} blocks to Dask workers", count, _deal_slices, *where),
    ]
    shutil.rmtree(folder)
    return rows


def measured(part: str, number: float, function: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """Run a function in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_timed, args=(queue, function, *arguments))
    process.start()
    seconds, cpu, peak = queue.get()
    process.join()
    return {
        "part": part, "seconds": seconds, "cpu_seconds": cpu, "each_us": 1e6 * cpu / number, "peak_mb": peak,
    }  # fmt: skip


def _timed(queue: Any, function: Callable[..., None], *arguments: Any) -> None:
    start, cpu = time.monotonic(), time.process_time()
    function(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put((time.monotonic() - start, time.process_time() - cpu, peak))


def _prediction_step(folder: Path, shape: tuple[int, ...], block: int = BLOCK) -> PredictionStep:
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid("zyx", shape, (block,) * 3)
    raw = f"{folder / 'raw.n5'}:raw"
    return PredictionStep(
        work_dir=str(folder),
        grid=grid,
        raw=VolumeInfo(address=raw, axes="zyx", shape=shape, dtype="|u1", chunks=(block,) * 3),
        channels=(0,),
        project="none.ilp",
        project_hash="0",
        classes=(0,),
        class_names=("one",),
        dtype="float32",
        engine="fast",
        structure_tensor="fastfilters",
        seed=0,
        feature_halo=(15, 15, 15),
        engine_memory=0,
        address=f"{folder / 'result.n5'}:probabilities",
        chunks=(block,) * 3,
    )


def threshold_step(folder: Path, shape: tuple[int, ...], block: int = BLOCK) -> ThresholdStep:
    """The step that cuts the prediction of a virtual volume, in cubes of some voxels' side."""
    prediction = _prediction_step(folder, shape, block)
    return ThresholdStep(
        work_dir=str(folder),
        grid=prediction.grid,
        probabilities=prediction,
        class_index=0,
        channel=0,
        sigma=(1.6,) * 3,
        threshold=0.5,
        address=f"{folder / 'result.n5'}:thresholded",
        chunks=(block,) * 3,
    )


def _finish_all(folder: str, side: int) -> None:
    """Write what a run would have left, but for the data: chunks of zeros are not stored anyway."""
    step = threshold_step(Path(folder), (side * BLOCK,) * 3)
    _make_raw(folder, side)
    for each in (step.probabilities, step):
        plan = plan_step(each)
        begin(each, plan)
        files = each.output().files()
        for item in plan.items:
            stamp = files.stamp(each.grid.block(item.block))
            marker = Marker(
                item.block, each.fingerprint, "0" * 32, dict(item.stamps), stamp, 1.0, 1.0, 300.0, 1, "host"
            )
            path = Path(each.folder, each.markers.key(DONE, item.block))
            if item.block % BLOCKS_PER_FOLDER == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(msgspec.json.encode(marker))  # a worker would write it beside, and rename it
        finish(each, plan_step(each), 1.0)


def _make_raw(folder: str, side: int) -> None:
    raw = _prediction_step(Path(folder), (side * BLOCK,) * 3).raw
    create_volume(raw.address, raw.shape, (BLOCK,) * 3, "uint8", {"axes": ["z", "y", "x"]})


def _finish_first(folder: str, side: int) -> None:
    """Write what a finished prediction would have left, but for data and markers."""
    step = threshold_step(Path(folder), (side * BLOCK,) * 3)
    _make_raw(folder, side)
    prediction = step.probabilities
    plan = plan_step(prediction)
    begin(prediction, plan)
    checksums = Checksums(prediction.grid, np.full(prediction.grid.blocks_per_axis, b"0" * 32))
    totals = Totals(checksums, 0.0, 0.0, None)
    finish(prediction, dataclasses.replace(plan, items=[], totals=totals), 1.0)


def _is_complete(folder: str, side: int) -> None:
    step = threshold_step(Path(folder), (side * BLOCK,) * 3)
    if not (is_complete(step.probabilities) and is_complete(step)):
        raise RuntimeError("the steps should be complete")


def _plan(folder: str, side: int) -> None:
    step = threshold_step(Path(folder), (side * BLOCK,) * 3)
    plan_step(step)


def _deal_slices(folder: str, side: int) -> None:
    """All slices of a step as they go to a Dask scheduler, for a hundred threads; here they end at once."""
    dealing = Dealing(Order(Item(block, {"prediction": f"{block:032x}"})) for block in range(side**3))
    slices: list[list[Order]] = []
    while dealing.left:
        while orders := dealing.next_slice(100, slices):
            packed(Place(folder, "brief"), orders, PATIENCE_S)
            slices.append(orders)
        for _ in slices.pop(0):
            dealing.took(0.02)


def _write_jobs(folder: str, side: int) -> None:
    """All arrays of a step as the driver submits them, one after the other; here nobody empties the queue."""
    step = threshold_step(Path(folder), (side * BLOCK,) * 3)
    ledger, options = Ledger(step, JOBS), SlurmOptions()
    needs = first_needs(step, options)
    orders = [Order(Item(block.id, {"prediction": "0" * 32})) for block in step.grid]
    number = 0
    while orders:
        per_job = blocks_per_job(options, needs.time_min, len(orders), SECONDS_PER_BLOCK)
        lists, orders = deal(orders, per_job, options.max_submitted)
        number += 1
        name = f"array{number}"
        ledger.enter(name, step, lists, needs, None)
        work = ledger.address(name)
        submission = Submission(name, work, ledger.logs, len(lists), needs, options.max_running)
        Path(work, SCRIPT).write_text(batch_script(options, submission, Faults()))


def _read_jobs(folder: str, side: int) -> None:
    step = threshold_step(Path(folder), (side * BLOCK,) * 3)
    ledger = Ledger(step, JOBS)
    found = sum(len(orders) for entry in ledger.entries() for orders in ledger.load(entry.name)[0])
    if found != len(step.grid):
        raise RuntimeError(f"{found} of {len(step.grid)} blocks are in the ledger")


if __name__ == "__main__":
    main()
