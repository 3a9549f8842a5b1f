"""Work folder, raw volume and results in a store: whole runs, also where it answers badly and runs are killed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blockwise.records import open_records
from blockwise.volume import open_volume
from pipeline import ThresholdWorkflow
from pipeline.__main__ import main
from tests.batches import run_here, write_config, write_images
from tests.contract import servers
from tests.contract.store_proxy import Weather
from tests.end_to_end.stored import NUMBERS, Stored, bucket, put_into, stored, weather
from tests.runs import DATASETS, STEPS, InlineBackend, Project, Run, assert_same

__all__ = ["bucket", "stored", "weather"]

BLOCKS = {name: 1 if name in ("component_merge", "object_table") else 8 for name in STEPS}


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main((*arguments, "--config", "config.yaml"))
    return code, " ".join(capsys.readouterr().out.split())


@pytest.mark.soak
def test_a_run_with_everything_in_a_store(
    stored: Stored, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """One long story, because each request takes its time."""
    project = stored.project
    assert call(capsys, "plan")[0] == 0
    assert list(stored.records.keys("work")) == []
    run = project.run()
    assert run.ok, run.text
    assert {name: len(blocks) for name, blocks in run.computed.items()} == BLOCKS
    assert_same(stored.results(), expected)
    again = project.run()
    assert (again.ok, again.computed, again.checked) == (True, {}, {})
    assert not (project.folder / "work").exists()
    assert not list(stored.records.keys("work/component_faces/claims"))

    code, text = call(capsys, "status")
    assert (code, text.count(" yes")) == (0, len(STEPS))
    chunk = next(key for key in stored.records.keys("result.n5/thresholded") if key.endswith("/0/0/0"))
    stored.records.put(chunk, b"no chunk")
    code, text = call(capsys, "verify")
    assert code != 0
    assert "threshold: 8 blocks read, 1 damaged" in text
    repaired = project.run()
    assert repaired.ok, repaired.text
    assert {name: len(blocks) for name, blocks in repaired.computed.items()} == {"threshold": 1}
    assert_same(stored.results(), expected)

    code, text = call(capsys, "clean", "--yes")
    assert code == 0, text
    assert stored.left() == []
    assert stored.records.get("work/.lock-owner.json") is None


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with servers.gs() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "testing")
        yield "gs://bucket"


@pytest.mark.soak
def test_a_run_with_everything_in_google_s_store(
    google: str, unused: Project, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Against an emulator of it; interrupted once."""
    with put_into(google, unused, Weather()) as stored:
        with pytest.raises(KeyboardInterrupt):
            unused.run(type("After12", (Interrupted,), {"left": 12}))
        assert sum(len(blocks) for blocks in stored.finished().values()) == 12
        run = unused.run()
        assert run.ok, run.text
        assert sum(len(blocks) for blocks in run.computed.values()) == sum(BLOCKS.values()) - 12
        assert_same(stored.results(), expected)
        assert unused.run().computed == {}
        code, text = call(capsys, "status")
        assert (code, text.count(" yes")) == (0, len(STEPS))
        assert call(capsys, "verify")[0] == 0
        assert call(capsys, "clean", "--yes")[0] == 0
        assert stored.left() == []


class Interrupted(InlineBackend):
    """Is interrupted after some blocks."""

    left = 12

    def run(self, step: Any, items: Any, referee: Any, report: Any) -> None:
        if self.left < len(items):
            super().run(step, items[: self.left], referee, report)
            raise KeyboardInterrupt
        type(self).left -= len(items)
        super().run(step, items, referee, report)


