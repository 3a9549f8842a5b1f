"""NRRD, whose header pynrrd reads: ``.nrrd``, and ``.nhdr`` with its data in another file.

SimpleITK would read all voxels for any part of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import nrrd
import numpy as np

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, known_axes, single, unit_name
from blockwise.volume.readers.plain import PlainArray, PlainVolume
from blockwise.volume.readers.stream import Compression

_COMPRESSIONS: dict[str, Compression | None] = {
    "raw": None, "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
}  # fmt: skip
_SPATIAL = ("domain", "space")


def open_file(address: Address) -> PlainVolume:
    """Open a file; the fastest axis is x, and voxels stay in the order in which they are stored."""
    return PlainVolume(address, _describe(address))


def _describe(address: Address) -> PlainArray:
    header, end = _header(address)
    encoding = str(header["encoding"]).lower()
    if encoding not in _COMPRESSIONS:
        raise UserError(f"{address}: its encoding is {encoding}; raw, gzip and bzip2 are read")
    shape = tuple(int(n) for n in header["sizes"])[::-1]
    if len(shape) != header["dimension"]:
        raise UserError(f"{address}: its dimension is {header['dimension']}, but its sizes are {shape[::-1]}")
    dtype = _dtype(address, header)
    path = _data_file(address, header)
    start, skip = _start(address, header, path, 0 if path != address.path else end)
    compression = _COMPRESSIONS[encoding]
    if skip == -1:
        start, skip = os.stat(path).st_size - math.prod(shape) * dtype.itemsize, 0
        if compression or start < 0:
            raise UserError(f"{address}: byte skip is -1, but {path} is compressed, or smaller than its voxels")
    axes = _axes(header)
    return PlainArray(
        path=path,
        offset=start if compression else start + skip,
        skip=skip if compression else 0,
        shape=shape,
        dtype=dtype,
        axes=axes,
        spacing=_spacing(header, axes),
        compression=compression,
        header="" if path == address.path else address.path,
    )


def _header(address: Address) -> tuple[Mapping[str, Any], int]:
    """The header, and where it ends."""
    try:
        with open(address.path, "rb") as file:
            header = nrrd.read_header(file)
            missing = {"dimension", "type", "encoding", "sizes"} - set(header)
            if not missing:
                return header, file.tell()
    except (nrrd.NRRDError, ValueError, StopIteration) as error:
        raise UserError(
            f"{address.path}: its header cannot be read as NRRD: {error or 'it is empty'}; lists of data files "
            "are not read"
        ) from error
    raise UserError(f"{address.path}: its header lacks {', '.join(sorted(missing))}; is it damaged?")


def _dtype(address: Address, header: Mapping[str, Any]) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = nrrd.reader._determine_datatype(header)
    except (nrrd.NRRDError, KeyError) as error:
        raise UserError(f"{address}: type {header['type']!r} cannot be read: {error}") from error
    return dtype


def _data_file(address: Address, header: Mapping[str, Any]) -> str:
    name = str(header.get("data file", header.get("datafile", "")))
    if not name:
        return address.path
    path = os.path.join(os.path.dirname(address.path), name)
    if not os.path.isfile(path):
        hint = "; several data files are not read, write one" if "%" in name else ""
        raise UserError(f"{address}: there is no data file {path}, which its header names{hint}")
    return path


def _start(address: Address, header: Mapping[str, Any], path: str, start: int) -> tuple[int, int]:
    """Place of the data after the lines that are skipped, and the bytes that are skipped then."""
    lines = int(header.get("line skip", header.get("lineskip", 0)))
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    if lines < 0 or skip < -1:
        raise UserError(f"{address}: line skip {lines} and byte skip {skip} in its header mean nothing")
    with open(path, "rb") as file:
        file.seek(start)
        for _ in range(lines):
            file.readline()
        return file.tell(), skip


def _axes(header: Mapping[str, Any]) -> str | None:
    """Names from labels, else from kinds, else x, y and z for up to three axes."""
    ndim = int(header["dimension"])
    labels = [str(label).lower() for label in header.get("labels", [])]
    if named := known_axes(labels[::-1], ndim):
        return named
    kinds = [str(kind).lower() for kind in header.get("kinds", [])]
    if not kinds:
        directions = header.get("space directions")
        if directions is not None:
            kinds = ["list" if np.isnan(row).all() else "space" for row in directions]
        elif ndim <= 3:
            kinds = ["space"] * ndim
        else:
            return None
    spatial = iter("xyz")
    names = ["t" if kind == "time" else next(spatial, "") if kind in _SPATIAL else "c" for kind in kinds]
    return known_axes(names[::-1], ndim)


def _spacing(header: Mapping[str, Any], axes: str | None) -> Spacing | None:
    if axes is None:
        return None
    directions, steps = header.get("space directions"), header.get("spacings")
    if directions is not None:
        found = [float(np.linalg.norm(row)) for row in np.asarray(directions, np.float64)]
        units = _units_of_space(header, np.nan_to_num(np.abs(np.asarray(directions, np.float64))))
    elif steps is not None:
        found = [float(step) for step in steps]
        units = [str(unit) for unit in header.get("units", [""] * len(found))]
    else:
        return None
    if not len(found) == len(units) == len(axes):
        return None
    pairs = [
        (single(step), unit_name(unit)) if 0 < step < math.inf else (1.0, "")
        for step, unit in zip(found, units, strict=True)
    ][::-1]
    return Spacing(tuple(step for step, _ in pairs), tuple(unit for _, unit in pairs))


def _units_of_space(header: Mapping[str, Any], directions: np.ndarray[Any, Any]) -> list[str]:
    """Units are given for the axes of the room; an axis of the array has that of the one along which it runs."""
    units = [str(unit) for unit in header.get("space units", [])]
    if len(units) != directions.shape[1]:
        return [""] * len(directions)
    return [units[int(row.argmax())] for row in directions]
