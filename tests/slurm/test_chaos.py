"""A long run in which everything goes wrong at random; its result is right, and no block is forgotten."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from blockwise.plan import is_complete
from tests.contract.steps import Workspace
from tests.slurm.cluster import NODES, Cluster
from tests.slurm.driver import Driver

BLOCKS = 80
SECONDS = 90.0


@pytest.mark.soak
def test_random_faults(cluster: Cluster, work: Workspace, tmp_path: Path, drive: Callable[..., Driver]):
    seed = int(os.environ.get("CHAOS_SEED", time.time()))
    print(f"CHAOS_SEED={seed}")
    dice = random.Random(seed)
    many = Workspace(tmp_path / "many", BLOCKS)
    for block in range(BLOCKS):
        if block % 3:
            many.tell(block, f"sleep 9 {dice.uniform(0.1, 2):.2f}", *(["raise 1"] if block % 7 == 0 else []))

    def new_driver() -> Driver:
        return drive(many, blocks_per_job=3, max_submitted=20)

    driver = new_driver()
    faults: list[str] = []
    start = time.monotonic()
    while time.monotonic() - start < SECONDS:
        time.sleep(dice.uniform(0.5, 3))
        if driver.process.poll() is not None:
            break
        fault = dice.choice(["kill worker", "kill worker", "scancel", "node", "driver"])
        faults.append(fault)
        if fault == "kill worker":
            kill_a_worker(many, dice)
        elif fault == "scancel":
            running = [line.split()[0] for line in cluster.alive_jobs()]
            cluster.run("scancel", *dice.sample(running, min(1, len(running))))
        elif fault == "node":
            node = dice.choice(NODES)
            cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=chaos")
            cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        else:
            driver.kill()
            driver = new_driver()
    text = driver.finish(200)
    # Faults may use up the attempts at a block; whoever runs it again gets the rest.
    for _ in range(3):
        if "done:" not in text:
            driver = new_driver()
            text = driver.finish(120)
    assert "done:" in text, (faults, text)
    assert is_complete(many.addition())
    assert np.array_equal(many.result(), many.values + 1), faults
    again = sum(len(many.runs(block)) for block in range(BLOCKS)) - BLOCKS
    print(f"{len(faults)} faults, {again} blocks begun again")
    assert len(set(faults)) == 4
    # A fault costs the block that was under way in each job that it hit, and no finished one.
    assert again < 8 * len(faults)


def kill_a_worker(work: Workspace, dice: random.Random) -> None:
    workers = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "blockwise.job" in words and any(str(work.folder) in word for word in words):
            workers.append(process)
    if workers:
        try:
            dice.choice(workers).send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return
