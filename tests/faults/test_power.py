"""After the power has failed: what may not have reached the disk is read back before it counts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from blockwise.trust import durability
from tests.faults.test_checkpoints import ALL
from tests.runs import Project, Run, assert_same, chunk_files, dataset_folder


class PowerLossError(BaseException):
    """Ends the process, as a test can."""


@pytest.fixture
def half_done(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A run that was cut off in its threshold: five of eight blocks have markers."""
    project.change("threshold.threshold", 0.3)

    class Cut:
        def __init__(self, run: Run) -> None:
            self.run_ = run

        def take_over(self, step: Any) -> None: ...

        def clear(self, step: Any) -> None: ...

        def run(self, step: Any, items: Any, referee: Any, report: Any) -> None:
            from blockwise.worker import Worker

            worker = Worker(step, "no log")
            for item in items[:5]:
                assert worker.run(item, 1).state == "computed"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.run(Cut)
    return project


def rot(path: Path) -> None:
    """What never reached the disk: other bytes, under the size and time that the directory knows."""
    times = path.stat()
    path.write_bytes(bytes(times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change_detection", ["files", pytest.param("metadata", marks=pytest.mark.soak)])
def test_blocks_that_may_not_have_reached_the_disk_are_checked(
    half_done: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change_detection: str
) -> None:
    half_done.change("change_detection", change_detection)
    rot(chunk_files(dataset_folder(half_done, "thresholded"))[0])
    monkeypatch.setattr(durability, "boot_id", lambda: "another boot")
    run = half_done.run()
    assert run.ok, run.text
    assert "this machine went down while blocks were being written: 5 of 8 finished blocks are checked" in run.text
    assert len(run.checked["threshold"]) == 4
    assert len(run.computed["threshold"]) == 4
    assert "prediction" not in {*run.checked, *run.computed}, "a finished step is safe"
    found = half_done.results()
    half_done.change("threshold.threshold", 0.25)
    assert half_done.run().ok
    half_done.change("threshold.threshold", 0.3)
    assert half_done.run().computed["threshold"] == ALL
    assert_same(half_done.results(), found)


def test_nothing_is_checked_where_the_machine_stayed_up(half_done: Project) -> None:
    run = half_done.run()
    assert run.ok
    assert run.checked == {}
    assert len(run.computed["threshold"]) == 3
    assert not list(Path("work").rglob(durability.UNSETTLED))
