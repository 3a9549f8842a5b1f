"""Classes of objects: ilastik's own case, from its files to its predictions, and what is done again when."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet
import pytest

from blockwise.volume import open_volume
from pipeline import ConnectedComponentsWorkflow, ObjectClassificationWorkflow
from pipeline.__main__ import main
from pipeline.running.session import end_sessions
from tests.runs import Project, Run
from tests.unit.pixel_cases import case_folder, read

CASE = "objects_2d_prediction"
FILES = ("project.ilp", "input.h5", "prediction.h5", "expected_identities.h5")
CLASSIFIED = {
    "object_features": list(range(12)), "object_classification": [0], "object_table": [0],
    "object_classes": list(range(12)),
}  # fmt: skip


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The case's files and a configuration that names no classifier, in the current folder."""
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


def classify(project: Project) -> Run:
    return project.run(workflow=ObjectClassificationWorkflow)


def stored(dataset: str) -> np.ndarray[Any, Any]:
    volume = open_volume(f"result.n5:{dataset}")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def ilastiks() -> np.ndarray[Any, Any]:
    """Probabilities of all objects, as ilastik has stored them."""
    return read(Path("project.ilp"), "ObjectClassification/CachedProbabilities/0000/0")[1:]


def test_every_object_has_ilastiks_class_and_probabilities_for_every_block_shape(case: Project) -> None:
    identities = read(Path("expected_identities.h5"), "exported_data")[..., 0]
    expected = np.concatenate([[0], 1 + ilastiks().argmax(axis=1)])
    for blocks in ([64, 64], [180, 220], [37, 101]):
        case.change("blocks", {"shape": blocks, "chunks": blocks})
        run = classify(case)
        assert run.ok, run.text
        np.testing.assert_array_equal(stored("object_classes"), expected[identities])
        table = pyarrow.parquet.read_table("work/objects.parquet").to_pydict()
        assert table["object_class"] == expected[1:].tolist()
        found = np.stack([table["object_probability_1"], table["object_probability_2"]], axis=1)
        np.testing.assert_array_equal(found.astype(np.float32), ilastiks())
        names = [["", "small", "large"][number] for number in expected[1:]]
        assert table["object_class_name"] == names
    assert classify(case).computed == {}
