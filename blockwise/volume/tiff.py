"""TIFF through tifffile: multipage, ImageJ hyperstack, OME-TIFF, BigTIFF; read only."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import struct
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.transient import refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, known_axes, unit_name
from blockwise.volume.base import Volume
from blockwise.volume.ome_tiff import files_of_series, ome_steps, refuse_missing_files
from blockwise.volume.readers.tiff_kinds import axis_letters, steps_of

MOST_TAGS = 4096
"""Of a page, as tifffile has it."""


class TiffVolume(Volume):
    """One series of a TIFF file; the address's key is its number, 0 by default.

    Uncompressed files whose pages follow each other are mapped, so any box costs what it holds. Of others only the
    strips or tiles that a box touches are decoded.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._file = _open(address)
        weakref.finalize(self, self._file.close)
        self._series = _series(self._file, address)
        self.shape = tuple(self._series.shape)
        self.dtype = np.dtype(self._series.dtype).newbyteorder("=")
        self._keyframe: Any = self._series.keyframe
        self._files = files_of_series(self._series)
        page_ndim = len(self._keyframe.shape)
        self._mapped = _mapped(self._file, self._series)
        self._lead = self.shape[: len(self.shape) - page_ndim]
        self._unit = _segment_shape(self._keyframe)
        self.chunks = self.shape if self._mapped is not None else (1,) * len(self._lead) + self._unit
        self.axes = _axes(axis_letters(address, self._file, self._series))
        self.spacing = _spacing(self._file, self._series, int(address.key or 0), self.axes)

    def _read(self, box: Box) -> NDArray[Any]:
        if self._mapped is not None:
            return self._read_mapped(box)
        lead, inner = box[: len(self._lead)], box[len(self._lead) :]
        out = np.zeros(box_shape(box), self.dtype)
        pages = out.reshape(-1, *box_shape(inner))
        for i, index in enumerate(itertools.product(*(range(s.start, s.stop) for s in lead))):
            number = int(np.ravel_multi_index(index, self._lead)) if index else 0
            try:
                self._read_page(number, inner, pages[i])
            except Exception as error:  # decoders raise whatever they like for broken bytes
                raise OSError(f"page {number} cannot be decoded: {type(error).__name__}: {error}") from error
        return out

    def _read_mapped(self, box: Box) -> NDArray[Any]:
        last = [s.stop - 1 for s in box]
        needed = (
            int(self._series.dataoffset or 0)
            + (int(np.ravel_multi_index(last, self.shape)) + 1) * self.dtype.itemsize
        )
        found = self._file.filehandle.size
        if needed > found:
            raise OSError(f"the file is cut off: it has {found} bytes, at least {needed} are needed")
        return np.ascontiguousarray(self._mapped[box], dtype=self.dtype)

    def _read_page(self, number: int, box: Box, out: NDArray[Any]) -> None:
        page: Any = self._series.pages[number]
        if page is None:  # OME-TIFF may leave planes out
            return
        handle = page.parent.filehandle
        with contextlib.ExitStack() as opened:
            if handle.closed:  # of a set of files only the first one stays open
                handle.open()
                opened.callback(handle.close)
            if self._unit == tuple(self._keyframe.shape):
                out[...] = page.asarray()[box]
            else:
                self._read_segments(page, box, out)

    def _read_segments(self, page: Any, box: Box, out: NDArray[Any]) -> None:
        """The strips or tiles of a page that a box touches."""
        handle, (rows, columns) = page.parent.filehandle, self._unit[:2]
        per_row = math.ceil(self._keyframe.imagewidth / columns)
        touched = [range(s.start // n, -(-s.stop // n)) for s, n in zip(box, (rows, columns), strict=False)]
        for i, j in itertools.product(*touched):
            segment = i * per_row + j
            handle.seek(page.dataoffsets[segment])
            stored = handle.read(page.databytecounts[segment]) or None
            tables = {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}
            tile, _, valid = page.keyframe.decode(stored, segment, **tables)
            if tile is not None:
                tile = tile.reshape(tile.shape[1:] if len(box) == 3 else tile.shape[1:3])[: valid[1], : valid[2]]
                _paste(tile, (i * rows, j * columns), box, out)

    @property
    def codec(self) -> str:
        """TIFF's name of the compression."""
        compression = (
            self._keyframe.compression
        )  # a number, or what else the file has, where tifffile does not know it
        return "" if compression in (0, 1) else str(getattr(compression, "name", compression))

    @property
    def attributes(self) -> Mapping[str, Any]:
        """TIFF holds no attributes; axes and spacing are read from ImageJ's and OME's metadata."""
        return {}

    @property
    def decode_shape(self) -> tuple[int, ...]:
        """A strip or tile; single voxels where the file is mapped."""
        return self.chunks if self._mapped is None else (1,) * len(self.shape)

    @property
    def companions(self) -> tuple[str, ...]:
        """The other files of a set of OME-TIFF files."""
        return tuple(path for path in self._files if path != self._file.filehandle.path)

    def absent_pieces(self, states: NDArray[np.int64]) -> tuple[int, int]:
        """Planes that OME's metadata leave out; tifffile gives zeros for them."""
        if self._mapped is not None:
            return 0, 1
        pages = self._series.pages
        return sum(page is None for page in pages), len(pages)

    def file_of(self, index: Index) -> str:
        """The whole volume lies in one file."""
        return self.address.path


class _Complaints(logging.Handler):
    """Collects what tifffile logs about a file: it goes on with the pages that it finds, however few."""

    DEFECTS = ("invalid page offset", "corrupted", "failed to read", "index out of range", "is missing files")

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if any(words in message for words in self.DEFECTS):
            self.lines.append(message)


@contextlib.contextmanager
def _refusing_cut_files(address: Address) -> Iterator[None]:
    complaints, logger = _Complaints(), logging.getLogger("tifffile")
    logger.addHandler(complaints)
    try:
        yield
    finally:
        logger.removeHandler(complaints)
    if complaints.lines:
        lines = "; ".join(complaints.lines)
        raise UserError(f"{address.path}: is damaged or cut off, pages are missing ({lines}); copy it again")


def _open(address: Address) -> tifffile.TiffFile:
    try:
        return tifffile.TiffFile(address.path)
    except OSError as error:
        refuse_transient(error, address.path)
        raise
    except (tifffile.TiffFileError, struct.error) as error:
        raise UserError(f"{address.path}: ends in {address.suffix} but is not a TIFF file: {error}") from error


def _refuse_endless(file: tifffile.TiffFile) -> None:
    """Follow the chain of directories: where it leads back, or they overlap, tifffile makes pages without an end.

    Raises:
        UserError: the chain has no end.
    """
    tiff, handle = file.tiff, file.filehandle
    seen: set[int] = set()
    offset, used = int(file.pages.first.offset), 0
    while 0 < offset < handle.size:
        if offset in seen or used > handle.size:
            raise UserError(
                f"{file.filehandle.path}: is damaged, its pages lead to each other without an end (after "
                f"{len(seen)}, at byte {offset}); copy it again"
            )
        seen.add(offset)
        handle.seek(offset)
        (tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize).ljust(tiff.tagnosize, b"\0"))
        if tags > MOST_TAGS:  # tifffile ends here, and complains
            return
        used += tiff.tagnosize + tags * tiff.tagsize + tiff.offsetsize
        handle.seek(offset + tiff.tagnosize + tags * tiff.tagsize)
        (offset,) = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize).ljust(tiff.offsetsize, b"\0"))


