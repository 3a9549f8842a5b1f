"""Scales of precomputed volumes that are written here, sharded, through TensorStore.

Each scale has a document of its own beside its shards, so that it can be written and read before all scales are
there; ``info``, by which others find them, comes last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from blockwise.grid import Box, relative
from blockwise.volume.address import Address
from blockwise.volume.containers.metadata import Kind
from blockwise.volume.containers.precomputed_scale import tensorstore_metadata
from blockwise.volume.containers.remote import RemoteStore, wait
from blockwise.volume.containers.store import LocalStore, Store
from blockwise.volume.containers.tensorstore_arrays import CONTEXT, TensorVolume


class PrecomputedFolder(LocalStore):
    """A precomputed volume in a folder."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """One, whatever the folder is called."""
        return ("precomputed",)


class PrecomputedBucket(RemoteStore):
    """A precomputed volume in an object store."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """One, whatever the place is called."""
        return ("precomputed",)


def precomputed_store(address: Address) -> Store:
    """The volume of an address, wherever it lies."""
    inner = Address(address.location, "", address.options)
    return PrecomputedBucket(inner) if address.is_remote else PrecomputedFolder(inner)


class PrecomputedScale(TensorVolume):
    """One scale; axes are zyx or czyx, and a chunk holds all channels."""

    def _open(self) -> Any:
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": self._store.kvstore(""),
            "context": CONTEXT,
            "open": True,
            "assume_metadata": True,
            **tensorstore_metadata(self._array.key, self._array.document),
        }
        dataset = wait(ts.open(spec), self.address).T
        return dataset if "c" in (self._array.axes or "") else dataset[0]

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write whole shards; those of zeros are left out, and removed where they lay before.

        Raises:
            DiskFullError: the file system has no room left.
            UserError: the store denied the request or did not answer.
        """
        self.check_aligned(box, data)
        data = np.ascontiguousarray(data, dtype=self.dtype)
        # TensorStore would read what is there and put it into the new file: nothing of it is needed.
        self._store.delete_objects([self._array.chunk_name(index) for index in self.chunk_indices(box)])
        for _, part in self.pieces(box):
            inner = data[relative(part, box)]
            if inner.any():
                with ts.Transaction() as transaction:  # the shard is written once, not once for each chunk
                    target = self._dataset.with_transaction(transaction)[part]
                    wait(target.write(inner), self.address, size=inner.nbytes)
