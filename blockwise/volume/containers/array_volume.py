"""What all arrays in containers have in common, whatever library reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blockwise.grid import Index
from blockwise.volume.address import Address
from blockwise.volume.base import Volume
from blockwise.volume.containers.metadata import Array
from blockwise.volume.containers.store import Store


class ArrayVolume(Volume):
    """A dataset that is an array in a container, one chunk or shard a file; who reads it adds its ``dtype``."""

    def __init__(self, address: Address, store: Store, array: Array) -> None:
        self.address = address
        self._store = store
        self._array = array
        self.shape = array.shape
        self.chunks = array.chunks
        self.axes = array.axes
        self.spacing = array.spacing

    @property
    def codec(self) -> str:
        """Names of compressions and filters."""
        return self._array.codec

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The dataset's attributes."""
        return self._array.attributes

    @property
    def file_shape(self) -> tuple[int, ...]:
        """One chunk or shard a file."""
        return self.chunks

    def file_of(self, index: Index) -> str:
        """Path or URL of a chunk's or shard's file."""
        return self._store.url(self._array.chunk_name(index))
