"""Classes of objects: ilastik's own case, from its files to its predictions, and what is done again when."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet
import pytest

from blockwise.volume import open_volume
from pipeline import ObjectClassificationWorkflow
from pipeline.__main__ import main
from pipeline.running.session import end_sessions
from pipeline.viewing.colours import colours_of_run
from pipeline.viewing.images.layers import layers_of
from tests.runs import Project, Run
from tests.unit.pixel_cases import axis_tags, case_folder, read, with_objects

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


def assert_ilastiks_objects() -> None:
    """What a run has left in the current folder is what ilastik has found."""
    identities = read(Path("expected_identities.h5"), "exported_data")[..., 0]
    expected = np.concatenate([[0], 1 + ilastiks().argmax(axis=1)])
    np.testing.assert_array_equal(stored("object_classes"), expected[identities])
    table = pyarrow.parquet.read_table("work/objects.parquet").to_pydict()
    assert table["object_class"] == expected[1:].tolist()
    found = np.stack([table["object_probability_1"], table["object_probability_2"]], axis=1)
    np.testing.assert_array_equal(found.astype(np.float32), ilastiks())
    names = [["", "small", "large"][number] for number in expected[1:]]
    assert table["object_class_name"] == names


def test_every_object_has_ilastiks_class_and_probabilities_for_every_block_shape(case: Project) -> None:
    for blocks in ([64, 64], [180, 220], [37, 101]):
        case.change("blocks", {"shape": blocks, "chunks": blocks})
        run = classify(case)
        assert run.ok, run.text
        assert_ilastiks_objects()
    assert classify(case).computed == {}


def edit(change: Callable[[h5py.File], None]) -> None:
    with h5py.File("project.ilp", "r+") as file:
        change(file)


def swap(file: h5py.File) -> None:
    """As if trained with the labels of the other class."""
    names = file["ObjectClassification/ClassifierForests/known_labels"]
    names[...] = names[()][::-1]


def rename(file: h5py.File) -> None:
    del file["ObjectClassification/LabelNames"]
    file["ObjectClassification/LabelNames"] = np.array([b"tiny", b"huge"], object)


def leave_20_trees(file: h5py.File) -> None:
    """These alone have another class for object 21 than all 100, and for no other."""
    forest = file["ObjectClassification/ClassifierForests/Forest0000"]
    for name in [name for name in forest if name.startswith("Tree_")][20:]:
        del forest[name]


@pytest.mark.soak
def test_only_what_depends_on_a_change_is_done_again(case: Project) -> None:
    case.change("connected_components", {"classifier": "project"})
    run = case.run()
    assert run.ok, run.text
    assert {name: run.computed[name] for name in CLASSIFIED if name != "object_classes"} == {
        name: blocks for name, blocks in CLASSIFIED.items() if name != "object_classes"
    }
    assert "object_classes" not in run.computed
    assert classify(case).computed == {"object_classes": CLASSIFIED["object_classes"]}
    before = stored("object_classes")
    edit(rename)
    assert classify(case).computed == {"object_table": [0]}
    assert "tiny" in Path("work/objects.csv").read_text()
    edit(swap)
    run = classify(case)
    assert run.computed == {name: CLASSIFIED[name] for name in list(CLASSIFIED)[1:]}, run.text
    swapped = np.where(before > 0, 3 - before, 0)
    np.testing.assert_array_equal(stored("object_classes"), swapped)
    edit(leave_20_trees)
    run = classify(case)
    assert list(run.computed) == list(CLASSIFIED)[1:]
    changed = stored("object_classes") != swapped
    np.testing.assert_array_equal(changed, stored("connected_components") == 21)
    blocks = [tuple(slice(64 * i, 64 * i + 64) for i in divmod(block, 4)) for block in range(12)]
    touched = {number for number, block in enumerate(blocks) if changed[block].any()}
    assert touched <= set(run.computed["object_classes"]) < set(range(12))


@pytest.mark.soak
def test_objects_of_a_work_folder_stay_classified(case: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever workflow comes next, and in every command."""
    assert "object_classification" not in [step.name for step in case.steps().all()]
    assert main(["export", "classes", "classes.h5", "--config", str(case.config)]) == 40
    assert "connected_components.classifier is not set" in capsys.readouterr().err
    assert classify(case).ok
    assert case.run().computed == {}
    assert main(["export", "classes", "classes.h5", "--config", str(case.config)]) == 0
    np.testing.assert_array_equal(read(Path("classes.h5"), "exported_data"), stored("object_classes"))
    assert main(["status", "--config", str(case.config)]) == 0
    assert "object_classes" in capsys.readouterr().out
    assert main(["verify", "--config", str(case.config)]) == 0
    layer = layers_of(case.steps())["object_classes"]
    assert (layer.kind, layer.classes) == ("classes", ("small", "large"))
    colours = colours_of_run(case.steps())
    assert [colours[name] for name in layer.classes] == [(255, 0, 0), (0, 255, 0)]


