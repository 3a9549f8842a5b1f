"""A driver that is killed, interrupted, or detached, and the next one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.plan import is_complete
from blockwise.run import run_step
from pipeline.configuration.settings import BackendSettings
from pipeline.running.execution import execution
from tests.contract.steps import Workspace
from tests.processes import wait_for
from tests.slurm.cluster import Cluster
from tests.slurm.driver import Driver

Drive = Callable[..., Driver]

TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL


def jobs_of(cluster: Cluster) -> set[str]:
    return {line.split("_")[0] for line in cluster.alive_jobs()}


def test_a_killed_driver_is_taken_over(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 2, attempts=99)
    first = drive(max_submitted=2)  # blocks 0, 1 and 2, 3; the rest is not submitted yet
    first.wait_until_running(0, 2)
    first.send(KILL)
    before = jobs_of(cluster)
    assert len(before) == 1  # jobs outlive their driver
    second = drive(max_submitted=3)
    second.wait_for_text("took over 2 jobs of an earlier run")
    work.release(0, 2)
    text = second.finish()
    assert "which hold 4 blocks" in text
    assert "submitted array" in text
    assert "done: 8" in text
    # Nothing was computed twice: neither by the jobs that were taken over, nor by those for the rest.
    assert [len(work.runs(block)) for block in range(8)] == [1] * 8
    assert np.array_equal(work.result(), work.values + 1)
    assert is_complete(work.addition())


@pytest.mark.soak
def test_jobs_of_other_settings_are_ended_first(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 2)
    first = drive(addend=1)
    first.wait_until_running(0, 2, 4, 6)
    first.send(KILL)
    text = drive(addend=5).finish()
    assert "cancelling 1 job arrays of an earlier run" in text
    assert "done: 8" in text
    assert np.array_equal(work.result(), work.values + 5)
    assert is_complete(work.addition(5))


@pytest.mark.soak
def test_jobs_that_read_what_has_changed_since_are_ended(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 6)
    first = drive()
    first.wait_until_running(0, 2, 4, 6)
    first.send(KILL)
    # Block 1 belongs to the job that sleeps in block 0; block 7 to the one in block 6.
    os.utime(work.folder / "raw.n5" / "raw" / "0" / "0" / "1")
    second = drive()
    second.wait_for_text("took over")
    work.release(6)
    text = second.finish()
    assert "what they read has changed" in text
    assert "done:" in text
    assert [len(work.runs(block)) for block in (0, 6, 7)] == [2, 1, 1]
    assert is_complete(work.addition())


@pytest.mark.soak
def test_local_workers_start_when_the_jobs_have_ended(
    cluster: Cluster, work: Workspace, drive: Drive, monkeypatch: pytest.MonkeyPatch
):
    work.hold(0, 2)
    first = drive()
    step = work.addition()
    wait_for(lambda: step.markers.count() == 4 and work.runs(0) and work.runs(2), 60, lambda: first.text)
    first.send(KILL)
    local = execution(BackendSettings(name="local")).backend
    before = {path: path.stat().st_mtime_ns for path in (step.folder / "done").rglob("*.json")}
    # On a machine without SLURM: refused, and nothing is touched.
    [job] = jobs_of(cluster)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(
            UserError, match=rf"commands are not on this machine.*`scancel {job}`, remove .*/jobs when"
        ):
            run_step(step, local, 3, lambda outcome: None)
    assert {f"{job}_0 RUNNING", f"{job}_1 RUNNING"} <= set(cluster.alive_jobs())
    assert run_step(step, local, 3, lambda outcome: None).computed == 4
    assert cluster.alive_jobs() == []
    assert [len(work.runs(block)) for block in range(8)] == [2, 1, 2, 1, 1, 1, 1, 1]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert np.array_equal(work.result(), work.values + 1)
    assert is_complete(step)


@pytest.mark.parametrize(
    "signals",
    [pytest.param((TERM,), id="term"), pytest.param((INT, TERM, INT), id="impatient", marks=pytest.mark.soak)],
)
def test_signals_cancel_all_jobs(
    cluster: Cluster, work: Workspace, signals: tuple[signal.Signals, ...], drive: Drive
):
    work.hold(*range(8))
    driver = drive()
    driver.wait_until_running(0, 2)
    driver.send(*signals)
    assert driver.process.returncode != 0
    assert cluster.alive_jobs() == []


@pytest.mark.soak
def test_a_detached_driver_leaves_its_jobs(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 2, 4, 6)
    driver = drive(detach=True)
    driver.wait_until_running(0, 2)
    driver.send(INT)
    assert "go on; the same command adopts them" in driver.text
    assert cluster.alive_jobs()
    second = drive()
    second.wait_for_text("took over 4 jobs")
    work.release(0, 2, 4, 6)
    assert "done: 8" in second.finish()
    assert [len(work.runs(block)) for block in range(8)] == [1] * 8


def test_results_of_jobs_that_ended_without_a_driver_count(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0)
    work.tell(3, "hold 1", "raise 1")
    work.tell(4, "hold 1", "kill 1")
    driver = drive(detach=True)
    driver.wait_until_running(0, 3, 4)
    driver.send(INT)
    work.release(0, 3, 4)
    cluster.wait_until_quiet(60)
    text = drive().finish()
    assert "job's program was killed" in text
    assert "done: " in text
    assert [len(work.runs(block)) for block in range(8)] == [1, 1, 1, 2, 2, 1, 1, 1]
    assert is_complete(work.addition())
