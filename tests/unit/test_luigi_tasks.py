"""Luigi's tasks as text, which Luigi makes many times of each."""

from __future__ import annotations

import luigi

from pipeline import ConnectedComponentsWorkflow
from tests.runs import InlineBackend, Project, Run


def test_tasks_and_steps_are_short_texts(unused: Project) -> None:
    tasks = unused.tasks(Run(), InlineBackend, ConnectedComponentsWorkflow)
    assert tasks
    while tasks:
        task = tasks.pop()
        assert repr(task) == luigi.Task.__repr__(task), "as Luigi writes it in its log and its summary"
        assert repr(task.step) == f"{type(task.step).__name__}('{task.step.label}', 'work')"
        tasks.extend(task.upstream)
