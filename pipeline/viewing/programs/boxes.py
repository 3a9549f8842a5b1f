"""Boxes as people and programs write them, checked against a layer."""

from __future__ import annotations

import re
from collections.abc import Callable

from blockwise.grid import Box, box_shape, box_size
from pipeline.viewing.images.layers import Layer
from pipeline.viewing.refusals import RefusedError

MOST_BYTES = 1 << 29
"""Of the voxels of one answer, as they are stored."""

_NUMBER = re.compile(r"-?[0-9]{1,12}")
_PART = re.compile(r"(-?[0-9]{1,12}):(-?[0-9]{1,12})")


def box_of(layer: Layer, start: str | None, stop: str | None, channel: str | None = None) -> Box:
    """A box from its corners.

    Args:
        layer: the layer.
        start: numbers along the layer's axes without channels, ``0,0,0``; None for the volume's beginning.
        stop: likewise, exclusive; None for the volume's end.
        channel: number of one, from 0; None for all.

    Raises:
        RefusedError: 400: there is no such channel; the corners are no such numbers, lie outside, or the wrong way
            round; 413: it is too large.
    """
    axes = without_channels(layer)
    shape = [n for axis, n in zip(layer.axes, layer.shape, strict=True) if axis != "c"]
    first = [0] * len(axes) if start is None else _numbers(start, "start", axes, shape)
    last = shape if stop is None else _numbers(stop, "stop", axes, shape)
    for axis, low, high, n in zip(axes, first, last, shape, strict=True):
        if not 0 <= low < high <= n:
            what = "is the wrong way round" if 0 <= high <= low <= n else "lies outside"
            raise _bad(
                f"the box from {first} to {last} {what} along {axis}: [{low}, {high}) of [0, {n})", axes, shape
            )
    parts = dict(zip(axes, map(slice, first, last), strict=True))
    channels = _channels(layer, channel)
    box = tuple(parts.get(axis, channels) for axis in layer.axes)
    _check_size(layer, box)
    return box


def parse_roi(text: str, default: str, layer_of: Callable[[str], Layer]) -> tuple[Layer, Box]:
    """A layer and a box in it from ``LAYER:z0:z1,y0:y1,x0:x1``; without a box all of it.

    Args:
        text: as above; where the name of the layer is left out, ``default`` is meant.
        default: name of a layer.
        layer_of: gives a layer by its name.

    Raises:
        RefusedError: see ``box_of``; or there is no such layer.
    """
    head, _, tail = text.partition(":")
    if not head or _NUMBER.fullmatch(head):
        head, tail = default, text.lstrip(":")
    layer = layer_of(head)
    if not tail:
        return layer, box_of(layer, None, None)
    parts = [_PART.fullmatch(part.strip()) for part in tail.split(",")]
    if not all(parts):
        raise RefusedError(
            400, f"{text!r}: expected LAYER:{','.join(f'{a}0:{a}1' for a in without_channels(layer))}, whole numbers"
        )
    corners = [(part[1], part[2]) for part in parts if part]
    return layer, box_of(layer, ",".join(low for low, _ in corners), ",".join(high for _, high in corners))


def without_channels(layer: Layer) -> str:
    """Axes along which boxes are given."""
    return layer.axes.replace("c", "")


def _channels(layer: Layer, channel: str | None) -> slice:
    number = dict(zip(layer.axes, layer.shape, strict=True)).get("c", 0)
    if channel is None:
        return slice(0, number)
    if not re.fullmatch("[0-9]{1,9}", channel) or int(channel) >= number:
        has = f"has the channels 0 to {number - 1}" if number else "has no channels"
        raise RefusedError(400, f"channel={channel[:40]}: layer {layer.name} {has}")
    return slice(int(channel), int(channel) + 1)


def _numbers(text: str, name: str, axes: str, shape: list[int]) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != len(axes) or not all(map(_NUMBER.fullmatch, parts)):
        raise _bad(f"{name}={text[:100]}: expected {len(axes)} whole numbers, {name}={','.join(axes)}", axes, shape)
    return list(map(int, parts))


def _bad(error: str, axes: str, shape: list[int]) -> RefusedError:
    return RefusedError(400, f"{error}; the volume's shape ({axes}) is {shape}", axes=axes, shape=shape)


def _check_size(layer: Layer, box: Box) -> None:
    size = box_size(box) * layer.itemsize
    if size > MOST_BYTES:
        channels = dict(zip(layer.axes, box_shape(box), strict=True)).get("c", 1)
        voxels = MOST_BYTES // layer.itemsize // channels
        raise RefusedError(
            413,
            f"the box has {size:,} bytes, at most {MOST_BYTES:,} ({voxels:,} voxels) at once: ask for parts",
            bytes=size,
            limit=MOST_BYTES,
        )
