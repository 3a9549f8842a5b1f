"""One value names a dataset: ``path.n5:key``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blockwise.errors import UserError


@dataclass(frozen=True)
class Address:
    """A container and the dataset in it.

    Attributes:
        path: the container, as the user wrote it.
        key: path of the dataset inside the container, without a leading slash; empty where the file is the dataset.
    """

    path: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Split ``path.n5:group/name`` at its last colon; the colon of ``scheme://`` does not count.

        >>> Address.parse("data/a.n5:volumes/raw")
        Address(path='data/a.n5', key='volumes/raw')
        """
        head, colon, key = text.rpartition(":")
        if not colon or key.startswith("//"):
            return cls(text, "")
        if not head:
            raise UserError(f"{text!r} names no container; write it as path.n5:key")
        return cls(head, key.strip("/"))

    def __str__(self) -> str:
        return f"{self.path}:{self.key}" if self.key else self.path

    @property
    def suffix(self) -> str:
        """The container's file ending, lower case, with the dot."""
        return Path(self.path).suffix.lower()
