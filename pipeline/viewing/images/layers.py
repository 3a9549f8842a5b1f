"""What of a run can be looked at: its volumes, each as one layer, whatever format they are stored in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box
from blockwise.identity import fingerprint
from blockwise.sources import RawSource
from blockwise.step import BlockStep
from blockwise.volume import Spacing, Volume, open_volume
from blockwise.volume.axes import unit_name
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import VolumeStep
from pipeline.assembly.geometry import describe_raw
from pipeline.assembly.stacks.placed import StackOnly
from pipeline.assembly.stacks.unaligned import StepsSoFar
from pipeline.viewing.images.scales import Scale, scales_of
from pipeline.viewing.images.slabs import DEPTH, decodes_too_much
from tasks.pyramid.scale_step import ScaleStep
from tasks.stacks.aligned_step import AlignedStep
from tasks.stacks.unmoved import UnmovedSlices
from tasks.stacks.view_step import AlignedViewStep

BEFORE_ALIGNMENT = "slices_before_alignment"
"""Name of the layer with the slices of which the raw volume was made."""
Kind = Literal["raw", "image", "probabilities", "classes", "mask", "labels"]
AXES = "tczyx"
UNITS_M = {
    "angstrom": 1e-10, "nanometer": 1e-9, "micrometer": 1e-6, "millimeter": 1e-3, "centimeter": 1e-2, "meter": 1.0,
}  # fmt: skip
"""Units of length that viewers know, in metres."""
SHOWN_AS = {"bool": "uint8", "float16": "float32", "float64": "float32", "int64": "float32"}
"""What viewers do not know, and as what they get it; of int64 and float64 24 binary digits are left."""


class Approximation(Protocol):
    """Makes coarser scales of a layer from those of another one, which has the same axes and perhaps channels.

    Attributes:
        source: the other layer.
    """

    @property
    def source(self) -> Layer:
        """See above."""

    def halo(self, scale: Scale) -> tuple[int, ...]:
        """Voxels of a scale around a box that are needed for it, per axis of the other layer."""

    def compute(self, data: NDArray[Any], box: Box, read_box: Box, scale: Scale) -> NDArray[Any]:
        """A box of a scale of this layer.

        Args:
            data: of the other layer, in ``read_box``.
            box: per axis of the other layer, in voxels of the scale.
            read_box: the same with ``halo``, as far as there are voxels.
            scale: of the other layer.
        """


@dataclass(frozen=True)
class Layer:
    """A volume as viewers see it.

    Attributes:
        name: in addresses; the dataset's name, or ``raw``.
        kind: what it holds.
        address: of the dataset.
        stored_axes: of the dataset, in its own order.
        stored_shape: in voxels, in this order.
        stored_dtype: name of the dataset's type.
        fingerprint: changes when the voxels may change.
        spacing: distance between voxels, in the order of ``stored_axes``; None where nothing says it.
        chunk: voxels of one chunk of the layer along z, y and x.
        step: that writes the dataset; None of what is given.
        classes: names of the channels, where these are classes, or of the classes.
        made: factors, per axis of the layer, and steps of the scales of its pyramid.
        coarse: makes the coarser scales; None where they are those of the finest one.
        volume: that has the voxels where no dataset has them; None where one has.
    """

    name: str
    kind: Kind
    address: str
    stored_axes: str
    stored_shape: tuple[int, ...]
    stored_dtype: str
    fingerprint: str
    spacing: Spacing | None
    chunk: tuple[int, ...]
    step: VolumeStep | None = None
    classes: tuple[str, ...] = ()
    made: tuple[tuple[tuple[int, ...], VolumeStep], ...] = ()
    coarse: Approximation | None = None
    volume: Volume | None = None

    @cached_property
    def axes(self) -> str:
        """Names of the layer's axes: those of the dataset, in the order tczyx."""
        return "".join(axis for axis in AXES if axis in self.stored_axes)

    @cached_property
    def spatial(self) -> str:
        """Those of z, y and x that there are."""
        return "".join(axis for axis in self.axes if axis in "zyx")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """In voxels, in the order of ``axes``."""
        return tuple(self.stored_shape[self.stored_axes.index(axis)] for axis in self.axes)

    @cached_property
    def chunks(self) -> tuple[int, ...]:
        """Voxels of a chunk: one time step, all channels."""
        spatial = dict(zip(self.spatial, self.chunk, strict=True))
        lengths = dict(zip(self.axes, self.shape, strict=True))
        return tuple({"t": 1, "c": lengths.get("c", 1), **spatial}[axis] for axis in self.axes)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel as viewers get it, little endian."""
        return np.dtype(SHOWN_AS.get(self.stored_dtype, self.stored_dtype)).newbyteorder("<")

    @property
    def itemsize(self) -> int:
        """Bytes of a voxel as it is stored."""
        return np.dtype(self.stored_dtype).itemsize

    @cached_property
    def steps(self) -> tuple[float, ...]:
        """Distance between voxels in the order of ``axes``; 1 where nothing is known."""
        return self._spacing.steps

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Units of these distances in the order of ``axes``; empty where one of space is not known to viewers."""
        spatial = [unit for axis, unit in zip(self.axes, self._spacing.units, strict=True) if axis in "zyx"]
        known = all(unit in UNITS_M for unit in spatial)
        return tuple(
            unit if axis in "zyx" and known else "" for axis, unit in zip(self.axes, self._spacing.units, strict=True)
        )

    @cached_property
    def _spacing(self) -> Spacing:
        if self.spacing is None:
            return Spacing((1.0,) * len(self.axes), ("",) * len(self.axes))
        found = self.spacing.along(self.stored_axes, self.axes)
        steps = tuple(step if axis in "zyx" else 1.0 for axis, step in zip(self.axes, found.steps, strict=True))
        return Spacing(steps, tuple(map(unit_name, found.units)))

    @cached_property
    def scales(self) -> tuple[Scale, ...]:
        """Its resolutions, the finest first."""
        if self.coarse is not None:
            return tuple(scale.along(self.coarse.source.axes, self.axes) for scale in self.coarse.source.scales)
        return scales_of(self.shape, self.axes, self.chunks, self.steps, self.made)

    def grid_box(self, box: Box) -> Box:
        """A box of the layer without channels: a box of the grid of its step."""
        return tuple(s for axis, s in zip(self.axes, box, strict=True) if axis != "c")

    def stored_box(self, box: Box) -> Box:
        """A box of the layer in the order of the dataset's axes."""
        return tuple(box[self.axes.index(axis)] for axis in self.stored_axes)

    @cached_property
    def from_stored(self) -> tuple[int, ...]:
        """Places of the layer's axes among those of the dataset."""
        return tuple(self.stored_axes.index(axis) for axis in self.axes)


