"""What goes wrong in AWS Batch, on a stand-in that executes jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from blockwise.plan import is_complete
from tests.aws_batch.conftest import Run
from tests.aws_batch.stand_in import StandIn
from tests.contract.steps import Workspace
from tests.processes import wait_for


@contextmanager
def at_the_side(what: object) -> Iterator[None]:
    """Do something while the test runs a step; what goes wrong in it fails the test."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            what()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    yield
    thread.join(60)
    assert not errors, errors
    assert not thread.is_alive()


@pytest.mark.soak
def test_much_goes_wrong_and_nothing_is_computed_twice(
    aws_batch: StandIn, work: Workspace, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Throttled calls, a lost answer, success without work, failure after it, a lost instance."""
    aws_batch.throttled.update(submitjob=1, describejobs=3)
    aws_batch.lost["submitjob"] = 1
    aws_batch.idle = lambda job: job.index == 0 and not any(one.exit_code == 0 for one in aws_batch.jobs.values())
    aws_batch.spoilt = lambda job: job.index == 1
    work.hold(4)

    def lose_an_instance() -> None:
        wait_for(lambda: work.runs(4), 60)
        [job] = [job for job in aws_batch.running() if job.index == 2]
        aws_batch.lose_instance(job)

    with caplog.at_level("INFO"), at_the_side(lose_an_instance):
        outcome = run()
    assert (outcome.computed, outcome.failed, outcome.stopped) == (8, {}, "")
    assert np.array_equal(work.result(), work.values + 1)
    assert is_complete(work.addition())
    # Block 4 was under way where the instance was lost.
    assert [len(work.runs(block)) for block in range(8)] == [1, 1, 1, 1, 2, 1, 1, 1]
    text = caplog.text
    arrays = [len(job.children) for job in aws_batch.jobs.values() if job.children]
    assert arrays.count(4) == 1, "the one whose answer was lost was found again"
    assert "the job's program did not start (SUCCEEDED/" in text
    assert "node failure (FAILED/Host EC2 (instance i-0123456789abcdef0) terminated.)" in text
    assert "exit code 1" not in text, "a job is not looked into whose blocks are done"


def test_success_without_work_stops_the_step(aws_batch: StandIn, work: Workspace, run: Run) -> None:
    """As where an image has an entry point of its own, which ignores the command."""
    aws_batch.idle = lambda job: True
    outcome = run(blocks_per_job=1)
    assert "jobs ended without finishing a block" in outcome.stopped
    assert "the job's program did not start" in outcome.stopped
    assert not any(map(work.runs, range(8)))
    assert aws_batch.calls["submitjob"] == 1


@pytest.mark.soak
def test_what_is_never_started_is_explained(
    aws_batch: StandIn, work: Workspace, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    aws_batch.stuck = ""

    def mend() -> None:
        wait_for(lambda: "jobs are pending (nothing starts): look at the compute environment" in caplog.text, 60)
        aws_batch.stuck = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - nothing to be had"
        wait_for(lambda: "AWS has no such instances to give at present" in caplog.text, 60)
        aws_batch.stuck = None

    with caplog.at_level("WARNING"), at_the_side(mend):
        assert run(stuck_s=0, blocks_per_job=4).computed == 8


@pytest.mark.soak
def test_ids_that_vanish_cost_what_was_under_way(
    aws_batch: StandIn, work: Workspace, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    work.hold(5)

    def forget() -> None:
        wait_for(lambda: work.runs(5), 60)
        wait_for(lambda: work.addition().markers.count() == 5, 60)
        aws_batch.forget()

    with caplog.at_level("WARNING"), at_the_side(forget):
        assert run(blocks_per_job=8).computed == 8
    assert "nobody knows why (AWS Batch has forgotten it): its 3 blocks left go to another job" in caplog.text
    assert [len(work.runs(block)) for block in range(8)] == [1, 1, 1, 1, 1, 2, 1, 1]


@pytest.mark.soak
def test_out_of_memory_gets_more_once(
    aws_batch: StandIn, work: Workspace, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    work.tell(3, "fill 1 700")  # fits into twice the memory, by not filling again
    work.tell(6, "fill 99 1500")
    outcome = run()
    assert outcome.computed == 7
    assert "out of memory with 0.47 GiB: its 1 blocks left go again with 0.93 GiB" in caplog.text
    assert "out of memory again, with 0.93 GiB: block 6 is given up" in caplog.text
    assert "backend.aws_batch.memory_gb" in outcome.failed[6].message
    assert [len(work.runs(block)) for block in (3, 6, 7)] == [2, 2, 1]


@pytest.mark.soak
def test_the_time_limit_costs_only_what_was_left(
    aws_batch: StandIn, work: Workspace, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    aws_batch.minute_s = 20.0
    work.hold(1)
    assert run(time_min=1).computed == 8
    assert "time limit of 1 min: its 1 blocks left go again with 2 min" in caplog.text
    assert [len(work.runs(block)) for block in range(8)] == [1, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.soak
def test_more_memory_than_any_instance_has_is_told(
    aws_batch: StandIn, work: Workspace, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    aws_batch.largest_mb = 500
    work.tell(3, "fill 1 700")

    def add_instances() -> None:
        wait_for(lambda: "no instance type of the compute environment has what a job asks for" in caplog.text, 90)
        aws_batch.largest_mb = 1000

    with at_the_side(add_instances):
        assert run().computed == 8


@pytest.mark.soak
def test_jobs_that_somebody_ends_are_replaced(
    aws_batch: StandIn, work: Workspace, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    work.hold(0)
    aws_batch.slots = 1

    def end_two() -> None:
        wait_for(lambda: work.runs(0), 60)
        [running] = aws_batch.running()
        pending = aws_batch.alive()[-1]
        aws_batch.terminate({"jobId": running.id, "reason": "I need the money"})
        aws_batch.cancel({"jobId": pending.id, "reason": "this too"})

    try:
        with at_the_side(end_two):
            assert run().computed == 8
    finally:
        aws_batch.slots = 4
    assert "the job was cancelled or preempted (FAILED/I need the money, exit code 143)" in caplog.text
    assert "the job was cancelled or preempted (FAILED/this too)" in caplog.text


@pytest.mark.soak
def test_few_calls_for_many_children(aws_batch: StandIn, work: Workspace, run: Run) -> None:
    """The parent is asked, not its children, however many polls there are."""
    work.hold(0)

    def let_it_poll() -> None:
        wait_for(lambda: work.addition().markers.count() == 7, 60)
        asked = aws_batch.calls["describejobs"]
        listed = aws_batch.calls["listjobs"]
        wait_for(lambda: aws_batch.calls["describejobs"] > asked + 20, 60)
        assert aws_batch.calls["listjobs"] <= listed + 1
        work.release(0)

    with at_the_side(let_it_poll):
        assert run(blocks_per_job=1).computed == 8
    assert aws_batch.calls["submitjob"] == 1


@pytest.mark.soak
def test_a_single_slice_is_an_ordinary_job(aws_batch: StandIn, work: Workspace, run: Run) -> None:
    assert run(blocks_per_job=8).computed == 8
    [job] = aws_batch.jobs.values()
    assert (job.children, job.index, "arrayProperties" in job.request) == ([], None, False)
