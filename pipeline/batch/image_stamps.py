"""What images are made of, at one moment: their stamps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blockwise.errors import UserError
from blockwise.grid import Box
from blockwise.identity import digest
from blockwise.stamps import Snapshot
from blockwise.transient import refuse_transient
from blockwise.volume import DamagedDataError
from blockwise.volume.address import identity_of
from pipeline.batch.image_chains import GIVEN, ImageChains
from pipeline.batch.volumes import ImageVolumes
from pipeline.configuration.settings import Settings

CONFIGURATION = "configuration"
"""Name of the stamp of an image's steps, and of the place of their results."""
SOURCES = (*GIVEN, CONFIGURATION)
"""Names of an image's stamps."""
UNREADABLE = "unreadable"
"""Stamp of what cannot be looked at."""


class ImageStamps:
    """Stamps of images as they are at one moment."""

    def __init__(self, volumes: ImageVolumes) -> None:
        self._chains = ImageChains(volumes)

    def stamp(self, name: str, settings: Settings) -> str:
        """One of the stamps of an image; ``UNREADABLE`` where it cannot be told."""
        try:
            if name == CONFIGURATION:
                # Where files are not watched, nothing else would tell that results are wanted in another place.
                return digest(",".join([*self._chains.fingerprints(settings), identity_of(settings.output)]))
            if name == "raw":
                return self._chains.raw_state(settings)
            return self._mask(settings)
        except (UserError, OSError, DamagedDataError) as error:  # the worker meets it again, and records it
            refuse_transient(error)
            return UNREADABLE

    def _mask(self, settings: Settings) -> str:
        if settings.blocks.mask is None:
            return ""
        return self._chains.chain(settings).given["mask"].snapshot().digest


@dataclass(frozen=True)
class ImageSource:
    """One of the things that images' results are made of.

    Attributes:
        name: of what an image's steps are given, ``raw`` or ``mask``; or ``configuration``, which are the steps.
        images: settings of each image, made when they are asked for.
        volumes: what the images say about themselves.
    """

    name: str
    images: Callable[[], list[Settings]]
    volumes: ImageVolumes
    address: str = ""

    @property
    def label(self) -> str:
        """The same."""
        return self.name

    def identity(self) -> Any:
        """Nothing; see ``ImagesStep``."""
        return None

    def snapshot(self) -> Snapshot:
        """Look at every image."""
        look = ImageStamps(self.volumes)
        return Numbered([look.stamp(self.name, settings) for settings in self.images()])

    def digest(self) -> str:
        """Digest over all images."""
        return self.snapshot().digest

    def forget(self, damaged: Box) -> bool:
        """An image cannot be computed again."""
        return False


class Numbered:
    """Stamps of images by their numbers, which are their places along the step's only axis."""

    def __init__(self, stamps: list[str]) -> None:
        self.stamps = stamps
        self.digest = digest(",".join(stamps))

    def stamp(self, box: Box) -> str:
        """The stamp of one image."""
        return self.stamps[box[0].start]
