"""Formats of single files: what their headers can say, and what is refused."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, its usual name

from blockwise.errors import UserError
from blockwise.volume import ABSENT, Volume, open_volume
from blockwise.volume.axes import Spacing
from tests.contract.files import itk_image, mrc_bytes


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


def test_a_header_of_mrc_takes_no_memory_for_what_it_tells_of(tmp_path: Path) -> None:
    content = bytearray(mrc_bytes(voxels("int16"), 1))
    content[92:96] = (2_000_000_000).to_bytes(4, "little")
    (tmp_path / "a.mrc").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="cut off: it has 1,264 bytes, the header tells of 2,000,001,264"):
            open_volume(f"{tmp_path}/a.mrc")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("is_detached", [False, True])
def test_encodings_of_nrrd(tmp_path: Path, encoding: str, endian: str, is_detached: bool) -> None:
    data = voxels("int16")
    header = {"encoding": encoding, "endian": endian, "spacings": [2.0, 3.1, 5.0], "units": ["um", "um", "um"]}
    name = tmp_path / ("a.nhdr" if is_detached else "A.NRRD")
    nrrd.write(f"{name}", data.T, header, detached_header=is_detached)
    volume = open_volume(f"{name}")
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    assert (volume.axes, volume.spacing) == ("zyx", Spacing((5.0, 3.1, 2.0), ("micrometer",) * 3))
    assert volume.slicewise == (encoding != "raw")


@pytest.mark.parametrize(
    ("header", "axes", "steps"),
    [
        ({"kinds": ["vector", "domain", "domain", "domain"]}, "zyxc", None),
        ({"kinds": ["domain", "domain", "domain", "time"], "spacings": [1, 2, 3, 4]}, "tzyx", (4.0, 3.0, 2.0, 1.0)),
        ({"labels": ["x", "y", "c", "z"]}, "zcyx", None),
        (
            {"space": "left-posterior-superior",
             "space directions": [[np.nan] * 3, [0, 0, 3], [0, 4, 3], [-2, 0, 0]],
             "space units": ["mm", "mm", "um"]},
            "zyxc", (2.0, 5.0, 3.0, 1.0),
        ),
        ({}, None, None),
    ],
)  # fmt: skip
def test_axes_of_nrrd(tmp_path: Path, header: dict, axes: str | None, steps: tuple[float, ...] | None) -> None:
    data = voxels("uint8", (2, 3, 4, 5))
    nrrd.write(f"{tmp_path}/a.nrrd", data, header)
    volume = open_volume(f"{tmp_path}/a.nrrd")
    assert (volume.axes, volume.shape) == (axes, (5, 4, 3, 2))
    assert (volume.spacing and volume.spacing.steps) == steps
    if "space units" in header:
        assert volume.spacing.units == ("millimeter", "millimeter", "micrometer", "")
    np.testing.assert_array_equal(everything(volume), data.T)
    np.testing.assert_array_equal(volume.read((slice(1, 2),) * 4), data.T[1:2, 1:2, 1:2, 1:2])


def test_skips_of_nrrd(tmp_path: Path) -> None:
    data = voxels("uint8")
    (tmp_path / "data").write_bytes(b"one\ntwo\nxyz" + data.tobytes())
    lines = ["NRRD0004", "type: uint8", "dimension: 3", "sizes: 6 5 4", "encoding: raw", "data file: data"]
    for skips in (["line skip: 2", "byte skip: 3"], ["byte skip: -1"]):
        (tmp_path / "a.nhdr").write_text("\n".join([*lines, *skips, ""]))
        np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/a.nhdr")), data, strict=True)


@pytest.mark.parametrize("suffix", [".mrc", ".nii", ".nrrd", ".mha", ".npy", ".ims", ".nii.gz"])
def test_folders_and_patterns_are_no_files(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").mkdir()
    with pytest.raises(UserError, match=rf"a{suffix}.*cannot be"):
        open_volume(f"{tmp_path}/a{suffix}")
    with pytest.raises(UserError, match=rf"each {suffix} file is a volume"):
        open_volume(f"{tmp_path}/*{suffix}")


def test_header_and_data_are_both_watched(tmp_path: Path) -> None:
    for name, data_name in (("a.nhdr", "a.raw"), ("a.mhd", "a.raw")):
        itk_image(voxels("uint8"), (1.0, 1.0, 1.0), f"{tmp_path}/{name}")
        volume = open_volume(f"{tmp_path}/{name}")
        states = [volume.file_states()]
        for changed in (name, data_name):
            os.utime(tmp_path / changed, ns=(1, 1))
            states.append(volume.file_states())
        assert len({state.tobytes() for state in states}) == 3
        assert volume.file_of((0, 0, 0)) == f"{tmp_path}/{data_name}"
        (tmp_path / data_name).unlink()
        assert (volume.file_states()[..., 0] == ABSENT).all()
        with pytest.raises(UserError, match=f"there is no data file {tmp_path}/{data_name}"):
            open_volume(f"{tmp_path}/{name}")


NRRD = "NRRD0004\ntype: {}\ndimension: 3\nsizes: 6 5 4\nencoding: {}\n{}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (NRRD.format("uint8", "raw", "") + "x" * 119, "cut off"),
        (NRRD.format("uint8", "ascii", ""), "encoding is ascii"),
        (NRRD.format("int16", "raw", ""), "endian"),
        (NRRD.format("block", "raw", "block size: 4\n"), "holds|block"),
        (
            NRRD.format("uint8", "raw", "data file: LIST\na.raw\n"),
            "1 data files for 4 slices; expected one file for each",
        ),
        (NRRD.format("uint8", "raw", "data file: %02d.raw 1 4 1\n"), "4 of the 4 data files .* such as .*01.raw"),
        (NRRD.format("uint8", "gzip", "byte skip: -1\n") + "x", "byte skip is -1"),
        (NRRD.format("uint8", "raw", "byte skip: -5\n") + "x", "mean nothing"),
        ("NRRD0004\ntype: uint8\n\n", "lacks dimension, encoding, sizes"),
        ("nothing", "cannot be read as NRRD"),
        ("", "cannot be read as NRRD"),
    ],
)
def test_nrrd_files_that_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.nrrd").write_text(content)
    with pytest.raises(UserError, match=words):
        open_volume(f"{tmp_path}/a.nrrd")


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("compress", [False, True])
def test_types_of_itk(tmp_path: Path, dtype: str, name: str, compress: bool) -> None:
    data = voxels(dtype)
    volume = open_volume(itk_image(data, (4.0, 3.0, 2.0), f"{tmp_path}/{name}", compress=compress))
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    assert volume.spacing == Spacing((4.0, 3.0, 2.0), ("",) * 3)


@pytest.mark.parametrize("compress", [False, True])
def test_channels_time_and_byte_order_of_metaimage(tmp_path: Path, compress: bool) -> None:
    data = voxels("uint16", (4, 5, 6, 3))
    image = sitk.GetImageFromArray(data, isVector=True)
    image.SetSpacing((2.0, 3.0, 4.0))
    sitk.WriteImage(image, f"{tmp_path}/a.mha", useCompression=compress)
    volume = open_volume((tmp_path / "a.mha").rename(tmp_path / "A.MHA").as_posix())
    assert (volume.axes, volume.spacing) == ("zyxc", Spacing((4.0, 3.0, 2.0, 1.0), ("",) * 4))
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    np.testing.assert_array_equal(volume.read((slice(1, 3),) * 4), data[1:3, 1:3, 1:3, 1:3])
    if not compress:
        series = voxels("int16", (2, 3, 4, 5))
        sitk.WriteImage(sitk.GetImageFromArray(series, isVector=False), f"{tmp_path}/b.mha")
        np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/b.mha")), series, strict=True)
        assert open_volume(f"{tmp_path}/b.mha").axes == "tzyx"
        content = (tmp_path / "b.mha").read_bytes().replace(b"OrderMSB = False", b"OrderMSB = True")
        (tmp_path / "b.mha").write_bytes(content)
        np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/b.mha")), series.byteswap())


META = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\n{}ElementType = {}\nElementDataFile = {}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (META.format("", "MET_UCHAR", "LOCAL") + "x" * 119, "cut off"),
        (META.format("BinaryData = False\n", "MET_UCHAR", "LOCAL") + "1 " * 120, "as text"),
        (META.format("", "MET_STRING", "LOCAL"), "MET_STRING"),
        (META.format("", "MET_UCHAR", "LIST"), "0 data files for 4 slices"),
        (META.format("", "MET_UCHAR", "a%03d.raw 1 4 1"), "4 of the 4 data files .* such as .*a001.raw"),
        (META.format("HeaderSize = -1\n", "MET_UCHAR", "LOCAL"), "smaller than its voxels"),
        (META.format("", "MET_UCHAR", "LOCAL").replace("Image", "Tube"), "ObjectType = Image"),
        ("nothing", "lacks DimSize, ElementType, ElementDataFile"),
        ("", "lacks DimSize"),
    ],
)
def test_metaimages_that_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.mha").write_text(content)
    with pytest.raises(UserError, match=words):
        open_volume(f"{tmp_path}/a.mha")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("dtype", "read"), [("uint8", "uint8"), (">u2", "uint16"), ("<f2", "float32"), (">f8", "float64")]
)
def test_npy(tmp_path: Path, order: str, dtype: str, read: str) -> None:
    data = np.asarray(voxels("int16", (3, 4, 5, 6)).clip(0), dtype, order)
    np.save(tmp_path / "A.npy", data)
    (tmp_path / "A.npy").rename(tmp_path / "A.NPY")
    volume = open_volume(f"{tmp_path}/A.NPY")
    assert (volume.axes, volume.decode_shape) == (None, (1, 1, 1, 1))
    np.testing.assert_array_equal(everything(volume), data.astype(read), strict=True)
    assert everything(volume).flags.c_contiguous


def test_npy_files_that_are_refused(tmp_path: Path) -> None:
    for array, words in (
        (np.array([{}, {}]), "holds object|cannot be read"),
        (voxels("complex64"), "complex64"),
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
    ):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        with pytest.raises(UserError, match=words):
            open_volume(f"{tmp_path}/a.npy")
    np.save(tmp_path / "a.npy", voxels("uint8"))
    content = (tmp_path / "a.npy").read_bytes()
    for cut, words in ((-1, "cut off"), (20, "cannot be read"), (3, "cannot be read"), (0, "cannot be read")):
        (tmp_path / "a.npy").write_bytes(content[:cut])
        with pytest.raises(UserError, match=words):
            open_volume(f"{tmp_path}/a.npy")


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.dcm", "dcm2niix"), ("A.DCM", "dcm2niix"), ("a.oif", "OME-TIFF"), ("a.oib", "bfconvert"),
     ("layer/1/header.wkw", "as Zarr or as TIFF"), ("layer/1", "as Zarr or as TIFF"), ("series", "NIfTI"),
     ("series/*.dcm", "NIfTI")],
)  # fmt: skip
def test_formats_that_are_not_read_are_told_with_what_to_do(name: str, message: str, tmp_path: Path) -> None:
    for path in ("a.dcm", "A.DCM", "a.oif", "a.oib", "layer/1/header.wkw", "series/0.dcm"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    with pytest.raises(UserError, match=rf"not read; .*{message}"):
        open_volume(f"{tmp_path}/{name}")
