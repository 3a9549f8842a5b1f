"""How the engine's own work grows with blocks and components, without any image data.

    python benchmarks/scale.py --blocks 1000000 --components 4000000

A virtual volume is described, its markers are written as if all blocks were done, and then the driver's work is
measured, each part in a process of its own: looking whether a step is complete, planning a step (the resume scan),
cutting it into jobs of a cluster and writing them down, or into slices for Dask, stamps from the lookup table, and
merging components from the files of their blocks. Processor time is what counts on a machine that does other things
as well.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from skimage.filters import gaussian

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
from blockwise.plan import Item, begin, finish, is_complete, plan_step
from blockwise.records.markers import Marker
from blockwise.volume import create_volume
from blockwise.volume.info import VolumeInfo
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.labelling import face_labels, label_components, pack_faces
from tasks.components.measures import measure_components, side_by_side
from tasks.components.merge_step import ComponentMergeStep
from tasks.prediction import PredictionStep
from tasks.threshold import ThresholdStep

BLOCK = 64
SECONDS_PER_BLOCK = 1.0


def main() -> None:
    """Run all parts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=100_000, help="of the virtual volume")
    parser.add_argument("--components", type=int, default=1_000_000, help="of the merge, and four times as many")
    parser.add_argument("--folder", help="where to work; on the kind of disk that is to be measured")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = _blocks(Path(folder) / "blocks", options.blocks)
        for components in (options.components, 4 * options.components):
            rows += _merge(Path(folder) / f"merge{components}", components)
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
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


def _blocks(folder: Path, blocks: int) -> list[dict[str, Any]]:
    """Driver's work over many finished blocks."""
    side = round(blocks ** (1 / 3))
    step = _threshold_step(folder, (side * BLOCK,) * 3)
    count = len(step.grid)
    rows = [_measured(f"write {2 * count:,} markers", 2 * count, _finish_all, str(folder), side)]
    rows.append(_measured(f"is_complete, {count:,} blocks", count, _is_complete, str(folder), side))
    rows.append(_measured(f"plan with all done, {count:,} blocks", count, _plan, str(folder), side))
    step.forget_target()
    shutil.rmtree(step.folder)
    rows.append(_measured(f"plan with nothing done, {count:,} blocks", count, _plan, str(folder), side))
    rows.append(_measured(f"cut {count:,} blocks into jobs and write them", count, _write_jobs, str(folder), side))
    rows.append(_measured(f"read the jobs of {count:,} blocks", count, _read_jobs, str(folder), side))
    rows.append(_measured(f"deal {count:,} blocks to Dask workers", count, _deal_slices, str(folder), side))
    shutil.rmtree(folder)
    return rows


def _merge(folder: Path, components: int) -> list[dict[str, Any]]:
    """Merge over real faces; one small patch of random blobs is repeated."""
    patch = gaussian(np.random.default_rng(0).random((2 * BLOCK,) * 3), 1.6, mode="wrap")
    mask = (patch > np.quantile(patch, 0.85)).astype(np.uint8)
    per_block = sum(int(label_components(m, 1, 26).max()) for m in _patches(mask)) / 8
    side = max(2, round((components / per_block) ** (1 / 3)))
    count = _measured(f"write faces of {side**3:,} blocks", side**3, _write_faces, str(folder), side, mask)
    merged = _measured(
        f"merge {int(side**3 * per_block):,} components", side**3 * per_block, _run_merge, str(folder), side
    )
    stamps = _measured(f"stamps of {side**3:,} blocks from the lookup table", side**3, _stamps, str(folder), side)
    shutil.rmtree(folder)
    return [count, merged, stamps]


def _measured(part: str, number: float, function: Callable[..., None], *arguments: Any) -> dict[str, Any]:
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


def _prediction_step(folder: Path, shape: tuple[int, ...]) -> PredictionStep:
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid("zyx", shape, (BLOCK,) * 3)
    raw = f"{folder / 'raw.n5'}:raw"
    return PredictionStep(
        work_dir=str(folder),
        grid=grid,
        raw=VolumeInfo(address=raw, axes="zyx", shape=shape, dtype="|u1", chunks=(BLOCK,) * 3),
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
        chunks=(BLOCK,) * 3,
    )


