"""Microscopes' own files (``.czi``, ``.lif``, ``.nd2``, ``.dv``) through plug-ins of bioio, which are an extra."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, known_axes, single
from blockwise.volume.base import Volume

_EXTRA = "pip install 'blockwise-ilastik[microscopes]'"
_PLUGINS = {
    ".czi": (
        "bioio_czi",
        "pip install bioio-czi (under the GNU GPL 3, so it is in no extra)",
        {"chunk_dims": ["Y", "X"]},
    ),
    ".lif": ("bioio_lif", _EXTRA, {"chunk_dims": ["Y", "X", "S"]}),
    ".nd2": ("bioio_nd2", _EXTRA, {}),
    ".dv": ("bioio_dv", _EXTRA, {}),
    ".r3d": ("bioio_dv", _EXTRA, {}),
}
"""By ending: the plug-in, how to get it, and what makes it read single planes where it would not by itself."""
_MOSAIC = "M"
_SAMPLES = "S"


class MicroscopeVolume(Volume):
    """One scene; the address's key is its name or number, and may be left out where there is one only.

    Planes (or the tiles of a mosaic) are decoded one at a time. Axes of length one are left out, but for y and x;
    samples of colours are channels. Tiles are put together as the plug-in does it.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        reader = _reader(address)
        try:
            _refuse_hidden_scenes(address, reader)
            reader.set_scene(_scene(address, reader))
            array = reader.xarray_dask_data
            if _MOSAIC in array.dims:
                array = reader.mosaic_xarray_dask_data
            sizes = reader.physical_pixel_sizes
        except Exception as error:  # plug-ins raise whatever they like for broken files
            if isinstance(error, UserError):
                raise
            raise UserError(f"{address}: cannot be opened, is it damaged? {type(error).__name__}: {error}") from error
        array = array.isel({name: 0 for name, n in array.sizes.items() if n == 1 and name not in ("Y", "X")})
        self._names = tuple(str(name) for name in array.dims)
        self._array = array.data
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.axes = _axes(address, self._names, self.shape)
        self.chunks = tuple(max(lengths) for lengths in self._array.chunks)
        self.spacing = _spacing(sizes, self.axes)

    def _read(self, box: Box) -> NDArray[Any]:
        out = np.empty(box_shape(box), self.dtype)
        singly = [name not in ("Y", "X", _SAMPLES) for name in self._names]
        ranges = [range(s.start, s.stop) if one else (s,) for s, one in zip(box, singly, strict=True)]
        for index in itertools.product(*ranges):
            place: Any = tuple(
                slice(None) if isinstance(i, slice) else i - s.start for i, s in zip(index, box, strict=True)
            )
            try:
                out[place] = self._array[index].compute(scheduler="synchronous")
            except Exception as error:  # as above
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the file system
                raise OSError(f"a plane cannot be decoded: {type(error).__name__}: {error}") from error
        return out

    @property
    def attributes(self) -> Mapping[str, Any]:
        """None; axes and spacing are read from the file's own metadata."""
        return {}

    def file_of(self, index: Index) -> str:
        """The whole volume lies in one file."""
        return self.address.path


def open_file(address: Address) -> MicroscopeVolume:
    """Open a scene."""
    return MicroscopeVolume(address)


def _reader(address: Address) -> Any:
    name, command, options = _PLUGINS[address.suffix]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{address}: {address.suffix} files are read by {name.replace('_', '-')}, which is not installed or does "
            f"not load ({error}): {command}"
        ) from error
    try:
        return module.Reader(address.path, **options)
    except Exception as error:  # plug-ins raise whatever they like
        raise UserError(
            f"{address.path}: ends in {address.suffix} but {name.replace('_', '-')} cannot open it, is it damaged? "
            f"{error}"
        ) from error


def _scene(address: Address, reader: Any) -> int:
    scenes = [str(scene) for scene in reader.scenes]
    listed = ", ".join(f"{i} ({scene})" for i, scene in enumerate(scenes))
    if not address.key:
        if len(scenes) == 1:
            return 0
        raise UserError(
            f"{address}: holds {len(scenes)} scenes: {listed}; name the one that is meant, such as "
            f"{address.within('0')}"
        )
    if scenes.count(address.key) == 1:
        return scenes.index(address.key)
    if address.key.isdecimal() and int(address.key) < len(scenes):
        return int(address.key)
    raise UserError(f"{address}: {address.key!r} is no scene of {address.path}; it holds: {listed}")


def _refuse_hidden_scenes(address: Address, reader: Any) -> None:
    """The plug-in for CZI counts the scenes that the metadata tells of; of others it reads the first, silently."""
    if address.suffix != ".czi":
        return
    with open(address.path, "rb") as file:
        parts = importlib.import_module("aicspylibczi").CziFile(file).get_dims_shape()
    stored = max(part.get("S", (0, 1))[1] for part in parts)
    if stored > len(reader.scenes):
        raise UserError(
            f"{address}: holds {stored} scenes, but its metadata tells of {len(reader.scenes)}; export it as OME-TIFF"
        )


def _axes(address: Address, names: tuple[str, ...], shape: tuple[int, ...]) -> str:
    letters = [name.lower() for name in names]
    if _SAMPLES in names and "C" not in names:
        letters = ["c" if name == _SAMPLES else letter for name, letter in zip(names, letters, strict=True)]
    axes = known_axes(letters, len(names))
    if axes is None:
        raise UserError(
            f"{address}: has the axes {', '.join(names)}, shape {shape}; only T, C, Z, Y and X are read, and colours "
            "where there are no channels; export it as OME-TIFF or OME-Zarr"
        )
    return axes


def _spacing(sizes: Any, axes: str) -> Spacing | None:
    """Micrometres, as bioio gives them."""
    steps = {axis: single(float(getattr(sizes, axis.upper()) or 0)) for axis in "zyx" if axis in axes}
    if not all(0 < step < float("inf") for step in steps.values()):
        steps = {axis: steps[axis] for axis in "yx" if 0 < steps[axis] < float("inf")}
    if not {"y", "x"} <= set(steps):
        return None
    found = Spacing(tuple(steps.values()), ("micrometer",) * len(steps))
    return found.along("".join(steps), axes)
