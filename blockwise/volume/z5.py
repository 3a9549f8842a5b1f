"""N5 and Zarr v2 in a local folder, through z5py."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import z5py
from numpy.typing import NDArray

from blockwise.errors import DiskFullError
from blockwise.grid import Box, Index
from blockwise.transient import ShortFailureError, error_number, is_transient, refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.base import Volume
from blockwise.volume.metadata import DTYPES, Array
from blockwise.volume.store import Store

_SCARCE_BYTES = 1 << 24
_NOT_READ = ("cannot open chunk file", "failed to read chunk file")
"""What z5py says of a file that the system refuses; everything else is about bytes that it has read."""
_ZARR_COMPRESSORS = ("blosc", "gzip", "zlib", "zstd", "bz2")
_LARGEST_LEVEL = 64


class Z5Volume(Volume):
    """A dataset in an N5 or Zarr v2 folder."""

    def __init__(self, address: Address, store: Store, array: Array, mode: str = "r") -> None:
        self.address = address
        self._dataset = _open(address, array, mode)
        self.shape = tuple(self._dataset.shape)
        self.dtype = np.dtype(self._dataset.dtype)
        self.chunks = tuple(self._dataset.chunks)
        self.axes = array.axes
        self.spacing = array.spacing
        self._array = array
        self._store = store

    def _read(self, box: Box) -> NDArray[Any]:
        try:
            data: NDArray[Any] = self._dataset[box]
        except RuntimeError as error:
            if any(words in str(error) for words in _NOT_READ):
                self._look_for_reason(box)
                raise ShortFailureError(f"{self.address}: {error}; it can be read again, run again") from error
            raise
        self.refuse_dangling_links(box)
        return data

    def _look_for_reason(self, box: Box) -> None:
        """Read the files below a box as bytes: z5py does not tell why the system has refused one."""
        for index in self.chunk_indices(box):
            with contextlib.suppress(FileNotFoundError):
                Path(self.file_of(index)).read_bytes()

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write whole chunks; chunks of zeros are left out, and removed where they lay before.

        Raises:
            DiskFullError: the file system has no room left.
        """
        self.check_aligned(box, data)
        data = np.ascontiguousarray(data, dtype=self.dtype)
        try:
            self._write(box, data)
        except RuntimeError as error:  # DiskFullError is none
            if is_transient(error) or error_number(error) is not None:
                raise
            # At the volume's end z5py reads what it overwrites in Zarr; if that is damaged, nothing of it is needed.
            self._store.delete_objects([self._array.chunk_name(index) for index in self.chunk_indices(box)])
            self._write(box, data)

    def _write(self, box: Box, data: NDArray[Any]) -> None:
        try:
            self._dataset[box] = data
        except RuntimeError as error:
            if "failed to write" not in str(error):
                raise
            raise self._full(str(error)) from error
        if self._may_be_cut(box) and not self._holds(box, data):
            raise self._full("chunks were cut off")

    def _full(self, what: str) -> DiskFullError:
        return DiskFullError(f"{self.address}: {what} ({self._free_bytes() / 1e6:.1f} MB free on this disk)")

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.address.path).free

    def _may_be_cut(self, box: Box) -> bool:
        """Whether chunks may be incomplete: z5py does not notice when the last kilobytes of a file find no room."""
        if self._free_bytes() < _SCARCE_BYTES:
            return True
        for index in self.chunk_indices(box):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.file_of(index)).st_size == 0:
                    return True
        return False

    def _holds(self, box: Box, data: NDArray[Any]) -> bool:
        try:
            return np.array_equal(self._read(box), data, equal_nan=data.dtype.kind == "f")
        except RuntimeError:
            return False

    @property
    def codec(self) -> str:
        """Names of compressions and filters."""
        return self._array.codec

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The dataset's attributes."""
        return self._array.attributes

    @property
    def file_shape(self) -> tuple[int, ...]:
        """One chunk a file."""
        return self.chunks

    def file_of(self, index: Index) -> str:
        """Path of a chunk's file."""
        return self._store.url(self._array.chunk_name(index))


def _open(address: Address, array: Array, mode: str) -> Any:
    try:
        return z5py.File(address.path, mode=mode)[array.key]
    except RuntimeError as error:
        refuse_transient(error, str(address))
        if "parse an empty input" in str(error):  # its documents were read a moment ago
            raise ShortFailureError(f"{address}: its metadata cannot be read at the moment; run again") from error
        raise


def has_root(store: Store, array: Array) -> bool:
    """Whether a container's root is a group, which z5py asks for: it need not be one, and may be the array itself."""
    name = "attributes.json" if array.kind == "n5" else ".zgroup"
    return bool(array.key) and store.read(name) is not None


def _is_of_java(compression: Any) -> bool:
    """Whether it is the lz4 of N5's Java library, which has a frame that z5py does not know; z5py stores a level."""
    is_lz4 = isinstance(compression, dict) and compression.get("type") == "lz4"
    return is_lz4 and int(compression.get("blockSize", 0)) >= _LARGEST_LEVEL


def _is_raw(document: Mapping[str, Any]) -> bool:
    """Whether chunks of N5 are not compressed; earlier versions named the kind in a key of its own."""
    compression = document.get("compression")
    kind = compression.get("type") if isinstance(compression, dict) else document.get("compressionType")
    return kind == "raw"


def z5py_reads(array: Array) -> bool:
    """Whether z5py knows what the array is made of; the rest of Zarr 2 (other types, filters) is for TensorStore.

    So is what is not compressed: z5py takes a chunk that is cut off for a whole one, and for what is missing of it
    whatever was in memory. Where ``compressor`` is missing, which Zarr 2 does not allow, it sees an error or none, as
    memory has it.
    """
    document = array.document
    if array.kind != "zarr":
        return array.kind == "n5" and not _is_raw(document) and not _is_of_java(document.get("compression"))
    dtype, compressor = document["dtype"], document.get("compressor")
    return (
        isinstance(dtype, str)
        and not dtype.startswith(">")
        and np.dtype(dtype).name in DTYPES
        and document.get("order", "C") == "C"
        and not document.get("filters")
        and document.get("fill_value") in (0, None)
        and isinstance(compressor, dict)
        and compressor.get("id") in _ZARR_COMPRESSORS
    )
