"""The volume of classes, arrays on the disk, and what of a classifier is refused before any work."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import UserError
from pipeline.assembly.objects.classification import with_classifier
from pipeline.assembly.steps import Steps, build_steps
from pipeline.configuration.settings import make_settings
from tasks.components.labelling import first_voxels
from tasks.objects.classification.classes_step import PIECE, PIECE_BYTES, classes_of_voxels
from tasks.objects.growing import GrowingArray
from tasks.objects.image_measures import dense_labels
from tasks.splitting.given_steps import in_order
from tests.unit.pixel_cases import Edit, case_folder, edited, remove

CASE = "objects_2d_prediction"
SELECTED = "ObjectClassification/SelectedFeatures/Standard Object Features"


@settings(max_examples=50, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    known=st.dictionaries(st.integers(1, 2**63 - 1), st.integers(1, 255), max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_voxel_has_the_class_of_its_object(shape: list[int], known: dict[int, int], seed: int) -> None:
    table = {0: 0, **known}
    labels = np.random.default_rng(seed).choice(np.array(list(table), np.uint64), shape)
    rows = np.array(sorted(known.items()), np.int64).reshape(-1, 2)
    expected = np.array([table[int(label)] for label in labels.flat], np.uint8).reshape(shape)
    np.testing.assert_array_equal(classes_of_voxels(labels, rows), expected, strict=True)


@pytest.mark.parametrize("known", [np.empty((0, 2), np.int64), np.array([[2, 1], [9, 1]]), np.array([[7, 1]])])
def test_an_object_without_a_class_is_an_error(known: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match=f"object 8 has no class; {len(known)} objects are known"):
        classes_of_voxels(np.array([0, 8, 8], np.uint64), known)


def test_the_volume_of_classes_takes_no_more_than_is_projected() -> None:
    labels = np.arange(1, 2 * PIECE + 1000, dtype=np.uint64)  # no two neighbours are alike
    known = np.stack([labels, labels % 250 + 1], axis=1).astype(np.int64)
    tracemalloc.start()
    found = classes_of_voxels(labels, known)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, known[:, 1])
    needed = peak - found.nbytes - 16 * len(labels)  # the table, once more with the background
    assert needed < PIECE_BYTES < 2 * needed


def test_arrays_grow_on_the_disk_and_leave_nothing_behind(tmp_path: Path) -> None:
    with GrowingArray(tmp_path / "new", np.int64, 2) as array:
        assert array.array().shape == (0, 2)
        for rows in ([[1, 2]], np.empty((0, 2)), [[3, 4], [5, 6]]):
            array.append(np.array(rows, np.int64))
        found = array.array()
        with pytest.raises(ValueError, match=r"rows of float64 \(2,\), expected int64 \(2,\)"):
            array.append(np.zeros((1, 2)))
    assert found.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert isinstance(found, np.memmap)
    assert list((tmp_path / "new").iterdir()) == []


def steps(folder: Path, project: str, **changes: Any) -> Steps:
    """Of the case, its objects classified by this project."""
    for file in ("input.h5", "prediction.h5", "project.ilp"):
        if not (folder / "case" / file).exists():
            (folder / "case").mkdir(exist_ok=True)
            shutil.copy(case_folder(CASE) / file, folder / "case")
    case = folder / "case"
    values = {
        "work_dir": str(folder / "work"),
        "raw": {"path": f"{case}/input.h5", "key": "data"},
        "output": str(folder / "result.n5"),
        "blocks": {"shape": [64, 64]},
        "prediction": {"project": f"{case}/project.ilp", "probabilities": f"{case}/prediction.h5:exported_data"},
        "threshold": "project",
        "connected_components": {"classifier": project},
    }
    return build_steps(make_settings(values | changes, "here"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda file: file.create_group(
                "ObjectClassification/SelectedFeatures/2D Convex Hull Features/HullVolume"
            ),
            "of 7 features, but HullVolume: of ilastik's plugin '2D Convex Hull Features', which is not",
        ),
        (
            lambda file: file.create_group(f"{SELECTED}/Weighted<RegionCenter>"),
            "but 'Weighted<RegionCenter>': not among the object features that are computed here",
        ),
        (
            lambda file: file.create_group(f"{SELECTED}/Maximum"),
            "a classifier of 7 columns, but its features have 8 in 2D with 1 channel; it was trained on images in 2D",
        ),
        (remove("ObjectClassification/ClassifierForests"), "has no trained classifier of objects"),
    ],
)
def test_classifiers_that_cannot_be_had_here_are_refused_by_one_sentence(
    edit: Edit, message: str, tmp_path: Path
) -> None:
    path = edited(tmp_path, edit, case=CASE)
    with pytest.raises(UserError, match=message) as error:
        steps(tmp_path, path)
    assert "\n" not in str(error.value)


def test_images_with_more_channels_than_the_classifier_knows_are_refused(tmp_path: Path) -> None:
    path = str(case_folder(CASE) / "project.ilp")
    with h5py.File(tmp_path / "colours.h5", "w") as file:
        file["data"] = np.zeros((180, 220, 2), np.uint8)
    raw = {"path": f"{tmp_path}/colours.h5", "key": "data", "axes": "yxc"}
    with pytest.raises(
        UserError, match=r"of 7 columns, but its features have 11 in 2D with 2 channels; .* 1 channel$"
    ):
        steps(tmp_path, path, raw=raw)


def test_the_workflow_takes_the_project_of_the_prediction_where_it_has_a_classifier(tmp_path: Path) -> None:
    case = str(case_folder(CASE) / "project.ilp")
    pixels = str(case_folder("3d_u16_few_3class") / "project.ilp")
    values: dict[str, Any] = {
        "work_dir": "work", "raw": "raw.n5:raw", "output": "out.n5", "prediction": {"project": case},
        "threshold": [
            {"name": "a", "connected_components": {"min_size": 3}}, {"name": "b"},
        ],
    }  # fmt: skip
    found = with_classifier(make_settings(values, "here"))
    assert [threshold.connected_components for threshold in found.threshold] == [
        found.connected_components.model_copy(update={"min_size": 3}), None,
    ]  # fmt: skip
    assert found.connected_components.classifier == "project"
    values["prediction"] = {"project": pixels}
    with pytest.raises(UserError, match=r"names no project, and prediction.project .* is none of object classific"):
        with_classifier(make_settings(values, "here"))
    values["threshold"][0]["connected_components"]["classifier"] = case
    assert with_classifier(make_settings(values, "here")) == make_settings(values, "here")


def test_each_threshold_may_have_a_classifier_and_split_objects_are_classified(tmp_path: Path) -> None:
    case = str(case_folder(CASE) / "project.ilp")
    split = {"classifier": case, "split": {"method": "distance"}}
    found = steps(
        tmp_path,
        case,
        threshold=[{"name": "a", "as": "project"}, {"name": "b", "class": 1, "connected_components": split}],
        connected_components={},
    )
    whole, parts = found.objects
    assert whole.object_classification is None
    assert whole.object_classes is None
    assert parts.object_classes is not None
    assert parts.object_classes.label == "object_classes_b"
    assert parts.object_classes.address.endswith("object_classes_b")
    assert parts.object_classes.objects.name == "split_objects"
    assert parts.object_classes.classification.merge.name == "split_merge"
    assert found.scales().keys() >= {"object_classes_b"}


def test_columns_and_classifier_share_the_sums_of_their_features(tmp_path: Path) -> None:
    case = str(case_folder(CASE) / "project.ilp")
    components = {"classifier": case, "features": ["Maximum", "Mean", "Sum in neighborhood", "Histogram"]}
    (made,) = steps(tmp_path, case, connected_components=components).objects
    assert made.object_features is not None
    assert made.object_classification is not None
    assert made.object_features.features == (
        "Count", "Histogram", "Maximum", "Mean", "Mean in neighborhood", "RegionRadii", "Skewness",
        "Sum in neighborhood", "Variance",
    )  # fmt: skip
    assert made.object_features.margin == (9, 9)
    assert made.object_classification.histograms is None
    assert made.object_table.histograms is not None
    assert made.object_table.chosen == ("Histogram", "Maximum", "Mean", "Sum in neighborhood")
    steps(tmp_path, case, connected_components=components | {"margin": 9})
    with pytest.raises(UserError, match=r"features reach \[8, 8\] voxels, but those of the classifier .* \[9, 9\];"):
        steps(tmp_path, case, connected_components=components | {"margin": 8})


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 6), shape=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_objects_of_a_label_image_are_numbered_in_the_order_of_their_first_voxels(
    seed: int, count: int, shape: tuple[int, int]
) -> None:
    names = np.random.default_rng(seed).integers(0, count + 1, shape).astype(np.uint64) * 10**12
    labels, found = in_order(*dense_labels(names))
    np.testing.assert_array_equal(np.concatenate([np.zeros(1, np.uint64), found])[labels], names)
    assert first_voxels(labels).tolist() == [int(np.flatnonzero(names == name)[0]) for name in found]
