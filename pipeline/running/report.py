"""The end of a run: a summary in words and one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.files import read_json, replacing, write_json
from blockwise.step import BlockStep
from blockwise.volume import open_volume
from pipeline.configuration.settings import Settings
from tasks.objects.table_step import ObjectTableStep
from tasks.threshold import CORE

Panel = tuple[str, NDArray[Any], dict[str, Any]]
"""Title, image, and options of ``imshow``."""

LARGEST_PICTURE = 1024
"""Longest side of a slice in the picture, in voxels; of larger slices the middle is shown."""


@dataclass(frozen=True)
class RunReport:
    """Summary and picture of a finished workflow.

    Attributes:
        workflow: its name.
        settings: the configuration.
        steps: the workflow's steps, in order.
    """

    workflow: str
    settings: Settings
    steps: tuple[BlockStep, ...]

    @property
    def path(self) -> Path:
        """The report's file; it says which results the picture shows."""
        return Path(self.settings.work_dir) / f"{self.workflow}.json"

    @property
    def picture(self) -> Path:
        """The picture's file."""
        return Path(self.settings.work_dir) / "overview.png"

    def is_current(self) -> bool:
        """Whether the report was made of the results as they are."""
        report = read_json(self.path)
        return report is not None and report["digests"] == self._digests() and self.picture.exists()

    def write(self) -> None:
        """Draw the picture, then write the report."""
        draw_overview(self.steps, self.picture)
        write_json(self.path, {"digests": self._digests(), "steps": self._targets()})

    def text(self) -> str:
        """The summary, for a terminal."""
        from tasks.objects.table import read_column  # slow to load: a run with nothing to do is over before

        lines = [f"{self.workflow} is finished."]
        grid = self.steps[0].grid
        voxels = grid.voxels
        size = " x ".join(str(s.stop - s.start) for s in grid.domain)
        lines.append(f"  volume   {size} ({grid.axes}), {voxels:,} voxels in {len(grid)} blocks")
        for table in self._tables():
            voxels_each = read_column(table.table("parquet"), "voxels").to_numpy()
            count, total, largest = len(voxels_each), voxels_each.sum(), voxels_each.max(initial=0)
            which = f" {table.variant}:" if table.variant else ""
            lines.append(f"  objects {which} {count:,}, {total:,} voxels in all, the largest {largest:,}")
        lines += [f"  {'step':<{self._width + 2}}  seconds   CPU seconds   per voxel   memory"]
        for name, target in self._targets().items():
            cpu = target["cpu_seconds"]
            lines.append(
                f"    {name:<{self._width}}{target['seconds']:9.1f}{cpu:14.1f}{1e9 * cpu / voxels:9.0f} ns"
                f"{target['peak_memory_mb']:6.0f} MB"
            )
        return "\n".join((*lines, self.places()))

    def places(self) -> str:
        """Where the results lie."""
        rows = [(step.label, step.output().address) for step in self.steps if hasattr(step, "address")]
        rows += [(_table_name(table), f"{table.table('csv')} and .parquet") for table in self._tables()]
        rows.append(("picture", str(self.picture)))
        return "\n".join(["  results", *(f"    {name:<{self._width}}{place}" for name, place in rows)])

    @property
    def _width(self) -> int:
        """Of the column with the steps' names."""
        return max(22, *(len(step.label) + 2 for step in self.steps))

    def _targets(self) -> dict[str, dict[str, Any]]:
        targets = {}
        for step in self.steps:
            target = step.read_target()
            if target is None:
                raise UserError(f"{step.label} is not finished; run the workflow first")
            targets[step.label] = target
        return targets

    def _digests(self) -> dict[str, str]:
        return {name: target["digest"] for name, target in self._targets().items()}

    def _tables(self) -> list[ObjectTableStep]:
        """The steps that have written object tables."""
        return [step for step in self.steps if isinstance(step, ObjectTableStep)]


def _table_name(table: ObjectTableStep) -> str:
    return f"objects_{table.variant}" if table.variant else "objects"


