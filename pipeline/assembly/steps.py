"""From a configuration to steps: everything that can be wrong is found here, before any work."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.mask import Mask
from blockwise.step import BlockStep
from blockwise.volume import Address, Spacing
from blockwise.volume.creation import check_writable
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import VolumeStep
from pipeline.assembly.checks import check_memory, check_not_in_place
from pipeline.assembly.classes import chosen_classes
from pipeline.assembly.geometry import (
    RawDescription,
    describe_raw,
    make_grid,
    one_block,
    output_dataset,
    output_storage,
)
from pipeline.assembly.known import NOTHING, Known, load_known
from pipeline.assembly.masking import mask_and_grid
from pipeline.assembly.objects.classification import as_begun
from pipeline.assembly.objects.steps import ObjectSteps, object_steps
from pipeline.assembly.pyramids.container import RAW
from pipeline.assembly.pyramids.scales import FoundScale, found_scales
from pipeline.assembly.pyramids.steps import Dataset, Pyramids
from pipeline.assembly.stages import prediction_steps
from pipeline.configuration.settings import Settings
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.project import Project
from tasks.pixel_classification.training import open_project
from tasks.prediction import PredictionStep
from tasks.pyramid.group_step import PyramidStep
from tasks.simple_segmentation import SimpleSegmentationStep


@dataclass(frozen=True)
class Steps:
    """The steps of a configuration.

    Attributes:
        prediction: the step that all others read; of autocontext the last stage.
        objects: from probabilities to objects, for each threshold.
        simple_segmentation: the most probable class; None where classes are left out of the probabilities.
        axes_from: who says what the raw volume's axes are, for people.
        settings: the configuration.
        spacing: how far the raw volume's voxels lie apart; None where it does not say so.
        whole: one block is all of the volume, which then gets no coarser scales.
        before: of autocontext the stage before it.
        stack: the steps that make the raw volume of slices, each after those that it reads; none where it is given.
    """

    prediction: PredictionStep
    objects: tuple[ObjectSteps, ...]
    simple_segmentation: SimpleSegmentationStep | None
    axes_from: str
    settings: Settings
    spacing: Spacing | None
    whole: bool
    before: tuple[PredictionStep, ...] = ()
    stack: tuple[BlockStep, ...] = ()

    @property
    def stages(self) -> tuple[PredictionStep, ...]:
        """The steps that predict, each after the one that it reads."""
        return (*self.before, self.prediction)

    def all(self) -> tuple[BlockStep, ...]:
        """All steps from the raw volume, or its slices, to objects, each after those that it reads."""
        return (*self.stack, *self.stages, *(step for objects in self.objects for step in objects.all()))

    @cached_property
    def pyramids(self) -> tuple[BlockStep, ...]:
        """The steps of coarser scales, as many as the configuration says, or would say with ``auto``.

        Raises:
            UserError: a setting does not fit.
        """
        if self.whole:
            return ()
        return Pyramids(self.settings, self.prediction, self._datasets(), self.spacing).steps()

    def scales(self) -> dict[str, tuple[FoundScale, ...]]:
        """The scales of each dataset, the finest first: where they lie or will lie, and which are finished.

        Datasets are called as in the output, the raw volume ``raw``; those without coarser scales have one.
        """
        made = [dataset.step for dataset in self._datasets() if dataset.step is not None]
        return found_scales(self.prediction.raw, made, self._pyramids_wanted_or_begun())

    def _datasets(self) -> list[Dataset]:
        """What may get coarser scales: the raw volume and what steps write, images before labels."""
        steps = [
            step
            for step in (*self.all()[len(self.stack) :], self.simple_segmentation)
            if isinstance(step, VolumeStep)
        ]
        found = [Dataset(RAW, None, is_label=False), *map(Dataset.of, steps)]
        return sorted(found, key=lambda dataset: dataset.is_label)

    def _are_pyramids_wanted(self) -> bool:
        return self.settings.pyramid.scales is not None and not self.whole

    def _pyramids_wanted_or_begun(self) -> tuple[BlockStep, ...]:
        """Those that a run makes, or was once asked for."""
        if self._are_pyramids_wanted():
            return self.pyramids
        return tuple(step for step in self.pyramids if step.work.holds(step.label))

    def needed(self) -> tuple[BlockStep, ...]:
        """What a run of any workflow computes; coarser scales only where the configuration says so."""
        simple = () if self.simple_segmentation is None else (self.simple_segmentation,)
        return (*self.all(), *simple, *(self.pyramids if self._are_pyramids_wanted() else ()))

    def everything(self) -> tuple[BlockStep, ...]:
        """The steps of all workflows, each after those that it reads."""
        simple = () if self.simple_segmentation is None else (self.simple_segmentation,)
        return (*self.all(), *simple, *self.pyramids)

    def begun(self) -> tuple[BlockStep, ...]:
        """All steps to objects, and those beside them that a run is or was once asked for: they have a folder."""
        simple = self.simple_segmentation
        others = (simple,) if simple is not None and simple.work.holds(simple.label) else ()
        return (*self.all(), *others, *self._pyramids_wanted_or_begun())

    def run_to(self, name: str) -> tuple[BlockStep, ...]:
        """The steps of the workflow that ends with the steps of this name, with the coarser scales of its datasets.

        Raises:
            UserError: the configuration has no such step.
        """
        if name == PyramidStep.name:
            chain = self.all()
            if SimpleSegmentationStep.name in self.settings.pyramid.datasets:
                chain += self.up_to(SimpleSegmentationStep.name)[-1:]
        else:
            chain = self.up_to(name)
        return self._with_scales(chain)

    def usual(self) -> tuple[BlockStep, ...]:
        """All steps from the raw volume to objects, and coarser scales of their datasets, if these are wanted."""
        return self._with_scales(self.all())

    def _with_scales(self, chain: tuple[BlockStep, ...]) -> tuple[BlockStep, ...]:
        """Steps, and those of coarser scales that read nothing but them."""
        if not self._are_pyramids_wanted():
            return chain
        known = {RAW, *(step.label for step in chain)}
        for step in self.pyramids:
            if all(source.label in known for source in step.sources()):
                chain += (step,)
                known.add(step.label)
        return chain

    def up_to(self, name: str) -> tuple[BlockStep, ...]:
        """The steps that a workflow needs which ends with the steps of this name, so far as there are any.

        Raises:
            UserError: the configuration has no such step.
        """
        if name == SimpleSegmentationStep.name:
            if self.simple_segmentation is None:
                raise UserError(
                    f"prediction.classes: {list(self.prediction.classes)} leaves out classes, and one of these may "
                    "be the most probable; a simple segmentation needs prediction.classes: all"
                )
            return (*self.stack, *self.stages, self.simple_segmentation)
        if name == PredictionStep.name:
            return (*self.stack, *self.stages)
        order = (*(step.name for step in (*self.stack, *self.stages)), *ObjectSteps.names())
        return tuple(step for step in self.all() if order.index(step.name) <= order.index(name))


def build_steps(settings: Settings, *, whole: bool = False, known: Known | None = None) -> Steps:
    """Make the steps of a configuration.

    Args:
        settings: the configuration.
        spacing: how far the raw volume's voxels lie apart; None where it does not say so.
        whole: one block for all of the volume (for each time step), whatever the configuration says.
        known: what earlier results are known by; by default what the work folder tells.

    Raises:
        UserError: an input is missing, a value does not fit it, or a worker would need too much memory.
    """
    project = open_the_project(settings)
    settings = as_begun(settings)
    stack: tuple[BlockStep, ...] = ()
    made_by = None
    if settings.takes_aligned:
        from pipeline.assembly.stacks.placed import finished_stack  # loads all that is known of slices

        made = finished_stack(settings)
        stack = made.all()
        made_by = made.placed.aligned if isinstance(made.placed.aligned, VolumeStep) else None
        if settings.blocks.mask is None:
            blocks = settings.blocks.model_copy(update={"mask": made.placed.tissue.address})
            settings = settings.model_copy(update={"blocks": blocks})
    raw = describe_raw(settings.raw, project)
    known = load_known(settings.work_dir) if known is None else known
    if whole:
        known = known.anywhere()
    raw = replace(raw, info=known.volume(raw.info))
    steps = make_steps(settings, project, raw, whole=whole, known=known, made_by=made_by)
    steps = replace(steps, stack=stack)
    check_memory(steps.needed(), settings.backend)
    check_not_in_place(steps.needed()[len(stack) :], steps.prediction)
    return steps


def open_the_project(settings: Settings) -> Project:
    """The project of a configuration, whose results can be written.

    Raises:
        UserError: none is named, it cannot be read, or the output's format is none that is written.
    """
    check_writable(Address(settings.output, "probabilities"))
    if not settings.prediction.project:
        raise UserError("prediction.project: this key is needed; without it there is AlignmentWorkflow only")
    return open_project(settings.prediction.project)


def make_steps(
    settings: Settings,
    project: Project,
    raw: RawDescription,
    *,
    whole: bool,
    known: Known = NOTHING,
    made_by: VolumeStep | None = None,
) -> Steps:
    """Make the steps of a configuration whose inputs are open already; of these only the mask is looked at.

    They say what there is to compute; whether it can be computed here, ``build_steps`` asks.

    Args:
        settings: the configuration.
        project: that it names.
        raw: the raw volume that it names.
        whole: see ``build_steps``.
        known: what earlier results are known by.
        made_by: the step that makes the raw volume; None where it is given.

    Raises:
        UserError: a value does not fit an input.
    """
    info = raw.info
    if whole:
        settings = settings.model_copy(update={"blocks": one_block(settings.blocks, info)})
    mask, grid = mask_and_grid(settings, make_grid(settings, info))

    def fields(stage: Project, grid: Grid, mask: Mask | None) -> dict[str, Any]:
        return {**_prediction_fields(settings, info, project, stage, grid, mask, known), "made_by": made_by}

    *before, prediction = prediction_steps(settings, info, project, known.grid(grid), mask, fields)
    objects = tuple(object_steps(settings, threshold, prediction, raw.spacing) for threshold in settings.threshold)
    simple = _simple_segmentation_step(settings, prediction)
    return Steps(prediction, objects, simple, raw.axes_from, settings, raw.spacing, whole, tuple(before))


def _simple_segmentation_step(settings: Settings, prediction: PredictionStep) -> SimpleSegmentationStep | None:
    if prediction.classes != tuple(range(len(prediction.class_names))):
        return None
    return SimpleSegmentationStep(
        work_dir=settings.work_dir,
        change_detection=settings.change_detection,
        grid=prediction.grid,
        mask=prediction.mask,
        probabilities=prediction,
        classes=prediction.class_names,
        address=output_dataset(settings, "simple_segmentation"),
        chunks=prediction.chunks,
        shards=prediction.shards,
    )


def _prediction_fields(
    settings: Settings,
    info: VolumeInfo,
    project: Project,
    stage: Project,
    grid: Grid,
    mask: Mask | None,
    known: Known,
) -> dict[str, Any]:
    """Fields of the step that predicts with one stage of a project."""
    known_classes = known.classes(stage)
    prediction = settings.prediction
    if prediction.probabilities is not None:
        return _common_fields(settings, info, _chosen_channels(settings, info), grid, mask)
    channels = _channels(settings, info, project)
    _check_axes(settings, info, project, grid)
    engine = make_engine(prediction.engine, stage, structure_tensor=prediction.structure_tensor)
    sizes = dict(zip(grid.axes, grid.shape, strict=True))
    try:
        engine.check_shape((sizes.get("z", 1), sizes["y"], sizes["x"]))
    except UserError as error:
        raise UserError(f"raw {info.address}: {error}") from None
    blocks = dict(zip(grid.axes, grid.block_shape, strict=True))
    block = (blocks.get("z", 1), blocks["y"], blocks["x"])
    halo = engine.halo if "z" in grid.axes else (0, *engine.halo[1:])
    read = tuple(min(b + 2 * h, sizes.get(a, 1)) for a, b, h in zip("zyx", block, halo, strict=True))
    return dict(
        **_common_fields(settings, info, channels, grid, mask),
        project_hash=(stage.with_classes(known_classes) if known_classes else stage).content_hash,
        known_classes=known_classes,
        classes=chosen_classes(settings, project.stages[-1].classes),
        class_names=project.stages[-1].classes,
        engine=prediction.engine,
        feature_halo=halo,
        engine_memory=engine.fixed_memory + int(engine.bytes_per_voxel * math.prod(read)),
        engine_versions=engine.versions,
    )


def _common_fields(
    settings: Settings, info: VolumeInfo, channels: tuple[int, ...], grid: Grid, mask: Mask | None
) -> dict[str, Any]:
    """Fields of every step that gives probabilities."""
    return dict(
        work_dir=settings.work_dir,
        change_detection=settings.change_detection,
        grid=grid,
        mask=mask,
        raw=info,
        channels=channels,
        project=settings.prediction.project,
        dtype=settings.prediction.dtype,
        structure_tensor=settings.prediction.structure_tensor,
        seed=settings.prediction.seed,
        address=output_dataset(settings, "probabilities"),
        **output_storage(settings, grid),
    )


def _check_axes(settings: Settings, info: VolumeInfo, project: Project, grid: Grid) -> None:
    expected = project.axes.replace("t", "").replace("c", "")
    found = grid.axes.replace("t", "")
    lengths = dict(zip(grid.axes, grid.shape, strict=True))
    image = project.lanes[-1]
    # As in ilastik, an axis of length 1 is as good as none.
    same = len([a for a in expected if image.length(a) != 1]) == len([a for a in found if lengths[a] != 1])
    if len(expected) != len(found) and not same:
        raise UserError(
            f"raw {info.address}: {len(found)} spatial axes ({info.axes}, shape {info.shape}), but project "
            f"{settings.prediction.project} was made for {len(expected)} ({project.axes}); use data with the same "
            "axes as the project's images, or set raw.axes if they are named wrongly"
        )


def _chosen_channels(settings: Settings, info: VolumeInfo) -> tuple[int, ...]:
    available = info.shape[info.axes.index("c")] if "c" in info.axes else 1
    chosen = settings.raw.channel
    channels = tuple(range(available)) if chosen is None else (chosen,) if isinstance(chosen, int) else chosen
    if not channels or not all(0 <= c < available for c in channels):
        raise UserError(f"raw.channel: {chosen}, but {info.address} has channels 0 to {available - 1}")
    return channels


def _channels(settings: Settings, info: VolumeInfo, project: Project) -> tuple[int, ...]:
    channels = _chosen_channels(settings, info)
    if len(channels) != project.n_channels:
        raise UserError(
            f"raw {info.address}: {len(channels)} channels ({info.axes}, shape {info.shape}), but project "
            f"{settings.prediction.project} was made for {project.n_channels}; choose with raw.channel, or check "
            "raw.axes"
        )
    return channels


def default_config() -> str:
    """The configuration that ``luigi.cfg`` names for ``ConnectedComponentsWorkflow``; empty where it names none."""
    import luigi

    return str(luigi.configuration.get_config().get("ConnectedComponentsWorkflow", "config", ""))
