"""The only Luigi base class: a task that brings one step up to date."""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Sequence
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from blockwise.backends import Outcome
from blockwise.errors import UserError
from blockwise.run import failure_summary, run_step
from blockwise.step import BlockStep
from blockwise.transient import patiently
from tasks.nodes.execution import Execution
from tasks.nodes.progress import showing_progress
from tasks.nodes.signals import terminate_like_interrupt

logger = logging.getLogger(__name__)

REPAIRS = 3
"""How often in one run a step may find damaged blocks of the step before it and have them redone."""


class StepFailedError(UserError):
    """Blocks of a step have failed; the message names them."""


class ObjectParameter(luigi.Parameter):
    """A Python object, handed from task to task, that never becomes text."""

    def __init__(self) -> None:
        super().__init__(significant=False, visibility=ParameterVisibility.PRIVATE)

    def serialize(self, x: Any) -> str:
        """Name only the object's type in Luigi's own log."""
        return type(x).__name__

    def _warn_on_wrong_param_type(self, param_name: str, param_value: Any) -> None:
        """Any type is right."""


class BlockTask(luigi.Task):
    """Luigi's node for one step: one task however many blocks there are.

    Attributes:
        fingerprint: of the step; the only significant parameter, so a changed step is a new node.
        step: what is computed.
        execution: how.
        upstream: tasks of the steps that this one reads.
    """

    fingerprint: str = luigi.Parameter()
    step: BlockStep = ObjectParameter()
    execution: Execution = ObjectParameter()
    upstream: tuple[BlockTask, ...] = ObjectParameter()

    @classmethod
    def of(cls, step: BlockStep, execution: Execution, *upstream: BlockTask) -> BlockTask:
        """Make the task of a step; ``BlockTask`` itself makes one that is called as the step."""
        kind = _kind_of(step.name) if cls is BlockTask else cls
        task: BlockTask = kind(fingerprint=step.fingerprint, step=step, execution=execution, upstream=upstream)
        return task

    def __repr__(self) -> str:
        """As Luigi has it, without a text of each task before this one, and of those before each of these."""
        return f"{self.get_task_family()}(fingerprint={self.fingerprint})"

    def process_resources(self) -> dict[str, int]:
        """How many steps may run at once is for luigid to say; see ``luigi.cfg``."""
        return {self.execution.resource: 1} if self.execution.resource else {}

    def requires(self) -> list[BlockTask]:
        """The steps that this one reads."""
        return list(self.upstream)

    def complete(self) -> bool:
        """Whether this step and all before it are finished and agree with each other."""
        return all(task.complete() for task in self.upstream) and patiently(self.execution.completeness.of, self.step)

    def run(self) -> None:
        """Bring the step up to date."""
        self.step.make_ready()
        with terminate_like_interrupt():
            self._bring_up_to_date(REPAIRS)

    def on_failure(self, exception: BaseException) -> str:
        """What Luigi shows for a failure: for what a user can mend, the message alone."""
        if isinstance(exception, UserError):
            return str(exception)
        text: str = super().on_failure(exception)
        return text

    def _bring_up_to_date(self, repairs: int) -> None:
        self.execution.completeness.forget(self.step)
        with showing_progress(self.step, self, self.execution.show) as report:
            outcome = run_step(self.step, self.execution.backend, self.execution.max_attempts, report)
        if not outcome.failed and not outcome.stopped:
            self.execution.completeness.remember(self.step)
        if outcome.upstream and repairs:
            logger.warning("%s: %s", self.step.label, outcome.stopped)
            self._repair(outcome, repairs - 1)
        elif outcome.failed or outcome.stopped:
            raise StepFailedError(failure_summary(self.step, outcome))

    def _repair(self, outcome: Outcome, repairs: int) -> None:
        """Redo damaged blocks of the step before, then go on with this one."""
        for task in self.upstream:
            if task.step.label == outcome.upstream:
                task._bring_up_to_date(repairs)
        self._bring_up_to_date(repairs)


@functools.cache
def _kind_of(name: str) -> type[BlockTask]:
    """Luigi's kind of the task of a step, ``ComponentFacesTask`` of ``component_faces``: luigid shows its name."""
    words = "".join(map(str.capitalize, name.split("_")))
    fields = {"__doc__": f"Luigi's node for {name}.", "__module__": __name__}
    kind: type[BlockTask] = types.new_class(f"{words}Task", (BlockTask,), exec_body=lambda body: body.update(fields))
    return kind


def step_tasks(steps: Sequence[BlockStep], execution: Execution) -> list[BlockTask]:
    """Luigi's tasks of steps, each with those of the steps that it reads.

    Args:
        steps: each after those that it reads.
        execution: how their blocks are computed.
    """
    tasks: dict[str, BlockTask] = {}
    for step in steps:
        upstream = [tasks[source.label] for source in step.sources() if source.label in tasks]
        tasks[step.label] = BlockTask.of(step, execution, *upstream)
    return list(tasks.values())