def layers_of(steps: StepsSoFar) -> dict[str, Layer]:
    """The layers of a run by name, in the order in which they lie upon each other."""
    written = [step for step in steps.everything() if isinstance(step, VolumeStep) and step.gives in ORDER]
    classes: tuple[str, ...] = ()
    if isinstance(steps, StackOnly):
        described, cut = describe_raw(steps.settings.raw, None), written[0]
        info, spacing = described.info, described.spacing
    else:
        info, spacing, cut = steps.prediction.raw, steps.spacing, steps.prediction
        classes = steps.prediction.class_names
    raw = raw_layer(info, spacing, _raw_chunk(open_volume(info.address), info.axes, cut))
    slices = tuple(_slices_layers(steps, raw, cut))
    layers = (raw, *slices, *_written_layers(written, raw, classes))
    scales = [step for step in steps.everything() if isinstance(step, ScaleStep) and max(step.factors) > 1]
    return {layer.name: replace(layer, made=tuple(_made(layer, scales))) for layer in layers}


def _made(layer: Layer, scales: Sequence[ScaleStep]) -> Iterator[tuple[tuple[int, ...], VolumeStep]]:
    """Factors and steps of a layer's pyramid."""
    for step in scales:
        image = step.image
        if image.name == layer.name:
            factors = dict(zip(image.axes, image.factors[step.number], strict=True))
            yield tuple(factors.get(axis, 1) for axis in layer.axes), step


