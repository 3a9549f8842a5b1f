"""Bytes that were compressed as one stream, read from the beginning to the end in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import os
import weakref
import zlib
from typing import BinaryIO, Literal, Protocol

Compression = Literal["gzip", "zlib", "bzip2"]

_STEP = 1 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Stream:
    """A compressed stream from an offset of a file on; going back begins it anew."""

    def __init__(self, path: str, offset: int, compression: Compression, size: int) -> None:
        """Args: where the stream lies, and how many bytes it must give."""
        self._path = path
        self._offset = offset
        self._compression = compression
        self._size = size
        self._file: BinaryIO | None = None
        self._position = 0
        self._owner = 0

    def read(self, start: int, size: int) -> bytes:
        """Bytes from ``start`` on.

        Raises:
            OSError: they cannot be decompressed, or the stream ends before them.
        """
        try:
            self._go_to(start)
            content = self._take(size)
            if self._position == self._size:
                self._read_out()
        except (EOFError, zlib.error, OSError) as error:
            self._close()
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the file system
            raise OSError(f"{self._compression} stream cannot be decompressed: {error}") from error
        return content

    def _read_out(self) -> None:
        """The checksum is compared at the end only; what may follow the voxels is of no use."""
        while self._readable.read(_STEP):
            pass

    def verify(self) -> None:
        """Decompress all of it.

        Raises:
            OSError: it is damaged, or shorter than it must be.
        """
        for start in range(0, self._size, _STEP):
            self.read(start, min(_STEP, self._size - start))

    def _go_to(self, start: int) -> None:
        if self._file is None or start < self._position or self._owner != os.getpid():
            self._close()
            self._file = open(self._path, "rb")  # noqa: SIM115, read on by the next call
            weakref.finalize(self, self._file.close)
            self._file.seek(self._offset)
            self._readable = _opened(self._file, self._compression)
            self._position = 0
            self._owner = os.getpid()  # a forked process would move the place in the file for both
        while self._position < start:
            self._take(min(_STEP, start - self._position))

    def _take(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            part = self._readable.read(left)
            if not part:
                raise EOFError(f"it ends after {self._position:,} of {self._size:,} bytes")
            parts.append(part)
            left -= len(part)
            self._position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _close(self) -> None:
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None


class _ZlibFile:
    """What gzip.GzipFile is to gzip; ITK calls both of them zlib."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflating = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def read(self, size: int, /) -> bytes:
        while not self._inflating.eof:
            stored = self._inflating.unconsumed_tail or self._file.read(_STEP)
            if not stored:
                raise EOFError("the file ends before the stream")
            content = self._inflating.decompress(stored, size)
            if content:
                return content
        return b""


def _opened(file: BinaryIO, compression: Compression) -> _Readable:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file)
    return bz2.BZ2File(file) if compression == "bzip2" else _ZlibFile(file)
