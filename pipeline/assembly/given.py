"""From a configuration to the step that takes probabilities which are given."""

from __future__ import annotations

from typing import Any

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.volume import Volume, open_volume
from blockwise.volume.info import VolumeInfo
from pipeline.assembly.classes import chosen_classes
from pipeline.configuration.settings import Settings
from tasks.given_prediction import GivenPredictionStep
from tasks.pixel_classification.project import Project

KEY = "prediction.probabilities"


def given_prediction(
    settings: Settings, address: str, project: Project, grid: Grid, common: dict[str, Any]
) -> GivenPredictionStep:
    """Make the step.

    Args:
        settings: the configuration.
        address: of the given probabilities.
        project: that names the classes, if it is one of pixels.
        grid: of the raw volume.
        common: fields of every step that predicts.

    Raises:
        UserError: the volume does not fit the raw volume or the project.
    """
    volume = open_volume(address)
    axes = volume.axes or (grid.axes if volume.shape == grid.shape else "")
    lengths = dict(zip(axes, volume.shape, strict=False))
    if len(axes) != len(volume.shape) or {a: lengths[a] for a in axes if a != "c"} != dict(
        zip(grid.axes, grid.shape, strict=True)
    ):
        raise UserError(
            f"{KEY} {address}: has the axes {axes or 'without names'}, shape {volume.shape}; the raw volume has "
            f"{grid.axes}, shape {grid.shape}. Expected the same and c, one class a channel"
        )
    if volume.dtype.kind not in "uif":
        raise UserError(f"{KEY} {address}: holds {volume.dtype}; expected floats or integers")
    count = lengths.get("c", 1)
    names = project.stages[-1].classes or tuple(f"Class {i + 1}" for i in range(count))
    is_binary = project.is_of_binary_images or project.is_of_label_images
    if is_binary and (count != 1 or (project.is_of_label_images and volume.dtype.kind == "f")):
        kind, what = (
            ("label", "integers and one channel") if project.is_of_label_images else ("binary", "one channel")
        )
        raise UserError(
            f"{KEY} {address}: holds {volume.dtype} in {count} channels, but project {project.path} is of objects of "
            f"{kind} images, which have {what}; give the image that is 0 outside of objects"
        )
    if len(names) != count:
        raise UserError(
            f"{KEY} {address}: has {count} channels, but project {project.path} has {len(names)} classes "
            f"({', '.join(names)}); give all of them, in the project's order"
        )
    info = VolumeInfo(address=address, axes=axes, shape=volume.shape, dtype=volume.dtype.str, chunks=volume.chunks)
    return GivenPredictionStep(
        **common,
        project_hash="",
        classes=chosen_classes(settings, names),
        class_names=names,
        engine="",
        feature_halo=(0, 0, 0),
        engine_memory=0,
        given=info,
        drange=None if is_binary else _drange(volume, address),
        is_binary=is_binary,
        is_labelled=project.is_of_label_images,
    )


def _drange(volume: Volume, address: str) -> tuple[float, float] | None:
    """What stands for 0 and 1, as ilastik's exports say it; None where the dataset does not."""
    found = volume.attributes.get("drange")
    if found is None:
        return None
    try:
        low, high = (float(value) for value in found)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high < float("inf"):
        raise UserError(
            f"{KEY} {address}: its attribute drange is {found!r}; expected two numbers, the lower one first"
        )
    return low, high
