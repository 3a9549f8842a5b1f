"""Projects of object classification: what is read of them, and what they make of ilastik's own features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from tasks.objects.classification.classify import classify, feature_vectors
from tasks.objects.classification.project import (
    WORKFLOWS,
    SelectedFeature,
    is_object_project,
    load_object_project,
)
from tasks.pixel_classification.forest import Forest
from tests.unit.pixel_cases import Edit, case_folder, edited, read, remove, replace

CASE = "objects_2d_prediction"
STANDARD = "Standard Object Features"
SELECTED = f"ObjectClassification/SelectedFeatures/{STANDARD}"
COMPUTED = f"ObjectExtraction/Features/{STANDARD}"
FOREST = "ObjectClassification/ClassifierForests"


def stored_features() -> dict[tuple[str, str], np.ndarray[Any, Any]]:
    """What ilastik has computed of the case's objects."""
    found = {}
    with h5py.File(case_folder(CASE) / "project.ilp") as file:
        for plugin, features in file["ObjectExtraction/RegionFeatures/0000/[[0], [1]]"].items():
            found |= {(plugin, name): values[1:] for name, values in features.items()}
    return found


def test_what_a_project_says() -> None:
    project = load_object_project(str(case_folder(CASE) / "project.ilp"))
    names = ("Count", "Mean", "Mean in neighborhood", "RegionRadii", "Skewness", "Variance")
    assert project.features == tuple(SelectedFeature(STANDARD, name) for name in names)
    assert project.margin == (9, 9)
    assert project.workflow == "Object Classification (from prediction image)"
    assert (project.classes, project.axes, project.n_z, project.n_channels) == (("small", "large"), "yx", 1, 1)
    assert project.forest.n_features == 7


def test_ilastiks_features_give_ilastiks_probabilities_bit_for_bit() -> None:
    path = case_folder(CASE) / "project.ilp"
    project = load_object_project(str(path))
    vectors = feature_vectors(project.features, stored_features())
    classes, probabilities = classify(project.forest, 2, vectors)
    expected = read(path, "ObjectClassification/CachedProbabilities/0000/0")[1:]
    np.testing.assert_array_equal(probabilities, expected, strict=True)
    np.testing.assert_array_equal(classes, 1 + expected.argmax(axis=1))
    assert np.bincount(classes).tolist() == [0, 25, 30]


def test_columns_follow_plugins_then_names_and_what_is_no_number_is_zero() -> None:
    features = sorted(SelectedFeature(*name) for name in (("b", "A"), ("a", "b"), ("a", "B c"), ("a", "B")))
    values = {
        ("a", "B"): np.array([[1.0, np.nan]]),
        ("a", "B c"): np.array([[2]], np.int64),
        ("a", "b"): np.array([[np.inf, -np.inf, 1e300]]),
        ("b", "A"): np.array([[3.0]], np.float32),
    }
    np.testing.assert_array_equal(
        feature_vectors(features, values), np.array([[1, 0, 2, 0, 0, 0, 3]], np.float32), strict=True
    )


def test_classes_without_labels_have_no_probability_and_of_equals_the_first_is_taken() -> None:
    leaf = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    forest = Forest(
        roots=np.zeros(1, np.int32), feature=np.array([0, -1, -1], np.int32), threshold=np.zeros(3, np.float32),
        left=np.array([1, 1, 2], np.int32), right=np.array([2, 1, 2], np.int32),
        leaf=np.concatenate([np.zeros((1, 2), np.float32), leaf]), sizes=(1,), n_features=1, classes=(1, 3),
    )  # fmt: skip
    classes, probabilities = classify(forest, 5, np.array([[-1], [1]], np.float32))
    assert probabilities.tolist() == [[0, 0.25, 0, 0.75, 0], [0, 0.5, 0, 0.5, 0]]
    assert classes.tolist() == [4, 2]


