"""Runs the real steps over blocks of arrays, without Luigi and without disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box, Grid
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import Holds, VolumeStep
from tasks.channels import RawChannels
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.labels_step import ConnectedComponentsStep
from tasks.components.merge_step import ComponentMergeStep
from tasks.objects.features.boxes_step import ObjectBoxes, ObjectBoxesStep
from tasks.objects.features.catalog import chosen_features
from tasks.objects.features.features_step import FeaturesStep
from tasks.objects.features.histograms_step import HistogramsStep
from tasks.objects.features.neighbourhood import Margin
from tasks.objects.features.ranges_step import ValueRanges, ValueRangesStep
from tasks.objects.measures_step import MeasuresStep
from tasks.objects.order import ComponentObjects
from tasks.objects.table_step import ObjectTableStep
from tasks.threshold import Like, ThresholdStep


class Array:
    """Has boxes to read, as a volume or a mask."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def read(self, box: Box) -> NDArray[Any]:
        return self.values[box]


class Memory:
    """What blocks have written, in memory."""

    address = "nowhere"

    def __init__(self) -> None:
        self.blocks: dict[int, Mapping[str, NDArray[Any]]] = {}

    def read(self, block: Block, name: str) -> NDArray[Any]:
        return self.blocks[block.id][name]

    def read_several(self, block: Block, names: tuple[str, ...]) -> Mapping[str, NDArray[Any]]:
        return {name: self.blocks[block.id][name] for name in names}


class InMemory:
    """A step that keeps what its blocks write in memory."""

    @cached_property
    def memory(self) -> Memory:
        return Memory()

    def output(self) -> Memory:
        return self.memory

    def run(self, prepared: Any) -> None:
        for block in self.grid:
            self.memory.blocks[block.id] = self.compute(block, prepared)


class FacesInMemory(InMemory, ComponentFacesStep):
    pass


class MeasuresInMemory(InMemory, MeasuresStep):
    pass


class FeaturesInMemory(InMemory, FeaturesStep):
    pass


class HistogramsInMemory(InMemory, HistogramsStep):
    pass


class RangesInMemory(ValueRangesStep):
    """Keeps what it has found in memory."""

    @cached_property
    def kept(self) -> list[ValueRanges]:
        return []

    def keep(self, ranges: ValueRanges) -> None:
        self.kept.append(ranges)

    def load(self) -> ValueRanges:
        return self.kept[0]


class Given(VolumeStep):
    """A dataset that is there, as the output of a step."""

    version: ClassVar[int] = 1
    dtype: str = "uint8"
    channels: int = 0

    def settings(self) -> Mapping[str, Any]:
        return {}

    def sources(self) -> tuple[Source, ...]:
        return ()

    def output(self) -> VolumeOutput:
        return VolumeOutput(self.address, self.grid, self.chunks, self.dtype, self.channels, {})

    def projected_memory(self) -> int:
        return 0

    def compute(self, block: Block, prepared: Any) -> Any:
        raise AssertionError("it is there")


class GivenMask(Given):
    name: ClassVar[str] = "given_mask"
    gives: ClassVar[Holds] = "mask"


class GivenProbabilities(Given):
    name: ClassVar[str] = "given_probabilities"
    gives: ClassVar[Holds] = "probabilities"


def given(kind: type[Given], grid: Grid, **more: Any) -> Given:
    return kind(work_dir="nowhere", grid=grid, address="nowhere.n5:given", chunks=grid.block_shape, **more)


def whole(step: VolumeStep, dtype: Any, prepared: Any) -> NDArray[Any]:
    """All blocks of a step, in one array."""
    found = np.zeros(step.grid.shape, dtype)
    for block in step.grid:
        found[block.write_box] = step.compute(block, prepared)
    return found


def blocked_threshold(
    probabilities: NDArray[Any],
    sigma: tuple[float, ...],
    threshold: float,
    grid: Grid,
    inside: NDArray[np.bool_] | None = None,
    core: float | None = None,
    core_probabilities: NDArray[Any] | None = None,
    like: Like = "skimage",
) -> NDArray[np.uint8]:
    channels = [probabilities] if core_probabilities is None else [probabilities, core_probabilities]
    step = ThresholdStep(
        work_dir="nowhere",
        grid=grid,
        probabilities=given(GivenProbabilities, grid, dtype=probabilities.dtype.name, channels=len(channels)),
        class_index=0,
        channel=0,
        core_class=None if core_probabilities is None else 1,
        core_channel=None if core_probabilities is None else 1,
        sigma=sigma,
        threshold=threshold,
        core=core,
        like=like,
        address="nowhere.n5:thresholded",
        chunks=grid.block_shape,
    )
    stored = np.stack(channels, axis=step.probabilities.output().axes.index("c"))
    return whole(step, np.uint8, (Array(stored), None if inside is None else Array(inside)))


