"""Worker processes on this machine: attempts, timeouts, lost workers, early stop."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

import psutil
import pytest

from blockwise.advice import Names
from blockwise.backends import LocalBackend, Outcome
from blockwise.backends.pool import Pool
from blockwise.backends.worker_process import _describe_end
from blockwise.faults import Faults
from blockwise.job import Order
from blockwise.plan import Item, is_complete
from blockwise.run import failure_summary, run_step
from blockwise.step import load_step
from tests.processes import command_line, wait_for
from tests.unit.odd_step import FILLED_BYTES, OddStep, odd_step

ADVICE = Names().advice("")


def run(step: OddStep, workers: int = 2, timeout_s: float | None = None, max_attempts: int = 2) -> Outcome:
    outcome = run_step(step, LocalBackend(workers, timeout_s), max_attempts, lambda outcome: None)
    assert not worker_processes(), "a worker is left"
    return outcome


def worker_processes() -> list[psutil.Process]:
    """Of this process, which may have other children: servers of other tests."""
    return [child for child in psutil.Process().children() if "blockwise.worker" in command_line(child)]


def test_all_blocks_are_computed_and_prepare_runs_once_a_worker(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 20)
    outcome = run(step)
    assert (outcome.done, outcome.computed, outcome.failed) == (20, 20, {})
    assert is_complete(step)
    pids = {line.split()[0] for line in step.events()}
    assert len(pids) == 2
    assert step.noted("prepare") == 2
    assert [step.noted(f"compute {block}") for block in range(20)] == [1] * 20


def test_no_more_workers_than_blocks(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 1)
    run(step, workers=8)
    assert step.noted("prepare") == 1


def test_a_failing_block_does_not_stop_the_others(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 6, orders={2: "raise", 4: "refuse"})
    outcome = run(step, max_attempts=3)
    assert sorted(outcome.failed) == [2, 4]
    assert outcome.done == 4
    assert not outcome.stopped
    assert not is_complete(step)
    assert step.read_target() is None
    # What a user must mend does not mend itself.
    assert (step.noted("compute 2"), step.noted("compute 4")) == (3, 1)
    failure = step.markers.failures()[2]
    assert (failure.error, failure.attempt) == ("ValueError", 3)
    assert "odd_step.py" in failure.traceback
    assert "block 2 is odd" in Path(failure.log).read_text()
    summary = failure_summary(step, outcome)
    assert "odd: 2 of 6 blocks failed, 4 done" in summary
    assert f"block 2 at (2): ValueError: block 2 is odd [log: {failure.log}]" in summary
    assert "run the same command again" in summary


def test_a_message_that_is_no_text_is_recorded(tmp_path: Path) -> None:
    """Names of files may hold any bytes."""
    step = odd_step(tmp_path, 3, orders={1: "raise bytes"})
    outcome = run(step)
    assert sorted(outcome.failed) == [1]
    assert step.markers.failures()[1].message == "no \\udcff text"


@pytest.mark.soak
def test_next_run_tries_only_what_failed(tmp_path: Path) -> None:
    run(odd_step(tmp_path, 6, orders={2: "raise"}))
    step = odd_step(tmp_path, 6)
    outcome = run(step)
    assert (outcome.total, outcome.computed) == (1, 1)
    assert is_complete(step)
    assert step.markers.failures() == {}


@pytest.mark.soak
def test_second_attempt_is_recorded(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 3, orders={1: "once raise"})
    assert run(step).computed == 3
    assert [step.markers.scan()[block].attempt for block in range(3)] == [1, 2, 1]
    assert step.markers.failures() == {}


@pytest.mark.soak
def test_a_step_that_fails_everywhere_is_stopped(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 50, orders=dict.fromkeys(range(50), "raise"))
    outcome = run(step)
    assert outcome.stopped == "the first 4 blocks all failed"
    assert sum("compute" in line for line in step.events()) < 14
    assert "stopped: the first 4 blocks all failed" in failure_summary(step, outcome)


def test_failing_preparation_is_recorded_with_a_block(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 3, broken=True)
    outcome = run(step, workers=1)
    assert len(outcome.failed) == 3
    assert {result.message for result in outcome.failed.values()} == {"cannot prepare"}
    assert "cannot prepare" in step.markers.failures()[0].traceback


@pytest.mark.soak
def test_a_block_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 4, orders={1: "hang"})
    outcome = run(step, timeout_s=2)
    assert list(outcome.failed) == [1]
    assert outcome.done == 3
    assert step.noted("compute 1") == 2
    result = outcome.failed[1]
    assert result.error == "WorkerLost"
    assert "no result after" in result.message
    assert "raise the time limit of a block" in result.message
    assert "worker-" in result.message


@pytest.mark.soak
def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 6, orders={1: "once die"})
    outcome = run(step, workers=1)
    assert (outcome.computed, outcome.failed) == (6, {})
    assert step.noted("prepare") == 2
    assert step.markers.scan()[1].attempt == 2


@pytest.mark.soak
def test_a_block_that_kills_its_worker_every_time_is_given_up(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 3, orders={1: "die"})
    outcome = run(step, workers=1)
    assert outcome.done == 2
    assert "was ended by SIGKILL (out of memory? odd projects " in outcome.failed[1].message


def test_how_a_worker_has_ended(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 1)
    assert _describe_end(3, step, ADVICE) == "ended with exit code 3"
    assert _describe_end(-signal.SIGSEGV, step, ADVICE) == "was ended by SIGSEGV"
    assert _describe_end(-signal.SIGKILL, step, ADVICE).startswith(
        "was ended by SIGKILL (out of memory? odd projects 0.00 GB"
    )


@pytest.mark.soak
def test_a_worker_that_is_killed_among_others_makes_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As where there is memory for one worker at a time: no block is at fault, and none is given up."""
    step = odd_step(tmp_path, 8, orders=dict.fromkeys(range(8), "die in company"))
    outcome = run(step, workers=3, max_attempts=1)
    assert (outcome.computed, outcome.failed) == (8, {})
    assert {marker.attempt for marker in step.markers.scan().values()} == {1}
    said = [record.getMessage() for record in caplog.records if "going on with" in record.getMessage()]
    assert [text.partition("going on with ")[2][0] for text in said] == ["2", "1"]
    assert "was ended by SIGKILL (out of memory?" in said[0]


