"""Pictures of the report, as text that a page can hold."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.alignment.features import LOOK_SCALE, Features
from tasks.alignment.pairs import overlay
from tasks.alignment.transforms import Floats

Line = tuple[str, NDArray[Any], NDArray[Any]]
"""Name, places and values."""
Panel = tuple[str, list[Line]]

CONTRAST = 2.5
"""Standard deviations from black to grey, and from grey to white."""
COLOURS = ("#1f5fa8", "#d9822b", "#6b8e23", "#7d4fa0")


BACKEND = "MPLBACKEND"


def _new_figure(width: float, height: float) -> Any:
    """A figure that needs no display; what a notebook hands on in ``BACKEND`` may not be there."""
    backend = os.environ.pop(BACKEND, None)
    try:
        from matplotlib.figure import Figure  # slow to load
    finally:
        if backend is not None:
            os.environ[BACKEND] = backend
    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(stream, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def line_picture(panels: Sequence[Panel], places: str) -> str:
    """Panels below each other with one axis of places."""
    figure = _new_figure(10, 2.1 * len(panels) + 0.4)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, lines) in zip(axes, panels, strict=True):
        for (name, x, y), colour in zip(lines, COLOURS * len(lines), strict=False):
            axis.plot(x, y, ".-", markersize=3, linewidth=0.8, color=colour, label=name or None)
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(alpha=0.3)
        if any(name for name, _, _ in lines):
            axis.legend(fontsize=8, ncols=len(lines), loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    axes[-1].set_xlabel(places)
    return _png(figure)


def _grey(look: NDArray[Any]) -> NDArray[np.float64]:
    return np.clip(0.5 + look.astype(np.float64) / (2 * CONTRAST * LOOK_SCALE), 0, 1)


def cut_picture(before: NDArray[Any], after: NDArray[Any], along: str) -> str:
    """Two cuts beside each other, slices downwards; few slices are drawn higher."""
    rows, columns = before.shape
    stretch = max(1.0, 0.35 * columns / rows)
    figure = _new_figure(10, min(9, 5 * rows * stretch / columns + 0.6))
    for axis, title, picture in zip(figure.subplots(1, 2), ("before", "after"), (before, after), strict=True):
        axis.imshow(_grey(picture), cmap="gray", vmin=0, vmax=1, aspect=stretch, interpolation="nearest")
        axis.set_title(f"{title} ({along} to the right, z down)", fontsize=10)
        axis.set_axis_off()
    return _png(figure)


def pair_picture(first: Features, second: Features, matrix: Floats) -> str:
    """Two slices on each other, the first in red and the second in cyan: what agrees is grey; and each by itself."""
    one, other = (_grey(look) for look in overlay(first, second, matrix))
    figure = _new_figure(10, 3.5)
    both = np.stack([one, other, other], -1)
    for axis, title, picture in zip(
        figure.subplots(1, 3), ("on each other", "first", "second"), (both, one, other), strict=True
    ):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    return _png(figure)
