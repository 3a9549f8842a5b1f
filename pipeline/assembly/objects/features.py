"""From names of object features to the steps that compute them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockwise.errors import UserError
from blockwise.volume_step import VolumeStep
from pipeline.configuration.settings import ConnectedComponents, Settings, Threshold
from tasks.channels import RawChannels
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.merge_step import ComponentMergeStep
from tasks.objects.features.boxes_step import ObjectBoxesStep
from tasks.objects.features.catalog import Feature, chosen_features
from tasks.objects.features.features_step import FeaturesStep
from tasks.objects.features.histograms_step import HistogramsStep
from tasks.objects.features.neighbourhood import LARGEST_MARGIN, Margin
from tasks.objects.features.ranges_step import ValueRangesStep
from tasks.objects.features.stored_features import load_features
from tasks.objects.image_measures import EXACT_DTYPES

KEY = "connected_components.features"

USUAL_MARGIN = {"z": 1, "y": 30, "x": 30}
"""ilastik's, in voxels."""


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
    """Make the steps that features need.

    Args:
        features: which.
        margin: how far neighbourhoods reach, in voxels per spatial axis; None where no feature looks at them.
        objects: the step that labels the objects.
        raw: the image.
        described: the steps ``faces`` and ``merge`` of these labels.
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


@dataclass(frozen=True)
class ChosenFeatures:
    """Features that are computed.

    Attributes:
        features: which, in ilastik's order.
        margin: how far neighbourhoods reach, in voxels per spatial axis; None where no feature looks at them.
    """

    features: tuple[Feature, ...]
    margin: tuple[int, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """As projects have them."""
        return tuple(feature.name for feature in self.features)

    @property
    def histograms(self) -> bool:
        """Whether any is made of histograms."""
        return any(feature.histogram for feature in self.features)


def check_exact(raw: RawChannels, key: str, what: str) -> None:
    """Refuse an image whose sums cannot be exact.

    Args:
        raw: the image.
        key: of the configuration that asks for them.
        what: may be left out.

    Raises:
        UserError: it holds another type.
    """
    if raw.dtype not in EXACT_DTYPES:
        raise UserError(
            f"{key}: raw {raw.info.address} holds {raw.dtype}; sums that are exact for every block shape are offered "
            f"for {', '.join(EXACT_DTYPES)}. Leave {what} out, or convert it"
        )


def table_features(
    settings: Settings, threshold: Threshold, components: ConnectedComponents, raw: RawChannels
) -> ChosenFeatures | None:
    """The features that a configuration asks for; None for none.

    Args:
        settings: the configuration.
        threshold: that makes the objects.
        components: what is said of them.
        raw: the image.

    Raises:
        UserError: one is not known, or cannot be computed of this image; or the project does not say which.
    """
    if not components.features:
        return None
    check_exact(raw, KEY, "features")
    spatial = raw.axes.replace("t", "")
    margin = components.margin
    if components.features == "project":
        path = threshold.project or settings.prediction.project
        stored = load_features(path)
        try:
            features = tuple(
                feature
                for plugin, names in sorted(stored.names.items())
                for feature in chosen_features(names, len(raw.channels), plugin)
            )
        except UserError as error:
            raise UserError(
                f"{KEY}: project {path} selects {error}. Name those that are wanted here, in the place of `project`"
            ) from None
        if margin is None and stored.margin:
            by_axis = dict(zip("xyz", stored.margin, strict=False))
            margin = tuple(by_axis.get(axis, max(stored.margin)) for axis in spatial)
    else:
        try:
            features = chosen_features(components.features, len(raw.channels))
        except UserError as error:
            raise UserError(f"{KEY}: {error}") from None
    if all(feature.region == "object" for feature in features):
        return ChosenFeatures(features, None)
    return ChosenFeatures(features, _per_axis(margin, spatial))


def _per_axis(margin: int | tuple[int, ...] | None, spatial: str) -> tuple[int, ...]:
    if margin is None:
        return tuple(USUAL_MARGIN[axis] for axis in spatial)
    found = (margin,) * len(spatial) if isinstance(margin, int) else margin
    if len(found) != len(spatial):
        raise UserError(
            f"connected_components.margin: {list(found)} has {len(found)} numbers, but there are {len(spatial)} axes "
            f"({spatial}); write one number, or one for each"
        )
    if max(found) > LARGEST_MARGIN:
        raise UserError(f"connected_components.margin: {list(found)}; at most {LARGEST_MARGIN} voxels are looked at")
    return found
