"""A damaged project is refused with a message, whatever the damage; never with a traceback, never accepted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume.hdf5_heaps import endless_heap
from tasks.pixel_classification.project import load_project

PROJECT = Path(__file__).parents[2] / "data" / "membranes.ilp"
TREE = "PixelClassification/ClassifierForests/Forest0000/Tree_00"
Damage = Callable[[h5py.File], None]


def store(name: str, value: object) -> Damage:
    def damage(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return damage


def put(name: str, place: int, value: float) -> Damage:
    def damage(file: h5py.File) -> None:
        file[name][place] = value

    return damage


def make_group(name: str) -> Damage:
    def damage(file: h5py.File) -> None:
        del file[name]
        file.create_group(name)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put("FeatureSelections/Scales", 2, np.nan), "scale nan"),
        (put("FeatureSelections/Scales", 2, np.inf), "scale inf"),
        (put("FeatureSelections/Scales", 2, -1.0), "scale -1"),
        (store("FeatureSelections/Scales", 1.0), "damaged"),
        (put(f"{TREE}/topology", 2, 1), "type 0x1"),
        (put(f"{TREE}/topology", 4, 2), "a child at 2"),
        (put(f"{TREE}/topology", 3, -5), "parameters at -5"),
        (put(f"{TREE}/topology", 3, 10**6), "parameters at 1000000"),
        (put(f"{TREE}/topology", 6, 99), "beyond its 12"),
        (store(f"{TREE}/topology", np.zeros(50)), "feature columns"),
        (make_group(f"{TREE}/topology"), "classifier cannot be read"),
        (store("Input Data/infos/lane0000/Raw Data/axistags", b"{"), "axis tags"),
    ],
)
def test_damage_is_named(damage: Damage, message: str, tmp_path: Path) -> None:
    path = shutil.copyfile(PROJECT, tmp_path / "damaged.ilp")
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=rf"project {path}: .*{message}"):
        load_project(str(path))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.ilp"
    content = PROJECT.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"damaged|not an HDF5 file"):
        load_project(str(path))


def test_display_and_time_do_not_change_the_content(tmp_path: Path) -> None:
    path = shutil.copyfile(PROJECT, tmp_path / "saved again.ilp")
    with h5py.File(path, "r+") as file:
        store("time", b"another day")(file)
        store("PixelClassification/LabelColors", np.zeros((2, 3), np.int64))(file)
    assert load_project(str(path)).content_hash == load_project(str(PROJECT)).content_hash
    with h5py.File(path, "r+") as file:
        threshold = file[f"{TREE}/parameters"][1]
        put(f"{TREE}/parameters", 1, threshold * 1.001)(file)
    assert load_project(str(path)).content_hash != load_project(str(PROJECT)).content_hash


def test_texts_without_an_end(tmp_path: Path) -> None:
    """Of these HDF5 looks for the next one for ever, where no signal reaches it."""
    shutil.copy(PROJECT, tmp_path / "p.ilp")
    content = bytearray((tmp_path / "p.ilp").read_bytes())
    start = content.index(b"GCOL")
    assert endless_heap(f"{tmp_path}/p.ilp") is None
    content[start + 16 : start + 32] = bytes(16)
    (tmp_path / "p.ilp").write_bytes(content)
    with pytest.raises(UserError, match=rf"texts at byte {start:,} have no end; copy it again"):
        load_project(f"{tmp_path}/p.ilp")
