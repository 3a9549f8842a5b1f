"""Raw volumes of which whole planes are decoded to read one voxel: what was decoded is kept for the next chunk."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, box_shape, relative
from blockwise.identity import array_checksum
from blockwise.volume import Volume

SLAB_BYTES = 128_000_000
"""The most that is decoded at once for a single chunk."""
KEPT_BYTES = 384_000_000
"""Of slabs that are kept."""
PAYS_FROM = 2.0
"""Voxels decoded for one that is read, from which on slabs are read instead."""
DEPTH = 16
"""Planes of a chunk of such a volume: more would have to be decoded to show one of them."""


def decodes_too_much(volume: Volume, shape: tuple[int, ...]) -> bool:
    """Whether boxes of this shape decode the volume several times over."""
    return volume.read_amplification(shape) >= PAYS_FROM


class Slabs:
    """Parts of volumes that were decoded, the ones used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], _Slab] = OrderedDict()

    def read(self, volume: Volume, box: Box) -> NDArray[Any]:
        """As ``Volume.read``; of a volume that decodes much for it, by way of a slab where that is not too large."""
        if not decodes_too_much(volume, box_shape(box)):
            return volume.read(box)
        whole = tuple(
            slice(s.start // d * d, min(-(-s.stop // d) * d, n))
            for s, d, n in zip(box, volume.decode_shape, volume.shape, strict=True)
        )
        size = math.prod(box_shape(whole)) * volume.dtype.itemsize
        if size > SLAB_BYTES:
            return volume.read(box)
        # Files that have changed are another slab.
        key = (str(volume.address), *((s.start, s.stop) for s in whole), array_checksum(volume.file_states(whole)))
        with self._lock:
            slab = self._kept.setdefault(key, _Slab(size))
            self._kept.move_to_end(key)
            self._drop()
        with slab.lock:  # who comes second waits for the first
            if slab.data is None:
                slab.data = volume.read(whole)
            return np.ascontiguousarray(slab.data[relative(box, whole)])

    def _drop(self) -> None:
        while len(self._kept) > 1 and sum(slab.size for slab in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)


class _Slab:
    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.data: NDArray[Any] | None = None
