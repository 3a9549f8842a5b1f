"""The log of a job whose words nobody else keeps where its driver can read them."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import TextIO


def copy_output(path: Path) -> None:
    """Copy what this process prints from now on to the end of a file, besides where it goes already.

    A log that cannot be written is no reason for a block to fail.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", buffering=1)  # lines appear when they are written
    except OSError as error:
        print(f"there will be no log in {path}: {error}")
        return
    sys.stdout, sys.stderr = _Copied(sys.stdout, file), _Copied(sys.stderr, file)


class _Copied(io.TextIOBase):
    """A stream that is copied to a file; what needs a descriptor gets that of the stream."""

    def __init__(self, stream: TextIO, copy: TextIO) -> None:
        self._stream = stream
        self._copy = copy

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._copy.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._copy.flush()
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()
