"""From one threshold of a configuration to the steps that make objects of probabilities."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from blockwise.errors import UserError
from blockwise.grid import Grid, Region
from blockwise.step import BlockStep
from blockwise.volume import Spacing
from blockwise.volume.lengths import in_micrometers
from pipeline.assembly.classes import class_index
from pipeline.assembly.geometry import output_dataset
from pipeline.assembly.ilastik_threshold import as_ilastik, smoothed_sigma
from pipeline.assembly.objects.classification import all_features, classification_steps, object_classifier
from pipeline.assembly.objects.features import FeatureSteps, feature_steps, table_features
from pipeline.assembly.objects.sizes import sizes_in_voxels
from pipeline.assembly.smoothing import sigma_in_voxels
from pipeline.configuration.settings import ConnectedComponents, Settings, Threshold
from tasks.components.cores_step import CoresStep
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.labelling import CONNECTIVITIES
from tasks.components.labels_step import ConnectedComponentsStep
from tasks.components.merge_step import ComponentMergeStep
from tasks.objects.classification.classes_step import ObjectClassesStep
from tasks.objects.classification.classification_step import ObjectClassificationStep
from tasks.objects.features.boxes_step import ObjectBoxesStep
from tasks.objects.features.features_step import FeaturesStep
from tasks.objects.features.histograms_step import HistogramsStep
from tasks.objects.features.ranges_step import ValueRangesStep
from tasks.objects.image_measures import EXACT_DTYPES
from tasks.objects.measures_step import MeasuresStep
from tasks.objects.table_step import ObjectTableStep
from tasks.prediction import PredictionStep
from tasks.threshold import ThresholdStep

if TYPE_CHECKING:
    from tasks.splitting.labels_step import SplitObjectsStep
    from tasks.splitting.merge_step import SplitMergeStep
    from tasks.splitting.parts_step import SplitPartsStep

DATASETS = {
    "threshold": "thresholded",
    "connected_components": "connected_components",
    "cores": "cores",
    "split_objects": "split_objects",
    "object_classes": "object_classes",
}
"""Names of datasets, to which that of the threshold is added, by the steps that write them."""


@dataclass(frozen=True)
class ObjectSteps:
    """The steps from probabilities to objects, each with those before it."""

    threshold: ThresholdStep
    component_faces: ComponentFacesStep
    component_merge: ComponentMergeStep
    connected_components: ConnectedComponentsStep
    split_parts: SplitPartsStep | None
    split_merge: SplitMergeStep | None
    split_objects: SplitObjectsStep | None
    cores: CoresStep | None
    measures: MeasuresStep | None
    object_boxes: ObjectBoxesStep | None
    object_features: FeaturesStep | None
    value_ranges: ValueRangesStep | None
    object_histograms: HistogramsStep | None
    object_classification: ObjectClassificationStep | None
    object_table: ObjectTableStep
    object_classes: ObjectClassesStep | None

    def all(self) -> tuple[BlockStep, ...]:
        """All of them, each after those that it reads."""
        found = (getattr(self, name) for name in self.names())
        return tuple(step for step in found if step is not None)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The steps' names, in their order; fields are called as the steps are."""
        return tuple(field.name for field in fields(cls))


