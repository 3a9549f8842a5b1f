"""What the panel beside the viewer asks the server for: maps of blocks, logs, and thresholds that are tried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from skimage.filters import gaussian
from skimage.measure import label

from blockwise.claims import claimed_blocks, claims_of
from blockwise.faults import Faults
from blockwise.lockfile import HAS_RANGES
from pipeline.__main__ import main
from pipeline.viewing.live import stores as live_stores
from pipeline.viewing.live.coarse import coarser_sigma
from pipeline.viewing.live.stores import Stores
from pipeline.viewing.site import Site
from tasks.pyramid.coarser import coarser
from tasks.threshold import smooth_and_threshold
from tests.runs import BLOCK, SHAPE, Project, make_long_project
from tests.viewer import TOKEN, Answer, Served, computing, served

Expected = dict[str, Any]
BLOCKS = tuple(-(-n // b) for n, b in zip(SHAPE, BLOCK, strict=True))
ALL = {"start": dict.fromkeys("zyx", 0), "stop": dict(zip("zyx", SHAPE, strict=True))}


@pytest.fixture
def shown(project: Project) -> Iterator[Served]:
    with served(lambda: computing(project, 1)) as found:
        yield found


def post(shown: Served, call: str, **document: Any) -> Answer:
    return shown.ask(f"/{TOKEN}/api/{call}", "POST", json.dumps(document).encode())


def test_a_map_shows_the_state_of_every_block(project: Project) -> None:
    step = project.step("threshold")
    step.markers.remove(2)
    step.markers.remove(5)
    with served(lambda: Site.of(project.steps())) as shown, claims_of(step).take(5) or nullcontext():
        found = shown.api("/blocks/threshold?z=20").json
        assert (found["rows"], found["columns"]) == BLOCKS[1:]
        assert found["states"] == ("ddwddrdd" if HAS_RANGES else "ddwddwdd")
        assert found["plane"] == {"z": 0}
        assert claimed_blocks(step) == ([5] if HAS_RANGES else [])
        assert shown.api("/blocks/component_merge").json["states"] == "d"
        assert shown.api("/blocks/other").status == 404
        assert shown.api("/blocks/threshold?z=a").status == 400
        assert shown.api("/blocks/threshold?z=999999").json["plane"] == {"z": 0}
    assert claimed_blocks(project.step("prediction")) == []
    assert not claimed_blocks(step)


def test_a_region_is_shown_as_part_of_the_volume(project: Project) -> None:
    project.change("blocks.roi", [[0, 36], [18, 36], [40, 90]])
    with served(lambda: Site.of(project.steps())) as shown:
        assert shown.api("/blocks/prediction").json["states"] == ".....ww."


@pytest.mark.soak
def test_a_failed_block_is_told_with_its_log(unused: Project) -> None:
    faults = Faults(fails=1.0)
    with served(lambda: computing(unused, 1, faults)) as shown:
        assert shown.ask(f"{shown.path('probabilities')}/0/0/0/0/0").status == 500
        step = next(one for one in shown.api("/status").json["steps"] if one["step"] == "prediction")
        failure = step["failures"][0]
        assert failure["middle"] == {axis: b / 2 for axis, b in zip("zyx", BLOCK, strict=True)}
        assert shown.api("/blocks/prediction").json["states"] == "fwwwwwww"
        log = shown.api(f"/log/prediction/{failure['block']}")
        assert log.headers["Content-Type"].startswith("text/plain")
        assert b"Traceback" in log.body
        assert shown.api("/log/prediction/7").status == 404
        # A record that names another file than a log of the step's gives nothing of it.
        record = next(unused.step("prediction").folder.glob("failed/*/0.json"))
        record.write_text(json.dumps(json.loads(record.read_text()) | {"log": str(unused.config)}))
        assert b"work_dir" not in shown.api("/log/prediction/0").body


def test_a_threshold_that_is_tried_is_that_of_a_run_and_no_result(project: Project, expected: Expected) -> None:
    before = project.state()
    with served(lambda: computing(project, 1)) as shown:
        about = shown.api("/trials").json
        assert about["thresholds"] == [
            {"name": "", "values": {"class": 1, "sigma": 1.6, "method": "simple", "threshold": 0.25}}
        ]
        assert [one["index"] for one in about["classes"]] == [0, 1]
        found = post(shown, "trials", values={"threshold": 0.5, "sigma": 2.0}).json
        assert not found["of_the_run"]
        mask = shown.read_all(f"/{TOKEN}/data/thresholded/{found['fingerprint']}")
        status = {step["step"]: step["computed"] for step in shown.api("/status").json["steps"]}
        assert status["prediction"] == 0
        np.testing.assert_array_equal(shown.roi("thresholded", "0,0,0", "36,36,128"), expected["thresholded"])
        assert shown.api(f"/trials?fingerprint={found['fingerprint']}").json["shown"]["values"]["threshold"] == 0.5
        own = post(shown, "trials", values={}).json
        assert (own["of_the_run"], own["fingerprint"]) == (True, shown.site.layers["thresholded"].fingerprint)
        written = post(shown, "trials/configuration", values={"threshold": 0.5, "sigma": 2.0}).json["path"]
        assert any(Path("work/live").iterdir())
    assert not Path("work/live").exists()
    assert Path(written).name == "config.2.yaml"
    Path(written).rename("other.yaml")
    after = project.state()
    assert after.keys() - before.keys() <= {"other.yaml"}
    assert {key: after[key] for key in before} == before
    project.write(yaml.safe_load(Path("other.yaml").read_text()))
    run = project.run()
    assert run.ok
    assert "prediction" not in run.computed
    np.testing.assert_array_equal(project.results()["thresholded"], mask)


@pytest.mark.soak
def test_what_is_tried_is_seen_from_afar_without_computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarser scales are thresholds of coarser probabilities, chunk by chunk as over the whole volume."""
    monkeypatch.chdir(tmp_path)
    project = make_long_project(tmp_path)
    project.change("connected_components.foreground", 1)
    assert project.run().ok
    means = coarser(project.results()["probabilities"], (1, 2, 2, 2), "mean")
    sigma = coarser_sigma(2.0, 2)
    with served(lambda: computing(project, 1)) as shown:
        trials: list[dict[str, Any]] = [{"threshold": 0.5}, {"method": "hysteresis", "core": 0.7, "final": 0.4}]
        for values in trials:
            found = post(shown, "trials", values={"sigma": 2.0, "class": 1, **values}).json
            path = f"/{TOKEN}/data/thresholded/{found['fingerprint']}"
            mask = shown.read_all(path, scale=1)
            final, whole = values.get("threshold", values.get("final", 0.0)), tuple(slice(0, n) for n in mask.shape)
            of_whole = smooth_and_threshold(means[1], (sigma,) * 3, final, whole, core=values.get("core"))
            np.testing.assert_array_equal(mask, of_whole)
            assert 0 < (mask > 0).mean() < 1
            steps = {step["step"]: step["computed"] for step in shown.api("/status").json["steps"]}
            assert not any(steps.values())
        fine = shown.read_all(path)  # now blocks are computed
        assert (coarser(np.minimum(fine, 1), (2, 2, 2), "mode") == np.minimum(mask, 1)).mean() > 0.97


