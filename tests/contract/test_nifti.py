from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError, ingest, open_volume
from blockwise.volume.axes import Spacing
from tests.contract.files import itk_image
from tests.contract.test_files import everything, voxels
from tests.examples import examples


def nifti(data: np.ndarray, path: str, units: tuple[str, str] = ("micron", "sec"), **fields: float) -> str:
    """Write an array in the order of the file, x first."""
    kind = nibabel.Nifti2Image if fields.pop("version", 1) == 2 else nibabel.Nifti1Image
    image = kind(data, np.diag([0.25, 0.5, 4.0, 1.0]))
    image.header.set_xyzt_units(*units)
    if data.ndim > 3:
        image.header["pixdim"][4] = 2.5
    nibabel.save(image, path)
    if fields:  # nibabel sets its own on saving
        content = bytearray(Path(path).read_bytes())
        content[112:120] = struct.pack("<2f", fields["slope"], fields["intercept"])
        Path(path).write_bytes(content)
    return path


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_types_of_nifti(tmp_path: Path, dtype: str, ending: str) -> None:
    data = voxels(dtype)
    itk_image(data, (4.0, 3.0, 2.0), f"{tmp_path}/a.{ending}")
    volume = open_volume(Path(f"{tmp_path}/a.{ending}").rename(tmp_path / f"A.{ending.upper()}").as_posix())
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    assert volume.spacing == Spacing((4.0, 3.0, 2.0), ("millimeter",) * 3)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
def test_axes_of_nifti_with_time_and_vectors(tmp_path: Path, ending: str, version: int) -> None:
    data = voxels("int16", (6, 5, 4, 3, 2))
    volume = open_volume(nifti(data, f"{tmp_path}/a.{ending}", version=version))
    assert (volume.axes, volume.shape) == ("ctzyx", (2, 3, 4, 5, 6))
    assert volume.spacing is not None
    assert volume.spacing.steps == (1.0, 2.5, 4.0, 0.5, 0.25)
    assert volume.spacing.units == ("", "second", "micrometer", "micrometer", "micrometer")
    np.testing.assert_array_equal(everything(volume), data.T, strict=True)
    box = (slice(1, 2), slice(0, 2), slice(2, 4), slice(1, 3), slice(3, 6))
    np.testing.assert_array_equal(volume.read(box), data.T[box])
    np.testing.assert_array_equal(volume.read(box), data.T[box])  # back to the beginning


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_colours_of_nifti(tmp_path: Path, ending: str) -> None:
    data = voxels("uint8", (6, 5, 4, 3))
    colours = data.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    volume = open_volume(nifti(colours, f"{tmp_path}/a.{ending}"))
    assert (volume.axes, volume.dtype) == ("zyxc", np.dtype("uint8"))
    assert volume.spacing == Spacing((4.0, 0.5, 0.25, 1.0), (*("micrometer",) * 3, ""))
    np.testing.assert_array_equal(everything(volume), data.transpose(2, 1, 0, 3))


def test_big_endian_nifti(tmp_path: Path) -> None:
    data = voxels("int16")
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(data.T, np.eye(4), header)
    nibabel.save(image, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/a.nii")), data, strict=True)


@pytest.mark.parametrize(("stored", "read"), [("int16", "float32"), ("float32", "float32"), ("int32", "float64")])
def test_scaled_values_of_nifti(tmp_path: Path, stored: str, read: str) -> None:
    data = voxels(stored)
    path = nifti(data.T, f"{tmp_path}/a.nii", slope=0.5, intercept=-1024)
    volume = open_volume(path)
    expected = (data * 0.5 - 1024).astype(read)
    np.testing.assert_array_equal(everything(volume), expected, strict=True)
    np.testing.assert_array_equal(everything(volume), np.asarray(nibabel.load(path).dataobj).T)
    nifti(data.T, path, slope=0, intercept=5)  # by the standard: not scaled
    np.testing.assert_array_equal(everything(open_volume(path)), data, strict=True)


@pytest.mark.soak
def test_a_compressed_nifti_is_read_in_the_memory_of_a_plane(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 9, (64, 256, 256)).astype(np.uint16)  # 8 MB
    address = itk_image(data, (1.0, 1.0, 1.0), f"{tmp_path}/a.nii.gz", compress=True)
    volume = open_volume(address)
    assert volume.slicewise
    assert volume.read_amplification((16, 128, 128)) == 16
    box = (slice(60, 64), slice(0, 16), slice(0, 16))
    tracemalloc.start()
    part = volume.read(box)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(part, data[box])
    assert peak < 4e6
    copy = ingest(address, f"{tmp_path}/a.n5:raw", memory_bytes=1 << 20)
    np.testing.assert_array_equal(everything(copy), data)


@given(st.data())
@settings(max_examples=examples(30), deadline=None)
def test_boxes_of_compressed_files_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    array = voxels("int16", data.draw(st.tuples(*[st.integers(1, 7)] * data.draw(st.integers(3, 5)))))
    folder = tmp_path_factory.mktemp("boxes")
    volume = open_volume(nifti(array.T, f"{folder}/a.nii.gz"))
    expected = array if volume.shape == array.shape else array.reshape(volume.shape)
    for _ in range(4):
        starts = [data.draw(st.integers(0, n - 1)) for n in volume.shape]
        box = tuple(slice(a, data.draw(st.integers(a + 1, n))) for a, n in zip(starts, volume.shape, strict=True))
        np.testing.assert_array_equal(volume.read(box), expected[box], strict=True)


def test_a_compressed_nifti_that_is_cut_off_is_told(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 999, (64, 32, 32)).astype(np.uint16)
    path = Path(itk_image(data, (1.0, 1.0, 1.0), f"{tmp_path}/a.nii.gz", compress=True))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    volume = open_volume(str(path))
    np.testing.assert_array_equal(volume.read((slice(0, 8),) * 3), data[:8, :8, :8])
    with pytest.raises(DamagedDataError, match="ended before"):
        everything(volume)
    with pytest.raises(UserError, match=r"a\.nii\.gz is damaged: .*copy it again"):
        volume.verify()
    with pytest.raises(UserError, match="damaged"):
        ingest(str(path), f"{tmp_path}/a.n5:raw")
    path.write_bytes(content[:-8] + bytes(4) + content[-4:])  # the checksum
    with pytest.raises(UserError, match="CRC"):
        open_volume(str(path)).verify()
    path.write_bytes(content[:100])
    with pytest.raises(UserError, match=str(path)):
        open_volume(str(path))


def test_nifti_files_that_are_refused(tmp_path: Path) -> None:
    for name, data, words in (
        ("complex.nii", voxels("complex64").T, "holds complex64"),
        ("many.nii", voxels("int16", (2, 2, 2, 2, 2, 3)), "has 6 dimensions"),
    ):
        path = nifti(data, f"{tmp_path}/{name}")
        with pytest.raises(UserError, match=words):
            open_volume(path)
    for name, content in (("a.nii", b"nothing" * 99), ("b.nii.gz", b"nothing" * 99), ("c.nii", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.*NIfTI"):
            open_volume(f"{tmp_path}/{name}")