def test_a_block_that_kills_its_worker_among_others_and_alone_is_given_up(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 6, orders={1: "die"})
    outcome = run(step, workers=2, max_attempts=2)
    assert list(outcome.failed) == [1]
    assert outcome.done == 5
    assert step.noted("compute 1") == 3, "once among others, which does not count, and twice alone"
    events = [line.partition(" ")[2] for line in step.events() if "compute" in line]
    assert events[-2:] == ["compute 1", "compute 1"]


@pytest.mark.soak
def test_a_block_that_is_alone_has_no_other_worker_beside_it(tmp_path: Path) -> None:
    """Not even one that waits: it has memory too. Others are started again afterwards."""
    step = odd_step(tmp_path, 6)
    pool = Pool(step, 3, None, Faults(), [], ADVICE)
    waiting = deque(Order(Item(block, {})) for block in range(2))
    waiting.append(Order(Item(3, {}), alone=True))
    waiting.append(Order(Item(4, {})))
    most = {}
    try:
        while waiting or pool.busy:
            pool.hand_out(waiting)
            for process in pool.processes.values():
                if process.order:
                    block = process.order.item.block
                    most[block] = max(most.get(block, 0), len(pool.processes))
            pool.results()
    finally:
        pool.close()
    assert most[3] == 1


def test_a_worker_whose_packages_are_broken_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    outcome = run(odd_step(tmp_path, 3), workers=1)
    assert len(outcome.failed) == 3
    assert "ended with exit code 1; see" in outcome.failed[0].message


