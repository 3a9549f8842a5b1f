"""Dask workers in jobs of a real SLURM: whatever dies, nothing finished is computed again and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blockwise.backends import Outcome
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.run import run_step
from tests.contract.steps import Workspace
from tests.dask.cluster import JOBS
from tests.dask.driver import Driver
from tests.processes import command_line, wait_for
from tests.slurm.cluster import Cluster

BLOCKS = 12
HELD = (4, 9)


@pytest.fixture
def work(tmp_path: Path, cluster: Cluster) -> Iterator[Workspace]:
    """Data for a step; no job may be left when the test is over."""
    pytest.importorskip("dask_jobqueue")  # within: it takes long to load, in each process that collects
    yield Workspace(tmp_path / "work", BLOCKS)
    try:
        cluster.wait_until_quiet(90)
    finally:
        cluster.cancel_all()


def counts(work: Workspace) -> list[int]:
    return [len(work.runs(block)) for block in range(BLOCKS)]


def drive(work: Workspace) -> Driver:
    return Driver(work, slurm=JOBS, jobs=2)


def until_two_are_held(work: Workspace, driver: Driver) -> set[int]:
    work.hold(*HELD)
    driver.wait_until_begun(*HELD)
    return set(work.addition().markers.scan())


def nodes_of(cluster: Cluster) -> list[str]:
    return cluster.run("squeue", "-h", "-t", "R", "-o", "%N").split()


@pytest.mark.soak
def test_a_node_dies_and_its_job_is_replaced(work: Workspace, cluster: Cluster) -> None:
    driver = drive(work)
    done = until_two_are_held(work, driver)
    node = nodes_of(cluster)[0]
    cluster.kill_node(node)
    try:
        work.release(*HELD)
        assert driver.finish().splitlines()[-1] == f"done: {BLOCKS}"
    finally:
        cluster.start_node(node)
    assert [counts(work)[block] for block in done] == [1] * len(done)
    assert all(count <= 2 for count in counts(work)), counts(work)
    assert (work.result() == work.values + 1).all()


@pytest.mark.soak
def test_jobs_that_are_cancelled_are_replaced(work: Workspace, cluster: Cluster) -> None:
    driver = drive(work)
    done = until_two_are_held(work, driver)
    cluster.run("scancel", "--name", "blockwise-dask")
    wait_for(lambda: not nodes_of(cluster), 60)
    work.release(*HELD)
    assert driver.finish().splitlines()[-1] == f"done: {BLOCKS}"
    assert [counts(work)[block] for block in done] == [1] * len(done)


@pytest.mark.soak
def test_the_driver_is_killed(work: Workspace, cluster: Cluster) -> None:
    driver = drive(work)
    done = until_two_are_held(work, driver)
    driver.kill()
    cluster.wait_until_quiet(60)
    work.release(*HELD)
    assert drive(work).finish().splitlines()[-1] == f"done: {BLOCKS - len(done)}"
    assert [counts(work)[block] for block in done] == [1] * len(done)


def run(work: Workspace, **options: Any) -> Outcome:
    setup = Setup(DaskOptions(**options))
    backend: Any = BACKENDS["dask"].make(setup, ())
    try:
        return run_step(work.addition(), backend, 3, lambda outcome: None)
    finally:
        backend.close()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queue": "nowhere"}, "SLURM refuses its jobs: .*nvalid partition"),
        ({"memory": None}, "You must specify how much cores and memory per job"),
        ({"wall_time": "1"}, "unexpected keyword argument 'wall_time'"),
    ],
)
def test_jobs_that_cannot_be_are_told_soon(work: Workspace, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"its cluster cannot be started: .*{message}"):
        run(work, slurm=JOBS | wrong, jobs=2)
    assert not [p for p in psutil.Process().children() if "blockwise.backends.dask.host" in command_line(p)]
