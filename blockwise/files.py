"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from blockwise.errors import DiskFullError, UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)


def _beside(path: Path) -> Path:
    # Two processes may write the same file at once (a job that was given up and its replacement).
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """While a file is written: what the file system says, in words.

    Raises:
        DiskFullError: it, or the user's share of it, is full.
        UserError: the file may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFullError(
                f"{path}: cannot be written: {error.strerror}{_free(path)}; free some space"
            ) from error
        if error.errno in NOT_ALLOWED:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        raise


def _free(path: str | Path) -> str:
    with contextlib.suppress(OSError):  # the folder itself may have found no room
        return f" ({shutil.disk_usage(Path(path).parent).free / 1e6:.1f} MB free on this disk)"
    return ""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; on success it takes the place of ``path``.

    The folder is made when it does not exist. On an error the temporary file is removed and ``path`` stays as it was.

    Raises:
        DiskFullError: the file system, or the user's share of it, is full.
        UserError: it may not be written.
    """
    temporary = _beside(path)
    with explained(path):
        try:
            if not path.parent.is_dir():  # asking costs less than being refused
                path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def sync(path: Path, *, whole: bool) -> None:
    """Bring a file or folder, or all of the file system that it lies in, to the disk.

    Raises:
        OSError: something of it could not be written.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not whole:
            os.fsync(descriptor)
        elif not hasattr(libc, "syncfs"):  # elsewhere than on Linux
            os.sync()
        elif libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
