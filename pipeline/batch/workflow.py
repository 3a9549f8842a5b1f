"""Luigi's view of a batch; what it does is loaded when there is a batch, as other workflows are defined beside it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import luigi

from blockwise.errors import UserError
from pipeline.running.session import begin_run

if TYPE_CHECKING:
    from pipeline.batch.run import BatchRun

_TO_LUIGI = ("set_status_message", "set_progress_percentage")


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
        _ = self.batch  # read here and once, so that a wrong setting is refused before Luigi schedules anything

    @cached_property
    def batch(self) -> BatchRun:
        """What is computed."""
        from pipeline.batch.run import BatchRun

        return BatchRun.load(self.config, self.manifest or None)

    def requires(self) -> list[luigi.Task]:
        """Nothing; whoever asks is about to run, so the work folder is locked first."""
        begin_run(self.batch.images.shared.work_dir, self.quiet)
        return []

    def complete(self) -> bool:
        """Whether all images are done, of their present files and settings, and the summary is written."""
        return self.batch.is_complete()

    def run(self) -> None:
        """Bring all images up to date, then write and print the summary."""
        self.batch.run(self.quiet, {name: getattr(self, name, None) for name in _TO_LUIGI})

    def on_failure(self, exception: BaseException) -> str:
        """What Luigi shows for a failure: for what a user can mend, the message alone."""
        if isinstance(exception, UserError):
            return str(exception)
        text: str = super().on_failure(exception)
        return text


@BatchWorkflow.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_that_nothing_is_to_do(task: luigi.Task) -> None:
    if isinstance(task, BatchWorkflow) and not task.quiet:
        batch = task.batch
        print(f"Nothing to do: all {len(batch.images.names):,} images are done.\n  summary  {batch.summary_path}")