def _threshold_step(folder: Path, shape: tuple[int, ...]) -> ThresholdStep:
    prediction = _prediction_step(folder, shape)
    return ThresholdStep(
        work_dir=str(folder),
        grid=prediction.grid,
        probabilities=prediction,
        class_index=0,
        channel=0,
        sigma=(1.6,) * 3,
        threshold=0.5,
        address=f"{folder / 'result.n5'}:thresholded",
        chunks=(BLOCK,) * 3,
    )


def _finish_all(folder: str, side: int) -> None:
    """Write what a run would have left, but for the data: chunks of zeros are not stored anyway."""
    step = _threshold_step(Path(folder), (side * BLOCK,) * 3)
    raw = _prediction_step(Path(folder), step.grid.shape).raw
    create_volume(raw.address, step.grid.shape, (BLOCK,) * 3, "uint8", {"axes": ["z", "y", "x"]})
    for each in (step.probabilities, step):
        plan = plan_step(each)
        begin(each, plan)
        files = each.output().files()
        for item in plan.items:
            stamp = files.stamp(each.grid.block(item.block))
            each.markers.write(
                Marker(item.block, each.fingerprint, "0" * 32, dict(item.stamps), stamp, 1.0, 1.0, 300.0, 1, "host")
            )
        finish(each, plan_step(each), 1.0)


def _is_complete(folder: str, side: int) -> None:
    step = _threshold_step(Path(folder), (side * BLOCK,) * 3)
    if not (is_complete(step.probabilities) and is_complete(step)):
        raise RuntimeError("the steps should be complete")


def _plan(folder: str, side: int) -> None:
    step = _threshold_step(Path(folder), (side * BLOCK,) * 3)
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
    step = _threshold_step(Path(folder), (side * BLOCK,) * 3)
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
    step = _threshold_step(Path(folder), (side * BLOCK,) * 3)
    ledger = Ledger(step, JOBS)
    found = sum(len(orders) for entry in ledger.entries() for orders in ledger.load(entry.name)[0])
    if found != len(step.grid):
        raise RuntimeError(f"{found} of {len(step.grid)} blocks are in the ledger")


def _patches(mask: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [mask[tuple(slice(i * BLOCK, i * BLOCK + BLOCK) for i in index)] for index in np.ndindex(2, 2, 2)]


def _merge_step(folder: str, side: int) -> ComponentMergeStep:
    threshold = _threshold_step(Path(folder), (side * BLOCK,) * 3)
    faces = ComponentFacesStep(
        work_dir=folder, grid=threshold.grid, thresholded=threshold, foreground=1, connectivity=26
    )
    whole = Grid("zyx", threshold.grid.shape, threshold.grid.shape)
    return ComponentMergeStep(work_dir=folder, grid=whole, faces=faces, min_size=0)


def _write_faces(folder: str, side: int, mask: np.ndarray[Any, Any]) -> None:
    step = _merge_step(folder, side).faces
    output = step.output()
    output.create({})
    labels = [label_components(patch, 1, 26) for patch in _patches(mask)]
    for block in step.grid:
        block_labels = labels[sum((i % 2) * w for i, w in zip(block.index, (4, 2, 1), strict=True))]
        origin = tuple(s.start for s in block.write_box)
        components = side_by_side(measure_components(block_labels, origin, step.grid.shape), step.columns)
        output.write(block, {"components": components, "faces": pack_faces(face_labels(block_labels))})


def _run_merge(folder: str, side: int) -> None:
    step = _merge_step(folder, side)
    step.output().create({})
    block = step.grid.block(0)
    step.output().write(block, step.compute(block, step.prepare()))


def _stamps(folder: str, side: int) -> None:
    step = _merge_step(folder, side)
    snapshot = step.rows("lookup").snapshot()
    for block in step.faces.grid:
        snapshot.stamp(block.write_box)
    if math.prod(step.faces.grid.blocks_per_axis) != side**3:
        raise RuntimeError("another grid than was asked for")


if __name__ == "__main__":
    main()