def raw_layer(info: VolumeInfo, spacing: Spacing | None, chunk: tuple[int, ...]) -> Layer:
    """The raw volume, with all its channels.

    Args:
        info: the volume.
        spacing: of it, in the order of its own axes.
        chunk: of the layer, along z, y and x.
    """
    axes = "".join(axis for axis in "tzyx" if axis in info.axes)
    identity = {"raw": RawSource(info, axes, watch_files=False).identity()}
    return Layer(
        name="raw",
        kind="raw",
        address=info.address,
        stored_axes=info.axes,
        stored_shape=info.shape,
        stored_dtype=np.dtype(info.dtype).name,
        fingerprint=fingerprint(identity),
        spacing=spacing,
        chunk=chunk,
    )


def _slices_layers(steps: StepsSoFar, raw: Layer, cut: VolumeStep) -> Iterator[Layer]:
    """Where the raw volume was made of slices: these, before they were aligned, on the same canvas."""
    for placed in steps.everything():
        if not isinstance(placed, AlignedStep | AlignedViewStep):
            continue
        volume = UnmovedSlices(placed, str(steps.settings.alignment.slices))
        yield replace(
            raw,
            name=BEFORE_ALIGNMENT,
            address=str(volume.address),
            stored_axes=volume.axes,
            stored_shape=volume.shape,
            stored_dtype=volume.dtype.name,
            fingerprint=fingerprint({"slices": volume.identity, "canvas": list(placed.canvas), "fill": placed.fill}),
            spacing=raw.spacing and raw.spacing.along(raw.stored_axes, volume.axes),
            chunk=_raw_chunk(volume, volume.axes, cut),
            volume=volume,
        )


def _written_layers(steps: Sequence[VolumeStep], raw: Layer, classes: tuple[str, ...]) -> Iterator[Layer]:
    for step in sorted(steps, key=lambda step: ORDER.index(step.gives)):
        if step.gives == "scale":  # a layer has its scales, and is none
            continue
        output = step.output()
        lengths = dict(zip(step.grid.axes, step.grid.shape, strict=True)) | {"c": output.channels}
        yield Layer(
            name=step.address.rpartition(":")[2].rpartition("/")[2],
            kind=KINDS[step.gives],
            address=step.address,
            stored_axes=output.axes,
            stored_shape=tuple(lengths[axis] for axis in output.axes),
            stored_dtype=output.dtype,
            fingerprint=step.fingerprint,
            spacing=raw.spacing and raw.spacing.along(raw.stored_axes, output.axes),
            chunk=_chunk(step),
            step=step,
            classes=tuple(output.extra.get("classes", classes)) if step.gives in ("probabilities", "classes") else (),
        )


KINDS: dict[str, Kind] = {
    "probabilities": "probabilities", "classes": "classes", "mask": "mask", "labels": "labels",
}  # fmt: skip
"""Of layers, by what datasets hold; in the order in which they lie upon each other."""
ORDER = tuple(KINDS)


def _raw_chunk(volume: Volume, axes: str, cut: VolumeStep) -> tuple[int, ...]:
    """Chunk of a given volume's layer: that of an output, but flatter where whole planes are decoded for a voxel."""
    chunk, spatial = _chunk(cut), cut.grid.axes.replace("t", "")
    lengths = dict(zip(spatial, chunk, strict=True))
    shape = tuple(lengths.get(axis, 1) for axis in axes)
    if "z" not in spatial or not decodes_too_much(volume, shape):
        return chunk
    return tuple(min(DEPTH, c) if axis == "z" else c for axis, c in zip(spatial, chunk, strict=True))


def _chunk(step: BlockStep) -> tuple[int, ...]:
    """Chunk of a layer along z, y and x: that of the outputs, but never longer than a block."""
    chunks = step.chunks if isinstance(step, VolumeStep) else step.grid.block_shape
    return tuple(c for axis, c in zip(step.grid.axes, chunks, strict=True) if axis != "t")
