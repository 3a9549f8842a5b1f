"""Faults strike at random; the result stays the same, and what has a marker is never computed again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blockwise.backends import Backend, LocalBackend
from blockwise.backends.slurm import SlurmBackend
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.script import SlurmOptions
from blockwise.faults import Faults
from blockwise.plan import is_complete
from blockwise.run import run_step
from tests.contract.steps import Workspace
from tests.slurm.cluster import Cluster

BLOCKS = 12
MOST_RUNS = 40
KINDS = ("fails", "wrong_data", "damaged_chunk", "kill", "hang", "disk_full")
FIRST = ("kill",)
"""Those that `make test` strikes with."""
OPTIONS = SlurmOptions(poll_s=0.5, grace_s=1, blocks_per_job=4)


def finish_under_faults(work: Workspace, backend: Callable[[Faults], Backend], kind: str, probability: float) -> int:
    """Run a step until it is finished, with faults that strike elsewhere in each run; how many runs it took."""
    done: dict[int, float] = {}
    for number in range(1, MOST_RUNS + 1):
        faults = Faults(**{kind: probability, "seed": number})
        outcome = run_step(work.addition(), backend(faults), 3, lambda outcome: None)
        step = work.addition()
        markers = {marker.block: marker_time(step.folder, marker.block) for marker in step.markers}
        assert {block: markers[block] for block in done} == done, "a block with a marker was computed again"
        done = markers
        if not (outcome.failed or outcome.stopped):
            assert is_complete(step)
            return number
    raise AssertionError(f"not finished after {MOST_RUNS} runs: {len(done)} of {BLOCKS} blocks")


def marker_time(folder: Path, block: int) -> float:
    return (folder / "done" / "000000" / f"{block}.json").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("kind", "probability"),
    [
        *(pytest.param(kind, 0.2, marks=() if kind in FIRST else pytest.mark.soak) for kind in KINDS),
        *(pytest.param(kind, 0.5, marks=pytest.mark.soak) for kind in KINDS),
    ],
)
def test_local(tmp_path: Path, kind: str, probability: float) -> None:
    work = Workspace(tmp_path / "work", BLOCKS)
    finish_under_faults(
        work,
        lambda faults: LocalBackend(2, timeout_s=0.5 if kind == "hang" else 60, faults=faults),
        kind,
        probability,
    )
    assert np.array_equal(work.result(), work.values + 1)


@pytest.mark.parametrize(
    ("kind", "probability"),
    [
        ("wrong_data", 0.2),
        ("lost_answer", 0.5),
        *(
            pytest.param(kind, probability, marks=pytest.mark.soak)
            for kind in ("fails", "damaged_chunk", "disk_full", "kill", "hang", "wrong_data", "lost_answer")
            for probability in (0.2, 0.5)
            if (kind, probability) not in {("wrong_data", 0.2), ("lost_answer", 0.5)}
        ),
    ],
)
def test_slurm(tmp_path: Path, cluster: Cluster, kind: str, probability: float) -> None:
    work = Workspace(tmp_path / "work", BLOCKS)
    timeout_s = 2 if kind == "hang" else None
    finish_under_faults(
        work,
        lambda faults: SlurmBackend(OPTIONS, False, SlurmCommands(wait_s=0.1, faults=faults), timeout_s),
        kind,
        probability,
    )
    assert np.array_equal(work.result(), work.values + 1)


def test_faults_depend_on_seed_kind_and_place_alone() -> None:
    faults = Faults(kill=0.5, hang=0.5, seed=3)
    struck = [faults.strikes("kill", "step", block, 1) for block in range(1000)]
    assert struck == [Faults(kill=0.5, hang=0.5, seed=3).strikes("kill", "step", block, 1) for block in range(1000)]
    assert 400 < sum(struck) < 600
    assert struck != [faults.strikes("hang", "step", block, 1) for block in range(1000)]
    assert struck != [faults.strikes("kill", "step", block, 2) for block in range(1000)]
    assert not any(Faults().strikes("kill", "step", block, 1) for block in range(100))
