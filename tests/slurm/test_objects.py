"""Classes of objects by jobs of a cluster: ilastik's own case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.test_object_classification import assert_ilastiks_objects, case
from tests.runs import Project, run_luigi
from tests.slurm.cluster import Cluster

__all__ = ["case"]

pytestmark = pytest.mark.soak


@pytest.fixture
def on_cluster(case: Project, cluster: Cluster) -> Iterator[Project]:
    case.change("connected_components", {"features": "project"})
    case.change("backend", {"name": "slurm", "slurm": {"poll_s": 1, "grace_s": 2, "blocks_per_job": 6}})
    yield case
    try:
        cluster.wait_until_quiet(30)
    finally:
        cluster.cancel_all()


def test_jobs_classify_objects_as_ilastik_does(on_cluster: Project) -> None:
    code, text = run_luigi(on_cluster, workflow="ObjectClassificationWorkflow")
    assert code == 0, text
    assert_ilastiks_objects()
    on_cluster.change("backend", {"name": "local", "workers": 1})
    code, text = run_luigi(on_cluster, workflow="ObjectClassificationWorkflow")
    assert (code, "Nothing to do" in text) == (0, True), text