@pytest.mark.soak
def test_objects_of_the_whole_volume_are_those_of_a_run(project: Project) -> None:
    with served(lambda: computing(project, 1)) as shown:
        final = post(shown, "trials/objects", values={}, **ALL).json
        assert (final["provisional"], final["layer"]["type"]) == (False, "segmentation")
        assert shown.site.layers["connected_components"].fingerprint in final["layer"]["source"]["url"]
        found = post(shown, "trials/objects", values={"threshold": 0.5}, **ALL).json
        assert (found["provisional"], found["start"], found["stop"]) == (True, [0, 0, 0], list(SHAPE))
        layer = found["layer"]["source"]["url"].removeprefix("zarr2://{origin}").rstrip("/")
        labels = shown.read_all(layer)
        part = post(shown, "trials/objects", values={"threshold": 0.5}, start=ALL["start"], stop=ALL["start"]).json
        assert part["stop"] == list(BLOCK)
    project.change("threshold.threshold", 0.5)
    assert project.run().ok
    np.testing.assert_array_equal(labels, project.results()["connected_components"])


@pytest.mark.soak
def test_hysteresis_is_tried(project: Project, expected: Expected) -> None:
    project.change("connected_components.foreground", 1)
    values = {"method": "hysteresis", "core": 0.7, "final": 0.55, "class": 0, "sigma": 1.0}
    with served(lambda: computing(project, 1)) as shown:
        found = post(shown, "trials/objects", values=values, **ALL).json
        labels = shown.read_all(found["layer"]["source"]["url"].removeprefix("zarr2://{origin}").rstrip("/"))
    smoothed = gaussian(expected["probabilities"][0], 1.0, mode="nearest", truncate=4)
    parts = label(smoothed > 0.55, connectivity=3)
    kept = np.isin(parts, np.unique(parts[smoothed > 0.7]))
    np.testing.assert_array_equal(labels, label(kept & (parts > 0), connectivity=3))
    assert 0 < labels.max() < parts.max()


