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
from blockwise.volume.readers.slabs import numbered, paths_of_slabs

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
    header, end, listed = _header(address)
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
    paths = _data_files(address, header[_LAST], listed, sizes)
    if is_compressed and len(paths) > 1:
        raise UserError(f"{address}: has several data files that are compressed; write one, or raw ones")
    size = math.prod(shape) * dtype.itemsize // len(paths)
    places = []
    for path in paths:
        start = (end if path == address.path else 0) + skip
        if skip == -1 and not is_compressed:
            start = os.stat(path).st_size - size
        if start < 0 or skip < -1 or (skip == -1 and is_compressed):
            raise UserError(f"{address}: HeaderSize is {skip}, but {path} is compressed, or smaller than its voxels")
        places.append((path, start))
    return PlainArray(
        path=paths[0],
        offset=places[0][1],
        slabs=tuple(places) if len(places) > 1 else (),
        shape=shape,
        dtype=dtype.newbyteorder(">" if is_big else "<"),
        axes=axes,
        spacing=spacing,
        compression="zlib" if is_compressed else None,
        header="" if paths[0] == address.path else address.path,
    )


def _header(address: Address) -> tuple[Mapping[str, str], int, list[str]]:
    """The lines ``Key = value``, where they end: with the name of the data's file; and names that are listed then."""
    listed: list[str] = []
    found: dict[str, str] = {}
    with open(address.path, "rb") as file:
        while _LAST not in found and file.tell() < _LONGEST_HEADER:
            line = file.readline(_LONGEST_HEADER)
            name, equals, value = line.decode("latin-1").partition("=")
            if not line or not equals:
                break
            found[name.strip()] = value.strip()
        end = file.tell()
        if found.get(_LAST, "").upper().startswith("LIST"):
            listed = [line.decode(errors="surrogateescape").strip() for line in file]
    missing = [name for name in _NEEDED if name not in found]
    if missing or found.get("ObjectType", "Image") != "Image":
        raise UserError(
            f"{address.path}: ends in {address.suffix} but its header is not one of a MetaImage; it lacks "
            f"{', '.join(missing) or 'ObjectType = Image'}"
        )
    return found, end, [name for name in listed if name]


def _data_files(address: Address, name: str, listed: list[str], sizes: list[int]) -> tuple[str, ...]:
    """The header's own file, another one, or one for each slice: listed, or numbered from 1 or as it says."""
    if name.upper() == "LOCAL":
        return (address.path,)
    path = os.path.join(os.path.dirname(address.path), name)
    if os.path.isfile(path):
        return (path,)
    words, slices = name.split(), sizes[-1] if sizes else 0
    try:
        if words and words[0].upper() == "LIST":
            if len(words) > 1 and int(words[1]) != len(sizes) - 1:
                raise ValueError(f"files of {words[1]} axes; expected {len(sizes) - 1}, a slice in each")
            return paths_of_slabs(address, listed, slices, of_one_slice=True)
        if "%" in name:
            first = int(words[1]) if len(words) > 1 else 1
            last = int(words[2]) if len(words) > 2 else first + slices - 1
            step = int(words[3]) if len(words) > 3 else 1
            names = numbered(words[0], first, last, step, slices)
            return paths_of_slabs(address, names, slices, of_one_slice=True)
    except ValueError as error:
        raise UserError(f"{address}: {_LAST} = {name} cannot be read: {error}") from error
    raise UserError(f"{address}: there is no data file {path}, which its header names")


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
