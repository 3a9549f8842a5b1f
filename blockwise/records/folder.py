"""Records as files below a folder: a key is a path."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blockwise.files import replacing, sync
from blockwise.identity import digest
from blockwise.records.base import ABSENT, ANY, Expected, Records, Version
from blockwise.records.file_versions import (
    file_status,
    inode_of,
    is_still,
    version_at_a_look,
    version_from,
    version_of,
)
from blockwise.records.keys import is_hidden, looks_odd, refuse_to_escape
from blockwise.records.whole_files import ABSENCE, beside, create_whole, read_whole, replace_whole, write_new

BATCH = 1000
READERS = 8
WAITS = 3.0
"""Where reading takes so many times the processor time, the disk is cold or far away: it answers many readers as fast
as one. Where it does not wait, threads would only take turns with Python's lock."""

DOOMED = ".old-"
"""Begins the name of a folder that is being removed."""

SILENCE_S = 120.0
"""Whoever holds the right to replace a version for so long is dead."""


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

    @property
    def on_this_machine(self) -> Path:
        """The folder itself."""
        return Path(self.folder)

    def get(self, key: str) -> bytes | None:
        """Read a file."""
        return read_whole(self._path(key))

    def put(
        self, key: str, content: bytes | memoryview, expected: Version | Literal[Expected.ANY, Expected.ABSENT] = ANY
    ) -> Version | None:
        """Write a file beside the old one, and rename it."""
        path = self._path(key)
        if expected is ANY:
            return version_from(replace_whole(path, content), content)
        if expected is not ABSENT:
            return _swap(path, content, expected)
        status = create_whole(path, content)
        return None if status is None else version_from(status, content)

    def renew(self, key: str, expected: Version) -> Version | None:
        """Touch a file, so that its age begins anew.

        Returns:
            The new version; None where something else was there than expected.
        """
        path = self._path(key)
        if not is_still(path, expected):
            return None
        with contextlib.suppress(*ABSENCE):
            os.utime(path)
        renewed = version_of(path)
        # Another may have come in between; the file that was touched is his then.
        return renewed if renewed is not None and inode_of(renewed) == inode_of(expected) else None

    def delete(self, *keys: str) -> None:
        """Remove files."""
        for key in keys:
            with contextlib.suppress(*ABSENCE, IsADirectoryError):
                os.unlink(self._path(key))

    def version(self, key: str) -> Version | None:
        """Time, size and inode of a file, and a digest of its content while it is young."""
        return version_of(self._path(key))

    def state(self, key: str) -> str | None:
        """Size and time of a file."""
        status = file_status(self._path(key))
        return None if status is None else f"{status.st_size} bytes, {status.st_mtime_ns} ns"

    def states(self, keys: Iterable[str]) -> dict[str, str]:
        """Sizes and times of files."""
        found = ((key, self.state(key)) for key in keys)
        return {key: state for key, state in found if state is not None}

    def age_s(self, key: str) -> float | None:
        """Seconds since a file was written: the difference to the time of one that is made now."""
        return _age_s(self._path(key))

    def file(self, key: str) -> Path:
        """The file itself."""
        path = self._path(key)
        if file_status(path) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Path(path)

    def local(self, key: str) -> Path:
        """Path of the file, there or not."""
        return Path(self._path(key))

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

    def matching(self, *patterns: str) -> list[str]:
        """Look into folders that match, and into no others: there may be millions of files elsewhere."""
        root = Path(self.folder)
        found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
        return sorted(key for key in (path.relative_to(root).as_posix() for path in found) if not is_hidden(key))

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
            known = ((wanted[path], version_at_a_look(path)) for path in there)
            found.update({key: version for key, version in known if version is not None})
        return found

    def holds(self, prefix: str) -> bool:
        """Whether there is such a folder."""
        return os.path.isdir(self._path(prefix))

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
        if looks_odd(key):
            refuse_to_escape(key)
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
        if looks_odd("/".join(keys)):  # asked once for all of them: there may be millions
            for key in keys:
                refuse_to_escape(key)
        start = f"{self.folder}/"
        return [read_whole(start + key) for key in keys]


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(itertools.islice(left, BATCH)):
        yield batch


def _swap(path: str, content: bytes | memoryview, expected: Version) -> Version | None:
    """Replace a version by the right to do so, a file that only one can create, on any host.

    Who has it looks again, because another may have had it before. The right of one who died with it is removed after
    a while; until then nobody gets it.
    """
    if not is_still(path, expected):
        return None
    folder, _, name = path.rpartition("/")
    right = Path(folder, f".{name}.{digest(expected)[:12]}")
    if create_whole(str(right), expected.encode()) is None:
        if (_age_s(str(right)) or 0.0) >= SILENCE_S:
            right.unlink(missing_ok=True)
        return None
    try:
        return version_from(replace_whole(path, content), content) if is_still(path, expected) else None
    finally:
        right.unlink(missing_ok=True)


def _age_s(path: str) -> float | None:
    """Age by the file system's clock, which another host may have set."""
    status = file_status(path)
    if status is None:
        return None
    now = beside(path)
    try:
        return write_new(now, b"").st_mtime - status.st_mtime
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(now)
