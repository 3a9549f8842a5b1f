"""N5 and Zarr v2 in a local folder, through z5py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import z5py
from numpy.typing import NDArray

from blockwise.errors import DiskFullError
from blockwise.grid import Box, Index
from blockwise.volume.address import Address
from blockwise.volume.axes import axes_from_attributes
from blockwise.volume.base import Volume

COMPRESSION = "gzip"
COMPRESSION_LEVEL = 1
"""gzip carries a checksum, so cut-off chunks are noticed, and every reader of N5 knows it."""


class Z5Volume(Volume):
    """A dataset in an N5 or Zarr v2 folder."""

    def __init__(self, address: Address, mode: str = "r") -> None:
        self.address = address
        self._dataset = z5py.File(address.path, mode=mode)[address.key]
        self.shape = tuple(self._dataset.shape)
        self.dtype = np.dtype(self._dataset.dtype)
        self.chunks = tuple(self._dataset.chunks)
        self._attributes = dict(self._dataset.attrs.items())
        self.axes = axes_from_attributes(self._attributes, len(self.shape))
        self._folder = str(Path(address.path) / address.key)
        self._is_zarr = bool(self._dataset.is_zarr)
        self._separator = "/" if not self._is_zarr else _zarr_separator(Path(self._folder))

    def _read(self, box: Box) -> NDArray[Any]:
        data: NDArray[Any] = self._dataset[box]
        return data

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write whole chunks; chunks of zeros are left out, and removed where they lay before.

        Raises:
            DiskFullError: the file system has no room left.
        """
        self.check_aligned(box, data)
        try:
            self._dataset[box] = np.ascontiguousarray(data, dtype=self.dtype)
        except RuntimeError as error:
            if "failed to write" not in str(error):
                raise
            free = shutil.disk_usage(self.address.path).free
            raise DiskFullError(f"{self.address}: {error} ({free / 1e6:.1f} MB free on this disk)") from error

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The dataset's attributes."""
        return self._attributes

    @property
    def file_shape(self) -> tuple[int, ...]:
        """One chunk a file."""
        return self.chunks

    def file_of(self, index: Index) -> str:
        """N5 nests folders from the last axis (x) to the first; Zarr from the first."""
        order = index if self._is_zarr else index[::-1]
        return f"{self._folder}/{self._separator.join(map(str, order))}"


def _zarr_separator(folder: Path) -> str:
    metadata = json.loads((folder / ".zarray").read_text())
    return str(metadata.get("dimension_separator", "."))


def create_z5(
    address: Address,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, Any],
) -> None:
    """Create a dataset under a name of its own, then rename it: it appears with all its attributes or not at all."""
    container = z5py.File(address.path, mode="a")
    parent, _, name = address.key.rpartition("/")
    if parent:
        container.require_group(parent)
    temporary = Path(parent) / f".new-{name}"
    folder = Path(address.path)
    for left in (folder / temporary, _doomed(folder / address.key)):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    dataset = container.create_dataset(
        str(temporary),
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compression=COMPRESSION,
        level=COMPRESSION_LEVEL,
    )
    dataset.attrs.update(dict(attributes))
    (folder / temporary).rename(folder / address.key)


def _doomed(folder: Path) -> Path:
    return folder.with_name(f".old-{folder.name}")


def delete_z5(address: Address) -> None:
    """Delete a dataset: rename first, so that a half-deleted one is never taken for whole."""
    folder = Path(address.path) / address.key
    doomed = _doomed(folder)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
