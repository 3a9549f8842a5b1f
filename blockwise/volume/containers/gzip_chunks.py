"""Chunks of N5 and Zarr 2 as the bytes of their files, compressed by gzip.

What gzip gives is not the same from one library to another; what it is unpacked to is.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
"""Of a stream without name and time, made as fast as possible by a system that is not told (RFC 1952)."""
_ZLIB_HEAD, _ZLIB_TAIL = 2, 4
_LIBDEFLATE_LEVEL = 1
_ZLIB_NG_LEVEL = 2
_IDS, _ID_BYTES = "ui", 4
"""Kinds of numbers that labels are, of so many bytes or more."""


def n5_chunk(data: NDArray[Any]) -> bytes | None:
    """The file of a chunk of N5: mode 0, number of axes, shape in the order x, y, ...; then the stream; big endian.

    Args:
        data: the chunk's voxels in the order ..., y, x; cut where the volume ends.

    Returns:
        None where all of them are 0: such chunks have no file.
    """
    head = struct.pack(f">HH{data.ndim}I", 0, data.ndim, *reversed(data.shape))
    return _gzip(data, ">", head)


def zarr_chunk(data: NDArray[Any], chunks: tuple[int, ...]) -> bytes | None:
    """The file of a chunk of Zarr 2: the stream alone, little endian.

    Args:
        data: the chunk's voxels; cut where the volume ends.
        chunks: shape of a chunk, to which zeros are added.

    Returns:
        None where all of them are 0: such chunks have no file.
    """
    if data.shape != chunks:
        data = np.pad(data, [(0, c - n) for n, c in zip(data.shape, chunks, strict=True)])
    return _gzip(data, "<", b"")


def _gzip(data: NDArray[Any], order: Literal["<", ">"], head: bytes) -> bytes | None:
    from imagecodecs import deflate_crc32, gzip_encode, zlibng_encode  # loaded by those who write

    # One copy at most: to get pages for another takes as long as to pack labels.
    voxels: Any = np.ascontiguousarray(data, data.dtype.newbyteorder(order)).reshape(-1).view(np.uint8)
    if not voxels.view(np.bool_).any():
        return None
    # Of long runs, which labels are, zlib-ng makes a stream in a quarter of libdeflate's time, a tenth larger;
    # of grey values and probabilities libdeflate makes one in half of the time.
    if data.dtype.kind in _IDS and data.dtype.itemsize >= _ID_BYTES:
        stream = memoryview(zlibng_encode(voxels, _ZLIB_NG_LEVEL))[_ZLIB_HEAD:-_ZLIB_TAIL]
        end = struct.pack("<II", deflate_crc32(voxels), voxels.size % 2**32)
        return b"".join((head, _HEAD, stream, end))
    return b"".join((head, gzip_encode(voxels, _LIBDEFLATE_LEVEL)))
