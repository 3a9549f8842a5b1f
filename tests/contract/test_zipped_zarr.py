from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError, create_volume, ingest, open_volume
from tests.contract.files import zip_folder
from tests.contract.test_files import everything, voxels

AXES = {"axes": list("zyx"), "resolution": [4.0, 1.0, 1.0], "units": ["micrometer"] * 3}


def container(folder: Path, name: str, key: str, data: np.ndarray, **options: object) -> Path:
    create_volume(f"{folder}/{name}:{key}", data.shape, (8, 16, 16), data.dtype.name, AXES, **options)
    open_volume(f"{folder}/{name}:{key}", "a").write(tuple(slice(0, n) for n in data.shape), data)
    return folder / name


@pytest.mark.parametrize("inside", ["", "a.ome.zarr/"])
@pytest.mark.parametrize("options", [{}, {"zarr_format": 3}, {"shards": (16, 32, 32)}])
def test_images_and_arrays_in_zip_files(tmp_path: Path, inside: str, options: dict) -> None:
    """A program that packs a folder may put the folder's name before all others."""
    data = voxels("float32", (11, 35, 20))
    zip_folder(container(tmp_path, "a.ome.zarr", "image", data, **options), tmp_path / "A.OZX", inside=inside)
    zip_folder(container(tmp_path, "b.zarr", "deep/raw", data, **options), tmp_path / "b.zarr.zip", inside=inside)
    for address in ("A.OZX:image", "A.OZX:image/0", "b.zarr.zip:deep/raw"):
        volume = open_volume(f"{tmp_path}/{address}")
        np.testing.assert_array_equal(everything(volume), data, strict=True)
        assert (volume.axes, volume.spacing.steps, volume.decode_shape) == ("zyx", (4.0, 1.0, 1.0), (8, 16, 16))
        assert volume.file_states().shape == (1, 1, 1, 2)
    with pytest.raises(UserError, match=r"no dataset 'deep'.*it holds: deep/raw; did you mean .*zip:deep/raw"):
        open_volume(f"{tmp_path}/b.zarr.zip:deep")
    copy = ingest(f"{tmp_path}/A.OZX:image", f"{tmp_path}/copy.n5:raw")
    np.testing.assert_array_equal(everything(copy), data)


def test_zip_files_that_are_cut_off_or_damaged_are_told(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(1, 200, (11, 35, 20)).astype(np.uint8)
    path = tmp_path / "a.zarr.zip"
    zip_folder(container(tmp_path, "a.zarr", "raw", data), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.zarr\.zip: ends in \.zarr\.zip but is no ZIP file, or cut off"):
        open_volume(f"{path}:raw")
    place = content.index(b'"zarr_format"', content.index(b"raw/.zarray"))
    path.write_bytes(content[:place] + b"?" + content[place + 1 :])
    with pytest.raises(UserError, match="cannot be read: Bad CRC"):
        open_volume(f"{path}:raw")
    place = content.index(b"raw/0/0/0") + 200
    path.write_bytes(content[:place] + bytes(20) + content[place + 20 :])
    with pytest.raises(DamagedDataError) as failure:
        everything(open_volume(f"{path}:raw"))
    assert failure.value.box == (slice(0, 8), slice(0, 16), slice(0, 16))
    assert str(path) in str(failure.value)


def test_zip_files_are_only_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    zip_folder(container(tmp_path, "a.zarr", "raw", voxels("uint8")), path)
    with pytest.raises(UserError, match="written"):
        create_volume(f"{path}:other", (1,), (1,), "uint8", {})
    with pytest.raises(UserError, match="read only"):
        open_volume(f"{path}:raw", "a").write((slice(0, 4),) * 3, voxels("uint8", (4, 4, 4)))
