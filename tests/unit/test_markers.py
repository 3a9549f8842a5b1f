"""Markers: what counts as a finished block, and what does not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from blockwise.files import replacing
from blockwise.records import FolderRecords, open_records
from blockwise.records.markers import BLOCKS_PER_FOLDER, Failure, Marker, Markers

MARKER = Marker(7, "abc", "sum", {"raw": "r"}, "files", 1.5, 1.4, 200.0, 1, "here")
FAILURE = Failure(7, "abc", "ValueError", "odd", "Traceback ...", "log", 2, "here")


def test_written_markers_are_read_back(tmp_path: Path) -> None:
    markers = Markers(open_records(tmp_path), "abc")
    assert markers.scan() == {}
    assert markers.count() == 0
    for block in (7, BLOCKS_PER_FOLDER, 5 * BLOCKS_PER_FOLDER + 3):
        markers.write(replace(MARKER, block=block))
    assert markers.read(7) == MARKER
    assert sorted(markers.scan()) == [7, 1000, 5003]
    assert markers.count() == 3
    assert max(len(list(folder.iterdir())) for folder in (tmp_path / "done").iterdir()) == 1
    markers.remove(7)
    markers.remove(7)
    assert markers.read(7) is None


def test_a_disk_that_lets_wait_is_read_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blockwise.records.folder.WAITS", 0.0)
    monkeypatch.setattr("blockwise.records.folder.BATCH", 2)
    names = []
    read = FolderRecords._read_batch

    def noting(self: FolderRecords, keys: list[str]) -> list[bytes | None]:
        names.append(threading.current_thread().name)
        return read(self, keys)

    monkeypatch.setattr(FolderRecords, "_read_batch", noting)
    markers = Markers(open_records(tmp_path), "abc")
    wanted = {block: replace(MARKER, block=block) for block in range(0, 20 * BLOCKS_PER_FOLDER, 500)}
    for marker in wanted.values():
        markers.write(marker)
    assert markers.scan() == wanted
    assert len(names) == 20
    assert names.count(threading.main_thread().name) == 1


def test_a_finished_block_has_no_failure(tmp_path: Path) -> None:
    markers = Markers(open_records(tmp_path), "abc")
    markers.write_failure(FAILURE)
    assert markers.failures() == {7: FAILURE}
    markers.write(MARKER)
    assert markers.failures() == {}


@pytest.mark.parametrize(
    "text", ["", "{", '{"block": 7}', "[]", '{"fingerprint": "abc", "block": 7, "more": 1}', "\0"]
)
def test_a_spoilt_marker_is_none(tmp_path: Path, text: str) -> None:
    markers = Markers(open_records(tmp_path), "abc")
    markers.write(MARKER)
    path = next((tmp_path / "done").rglob("7.json"))
    path.write_text(text)
    assert markers.read(7) is None
    assert markers.scan() == {}


def test_markers_of_another_fingerprint_do_not_count(tmp_path: Path) -> None:
    Markers(open_records(tmp_path), "abc").write(MARKER)
    Markers(open_records(tmp_path), "abc").write_failure(replace(FAILURE, block=8))
    other = Markers(open_records(tmp_path), "xyz")
    assert (other.read(7), other.scan(), other.failures()) == (None, {}, {})


def test_a_rewritten_marker_is_another_version_and_no_other_block_counts(tmp_path: Path) -> None:
    """A file system may give it the inode, and the time, of the one before."""
    markers = Markers(open_records(tmp_path), "abc")
    seen = set()
    for seconds in range(1, 10):
        markers.write(replace(MARKER, seconds=float(seconds)))
        found = markers.done_among([6, 7, 8, 5003])
        assert found.keys() == {7}
        seen.add(found[7])
    assert len(seen) == 9
    markers.write_failure(replace(FAILURE, block=8))
    assert markers.failed_among([7, 8]).keys() == {8}


def test_half_written_files_are_not_seen(tmp_path: Path) -> None:
    markers = Markers(open_records(tmp_path), "abc")
    markers.write(MARKER)
    folder = next((tmp_path / "done").iterdir())
    (folder / ".8.json.123.0a1b2c3d").write_text("{")
    assert markers.count() == 1
    assert list(markers.scan()) == [7]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with replacing(path) as temporary:
        temporary.write_text("whole")
    with pytest.raises(KeyError), replacing(path) as temporary:  # noqa: PT012 - the error must come within
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
