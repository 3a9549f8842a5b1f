"""Machines whose clocks differ: times are compared with themselves only, never with each other."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import z5py

from blockwise.outputs import VolumeOutput
from blockwise.records.markers import DONE, Markers
from tests.runs import Project, assert_same, chunk_files

DAY = 86_400


def shift(path: Path, seconds: float) -> None:
    """Give a file the time that a machine with another clock would have given it."""
    when = time.time() + seconds
    os.utime(path, (when, when))


@pytest.mark.parametrize(
    ("who", "seconds"),
    [
        pytest.param("data", -DAY, marks=pytest.mark.soak),
        ("markers", DAY),
        pytest.param("data", DAY, marks=pytest.mark.soak),
        pytest.param("markers", -DAY, marks=pytest.mark.soak),
    ],
)
def test_data_and_markers_of_different_clocks(
    project: Project, expected: Any, monkeypatch: pytest.MonkeyPatch, who: str, seconds: float
) -> None:
    write_data, write_marker = VolumeOutput.write, Markers.write

    def skewed_data(self: VolumeOutput, block: Any, data: Any) -> str:
        checksum = write_data(self, block, data)
        for path in chunk_files(Path("result.n5") / self.address.rpartition(":")[2]):
            if abs(path.stat().st_mtime - time.time()) < DAY / 2:
                shift(path, seconds)
        return checksum

    def skewed_marker(self: Markers, marker: Any) -> None:
        write_marker(self, marker)
        shift(self.records.file(self.key(DONE, marker.block)), seconds)

    if who == "data":
        monkeypatch.setattr(VolumeOutput, "write", skewed_data)
    else:
        monkeypatch.setattr(Markers, "write", skewed_marker)
    project.change("threshold.threshold", 0.3)
    assert project.run().ok
    project.change("threshold.threshold", 0.25)
    first = project.run()
    assert first.ok
    assert first.computed
    assert_same(project.results(), expected)
    again = project.run()
    assert again.ok
    assert again.computed == again.checked == {}
    project.step("threshold").markers.remove(3)
    assert project.run().computed == {"threshold": [3]}


@pytest.mark.parametrize(
    "seconds", [-20 * 365 * DAY, *(pytest.param(one, marks=pytest.mark.soak) for one in (-3600, DAY))]
)
def test_raw_data_written_by_another_clock(project: Project, seconds: float) -> None:
    raw = z5py.File("raw.n5", mode="a")["raw"]
    before = {path: path.stat().st_mtime_ns for path in chunk_files(Path("raw.n5/raw"))}
    raw[:18, :18, :16] = 255 - np.asarray(raw[:18, :18, :16])
    written = [path for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert len(written) == 1
    shift(written[0], seconds)
    run = project.run()
    assert run.ok
    assert run.computed["prediction"][0] == 0
    assert project.run().computed == {}