def _series(file: tifffile.TiffFile, address: Address) -> tifffile.TiffPageSeries:
    _refuse_endless(file)
    refuse_missing_files(file)
    with _refusing_cut_files(address):
        found = file.series
        len(file.pages)
    number = address.key or "0"
    listed = ", ".join(f"{i} ({series.axes} {series.shape})" for i, series in enumerate(found))
    if not number.isdecimal() or int(number) >= len(found):
        raise UserError(f"{address}: {number!r} is no series of {address.path}; it holds: {listed}")
    if not address.key and not all(_is_preview(series, found[0]) for series in found[1:]):
        raise UserError(
            f"{address}: holds {len(found)} series, {listed}; name the one that is meant, such as "
            f"{address.within('0')}"
        )
    return found[int(number)]


def _is_preview(series: tifffile.TiffPageSeries, first: tifffile.TiffPageSeries) -> bool:
    """Whether a series is a thumbnail or a label beside the first one: nobody misses it."""
    page, whole = series.keyframe, first.keyframe
    is_smaller = page.imagewidth < whole.imagewidth and page.imagelength < whole.imagelength
    return bool(page.is_reduced) or (len(series.pages) == 1 and is_smaller)


def _mapped(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Any:
    """The series as an array over the mapped file, or None where it is compressed or scattered."""
    if series.dataoffset is None or series.is_multifile:
        return None
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    size = file.filehandle.size - series.dataoffset
    if size < dtype.itemsize or not series.keyframe.is_final:
        return None
    content = np.memmap(file.filehandle.path, dtype, "r", series.dataoffset, size // dtype.itemsize)
    strides = np.cumprod([dtype.itemsize, *series.shape[:0:-1]])[::-1].tolist()
    # A file that was cut off is shorter than its shape; what is there can still be read.
    return np.lib.stride_tricks.as_strided(content, tuple(series.shape), strides, writeable=False)


def _segment_shape(page: Any) -> tuple[int, ...]:
    """Shape of a strip or tile, in the axes of a page; the whole page where its samples lie in separate planes."""
    shape = tuple(page.shape)
    interleaved = page.samplesperpixel == 1 or page.planarconfig == 1
    if page.imagedepth != 1 or not interleaved or len(shape) != 2 + (page.samplesperpixel > 1):
        return shape
    if page.is_tiled:
        return (page.tilelength, page.tilewidth, *shape[2:])
    return (min(page.rowsperstrip, shape[0]), *shape[1:])


def _paste(tile: NDArray[Any], corner: tuple[int, int], box: Box, out: NDArray[Any]) -> None:
    """Copy the part of a tile that lies in the box."""
    source, target = [], []
    for s, start, n in zip(box, corner, tile.shape, strict=False):
        first, last = max(s.start, start), min(s.stop, start + n)
        source.append(slice(first - start, last - start))
        target.append(slice(first - s.start, last - s.start))
    out[tuple(target)] = tile[tuple(source)][..., box[2]] if len(box) == 3 else tile[tuple(source)]


def _axes(letters: str) -> str | None:
    """Axes in the words of this program: samples are channels, unnamed pages are slices."""
    names = letters.lower().replace("s", "c")
    for free in ("z", "t"):
        if free not in names:
            names = next((names.replace(other, free, 1) for other in names if other in "iqr"), names)
    return known_axes(list(names), len(letters))


def _spacing(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, number: int, axes: str | None
) -> Spacing | None:
    if axes is None:
        return None
    steps, units = ome_steps(file, number) if file.is_ome else steps_of(file, series) or _imagej_steps(file)
    if not steps:
        return None
    names = "".join(axis for axis in axes if axis in steps)
    found = Spacing(tuple(steps[axis] for axis in names), tuple(units.get(axis, "") for axis in names))
    return found.along(names, axes)


def _imagej_steps(file: tifffile.TiffFile) -> tuple[dict[str, float], dict[str, str]]:
    metadata, tags = file.imagej_metadata or {}, file.pages.first.tags
    unit = unit_name(str(metadata.get("unit", "")))
    if not unit:  # pixels per inch or per nothing say nothing about a sample
        return {}, {}
    # ImageJ leaves the depth of a voxel out where it is 1.
    steps = {"z": float(metadata.get("spacing", 1.0))}
    for axis, name in (("y", "YResolution"), ("x", "XResolution")):
        if name in tags and tags[name].value[0]:
            numerator, denominator = tags[name].value
            steps[axis] = denominator / numerator
    return steps, dict.fromkeys(steps, unit)
