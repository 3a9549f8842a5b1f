"""From names of object features to the steps that compute them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockwise.volume_step import VolumeStep
from tasks.channels import RawChannels
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.merge_step import ComponentMergeStep
from tasks.objects.features.boxes_step import ObjectBoxesStep
from tasks.objects.features.catalog import Feature
from tasks.objects.features.features_step import FeaturesStep
from tasks.objects.features.histograms_step import HistogramsStep
from tasks.objects.features.neighbourhood import Margin
from tasks.objects.features.ranges_step import ValueRangesStep


@dataclass(frozen=True)
class FeatureSteps:
    """The steps, each after those that it reads; None where no feature needs them."""

    object_boxes: ObjectBoxesStep | None = None
    object_features: FeaturesStep | None = None
    value_ranges: ValueRangesStep | None = None
    object_histograms: HistogramsStep | None = None


def feature_steps(
    features: Sequence[Feature],
    margin: tuple[int, ...] | None,
    objects: VolumeStep,
    raw: RawChannels,
    described: tuple[ComponentFacesStep, ComponentMergeStep],
    common: dict[str, Any],
) -> FeatureSteps:
    """Make the steps.

    Args:
        features: that are computed.
        margin: how far neighbourhoods reach, in voxels per spatial axis; None where there are none.
        objects: the step that labels the objects.
        raw: what is seen of the raw volume.
        described: the steps that describe the components of each block, and say which object each belongs to.
        common: fields of all steps.
    """
    faces, merge = described
    names = tuple(feature.name for feature in features)
    one_block = {**common, "grid": merge.grid}
    blocks = {**common, "grid": objects.grid, "mask": objects.mask, "objects": objects, "raw": raw}
    around = margin if any(feature.region != "object" for feature in features) else None
    boxes = None
    if around is not None and Margin(around).boxes_matter:
        boxes = ObjectBoxesStep(**one_block, faces=faces, merge=merge)
    summed = FeaturesStep(**blocks, margin=around, boxes=boxes, features=names)
    if not any(feature.histogram for feature in features):
        return FeatureSteps(boxes, summed)
    ranges = ValueRangesStep(**one_block, features=summed, merge=merge)
    return FeatureSteps(boxes, summed, ranges, HistogramsStep(**blocks, margin=around, boxes=boxes, ranges=ranges))
