"""Imaris 5.5 and later, HDF5 inside: ``.ims``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, single, unit_name
from blockwise.volume.base import Volume
from blockwise.volume.hdf5 import filters_of
from blockwise.volume.hdf5_heaps import watched_heaps

_DIRECTIONS = {"x": 0, "y": 1, "z": 2}
"""Numbers of the axes in the names of attributes, such as ``ExtMin0``."""


class ImarisVolume(Volume):
    """One resolution level; the address's key is its number, 0 (the finest) by default.

    The axes are tczyx; t and c are left out where there is one of them. What the file adds to fill its chunks is cut.
    Locks are not taken, so that any number of workers may read.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._file = _open(address)
        self._level = _level(self._file, address)
        times = _count(self._level, "TimePoint", address)
        channels = _count(self._level["TimePoint 0"], "Channel", address)
        self._first = self._dataset(0, 0)
        with watched_heaps(address.path) as file:
            sizes = _sizes(file, file[f"{self._level.name}/TimePoint 0/Channel 0"], self._first.shape)
            spacing = _spacing(file, sizes)
        self._counts = (times, channels)
        lead = [(axis, n) for axis, n in zip("tc", self._counts, strict=True) if n > 1]
        self.axes = "".join(axis for axis, _ in lead) + "zyx"
        self.shape = (*(n for _, n in lead), *sizes)
        self.dtype = self._first.dtype.newbyteorder("=")
        self._chunks = self._first.chunks
        self.chunks = (1,) * len(lead) + (self._chunks or sizes)
        self.spacing = spacing and spacing.along("zyx", self.axes)

    def _dataset(self, time: int, channel: int) -> Any:
        name = f"TimePoint {time}/Channel {channel}/Data"
        try:
            dataset = self._level[name]
        except KeyError as error:
            raise UserError(f"{self.address}: there is no {self._level.name}/{name}; copy the file again") from error
        if dataset.file.filename != self._file.filename:
            raise UserError(
                f"{self.address}: {dataset.name} lies in another file, {dataset.file.filename}, whose changes would "
                "not be noticed; write one file"
            )
        if dataset.is_virtual or dataset.external:
            raise UserError(
                f"{self.address}: the voxels of {dataset.name} lie in other files, whose changes would not be "
                "noticed; write them into this one"
            )
        if time or channel:
            found, expected = (dataset.shape, dataset.dtype), (self._first.shape, self._first.dtype)
            if found != expected:
                raise UserError(
                    f"{self.address}: {dataset.name} holds {found[0]} {found[1]}, but the first channel "
                    f"{expected[0]} {expected[1]}; write equal channels"
                )
        return dataset

    def _read(self, box: Box) -> NDArray[Any]:
        out = np.empty(box_shape(box), self.dtype)
        pieces = out.reshape(-1, *out.shape[-3:])
        given = dict(zip(self.axes or "", box, strict=True))
        times, channels = (
            range(given[axis].start, given[axis].stop) if axis in given else range(n)
            for axis, n in zip("tc", self._counts, strict=True)
        )
        for i, (time, channel) in enumerate(itertools.product(times, channels)):
            pieces[i] = self._dataset(time, channel)[box[-3:]]
        return out

    @property
    def codec(self) -> str:
        """Names of the filters."""
        return filters_of(self._first)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """None; axes and spacing are read from the file's own."""
        return {}

    @property
    def decode_shape(self) -> tuple[int, ...]:
        """A chunk; of datasets without chunks, any voxel can be fetched by itself."""
        return self.chunks if self._chunks else (1,) * len(self.shape)

    def file_of(self, index: Index) -> str:
        """The whole volume lies in one file."""
        return self.address.path


def open_file(address: Address) -> ImarisVolume:
    """Open a resolution level."""
    return ImarisVolume(address)


def _open(address: Address) -> h5py.File:
    try:
        return h5py.File(address.path, "r", locking=False)
    except OSError as error:
        raise UserError(
            f"{address.path}: cannot be opened as Imaris file (HDF5), is it damaged, or older than Imaris "
            f"5.5? {error}"
        ) from error


def _level(file: h5py.File, address: Address) -> h5py.Group:
    levels = {
        match[1]: name for name in file.get("DataSet", ()) if (match := re.fullmatch(r"ResolutionLevel (\d+)", name))
    }
    if not levels:
        raise UserError(f"{address.path}: ends in {address.suffix} but holds no DataSet/ResolutionLevel 0")
    number = address.key or "0"
    if number not in levels:
        listed = ", ".join(sorted(levels, key=int))
        raise UserError(f"{address}: {number!r} is no resolution level of {address.path}; it holds: {listed}")
    return file[f"DataSet/{levels[number]}"]


def _count(group: h5py.Group, what: str, address: Address) -> int:
    numbers = {int(match[1]) for name in group if (match := re.fullmatch(rf"{what} (\d+)", name))}
    missing = sorted(set(range(max(numbers, default=0) + 1)) - numbers)
    if missing:
        raise UserError(f"{address}: {group.name} lacks {what} {', '.join(map(str, missing[:10]))}; copy it again")
    return len(numbers)


def _sizes(file: h5py.File, channel: h5py.Group, stored: tuple[int, ...]) -> tuple[int, ...]:
    """Voxels along z, y and x, without those that fill up chunks."""
    sizes = []
    for axis, n in zip("zyx", stored, strict=True):
        said = _text(channel.attrs.get(f"ImageSize{axis.upper()}"))
        if said is None and channel.name.startswith("/DataSet/ResolutionLevel 0/"):
            said = _text(file["DataSetInfo/Image"].attrs.get(axis.upper())) if "DataSetInfo/Image" in file else None
        sizes.append(min(int(said), n) if said is not None and said.isdecimal() and int(said) else n)
    return tuple(sizes)


def _spacing(file: h5py.File, sizes: tuple[int, ...]) -> Spacing | None:
    """From the image's extent, which is the same for all levels; micrometres where no unit is named."""
    if "DataSetInfo/Image" not in file:
        return None
    attributes = file["DataSetInfo/Image"].attrs
    steps = []
    for axis, n in zip("zyx", sizes, strict=True):
        ends = [_text(attributes.get(f"Ext{end}{_DIRECTIONS[axis]}")) for end in ("Min", "Max")]
        try:
            steps.append(single((float(ends[1] or "") - float(ends[0] or "")) / n))
        except ValueError:
            return None
    if min(steps) <= 0:
        return None
    return Spacing(tuple(steps), (unit_name(_text(attributes.get("Unit")) or "um"),) * 3)


def _text(value: Any) -> str | None:
    """Imaris writes texts as arrays of single characters."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return b"".join(value.astype("S1").ravel().tolist()).decode("latin-1").strip("\0 ")
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
