"""Results in the formats that other programs read: TIFF, TIFF sequence, HDF5, OME-Zarr, N5.

What is exported is anything with a shape, axes and ``read``: a volume (probabilities, a mask, labels), or the simple
segmentation made of probabilities. It is read in slabs of a few slices, so that memory does not grow with its size.
Files are written under a temporary name and renamed when they are complete.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.volume import Address, Spacing
from blockwise.volume.address import HDF5_SUFFIXES, N5_SUFFIXES, TIFF_SUFFIXES, ZARR_SUFFIXES
from blockwise.volume.axes import axistags
from blockwise.volume.creation import begin_volume, finish_volume
from blockwise.volume.formats import open_volume
from blockwise.volume.ingest import CHUNK, attributes_of, chunks_for, slabs
from pipeline.exporting.content import Arranged, Content
from pipeline.exporting.conversion import converted, target_dtype
from pipeline.exporting.scales import ONE_SCALE, Scales, coarser_levels, scale_address, write_levels

BIG_TIFF_BYTES = 4_000_000_000
"""From this size on TIFF files are BigTIFF, because plain TIFF counts bytes in 32 bits."""
MEMORY_BYTES = 1 << 30
"""Voxels that are held at a time, in bytes."""
HDF5_KEY = "exported_data"
"""Name of the dataset where none is given; ilastik's own."""
PLACEHOLDERS = ("dataset", "nickname", "t", "z")
_OME_TIFF_TYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
_OME_TIFF_UNITS = {
    "angstrom": "Å",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "second": "s",
}

Convert = Callable[[NDArray[Any]], NDArray[Any]]


def export(
    content: Content,
    target: str,
    *,
    dtype: str | None = None,
    scale: tuple[float, float] | None = None,
    names: Mapping[str, str] | None = None,
    compress: bool = False,
    scales: Scales = ONE_SCALE,
    axes: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> list[str]:
    """Write a volume in the format that the target's ending names.

    ``.tif`` gives one multipage file (OME metadata; BigTIFF from 4 GB), with ``{z}`` in its name one file a slice.
    ``.h5`` gives HDF5 as ilastik reads it, ``.n5`` and ``.ome.zarr`` containers, in a folder here or in a store. With
    ``{t}`` in the name there is one file (or dataset) a time step.

    Args:
        content: what to write; needs axes.
        target: path, or ``path:key`` for HDF5 and containers. ``{nickname}`` and ``{dataset}`` are replaced from
            ``names``, ``{t}`` and ``{z}`` by numbers from 0, padded with zeros to the same length, or as in
            ``{z:05d}``.
        dtype: name of a numpy dtype; by default that of the content.
        scale: values that become the smallest and largest of an integer ``dtype``; (0, 1) for probabilities.
        names: values of ``nickname`` and ``dataset``.
        compress: deflate the pages of TIFF files; HDF5 and containers are always compressed.
        scales: of an OME-Zarr image; more than one is written in no other format.
        axes: order of the axes in HDF5, N5 and Zarr, such as zyxc; None for that of the content.
        attributes: of the dataset in HDF5 and containers, such as ``drange``.
        memory_bytes: bound for the voxels held at a time. TIFF takes whole slices, with all channels, as many as a
            chunk is deep; where that is more, it takes fewer and reads chunks several times.

    Returns:
        The paths or addresses written.

    Raises:
        UserError: the target exists, its name or ending is wrong, the axes are not known, or values do not fit.
    """
    axes = _ordered(_axes(content), axes, target)
    wanted = target_dtype(dtype, content.dtype)
    fields = _fields(target, axes)
    if scales.number != 1 and Address.parse(target).suffix != ".ome.zarr":
        raise UserError(f"export to {target!r}: several scales are only written as .ome.zarr; let the name end so")
    if Address.parse(target).is_remote and Address.parse(target).suffix in TIFF_SUFFIXES + HDF5_SUFFIXES:
        raise UserError(f"export to {target!r}: into a store only containers are written; let the name end in .zarr")

    def convert(data: NDArray[Any]) -> NDArray[Any]:
        return converted(data, wanted, scale, target)

    steps = content.shape[axes.index("t")] if "t" in fields else 1
    written = []
    for t in range(steps):
        part = Arranged(content, axes, {"t": t} if "t" in fields else {})
        values = {**(names or {}), "t": _Padded(t, steps)}
        if "z" in fields:
            written += _tiff_sequence(part, target, values, wanted, convert, compress, memory_bytes)
            continue
        name = target.format_map(values)
        _write(part, name, wanted, convert, compress, scales, attributes or {}, memory_bytes)
        written.append(name)
    return written


def _axes(content: Content) -> str:
    axes = content.axes or {2: "yx", 3: "zyx"}.get(len(content.shape))
    if axes is None or not {"y", "x"} <= set(axes):
        raise UserError(
            f"cannot export data of shape {content.shape} with axes {axes!r}; name its axes, y and x included"
        )
    return axes


def _ordered(axes: str, wanted: str | None, target: str) -> str:
    """The order of axes that is wanted, where a format has a choice."""
    if wanted is None:
        return axes
    suffix = Address.parse(target).suffix
    if suffix not in HDF5_SUFFIXES + N5_SUFFIXES + ZARR_SUFFIXES or suffix == ".ome.zarr":
        raise UserError(
            f"export to {target!r}: axes {wanted!r}, but this format has an order of axes of its own; let the name "
            "end in .h5, .n5 or .zarr"
        )
    if sorted(wanted) != sorted(axes):
        raise UserError(f"export to {target!r}: axes {wanted!r}, but the data has {axes!r}; name each of them once")
    return wanted


class _Padded(int):
    """A number that fills up with zeros to the length of the largest of its kind."""

    width: int

    def __new__(cls, value: int, count: int) -> _Padded:
        number = super().__new__(cls, value)
        number.width = len(str(count - 1))
        return number

    def __format__(self, spec: str) -> str:
        return int(self).__format__(spec or f"0{self.width}d")


def _fields(target: str, axes: str) -> set[str]:
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(target) if name is not None}
    except ValueError as error:
        raise UserError(f"export to {target!r}: the name cannot be read: {error}") from error
    unknown = fields - set(PLACEHOLDERS)
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise UserError(f"export to {target!r}: {{{unknown.pop()}}} is not known; known are {known}")
    for axis in fields & {"t", "z"}:
        if axis not in axes:
            raise UserError(f"export to {target!r}: the data has axes {axes!r}, so there is no {{{axis}}}")
    if "z" in fields and Address.parse(target).suffix not in TIFF_SUFFIXES:
        raise UserError(f"export to {target!r}: one file a slice is only written as TIFF; let the name end in .tif")
    return fields


