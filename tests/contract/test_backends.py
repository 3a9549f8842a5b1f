"""What every backend promises: local, real SLURM, a stand-in for AWS Batch that executes jobs, and Dask clusters."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from blockwise.backends import Backend, LocalBackend, Outcome
from blockwise.backends.aws_batch import AwsBatchBackend, AwsBatchOptions
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.jobs.backend import JobsBackend
from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.backends.slurm import SlurmBackend, SlurmOptions
from blockwise.plan import is_complete
from blockwise.run import failure_summary, run_step
from blockwise.step import BlockStep
from pipeline.configuration.setting_names import backend_names
from tests.contract.steps import Workspace
from tests.processes import command_line

JOBS = {"poll_s": 0.2, "grace_s": 0.5, "blocks_per_job": 3, "time_min": 5}
OPTIONS = {
    "slurm": SlurmOptions(**JOBS),
    "aws_batch": AwsBatchOptions(**JOBS, queue="main", job_definition="blocks", python=sys.executable),
}
"""Options other than the defaults."""

CLUSTERS = {"slurm": "cluster", "aws_batch": "aws_batch"}
"""What backends need to be tested: fixtures."""

Run = Callable[[BlockStep], Outcome]

IN_JOBS = "dask in jobs"

SLOW = {"aws_batch", "dask"}
"""What is asked of these in `make soak`; in `make test`, `tests/aws_batch` and `tests/dask` ask some of it."""
PARAMS = [pytest.param(name, marks=[pytest.mark.soak] * (name in SLOW)) for name in BACKENDS]


@pytest.fixture(params=[*PARAMS, pytest.param(IN_JOBS, marks=pytest.mark.soak)])
def backend(request: pytest.FixtureRequest) -> Backend:
    name = request.param.split()[0]
    kind = BACKENDS[name]
    if name in CLUSTERS:
        request.getfixturevalue(CLUSTERS[name])
    options = OPTIONS.get(name) or kind.options()
    if name == "dask":  # one cluster for all tests, which is not the backend's own
        address = "dask_in_jobs" if request.param == IN_JOBS else "dask_address"
        options = DaskOptions(address=request.getfixturevalue(address))
    return kind.make(Setup(options, workers=2, timeout_s=60, names=backend_names(name)), ())


@pytest.fixture
def run(backend: Backend) -> Run:
    return lambda step: run_step(step, backend, 3, lambda outcome: None)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    # A name that must be quoted wherever it is handed on.
    return Workspace(tmp_path / "it's 100% here")


@pytest.fixture(autouse=True)
def _nothing_left(backend: Backend, request: pytest.FixtureRequest, work: Workspace) -> object:
    clusters = {SlurmBackend: "cluster", AwsBatchBackend: "aws_batch"}
    name = clusters.get(type(backend))
    cluster = request.getfixturevalue(name) if name else None
    yield
    if hasattr(backend, "close"):
        backend.close()
    if cluster:
        cluster.wait_until_quiet(30)
        assert not list(work.folder.glob("work/*/*jobs/*"))
    # A cluster that goes on has workers that rest; tests/dask looks at those that must not be left at work.
    hosts = [p for p in psutil.Process().children() if "blockwise.backends.dask.host" in command_line(p)]
    kept = {*hosts, *(child for host in hosts for child in host.children(recursive=True))}
    children = {p for p in psutil.Process().children(recursive=True) if "blockwise" in " ".join(command_line(p))}
    assert not children - kept


def test_computes_then_repairs_then_rests(run: Run, work: Workspace):
    step = work.addition()
    outcome = run(step)
    assert (outcome.computed, outcome.failed, outcome.stopped) == (8, {}, "")
    assert np.array_equal(work.result(), work.values + 1)
    assert is_complete(step)
    # A lost marker: this block alone. A touched file: checked, not computed.
    step.markers.remove(5)
    os.utime(work.folder / "out.n5" / "addition" / "0" / "0" / "2")
    outcome = run(work.addition())
    assert (outcome.computed, outcome.unchanged) == (1, 1)
    assert [len(work.runs(block)) for block in range(8)] == [1, 1, 1, 1, 1, 2, 1, 1]
    assert is_complete(step)
    assert run(work.addition()).total == 0


def test_a_changed_setting_redoes_all(run: Run, work: Workspace):
    run(work.addition(1))
    assert run(work.addition(7)).computed == 8
    assert np.array_equal(work.result(), work.values + 7)
    assert not is_complete(work.addition(1))


def test_failing_blocks_are_tried_again_and_given_up(run: Run, work: Workspace):
    work.tell(1, "raise 2")  # succeeds at the third attempt
    work.tell(4, "raise 99")
    work.tell(6, "refuse 99")  # what a user must mend is not tried again
    step = work.addition()
    outcome = run(step)
    assert outcome.computed == 6
    assert sorted(outcome.failed) == [4, 6]
    assert [len(work.runs(block)) for block in (0, 1, 4, 6)] == [1, 3, 3, 1]
    assert step.read_target() is None
    failures = step.markers.failures()
    assert sorted(failures) == [4, 6]
    assert (failures[4].error, failures[4].message, failures[4].attempt) == (
        "ValueError",
        "block 4 was told to fail",
        3,
    )
    assert "ValueError: block 4 was told to fail" in Path(failures[4].log).read_text()
    assert failures[4].log in failure_summary(step, outcome)
    # The same run again, when the cause is mended, computes just these.
    work.tell(4)
    work.tell(6)
    assert run(step).computed == 2
    assert np.array_equal(work.result(), work.values + 1)
    assert step.markers.failures() == {}


def test_a_block_that_kills_its_worker_fails_alone(run: Run, work: Workspace):
    work.tell(1, "kill 99")
    work.tell(6, "kill 1")
    outcome = run(work.addition())
    assert outcome.computed == 7
    assert list(outcome.failed) == [1]
    assert outcome.failed[1].error == "WorkerLost"
    assert len(work.runs(1)) in (3, 4)  # among others, as where memory is short, it does not count
    expected = work.values + 1
    expected[4:8] = 0
    assert np.array_equal(work.result(), expected)


@pytest.mark.soak
def test_a_block_that_hangs_fails_alone(backend: Backend, work: Workspace):
    work.hold(1, attempts=99)
    work.hold(6)
    backend.timeout_s = 3.0  # long enough for the others, on a machine that is busy with other tests
    step = work.addition()
    outcome = run_step(step, backend, 2, lambda outcome: None)
    assert outcome.computed == 7
    assert list(outcome.failed) == [1]
    assert "raise backend.timeout_s, or lower blocks.shape" in outcome.failed[1].message
    # Others of the same job go on, and what was done before the block hung stays done.
    assert [len(work.runs(block)) for block in range(8)] == [1, 2, 1, 1, 1, 1, 2, 1]
    expected = work.values + 1
    expected[4:8] = 0
    assert np.array_equal(work.result(), expected)


def test_a_block_without_memory_names_the_settings(run: Run, backend: Backend, work: Workspace):
    work.tell(1, "demand 1")
    work.tell(6, "demand 99")
    step = work.addition()
    outcome = run(step)
    assert outcome.computed == 7
    assert list(outcome.failed) == [6]
    failed = outcome.failed[6]
    assert failed.error == "OutOfMemoryError"
    assert "Unable to allocate 1.00 EiB" in failed.message
    assert "addition projects 0.20 GB for a worker; lower blocks.shape, or" in failed.message
    known = {
        LocalBackend: "lower backend.workers",
        SlurmBackend: "raise backend.slurm.memory_gb",
        AwsBatchBackend: "raise backend.aws_batch.memory_gb",
    }
    more = known.get(type(backend), "")
    assert f"leave more to each worker: {more}" in failed.message
    assert "_ArrayMemoryError" in step.markers.failures()[6].traceback
    # A cluster gives more memory, once, and that is not one of the attempts; here there is no more to give.
    on_cluster = isinstance(backend, JobsBackend)
    assert ("needs more than 1.00 GiB, twice what was asked for at first" in failed.message) is on_cluster
    assert [len(work.runs(block)) for block in (0, 1, 2, 6, 7)] == [1, 2, 1, 2 if on_cluster else 3, 1]


def test_a_step_that_fails_everywhere_stops(run: Run, tmp_path: Path, work: Workspace):
    many = Workspace(tmp_path / "many", blocks=60)
    for block in range(60):
        many.tell(block, "raise 99")
    outcome = run(many.addition())
    assert outcome.stopped
    assert "block" in outcome.stopped
    assert sum(len(many.runs(block)) for block in range(60)) < 120


def test_damaged_input_names_its_step(run: Run, work: Workspace):
    first, second = work.addition(), work.doubling()
    run(first)
    chunk = work.folder / "out.n5" / "addition" / "0" / "0" / "3"
    size, times = chunk.stat().st_size, chunk.stat()
    chunk.write_bytes(chunk.read_bytes()[: size // 2])
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    outcome = run(second)
    assert outcome.upstream == "addition"
    assert not is_complete(first)
    assert run(first).computed == 1
    assert not run(second).failed
    assert np.array_equal(work.result("doubling"), 2 * (work.values + 1))
