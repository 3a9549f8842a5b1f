"""Leases: one has it, and of one who is dead another gets it."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from blockwise.records import ABSENT, lease
from blockwise.records.lease import Lease
from tests.contract.memory_records import Bucket, MemoryRecords
from tests.processes import wait_for

KEY = "lease.json"


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> MemoryRecords:
    monkeypatch.setattr(lease, "LOOK_S", 0.0)
    return MemoryRecords(Bucket())


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lease, "_keeper", lease._Keeper())
    lease._watched.clear()
    yield
    lease._watched.clear()


def of_another(records: MemoryRecords, **changes: Any) -> None:
    """Have the lease belong to a process of another machine."""
    mine = Lease(records, KEY)
    assert mine.take()
    found = json.loads(records.get(KEY) or b"")
    mine.release()
    records.put(KEY, json.dumps({**found, "system": "another", "host": "two", "id": "its", **changes}).encode())


def test_one_has_it_until_it_is_released(records: MemoryRecords) -> None:
    first, second = Lease(records, KEY), Lease(records, KEY)
    assert first.take()
    assert not second.take()
    assert second.holder()["host"] == lease.socket.gethostname()
    first.release()
    first.release()
    assert second.take()
    second.release()
    assert records.get(KEY) is None


def test_of_many_who_want_it_at_once_one_gets_it(records: MemoryRecords) -> None:
    for _ in range(30):
        leases = [Lease(records, KEY) for _ in range(4)]
        barrier, got = threading.Barrier(4), []

        def race(one: Lease, barrier: threading.Barrier = barrier, got: list[Lease] = got) -> None:
            barrier.wait()
            if one.take():
                got.append(one)

        threads = [threading.Thread(target=race, args=(one,)) for one in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].release()


def test_that_of_a_dead_process_of_this_machine_is_free_at_once(records: MemoryRecords) -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0,))
    process.start()
    pid = process.pid
    process.join()
    of_another(records, system=lease._system(), pid=pid)
    other = Lease(records, KEY)
    assert other.take()
    other.release()


def test_another_process_with_its_number_is_not_taken_for_it(records: MemoryRecords) -> None:
    of_another(records, system=lease._system(), started=1.0)  # this process's number, of one that began long ago
    mine = Lease(records, KEY)
    assert mine.take()
    mine.release()


def test_that_of_another_machine_is_free_when_it_was_silent_while_one_watched(
    records: MemoryRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_another(records)
    other = Lease(records, KEY)
    assert not other.take()
    monkeypatch.setattr(lease, "SILENCE_S", 0.05)
    time.sleep(0.03)
    records.put(KEY, (records.get(KEY) or b"") + b" ")  # it is heard of
    assert not other.take()
    wait_for(other.take, 30)
    other.release()


def test_a_clock_alone_takes_it_from_nobody(records: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    of_another(records, at=0)
    other = Lease(records, KEY)
    assert other.seems_silent()
    assert not other.take()
    beats = iter(range(3, 100))

    def beat(_: float) -> None:
        records.put(KEY, json.dumps({**json.loads(records.get(KEY) or b""), "beat": next(beats)}).encode())

    monkeypatch.setattr(lease.time, "sleep", beat)
    assert not other.watch()
    assert json.loads(records.get(KEY) or b"")["id"] == "its"


def test_whoever_has_lost_it_is_told_and_leaves_it(records: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.01)
    lost = threading.Event()
    mine = Lease(records, KEY, lost.set)
    assert mine.take()
    version = records.version(KEY)
    wait_for(lambda: records.version(KEY) != version, 30)
    records.delete(KEY)  # by hand: it is written again
    wait_for(lambda: records.get(KEY) is not None, 30)
    assert not lost.is_set()
    records.put(KEY, b'{"id": "its"}')
    assert lost.wait(30)
    mine.release()
    assert records.get(KEY) == b'{"id": "its"}'


class LosingRecords(MemoryRecords):
    """A store that does what it is asked, whose answer is lost, and that refuses the repetition."""

    def put(self, key: str, content: bytes | memoryview, expected: Any = ABSENT) -> Any:
        super().put(key, content, expected)
        return super().put(key, content, expected)


def test_a_lost_answer_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LOOK_S", 0.0)
    records = LosingRecords(Bucket())
    mine, other = Lease(records, KEY), Lease(records, KEY)
    assert mine.take()
    assert not other.take()
    before = records.get(KEY)
    monkeypatch.setattr(lease, "BEAT_S", 0.0)
    mine.beat()
    assert records.get(KEY) != before
    mine.release()
    assert other.take()
    other.release()
