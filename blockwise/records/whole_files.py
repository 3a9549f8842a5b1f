"""Small files that appear whole, read and written by the system's own calls: Python's take several times as long."""

from __future__ import annotations

import contextlib
import errno
import os

from blockwise.files import explained

ABSENCE = (FileNotFoundError, NotADirectoryError)
READ = os.O_RDONLY | os.O_CLOEXEC
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems say that have no hard links."""


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


def create_whole(path: str, content: bytes | memoryview) -> os.stat_result | None:
    """Put a file where there is none: of several who try at once, on any host, one succeeds.

    Returns:
        What the system says of the new file; None where there was one, which stays as it was.

    Raises:
        DiskFullError: there is no room.
        UserError: it may not be written.
    """
    temporary = beside(path)
    with explained(path):
        try:
            status = write_new(temporary, content)
            os.link(temporary, path)  # a rename would replace, and an exclusive open shows an empty file first
        except FileExistsError:
            # A file server's answer may have been lost, and its repetition says so.
            return status if os.stat(temporary).st_nlink > 1 else None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _create_exclusively(path, content)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return status


def _create_exclusively(path: str, content: bytes | memoryview) -> os.stat_result | None:
    """The second best: others may see it while it is empty."""
    try:
        return write_new(path, content)
    except FileExistsError:
        return None


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
