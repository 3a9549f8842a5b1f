"""What a run of a batch would do, and how far one has come."""

from __future__ import annotations

from dataclasses import dataclass

from blockwise.errors import UserError
from blockwise.plan import is_complete, plan_step
from pipeline.batch.image_stamps import CONFIGURATION
from pipeline.batch.image_step import ImagesStep
from pipeline.batch.images import BatchImages
from pipeline.inspecting.forecast import StepStatus, status


@dataclass(frozen=True)
class BatchForecast:
    """What a run would do.

    Attributes:
        small: number of images that are computed whole.
        small_left: those of them that are to be done.
        large: number of images that are computed block by block.
        large_left: names of those that are to be done.
    """

    small: int
    small_left: int
    large: int
    large_left: tuple[str, ...]


@dataclass(frozen=True)
class LargeStatus:
    """How far an image has come that is computed block by block.

    Attributes:
        image: its name.
        done: blocks of all steps.
        failed: the same.
        missing: the same.
        finished: number of finished steps.
        steps: number of steps.
        messages: of failures; why there are no steps, where there are none.
    """

    image: str
    done: int
    failed: int
    missing: int
    finished: int
    steps: int
    messages: tuple[str, ...]

    @property
    def is_finished(self) -> bool:
        """Whether all steps are finished."""
        return 0 < self.finished == self.steps


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch has come.

    Attributes:
        small: of images that are computed whole, one a block; None where there are none.
        large: of each other image.
    """

    small: StepStatus | None
    large: tuple[LargeStatus, ...]

    @property
    def messages(self) -> list[str]:
        """Of all failures, each with the image's name."""
        return [*(self.small.messages if self.small else ()), *(text for row in self.large for text in row.messages)]

    @property
    def has_failed(self) -> bool:
        """Whether anything has failed."""
        return bool(self.small and self.small.failed) or any(row.messages for row in self.large)


def forecast_batch(images: BatchImages) -> BatchForecast:
    """Look at all images; nothing is changed."""
    small = images.small
    left = 0 if small is None or is_complete(small) else len(plan_step(small).items)
    todo = tuple(images.names[i] for i in images.large if not images.is_done_in_blocks(i))
    return BatchForecast(len(images.names) - len(images.large), left, len(images.large), todo)


def batch_status(images: BatchImages) -> BatchStatus:
    """Count markers and failure records; results and files of images are not looked at."""
    small = None if images.small is None else _small_status(images.small)
    return BatchStatus(small, tuple(_large_status(images, i) for i in images.large))


def _small_status(step: ImagesStep) -> StepStatus:
    markers = step.markers.scan()
    failures = step.failures(markers)
    # Settings and project are not in this step's fingerprint, but in the markers.
    done = len(step.current(markers, CONFIGURATION).keys() - failures.keys())
    return StepStatus(
        step=step.label,
        done=done,
        failed=len(failures),
        missing=len(step.names) - done - len(failures),
        finished=done == len(step.names) and step.read_target() is not None,
        messages=tuple(
            f"{step.names[number]}: attempt {f.attempt}: {f.error}: {f.message} [log: {f.log}]"
            for number, f in sorted(failures.items())
        ),
    )


def _large_status(images: BatchImages, i: int) -> LargeStatus:
    name = images.names[i]
    try:
        rows = [status(step) for step in images.steps(i).all()]
    except (UserError, OSError) as error:
        return LargeStatus(name, 0, 0, 0, 0, 0, (f"{name}: {error}",))
    return LargeStatus(
        image=name,
        done=sum(row.done for row in rows),
        failed=sum(row.failed for row in rows),
        missing=sum(row.missing for row in rows),
        finished=sum(row.finished for row in rows),
        steps=len(rows),
        messages=tuple(f"{name}: {row.step}: {message}" for row in rows for message in row.messages),
    )
