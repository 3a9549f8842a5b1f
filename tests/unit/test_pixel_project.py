"""Projects are read as ilastik writes them, old ones too; what cannot be read is refused with the remedy."""

from __future__ import annotations

import ast
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from tasks.pixel_classification.project import load_project
from tests.unit.pixel_cases import DATA, ROOT, axis_tags, copied

FORESTS = "PixelClassification/ClassifierForests"
LANE = "Input Data/infos/lane0000/Raw Data"
LABELS = "PixelClassification/LabelSets/labels000"

Edit = Callable[[h5py.File], None]


def replace(name: str, value: object) -> Edit:
    def edit(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return edit


def remove(*names: str) -> Edit:
    def edit(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return edit


def set_item(name: str, index: object, value: object) -> Edit:
    def edit(file: h5py.File) -> None:
        file[name][index] = value

    return edit


def edited(folder: Path, *edits: Edit, case: str = "3d_u16_few_3class") -> str:
    path = copied(case, folder)
    with h5py.File(path, "r+") as file:
        for edit in edits:
            edit(file)
    return str(path)


REFUSED: dict[str, tuple[Edit, str]] = {
    "autocontext": (
        replace("workflowName", b"AutocontextTwoStage"),
        "the workflow is 'AutocontextTwoStage', expected",
    ),
    "objects": (
        replace("workflowName", b"Object Classification (from pixel classification)"),
        "expected 'Pixel Classification'; train a project of that kind",
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


REFUSED_LABELS: dict[str, tuple[Edit, str]] = {
    "no place": (lambda file: file[f"{LABELS}/block0000"].attrs.pop("blockSlice"), "blockSlice does not place its 4"),
    "axes": (
        lambda file: file[f"{LABELS}/block0000"].attrs.modify("axistags", axis_tags("yx")),
        "4 axes, but the tags 'yx'",
    ),
    "no such image": (
        lambda file: file.copy(LABELS, "PixelClassification/LabelSets/labels007"),
        "labels of image 1, but it names 1 images",
    ),
    "too few names": (replace("PixelClassification/LabelNames", [b"A"]), "its labels hold class 2"),
}


@pytest.mark.parametrize("name", REFUSED_LABELS)
def test_labels_that_cannot_be_placed_are_refused(name: str, tmp_path: Path) -> None:
    edit, message = REFUSED_LABELS[name]
    with pytest.raises(UserError, match=message):
        load_project(edited(tmp_path, edit, case="3d_u8_labels_only"))


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


def test_class_names_that_are_marked_empty_are_not_read(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda file: file["PixelClassification/LabelNames"].attrs.modify("isEmpty", True))
    assert load_project(path).classes == ("Class 1", "Class 2", "Class 3")


def labels_of(folder: Path, version: str, axes: str, shape: list[int], block: str, tags: str = "") -> list[list[int]]:
    """Labels of a project with one labelled voxel at t=1, c=0, z=2, y=3, x=4, as far as the block has these axes."""

    def edit(file: h5py.File) -> None:
        del file[LABELS]
        place = {"t": 1, "c": 0, "z": 2, "y": 3, "x": 4}
        dataset = file.create_dataset(f"{LABELS}/block0000", data=np.full((1,) * len(block), 2, np.uint8))
        dataset.attrs["blockSlice"] = "[" + ",".join(f"{place[a]}:{place[a] + 1}" for a in block) + "]"
        if tags:
            dataset.attrs["axistags"] = axis_tags(tags)

    axes_edits = (replace(f"{LANE}/axistags", axis_tags(axes)), replace(f"{LANE}/shape", shape))
    path = edited(folder, edit, *axes_edits, replace("ilastikVersion", version.encode()), case="3d_u8_labels_only")
    found: list[list[int]] = load_project(path).labels.tolist()
    return found


@pytest.mark.parametrize(
    ("version", "axes", "shape", "block", "tags"),
    [
        ("1.4.0", "czyx", [2, 9, 9, 9], "zyxc", "zyxc"),
        ("1.4.0", "zcyx", [9, 2, 9, 9], "xyzc", "xyzc"),
        ("1.2.2rc4", "czyx", [2, 9, 9, 9], "zyxc", ""),
        ("1.3.2", "zyx", [9, 9, 9], "zyxc", ""),
        ("1.3.3post1", "czyx", [2, 9, 9, 9], "zyxc", ""),
        ("1.3.3post2", "czyx", [2, 9, 9, 9], "czyx", ""),
        ("1.4.0b7", "xyzc", [9, 9, 9, 2], "xyzc", ""),
        ("1.4.0b7", "xzy", [9, 9, 9], "xzyc", ""),
        ("1.4.0b15", "xyzc", [9, 9, 9, 2], "zyxc", ""),
        ("1.3.0", "tczyx", [1, 2, 9, 9, 9], "zyxc", ""),
    ],
)
def test_labels_are_placed_whatever_order_of_axes_a_version_wrote(
    version: str, axes: str, shape: list[int], block: str, tags: str, tmp_path: Path
) -> None:
    assert labels_of(tmp_path, version, axes, shape, block, tags) == [[0, 0, 2, 3, 4, 2]]


def test_labels_have_a_time_step(tmp_path: Path) -> None:
    assert labels_of(tmp_path, "1.4.0", "tyx", [3, 9, 9], "tyxc", "tyxc") == [[0, 1, 0, 3, 4, 2]]


def test_axes_of_old_labels_that_nothing_tells_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 axes, but the image has 'tczyx' .* save it with ilastik 1.4"):
        labels_of(tmp_path, "1.3.0", "tczyx", [2, 2, 9, 9, 9], "zyx")


def test_labels_do_not_depend_on_the_blocks_that_hold_them(tmp_path: Path) -> None:
    whole = load_project(str(DATA / "3d_u8_labels_only" / "project.ilp"))

    def split(file: h5py.File) -> None:
        block = file[f"{LABELS}/block0001"]
        data, attributes = block[()], dict(block.attrs)
        del file[f"{LABELS}/block0001"]
        for name, part, place in (("block0007", data[:9], "9:18"), ("block0003a", data[9:], "18:37")):
            file[f"{LABELS}/{name}"] = part
            file[f"{LABELS}/{name}"].attrs.update(attributes | {"blockSlice": f"[{place},40:64,40:53,0:1]"})

    again = load_project(edited(tmp_path, split, case="3d_u8_labels_only"))
    np.testing.assert_array_equal(again.labels, whole.labels)
    assert again.content_hash == whole.content_hash


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
        for path in (ROOT / package).rglob("*.py"):
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


def test_several_processes_read_while_another_holds_the_file_open(tmp_path: Path) -> None:
    path = copied("3d_u16_few_3class", tmp_path)
    with h5py.File(path, "r+"), multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(_hash_of, [str(path)] * 6, chunksize=2)
    assert set(found) == {_hash_of(str(path))}
