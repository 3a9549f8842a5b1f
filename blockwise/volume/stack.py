"""Stacks of PNG or TIFF slices, one file a slice, and single images; read only."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.transient import refuse_transient
from blockwise.volume.address import TIFF_SUFFIXES, Address
from blockwise.volume.base import Volume

_SHOWN = 10
_PRINTF = re.compile(r"%(0?)(\d*)d")


class StackVolume(Volume):
    """Slices along z, in the order of the numbers in their names; or one image without z.

    The shape comes from the first slice; ``verify`` compares the others with it.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._files = slice_files(address) if address.is_pattern else [address.path]
        plane, self.dtype = _header(self._files[0])
        self._plane = plane
        self.shape = (len(self._files), *plane) if address.is_pattern else plane
        self.chunks = (1, *plane) if address.is_pattern else plane
        plane_axes = "yxc"[: len(plane)]
        self.axes = f"z{plane_axes}" if address.is_pattern else plane_axes

    def _read(self, box: Box) -> NDArray[Any]:
        if not self.address.is_pattern:
            return self._slice(self._files[0])[box]
        out = np.empty(box_shape(box), self.dtype)
        for i, name in enumerate(self._files[box[0]]):
            out[i] = self._slice(name)[box[1:]]
        return out

    def _slice(self, name: str) -> NDArray[Any]:
        data = _decode(name)
        if data.shape != self._plane or data.dtype != self.dtype:
            raise self._odd([f"{name} {data.shape} {data.dtype}"])
        return data

    def verify(self) -> None:
        """Compare the headers of all slices with the first one's.

        Raises:
            UserError: slices differ in shape or type, or cannot be read; they are named.
        """
        odd = []
        for name in self._files:
            try:
                plane, dtype = _header(name)
            except UserError as error:
                refuse_transient(error)
                odd.append(f"{name} (cannot be read)")
                continue
            if plane != self._plane or dtype != self.dtype:
                odd.append(f"{name} {plane} {dtype}")
        if odd:
            raise self._odd(odd)

    def _odd(self, odd: list[str]) -> UserError:
        more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        differ = "differs" if len(odd) == 1 else "differ"
        return UserError(
            f"{self.address}: {len(odd)} of {len(self._files)} slices {differ} from the first one ({self._files[0]} "
            f"{self._plane} {self.dtype}): {', '.join(odd[:_SHOWN])}{more}; replace them, or "
            "narrow the pattern"
        )

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Images hold no attributes."""
        return {}

    @property
    def file_shape(self) -> tuple[int, ...]:
        """One slice a file."""
        return self.chunks

    def file_of(self, index: Index) -> str:
        """Path of a slice."""
        return self._files[index[0]] if self.address.is_pattern else self._files[0]


def slice_files(address: Address) -> list[str]:
    """Files of a stack, in the order of their numbers.

    Raises:
        UserError: no file fits the pattern, or numbers are missing between the first and the last.
    """
    printf = _PRINTF.search(address.path)
    pattern = _PRINTF.sub("*", address.path) if printf else address.path
    found = glob(pattern)
    names = [name for name in found if Path(name).is_file()]
    if printf:
        digits = rf"\d{{{printf[2]},}}" if printf[1] and printf[2] else r"\d+"
        fits = re.compile(
            re.escape(address.path[: printf.start()]) + digits + re.escape(address.path[printf.end() :])
        )
        names = [name for name in names if fits.fullmatch(name)]
    dangling = [name for name in found if os.path.islink(name) and not os.path.exists(name)]
    if dangling:
        raise UserError(
            f"{address}: {len(dangling)} of {len(found)} slices are links that lead nowhere: "
            f"{', '.join(sorted(dangling)[:_SHOWN])}; is a disk not mounted, or data of git-annex not fetched?"
        )
    if not names:
        raise UserError(
            f"{address}: no file fits this pattern (looked from {Path.cwd()}); write it as stack/*.png or "
            "stack/%04d.png"
        )
    names.sort(key=_natural)
    _refuse_gaps(address, names)
    return names


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which slice_2 comes before slice_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _refuse_gaps(address: Address, names: list[str]) -> None:
    parts = [re.split(r"(\d+)", name) for name in names]
    varying = {i for split in parts for i in range(len(split)) if split[i : i + 1] != parts[0][i : i + 1]}
    if len({len(split) for split in parts}) > 1 or len(varying) != 1 or not (place := varying.pop()) % 2:
        return  # the names do not count slices
    there = {int(split[place]) for split in parts}
    missing = sorted(set(range(min(there), max(there))) - there)
    if missing:
        width = len(parts[0][place]) if parts[0][place].startswith("0") else 0
        shown = ["".join([*parts[0][:place], f"{n:0{width}d}", *parts[0][place + 1 :]]) for n in missing[:_SHOWN]]
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        are = "slice is" if len(missing) == 1 else "slices are"
        raise UserError(
            f"{address}: {len(missing)} {are} missing between {names[0]} and {names[-1]}: {', '.join(shown)}{more}; "
            "add them, or choose the slices with a narrower pattern"
        )


def _header(name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an image; several ask for them, one after the other."""
    try:
        status = os.stat(name)
    except OSError as error:
        refuse_transient(error, name)
        raise UserError(f"{name}: is no readable image: {error}") from error
    return _read_header(name, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read_header(name: str, size: int, time_ns: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        if name.lower().endswith(TIFF_SUFFIXES):
            import tifffile

            with tifffile.TiffFile(name) as file:
                return tuple(file.pages.first.shape), np.dtype(file.pages.first.dtype)
        import imageio.v3

        properties = imageio.v3.improps(name, plugin="pillow")
        return tuple(properties.shape), np.dtype(properties.dtype)
    except (OSError, ValueError, SyntaxError) as error:
        refuse_transient(error, name)
        raise UserError(f"{name}: is no readable image: {error}") from error


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
