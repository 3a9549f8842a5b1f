from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from blockwise.errors import UserError
from blockwise.volume import create_volume, open_volume
from blockwise.volume.decoding import check_decodes
from tests.contract.test_files import voxels

PIXARFILM = 32908


def unknown_compression(path: Path, data: np.ndarray) -> str:
    """A TIFF file by whose tag its tiles are compressed in a way that nobody reads."""
    tifffile.imwrite(path, data, tile=(16, 16), compression="zlib", metadata={"axes": "ZYX"})
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            struct.pack_into("<H", content, page.tags["Compression"].valueoffset, PIXARFILM)
    path.write_bytes(content)
    return str(path)


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    volume = open_volume(unknown_compression(tmp_path / "a.tif", voxels("uint8", (5, 32, 32))))
    with pytest.raises(UserError, match=r"a\.tif: its voxels \(compressed by PIXARFILM\) cannot be decoded: .*gzip"):
        check_decodes(volume)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_damage_of_single_chunks_is_left_to_blocks(tmp_path: Path, zarr_format: int) -> None:
    """The run names them all; an absent chunk is zero and says nothing."""
    create_volume(f"{tmp_path}/a.zarr:x", (12, 12), (4, 4), "uint8", {}, zarr_format=zarr_format)
    volume = open_volume(f"{tmp_path}/a.zarr:x", "a")
    check_decodes(volume)
    data = voxels("uint8", (12, 12)) + np.uint8(1)
    volume.write((slice(0, 12),) * 2, data)
    check_decodes(open_volume(f"{tmp_path}/a.zarr:x"))
    for index in ((1, 1), (0, 0)):
        Path(volume.file_of(index)).write_bytes(b"nothing")
        check_decodes(open_volume(f"{tmp_path}/a.zarr:x"))
    Path(volume.file_of((2, 2))).unlink()
    codec = "gzip" if zarr_format == 2 else "bytes, zstd"
    with pytest.raises(UserError, match=rf"a\.zarr:x: its voxels \(compressed by {codec}\) cannot be decoded"):
        check_decodes(open_volume(f"{tmp_path}/a.zarr:x"))


def test_what_chunks_are_compressed_by(tmp_path: Path) -> None:
    for name, options, codec in (
        ("a.n5", {}, "gzip"),
        ("b.zarr", {}, "gzip"),
        ("c.zarr", {"shards": (8, 8)}, "sharding_indexed, bytes, zstd"),
    ):
        create_volume(f"{tmp_path}/{name}:x", (8, 8), (4, 4), "uint8", {}, **options)
        assert open_volume(f"{tmp_path}/{name}:x").codec == codec
