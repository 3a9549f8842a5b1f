"""Microscopes' own files, read by the plug-ins of bioio where they are installed; written by other hands."""

from __future__ import annotations

import importlib
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError, ingest, open_volume
from blockwise.volume.axes import Spacing
from tests.contract.test_files import everything, voxels

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the libraries below the plug-ins
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def library(name: str) -> Any:
    return pytest.importorskip(name, reason="an extra: pip install 'blockwise-ilastik[microscopes]' bioio-czi")


@pytest.mark.parametrize(
    ("name", "plugin", "command"),
    [
        ("a.CZI", "bioio-czi", "pip install bioio-czi"),
        ("a.lif", "bioio-lif", r"pip install 'blockwise-ilastik\[microscopes\]'"),
        ("a.nd2", "bioio-nd2", r"pip install 'blockwise-ilastik\[microscopes\]'"),
        ("a.dv", "bioio-dv", r"pip install 'blockwise-ilastik\[microscopes\]'"),
    ],
)
def test_a_plugin_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, plugin: str, command: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, plugin.replace("-", "_"), None)
    with pytest.raises(UserError, match=rf"{name}: .* are read by {plugin}, which is not installed .*: {command}"):
        open_volume(f"{tmp_path}/{name}")


@pytest.mark.parametrize("plugin", ["bioio_czi", "bioio_lif", "bioio_nd2", "bioio_dv"])
def test_what_is_no_such_file_is_told(tmp_path: Path, plugin: str) -> None:
    library(plugin)
    path = tmp_path / f"a.{plugin.removeprefix('bioio_')}"
    for content in (b"nothing" * 500, b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path}.*is it damaged"):
            open_volume(str(path))


