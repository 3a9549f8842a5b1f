"""From the settings of an image that is computed whole to its chain of steps."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from blockwise.chain import Chain
from blockwise.errors import UserError
from blockwise.sources import RawSource
from pipeline.assembly.geometry import RawDescription
from pipeline.assembly.known import Known
from pipeline.assembly.steps import Steps, build_steps, make_steps
from pipeline.batch.volumes import ImageVolumes
from pipeline.configuration.settings import Settings
from tasks.pixel_classification.project import Project
from tasks.pixel_classification.training import open_project

GIVEN = ("raw", "mask")
"""What is given to the steps of an image, by label: for each of them a marker has a stamp."""

NOT_OF_STEPS: dict[str, Any] = {
    **dict.fromkeys(("work_dir", "output", "backend", "batch", "pyramid"), True),
    "raw": {"path", "key"},
}
"""Settings that differ between images whose steps are alike, but for what their raw volumes are."""


def image_steps(settings: Settings, known: Known | None = None) -> Steps:
    """Steps of an image that is one block (one for each time step): its blocks are as large as itself.

    Args:
        settings: of the image.
        known: what its results are known by; by default what its folder tells.

    Raises:
        UserError: as ``build_steps``.
    """
    try:
        return build_steps(settings, whole=True, known=known)
    except UserError as error:
        if "a worker needs about" not in str(error):
            raise
        raise UserError(f"{error}; or a smaller batch.small_voxels, so that this image is cut into blocks") from None


class ImageChains:
    """Chains of images as they are at one moment, for those who only ask what the images are made of.

    Of images with the same settings, shape and project a chain is made once.
    """

    def __init__(self, volumes: ImageVolumes) -> None:
        self._volumes = volumes
        self._open_project = functools.lru_cache(maxsize=4)(open_project)
        self._alike: dict[tuple[str, str, str], Chain] = {}

    def chain(self, settings: Settings) -> Chain:
        """The chain of an image; nobody has asked whether it can be computed here.

        Raises:
            UserError: an input is missing, or a value does not fit it.
        """
        project = self._open_project(settings.prediction.project)
        return _make(settings, project, *self._known(settings, project))

    def raw_state(self, settings: Settings) -> str:
        """State of an image's files.

        Raises:
            UserError: a file, or the project, cannot be opened.
            OSError: a file cannot be looked at.
        """
        return self._volumes.state(
            settings.raw,
            lambda: self._open_project(settings.prediction.project),
            watch_files=settings.change_detection == "files",
        )

    def fingerprints(self, settings: Settings) -> tuple[str, ...]:
        """Fingerprints of the members of an image's chain.

        Raises:
            UserError: as ``chain``.
        """
        if settings.blocks.mask is not None:  # a look at the mask decides about the steps
            return self.chain(settings).fingerprints({})
        project = self._open_project(settings.prediction.project)
        found, known = self._known(settings, project)
        shape = f"{found.info.model_dump_json(exclude={'address', 'known_as'})} {found.spacing}"
        stages = ",".join(f"{stage.content_hash} {known.classes(stage)}" for stage in project.stages)
        key = settings.model_dump_json(exclude=NOT_OF_STEPS), shape, stages
        if key not in self._alike:
            self._alike[key] = _make(settings, project, found, known)
        raw = RawSource(found.info, "", watch_files=False)
        return self._alike[key].fingerprints({raw.label: raw.identity()})

    def _known(self, settings: Settings, project: Project) -> tuple[RawDescription, Known]:
        """The image under the address by which its results know it, and what else they know."""
        raw, known = self._volumes.describe(settings.raw, project).raw, self._volumes.known(settings.work_dir)
        info = known.volume(raw.info)
        if info != raw.info:
            self._volumes.found_again[settings.work_dir] = info.address
        return replace(raw, info=info), known


def _make(settings: Settings, project: Project, found: RawDescription, known: Known) -> Chain:
    chain = Chain(make_steps(settings, project, found, whole=True, known=known).all())
    if unknown := chain.given.keys() - set(GIVEN):
        raise RuntimeError(f"markers of images have no stamp of {', '.join(sorted(unknown))}, which their steps read")
    return chain
