"""Formats of single files: what their headers can say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, its usual name

from blockwise.errors import UserError
from blockwise.volume import Volume, open_volume
from blockwise.volume.axes import Spacing
from tests.contract.files import mrc_bytes


def everything(volume: Volume) -> np.ndarray:
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def voxels(dtype: str, shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    low, high = (-100, 100) if np.dtype(dtype).kind != "u" else (0, 250)
    return np.random.default_rng(1).integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("mode", "stored", "read"),
    [(0, "int8", "int8"), (1, "int16", "int16"), (2, "float32", "float32"), (6, "uint16", "uint16"),
     (12, "float16", "float32")],
)  # fmt: skip
def test_modes_of_mrc(tmp_path: Path, order: str, mode: int, stored: str, read: str) -> None:
    data = voxels(stored)
    (tmp_path / "A.MRC").write_bytes(mrc_bytes(data, mode, order=order, extended=bytes(160)))
    volume = open_volume(f"{tmp_path}/A.MRC")
    assert (volume.axes, volume.dtype) == ("zyx", np.dtype(read))
    np.testing.assert_array_equal(everything(volume), data.astype(read), strict=True)


def test_bytes_of_imod_are_unsigned_unless_a_flag_says_otherwise(tmp_path: Path) -> None:
    data = voxels("uint8")
    for flags, dtype in ((0, "uint8"), (1, "int8")):
        (tmp_path / "a.rec").write_bytes(mrc_bytes(data, 0, imod_flags=flags))
        np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/a.rec")), data.view(dtype), strict=True)


@pytest.mark.parametrize(
    ("order", "axes"), [((1, 2, 3), "zyx"), ((3, 2, 1), "xyz"), ((2, 1, 3), "zxy"), ((2, 3, 1), "xzy")]
)
def test_axis_order_of_mrc_is_honoured(tmp_path: Path, order: tuple[int, int, int], axes: str) -> None:
    (tmp_path / "a.map").write_bytes(mrc_bytes(voxels("int16"), 1, axes=order, angstrom=(2.0, 3.1, 5.0)))
    volume = open_volume(f"{tmp_path}/a.map")
    sizes = {"x": 2.0, "y": 3.1, "z": 5.0}
    assert (volume.axes, volume.shape) == (axes, (4, 5, 6))
    assert volume.spacing == Spacing(tuple(sizes[axis] for axis in axes), ("angstrom",) * 3)


def test_mrc_of_simpleitk(tmp_path: Path) -> None:
    data = voxels("int16", (7, 8, 9))
    image = sitk.GetImageFromArray(data)
    image.SetSpacing((2.0, 3.5, 5.0))
    sitk.WriteImage(image, f"{tmp_path}/a.mrc")
    volume = open_volume(f"{tmp_path}/a.mrc")
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    assert volume.spacing == Spacing((5.0, 3.5, 2.0), ("angstrom",) * 3)


def test_single_images_and_stacks_of_volumes_in_mrc(tmp_path: Path) -> None:
    (tmp_path / "a.mrc").write_bytes(mrc_bytes(voxels("int16", (5, 6)), 1, space_group=0))
    assert (open_volume(f"{tmp_path}/a.mrc").axes, open_volume(f"{tmp_path}/a.mrc").shape) == ("yx", (5, 6))
    data = voxels("int16", (2, 4, 5, 6))
    (tmp_path / "b.mrc").write_bytes(mrc_bytes(data, 1, space_group=401))
    assert open_volume(f"{tmp_path}/b.mrc").axes is None
    np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/b.mrc")), data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (mrc_bytes(voxels("int16"), 1)[:-1], "cut off: it has 1,263 bytes, the header tells of 1,264"),
        (mrc_bytes(voxels("int16"), 1)[:500], "not an MRC file"),
        (mrc_bytes(voxels("complex64"), 4), "mode 4"),
        (mrc_bytes(voxels("int16"), 1, axes=(1, 1, 3)), r"mapc, mapr and maps are \[1, 1, 3\]"),
        (
            mrc_bytes(voxels("int16", (2, 4, 5, 6)), 1, space_group=401)[:36]
            + bytes(4)
            + mrc_bytes(voxels("int16", (2, 4, 5, 6)), 1, space_group=401)[40:],
            "not an MRC file",
        ),
        (b"PK" + bytes(2000), "not an MRC file"),
        (b"Some text that is not a map. " * 100, "not an MRC file|mode"),
    ],
)
def test_mrc_files_that_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.mrc").write_bytes(content)
    with pytest.raises(UserError, match=words) as failure:
        open_volume(f"{tmp_path}/a.mrc")
    assert f"{tmp_path}/a.mrc" in str(failure.value)
