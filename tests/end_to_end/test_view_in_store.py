"""The viewer's server over a work folder in a store: what is looked at is computed, kept and found by a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from typing import Any

import numpy as np
import pytest

from blockwise.records import open_records
from pipeline.inspecting.live_stores import live_folders
from tests.end_to_end.stored import Stored, bucket, stored, weather
from tests.runs import InlineBackend, assert_same, environment
from tests.viewer import TOKEN, computing, served

__all__ = ["bucket", "stored", "weather"]

pytestmark = pytest.mark.soak


def test_boxes_chunks_trials_and_logs(stored: Stored, expected: dict[str, Any]) -> None:
    project = stored.project
    with served(lambda: computing(project, 2)) as shown:
        found = shown.roi("thresholded", "0,0,0", "36,18,32")
        np.testing.assert_array_equal(found, expected["thresholded"][:, :18, :32], strict=True)
        chunk = shown.chunk("thresholded", 0, 0, 0)
        np.testing.assert_array_equal(chunk, expected["thresholded"][:18, :18, :16], strict=True)
        path = f"{shown.path('thresholded')}/0/0/0/0"
        assert shown.ask(path, If_None_Match=shown.ask(path).headers["Etag"]).status == 304
        states = shown.api("/blocks/threshold?z=0").json["states"]
        assert (states[0], states.count("d")) == ("d", 1)
        body = json.dumps({"values": {"threshold": 0.5}}).encode()
        tried = shown.ask(f"/{TOKEN}/api/trials", "POST", body)
        assert tried.status == 200, tried.body
        answer = shown.ask(f"/{TOKEN}/data/thresholded/{tried.json['fingerprint']}/0/0/0/0")
        assert answer.status == 200, answer.body
        box = {"start": {"z": 0, "y": 0, "x": 0}, "stop": {"z": 36, "y": 18, "x": 32}}
        objects = shown.ask(f"/{TOKEN}/api/trials/objects", "POST", json.dumps({"values": {}, **box}).encode())
        assert objects.status == 200, objects.body
    assert live_folders(f"{stored.place}/work") == []
    done = stored.finished()
    assert done["threshold"] == [0]
    run = project.run()
    assert run.ok, run.text
    for name in ("prediction", "threshold"):
        assert not set(done[name]) & set(run.computed[name]), f"{name}: finished blocks were computed again"
    assert_same(stored.results(), expected)


def test_the_command(stored: Stored, expected: dict[str, Any]) -> None:
    """A process of its own with workers of its own, which leaves none of the store's leases behind."""
    command = [sys.executable, "-m", "pipeline", "view", "--config", "config.yaml", "--no-browser"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline()
        place = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/v/([\w-]+)/\n", address)
        assert place, (address, process.stderr.read())
        box = f"{place[1]}/{place[2]}/api/roi/thresholded?start=0,0,0&stop=36,18,32"
        with urllib.request.urlopen(box, timeout=120) as answer:
            content = answer.read()
        process.terminate()
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()
    assert expected["thresholded"][:, :18, :32].tobytes() in content
    records = open_records(f"{stored.place}/work")
    assert [key for key in records.keys("") if "/claims/" in key] == []
    run = stored.project.run(InlineBackend)
    assert run.ok, run.text
    assert 0 not in run.computed["threshold"]
    assert_same(stored.results(), expected)
