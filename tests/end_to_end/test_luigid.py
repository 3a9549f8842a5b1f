"""What a person sees of a run in luigid: the steps, their order, how each stands, and where its logs are."""

from __future__ import annotations

from tests.luigid import Luigid
from tests.runs import STEPS, Project, run_luigi

TASKS = (
    "PredictionTask",
    "ThresholdTask",
    "ComponentFacesTask",
    "ComponentMergeTask",
    "ConnectedComponentsTask",
    "ObjectTableTask",
)


def test_graph_state_and_logs(project: Project, luigid: Luigid) -> None:
    project.change("threshold.threshold", 0.3)
    options = ("--scheduler-host", "127.0.0.1", "--scheduler-port", str(luigid.port))
    code, text = run_luigi(project, *options)
    assert code == 0, text
    found = luigid.ask("task_list", status="DONE", upstream_status="")
    by_name = {task["name"]: (task_id, task) for task_id, task in found.items()}
    assert set(by_name) == {"ConnectedComponentsWorkflow", *TASKS}
    graph = luigid.ask("dep_graph", task_id=by_name["ConnectedComponentsWorkflow"][0])
    needs = {node["name"]: {graph[other]["name"] for other in node["deps"]} for node in graph.values()}
    assert needs["ConnectedComponentsWorkflow"] == {"ConnectedComponentsTask", "ObjectTableTask"}
    assert needs["ObjectTableTask"] == {"ComponentFacesTask", "ComponentMergeTask"}
    assert needs["ConnectedComponentsTask"] == {"ThresholdTask", "ComponentMergeTask"}
    assert needs["ThresholdTask"] == {"PredictionTask"}
    for name, step in zip(TASKS, STEPS, strict=True):
        assert by_name[name][1]["params"] == {"fingerprint": project.step(step).fingerprint}
    threshold = by_name["ThresholdTask"][1]
    assert threshold["tracking_url"] == (project.folder / "work" / "logs" / "threshold").resolve().as_uri()
    status = luigid.ask("get_task_status_message", task_id=by_name["ThresholdTask"][0])
    assert status["statusMessage"].startswith("8 of 8 blocks done, 0 failed")
    progress = luigid.ask("get_task_progress_percentage", task_id=by_name["ThresholdTask"][0])
    assert progress["progressPercentage"] == 100
