"""Neuroglancer's precomputed volumes, in a folder, a store or on a web server, through TensorStore; sharded too."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing
from blockwise.volume.base import ABSENT, Volume
from blockwise.volume.containers.remote import RemoteStore, wait
from blockwise.volume.containers.store import LocalStore, Store
from blockwise.volume.containers.tensorstore_arrays import CONTEXT
from blockwise.volume.readers.plain import state_of_all

_PACKED = (".gz", ".br", ".zst")
_LOOKED_AT = 100
_MOST_SHARD_BITS = 12
"""Shards are looked at one by one, up to 4096 of them."""


class PrecomputedVolume(Volume):
    """One scale; the address's key is the scale's, by default that of the first, which is the finest.

    Axes are zyx, or czyx where there are several channels. The first voxel is that of the scale's own offset
    (``voxel_offset``). Chunks that are not there are zero, as the format says.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._store = _store(address)
        info = _info(address, self._store)
        scale = _scale(address, info)
        self._key = str(scale["key"])
        self._encoding = str(scale.get("encoding", ""))
        self._offset = tuple(int(n) for n in scale.get("voxel_offset", (0, 0, 0)))[::-1]
        self._sharding: Mapping[str, Any] | None = scale.get("sharding")
        if self._sharding is None and isinstance(self._store, LocalStore):
            _refuse_packed_chunks(address, self._store.folder / self._key)
        dataset = _opened(address, self._store, self._key)
        self.dtype = np.dtype(dataset.dtype.numpy_dtype)
        dataset = dataset.T[ts.d[:].translate_to[0]]
        self._dataset = dataset if dataset.shape[0] > 1 else dataset[0]
        self.shape = tuple(self._dataset.shape)
        self.chunks = tuple(self._dataset.chunk_layout.read_chunk.shape)
        self.axes = "czyx"[-len(self.shape) :]
        steps = tuple(float(step) for step in scale["resolution"])[::-1]
        self.spacing = Spacing(steps, ("nanometer",) * 3).along("zyx", self.axes)

    def _read(self, box: Box) -> NDArray[Any]:
        part = self._dataset[box]
        data: NDArray[Any] = wait(part.read(order="C"), self.address, size=part.size * self.dtype.itemsize)
        return data

    @property
    def codec(self) -> str:
        """The scale's encoding."""
        return self._encoding

    @property
    def attributes(self) -> Mapping[str, Any]:
        """None; axes and spacing are read from ``info``."""
        return {}

    @property
    def file_shape(self) -> tuple[int, ...]:
        """One chunk a file; which chunks lie in one shard is not told, so shards are one piece together."""
        return self.chunks if self._sharding is None else self.shape

    def file_of(self, index: Index) -> str:
        """Path or URL of a chunk's file, or of the folder that holds the shards."""
        return self._store.url(self._key if self._sharding is not None else self._chunk_name(index))

    def _chunk_name(self, index: Index) -> str:
        """``key/x_y_z``, each as first voxel and stop, counted from the offset of the whole dataset."""
        parts = []
        for i, chunk, n, offset in zip(index[-3:], self.chunks[-3:], self.shape[-3:], self._offset, strict=True):
            parts.append(f"{offset + i * chunk}-{offset + min((i + 1) * chunk, n)}")
        return f"{self._key}/{'_'.join(reversed(parts))}"

    @property
    def has_file_states(self) -> bool:
        """Whether the store gives entity tags or generations, and there are not too many shards to ask for."""
        if not isinstance(self._store, RemoteStore):
            return True
        bits = 0 if self._sharding is None else int(self._sharding["shard_bits"])
        return self._store.tells_generations and bits <= _MOST_SHARD_BITS

    def _fill_states(self, indices: Iterator[Index], states: NDArray[np.int64]) -> None:
        if not self.has_file_states:
            states[...] = 0
        elif not isinstance(self._store, RemoteStore):
            if self._sharding is None:
                super()._fill_states(indices, states)
            else:
                states[...] = _state_of_folder(Path(self.file_of(())))
        elif self._sharding is None:
            found = self._store.generations([self._chunk_name(index) for index in indices])
            for i, generation in enumerate(found):
                states[i] = (ABSENT, 0) if generation is None else (0, _as_int63(generation))
        else:
            bits = int(self._sharding["shard_bits"])
            names = [f"{self._key}/{number:0{-(-bits // 4)}x}.shard" for number in range(1 << bits)]
            states[...] = (0, _as_int63(repr(self._store.generations(names)).encode()))


def _as_int63(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def _state_of_folder(folder: Path) -> tuple[int, int]:
    try:
        return state_of_all(tuple(sorted(entry.path for entry in os.scandir(folder))))
    except FileNotFoundError:
        return ABSENT, 0


def _store(address: Address) -> Store:
    inner = Address(address.location, "", address.options)
    if address.is_remote:
        return RemoteStore(inner)
    if not Path(address.location).is_dir():
        raise UserError(
            f"{address}: there is no folder {address.location!r} (looked from {Path.cwd()}); check the path, "
            "relative ones start where the command runs"
        )
    return LocalStore(inner)


def _info(address: Address, store: Store) -> Mapping[str, Any]:
    info = store.document("info")
    if info is None:
        raise UserError(
            f"{address}: there is no {store.url('info')}, so this is no precomputed volume; check the path"
        )
    if not info.get("scales"):
        raise UserError(f"{address}: {store.url('info')} lists no scales; meshes and skeletons are not read")
    return info


def _scale(address: Address, info: Mapping[str, Any]) -> Mapping[str, Any]:
    scales = {str(scale["key"]): scale for scale in info["scales"]}
    found: Mapping[str, Any] | None = scales.get(address.key) if address.key else next(iter(scales.values()))
    if found is not None:
        return found
    near = difflib.get_close_matches(address.key, scales, n=1, cutoff=0.4)
    hint = f"; did you mean {address.within(near[0])}?" if near else ""
    raise UserError(f"{address}: there is no scale {address.key!r}; it holds: {', '.join(scales)}{hint}")


def _opened(address: Address, store: Store, key: str) -> Any:
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": store.kvstore(""),
        "scale_metadata": {"key": key},
        "context": CONTEXT,
        "open": True,
    }
    try:
        return wait(ts.open(spec), address)
    except OSError as error:
        raise UserError(f"{address}: TensorStore cannot read this volume: {error}") from error


def _refuse_packed_chunks(address: Address, folder: Path) -> None:
    """Refuse chunks whose files' names end in .gz: a web server would unpack them, here they would read as zeros."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_LOOKED_AT), strict=False)]
    except FileNotFoundError:
        return
    if packed := next((name for name in names if name.endswith(_PACKED)), None):
        raise UserError(
            f"{address}: its chunks are compressed once more, each in its file ({folder / packed}), which only web "
            f"servers undo; unpack them, by gunzip -r {folder} for instance, or read it over https://"
        )
