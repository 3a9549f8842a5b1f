"""What a page shows while the viewer begins: one plane as a picture, of what is there. Nothing is computed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box
from blockwise.volume import DamagedDataError
from blockwise.volume_step import VolumeStep
from pipeline.viewing.images.layers import Layer
from pipeline.viewing.images.plane import Plane, drawn
from pipeline.viewing.images.scales import Scale
from pipeline.viewing.site import Site, blocks_below

PICTURE = "first.png"
"""Name of the picture, beside the page."""
MOST_BYTES = 1 << 26
"""That are decoded of a layer to draw it: a third of a second. Beyond it the viewer is as quick."""


def place(site: Site, state: Mapping[str, Any]) -> dict[str, Any]:
    """Where the picture lies in the page: its size in pixels, and whether one of four cross-sections has it.

    Args:
        site: what is shown.
        state: the viewer's first one.
    """
    plane, raw = Plane.of_state(state), site.layers["raw"]
    width, height = plane.size(raw, raw.scales[plane.scale(raw)])
    return {"width": round(width, 2), "height": round(height, 2), "isQuarter": state["layout"] == "4panel"}


async def picture(site: Site, state: Mapping[str, Any]) -> bytes:
    """The picture, as PNG: raw voxels, and the classes where all of them are there; empty where it would take long.

    Args:
        site: what is shown.
        state: the viewer's first one.
    """
    plane, raw = Plane.of_state(state), site.layers["raw"]
    voxels = await _voxels(site, raw, plane)
    if voxels is None or plane.limits is None:
        return b""
    layer = next((layer for layer in reversed(site.layers.values()) if layer.kind == "probabilities"), None)
    classes = None if layer is None else await _voxels(site, layer, plane)
    if layer is None or classes is None or classes.shape[-2:] != voxels.shape[-2:]:
        return drawn(voxels, plane.limits, None, ())
    colours = site.colours()
    chosen = [colours.get(name, (255, 255, 255)) for name in layer.classes]
    return drawn(voxels, plane.limits, classes if classes.ndim == 3 else classes[None], chosen)


async def _voxels(site: Site, layer: Layer, plane: Plane) -> NDArray[Any] | None:
    """A plane of a layer, (c,) y, x; None where it is not there, or too much would be read."""
    scale = layer.scales[plane.scale(layer)]
    own_box = plane.box(layer, scale)
    box = scale.finest(own_box, layer.shape)
    if layer.step is not None and not await _is_there(site, layer.step, layer.grid_box(box)):
        return None
    stored = scale.step
    if stored is not None and not await _is_there(site, stored, layer.grid_box(own_box)):
        stored = None
    try:
        found = await site.in_thread(_read, site, layer, scale, own_box, stored)
    except (DamagedDataError, UserError, OSError):  # the viewer says it
        return None
    return None if found is None else found[tuple(0 if axis in "tz" else slice(None) for axis in layer.axes)]


async def _is_there(site: Site, step: VolumeStep, box: Box) -> bool:
    return await site.missing(step, blocks_below(step, box)) is None


def _read(site: Site, layer: Layer, scale: Scale, own_box: Box, stored: VolumeStep | None) -> NDArray[Any] | None:
    if site.voxels.decoded_bytes(layer, scale, own_box, stored) > MOST_BYTES:
        return None
    return site.voxels.scaled(layer, scale, own_box, stored)
