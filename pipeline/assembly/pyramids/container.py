"""Where the pyramids of a configuration lie: container, layout, groups in it, shards."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.volume import Address
from blockwise.volume.address import N5_SUFFIXES, PRECOMPUTED, PRECOMPUTED_SUFFIX
from blockwise.volume.containers.metadata import written_dtype
from blockwise.volume.containers.precomputed_scale import DTYPES, shard_shape
from blockwise.volume.creation import check_writable
from pipeline.configuration.settings import Settings
from tasks.prediction import PredictionStep
from tasks.pyramid.layouts import Layout

GROUP = "pyramid"
"""Group of the output in which the pyramids lie, where they have no container of their own."""

RAW = "raw"
"""Name of the raw volume among the datasets."""


@dataclass(frozen=True)
class PyramidContainer:
    """A container of pyramids.

    Attributes:
        address: of the container.
        layout: as its ending tells.
        root: group in it in which they lie; empty for none.
        chunks: of all scales, per axis of the grid, in voxels.
        shards: likewise; None for one chunk a file. Those of precomputed volumes follow from each scale's blocks.
    """

    address: Address
    layout: Layout
    root: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None

    def place(self, names: tuple[str, ...], scale: str = "") -> str:
        """Address of a group, or of a scale in it, by the names of the groups down to it."""
        if self.layout == "precomputed":  # a volume of its own, with all scales
            volume = "/".join((f"{PRECOMPUTED}{self.address.location}", *names))
            return str(Address(volume, scale, self.address.options))
        return str(self.address.within("/".join(filter(None, (self.root, *names, scale)))))

    def shards_of(self, grid: Grid) -> tuple[int, ...] | None:
        """Shards of a scale, of which its blocks consist; in a precomputed volume as large as they allow."""
        if self.layout == "precomputed":
            return shard_shape(grid.shape, self.chunks, grid.block_shape)
        return self.shards

    def can_link(self, source: Address, shards: tuple[int, ...] | None) -> bool:
        """Whether a dataset of ours can stand among the scales as it is."""
        if source.is_remote or self.address.is_remote or self.layout == "precomputed":
            return False
        is_n5 = source.suffix in N5_SUFFIXES
        return is_n5 == (self.layout == "n5") and bool(shards) == bool(self.shards)


def pyramid_container(settings: Settings, prediction: PredictionStep) -> PyramidContainer:
    """The container of a configuration's pyramids.

    Raises:
        UserError: it cannot be written, others write or read it, or it cannot hold what is there.
    """
    address = Address(settings.pyramid.output or settings.output, "")
    check_writable(address, is_scale=True)
    _check_place(settings, prediction)
    is_n5, is_precomputed = address.suffix in N5_SUFFIXES, address.suffix == PRECOMPUTED_SUFFIX
    layout: Layout = "precomputed" if is_precomputed else "n5" if is_n5 else "ome-zarr"
    if layout == "precomputed":
        _check_precomputed(settings, prediction)
    shards = _shards(settings, prediction, layout)
    return PyramidContainer(address, layout, "" if settings.pyramid.output else GROUP, prediction.chunks, shards)


def _check_place(settings: Settings, prediction: PredictionStep) -> None:
    """Refuse a container that others write, or that is read: datasets are called alike there."""
    own = settings.pyramid.output
    taken = {"output": settings.output, "raw": prediction.raw.address}
    if prediction.mask is not None:
        taken["blocks.mask"] = prediction.mask.address
    for key, address in taken.items():
        if own and _location(own) == _location(address):
            raise UserError(
                f"pyramid.output {own}: this is the container of {key}; choose one of its own, or leave it out, so "
                f"that the scales go into the group {GROUP!r} of output"
            )


def _location(address: str) -> str:
    parsed = Address.parse(address)
    return parsed.location if parsed.is_remote else os.path.realpath(parsed.location)


def _check_precomputed(settings: Settings, prediction: PredictionStep) -> None:
    """Refuse what a precomputed volume cannot hold."""
    axes, dtype = prediction.grid.axes, np.dtype(prediction.raw.dtype)
    if axes != "zyx":
        raise UserError(
            f"pyramid.output {settings.pyramid.output}: precomputed volumes have the axes z, y, x, this has {axes}; "
            "let it end in .n5 or .zarr"
        )
    if RAW in settings.pyramid.datasets and written_dtype(dtype).name not in DTYPES:
        raise UserError(
            f"pyramid.datasets: raw holds {dtype.name}, a precomputed volume one of {', '.join(DTYPES)}; leave raw "
            "out, or let pyramid.output end in .n5 or .zarr"
        )


def _shards(settings: Settings, prediction: PredictionStep, layout: Layout) -> tuple[int, ...] | None:
    """Shards of the pyramids' own container, or those of the output."""
    own = settings.pyramid.shards
    if own is None:
        return prediction.shards if layout == "ome-zarr" else None
    if layout != "ome-zarr":
        which = "precomputed has its own" if layout == "precomputed" else "N5 has none"
        raise UserError(
            f"pyramid.shards: {list(own)}, but only Zarr takes shards that are set, {which}; leave it out"
        )
    if not settings.pyramid.output:
        raise UserError("pyramid.shards: is for a pyramid.output of its own; else blocks.shards counts")
    shards = (1,) * (len(prediction.chunks) - len(own)) + own
    for name, whole, part_name, part in (
        ("blocks.shape", prediction.grid.block_shape, "pyramid.shards", shards),
        ("pyramid.shards", shards, "chunks", prediction.chunks),
    ):
        if len(whole) != len(part) or any(w % p for w, p in zip(whole, part, strict=True)):
            raise UserError(
                f"{name}: {list(whole)} is not a multiple of {part_name} {list(part)}; blocks consist of whole "
                "shards, and shards of whole chunks"
            )
    return shards