@pytest.mark.soak
def test_a_short_run_in_a_store(stored: Stored, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Two steps; badly answered, interrupted, gone on with, looked at and removed."""
    weather, project = stored.weather, stored.project
    weather.refused, weather.lost, weather.conflicts = 0.03, 0.02, 0.05
    with pytest.raises(KeyboardInterrupt):
        project.run(type("After5", (Interrupted,), {"left": 5}), ThresholdWorkflow)
    assert len(stored.finished()["prediction"]) == 5
    run = project.run(InlineBackend, ThresholdWorkflow)
    assert run.ok, run.text
    assert {name: len(blocks) for name, blocks in run.computed.items()} == {"prediction": 3, "threshold": 8}
    volume = open_volume(f"{stored.place}/result.n5:thresholded")
    found = volume.read(tuple(slice(0, n) for n in volume.shape))
    np.testing.assert_array_equal(found, expected["thresholded"])
    assert weather.spoilt["refused"] + weather.spoilt["lost"] > 3
    weather.refused = weather.lost = 0.0
    assert "prediction 8 0 0 yes" in call(capsys, "status")[1]
    assert call(capsys, "clean", "--yes")[0] == 0
    assert stored.left() == []


@pytest.mark.soak
def test_a_store_that_answers_badly_costs_time_only(stored: Stored, expected: dict[str, Any]) -> None:
    """Requests are refused, answers are late or lost, and the run is interrupted: the same bytes, each block once."""
    weather = stored.weather
    weather.refused, weather.lost, weather.conflicts, weather.slow, weather.slow_s = 0.04, 0.02, 0.05, 0.02, 0.1
    computed: dict[str, list[int]] = {name: [] for name in STEPS}
    ok = False
    for backend in (Interrupted, InlineBackend):
        run = Run()
        try:
            run = stored.project.run(backend)
        except KeyboardInterrupt:
            continue
        ok = run.ok
        assert ok, run.text
        for name, blocks in run.computed.items():
            computed[name] += blocks
    assert ok
    assert {name: len(blocks) for name, blocks in stored.finished().items()} == BLOCKS
    assert sum(len(blocks) for blocks in computed.values()) == sum(BLOCKS.values()) - 12
    assert min(weather.spoilt[name] for name in ("refused", "lost", "slow")) > 3
    assert_same(stored.results(), expected)


def killed_and_continued(stored: Stored, expected: dict[str, Any], request: int) -> None:
    assert stored.killed_at(request)
    before = stored.finished()
    run = stored.project.run()
    assert run.ok, run.text
    for name, blocks in before.items():
        assert not set(blocks) & set(run.computed.get(name, [])), f"{name}: finished blocks were computed again"
        assert len(blocks) + len(run.computed.get(name, [])) == BLOCKS[name]
    assert_same(stored.results(), expected)


@pytest.mark.soak
@pytest.mark.parametrize("request_number", random.Random(3).sample(range(20, 520), 12))
def test_a_run_that_is_killed_at_any_request_goes_on(
    stored: Stored, expected: dict[str, Any], request_number: int
) -> None:
    stored.weather.refused = stored.weather.lost = 0.02
    killed_and_continued(stored, expected, request_number)


def test_what_has_no_meaning_there_is_refused(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for place, why in (
        ("https://example.org/work", "in a store of s3:// or gs://"),
        ("s3://bucket", "need a prefix in a bucket, as in s3://bucket/prefix"),
        ("s3://bucket/work?colour=red", "option 'colour' behind the ? is not known"),
    ):
        unused.change("work_dir", place)
        assert main(("plan", "--config", "config.yaml")) == 40
        assert why in capsys.readouterr().err
    unused.change("work_dir", "s3://bucket/work")
    unused.change("backend.name", "slurm")
    assert main(("plan", "--config", "config.yaml")) == 40
    assert "a folder that all nodes share" in capsys.readouterr().err


def test_a_classifier_that_is_not_there_is_told(
    unused: Project, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for project, why in (
        (f"{bucket}/none/a.ilp", f"project {bucket}/none/a.ilp: there is no such object"),
        (f"{bucket}/a.ilp", "must lie below a prefix, as s3://bucket/projects/a.ilp does"),
        ("https://example.org/a.ilp", "this must lie on this machine"),
    ):
        unused.change("prediction.project", project)
        assert main(("plan", "--config", "config.yaml")) == 40
        assert why in capsys.readouterr().err


@pytest.mark.soak
def test_a_batch_in_a_store(batch_folder: None, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two images in one folder and in a store; one is broken."""
    place = f"{bucket}/{os.getpid()}-{next(NUMBERS)}"
    write_images(2)
    Path("images/broken.png").write_bytes(b"no image")
    run, _ = run_here()
    assert run.computed == {"images": [1, 2]}
    write_config(work_dir=f"{place}/work", output=f"{place}/{{name}}.n5")
    run, _ = run_here()
    assert (run.ok, run.computed) == (False, {"images": [1, 2]})
    records = open_records(place)
    for name in ("cell0", "cell1"):
        table = records.get(f"work/images/{name}/objects.csv")
        assert table == Path(f"work/images/{name}/objects.csv").read_bytes()
        for dataset in DATASETS:
            stored, here = open_volume(f"{place}/{name}.n5:{dataset}"), open_volume(f"out/{name}.n5:{dataset}")
            everything = tuple(slice(0, n) for n in here.shape)
            np.testing.assert_array_equal(stored.read(everything), here.read(everything))
    summary = (records.get("work/batch.csv") or b"").decode()
    assert [line.split(",")[1] for line in summary.splitlines()] == ["state", "failed", "done", "done"]
    again, _ = run_here()
    assert (again.computed, again.checked) == ({}, {})
    capsys.readouterr()
    assert main(("status", "--config", "config.yaml")) == 30
    assert "broken" in capsys.readouterr().out
    assert main(("clean", "--yes", "--config", "config.yaml")) == 0
    assert list(records.keys("")) == []


@pytest.mark.soak
def test_what_is_looked_at_is_computed_and_kept_in_the_store(stored: Stored) -> None:
    stored.project.change("backend.workers", 1)
    assert main(("view", "--config", "config.yaml", "--once", "thresholded:0:10,0:10,0:20", "mask.npy")) == 0
    before = stored.finished()
    assert before["threshold"] == [0]
    run = stored.project.run(InlineBackend, ThresholdWorkflow)
    assert run.ok
    assert {name: sorted(blocks) for name, blocks in run.computed.items()} == {
        name: sorted(set(range(8)) - set(before[name])) for name in ("prediction", "threshold")
    }
    mask = open_volume(f"{stored.place}/result.n5:thresholded").read((slice(0, 10), slice(0, 10), slice(0, 20)))
    np.testing.assert_array_equal(np.load("mask.npy"), mask)
