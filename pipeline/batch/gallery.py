"""The images of a batch, to be looked at one by one."""

from __future__ import annotations

import time
from collections.abc import Mapping

from blockwise.backends.executor import Executor
from blockwise.demand import Demand
from blockwise.demand.presence import BELIEVED_S, Presence
from blockwise.plan import Item, present_marker
from blockwise.trust.durability import power_was_lost
from blockwise.trust.ownership import why_not_ours
from pipeline.batch.image_chains import image_steps
from pipeline.batch.image_stamps import SOURCES, ImageStamps
from pipeline.batch.image_step import ImagesStep
from pipeline.batch.images import BatchImages
from pipeline.viewing.gallery import Gallery
from pipeline.viewing.images.layers import layers_of
from pipeline.viewing.site import Site


def gallery_of(images: BatchImages, executor: Executor | None, max_attempts: int) -> Gallery:
    """All images of a batch. What small ones hold is there when they are finished; of large ones blocks are computed.

    Args:
        images: of the batch.
        executor: computes what is not there; None where only what is there is shown.
        max_attempts: how often a block is tried.
    """
    presence = Presence()
    demand = None if executor is None else Demand(presence, executor, max_attempts)
    numbers = {name: number for number, name in enumerate(images.names)}
    large, small = set(images.large), images.small

    def open_site(name: str) -> Site:
        number = numbers[name]
        if number in large or small is None:
            steps = images.steps(number)
            return Site(steps, layers_of(steps), demand, presence)
        steps = image_steps(images.settings[number])
        return Site(steps, layers_of(steps), None, presence, SmallImage(small, name))

    def end() -> None:
        if demand is not None:
            demand.close()

    return Gallery(images.shared.work_dir, images.names, open_site, lambda: states(images), end)


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
