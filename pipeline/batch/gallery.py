"""The images of a batch, to be looked at one by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from blockwise.backends.executor import Executor
from blockwise.demand import Demand
from blockwise.demand.presence import BELIEVED_S, Presence
from blockwise.plan import Item, present_marker
from blockwise.trust.durability import power_was_lost
from blockwise.trust.ownership import why_not_ours
from pipeline.assembly.steps import Steps
from pipeline.batch.image_chains import image_steps
from pipeline.batch.image_stamps import SOURCES, ImageStamps
from pipeline.batch.image_step import ImagesStep
from pipeline.batch.images import BatchImages
from pipeline.viewing.aside import apart, steps_aside
from pipeline.viewing.gallery import Gallery
from pipeline.viewing.images.layers import layers_of
from pipeline.viewing.live.stores import Stores
from pipeline.viewing.site import Site

logger = logging.getLogger(__name__)


def gallery_of(images: BatchImages, config: str, executor: Executor | None, max_attempts: int) -> Gallery:
    """All images of a batch. Of what is not there blocks are computed, and other thresholds can be tried.

    Args:
        images: of the batch.
        config: path of the configuration.
        executor: computes what is not there; None where only what is there is shown.
        max_attempts: how often a block is tried.
    """
    presence = Presence()
    demand = None if executor is None else Demand(presence, executor, max_attempts)
    sites = _Sites(images, config, presence, demand)

    def end() -> None:
        if demand is not None:
            demand.close()

    return Gallery(images.shared.work_dir, images.names, sites.open, lambda: states(images), sites.is_outdated, end)


class _Sites:
    """Opens images as sites.

    Small images that are finished are shown as they were written; until then, and for whatever is tried, they are
    volumes of one block in a store of their own, as a run writes all of an image at once.
    """

    def __init__(self, images: BatchImages, config: str, presence: Presence, demand: Demand | None) -> None:
        self._images = images
        self._config = config
        self._presence = presence
        self._demand = demand
        self._numbers = {name: number for number, name in enumerate(images.names)}
        self._large = set(images.large)
        self._unfinished: dict[str, SmallImage] = {}

    def open(self, name: str) -> Site:
        """The site of an image; errors as of ``build_steps``."""
        number, small = self._numbers[name], self._images.small
        settings = self._images.settings[number]
        if number in self._large or small is None:
            steps = self._images.steps(number)
            if self._demand is not None:
                steps, notes = steps_aside(settings, steps)
                for note in notes:
                    logger.warning("image %s: %s", name, note)
            return self._site(steps, number, steps)
        image, steps = SmallImage(small, name), image_steps(settings)
        if self._demand is None:
            return Site(steps, layers_of(steps), None, self._presence, image)
        aside = image_steps(apart(settings, steps.prediction))
        if image.tag():
            return self._site(steps, number, aside, image)
        self._unfinished[name] = image
        return self._site(aside, number, aside)

    def is_outdated(self, name: str) -> bool:
        """Whether an image that is shown from a store of its own is finished by now."""
        image = self._unfinished.get(name)
        if image is None or not image.tag():
            return False
        del self._unfinished[name]
        return True

    def _site(self, steps: Steps, number: int, tried: Steps, whole: SmallImage | None = None) -> Site:
        """A site, with thresholds to try on the probabilities of other steps, or the same."""
        has_own = "threshold" in self._images.batch.rows[number]
        stores = Stores(self._images.settings[number], "" if has_own else self._config, tried)
        return Site(
            steps, layers_of(steps), self._demand, self._presence, whole,
            stores=None if self._demand is None else stores, shares_demand=True,
        )  # fmt: skip


def states(images: BatchImages) -> Mapping[str, str]:
    """How far images are, as far as one look at the markers of small ones tells."""
    found = {images.names[number]: "large" for number in images.large}
    if images.small is None:
        return found
    step = images.small
    everything = range(len(step.names))
    found |= {step.names[number]: "failed" for number in step.markers.failed_among(everything)}
    return found | {step.names[number]: "done" for number in step.markers.done_among(everything)}


class SmallImage:
    """An image that is written as a whole, in one go; see ``Site.whole``.

    Attributes:
        step: over all small images.
        name: of this one.
    """

    def __init__(self, step: ImagesStep, name: str) -> None:
        self.step = step
        self.name = name
        self._seen = float("-inf"), ""

    def tag(self) -> str:
        """Checksum of its datasets as its marker has it; empty where it is not finished with what there is now."""
        seen_at, tag = self._seen
        if time.monotonic() - seen_at > BELIEVED_S:
            tag = self._look()
            self._seen = time.monotonic(), tag
        return tag

    def _look(self) -> str:
        number, look = self.step.names.index(self.name), ImageStamps(self.step.volumes)
        settings = self.step.image_settings(number)
        stamps = {name: look.stamp(name, settings) for name in SOURCES}
        if why_not_ours(self.step) or power_was_lost(self.step):
            return ""
        marker = present_marker(self.step, Item(number, stamps, check=True))
        return "" if marker is None else marker.checksum

    def why_missing(self) -> str:
        """Why nothing of it is shown, and what to do, for people."""
        failure = self.step.markers.read_failure(self.step.names.index(self.name))
        if failure is not None:
            return f"image {self.name} has failed: {failure.error}: {failure.message} [log: {failure.log}]"
        return f"image {self.name} is not finished; run the workflow"
