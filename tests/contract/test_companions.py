"""Volumes whose voxels lie in several files: each of them is watched, and missed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from blockwise.errors import UserError
from blockwise.volume import Volume, create_volume, open_volume
from blockwise.volume.formats import open_store

DATA = np.random.default_rng(2).integers(1, 200, (6, 40, 48)).astype(np.uint8)


def _hdf5(path: Path, **datasets: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file[f"group/{name}"] = data
    return path


def _virtual(folder: Path) -> tuple[str, list[Path]]:
    layout = h5py.VirtualLayout(DATA.shape, "u1")
    parts = [_hdf5(folder / f"parts/{i}.h5", raw=DATA[3 * i : 3 * i + 3]) for i in range(2)]
    for i in range(2):
        layout[3 * i : 3 * i + 3] = h5py.VirtualSource(f"parts/{i}.h5", "group/raw", (3, 40, 48))
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return f"{folder}/a.h5:raw", parts


def _virtual_of_virtual(folder: Path) -> tuple[str, list[Path]]:
    _, parts = _virtual(folder)
    layout = h5py.VirtualLayout(DATA.shape, "u1")
    source = h5py.VirtualSource("a.h5", "raw", DATA.shape)
    layout[:, :20], layout[:, 20:] = source[:, :20], source[:, 20:]
    with h5py.File(folder / "b.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return f"{folder}/b.h5:raw", [folder / "a.h5", *parts]


def _virtual_numbered(folder: Path) -> tuple[str, list[Path]]:
    parts = [_hdf5(folder / f"p{i}.h5", raw=DATA[2 * i : 2 * i + 2]) for i in range(3)]
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    target, source = (h5py.h5s.create_simple(shape, limit) for shape, limit in (
        (DATA.shape, (h5py.h5s.UNLIMITED, 40, 48)), ((2, 40, 48), None)))  # fmt: skip
    target.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (2, 40, 48), (2, 40, 48))
    source.select_all()
    layout.set_virtual(target, b"p%b.h5", b"group/raw", source)
    with h5py.File(folder / "a.h5", "w") as file:
        h5py.h5d.create(
            file.id, b"raw", h5py.h5t.NATIVE_UINT8,
            h5py.h5s.create_simple(DATA.shape, (h5py.h5s.UNLIMITED, 40, 48)), dcpl=layout,
        )  # fmt: skip
    return f"{folder}/a.h5:raw", parts


def _external_links(folder: Path) -> tuple[str, list[Path]]:
    last = _hdf5(folder / "deep/c.h5", raw=DATA)
    with h5py.File(folder / "deep/b.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("c.h5", "/group")
    with h5py.File(folder / "a.h5", "w") as file:
        file["outer"] = h5py.ExternalLink("deep/b.h5", "/linked")
        file["soft"] = h5py.SoftLink("/outer/raw")
    return f"{folder}/a.h5:soft", [folder / "deep/b.h5", last]


def _external_storage(folder: Path) -> tuple[str, list[Path]]:
    half = DATA.nbytes // 2
    parts = [folder / "0.raw", folder / "1.raw"]
    for i, part in enumerate(parts):
        part.write_bytes(bytes(7) + DATA.tobytes()[half * i : half * i + half])
    external = [(str(parts[0]), 7, half), (str(parts[1]), 7, h5py.h5f.UNLIMITED)]
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", DATA.shape, "u1", external=external)
    return f"{folder}/a.h5:raw", parts


def _ome_set(folder: Path, **options: Any) -> tuple[str, list[Path]]:
    ids = [f"urn:uuid:{uuid.UUID(int=i)}" for i in range(3)]
    planes = "".join(
        f'<TiffData IFD="{z % 2}" FirstZ="{z}" FirstC="0" FirstT="0" PlaneCount="1">'
        f'<UUID FileName="{z // 2}.ome.tif">{ids[z // 2]}</UUID></TiffData>'
        for z in range(6)
    )
    for i in range(3):
        xml = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[i]}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="48" SizeY="40" '
            f'SizeZ="6" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image>'
            "</OME>"
        )
        tifffile.imwrite(
            folder / f"{i}.ome.tif", DATA[2 * i : 2 * i + 2], description=xml, metadata=None,
            photometric="minisblack", **options,
        )  # fmt: skip
    return f"{folder}/0.ome.tif", [folder / "1.ome.tif", folder / "2.ome.tif"]


def _ome_tiles(folder: Path) -> tuple[str, list[Path]]:
    return _ome_set(folder, tile=(16, 16), compression="zlib")


KINDS: dict[str, Callable[[Path], tuple[str, list[Path]]]] = {
    "virtual": _virtual,
    "virtual-of-virtual": _virtual_of_virtual,
    "virtual-numbered": _virtual_numbered,
    "external-links": _external_links,
    "external-storage": _external_storage,
    "ome-set": _ome_set,
    "ome-set-of-tiles": _ome_tiles,
}


@pytest.fixture(params=KINDS)
def parted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[Path]]:
    """Address of DATA, and the files in which it lies beside the one that is addressed."""
    return KINDS[request.param](tmp_path)


def everything(volume: Volume) -> np.ndarray:
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def test_it_is_read_from_all_of_them(parted: tuple[str, list[Path]]) -> None:
    address, others = parted
    volume = open_volume(address)
    np.testing.assert_array_equal(everything(volume), DATA)
    assert sorted(volume.companions) == sorted(map(str, others))


def test_each_is_watched(parted: tuple[str, list[Path]]) -> None:
    address, others = parted
    before = open_volume(address).file_states()
    np.testing.assert_array_equal(open_volume(address).file_states(), before)
    for path in (Path(address.rpartition(":")[0] or address), *others):
        os.utime(path, ns=(1, 1))
        after = open_volume(address).file_states()
        assert not np.array_equal(after, before), path
        before = after


def test_each_is_missed(parted: tuple[str, list[Path]], request: pytest.FixtureRequest) -> None:
    address, others = parted
    volume = open_volume(address)
    # Where files are numbered, the first one that is missing is the end.
    required = others[:1] if "numbered" in request.node.name else others
    for path in required:
        away = path.rename(path.with_name("away"))
        with pytest.raises(UserError, match=path.name):
            open_volume(address)
        with pytest.raises(UserError, match=path.name):
            volume.file_states()
        away.rename(path)
    np.testing.assert_array_equal(everything(open_volume(address)), DATA)


def test_sources_that_are_too_small_are_refused(tmp_path: Path) -> None:
    address, parts = _virtual(tmp_path / "virtual")
    _hdf5(parts[1], raw=DATA[:2])
    with pytest.raises(UserError, match=r"1\.h5:group/raw, which has only \(2, 40, 48\)"):
        open_volume(address)
    _hdf5(parts[1], other=DATA[:3])
    with pytest.raises(UserError, match=r"made of .*1\.h5:group/raw, but there is no this dataset"):
        open_volume(address)
    (tmp_path / "stored").mkdir()
    address, parts = _external_storage(tmp_path / "stored")
    os.truncate(parts[1], 100)
    with pytest.raises(UserError, match=r"1\.raw, which has 100 bytes, 5767 are needed"):
        open_volume(address)
    (tmp_path / "set").mkdir()
    address, parts = _ome_set(tmp_path / "set")
    tifffile.imwrite(parts[1], DATA[0])
    with pytest.raises(UserError, match="index out of range"):
        open_volume(address)


def test_a_single_file_keeps_the_states_that_it_had(tmp_path: Path) -> None:
    """They stand in markers."""
    path = _hdf5(tmp_path / "a.h5", raw=DATA)
    volume = open_volume(f"{path}:group/raw")
    assert volume.companions == ()
    assert volume.file_states().reshape(-1).tolist() == [path.stat().st_size, path.stat().st_mtime_ns]


@pytest.mark.parametrize("options", [{}, {"shards": (8, 16, 16)}])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_chunk_behind_a_link_that_leads_nowhere_is_not_zero(tmp_path: Path, options: dict, depth: int) -> None:
    address = f"{tmp_path}/a.zarr:raw"
    create_volume(address, (16, 32, 32), (8, 16, 16), "uint8", {}, **options)
    open_volume(address, "a").write((slice(0, 16), slice(0, 32), slice(0, 32)), np.ones((16, 32, 32), np.uint8))
    volume = open_volume(address)
    path = Path(volume.file_of((1, 0, 1)))
    path = path.parents[depth - 1] if depth else path
    away = path.rename(tmp_path / "elsewhere")
    path.symlink_to(away)
    assert everything(volume).all()
    away.rename(tmp_path / "gone")
    for look in (volume.file_states, lambda: everything(volume), lambda: everything(open_volume(address))):
        with pytest.raises(UserError, match=f"{path} is a link to {away}"):
            look()
    inside = (slice(0, 8), slice(0, 16), slice(0, 16))
    assert open_volume(address).read(inside).all()
    # Chunks that are absent are zeros, as ever.
    path.unlink()
    assert not everything(volume).all()
    assert open_store(volume.address).exists("raw")


def test_a_slice_behind_a_link_that_leads_nowhere_is_missed(tmp_path: Path) -> None:
    for z in range(3):
        tifffile.imwrite(tmp_path / f"{z}.tif", DATA[z])
    (tmp_path / "3.tif").symlink_to(tmp_path / "gone.tif")
    with pytest.raises(UserError, match=r"1 of 4 slices are links that lead nowhere: .*3\.tif"):
        open_volume(f"{tmp_path}/*.tif")