def draw_overview(steps: tuple[BlockStep, ...], path: Path) -> None:
    """Draw middle slices of raw volume and results, as far as there are steps, into one PNG; a row per threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _rows(steps)
    width = max(map(len, rows))
    figure = Figure(figsize=(4 * width, 4.4 * len(rows)), dpi=130, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for place, (title, image, options) in ((i * width + j, panel) for i, row in enumerate(rows)
                                           for j, panel in enumerate(row)):  # fmt: skip
        axis = figure.add_subplot(len(rows), width, place + 1)
        axis.imshow(image, interpolation="nearest", **options)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    with replacing(path) as temporary:
        canvas.print_figure(str(temporary), format="png")


def _rows(steps: tuple[BlockStep, ...]) -> list[list[Panel]]:
    """The panels of each threshold; one row without thresholds."""
    variants = list(dict.fromkeys(step.variant for step in steps if step.name == "threshold")) or [""]
    shared = [step for step in steps if step.name in ("prediction", "simple_segmentation")]
    return [
        _panels({step.name: step for step in (*shared, *(s for s in steps if s.variant == variant))})
        for variant in variants
    ]


def _panels(by_name: dict[str, Any]) -> list[Panel]:
    prediction, threshold = by_name["prediction"], by_name.get("threshold")
    panels: list[Panel] = [("raw", _middle_of_raw(prediction), {"cmap": "gray"})]
    shown = threshold.class_index if threshold else prediction.classes[-1]
    channel = prediction.classes.index(shown)
    probability = _middle(prediction, channel).astype(np.float32)
    top = 255 if prediction.dtype == "uint8" else 1
    title = f"probability of {prediction.class_names[shown]!r}"
    panels.append((title, probability, {"cmap": "magma", "vmin": 0, "vmax": top}))
    if threshold:
        name = f"{threshold.variant}: " if threshold.variant else ""
        levels = f"> {threshold.threshold:g}" + ("" if threshold.core is None else f", core > {threshold.core:g}")
        if threshold.core_class is not None:
            levels += f" of {prediction.class_names[threshold.core_class]!r}"
        options = {"cmap": "gray", "vmin": 0, "vmax": 1 if threshold.core is None else CORE}
        title = f"{name}mask (sigma {threshold.sigma[-1]:g}, {levels})"
        panels.append((title, _middle(threshold), options))
    for name, title in (("simple_segmentation", "most probable class"), ("connected_components", "objects")):
        if labels := by_name.get(name):
            panels.append((title, _colours(_middle(labels)), {}))
    return panels


def _middle_of_raw(prediction: Any) -> NDArray[Any]:
    info = prediction.raw
    box = dict(zip(prediction.grid.axes, _middle_box(prediction), strict=True))
    channel = prediction.channels[0]
    data = open_volume(info.address).read(
        tuple(slice(channel, channel + 1) if axis == "c" else box[axis] for axis in info.axes)
    )
    order = [info.axes.index(axis) for axis in "tczyx" if axis in info.axes]
    return data.transpose(order).reshape(data.shape[info.axes.index("y")], data.shape[info.axes.index("x")])


def _middle(step: Any, channel: int | None = None) -> NDArray[Any]:
    data = open_volume(step.address).read(step.output().box(_middle_box(step), channel))
    return data.reshape(data.shape[-2:])


def _middle_box(step: BlockStep) -> tuple[slice, ...]:
    box = []
    for axis, s in zip(step.grid.axes, step.grid.domain, strict=True):
        length = min(LARGEST_PICTURE, s.stop - s.start) if axis in "yx" else 1
        start = s.start + (s.stop - s.start - length) // 2
        box.append(slice(start, start + length))
    return tuple(box)


def _colours(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """A colour for each label that does not depend on the others; black for 0."""
    hashed = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    channels = [((hashed >> np.uint64(shift)) & np.uint64(0xBF)) + np.uint64(0x40) for shift in (24, 36, 48)]
    colours = np.stack(channels, axis=-1).astype(np.uint8)
    colours[labels == 0] = 0
    return colours
