"""Which step feeds which: Luigi's tasks of a run's steps."""

from __future__ import annotations

from pipeline.assembly.steps import Steps
from tasks.nodes.execution import Execution
from tasks.nodes.kinds import (
    ComponentFacesTask,
    ComponentMergeTask,
    ConnectedComponentsTask,
    CoresTask,
    MeasuresTask,
    ObjectTableTask,
    PredictionTask,
    ThresholdTask,
)
from tasks.nodes.task import BlockTask


def step_tasks(steps: Steps, execution: Execution) -> dict[str, list[BlockTask]]:
    """Luigi's tasks of all steps to objects, by the steps' names, one for each threshold.

    Names stand in the order of the steps: each task comes after those that it needs.
    """
    prediction = PredictionTask.of(steps.prediction, execution)
    tasks: dict[str, list[BlockTask]] = {prediction.step.name: [prediction]}
    for objects in steps.objects:
        threshold = ThresholdTask.of(objects.threshold, execution, prediction)
        faces = ComponentFacesTask.of(objects.component_faces, execution, threshold)
        merge = ComponentMergeTask.of(objects.component_merge, execution, faces)
        final = ConnectedComponentsTask.of(objects.connected_components, execution, threshold, merge)
        cores = () if objects.cores is None else (CoresTask.of(objects.cores, execution, threshold, final),)
        measures = (
            () if objects.measures is None else (MeasuresTask.of(objects.measures, execution, prediction, final),)
        )
        table = ObjectTableTask.of(objects.object_table, execution, faces, merge, *measures)
        for task in (threshold, faces, merge, final, *cores, *measures, table):
            tasks.setdefault(task.step.name, []).append(task)
    return tasks
