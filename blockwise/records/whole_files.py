"""Small files that appear whole, read and written by the system's own calls: Python's take several times as long."""

from __future__ import annotations

import contextlib
import os

from blockwise.files import explained

ABSENCE = (FileNotFoundError, NotADirectoryError)
READ = os.O_RDONLY | os.O_CLOEXEC


def read_whole(path: str) -> bytes | None:
    """What a file holds; None where there is none, or a folder."""
    try:
        file = os.open(path, READ)
    except ABSENCE:
        return None
    try:
        size = os.fstat(file).st_size
        content = os.read(file, size)
        return content if len(content) == size else content + read_piece(file, size - len(content))
    except IsADirectoryError:
        return None
    finally:
        os.close(file)


def read_piece(file: int, size: int) -> bytes:
    """So many bytes of an open file, fewer at its end."""
    content = b""
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more  # the system gives 2 GB at once
    return content


def replace_whole(path: str, content: bytes | memoryview) -> os.stat_result:
    """Put a file in the place of another, or of none; the folder is made where there is none.

    Returns:
        What the system says of the new file.

    Raises:
        DiskFullError: there is no room; what was there stays.
        UserError: it may not be written.
    """
    temporary = beside(path)
    with explained(path):
        try:
            status = write_new(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    return status


def beside(path: str) -> str:
    """A hidden path in the same folder that nobody else has."""
    # Two processes may write the same file at once (a job that was given up and its replacement).
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{os.getpid()}.{os.urandom(4).hex()}"


def write_new(path: str, content: bytes | memoryview) -> os.stat_result:
    """Write a file that is not there; what the system says of it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o666)
    except FileNotFoundError:
        make_room(path)
        file = os.open(path, flags, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        return os.fstat(file)
    finally:
        os.close(file)


def make_room(path: str) -> None:
    """Make the folder of a file."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
