"""Reading while files come and go.

Chunked formats take a file that is not there for zeros. So each file below a box is looked at before it is read and
after: where it has come, gone or changed in between, what was read is not trusted, and is read again. What was seen
of the files is noted for those who know what it should have been.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
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


FileState = tuple[int, int]
"""Size in bytes and modification time in nanoseconds, as ``Volume.file_states`` has them; -1 and 0 of no file."""

GONE: FileState = (-1, 0)


@dataclass
class Seen:
    """What was seen of files when they were read.

    Attributes:
        files: by the volume's address, and by the place of a file among those of the volume.
    """

    files: dict[str, dict[Index, FileState]] = field(default_factory=dict)

    def add(self, address: str, states: Mapping[Index, FileState], path: Callable[[Index], str]) -> None:
        """Note files.

        Raises:
            OSError: ESTALE; one of them was another one when it was read before.
        """
        files = self.files.setdefault(address, {})
        for index, state in states.items():
            if files.setdefault(index, state) != state:
                raise OSError(errno.ESTALE, "has changed since it was read before", path(index))


_seen: ContextVar[Seen | None] = ContextVar("files seen", default=None)


@contextlib.contextmanager
def noting_files() -> Iterator[Seen]:
    """Note what is seen of files by whatever is read inside."""
    seen = Seen()
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def read_steadily(files: Files, address: str, box: Box, read: Callable[[Box], NDArray[Any]]) -> NDArray[Any]:
    """Read a box of a volume in local files such that none of them has come, gone or changed meanwhile.

    Args:
        files: the volume.
        address: of the volume, under which files are noted.
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
            seen = _seen.get()
            if seen is not None:
                seen.add(address, {index: state[:2] for index, state in after.items()}, files.file_of)
            return data
        time.sleep(PAUSE_S * 2**attempt)
    changing = next(index for index in after if before[index] != after[index])
    raise OSError(errno.ESTALE, "changes each time while it is read", files.file_of(changing))


def _look(files: Files, box: Box) -> dict[Index, tuple[int, int, int, int]]:
    """What tells a file from another one, or from itself at another time; its ``FileState`` first."""
    ranges = (range(s.start // f, -(-s.stop // f)) for s, f in zip(box, files.file_shape, strict=True))
    found: dict[Index, tuple[int, int, int, int]] = {}
    for index in itertools.product(*ranges):
        try:
            status = os.stat(files.file_of(index))
            found[index] = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        except (FileNotFoundError, NotADirectoryError):
            found[index] = *GONE, 0, 0
    return found


def file_state(path: str) -> FileState:
    """The state of a file now."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return GONE
    return status.st_size, status.st_mtime_ns
