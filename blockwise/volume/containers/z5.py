"""N5 and Zarr v2 in a local folder, through z5py."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import z5py
from numpy.typing import NDArray

from blockwise.grid import Box, relative
from blockwise.transient import ShortFailureError, refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.containers.array_volume import ArrayVolume
from blockwise.volume.containers.gzip_chunks import n5_chunk, zarr_chunk
from blockwise.volume.containers.metadata import DTYPES, Array
from blockwise.volume.containers.store import Store

_HEAD_BYTES = 64
"""Of a chunk's file: N5's header of up to five axes, and the stream's."""
_NOT_READ = ("cannot open chunk file", "failed to read chunk file")
"""What z5py says of a file that the system refuses; everything else is about bytes that it has read."""
_TELL_LENGTHS = ("blosc", "gzip")
_ZARR_COMPRESSORS = _TELL_LENGTHS
_ZARR_KEYS = frozenset(("shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters"))
_N5_COMPRESSORS = (*_TELL_LENGTHS, "lz4")
_OPTIONS = {"gzip": {"level"}, "blosc": {"cname", "clevel", "shuffle"}, "lz4": {"blockSize"}}
"""Keys that z5py looks for in a compression, there or not."""
_LARGEST_LEVEL = 64


class Z5Volume(ArrayVolume):
    """A dataset in an N5 or Zarr v2 folder."""

    def __init__(self, address: Address, store: Store, array: Array, mode: str = "r") -> None:
        super().__init__(address, store, array)
        self._dataset = _open(address, array)
        self._is_writable = mode != "r"
        self.dtype = np.dtype(self._dataset.dtype)
        self._codec = _codec(array.document)
        self._tells_length = self._codec in _TELL_LENGTHS

    def _read(self, box: Box) -> NDArray[Any]:
        try:
            data: NDArray[Any] = self._dataset[box]
        except RuntimeError as error:
            if any(words in str(error) for words in _NOT_READ):
                self._look_for_reason(box)
                raise ShortFailureError(f"{self.address}: {error}; it can be read again, run again") from error
            raise
        self.refuse_dangling_links(box)
        if self._tells_length:
            self._refuse_short(box)
        return data

    def _refuse_short(self, box: Box) -> None:
        """Look whether the streams of all chunks below a box, which could be decoded, hold as much as they must.

        Raises:
            RuntimeError: one does not.
        """
        for index in self.chunk_indices(box):
            try:
                file = os.open(self.file_of(index), os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                head, end = os.pread(file, _HEAD_BYTES, 0), os.fstat(file).st_size
                tail = os.pread(file, 4, max(0, end - 4))
            finally:
                os.close(file)
            start, wanted = self._expected(head)
            found = _length(head[start:], tail, self._codec)
            if found != wanted % 2**32:
                raise RuntimeError(f"decodes to {found} bytes, {wanted} expected")

    def _expected(self, head: bytes) -> tuple[int, int]:
        """Where the stream of a chunk begins in its file, and to how many bytes it must decode."""
        if self._array.kind == "zarr":
            return 0, math.prod(self.chunks) * self.dtype.itemsize
        # N5: mode, number of axes, shape, and with mode 1 the number of elements; big endian.
        mode, rank = (int.from_bytes(head[i : i + 2], "big") for i in (0, 2))
        shape = (int.from_bytes(head[i : i + 4], "big") for i in range(4, 4 + 4 * rank, 4))
        return 4 + 4 * rank + 4 * (mode == 1), math.prod(shape) * self.dtype.itemsize

    def _look_for_reason(self, box: Box) -> None:
        """Read the files below a box as bytes: z5py does not tell why the system has refused one."""
        for index in self.chunk_indices(box):
            with contextlib.suppress(FileNotFoundError):
                Path(self.file_of(index)).read_bytes()

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write whole chunks, each at once; chunks of zeros are left out, and removed where they lay before.

        Not by z5py: it writes in place, notices a full disk half of the time, and packs labels four times as slowly.

        Raises:
            DiskFullError: the file system has no room left.
            ValueError: it was opened for reading; its chunks are not gzip's, as all are that are made here; or the
                box does not consist of whole chunks.
        """
        if not self._is_writable or self._codec != "gzip":
            raise ValueError(f"{self.address}: opened for reading, or not of gzip but {self._codec!r}")
        self.check_aligned(box, data)
        data = np.asarray(data, self.dtype)
        for index, piece in self.pieces(box):
            part = data[relative(piece, box)]
            content = n5_chunk(part) if self._array.kind == "n5" else zarr_chunk(part, self.chunks)
            name = self._array.chunk_name(index)
            if content is None:
                self._store.delete_objects([name])
            else:
                self._store.write(name, content)


def _open(address: Address, array: Array) -> Any:
    try:
        return z5py.File(address.path, mode="r")[array.key]
    except RuntimeError as error:
        refuse_transient(error, str(address))
        if "parse an empty input" in str(error):  # its documents were read a moment ago
            raise ShortFailureError(f"{address}: its metadata cannot be read at the moment; run again") from error
        raise


def has_root(store: Store, array: Array) -> bool:
    """Whether a container's root is a group, which z5py asks for: it need not be one, and may be the array itself."""
    name = "attributes.json" if array.kind == "n5" else ".zgroup"
    return bool(array.key) and store.read(name) is not None


def _codec(document: Mapping[str, Any]) -> str:
    """Name of the compression; of N5's earlier versions, which had a key of its own for it, too. Empty for none."""
    for key, name in (("compressor", "id"), ("compression", "type")):
        if isinstance(document.get(key), dict):
            return str(document[key].get(name))
    return str(document.get("compressionType", ""))


def _is_as_z5py_has_it(codec: str, compression: Any) -> bool:
    """Whether a compression of N5 has z5py's form: gzip without zlib's frame, lz4 without that of Java's."""
    if codec not in _N5_COMPRESSORS:
        return False
    if not isinstance(compression, dict):
        return True
    if not compression.keys() >= _OPTIONS[codec]:
        return False
    # z5py stores a level where Java's library has a size.
    return not compression.get("useZlib") and not (
        codec == "lz4" and int(compression.get("blockSize", 0)) >= _LARGEST_LEVEL
    )


def z5py_reads(array: Array) -> bool:
    """Whether z5py knows what the array is made of, and it shows whether chunks are whole; TensorStore has the rest.

    Where a chunk is cut off that is not compressed, or its stream decodes to less than a chunk, z5py takes it for a
    whole one, and for what is missing whatever was in memory. Streams of gzip and blosc tell their length, see
    ``_length``; lz4 of N5 nobody else reads. Where a key is missing that it looks for, z5py takes what is in
    memory: it sees an error, or none, or the process dies.
    """
    document = array.document
    codec = _codec(document)
    if array.kind != "zarr":
        return array.kind == "n5" and _is_as_z5py_has_it(codec, document.get("compression"))
    dtype = document["dtype"]
    return (
        document.keys() >= _ZARR_KEYS
        and isinstance(dtype, str)
        and not dtype.startswith(">")
        and np.dtype(dtype).name in DTYPES
        and document["order"] == "C"
        and not document["filters"]
        and document["fill_value"] in (0, None)
        and isinstance(document["compressor"], dict)
        and codec in _ZARR_COMPRESSORS
        and document["compressor"].keys() >= _OPTIONS[codec]
    )


def _length(head: bytes, tail: bytes, codec: str) -> int:
    """Bytes that a stream says it decodes to.

    Args:
        head: its first 8 bytes.
        tail: its last 4.
        codec: ``gzip`` (RFC 1952: the length at its end, modulo 2^32) or ``blosc`` (in the header of its chunks).
    """
    return int.from_bytes(tail if codec == "gzip" else head[4:8], "little")
