"""The image, built from the Containerfile; a step whose jobs run in it gives the same bytes as here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blockwise.backends.aws_batch import AwsBatchBackend, AwsBatchOptions
from blockwise.backends.aws_batch.client import BatchClient
from blockwise.backends.aws_batch.queue import AwsBatchQueue
from blockwise.job import BEGINS
from blockwise.plan import is_complete
from blockwise.run import run_step
from blockwise.volume import open_volume
from tests.aws_batch.stand_in import StandIn
from tests.container.image import WorkingContainer, build_image, missing
from tests.runs import Project, make_project

pytestmark = pytest.mark.container

OPTIONS = AwsBatchOptions(queue="main", job_definition="blocks", poll_s=1, grace_s=2, blocks_per_job=6, time_min=60)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkingContainer]:
    why = missing()
    if why:
        (pytest.fail if os.environ.get("REQUIRE_BUILDAH") else pytest.skip)(why)
    found = WorkingContainer(build_image(tmp_path_factory.mktemp("build")))
    yield found
    found.remove()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


def test_jobs_in_the_image_give_the_same_bytes(
    container: WorkingContainer, aws_batch: StandIn, here: Project, finished: Project
) -> None:
    aws_batch.wrapped = lambda command, variables: container.command(command, variables, here.folder)
    step = here.steps().prediction
    backend = AwsBatchBackend(OPTIONS, AwsBatchQueue(OPTIONS, BatchClient()))
    outcome = run_step(step, backend, 2, lambda outcome: None)
    logs = {path.name: path.read_text() for path in step.logs.glob("*.log")}
    assert (outcome.computed, outcome.failed, outcome.stopped) == (8, {}, ""), logs
    assert is_complete(step)
    assert len(logs) == 2
    assert all(text.startswith(BEGINS) for text in logs.values())
    expected = open_volume(f"{finished.folder}/result.n5:probabilities")
    found = open_volume(f"{here.folder}/result.n5:probabilities")
    box = tuple(slice(0, n) for n in expected.shape)
    assert np.array_equal(found.read(box), expected.read(box))


def test_nothing_of_this_machine_is_in_it(container: WorkingContainer, tmp_path: Path) -> None:
    text = subprocess.run(
        container.command(["env"], {"AWS_BATCH_JOB_ID": "a:1"}, tmp_path), capture_output=True, text=True, check=True
    ).stdout
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert {name for name in names if name.startswith("AWS")} == {"AWS_BATCH_JOB_ID"}
    assert not {"AWS_ACCESS_KEY_ID", "PYTHONPATH", "PIP_INDEX_URL", "VIRTUAL_ENV"} & names
    program = "import blockwise, sys; print(sys.version_info >= (3, 11), blockwise.__file__)"
    done = subprocess.run(
        container.command(["python3", "-P", "-c", program], {}, tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True /opt/blockwise/")
