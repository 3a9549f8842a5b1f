"""Single blocks computed by workers in jobs that stay: what happens to blocks, jobs and queue when somebody dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from blockwise.backends.staying import crew
from blockwise.demand import BlockFailedError, Demand
from blockwise.demand.presence import Presence
from blockwise.plan import plan_step
from pipeline.__main__ import main
from tests.contract.demanding import slurm_executor
from tests.contract.steps import Workspace
from tests.processes import wait_for
from tests.runs import ROOT, Project
from tests.slurm.cluster import Cluster


@asynccontextmanager
async def demanding(size: int, **options: Any) -> AsyncIterator[Demand]:
    found = Demand(Presence(), slurm_executor(size, **options), max_attempts=2, pauses_s=())
    try:
        yield found
    finally:
        found.close()


def with_demand(test: Callable[[Demand], Coroutine[Any, Any, None]], size: int = 2, **options: Any) -> None:
    async def run() -> None:
        async with demanding(size, **options) as demand:
            await test(demand)

    asyncio.run(run())


async def eventually(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, condition, 60)


def workers_of(work: Workspace) -> set[str]:
    """Process and node of each worker that has begun a block."""
    return {line for block in work.grid.ids() for line in work.runs(block)}


def test_jobs_stay_and_compute_one_block_after_the_other(cluster: Cluster, work: Workspace) -> None:
    async def test(demand: Demand) -> None:
        work.tell(3, "kill 1")  # its worker is replaced
        await asyncio.gather(*(demand.need(work.doubling(), work.grid.ids()) for _ in range(4)))
        assert demand.computed == {"addition": 8, "doubling": 8}
        assert len(cluster.alive_jobs()) in (1, 2)  # they wait for more

    with_demand(test)
    cluster.wait_until_quiet(30)
    assert (work.result("doubling") == 2 * (work.values + 1)).all()
    assert [len(work.runs(block)) for block in work.grid.ids()] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert 1 <= len(workers_of(work)) <= 3
    assert all(" node" in worker for worker in workers_of(work))


def test_jobs_of_a_killed_server_end_also_in_the_queue(cluster: Cluster, work: Workspace) -> None:
    """The cluster has four cpus, and the server wants six workers."""
    work.hold(*range(8))
    command = [sys.executable, "-m", "tests.contract.demanding", str(work.folder), "1", "slurm"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(workers_of(work)) == 4 and len(cluster.alive_jobs()) == 6, 90, cluster.alive_jobs)
        work.release(0)
        wait_for(lambda: work.addition().markers.read(0) is not None or not work.runs(0), 60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    cluster.wait_until_quiet(40)
    done = [block for block in work.grid.ids() if work.addition().markers.read(block)]
    work.release(*work.grid.ids())

    async def test(demand: Demand) -> None:
        await demand.need(work.doubling(), work.grid.ids())
        assert demand.computed["addition"] == len(work.grid) - len(done)

    with_demand(test)
    assert all(len(work.runs(block)) == 1 for block in done)
    assert plan_step(work.doubling()).done == len(work.grid)


def test_jobs_without_work_end_and_others_come_when_there_is_some(
    cluster: Cluster, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(demand: Demand) -> None:
        await demand.need(work.addition(), [0])
        monkeypatch.setattr(crew, "IDLE_S", 0.0)
        await asyncio.to_thread(cluster.wait_until_quiet)
        monkeypatch.undo()
        await demand.need(work.addition(), [1])
        assert len(workers_of(work)) == 2

    with_demand(test, size=1)


def test_what_cannot_be_submitted_or_started_is_told(cluster: Cluster, work: Workspace) -> None:
    async def refused(demand: Demand) -> None:
        with pytest.raises(
            Exception, match=r"SLURM refuses workers: .*[Ii]nvalid partition.*backend.slurm.partition"
        ):
            await demand.need(work.addition(), [0])

    async def in_vain(demand: Demand) -> None:
        with pytest.raises(Exception, match=r"3 jobs one after the other were in vain; .*FAILED.*no such module"):
            await demand.need(work.addition(), [0])

    with_demand(refused, partition="nowhere")
    with_demand(in_vain, setup="echo no such module >&2; false")
    assert not workers_of(work)


@pytest.mark.soak
def test_a_node_that_dies_delays_its_block_only(cluster: Cluster, work: Workspace) -> None:
    work.hold(0, 1, 2, 3)

    async def test(demand: Demand) -> None:
        wanted = asyncio.create_task(demand.need(work.addition(), range(4)))
        await eventually(lambda: len(workers_of(work)) == 4)
        lost = [block for block in range(4) if work.runs(block)[0].endswith("node2")]
        assert lost
        await asyncio.to_thread(cluster.kill_node, "node2")
        work.release(0, 1, 2, 3)
        await wanted
        assert [len(work.runs(block)) for block in range(4)] == [2 if block in lost else 1 for block in range(4)]
        assert all(work.runs(block)[1].endswith("node1") for block in lost)

    try:
        with_demand(test, size=4)
    finally:
        cluster.start_node("node2")
        wait_for(lambda: cluster.idle_nodes() == 2, 60, lambda: cluster.run("sinfo", "-N", "-l"))


@pytest.mark.soak
def test_a_block_that_needs_more_memory_gets_a_worker_with_more(work: Workspace) -> None:
    work.tell(0, "fill 1 700")

    async def test(demand: Demand) -> None:
        await demand.need(work.addition(), [0, 1])
        assert demand.computed == {"addition": 2}

    with_demand(test, size=1)
    assert [len(work.runs(block)) for block in (0, 1)] == [2, 1]


@pytest.mark.soak
def test_a_block_that_takes_too_long_is_given_up_with_its_job(cluster: Cluster, work: Workspace) -> None:
    work.tell(0, "seize 99 600")  # it notices nothing, not even that its connection has ended

    async def test(demand: Demand) -> None:
        await demand.need(work.addition(), [1])
        with pytest.raises(BlockFailedError, match=r"worker in SLURM job [0-9]+: no result after"):
            await demand.need(work.addition(), [0])
        await asyncio.to_thread(cluster.wait_until_quiet)

    with_demand(test, size=1, timeout_s=3.0)
    assert len(work.runs(0)) == 2


@pytest.mark.soak
def test_view_has_a_box_computed_by_jobs(cluster: Cluster, unused: Project, expected: dict[str, Any]) -> None:
    unused.change("backend", {"name": "slurm", "slurm": {"view_jobs": 2, "poll_s": 1}})
    assert main(["view", "--config", "config.yaml", "--once", "thresholded:0:20,0:36,0:40", "box.npy"]) == 0
    np.testing.assert_array_equal(np.load("box.npy"), expected["thresholded"][:20, :, :40], strict=True)
    cluster.wait_until_quiet(30)
