"""Chunks of layers as viewers get them: of which dataset each is made, and whether that is there."""

from __future__ import annotations

import functools

from blockwise.grid import Box, grow
from blockwise.volume_step import VolumeStep
from pipeline.viewing.chunk_cache import Content
from pipeline.viewing.images.keys import Chunk
from pipeline.viewing.images.layers import Approximation, Layer
from pipeline.viewing.images.scales import Scale
from pipeline.viewing.images.voxels import along
from pipeline.viewing.refusals import NotFinishedError
from pipeline.viewing.site import Site, blocks_below, is_left_out


async def read_chunk(site: Site, layer: Layer, key: str, chunk: Chunk, known: str = "") -> Content:
    """The content of a chunk.

    Args:
        site: that has the layer.
        layer: the layer.
        key: of the chunk.
        chunk: what it means.
        known: tag of what whoever asks has already; that has no data.

    Raises:
        RefusedError: it is not there.
    """
    if chunk.scale and layer.coarse is not None:
        return await _approximated(site, layer, layer.coarse, key, chunk, known)
    stored = await _stored(site, layer, layer.scales[chunk.scale], chunk.own_box)
    step, box = (layer.step, chunk.box) if stored is None else (stored, chunk.own_box)
    if stored is None:
        await site.make_ready(layer, chunk.box, is_finest=not chunk.scale)
    tag = await site.in_thread(site.tag, layer, step, box)
    if tag == known:
        return Content(b"", tag)
    name = (layer.name, layer.fingerprint, key)
    is_empty = stored is None and is_left_out(layer, chunk.box)
    work = functools.partial(site.voxels.chunk, layer, chunk, stored=stored, is_empty=is_empty)
    return await site.cache.made(name, tag, lambda: site.read(layer, chunk.box, work, is_finest=not chunk.scale))


async def _approximated(site: Site, layer: Layer, by: Approximation, key: str, chunk: Chunk, known: str) -> Content:
    """As ``read_chunk``, of a coarser scale that is made of another layer's, of which nothing is computed."""
    source, scale = by.source, by.source.scales[chunk.scale]
    whole = tuple(slice(0, n) for n in scale.shape(source.shape))
    box = along(layer.axes, chunk.own_box, source.axes, whole)
    read_box = grow(box, by.halo(scale), whole)
    stored = await _stored(site, source, scale, read_box)
    if stored is None:
        await site.make_ready(source, scale.finest(read_box, source.shape), is_finest=False)
    below = read_box if stored else scale.finest(read_box, source.shape)
    tag = await site.in_thread(site.tag, source, stored or source.step, below)
    name = (layer.name, layer.fingerprint, key)
    if tag == known:
        return Content(b"", tag)
    work = functools.partial(site.voxels.approximated, layer, by, chunk, read_box, stored)
    finest = scale.finest(read_box, source.shape)
    return await site.cache.made(name, tag, lambda: site.read(source, finest, work, is_finest=False))


async def _stored(site: Site, layer: Layer, scale: Scale, own_box: Box) -> VolumeStep | None:
    """The step of the pyramid in whose dataset a box of a scale lies; None where it is made of the finest scale.

    Raises:
        NotFinishedError: it is not made, and that would cost too much.
    """
    if scale.step is None:
        return None
    blocks = blocks_below(scale.step, layer.grid_box(own_box))
    if await site.is_finished(scale.step) and await site.missing(scale.step, blocks) is None:
        return scale.step
    if not scale.is_small(layer.chunks):
        raise NotFinishedError(scale.step.label, "it is not finished; run the workflow")
    return None
