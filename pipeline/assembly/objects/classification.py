"""From the configuration to the classifier of objects that an ilastik project holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.records import in_store, open_records
from blockwise.volume_step import VolumeStep
from pipeline.assembly.objects.features import ChosenFeatures, FeatureSteps, check_exact
from pipeline.configuration.settings import ConnectedComponents, Settings
from tasks.channels import RawChannels
from tasks.objects.classification.classes_step import ObjectClassesStep
from tasks.objects.classification.classification_step import ObjectClassificationStep
from tasks.objects.classification.project import ObjectProject, is_object_project, load_object_project
from tasks.objects.features.catalog import Feature, chosen_features

KEY = "connected_components.classifier"
PROJECT = "project"
"""In the place of a path: the project of the prediction."""


@dataclass(frozen=True)
class Classifier:
    """The classifier of a project, whose features can be computed.

    Attributes:
        project: that holds it.
        chosen: the features that it looks at, in the order of its columns.
    """

    project: ObjectProject
    chosen: ChosenFeatures


def object_classifier(
    settings: Settings, components: ConnectedComponents, grid: Grid, raw: RawChannels
) -> Classifier | None:
    """The classifier of the objects; None where none is named.

    Args:
        settings: the configuration.
        components: what is said of the objects.
        grid: of the volume.
        raw: the image.

    Raises:
        UserError: the project has no classifier of objects, or one of other features or images than can be had here.
    """
    if components.classifier is None:
        return None
    path = settings.prediction.project if components.classifier == PROJECT else components.classifier
    project = load_object_project(path)
    check_exact(raw, KEY, "classifier")
    features = _features(project, len(raw.channels))
    _check_images(project, features, grid, len(raw.channels))
    return Classifier(project, ChosenFeatures(features, _margin(project, grid)))


def all_features(
    columns: ChosenFeatures | None, classifier: Classifier | None, components: ConnectedComponents
) -> ChosenFeatures | None:
    """The features that are columns of the table, and those that a classifier looks at; None for none.

    Raises:
        UserError: their neighbourhoods reach differently far.
    """
    if classifier is None:
        return columns
    if columns is None:
        return classifier.chosen
    seen = classifier.chosen
    margins = {columns.margin, seen.margin} - {None}
    if components.margin is None and components.features != PROJECT:
        margins = {seen.margin or columns.margin}
    if len(margins) > 1:
        raise UserError(
            f"connected_components.margin: neighbourhoods of features reach {list(columns.margin or ())} voxels, but "
            f"those of the classifier of project {classifier.project.path} {list(seen.margin or ())}; leave out "
            "margin, or use one project for both"
        )
    features = {feature.name: feature for feature in (*columns.features, *seen.features)}
    return ChosenFeatures(tuple(features[name] for name in sorted(features)), next(iter(margins), None))


def classification_steps(
    classifier: Classifier,
    objects: VolumeStep,
    described: Mapping[str, Any],
    added_up: FeatureSteps,
    common: Mapping[str, Any],
    places: Mapping[str, Any],
) -> tuple[ObjectClassificationStep, ObjectClassesStep]:
    """Make the steps that classify objects, and write the class of each voxel's object.

    Args:
        classifier: of the objects.
        objects: the step that labels them.
        described: the steps ``faces`` and ``merge`` of these labels.
        added_up: the steps that have added up, at least, what the classifier's features need.
        common: fields of all steps.
        places: fields of the step that writes a volume.
    """
    project = classifier.project
    classification = ObjectClassificationStep(
        **common,
        **described,
        grid=described["merge"].grid,
        features=added_up.object_features,
        histograms=added_up.object_histograms if classifier.chosen.histograms else None,
        chosen=classifier.chosen.names,
        project=project.path,
        project_hash=project.content_hash,
        class_names=project.classes,
    )
    classes = ObjectClassesStep(**common, **places, grid=objects.grid, objects=objects, classification=classification)
    return classification, classes


def with_classifier(settings: Settings) -> Settings:
    """The configuration, its objects classified by the project of the prediction where nothing is said of it.

    Raises:
        UserError: no classifier is named, and the project of the prediction is none of object classification.
    """
    if any(components.classifier for components in _all_components(settings)):
        return settings
    path = settings.prediction.project
    if not path or not is_object_project(path):
        raise UserError(
            f"{KEY}: names no project, and prediction.project {path} is none of object classification; name one "
            "whose classifier knows objects"
        )
    return classified(settings)


def as_begun(settings: Settings) -> Settings:
    """The configuration; where a workflow has classified objects in this work folder, all of them go on to do so.

    Else the table of objects would be made anew with each change of the workflow.
    """
    if any(components.classifier for components in _all_components(settings)):
        return settings
    path = settings.prediction.project
    if not path or (in_store(settings.work_dir) and not is_object_project(path)):  # to list a store takes longer
        return settings
    labels = open_records(settings.work_dir).children()
    begun = any(label.startswith(ObjectClassificationStep.name) for label in labels)
    return classified(settings) if begun and is_object_project(path) else settings


def classified(settings: Settings) -> Settings:
    """The configuration with the project of the prediction as the classifier of all objects."""
    update = {"classifier": PROJECT}
    thresholds = tuple(
        threshold
        if threshold.connected_components is None
        else threshold.model_copy(
            update={"connected_components": threshold.connected_components.model_copy(update=update)}
        )
        for threshold in settings.threshold
    )
    components = settings.connected_components.model_copy(update=update)
    return settings.model_copy(update={"connected_components": components, "threshold": thresholds})


def _all_components(settings: Settings) -> list[ConnectedComponents]:
    own = (threshold.connected_components for threshold in settings.threshold)
    return [settings.connected_components, *(components for components in own if components is not None)]


def _features(project: ObjectProject, n_channels: int) -> tuple[Feature, ...]:
    found: list[Feature] = []
    for selected in project.features:
        try:
            found += chosen_features([selected.name], n_channels, selected.plugin)
        except UserError as error:
            raise UserError(
                f"{KEY}: project {project.path} has a classifier of {len(project.features)} features, but {error}"
            ) from None
    return tuple(found)


def _check_images(project: ObjectProject, features: tuple[Feature, ...], grid: Grid, n_channels: int) -> None:
    """Refuse objects of other images than those of the training: others have other numbers of values."""
    lengths = dict(zip(grid.axes, grid.shape, strict=True))
    axes = 3 if lengths.get("z", 1) > 1 else 2
    columns = sum(feature.values(axes, n_channels) for feature in features)
    if columns == project.forest.n_features:
        return
    trained = {None: "images of a shape that it does not tell", 1: "images in 2D"}.get(project.n_z, "images in 3D")
    of = "" if project.n_channels is None else f" with {_counted(project.n_channels, 'channel')}"
    raise UserError(
        f"{KEY}: project {project.path} has a classifier of {_counted(project.forest.n_features, 'column')}, but its "
        f"features have {columns} in {axes}D with {_counted(n_channels, 'channel')}; it was trained on {trained}{of}"
    )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _margin(project: ObjectProject, grid: Grid) -> tuple[int, ...] | None:
    """Along the spatial axes of the grid; the project's are x, y, z."""
    if not project.margin:
        return None
    by_axis = dict(zip("xyz", project.margin, strict=False))
    spatial = grid.axes.replace("t", "")
    # Projects of flat images may say nothing of z, along which there is nothing to look at.
    return tuple(by_axis.get(axis, max(project.margin)) for axis in spatial)
