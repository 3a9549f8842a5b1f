"""What it would gain if the blocks of a step began as soon as the blocks that they read are done.

    python -m benchmarks.overlap CONFIG.yaml 2 8      # of a finished run; numbers of workers

The markers of the run say what processor time each block took. From that the run is played twice, for each number of
workers: step after step, as it is, and with each block waiting only for those that it reads. Both hand out blocks in
raster order, of the earliest step first. It is the most that can be gained: looking for what is ready costs nothing.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings

Task = tuple[int, int]
"""Number of the step, id of the block."""


def main() -> None:
    """Play the run and print."""
    steps = build_steps(load_settings(sys.argv[1])).all()
    seconds = {(i, marker.block): marker.cpu_seconds for i, step in enumerate(steps) for marker in step.markers}
    table = Table("workers", "step after step, s", "as soon as possible, s", "gain", box=SIMPLE)
    for workers in map(int, sys.argv[2:]):
        barriers = sum(
            _played({task: time for task, time in seconds.items() if task[0] == i}, {}, workers)
            for i in range(len(steps))
        )
        free = _played(seconds, _needs(steps), workers)
        table.add_row(str(workers), f"{barriers:.2f}", f"{free:.2f}", f"{100 * (1 - free / barriers):.1f} %")
    Console().print(f"{len(steps[0].grid)} blocks, {sum(seconds.values()):.1f} s of processor time", table)


def _needs(steps: Sequence[BlockStep]) -> dict[Task, list[Task]]:
    """Blocks that each block reads."""
    places = {step.label: i for i, step in enumerate(steps)}
    needs: dict[Task, list[Task]] = {}
    for i, step in enumerate(steps):
        read = [source for source in step.sources() if isinstance(source, BlocksSource)]
        for block in step.grid:
            boxes = step.reads(block)
            needs[i, block.id] = [
                (places[source.label], other)
                for source in read
                for other in source.step.grid.ids_touching(boxes[source.name])
            ]
    return needs


def _played(seconds: dict[Task, float], needs: dict[Task, list[Task]], workers: int) -> float:
    """When the last block ends."""
    left = {task: len(needs.get(task, ())) for task in seconds}
    readers: dict[Task, list[Task]] = {}
    for task, read in needs.items():
        for other in read:
            readers.setdefault(other, []).append(task)
    ready = sorted(task for task, count in left.items() if not count)
    running: list[tuple[float, Task]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            task = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[task], task))
        now, ended = heapq.heappop(running)
        for task in readers.get(ended, ()):
            left[task] -= 1
            if not left[task]:
                heapq.heappush(ready, task)
    return now


if __name__ == "__main__":
    main()
