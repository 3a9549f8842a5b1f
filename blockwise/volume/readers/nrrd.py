"""NRRD, whose header pynrrd reads: ``.nrrd``, and ``.nhdr`` with its data in another file.

SimpleITK would read all voxels for any part of them.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import nrrd
import numpy as np

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, known_axes, single, unit_name
from blockwise.volume.readers.plain import PlainArray, PlainVolume
from blockwise.volume.readers.slabs import numbered, paths_of_slabs
from blockwise.volume.readers.stream import Compression

_COMPRESSIONS: dict[str, Compression | None] = {
    "raw": None, "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
}  # fmt: skip
_LIST = re.compile(rb"data ?file:\s*LIST\b")
_SPATIAL = ("domain", "space")


def open_file(address: Address) -> PlainVolume:
    """Open a file; the fastest axis is x, and voxels stay in the order in which they are stored."""
    return PlainVolume(address, _describe(address))


def _describe(address: Address) -> PlainArray:
    header, end, listed = _header(address)
    encoding = str(header["encoding"]).lower()
    if encoding not in _COMPRESSIONS:
        raise UserError(f"{address}: its encoding is {encoding}; raw, gzip and bzip2 are read")
    shape = tuple(int(n) for n in header["sizes"])[::-1]
    if len(shape) != header["dimension"]:
        raise UserError(f"{address}: its dimension is {header['dimension']}, but its sizes are {shape[::-1]}")
    dtype = _dtype(address, header)
    paths = _data_files(address, header, listed, shape)
    compression = _COMPRESSIONS[encoding]
    if compression and len(paths) > 1:
        raise UserError(f"{address}: has several data files that are compressed; write one, or raw ones")
    size = math.prod(shape) * dtype.itemsize // len(paths)
    places = []
    for path in paths:
        start, skip = _start(address, header, path, 0 if path != address.path else end)
        if skip == -1:
            start, skip = os.stat(path).st_size - size, 0
            if compression or start < 0:
                raise UserError(f"{address}: byte skip is -1, but {path} is compressed, or smaller than its voxels")
        places.append((path, start if compression else start + skip))
    axes = _axes(header)
    return PlainArray(
        path=paths[0],
        offset=places[0][1],
        slabs=tuple(places) if len(places) > 1 else (),
        skip=skip if compression else 0,
        shape=shape,
        dtype=dtype,
        axes=axes,
        spacing=_spacing(header, axes),
        compression=compression,
        header="" if paths[0] == address.path else address.path,
    )


def _header(address: Address) -> tuple[Mapping[str, Any], int, list[str]]:
    """The header, where it ends, and names of data files that are listed then."""
    listed: list[str] = []
    try:
        with open(address.path, "rb") as file:
            header = nrrd.read_header(_without_list(file, listed))
            missing = {"dimension", "type", "encoding", "sizes"} - set(header)
            if not missing:
                return header, file.tell(), listed
    except (nrrd.NRRDError, ValueError, StopIteration) as error:
        raise UserError(f"{address.path}: its header cannot be read as NRRD: {error or 'it is empty'}") from error
    raise UserError(f"{address.path}: its header lacks {', '.join(sorted(missing))}; is it damaged?")


def _without_list(file: BinaryIO, listed: list[str]) -> Iterator[bytes]:
    """Lines of a header; names behind ``data file: LIST`` go to the list."""
    for line in file:
        yield line
        if not line.strip():
            return
        if _LIST.match(line):
            names = (name.decode(errors="surrogateescape").strip() for name in file)
            listed.extend(itertools.takewhile(bool, names))


def _dtype(address: Address, header: Mapping[str, Any]) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = nrrd.reader._determine_datatype(header)
    except (nrrd.NRRDError, KeyError) as error:
        raise UserError(f"{address}: type {header['type']!r} cannot be read: {error}") from error
    return dtype


def _data_files(
    address: Address, header: Mapping[str, Any], listed: list[str], shape: tuple[int, ...]
) -> tuple[str, ...]:
    """The header's own file, another one, or several with a slab each: listed, or numbered."""
    name = str(header.get("data file", header.get("datafile", "")))
    if not name:
        return (address.path,)
    path = os.path.join(os.path.dirname(address.path), name)
    if os.path.isfile(path):
        return (path,)
    words, ndim, slices = name.split(), len(shape), shape[0] if shape else 0
    is_list = words[0] == "LIST"
    if not is_list and "%" not in name:
        raise UserError(f"{address}: there is no data file {path}, which its header names")
    try:
        said = words[1:] if is_list else words[4:]
        dimension = int(said[0]) if said else ndim - 1
        if dimension not in (ndim, ndim - 1):
            raise ValueError(f"files of {dimension} axes; expected {ndim}, a slab in each, or {ndim - 1}, a slice")
        if not is_list:
            first, last, step = map(int, words[1:4])
            listed = numbered(words[0], first, last, step, slices)
    except ValueError as error:
        raise UserError(f"{address}: data file: {name} cannot be read: {error}") from error
    return paths_of_slabs(address, listed, slices, of_one_slice=dimension < ndim)


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
