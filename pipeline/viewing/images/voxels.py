"""Voxels of layers, read from whatever they are stored in, and as the bytes of a chunk."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, box_shape, relative
from blockwise.trust.ownership import recorded_id
from blockwise.volume import Volume, open_volume
from blockwise.volume_step import VolumeStep
from pipeline.viewing.images.keys import COMPRESSOR, LEVEL, SHUFFLE, Chunk, is_mean
from pipeline.viewing.images.layers import Approximation, Layer
from pipeline.viewing.images.scales import Scale, coarsened
from pipeline.viewing.images.slabs import Slabs


@dataclass(frozen=True)
class InMemory:
    """A volume of which a part lies in memory, and which is 0 elsewhere.

    Attributes:
        box: of the part.
        data: its voxels.
    """

    box: Box
    data: NDArray[Any]

    def read(self, box: Box) -> NDArray[Any]:
        """A box, as of ``Volume.read``."""
        found = np.zeros(box_shape(box), self.data.dtype)
        common = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, self.box, strict=True))
        if all(s.start < s.stop for s in common):
            found[relative(common, box)] = self.data[relative(common, self.box)]
        return found


class Voxels:
    """Reads layers. Each thread opens their datasets for itself: not every library lets threads share a file.

    Attributes:
        in_memory: volumes by address that lie in no file.
    """

    def __init__(self) -> None:
        self.in_memory: dict[str, InMemory] = {}
        self._local = threading.local()
        self._slabs = Slabs()

    def read(self, layer: Layer, box: Box) -> NDArray[Any]:
        """Voxels of a box of a layer, as they are stored, axes in the layer's order.

        Raises:
            DamagedDataError: they cannot be decoded.
            UserError: the dataset is not there, or cannot be reached.
        """
        stored, in_memory = layer.stored_box(box), self.in_memory.get(layer.address)
        if in_memory is not None:
            return in_memory.read(stored).transpose(layer.from_stored)
        volume = self._volume(layer)
        data = self._slabs.read(volume, stored) if layer.step is None else volume.read(stored)
        return data.transpose(layer.from_stored)

    def states(self, layer: Layer, box: Box) -> NDArray[np.int64]:
        """States of the files below a box, as ``Volume.file_states`` has them."""
        if layer.address in self.in_memory:
            return np.zeros(0, np.int64)
        return self._volume(layer).file_states(layer.stored_box(box))

    def chunk(self, layer: Layer, chunk: Chunk, *, stored: VolumeStep | None = None, is_empty: bool = False) -> bytes:
        """The content of a chunk; errors as of ``read``.

        Args:
            layer: the layer.
            chunk: of it.
            stored: the step of the pyramid that has made its scale; None to make it of the finest one.
            is_empty: nothing was written there, nor ever will be, so that all is 0.
        """
        if is_empty:
            return encode(np.zeros(chunk.shape, layer.dtype), layer)
        return encode(self.scaled(layer, layer.scales[chunk.scale], chunk.own_box, stored), layer)

    def scaled(self, layer: Layer, scale: Scale, own_box: Box, stored: VolumeStep | None = None) -> NDArray[Any]:
        """A box of a scale, in its own voxels; ``stored`` and errors as of ``chunk``."""
        if stored is not None:
            return self._opened(stored.address, stored).read(own_box)
        data = self.read(layer, scale.finest(own_box, layer.shape))
        return coarsened(data, scale, "mean" if is_mean(layer) else "mode")

    def decoded_bytes(self, layer: Layer, scale: Scale, own_box: Box, stored: VolumeStep | None = None) -> int:
        """Bytes that are decoded for ``scaled``."""
        if stored is None:
            volume, box = self._volume(layer), layer.stored_box(scale.finest(own_box, layer.shape))
        else:
            volume, box = self._opened(stored.address, stored), own_box
        decoded = int(volume.dtype.itemsize)
        for s, unit in zip(box, volume.decode_shape, strict=True):
            decoded *= (-(-s.stop // unit) - s.start // unit) * unit
        return decoded

    def approximated(
        self, layer: Layer, by: Approximation, chunk: Chunk, read_box: Box, stored: VolumeStep | None
    ) -> bytes:
        """The content of a chunk of a coarser scale that is made of another layer's; errors as of ``read``.

        Args:
            layer: the layer.
            by: how.
            chunk: of the layer.
            read_box: what is read of the other layer, in voxels of the scale.
            stored: the step that has made the other layer's scale; None to make it of the finest one.
        """
        scale = by.source.scales[chunk.scale]
        data = self.scaled(by.source, scale, read_box, stored)
        return encode(
            by.compute(data, along(layer.axes, chunk.own_box, by.source.axes, read_box), read_box, scale), layer
        )

    def _volume(self, layer: Layer) -> Volume:
        if layer.volume is not None:
            return layer.volume
        return self._opened(layer.address, layer.step)

    def _opened(self, address: str, step: VolumeStep | None) -> Volume:
        """Opened once; anew where the dataset was made anew."""
        opened: dict[str, tuple[str, Volume]] = self._local.__dict__.setdefault("opened", {})
        made = "" if step is None else recorded_id(step)
        if address not in opened or opened[address][0] != made:
            opened[address] = made, open_volume(address)
        return opened[address][1]


def along(axes: str, box: Box, others: str, whole: Box) -> Box:
    """A box along other axes; the whole where it has none of them."""
    known = dict(zip(axes, box, strict=True))
    return tuple(known.get(axis, s) for axis, s in zip(others, whole, strict=True))


def encode(data: NDArray[Any], layer: Layer) -> bytes:
    """Voxels as the content of a chunk, which is always whole; what lies outside the volume is 0."""
    shown = data.astype(layer.dtype, copy=False)
    if shown.shape != layer.chunks:
        shown = np.pad(shown, [(0, c - n) for c, n in zip(layer.chunks, shown.shape, strict=True)])
    encoded = imagecodecs.blosc_encode(
        np.ascontiguousarray(shown).tobytes(),
        level=LEVEL,
        compressor=COMPRESSOR,
        shuffle=SHUFFLE,
        typesize=layer.dtype.itemsize,
        numthreads=1,
    )
    return bytes(encoded)
