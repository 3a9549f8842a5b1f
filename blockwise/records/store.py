"""Records as objects of a store (``s3://``, ``gs://``), through TensorStore: a key is the name of an object.

A put is one request, and whole by itself. What it expects is asked of the store in that request; of several who
expect the same at once one succeeds. Versions are the store's entity tags or generations: on S3 those of equal
contents are equal, so whoever must tell one writing from another writes something that differs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blockwise.errors import UserError
from blockwise.files import explained
from blockwise.identity import digest
from blockwise.records.base import ABSENT, ANY, Expected, Records, Version
from blockwise.records.keys import is_hidden, looks_odd, refuse_to_escape
from blockwise.records.packed import PackedRecords
from blockwise.scratch import own_folder, scratch_path
from blockwise.volume.address import GCS, S3, Address
from blockwise.volume.containers.remote import RemoteStore, place, timeout_s, wait

AT_ONCE = 64
"""Requests that are under way at once where many records are asked for."""

LARGE = 10
"""Times the patience with a request, with listings and with files, which may be large."""

FORMER_S = 600.0
"""A copy of a version that is no more is kept for so long."""

NOTHING = b"\x02"
"""TensorStore's generation of what is not there."""


@dataclass(frozen=True)
class StoreRecords(Records):
    """Records below an address of a store.

    Attributes:
        root: the address, with the options that tell how the store is reached.
        prefix: of the keys below it, with a slash at its end; empty for all of them.
    """

    root: str
    prefix: str = ""

    @classmethod
    def at(cls, place: str) -> StoreRecords:
        """The records at an address; nothing is asked.

        Raises:
            UserError: it is no address, or not of a store that can hold records.
        """
        address = Address(place, "")
        if address.scheme not in (S3, GCS) or not address.path.partition("://")[2].partition("/")[2].strip("/"):
            raise UserError(f"{place}: records need a prefix in a bucket, as in s3://bucket/prefix")
        options = "&".join(f"{name}={value}" for name, value in address.options)
        return cls(address.path.rstrip("/") + (f"?{options}" if options else ""))

    def place(self, key: str = "") -> str:
        """Address of a record, or of all of them."""
        name = self._name(key) if key else self.prefix.rstrip("/")
        path, mark, options = self.root.partition("?")
        return f"{path}/{name}{mark}{options}" if name else self.root

    def below(self, prefix: str) -> StoreRecords:
        """The records below a prefix."""
        return StoreRecords(self.root, f"{self._name(prefix)}/")

    @property
    def on_this_machine(self) -> Path:
        """One of this user, in the folder for temporary files."""
        return self._scratch / self._mark / self.prefix

    def get(self, key: str) -> bytes | None:
        """One request."""
        result = wait(self._store.kv.read(self._name(key)), self._address)
        return bytes(result.value) if result.state == "value" else None

    def put(
        self, key: str, content: bytes | memoryview, expected: Version | Literal[Expected.ANY, Expected.ABSENT] = ANY
    ) -> Version | None:
        """One request. None also where the answer to an own write was lost; see ``blockwise.records.lease``."""
        future = self._store.kv.write(self._name(key), bytes(content), **_condition(expected))
        stamp = wait(future, self._address, size=len(content))
        return Version(stamp.generation.hex()) if stamp.generation else None

    def delete(self, *keys: str) -> None:
        """A request for each, many at once."""
        self._store.delete_objects([self._name(key) for key in keys])

    def version(self, key: str) -> Version | None:
        """Entity tag or generation of the object."""
        return self.versions([key]).get(key)

    def state(self, key: str) -> str | None:
        """The version: on S3 mostly the same for equal contents."""
        return self.version(key)

    def states(self, keys: Iterable[str]) -> dict[str, str]:
        """The versions."""
        return dict(self.versions(keys))

    def file(self, key: str) -> Path:
        """A copy in a folder of this machine, of the present version; fetched where it is not there yet."""
        name = self._name(key)
        version = self.version(key)
        result = None
        if version is None or not (path := self._copy_of(name, version)).exists():
            result = wait(self._store.kv.read(name), self._address, seconds=LARGE * timeout_s(self._address))
            if result.state != "value":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.place(key))
            path = self._copy_of(name, Version(result.stamp.generation.hex()))
            with self._scratch_file(name) as temporary, explained(path):
                temporary.write_bytes(result.value)
                temporary.replace(path)
            self._remove_former(path)
        return path

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A file of this machine, which is uploaded as a whole."""
        name = self._name(key)
        with self._scratch_file(name) as path:
            with explained(path):
                yield path
            content = path.read_bytes()
            self.put(key, content)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Many requests are under way at once."""
        for key, result in self._read_many(keys):
            if result.state == "value":
                yield key, bytes(result.value)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List them: a request for a thousand."""
        start = f"{prefix}/" if prefix else ""
        inner = (name.removeprefix(self.prefix) for name in self._list(prefix))
        return (key for key in inner if not is_hidden(key.removeprefix(start)))

    def children(self, prefix: str = "") -> list[str]:
        """List all records below the prefix."""
        start = f"{prefix}/" if prefix else ""
        rests = (key.removeprefix(start) for key in self.keys(prefix))
        return sorted({rest.partition("/")[0] for rest in rests if "/" in rest})

    def versions(self, keys: Iterable[str]) -> dict[str, Version]:
        """A request for each, many at once; contents are not fetched."""
        found = self._read_many(keys, byte_range=slice(0, 0))
        return {key: Version(result.stamp.generation.hex()) for key, result in found if result.state == "value"}

    def holds(self, prefix: str) -> bool:
        """List them."""
        return bool(self._list(prefix))

    def clear(self, prefix: str) -> None:
        """Delete what lies right at the prefix first: it says what the rest is."""
        names = self._list(prefix)
        start = f"{self._name(prefix)}/"
        self._store.delete_objects([name for name in names if "/" not in name.removeprefix(start)])
        self._store.delete_objects([name for name in names if "/" in name.removeprefix(start)])

    def packed(self) -> PackedRecords:
        """Many small records in an object."""
        return PackedRecords(self)

    def settle(self, key: str = "") -> None:
        """What a store has answered for is safe."""

    def leave_this_machine(self) -> None:
        """Remove what lies on this machine of all records of the address: copies, logs and locks."""
        shutil.rmtree(self._scratch / self._mark, ignore_errors=True)
        for copy in self._scratch.glob(f"{self._mark}-*"):
            copy.unlink(missing_ok=True)

    @property
    def _scratch(self) -> Path:
        """Folder of this machine for all records of a bucket, made when it is asked for."""
        return own_folder(scratch_path(f"{self._address.scheme} {place(self._address)}"))

    @property
    def _mark(self) -> str:
        """Begins the names of what lies there of this address."""
        return digest(self.root)[:12]

    @property
    def _address(self) -> Address:
        return _address(self.root)

    @property
    def _store(self) -> RemoteStore:
        if _forks:
            raise UserError(
                f"{self.root}: a process that uses an object store cannot go on as its own copy; run Luigi with one "
                "worker (without --workers, or --workers 1): blocks are computed in parallel all the same"
            )
        return _opened(self.root)

    def _name(self, key: str) -> str:
        if looks_odd(key):
            refuse_to_escape(key)
        return f"{self.prefix}{key}"

    def _list(self, prefix: str) -> list[str]:
        start = f"{self._name(prefix)}/" if prefix else self.prefix
        return self._store.names(start, timeout_s=LARGE * timeout_s(self._address))

    def _read_many(self, keys: Iterable[str], **options: Any) -> Iterator[tuple[str, Any]]:
        pending: deque[tuple[str, Any]] = deque()
        for key in keys:
            pending.append((key, self._store.kv.read(self._name(key), **options)))
            if len(pending) > AT_ONCE:
                first, future = pending.popleft()
                yield first, wait(future, self._address)
        for last, future in pending:
            yield last, wait(future, self._address)

    def _copy_of(self, name: str, version: Version) -> Path:
        return self._scratch / f"{self._mark}-{digest(name)}-{digest(version)[:12]}{Path(name).suffix}"

    def _remove_former(self, copy: Path) -> None:
        """Remove copies of former versions; who has just been given one may not have opened it yet."""
        for path in copy.parent.glob(f"{copy.name.rpartition('-')[0]}-*"):
            with contextlib.suppress(FileNotFoundError):
                if path != copy and time.time() - path.stat().st_mtime > FORMER_S:
                    path.unlink()

    @contextlib.contextmanager
    def _scratch_file(self, name: str) -> Iterator[Path]:
        """A path for a new file, which is removed at the end where it is still there."""
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=".new-") as folder:
            yield Path(folder, f"content{Path(name).suffix}")


def _condition(expected: Version | Literal[Expected.ANY, Expected.ABSENT]) -> dict[str, bytes]:
    if expected is ANY:
        return {}
    return {"if_equal": NOTHING if expected is ABSENT else bytes.fromhex(str(expected))}


@functools.lru_cache(maxsize=64)
def _address(root: str) -> Address:
    return Address(root, "")


@functools.lru_cache(maxsize=64)
def _opened(root: str) -> RemoteStore:
    return RemoteStore(_address(root))


_forks: list[int] = []
"""Not empty in a copy of a process that has opened a store: TensorStore's threads are not in it."""


def _note_fork() -> None:
    if _opened.cache_info().currsize:
        _forks.append(os.getpid())


os.register_at_fork(after_in_child=_note_fork)
