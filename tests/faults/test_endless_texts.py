"""Texts without an end in HDF5 files: HDF5 looks for the next one for ever, where no signal reaches it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume import open_volume
from tests.contract.files import imaris

LOOK = """
import sys
from blockwise.errors import UserError
from blockwise.volume import open_volume
for address in sys.argv[1:]:
    try:
        print(open_volume(address).axes)
    except UserError as error:
        print(error)
"""
VOXELS = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)


def with_attribute(name: str, value: object) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("g/raw", data=VOXELS, chunks=(2, 5, 6)).attrs[name] = value
        return f"{folder}/a.h5:g/raw"

    return write


def behind_a_link(folder: Path) -> str:
    with_attribute("axistags", "{}")(folder)
    with h5py.File(folder / "b.h5", "w") as file:
        file["far"] = h5py.ExternalLink("a.h5", "g/raw")
    return f"{folder}/b.h5:far"


def virtual(folder: Path) -> str:
    """Its map lies where texts do."""
    with_attribute("offset", 1)(folder)
    layout = h5py.VirtualLayout(VOXELS.shape, "u1")
    layout[:] = h5py.VirtualSource("a.h5", "g/raw", VOXELS.shape)
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return f"{folder}/v.h5:raw"


def virtual_of_virtual(folder: Path) -> str:
    virtual(folder)
    layout = h5py.VirtualLayout(VOXELS.shape, "u1")
    layout[:] = h5py.VirtualSource("v.h5", "raw", VOXELS.shape)
    with h5py.File(folder / "w.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
        file["own"] = h5py.SoftLink("raw")
    return f"{folder}/w.h5:own"


def unknown_key(folder: Path) -> str:
    return virtual(folder).replace(":raw", ":other")


def imaris_unit(folder: Path) -> str:
    path = imaris(folder / "a.ims", VOXELS[None, None])
    with h5py.File(path, "r+") as file:
        file["DataSetInfo/Image"].attrs["Unit"] = "um"
    return path


CASES = {
    "axistags": (with_attribute("axistags", '{"axes": []}'), "a.h5"),
    "labels": (with_attribute("DIMENSION_LABELS", ["z", "y", "x"]), "a.h5"),
    "units": (with_attribute("axis_units", '{"z": "um"}'), "a.h5"),
    "link": (behind_a_link, "a.h5"),
    "virtual": (virtual, "v.h5"),
    "virtual-of-virtual": (virtual_of_virtual, "v.h5"),
    "unknown-key": (unknown_key, "v.h5"),
    "imaris": (imaris_unit, "a.ims"),
}


def test_they_are_refused_wherever_they_are_read(tmp_path: Path) -> None:
    """In a process of its own: nothing here could end it otherwise."""
    addresses, places = [], []
    for name, (write, damaged) in CASES.items():
        (tmp_path / name).mkdir()
        addresses.append(write(tmp_path / name))
        if name != "unknown-key":
            assert open_volume(addresses[-1]).shape == VOXELS.shape
        content = bytearray((tmp_path / name / damaged).read_bytes())
        start = content.index(b"GCOL")
        content[start + 16 : start + 32] = bytes(16)
        (tmp_path / name / damaged).write_bytes(content)
        places.append(
            f"{tmp_path}/{name}/{damaged}: is damaged, the texts at byte {start:,} have no end; copy it again"
        )
    words = [sys.executable, "-c", LOOK, *addresses]
    assert subprocess.run(words, capture_output=True, text=True, timeout=100).stdout.splitlines() == places


def test_voxels_that_look_like_texts_are_none(tmp_path: Path) -> None:
    """Only what HDF5 reads on the way to the texts is looked at, however large the file is."""
    looks = np.frombuffer(b"GCOL\x01\0\0\0" + (4096).to_bytes(8, "little") + bytes(4080), np.uint8).reshape(4, 32, 32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=looks).attrs["axistags"] = "{}"
    np.testing.assert_array_equal(
        open_volume(f"{tmp_path}/a.h5:raw").read((slice(0, 4), slice(0, 32), slice(0, 32))), looks
    )


def test_a_file_of_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    with pytest.raises(UserError, match="not an HDF5 file"):
        open_volume(f"{tmp_path}/a.h5:raw")