def blocked_components(
    mask: NDArray[Any],
    foreground: int,
    connectivity: int,
    grid: Grid,
    min_size: int = 0,
    inside: NDArray[np.bool_] | None = None,
    max_size: int | None = None,
    has_core: bool = False,
    core_sizes: tuple[int, int | None] | None = None,
    cores_outside: bool = False,
    raw: Mapping[int, NDArray[Any]] | None = None,
    probabilities: Sequence[NDArray[Any]] = (),
    exclude_border: bool = False,
    step_um: tuple[float, ...] | None = None,
    features: Sequence[str] = (),
    margin: tuple[int, ...] | None = None,
    numbering: str = "continue",
) -> tuple[NDArray[np.uint64], dict[str, NDArray[Any]]]:
    """Labels, and the columns of the object table; ``raw`` and ``probabilities`` are images to be measured."""
    place = {"work_dir": "nowhere", "chunks": grid.block_shape}
    faces = FacesInMemory(
        work_dir="nowhere",
        grid=grid,
        thresholded=given(GivenMask, grid),
        foreground=foreground,
        connectivity=connectivity,
        cores=has_core,
        core_sizes=core_sizes is not None,
        cores_outside=cores_outside,
    )
    labelled = Array(mask), None if inside is None else Array(inside)
    faces.run(labelled)
    one_block = Grid(grid.axes, grid.shape, grid.shape, grid.roi)
    sizes = {} if core_sizes is None else {"core_min_size": core_sizes[0], "core_max_size": core_sizes[1]}
    merge = ComponentMergeStep(
        work_dir="nowhere",
        grid=one_block,
        faces=faces,
        min_size=min_size,
        max_size=max_size,
        exclude_border=exclude_border,
        numbering=numbering,
        **sizes,
    )
    found = merge.compute(one_block.block(0), None)
    final = ConnectedComponentsStep(**place, grid=grid, faces=faces, merge=merge, address="nowhere.n5:labels")
    labels = whole(final, np.uint64, (labelled, found["lookup"], found["offsets"]))
    fields = _raw(grid, raw or {})
    measures = _measures(final, labels, *fields, probabilities) if not features else None
    described = _features(merge, final, labels, inside, *fields, features, margin, found) if features else {}
    table = ObjectTableStep(
        work_dir="nowhere", grid=one_block, faces=faces, merge=merge, measures=measures, step_um=step_um, **described
    )
    return labels, all_columns(table, found)


def all_columns(table: ObjectTableStep, found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns of all objects, whose shards are put together; ``found`` is what the merge has written."""
    shards = list(table.columns(ComponentObjects.of(table.merge, found["lookup"], found["offsets"])))
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


def _raw(grid: Grid, raw: Mapping[int, NDArray[Any]]) -> tuple[RawChannels | None, Array | None]:
    """Channels as a volume."""
    if not raw:
        return None, None
    values = next(iter(raw.values()))
    shape = (max(raw) + 1, *values.shape)
    stored = np.zeros(shape, values.dtype)
    for channel, values in raw.items():
        stored[channel] = values
    info = VolumeInfo(address="nowhere", axes=f"c{grid.axes}", shape=shape, dtype=stored.dtype.str, chunks=shape)
    return RawChannels(info=info, channels=tuple(raw), axes=grid.axes), Array(stored)


def _measures(
    final: ConnectedComponentsStep,
    labels: NDArray[np.uint64],
    raw: RawChannels | None,
    channels: Array | None,
    probabilities: Sequence[NDArray[Any]],
) -> MeasuresStep | None:
    if raw is None and not probabilities:
        return None
    grid = final.grid
    images, fields = None, {}
    if probabilities:
        dtype = probabilities[0].dtype.name
        step = given(GivenProbabilities, grid, dtype=dtype, channels=len(probabilities))
        images = Array(np.stack(probabilities, axis=step.output().axes.index("c")))
        fields = {"probabilities": step, "classes": tuple(range(len(probabilities)))}
    measures = MeasuresInMemory(work_dir="nowhere", grid=grid, objects=final, raw=raw, **fields)
    measures.run((Array(labels), channels, images))
    return measures


def _features(
    merge: ComponentMergeStep,
    final: ConnectedComponentsStep,
    labels: NDArray[np.uint64],
    inside: NDArray[np.bool_] | None,
    raw: RawChannels,
    channels: Array,
    names: Sequence[str],
    margin: tuple[int, ...] | None,
    found: Mapping[str, NDArray[Any]],
) -> dict[str, Any]:
    """The steps of features, which have run; ``found`` is what the merge has written."""
    merged = ComponentObjects.of(merge, found["lookup"], found["offsets"])
    fields: dict[str, Any] = {"work_dir": "nowhere", "grid": final.grid, "objects": final, "raw": raw}
    boxes = None
    if margin is not None:
        fields["margin"] = margin
        if Margin(margin).boxes_matter:
            step = ObjectBoxesStep(work_dir="nowhere", grid=merge.grid, faces=merge.faces, merge=merge)
            fields["boxes"] = step
            boxes = ObjectBoxes(merged.order, step.boxes_of(merged))
    opened = Array(labels), channels, None if inside is None else Array(inside), boxes
    step = FeaturesInMemory(**fields, features=tuple(names))
    step.run(opened)
    described: dict[str, Any] = {"features": step, "chosen": tuple(names)}
    if any(feature.histogram for feature in chosen_features(names, len(raw.channels))):
        ranges = RangesInMemory(work_dir="nowhere", grid=merge.grid, features=step, merge=merge)
        ranges.keep(ranges.ranges_of(merged.order))
        described["histograms"] = HistogramsInMemory(**fields, ranges=ranges)
        described["histograms"].run((opened, ranges.load()))
    return described
