"""Arrays as other programs write them: at a container's root, without groups, with their filters and codecs."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import tensorstore as ts
import z5py
import zarr
from numcodecs import BZ2, LZ4, LZMA, Blosc, Delta, FixedScaleOffset, Fletcher32, GZip, Zlib, Zstd
from zarr.codecs.numcodecs import Adler32

from blockwise.errors import UserError
from blockwise.volume import ABSENT, DamagedDataError, Volume, create_volume, ingest, open_volume
from blockwise.volume.axes import Spacing
from blockwise.volume.containers.z5 import Z5Volume

DATA = np.random.default_rng(5).integers(1, 200, (5, 6, 7)).astype(np.int32)


def everything(volume: Volume) -> np.ndarray:
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def write(path: Path, key: str, driver: str, **metadata: Any) -> str:
    """An array by TensorStore, which writes no groups; its address."""
    common = {
        "zarr": {"dtype": "<i4", "shape": [5, 6, 7], "chunks": [2, 4, 4], "compressor": {"id": "zlib", "level": 1}},
        "n5": {
            "dataType": "int32", "dimensions": [7, 6, 5], "blockSize": [4, 4, 2], "compression": {"type": "gzip"}
        },
        "zarr3": {
            "data_type": "int32", "shape": [5, 6, 7],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 4, 4]}},
        },
    }[driver]  # fmt: skip
    kvstore = f"file://{path}/{key + '/' if key else ''}"
    array = ts.open({"driver": driver, "kvstore": kvstore, "metadata": common | metadata, "create": True}).result()
    array[...] = DATA.T if driver == "n5" else DATA
    return f"{path}:{key}" if key else str(path)


@pytest.mark.parametrize("groups", [(), ("",), ("", "a")], ids=["none", "root", "all"])
@pytest.mark.parametrize("key", ["", "v", "a/v"])
@pytest.mark.parametrize("driver", ["zarr", "n5", "zarr3"])
def test_groups_need_not_be_there(tmp_path: Path, driver: str, key: str, groups: tuple[str, ...]) -> None:
    path = tmp_path / f"c.{driver.rstrip('3')}"
    address = write(path, key, driver)
    name, document = {
        "zarr": (".zgroup", {"zarr_format": 2}),
        "n5": ("attributes.json", {"n5": "2.0.0"}),
        "zarr3": ("zarr.json", {"zarr_format": 3, "node_type": "group"}),
    }[driver]
    for group in groups:
        if key.startswith(f"{group}/" if group else "a") or (key and not group):
            (path / group / name).write_text(json.dumps(document))
    volume = open_volume(address)
    np.testing.assert_array_equal(everything(volume), DATA)
    assert volume.shape == DATA.shape
    assert (volume.file_states()[..., 0] != ABSENT).all()
    chunk = Path(volume.file_of((1, 1, 1)))
    chunk.write_bytes(chunk.read_bytes()[:9])
    with pytest.raises(DamagedDataError, match=str(chunk)):
        everything(open_volume(address))
    if key:
        with pytest.raises(UserError, match=f"did you mean {path}:{key}"):
            open_volume(f"{path}:{key}x")


ZARR2 = {
    "lz4": {"compressors": LZ4()},
    "delta": {"filters": [Delta("<i4")], "compressors": None},
    "fixedscaleoffset": {"filters": [FixedScaleOffset(0, 1, "<i4", "<i2")]},
    "lzma": {"compressors": LZMA(preset=1)},
    "fletcher32": {"filters": [Fletcher32()]},
}


def codec_array(folder: Path, name: str) -> str:
    options = ZARR2.get(name) or {"compressors": [Adler32()]}
    array = zarr.create_array(
        folder / "a.zarr", name="v", shape=DATA.shape, chunks=(2, 4, 4), dtype="<i4",
        zarr_format=2 if name in ZARR2 else 3, **options,
    )  # fmt: skip
    array[...] = DATA
    return f"{folder}/a.zarr:v"


@pytest.mark.parametrize("name", [*ZARR2, "numcodecs.adler32"])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
def test_filters_and_codecs_of_numcodecs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = codec_array(tmp_path, name)
    volume = open_volume(address)
    box = (slice(1, 4), slice(2, 6), slice(0, 7))
    np.testing.assert_array_equal(everything(volume), DATA)
    np.testing.assert_array_equal(volume.read(box), DATA[box])
    np.testing.assert_array_equal(everything(ingest(address, f"{tmp_path}/copy.n5:v")), DATA)
    assert (volume.file_states()[..., 0] > 0).all()
    chunk = Path(volume.file_of((0, 0, 0)))
    chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.raises(DamagedDataError, match=str(chunk)):
        everything(volume)
    # Without the library it is refused when it is opened, and named.
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=rf"{name}.*pip install 'blockwise-ilastik\[codecs\]'"):
        open_volume(address)


def test_codecs_that_nobody_knows_are_named(tmp_path: Path) -> None:
    address = write(tmp_path / "a.zarr", "v", "zarr")
    path = tmp_path / "a.zarr/v/.zarray"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "compressor": {"id": "secret-of-our-lab"}}))
    with pytest.raises(UserError, match=r"codecs \(secret-of-our-lab\) of which one is not known here"):
        open_volume(address)


def test_the_lz4_of_javas_n5_is_no_damage(tmp_path: Path) -> None:
    """It has a frame that nobody here knows; z5py's own has none, and a small number for a level."""
    address = write(tmp_path / "a.n5", "v", "n5")
    (tmp_path / "a.n5/attributes.json").write_text('{"n5": "2.0.0"}')
    path = tmp_path / "a.n5/v/attributes.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "compression": {"type": "lz4", "blockSize": 65536}}))
    with pytest.raises(UserError, match=r"cannot read this array: .*lz4.*; a copy compressed by gzip can be read"):
        open_volume(address)


