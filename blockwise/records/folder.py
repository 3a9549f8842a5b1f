"""Records as files below a folder: a key is a path."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blockwise.files import create_new, explained, replacing, sync
from blockwise.identity import digest
from blockwise.records.base import ABSENT, ANY, Expected, Records, Version

BATCH = 1000
READERS = 8
WAITS = 3.0
"""Where reading takes so many times the processor time, the disk is cold or far away: it answers many readers as fast
as one. Where it does not wait, threads would only take turns with Python's lock."""

DOOMED = ".old-"
"""Begins the name of a folder that is being removed."""

YOUNG_S = 60.0
"""A file may be written twice within a tick of its file system's clock, and get its former inode back. For so long
its content belongs to its version, where it is no larger than ``SMALL``."""
SMALL = 1 << 20

SILENCE_S = 120.0
"""Whoever holds the right to replace a version for so long is dead."""

ABSENCE = (FileNotFoundError, NotADirectoryError)
READ = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True)
class FolderRecords(Records):
    """Records as files, which are replaced by renaming; those that are being written have hidden names.

    Attributes:
        folder: path of the folder; made with the first record.
    """

    folder: str

    def place(self, key: str = "") -> str:
        """Path of a record, or of the folder."""
        return self._path(key) if key else self.folder

    def below(self, prefix: str) -> FolderRecords:
        """The records in a folder of the folder."""
        return FolderRecords(self._path(prefix))

    def get(self, key: str) -> bytes | None:
        """Read a file."""
        return _content(self._path(key))

    def put(
        self, key: str, content: bytes | memoryview, expected: Version | Literal[Expected.ANY, Expected.ABSENT] = ANY
    ) -> Version | None:
        """Write a file beside the old one, and rename it."""
        path = self._path(key)
        if expected is ANY:
            return _replace(path, content)
        if expected is not ABSENT:
            return _swap(path, content, expected)
        with explained(path):
            _make_room(path)
            if not create_new(Path(path), bytes(content)):
                return None
        return _version_of(path)

    def renew(self, key: str, expected: Version) -> Version | None:
        """Touch a file."""
        path = self._path(key)
        if not _is_still(path, expected):
            return None
        with contextlib.suppress(*ABSENCE):
            os.utime(path)
        renewed = _version_of(path)
        # Another may have come in between; the file that was touched is his then.
        return renewed if renewed is not None and _inode(renewed) == _inode(expected) else None

    def delete(self, *keys: str) -> None:
        """Remove files."""
        for key in keys:
            with contextlib.suppress(*ABSENCE, IsADirectoryError):
                os.unlink(self._path(key))

    def version(self, key: str) -> Version | None:
        """Time, size and inode of a file, and a digest of its content while it is young."""
        return _version_of(self._path(key))

    def state(self, key: str) -> str | None:
        """Size and time of a file."""
        status = _status(self._path(key))
        return None if status is None else f"{status.st_size} bytes, {status.st_mtime_ns} ns"

    def age_s(self, key: str) -> float | None:
        """Difference to the time of a file that is made now."""
        return _age_s(self._path(key))

    def file(self, key: str) -> Path:
        """The file itself."""
        path = self._path(key)
        if _status(path) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Path(path)

    def writing(self, key: str) -> AbstractContextManager[Path]:
        """A hidden file beside the old one."""
        return replacing(Path(self._path(key)))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Read files, in threads where one would wait for each of them."""
        for batch, contents in self._read_batches(_batches(keys)):
            for key, content in zip(batch, contents, strict=True):
                if content is not None:
                    yield key, content

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List files, of all folders below."""
        start = f"{prefix}/" if prefix else ""
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(self.place(prefix)) as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] != ".":
                        (folders if entry.is_dir() else files).append(start + name)
        except ABSENCE:
            return
        yield from files
        for folder in folders:
            yield from self.keys(folder)

    def children(self, prefix: str = "") -> list[str]:
        """Names of folders."""
        try:
            with os.scandir(self.place(prefix)) as entries:
                return sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())
        except ABSENCE:
            return []

    def versions(self, keys: Iterable[str]) -> dict[str, Version]:
        """List the files' folders, and look at those that are asked for."""
        wanted = {self._path(key): key for key in keys}
        found = {}
        for folder in {os.path.dirname(path) for path in wanted}:
            try:
                with os.scandir(folder) as entries:
                    there = [entry.path for entry in entries if entry.path in wanted]
            except ABSENCE:
                continue
            known = ((wanted[path], _version_of(path)) for path in there)
            found.update({key: version for key, version in known if version is not None})
        return found

    def clear(self, prefix: str) -> None:
        """Rename a folder, so that a half-removed one is known as such; then remove it, and others of that kind."""
        path = self._path(prefix)
        parent, name = os.path.split(path)
        with contextlib.suppress(FileNotFoundError):
            doomed = os.path.join(parent, DOOMED + name)
            if os.path.lexists(doomed) and os.path.lexists(path):
                shutil.rmtree(doomed)
            os.rename(path, doomed)
        with contextlib.suppress(FileNotFoundError), os.scandir(parent) as entries:
            left = [entry.path for entry in entries if entry.name.startswith(DOOMED)]
            for folder in left:
                shutil.rmtree(folder)

    def settle(self, key: str = "") -> None:
        """Bring a file and its folder, or the whole file system, to the disk."""
        if not key:
            sync(Path(self.folder), whole=True)
            return
        path = Path(self._path(key))
        sync(path, whole=False)
        sync(path.parent, whole=False)

    def _path(self, key: str) -> str:
        if _looks_odd(key):
            _refuse_to_escape(key)
        return f"{self.folder}/{key}"

    def _read_batches(self, batches: Iterator[list[str]]) -> Iterator[tuple[list[str], list[bytes | None]]]:
        for batch in batches:
            wall, cpu = time.perf_counter(), time.process_time()
            contents = self._read_batch(batch)
            waits = time.perf_counter() - wall > WAITS * (time.process_time() - cpu)
            yield batch, contents
            if waits:
                break
        with ThreadPoolExecutor(READERS) as readers:  # makes threads when it is given something
            pending: deque[tuple[list[str], Future[list[bytes | None]]]] = deque()
            for batch in batches:
                pending.append((batch, readers.submit(self._read_batch, batch)))
                if len(pending) > READERS:
                    first, future = pending.popleft()
                    yield first, future.result()
            for last, future in pending:
                yield last, future.result()

    def _read_batch(self, keys: list[str]) -> list[bytes | None]:
        if _looks_odd("/".join(keys)):  # asked once for all of them: there may be millions
            for key in keys:
                _refuse_to_escape(key)
        start = f"{self.folder}/"
        return [_content(start + key) for key in keys]


