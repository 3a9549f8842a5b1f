"""From a configuration to the steps that predict: one, or two for a project of autocontext."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from blockwise.errors import UserError
from blockwise.grid import Grid, Region, grow
from blockwise.mask import Mask
from blockwise.volume.info import VolumeInfo
from pipeline.assembly.geometry import output_dataset
from pipeline.assembly.given import given_prediction
from pipeline.assembly.masking import mask_and_grid
from pipeline.configuration.settings import Settings
from tasks.pixel_classification.project import Project
from tasks.prediction import PredictionStep

STAGE_1 = "probabilities_stage_1"
"""Dataset of the first of two stages."""

Fields = Callable[[Project, Grid, Mask | None], dict[str, Any]]
"""Gives the fields of a step that predicts with a stage of a project."""


def prediction_steps(
    settings: Settings, info: VolumeInfo, project: Project, grid: Grid, mask: Mask | None, fields: Fields
) -> tuple[PredictionStep, ...]:
    """Make the steps of all stages, each after the one that it reads.

    Raises:
        UserError: a value does not fit the project, or the raw volume has a type in which no stage can be written.
    """
    if settings.prediction.probabilities is not None:
        address, common = settings.prediction.probabilities, fields(project, grid, mask)
        return (given_prediction(settings, address, project, grid, common),)
    if not project.features:
        raise UserError(
            f"project {project.path}: classifies objects of {_given(project)} that are given, not pixels; name these "
            "with prediction.probabilities (for one volume; a batch has none), or a project of pixel classification "
            "with prediction.project"
        )
    if project.then is None:
        if settings.prediction.export_stage_1:
            raise UserError(
                f"prediction.export_stage_1: is set, but project {settings.prediction.project} has one stage only; "
                "leave it out, or name a project of autocontext"
            )
        return (PredictionStep(**fields(project, grid, mask)),)
    from tasks.context_prediction import ContextPredictionStep, check_converts

    check_converts(info.dtype, info.address)
    second = fields(project.then, grid, mask)
    wide, wide_mask = _with_halo(settings, grid, mask, second["feature_halo"])
    dtype = np.dtype(info.dtype).name
    # Whole numbers are what the second stage reads; floats hold probabilities as they are.
    is_converted = np.dtype(info.dtype).kind == "u" and not settings.prediction.export_stage_1
    first = fields(project, wide, wide_mask) | {
        "classes": tuple(range(len(project.classes))),
        "class_names": project.classes,
        "dtype": dtype if is_converted else "float32",
        "truncate": is_converted,
        "address": output_dataset(settings, STAGE_1),
    }
    before = PredictionStep(**first)
    return before, ContextPredictionStep(**second, stage=2, before=before)


def _given(project: Project) -> str:
    if project.is_of_label_images:
        return "label images"
    return "binary images" if project.is_of_binary_images else "probabilities"


def _with_halo(
    settings: Settings, grid: Grid, mask: Mask | None, halo: tuple[int, int, int]
) -> tuple[Grid, Mask | None]:
    """The grid whose region of interest reaches as far as the second stage looks, and its mask."""
    reach = dict(zip("zyx", halo, strict=True))
    reaches = tuple(reach.get(axis, 0) for axis in grid.axes)
    wide, wide_mask = replace(grid, known=None), mask
    if grid.roi is not None:
        wide_mask, wide = mask_and_grid(settings, replace(wide, roi=_grown(grid.roi, reaches, grid), kept=None))
    before = grid.known
    if before is not None and before.kept is None and wide.kept is None:
        known = Region(None if before.roi is None else _grown(before.roi, reaches, grid))
        wide = replace(wide, known=None if known == wide.region else known)
    return wide, wide_mask


def _grown(roi: tuple[tuple[int, int], ...], reaches: tuple[int, ...], grid: Grid) -> tuple[tuple[int, int], ...]:
    """A region and what lies around it, as far as the volume does."""
    volume = tuple(slice(0, n) for n in grid.shape)
    return tuple((s.start, s.stop) for s in grow(tuple(slice(*part) for part in roi), reaches, volume))
