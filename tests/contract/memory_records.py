"""A home of records that is no folder: it has versions by number, and no paths, locks or renames."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blockwise.errors import DiskFullError
from blockwise.records import ABSENT, ANY, Records, Version


@dataclass
class Bucket:
    """What a store is: contents with a number each and a time, by key.

    Attributes:
        room: bytes that fit in; None for no limit.
        trouble: what it answers at the moment.
    """

    objects: dict[str, tuple[bytes, int, float]] = field(default_factory=dict)
    room: int | None = None
    trouble: OSError | None = None
    written: int = 0
    mutex: Any = field(default_factory=threading.RLock)
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp()))

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.scratch, ignore_errors=True)


class MemoryRecords(Records):
    def __init__(self, bucket: Bucket, prefix: str = "") -> None:
        self.bucket = bucket
        self.prefix = prefix

    def place(self, key: str = "") -> str:
        return f"memory:{self._name(key) if key else self.prefix}"

    def below(self, prefix: str) -> MemoryRecords:
        return MemoryRecords(self.bucket, f"{self._name(prefix)}/")

    @property
    def on_this_machine(self) -> Path:
        return self.bucket.scratch / "work"

    def get(self, key: str) -> bytes | None:
        found = self._find(key)
        return found and found[0]

    def put(self, key: str, content: bytes | memoryview, expected: Any = ANY) -> Version | None:
        with self.bucket.mutex:
            found = self._find(key)
            is_as_expected = (
                found is None if expected is ABSENT else found is not None and _version(found) == expected
            )
            if expected is not ANY and not is_as_expected:
                return None
            others = sum(len(other[0]) for name, other in self.bucket.objects.items() if name != self._name(key))
            if self.bucket.room is not None and others + len(content) > self.bucket.room:
                raise DiskFullError(f"{self.place(key)}: no room")
            self.bucket.written += 1
            new = bytes(content), self.bucket.written, time.monotonic()
            self.bucket.objects[self._name(key)] = new
            return _version(new)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.bucket.objects.pop(self._name(key), None)

    def version(self, key: str) -> Version | None:
        found = self._find(key)
        return None if found is None else _version(found)

    def state(self, key: str) -> str | None:
        return self.version(key)

    def file(self, key: str) -> Path:
        found = self._find(key)
        if found is None:
            raise FileNotFoundError(key)
        path = self.bucket.scratch / str(found[1])
        path.write_bytes(found[0])
        return path

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        self._name(key)
        with tempfile.TemporaryDirectory(dir=self.bucket.scratch) as folder:
            path = Path(folder, "content")
            yield path
            self.put(key, path.read_bytes())

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        found = ((key, self.get(key)) for key in keys)
        return ((key, content) for key, content in found if content is not None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._answer()
        start = f"{self._name(prefix)}/" if prefix else self.prefix
        names = [name.removeprefix(self.prefix) for name in self.bucket.objects if name.startswith(start)]
        return (name for name in names if not _is_hidden(name.removeprefix(f"{prefix}/")))

    def children(self, prefix: str = "") -> list[str]:
        rests = (key.removeprefix(f"{prefix}/") for key in self.keys(prefix))
        return sorted({rest.partition("/")[0] for rest in rests if "/" in rest})

    def versions(self, keys: Iterable[str]) -> dict[str, Version]:
        found = {key: self.version(key) for key in keys}
        return {key: version for key, version in found.items() if version is not None}

    def states(self, keys: Iterable[str]) -> dict[str, str]:
        return dict(self.versions(keys))

    def holds(self, prefix: str) -> bool:
        start = f"{self._name(prefix)}/"
        return any(name.startswith(start) for name in self.bucket.objects)

    def clear(self, prefix: str) -> None:
        start = f"{self._name(prefix)}/"
        for name in [name for name in self.bucket.objects if name.startswith(start)]:
            del self.bucket.objects[name]

    def settle(self, key: str = "") -> None: ...

    def _find(self, key: str) -> tuple[bytes, int, float] | None:
        name = self._name(key)
        self._answer()
        return self.bucket.objects.get(name)

    def _answer(self) -> None:
        if self.bucket.trouble is not None:
            raise self.bucket.trouble

    def _name(self, key: str) -> str:
        if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"{key!r} is no key of a record")
        return f"{self.prefix}{key}"


def _version(found: tuple[bytes, int, float]) -> Version:
    return Version(str(found[1]))


def _is_hidden(key: str) -> bool:
    return any(part.startswith(".") for part in key.split("/"))
