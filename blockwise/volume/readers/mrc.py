"""MRC and CCP4 maps (MRC2014, IMOD) through mrcfile: ``.mrc``, ``.map``, ``.rec``, stacks of images too."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import mrcfile
import mrcfile.utils
import numpy as np
from mrcfile.mrcinterpreter import MrcInterpreter

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, single
from blockwise.volume.readers.plain import PlainArray, PlainVolume

_HEADER_BYTES = 1024
_EXTENDED = slice(92, 96)
"""Bytes of the header that tell how long the extended one is, which is not read."""
_MODES = (0, 1, 2, 6, 12)
_IMOD = 1146047817
"""IMOD writes this number into its headers; then a flag says whether bytes are signed."""
_IMOD_AT = 152
"""Its place in the header, in bytes; the flags follow."""


def open_file(address: Address) -> PlainVolume:
    """Open a file; voxel sizes are in angstrom, axes in the order that the header tells (mapc, mapr, maps)."""
    return PlainVolume(address, _describe(address))


def _describe(address: Address) -> PlainArray:
    header = _header(address)
    mode = int(header.mode)
    if mode not in _MODES:
        raise UserError(
            f"{address}: is an MRC file of mode {mode}; {', '.join(map(str, _MODES))} are read (8 and 16 bit "
            "integers, 16 and 32 bit floats). Is it one? Then convert it, by newstack -mode of IMOD for instance"
        )
    dtype = mrcfile.utils.data_dtype_from_header(header)
    if mode == 0 and _has_unsigned_bytes(header):
        dtype = np.dtype(np.uint8)
    shape = mrcfile.utils.data_shape_from_header(header)
    axes = _axes(address, header)[-len(shape) :] if len(shape) < 4 else None
    offset = _HEADER_BYTES + int(header.nsymbt)
    stored = PlainArray(address.path, offset, shape, dtype, axes, _spacing(header, axes))
    if bytes(header.map)[:3] != b"MAP" and os.stat(address.path).st_size != offset + stored.size:
        raise UserError(
            f"{address.path}: ends in {address.suffix} but is not an MRC file: its header says so nowhere"
        )
    return stored


def _header(address: Address) -> Any:
    try:
        with open(address.path, "rb") as file:
            content = bytearray(file.read(_HEADER_BYTES))
        length, content[_EXTENDED] = bytes(content[_EXTENDED]), bytes(4)  # memory is made for as much as it says
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what is odd is looked at here
            file = MrcInterpreter(io.BytesIO(content), permissive=True, header_only=True)
        header = file.header.copy().view(np.recarray)
        header.nsymbt = np.frombuffer(length, header.mode.dtype)[0]
    except ValueError as error:
        raise UserError(f"{address.path}: ends in {address.suffix} but is not an MRC file: {error}") from error
    is_stack = mrcfile.utils.spacegroup_is_volume_stack(header.ispg)
    if min(header.nx, header.ny, header.nz, header.mz if is_stack else 1) < 1 or header.nsymbt < 0:
        raise UserError(
            f"{address.path}: ends in {address.suffix} but is not an MRC file: its header tells of "
            f"{header.nx} x {header.ny} x {header.nz} voxels"
        )
    return header


def _has_unsigned_bytes(header: Any) -> bool:
    """IMOD before version 4.2.23 took bytes for unsigned, and says since whether they are signed."""
    stamp, flags = np.frombuffer(header.tobytes(), header.mode.dtype, 2, _IMOD_AT)
    return bool(stamp == _IMOD and not flags & 1)


def _axes(address: Address, header: Any) -> str:
    """Names of sections, rows and columns; files before 2000 leave the fields empty, which means zyx."""
    numbers = [int(header.maps), int(header.mapr), int(header.mapc)]
    if numbers == [0, 0, 0]:
        return "zyx"
    if sorted(numbers) != [1, 2, 3]:
        raise UserError(
            f"{address.path}: mapc, mapr and maps are {numbers[::-1]} in its header; expected 1, 2 and 3 in any "
            "order. Is it an MRC file?"
        )
    return "".join("xyz"[number - 1] for number in numbers)


def _spacing(header: Any, axes: str | None) -> Spacing | None:
    """Angstrom; None where the header says nothing. The cell's lengths are along x, y, z whatever the order."""
    if axes is None:
        return None
    counts = {axis: int(header[f"m{axis}"]) for axis in axes}
    lengths = {axis: float(header.cella[axis]) for axis in axes}
    if any(counts[axis] < 1 or not 0 < lengths[axis] < np.inf for axis in axes):
        return None
    return Spacing(tuple(single(lengths[axis] / counts[axis]) for axis in axes), ("angstrom",) * len(axes))
