"""Runs on a Dask cluster: what goes wrong in blocks, what is refused before the first one, who else is served."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from blockwise.advice import Names
from blockwise.backends import Outcome
from blockwise.backends.base import Backend
from blockwise.backends.dask import brief as brief_module
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.demand import BlockFailedError, Demand
from blockwise.demand.presence import Presence
from blockwise.errors import UserError
from blockwise.job import Order
from blockwise.plan import Item, is_complete
from blockwise.run import run_step
from blockwise.step import BlockStep
from tests.contract.steps import Workspace
from tests.dask.nodes import ROOT, Nodes, nodes
from tests.processes import wait_for

__all__ = ["nodes"]

NAMES = Names(kind="backend.name: dask", option="backend.dask.")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "it's 100% here")


def setup(**options: Any) -> Setup[DaskOptions]:
    return Setup(DaskOptions(**options), workers=2, timeout_s=60, names=NAMES)


def run(step: BlockStep, backend: Backend | None = None, **options: Any) -> Outcome:
    return run_step(step, backend or BACKENDS["dask"].make(setup(**options), ()), 3, lambda outcome: None)


def test_blocks_fail_alone_and_no_other_is_computed_twice(work: Workspace, dask_address: str) -> None:
    """A short sibling of the contract's tests, which the long run makes on such a cluster as well."""
    work.tell(1, "raise 2")
    work.tell(3, "kill 99")
    work.tell(4, "raise 99")
    work.tell(6, "demand 1")
    step = work.addition()
    outcome = run(step, address=dask_address)
    assert outcome.computed == 6
    assert {block: result.error for block, result in outcome.failed.items()} == {3: "WorkerLost", 4: "ValueError"}
    assert "have fewer threads of Dask workers on a machine, or in a job" in outcome.failed[3].message
    assert [len(work.runs(block)) for block in (0, 1, 2, 4, 5, 6, 7)] == [1, 3, 1, 3, 1, 2, 1]
    assert not list(work.folder.glob("work/addition/*/dask/*")), "nothing is left for Dask workers"
    for block in (3, 4):
        work.tell(block)
    assert run(step, address=dask_address).computed == 2
    assert run(work.doubling(), address=dask_address).computed == 8
    assert (work.result("doubling") == 2 * (work.values + 1)).all()
    assert is_complete(work.doubling())


def test_where_no_scheduler_answers_it_is_said_soon(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blockwise.backends.dask.cluster.CONNECT_S", 1.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
    for wrong in (address, "tpc://127.0.0.1:1"):
        message = f"backend.name: dask is chosen, and no Dask scheduler answers at {wrong} .*backend.dask.address"
        with pytest.raises(UserError, match=message):
            run(work.addition(), address=wrong)
        with pytest.raises(UserError, match=message):
            BACKENDS["dask"].make_executor(setup(address=wrong))
    assert not work.runs(0)


@pytest.fixture
def other_code(tmp_path: Path) -> Path:
    """The packages, with a comment more."""
    folder = tmp_path / "other"
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name != "blockwise" and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    copy = folder / "blockwise"
    for file in (ROOT / "blockwise").rglob("*.py"):
        target = copy / file.relative_to(ROOT / "blockwise")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes() + b"# one comment more\n" * (file.name == "grid.py"))
    return folder


@pytest.mark.soak
def test_other_code_is_refused_before_the_first_block(work: Workspace, nodes: Nodes, other_code: Path) -> None:
    nodes.start("good")
    nodes.start("other", PYTHONPATH=str(other_code))
    wait_for(lambda: "Registered to" in nodes.text("other") and "Registered to" in nodes.text("good"), 60)
    with pytest.raises(UserError, match=r"\(1 of 2\) cannot compute: it has other code: sources \w+ instead of"):
        run(work.addition(), address=nodes.address)
    assert [work.runs(block) for block in range(8)] == [[]] * 8
    nodes.kill("other")
    assert run(work.addition(), address=nodes.address).computed == 8


@pytest.mark.soak
def test_dask_workers_that_come_later_look_themselves(work: Workspace, nodes: Nodes, other_code: Path) -> None:
    nodes.start("other", PYTHONPATH=str(other_code))  # not there yet when the run begins
    with pytest.raises(UserError, match=r"Dask worker tcp.* cannot compute: it has other code: sources"):
        run(work.addition(), address=nodes.address)
    assert [work.runs(block) for block in range(8)] == [[]] * 8


@pytest.mark.soak
def test_dask_workers_without_our_packages_are_told(work: Workspace, nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "blockwise.py").write_text("raise ModuleNotFoundError('no blockwise here')")
    nodes.start("bare", PYTHONPATH=str(tmp_path / "bare"))
    expected = "cannot compute: ModuleNotFoundError: no blockwise here; where Dask workers run, this program must be"
    with pytest.raises(UserError, match=expected):
        run(work.addition(), address=nodes.address)
    wait_for(lambda: "Registered to" in nodes.text("bare"), 60)
    with pytest.raises(UserError, match=rf"\(1 of 1\) {expected}"):
        run(work.addition(), address=nodes.address)


