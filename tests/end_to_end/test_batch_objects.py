"""Features and classes of objects in a batch: those of each image's own workflow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from blockwise.volume import open_volume
from pipeline import ObjectClassificationWorkflow
from pipeline.running.session import end_sessions
from tests.batches import CONFIG, results, run_here, write_config, write_images
from tests.runs import Project, run_luigi
from tests.unit.pixel_cases import with_objects

pytestmark = pytest.mark.usefixtures("batch_folder")

COLUMNS = 15
"""Of the features of the reference case's classifier, in flat images with three channels."""
OBJECTS = {"features": ["Mean in neighborhood", "RegionAxes", "Kurtosis"], "classifier": "project"}
FILES = ("objects.csv", "objects.parquet")


def write_project(path: str = "project.ilp") -> None:
    """A project that classifies pixels and objects."""
    with_objects(Path(path), COLUMNS)


def results_of(name: str) -> dict[str, Any]:
    """All that is known of an image's objects."""
    tables = {file: Path(f"work/images/{name}/{file}").read_bytes() for file in FILES}
    return results(name) | tables | {"object_classes": classes(f"out/{name}.n5")}


def classes(container: str) -> NDArray[Any]:
    volume = open_volume(f"{container}:object_classes")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.soak
def test_objects_have_the_features_and_classes_of_each_images_own_workflow() -> None:
    write_project()
    write_images(2)
    write_config(connected_components=OBJECTS)
    run, workflow = run_here()
    assert run.ok, run.text
    assert run.computed == {"images": [0, 1]}
    assert workflow.complete()
    found = {name: results_of(name) for name in ("cell0", "cell1")}
    alone = Project(Path())
    for name, of_batch in found.items():
        alone.write({
            **{key: CONFIG[key] for key in ("prediction", "threshold")}, "connected_components": OBJECTS,
            "raw": f"images/{name}.png", "work_dir": f"alone/{name}", "output": f"alone/{name}.n5",
            "blocks": {"shape": [16, 32]},
        })  # fmt: skip
        assert alone.run(workflow=ObjectClassificationWorkflow).ok
        end_sessions()
        np.testing.assert_array_equal(of_batch["object_classes"], classes(f"alone/{name}.n5"))
        assert of_batch["object_classes"].any()
        for file in FILES:
            assert of_batch[file] == Path(f"alone/{name}/{file}").read_bytes(), file
    # Block by block, in the same work folder.
    write_config(
        connected_components=OBJECTS, blocks={"shape": [16, 32]}, batch={"files": "images/*.png", "small_voxels": 1}
    )
    run, workflow = run_here()
    assert run.ok, run.text
    assert "images" not in run.computed
    assert len(run.computed["object_classes"]) == 2 * 8
    for name, of_batch in found.items():
        assert_equal(results_of(name), of_batch)
    assert workflow.complete()
    assert run_here()[0].computed == {}


@pytest.mark.parametrize("kind", ["binary", "label"])
def test_a_project_of_objects_that_are_given_is_refused(kind: str) -> None:
    write_project()
    write_images(1)
    with h5py.File("project.ilp", "r+") as file:
        del file["workflowName"]
        file["workflowName"] = f"Object Classification (from {kind} image)"
        del file["FeatureSelections"]
    write_config(connected_components={"classifier": "project"})
    run, _ = run_here()
    assert not run.ok
    told = Path("work/batch.csv").read_text()
    assert f"classifies objects of {kind} images that are given, not pixels" in told
    assert "for one volume; a batch has none" in told


@pytest.mark.soak
def test_what_is_wrong_with_a_classifier_is_told_of_its_images() -> None:
    """One row names another project, of which nothing is known but that it has none."""
    write_project()
    write_images(2)
    shutil.copy("project.ilp", "other.ilp")
    with h5py.File("other.ilp", "r+") as file:
        del file["ObjectClassification/ClassifierForests"]
    write_config(connected_components={"classifier": "project"})
    Path("list.csv").write_text(
        "raw,connected_components.classifier\nimages/cell0.png,\nimages/cell1.png,other.ilp\n"
    )
    batch = Project(Path().resolve())
    code, text = run_luigi(batch, "--manifest", "list.csv", workflow="BatchWorkflow")
    assert code == 30, text
    assert "1 of 2 images done, 1 failed" in text
    assert "project other.ilp: has no trained classifier of objects" in Path("work/batch.csv").read_text()
    assert "Traceback" not in text
    shutil.copy("project.ilp", "other.ilp")
    run, _ = run_here("list.csv")
    assert run.computed == {"images": [1]}
    with h5py.File("project.ilp", "r+") as file:  # as if trained with the labels of the other class
        names = file["ObjectClassification/ClassifierForests/known_labels"]
        names[...] = names[()][::-1]
    before = results_of("cell0")["object_classes"]
    run, _ = run_here("list.csv")
    assert run.computed == {"images": [0]}, "the other image has a project of its own"
    np.testing.assert_array_equal(results_of("cell0")["object_classes"], np.where(before > 0, 3 - before, 0))
