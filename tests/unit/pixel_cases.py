"""Cases made with ilastik: an image, a project, and what ilastik makes of them."""

from __future__ import annotations

import functools
import lzma
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.project import Project

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
REFERENCE = ROOT.parent / "shared" / "reference"


UNPACKED = tempfile.TemporaryDirectory(prefix="cases-")


def case_folder(name: str) -> Path:
    """The case's folder in this repository, else beside the project; skips where it is in neither."""
    if (DATA / name / "project.ilp.xz").exists():
        return _unpacked(name)
    for parent in (DATA, REFERENCE):
        if (parent / name / "project.ilp").exists():
            return parent / name
    pytest.skip(f"the reference case {name} is not there: no folder {REFERENCE}")


@functools.cache
def _unpacked(name: str) -> Path:
    """A case whose project is compressed, as ilastik's own files are not."""
    folder = Path(UNPACKED.name, name)
    shutil.copytree(DATA / name, folder)
    with lzma.open(folder / "project.ilp.xz") as packed, (folder / "project.ilp").open("wb") as file:
        shutil.copyfileobj(packed, file)
    return folder


def read(path: Path, key: str) -> NDArray[Any]:
    with h5py.File(path, "r", locking=False) as file:
        array: NDArray[Any] = file[key][()]
    return array


def image_zyxc(path: Path, axes: str) -> NDArray[Any]:
    """The image of a case, whose axes are some of zyxc in this order."""
    raw = read(path, "data")
    return raw.reshape((1,) * ("z" not in axes) + raw.shape + (1,) * ("c" not in axes))


def whole(image: NDArray[Any]) -> tuple[slice, slice, slice]:
    z, y, x = (slice(0, n) for n in image.shape[:3])
    return z, y, x


def predict(project: Project, image: NDArray[Any], variant: str = "fastfilters") -> NDArray[np.float32]:
    """Probabilities (z, y, x, classes) of a whole image with the reference engine."""
    engine = make_engine("reference", project, variant)  # type: ignore[arg-type]
    return np.moveaxis(engine.predict(image, whole(image)), 0, -1)


def copied(name: str, folder: Path, *files: str) -> Path:
    """A copy of a case's project and image, or of these files, that a test may change."""
    for file in files or ("project.ilp", "input.h5"):
        shutil.copy(case_folder(name) / file, folder / file)
    return folder / "project.ilp"


def axis_tags(axes: str) -> str:
    """Axis tags as ilastik writes them."""
    return '{"axes": [' + ", ".join(f'{{"key": "{axis}", "typeFlags": 2}}' for axis in axes) + "]}"


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


def with_objects(path: Path, columns: int = 8) -> None:
    """Make a project of pixels one of object classification, as if its classifier had been trained on other columns.

    Args:
        path: of the project, which is changed.
        columns: of the classifier: 7 of flat images, 8 where objects have a third radius.
    """
    with h5py.File(case_folder("objects_2d_prediction") / "project.ilp") as case, h5py.File(path, "r+") as file:
        del file["workflowName"]
        file["workflowName"] = "Object Classification (from pixel classification)"
        for group in ("ObjectExtraction", "ObjectClassification"):
            case.copy(group, file)
        forest = file["ObjectClassification/ClassifierForests/Forest0000"]
        forest["_ext_param/column_count_"][0] = columns
        for name in forest:
            if name.startswith("Tree_"):
                topology = forest[name]["topology"][()]
                topology[0] = columns
                forest[name]["topology"][...] = topology
