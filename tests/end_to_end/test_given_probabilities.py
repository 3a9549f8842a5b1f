"""Probabilities that are given in place of a prediction: ilastik's own case, from its files to its numbers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline.__main__ import main
from pipeline.batch.manifest import load_batch
from pipeline.running.session import end_sessions
from tasks.given_prediction import normalized
from tests.runs import Project
from tests.unit.pixel_cases import case_folder, read

CASE = "objects_2d_prediction"
FILES = ("project.ilp", "input.h5", "prediction.h5", "expected_identities.h5")


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The case's files and a configuration, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for file in FILES:
        shutil.copy(case_folder(CASE) / file, file)
    project = Project(tmp_path)
    project.write(
        {
            "work_dir": "work",
            "raw": "input.h5:data",
            "output": "result.n5",
            "blocks": {"shape": [64, 64]},
            "prediction": {"project": "project.ilp", "probabilities": "prediction.h5:exported_data"},
            "threshold": "project",
        }
    )
    yield project
    end_sessions()


def stored(dataset: str) -> np.ndarray[Any, Any]:
    volume = open_volume(f"result.n5:{dataset}")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def test_the_reference_case_from_its_files_to_its_numbers(given: Project, capsys: pytest.CaptureFixture[str]) -> None:
    expected = read(Path("expected_identities.h5"), "exported_data")[..., 0]
    for blocks in ([64, 64], [180, 220], [37, 101]):
        given.change("blocks", {"shape": blocks, "chunks": blocks})
        run = given.run()
        assert run.ok, run.text
        np.testing.assert_array_equal(stored("connected_components"), expected)
    assert given.run().computed == {}
    np.testing.assert_array_equal(
        np.moveaxis(stored("probabilities"), 0, -1), read(Path("prediction.h5"), "exported_data")
    )
    assert main(["verify", "--config", "config.yaml"]) == 0
    assert main(["status", "--config", "config.yaml"]) == 0
    with h5py.File("prediction.h5", "r+") as file:
        file["exported_data"][:20, :20] = 0
    assert "prediction" in given.run().computed, "what was given has changed"
    capsys.readouterr()
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    assert sorted(path.name for path in Path().iterdir()) == sorted([*FILES, "config.yaml"])


def test_values_are_divided_by_the_range_that_the_dataset_names(given: Project) -> None:
    maps = read(Path("prediction.h5"), "exported_data")
    with h5py.File("prediction.h5", "r+") as file:
        tags = file["exported_data"].attrs["axistags"]
        del file["exported_data"]
        file["exported_data"] = np.rint(maps * 100).astype(np.uint16)
        file["exported_data"].attrs.update({"axistags": tags, "drange": [0.0, 100.0]})
    assert given.run().ok
    expected = read(Path("expected_identities.h5"), "exported_data")[..., 0]
    np.testing.assert_array_equal(stored("connected_components"), expected)


def test_ranges_of_types_that_name_none() -> None:
    np.testing.assert_array_equal(normalized(np.array([0, 51, 255], np.uint8), None), np.float32([0, 0.2, 1]))
    np.testing.assert_array_equal(normalized(np.array([0, 51], np.uint16), None), np.float32([0, 51]))
    np.testing.assert_array_equal(normalized(np.float32([-1, 0.5]), (-1, 2)), np.float32([0, 0.5]))


def add(name: str, value: Any) -> None:
    with h5py.File("prediction.h5", "r+") as file:
        file["exported_data"].attrs[name] = value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("prediction.probabilities", None, "classifies objects of probabilities that are given, not pixels"),
        ("prediction.probabilities", "input.h5:data", "has 1 channels, but project"),
        ("raw", "other.h5:data", "has the axes yxc, shape .180, 220, 3.; the raw volume has yx, shape .90, 220."),
    ],
)
def test_what_does_not_fit_is_refused(given: Project, key: str, value: Any, said: str) -> None:
    if "channels" in said:
        given.change("prediction.project", str(case_folder("2d_rgb_u8_3class") / "project.ilp"))
    with h5py.File("other.h5", "w") as file:
        file["data"] = read(Path("input.h5"), "data")[:90]
    given.change(key, value)
    with pytest.raises(UserError, match=said):
        given.steps()


def test_a_range_that_is_none_is_refused(given: Project) -> None:
    add("drange", [1.0, 1.0])
    with pytest.raises(UserError, match="its attribute drange is"):
        given.steps()


def test_values_that_are_no_probabilities_become_no_bytes(given: Project) -> None:
    given.change("prediction.dtype", "uint8")
    add("drange", [0.0, 0.5])
    run = given.run()
    assert not run.ok
    assert "values reach from 0 to 2" in run.text


def test_a_batch_has_none(given: Project) -> None:
    given.change("raw", {})
    given.change("output", "{name}.n5")
    given.change("batch", {"files": "input.h5"})
    with pytest.raises(UserError, match="is for one volume, not for a batch"):
        load_batch("config.yaml", None)
