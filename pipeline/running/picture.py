"""The picture at the end of a run: middle slices of the raw volume and of the results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.step import BlockStep
from blockwise.volume import open_volume
from tasks.prediction import PredictionStep
from tasks.threshold import CORE

Panel = tuple[str, NDArray[Any], dict[str, Any]]
"""Title, image, and options of ``imshow``."""

LARGEST_PICTURE = 1024
"""Longest side of a slice in the picture, in voxels; of larger slices the middle is shown."""

LABELLED = {
    "simple_segmentation": "most probable class",
    "connected_components": "objects",
    "split_objects": "objects, cut where they touch",
    "object_classes": "classes of objects",
}
"""Titles of what has a colour for each label, by step."""

BACKEND = "MPLBACKEND"


def draw_overview(steps: tuple[BlockStep, ...], path: Path) -> None:
    """Draw middle slices of raw volume and results, as far as there are steps, into one PNG; a row per threshold.

    Raises:
        Exception: whatever matplotlib, or the files of a volume that is looked at, come up with.
    """
    with _without_backend():
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to load
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
    canvas.print_figure(str(path), format="png")


@contextlib.contextmanager
def _without_backend() -> Iterator[None]:
    """Hide MPLBACKEND, which a notebook hands on to what it starts: matplotlib is not loaded where it does not fit.

    The picture is made by a canvas of its own, whatever backend there is.
    """
    backend = os.environ.pop(BACKEND, None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ[BACKEND] = backend


def _rows(steps: tuple[BlockStep, ...]) -> list[list[Panel]]:
    """The panels of each threshold; one row without thresholds."""
    variants = list(dict.fromkeys(step.variant for step in steps if step.name == "threshold")) or [""]
    shared = [step for step in steps if step.name == "simple_segmentation"]
    prediction = [step for step in steps if isinstance(step, PredictionStep)][-1]
    return [
        _panels(prediction, {step.name: step for step in (*shared, *(s for s in steps if s.variant == variant))})
        for variant in variants
    ]


def _panels(prediction: PredictionStep, by_name: dict[str, Any]) -> list[Panel]:
    threshold = by_name.get("threshold")
    panels: list[Panel] = [("raw", _middle_of_raw(prediction), {"cmap": "gray"})]
    shown = threshold.class_index if threshold else prediction.classes[-1]
    channel = prediction.classes.index(shown)
    probability = _middle(prediction, channel).astype(np.float32)
    top = 255 if prediction.dtype == "uint8" else 1
    title = f"probability of {prediction.class_names[shown]!r}"
    panels.append((title, probability, {"cmap": "magma", "vmin": 0, "vmax": top}))
    if threshold:
        name = f"{threshold.variant}: " if threshold.variant else ""
        sign = ">" if threshold.like == "skimage" else ">="
        levels = f"{sign} {threshold.threshold:g}"
        if threshold.core is not None:
            levels += f", core {sign} {threshold.core:g}"
        if threshold.core_class is not None:
            levels += f" of {prediction.class_names[threshold.core_class]!r}"
        options = {"cmap": "gray", "vmin": 0, "vmax": 1 if threshold.core is None else CORE}
        title = f"{name}mask (sigma {threshold.sigma[-1]:g}, {levels})"
        panels.append((title, _middle(threshold), options))
    for name, title in LABELLED.items():
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
