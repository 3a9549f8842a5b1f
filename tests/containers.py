"""One image in every format that is read, as the bundled examples and the reference cases are tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import imageio.v3
import numpy as np
import tifffile
from numpy.typing import NDArray

from blockwise.volume import create_volume, open_volume
from blockwise.volume.axes import axistags

CHUNK = 16


def _container(address: str, data: NDArray[Any], axes: str, shards: bool = False) -> str:
    chunks = tuple(min(CHUNK, n) if axis in "zyx" else 1 for axis, n in zip(axes, data.shape, strict=True))
    files = tuple(2 * n if axis in "zyx" else n for axis, n in zip(axes, chunks, strict=True))
    create_volume(
        address, data.shape, chunks, data.dtype.name, {"axes": list(axes)}, shards=files if shards else None
    )
    open_volume(address, "a").write(tuple(slice(0, n) for n in data.shape), data)
    return address


def n5(folder: Path, data: NDArray[Any], axes: str) -> str:
    return _container(f"{folder}/raw.n5:volumes/raw", data, axes)


def zarr2(folder: Path, data: NDArray[Any], axes: str) -> str:
    return _container(f"{folder}/raw.zarr:raw", data, axes)


def zarr3_sharded(folder: Path, data: NDArray[Any], axes: str) -> str:
    return _container(f"{folder}/sharded.zarr:raw", data, axes, shards=True)


def ome_zarr(folder: Path, data: NDArray[Any], axes: str) -> str:
    order = sorted(axes, key="tczyx".index)  # as the specification wants it
    return _container(f"{folder}/raw.ome.zarr:image", data.transpose([axes.index(a) for a in order]), "".join(order))


def hdf5(folder: Path, data: NDArray[Any], axes: str) -> str:
    with h5py.File(folder / "raw.h5", "w") as file:
        file.create_dataset("raw", data=data, chunks=True).attrs["axistags"] = axistags(axes)
    return f"{folder}/raw.h5:raw"


def tiff(folder: Path, data: NDArray[Any], axes: str) -> str:
    is_rgb = axes.endswith("c") and data.shape[-1] == 3
    options = {"photometric": "rgb" if is_rgb else "minisblack"}
    metadata = {"axes": axes.upper().replace("C", "S") if is_rgb else axes.upper()}
    tifffile.imwrite(folder / "raw.tif", data, compression="zlib", metadata=metadata, **options)
    return f"{folder}/raw.tif"


def png(folder: Path, data: NDArray[Any], axes: str) -> str:
    if not axes.startswith("z"):
        imageio.v3.imwrite(folder / "raw.png", data)
        return f"{folder}/raw.png"
    (folder / "stack").mkdir()
    for z, plane in enumerate(data):
        imageio.v3.imwrite(folder / "stack" / f"{z}.png", plane)
    return f"{folder}/stack/*.png"


FORMATS: dict[str, Callable[[Path, NDArray[Any], str], str]] = {
    "n5": n5,
    "zarr2": zarr2,
    "zarr3-sharded": zarr3_sharded,
    "ome-zarr": ome_zarr,
    "hdf5": hdf5,
    "tiff": tiff,
    "png": png,
}
"""Writes (folder, image, axes) and gives its address."""


def formats_of(data: NDArray[Any]) -> list[str]:
    """Formats that can hold an image of this type."""
    return [name for name in FORMATS if name != "png" or data.dtype in (np.uint8, np.uint16)]
