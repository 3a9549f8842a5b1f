"""Claims: each block is computed once however many work on a step, and a claim ends with its holder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from blockwise import claims, lockfile
from blockwise.backends import LocalBackend, Outcome
from blockwise.claims import FolderClaims, StepLock, Unclaimed, claims_of
from blockwise.lockfile import FileLocks, KernelLocks, RangeLocks
from blockwise.plan import begin, is_complete, plan_step
from blockwise.run import run_step
from blockwise.trust.ownership import recorded_id
from blockwise.watchdog import Watchdog
from blockwise.worker import Worker
from tests.contract.steps import Workspace
from tests.examples import examples
from tests.processes import wait_for

Kind = Callable[[Path], KernelLocks]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=[RangeLocks, FileLocks])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param
    return made


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", blocks=6)


def holder(kind: Kind, path: Path, rest: str = "pass") -> subprocess.Popen[str]:
    """A process that holds number 3."""
    code = (
        "import os, sys, time; from pathlib import Path; from blockwise.lockfile import *;"
        f"locks = {kind.__name__}(Path(sys.argv[1])); assert locks.try_lock(3); {rest};"
        "print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("rest", ["pass", "os.fork() or time.sleep(600)"])
def test_a_killed_holder_s_claim_is_free_at_once(kind: Kind, tmp_path: Path, rest: str) -> None:
    """Also where a child of the holder, which has inherited its open files, lives on."""
    mine = kind(tmp_path / "locks")
    with holder(kind, tmp_path / "locks", rest) as process:
        assert not mine.try_lock(3)
        assert mine.try_lock(4)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
        process.kill()
        process.wait()
        assert mine.try_lock(3)
        for child in children.stdout.split():
            os.kill(int(child), signal.SIGKILL)
        assert process.stdout is not None


def test_a_fork_holds_nothing(kind: Kind, tmp_path: Path) -> None:
    mine = kind(tmp_path / "locks")
    assert mine.try_lock(3)
    child = os.fork()
    if not child:
        mine.unlock(3)  # as on the way out of a `with`
        os._exit(10 + mine.try_lock(3))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert not kind(tmp_path / "locks").try_lock(3)


def test_threads_exclude_each_other(kind: Kind, tmp_path: Path) -> None:
    """Some share an object, and some do not."""
    shared = kind(tmp_path / "locks")
    inside = [0] * 4
    taken = [0] * 4

    def work(number: int) -> None:
        mine = FolderClaims(shared if number % 2 else kind(tmp_path / "locks"))
        for round_ in range(300):
            block = round_ % 4
            claim = mine.take(block)
            if claim is not None:
                with claim:
                    inside[block] += 1
                    assert inside[block] == 1
                    taken[block] += 1
                    time.sleep(0)
                    inside[block] -= 1

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert min(taken) > 0


def test_whoever_comes_after_a_folder_was_replaced_meets_the_others_there(kind: Kind, tmp_path: Path) -> None:
    folder = tmp_path / "step"
    old, new = kind(folder / "locks"), kind(folder / "locks")
    assert old.try_lock(3)
    old.unlock(3)
    shutil.rmtree(folder)
    assert new.try_lock(3)
    assert not old.try_lock(3)


class Locking(RuleBasedStateMachine):
    """Three objects of one place, against a table."""

    kind: Kind = RangeLocks

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(os.environ.get("TMPDIR", "/tmp"), f"locking-{os.getpid()}-{id(self)}")
        self.folder.mkdir()
        self.objects = [type(self).kind(self.folder / "locks") for _ in range(3)]
        self.held: list[tuple[int, int, bool]] = []  # object, number, shared; once for each time

    @rule(who=st.integers(0, 2), number=st.sampled_from([0, 1, 7]), shared=st.booleans())
    def take(self, who: int, number: int, shared: bool) -> None:
        others = [held for held in self.held if held[1] == number]
        free = not others or (shared and all(held[2] for held in others))
        assert self.objects[who].try_lock(number, shared=shared) == free
        if free:
            self.held.append((who, number, shared))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        self.objects[held[0]].unlock(held[1])

    @precondition(lambda self: not self.held)
    @rule()
    def replace(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class LockingByFiles(Locking):
    kind = FileLocks


TestLocking = Locking.TestCase
TestLockingByFiles = LockingByFiles.TestCase
TestLocking.settings = TestLockingByFiles.settings = settings(
    max_examples=examples(30), stateful_step_count=30, deadline=None
)


def test_a_file_system_without_locks_is_told_once(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lockfile, "_set_range", refuse)
    monkeypatch.setattr(claims, "_told", set())
    step = work.addition()
    assert compute_all(step, 6) == ["computed"] * 6
    assert [len(work.runs(block)) for block in range(6)] == [1] * 6
    assert isinstance(claims_of(step).take(1), Unclaimed)
    (told,) = [r.getMessage() for r in caplog.records if "cannot be locked" in r.getMessage()]
    assert "No locks available" in told
    assert run_step(step, LocalBackend(1, None), 1, lambda outcome: None).total == 0


def compute_all(step: object, blocks: int) -> list[str]:
    plan = plan_step(step)  # type: ignore[arg-type]
    begin(step, plan)  # type: ignore[arg-type]
    worker = Worker(step, "no log")  # type: ignore[arg-type]
    return [worker.run(item, 1).state for item in plan.items[:blocks]]


def race(folder: str, start: object, found: object) -> None:
    """All blocks of a step, as one of several processes that have planned them all."""
    step = Workspace.open(Path(folder)).addition()
    plan = plan_step(step)
    worker = Worker(step, "no log")
    start.wait()  # type: ignore[attr-defined]
    begin(step, plan)
    found.put([worker.run(item, 1).state for item in plan.items])  # type: ignore[attr-defined]


def test_two_processes_compute_each_block_once(work: Workspace) -> None:
    for block in range(6):
        work.tell(block, "sleep 9 0.02")
    start, found = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [SPAWN.Process(target=race, args=(str(work.folder), start, found)) for _ in range(2)]
    for process in processes:
        process.start()
    states = found.get(timeout=120) + found.get(timeout=120)
    for process in processes:
        process.join()
    assert sorted(states) == ["computed"] * 6 + ["found"] * 6
    assert [len(work.runs(block)) for block in range(6)] == [1] * 6
    step = work.addition()
    assert run_step(step, LocalBackend(1, None), 1, lambda outcome: None).total == 0
    assert is_complete(step)


@pytest.fixture
def held(work: Workspace) -> Iterator[subprocess.Popen[str]]:
    """Another process that has begun with block 3, and is at it."""
    step = work.addition()
    begin(step, plan_step(step))
    with holder(RangeLocks, step.folder / claims.CLAIMS) as process:
        yield process
        process.kill()


def test_whoever_waits_computes_what_a_dead_holder_has_not(work: Workspace, held: subprocess.Popen[str]) -> None:
    step = work.addition()
    items = {item.block: item for item in plan_step(step).items}
    worker = Worker(step, "no log")
    turns: list[str] = []
    worker.on_turn = lambda: turns.append("turn")
    assert worker.run(items[2], 1).state == "computed"
    assert turns == []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(worker.run, items[3], 1)
        time.sleep(0.1)
        assert not waiting.done()
        held.kill()
        assert waiting.result(30).state == "computed"
    assert turns == ["turn"]


def test_the_time_of_a_block_begins_when_its_turn_comes(work: Workspace) -> None:
    worker = Worker(work.addition(), "no log")
    watchdog = Watchdog(worker)
    with watchdog.watching(1, 1, 600):
        (first,) = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
        worker.on_turn()
        first.join()
        (second,) = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
        assert second is not first
    second.join()
    worker.on_turn()
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_a_local_worker_that_waits_is_not_overdue(work: Workspace, held: subprocess.Popen[str]) -> None:
    """It waits for most of its time, and computes for most of its time."""
    step = work.addition()
    work.tell(3, "sleep 9 2")

    def kill_later() -> None:
        log = step.logs / "worker-0.log"
        wait_for(lambda: log.exists() and "waiting: another process computes block 3" in log.read_text(), 60)
        time.sleep(2)
        held.kill()

    with ThreadPoolExecutor(1) as threads:
        killed = threads.submit(kill_later)
        outcome = run_step(step, LocalBackend(1, timeout_s=3), 1, lambda outcome: None)
        killed.result()
    assert (outcome.computed, outcome.failed) == (6, {})


def test_nobody_waits_for_ever(work: Workspace, held: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PATIENCE_S", 0.1)
    step = work.addition()
    item = plan_step(step).items[3]
    assert Worker(step, "no log").run(item, 1).state == "computed"


def test_an_output_is_begun_anew_when_no_block_is_computed(work: Workspace) -> None:
    step = work.addition()
    plan = plan_step(step)
    lock = StepLock(step)
    with ThreadPoolExecutor(2) as threads:
        with lock.computing():
            waiting = threads.submit(begin, step, plan)
            time.sleep(0.1)
            assert not waiting.done()
            assert not step.folder.exists()
            # Those who come now wait: else one after the other would keep the output from being begun.
            late = threads.submit(lambda: lock.computing().__enter__())
            time.sleep(0.1)
            assert not late.done()
        waiting.result(30)
        assert late.result(30) is True


def test_a_step_that_another_has_begun_and_computed_meanwhile_stays(work: Workspace) -> None:
    step = work.addition()
    plan = plan_step(step)
    assert plan.new_output
    assert compute_all(work.addition(), 4) == ["computed"] * 4
    output = recorded_id(step)
    begin(step, plan)
    assert recorded_id(step) == output
    worker = Worker(step, "no log")
    assert [worker.run(item, 1).state for item in plan.items] == ["found"] * 4 + ["computed"] * 2


def test_a_marker_of_no_block_and_one_that_stands_twice_change_nothing(work: Workspace) -> None:
    step = work.addition()
    compute_all(step, 6)
    totals = plan_step(step).totals
    marker = step.markers.read(3)
    assert marker is not None
    for name, block in (("9", 9), ("4000", 3), ("-1", -1)):
        step.records.put(
            f"done/000000/{name}.json", msgspec.json.encode(msgspec.structs.replace(marker, block=block))
        )
    plan = plan_step(step)
    assert plan.items == []
    assert plan.totals is not None
    assert totals is not None
    assert plan.totals.checksums.digest == totals.checksums.digest
    assert plan.totals.cpu_seconds == totals.cpu_seconds


def test_a_stale_marker_goes_and_one_that_came_meanwhile_stays(work: Workspace) -> None:
    step = work.addition()
    compute_all(step, 6)
    for chunk in ("0", "1"):
        os.utime(work.folder / "raw.n5" / "raw" / "0" / "0" / chunk)
    plan = plan_step(step)
    assert [item.block for item in plan.items] == [0, 1]
    assert Worker(step, "no log").run(plan.items[1], 1).state == "computed"
    begin(step, plan)
    assert sorted(step.markers.scan()) == [1, 2, 3, 4, 5]


def run_and_tell(folder: str, outcomes: object) -> None:
    outcomes.put(run(Workspace.open(Path(folder))).total)  # type: ignore[attr-defined]


def run(work: Workspace) -> Outcome:
    backend = LocalBackend(1, timeout_s=60)
    try:
        return run_step(work.addition(), backend, 1, lambda outcome: None)
    finally:
        backend.close()


@pytest.mark.soak
def test_two_runs_of_one_step_come_one_after_the_other(work: Workspace) -> None:
    """As two tasks of Luigi that find damaged blocks of the same step before them."""
    for block in range(6):
        work.tell(block, "sleep 9 0.2")
    outcomes = SPAWN.Queue()
    other = SPAWN.Process(target=run_and_tell, args=(str(work.folder), outcomes))
    other.start()
    wait_for(lambda: work.runs(0), 60)
    assert run(work).total == 0
    assert outcomes.get(timeout=60) == 6
    other.join()
    assert [len(work.runs(block)) for block in range(6)] == [1] * 6
    assert is_complete(work.addition())


def test_a_finished_step_keeps_its_target_while_it_is_run_again(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others read it."""
    run(work)
    step = work.addition()
    removed: list[str] = []
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path, **k: removed.append(Path(path).name) or unlink(path, **k))
    assert run(work).total == 0
    assert step.target not in removed
