"""Projects are read as ilastik writes them, old ones too; what cannot be read is refused with the remedy."""

from __future__ import annotations

import ast
import multiprocessing
from pathlib import Path

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from tasks.pixel_classification.project import load_project
from tests.unit.pixel_cases import DATA, ROOT, Edit, copied, edited, remove, replace, set_item

FORESTS = "PixelClassification/ClassifierForests"
LANE = "Input Data/infos/lane0000/Raw Data"
LABELS = "PixelClassification/LabelSets/labels000"

REFUSED: dict[str, tuple[Edit, str]] = {
    "three stages": (
        replace("workflowName", b"AutocontextThreeStage"),
        "the workflow is 'AutocontextThreeStage', expected 'Pixel Classification' or 'AutocontextTwoStage'",
    ),
    "no second stage": (
        replace("workflowName", b"AutocontextTwoStage"),
        "stage 2: has no feature selection; select features",
    ),
    "carving": (
        replace("workflowName", b"Carving"),
        "'Object Classification .from label image.'; train a project of that kind",
    ),
    "no workflow": (remove("workflowName"), "it names no workflow"),
    "very old": (replace("ilastikVersion", 0.5), "written by ilastik 0.5; make it anew with ilastik 1.2 or later"),
    "no image": (remove("Input Data/infos/lane0000"), "names no axes of its images"),
    "no axes": (remove(f"{LANE}/axistags"), "names no axes of its images"),
    "damaged axes": (replace(f"{LANE}/axistags", b"{axes}"), "axis tags '{axes}' cannot be read"),
    "shape and axes": (replace(f"{LANE}/shape", [5, 6]), "lane0000: the axes are 'zyx', but the shape is"),
    "no features": (remove("FeatureSelections"), "has no feature selection; select features"),
    "none selected": (set_item("FeatureSelections/SelectionMatrix", ..., False), "no feature is selected"),
    "unknown feature": (
        set_item("FeatureSelections/FeatureIds", 0, b"Canny"),
        "feature 'Canny' is not known; known are GaussianSmoothing",
    ),
    "scale too small": (
        set_item("FeatureSelections/SelectionMatrix", (4, 0), True),
        "StructureTensorEigenvalues is selected at scale 0.3, .* the least scale is 0.5",
    ),
    "table of another size": (
        replace("FeatureSelections/Scales", [1.0, 2.0]),
        r"a table of shape \(6, 7\) .* 6 features and 2 scales",
    ),
    "flags of another size": (replace("FeatureSelections/ComputeIn2d", [True]), "with 1 flags for 2D"),
    "features changed": (
        set_item("FeatureSelections/SelectionMatrix", (0, 3), True),
        "trained on 10 feature channels, but the selected features give 11",
    ),
    "other classifier": (
        replace(f"{FORESTS}/pickled_type", b"clazyflow.classifiers\nSklearnLazyflowClassifier\np0\n."),
        "its classifier is 'SklearnLazyflowClassifier', expected ParallelVigraRfLazyflowClassifier; train it",
    ),
    "hyperplane": (
        set_item(f"{FORESTS}/Forest0000/Tree_00/topology", 2, 1),
        "Forest0000/Tree_00: node 2 is of type 0x1, .*; train it again",
    ),
    "damaged forest": (remove(f"{FORESTS}/Forest0001/_ext_param"), "its classifier cannot be read: .*_ext_param"),
    "too few names": (
        replace("PixelClassification/LabelNames", [b"A", b"B"]),
        "its classifier knows class 3, but it names only 2",
    ),
    "neither forest nor labels": (
        remove(FORESTS, "PixelClassification/LabelSets"),
        "neither a trained classifier nor labels; label some pixels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_project_that_cannot_be_used_is_refused(name: str, tmp_path: Path) -> None:
    edit, message = REFUSED[name]
    path = edited(tmp_path, edit)
    with pytest.raises(UserError, match=message) as caught:
        load_project(path)
    assert str(caught.value).startswith(f"project {path}: ")


def test_files_that_are_no_projects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        load_project(str(tmp_path / "none.ilp"))
    with pytest.raises(UserError, match="is not an HDF5 file"):
        load_project(str(tmp_path))
    (tmp_path / "text.ilp").write_text("no project")
    with pytest.raises(UserError, match="is not an HDF5 file"):
        load_project(str(tmp_path / "text.ilp"))
    content = (DATA / "3d_u16_few_3class" / "project.ilp").read_bytes()
    (tmp_path / "cut.ilp").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cannot be read, it is damaged .* save it again"):
        load_project(str(tmp_path / "cut.ilp"))


def test_old_files_say_less_and_are_read_the_same(tmp_path: Path) -> None:
    missing = remove(
        f"{LANE}/shape",
        f"{LANE}/__class__",
        f"{FORESTS}/known_labels",
        f"{FORESTS}/feature_names",
        f"{FORESTS}/pickled_type",
        "PixelClassification/LabelNames",
        "FeatureSelections/ComputeIn2d",
        "Input Data/infos/lane0000/Raw Data/axistags",
    )
    old = load_project(edited(tmp_path, missing, replace(f"{LANE}/axisorder", b"yxc"), case="2d_rgb_u8_3class"))
    new = load_project(str(DATA / "2d_rgb_u8_3class" / "project.ilp"))
    assert old.content_hash == new.content_hash
    assert (old.axes, old.n_channels, old.classes) == ("yxc", 3, ("Class 1", "Class 2", "Class 3"))
    assert all(feature.in_2d for feature in old.features)


@pytest.mark.parametrize(("shape", "in_2d"), [([48, 72, 80], False), ([1, 72, 80], True)])
def test_without_flags_flat_images_are_filtered_in_2d(shape: list[int], in_2d: bool, tmp_path: Path) -> None:
    selection = np.zeros((6, 7), bool)
    selection[0] = True
    path = edited(
        tmp_path,
        remove("FeatureSelections/ComputeIn2d", FORESTS),
        replace(f"{LANE}/shape", shape),
        replace("FeatureSelections/SelectionMatrix", selection),
    )
    assert {feature.in_2d for feature in load_project(path).features} == {in_2d}


@pytest.mark.parametrize(("case", "flat"), [("2d_rgb_u8_3class", True), ("3d_u16_few_3class", False)])
def test_old_files_do_not_say_whether_images_had_one_slice(case: str, flat: bool, tmp_path: Path) -> None:
    """The forest's number of columns tells: eigenvalues are 2 in one slice, 3 in more. ilastik chose by itself."""
    new = load_project(str(DATA / case / "project.ilp"))
    axes = b"txyzc" if flat else b"tzyxc"
    remains = remove(f"{LANE}/shape", "FeatureSelections/ComputeIn2d", f"{LANE}/axistags")
    old = load_project(edited(tmp_path, remains, replace(f"{LANE}/axisorder", axes), case=case))
    assert (old.axes, old.n_channels) == (axes.decode(), new.n_channels)
    assert old.n_features == new.n_features
    more = set_item("FeatureSelections/SelectionMatrix", (slice(None), slice(3, None)), True)
    with pytest.raises(UserError, match=r"the selected features give \d+ or \d+; the features were changed"):
        load_project(edited(tmp_path, remains, replace(f"{LANE}/axisorder", b"tzyx"), more, case=case))


def test_class_names_that_are_marked_empty_are_not_read(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda file: file["PixelClassification/LabelNames"].attrs.modify("isEmpty", True))
    assert load_project(path).classes == ("Class 1", "Class 2", "Class 3")


def content_hash(folder: Path, *edits: Edit, case: str = "3d_u16_few_3class") -> str:
    return load_project(edited(folder, *edits, case=case)).content_hash


def test_saving_again_changes_no_content(tmp_path: Path) -> None:
    original = load_project(str(DATA / "3d_u16_few_3class" / "project.ilp")).content_hash
    path = edited(
        tmp_path,
        replace("time", b"tomorrow"),
        replace("currentApplet", 3),
        replace("ilastikVersion", b"1.4.9"),
        replace(f"{LANE}/nickname", b"elsewhere"),
        replace(f"{LANE}/filePath", b"/elsewhere.h5/data"),
    )
    assert load_project(path).content_hash == original
    with h5py.File(path, "r") as old, h5py.File(tmp_path / "saved.ilp", "w", libver="latest") as new:
        for name in reversed(list(old)):
            old.copy(name, new)
    assert load_project(str(tmp_path / "saved.ilp")).content_hash == original


@pytest.mark.parametrize(
    "edit",
    [
        set_item("FeatureSelections/Scales", 6, 9.0),
        lambda file: file["FeatureSelections/ComputeIn2d"].write_direct(np.array([True] * 7)),
        replace("PixelClassification/LabelNames", [b"A", b"B", b"C", b"D"]),
        replace(f"{FORESTS}/known_labels", np.array([1, 3, 2], np.uint32)),
        remove(f"{FORESTS}/Forest0003"),
    ],
)
def test_content_changes_change_the_hash(edit: Edit, tmp_path: Path) -> None:
    def select(file: h5py.File) -> None:  # features with as many channels in 2D as in 3D, one of them at scale 10
        forest_columns = 10
        matrix = np.zeros((6, 7), bool)
        matrix[0, 1:], matrix[1, 3:] = True, True
        assert matrix.sum() == forest_columns
        file["FeatureSelections/SelectionMatrix"][...] = matrix

    before = content_hash(tmp_path, select)
    assert content_hash(tmp_path, select, edit) != before


def test_one_threshold_changes_the_hash(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        tree = file[f"{FORESTS}/Forest0002/Tree_05"]
        place = tree["topology"][3] + 1
        tree["parameters"][place] = tree["parameters"][place] * 1.001

    assert content_hash(tmp_path, edit) != content_hash(tmp_path)


def test_one_label_changes_the_hash(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        block = file[f"{LABELS}/block0000"]
        place = tuple(int(i[0]) for i in np.nonzero(block[()]))
        block[place] = 3 - block[place]

    before, after = (content_hash(tmp_path, *edits, case="3d_u8_labels_only") for edits in ([], [edit]))
    assert before != after


@pytest.mark.parametrize("ending", ["", "\nParallelVigraRfLazyflowClassifier\n"])
def test_a_pickle_is_only_text(ending: str, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    pickled = f"cos\nsystem\n(S'touch {trap}'\ntR.{ending}"
    path = edited(tmp_path, replace(f"{FORESTS}/pickled_type", pickled.encode()))
    if ending:
        load_project(path)
    else:
        with pytest.raises(UserError, match="its classifier is 'system', expected"):
            load_project(path)
    assert not trap.exists()


def test_no_module_imports_a_pickler() -> None:
    picklers = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for package in ("blockwise", "tasks", "pipeline"):
        # To Dask workers calls go pickled, as Dask itself sends all: no file is read so.
        for path in {*(ROOT / package).rglob("*.py")} - {ROOT / "blockwise/backends/dask/afar.py"}:
            for node in ast.walk(ast.parse(path.read_text())):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or "", *(alias.name for alias in node.names)]
                elif isinstance(node, ast.keyword):
                    assert node.arg != "allow_pickle", path
                assert not picklers & {part for name in names for part in name.split(".")}, path


def _hash_of(path: str) -> str:
    return load_project(path).content_hash


@pytest.mark.soak
def test_several_processes_read_while_another_holds_the_file_open(tmp_path: Path) -> None:
    path = copied("3d_u16_few_3class", tmp_path)
    with h5py.File(path, "r+"), multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(_hash_of, [str(path)] * 6, chunksize=2)
    assert set(found) == {_hash_of(str(path))}
