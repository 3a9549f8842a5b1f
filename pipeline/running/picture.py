"""The picture at the end of a run: middle slices of the raw volume and of the results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blockwise.step import BlockStep
from blockwise.volume import open_volume
from tasks.prediction import PredictionStep
from tasks.threshold import CORE

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

Panel = tuple[str, NDArray[np.uint8]]
"""Title, and image: grey (y, x) or colours (y, x, 3)."""

LARGEST_PICTURE = 1024
"""Longest side of a slice in the picture, in voxels; of larger slices the middle is shown."""

LABELLED = {
    "simple_segmentation": "most probable class",
    "connected_components": "objects",
    "split_objects": "objects, cut where they touch",
    "object_classes": "classes of objects",
}
"""Titles of what has a colour for each label, by step."""

SIDE, MARGIN, TITLE, LINE = 500, 10, 44, 18
"""In pixels: the room for a panel's image, what is left free around it, the room for its title, a line of that."""
WIDTH, HEIGHT = SIDE + 2 * MARGIN, SIDE + 2 * MARGIN + TITLE

MAGMA = np.frombuffer(
    bytes.fromhex(
        "000004 090720 1a1042 311165 4a1079 621980 792282 912b81 aa337d"
        "c23b75 d9466b ec5860 f7725c fc8e64 feaa74 fec68a fde2a3 fcfdbf"
    ),
    np.uint8,
).reshape(-1, 3)
"""18 colours of matplotlib's map magma (S. van der Walt, N. Smith; CC0), (18, 3); between them colours are linear."""


def draw_overview(steps: tuple[BlockStep, ...], path: Path) -> None:
    """Draw middle slices of raw volume and results, as far as there are steps, into one PNG; a row per threshold.

    Raises:
        Exception: whatever Pillow, or the files of a volume that is looked at, come up with.
    """
    from PIL import Image  # only the ends of runs draw; matplotlib would take a second of CPU to load

    rows, font = _rows(steps), _font()
    picture = Image.new("RGB", (WIDTH * max(map(len, rows)), HEIGHT * len(rows)), "white")
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            picture.paste(_drawn(panel, font), (column * WIDTH, row * HEIGHT))
    picture.save(path, format="png")


def _drawn(panel: Panel, font: Font) -> Image.Image:
    """An image below its title; voxels are repeated or left out, never mixed."""
    from PIL import Image, ImageDraw

    title, pixels = panel
    drawn = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(drawn)
    for i, line in enumerate(_lines(title, font)):
        draw.text((WIDTH // 2, MARGIN + i * LINE), line, fill="black", font=font, anchor="ma")
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    left, top = (WIDTH - width) // 2, HEIGHT - MARGIN - (SIDE + height) // 2
    drawn.paste(image.resize((width, height), Image.Resampling.NEAREST), (left, top))
    return drawn


def _font() -> Font:
    """That of matplotlib's files, which has more letters than Pillow's; matplotlib itself is not loaded for it."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), 14)
    return ImageFont.load_default()


def _lines(title: str, font: Font) -> list[str]:
    """A title, broken between words into at most two lines that fit into the width of a panel."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(lines) < 2 and font.getlength(longer) > SIDE:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


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
    panels: list[Panel] = [("raw", _grey(_middle_of_raw(prediction)))]
    shown = threshold.class_index if threshold else prediction.classes[-1]
    channel = prediction.classes.index(shown)
    probability = _middle(prediction, channel).astype(np.float32)
    top = 255 if prediction.dtype == "uint8" else 1
    title = f"probability of {prediction.class_names[shown]!r}"
    panels.append((title, _heat(probability, top)))
    if threshold:
        name = f"{threshold.variant}: " if threshold.variant else ""
        sign = ">" if threshold.like == "skimage" else ">="
        levels = f"{sign} {threshold.threshold:g}"
        if threshold.core is not None:
            levels += f", core {sign} {threshold.core:g}"
        if threshold.core_class is not None:
            levels += f" of {prediction.class_names[threshold.core_class]!r}"
        title = f"{name}mask (sigma {threshold.sigma[-1]:g}, {levels})"
        panels.append((title, _grey(_middle(threshold), 0, 1 if threshold.core is None else CORE)))
    for name, title in LABELLED.items():
        if labels := by_name.get(name):
            panels.append((title, _colours(_middle(labels))))
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


def _share(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Where values lie between two limits, 0 to 1; what is not a number becomes 0."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values are limits
        share = (values.astype(np.float64) - low) / ((high - low) or 1)
    return np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)


def _grey(values: NDArray[Any], low: float | None = None, high: float | None = None) -> NDArray[np.uint8]:
    """Grey between two limits, which are the extremes of what is finite where none are given."""
    finite = values[np.isfinite(values)]
    low = float(finite.min(initial=finite.max(initial=0))) if low is None else low
    high = float(finite.max(initial=low)) if high is None else high
    return np.rint(255 * _share(values, low, high)).astype(np.uint8)


def _heat(values: NDArray[Any], high: float) -> NDArray[np.uint8]:
    """Colours from black through red to light yellow, for 0 to a limit."""
    at = _share(values, 0, high) * (len(MAGMA) - 1)
    found = [np.interp(at, np.arange(len(MAGMA)), MAGMA[:, channel]) for channel in range(3)]
    return np.rint(np.stack(found, axis=-1)).astype(np.uint8)


def _colours(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """A colour for each label that does not depend on the others; black for 0."""
    hashed = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    channels = [((hashed >> np.uint64(shift)) & np.uint64(0xBF)) + np.uint64(0x40) for shift in (24, 36, 48)]
    colours = np.stack(channels, axis=-1).astype(np.uint8)
    colours[labels == 0] = 0
    return colours
