"""The workflow that aligns a stack, in two stages: how large the aligned volume is, is known after the first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import luigi

from blockwise.errors import UserError
from pipeline.assembly.checks import check_memory
from pipeline.configuration.setting_names import naming_keys
from pipeline.configuration.settings import Settings, load_settings
from pipeline.running.execution import execution
from pipeline.running.session import begin_run
from tasks.nodes.execution import Execution
from tasks.nodes.task import BlockTask, step_tasks

if TYPE_CHECKING:  # what is known of slices is loaded by workflows that have some
    from pipeline.assembly.stacks.placed import PlacedSteps
    from pipeline.assembly.stacks.steps import StackSteps


class StackTask(luigi.Task):
    """Something to do with the slices of a configuration.

    Attributes:
        config: path of the configuration file.
        quiet: say nothing unless something is wrong, for cron.
    """

    config: str = luigi.Parameter(default="", description="path of the configuration file")
    quiet: bool = luigi.BoolParameter(
        default=False, significant=False, description="say nothing unless something is wrong, for cron"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from pipeline.assembly.stacks.steps import stack_steps

        super().__init__(*args, **kwargs)
        self.settings: Settings = load_settings(self.config)
        self.stack: StackSteps = stack_steps(self.settings)
        check_memory(self.stack.all(), self.settings.backend)

    def placed_steps(self) -> PlacedSteps:
        """The steps that put the slices in place; see there."""
        from pipeline.assembly.stacks.placed import placed_steps

        return placed_steps(self.settings, self.stack)

    @cached_property
    def execution(self) -> Execution:
        """How blocks are computed."""
        return execution(self.settings.backend)


class AlignedVolume(StackTask):
    """The second stage: slices whose transforms are known are put in place. It is made when they are."""

    def requires(self) -> list[BlockTask]:
        """The tasks of all steps."""
        placed = self.placed_steps().all()
        check_memory(placed, self.settings.backend)
        with naming_keys():
            for step in placed:
                step.output().check_ours()
        return step_tasks((*self.stack.all(), *placed), self.execution)

    def complete(self) -> bool:
        """Whether all steps are finished."""
        return all(task.complete() for task in self.requires())


class AlignmentWorkflow(StackTask):
    """Slices -> transforms, a report, the aligned volume, and where in it there is tissue."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with naming_keys():
            for step in self.stack.all():
                step.output().check_ours()

    def stack_tasks(self) -> list[BlockTask]:
        """Tasks of the first stage."""
        return step_tasks(self.stack.all(), self.execution)

    def requires(self) -> list[BlockTask]:
        """The first stage; whoever asks is about to run, so the work folder is locked first."""
        begin_run(self.settings.work_dir, self.quiet)
        return self.stack_tasks()

    def complete(self) -> bool:
        """Whether both stages are finished."""
        try:
            return all(task.complete() for task in self.stack_tasks()) and self._second().complete()
        except UserError:  # ``run`` meets it again, and says it
            return False

    def run(self) -> Iterator[luigi.Task]:
        """Have the second stage done, and say what has become of the slices."""
        self._second().requires()
        yield self._second()
        if not self.quiet:
            print(self.text())

    def _second(self) -> AlignedVolume:
        return AlignedVolume(config=self.config, quiet=self.quiet)

    def text(self) -> str:
        """What has become of the slices, for a terminal."""
        report, alignment = self.stack.report, self.stack.alignment
        transforms = alignment.output().tables[0]
        flagged = json.loads(transforms.file().read_text())["flagged"]
        placed = self.placed_steps()
        numbers = self.stack.slices.numbers
        size = " x ".join(map(str, placed.tissue.grid.shape))
        left_out = f"; {len(flagged)} are filled: {', '.join(map(str, flagged))}" if flagged else ""
        return "\n".join([
            "AlignmentWorkflow is finished.",
            f"  slices      {len(numbers)}, numbers {numbers[0]} to {numbers[-1]}{left_out}",
            f"  aligned     {placed.aligned.address}, {size} (zyx)",
            f"  tissue      {placed.tissue.address}",
            f"  transforms  {transforms}",
            f"  report      {report.page}",
        ])  # fmt: skip


@AlignmentWorkflow.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_that_nothing_is_to_do(task: luigi.Task) -> None:
    if isinstance(task, AlignmentWorkflow) and not task.quiet:
        print(f"Nothing to do: AlignmentWorkflow is finished and up to date; {task.stack.report.page}")