def _write(
    content: Arranged,
    target: str,
    dtype: np.dtype[Any],
    convert: Convert,
    compress: bool,
    scales: Scales,
    attributes: Mapping[str, Any],
    memory_bytes: int,
) -> None:
    address = Address.parse(target)
    if address.suffix in TIFF_SUFFIXES:
        _tiff(content, target, dtype, convert, compress, memory_bytes)
    elif address.suffix in HDF5_SUFFIXES:
        _hdf5(content, address, dtype, convert, attributes, memory_bytes)
    elif address.suffix in N5_SUFFIXES + ZARR_SUFFIXES:
        _container(content, address, dtype, convert, scales, attributes, memory_bytes)
    else:
        known = ", ".join((".tif", ".h5", ".n5", ".zarr", ".ome.zarr"))
        raise UserError(f"export to {target!r}: unknown format {address.suffix!r}; known endings are {known}")


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A temporary path that becomes the target when all has gone well."""
    if target.exists():
        raise UserError(f"export to {target}: it exists already; remove it, or choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".new-{os.getpid()}-{target.name}")
    try:
        yield temporary
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def _planes(content: Content, axes: str, memory_bytes: int) -> Iterator[tuple[int, list[NDArray[Any]]]]:
    """For each t and z in turn the number of the slice, and its planes, one a channel, y before x."""
    arranged = Arranged(content, "".join(axis for axis in "tzcyx" if axis in axes))
    slice_bytes = content.dtype.itemsize * math.prod(
        n for axis, n in zip(arranged.axes, arranged.shape, strict=True) if axis in "cyx"
    )
    depth = max(1, memory_bytes // slice_bytes)
    unit = [
        min(chunk if chunk < n else CHUNK, depth) if axis == "z" else 1 if axis == "t" else n
        for axis, n, chunk in zip(arranged.axes, arranged.shape, arranged.chunks, strict=True)
    ]
    for box in slabs(arranged.shape, tuple(unit), 1):
        data = arranged.read(box)
        first = next((s.start for axis, s in zip(arranged.axes, box, strict=True) if axis == "z"), 0)
        planes = data.reshape(-1, *data.shape[-2:])
        channels = arranged.shape[arranged.axes.index("c")] if "c" in arranged.axes else 1
        for start in range(0, len(planes), channels):
            # Copies, so that nobody holds the slab while the next one is read.
            yield first + start // channels, [plane.copy() for plane in planes[start : start + channels]]
        del data, planes


def _tiff(
    content: Arranged, target: str, dtype: np.dtype[Any], convert: Convert, compress: bool, memory_bytes: int
) -> None:
    axes = "".join(axis for axis in "tzcyx" if axis in content.axes)
    shape = tuple(content.shape[content.axes.index(axis)] for axis in axes)
    pages = (convert(plane) for _, planes in _planes(content, axes, memory_bytes) for plane in planes)
    with _replacing(Path(target)) as temporary:
        _save_tiff(temporary, pages, shape, axes, dtype, content.spacing_of(axes), compress)


def _save_tiff(
    path: Path,
    pages: Iterator[NDArray[Any]],
    shape: tuple[int, ...],
    axes: str,
    dtype: np.dtype[Any],
    spacing: Spacing | None,
    compress: bool,
) -> None:
    import tifffile

    is_ome = dtype.name in _OME_TIFF_TYPES
    metadata: dict[str, Any] = {"axes": axes.upper()}
    for axis, step, unit in zip(axes, *(spacing.steps, spacing.units) if spacing else ("", ""), strict=False):
        if is_ome and axis in "zyx" and unit in _OME_TIFF_UNITS:
            metadata[f"PhysicalSize{axis.upper()}"] = step
            metadata[f"PhysicalSize{axis.upper()}Unit"] = _OME_TIFF_UNITS[unit]
    size = math.prod(shape) * dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=size >= BIG_TIFF_BYTES, ome=is_ome, shaped=not is_ome) as file:
        file.write(
            pages,
            shape=shape,
            dtype=dtype,
            photometric="minisblack",
            metadata=metadata,
            compression="zlib" if compress else None,
            compressionargs={"level": 1} if compress else None,
            maxworkers=1,  # more would gather many pages in memory first
        )


def _tiff_sequence(
    content: Arranged,
    target: str,
    values: Mapping[str, Any],
    dtype: np.dtype[Any],
    convert: Convert,
    compress: bool,
    memory_bytes: int,
) -> list[str]:
    """One file a slice. They get their names together at the end, so that a part is not taken for a whole stack."""
    axes = "".join(axis for axis in "cyx" if axis in content.axes)
    shape = tuple(content.shape[content.axes.index(axis)] for axis in axes)
    count = content.shape[content.axes.index("z")]
    written = []
    with contextlib.ExitStack() as files:
        for z, planes in _planes(content, content.axes, memory_bytes):
            name = target.format_map({**values, "z": _Padded(z, count)})
            temporary = files.enter_context(_replacing(Path(name)))
            spacing = content.spacing_of(axes)
            _save_tiff(temporary, (convert(plane) for plane in planes), shape, axes, dtype, spacing, compress)
            written.append(name)
    return written


def _hdf5(
    content: Arranged,
    address: Address,
    dtype: np.dtype[Any],
    convert: Convert,
    attributes: Mapping[str, Any],
    memory_bytes: int,
) -> None:
    chunks = chunks_for(content.shape, content.axes)
    with _replacing(Path(address.path)) as temporary, h5py.File(temporary, "w") as file:
        dataset = file.create_dataset(
            address.key or HDF5_KEY, content.shape, dtype, chunks=chunks, compression="gzip", compression_opts=1
        )
        dataset.attrs.update({"axistags": axistags(content.axes, content.spacing), **attributes})
        if content.spacing:
            units = dict(zip(content.axes, content.spacing.units, strict=True))
            dataset.attrs["axis_units"] = json.dumps(units)
        for box in slabs(content.shape, chunks, memory_bytes // content.dtype.itemsize):
            dataset[box] = convert(content.read(box))


def _container(
    content: Arranged,
    address: Address,
    dtype: np.dtype[Any],
    convert: Convert,
    scales: Scales,
    described: Mapping[str, Any],
    memory_bytes: int,
) -> None:
    if address.suffix == ".ome.zarr":  # the specification wants this order
        content = Arranged(content, "".join(axis for axis in "tczyx" if axis in content.axes))
    chunks = chunks_for(content.shape, content.axes)
    attributes = {**attributes_of(content.axes, content.spacing), **described}
    if address.suffix in N5_SUFFIXES:
        attributes["axistags"] = json.loads(axistags(content.axes, content.spacing))
    levels = coarser_levels(content.shape, content.axes, content.spacing, scales)
    begin_volume(address, content.shape, chunks, dtype.name, attributes, maker="export", levels=levels)
    volume = open_volume(address, "a")
    for box in slabs(content.shape, chunks, memory_bytes // content.dtype.itemsize):
        volume.write(box, convert(content.read(box)))
    write_levels(address, levels, scales.method, memory_bytes)
    for number in reversed(range(1, len(levels) + 1)):
        finish_volume(scale_address(address, number))
    finish_volume(address)
