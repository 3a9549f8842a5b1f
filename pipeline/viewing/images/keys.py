"""Which keys a layer has: those of an OME-Zarr 0.4 image, and no other. What is no place in an array is no key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blockwise.grid import Box
from pipeline.viewing.images.layers import Layer

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
LEVEL, COMPRESSOR, SHUFFLE = 5, "lz4", 1
CODEC = {"id": "blosc", "cname": COMPRESSOR, "clevel": LEVEL, "shuffle": SHUFFLE, "blocksize": 0}
"""How chunks are compressed, as Zarr 2 says it."""

ASKED_OF_SCALES = (".zarray", ".zattrs")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Chunk:
    """A chunk of a layer.

    Attributes:
        scale: its number, 0 for the finest.
        box: of the finest scale that it stands for, in voxels of the layer.
        shape: of the voxels in the chunk that lie in the volume; the chunk itself is always whole.
        own_box: the same in voxels of its scale.
    """

    scale: int
    box: Box
    shape: tuple[int, ...]
    own_box: Box


def document(layer: Layer, key: str) -> bytes | None:
    """The content of a metadata key; None where the layer has none of this name."""
    found = _documents(layer, key)
    return None if found is None else json.dumps(found).encode()


def documents(layer: Layer) -> Iterator[tuple[str, bytes]]:
    """Metadata keys that a viewer asks for, and their content."""
    for key in (".zattrs", *(f"{number}/{name}" for number in range(len(layer.scales)) for name in ASKED_OF_SCALES)):
        found = document(layer, key)
        if found is not None:
            yield key, found


def _documents(layer: Layer, key: str) -> dict[str, Any] | None:
    if key == ".zgroup":
        return {"zarr_format": 2}
    if key == ".zattrs":
        return _image(layer)
    number, _, name = key.partition("/")
    if not _is_scale(layer, number):
        return None
    if name == ".zattrs":
        return {}  # viewers ask for it, and would report that it is not there
    return _array(layer, int(number)) if name == ".zarray" else None


def chunk_at(layer: Layer, key: str) -> Chunk | None:
    """The chunk that a key means; None where it decodes to no place in one of the layer's arrays.

    Args:
        layer: the layer.
        key: ``scale/i/j/k``, an index for each axis.
    """
    number, *index = key.split("/")
    if len(index) != len(layer.axes) or not _is_scale(layer, number) or not all(map(_NUMBER.fullmatch, index)):
        return None
    scale = layer.scales[int(number)]
    box, shape = [], []
    for i, c, f, n in zip(map(int, index), layer.chunks, scale.factors, layer.shape, strict=True):
        if i * c * f >= n:
            return None
        box.append(slice(i * c * f, min((i + 1) * c * f, n)))
        shape.append(-(-(box[-1].stop - box[-1].start) // f))
    own = tuple(slice(s.start // f, s.start // f + n) for s, f, n in zip(box, scale.factors, shape, strict=True))
    return Chunk(int(number), tuple(box), tuple(shape), own)


def _is_scale(layer: Layer, number: str) -> bool:
    return bool(_NUMBER.fullmatch(number)) and int(number) < len(layer.scales)


def _array(layer: Layer, number: int) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": list(layer.scales[number].shape(layer.shape)),
        "chunks": list(layer.chunks),
        "dtype": layer.dtype.str,
        "compressor": CODEC,
        "fill_value": 0,  # null is not understood by all viewers
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }


def _image(layer: Layer) -> dict[str, Any]:
    axes = [
        {"name": axis, "type": TYPES[axis]} | ({"unit": unit} if unit else {})
        for axis, unit in zip(layer.axes, layer.units, strict=True)
    ]
    datasets = [
        {"path": str(number), "coordinateTransformations": _transformations(layer, scale.factors)}
        for number, scale in enumerate(layer.scales)
    ]
    image = {"version": "0.4", "name": layer.name, "axes": axes, "datasets": datasets}
    return {"multiscales": [image], **_omero(layer)}


def _transformations(layer: Layer, factors: tuple[int, ...]) -> list[dict[str, Any]]:
    steps = [step * f for step, f in zip(layer.steps, factors, strict=True)]
    found: list[dict[str, Any]] = [{"type": "scale", "scale": steps}]
    if is_mean(layer) and max(factors) > 1:  # a mean lies in the middle of what it stands for
        middle = [step * (f - 1) / 2 for step, f in zip(layer.steps, factors, strict=True)]
        found.append({"type": "translation", "translation": middle})
    return found


def is_mean(layer: Layer) -> bool:
    """Whether a coarser voxel is the mean of those that it stands for; else the most frequent of their values."""
    return layer.kind in ("raw", "probabilities")


def _omero(layer: Layer) -> dict[str, Any]:
    """Names of the channels, for viewers that show them one at a time."""
    if layer.kind != "probabilities":
        return {}
    most = 1 if layer.dtype.kind == "f" else 255
    window = {"start": 0, "end": most, "min": 0, "max": most}
    channels = [{"label": name, "color": "FFFFFF", "active": True, "window": window} for name in layer.classes]
    return {"omero": {"channels": channels}}
