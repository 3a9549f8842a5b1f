"""Slices that lie in files of their own, read as one volume, each moved by whole pixels: nothing is copied.

The file names them::

    {"shape": [z, y, x], "dtype": "uint8", "fill": 0,
     "slices": [null, {"path": "a.png", "plane": null, "x": 3, "y": 0, "width": 90, "height": 80}, ...]}

with the place of each slice's first pixel along x and y, and null where there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.transient import refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.base import DamagedDataError, Volume


def open_file(address: Address) -> MovedSlices:
    """Open a file that names slices.

    Raises:
        UserError: it is none.
    """
    try:
        content = json.loads(Path(address.path).read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{address}: names no slices: {type(error).__name__}: {error}") from error
    return MovedSlices(address, content)


def _checked(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """A slice as the file names it.

    Raises:
        KeyError: something of it is not there.
        ValueError: something of it is of another kind, or it is a list of slices itself.
    """
    path, plane = entry["path"], entry["plane"]
    if not isinstance(path, str) or path.lower().endswith(".slices.json"):
        raise ValueError(f"path {path!r:.80} is none of an image")
    numbers = {name: entry[name] for name in ("x", "y", "width", "height")} | ({} if plane is None else {"z": plane})
    if not all(type(n) is int and abs(n) < 2**31 for n in numbers.values()):
        raise ValueError(f"place {numbers!r:.120} of {path!r:.80}: expected whole numbers")
    return entry


class MovedSlices(Volume):
    """Slices on a common canvas."""

    axes = "zyx"

    def __init__(self, address: Address, value: Any) -> None:
        """Take what names the slices.

        Args:
            address: of the file that holds it, or whatever says where they lie.
            value: see above.

        Raises:
            UserError: it names none.
        """
        self.address = address
        try:
            self.shape = tuple(int(n) for n in value["shape"])
            self.dtype = np.dtype(value["dtype"])
            self._fill = np.array([value["fill"]]).astype(self.dtype)[0]
            self._slices = [None if entry is None else _checked(entry) for entry in value["slices"]]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"{address}: names no slices: {type(error).__name__}: {error}") from error
        if self.dtype.kind not in "uif" or len(self.shape) != len(self.axes) or len(self._slices) != self.shape[0]:
            raise UserError(
                f"{address}: names {len(self._slices)} slices of {self.dtype} for the shape {self.shape}; expected "
                "z, y and x, a slice or null for each z, and numbers"
            )
        self.chunks = (1, *self.shape[1:])

    def _read(self, box: Box) -> NDArray[Any]:
        found = np.full(box_shape(box), self._fill, self.dtype)
        for i, z in enumerate(range(box[0].start, box[0].stop)):
            entry = self._slices[z]
            if entry is not None:
                self._put(entry, box[1:], found[i])
        return found

    def _put(self, entry: Mapping[str, Any], box: Box, out: NDArray[Any]) -> None:
        """Fill in what a slice has of a box along y and x."""
        here, there = [], []
        for s, start, length in zip(box, (entry["y"], entry["x"]), (entry["height"], entry["width"]), strict=True):
            low, high = max(s.start, start), min(s.stop, start + length)
            if low >= high:
                return
            here.append(slice(low - s.start, high - s.start))
            there.append(slice(low - start, high - start))
        out[tuple(here)] = self._pixels(entry, tuple(there))

    def _pixels(self, entry: Mapping[str, Any], part: Box) -> NDArray[Any]:
        from blockwise.volume.formats import open_volume  # which opens this reader

        path, plane = entry["path"], entry["plane"]
        try:
            volume = open_volume(Address(path, "") if plane is None else path)
            axes = volume.axes or "zyx"[-len(volume.shape) :]
            lengths = dict(zip(axes, volume.shape, strict=True))
            dtype = volume.dtype.newbyteorder("=")  # big-endian files, as Fiji writes them, hold the same numbers
            if (lengths["y"], lengths["x"], dtype) != (entry["height"], entry["width"], self.dtype):
                raise OSError(f"{path} is no longer the slice that it was: {volume.shape} {volume.dtype}")
            ranges = dict(zip("yx", part, strict=True)) | ({} if plane is None else {"z": slice(plane, plane + 1)})
            data = volume.read(
                tuple(ranges.get(axis, slice(0, n)) for axis, n in zip(axes, volume.shape, strict=True))
            )
        except (UserError, DamagedDataError) as error:
            refuse_transient(error)
            raise OSError(str(error)) from error
        order = [axes.index(axis) for axis in "yx"]
        return data.transpose([i for i in range(data.ndim) if i not in order] + order).reshape(box_shape(part))

    @property
    def attributes(self) -> Mapping[str, Any]:
        """None."""
        return {}

    @property
    def file_shape(self) -> tuple[int, ...]:
        """A slice."""
        return self.chunks

    def file_of(self, index: Index) -> str:
        """The file of a slice; where there is none, the one that says so."""
        entry = self._slices[index[0]]
        return self.address.path if entry is None else str(Address.parse(entry["path"]).path)

    @property
    def companions(self) -> tuple[str, ...]:
        """The file that names the slices."""
        return (self.address.path,)