def _looks_odd(key: str) -> bool:
    """Whether a key, or one of several with slashes in between, may be none."""
    return "/." in key or "//" in key or "\0" in key or key[:1] in ("", "/", ".") or key[-1] == "/"


def _refuse_to_escape(key: str) -> None:
    """Most keys with a dot in front of a part are sound."""
    if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is no key of a record")


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(itertools.islice(left, BATCH)):
        yield batch


def _content(path: str) -> bytes | None:
    """What a file holds. There may be millions, and Python's own way to open one takes four times as long as this."""
    try:
        file = os.open(path, READ)
    except ABSENCE:
        return None
    try:
        size = os.fstat(file).st_size
        content = os.read(file, size)
        return content if len(content) == size else content + _read(file, size - len(content))
    except IsADirectoryError:
        return None
    finally:
        os.close(file)


def _read(file: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more  # the system gives 2 GB at once
    return content


def _replace(path: str, content: bytes | memoryview) -> Version:
    temporary = _beside(path)
    with explained(path):
        try:
            status = _write_new(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    return _version(status, content)


def _beside(path: str) -> str:
    # Two processes may write the same file at once (a job that was given up and its replacement).
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{os.getpid()}.{os.urandom(4).hex()}"


def _write_new(path: str, content: bytes | memoryview) -> os.stat_result:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o666)
    except FileNotFoundError:
        _make_room(path)
        file = os.open(path, flags, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        return os.fstat(file)
    finally:
        os.close(file)


def _make_room(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)


def _swap(path: str, content: bytes | memoryview, expected: Version) -> Version | None:
    """Replace a version by the right to do so, a file that only one can create, on any host.

    Who has it looks again, because another may have had it before. The right of one who died with it is removed after
    a while; until then nobody gets it.
    """
    folder, _, name = path.rpartition("/")
    right = Path(folder, f".{name}.{digest(expected)[:12]}")
    try:
        if not create_new(right, expected.encode()):
            if (_age_s(str(right)) or 0.0) >= SILENCE_S:
                right.unlink(missing_ok=True)
            return None
    except ABSENCE:
        return None
    try:
        return _replace(path, content) if _is_still(path, expected) else None
    finally:
        right.unlink(missing_ok=True)


def _is_still(path: str, expected: Version) -> bool:
    """Whether a file has a version, which it may have got when it was younger."""
    has_digest = not expected.endswith("-")
    return _version_of(path, with_digest=has_digest) == expected


def _status(path: str) -> os.stat_result | None:
    """What the system says of a file; None where there is none."""
    try:
        status = os.stat(path)
    except ABSENCE:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _version_of(path: str, with_digest: bool | None = None) -> Version | None:
    status = _status(path)
    if status is None:
        return None
    if with_digest is None:
        with_digest = time.time() - status.st_mtime < YOUNG_S
    if not with_digest or status.st_size > SMALL:
        return _version(status, None)
    try:
        file = os.open(path, READ)
    except ABSENCE:
        return None
    try:
        status = os.fstat(file)
        return _version(status, _read(file, status.st_size))
    finally:
        os.close(file)


def _version(status: os.stat_result, content: bytes | memoryview | None) -> Version:
    tail = "" if content is None or status.st_size > SMALL else digest(content)
    return Version(f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}-{tail}")


def _inode(version: Version) -> str:
    return version.split("-")[2]


def _age_s(path: str) -> float | None:
    """Age by the file system's clock, which another host may have set."""
    status = _status(path)
    if status is None:
        return None
    now = _beside(path)
    try:
        return _write_new(now, b"").st_mtime - status.st_mtime
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(now)
