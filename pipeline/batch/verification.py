"""Reads the results of all finished images of a batch back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blockwise.errors import UserError
from blockwise.plan import plan_step
from blockwise.step import BlockStep
from pipeline.batch.image_stamps import UNREADABLE
from pipeline.batch.image_step import ImagesStep
from pipeline.batch.images import BatchImages
from pipeline.inspecting.verification import DamagedBlock


@dataclass(frozen=True)
class Part:
    """What is verified at once: all small images, or a step of a large one.

    Attributes:
        label: for people.
        unit: what the blocks of the step are.
        step: to verify; None where it cannot be made.
        blocks: of the step that are to be read.
        note: what is not read, and why; empty if everything is.
    """

    label: str
    unit: str
    step: BlockStep | None
    blocks: tuple[int, ...]
    note: str = ""

    def describe(self, damaged: DamagedBlock) -> str:
        """Name a damaged block."""
        if isinstance(self.step, ImagesStep):
            return f"image {self.step.names[damaged.block]}: {damaged.found}"
        return f"block {damaged.block} at {damaged.start}: {damaged.found}"


def parts_of(images: BatchImages) -> Iterator[Part]:
    """What of a batch can be verified."""
    if images.small is not None:
        yield _small_part(images.small)
    for i in images.large:
        name = images.names[i]
        try:
            steps = images.steps(i).all()
        except (UserError, OSError) as error:
            yield Part(name, "blocks", None, (), f"not read, the next run will meet it as well: {error}")
            continue
        for step in steps:
            yield Part(f"{name} {step.label}", "blocks", step, tuple(sorted(step.markers.scan())))


def _small_part(step: ImagesStep) -> Part:
    """Finished images whose file, settings and project are what they were; others may have other datasets now."""
    done = step.markers.scan()
    items = plan_step(step).items
    stale = {item.block for item in items if not item.check or UNREADABLE in item.stamps.values()} & done.keys()
    note = f"{len(stale)} not read: file or settings have changed, the next run computes them again" if stale else ""
    return Part(step.label, "images", step, tuple(sorted(done.keys() - stale)), note)
