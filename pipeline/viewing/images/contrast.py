"""Between which values most of a volume lies."""

from __future__ import annotations

import numpy as np

from pipeline.viewing.images.layers import Layer
from pipeline.viewing.images.voxels import Voxels

PERCENTILES = (0.5, 99.5)


def contrast(layer: Layer, voxels: Voxels) -> tuple[float, float] | None:
    """Values between which nearly all voxels in a chunk's size around the middle lie; None where all are the same.

    Raises:
        DamagedDataError, UserError, OSError: as ``Voxels.read``.
    """
    box = []
    for n, c in zip(layer.shape, layer.chunks, strict=True):
        start = max(0, (n - c) // 2)
        box.append(slice(start, min(n, start + c)))
    values = voxels.read(layer, tuple(box))
    low, high = np.nanpercentile(values, PERCENTILES) if np.isfinite(values).any() else (0.0, 0.0)
    return (float(low), float(high)) if low < high else None
