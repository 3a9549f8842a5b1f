"""A process that wants blocks of a workspace: run as ``python -m tests.contract.demanding FOLDER SEED [slurm]``."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

from blockwise.advice import Names
from blockwise.backends.executor import Executor
from blockwise.backends.local_executor import LocalExecutor
from blockwise.backends.slurm import SlurmOptions
from blockwise.backends.slurm.staying_jobs import SlurmStayingJobs
from blockwise.backends.staying.executor import StayingExecutor
from blockwise.demand import Demand
from blockwise.demand.presence import Presence
from tests.contract.steps import Workspace

CLIENTS = 8


def slurm_executor(size: int, timeout_s: float | None = 60.0, **options: Any) -> StayingExecutor:
    """Workers in jobs of the tests' cluster."""
    names = Names(kind="backend.name: slurm", option="backend.slurm.")
    jobs = SlurmStayingJobs(SlurmOptions(**options), names)
    return StayingExecutor(size, jobs, timeout_s, names.advice("raise backend.slurm.memory_gb"), poll_s=0.5)


async def want_everything(folder: Path, seed: int, executor: Executor) -> None:
    """As many clients want all blocks, each in an order of its own; the process says how many it has computed."""
    work = Workspace.open(folder)
    demand = Demand(Presence(), executor, max_attempts=3)
    step = work.doubling()

    async def client(number: int) -> None:
        blocks = list(step.grid.ids())
        random.Random(100 * seed + number).shuffle(blocks)
        for block in blocks:
            await demand.need(step, [block])

    try:
        await asyncio.gather(*map(client, range(CLIENTS)))
    finally:
        demand.close()
    print(demand.computed["addition"], demand.computed["doubling"], flush=True)


if __name__ == "__main__":
    of_slurm = sys.argv[3:] == ["slurm"]
    workers: Executor = slurm_executor(6) if of_slurm else LocalExecutor(2, 60.0)
    asyncio.run(want_everything(Path(sys.argv[1]), int(sys.argv[2]), workers))
