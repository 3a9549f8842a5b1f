"""How much of a worker's time is neither computing nor input and output.

    python -m benchmarks.overhead CONFIG.yaml      # of a finished run; its blocks are computed once more

Runs all blocks of each step in this process, as a worker does, and prints processor time per block: computing and
reading, writing, and the rest (claims, markers, checksums, files' states), with its share. Then the time of a claim.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.grid import box_size
from blockwise.identity import array_checksum
from blockwise.outputs import volume as outputs
from blockwise.plan import Item, present_marker
from blockwise.step import BlockStep
from blockwise.worker import Worker
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings

CLAIMS = 10_000


def main() -> None:
    """Measure and print."""
    steps = build_steps(load_settings(sys.argv[1])).all()
    table = Table("step", "ms a block", "ns a voxel", "compute and read", "write", "rest", box=SIMPLE)
    totals = Counter[str]()
    for step in steps:
        spent = _spent(step)
        totals.update(spent)
        voxels = box_size(step.grid.domain)
        table.add_row(
            step.label,
            f"{1e3 * spent['all'] / len(step.grid):.2f}",
            f"{1e9 * spent['all'] / voxels:.0f}",
            *(f"{100 * spent[part] / spent['all']:.1f} %" for part in ("compute", "write", "rest")),
        )
    shares = [f"{100 * totals[part] / totals['all']:.1f} %" for part in ("compute", "write", "rest")]
    table.add_row("all", "", "", *shares)
    Console().print(table)
    print(f"claim: {1e6 * _claim_seconds(steps[0]):.0f} microseconds a block, of the rest")


def _claim_seconds(step: BlockStep) -> float:
    """Processor time to lock a step and one of its blocks, to look for its marker, and to give back the locks."""
    worker = Worker(step, "no log")
    item = Item(next(iter(step.grid)).id, {"none": ""})
    start = time.process_time()
    for _ in range(CLAIMS):
        with worker.claimed(item.block):
            present_marker(step, item)
    return (time.process_time() - start) / CLAIMS


def _spent(step: BlockStep) -> Counter[str]:
    worker = Worker(step, "no log")
    worker.prepare()
    spent = Counter[str]()
    snapshots = {name: source.snapshot() for name, source in step.inputs.items()}
    items = [
        Item(block.id, {name: snapshot.stamp(step.reads(block)[name]) for name, snapshot in snapshots.items()})
        for block in step.grid
    ]
    for item in items:
        step.markers.remove(item.block)  # a block that is done is not computed once more
    kind, output = type(step), type(worker.output)
    originals = kind.compute, output.write, array_checksum
    kind.compute = _timed(kind.compute, "compute", spent)  # type: ignore[method-assign]
    output.write = _timed(output.write, "write", spent)  # type: ignore[method-assign]
    vars(outputs)["array_checksum"] = _timed(array_checksum, "checksum", spent)
    try:
        worker.run(items[0], 1)
        step.markers.remove(items[0].block)
        spent.clear()
        start = time.process_time()
        for item in items:
            if worker.run(item, 1).state != "computed":
                raise RuntimeError(f"{step.label}: block {item.block} was not computed")
        spent["all"] = time.process_time() - start
    finally:
        kind.compute, output.write, vars(outputs)["array_checksum"] = originals  # type: ignore[method-assign]
    spent["write"] -= spent["checksum"]
    spent["rest"] = spent["all"] - spent["compute"] - spent["write"]
    return spent


def _timed(function: Callable[..., Any], name: str, spent: Counter[str]) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] += time.process_time() - start

    return timed


if __name__ == "__main__":
    main()
