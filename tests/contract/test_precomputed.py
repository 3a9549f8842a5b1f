from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

from blockwise.errors import UserError
from blockwise.volume import ABSENT, Address, DamagedDataError, create_volume, ingest, open_volume
from blockwise.volume.axes import Spacing
from blockwise.volume.containers.remote import RemoteStore
from tests.contract.files import precomputed
from tests.contract.test_files import everything, voxels

SHAPE = (11, 35, 20)


def upload(folder: Path, url: str) -> str:
    store = RemoteStore(Address.parse(url))
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return url


@pytest.mark.parametrize("bits", [None, 0, 3])
@pytest.mark.parametrize("place", ["s3", "gs", "http", "local"])
def test_places(tmp_path: Path, request: pytest.FixtureRequest, place: str, bits: int | None) -> None:
    data = voxels("uint16", SHAPE)
    folder = tmp_path / "em"
    precomputed(folder, data, bits=bits)
    name = tmp_path.name
    if place == "s3":
        url = upload(folder, f"s3://bucket/{name}/em?endpoint={request.getfixturevalue('s3_server')}")
    elif place == "gs":
        request.getfixturevalue("gs_server")
        url = upload(folder, f"gs://bucket/{name}/em")
    elif place == "http":
        root, served = request.getfixturevalue("web_server")
        shutil.copytree(folder, served / name / "em")
        url = f"{root}/{name}/em"
    else:
        url = str(folder)
    volume = open_volume(f"precomputed://{url}")
    assert (volume.axes, volume.shape, volume.chunks) == ("zyx", SHAPE, (8, 16, 16))
    assert volume.spacing == Spacing((4000.0, 500.0, 250.0), ("nanometer",) * 3)
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    box = (slice(3, 9), slice(15, 33), slice(1, 20))
    np.testing.assert_array_equal(volume.read(box), data[box])
    states = volume.file_states()
    if not volume.has_file_states:
        assert not states.any()
        return
    np.testing.assert_array_equal(open_volume(f"precomputed://{url}").file_states(), states)
    assert (states[..., 0] != ABSENT).all()
    index = tuple(n - 1 for n in states.shape[:-1])
    changed = Path(volume.file_of(index)) if place == "local" else None
    if changed is not None:
        changed = min(changed.iterdir()) if changed.is_dir() else changed
        changed.write_bytes(changed.read_bytes() + b"x")
    elif place == "s3":
        store = RemoteStore(Address.parse(url))
        name = volume.file_of(index).removeprefix(f"{Address.parse(url).path}/")
        names = [f"{name}/{number:x}.shard" for number in range(1 << bits)] if bits is not None else [name]
        name = next(found for found in names if store.read(found))
        store.write(name, store.read(name) + b"x")
    else:
        return
    different = (volume.file_states() != states).any(axis=-1)
    assert different.sum() == 1
    assert different[index]


def test_channels_and_scales(tmp_path: Path) -> None:
    data = voxels("float32", (3, *SHAPE))
    path = precomputed(tmp_path / "a.precomputed", data)
    info = json.loads((tmp_path / "a.precomputed/info").read_text())
    coarse = {**info["scales"][0], "key": "16_16_40", "size": [10, 17, 11], "resolution": [500.0, 1000.0, 4000.0]}
    info["scales"].append(coarse)
    (tmp_path / "a.precomputed/info").write_text(json.dumps(info))
    volume = open_volume(path)
    assert (volume.axes, volume.chunks) == ("czyx", (3, 8, 16, 16))
    assert volume.spacing == Spacing((1.0, 4000.0, 500.0, 250.0), ("", *("nanometer",) * 3))
    np.testing.assert_array_equal(everything(volume), data, strict=True)
    second = open_volume(f"{path}:16_16_40")
    assert (second.shape, second.spacing.steps) == ((3, 11, 17, 10), (1.0, 4000.0, 1000.0, 500.0))
    assert not everything(second).any()  # chunks that are not there are zero
    assert (second.file_states()[..., 0] == ABSENT).all()
    with pytest.raises(UserError, match=r"no scale '16_16'; it holds: 8_8_40, 16_16_40; did you mean .*:16_16_40"):
        open_volume(f"{path}:16_16")
    copy = ingest(path, f"{tmp_path}/a.n5:raw")
    np.testing.assert_array_equal(everything(copy), data)


@pytest.mark.parametrize(
    ("encoding", "dtype"), [("jpeg", "uint8"), ("png", "uint8"), ("compressed_segmentation", "uint64")]
)
def test_encodings(tmp_path: Path, encoding: str, dtype: str) -> None:
    z, y, x = np.mgrid[:11, :35, :20]
    data = ((z + y + x) * 3).astype(dtype)
    scale = {"size": [20, 35, 11], "encoding": encoding, "chunk_size": [16, 16, 8], "resolution": [8, 8, 40]}
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    if encoding == "jpeg":
        scale["jpeg_quality"] = 100
    spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/a.precomputed/", "create": True}
    spec["multiscale_metadata"] = {"data_type": dtype, "num_channels": 1, "type": "image"}
    ts.open(spec | {"scale_metadata": scale}).result()[..., 0] = data.T
    volume = open_volume(f"{tmp_path}/a.precomputed")
    found = everything(volume)
    assert found.dtype == data.dtype
    assert np.abs(found.astype(int) - data.astype(int)).max() <= (4 if encoding == "jpeg" else 0)
    name = Path(volume.file_of((0, 0, 0)))
    name.write_bytes(name.read_bytes()[: name.stat().st_size // 2])
    with pytest.raises(DamagedDataError, match=name.name):
        everything(volume)


def test_chunks_that_are_packed_once_more_are_refused(tmp_path: Path) -> None:
    """CloudVolume writes such into folders; nothing in ``info`` tells of it."""
    path = precomputed(tmp_path / "a.precomputed", voxels("uint16", SHAPE))
    for chunk in Path(f"{path}/8_8_40").iterdir():
        chunk.rename(f"{chunk}.gz")
    with pytest.raises(UserError, match=r"compressed once more, .*\.gz.*gunzip -r"):
        open_volume(path)


def test_what_is_no_precomputed_volume(tmp_path: Path) -> None:
    (tmp_path / "a.precomputed").mkdir()
    with pytest.raises(UserError, match=r"there is no .*a\.precomputed/info"):
        open_volume(f"{tmp_path}/a.precomputed")
    (tmp_path / "a.precomputed/info").write_text('{"@type": "neuroglancer_skeletons"}')
    with pytest.raises(UserError, match="lists no scales"):
        open_volume(f"{tmp_path}/a.precomputed")
    (tmp_path / "a.precomputed/info").write_text("<html>")
    with pytest.raises(UserError, match="holds no JSON"):
        open_volume(f"{tmp_path}/a.precomputed")
    path = precomputed(tmp_path / "b.precomputed", voxels("uint16", SHAPE))
    info = Path(path, "info").read_text()
    Path(path, "info").write_text(info.replace('"raw"', '"nonsense"'))
    with pytest.raises(UserError, match=r"cannot read this volume: .*nonsense"):
        open_volume(path)
    with pytest.raises(UserError, match="looked from"):
        open_volume(f"precomputed://{tmp_path}/c")
    with pytest.raises(UserError, match="written"):
        create_volume(f"{tmp_path}/d.precomputed", (1,), (1,), "uint8", {})
