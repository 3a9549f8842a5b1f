"""From the configuration to the steps that cut touching objects."""

from __future__ import annotations

from typing import Any

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.volume.info import VolumeInfo
from pipeline.configuration.settings import ConnectedComponents, Split
from tasks.components.labels_step import ConnectedComponentsStep
from tasks.components.merge_step import ComponentMergeStep
from tasks.given_prediction import GivenPredictionStep
from tasks.splitting.given_steps import GivenObjectsStep, GivenPartsStep
from tasks.splitting.labels_step import SplitObjectsStep
from tasks.splitting.merge_step import SplitMergeStep
from tasks.splitting.parts_step import Cut, SplitPartsStep
from tasks.threshold import ThresholdStep

LARGEST_IN_A_PLANE = 512
"""Longest side of the box of an object that is cut where the volume is an image, and none is set."""


def split_steps(
    components: ConnectedComponents,
    max_size: int | None,
    objects: ConnectedComponentsStep,
    thresholded: ThresholdStep,
    whole: ComponentMergeStep,
    address: str,
    where: str,
) -> tuple[SplitPartsStep, SplitMergeStep, SplitObjectsStep]:
    """Make the steps that find parts, number them, and label them.

    Args:
        components: what is said of the objects.
        max_size: largest part that is kept, in voxels; None for no limit.
        objects: the step that labels whole objects.
        thresholded: the step whose probabilities are flooded, and which marks cores.
        whole: the step that has numbered whole objects.
        address: dataset of the parts.
        where: what messages call the threshold.

    Raises:
        UserError: seeds without cores, or a box of another number of axes.
    """
    split = components.split or Split()
    grid = objects.grid
    given = _given_labels(thresholded, where) if split.method == "labels" else None
    has_seeds = split.method == "seeds"
    if has_seeds and thresholded.core is None:
        raise UserError(
            f"{where}: connected_components.split.method: seeds are the cores of the objects, but there are none; "
            "set threshold.method: hysteresis, with core and final, or split: {method: distance}"
        )
    cut = Cut(
        method=split.method,
        h=split.h,
        largest=_largest(split, grid, where),
        min_seed=whole.core_min_size if has_seeds else 0,
        max_seed=whole.core_max_size if has_seeds else None,
    )
    common: dict[str, Any] = {
        "work_dir": objects.work_dir,
        "change_detection": objects.change_detection,
        "variant": objects.variant,
    }
    blocks = {**common, "grid": grid, "mask": objects.mask}
    faces = objects.faces
    described: dict[str, Any] = {
        "thresholded": thresholded,
        "foreground": faces.foreground,
        "connectivity": faces.connectivity,
        "objects": objects,
        "cut": cut,
    }
    if given is None:
        parts = SplitPartsStep(**blocks, **described, flooded=thresholded if has_seeds else None)
    else:
        parts = GivenPartsStep(**blocks, **described, given=given)
    merge = SplitMergeStep(
        **common,
        grid=whole.grid,
        faces=parts,
        min_size=whole.min_size,
        max_size=max_size,
        exclude_border=components.exclude_border,
        numbering=whole.numbering,
    )
    kind = SplitObjectsStep if given is None else GivenObjectsStep
    labels = kind(**blocks, address=address, chunks=objects.chunks, shards=objects.shards, parts=parts, merge=merge)
    return parts, merge, labels


def _given_labels(thresholded: ThresholdStep, where: str) -> VolumeInfo:
    """The label image that stands in the place of probabilities."""
    given = thresholded.probabilities
    if not isinstance(given, GivenPredictionStep) or not given.is_labelled:
        raise UserError(
            f"{where}: connected_components.split.method: labels takes the objects of a label image; name it with "
            "prediction.probabilities, and with prediction.project a project from label images"
        )
    return given.given


def _largest(split: Split, grid: Grid, where: str) -> tuple[int, ...]:
    """Shape of the largest box of an object that is cut, per spatial axis."""
    spatial = grid.axes.replace("t", "")
    if isinstance(split.largest, int):
        is_default = "largest" not in split.model_fields_set and len(spatial) == 2
        return (LARGEST_IN_A_PLANE if is_default else split.largest,) * len(spatial)
    if len(split.largest) != len(spatial):
        raise UserError(
            f"{where}: connected_components.split.largest: {list(split.largest)} for the axes {spatial}; write one "
            "number, or one for each"
        )
    return split.largest
