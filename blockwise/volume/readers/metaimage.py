"""MetaImage, as ITK and elastix write it: ``.mha``, and ``.mhd`` with its data in another file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import numpy as np

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, single, unit_name
from blockwise.volume.readers.plain import PlainArray, PlainVolume

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_LONGEST_HEADER = 1 << 20
_LAST = "ElementDataFile"
_NEEDED = ("DimSize", "ElementType", _LAST)
_AXES = {2: "yx", 3: "zyx", 4: "tzyx"}


def open_file(address: Address) -> PlainVolume:
    """Open a file; the first axis is x, the fourth is time, and directions are not applied."""
    return PlainVolume(address, _describe(address))


def _describe(address: Address) -> PlainArray:
    header, end = _header(address)
    path = _data_file(address, header[_LAST])
    is_local = path == address.path
    try:
        dtype = np.dtype(_TYPES[header["ElementType"].removesuffix("_ARRAY")])
        sizes = [int(n) for n in header["DimSize"].split()]
        channels = int(header.get("ElementNumberOfChannels", "1"))
        skip = int(header.get("HeaderSize", "0"))
    except (KeyError, ValueError) as error:
        raise UserError(f"{address}: its header cannot be read: {error}; expected numbers and MET_ types") from error
    if not _is_true(header, "BinaryData", True):
        raise UserError(f"{address}: holds its voxels as text; write them as binary data")
    is_big = _is_true(header, "BinaryDataByteOrderMSB") or _is_true(header, "ElementByteOrderMSB")
    shape, axes = tuple(sizes[::-1]), _AXES.get(len(sizes))
    spacing = _spacing(header, axes)
    if channels > 1:
        shape = (*shape, channels)
        spacing = spacing and spacing.along(axes or "", f"{axes}c")
        axes = axes and f"{axes}c"
    is_compressed = _is_true(header, "CompressedData")
    if skip == -1 and not is_compressed:
        skip, end = 0, os.stat(path).st_size - math.prod(shape) * dtype.itemsize
        is_local = True
    if skip < 0 or end < 0:
        raise UserError(f"{address}: HeaderSize is {skip}, but {path} is compressed, or smaller than its voxels")
    return PlainArray(
        path=path,
        offset=(end if is_local else 0) + skip,
        shape=shape,
        dtype=dtype.newbyteorder(">" if is_big else "<"),
        axes=axes,
        spacing=spacing,
        compression="zlib" if is_compressed else None,
        header="" if path == address.path else address.path,
    )


def _header(address: Address) -> tuple[Mapping[str, str], int]:
    """The lines ``Key = value``, and where they end: with the name of the data's file."""
    found: dict[str, str] = {}
    with open(address.path, "rb") as file:
        while _LAST not in found and file.tell() < _LONGEST_HEADER:
            line = file.readline(_LONGEST_HEADER)
            name, equals, value = line.decode("latin-1").partition("=")
            if not line or not equals:
                break
            found[name.strip()] = value.strip()
        end = file.tell()
    missing = [name for name in _NEEDED if name not in found]
    if missing or found.get("ObjectType", "Image") != "Image":
        raise UserError(
            f"{address.path}: ends in {address.suffix} but its header is not one of a MetaImage; it lacks "
            f"{', '.join(missing) or 'ObjectType = Image'}"
        )
    return found, end


def _data_file(address: Address, name: str) -> str:
    if name.upper() == "LOCAL":
        return address.path
    path = os.path.join(os.path.dirname(address.path), name)
    if not os.path.isfile(path):
        several = "%" in name or name.upper().startswith("LIST")
        hint = "; several data files are not read, write one" if several else ""
        raise UserError(f"{address}: there is no data file {path}, which its header names{hint}")
    return path


def _is_true(header: Mapping[str, str], name: str, otherwise: bool = False) -> bool:
    return header[name].lower() in ("true", "1", "t") if name in header else otherwise


def _spacing(header: Mapping[str, str], axes: str | None) -> Spacing | None:
    try:
        steps = [single(float(step)) for step in header.get("ElementSpacing", header.get("ElementSize", "")).split()]
    except ValueError:
        return None
    if axes is None or len(steps) != len(axes):
        return None
    unit = unit_name(header.get("DistanceUnits", ""))
    return Spacing(tuple(steps[::-1]), tuple("" if axis == "t" else unit for axis in axes))
