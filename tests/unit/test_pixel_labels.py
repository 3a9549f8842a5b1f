"""Labels are placed as ilastik meant them, whichever version wrote them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from tasks.pixel_classification.project import load_project
from tests.unit.pixel_cases import DATA, Edit, axis_tags, edited, replace

LANE = "Input Data/infos/lane0000/Raw Data"
LABELS = "PixelClassification/LabelSets/labels000"


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
