"""Records in a folder: their layout, and what a folder does that no other home does."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from blockwise.identity import digest
from blockwise.records import ABSENT, FolderRecords
from blockwise.records.file_versions import YOUNG_S
from blockwise.records.folder import DOOMED, SILENCE_S


def test_a_key_is_a_path(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path)).below("work")
    records.put("step/ab/done/1.json", b"{}")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "work/step/ab/done/1.json"
    ]
    assert records.file("step/ab/done/1.json") == tmp_path / "work/step/ab/done/1.json"
    assert oct((tmp_path / "work/step/ab/done/1.json").stat().st_mode & 0o777) == oct(0o666 & ~mask())


def mask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def test_what_is_being_written_is_not_listed(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path))
    records.put("done/7.json", b"")
    (tmp_path / "done" / ".8.json.123.0a1b2c3d").write_text("{")
    assert list(records.keys()) == ["done/7.json"]


def test_a_rewritten_file_with_the_inode_and_time_of_the_old_one_is_another_version(tmp_path: Path) -> None:
    """An inode is used again at once, and a clock ticks every few milliseconds."""
    records = FolderRecords(str(tmp_path))
    first = records.put("a", b"one")
    before = os.stat(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"two")
    os.utime(tmp_path / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(tmp_path / "a").st_ino == before.st_ino
    assert first is not None
    assert records.version("a") != first
    assert records.versions(["a"])["a"] != first
    assert records.put("a", b"new", first) is None
    assert records.renew("a", first) is None


def test_old_files_are_not_opened_to_list_their_versions(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path))
    young = records.put("a", b"one")
    when = time.time() - 2 * YOUNG_S
    os.utime(tmp_path / "a", (when, when))
    opened: list[str] = []
    watching = threading.local()
    watching.on = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and getattr(watching, "on", False) and str(arguments[0]) == str(tmp_path / "a"):
            opened.append(event)

    sys.addaudithook(watch)
    old = records.versions(["a"])
    watching.on = False
    assert opened == []
    assert old == {"a": records.version("a")} != {"a": young}


def test_the_right_of_a_dead_process_is_removed_after_a_while(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path))
    version = records.put("a", b"one")
    assert version is not None
    right = tmp_path / f".a.{digest(version)[:12]}"
    right.write_text(version)
    assert records.put("a", b"two", version) is None
    assert right.exists()
    when = time.time() - 2 * SILENCE_S
    os.utime(right, (when, when))
    assert records.put("a", b"two", version) is None
    assert not right.exists()
    assert records.put("a", b"two", version) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_what_a_broken_off_removal_has_left_goes_with_the_next(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path))
    for folder in (f"{DOOMED}ab", f"{DOOMED}cd", "ab"):
        (tmp_path / "step" / folder).mkdir(parents=True)
        (tmp_path / "step" / folder / "identity.json").write_text("{}")
    records.put("step/ef/1", b"")
    assert records.children("step") == ["ab", "ef"]
    records.clear("step/ab")
    assert [path.name for path in (tmp_path / "step").iterdir()] == ["ef"]


def test_an_absent_record_is_made_where_there_is_no_folder(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path / "not" / "there"))
    assert records.put("a/b", b"1", ABSENT) is not None
    assert [path.name for path in (tmp_path / "not/there/a").iterdir()] == ["b"]


def test_a_file_system_without_links_has_one_winner_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    records = FolderRecords(str(tmp_path))
    first = records.put("a", b"1", ABSENT)
    assert first is not None
    assert records.put("a", b"2", ABSENT) is None
    assert records.put("a", b"3", first) is not None
    assert records.get("a") == b"3"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_is_made_for_what_is_expected_in_vain(tmp_path: Path) -> None:
    version = FolderRecords(str(tmp_path)).put("a", b"1")
    assert version is not None
    assert FolderRecords(str(tmp_path)).put("step/ab/1", b"", version) is None
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_loop_of_links_is_no_absence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    records = FolderRecords(str(tmp_path))
    with pytest.raises(OSError, match="symbolic links"):
        records.get("loop")


def test_a_record_grows_old_and_is_renewed(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path))
    first = records.put("a", b"alive")
    assert first is not None
    make_old(tmp_path / "a")
    age, old = records.age_s("a"), records.version("a")
    assert age is not None
    assert old is not None
    assert 990 < age < 1100
    renewed = records.renew("a", old)
    assert renewed is not None
    assert (records.get("a"), records.version("a")) == (b"alive", renewed)
    age = records.age_s("a")
    assert age is not None
    assert -1 < age < 100
    records.put("a", b"another's")
    assert records.renew("a", renewed) is None
    assert records.get("a") == b"another's"
    records.delete("a")
    assert records.renew("a", renewed) is None
    assert records.age_s("a") is None
    assert list(records.keys()) == []


def test_an_old_version_is_replaced(tmp_path: Path) -> None:
    records = FolderRecords(str(tmp_path))
    records.put("a", b"first")
    make_old(tmp_path / "a")
    version = records.version("a")
    assert version is not None
    assert records.put("a", b"second", version) is not None
    assert records.put("a", b"third", version) is None


def make_old(path: Path) -> None:
    when = time.time() - 1000
    os.utime(path, (when, when))
