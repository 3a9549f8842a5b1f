"""Whatever dies: no finished block is computed again, and nothing is left at work."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.contract.steps import Workspace
from tests.dask.driver import Driver
from tests.dask.nodes import Nodes, nodes
from tests.processes import command_line

__all__ = ["nodes"]

pytestmark = pytest.mark.soak

BLOCKS = 12
HELD = (4, 9)
"""They are at work when something dies."""


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    work = Workspace(tmp_path / "work", blocks=BLOCKS)
    work.hold(*HELD)
    return work


def counts(work: Workspace) -> list[int]:
    return [len(work.runs(block)) for block in range(BLOCKS)]


def descendants(driver: Driver) -> list[psutil.Process]:
    return psutil.Process(driver.process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process], seconds: float = 30) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive, [command_line(process) for process in alive]


def until_two_are_held(work: Workspace, driver: Driver) -> None:
    """As many Dask workers wait for them: nothing changes any more. What comes before may wait behind one of them."""
    driver.wait_until_begun(*HELD)


def test_a_node_dies_and_another_joins(work: Workspace, nodes: Nodes) -> None:
    nodes.start("one")
    nodes.start("two")
    driver = Driver(work, address=nodes.address)
    until_two_are_held(work, driver)
    done = work.addition().markers.scan().keys()
    nodes.kill("one")
    nodes.start("three")
    work.release(*HELD)
    assert driver.finish() == f"done: {BLOCKS}\n"
    assert [counts(work)[block] for block in done] == [1] * len(done)
    assert sorted(counts(work)[block] for block in HELD) == [1, 2]
    assert (work.result() == work.values + 1).all()


def test_the_driver_is_killed_and_starts_again(work: Workspace, nodes: Nodes) -> None:
    nodes.start("one")
    nodes.start("two")
    driver = Driver(work, address=nodes.address)
    until_two_are_held(work, driver)
    at_work = nodes.at_work()
    assert len(at_work) == 2
    driver.kill()
    all_gone(at_work)
    done = work.addition().markers.scan().keys()
    work.release(*HELD)
    again = Driver(work, address=nodes.address)
    assert again.finish() == f"done: {BLOCKS - len(done)}\n"
    assert [counts(work)[block] for block in done] == [1] * len(done)
    assert [counts(work)[block] for block in HELD] == [2, 2]


def test_an_interrupt_leaves_nothing_at_work(work: Workspace, nodes: Nodes) -> None:
    nodes.start("one")
    nodes.start("two")
    driver = Driver(work, address=nodes.address)
    until_two_are_held(work, driver)
    at_work = nodes.at_work()
    driver.process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in driver.finish(180)
    all_gone(at_work, 1.0)  # the driver has waited for it
    assert not list(work.folder.glob("work/addition/*/dask/*"))


def test_the_scheduler_is_killed(work: Workspace, nodes: Nodes) -> None:
    nodes.start("one")
    nodes.start("two")
    driver = Driver(work, address=nodes.address)
    until_two_are_held(work, driver)
    at_work = nodes.at_work()
    nodes.kill("scheduler")
    all_gone(at_work)
    text = driver.finish(180)
    assert driver.process.returncode == 2
    assert f"error: addition: the Dask scheduler at {nodes.address} is gone; finished blocks are kept: run" in text
    assert "Traceback" not in text
    done = work.addition().markers.scan().keys()
    nodes.start_scheduler()
    nodes.start("three")
    work.release(*HELD)
    assert Driver(work, address=nodes.address).finish() == f"done: {BLOCKS - len(done)}\n"
    assert [counts(work)[block] for block in done] == [1] * len(done)


@pytest.mark.parametrize("what", ["driver", "host", "interrupt"])
def test_a_cluster_of_ones_own_ends_with_its_driver(work: Workspace, what: str) -> None:
    driver = Driver(work, workers=2)
    until_two_are_held(work, driver)
    processes = descendants(driver)
    assert sum("blockwise.worker" in command_line(process) for process in processes) == 2
    if what == "driver":
        driver.kill()
    elif what == "interrupt":
        driver.process.send_signal(signal.SIGTERM)
        driver.finish(180)
    else:
        (host,) = [process for process in processes if "blockwise.backends.dask.host" in command_line(process)]
        host.kill()
        assert "is gone (its log: " in driver.finish(180)
        assert driver.process.returncode == 2
    all_gone(processes)
    done = work.addition().markers.scan().keys()
    work.release(*HELD)
    assert Driver(work, workers=1).finish() == f"done: {BLOCKS - len(done)}\n"
    assert [counts(work)[block] for block in done] == [1] * len(done)


def test_a_block_that_takes_its_dask_worker_with_it_is_given_up_alone(work: Workspace) -> None:
    work.release(*HELD)
    work.tell(5, "orphan 99")
    work.tell(9, "orphan 1")
    driver = Driver(work, workers=2)
    text = driver.finish()
    assert "addition: 1 of 12 blocks failed, 11 done" in text
    assert "WorkerLost: 6 Dask workers have died or left while it was computed" in text
    assert 3 <= counts(work)[5] <= 6, "and sometimes it had only waited where another one was at fault"
    assert all(count <= 2 for block, count in enumerate(counts(work)) if block != 5), counts(work)