@pytest.mark.parametrize(
    ("dtype", "written", "value"),
    [("<i4", "0", 0), ("<i4", "7", 7), ("<i4", 7.0, 7), ("<f4", "0", 0), ("<f4", "1.5", 1.5), ("|b1", "false", 0)],
)
def test_fill_values_that_were_written_as_text(tmp_path: Path, dtype: str, written: Any, value: float) -> None:
    path = tmp_path / "a.zarr/v"
    path.mkdir(parents=True)
    document = {"zarr_format": 2, "shape": [5, 6], "chunks": [4, 4], "dtype": dtype, "fill_value": written}
    rest = {"compressor": None, "filters": None, "order": "C"}
    (path / ".zarray").write_text(json.dumps(document | rest))
    volume = open_volume(f"{tmp_path}/a.zarr:v")
    assert volume.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(everything(volume), np.full((5, 6), value, dtype))


HDF5 = {
    "bitshuffle": hdf5plugin.Bitshuffle(),
    "blosc": hdf5plugin.Blosc(),
    "zstd": hdf5plugin.Zstd(),
    "lz4": hdf5plugin.LZ4(),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.soak if name != "blosc" else ()) for name in HDF5]
)
def test_filters_of_hdf5(tmp_path: Path, name: str) -> None:
    address = f"{tmp_path}/a.h5:v"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("v", data=DATA, chunks=(2, 4, 4), **HDF5[name])
    script = (
        "import sys\n"
        "if sys.argv[2] == 'without': sys.modules['hdf5plugin'] = None\n"
        "from blockwise.volume import open_volume\n"
        "from blockwise.errors import UserError\n"
        "try: print(open_volume(sys.argv[1]).read((slice(0, 5), slice(0, 6), slice(0, 7))).sum())\n"
        "except UserError as error: print(error)\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script, address, how], capture_output=True, text=True, check=True
        ).stdout
        for how in ("with", "without")
    ]
    assert said[0].strip() == str(DATA.sum())
    assert "is compressed by the HDF5 filter" in said[1]
    assert name in said[1].lower()
    assert "pip install 'blockwise-ilastik[codecs]'" in said[1]


def image(folder: Path, multiscales: list[dict[str, Any]], *paths: str, shape: tuple[int, ...] = (3, 6, 7)) -> str:
    for path in paths:
        create_volume(f"{folder}/a.zarr:{path}", shape, shape, "uint8", {})
    (folder / "a.zarr/.zattrs").write_text(json.dumps({"multiscales": multiscales}))
    return f"{folder}/a.zarr"


def scales(*paths: str, axes: list[Any] | None = None, version: str = "0.4") -> dict[str, Any]:
    steps = [{"type": "scale", "scale": [1, 0.5, 0.25]}]
    datasets = [{"path": path, "coordinateTransformations": steps} for path in paths]
    return {"version": version, "datasets": datasets, **({} if axes is None else {"axes": axes})}


def test_paths_of_scales_count_from_their_image(tmp_path: Path) -> None:
    axes = [{"name": "channel", "type": "channel"}, *({"name": a, "type": "space", "unit": "um"} for a in "YX")]
    address = image(tmp_path, [scales("scale0/image", "./s1", axes=axes)], "scale0/image", "s1")
    for name in (address, f"{address}:scale0/image", f"{address}:s1"):
        volume = open_volume(name)
        assert (volume.axes, volume.spacing) == ("cyx", Spacing((1, 0.5, 0.25), ("", "um", "um")))


