"""What every home of records must do: a folder, and whatever comes beside it (``record_homes``)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import DiskFullError, UserError
from blockwise.records import ABSENT, Records, read_json, write_json
from blockwise.transient import is_transient
from tests.contract.record_crowd import CROWD, create_and_count
from tests.contract.record_homes import FolderHome, Home, MemoryHome, home, make_home
from tests.examples import examples

__all__ = ["home", "make_home"]

LARGE = bytes(range(256)) * 12_000


@pytest.fixture
def records(home: Home) -> Records:
    return home.records


def listed(records: Records, prefix: str = "") -> list[str]:
    return sorted(records.keys(prefix))


# One record.


@pytest.mark.parametrize("content", [b"", b"text\n", b"\0\xff" * 10, LARGE])
def test_a_record_is_read_as_it_was_written(records: Records, content: bytes) -> None:
    assert records.put("step/mark/1.json", b"something else, and longer than most of them") is not None
    version = records.put("step/mark/1.json", memoryview(content))
    assert records.get("step/mark/1.json") == content
    assert records.version("step/mark/1.json") == version
    assert records.file("step/mark/1.json").read_bytes() == content
    assert list(records.get_many(["step/mark/1.json"])) == [("step/mark/1.json", content)]


@pytest.mark.parametrize("key", ["none", "none/1", "there/1/2", "there"])
def test_what_is_absent(records: Records, key: str) -> None:
    records.put("there/1", b"1")
    assert (records.get(key), records.version(key), records.state(key)) == (None,) * 3
    assert (records.versions([key]), records.states([key]), list(records.get_many([key]))) == ({}, {}, [])
    records.delete(key)
    with pytest.raises(FileNotFoundError):
        records.file(key)
    assert records.get("there/1") == b"1"


def test_deleted_records_are_gone(records: Records) -> None:
    for key in ("a/1", "a/2", "a/3"):
        records.put(key, b"")
    records.delete("a/1", "a/3", "a/none")
    assert listed(records) == ["a/2"]


def test_what_must_be_absent_is_written_once(records: Records) -> None:
    first = records.put("a/.lock", b"first", ABSENT)
    assert first is not None
    assert records.put("a/.lock", b"second", ABSENT) is None
    assert (records.get("a/.lock"), records.version("a/.lock")) == (b"first", first)
    records.delete("a/.lock")
    assert records.put("a/.lock", b"third", ABSENT) is not None
    assert records.get("a/.lock") == b"third"


def test_only_the_expected_version_is_replaced(records: Records) -> None:
    first = records.put("a", b"first")
    assert first is not None
    assert records.put("none", b"", first) is None
    assert records.get("none") is None
    second = records.put("a", b"other", first)
    assert second not in (None, first)
    assert records.put("a", b"third", first) is None
    assert (records.get("a"), records.version("a")) == (b"other", second)
    assert records.put("a", b"third", second) is not None
    assert listed(records) == ["a"]


def test_versions_tell_contents_from_each_other(home: Home) -> None:
    """However quickly they follow, and of whatever length: a folder gives inodes and ticks of its clock again."""
    records = home.records
    contents: dict[Any, bytes] = {}
    for number in range(5 * home.many):
        content = f"{number % 7}".encode()
        version = records.put("a", content)
        assert version == records.version("a") == records.versions(["a"])["a"]
        assert contents.setdefault(version, content) == content


def test_a_state_changes_with_what_is_written(records: Records) -> None:
    records.put("a", b"1")
    state = records.state("a")
    assert isinstance(state, str)
    assert records.state("a") == state
    assert records.states(["none", "a"]) == {"a": state}
    records.put("a", b"12")
    assert records.state("a") != state


def test_a_file_is_written_elsewhere_first(records: Records) -> None:
    records.put("a/1", b"old")
    with records.writing("a/1") as path:
        path.write_bytes(b"new")
        assert (listed(records), records.get("a/1")) == (["a/1"], b"old")
    assert records.get("a/1") == b"new"
    with pytest.raises(KeyError), records.writing("a/1") as path:  # noqa: PT012 - the error must come within
        path.write_bytes(b"half")
        raise KeyError
    with records.writing("b/2") as path:
        path.write_bytes(LARGE)
    assert (listed(records), records.get("a/1"), records.get("b/2")) == (["a/1", "b/2"], b"new", LARGE)


def test_a_file_is_mapped_and_stays(records: Records) -> None:
    array = np.arange(100_000)
    with records.writing("table.npy") as path, path.open("wb") as file:
        np.save(file, array)
    mapped = np.load(records.file("table.npy"), mmap_mode="r")
    records.put("table.npy", b"another one")
    assert np.array_equal(mapped, array)


def test_json(records: Records) -> None:
    assert read_json(records, "a") is None
    write_json(records, "a", {"b": [1]})
    assert records.get("a") == b'{\n "b": [\n  1\n ]\n}\n'
    assert read_json(records, "a") == {"b": [1]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(records, "a", {"a": float("nan")})
    assert read_json(records, "a") == {"b": [1]}
    for text in (b"", b"{", b"[]", b"\xff"):
        records.put("a", text)
        assert read_json(records, "a") is None


# Many records.


def test_prefixes_end_at_a_slash(records: Records) -> None:
    keys = ["don", "done/000000/1.json", "done/000000/2.json", "done/000001/1000.json", "done2/1", "failed/000000/3"]
    for key in (*keys, "done/.hidden", ".old/1"):
        records.put(key, key.encode())
    assert listed(records) == sorted(keys)
    assert listed(records, "done") == [key for key in keys if key.startswith("done/")]
    assert listed(records, "done/000000") == keys[1:3]
    assert listed(records, "none") == listed(records, "do") == []
    assert records.children() == ["done", "done2", "failed"]
    assert records.children("done") == ["000000", "000001"]
    assert records.children("none") == records.children("done/000000") == []
    assert sorted(records.get_many(keys[::-1])) == sorted((key, key.encode()) for key in keys)
    assert records.matching("done/*/*", "failed/*/3", "done") == [*keys[1:4], keys[5]]
    assert records.matching("*") == ["don"]
    assert records.versions(["done/000000/2.json", "none", "done/.hidden"]).keys() == {
        "done/000000/2.json",
        "done/.hidden",
    }


def test_records_below_a_prefix_are_a_world_of_their_own(records: Records) -> None:
    inner = records.below("step").below("ab12")
    inner.put("done/1", b"1")
    assert records.get("step/ab12/done/1") == b"1"
    assert (listed(inner), inner.children()) == (["done/1"], ["done"])
    assert inner.place("done/1") == records.place("step/ab12/done/1")
    records.put("step/ab/done/2", b"2")
    records.put("other", b"3")
    assert listed(inner) == ["done/1"]
    assert records.holds("step/ab12")
    assert not records.holds("step/a")
    with pytest.raises(ValueError, match="is no key"):
        inner.get("../ab/done/2")


KEYS_OUTSIDE = ["..", "../a", "a/../../b", "/etc/passwd", "", "a//b", "a/", ".", "./a", "a/./b", "a/..", "a\0b"]


@pytest.mark.parametrize("key", KEYS_OUTSIDE)
def test_no_key_leads_out(records: Records, key: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: records.get(key),
        lambda: records.put(key, b""),
        lambda: records.put(key, b"", ABSENT),
        lambda: records.delete(key),
        lambda: records.version(key),
        lambda: records.file(key),
        lambda: list(records.get_many([key])),
        lambda: records.versions([key]),
        lambda: records.below(key),
        lambda: records.clear(key),
        lambda: records.writing(key).__enter__(),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is no key"):
            call()


def test_odd_names_are_keys(records: Records) -> None:
    keys = ["a..b", "a.b/c..", "a/...", "ä/ß 1", "a b/%2e%2e", ".hidden/..x"]
    for key in keys:
        records.put(key, key.encode())
    assert [records.get(key) for key in keys] == [key.encode() for key in keys]


def test_clearing_takes_what_is_below_and_no_more(records: Records) -> None:
    for key in ("a/b/1", "a/b/c/2", "a/b/.hidden", "a/bc/3", "a/4"):
        records.put(key, b"")
    records.clear("a/b")
    records.clear("a/none")
    records.clear("none/at/all")
    assert listed(records) == ["a/4", "a/bc/3"]
    assert records.get("a/b/.hidden") is None
    records.put("a/b/1", b"again")
    assert listed(records, "a/b") == ["a/b/1"]


def test_many_are_read(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blockwise.records.folder.BATCH", 7)
    for waits in (0.0, 1e9):  # as from a disk that lets wait, and from one that does not
        monkeypatch.setattr("blockwise.records.folder.WAITS", waits)
        contents = {f"{number % 3}/{number}": f"{number}".encode() for number in range(40)}
        for key, content in contents.items():
            records.put(key, content)
        found = list(records.get_many([*contents, "none"]))
        assert (dict(found), len(found)) == (contents, 40)


KEYS = [f"{a}/{b}/{c}" for a in "xy" for b in "mn" for c in "12"] + ["x/top", "last"]
ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.binary(max_size=3)),
    st.tuples(st.just("create"), st.sampled_from(KEYS), st.binary(max_size=3)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS), st.just(b"")),
    st.tuples(st.just("clear"), st.sampled_from(["x", "y", "x/m", "y/n", "z"]), st.just(b"")),
)


@settings(max_examples=examples(25), deadline=None)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_it_is_like_a_dictionary(actions: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    for kind in (FolderHome, MemoryHome):
        play(kind(tmp_path_factory.mktemp("home")).records, actions)


def test_a_store_is_like_a_dictionary(home: Home) -> None:
    """Each request takes its time, so this is one long story."""
    dice = random.Random(5)
    kinds = ["put", "put", "create", "delete", "clear"]
    actions = [(dice.choice(kinds), dice.choice(KEYS), dice.randbytes(2)) for _ in range(2 * home.many)]
    play(home.records, [(kind, key[0] if kind == "clear" else key, content) for kind, key, content in actions])


def play(records: Records, actions: list[Any]) -> None:
    expected: dict[str, bytes] = {}
    for action, key, content in actions:
        if action == "put":
            records.put(key, content)
            expected[key] = content
        elif action == "create":
            assert (records.put(key, content, ABSENT) is None) == (key in expected)
            expected.setdefault(key, content)
        elif action == "delete":
            records.delete(key)
            expected.pop(key, None)
        else:
            records.clear(key)
            expected = {name: value for name, value in expected.items() if not name.startswith(f"{key}/")}
        assert dict(records.get_many(records.keys())) == expected
        assert records.versions(KEYS).keys() == expected.keys()
        assert {"x", "y"} & set(records.children()) >= {key[0] for key in expected if key != "last"}


# Several at once, and what goes wrong.


def test_several_at_once(home: Home) -> None:
    home.crowd(create_and_count)
    winner = home.records.get("first")
    assert winner is not None
    assert listed(home.records, "won") == [f"won/{winner.decode()}"]
    assert home.records.get("counter") == b"%d" % (home.many * CROWD)
    ready = [f"ready/{number}" for number in range(CROWD)]
    assert listed(home.records) == sorted(["counter", "first", "whole", f"won/{winner.decode()}", *ready])


def test_what_does_not_fit_leaves_all_as_it_was(home: Home) -> None:
    with home.full() as records:
        version = records.version("kept")
        assert version is not None
        for put in (
            lambda: records.put("kept", LARGE),
            lambda: records.put("new", LARGE),
            lambda: records.put("new", LARGE, ABSENT),
            lambda: records.put("kept", LARGE, version),
        ):
            with pytest.raises(DiskFullError, match=r"kept|new"):
                put()
        with pytest.raises(DiskFullError, match="new"), records.writing("new") as path:
            path.write_bytes(LARGE)
        assert records.get("kept") == b"kept"
        assert records.put("kept", b"again", version) is not None
        records.put("kept", b"kept")


def test_trouble_is_no_absence(home: Home) -> None:
    records = home.records
    records.put("a/1", b"1")
    calls: list[Callable[[], Any]] = [
        lambda: records.get("a/1"),
        lambda: records.get("none"),
        lambda: list(records.get_many(["a/1"])),
        lambda: list(records.keys("a")),
        lambda: records.children(),
        lambda: records.versions(["a/1"]),
        lambda: records.version("a/1"),
        lambda: records.put("a/1", b"", ABSENT),
    ]
    errors: list[BaseException] = []
    with home.in_trouble():
        for call in calls:
            try:
                call()
            except (OSError, UserError) as error:
                errors.append(error)
    assert len(errors) == len(calls)
    assert all(map(is_transient, errors)), errors
    assert records.get("a/1") == b"1"


def test_settling_keeps_everything(records: Records) -> None:
    records.put("a/1", b"1")
    records.settle("a/1")
    records.settle()
    assert records.get("a/1") == b"1"
