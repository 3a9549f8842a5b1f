"""AWS Batch with the work folder in a store: driver and jobs share no disk, and both read the same records."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blockwise.backends.aws_batch.backend import JOBS
from blockwise.backends.aws_batch.kind import AwsBatchKind
from blockwise.backends.jobs.ledger import SUBMITTED, Ledger
from blockwise.backends.registry import left_at_work
from blockwise.job import BEGINS
from blockwise.plan import is_complete
from blockwise.records import open_records
from blockwise.run import run_step
from pipeline.__main__ import main
from tests.aws_batch.conftest import QUEUE, backend
from tests.aws_batch.stand_in import StandIn
from tests.aws_batch.test_trouble import at_the_side
from tests.contract import servers
from tests.contract.steps import Workspace
from tests.contract.store_proxy import Weather
from tests.end_to_end.stored import Stored, put_into
from tests.processes import wait_for
from tests.runs import Project, assert_same, environment
from tests.slurm.driver import Driver


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with servers.s3() as url:
        yield url


@pytest.fixture
def bucket(tmp_path: Path, aws_batch: StandIn, s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that the driver and jobs reach; jobs have temporary folders where the driver never looks."""
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    aws_batch.role = {
        "AWS_ACCESS_KEY_ID": "job",
        "AWS_SECRET_ACCESS_KEY": "only",
        "AWS_ENDPOINT_URL": s3,
        "TMPDIR": str(there),
    }
    return "s3://bucket"


@pytest.fixture
def stored(tmp_path: Path, aws_batch: StandIn, bucket: str) -> Iterator[Workspace]:
    """A step whose records and results lie in a store."""
    work = Workspace(tmp_path / "work", 4, f"{bucket}/{tmp_path.name}")
    yield work
    aws_batch.wait_until_quiet(30)
    records = open_records(f"{work.place}/work")
    assert not left_at_work(records, "addition")
    records.leave_this_machine()


@pytest.mark.soak
def test_a_lost_job_and_a_failed_block_are_told_from_logs_in_the_store(
    aws_batch: StandIn, stored: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    stored.hold(0)
    stored.tell(3, "refuse 9")

    def lose_a_job() -> None:
        wait_for(lambda: stored.runs(0), 60)
        [job] = [job for job in aws_batch.running() if job.index == 0]
        assert job.container is not None
        job.container.kill()  # nobody says why

    with caplog.at_level("INFO"), at_the_side(lose_a_job):
        outcome = run_step(stored.addition(), backend(), 3, lambda outcome: None)
    assert (outcome.computed, list(outcome.failed), outcome.stopped) == (3, [3], "")
    assert [len(stored.runs(block)) for block in range(4)] == [2, 1, 1, 1]
    # The log has told that the program had begun, so that its block is tried alone.
    assert "the job's program was killed (FAILED/Essential container in task exited, exit code 137) in block 0" in (
        caplog.text
    )
    step = stored.addition()
    failure = step.markers.read_failure(3)
    assert failure is not None
    assert failure.log.startswith(f"{stored.place}/work/logs/addition/addition-")
    key = failure.log.removeprefix(f"{stored.place}/work/")
    log = (step.work.get(key) or b"").decode()
    assert log.startswith(BEGINS)
    assert "block 3 was told that it cannot be" in log
    assert "job ends: 2 blocks, 1 failed" in log
    result = stored.result()
    assert np.array_equal(result[:12], stored.values[:12] + 1)


@pytest.mark.soak
def test_a_program_that_cannot_begin_says_why_in_the_store(aws_batch: StandIn, stored: Workspace) -> None:
    """Its orders are gone: the driver reads the traceback where it reads markers."""
    aws_batch.stuck = "later"
    step = stored.addition()

    def spoil() -> None:
        ledger = Ledger(step, JOBS)
        wait_for(lambda: aws_batch.alive() and ledger.look(), 60)
        ledger.records.delete(*ledger.records.matching("*/tasks/*"))
        aws_batch.stuck = None

    with at_the_side(spoil):
        outcome = run_step(step, backend(), 1, lambda outcome: None)
    assert len(outcome.failed) + outcome.computed > 0
    assert any("there is no task 0 in s3://bucket/" in failure.message for failure in outcome.failed.values())


@pytest.mark.soak
def test_a_killed_driver_is_taken_over_from_another_machine(aws_batch: StandIn, stored: Workspace) -> None:
    """All that the first driver had on its disk is lost."""
    stored.hold(0, 2, attempts=99)
    first = Driver(stored, kind="aws_batch", **QUEUE)
    second = None
    try:
        first.wait_until_running(0, 2)
        first.send(signal.SIGKILL)
        assert left_at_work(stored.addition().work, "addition") == {"addition": "AWS Batch"}
        [line] = AwsBatchKind().describe_jobs({"addition": stored.addition()})
        assert line.endswith(": 2 running")
        open_records(f"{stored.place}/work").leave_this_machine()
        second = Driver(stored, kind="aws_batch", **QUEUE)
        second.wait_for_text("took over 2 jobs of an earlier run", 200)
        stored.release(0, 2)
        assert "done: 4" in second.finish()
    finally:
        first.kill()
        if second is not None:
            second.kill()
    assert [len(stored.runs(block)) for block in range(4)] == [1] * 4
    assert np.array_equal(stored.result(), stored.values + 1)
    assert is_complete(stored.addition())


@pytest.fixture
def project(unused: Project, bucket: str) -> Iterator[Stored]:
    """Everything but the configuration lies in the store."""
    with put_into(bucket, unused, Weather()) as found:
        unused.change(
            "backend", {"name": "aws_batch", "aws_batch": {**QUEUE, "poll_s": 0.5, "grace_s": 2, "blocks_per_job": 4}}
        )
        yield found


@pytest.mark.soak
def test_the_whole_pipeline(project: Stored, expected: dict[str, Any]) -> None:
    done = project.project.luigi()
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same(project.results(), expected)
    assert {name: len(blocks) for name, blocks in project.finished().items()}["prediction"] == 8
    assert "Nothing to do" in project.project.luigi().stdout


@pytest.mark.soak
def test_clean_ends_the_jobs_that_a_killed_driver_has_left(
    aws_batch: StandIn, project: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    aws_batch.stuck = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    command, nothing = project.project.command(), subprocess.DEVNULL
    with subprocess.Popen(command, env=environment(), stdout=nothing, stderr=nothing) as driver:
        wait_for(lambda: project.records.matching(f"work/*/{JOBS}/*/{SUBMITTED}"), 120)
        driver.kill()
    assert main(("status", "--config", "config.yaml")) == 0
    assert "2 runnable" in capsys.readouterr().out
    assert main(("clean", "--yes", "--config", "config.yaml")) == 0
    assert aws_batch.alive() == []
    assert project.left() == []
