"""Zarr 3 (sharded too) on this machine, and N5 and Zarr in remote stores, through TensorStore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index
from blockwise.volume.address import Address
from blockwise.volume.base import ABSENT, as_int63
from blockwise.volume.containers.array_volume import ArrayVolume
from blockwise.volume.containers.metadata import Array
from blockwise.volume.containers.remote import RemoteStore, wait
from blockwise.volume.containers.store import Store

CONTEXT = {
    "data_copy_concurrency": {"limit": 1},  # a worker is meant to keep one core busy, as with the other formats
    "file_io_sync": False,  # nobody here waits for the disk after each chunk; markers carry checksums
}


class TensorVolume(ArrayVolume):
    """A dataset that TensorStore reads and writes."""

    def __init__(self, address: Address, store: Store, array: Array) -> None:
        super().__init__(address, store, array)
        self._dataset = self._open()
        self.dtype = np.dtype(self._dataset.dtype.numpy_dtype)
        self._decode_shape = tuple(self._dataset.chunk_layout.read_chunk.shape)
        self._has_states = not isinstance(store, RemoteStore) or store.tells_generations

    def _open(self) -> Any:
        dataset = _open(self.address, self._store, self._array)
        return dataset.T if self._array.kind == "n5" else dataset  # TensorStore keeps the file's order, x first

    def _read(self, box: Box) -> NDArray[Any]:
        part = self._dataset[box]
        size = part.size * self.dtype.itemsize
        data: NDArray[Any] = wait(part.read(order="C"), self.address, size=size)
        if not self.address.is_remote:
            self.refuse_dangling_links(box)
        return data

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write whole chunks (shards); those of zeros are left out, and removed where they lay before.

        Raises:
            DiskFullError: the file system has no room left.
            UserError: the store denied the request or did not answer.
        """
        self.check_aligned(box, data)
        data = np.ascontiguousarray(data, dtype=self.dtype)
        try:
            wait(self._dataset[box].write(data), self.address, size=data.nbytes)
        except OSError:
            # At the volume's end TensorStore reads what it overwrites; if that is damaged, nothing of it is needed.
            self._store.delete_objects([self._array.chunk_name(index) for index in self.chunk_indices(box)])
            wait(self._dataset[box].write(data), self.address, size=data.nbytes)

    @property
    def decode_shape(self) -> tuple[int, ...]:
        """A chunk; of a shard only the chunks in question are read."""
        return self._decode_shape

    @property
    def has_file_states(self) -> bool:
        """Whether the store gives entity tags or generations."""
        return self._has_states

    def _fill_states(self, indices: Iterator[Index], states: NDArray[np.int64]) -> None:
        if not isinstance(self._store, RemoteStore):
            super()._fill_states(indices, states)
            return
        if not self.has_file_states:
            states[...] = 0
            return
        generations = self._store.generations([self._array.chunk_name(index) for index in indices])
        for i, generation in enumerate(generations):
            states[i] = (ABSENT, 0) if generation is None else (0, as_int63(generation))


class UnknownCodecError(UserError):
    """The array is made with something that TensorStore does not know."""


def _open(address: Address, store: Store, array: Array) -> Any:
    try:
        return wait(ts.open(_spec(store, array)), address)
    except OSError as error:
        raise UnknownCodecError(
            f"{address}: TensorStore cannot read this array: {error}; a copy compressed by gzip can be read"
        ) from error


def _spec(store: Store, array: Array) -> dict[str, Any]:
    kvstore = store.kvstore(array.key)
    spec: dict[str, Any] = {"driver": array.kind, "kvstore": kvstore, "context": CONTEXT, "open": True}
    compression = array.document.get("compression")
    if array.kind == "n5" and isinstance(compression, dict) and compression.get("type") == "blosc":
        # z5py adds a member that the N5 specification does not know, and TensorStore refuses the array for it.
        names = ("cname", "clevel", "shuffle", "blocksize")
        known = {name: compression[name] for name in names if name in compression}
        own = ("dimensions", "blockSize", "dataType")
        metadata = {name: array.document[name] for name in own}
        spec |= {"assume_metadata": True, "metadata": metadata | {"compression": {"type": "blosc", **known}}}
    if array.kind == "zarr" and (fill := _fill_value(array.document)) != array.document.get("fill_value"):
        spec |= {"assume_metadata": True, "metadata": {**array.document, "fill_value": fill}}
    return spec


def _fill_value(document: Mapping[str, Any]) -> Any:
    """The value of absent chunks as the specification has it; some writers made a string or a float of a number."""
    value, dtype = document.get("fill_value"), document.get("dtype")
    kind = np.dtype(dtype).kind if isinstance(dtype, str) else ""
    if kind not in "iufb" or value is None or value in ("NaN", "Infinity", "-Infinity"):
        return value
    try:
        number = float({"true": 1, "false": 0, "": 0}.get(str(value).lower(), value))
    except (TypeError, ValueError):
        return value
    return bool(number) if kind == "b" else int(value) if kind in "iu" and number.is_integer() else number
