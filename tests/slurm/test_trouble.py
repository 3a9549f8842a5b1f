"""What goes wrong on clusters, for real."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blockwise.plan import is_complete
from tests.contract.steps import Workspace
from tests.processes import wait_for
from tests.slurm.cluster import Cluster
from tests.slurm.driver import Driver

Drive = Callable[..., Driver]


def test_out_of_memory_gets_more_once(work: Workspace, drive: Drive):
    work.tell(3, "fill 1 700")  # fits into twice the memory, by not filling again
    work.tell(6, "fill 99 1500")
    text = drive().finish()
    assert "out of memory with 0.47 GiB: its 1 blocks left go again with 0.93 GiB" in text
    assert "out of memory again, with 0.93 GiB: block 6 is given up" in text
    assert "OutOfMemory: needs more than 0.93 GiB" in text
    assert "backend.slurm.memory_gb" in text
    assert "1 of 8 blocks failed, 7 done" in text
    assert [len(work.runs(block)) for block in (3, 6, 7)] == [2, 2, 1]


@pytest.mark.soak
def test_jobs_of_a_node_that_goes_down_go_elsewhere(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 2, 4, 6)
    driver = drive()
    driver.wait_until_running(0, 2, 4, 6)
    cluster.run("scontrol", "update", "NodeName=node2", "State=DOWN", "Reason=test")
    try:
        driver.wait_for_text("node node2 has lost 2 jobs")
        work.release(0, 2, 4, 6)
        text = driver.finish()
    finally:
        cluster.run("scontrol", "update", "NodeName=node2", "State=RESUME")
    assert "node failure (NODE_FAIL/NodeDown on node2): its 2 blocks left go to another job" in text
    assert "node node2 has lost 2 jobs and gets no more" in text
    assert "done: 8" in text
    assert sorted(len(work.runs(block)) for block in (0, 2, 4, 6)) == [1, 1, 2, 2]
    assert np.array_equal(work.result(), work.values + 1)


@pytest.mark.soak
def test_a_dead_node_costs_nothing_but_time(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 2, 4, 6)
    driver = drive()
    driver.wait_until_running(0, 2, 4, 6)
    lost = [block for block in range(0, 8, 2) if work.runs(block)[0].endswith("node2")]
    for block in set(range(0, 8, 2)) - set(lost):
        assert work.runs(block)[0].endswith("node1")
    cluster.kill_node("node2")
    try:
        work.release(0, 2, 4, 6)
        text = driver.finish(90)
    finally:
        cluster.start_node("node2")
        wait_for(lambda: cluster.idle_nodes() == 2, 30, lambda: cluster.run("sinfo", "-N", "-l"))
    assert lost
    assert "node failure (NODE_FAIL" in text
    assert "done: 8" in text
    assert [len(work.runs(block)) for block in lost] == [2] * len(lost)
    assert all(work.runs(block)[1].endswith("node1") for block in lost)
    assert np.array_equal(work.result(), work.values + 1)


@pytest.mark.soak
def test_the_time_limit_costs_only_what_was_left(work: Workspace, drive: Drive):
    work.hold(1)
    text = drive(time_min=1).finish(240)
    assert "time limit of 1 min: its 1 blocks left go again with 2 min" in text
    assert "done: 8" in text
    assert [len(work.runs(block)) for block in range(8)] == [1, 2, 1, 1, 1, 1, 1, 1]


def test_silence_of_the_controller_ends_nothing(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 2)
    driver = drive()
    driver.wait_until_running(0, 2)
    wait_for(lambda: len(cluster.alive_jobs()) == 2, 60, cluster.alive_jobs)
    cluster.stop_controller()
    try:
        driver.wait_for_text("SLURM does not say how jobs stand")
    finally:
        cluster.start_controller()
    work.release(0, 2)
    text = driver.finish()
    assert "done: 8" in text
    assert [len(work.runs(block)) for block in range(8)] == [1] * 8


@pytest.mark.soak
def test_a_controller_that_is_away_for_a_while_costs_no_block(cluster: Cluster, work: Workspace, drive: Drive):
    """Jobs end while nobody can ask how, one fails, and others could not be submitted yet."""
    work.hold(0)  # ends while the controller is away
    work.tell(1, "raise 1")
    work.hold(2)  # outlives its silence
    work.tell(5, "kill 1")
    step = work.addition()
    driver = drive(max_submitted=2)
    driver.wait_until_running(0, 2)
    cluster.stop_controller()
    try:
        work.release(0)
        wait_for(step.markers.failures, 60, lambda: driver.text)
        driver.wait_for_text("SLURM does not say how jobs stand")
        assert len(work.runs(2)) == 1
        before = {path: path.stat().st_mtime_ns for path in (step.folder / "done").rglob("*.json")}
    finally:
        cluster.start_controller()
    work.release(2)
    text = driver.finish(120)
    assert {path.stem for path in before} == {"0"}
    assert "done: 8" in text
    assert [len(work.runs(block)) for block in range(8)] == [1, 2, 1, 1, 1, 2, 1, 1]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert np.array_equal(work.result(), work.values + 1)
    assert is_complete(step)


@pytest.mark.soak
def test_jobs_that_somebody_cancels_are_replaced(cluster: Cluster, work: Workspace, drive: Drive):
    work.hold(0, 2)
    driver = drive(max_running=2)
    driver.wait_until_running(0, 2)
    pending, running = (
        next(line.split()[0] for line in cluster.alive_jobs() if line.endswith(state))
        for state in ("PENDING", "RUNNING")
    )
    cluster.run("scancel", pending)  # it leaves the array without a trace
    cluster.run("scancel", running)
    driver.wait_for_text(f"job {running}: the job was cancelled")
    work.release(0, 2)
    text = driver.finish()
    assert f"job {pending}: the job was cancelled or preempted (CANCELLED/no longer in the array)" in text
    assert f"job {running}: the job was cancelled or preempted (CANCELLED/" in text
    assert "done: 8" in text
    assert np.array_equal(work.result(), work.values + 1)


@pytest.mark.soak
def test_an_array_that_loses_its_only_task_is_replaced(cluster: Cluster, work: Workspace, drive: Drive):
    driver = drive(blocks_per_job=8, sbatch=["--hold"])
    driver.wait_for_text("jobs are pending (JobHeldUser): somebody holds the jobs")
    cluster.run("scancel", cluster.alive_jobs()[0].split()[0])
    driver.wait_for_text("the job was cancelled or preempted (CANCELLED/JobHeldUser): its 8 blocks left go")
    wait_for(lambda: driver.text.count("submitted array") == 2, 60, lambda: driver.text)
    cluster.run("scontrol", "release", cluster.alive_jobs()[0].split()[0])
    assert "done: 8" in driver.finish()


@pytest.mark.soak
def test_jobs_that_cannot_start_stop_the_step(work: Workspace, drive: Drive):
    text = drive(setup="echo no such module >&2\nfalse", blocks_per_job=1).finish()
    assert "stopped:" in text
    assert "the job's program did not start" in text
    assert "last line of its log: no such module" in text
    assert not any(map(work.runs, range(8)))


def test_a_refused_job_names_the_settings(work: Workspace, drive: Drive):
    driver = drive(partition="nowhere")
    text = driver.finish()
    assert driver.process.returncode == 2
    assert "invalid partition specified: nowhere" in text
    assert "look at backend.slurm.partition, account" in text


@pytest.mark.soak
def test_a_partition_that_never_starts_a_job_is_explained(work: Workspace, drive: Drive):
    driver = drive(partition="short")  # its limit is one minute, the jobs' five
    driver.wait_for_text("backend.slurm.time_min is more than the partition allows")
    driver.process.terminate()
    driver.finish()


@pytest.mark.soak
def test_limits_are_kept(cluster: Cluster, tmp_path: Path, work: Workspace, drive: Drive):
    many = Workspace(tmp_path / "many", blocks=60)
    many.hold(0, 1)
    driver = drive(many, blocks_per_job=1, max_running=3, max_submitted=55)
    running, alive = [], []
    while driver.process.poll() is None:
        lines = cluster.alive_jobs()
        alive.append(len(lines))
        running.append(sum(line.endswith("RUNNING") for line in lines))
        if running[-1] > 1:
            many.release(0, 1)
        if len(list(many.orders.glob("*.runs"))) > 12:
            driver.process.terminate()
            break
        time.sleep(0.1)
    text = driver.finish()
    assert 1 < max(running) <= 3
    assert max(alive) <= 55
    # MaxArraySize of the test cluster is 51, so indices go to 50: one array of 51 tasks and one of 4.
    assert "51 jobs for 51 blocks" in text
    assert "4 jobs for 4 blocks" in text


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a script before one of SLURM's commands; ``$REAL`` in it is the command itself, ``$COUNT`` a file."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(command: str, text: str) -> None:
        script = folder / command
        script.write_text(f"#!/bin/bash\nREAL={shutil.which(command)}\nCOUNT={folder / 'count'}-{command}\n{text}\n")
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return add


def test_a_submission_that_seems_lost_is_not_repeated(
    tmp_path: Path, work: Workspace, drive: Drive, shim: Callable[[str, str], None]
):
    # SLURM has taken the job, but its answer does not come; then squeue says nothing at all, three times.
    shim(
        "sbatch",
        '[ -e "$COUNT" ] && exec $REAL "$@"; touch "$COUNT"; $REAL "$@" >/dev/null\n'
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1',
    )
    shim(
        "squeue",
        '[[ "$*" == *--jobs* ]] && echo >> "$COUNT" && [ $(wc -l < "$COUNT") -le 3 ] && exit 0\nexec $REAL "$@"',
    )
    work.hold(0, 2, 4, 6)
    driver = drive()
    asked = tmp_path / "bin" / "count-squeue"
    wait_for(lambda: asked.exists() and len(asked.read_text()) > 3, 60, lambda: driver.text)
    work.release(0, 2, 4, 6)
    text = driver.finish()
    assert "Socket timed out on send/recv operation; trying again" in text
    assert text.count("submitted array") == 1
    assert "done: 8" in text
    assert [len(work.runs(block)) for block in range(8)] == [1] * 8


@pytest.mark.soak
def test_a_cluster_that_takes_few_jobs_gets_few_at_a_time(
    work: Workspace, drive: Drive, shim: Callable[[str, str], None]
):
    limit = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Job violates accounting/QOS policy"
    shim("sbatch", f'grep -q "array=0-[01]%" "${{@: -1}}" || {{ echo "{limit}" >&2; exit 1; }}; exec $REAL "$@"')
    text = drive().finish()
    assert "from now on at most 2 jobs at a time" in text
    assert "done: 8" in text
