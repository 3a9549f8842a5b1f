"""Reading while files come and go.

Chunked formats take a file that is not there for zeros. So each file below a box is looked at before it is read and
after: where it has come, gone or changed in between, what was read is not trusted, and is read again. Files that were
not there, before and after, are noted for those who know whether that is right.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from blockwise.grid import Box, Index

READS = 5
"""How often a box is read whose files keep changing."""
PAUSE_S = 0.1
"""Between two of these; doubled each time."""


class Files(Protocol):
    """What lies in files, as every volume does."""

    shape: tuple[int, ...]

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Voxels that lie in one file."""

    def file_of(self, index: Index) -> str:
        """Path of a file."""


@dataclass
class Missing:
    """Files that were not there when they were read, and so count as zeros.

    Attributes:
        files: by the volume's address, places of the files among those of the volume.
    """

    files: dict[str, set[Index]] = field(default_factory=dict)


_noted: ContextVar[Missing | None] = ContextVar("missing files", default=None)


@contextlib.contextmanager
def noting_missing_files() -> Iterator[Missing]:
    """Note the files that are missing for whatever is read inside."""
    missing = Missing()
    token = _noted.set(missing)
    try:
        yield missing
    finally:
        _noted.reset(token)


def read_steadily(files: Files, address: str, box: Box, read: Callable[[Box], NDArray[Any]]) -> NDArray[Any]:
    """Read a box of a volume in local files such that none of them has come, gone or changed meanwhile.

    Args:
        files: the volume.
        address: of the volume, under which missing files are noted.
        box: what to read.
        read: reads it.

    Raises:
        OSError: ESTALE, naming a file that keeps changing.
    """
    for attempt in range(READS):
        before = _look(files, box)
        try:
            data = read(box)
        except Exception:  # of any library; that of a file which has just changed says nothing
            if _look(files, box) == before or attempt == READS - 1:
                raise
            continue
        after = _look(files, box)
        if before == after:
            noted = _noted.get()
            gone = {index for index, state in after.items() if state is None}
            if noted is not None and gone:
                noted.files.setdefault(address, set()).update(gone)
            return data
        time.sleep(PAUSE_S * 2**attempt)
    changing = next(index for index in after if before[index] != after[index])
    raise OSError(errno.ESTALE, "changes each time while it is read", files.file_of(changing))


def _look(files: Files, box: Box) -> dict[Index, tuple[int, int, int, int] | None]:
    """What tells a file from another one, or from itself at another time; None where there is none."""
    ranges = (range(s.start // f, -(-s.stop // f)) for s, f in zip(box, files.file_shape, strict=True))
    found: dict[Index, tuple[int, int, int, int] | None] = {}
    for index in itertools.product(*ranges):
        try:
            status = os.stat(files.file_of(index))
            found[index] = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        except (FileNotFoundError, NotADirectoryError):
            found[index] = None
    return found
