"""Thresholds that are tried on a site: their masks as layers, objects of what is visible, what is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, box_shape
from blockwise.identity import digest
from blockwise.mask import open_mask
from pipeline.configuration.paths import expand_path
from pipeline.viewing.images.layers import Layer
from pipeline.viewing.images.voxels import InMemory
from pipeline.viewing.live.coarse import CoarseMask
from pipeline.viewing.live.configuration import with_thresholds, write_beside
from pipeline.viewing.live.objects import provisional_objects, visible_box
from pipeline.viewing.live.stores import Stores, Trial, remove_store
from pipeline.viewing.live.values import as_written, tried, values_of
from pipeline.viewing.refusals import RefusedError
from pipeline.viewing.site import Site

MOST_VOXELS = 1 << 24
"""In which objects are looked for at once."""
MOST_IN_MEMORY = 4
"""Volumes of objects that are kept."""
IN_MEMORY = "in memory:"


@dataclass(frozen=True)
class Objects:
    """Objects of a box, or those of the whole volume.

    Attributes:
        layer: that shows them.
        box: what was looked at, per axis of the grid; None for the objects that the run has made.
        number: of objects in the box.
    """

    layer: Layer
    box: Box | None = None
    number: int = 0


def stores_of(site: Site) -> Stores:
    """Where thresholds are tried.

    Raises:
        RefusedError: 409: nothing is computed here.
    """
    if site.stores is None or site.demand is None:
        raise RefusedError(409, "nothing can be tried here: it needs one volume, and a server that computes blocks")
    return site.stores


def trial_of(site: Site, name: str, values: Mapping[str, Any]) -> Trial:
    """What is tried with these values of a threshold.

    Raises:
        RefusedError: a value is not right, or does not fit.
    """
    stores = stores_of(site)
    try:
        return stores.trial(tried(stores.settings, name, values))
    except UserError as error:
        raise RefusedError(400, str(error)) from error


async def mask_layer(site: Site, trial: Trial) -> Layer:
    """The layer of a trial's mask; its chunks are computed when they are asked for."""
    base = _layer_of(site, trial.threshold.name or "", "mask")
    step = trial.step
    if trial.folder is None:
        return base
    key = (base.name, step.fingerprint)
    if key not in site.beside:
        source = next(layer for layer in site.layers.values() if layer.fingerprint == step.probabilities.fingerprint)
        site.beside[key] = replace(
            base,
            address=step.address,
            fingerprint=step.fingerprint,
            step=step,
            made=(),
            coarse=CoarseMask(source, step),
        )
        for gone in stores_of(site).surplus():
            site.beside.pop((base.name, gone.step.fingerprint), None)
            await site.in_thread(remove_store, gone)
    return site.beside[key]


async def objects_in(site: Site, trial: Trial, seen: Box) -> Objects:
    """Objects of what is visible; where the run has made those of the whole volume with these values, these.

    Args:
        site: the site.
        trial: whose objects.
        seen: what is visible, per axis of the grid, in voxels; may reach beyond the volume.

    Raises:
        RefusedError: the mask is not to be had.
    """
    final, mask = _layer_of(site, trial.threshold.name or "", "labels"), await mask_layer(site, trial)
    if trial.folder is None and await site.is_finished(trial.objects.connected_components):
        return Objects(final)
    grid = trial.step.grid
    box = visible_box(grid.shape, seen, grid.block_shape, MOST_VOXELS)
    box = tuple(slice(max(s.start, d.start), min(s.stop, d.stop)) for s, d in zip(box, grid.domain, strict=True))
    if not all(s.start < s.stop for s in box):
        raise RefusedError(400, "nothing of what is visible is computed: it lies outside blocks.roi")
    values = await site.box(mask, box)
    labels = await site.in_thread(_label, trial, values, box)
    name = digest(f"{trial.objects.component_faces.fingerprint} {box}")[:12]
    layer = replace(final, address=IN_MEMORY + name, fingerprint=name, step=None, stored_dtype="uint32")
    _keep(site, layer, InMemory(box, labels))
    return Objects(layer, box, int(labels.max(initial=0)))


def write_configuration(stores: Stores, trial: Trial) -> Path:
    """Write a trial's values into a configuration file beside the first one.

    Raises:
        UserError: it cannot be read or written, or the values stand elsewhere.
    """
    if not stores.config:
        raise UserError(
            f"the threshold of this image stands in its own row; write {values_of(trial.threshold)} there"
        )
    thresholds = [
        as_written(trial.threshold if one.name == trial.threshold.name else one) for one in stores.settings.threshold
    ]
    try:
        text = Path(expand_path(stores.config)).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"configuration {stores.config}: cannot be read: {error.strerror or error}") from error
    return write_beside(stores.config, with_thresholds(text, thresholds))


def _label(trial: Trial, mask: NDArray[Any], box: Box) -> NDArray[np.uint32]:
    faces, merge = trial.objects.component_faces, trial.objects.component_merge
    grid, shape = faces.grid, tuple(box_shape(box)[i] for i in faces.spatial)
    reader = open_mask(faces.mask, grid)
    goes_on = tuple((box[i].start > grid.domain[i].start, box[i].stop < grid.domain[i].stop) for i in faces.spatial)
    return provisional_objects(
        mask.reshape(shape),
        faces.foreground,
        faces.connectivity,
        None if reader is None else reader.read(box).reshape(shape),
        goes_on,
        (merge.min_size, merge.max_size),
        cores=faces.cores,
    ).reshape(box_shape(box))


def _keep(site: Site, layer: Layer, volume: InMemory) -> None:
    site.voxels.in_memory[layer.address] = volume
    site.beside[layer.name, layer.fingerprint] = layer
    in_memory = [key for key, one in site.beside.items() if one.address.startswith(IN_MEMORY)]
    for key in in_memory[:-MOST_IN_MEMORY]:
        site.voxels.in_memory.pop(site.beside.pop(key).address, None)


def _layer_of(site: Site, variant: str, kind: str) -> Layer:
    """The run's layer of a kind, of the threshold of this name."""
    return next(
        layer
        for layer in site.layers.values()
        if layer.kind == kind and layer.step is not None and layer.step.variant == variant
        and layer.step.name != "cores"
    )  # fmt: skip
