"""Trouble with the files below a volume: they vanish, return, change, shrink, cannot be had, at any moment.

What is done to files is really done; what a file system would answer is raised where the volume asks it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blockwise.grid import Box
from blockwise.volume.base import Volume
from blockwise.volume.containers.z5 import Z5Volume

RETURNS = 3
"""Reads of any volume after which, at the latest, a file is back."""


class FileFaults:
    """Injects faults, at random moments that a seed decides.

    Attributes:
        injected: how many of each kind.
    """

    def __init__(self, seed: int, chance: float) -> None:
        self.random = random.Random(seed)
        self.chance = chance
        self.injected: Counter[str] = Counter()
        self._pending: list[tuple[int, Callable[[], None]]] = []
        self._read = Z5Volume._read
        self._write = Z5Volume.write

    def inject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on, into volumes of chunks in folders."""
        faults = self

        def read(volume: Z5Volume, box: Box) -> Any:
            return faults.read(volume, box)

        def write(volume: Z5Volume, box: Box, data: Any) -> None:
            faults.write(volume, box, data)

        monkeypatch.setattr(Z5Volume, "_read", read)
        monkeypatch.setattr(Z5Volume, "write", write)

    def read(self, volume: Z5Volume, box: Box) -> Any:
        self._let_return()
        undo = self._disturb(volume, box) if self.random.random() < self.chance else None
        try:
            return self._read(volume, box)
        finally:
            if undo is not None:
                delay = self.random.randrange(RETURNS)
                if delay:
                    self._pending.append((delay, undo))
                else:
                    undo()

    def write(self, volume: Z5Volume, box: Box, data: Any) -> None:
        self._let_return()
        if self.random.random() < self.chance:
            self._refuse("written", str(volume.address))
        self._write(volume, box, data)

    def end(self) -> None:
        """All is as it was."""
        for _, undo in self._pending:
            undo()
        self._pending = []

    def _let_return(self) -> None:
        due = [undo for left, undo in self._pending if left <= 1]
        self._pending = [(left - 1, undo) for left, undo in self._pending if left > 1]
        for undo in due:
            undo()

    def _disturb(self, volume: Z5Volume, box: Box) -> Callable[[], None] | None:
        files = [path for path in map(Path, _files(volume, box)) if path.exists()]
        kind = self.random.choice(("vanishes", "changes", "shrinks", "refused"))
        if kind == "refused" or not files:
            self._refuse("read", str(volume.address))
        path = self.random.choice(files)
        away = path.with_name(f"{path.name}.away")
        if away.exists():
            return None
        self.injected[kind] += 1
        path.rename(away)
        if kind != "vanishes":
            content = away.read_bytes()
            # Of an N5 chunk the first bytes are its shape, which must stay, or no library takes it for one.
            path.write_bytes(content[: len(content) // 2] if kind == "shrinks" else _other(volume, content))

        def undo() -> None:
            with contextlib.suppress(FileNotFoundError):  # it was made anew, or removed, meanwhile
                away.rename(path)

        return undo

    def _refuse(self, what: str, where: str) -> None:
        number = self.random.choice((errno.EIO, errno.ESTALE))
        self.injected[f"{errno.errorcode[number]} when {what}"] += 1
        raise OSError(number, os.strerror(number), where)


def _files(volume: Volume, box: Box) -> Iterator[str]:
    ranges = (range(s.start // f, -(-s.stop // f)) for s, f in zip(box, volume.file_shape, strict=True))
    return (volume.file_of(index) for index in itertools.product(*ranges))


def _other(volume: Z5Volume, content: bytes) -> bytes:
    """A sound chunk with other voxels: that of a neighbour of the same length, or as it is."""
    own = Path(volume._store.url(""))
    for path in sorted(own.rglob("*")):
        if (
            path.name.isdigit()
            and path.is_file()
            and (found := path.read_bytes()) != content
            and found[:16] == content[:16]
        ):
            return found
    return content
