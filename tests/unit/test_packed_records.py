"""Markers in packs: several write and delete at once, and what one has finished no other loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.records import packed
from blockwise.records.markers import Failure, Marker, Markers
from blockwise.records.packed import PACKS, PackedRecords
from tests.contract.memory_records import Bucket, MemoryRecords

KEYS = [
    f"{kind}/{group}/{name}.json" for kind in ("done", "failed") for group in ("000000", "000001") for name in "12"
]
ACTIONS = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["put", "delete", "forget", "restart"]),
    st.sampled_from(KEYS),
    st.integers(0, 9),
)


class PackedMemory(MemoryRecords):
    """A memory that packs small records, as stores do."""

    def packed(self) -> PackedRecords:
        return PackedRecords(self)


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=30))
def test_several_writers_are_like_one_dictionary(actions: list[Any]) -> None:
    bucket = Bucket()
    writers = [PackedRecords(MemoryRecords(bucket)) for _ in range(3)]
    expected: dict[str, bytes] = {}
    for number, action, key, value in actions:
        writer = writers[number]
        if action == "restart":  # killed, and begun anew
            writers[number] = PackedRecords(MemoryRecords(bucket))
            continue
        writer.get(key)  # whoever writes has looked before
        if action == "put":
            expected[key] = b"%d" % value
            writer.put(key, expected[key])
        else:
            getattr(writer, action)(key)
            expected.pop(key, None)
        for one in writers:
            assert {key: one.get(key) for key in KEYS if one.get(key) is not None} == expected
        assert dict(writers[0].get_many(KEYS)) == expected
        assert set(writers[1].keys("done")) == {key for key in expected if key.startswith("done/")}
        assert writers[2].versions(KEYS).keys() == expected.keys()


def test_a_pack_ends_where_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "ENTRIES", 10)
    records = MemoryRecords(Bucket())
    writer = PackedRecords(records)
    for number in range(95):
        writer.put(f"done/000000/{number}.json", b"{}")
    assert len(list(records.keys(PACKS))) == 10 + packed.FORMER
    other = PackedRecords(records)
    assert len(list(other.keys("done"))) == 95
    other.delete(*(f"done/000000/{number}.json" for number in range(0, 95, 2)))
    assert sorted(writer.keys("done")) == sorted(f"done/000000/{number}.json" for number in range(1, 95, 2))


def test_a_record_that_was_written_meanwhile_is_not_forgotten() -> None:
    records = MemoryRecords(Bucket())
    planner, worker = PackedRecords(records), PackedRecords(records)
    worker.put("done/000000/1.json", b'"old"')
    version = planner.versions(["done/000000/1.json"])
    worker.delete("done/000000/1.json")
    worker.put("done/000000/1.json", b'"new"')
    planner.forget("done/000000/1.json")  # what it has seen is the old one
    assert worker.get("done/000000/1.json") == planner.get("done/000000/1.json") == b'"new"'
    assert planner.versions(["done/000000/1.json"]) != version


def test_what_was_cleared_does_not_come_back() -> None:
    """A writer of another machine goes on after the step was begun anew."""
    records = MemoryRecords(Bucket())
    writer = PackedRecords(records)
    writer.put("done/000000/1.json", b"{}")
    records.clear(PACKS)
    assert writer.get("done/000000/1.json") is None
    writer.put("done/000000/2.json", b"{}")
    assert list(PackedRecords(records).keys()) == ["done/000000/2.json"]


def test_a_writer_that_is_killed_between_two_requests_leaves_both_objects() -> None:
    bucket = Bucket()
    records = MemoryRecords(bucket)
    writer = PackedRecords(records)
    writer.put("done/000000/1.json", b"1")
    former = dict(bucket.objects)
    writer.delete("done/000000/1.json")
    writer.put("done/000000/2.json", b"2")
    bucket.objects.update(former)
    assert list(PackedRecords(records).get_many(["done/000000/1.json", "done/000000/2.json"])) == [
        ("done/000000/2.json", b"2")
    ]


class LosingRecords(MemoryRecords):
    """A store whose answer to the next write is lost, after it has written."""

    loses = False

    def put(self, key: str, content: bytes | memoryview, expected: Any = packed) -> Any:
        super().put(key, content)
        if self.loses:
            self.loses = False
            raise TimeoutError


def test_a_write_of_which_nobody_knows_whether_it_was_done_harms_nobody() -> None:
    records = LosingRecords(Bucket())
    writer = PackedRecords(records)
    writer.put("done/000000/1.json", b"1")
    records.loses = True
    with pytest.raises(TimeoutError):
        writer.put("done/000000/2.json", b"2")
    assert PackedRecords(records).get("done/000000/1.json") == b"1"
    writer.get("done/000000/2.json")
    writer.put("done/000000/2.json", b"3")
    writer.put("done/000000/4.json", b"4")
    found = PackedRecords(records)
    assert [found.get(f"done/000000/{n}.json") for n in (1, 2, 4)] == [b"1", b"3", b"4"]


def test_a_pack_that_is_rewritten_while_it_is_read_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    records = MemoryRecords(Bucket())
    writer, reader = PackedRecords(records), PackedRecords(records)
    writer.put("done/000000/1.json", b"1")
    listing = records.keys
    rewritten = []

    def late(prefix: str = "") -> Any:
        found = list(listing(prefix))
        for _ in range(packed.FORMER + 1 if len(rewritten) < 3 * packed.FORMER else 0):
            rewritten.append(writer.put(f"done/000000/{len(rewritten) + 2}.json", b"2"))
        return iter(found)

    monkeypatch.setattr(reader.records, "keys", late)
    writer.records = MemoryRecords(records.bucket)
    assert reader.get("done/000000/1.json") == b"1"
    assert len(rewritten) == 3 * (packed.FORMER + 1)


def test_markers_and_failures_in_packs(tmp_path: Path) -> None:
    bucket = Bucket()
    markers = Markers(PackedMemory(bucket), "abc")
    marker = Marker(2005, "abc", "c" * 32, {"raw": "s"}, "f", 1.0, 0.5, 100.0, 1, "host")
    failure = Failure(2005, "abc", "ValueError", "no", "", "log", 1, "host")
    markers.write_failure(failure)
    assert markers.failures() == {2005: failure}
    markers.write(marker)
    other = Markers(PackedMemory(bucket), "abc")
    assert (other.read(2005), other.failures(), other.count()) == (marker, {}, 1)
    assert Markers(PackedMemory(bucket), "xyz").read(2005) is None
    assert other.read_many([2005, 7]) == {2005: marker}
    assert other.done_among([1, 2005]).keys() == {2005}
    *_, key = sorted(MemoryRecords(bucket).keys(PACKS))
    assert key.startswith("packs/000002/")
    assert json.loads(MemoryRecords(bucket).get(key) or b"")["entries"]
    bucket.objects = {key: (b"{", 1, 0.0)}
    assert Markers(PackedMemory(bucket), "abc").scan() == {}
