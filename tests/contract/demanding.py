"""A process that wants blocks of a workspace: run as ``python -m tests.contract.demanding FOLDER SEED``."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from blockwise.backends.local_executor import LocalExecutor
from blockwise.demand import Demand
from blockwise.demand.presence import Presence
from tests.contract.steps import Workspace

CLIENTS = 8


async def want_everything(folder: Path, seed: int) -> None:
    """As many clients want all blocks, each in an order of its own; the process says how many it has computed."""
    work = Workspace.open(folder)
    demand = Demand(Presence(), LocalExecutor(2, 60.0), max_attempts=3)
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
    asyncio.run(want_everything(Path(sys.argv[1]), int(sys.argv[2])))