def test_every_object_workflow_is_read_and_old_files_with_one_more_level(tmp_path: Path) -> None:
    def deeper(file: h5py.File) -> None:
        file.move("ObjectClassification/SelectedFeatures", "kept")
        file.move("kept", "ObjectClassification/SelectedFeatures/0")

    sound = load_object_project(str(case_folder(CASE) / "project.ilp"))
    for workflow in WORKFLOWS:
        path = edited(tmp_path, replace("workflowName", workflow), deeper, case=CASE)
        assert is_object_project(path)
        found = load_object_project(path)
        assert found.workflow == workflow
        assert found.content_hash == sound.content_hash
    assert not is_object_project(str(case_folder("3d_u16_few_3class") / "project.ilp"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replace("workflowName", "Pixel Classification"), "the workflow is 'Pixel Classification', expected 'Object"),
        (remove("workflowName"), "it names no workflow, expected"),
        (remove(FOREST), "has no trained classifier of objects; label some objects"),
        (remove(f"{FOREST}/Forest0000"), "has no trained classifier of objects"),
        (remove("ObjectClassification"), "has no trained classifier of objects"),
        (replace(f"{FOREST}/pickled_type", b"csklearn\nKNeighbors\np1"), "its classifier is 'KNeighbors'"),
        (remove(f"{FOREST}/Forest0000/Tree_00/topology"), "its classifier cannot be read"),
        (remove("ObjectClassification/SelectedFeatures"), "does not say which features"),
        (replace("ObjectClassification/LabelNames", [b"one"]), "classifier knows class 2, but it names only 1"),
        (replace("ObjectClassification/LabelNames", [b"c"] * 256), "has 256 classes of objects; at most 255"),
        (replace(f"{COMPUTED}/Mean in neighborhood/margin", [[9, 9]]), r"has the margin \[\[9, 9\]\], expected"),
        (replace(f"{COMPUTED}/Mean in neighborhood/margin", [9, 0]), r"has the margin \[9, 0\], expected"),
        (replace(f"{COMPUTED}/Mean in neighborhood/margin", [9.5, 9.5]), "expected voxels along x, y"),
        (replace("ObjectClassification/SelectedFeatures", 3), "does not say which features"),
        (replace(SELECTED, np.arange(3)), "its object classification cannot be read"),
    ],
)
def test_projects_that_are_refused(edit: Edit, message: str, tmp_path: Path) -> None:
    path = edited(tmp_path, edit, case=CASE)
    with pytest.raises(UserError, match=message) as error:
        load_object_project(path)
    assert str(error.value).startswith(f"project {path}: ")


def test_what_is_called_otherwise_or_drawn_otherwise_changes_no_prediction(tmp_path: Path) -> None:
    sound = load_object_project(str(case_folder(CASE) / "project.ilp")).content_hash
    other = edited(
        tmp_path,
        replace("ObjectClassification/LabelNames", [b"tiny", b"huge"]),
        replace("ObjectClassification/LabelColors", np.zeros((2, 3), np.int64)),
        remove("ObjectExtraction/RegionFeatures"),
        case=CASE,
    )
    assert load_object_project(other).content_hash == sound
    for edit in (
        replace(f"{COMPUTED}/Mean in neighborhood/margin", [9, 10]),
        replace(f"{COMPUTED}/Sum in neighborhood/margin", [10, 9]),
        lambda file: file.move(f"{SELECTED}/Mean", f"{SELECTED}/Maximum"),
        lambda file: file.move(f"{FOREST}/Forest0000/Tree_99", "unused"),
        replace("ObjectClassification/LabelNames", [b"tiny", b"huge", b"other"]),
    ):
        assert load_object_project(edited(tmp_path, edit, case=CASE)).content_hash != sound


def test_the_largest_margin_of_all_computed_features_holds_where_one_is_looked_at(tmp_path: Path) -> None:
    other = edited(tmp_path, replace(f"{COMPUTED}/Sum in neighborhood/margin", [4, 30]), case=CASE)
    assert load_object_project(other).margin == (9, 30)
    alone = edited(tmp_path, remove(f"{SELECTED}/Mean in neighborhood"), case=CASE)
    assert load_object_project(alone).margin == ()
