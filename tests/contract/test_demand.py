"""Blocks computed because somebody waits for them: each once, the newest wish first, and kept for a run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from blockwise.backends import LocalBackend
from blockwise.backends.local_executor import LocalExecutor
from blockwise.demand import BlockFailedError, BusyError, Demand
from blockwise.demand import presence as presence_module
from blockwise.demand import wishes as demand_module
from blockwise.demand.beginning import PlaceTakenError
from blockwise.demand.presence import Presence, needed_blocks, stands_alone
from blockwise.job import Order
from blockwise.outputs import NotOursError
from blockwise.plan import is_complete, plan_step
from blockwise.run import run_step
from blockwise.step import BlockStep
from blockwise.trust.ownership import recorded_id
from blockwise.volume import Address, create_volume, open_volume
from blockwise.worker import Result
from tests.contract.steps import Workspace
from tests.processes import wait_for
from tests.runs import ROOT, Project


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", blocks=6)


@asynccontextmanager
async def demanding(size: int = 2, max_attempts: int = 2) -> AsyncIterator[Demand]:
    found = Demand(Presence(), LocalExecutor(size, 60.0), max_attempts, pauses_s=())
    try:
        yield found
    finally:
        found.close()


def with_demand(test: Callable[[Demand], Coroutine[Any, Any, None]], size: int = 2, max_attempts: int = 2) -> None:
    async def run() -> None:
        async with demanding(size, max_attempts) as demand:
            await test(demand)

    asyncio.run(run())


def run(step: BlockStep) -> int:
    """Bring a step up to date as a run does; the number of blocks that it has computed."""
    backend = LocalBackend(2, 60.0)
    try:
        outcome = run_step(step, backend, 3, lambda _: None)
    finally:
        backend.close()
    assert not outcome.failed
    assert is_complete(step)
    return outcome.computed


async def eventually(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, condition, 60)


def test_a_block_is_computed_with_what_it_needs_once_and_kept_for_a_run(work: Workspace) -> None:
    async def test(demand: Demand) -> None:
        await asyncio.gather(*(demand.need(work.doubling(), [2]) for _ in range(16)))
        assert (work.result("doubling")[8:12] == 2 * (work.values[8:12] + 1)).all()
        assert demand.computed == {"addition": 1, "doubling": 1}

    with_demand(test)
    assert run(work.addition()) == len(work.grid) - 1
    assert run(work.doubling()) == len(work.grid) - 1
    assert [len(work.runs(block)) for block in work.grid.ids()] == [1] * len(work.grid)


@pytest.mark.soak
def test_what_a_run_has_finished_is_there(work: Workspace) -> None:
    run(work.addition())
    target = work.addition().read_target()

    async def test(demand: Demand) -> None:
        await demand.need(work.addition(), range(6))
        await demand.need(work.doubling(), [0])
        assert demand.computed == {"doubling": 1}

    with_demand(test)
    assert work.addition().read_target() == target


@pytest.mark.soak
def test_a_finished_step_of_which_a_block_is_computed_again_is_finished_no_more(work: Workspace) -> None:
    run(work.addition())
    os.utime(Path(work.folder, "raw.n5", "raw", "0", "0", "2"), (1, 1))

    async def test(demand: Demand) -> None:
        await demand.need(work.addition(), range(6))
        assert demand.computed == {"addition": 1}

    with_demand(test)
    assert work.addition().read_target() is None
    assert run(work.addition()) == 0


def test_what_nobody_waits_for_any_more_leaves_the_queue(work: Workspace) -> None:
    work.hold(0)

    async def test(demand: Demand) -> None:
        first = asyncio.create_task(demand.need(work.addition(), [0]))
        await eventually(lambda: bool(work.runs(0)))
        given_up = [asyncio.create_task(demand.need(work.doubling(), [block])) for block in (1, 2, 3)]
        kept = asyncio.create_task(demand.need(work.addition(), [3]))
        while demand.waiting(work.addition()) < 4:
            await asyncio.sleep(0.01)
        for one in given_up:
            one.cancel()
        first.cancel()  # it is being computed: it is finished, and kept
        await asyncio.gather(first, *given_up, return_exceptions=True)
        while demand.waiting(work.addition()) > 2:
            await asyncio.sleep(0.01)
        work.release(0)
        await kept
        await demand.need(work.addition(), [0])
        assert demand.waiting(work.addition()) == demand.waiting(work.doubling()) == 0

    with_demand(test, size=1)
    assert [len(work.runs(block)) for block in range(6)] == [1, 0, 0, 1, 0, 0]


def test_the_newest_wish_comes_first_with_what_it_needs(work: Workspace) -> None:
    work.hold(0)
    given: list[tuple[str, int]] = []

    async def test(demand: Demand) -> None:
        compute = demand.executor.compute

        def noted(step: BlockStep, order: Order) -> Result:
            given.append((step.label, order.item.block))
            return compute(step, order)

        async def want(step: BlockStep, block: int) -> None:
            await demand.need(step, [block])

        demand.executor.compute = noted  # type: ignore[method-assign]
        first = asyncio.create_task(want(work.addition(), 0))
        await eventually(lambda: bool(work.runs(0)))
        others = []
        for block in (1, 2, 3, 4):
            others.append(asyncio.create_task(want(work.addition(), block)))
            while demand.waiting(work.addition()) < block + 1:
                await asyncio.sleep(0.01)
        others.append(asyncio.create_task(want(work.doubling(), 2)))  # an old wish that becomes the newest
        while demand._wishes[demand_module._key(work.addition(), 2)].waiters < 2:
            await asyncio.sleep(0.01)
        while len(demand._slots.queue) < 4:  # some still look whether they are there
            await asyncio.sleep(0.01)
        work.release(0)
        await asyncio.gather(first, *others)

    with_demand(test, size=1)
    # When the doubling's turn is depends on who wakes first; the worker may have been given other blocks by then.
    assert [block for step, block in given if step == "addition"] == [0, 2, 4, 3, 1]
    assert given.index(("doubling", 2)) > given.index(("addition", 2))


@pytest.mark.soak
def test_a_lost_worker_is_replaced(work: Workspace) -> None:
    work.tell(1, "kill 1")

    async def test(demand: Demand) -> None:
        await demand.need(work.addition(), [1, 2])
        assert demand.computed == {"addition": 2}

    with_demand(test)


def test_a_failed_block_is_told_with_its_log_and_not_tried_at_once_again(work: Workspace) -> None:
    work.tell(1, "raise 99")

    async def test(demand: Demand) -> None:
        for step in (work.addition(), work.doubling(), work.addition()):
            with pytest.raises(BlockFailedError, match=r"addition: block 1 at .*was told to fail") as failed:
                await demand.need(step, [1])
            assert "was told to fail" in Path(failed.value.log).read_text()
        await demand.need(work.doubling(), [2])

    with_demand(test)
    assert len(work.runs(1)) == 2


def test_too_many_wishes_are_refused(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand_module, "MOST_WISHES", 2)
    work.hold(0, 1)

    async def test(demand: Demand) -> None:
        first = asyncio.create_task(demand.need(work.addition(), [0, 1]))
        await eventually(lambda: bool(work.runs(0)))
        with pytest.raises(BusyError):
            await demand.need(work.addition(), [2])
        work.release(0, 1)
        await first

    with_demand(test)


@pytest.mark.soak
def test_changed_raw_data_is_computed_again_and_damaged_results_too(work: Workspace) -> None:
    async def test(demand: Demand) -> None:
        await demand.need(work.doubling(), [1, 2])
        chunk = Path(work.folder, "out.n5", "addition", "0", "0", "1")
        chunk.write_bytes(chunk.read_bytes()[:30])
        os.utime(Path(work.folder, "raw.n5", "raw", "0", "0", "2"), (1, 1))
        demand.presence.look_again()
        await demand.need(work.doubling(), [1, 2])
        assert demand.computed == {"addition": 4, "doubling": 2}  # the bytes are the same: what reads them stays

    with_demand(test)
    assert run(work.addition()) == 4
    assert run(work.doubling()) == 4


def test_a_result_of_other_settings_is_left_alone(work: Workspace) -> None:
    run(work.addition(1))
    state = {path: path.stat().st_mtime_ns for path in work.folder.rglob("*") if path.is_file()}

    async def test(demand: Demand) -> None:
        with pytest.raises(PlaceTakenError, match="other settings"):
            await demand.need(work.addition(2), [0])

    with_demand(test)
    now = {path: path.stat().st_mtime_ns for path in work.folder.rglob("*") if path.is_file()}
    assert {path: time for path, time in now.items() if ".locks" not in str(path)} == {
        path: time for path, time in state.items() if ".locks" not in str(path)
    }
    assert is_complete(work.addition(1))


def test_what_others_have_written_is_left_alone(work: Workspace) -> None:
    create_volume(Address.parse(work.addition().address), work.grid.shape, (4, 4, 4), "int32", {})

    async def test(demand: Demand) -> None:
        with pytest.raises(NotOursError):
            await demand.need(work.addition(), [0])

    with_demand(test)


@pytest.mark.parametrize("servers", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_servers_and_a_run_share_the_work(tmp_path: Path, servers: int) -> None:
    """Several processes with many clients each, and a run of everything, at once: each block is computed once."""
    work = Workspace(tmp_path / "work", blocks=40)
    command = [sys.executable, "-m", "tests.contract.demanding", str(work.folder)]
    processes = [
        subprocess.Popen([*command, str(seed)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for seed in range(servers)
    ]
    computed = run(work.addition())
    computed += run(work.doubling())
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        computed += sum(map(int, output.split()))
    assert [len(work.runs(block)) for block in work.grid.ids()] == [1] * 40
    assert computed == 80
    assert (work.result("doubling") == 2 * (work.values + 1)).all()


def test_killed_servers_hold_nobody_up(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work", blocks=12)
    work.hold(5)
    command = [sys.executable, "-m", "tests.contract.demanding", str(work.folder), "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: work.runs(5), 60)
        workers = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    psutil.wait_procs(workers, 60)
    done = plan_step(work.addition()).done
    begun = [block for block in work.grid.ids() if work.runs(block)]

    async def test(demand: Demand) -> None:
        await demand.need(work.doubling(), work.grid.ids())
        assert demand.computed["addition"] == len(work.grid) - done

    work.tell(5)
    with_demand(test)
    again = [block for block in begun if len(work.runs(block)) > 1]
    assert 5 in again
    assert len(again) <= 2  # those that its two workers had not finished


def test_only_volumes_of_volumes_stand_alone(project: Project) -> None:
    steps = {step.label: step for step in project.steps().everything()}
    assert [label for label, step in steps.items() if stands_alone(step)] == [
        "prediction",
        "threshold",
        "simple_segmentation",
    ]
    threshold = steps["threshold"]
    assert {step.label for step, _ in needed_blocks(threshold, 0)} == {"prediction"}


def test_present_stamps_are_those_of_a_plan(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a run would compute again what a server has computed. What is given is opened once for all blocks."""
    opened: list[str] = []
    monkeypatch.setattr(
        presence_module, "open_volume", lambda address: opened.append(address) or open_volume(address)
    )
    presence = Presence()
    for step in project.steps().everything():
        if stands_alone(step) and recorded_id(step):
            assert presence.is_complete(step)
            snapshots = {name: source.snapshot() for name, source in step.inputs.items()}
            for block in step.grid:
                boxes = step.reads(block)
                stamps = {name: snapshot.stamp(boxes[name]) for name, snapshot in snapshots.items()}
                assert presence.item(step, block.id).stamps == stamps
    assert len(opened) == 1
