"""How long a run will take and how much it will write: said from blocks that are done, or that a probe computes."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockwise.backends.registry import BlocksAtOnce
from blockwise.records.markers import Marker
from pipeline.__main__ import main
from pipeline.inspecting.outlook import StepOutlook, time_notes
from pipeline.inspecting.rates import RATES, Rate, keep_rates, rate_of
from tests.runs import Project, assert_same
from tests.unit.odd_step import OddStep, odd_step

CONFIG = ["--config", "config.yaml"]


def plan(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["plan", *CONFIG, *options]) == 0
    return capsys.readouterr().out


def with_markers(step: OddStep, seconds: list[float]) -> OddStep:
    """A step whose first blocks have taken so long."""
    for block, taken in enumerate(seconds):
        step.markers.write(Marker(block, step.fingerprint, "", {}, "", taken, taken, 1.0, 1, "here"))
    return step


def test_a_probe_computes_real_blocks_that_the_run_finds_done(
    unused: Project, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "time: not known yet; `plan --probe` computes a few blocks" in plan(capsys)
    text = plan(capsys, "--probe", "3")
    assert "probe: computed 4 of prediction, 1 of threshold here, 1 at a time; they stay" in text, (
        "a block of threshold at the corner needs four of prediction"
    )
    assert re.search(r"time: about \d+ s on local \(1 worker\)", text)
    assert "on SLURM (up to 100 jobs at a time" in text
    assert "as measured on 4 of prediction, 1 of threshold\n" in text
    assert "without component_faces, component_merge, connected_components, object_table, of which no block" in text
    assert re.search(r"prediction +\d+ s +663.6 kB +\d+.\d kB +result.n5:probabilities", text), "half of it is left"
    assert re.search(r"disk: 2.2 MB to write, about 1.\d MB in files; .* are free at .*result.n5", text)
    assert "nothing to compute" in plan(capsys, "--probe", "3")
    probed = {step.label: set(step.markers.scan()) for step in unused.steps().all()[:2]}
    run = unused.run()
    assert run.ok, run.text
    for label, blocks in probed.items():
        assert len(run.computed[label]) + len(blocks) == 8
        assert not blocks & set(run.computed[label])
    assert_same(unused.results(), expected)
    assert "time:" not in plan(capsys), "nothing is left"
    assert main(["clean", "--yes", *CONFIG]) == 0
    assert not Path("work").exists()


def test_blocks_of_other_settings_tell_and_so_do_rates_that_were_kept(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_rates(project.steps().all())
    project.change("threshold.threshold", 0.3)
    text = plan(capsys)
    assert "as measured on 8 of threshold (of other settings), 8 of component_faces (of other settings)" in text
    assert "probe: not measured: threshold: result.n5:thresholded holds a result of other settings" in plan(
        capsys, "--probe"
    )
    assert project.step("threshold").markers.count() == 0
    for name in ("threshold", "component_faces"):
        shutil.rmtree(f"work/{name}")
    text = plan(capsys)
    assert "8 of threshold (kept in work/rates.json)" in text
    Path("work", RATES).write_text(json.dumps({"threshold": {"seconds": "many"}}))
    assert "without threshold, component_faces, of which no block was measured yet" in plan(capsys)


@pytest.mark.soak
def test_a_block_that_fails_ends_the_probe_with_its_log(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    unused.change("backend.faults", {"fails": 1.0})
    unused.change("backend.max_attempts", 1)
    assert main(["plan", *CONFIG, "--probe"]) == 30
    error = capsys.readouterr().err
    assert "error: plan --probe: prediction: block " in error
    assert "InjectedError" in error
    assert "[log: work/logs/prediction/" in error


@pytest.mark.parametrize("number", ["0", "-1", "few"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(SystemExit):
        main(["plan", *CONFIG, f"--probe={number}"])


def test_the_first_blocks_of_workers_do_not_count(tmp_path: Path) -> None:
    step = with_markers(odd_step(tmp_path, 10), [9.0, 9.0, 1.0, 1.0, 1.0, 1.0])
    assert rate_of(step) == Rate(1.0, 6)
    one = with_markers(odd_step(tmp_path / "one", 10), [3.0])
    assert rate_of(one) == Rate(3.0, 1)
    assert rate_of(odd_step(tmp_path / "none", 10)) is None


@pytest.mark.parametrize(("left", "at_once", "seconds"), [(10, 1, 20), (10, 4, 6), (10, 100, 2), (0, 1, 0)])
def test_blocks_are_done_in_rounds(tmp_path: Path, left: int, at_once: int, seconds: float) -> None:
    step = odd_step(tmp_path, 10)
    assert StepOutlook(step, left, Rate(2.0, 3), 0).seconds(at_once) == pytest.approx(seconds)
    assert StepOutlook(step, left, None, 0).seconds(at_once) == (None if left else 0)


def test_the_chosen_engine_comes_first(tmp_path: Path) -> None:
    engines = {"a": BlocksAtOnce("A", 1, "one"), "b": BlocksAtOnce("B", 5, "five")}
    found = [StepOutlook(odd_step(tmp_path, 10), 10, Rate(360.0, 3, origin="kept"), 0)]
    assert time_notes(found, engines, "b") == [
        "time: about 12 min 0 s on B (five)",
        "time: about 1 h 0 min on A (one)",
        "  as measured on 3 of odd (kept)",
    ]
    assert time_notes([replace(found[0], left=0)], engines, "b") == []
