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


def old_columns() -> dict[str, list[str]]:
    """Lines of the tables without the column that is new for all of them, the last one."""
    tables = {path.name: path.read_text().splitlines() for path in Path("work").glob("objects*.csv")}
    return {name: [line.removesuffix(",true").removesuffix(",false").removesuffix(",touches_border")
                   for line in lines] for name, lines in tables.items()}  # fmt: skip


@pytest.mark.parametrize(("name", "variants"), [("several", ("_walls", "_cores")), ("mask", ("",))])
def test_only_the_lookup_tables_and_the_object_table_are_made_again(
    name: str, variants: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = unpack(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = written(project)
    tables = old_columns()
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
    assert old_columns() == tables
    assert [path.name for path in Path("work").glob("objects*.csv") if "um" in path.read_text()] == []
    assert project.run().computed == {}
    assert main(["verify", "--config", "config.yaml"]) == 0
    end_sessions()


def test_of_the_version_before_only_the_table_is_made_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same but for the columns that say which objects touch the border."""
    table = project.step("object_table")
    record = table.folder / "output.json"
    written_then = json.loads(record.read_text())
    assert written_then.pop("layout") == 2
    record.write_text(json.dumps(written_then))
    assert plan_step(table).reasons == [
        "the output of object_table is made anew: an earlier version kept it in another form (layout 1 -> 2)"
    ]
    run = project.run()
    assert (run.ok, run.computed, run.checked) == (True, {"object_table": [0]}, {})
    assert project.run().computed == {}
