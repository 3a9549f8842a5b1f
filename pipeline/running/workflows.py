"""The workflows that users name on Luigi's command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import luigi

from blockwise.errors import UserError
from pipeline.assembly.known import keep_known, known_notes
from pipeline.assembly.masking import keep_what_was_found
from pipeline.assembly.objects.classification import with_classifier
from pipeline.assembly.steps import Steps, build_steps
from pipeline.assembly.storage import storage_notes
from pipeline.configuration.setting_names import naming_keys
from pipeline.configuration.settings import Settings, load_settings
from pipeline.running.alignment import AlignmentWorkflow
from pipeline.running.execution import execution
from pipeline.running.report import RunReport
from pipeline.running.session import begin_run
from tasks.nodes.execution import Execution
from tasks.nodes.task import BlockTask, step_tasks

logger = logging.getLogger(__name__)


class Workflow(luigi.Task):
    """A chain of steps up to one of them, and a report at its end.

    Attributes:
        config: path of the configuration file.
        quiet: say nothing unless something is wrong, for cron.
    """

    config: str = luigi.Parameter(default="", description="path of the configuration file")
    quiet: bool = luigi.BoolParameter(
        default=False, significant=False, description="say nothing unless something is wrong, for cron"
    )

    last_step: ClassVar[str]
    """Name of the step that ends the workflow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Read here and once, so that a wrong setting is refused before Luigi schedules anything.
        self.settings: Settings = self.adapted(load_settings(self.config))
        if self.settings.takes_aligned:
            from pipeline.assembly.stacks.unaligned import check_before_aligning  # loads all that is known of slices

            check_before_aligning(self.settings)
            self.alignment = AlignmentWorkflow(config=self.config, quiet=self.quiet)
        else:
            _ = self.steps

    @cached_property
    def steps(self) -> Steps:
        """The steps of all workflows; where these read an aligned volume, it must be there."""
        steps = build_steps(self.settings)
        with naming_keys():
            for step in steps.run_to(self.last_step):
                step.output().check_ours()
        self.known_notes = tuple(known_notes(steps.prediction))
        keep_known(steps.prediction)
        keep_what_was_found(steps.prediction)
        return steps

    def adapted(self, settings: Settings) -> Settings:
        """The configuration as this workflow takes it."""
        return settings

    def last_tasks(self) -> list[BlockTask]:
        """The tasks whose steps no other one of the workflow reads."""
        tasks = step_tasks(self.steps.run_to(self.last_step), self.execution)
        read = {needed.step.label for task in tasks for needed in task.upstream}
        return [task for task in tasks if task.step.label not in read]

    @cached_property
    def report(self) -> RunReport:
        """The report at the end."""
        return RunReport(self.get_task_family(), self.settings, self.steps.run_to(self.last_step))

    def requires(self) -> list[luigi.Task]:
        """The last steps' tasks; whoever asks is about to run, so the work folder is locked first.

        What is made of slices is known when these are aligned: then that comes first, and the steps in ``run``.
        """
        begin_run(self.settings.work_dir, self.quiet)
        if self.settings.takes_aligned:
            return [self.alignment]
        for note in (*self.known_notes, *storage_notes(self.steps.run_to(self.last_step))):
            logger.warning(note)
        return list(self.last_tasks())

    def complete(self) -> bool:
        """Whether all steps are finished and the report is of their present results."""
        if self.settings.takes_aligned and not self._is_aligned():
            return False
        return all(task.complete() for task in self.last_tasks()) and self.report.is_current()

    def _is_aligned(self) -> bool:
        """Whether the slices are in place; where what is made of them is refused, ``run`` says why."""
        try:
            return self.alignment.complete() and bool(self.steps)
        except UserError:
            return False

    def run(self) -> Iterator[luigi.Task]:
        """Have done what could not be told before; write and print the report."""
        if self.settings.takes_aligned:
            _ = self.steps
            yield AlignedResults(config=self.config, workflow=self.get_task_family())
        self.report.write()
        if not self.quiet:
            print(self.report.text())

    @cached_property
    def execution(self) -> Execution:
        """How blocks are computed."""
        return execution(self.settings.backend)


class AlignedResults(luigi.Task):
    """What a workflow makes of an aligned volume; it is made when there is one.

    Attributes:
        config: path of the configuration file.
        workflow: name of the workflow.
    """

    config: str = luigi.Parameter()
    workflow: str = luigi.Parameter()

    def requires(self) -> list[BlockTask]:
        """The last steps' tasks."""
        return self._workflow().last_tasks()

    def complete(self) -> bool:
        """Whether all steps are finished."""
        return all(task.complete() for task in self.requires())

    def _workflow(self) -> Workflow:
        (kind,) = (kind for kind in Workflow.__subclasses__() if kind.get_task_family() == self.workflow)
        workflow: Workflow = kind(config=self.config)
        return workflow


class PredictionWorkflow(Workflow):
    """Raw volume and project -> probabilities."""

    last_step = "prediction"


class SimpleSegmentationWorkflow(Workflow):
    """Raw volume and project -> the most probable class of each voxel."""

    last_step = "simple_segmentation"


class ThresholdWorkflow(Workflow):
    """Raw volume and project -> mask, for each threshold."""

    last_step = "threshold"


class ConnectedComponentsWorkflow(Workflow):
    """Raw volume and project -> labelled objects, cores where they are wanted, a table; for each threshold."""

    last_step = "object_table"


class ObjectClassificationWorkflow(Workflow):
    """Raw volume and project -> labelled objects and the class of each; for each threshold.

    Where the configuration names no classifier, that of the prediction's project.
    """

    last_step = "object_classes"

    def adapted(self, settings: Settings) -> Settings:
        """With a classifier."""
        return with_classifier(settings)


class PyramidWorkflow(Workflow):
    """All results and their coarser scales; where the configuration says nothing of them, as many as viewers need."""

    last_step = "pyramid"

    def adapted(self, settings: Settings) -> Settings:
        """With scales."""
        if settings.pyramid.scales is not None:
            return settings
        return settings.model_copy(update={"pyramid": settings.pyramid.model_copy(update={"scales": "auto"})})


@Workflow.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_that_nothing_is_to_do(task: luigi.Task) -> None:
    if isinstance(task, Workflow) and not task.quiet:
        print(f"Nothing to do: {task.get_task_family()} is finished and up to date.\n{task.report.places()}")
        print(*task.known_notes, *storage_notes(task.steps.run_to(task.last_step)), sep="\n", end="")