@pytest.mark.soak
def test_another_work_folder_is_refused_before_the_first_block(
    work: Workspace, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One path that leads elsewhere on the Dask worker's machine."""
    (tmp_path / "there" / "work").mkdir(parents=True)
    nodes.start("there", cwd=tmp_path / "there")
    wait_for(lambda: "Registered to" in nodes.text("there"), 60)
    monkeypatch.chdir(work.folder)
    monkeypatch.setattr("blockwise.backends.dask.afar.PATIENCE_S", 1.0)
    step = work.addition().model_copy(update={"work_dir": "/proc/self/cwd/work"})
    with pytest.raises(UserError, match="is not there, which the driver has written; the work folder must be on a"):
        run(step, address=nodes.address)
    assert [work.runs(block) for block in range(8)] == [[]] * 8


@pytest.mark.soak
def test_an_output_that_is_not_shared_is_refused_before_the_first_block(
    work: Workspace, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    nodes.start("there", cwd=tmp_path / "there")
    wait_for(lambda: "Registered to" in nodes.text("there"), 60)
    monkeypatch.chdir(work.folder)
    monkeypatch.setattr("blockwise.backends.dask.afar.PATIENCE_S", 1.0)
    step = work.addition().model_copy(update={"address": "/proc/self/cwd/out.n5:addition"})
    with pytest.raises(UserError, match="it is gone, as seen from there; is it on a shared file system"):
        run(step, address=nodes.address)
    assert [work.runs(block) for block in range(8)] == [[]] * 8


@pytest.mark.soak
def test_relative_paths_begin_where_the_driver_is(
    work: Workspace, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    nodes.start("elsewhere", cwd=tmp_path / "elsewhere")
    monkeypatch.chdir(work.folder)
    raw = work.addition().raw.model_copy(update={"address": "raw.n5:raw"})
    update = {"work_dir": "work", "address": "out.n5:addition", "orders": "orders", "raw": raw}
    step = work.addition().model_copy(update=update)
    assert run(step, address=nodes.address).computed == 8
    assert (work.result() == work.values + 1).all()
    assert not list((tmp_path / "elsewhere").iterdir())
    assert list(work.folder.glob("work/logs/addition/dask-*-elsewhere-0.log"))


@pytest.mark.soak
def test_no_more_than_a_few_slices_are_in_the_scheduler(tmp_path: Path, dask_address: str) -> None:
    from distributed import Client

    many = Workspace(tmp_path / "many", blocks=1500)
    seen: list[int] = []
    with Client(dask_address, set_as_default=False) as client:

        def look(outcome: Outcome) -> None:
            seen.append(client.run_on_scheduler(_tasks))

        step = many.addition()
        backend = BACKENDS["dask"].make(setup(address=dask_address), ())
        outcome = run_step(step, backend, 3, look)
    assert outcome.computed == 1500
    assert 0 < max(seen) <= 2 * 2 + 1, "two threads, two slices each, and one that was just forgotten"
    assert [len(many.runs(block)) for block in range(1500)] == [1] * 1500


def _tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


@pytest.mark.soak
def test_a_fork_computes_as_luigi_makes_one_for_each_of_several_tasks(work: Workspace, tmp_path: Path) -> None:
    """Before, and after the process itself has computed; with a cluster of its own, which ends with it."""
    backend: Any = BACKENDS["dask"].make(setup(workers=1), ())
    context = multiprocessing.get_context("fork")
    try:
        for step in (work.addition(), Workspace(tmp_path / "second").addition()):
            fork = context.Process(target=run, args=(step, backend))
            fork.start()
            fork.join()
            assert fork.exitcode == 0
            assert is_complete(step)
            assert run(Workspace(tmp_path / f"own {step.work_dir.count('second')}").addition(), backend).computed == 8
    finally:
        backend.close()


@pytest.mark.soak
def test_single_blocks_are_computed_as_they_are_asked_for(work: Workspace, dask_address: str) -> None:
    work.tell(5, "kill 99")

    async def ask() -> None:
        executor = BACKENDS["dask"].make_executor(setup(address=dask_address))
        assert executor is not None
        assert executor.size == 2
        demand = Demand(Presence(), executor, max_attempts=2, pauses_s=())
        try:
            await asyncio.gather(*(demand.need(work.doubling(), [block]) for block in (2, 2, 3, 6)))
            assert demand.computed == {"addition": 3, "doubling": 3}
            with pytest.raises(BlockFailedError, match="WorkerLost: worker process"):
                await demand.need(work.doubling(), [5])
            work.hold(7)
            held = asyncio.create_task(demand.need(work.addition(), [7]))
            await asyncio.to_thread(wait_for, lambda: work.runs(7), 60)
        finally:
            demand.close()
        await asyncio.wait([held])
        with pytest.raises(UserError, match="the workers have been ended"):
            executor.compute(work.addition(), Order(Item(0, {})))

    asyncio.run(ask())
    process = int(work.runs(7)[0].split()[0])
    wait_for(lambda: not psutil.pid_exists(process), 30)
    assert work.addition().markers.read(7) is None
    work.release(7)
    work.tell(5)
    assert (work.result("doubling")[8:16] == 2 * (work.values[8:16] + 1)).all()
    assert not list(work.folder.glob("work/*/*/dask/*"))
    assert run(work.addition(), address=dask_address).computed == 8 - 3
    assert [len(work.runs(block)) for block in (2, 3, 6)] == [1, 1, 1]


def test_briefs_of_killed_drivers_go_after_a_month(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    step = work.addition()
    arguments = (None, setup().faults, NAMES.advice(""))
    first = brief_module.write_brief(step, *arguments)
    second = brief_module.write_brief(step, *arguments)
    assert brief_module.is_there(first)
    monkeypatch.setattr(brief_module, "LEFT_S", -1.0)
    third = brief_module.write_brief(step, *arguments)
    assert [brief_module.is_there(place) for place in (first, second, third)] == [False, False, True]
    assert brief_module.read_brief(replace(third, key="nowhere")) is None
