"""Boxes of voxels as files: npy, png, tiff, hdf5."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, box_shape
from blockwise.volume import Spacing
from blockwise.volume.axes import axistags
from pipeline.exporting.write import HDF5_KEY
from pipeline.viewing.images.layers import Layer
from pipeline.viewing.refusals import RefusedError


@dataclass(frozen=True)
class Format:
    """How voxels become a file.

    Attributes:
        ending: of the file's name.
        media_type: for browsers.
        write: makes the content of voxels of a layer, in the order of its axes.
        check: refuses a box of a layer that such a file cannot hold, with RefusedError.
    """

    ending: str
    media_type: str
    write: Callable[[NDArray[Any], Layer], bytes]
    check: Callable[[Layer, Box], None]


def _npy(data: NDArray[Any], layer: Layer) -> bytes:
    file = io.BytesIO()
    np.save(file, data)
    return file.getvalue()


def _hdf5(data: NDArray[Any], layer: Layer) -> bytes:
    with h5py.File("box.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(HDF5_KEY, data=data, chunks=True, compression="gzip", compression_opts=1)
        dataset.attrs["axistags"] = axistags(layer.axes, Spacing(layer.steps, layer.units))
        file.flush()
        return bytes(file.id.get_file_image())


def _tiff(data: NDArray[Any], layer: Layer) -> bytes:
    import tifffile

    file = io.BytesIO()
    shown = data.astype(np.float32) if data.dtype == np.float16 else data
    tifffile.imwrite(file, shown, photometric="minisblack", metadata={"axes": layer.axes.upper()})
    return file.getvalue()


def _png(data: NDArray[Any], layer: Layer) -> bytes:
    import imageio.v3 as imageio

    plane = _plane(data, layer)
    if layer.kind == "probabilities" and plane.dtype.kind == "f":
        plane = np.rint(plane * 255)
    if plane.dtype == bool:
        plane = plane.astype(np.uint8)
    low, high = (float(plane.min()), float(plane.max())) if plane.size else (0.0, 0.0)
    dtype = np.uint8 if plane.dtype == np.uint8 or (layer.kind == "probabilities" and high <= 255) else np.uint16
    if not (low >= 0 and high <= np.iinfo(dtype).max) or (plane.dtype.kind == "f" and layer.kind != "probabilities"):
        raise RefusedError(
            400, f"a png holds whole numbers from 0 to 65535, here they are {low:g} to {high:g}; ask for npy or tiff"
        )
    return bytes(imageio.imwrite("<bytes>", plane.astype(dtype), extension=".png"))


def _plane(data: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """The one slice that there is, of one channel or red, green and blue."""
    lengths = dict(zip(layer.axes, data.shape, strict=True))
    plane = data.reshape(lengths.get("c", 1), lengths["y"], lengths["x"])
    return plane.reshape(plane.shape[1:]) if len(plane) == 1 else np.moveaxis(plane, 0, -1)


def _check_plane(layer: Layer, box: Box) -> None:
    """Refuse what a picture cannot hold, before anything is computed for it."""
    lengths = dict(zip(layer.axes, box_shape(box), strict=True))
    if lengths.get("t", 1) > 1 or lengths.get("z", 1) > 1:
        raise RefusedError(400, "a png holds one slice: let stop be start + 1 along z (and t), or ask for tiff")
    channels = lengths.get("c", 1)
    if channels > 1 and (channels != 3 or layer.stored_dtype != "uint8"):
        raise RefusedError(400, f"a png holds one channel, here are {channels}: choose one with channel=0")


def _check_nothing(layer: Layer, box: Box) -> None:
    """Every box will do."""


FORMATS = {
    "npy": Format(".npy", "application/octet-stream", _npy, _check_nothing),
    "png": Format(".png", "image/png", _png, _check_plane),
    "tiff": Format(".tif", "image/tiff", _tiff, _check_nothing),
    "hdf5": Format(".h5", "application/x-hdf5", _hdf5, _check_nothing),
}

_ENDINGS = {"tif": "tiff", "h5": "hdf5", "hdf": "hdf5"}


def format_of(name: str) -> Format:
    """A format by its name.

    Raises:
        RefusedError: 400: there is none; names those that there are.
    """
    found = FORMATS.get(_ENDINGS.get(name, name))
    if found is None:
        raise RefusedError(
            400, f"format {name!r:.40} is not known; known are {', '.join(FORMATS)}", formats=list(FORMATS)
        )
    return found
