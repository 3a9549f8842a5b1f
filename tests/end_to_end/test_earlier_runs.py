"""Folders of runs that an earlier version has made are finished for this one, but for what it says."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from blockwise.plan import plan_step
from pipeline.__main__ import main
from pipeline.running.session import end_sessions
from tests.runs import ROOT, Project

EARLIER = ROOT / "tests" / "data" / "earlier_runs"


def unpack(name: str, folder: Path) -> Project:
    """A folder as it was: times of files are what tells whether they have changed."""
    with tarfile.open(EARLIER / f"{name}.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    times: dict[str, int] = json.loads((folder / "times.json").read_text())
    for path, time_ns in times.items():
        os.utime(folder / path, ns=(time_ns, time_ns))
    shutil.copy(ROOT / "data" / "membranes.ilp", folder)
    return Project(folder)


def written(project: Project) -> dict[str, tuple[int, int]]:
    """Size and time of every file of the results, and of the markers of blocks."""
    state = project.state().items()
    return {path: what for path, what in state if path.startswith("result.n5") or "/done/" in path}


@pytest.mark.parametrize(("name", "variants"), [("several", ("_walls", "_cores")), ("mask", ("",))])
def test_only_the_lookup_tables_and_the_object_table_are_made_again(
    name: str, variants: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = unpack(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = written(project)
    tables = {path.name: path.read_bytes() for path in Path("work").glob("objects*.csv")}
    assert len(tables) == len(variants)
    reasons = [reason for step in project.steps().all() for reason in plan_step(step).reasons if "layout" in reason]
    assert len(reasons) == len(variants)
    assert "made anew: an earlier version kept it in another form (layout 1 -> 2)" in reasons[0]

    run = project.run()
    assert run.ok, run.text
    assert set(run.computed) == {
        f"{step}{variant}" for step in ("component_merge", "object_table") for variant in variants
    }
    assert run.checked == {}
    after = written(project)
    changed = {path for path in before if after.get(path) != before[path]}
    assert {path.split("/")[1] for path in changed} <= {f"component_merge{variant}" for variant in variants}
    assert {path.name: path.read_bytes() for path in Path("work").glob("objects*.csv")} == tables
    assert project.run().computed == {}
    assert main(["verify", "--config", "config.yaml"]) == 0
    end_sessions()