def czi(path: Path, data: np.ndarray, scenes: int = 1) -> str:
    """Planes t, c, z; each scene is another part of the slide."""
    with importlib.import_module("pylibCZIrw.czi").create_czi(str(path)) as file:
        for scene in range(scenes):
            for t, c, z in np.ndindex(data.shape[:3]):
                place = {"scene": scene, "location": (500 * scene, 0)} if scenes > 1 else {}
                file.write((data[t, c, z] + np.uint16(scene))[..., None], plane={"T": t, "C": c, "Z": z}, **place)
        file.write_metadata("x", scale_x=2.5e-7, scale_y=5e-7, scale_z=4e-6)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "axes"), [((2, 3, 4, 64, 80), "tczyx"), ((1, 1, 4, 64, 80), "zyx"), ((1, 3, 1, 64, 80), "cyx")]
)
def test_czi(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    library("bioio_czi")
    data = voxels("uint16", shape)
    volume = open_volume(czi(tmp_path / "a.czi", data))
    expected = data.squeeze()
    assert (volume.axes, volume.shape, volume.slicewise) == (axes, expected.shape, True)
    assert volume.decode_shape == (*(1,) * (len(axes) - 2), 64, 80)
    steps = {"z": 4.0, "y": 0.5, "x": 0.25}
    assert volume.spacing is not None
    assert volume.spacing.steps == tuple(steps.get(axis, 1.0) for axis in axes)
    assert set(volume.spacing.units[-2:]) == {"micrometer"}
    np.testing.assert_array_equal(everything(volume), expected, strict=True)
    box = tuple(slice(n // 3, n - n // 4) for n in expected.shape)
    np.testing.assert_array_equal(volume.read(box), expected[box])
    copy = ingest(f"{tmp_path}/a.czi", f"{tmp_path}/a.n5:raw", memory_bytes=1 << 16)
    np.testing.assert_array_equal(everything(copy), expected)


def test_scenes_of_czi_that_the_plugin_does_not_see_are_told(tmp_path: Path) -> None:
    library("bioio_czi")
    path = czi(tmp_path / "a.czi", voxels("uint16", (1, 1, 2, 16, 18)), scenes=2)  # without a word in the metadata
    with pytest.raises(UserError, match="holds 2 scenes, but its metadata tells of 1"):
        open_volume(path)


def test_tiles_of_a_mosaic_in_czi(tmp_path: Path) -> None:
    library("bioio_czi")
    data = voxels("uint8", (100, 120, 3))
    with importlib.import_module("pylibCZIrw.czi").create_czi(f"{tmp_path}/a.czi") as file:
        for y in (0, 50):
            for x in (0, 60):
                file.write(data[y : y + 50, x : x + 60].copy(), location=(x, y))
    volume = open_volume(f"{tmp_path}/a.czi")
    assert (volume.axes, volume.shape, volume.decode_shape) == ("yxc", data.shape, (50, 60, 3))
    found = everything(volume)
    assert np.array_equal(found, data) or np.array_equal(found, data[..., ::-1])
    box = (slice(30, 70), slice(20, 110), slice(1, 2))
    np.testing.assert_array_equal(volume.read(box), found[box])


def lif(path: Path, images: dict[str, np.ndarray]) -> str:
    """A Leica file of images tczyx, as Leica describes them: XML in UTF-16, then blocks of memory."""

    def block(name: str, content: bytes) -> bytes:
        title = name.encode("utf-16-le")
        head = struct.pack("<IIBQBI", 0x70, 14 + len(title), 0x2A, len(content), 0x2A, len(name))
        return head + title + content

    elements, blocks = [], b""
    for number, (name, data) in enumerate(images.items()):
        counts = dict(zip("TCZYX", data.shape, strict=True))
        stride, strides = data.itemsize, {}
        for axis in "XYCZT":
            strides[axis], stride = stride, stride * counts[axis]
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * data.itemsize}" '
            'NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" LUTName="Green" IsLUTInverted="0" '
            f'BytesInc="{c * strides["C"]}" BitInc="0"/>'
            for c in range(counts["C"])
        )
        steps = {"X": 2.5e-7, "Y": 5e-7, "Z": 4e-6, "T": 1.5}
        dimensions = "".join(
            f'<DimensionDescription DimID="{number}" NumberOfElements="{counts[axis]}" Origin="0" '
            f'Length="{steps[axis] * (counts[axis] - 1)}" Unit="{"s" if axis == "T" else "m"}" BitInc="0" '
            f'BytesInc="{strides[axis]}"/>'
            for number, axis in enumerate("XYZT", 1)
            if counts[axis] > 1
        )
        elements.append(
            f'<Element Name="{name}" UniqueID="u{number}"><Data><Image><ImageDescription><Channels>{channels}'
            f"</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{data.nbytes}" MemoryBlockID="MemBlock_{number + 1}"/></Element>'
        )
        blocks += block(f"MemBlock_{number + 1}", np.ascontiguousarray(data.transpose(0, 2, 1, 3, 4)).tobytes())
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="a" UniqueID="u"><Data/>'
        f'<Memory Size="0" MemoryBlockID="MemBlock_0"/><Children>{"".join(elements)}</Children></Element>'
        "</LMSDataContainerHeader>"
    )
    head = struct.pack("<IIBI", 0x70, 5 + 2 * len(xml), 0x2A, len(xml)) + xml.encode("utf-16-le")
    path.write_bytes(head + blocks)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "axes"), [((2, 3, 4, 16, 18), "tczyx"), ((1, 1, 4, 16, 18), "zyx"), ((1, 3, 1, 16, 18), "cyx")]
)
def test_lif(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    library("bioio_lif")
    data = voxels("uint16", shape)
    volume = open_volume(lif(tmp_path / "a.lif", {"first": data}))
    expected = data.squeeze()
    order = [volume.axes.index(axis) for axis in axes]
    assert (sorted(volume.axes), volume.slicewise) == (sorted(axes), True)
    np.testing.assert_array_equal(everything(volume).transpose(order), expected, strict=True)
    box = tuple(slice(n // 3, n - n // 4) for n in volume.shape)
    np.testing.assert_array_equal(volume.read(box), everything(volume)[box])
    steps = {"z": 4.0, "y": 0.5, "x": 0.25}
    spatial = "".join(axis for axis in axes if axis in "zyx")
    assert volume.spacing is not None
    found = volume.spacing.along(volume.axes, spatial)
    assert found == Spacing(tuple(steps[axis] for axis in spatial), ("micrometer",) * len(spatial))


def test_scenes_and_damage_of_lif(tmp_path: Path) -> None:
    library("bioio_lif")
    data = voxels("uint8", (1, 1, 4, 16, 18))
    path = lif(tmp_path / "a.lif", {"first": data, "second": data + np.uint8(1)})
    with pytest.raises(UserError, match=r"holds 2 scenes: 0 \(first\), 1 \(second\)"):
        open_volume(path)
    np.testing.assert_array_equal(everything(open_volume(f"{path}:second")), data[0, 0] + 1)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-200])
    np.testing.assert_array_equal(everything(open_volume(f"{path}:0")), data[0, 0])
    with pytest.raises(UserError, match=r"'2' is no scene of .*it holds: 0"):
        open_volume(f"{path}:2")
    with pytest.raises((UserError, DamagedDataError), match=r"a\.lif:1"):
        everything(open_volume(f"{path}:1"))


def test_damage_of_czi(tmp_path: Path) -> None:
    library("bioio_czi")
    path = Path(czi(tmp_path / "a.czi", voxels("uint16", (1, 1, 4, 64, 80))))
    content = path.read_bytes()
    for length in (len(content) - 100, len(content) // 2, 3000):
        path.write_bytes(content[:length])
        with pytest.raises((UserError, DamagedDataError), match=str(path)):
            everything(open_volume(str(path)))


def test_dv(tmp_path: Path) -> None:
    library("bioio_dv")
    data = voxels("uint16", (4, 64, 80))
    path = tmp_path / "a.dv"
    importlib.import_module("mrc").save(data, str(path), ifExists="overwrite")
    volume = open_volume(str(path))
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    assert volume.slicewise
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises((UserError, DamagedDataError), match=str(path)):
        everything(open_volume(str(path)))