@pytest.mark.parametrize(
    ("call", "document", "status"),
    [
        ("trials", {"values": {"threshold": 3}}, 400),
        ("trials", {"values": {"class": "nobody"}}, 400),
        ("trials", {"values": {"sigma": [1, 2]}}, 400),
        ("trials", {"values": {"sigma": 1e6}}, 400),
        ("trials", {"values": {"class": True}}, 400),
        ("trials", {"values": {"threshold": float("inf")}}, 400),
        ("trials", {"values": []}, 400),
        ("trials", {"name": "cells"}, 404),
        ("trials/objects", {"values": {}}, 400),
        (
            "trials/objects",
            {"values": {}, "start": ALL["start"], "stop": {"z": 1, "y": 1.5, "x": 1}},
            400,
        ),
        ("trials/configuration", {"values": {"output": "/tmp"}}, 400),
    ],
)
def test_what_cannot_be_tried_says_why(shown: Served, call: str, document: dict[str, Any], status: int) -> None:
    answer = post(shown, call, **document)
    assert (answer.status, answer.json["status"]) == (status, status)
    assert answer.json["error"]
    assert not Path("config.2.yaml").exists()


def test_nothing_is_tried_where_nothing_is_computed(project: Project) -> None:
    with served(lambda: Site.of(project.steps())) as shown:
        assert (shown.api("/trials").status, post(shown, "trials", values={}).status) == (409, 409)
        assert shown.ask(f"/{TOKEN}/api/trials", "POST", b"[").status == 400


@pytest.mark.soak
def test_old_trials_make_room_for_new_ones(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stores, "MOST_STORES", 2)
    with served(lambda: computing(project, 1)) as shown:
        tried = [post(shown, "trials", values={"threshold": t}).json["fingerprint"] for t in (0.3, 0.4)]
        path = f"/{TOKEN}/data/thresholded/{{}}/0/0/0/0"
        assert [shown.ask(path.format(one)).status for one in tried] == [200, 200]
        tried.append(post(shown, "trials", values={"threshold": 0.6}).json["fingerprint"])
        assert [shown.ask(path.format(one)).status for one in tried] == [404, 200, 200]
        assert len(list(Path("work/live").glob("*/*/result.n5"))) == 2


@pytest.mark.soak
def test_what_a_killed_server_has_left_is_cleaned_and_nothing_else(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stores, "close", lambda stores: None)
    with served(lambda: computing(project, 1)) as shown:
        found = post(shown, "trials", values={"threshold": 0.5}).json["fingerprint"]
        assert shown.ask(f"/{TOKEN}/data/thresholded/{found}/0/0/0/0").status == 200
    folder = next(Path("work/live").glob("*/0"))
    assert main(["status", "--config", "config.yaml"]) == 0
    assert "live" not in capsys.readouterr().out
    (folder / "mine.txt").write_text("of somebody else")
    assert main(["clean", "--config", "config.yaml", "--yes"]) == 0
    assert f"{folder}/result.n5:thresholded" in capsys.readouterr().out
    assert [str(path) for path in Path("work").rglob("*") if path.is_file()] == [str(folder / "mine.txt")]
