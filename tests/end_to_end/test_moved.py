"""Names that decide about no voxel: the raw volume's place, and what a project calls its classes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import z5py

from pipeline.__main__ import main
from tests.runs import Project, assert_same


def rename_classes(project: Project, *names: str) -> None:
    with h5py.File(project.folder / "membranes.ilp", "a") as file:
        file["PixelClassification/LabelNames"][...] = np.array([name.encode() for name in names], dtype=object)


def as_hdf5(project: Project, path: str) -> None:
    """Have a project read one HDF5 file."""
    Path(path).parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = z5py.File("raw.n5", "r")["raw"][:]
    project.change("raw", f"{path}:data")


def test_a_moved_volume_is_known_again(unused: Project, expected: dict[str, Any]) -> None:
    assert unused.run().ok
    os.rename("raw.n5", "other.n5")
    for address in ("other.n5:raw", f"{unused.folder}/other.n5:raw"):  # by another path, too
        unused.change("raw", address)
        run = unused.run()
        assert (run.ok, run.computed, run.checked) == (True, {}, {}), run.text
    Path("link.n5").symlink_to("other.n5")
    unused.change("raw", "link.n5:raw")
    assert unused.run().computed == {}
    assert_same(unused.results(), expected)

    # It is the same volume still: of a chunk that changes, what depends on it is done again, and nothing else.
    chunk = next(path for path in sorted(Path("other.n5/raw/0/0").iterdir()))
    os.utime(chunk, ns=(1, 1))
    run = unused.run()
    assert run.ok
    assert 0 < len(run.computed["prediction"]) < 8
    assert "raw has changed below" in run.text


@pytest.mark.soak
def test_plan_says_under_which_name_a_moved_volume_is_known(
    unused: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    as_hdf5(unused, "here/raw.h5")
    assert unused.run().ok
    os.rename("here", "there")
    unused.change("raw", "there/raw.h5:data")
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert "results know it as here/raw.h5:data" in " ".join(capsys.readouterr().out.split())
    assert unused.run().computed == {}


def test_another_volume_is_not_taken_for_the_same(unused: Project) -> None:
    """Of the same size, with the same times, and where the file system gives it the same inode."""
    as_hdf5(unused, "a.h5")
    os.utime("a.h5", ns=(0, 0))
    assert unused.run().ok
    with h5py.File("b.h5", "w") as file:
        file["data"] = z5py.File("raw.n5", "r")["raw"][:]
        file["data"][18, 18, 60:64] += 1
    with Path("a.h5").open("rb+") as file:  # as if a.h5 had been deleted, and b.h5 had got its inode
        file.write(Path("b.h5").read_bytes())
    os.rename("a.h5", "b.h5")
    os.utime("b.h5", ns=(0, 0))
    unused.change("raw", "b.h5:data")
    run = unused.run()
    assert run.ok
    assert len(run.computed["prediction"]) == 8


@pytest.mark.soak
def test_of_a_copy_the_user_says_that_it_is_one(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert unused.run().ok
    shutil.copytree("raw.n5", "copy.n5")  # with the times
    shutil.rmtree("raw.n5")
    unused.change("raw", "copy.n5:raw")
    assert main(["plan", "--config", "config.yaml"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "inputs.raw.address: raw.n5:raw -> copy.n5:raw" in text
    assert "set raw.moved_from: raw.n5:raw" in text
    unused.change("raw", {"path": "copy.n5", "key": "raw", "moved_from": "raw.n5:raw"})
    assert unused.run().computed == {}
    unused.change("raw", {"path": "copy.n5", "key": "raw"})  # it is known by now
    assert unused.run().computed == {}


@pytest.mark.soak
def test_names_of_classes_decide_about_nothing(
    unused: Project, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert unused.run().ok
    rename_classes(unused, "inside", "wall")
    run = unused.run()
    assert (run.ok, run.computed) == (True, {}), run.text
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert "class names have changed" in " ".join(capsys.readouterr().out.split())
    unused.change("threshold.class", "wall")  # the class 1 of before
    assert unused.run().computed == {}
    assert_same(unused.results(), expected)
    unused.change("threshold.class", "inside")
    assert len(unused.run().computed["threshold"]) == 8


@pytest.mark.soak
def test_with_other_names_a_block_is_still_computed(unused: Project, expected: dict[str, Any]) -> None:
    assert unused.run().ok
    rename_classes(unused, "inside", "wall")
    os.utime("raw.n5/raw/0/0/0", ns=(1, 1))
    run = unused.run()
    assert run.ok, run.text
    assert run.computed["prediction"]
    assert "threshold" not in run.computed
    assert_same(unused.results(), expected)


@pytest.mark.soak
def test_a_damaged_record_of_names_costs_no_result(unused: Project) -> None:
    assert unused.run().ok
    for content in ("", "[]", '{"raw": 3, "project": {"classes": 4, "content": 5}}'):
        Path("work/known.json").write_text(content)
        assert unused.run().computed == {}
