"""Arrays that grow row by row on the disk, because they may be larger than memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from blockwise.files import explained


class GrowingArray:
    """Rows, one after the other, in a file that has no name: it is gone when it is closed, and nobody looks at it.

    Written as a file, never as mapped memory: a disk that is full then is an error, and does not end the process.
    """

    def __init__(self, folder: Path, dtype: DTypeLike, *width: int) -> None:
        """Begin with no rows.

        Args:
            folder: where the file lies; made if it is not there.
            dtype: of a number.
            width: shape of a row; nothing for single numbers.
        """
        self._folder, self._dtype, self._width = folder, np.dtype(dtype), width
        self._rows = 0
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (n, *width).

        Raises:
            DiskFullError: there is no room.
            ValueError: they have another shape or type.
        """
        if rows.shape[1:] != self._width or rows.dtype != self._dtype:
            raise ValueError(f"rows of {rows.dtype} {rows.shape[1:]}, expected {self._dtype} {self._width}")
        with explained(self._folder):
            self._file.write(np.ascontiguousarray(rows).data)
        self._rows += len(rows)

    def array(self) -> NDArray[Any]:
        """All rows so far, read where they are looked at; they stay when the file is closed."""
        shape = (self._rows, *self._width)
        if not self._rows:  # nothing cannot be mapped
            return np.empty(shape, self._dtype)
        with explained(self._folder):
            self._file.flush()
        return np.memmap(self._file, self._dtype, "r", shape=shape)
