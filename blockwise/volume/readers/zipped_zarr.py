"""Zarr and OME-Zarr in one ZIP file: ``.zarr.zip``, ``.ozx``; read only, through TensorStore."""

from __future__ import annotations

import weakref
import zipfile
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index
from blockwise.volume.address import Address
from blockwise.volume.base import Volume
from blockwise.volume.containers.metadata import NewArray
from blockwise.volume.containers.own_names import METADATA_NAMES
from blockwise.volume.containers.store import Store
from blockwise.volume.containers.tensorstore_arrays import TensorVolume

LARGEST_DOCUMENT = 1 << 26
"""Bytes of what describes an array, unpacked: a few kilobytes of a ZIP file can hold gigabytes."""


class ZipStore(Store):
    """A container in a ZIP file; where the file holds one folder only, that is the container."""

    def __init__(self, address: Address) -> None:
        self.address = address
        try:
            self._file = zipfile.ZipFile(address.path)
        except (zipfile.BadZipFile, EOFError) as error:
            raise UserError(
                f"{address.path}: ends in {address.suffix} but is no ZIP file, or cut off: {error}; copy it again"
            ) from error
        weakref.finalize(self, self._file.close)
        self._names = {name for name in self._file.namelist() if not name.endswith("/")}
        tops = {name.partition("/")[0] for name in self._names}
        is_wrapped = len(tops) == 1 and all("/" in name for name in self._names)
        self._root = f"{tops.pop()}/" if is_wrapped else ""

    def read(self, name: str) -> bytes | None:
        """The content of a file of the container, or None."""
        if self._root + name not in self._names:
            return None
        info = self._file.getinfo(self._root + name)
        if info.header_offset < 0:
            raise UserError(f"{self.url(name)} cannot be read: it begins at byte {info.header_offset}; copy it again")
        size = info.file_size  # no more than that is unpacked
        if size > LARGEST_DOCUMENT:
            raise UserError(f"{self.url(name)}: unpacked it has {size:,} bytes, too many for what describes an array")
        try:
            return self._file.read(self._root + name)
        except (zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"{self.url(name)} cannot be read: {error}; copy the file again") from error

    def inner_names(self) -> set[str]:
        """Names of all files."""
        return {name.removeprefix(self._root) for name in self._names}

    def array_keys(self) -> list[str]:
        """Keys of all arrays, sorted."""
        keys = {name.rpartition("/")[0] for name in self.inner_names() if name.rpartition("/")[2] in METADATA_NAMES}
        found = [self.find(key) for key in sorted(keys)]
        return sorted({array.key for array in found if array is not None})

    def kvstore(self, key: str) -> dict[str, Any]:
        """The place in the words of TensorStore."""
        path = str(Path(self.address.path).resolve())
        inner = "/".join(filter(None, [self._root.rstrip("/"), key]))
        return {"driver": "zip", "base": {"driver": "file", "path": path}, "path": f"{inner}/" if inner else ""}

    def url(self, name: str) -> str:
        """The ZIP file, and the file in it."""
        return f"{self.address.path}/{self._root}{name}"

    def exists(self, key: str) -> bool:
        """Whether an array or image is there."""
        return self.find(key) is not None

    def write(self, name: str, content: bytes) -> NoReturn:
        """Refused."""
        self._refuse()

    def create(self, key: str, array: NewArray) -> NoReturn:
        """Refused."""
        self._refuse()

    def delete(self, key: str) -> NoReturn:
        """Refused."""
        self._refuse()

    def delete_objects(self, names: list[str]) -> NoReturn:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(f"{self.address}: ZIP files are read only; use an output of .n5 or .zarr")


class ZippedVolume(TensorVolume):
    """An array in a ZIP file, which is one file for all that asks for changes and damage."""

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Refused."""
        Volume.write(self, box, data)

    @property
    def file_shape(self) -> tuple[int, ...]:
        """The whole array lies in one file."""
        return self.shape

    def file_of(self, index: Index) -> str:
        """The ZIP file."""
        return self.address.path
