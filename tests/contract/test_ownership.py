"""Whether an output is still a run's own: asked at every block, and not read again while nothing has changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from blockwise.outputs import VolumeOutput
from blockwise.plan import begin, plan_step
from blockwise.records import read_json, write_json
from blockwise.step import BlockStep
from blockwise.trust import ownership
from blockwise.trust.ownership import OutputReplacedError, Ownership
from tests.contract.steps import AdditionStep, Workspace


def another_id(step: BlockStep) -> None:
    """Another run has begun in this work folder."""
    record = read_json(step.records, "output.json")
    write_json(step.records, "output.json", {**record, "id": "0" * 32})


def made_anew(step: BlockStep) -> None:
    """Another run's dataset, which has the same settings."""
    step.output().create({"fingerprint": step.fingerprint, "id": "0" * 32})


def deleted(step: BlockStep) -> None:
    shutil.rmtree(str(step.output().address).partition(":")[0])


@pytest.fixture(params=["out.n5:addition", "out.zarr:addition", "out.ome.zarr:addition", "sharded.zarr:addition"])
def step(request: pytest.FixtureRequest, tmp_path: Path) -> BlockStep:
    work = Workspace(tmp_path)
    step = AdditionStep(**{**dict(work.addition()), "address": f"{tmp_path}/{request.param}"})
    if "sharded" in request.param:
        output = step.output()
        sharded = VolumeOutput(output.address, output.grid, (2, 2, 2), output.dtype, 0, {}, shards=(4, 4, 4))
        object.__setattr__(step, "output", lambda: sharded)
    begin(step, plan_step(step))
    return step


@pytest.mark.parametrize("change", [another_id, made_anew, deleted])
@pytest.mark.parametrize("settled_s", [-1.0, 1e9], ids=["long there", "just made"])
def test_an_output_that_becomes_another_one_is_refused(
    change: Callable[[BlockStep], None], settled_s: float, step: BlockStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "SETTLED_S", settled_s)
    mine = Ownership(step)
    for _ in range(3):
        mine.check()
    change(step)
    for _ in range(2):
        with pytest.raises(OutputReplacedError, match="while this run was writing it"):
            mine.check()


def test_what_has_not_changed_is_not_read_again(step: BlockStep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "SETTLED_S", -1.0)
    mine = Ownership(step)
    mine.check()
    monkeypatch.setattr(ownership, "check_ours", lambda _: pytest.fail("read again"))
    for _ in range(3):
        mine.check()
    step.output().write(step.grid.block(0), step.compute(step.grid.block(0), None))
    mine.check()
