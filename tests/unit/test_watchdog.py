"""A job's program in which a block hangs ends, and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blockwise.advice import Names
from blockwise.job import Order, write_orders
from blockwise.plan import Item, begin, plan_step
from blockwise.records import open_records
from blockwise.watchdog import EXIT_CODE, GAVE_UP, Watchdog
from blockwise.worker import Worker
from tests.contract.steps import Workspace

ADVICE = Names(timeout="the limit").advice("")
SLOW = "block 1 took longer than 3 s; raise the limit, or lower the block shape"
LIMIT_S = 3.0
"""Long enough for a block that does not hang, on a machine that is busy with other tests."""


def run_job(work: Workspace, timeout_s: float | None, patch: str = "pass") -> tuple[int, str]:
    """Run all blocks of an addition as one job; its exit code and log."""
    step = work.addition()
    plan = plan_step(step)
    begin(step, plan)
    folder = work.folder / "array"
    orders = [Order(Item(item.block, item.stamps)) for item in plan.items]
    write_orders(open_records(folder), step, [orders], timeout_s, ADVICE)
    code = f"import blockwise.watchdog; {patch}; import blockwise.job; blockwise.job.main()"
    log = work.folder / "job.log"
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), "--task", "0", "--log", str(log)],
            stdout=out,
            stderr=out,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
            timeout=120,
            check=False,
        )
    return done.returncode, log.read_text()


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", blocks=3)


def test_a_block_that_hangs_ends_the_job_with_a_record(work: Workspace) -> None:
    work.hold(1, attempts=9)
    code, log = run_job(work, LIMIT_S)
    assert code == EXIT_CODE
    assert log.splitlines()[-1] == f"{GAVE_UP}{SLOW}"
    failure = work.addition().markers.failures()[1]
    assert (failure.error, failure.message) == ("BlockTimeoutError", SLOW.removeprefix("block 1 "))
    assert "in misbehave" in failure.traceback  # where it hung
    assert sorted(work.addition().markers.scan()) == [0]
    assert not work.runs(2)


def test_the_limit_is_for_one_block_not_for_all(work: Workspace) -> None:
    for block in range(3):
        work.tell(block, f"sleep 9 {LIMIT_S / 2.5}")
    assert run_job(work, LIMIT_S)[0] == 0
    assert sorted(work.addition().markers.scan()) == [0, 1, 2]


@pytest.mark.parametrize("what", ["seize 9 300", "hold 9"])
def test_a_job_ends_where_no_record_can_be_written(work: Workspace, what: str) -> None:
    """A library that keeps the interpreter's lock; a file system that hangs."""
    work.tell(1, what)
    stuck = "blockwise.worker.Worker.record = lambda *a: __import__('time').sleep(300)"
    code, log = run_job(work, LIMIT_S, f"blockwise.watchdog.LAST_S = 0.5; {stuck}")
    assert code == 1
    assert GAVE_UP not in log
    assert "misbehave" in log
    assert sorted(work.addition().markers.scan()) == [0]


def test_a_result_that_comes_in_time_stands(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is reached at the moment at which the marker has been written."""
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("the job was ended"))
    step = work.addition()
    plan = plan_step(step)
    begin(step, plan)
    worker = Worker(step, "no log")
    assert worker.run(plan.items[1], 1).state == "computed"
    Watchdog(worker)._end(1, 1, "took longer")
    assert step.markers.failures() == {}
