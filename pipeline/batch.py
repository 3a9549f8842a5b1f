"""Many files with one configuration: small images whole, large ones block by block, one summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import luigi
import pandas as pd
from luigi.interface import PidLockAlreadyTakenExit
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.errors import UserError
from blockwise.files import replacing
from blockwise.plan import is_complete, plan_step
from pipeline.config import Settings
from pipeline.image_records import voxels_of
from pipeline.images import ImagesStep, ImagesTask, images_step
from pipeline.lock import WorkDirBusyError
from pipeline.manifest import Batch, image_settings, load_batch
from pipeline.session import begin_session
from pipeline.steps import build_steps
from pipeline.workflows import execution, step_tasks
from tasks.base import BlockTask, Execution, StepFailedError
from tasks.component_merge import ComponentMergeStep
from tasks.progress import duration
from tasks.signals import terminate_like_interrupt

LONGEST_TABLE = 40
"""Up to this many images are listed each; of more, those that failed."""
SUMMARY = "batch.csv"
_TO_LUIGI = ("set_status_message", "set_progress_percentage")


@dataclass(frozen=True)
class ImageReport:
    """What became of one image: a row of the summary.

    Attributes:
        name: of the image.
        state: ``done``, ``failed`` or ``not tried``.
        objects: number of objects; None where it is not done.
        seconds: wall time of its computation, in whatever run that was.
        raw: address of the image.
        output: container of the results.
        message: what went wrong.
    """

    name: str
    state: str
    objects: int | None
    seconds: float | None
    raw: str
    output: str
    message: str


class BatchWorkflow(luigi.Task):
    """All images of a batch, through prediction, threshold and connected components.

    It is one task for Luigi, however many images there are. What fails is reported, and does not hold up the others.

    Attributes:
        config: path of the configuration file.
        manifest: path of the table of images; empty: as the configuration says.
        quiet: say nothing unless something is wrong, for cron.
    """

    # What fails has had its attempts; Luigi would try all that failed again, minutes later, before it says so.
    retry_count = 1

    config: str = luigi.Parameter(default="", description="path of the configuration file")
    manifest: str = luigi.Parameter(default="", description="table of images, .csv or .yaml")
    quiet: bool = luigi.BoolParameter(
        default=False, significant=False, description="say nothing unless something is wrong, for cron"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch: Batch = load_batch(self.config, self.manifest or None)

    def requires(self) -> list[luigi.Task]:
        """Nothing; whoever asks is about to run, so the work folder is locked first."""
        try:
            begin_session(self.batch.settings.work_dir, self.quiet)
        except WorkDirBusyError as error:
            print(error, file=sys.stderr)
            raise PidLockAlreadyTakenExit from error
        return []

    def complete(self) -> bool:
        """Whether all images are done, of their present files and settings, and the summary is written."""
        if not self.summary_path.exists():
            return False
        if self.small is not None and not is_complete(self.small):
            return False
        return all(self._is_done_in_blocks(i) for i in self._large)

    def forecast(self) -> list[str]:
        """What a run would do, in lines for people; nothing is changed."""
        left = 0 if self.small is None or is_complete(self.small) else len(plan_step(self.small).items)
        small, limit = len(self.batch.names) - len(self._large), self.batch.settings.batch.small_voxels
        lines = [
            f"{len(self.batch.names):,} images: {small:,} small ones (up to {limit:,} voxels), computed whole, "
            f"{left:,} left"
        ]
        if self._large:
            todo = [self.batch.names[i] for i in self._large if not self._is_done_in_blocks(i)]
            named = ", ".join(todo[:LONGEST_TABLE]) + (", ..." if len(todo) > LONGEST_TABLE else "")
            ones = "one" if len(self._large) == 1 else "ones"
            lines.append(
                f"{len(self._large):,} larger {ones}, computed block by block, {len(todo):,} left"
                + (f": {named}" if named else "")
            )
        return lines

    def run(self) -> None:
        """Bring all images up to date, then write and print the summary."""
        failures: dict[str, str] = {}
        with terminate_like_interrupt():
            stopped = self._run_small()
            for i in self._large:
                message = self._run_in_blocks(i)
                if message:
                    failures[self.batch.names[i]] = message
        rows = list(self._report(failures))
        self._write(rows)
        failed = sum(row.state != "done" for row in rows)
        if failed or not self.quiet:
            Console().print(_table(rows), _totals(rows), f"  summary  {self.summary_path}", sep="\n", soft_wrap=True)
        if failed:
            raise StepFailedError(
                f"{failed} of {len(rows)} images are not done{stopped}; the others are. Mend the cause and run the "
                f"same command again; it tries these only. All messages: {self.summary_path}"
            )

    def on_failure(self, exception: BaseException) -> str:
        """What Luigi shows for a failure: for what a user can mend, the message alone."""
        if isinstance(exception, UserError):
            return str(exception)
        text: str = super().on_failure(exception)
        return text

    @property
    def summary_path(self) -> Path:
        """The table of all images."""
        return Path(self.batch.settings.work_dir) / SUMMARY

    @cached_property
    def small(self) -> ImagesStep | None:
        """The step over small images; None where there are none."""
        large = set(self._large)
        indices = [i for i in range(len(self.batch.names)) if i not in large]
        return images_step(self.batch, indices) if indices else None

    @cached_property
    def _large(self) -> list[int]:
        limit = self.batch.settings.batch.small_voxels
        return [i for i in range(len(self.batch.names)) if voxels_of(self._settings[i]) > limit]

    @cached_property
    def _settings(self) -> list[Settings]:
        batch = self.batch
        return [image_settings(batch.shared, name, row) for name, row in zip(batch.names, batch.rows, strict=True)]

    @cached_property
    def execution(self) -> Execution:
        """How images and blocks are computed."""
        return execution(self.batch.settings.backend)

    def _run_small(self) -> str:
        """Compute the small images that are not done; why some were not tried, if any were not."""
        if self.small is None or is_complete(self.small):
            return ""
        task = ImagesTask.of(self.small, self.execution)
        for name in _TO_LUIGI:
            setattr(task, name, getattr(self, name, None))
        try:
            task.run()
        except StepFailedError as error:
            stopped = [line.strip() for line in str(error).splitlines() if line.strip().startswith("stopped:")]
            return f" ({stopped[0]})" if stopped else ""
        return ""

    def _in_blocks(self, i: int) -> list[BlockTask]:
        """Tasks of a large image, each after those that it needs."""
        steps = build_steps(self._settings[i])
        return [task for tasks in step_tasks(steps, self.execution).values() for task in tasks]

    def _is_done_in_blocks(self, i: int) -> bool:
        try:
            return all(task.complete() for task in self._in_blocks(i))
        except (UserError, OSError):
            return False

    def _run_in_blocks(self, i: int) -> str:
        """Run the steps of a large image; what went wrong, if anything did."""
        # The image's folder is the batch's own, so the tables in it are ours; this folder tells.
        (Path(self._settings[i].work_dir) / ComponentMergeStep.name).mkdir(parents=True, exist_ok=True)
        try:
            for task in self._in_blocks(i):
                if not task.complete():
                    task.run()
        except Exception as error:  # one image must not hold up the others
            return f"{error}" if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return ""

    def _report(self, failures: dict[str, str]) -> Iterator[ImageReport]:
        markers = {} if self.small is None else self.small.markers.scan()
        failed = {} if self.small is None else self.small.markers.failures()
        numbers = {} if self.small is None else {name: i for i, name in enumerate(self.small.names)}
        for name, settings in zip(self.batch.names, self._settings, strict=True):
            number, seconds, message = numbers.get(name), None, failures.get(name, "")
            state = "failed" if message else "done"
            if number is not None and number in markers:
                seconds = markers[number].seconds
            elif number is not None:
                failure = failed.get(number)
                state = "failed" if failure else "not tried"
                message = f"{failure.error}: {failure.message}" if failure else ""
            objects = _count(settings) if state == "done" else None
            yield ImageReport(name, state, objects, seconds, settings.raw.address, settings.output, message)

    def _write(self, rows: list[ImageReport]) -> None:
        with replacing(self.summary_path) as temporary:
            table = pd.DataFrame([asdict(row) for row in rows]).astype({"objects": "Int64"})
            table.to_csv(temporary, index=False)


def _count(settings: Settings) -> int:
    """Number of objects, of all thresholds: lines of the tables below their headers."""
    return sum(path.read_bytes().count(b"\n") - 1 for path in Path(settings.work_dir).glob("objects*.csv"))


def _table(rows: list[ImageReport]) -> Table:
    table = Table("image", "state", "objects", "seconds", "message", box=SIMPLE)
    shown = rows if len(rows) <= LONGEST_TABLE else [row for row in rows if row.state != "done"][:LONGEST_TABLE]
    for row in shown:
        objects = "" if row.objects is None else f"{row.objects:,}"
        seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
        table.add_row(row.name, row.state, objects, seconds, row.message)
    return table


def _totals(rows: list[ImageReport]) -> str:
    done = [row for row in rows if row.state == "done"]
    objects = sum(row.objects or 0 for row in done)
    seconds = sum(row.seconds or 0 for row in done)
    failed = sum(row.state == "failed" for row in rows)
    return (
        f"{len(done):,} of {len(rows):,} images done, {failed:,} failed; {objects:,} objects; "
        f"{duration(seconds)} of computation"
    )


@BatchWorkflow.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_that_nothing_is_to_do(task: luigi.Task) -> None:
    if isinstance(task, BatchWorkflow) and not task.quiet:
        print(f"Nothing to do: all {len(task.batch.names):,} images are done.\n  summary  {task.summary_path}")
