"""A driver that is killed, interrupted or detached while its jobs are in AWS Batch, and the next one."""

from __future__ import annotations

import signal
from collections.abc import Callable

import numpy as np
import pytest

from blockwise.backends.aws_batch.backend import JOBS
from blockwise.backends.aws_batch.kind import AwsBatchKind
from blockwise.backends.jobs.ledger import SUBMITTED, Ledger
from blockwise.backends.local import LocalBackend
from blockwise.errors import UserError
from blockwise.plan import is_complete
from blockwise.run import run_step
from tests.aws_batch.conftest import backend
from tests.aws_batch.stand_in import StandIn
from tests.contract.steps import Workspace
from tests.slurm.driver import Driver

Drive = Callable[..., Driver]


@pytest.mark.soak
def test_a_killed_driver_is_taken_over(aws_batch: StandIn, work: Workspace, drive: Drive) -> None:
    work.hold(0, 2, attempts=99)
    first = drive(max_running=2)  # blocks 0, 1 and 2, 3; the rest is not submitted yet
    first.wait_until_running(0, 2)
    first.send(signal.SIGKILL)
    assert len(aws_batch.running()) == 2  # jobs outlive their driver
    [line] = AwsBatchKind().describe_jobs({"addition": work.addition()})
    assert line.startswith("addition: AWS Batch array ")
    assert line.endswith(": 2 running")
    # And as if it had been killed before it knew the id.
    ledger = Ledger(work.addition(), JOBS)
    [name] = ledger.look()
    ledger.records.delete(f"{name}/{SUBMITTED}")
    second = drive(max_running=4)
    second.wait_for_text("took over 2 jobs of an earlier run")
    work.release(0, 2)
    text = second.finish()
    assert "which hold 4 blocks" in text
    assert "done: 8" in text
    assert [len(work.runs(block)) for block in range(8)] == [1] * 8
    assert np.array_equal(work.result(), work.values + 1)
    assert is_complete(work.addition())


@pytest.mark.soak
def test_an_impatient_user_leaves_no_job(aws_batch: StandIn, work: Workspace, drive: Drive) -> None:
    work.hold(*range(8))
    aws_batch.slots = 2
    driver = drive()
    try:
        driver.wait_until_running(0, 2)
        driver.send(signal.SIGINT, signal.SIGTERM, signal.SIGINT)
    finally:
        aws_batch.slots = 4
    assert driver.process.returncode != 0
    assert aws_batch.alive() == []
    assert [job.cancelled for job in aws_batch.jobs.values() if job.index is not None] == [False, False, True, True]


@pytest.mark.soak
def test_a_detached_driver_leaves_its_jobs(aws_batch: StandIn, work: Workspace, drive: Drive) -> None:
    work.hold(0, 2, 4, 6)
    driver = drive(detach=True)
    driver.wait_until_running(0, 2)
    driver.send(signal.SIGINT)
    assert "go on; the same command adopts them" in driver.text
    assert aws_batch.alive()
    second = drive()
    second.wait_for_text("took over 4 jobs")
    work.release(0, 2, 4, 6)
    assert "done: 8" in second.finish()
    assert [len(work.runs(block)) for block in range(8)] == [1] * 8


@pytest.mark.soak
def test_jobs_of_other_settings_are_ended_first(aws_batch: StandIn, work: Workspace, drive: Drive) -> None:
    work.hold(0, 2)
    first = drive(addend=1)
    first.wait_until_running(0, 2, 4, 6)
    first.send(signal.SIGKILL)
    text = drive(addend=5).finish()
    assert "cancelling 1 job arrays of an earlier run" in text
    assert "done: 8" in text
    assert np.array_equal(work.result(), work.values + 5)


@pytest.mark.soak
def test_local_workers_start_when_the_jobs_have_ended(
    aws_batch: StandIn, work: Workspace, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.hold(0, 2)
    first = drive()
    first.wait_until_running(0, 2, 4, 6)
    first.send(signal.SIGKILL)
    step = work.addition()

    def local() -> LocalBackend:
        return LocalBackend(2, timeout_s=60, others=[backend()])

    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        patch.setenv("AWS_CONFIG_FILE", "/nowhere")
        with pytest.raises(UserError, match=r"what calls it .*Nothing was changed.*aws batch terminate-job"):
            run_step(step, local(), 3, lambda outcome: None)
    assert len(aws_batch.alive()) >= 2
    workers = local()
    try:
        assert not run_step(step, workers, 3, lambda outcome: None).failed
    finally:
        workers.close()
    assert aws_batch.alive() == []
    assert [len(work.runs(block)) for block in (0, 2)] == [2, 2]
    assert is_complete(step)
