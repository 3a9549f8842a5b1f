"""How much of a worker's time is neither computing nor input and output.

    python -m benchmarks.overhead CONFIG.yaml      # of a finished run; its blocks are computed once more

Runs all blocks of each step in this process, as a worker does, and prints processor time per block: computing and
reading, writing, and the rest (markers, checksums, files' states), with its share.
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
from blockwise.outputs import volume as outputs
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.worker import Worker
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings


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


def _spent(step: BlockStep) -> Counter[str]:
    worker = Worker(step, "no log")
    worker.prepare()
    spent = Counter[str]()
    sources = {source.name: source.snapshot() for source in step.sources()}
    items = [
        Item(block.id, {name: source.stamp(block, step.read_box(block)) for name, source in sources.items()})
        for block in step.grid
    ]
    kind, output = type(step), type(worker.output)
    originals = kind.compute, output.write, outputs.array_checksum
    kind.compute = _timed(kind.compute, "compute", spent)  # type: ignore[method-assign]
    output.write = _timed(output.write, "write", spent)  # type: ignore[method-assign]
    outputs.array_checksum = _timed(outputs.array_checksum, "checksum", spent)
    try:
        worker.run(items[0], 1)
        spent.clear()
        start = time.process_time()
        for item in items:
            worker.run(item, 1)
        spent["all"] = time.process_time() - start
    finally:
        kind.compute, output.write, outputs.array_checksum = originals  # type: ignore[method-assign]
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
