"""Versions of files: what tells that one has been written again."""

from __future__ import annotations

import os
import stat
import time

from blockwise.identity import digest
from blockwise.records.base import Version
from blockwise.records.whole_files import ABSENCE, READ, read_piece

YOUNG_S = 60.0
"""A file may be written twice within a tick of its file system's clock, and get its former inode back. For so long
its content belongs to its version, where it is no larger than ``SMALL``."""
SMALL = 1 << 20


def is_still(path: str, expected: Version) -> bool:
    """Whether a file has a version, which it may have got when it was younger."""
    return version_of(path, with_digest=not expected.endswith("-")) == expected


def file_status(path: str) -> os.stat_result | None:
    """What the system says of a file; None where there is none."""
    try:
        status = os.stat(path)
    except ABSENCE:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def version_at_a_look(path: str) -> Version | None:
    """A file's version, opened while it is young only: a file server may not be asked, and the answer be late."""
    status = file_status(path)
    if status is None:
        return None
    return version_of(path) if _is_young(status) else version_from(status, None)


def version_of(path: str, with_digest: bool | None = None) -> Version | None:
    """A file's version, as it is now: to open asks a file server.

    Args:
        path: of the file.
        with_digest: whether its content belongs to the version; None where this depends on its age.
    """
    try:
        file = os.open(path, READ)
    except ABSENCE:
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        with_digest = _is_young(status) if with_digest is None else with_digest
        is_read = with_digest and status.st_size <= SMALL
        return version_from(status, read_piece(file, status.st_size) if is_read else None)
    finally:
        os.close(file)


def _is_young(status: os.stat_result) -> bool:
    return time.time() - status.st_mtime < YOUNG_S


def version_from(status: os.stat_result, content: bytes | memoryview | None) -> Version:
    """A file's version from what the system says of it, and its content where this is known and belongs to it."""
    tail = "" if content is None or status.st_size > SMALL else digest(content)
    return Version(f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}-{tail}")


def inode_of(version: Version) -> str:
    """Changes whenever a file is put in the place of the one before."""
    return version.split("-")[2]
