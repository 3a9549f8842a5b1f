"""Two hosts and one work folder, on a file system that does not tell one host of another's locks."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from blockwise.identity import digest
from blockwise.records import open_records
from pipeline.running import lock
from pipeline.running.lock import LOCK, OWNER, WorkDirBusyError, WorkDirLock
from tests.processes import wait_for

SPAWN = multiprocessing.get_context("spawn")
ROUNDS = 60


def be_host(name: str) -> None:
    """From here on this process is another host: its name, and locks of its own."""
    lock.socket.gethostname = lambda: name  # type: ignore[attr-defined]
    lock.FileLock = lambda path, timeout: FileLock(f"{path}-{name}", timeout=timeout)  # type: ignore[misc, assignment]


def race(name: str, folder: str, barrier: Any, successes: Any, dead: bool) -> None:
    be_host(name)
    for number in range(ROUNDS):
        work_dir = Path(folder, str(number))
        mine = WorkDirLock(work_dir, lambda message: None)
        barrier.wait()
        try:
            mine.acquire()
        except WorkDirBusyError:
            got = False
        else:
            got = True
        barrier.wait()
        successes.put((number, name, got))
        if got:
            assert (json.loads((work_dir / OWNER).read_text())["host"]) == name
            mine.release()


@pytest.mark.parametrize("dead", [pytest.param(False, marks=pytest.mark.soak), True])
def test_of_two_hosts_that_start_in_one_moment_one_gets_the_folder(tmp_path: Path, dead: bool) -> None:
    for number in range(ROUNDS):
        (tmp_path / str(number)).mkdir()
        if dead:
            leave_dead_owner(tmp_path / str(number))
    barrier, successes = SPAWN.Barrier(2), SPAWN.Queue()
    hosts = [
        SPAWN.Process(target=race, args=(name, str(tmp_path), barrier, successes, dead)) for name in ("one", "two")
    ]
    for host in hosts:
        host.start()
    found = [successes.get(timeout=60) for _ in range(2 * ROUNDS)]
    for host in hosts:
        host.join()
        assert host.exitcode == 0
    owners = {number: [name for n, name, got in found if n == number and got] for number in range(ROUNDS)}
    assert [len(names) for names in owners.values()] == [1] * ROUNDS


def leave_dead_owner(folder: Path) -> None:
    path = folder / OWNER
    path.write_text(json.dumps({"pid": 1, "host": "three", "since": "2020-01-01 00:00:00"}))
    os.utime(path, (time.time() - 10 * lock.SILENCE_S,) * 2)


def test_a_right_to_follow_that_a_dead_host_has_left_does_not_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PAUSE_S", 0.0)
    leave_dead_owner(tmp_path)
    version = open_records(tmp_path).version(OWNER)
    assert version is not None
    right = tmp_path / f".{OWNER}.{digest(version)[:12]}"
    right.touch()
    with pytest.raises(WorkDirBusyError, match="process 1 on three"):
        WorkDirLock(tmp_path, print).acquire()
    os.utime(right, (time.time() - 10 * lock.SILENCE_S,) * 2)
    mine = WorkDirLock(tmp_path, print)
    mine.acquire()
    mine.release()
    assert not right.exists()


def test_whoever_has_lost_the_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.01)
    lost = threading.Event()
    messages: list[str] = []
    mine = WorkDirLock(tmp_path, lambda message: (messages.append(message), lost.set()))  # type: ignore[func-returns-value]
    mine.acquire()
    path = tmp_path / OWNER
    path.unlink()  # by hand: it is written again
    wait_for(path.exists, 30)
    assert not lost.is_set()
    other = json.dumps({"pid": 7, "host": "two", "since": "2020-01-01 00:00:00"})
    temporary = tmp_path / "other"
    temporary.write_text(other)
    temporary.replace(path)
    assert lost.wait(30)
    assert "process 7 on two" in messages[0]
    mine.release()
    assert path.read_text() == other
    assert (tmp_path / LOCK).exists()