def test_workers_end_with_a_killed_driver_and_the_next_run_goes_on(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 4, orders={3: "hang"})
    code = (
        "import sys; from blockwise.step import load_step; from blockwise.run import run_step;"
        "from blockwise.backends import LocalBackend;"
        "run_step(load_step(sys.argv[1]), LocalBackend(2, None), 1, lambda outcome: None)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, step.to_json()], env=os.environ | {"PYTHONPATH": "."})
    wait_for(lambda: len(step.markers.scan()) == 3 and step.noted("compute 3"), 60)
    workers = psutil.Process(driver.pid).children()
    assert len(workers) == 2
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
    again = odd_step(tmp_path, 4)
    assert again.fingerprint == step.fingerprint
    assert run(again).computed == 1
    assert [again.noted(f"compute {block}") for block in range(4)] == [1, 1, 1, 2]


def test_reports_tell_how_things_stand(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    step = odd_step(tmp_path, 5, orders={0: "raise"})
    run_step(step, LocalBackend(1, None), 1, lambda o: seen.append((o.total, o.done, len(o.failed))))
    assert seen[0] == (5, 0, 0)
    assert seen[-1] == (5, 4, 1)
    assert seen == sorted(seen)


def in_a_row(backend: LocalBackend, *steps: OddStep) -> list[set[str]]:
    """Run steps with one backend; the processes that have computed each."""
    pids = []
    for step in steps:
        assert not run_step(step, backend, 2, lambda outcome: None).failed
        pids.append({line.split()[0] for line in step.events() if "compute" in line})
    return pids


def test_steps_share_workers_and_nothing_else(tmp_path: Path) -> None:
    backend = LocalBackend(2, None)
    first = odd_step(tmp_path / "first", 8, orders={0: "fill", 1: "fill"})
    second = odd_step(tmp_path / "second", 8)
    pids = in_a_row(backend, first, second)
    assert pids[0] == pids[1]
    assert second.noted("prepare") == 2
    assert {log.parents[2].name for log in tmp_path.rglob("worker-*.log")} == {"first", "second"}
    least = min(marker.peak_memory_mb for marker in first.markers.scan().values()) * 1e6
    most = max(marker.peak_memory_mb for marker in second.markers.scan().values()) * 1e6
    assert most < least - FILLED_BYTES / 2
    backend.close()
    assert not worker_processes()


@pytest.mark.parametrize(
    "how",
    [pytest.param(how, marks=pytest.mark.soak) for how in ("killed", "too long", "too large")],
)
def test_workers_that_cannot_go_on_after_a_rest_are_replaced(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(2, None)
    orders = dict.fromkeys(range(4), "keep") if how == "too large" else {}
    pids = in_a_row(backend, odd_step(tmp_path / "first", 4, orders=orders))
    if how == "killed":
        for worker in worker_processes():
            worker.kill()
    elif how == "too long":
        monkeypatch.setattr("blockwise.backends.worker_process.REST_LIMIT_S", 0)
    pids += in_a_row(backend, odd_step(tmp_path / "second", 4))
    assert not pids[0] & pids[1]
    backend.close()


def test_a_fork_leaves_the_workers_of_its_parent_alone(tmp_path: Path) -> None:
    backend = LocalBackend(1, None)
    pids = in_a_row(backend, odd_step(tmp_path / "first", 2))
    fork = multiprocessing.get_context("fork").Process(
        target=in_a_row, args=(backend, odd_step(tmp_path / "fork", 2))
    )
    fork.start()
    fork.join()
    assert fork.exitcode == 0
    assert pids == in_a_row(backend, odd_step(tmp_path / "second", 2))
    assert pids[0] != in_a_row(backend, odd_step(tmp_path / "fork", 2))[0]
    backend.close()


@pytest.mark.soak
def test_a_worker_that_hangs_or_has_not_prepared_does_not_rest(tmp_path: Path) -> None:
    backend = LocalBackend(2, timeout_s=2)
    step = odd_step(tmp_path / "first", 4, orders={2: "hang"})
    outcome = run_step(step, backend, 1, lambda outcome: None)
    assert list(outcome.failed) == [2]
    assert len(worker_processes()) == 1
    assert in_a_row(backend, odd_step(tmp_path / "second", 4))
    backend.close()


def test_a_resting_worker_ends_with_nobody_to_end_it(tmp_path: Path) -> None:
    """Its driver goes on with something else, or with a step that needs the memory."""
    step = odd_step(tmp_path, 1)
    lines = [{"step": step.to_json(), "log": str(tmp_path / "log")}, {"rest": True}]
    code = "import blockwise.worker as worker; worker.REST_LIMIT_S = 0.5; worker.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert process.stdin
    assert process.stdout
    with process.stdin, process.stdout:
        process.stdin.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        process.stdin.flush()
        assert process.wait(60) == 0


def test_steps_go_through_json(tmp_path: Path) -> None:
    step = odd_step(tmp_path, 5, orders={0: "raise"})
    copy = load_step(step.to_json())
    assert copy == step
    assert copy.fingerprint == step.fingerprint
