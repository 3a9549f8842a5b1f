"""Colours of classes, as the ilastik project has them."""

from __future__ import annotations

import colorsys

import h5py
import numpy as np

from blockwise.errors import UserError
from pipeline.assembly.stacks.placed import StackOnly
from pipeline.assembly.stacks.unaligned import StepsSoFar
from tasks.project_file import ProjectFile

Colour = tuple[int, int, int]
"""Red, green, blue, from 0 to 255."""


PIXELS = "PixelClassification"
OBJECTS = "ObjectClassification"
"""Groups of a project that have classes."""


def class_colours(project: str, number: int, stage: int = 0, group: str = PIXELS) -> tuple[Colour, ...]:
    """A colour for each class of a project; where it has none, one that is not much like the others.

    Args:
        project: path of the ``.ilp`` file.
        number: of classes.
        stage: of autocontext, from 0.
        group: whose classes.
    """
    found = _of_project(project, f"{group}{f'{stage:02}' * (stage > 0)}")
    return tuple(found[i] if i < len(found) else other_colour(i) for i in range(number))


def colours_of_run(steps: StepsSoFar) -> dict[str, Colour]:
    """Colours of the classes of a run by name; of classes of pixels and of objects with one name, that of pixels."""
    found: dict[str, Colour] = {}
    if isinstance(steps, StackOnly):
        return found
    for objects in steps.objects:
        if (classified := objects.object_classification) is not None:
            names = classified.class_names
            found |= zip(names, class_colours(classified.project, len(names), group=OBJECTS), strict=True)
    for number, stage in enumerate(steps.stages):
        names = stage.class_names
        found |= zip(names, class_colours(stage.project, len(names), number), strict=True)
    return found


def other_colour(i: int) -> Colour:
    """The colour of a class without one: hues in steps of the golden section, so that any few of them differ."""
    red, green, blue = colorsys.hsv_to_rgb(i * 0.618034 % 1.0, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def as_hex(colour: Colour) -> str:
    """The colour as web pages name it.

    >>> as_hex((255, 0, 128))
    '#ff0080'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _of_project(project: str, group: str) -> list[Colour]:
    """Colours that the file holds. They decide about no result: where they cannot be read there are others."""
    try:
        with h5py.File(ProjectFile.at(project).here, "r", locking=False) as file:
            dataset = file.get(f"{group}/LabelColors")
            values = np.asarray(dataset[()]) if isinstance(dataset, h5py.Dataset) else np.empty((0, 3))
    except (OSError, RuntimeError, ValueError, UserError):
        return []
    if values.ndim != 2 or values.shape[1] != 3 or values.dtype.kind not in "iuf":
        return []
    return [(int(r), int(g), int(b)) for r, g, b in np.clip(values, 0, 255)]