@pytest.mark.parametrize(("version", "axes"), [("0.1", None), ("0.2", None), ("0.3", list("tczyx"))])
def test_axes_of_old_versions(tmp_path: Path, version: str, axes: list[str] | None) -> None:
    address = image(tmp_path, [scales("0", axes=axes, version=version)], "0", shape=(1, 2, 3, 4, 5))
    assert open_volume(address).axes == "tczyx"
    assert open_volume(f"{address}:0").axes == "tczyx"


def test_one_of_several_images_is_not_taken_for_all(tmp_path: Path) -> None:
    address = image(tmp_path, [scales("a", axes=list("zyx")), scales("b", axes=list("cyx"))], "a", "b")
    with pytest.raises(UserError, match="holds 2 images; name one of a, b"):
        open_volume(address)
    assert open_volume(f"{address}:b").axes == "cyx"


@pytest.mark.parametrize("suffix", ["h5", "zarr", "n5"])
def test_a_volume_without_voxels_is_refused(tmp_path: Path, suffix: str) -> None:
    address = f"{tmp_path}/a.{suffix}:v"
    if suffix == "h5":
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["v"] = np.zeros((5, 0, 7), np.uint8)
            for place, label in enumerate("zyx"):
                file["v"].dims[place].label = label
            file["unnamed"] = np.zeros((0, 5, 7), np.uint8)
        with pytest.raises(UserError, match="has 0 voxels along z"):
            open_volume(f"{tmp_path}/a.h5:unnamed")
    else:
        create_volume(address, (5, 0, 7), (5, 1, 7), "uint8", {"axes": ["z", "y", "x"]})
    with pytest.raises(UserError, match=r"has 0 voxels along y, its shape is \(5, 0, 7\)"):
        open_volume(address)


@pytest.mark.parametrize("kind", ["zarr2", "n5", "zarr3"])
def test_a_chunk_that_is_not_compressed_and_cut_off_is_damaged(tmp_path: Path, kind: str) -> None:
    data = np.arange(8 * 16 * 16, dtype=np.uint16).reshape(8, 16, 16)
    whole = tuple(slice(0, n) for n in data.shape)
    address = f"{tmp_path}/a.{'n5' if kind == 'n5' else 'zarr'}:raw"
    if kind == "n5":
        container = z5py.File(f"{tmp_path}/a.n5", "a")
        container.create_dataset("raw", data=data, chunks=data.shape, compression="raw")
        chunk = tmp_path / "a.n5" / "raw" / "0" / "0" / "0"
    else:
        group = zarr.open_group(f"{tmp_path}/a.zarr", mode="w", zarr_format=int(kind[-1]))
        array = group.create_array("raw", shape=data.shape, chunks=data.shape, dtype=data.dtype, compressors=None)
        array[:] = data
        (chunk,) = (path for path in (tmp_path / "a.zarr" / "raw").rglob("*0") if path.is_file())
    volume = open_volume(address)
    np.testing.assert_array_equal(volume.read(whole), data)
    content = chunk.read_bytes()
    for spoilt in (content[:3000], content + b"more", content[:10], b""):
        chunk.write_bytes(spoilt)
        with pytest.raises(DamagedDataError, match="cannot read"):
            volume.read(whole)


@pytest.mark.parametrize("codec", [GZip(1), Zlib(1), BZ2(), Zstd(), Blosc("lz4"), Blosc("zstd")], ids=repr)
def test_a_chunk_of_zarr_that_decodes_to_less_is_damaged(tmp_path: Path, codec: Any) -> None:
    data = np.arange(8 * 16 * 16, dtype=np.uint16).reshape(8, 16, 16)
    whole = tuple(slice(0, n) for n in data.shape)
    group = zarr.open_group(f"{tmp_path}/a.zarr", mode="w", zarr_format=2)
    array = group.create_array("raw", shape=data.shape, chunks=data.shape, dtype=data.dtype, compressors=codec)
    array[:] = data
    volume = open_volume(f"{tmp_path}/a.zarr:raw")
    np.testing.assert_array_equal(volume.read(whole), data)
    for content in (data.tobytes()[:3000], b""):
        (tmp_path / "a.zarr" / "raw" / "0.0.0").write_bytes(bytes(codec.encode(content)))
        with pytest.raises(DamagedDataError, match="cannot read"):
            volume.read(whole)