def object_steps(
    settings: Settings, threshold: Threshold, prediction: PredictionStep, spacing: Spacing | None = None
) -> ObjectSteps:
    """Make the steps of one threshold; ``spacing`` is that of the raw volume.

    Raises:
        UserError: a value does not fit the probabilities.
    """
    grid = prediction.grid
    where = "threshold" if len(settings.threshold) == 1 else f"threshold {threshold.name}"
    components = threshold.connected_components or settings.connected_components
    threshold, components = as_ilastik(settings, threshold, components, grid, where)
    is_ilastik = threshold.as_ == "ilastik"
    suffix = f"_{threshold.name}" if threshold.name else ""
    common = {
        "work_dir": settings.work_dir,
        "change_detection": settings.change_detection,
        "variant": threshold.name or "",
    }
    storage = {"chunks": prediction.chunks, "shards": prediction.shards}
    blocks = {**common, "grid": grid, "mask": prediction.mask}
    class_ = _class_index(settings, threshold.class_, prediction, f"{where}.class")
    core_class = _core_class(settings, threshold, prediction, where, class_)
    sigma = sigma_in_voxels(threshold, prediction.raw, spacing, grid.axes.replace("t", ""))
    if is_ilastik:
        sigma = smoothed_sigma(sigma, grid, where)
    thresholded = ThresholdStep(
        **blocks,
        probabilities=prediction,
        class_index=class_,
        channel=prediction.classes.index(class_),
        sigma=(0.0,) * ("t" in grid.axes) + sigma,
        threshold=threshold.lowest,
        core=threshold.core,
        core_class=core_class,
        core_channel=None if core_class is None else prediction.classes.index(core_class),
        like="ilastik" if is_ilastik else "skimage",
        address=output_dataset(settings, DATASETS["threshold"] + suffix),
        **storage,
    )
    _check_components(components, threshold, prediction, where)
    raw, spatial = prediction.raw, grid.axes.replace("t", "")
    step_um = in_micrometers(spacing, raw.axes, spatial)
    min_size, max_size = sizes_in_voxels(components, step_um, len(spatial), raw.address)
    cores_fit = (min_size, max_size) if is_ilastik else (threshold.core_min_size, threshold.core_max_size)
    faces = ComponentFacesStep(
        **blocks,
        thresholded=thresholded,
        foreground=components.foreground,
        connectivity=_connectivity(components, grid),
        cores=threshold.core is not None,
        core_sizes=threshold.core is not None and (cores_fit[0] > 1 or cores_fit[1] is not None),
        cores_outside=is_ilastik and threshold.core is not None and threshold.core < threshold.lowest,
    )
    known = None if grid.known is None else Region(grid.known.roi)
    one_block = Grid(grid.axes, grid.shape, grid.shape, grid.roi, known=known)
    merge = ComponentMergeStep(
        **common,
        grid=one_block,
        faces=faces,
        min_size=min_size,
        # Of objects that touch, their parts may have the right size, or lie off the border.
        max_size=max_size if components.split is None else None,
        exclude_border=components.exclude_border and components.split is None,
        numbering=components.numbering,
        core_min_size=cores_fit[0],
        core_max_size=cores_fit[1],
    )
    address = output_dataset(settings, DATASETS["connected_components"] + suffix)
    final = ConnectedComponentsStep(**blocks, **storage, faces=faces, merge=merge, address=address)
    split: tuple[Any, Any, Any] = (None, None, None)
    if components.split is not None:
        from pipeline.assembly.objects.splitting import split_steps

        address = output_dataset(settings, DATASETS["split_objects"] + suffix)
        split = split_steps(components, max_size, final, thresholded, merge, address, where)
    parts, numbered, labelled = split
    cores = None
    if threshold.keep_cores:
        cores = CoresStep(
            **blocks,
            **storage,
            objects=labelled or final,
            thresholded=thresholded,
            connectivity=faces.connectivity,
            fitting=merge if faces.core_sizes else None,
            address=output_dataset(settings, DATASETS["cores"] + suffix),
        )
    measures = None
    if components.intensities or components.probabilities:
        measures = MeasuresStep(
            **blocks,
            objects=labelled or final,
            raw=prediction.raw_channels if components.intensities else None,
            probabilities=prediction if components.probabilities else None,
            classes=prediction.classes if components.probabilities else (),
        )
    described = {"faces": parts or faces, "merge": numbered or merge}
    chosen = table_features(settings, threshold, components, prediction.raw_channels)
    classifier = object_classifier(settings, components, grid, prediction.raw_channels)
    wanted = all_features(chosen, classifier, components)
    added_up = FeatureSteps()
    if wanted is not None:
        added_up = feature_steps(
            wanted.features,
            wanted.margin,
            labelled or final,
            prediction.raw_channels,
            (parts or faces, numbered or merge),
            common,
        )
    classified: tuple[Any, Any] = (None, None)
    if classifier is not None:
        places = {**storage, "address": output_dataset(settings, DATASETS["object_classes"] + suffix)}
        classified = classification_steps(classifier, labelled or final, described, added_up, common, places)
    table = ObjectTableStep(
        **common,
        **described,
        grid=one_block,
        measures=measures,
        step_um=step_um,
        features=None if chosen is None else added_up.object_features,
        histograms=None if chosen is None or not chosen.histograms else added_up.object_histograms,
        chosen=() if chosen is None else chosen.names,
        classification=classified[0],
    )
    return ObjectSteps(
        threshold=thresholded,
        component_faces=faces,
        component_merge=merge,
        connected_components=final,
        split_parts=parts,
        split_merge=numbered,
        split_objects=labelled,
        cores=cores,
        measures=measures,
        **vars(added_up),
        object_classification=classified[0],
        object_table=table,
        object_classes=classified[1],
    )


def _class_index(settings: Settings, chosen: int | str, prediction: PredictionStep, key: str) -> int:
    index = class_index(chosen, prediction.class_names, settings, key)
    if index not in prediction.classes:
        raise UserError(
            f"{key}: {chosen!r} is not among prediction.classes {settings.prediction.classes}; add it there"
        )
    return index


def _core_class(
    settings: Settings, threshold: Threshold, prediction: PredictionStep, where: str, class_: int
) -> int | None:
    """The class of the cores; None where it is that of the objects, under whatever name."""
    if threshold.core_class is None:
        return None
    index = _class_index(settings, threshold.core_class, prediction, f"{where}.core_class")
    return None if index == class_ else index


def _check_components(
    components: ConnectedComponents, threshold: Threshold, prediction: PredictionStep, where: str
) -> None:
    if threshold.method == "hysteresis" and not components.foreground:
        raise UserError(
            f"{where}.method: hysteresis keeps objects that hold a core, but connected_components.foreground: 0 "
            "makes objects of what lies between; use foreground: 1, or method: simple"
        )
    dtype = np.dtype(prediction.raw.dtype).name
    if components.intensities and dtype not in EXACT_DTYPES:
        raise UserError(
            f"connected_components.intensities: raw {prediction.raw.address} holds {dtype}; sums that are exact for "
            f"every block shape are offered for {', '.join(EXACT_DTYPES)}. Set intensities: false, or convert it"
        )


def _connectivity(components: ConnectedComponents, grid: Grid) -> int:
    spatial = grid.axes.replace("t", "")
    known = CONNECTIVITIES[len(spatial)]
    if components.connectivity is None:
        return known[-1]
    if components.connectivity not in known:
        raise UserError(
            f"connected_components.connectivity: {components.connectivity}; for the axes {spatial} it is one of "
            f"{known}"
        )
    return components.connectivity
