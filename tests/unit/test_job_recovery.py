"""Decisions about the blocks of jobs that have ended early, and how blocks are dealt out to jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise.advice import Names
from blockwise.backends import Outcome, Referee
from blockwise.backends.jobs.dealing import blocks_per_job, deal, share_slots
from blockwise.backends.jobs.needs import JobOptions, Needs
from blockwise.backends.jobs.recovery import MAX_MOVES, Decision, Ended
from blockwise.backends.jobs.recovery import decide as decide_in_words
from blockwise.backends.jobs.scheduler import Cause
from blockwise.backends.slurm.answers import SlurmTask
from blockwise.job import BEGINS, Order
from blockwise.plan import Item
from blockwise.watchdog import GAVE_UP

NEEDS = Needs(memory_mb=1024, time_min=30)
BEGUN = f"{BEGINS}test, task 0\n"


def orders(*blocks: int, **values: int) -> tuple[Order, ...]:
    return tuple(Order(Item(block, {}), **values) for block in blocks)


def ended(state: str, reason: str = "None", **values: object) -> Ended:
    known = {
        "name": "17_3",
        "title": "SLURM",
        "state": SlurmTask("17", 3, state, reason, "node7"),
        "log_head": BEGUN,
        "log_tail": "",
        "left": orders(4, 5, 6),
        "progressed": True,
        "needs": NEEDS,
    }
    return Ended(**{**known, **values})  # type: ignore[arg-type]


def decide(job: Ended) -> Decision:
    return decide_in_words(job, Names(option="jobs."))


def blocks(found: Sequence[Order]) -> list[int]:
    return [order.item.block for order in found]


@pytest.mark.parametrize(
    ("job", "cause"),
    [
        (ended("OUT_OF_MEMORY"), Cause.OUT_OF_MEMORY),
        (ended("FAILED", log_tail="slurmstepd: error: Exceeded job memory limit"), Cause.OUT_OF_MEMORY),
        (ended("FAILED", log_tail=f"out of memory\n{GAVE_UP}block 3 took longer than 9 s"), Cause.GAVE_UP),
        (ended("TIMEOUT", "TimeLimit"), Cause.TIME_LIMIT),
        (ended("NODE_FAIL", "NodeDown"), Cause.NODE_FAILURE),
        (ended("CANCELLED"), Cause.INTERRUPTED),
        (ended("PREEMPTED"), Cause.INTERRUPTED),
        (ended("FAILED", "NonZeroExitCode"), Cause.KILLED),
        (ended("FAILED", "JobLaunchFailure", log_head=""), Cause.NOT_STARTED),
        (ended("COMPLETED"), Cause.UNKNOWN),
        (replace(ended("FAILED"), state=None), Cause.UNKNOWN),
    ],
)
def test_cause(job: Ended, cause: Cause):
    assert job.cause is cause


def test_memory_is_raised_once():
    first = decide(ended("OUT_OF_MEMORY"))
    assert blocks(first.again) == [4, 5, 6]
    assert first.needs == Needs(2048, 30, raised=True)
    assert not first.blamed
    second = decide(ended("OUT_OF_MEMORY", needs=first.needs))
    assert (blocks(second.blamed), blocks(second.again)) == ([4], [5, 6])
    assert second.final
    assert second.needs == first.needs
    assert "2.00 GiB" in second.message


def test_time_limit_resubmits_what_is_left_with_more_time():
    decision = decide(ended("TIMEOUT"))
    assert (blocks(decision.again), decision.needs.time_min, decision.blamed) == ([4, 5, 6], 60, ())
    # Not one block was done: the first is too slow; the others were never begun.
    decision = decide(ended("TIMEOUT", progressed=False))
    assert (blocks(decision.again), decision.needs.time_min) == ([5, 6], 30)
    assert blocks(decision.blamed) == [4]
    assert decision.blamed_needs is not None
    assert decision.blamed_needs.time_min == 60


def test_a_node_failure_blames_the_node():
    decision = decide(ended("NODE_FAIL", "NodeDown", progressed=False))
    assert (blocks(decision.again), decision.bad_node, decision.blamed) == ([4, 5, 6], "node7", ())
    assert {order.moves for order in decision.again} == {1}
    assert not decision.fruitless


def test_a_killed_worker_isolates_the_block_it_was_in():
    decision = decide(ended("FAILED", "NonZeroExitCode"))
    assert (blocks(decision.blamed), blocks(decision.again)) == ([4], [5, 6])
    assert not decision.final
    assert not decision.fruitless
    assert decide(ended("FAILED", progressed=False)).fruitless
    # A block that is alone because it kills its workers says nothing about jobs in general.
    alone = (Order(Item(4, {}), attempt=2, alone=True),)
    assert not decide(ended("FAILED", progressed=False, left=alone)).fruitless


def test_a_block_that_took_too_long_is_not_held_against_the_others():
    decision = decide(
        ended("FAILED", "NonZeroExitCode", log_tail=f"{GAVE_UP}block 3", left=orders(4, moves=MAX_MOVES))
    )
    assert (blocks(decision.again), decision.blamed, decision.fruitless) == ([4], (), False)
    assert decision.again[0].moves == MAX_MOVES


def test_blocks_do_not_move_for_ever():
    decision = decide(ended("NODE_FAIL", left=orders(4, moves=MAX_MOVES) + orders(5)))
    assert (blocks(decision.blamed), blocks(decision.again)) == ([4], [5])
    assert decision.final
    # Preemption is no sign of anything.
    decision = decide(ended("PREEMPTED", left=orders(4, moves=MAX_MOVES)))
    assert [order.moves for order in decision.again] == [MAX_MOVES]


def test_every_block_is_accounted_for():
    for state in ("OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "CANCELLED", "FAILED", "COMPLETED"):
        for progressed in (True, False):
            for raised in (True, False):
                needs = Needs(1024, 30, raised)
                decision = decide(ended(state, progressed=progressed, needs=needs))
                assert sorted(blocks(decision.again) + blocks(decision.blamed)) == [4, 5, 6]


def test_jobs_in_vain_stop_a_step():
    referee = Referee(Outcome(total=100), 3)
    for _ in range(3):
        referee.judge_job(True, "no reason")
    assert not referee.outcome.stopped
    referee.judge_job(True, "the disk is gone")
    assert referee.outcome.stopped == "4 of the last 4 jobs ended without finishing a block; the disk is gone"


def test_few_jobs_in_vain_among_many_stop_nothing():
    referee = Referee(Outcome(total=100, computed=50), 3)
    for number in range(200):
        referee.judge_job(number % 3 > 0, "no reason")
    assert not referee.outcome.stopped
    for _ in range(20):
        referee.judge_job(True, "no reason")
    assert "of the last 20 jobs" in referee.outcome.stopped


@given(
    alone=st.lists(st.booleans(), max_size=40), per_job=st.integers(1, 10), jobs=st.integers(0, 12)
)  # fmt: skip
def test_deal(alone: list[bool], per_job: int, jobs: int):
    given_orders = [Order(Item(number, {}), alone=flag) for number, flag in enumerate(alone)]
    lists, rest = deal(given_orders, per_job, jobs)
    assert [order for one in lists for order in one] + rest == given_orders
    assert len(lists) <= jobs
    assert all(0 < len(one) <= per_job for one in lists)
    assert all(len(one) == 1 for one in lists if any(order.alone for order in one))
    assert not rest or len(lists) == jobs


@given(st.integers(1, 10**6), st.floats(1e-3, 1e5), st.integers(1, 500), st.floats(1, 60), st.integers(1, 600))
def test_blocks_per_job(left: int, seconds: float, running: int, minutes: float, limit: int):
    options = JobOptions(max_running=running, job_minutes=minutes)
    number = blocks_per_job(options, limit, left, seconds)
    assert number >= 1
    if number > 1:
        assert number * seconds <= 60 * minutes + 1e-6
        assert number * seconds <= 30 * limit + 1e-6
    assert blocks_per_job(JobOptions(blocks_per_job=7), limit, left, seconds) == 7


def test_blocks_per_job_by_example():
    options = JobOptions(max_running=100, job_minutes=10)
    assert blocks_per_job(options, 60, left=60_000, seconds=2) == 300  # ten minutes
    assert blocks_per_job(options, 60, left=5_000, seconds=2) == 50  # all hundred at once, 100 s each
    assert blocks_per_job(options, 60, left=500, seconds=2) == 30  # not shorter than a minute
    assert blocks_per_job(options, 10, left=60_000, seconds=2) == 150  # half the time limit
    assert blocks_per_job(options, 60, left=60_000, seconds=None) == 8  # nobody knows yet


@given(st.lists(st.integers(1, 50), max_size=10), st.integers(1, 60))
def test_share_slots(sizes: list[int], slots: int):
    shares = share_slots(sizes, slots)
    assert all(1 <= share <= size for share, size in zip(shares, sizes, strict=True))
    if len(sizes) <= slots:
        assert sum(shares) == min(slots, sum(sizes))
