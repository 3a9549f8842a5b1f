"""From the settings of pyramids to their steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockwise.grid import Grid, Region
from blockwise.step import BlockStep
from blockwise.volume import Address, Spacing
from blockwise.volume_step import VolumeStep
from pipeline.assembly.pyramids.container import pyramid_container
from pipeline.configuration.settings import Settings
from tasks.prediction import PredictionStep
from tasks.pyramid.group_step import LabelsStep, PyramidStep
from tasks.pyramid.layouts import Image, scale_name
from tasks.pyramid.scale_step import ScaleStep
from tasks.pyramid.scales import Scale, coarser_grid, coarser_scales


@dataclass(frozen=True)
class Dataset:
    """Something that gets coarser scales.

    Attributes:
        name: as the dataset in the output is called; ``raw``.
        step: that makes it; None of the raw volume.
        is_label: its values are numbers of objects or classes.
    """

    name: str
    step: VolumeStep | None
    is_label: bool

    @classmethod
    def of(cls, step: VolumeStep) -> Dataset:
        """What a step makes."""
        return cls(Address.parse(step.address).key.rpartition("/")[2], step, step.gives != "probabilities")

    @property
    def kind(self) -> str:
        """Name of the dataset without that of its threshold, as the configuration has it."""
        variant = "" if self.step is None else self.step.variant
        return self.name.removesuffix(f"_{variant}") if variant else self.name


class Pyramids:
    """Makes the pyramids of a configuration.

    Args:
        settings: the configuration.
        prediction: its first step.
        datasets: what may get coarser scales, images before labels.
        spacing: how far the raw volume's voxels lie apart; None where it does not say so.

    Raises:
        UserError: a setting does not fit.
    """

    def __init__(
        self, settings: Settings, prediction: PredictionStep, datasets: Sequence[Dataset], spacing: Spacing | None
    ) -> None:
        self._settings = settings
        self._prediction = prediction
        self._datasets = [each for each in datasets if each.kind in settings.pyramid.datasets]
        self._container = pyramid_container(settings, prediction)
        self._layout = self._container.layout
        self._spacing = _usable(spacing, prediction.raw.axes)

    def steps(self) -> tuple[BlockStep, ...]:
        """All steps, each after those that it reads."""
        found: list[BlockStep] = []
        groups: list[PyramidStep] = []
        for dataset in self._datasets:
            scales = self._scales(dataset)
            groups.append(self._group(dataset, scales))
            found += [*scales, groups[-1]]
        labels = [group for group in groups if group.image.is_label]
        if self._layout == "ome-zarr" and labels:
            found.append(self._labels(labels))
        return tuple(found)

    def _scales(self, dataset: Dataset) -> tuple[ScaleStep, ...]:
        """The steps of a dataset's scales; the first one copies the finest scale, unless that is linked."""
        found: list[ScaleStep] = []
        before, grid = dataset.step, self._prediction.grid.within(Region())
        if dataset.step is not None:
            grid = dataset.step.grid
        ones = (1,) * len(grid.axes)
        copied = [] if self._link(dataset) else [Scale(grid.shape, ones, ones)]
        described = self._image(dataset)
        for scale in (*copied, *self._plan(grid.axes, grid.shape)):
            number = len(found) + (not copied)
            grid = coarser_grid(grid, scale.step)
            found.append(
                ScaleStep(
                    **self._common(f"{number}_{dataset.name}"),
                    grid=grid,
                    before=before,
                    raw=self._prediction.raw if before is None else None,
                    factors=scale.step,
                    method="mode" if dataset.is_label else "mean",
                    number=number,
                    group_layout=self._layout,
                    image=described,
                    chunks_of_all_channels=bool(copied),
                    address=self._address(dataset, scale_name(self._layout, number)),
                    chunks=self._container.chunks,
                    shards=self._container.shards_of(grid),
                )
            )
            before = found[-1]
        return tuple(found)

    def _group(self, dataset: Dataset, scales: tuple[ScaleStep, ...]) -> PyramidStep:
        link = self._link(dataset)
        first = (dataset.step,) if link and dataset.step is not None else ()
        grid = (dataset.step or scales[0]).grid if (dataset.step or scales) else self._prediction.grid
        return PyramidStep(
            **self._common(dataset.name),
            grid=_one_block(grid),
            address=self._address(dataset),
            scales=(*first, *scales),
            group_layout=self._layout,
            image=self._image(dataset),
            link=link,
        )

    def _labels(self, groups: list[PyramidStep]) -> LabelsStep:
        grid = groups[0].grid
        address = Address.parse(groups[0].address)
        return LabelsStep(
            **self._common(""),
            grid=grid,
            address=str(address.within(address.key.rpartition("/")[0])),
            pyramids=tuple(groups),
            names=tuple(group.image.name for group in groups),
        )

    def _common(self, variant: str) -> dict[str, Any]:
        settings = self._settings
        return {"work_dir": settings.work_dir, "change_detection": settings.change_detection, "variant": variant}

    def _plan(self, axes: str, shape: tuple[int, ...]) -> tuple[Scale, ...]:
        number = self._settings.pyramid.scales
        spacing = self._spacing.along(self._prediction.raw.axes, axes)
        return coarser_scales(shape, axes, spacing.steps, number if isinstance(number, int) else None)

    def _image(self, dataset: Dataset) -> Image:
        grid = self._prediction.grid
        axes = self._axes(dataset)
        spacing = self._spacing.along(self._prediction.raw.axes, axes)
        ones = (1,) * len(grid.axes)
        factors = [ones, *(scale.factors for scale in self._plan(grid.axes, grid.shape))]
        return Image(
            name=dataset.name,
            axes=axes,
            steps=spacing.steps,
            units=spacing.units,
            factors=tuple(along(grid.axes, each, axes) for each in factors),
            method="mode" if dataset.is_label else "mean",
            is_label=dataset.is_label,
            of="../../" if dataset.is_label and self._holder else "",
        )

    def _axes(self, dataset: Dataset) -> str:
        if dataset.step is not None:
            return dataset.step.output().axes
        return "".join(axis for axis in "tczyx" if axis in self._prediction.raw.axes)

    @property
    def _holder(self) -> str:
        """Name of the image that labels belong to, as OME-Zarr has it; empty for none."""
        images = [each.name for each in self._datasets if not each.is_label]
        return images[0] if images and self._layout == "ome-zarr" else ""

    def _address(self, dataset: Dataset, scale: str = "") -> str:
        """Of a dataset's group, or of a scale in it."""
        between = (self._holder, "labels") if dataset.is_label and self._layout == "ome-zarr" else ()
        return self._container.place((*filter(None, between), dataset.name), scale)

    def _link(self, dataset: Dataset) -> str:
        """Address of the finest scale, where it can stand in the group as it is; else empty."""
        if self._settings.pyramid.copy_finest:
            return ""
        if dataset.step is not None:
            address = dataset.step.address
            return address if self._container.can_link(Address.parse(address), dataset.step.shards) else ""
        raw = self._prediction.raw
        is_alike = self._layout == "n5" and raw.axes == self._axes(dataset)
        return raw.address if is_alike and self._container.can_link(Address.parse(raw.address), None) else ""


def _one_block(grid: Grid) -> Grid:
    """One block over all that a grid computes, whatever a mask leaves of it."""
    known = None if grid.known is None else Region(grid.known.roi)
    return Grid(grid.axes, grid.shape, grid.shape, grid.roi, known=known)


def along(axes: str, values: tuple[int, ...], wanted: str) -> tuple[int, ...]:
    """Values of some axes in the order of others; 1 where there is none."""
    named = dict(zip(axes, values, strict=True))
    return tuple(named.get(axis, 1) for axis in wanted)


def _usable(spacing: Spacing | None, axes: str) -> Spacing:
    """Distances between voxels with these axes; 1 without units where nothing is said, or in several units."""
    ones = Spacing((1.0,) * len(axes), ("",) * len(axes))
    if spacing is None or len(spacing.steps) != len(axes):
        return ones
    spatial = [(s, u) for axis, s, u in zip(axes, spacing.steps, spacing.units, strict=True) if axis in "zyx"]
    is_usable = len({unit for _, unit in spatial}) == 1 and all(0 < step < float("inf") for step, _ in spatial)
    return spacing if is_usable else ones
