"""The images of a batch: each with its settings, small ones and large ones apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

from blockwise.errors import UserError
from blockwise.transient import patiently, refuse_transient
from pipeline.assembly.steps import Steps, build_steps
from pipeline.batch.image_step import ImagesStep, images_step
from pipeline.batch.manifest import Batch
from pipeline.batch.volumes import ImageVolumes
from pipeline.configuration.settings import Settings
from pipeline.inspecting.runs import Run
from tasks.pixel_classification.project import load_project


class BatchImages:
    """The images of a batch, in its order.

    Attributes:
        batch: as configuration and manifest have it.
        shared: settings that all images share; the work folder is that of the batch.
        volumes: what the images say about themselves.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.shared: Settings = batch.settings
        self.volumes = ImageVolumes(self.shared.work_dir)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all images."""
        return self.batch.names

    @property
    def settings(self) -> tuple[Settings, ...]:
        """Of each image."""
        return self.batch.images

    @cached_property
    def large(self) -> list[int]:
        """Indices of the images that are computed block by block."""
        limit = self.shared.batch.small_voxels
        return [i for i, settings in enumerate(self.settings) if self.voxels(settings) > limit]

    @cached_property
    def small(self) -> ImagesStep | None:
        """The step over small images; None where there are none."""
        large = set(self.large)
        indices = [i for i in range(len(self.names)) if i not in large]
        return images_step(self.batch, indices, self.volumes) if indices else None

    def voxels(self, settings: Settings) -> int:
        """Size of an image, channels not counted; 0 where it cannot be opened, which its worker will tell."""
        try:
            project = patiently(load_project, settings.prediction.project)
            info = patiently(self.volumes.describe, settings.raw, project).raw.info
        except (UserError, OSError) as error:
            refuse_transient(error)  # a large image that is taken for a small one would be computed whole
            return 0
        return math.prod(n for axis, n in zip(info.axes, info.shape, strict=True) if axis != "c")

    def steps(self, i: int) -> Steps:
        """Steps of a large image.

        Raises:
            UserError: as ``build_steps``.
        """
        return build_steps(self.settings[i])

    def runs(self) -> Iterator[Run]:
        """Small images as one run of one step, if there are any; then each large image, with its name."""
        if self.small is not None:
            yield Run("", (self.small,))
        yield from map(self.large_run, self.large)

    def large_run(self, i: int) -> Run:
        """The steps of a large image, or why there are none."""
        try:
            return Run(self.names[i], self.steps(i).usual())
        except (UserError, OSError) as error:
            return Run(self.names[i], (), str(error))
