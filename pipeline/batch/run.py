"""A batch brought up to date: small images whole, large ones block by block, one summary."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from rich.console import Console

from blockwise.errors import UserError
from blockwise.not_finite import NotFinite, NotFiniteTotals, counted
from blockwise.plan import is_complete
from blockwise.records import Records, open_records, read_json
from pipeline.assembly.known import keep_known, known_notes
from pipeline.assembly.masking import keep_what_was_found
from pipeline.assembly.storage import storage_notes
from pipeline.batch.image_step import ImagesStep, scratch_folder
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.batch.results_record import record
from pipeline.batch.summary import SUMMARY, ImageReport, count_objects, summary_table, totals, write_summary
from pipeline.configuration.setting_names import naming_keys
from pipeline.running.execution import execution
from tasks.nodes.execution import Execution
from tasks.nodes.signals import terminate_like_interrupt
from tasks.nodes.task import BlockTask, StepFailedError, step_tasks
from tasks.objects.table_step import ObjectTableStep
from tasks.prediction import PredictionStep

logger = logging.getLogger(__name__)


class ImagesTask(BlockTask):
    """Luigi's node for small images; it is run by the batch, not by Luigi."""

    def run(self) -> None:
        """Bring all images up to date; what killed workers have left goes."""
        try:
            super().run()
        finally:
            shutil.rmtree(scratch_folder(self.step.work_dir), ignore_errors=True)


class BatchRun:
    """Many images with one configuration.

    Attributes:
        images: those of the batch, with their settings.
    """

    def __init__(self, images: BatchImages) -> None:
        self.images = images

    @classmethod
    def load(cls, config: str, manifest: str | None) -> BatchRun:
        """Read a configuration file and its manifest; None for the one that the configuration names.

        Raises:
            UserError: one of them cannot be read, or holds something wrong.
        """
        return cls(BatchImages(load_batch(config, manifest)))

    def is_complete(self) -> bool:
        """Whether all images are done, of their present files and settings, and the summary is written."""
        if self.records.state(SUMMARY) is None:
            return False
        if not all(run.is_complete() for run in self.images.runs()):
            return False
        self.images.volumes.keep()
        return True

    def run(self, quiet: bool, to_luigi: Mapping[str, Any]) -> None:
        """Bring all images up to date, then write and print the summary.

        Args:
            quiet: print nothing unless something is wrong.
            to_luigi: what Luigi has given its task, by which the small images tell how far they are.

        Raises:
            StepFailedError: some images are not done.
        """
        failures: dict[str, str] = {}
        small, large = self.images.small, self.images.large
        self.images.volumes.keep()
        with terminate_like_interrupt():
            stopped = "" if small is None else self._run_small(small, to_luigi)
            for i in large:
                message = self._run_in_blocks(i)
                if message:
                    failures[self.images.names[i]] = message
        rows = list(self._report(failures))
        write_summary(self.records, rows)
        failed = sum(row.state != "done" for row in rows)
        if failed or not quiet:
            Console().print(
                summary_table(rows), totals(rows), f"  summary  {self.summary_path}", sep="\n", soft_wrap=True
            )
        if failed:
            raise StepFailedError(
                f"{failed} of {len(rows)} images are not done{stopped}; the others are. Mend the cause and run the "
                f"same command again; it tries these only. All messages: {self.summary_path}"
            )

    @property
    def records(self) -> Records:
        """Those of the batch's work folder."""
        return open_records(self.images.shared.work_dir)

    @property
    def summary_path(self) -> str:
        """Where the table of all images lies."""
        return self.records.place(SUMMARY)

    @cached_property
    def execution(self) -> Execution:
        """How images and blocks are computed."""
        return execution(self.images.shared.backend)

    def _run_small(self, step: ImagesStep, to_luigi: Mapping[str, Any]) -> str:
        """Compute the small images that are not done; why some were not tried, if any were not."""
        if is_complete(step):
            return ""
        task = ImagesTask.of(step, self.execution)
        for name, function in to_luigi.items():
            setattr(task, name, function)
        try:
            task.run()
        except StepFailedError as error:
            stopped = [line.strip() for line in str(error).splitlines() if line.strip().startswith("stopped:")]
            return f" ({stopped[0]})" if stopped else ""
        return ""

    def _run_in_blocks(self, i: int) -> str:
        """Run the steps of a large image; what went wrong, if anything did."""
        try:
            steps = self.images.steps(i)
            record(self.images.settings[i], steps)
            keep_what_was_found(steps.prediction)
            notes = (*known_notes(steps.prediction), *storage_notes(steps.usual()))
            keep_known(steps.prediction)
            for note in notes:
                logger.warning("%s: %s", self.images.names[i], note)
            for objects in steps.objects:
                # The image's folder is the batch's own, so the tables in it are ours; this folder tells.
                _claim_tables(objects.object_table)
            for task in step_tasks(steps.usual(), self.execution):
                if not task.complete():
                    with naming_keys():
                        task.run()
        except Exception as error:  # one image must not hold up the others
            return f"{error}" if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return ""

    def _report(self, failures: dict[str, str]) -> Iterator[ImageReport]:
        small = self.images.small
        markers = {} if small is None else small.markers.scan()
        failed = {} if small is None else small.failures(markers)
        if small is not None and small.read_target() is None:  # some that were not tried have markers all the same
            markers = small.current(markers)
        numbers = {} if small is None else {name: i for i, name in enumerate(small.names)}
        for name, settings in zip(self.images.names, self.images.settings, strict=True):
            number, seconds, message = numbers.get(name), None, failures.get(name, "")
            state = "failed" if message else "done"
            if number in markers and number not in failed:
                seconds, message = markers[number].seconds, _odd(markers[number].not_finite)
            elif number is not None:
                failure = failed.get(number)
                state = "failed" if failure else "not tried"
                message = f"{failure.error}: {failure.message}" if failure else ""
            elif state == "done":
                target = read_json(open_records(settings.work_dir), f"{PredictionStep.name}.json") or {}
                message = _odd(NotFiniteTotals.from_json(target.get("not_finite")))
            objects = count_objects(settings) if state == "done" else None
            yield ImageReport(name, state, objects, seconds, settings.raw.address, settings.output, message)


def _claim_tables(step: ObjectTableStep) -> None:
    """Make the prefix that says that object tables in a work folder are ours."""
    path = step.work.local(step.label)
    if path is None:
        step.work.put(f"{step.label}/.ours", b"")
    else:
        path.mkdir(parents=True, exist_ok=True)


def _odd(found: NotFinite | NotFiniteTotals | None) -> str:
    """What an image has that is not finite, if it has any; the first with its place, without names of axes."""
    return "" if found is None else f"{counted(found.nan, found.infinite)}, the first at {found.first}"
