"""TIFF as microscopes and slide scanners write it; tifffile reads, so the files are made by hand or by Pillow."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError, open_volume
from blockwise.volume.axes import Spacing
from tests.contract.test_files import everything, voxels

BYTE, ASCII, SHORT, LONG, RATIONAL = 1, 2, 3, 4, 5
SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8}
Tag = tuple[int, int, int, bytes]


def longs(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def page_tags(plane: np.ndarray, *others: Tag, compression: int = 1, offset: int = 8, size: int = 0) -> list[Tag]:
    height, width = plane.shape[:2]
    samples = plane.shape[2] if plane.ndim == 3 else 1
    return [
        (256, LONG, 1, longs(width)),
        (257, LONG, 1, longs(height)),
        (258, SHORT, samples, struct.pack("<H", 8 * plane.itemsize) * samples),
        (259, SHORT, 1, struct.pack("<H", compression)),
        (262, SHORT, 1, struct.pack("<H", 1 if samples == 1 else 6 if compression == 7 else 2)),
        (273, LONG, 1, longs(offset)),
        (277, SHORT, 1, struct.pack("<H", samples)),
        (278, LONG, 1, longs(height)),
        (279, LONG, 1, longs(size or plane.nbytes)),
        *others,
    ]


def tiff(pages: list[list[Tag]], data: bytes, *, is_ndpi: bool = False) -> bytes:
    """A TIFF file: header, data, pages. NDPI has offsets of 64 bits, whose upper halves stand behind the tags."""
    start = 16 if is_ndpi else 8
    content = bytearray(b"II*\0" + bytes(start - 4) + data)
    previous, width = 4, "<Q" if is_ndpi else "<I"
    for tags in pages:
        entries, shift = [], len(content)
        for code, kind, count, value in sorted(tags):
            if len(value) > 4:
                entries.append(struct.pack("<HHII", code, kind, count, len(content)))
                content += value + bytes(len(value) % 2)
            else:
                entries.append(struct.pack("<HHI", code, kind, count) + value.ljust(4, b"\0"))
        assert len(content) >= shift
        struct.pack_into(width, content, previous, len(content))
        content += struct.pack("<H", len(tags)) + b"".join(entries)
        previous = len(content)
        content += bytes(8 + 4 * len(tags) + 8) if is_ndpi else bytes(4)
    return bytes(content)


def lsm(path: Path, data: np.ndarray, scan: int, dimensions: dict[str, int], **values: float) -> str:
    """An LSM file of planes (n, channels, y, x); every plane is followed by a thumbnail."""
    info = np.zeros(
        1, [(name, f"<{kind}") for name, kind in tifffile.TIFF.CZ_LSMINFO if name != "DimensionsReserved"]
    )
    info = np.zeros(1, np.dtype([(n, k) for n, k in tifffile.TIFF.CZ_LSMINFO]).newbyteorder("<"))
    info["MagicNumber"], info["StructureSize"], info["ScanType"] = 67127628, info.dtype.itemsize, scan
    for name, value in {**dimensions, **values}.items():
        info[name] = value
    tag = info.tobytes()
    pages, content = [], b""
    for number, plane in enumerate(data):
        channels = len(plane)
        offsets = [8 + len(content) + c * plane[0].nbytes for c in range(channels)]
        content += plane.tobytes()
        tags = [
            (254, LONG, 1, longs(0)),
            *(t for t in page_tags(plane[0]) if t[0] not in (258, 273, 277, 279)),
            (258, SHORT, channels, struct.pack("<H", 8 * plane.itemsize) * channels),
            (273, LONG, channels, longs(*offsets)),
            (277, SHORT, 1, struct.pack("<H", channels)),
            (279, LONG, channels, longs(*[plane[0].nbytes] * channels)),
            (284, SHORT, 1, struct.pack("<H", 2)),
            *([(34412, BYTE, len(tag), tag)] if number == 0 else []),
        ]
        pages.append(tags)
        small = np.full((2, 2), 77, np.uint8)
        pages.append([(254, LONG, 1, longs(1)), *page_tags(small, offset=8 + len(content))])
        content += small.tobytes()
    path.write_bytes(tiff(pages, content))
    return str(path)


SIZES_LSM = {"VoxelSizeX": 2.5e-7, "VoxelSizeY": 5e-7, "VoxelSizeZ": 4e-6, "TimeIntervall": 1.5}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_lsm(tmp_path: Path, dtype: str) -> None:
    data = voxels(dtype, (4, 3, 16, 18))
    counts = {"DimensionX": 18, "DimensionY": 16, "DimensionZ": 4, "DimensionChannels": 3, "DimensionTime": 1}
    volume = open_volume(lsm(tmp_path / "A.LSM", data, 0, counts, **SIZES_LSM))
    assert volume.axes == "zcyx"
    assert volume.spacing == Spacing((4.0, 1.0, 0.5, 0.25), ("micrometer", "", "micrometer", "micrometer"))
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    box = (slice(1, 3), slice(1, 2), slice(4, 9), slice(3, 18))
    np.testing.assert_array_equal(volume.read(box), data[box])
    assert open_volume(f"{tmp_path}/A.LSM:1").shape[-2:] == (2, 2)
    assert open_volume(f"{tmp_path}/A.LSM:1").spacing is None


def test_lsm_with_time_and_with_positions(tmp_path: Path) -> None:
    data = voxels("uint8", (6, 1, 16, 18))
    counts = {"DimensionX": 18, "DimensionY": 16, "DimensionZ": 3, "DimensionChannels": 1, "DimensionTime": 2}
    volume = open_volume(lsm(tmp_path / "a.lsm", data, 6, counts, **SIZES_LSM))
    assert (volume.axes, volume.shape) == ("tzyx", (2, 3, 16, 18))
    assert volume.spacing.steps == (1.5, 4.0, 0.5, 0.25)
    assert volume.spacing.units[0] == "second"
    np.testing.assert_array_equal(everything(volume).reshape(data[:, 0].shape), data[:, 0])
    with pytest.raises(UserError, match=r"axes PZYX, shape \(2, 3, 16, 18\), among them positions"):
        open_volume(lsm(tmp_path / "b.lsm", data, 0, {**counts, "DimensionTime": 1, "DimensionP": 2}, **SIZES_LSM))


def stk(path: Path, data: np.ndarray, z: list[tuple[int, int]], waves: list[int], *, unit: str = "um") -> str:
    """A MetaMorph stack: one page, whose planes follow each other; distances are fractions."""
    n = len(data)
    place = 8 + data.nbytes
    x, y, name = place, place + 8, place + 16
    extra = longs(1, 4) + longs(1, 2) + longs(len(unit) + 1) + unit.encode() + b"\0"
    uic2 = b"".join(longs(*step, 2459000, 1000 * i, 2459000, 1000 * i) for i, step in enumerate(z))
    tags = page_tags(
        data[0],
        (33628, LONG, 3, longs(4, x, 5, y, 6, name)),  # XCalibration, YCalibration, CalibrationUnits
        (33629, RATIONAL, n, uic2),
        (33630, RATIONAL, n, b"".join(longs(wave, 1) for wave in waves)),
    )
    path.write_bytes(tiff([tags], data.tobytes() + extra))
    return str(path)


def test_stk(tmp_path: Path) -> None:
    data = voxels("uint16", (5, 12, 14))
    volume = open_volume(stk(tmp_path / "A.STK", data, [(4, 1)] * 5, [488] * 5))
    assert (volume.axes, volume.shape) == ("zyx", data.shape)
    assert volume.spacing == Spacing((4.0, 0.5, 0.25), ("micrometer",) * 3)
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    colours = open_volume(stk(tmp_path / "b.stk", data, [(0, 1)] * 5, [405, 488, 561, 594, 640]))
    assert colours.axes in ("cyx", "tyx")
    plain = open_volume(stk(tmp_path / "c.stk", data, [(4, 1)] * 5, [488] * 5, unit="pixel"))
    assert plain.spacing is None


def test_a_stk_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    data = voxels("uint16", (5, 12, 14))
    path = Path(stk(tmp_path / "a.stk", data, [(4, 1)] * 5, [488] * 5))
    path.write_bytes(path.read_bytes()[: data.nbytes // 2])
    with pytest.raises((UserError, DamagedDataError), match=r"a\.stk"):
        everything(open_volume(str(path)))


def scene(channels: tuple[int, ...] = (3,)) -> np.ndarray:
    y, x = np.mgrid[:96, :160]
    plane = (127 + 60 * np.sin(y / 17) + 60 * np.cos(x / 23)).astype(np.uint8)
    return np.stack([np.roll(plane, 7 * i, 1) for i in range(channels[0])], -1) if channels else plane


@pytest.mark.parametrize("compression", ["jpeg", "jpeg_2000_lossy", "lzw", None])
def test_svs(tmp_path: Path, compression: str | None) -> None:
    data = scene()
    description = "Aperio Image Library v11\n160x96 (32x32)|AppMag = 20|MPP = 0.4990"
    options = {"photometric": "rgb", "compression": compression, "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.svs") as file:
        file.write(data, tile=(32, 32), description=description, **options)
        file.write(data[::4, ::4], description="Aperio Image Library thumbnail", **options)
        file.write(data[::2, ::2], tile=(32, 32), description="Aperio Image Library level", **options)
    (tmp_path / "a.svs").rename(tmp_path / "A.SVS")
    volume = open_volume(f"{tmp_path}/A.SVS")
    assert (volume.axes, volume.shape, volume.decode_shape) == ("yxc", data.shape, (32, 32, 3))
    assert volume.spacing == Spacing((0.499, 0.499, 1.0), ("micrometer", "micrometer", ""))
    expected = tifffile.imread(tmp_path / "A.SVS")
    np.testing.assert_array_equal(everything(volume), expected)
    assert np.abs(expected.astype(int) - data).max() < (30 if compression else 1)
    box = (slice(20, 70), slice(30, 100), slice(1, 3))
    np.testing.assert_array_equal(volume.read(box), expected[box])
    thumbnail = open_volume(f"{tmp_path}/A.SVS:1")
    assert (thumbnail.shape, thumbnail.spacing) == ((24, 40, 3), None)


def test_qptiff(tmp_path: Path) -> None:
    data = np.moveaxis(scene((5,)), -1, 0)
    options = {"software": "PerkinElmer-QPI", "photometric": "minisblack", "metadata": None}
    options |= {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "compression": "lzw"}
    with tifffile.TiffWriter(tmp_path / "a.qptiff") as file:
        for plane in data:
            file.write(plane, tile=(32, 32), **options)
        file.write(scene()[::4, ::4], **{**options, "photometric": "rgb"})
        for plane in data:
            file.write(plane[::2, ::2], tile=(32, 32), **options)
    volume = open_volume(f"{tmp_path}/a.qptiff")
    assert (volume.axes, volume.shape, volume.decode_shape) == ("cyx", data.shape, (1, 32, 32))
    assert volume.spacing == Spacing((1.0, 0.5, 0.5), ("", "micrometer", "micrometer"))
    np.testing.assert_array_equal(everything(volume), data)
    box = (slice(1, 4), slice(20, 70), slice(30, 100))
    np.testing.assert_array_equal(volume.read(box), data[box])


@pytest.mark.parametrize("with_restarts", [True, False])
def test_ndpi(tmp_path: Path, with_restarts: bool) -> None:
    """One JPEG for a whole slide; where it has restart markers, parts of it can be decoded."""
    data = scene()
    stream = io.BytesIO()
    options = {"restart_marker_blocks": 5} if with_restarts else {}
    Image.fromarray(data).save(stream, "JPEG", quality=95, subsampling=0, **options)
    jpeg = stream.getvalue()
    at_scan = jpeg.index(b"\xff\xda")
    first = at_scan + 2 + struct.unpack(">H", jpeg[at_scan + 2 : at_scan + 4])[0]
    starts = [first, *(i + 2 for i in range(first, len(jpeg) - 1) if jpeg[i] == 0xFF and 0xD0 <= jpeg[i + 1] <= 0xD7)]
    tags = page_tags(
        data,
        (271, ASCII, 10, b"Hamamatsu\0"),
        (282, RATIONAL, 1, longs(20000, 1)),
        (283, RATIONAL, 1, longs(10000, 1)),
        (296, SHORT, 1, struct.pack("<H", 3)),
        (65420, LONG, 1, longs(1)),
        *([(65426, LONG, len(starts), longs(*starts))] if with_restarts else []),
        compression=7,
        offset=16,
        size=len(jpeg),
    )
    (tmp_path / "a.ndpi").write_bytes(tiff([tags], jpeg, is_ndpi=True))
    volume = open_volume(f"{tmp_path}/a.ndpi")
    assert (volume.axes, volume.shape) == ("yxc", data.shape)
    assert (volume.decode_shape != volume.shape) == with_restarts
    assert volume.spacing == Spacing((1.0, 0.5, 1.0), ("micrometer", "micrometer", ""))
    expected = np.asarray(Image.open(io.BytesIO(jpeg)))
    found = everything(volume)
    assert np.abs(found.astype(int) - expected).max() <= 2  # another decoder of JPEG
    box = (slice(20, 70), slice(30, 100), slice(1, 3))
    np.testing.assert_array_equal(volume.read(box), found[box])
