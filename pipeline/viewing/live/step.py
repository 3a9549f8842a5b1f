"""The threshold step as it is tried: the same bytes, from probabilities that stay decoded in the worker."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, box_shape, relative
from blockwise.volume import Volume
from tasks.threshold import ThresholdStep

MOST_BYTES = 256_000_000
"""Of decoded chunks that a worker keeps: a block reads those around it, and so does the next value of a slider."""


class TriedThresholdStep(ThresholdStep):
    """See ``ThresholdStep``, whose name, fingerprint and results it has."""

    def projected_memory(self) -> int:
        """Kept chunks come on top."""
        return super().projected_memory() + MOST_BYTES

    def prepare(self) -> Any:
        """Open the probabilities and the mask."""
        volume, mask = super().prepare()
        return DecodedChunks(volume, _decoded), mask


class DecodedChunks:
    """A volume whose chunks are decoded once, as long as their files stay what they are.

    Attributes:
        volume: the volume.
        kept: chunks by address, box and state of their file, the one that was not used for longest first.
    """

    def __init__(self, volume: Volume, kept: OrderedDict[Any, NDArray[Any]]) -> None:
        self.volume = volume
        self.kept = kept

    def read(self, box: Box) -> NDArray[Any]:
        """A box, as of ``Volume.read``."""
        found = np.empty(box_shape(box), self.volume.dtype)
        for chunk in chunks_below(box, self.volume.chunks, self.volume.shape):
            common = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, chunk, strict=True))
            found[relative(common, box)] = self._chunk(chunk)[relative(common, chunk)]
        return found

    def _chunk(self, box: Box) -> NDArray[Any]:
        state = self.volume.file_states(box).tobytes()
        key = (str(self.volume.address), tuple((s.start, s.stop) for s in box), state)
        data = self.kept.pop(key, None)
        if data is None:
            data = self.volume.read(box)
            while sum(one.nbytes for one in self.kept.values()) + data.nbytes > MOST_BYTES and self.kept:
                self.kept.popitem(last=False)
        self.kept[key] = data  # now the last
        return data


def chunks_below(box: Box, chunks: tuple[int, ...], shape: tuple[int, ...]) -> list[Box]:
    """Boxes of the chunks that a box touches, cut at the volume's end.

    >>> chunks_below((slice(3, 5),), (4,), (7,))
    [(slice(0, 4, None),), (slice(4, 7, None),)]
    """
    ranges = [
        [slice(i * c, min((i + 1) * c, n)) for i in range(s.start // c, -(-s.stop // c))]
        for s, c, n in zip(box, chunks, shape, strict=True)
    ]
    return list(itertools.product(*ranges))


_decoded: OrderedDict[Any, NDArray[Any]] = OrderedDict()
"""Of this process: the next threshold that is tried reads the same."""
