"""Containers as named documents: a folder on this machine, and what it shares with remote stores."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from blockwise.errors import UserError
from blockwise.files import explained, replacing
from blockwise.transient import refuse_transient
from blockwise.volume.address import N5_SUFFIXES, Address
from blockwise.volume.containers.metadata import (
    Array,
    Document,
    Kind,
    NewArray,
    arrays_of,
    encode,
    find_array,
    group_documents,
)
from blockwise.volume.containers.own_names import foreign_names, refuse_foreign

MISUNDERSTOOD = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What reading a document raises that is not as it should be."""


class DamagedMetadataError(UserError):
    """The document that describes an array is there and cannot be understood."""


class Store(ABC):
    """An N5 or Zarr container.

    Attributes:
        address: of the container; its key is not used.
    """

    address: Address

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file of the container, or None where there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file of the container; readers find the old or the new content, never a part."""

    @abstractmethod
    def create(self, key: str, array: NewArray) -> None:
        """Make an array appear at a key, with all its attributes, in one moment."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete an array or image, in such an order that a half-deleted one is never taken for whole.

        Raises:
            UserError: below the key lies something else; nothing was deleted.
        """

    @abstractmethod
    def delete_objects(self, names: list[str]) -> None:
        """Delete single files; those that are not there are no error."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether anything lies there that must not be overwritten."""

    @abstractmethod
    def inner_names(self) -> set[str]:
        """Names of what lies in the container: of files and folders in it, or of all objects below it."""

    @abstractmethod
    def array_keys(self) -> list[str]:
        """Keys of all arrays in the container; empty where the store cannot list."""

    @abstractmethod
    def kvstore(self, key: str) -> dict[str, Any]:
        """The same place in the words of TensorStore."""

    @abstractmethod
    def url(self, name: str) -> str:
        """A file's path or URL, as users know it."""

    def document(self, name: str) -> Document | None:
        """A JSON document of the container; None where there is none, or no mapping."""
        content = self.read(name)
        if content is None:
            return None
        try:
            document = json.loads(content)
        except ValueError as error:
            raise DamagedMetadataError(f"{self.url(name)} is damaged, it holds no JSON: {error}") from error
        return document if isinstance(document, dict) else None

    def find(self, key: str) -> Array | None:
        """The array at a key, or the finest scale of the OME-Zarr image there."""
        try:
            return find_array(self.document, key, self.kinds)
        except MISUNDERSTOOD as error:
            raise DamagedMetadataError(
                f"{self.url(key)}: its metadata cannot be understood ({type(error).__name__}: {error}); "
                "is the array damaged?"
            ) from error

    def description_files(self, key: str) -> tuple[Path, ...]:
        """Files of this machine that are looked at to find an array; none of a store elsewhere."""
        return ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Formats that the container's ending may stand for, that which is looked for first before the others."""
        return ("n5",) if self.address.suffix in N5_SUFFIXES else ("zarr3", "zarr")

    def _refuse_foreign(self, key: str, names: Iterable[str]) -> None:
        """Refuse to delete a key below which not all names are those of its arrays."""
        foreign = foreign_names(names, key, arrays_of(self.document, key, self.kinds))
        refuse_foreign(self.address.within(key), foreign)

    def missing_groups(self, key: str, kind: Kind) -> dict[str, bytes]:
        """Documents to be written so that all folders above a key are groups."""
        parents = ["", *("/".join(key.split("/")[:depth]) for depth in range(1, key.count("/") + 1))] if key else []
        found = {}
        for parent in parents:
            for name, document in group_documents(kind, is_root=not parent).items():
                name = f"{parent}/{name}" if parent else name
                if self.read(name) is None:
                    found[name] = encode(document)
        return found


class LocalStore(Store):
    """A container in a folder."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.folder = Path(address.path)

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None."""
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            refuse_transient(error, self.url(name))
            raise UserError(f"{self.url(name)}: cannot be read: {error}") from error

    def description_files(self, key: str) -> tuple[Path, ...]:
        """Files that are looked at to find an array.

        Raises:
            ShortFailureError: one of them cannot be reached at the moment.
        """
        names: list[str] = []

        def noted(name: str) -> Document | None:
            names.append(name)
            return self.document(name)

        try:
            find_array(noted, key, self.kinds)
        except (UserError, *MISUNDERSTOOD) as error:
            refuse_transient(error)  # fewer files than there are would vouch for others unseen
        return tuple(self.folder / name for name in dict.fromkeys(names))

    def write(self, name: str, content: bytes) -> None:
        """Write a temporary file, then rename it.

        Raises:
            DiskFullError: there is no room.
            UserError: it may not be written.
        """
        with replacing(self.folder / name) as temporary:
            temporary.write_bytes(content)

    def create(self, key: str, array: NewArray) -> None:
        """Build the array under a name of its own, then rename it: it appears with all attributes or not at all.

        Raises:
            DiskFullError: there is no room.
            UserError: it may not be written.
        """
        with explained(self.url(key)):
            self._create(key, array)

    def _create(self, key: str, array: NewArray) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.missing_groups(key, array.kind).items():
            self.write(name, content)
        target = self.folder / key
        temporary = target.with_name(f".new-{target.name}")
        for left in (temporary, _doomed(target)):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        for name, document in array.documents().items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(document))
        temporary.rename(target)

    def delete(self, key: str) -> None:
        """Rename first, so that a half-deleted array is never taken for whole; of a link, the link alone goes."""
        folder = self.folder / key
        if folder.is_symlink():
            folder.unlink()
            return
        self._refuse_foreign(key, self._names(key))
        doomed = _doomed(folder)
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed)

    def _names(self, key: str) -> Iterator[str]:
        """All that is no folder below a key; links to folders are not followed."""
        for folder, inner, files in os.walk(self.folder / key):
            for name in (*files, *(name for name in inner if os.path.islink(os.path.join(folder, name)))):
                yield Path(folder, name).relative_to(self.folder).as_posix()

    def delete_objects(self, names: list[str]) -> None:
        """Delete single files."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Whether there is a file or folder at the key."""
        return path_exists(self.folder / key)

    def inner_names(self) -> set[str]:
        """Names of files and folders."""
        return set(os.listdir(self.folder))

    def array_keys(self) -> list[str]:
        """Keys of all arrays, sorted; folders of chunks are not looked into."""
        keys = []
        for folder, inner, files in os.walk(self.folder):
            inner[:] = [name for name in inner if not name.startswith(".")]
            if not {"attributes.json", ".zarray", "zarr.json"} & set(files):
                continue
            key = Path(folder).relative_to(self.folder).as_posix()
            found = self.find("" if key == "." else key)
            if found is not None and found.key == ("" if key == "." else key):
                keys.append(found.key)
                inner.clear()
        return sorted(keys)

    def kvstore(self, key: str) -> dict[str, Any]:
        """The folder in the words of TensorStore."""
        return {"driver": "file", "path": f"{(self.folder / key).resolve()}/"}

    def url(self, name: str) -> str:
        """The path of a file."""
        return f"{self.address.path}/{name}" if name else self.address.path


def path_exists(path: Path) -> bool:
    """Whether there is a file or folder; what cannot be reached at the moment is not taken for absent.

    Raises:
        ShortFailureError: the file system has trouble.
        UserError: it may not be looked at.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        refuse_transient(error, str(path))
        raise UserError(f"{path}: cannot be looked at: {error}") from error
    return True


def _doomed(folder: Path) -> Path:
    return folder.with_name(f".old-{folder.name}")
