"""Steps whose work folder and results are in a store: jobs, workers of several processes, failures, claims."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from blockwise.backends import LocalBackend, Outcome
from blockwise.claims import claimed_blocks, claims_of
from blockwise.errors import UserError
from blockwise.job import Order, read_orders, run_job, write_orders
from blockwise.plan import Item, begin, is_complete, plan_step
from blockwise.records import ABSENT, store, within
from blockwise.records.packed import PACKS
from blockwise.run import run_step
from blockwise.step import BlockStep
from blockwise.worker import Worker
from tests.contract.steps import Workspace
from tests.contract.store_proxy import Weather, before
from tests.processes import command_line

NUMBERS = itertools.count()
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def weather() -> Weather:
    return Weather()


@pytest.fixture(scope="module")
def bucket(s3_server: str, weather: Weather) -> Iterator[str]:
    with before(s3_server, weather) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy)
        yield f"s3://bucket/steps-{os.getpid()}"


@pytest.fixture
def work(bucket: str, weather: Weather, tmp_path: Path) -> Iterator[Workspace]:
    work = Workspace(tmp_path / "here", 6, f"{bucket}-{next(NUMBERS)}")
    yield work
    weather.refused = weather.lost = weather.conflicts = 0.0
    work.addition().work.leave_this_machine()


def run(step: BlockStep, workers: int = 2) -> Outcome:
    backend = LocalBackend(workers, 60)
    try:
        return run_step(step, backend, 2, lambda outcome: None)
    finally:
        backend.close()


@pytest.mark.soak
def test_workers_of_a_run(work: Workspace, weather: Weather) -> None:
    """Among bad answers; one block kills its worker, another fails once."""
    weather.refused, weather.lost, weather.conflicts = 0.03, 0.02, 0.1
    work.tell(2, "kill 1")
    work.tell(4, "raise 1")
    step = work.addition()
    outcome = run(step)
    assert (outcome.computed, outcome.failed, outcome.stopped) == (6, {}, "")
    np.testing.assert_array_equal(work.result(), work.values + 1)
    assert [len(work.runs(block)) for block in range(6)] == [1, 1, 2, 1, 2, 1]
    assert (step.markers.count(), step.markers.failures()) == (6, {})
    packs = {key.rpartition("-")[0] for key in step.records.keys(PACKS)}
    assert len(packs) <= 4, "packs of two workers, and of one that was killed"
    assert claimed_blocks(step) == []
    log = next(
        content for key, content in step.work.get_many(step.work.keys("logs")) if b"was told to fail" in content
    )
    assert b"ValueError" in log
    assert is_complete(step)
    assert run(step).total == 0


@pytest.mark.soak
@pytest.mark.parametrize("request_number", random.Random(5).sample(range(40, 260), 8))
def test_a_worker_that_is_killed_at_any_request_costs_its_block_only(
    work: Workspace, weather: Weather, request_number: int
) -> None:
    step = work.addition()

    def kill_one() -> None:
        found = [one for one in psutil.Process().children() if "blockwise.worker" in command_line(one)]
        for worker in found[:1]:
            worker.kill()

    with weather.at_request(request_number, kill_one):
        outcome = run(step)
    assert (outcome.done, outcome.failed, outcome.stopped) == (6, {}, "")
    runs = [len(work.runs(block)) for block in range(6)]
    assert max(runs) <= 2, runs
    assert sum(runs) <= 7, runs
    np.testing.assert_array_equal(work.result(), work.values + 1)
    assert claimed_blocks(step) == []
    assert is_complete(step)
    assert run(step).total == 0


def test_jobs_find_their_orders_in_the_store(
    work: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = work.addition()
    begin(step, plan_step(step))
    items = [Order(Item(item.block, item.stamps)) for item in plan_step(step).items]
    work.tell(3, "raise 9")
    array = step.work.below(f"{step.label}/jobs/a")
    write_orders(array, step, [items[:2], items[2:4], items[4:]])
    assert read_orders(array) == [items[:2], items[2:4], items[4:]]
    run_job(array, 2, "no log")
    log = tmp_path / "task-1.log"
    place = within(step.work_dir, f"{step.label}/jobs/a")
    command = [sys.executable, "-m", "blockwise.job", place, "--task", "1", "--log", str(log)]
    with log.open("wb") as out:
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        subprocess.run(command, stdout=out, stderr=out, env=environment, check=True, timeout=120)
    assert "job begins: a, task 1" in log.read_text()
    run_job(array, 0, "no log")
    assert sorted(step.markers.scan()) == [0, 1, 2, 4, 5]
    failure = step.markers.failures()[3]
    assert failure.log == step.work.place("logs/addition/task-1.log")
    assert b"job ends: 2 blocks, 1 failed" in (step.work.get("logs/addition/task-1.log") or b"")
    (work.orders / "3").unlink()
    (item,) = plan_step(step).items
    assert Worker(step, "no log").run(item, 1).state == "computed"
    np.testing.assert_array_equal(work.result(), work.values + 1)
    for key in array.keys(""):
        array.delete(key)
    run_job(array, 0, "no log")
    assert "nothing to do" in capsys.readouterr().out


def race(folder: str, place: str, start: Any, found: Any) -> None:
    step = Workspace.open(Path(folder), place).addition()
    plan = plan_step(step)
    worker = Worker(step, "no log")
    start.wait()
    begin(step, plan)
    found.put([worker.run(item, 1).state for item in plan.items])


@pytest.mark.parametrize("kind", ["threads", pytest.param("processes", marks=pytest.mark.soak)])
def test_two_who_work_at_once_compute_each_block_once(work: Workspace, kind: str) -> None:
    for block in range(6):
        work.tell(block, "sleep 9 0.02")
    crowd: Any = SPAWN if kind == "processes" else threading
    start, found = crowd.Barrier(2), (SPAWN.Queue() if kind == "processes" else queue.Queue())
    new: Any = SPAWN.Process if kind == "processes" else threading.Thread
    both = [new(target=race, args=(str(work.folder), work.place, start, found)) for _ in range(2)]
    for one in both:
        one.start()
    states = found.get(timeout=120) + found.get(timeout=120)
    for one in both:
        one.join()
    assert sorted(states) == ["computed"] * 6 + ["found"] * 6
    assert [len(work.runs(block)) for block in range(6)] == [1] * 6


def test_who_meets_another_writer_tries_again(work: Workspace, weather: Weather) -> None:
    """Answers of 409; the library asks again."""
    weather.conflicts = 0.3
    records = work.addition().work
    for number in range(200):  # chance decides how often it happens: more often than not it is three times in six
        version = records.put(f"{number}", b"1", ABSENT)
        assert version is not None
        assert records.put(f"{number}", b"2", ABSENT) is None
        assert records.put(f"{number}", b"2", version) is not None
        if weather.spoilt["conflicts"] > 2:
            break
    assert weather.spoilt["conflicts"] > 2


def test_a_copy_of_the_process_is_refused(work: Workspace) -> None:
    """The library would end it, or wait for ever."""
    records = work.addition().work
    records.put("a", b"1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_forks", [])
        store._note_fork()
        with pytest.raises(UserError, match="--workers 1"):
            records.get("a")
    assert records.get("a") == b"1"


@pytest.mark.soak
def test_stale_blocks_are_done_again_and_others_stay(work: Workspace) -> None:
    """Within one process: what is planned, begun, removed and found agrees with what is in the packs."""

    def compute(step: BlockStep) -> list[int]:
        plan = plan_step(step)
        begin(step, plan)
        worker = Worker(step, "no log")
        assert {worker.run(item, 1).state for item in plan.items} <= {"computed"}
        return [item.block for item in plan.items]

    step = work.addition()
    assert compute(step) == [0, 1, 2, 3, 4, 5]
    chunk = work.folder / "raw.n5" / "raw" / "0" / "0" / "2"
    os.utime(chunk)
    plan = plan_step(work.addition())
    assert plan.reasons == ["raw has changed below 1 of 6 blocks"]
    with claims_of(step).take(4) or pytest.fail("not free"):
        assert claimed_blocks(step) == [4]
        assert compute(work.addition()) == [2]
    assert plan_step(work.addition()).items == []
    other = work.addition(addend=5)
    assert compute(other) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(work.result(), work.values + 5)
    assert list(step.records.keys()) == []
    assert compute(work.addition()) == [0, 1, 2, 3, 4, 5]