@pytest.mark.parametrize("axes", [1, 3, 5])
@pytest.mark.parametrize(("codec", "compress"), [("gzip", gzip.compress), ("bzip2", bz2.compress)])
def test_a_chunk_of_n5_that_decodes_to_less_is_damaged(
    tmp_path: Path, codec: str, compress: Callable[[bytes], bytes], axes: int
) -> None:
    data = np.arange(5**axes, dtype=np.uint16).reshape((5,) * axes)
    whole = (slice(0, 5),) * axes
    container = z5py.File(f"{tmp_path}/a.n5", "a")
    container.create_dataset("raw", data=data, chunks=(4,) * axes, compression=codec)
    volume = open_volume(f"{tmp_path}/a.n5:raw")
    np.testing.assert_array_equal(volume.read(whole), data)
    for name in ("0", "1"):  # the last one is cut at the volume's end
        chunk = tmp_path.joinpath("a.n5", "raw", *name * axes)
        written = chunk.read_bytes()
        chunk.write_bytes(written[: 4 + 4 * axes] + compress(bytes(1)))
        with pytest.raises(DamagedDataError, match=re.escape(str(chunk))):
            volume.read(whole)
        chunk.write_bytes(written)


@pytest.mark.parametrize("key", ["compressor", "fill_value", "order", "chunks", "dtype", "shape"])
def test_zarr_without_a_key_that_it_must_have_is_never_read_as_something_else(tmp_path: Path, key: str) -> None:
    """z5py looked at whatever memory held: it refused it, took compressed bytes for voxels, or the process died."""
    group = zarr.open_group(f"{tmp_path}/a.zarr", mode="w", zarr_format=2)
    array = group.create_array("raw", shape=(8, 16), chunks=(8, 16), dtype="uint16", compressors=GZip(1))
    array[:] = np.arange(8 * 16).reshape(8, 16)
    document = tmp_path / "a.zarr" / "raw" / ".zarray"
    values = json.loads(document.read_text())
    del values[key]
    document.write_text(json.dumps(values))
    for _ in range(30):
        with pytest.raises((UserError, DamagedDataError)):
            open_volume(f"{tmp_path}/a.zarr:raw").read((slice(0, 8), slice(0, 16)))


def test_zarr_that_leaves_out_its_filters_has_none(tmp_path: Path) -> None:
    """Some writers leave them out; zarr-python and TensorStore take it for none."""
    group = zarr.open_group(f"{tmp_path}/a.zarr", mode="w", zarr_format=2)
    array = group.create_array("raw", shape=(8, 16), chunks=(8, 16), dtype="uint16", compressors=GZip(1))
    array[:] = values = np.arange(8 * 16, dtype=np.uint16).reshape(8, 16)
    path = tmp_path / "a.zarr" / "raw" / ".zarray"
    document = json.loads(path.read_text())
    del document["filters"]
    path.write_text(json.dumps(document))
    volume = open_volume(f"{tmp_path}/a.zarr:raw")
    assert not isinstance(volume, Z5Volume)
    np.testing.assert_array_equal(volume.read((slice(0, 8), slice(0, 16))), values)


def test_chunks_that_are_not_of_gzip_are_not_written(tmp_path: Path) -> None:
    """What is written is gzip's, whatever the document says."""
    file = z5py.File(f"{tmp_path}/a.n5", "a")
    file.create_dataset("raw", data=np.ones((4, 4), np.uint8), chunks=(4, 4), compression="blosc")
    volume = open_volume(f"{tmp_path}/a.n5:raw", "a")
    assert isinstance(volume, Z5Volume)
    with pytest.raises(ValueError, match="not of gzip but 'blosc'"):
        volume.write((slice(0, 4), slice(0, 4)), np.zeros((4, 4), np.uint8))
    assert volume.read((slice(0, 4), slice(0, 4))).all()


@pytest.mark.parametrize("kind", ["n5", "zarr"])
def test_a_compression_that_leaves_out_its_level_is_read(tmp_path: Path, kind: str) -> None:
    """Whoever reads needs none; z5py looks at whatever memory holds in its place."""
    values = np.arange(8 * 16, dtype=np.uint16).reshape(8, 16)
    create_volume(f"{tmp_path}/a.{kind}:raw", (8, 16), (8, 16), "uint16", {})
    open_volume(f"{tmp_path}/a.{kind}:raw", "a").write((slice(0, 8), slice(0, 16)), values)
    path = tmp_path / f"a.{kind}" / "raw" / ("attributes.json" if kind == "n5" else ".zarray")
    document = json.loads(path.read_text())
    del document["compression" if kind == "n5" else "compressor"]["level"]
    path.write_text(json.dumps(document))
    volume = open_volume(f"{tmp_path}/a.{kind}:raw")
    assert not isinstance(volume, Z5Volume)
    np.testing.assert_array_equal(volume.read((slice(0, 8), slice(0, 16))), values)