@pytest.mark.soak
def test_a_binary_image_in_the_place_of_probabilities(case: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """The mask of the case itself: objects and classes are those of its probabilities."""
    identities = read(Path("expected_identities.h5"), "exported_data")[..., 0]
    with h5py.File("binary.h5", "w") as file:
        file["data"] = np.where(identities > 0, np.uint8(255), np.uint8(0))
    edit(binary)
    case.change("prediction", {"project": "project.ilp", "probabilities": "binary.h5:data"})
    run = classify(case)
    assert run.ok, run.text
    np.testing.assert_array_equal(stored("connected_components"), identities)
    expected = np.concatenate([[0], 1 + ilastiks().argmax(axis=1)])
    np.testing.assert_array_equal(stored("object_classes"), expected[identities])
    with h5py.File("binary.h5", "r+") as file:
        file["data"][5:7, 3] = 7, 9
    run = classify(case)
    assert not run.ok
    assert "holds 7, 9, 255 beside 0 in block 0 at (0, 0)" in run.text


def binary(file: h5py.File) -> None:
    del file["workflowName"], file["ThresholdTwoLevels"]
    file["workflowName"] = "Object Classification (from binary image)"


@pytest.mark.soak
def test_objects_of_each_time_step_are_classified_by_themselves(case: Project) -> None:
    """The case twice, the second time upside down: labels count from 1 in each step, as in ilastik."""
    identities = read(Path("expected_identities.h5"), "exported_data")[..., 0]
    film(Path("input.h5"), "data", "tyx")
    film(Path("prediction.h5"), "exported_data", "tyxc")
    edit(with_time)
    run = classify(case)
    assert run.ok, run.text
    expected = np.concatenate([[0], 1 + ilastiks().argmax(axis=1)])[identities]
    np.testing.assert_array_equal(stored("object_classes"), np.stack([expected, expected[::-1]]))
    labels = stored("connected_components")
    assert labels[0].max() == labels[1].max() == 55
    table = pyarrow.parquet.read_table("work/objects.parquet").to_pydict()
    of_voxels = {
        (t, label): c for t, label, c in zip(*(table[n] for n in ("t", "label", "object_class")), strict=True)
    }
    assert len(of_voxels) == 110
    classes = stored("object_classes")
    for (t, label), number in of_voxels.items():
        assert (classes[t][labels[t] == label] == number).all()


def film(path: Path, key: str, axes: str) -> None:
    with h5py.File(path, "r+") as file:
        values = file[key][()]
        del file[key]
        file[key] = np.stack([values, values[::-1]])
        file[key].attrs["axistags"] = axis_tags(axes)


def with_time(file: h5py.File) -> None:
    image = file["Input Data/infos/lane0000/Raw Data"]
    del image["axistags"], image["shape"]
    image["axistags"], image["shape"] = axis_tags("tyx"), [2, 180, 220]


@pytest.mark.soak
def test_objects_of_classified_pixels_in_3d(project: Project) -> None:
    """A project from pixel classification, to which objects were added after its pixels had been predicted."""
    shutil.copy("membranes.ilp", "objects.ilp")
    with_objects(Path("objects.ilp"))
    project.change("prediction.project", "objects.ilp")
    project.change("connected_components.classifier", "project")
    run = classify(project)
    assert run.ok, run.text
    assert list(run.computed) == list(CLASSIFIED)
    classes, labels = stored("object_classes"), stored("connected_components")
    table = pyarrow.parquet.read_table("work/objects.parquet").to_pydict()
    known = np.array([0, *table["object_class"]], np.uint8)
    assert set(known) == {0, 1, 2}
    np.testing.assert_array_equal(classes, known[labels])
    project.change("blocks", {"shape": [36, 36, 128], "chunks": [18, 18, 16]})
    project.change("work_dir", "other")
    project.change("output", "other.n5")
    assert classify(project).ok
    assert pyarrow.parquet.read_table("other/objects.parquet").to_pydict() == table
    project.change("connected_components.split", {"method": "distance", "h": 1.0})
    assert classify(project).ok
    parts = pyarrow.parquet.read_table("other/objects.parquet").to_pydict()
    assert len(parts["label"]) > len(table["label"])
    volumes = [open_volume(f"other.n5:{name}") for name in ("object_classes", "split_objects")]
    classes, labels = (volume.read(tuple(slice(0, n) for n in volume.shape)) for volume in volumes)
    np.testing.assert_array_equal(classes, np.array([0, *parts["object_class"]], np.uint8)[labels])


@pytest.mark.soak
def test_a_label_image_in_the_place_of_probabilities(case: Project) -> None:
    """Labels as they come: some touch, one lies in two places, none is called by its number."""
    identities = read(Path("expected_identities.h5"), "exported_data")[..., 0].astype(np.int64)
    given = np.where(identities == 30, 29, identities)  # in two places
    given[(identities == 40) & (np.indices(given.shape)[1] % 2 == 0)] = 99  # touches 40, in stripes
    names = np.random.default_rng(0).permutation(np.arange(1, 200)) * 10**12
    with h5py.File("labels.h5", "w") as file:
        file["data"] = np.concatenate([[0], names])[given].astype(np.uint64)
    edit(labelled)
    case.change("prediction", {"project": "project.ilp", "probabilities": "labels.h5:data"})
    run = classify(case)
    assert run.ok, run.text
    labels, classes = stored("split_objects"), stored("object_classes")
    pairs = np.unique(np.stack([labels.ravel(), given.ravel()]), axis=1)
    assert pairs.shape == (2, 56)  # background, 55 less one, and one more: each label is one number
    assert np.unique(labels).tolist() == list(range(56))
    whole = ilastiks().argmax(axis=1) + 1
    same = ~np.isin(identities, [0, 29, 30, 40])
    np.testing.assert_array_equal(classes[same], np.concatenate([[0], whole])[identities][same])
    table = pyarrow.parquet.read_table("work/objects.parquet").to_pydict()
    by_name = dict(zip(table["whole"], table["voxels"], strict=True))
    assert by_name == {int(names[label - 1]): int((given == label).sum()) for label in np.unique(given) if label}
    assert table["object_class"] == [int(classes[labels == label][0]) for label in table["label"]]
    case.change("blocks", {"shape": [180, 220], "chunks": [180, 220]})
    assert classify(case).ok
    assert pyarrow.parquet.read_table("work/objects.parquet").to_pydict() == table
    np.testing.assert_array_equal(stored("split_objects"), labels)


def labelled(file: h5py.File) -> None:
    del file["workflowName"], file["ThresholdTwoLevels"]
    file["workflowName"] = "Object Classification (from label image)"
