"""Every format in every place where it can lie, and the servers for the remote ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import imageio.v3
import numpy as np
import pytest
import tifffile

from blockwise.volume import create_volume, open_volume
from tests.contract import files, servers

SHAPE = (11, 35, 20)
"""Odd along every axis, so that the last chunks are cut."""
CHUNKS = (8, 16, 16)
ATTRIBUTES = {
    "axes": ["z", "y", "x"],
    "resolution": [4.0, 0.5, 0.25],
    "units": ["micrometer"] * 3,
    "fingerprint": "0123456789ab",
    "provenance": {"settings": {"sigma": 1.6, "classes": ["a", "ä"]}},
}


def voxels(dtype: str = "uint16") -> np.ndarray:
    """Something in every chunk, no two chunks alike."""
    return np.random.default_rng(7).integers(1, 200, SHAPE).astype(dtype)


def whole(shape: tuple[int, ...] = SHAPE) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


@dataclass(frozen=True)
class Layout:
    """A format that is written: the container's name and what else ``create_volume`` must be told."""

    name: str
    container: str
    options: tuple[tuple[str, Any], ...] = ()

    def create(self, address: str, dtype: str = "uint16") -> None:
        create_volume(address, SHAPE, CHUNKS, dtype, ATTRIBUTES, **dict(self.options))

    def fill(self, address: str, dtype: str = "uint16") -> None:
        self.create(address, dtype)
        open_volume(address, "a").write(whole(), voxels(dtype))


LAYOUTS = (
    Layout("n5", "a.n5"),
    Layout("zarr2", "a.zarr"),
    Layout("zarr3", "a.zarr", (("zarr_format", 3),)),
    Layout("zarr3-sharded", "a.zarr", (("shards", (16, 32, 32)),)),
    Layout("ome0.4", "a.ome.zarr"),
    Layout("ome0.5", "a.ome.zarr", (("zarr_format", 3),)),
)
USUAL = {
    "local": {layout.name for layout in LAYOUTS},
    "s3": {"n5"},
    "gs": {"ome0.5"},
    "http": {"n5"},
}
"""Layouts that every test run looks at in each place: all of them here, few in each remote store, because
stores know no formats. The other pairs are left to the long run."""


def layouts_in(*places: str) -> list[Any]:
    """Parameters ``<layout>-<place>``."""
    return [
        pytest.param(f"{layout.name}-{place}", marks=() if layout.name in USUAL[place] else pytest.mark.soak)
        for layout in LAYOUTS
        for place in places
    ]


def _write_tiff(path: Path, **options: Any) -> str:
    tifffile.imwrite(path, voxels(), **options)
    return str(path)


def _tiff(folder: Path) -> str:
    return _write_tiff(folder / "a.tif")


def _tiff_tiles(folder: Path) -> str:
    return _write_tiff(folder / "a.tif", tile=(16, 16), compression="zlib")


def _tiff_strips(folder: Path) -> str:
    return _write_tiff(folder / "a.tif", rowsperstrip=8, compression="lzw", metadata=None)


def _big_tiff(folder: Path) -> str:
    return _write_tiff(folder / "a.tif", bigtiff=True, byteorder=">")


def _imagej(folder: Path) -> str:
    metadata = {"axes": "ZYX", "spacing": 4.0, "unit": "um"}
    return _write_tiff(folder / "a.tif", imagej=True, resolution=(4.0, 2.0), metadata=metadata)


def _ome_tiff(folder: Path) -> str:
    sizes = {"axes": "ZYX", "PhysicalSizeZ": 4.0, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.25}
    return _write_tiff(folder / "a.ome.tif", metadata=sizes, compression="zlib")


def _hdf5(folder: Path, **options: Any) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        dataset = file.create_dataset("volumes/raw", data=voxels(), **options)
        for axis, label in enumerate("zyx"):
            dataset.dims[axis].label = label
        dataset.attrs["element_size_um"] = [4.0, 0.5, 0.25]
    return f"{folder}/a.h5:volumes/raw"


