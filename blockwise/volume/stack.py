"""Stacks of PNG or TIFF files, one file a slice or a volume, and single images; read only."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.transient import refuse_transient
from blockwise.volume.address import TIFF_SUFFIXES, Address
from blockwise.volume.axes import Spacing
from blockwise.volume.base import DamagedDataError, Volume
from blockwise.volume.stack_names import SHOWN, stack_names

_SMALL = 1 << 20
"""Most values of an image that stays in memory until another one is read."""
_PLANE = 3
"""Most axes of a plane: y, x and colours."""


@dataclass(frozen=True)
class _Header:
    """What one file of a stack holds."""

    shape: tuple[int, ...]
    axes: str | None
    dtype: np.dtype[Any]
    is_plane: bool
    spacing: Spacing | None = field(default=None, compare=False)
    """Slices may differ in it: that of the first one counts."""

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}" + ("" if self.is_plane else f" ({self.axes or 'unknown axes'})")


class StackVolume(Volume):
    """Files along z, in the order of the numbers in their names; or one image without z.

    Files that hold several pages are volumes of their own: then the files are time points. Names that tell t, z and c
    apart give an axis for each. The shape comes from the first file; ``verify`` compares the others with it.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lead: tuple[int, ...] = ()
        lead = ""
        if address.is_pattern:
            names = stack_names(address)
            self._files, lead, self._lead = names.files, names.axes, names.shape
        else:
            self._files = [address.path]
        self._first = _header(self._files[0])
        if address.is_pattern and not lead:
            lead = self._unnamed_axis()
        self._refuse_twice(lead)
        self.dtype = self._first.dtype
        self.shape = (*self._lead, *self._first.shape)
        self._ones = (1,) * len(self._lead)
        self._whole_files = (*self._ones, *self._first.shape)
        inner = None if self._first.is_plane else _open_tiff(self._files[0])
        self.chunks = self._whole_files if inner is None else (*self._ones, *inner.chunks)
        self._decode_shape = self.chunks if inner is None else (*self._ones, *inner.decode_shape)
        self.axes = None if self._first.axes is None else lead + self._first.axes
        if self._first.spacing and self._first.axes and self.axes:
            # Of a file with one slice nothing is taken for the distance between slices.
            self.spacing = self._first.spacing.along(self._first.axes, self.axes)

    def _unnamed_axis(self) -> str:
        """What files count whose names do not say it: slices; where the files hold slices, time points."""
        return "z" if "z" not in (self._first.axes or "") else "t"

    def _refuse_twice(self, lead: str) -> None:
        twice = set(lead) & set(self._first.axes or "")
        if twice or (lead and self._first.axes is None):
            raise UserError(
                f"{self.address}: each of {len(self._files)} files holds a volume {self._first} by itself, so that "
                f"{', '.join(sorted(twice)) or 'an axis'} would be counted twice; read one of them, or convert them "
                "into one file"
            )

    def _read(self, box: Box) -> NDArray[Any]:
        depth = len(self._lead)
        out = np.empty(box_shape(box), self.dtype)
        lead = box_shape(box[:depth])
        for place in np.ndindex(*lead):
            index = tuple(s.start + i for s, i in zip(box[:depth], place, strict=True))
            out[place] = self._slice(self.file_of((*index, *(0,) * len(self._first.shape))), box[depth:])
        return out

    def _slice(self, name: str, box: Box) -> NDArray[Any]:
        try:
            header = _header(name)
        except UserError as error:
            refuse_transient(error)
            raise OSError(f"{name} cannot be decoded: {error}") from None
        if header != self._first:
            raise self._odd([f"{name} {header}"])
        if header.is_plane:
            return self._plane(name)[box]
        try:
            return _open_tiff(name).read(box)
        except DamagedDataError as error:
            raise OSError(str(error)) from error

    def _plane(self, name: str) -> NDArray[Any]:
        """A plane; a small image is looked at, and read soon after."""
        if len(self._files) > 1 or math.prod(self._first.shape) > _SMALL:
            return _decode(name)
        status = os.stat(name)
        return _decode_once(name, status.st_size, status.st_mtime_ns)

    def verify(self) -> None:
        """Compare the headers of all slices with the first one's.

        Raises:
            UserError: slices differ in shape or type, or cannot be read; they are named.
        """
        odd = []
        for name in self._files:
            try:
                header = _header(name)
            except UserError as error:
                refuse_transient(error)
                odd.append(f"{name} (cannot be read)")
                continue
            if header != self._first:
                odd.append(f"{name} {header}")
        if odd:
            raise self._odd(odd)

    def _odd(self, odd: list[str]) -> UserError:
        more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
        differ = "differs" if len(odd) == 1 else "differ"
        return UserError(
            f"{self.address}: {len(odd)} of {len(self._files)} slices {differ} from the first one ({self._files[0]} "
            f"{self._first}): {', '.join(odd[:SHOWN])}{more}; replace them, or "
            "narrow the pattern"
        )

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Images hold no attributes."""
        return {}

    @property
    def file_shape(self) -> tuple[int, ...]:
        """One file a slice, or a volume."""
        return self._whole_files

    @property
    def decode_shape(self) -> tuple[int, ...]:
        """A plane; of files with several pages what their format decodes at once."""
        return self._decode_shape

    def file_of(self, index: Index) -> str:
        """Path of a file."""
        return self._files[int(np.ravel_multi_index(index[: len(self._lead)], self._lead)) if self._lead else 0]


def _header(name: str) -> _Header:
    """What a file holds; several ask for it, one after the other."""
    try:
        status = os.stat(name)
    except OSError as error:
        refuse_transient(error, name)
        raise UserError(f"{name}: is no readable image: {error}") from error
    return _read_header(name, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read_header(name: str, size: int, time_ns: int) -> _Header:
    try:
        if name.lower().endswith(TIFF_SUFFIXES):
            volume = _open_tiff(name)
            is_plane = len(volume.shape) <= _PLANE and (volume.axes or "").replace("c", "") == "yx"
            return _Header(volume.shape, volume.axes, volume.dtype, is_plane, volume.spacing)
        import imageio.v3

        properties = imageio.v3.improps(name, plugin="pillow")
        if (properties.n_images or 1) > 1:
            raise UserError(f"{name}: holds {properties.n_images} pictures (an animation); convert it to TIFF")
        shape = tuple(properties.shape)
        return _Header(shape, "yxc"[: len(shape)], np.dtype(properties.dtype), is_plane=True)
    except (OSError, ValueError, SyntaxError) as error:
        refuse_transient(error, name)
        raise UserError(f"{name}: is no readable image: {error}") from error


def _open_tiff(name: str) -> Volume:
    from blockwise.volume.tiff import TiffVolume  # loads tifffile

    return TiffVolume(Address(name, ""))


@functools.lru_cache(maxsize=1)
def _decode_once(name: str, size: int, time_ns: int) -> NDArray[Any]:
    return _decode(name)


def _decode(name: str) -> NDArray[Any]:
    with open(name, "rb") as file:  # what the system refuses is no damage, and decoders hide its word
        file.read(1)
    try:
        if name.lower().endswith(TIFF_SUFFIXES):
            import tifffile

            return np.asarray(tifffile.imread(name, key=0))
        import imageio.v3

        return np.asarray(imageio.v3.imread(name, plugin="pillow"))
    except Exception as error:  # decoders raise whatever they like for broken bytes
        raise OSError(f"{name} cannot be decoded: {error}") from error