def _hdf5_chunks(folder: Path) -> str:
    return _hdf5(folder, chunks=CHUNKS, compression="gzip", fletcher32=True)


def _png_stack(folder: Path) -> str:
    for z, plane in enumerate(voxels()):
        imageio.v3.imwrite(folder / f"slice_{z + 3}.png", plane)  # unpadded: 3, 4, ..., 10, 11
    return str(folder / "slice_*.png")


def _tiff_stack(folder: Path) -> str:
    for z, plane in enumerate(voxels()):
        tifffile.imwrite(folder / f"{z:04d}.tif", plane, compression="zlib")
    return str(folder / "%04d.tif")


def _written(writer: Callable[[Path, np.ndarray], str]) -> Callable[[Path], str]:
    return lambda folder: writer(folder, voxels())


READ_ONLY: dict[str, Callable[[Path], str]] = {
    **{name: _written(writer) for name, writer in files.WRITERS.items()},
    "hdf5": _hdf5,
    "hdf5-chunks": _hdf5_chunks,
    "tiff": _tiff,
    "tiff-tiles": _tiff_tiles,
    "tiff-strips": _tiff_strips,
    "bigtiff": _big_tiff,
    "imagej": _imagej,
    "ome-tiff": _ome_tiff,
    "png-stack": _png_stack,
    "tiff-stack": _tiff_stack,
}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of an S3 server on this machine with the bucket ``bucket``; its keys stand in the environment."""
    with servers.s3() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield url


@pytest.fixture(scope="session")
def gs_server() -> Iterator[str]:
    """URL of a Google Cloud Storage emulator on this machine with the bucket ``bucket``."""
    with servers.gs() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "testing")
        yield url


@pytest.fixture(scope="session")
def web_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL of a web server on this machine, and the folder that it serves."""
    folder = tmp_path_factory.mktemp("web")
    with servers.serving(servers.files(folder)) as url:
        yield url, folder


@pytest.fixture(params=layouts_in("local", "s3", "gs"))
def writable(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Layout, str]:
    """A layout, and an address at which nothing lies yet."""
    name, _, place = request.param.rpartition("-")
    layout = next(layout for layout in LAYOUTS if layout.name == name)
    return layout, _address(request, place, tmp_path, layout)


def _address(request: pytest.FixtureRequest, place: str, tmp_path: Path, layout: Layout) -> str:
    inner = f"{tmp_path.name}/{layout.container}:volumes/result"
    if place == "s3":
        return f"s3://bucket/{inner}?endpoint={request.getfixturevalue('s3_server')}"
    if place == "gs":
        request.getfixturevalue("gs_server")
        return f"gs://bucket/{inner}"
    return f"{tmp_path}/{layout.container}:volumes/result"


@pytest.fixture(params=[*layouts_in("local", "s3", "gs", "http"), *READ_ONLY])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of ``voxels()`` in every format and place."""
    if request.param in READ_ONLY:
        return READ_ONLY[request.param](tmp_path)
    name, _, place = request.param.rpartition("-")
    layout = next(layout for layout in LAYOUTS if layout.name == name)
    if place != "http":
        address = _address(request, place, tmp_path, layout)
        layout.fill(address)
        return address
    url, folder = request.getfixturevalue("web_server")
    target = folder / tmp_path.name
    shutil.rmtree(target, ignore_errors=True)
    layout.fill(f"{target}/{layout.container}:volumes/result")
    return f"{url}/{tmp_path.name}/{layout.container}:volumes/result"


@pytest.fixture(scope="session")
def readers(s3_server: str, gs_server: str) -> Iterator[ProcessPoolExecutor]:
    """Two processes that know the servers; started anew, as workers are."""
    assert os.environ["TENSORSTORE_GCS_HTTP_URL"] == gs_server
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool
