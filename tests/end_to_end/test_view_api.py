"""What programs ask the viewer's server for: boxes of voxels, computed where need be; errors that say what to do."""

from __future__ import annotations

import io
import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import h5py
import imageio.v3 as imageio
import numpy as np
import psutil
import pytest
import tensorstore
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blockwise.backends.local_executor import LocalExecutor
from blockwise.demand import wishes
from blockwise.faults import Faults
from blockwise.volume import open_volume
from pipeline.__main__ import main
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings
from pipeline.running.workflows import PyramidWorkflow
from pipeline.viewing.aside import steps_aside
from pipeline.viewing.images.voxels import Voxels
from pipeline.viewing.programs import boxes
from pipeline.viewing.site import Site
from tests.containers import hdf5
from tests.end_to_end.test_time import film, flat_project
from tests.processes import wait_for
from tests.runs import BLOCK, SHAPE, Project, dataset_folder, environment, make_long_project
from tests.viewer import TOKEN, Served, served
from tests.viewer import computing as trying

Expected = dict[str, Any]
CORNER = ",".join(map(str, SHAPE))


def computing(project: Project) -> Site:
    return Site.of(project.steps(), LocalExecutor(2, 120.0), max_attempts=2)


@pytest.fixture
def shown(project: Project) -> Iterator[Served]:
    with served(lambda: Site.of(project.steps())) as found:
        yield found


def test_boxes_have_the_voxels_of_the_run(shown: Served, expected: Expected) -> None:
    box = np.s_[3:20, 5:36, 0:99]
    for name in ("thresholded", "connected_components"):
        np.testing.assert_array_equal(shown.roi(name, "3,5,0", "20,36,99"), expected[name][box], strict=True)
    probabilities = expected["probabilities"][(slice(None), *box)]
    np.testing.assert_array_equal(shown.roi("probabilities", "3,5,0", "20,36,99"), probabilities, strict=True)
    one = shown.roi("probabilities", "3,5,0", "20,36,99", "&channel=1")
    np.testing.assert_array_equal(one, probabilities[1:], strict=True)


def test_boxes_come_in_formats_that_programs_read(shown: Served, expected: Expected) -> None:
    labels = expected["connected_components"][4:6, :, 10:60]
    call = "/roi/connected_components?start=4,0,10&stop=6,36,60&format="
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(shown.api(f"{call}tiff").body)), labels, strict=True)
    with h5py.File(io.BytesIO(shown.api(f"{call}hdf5").body)) as file:
        np.testing.assert_array_equal(file["exported_data"][()], labels, strict=True)
        assert [tag["key"] for tag in json.loads(file["exported_data"].attrs["axistags"])["axes"]] == list("zyx")
    assert shown.api(f"{call}png").status == 400
    plane = imageio.imread(shown.api(call.replace("stop=6", "stop=5") + "png").body)
    np.testing.assert_array_equal(plane, labels[0])
    several = shown.api("/roi/probabilities?start=0,0,0&stop=1,9,9&format=png")
    assert (several.status, "channel=0" in several.json["error"]) == (400, True)
    grey = imageio.imread(shown.api("/roi/probabilities?start=0,0,0&stop=1,9,9&format=png&channel=1").body)
    np.testing.assert_array_equal(grey, np.rint(expected["probabilities"][1, 0, :9, :9] * 255))


@pytest.mark.parametrize(
    ("call", "status", "says"),
    [
        ("/roi/other?start=0,0,0&stop=1,1,1", 404, "there are raw, probabilities"),
        ("/roi/raw?start=0,0,0&stop=1,1,129", 400, "[36, 36, 128]"),
        ("/roi/raw?start=-1,0,0&stop=1,1,1", 400, "outside along z"),
        ("/roi/raw?start=5,0,0&stop=2,1,1", 400, "wrong way round along z"),
        ("/roi/raw?start=0,0&stop=1,1,1", 400, "3 whole numbers"),
        ("/roi/raw?start=a,b,c&stop=1,1,1", 400, "3 whole numbers"),
        ("/roi/raw?start=0,0,0&stop=1,1,99999999999999999999", 400, "3 whole numbers"),
        ("/roi/raw?start=0,0,0&stop=1,1,1&format=exe", 400, "npy, png, tiff, hdf5"),
        ("/roi/raw?start=0,0,0&stop=1,1,1&channel=0", 400, "no channels"),
        ("/roi/probabilities?channel=7", 400, "channels 0 to 1"),
        ("/nothing", 404, "/api"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(shown: Served, call: str, status: int, says: str) -> None:
    answer = shown.api(call)
    assert (answer.status, answer.json["status"]) == (status, status)
    assert says in answer.json["error"]


def test_too_large_a_box_is_refused_with_the_limit(shown: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "MOST_BYTES", 1000)
    answer = shown.api("/roi/probabilities")
    assert (answer.status, answer.json["limit"]) == (413, 1000)


def test_the_interface_describes_itself(shown: Served) -> None:
    document = shown.api("").json
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) >= {"/api/layers", "/api/status", "/api/roi/{layer}"}
    assert shown.api("/openapi.json").json == document
    page = shown.api("", Accept="text/html,*/*")
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"/api/roi/{layer}" in page.body
    layers = {layer["name"]: layer for layer in shown.api("/layers").json["layers"]}
    assert layers["connected_components"]["finished"]
    assert layers["probabilities"]["shape"] == [2, *SHAPE]
    assert shown.ask(layers["raw"]["data"] + ".zattrs").status == 200
    steps = {step["step"]: step for step in shown.api("/status").json["steps"]}
    blocks = steps["prediction"]["blocks"]
    assert (steps["prediction"]["done"], steps["prediction"]["waiting"], steps["prediction"]["failed"]) == (
        blocks,
        0,
        0,
    )


def test_what_is_asked_for_is_computed_and_a_run_finds_it(unused: Project, expected: Expected) -> None:
    with served(lambda: computing(unused)) as shown:
        found = shown.roi("thresholded", "0,0,0", "36,18,32")
        np.testing.assert_array_equal(found, expected["thresholded"][:, :18, :32], strict=True)
        np.testing.assert_array_equal(
            shown.chunk("probabilities", 0, 0, 0, 0), expected["probabilities"][:, :18, :18, :16]
        )
        steps = {step["step"]: step for step in shown.api("/status").json["steps"]}
        done = steps["prediction"]["computed"]
        assert steps["threshold"]["computed"] == steps["threshold"]["done"] == 1
        assert 1 < done < steps["prediction"]["blocks"]
        assert shown.api("/roi/connected_components").status == 409
        assert shown.ask(f"{shown.path('connected_components')}/0/0/0/0").status == 404
    run = unused.run()
    assert run.ok
    assert len(run.computed["prediction"]) == steps["prediction"]["blocks"] - done
    assert len(run.computed["threshold"]) == steps["threshold"]["blocks"] - 1
    for name, values in unused.results().items():
        np.testing.assert_array_equal(values, expected[name])


def test_coarser_scales_cost_nothing_and_are_those_of_the_pyramid(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    project = make_long_project(tmp_path)
    places = {"probabilities": (0, 0, 0, 1), "thresholded": (0, 0, 1)}
    with served(lambda: computing(project)) as shown:
        assert shown.site.layers["raw"].scales[1].factors == (2, 2, 2)
        assert shown.ask(f"{shown.path('probabilities')}/1/0/0/0/0").status == 404
        assert not Path("result.n5").exists()
        fine = shown.roi("probabilities", "0,0,0", "36,36,288")
        shown.roi("thresholded", "0,0,0", "36,36,288")
        before = {name: shown.chunk(name, *place, scale=1) for name, place in places.items()}
        mean = fine[..., 64:128].astype(float).reshape(2, 18, 2, 18, 2, 32, 2).mean((2, 4, 6))
        np.testing.assert_array_equal(before["probabilities"][:, :18, :18], mean.astype(np.float32))
        assert not before["probabilities"][:, 18:].any()
    project.change("pyramid", {"scales": "auto"})
    assert project.run(workflow=PyramidWorkflow).ok
    with served(lambda: trying(project, 1)) as shown, monkeypatch.context() as patched:
        patched.setattr(Voxels, "read", None)  # of the finest scale
        tried = shown.ask(f"/{TOKEN}/api/trials", "POST", b'{"values": {"threshold": 0.5}}').json["fingerprint"]
        assert shown.ask(f"/{TOKEN}/data/thresholded/{tried}/1/0/0/1").status == 200
        for name, place in places.items():
            found = shown.chunk(name, *place, scale=1)
            np.testing.assert_array_equal(found, before[name], err_msg=name, strict=True)


@pytest.mark.soak
def test_what_is_damaged_while_one_looks_is_computed_again(project: Project, expected: Expected) -> None:
    with served(lambda: computing(project)) as shown:
        before = shown.chunk("thresholded", 0, 0, 0)
        victim = dataset_folder(project, "thresholded") / "0" / "0" / "0"
        victim.write_bytes(victim.read_bytes()[:20])
        shown.site.cache.clear()
        np.testing.assert_array_equal(shown.chunk("thresholded", 0, 0, 0), before)
        steps = {step["step"]: step["computed"] for step in shown.api("/status").json["steps"]}
        assert (steps["prediction"], steps["threshold"]) == (0, 1)
        labels = dataset_folder(project, "connected_components") / "0" / "0" / "0"
        labels.unlink()
        shown.loop.call_soon_threadsafe(shown.site.presence.look_again)
        assert shown.ask(f"{shown.path('connected_components')}/0/0/0/0").status == 404
    assert project.run().ok
    np.testing.assert_array_equal(project.results()["connected_components"], expected["connected_components"])


@pytest.mark.soak
@pytest.mark.parametrize(
    ("key", "value", "again"),
    [("threshold.threshold", 0.4, 0), pytest.param("prediction.dtype", "uint8", 8, marks=pytest.mark.soak)],
)
def test_changed_settings_are_looked_at_without_giving_up_the_result(
    project: Project, key: str, value: Any, again: int
) -> None:
    project.change(key, value)
    before = project.state()
    settings = load_settings("config.yaml")
    steps, notes = steps_aside(settings, build_steps(settings))
    assert len(notes) == 1
    assert "other settings" in notes[0]
    with served(lambda: Site.of(steps, LocalExecutor(2, 120.0), 1)) as shown:
        found = shown.roi("thresholded", None, None)
        computed = {step["step"]: step["computed"] for step in shown.api("/status").json["steps"]}
        assert computed["prediction"] == again
    assert {path: state for path, state in project.state().items() if "/live/" not in path} == before
    assert steps_aside(settings, build_steps(settings))[0].objects == steps.objects
    assert project.run().ok
    np.testing.assert_array_equal(project.results()["thresholded"], found, strict=True)


@pytest.mark.soak
def test_a_region_that_has_grown_is_looked_at_aside_until_it_is_computed(unused: Project, expected: Expected) -> None:
    unused.change("blocks.roi", [[0, 36], [0, 18], [0, 64]])
    assert unused.run().ok
    unused.change("blocks.roi", [[0, 36], [0, 18], [0, 96]])
    before = unused.state()
    settings = load_settings("config.yaml")
    with served(lambda: Site.of(build_steps(settings))) as shown:
        assert shown.api("/roi/thresholded?stop=36,18,32").status == 200  # out of reach of the former border
        assert shown.api("/roi/thresholded?start=0,0,32&stop=36,18,64").status == 409
    with served(lambda: Site.of(build_steps(settings), LocalExecutor(2, 120.0), 1)) as shown:
        refused = shown.api("/roi/thresholded?start=0,0,32&stop=36,18,64")
        assert (refused.status, "smaller region" in refused.json["error"]) == (409, True)
    steps, notes = steps_aside(settings, build_steps(settings))
    assert len(notes) == 1
    with served(lambda: Site.of(steps, LocalExecutor(2, 120.0), 1)) as shown:
        found = shown.roi("probabilities", "0,0,32", "36,18,96")
    np.testing.assert_array_equal(found, expected["probabilities"][:, :36, :18, 32:96], strict=True)
    assert {path: state for path, state in unused.state().items() if "/live/" not in path} == before


def test_more_than_can_be_waited_for_is_refused_for_the_moment(unused: Project, monkeypatch: Any) -> None:
    monkeypatch.setattr(wishes, "MOST_WISHES", 0)
    with served(lambda: computing(unused)) as shown:
        assert shown.api("/roi/thresholded").status == 503
        assert shown.ask(f"{shown.path('probabilities')}/0/0/0/0/0").status == 503


def test_programs_read_layers_as_zarr_while_blocks_are_computed(unused: Project, expected: Expected) -> None:
    with served(lambda: computing(unused)) as shown:
        for layer in ("thresholded", "probabilities", "raw"):
            spec = {"driver": "zarr", "kvstore": f"{shown.origin}{shown.path(layer)}/0/"}
            found = np.asarray(tensorstore.open(spec).result().read().result())
            values = open_volume("raw.n5:raw").read(tuple(map(slice, (0, 0, 0), SHAPE)))
            np.testing.assert_array_equal(found, values if layer == "raw" else expected[layer], strict=True)
            group = zarr.open_group(f"{shown.origin}{shown.path(layer)}/", mode="r", zarr_format=2)
            np.testing.assert_array_equal(group["0"][...], found, strict=True)


@pytest.mark.soak
def test_time_and_channels_in_any_order_are_shown_and_computed(tmp_path: Path, monkeypatch: Any) -> None:
    images = film()
    project = flat_project(tmp_path, monkeypatch, hdf5(tmp_path, images, "tyxc"), blocks={"shape": [40, 40]})
    with served(lambda: computing(project)) as shown:
        raw = shown.site.layers["raw"]
        assert (raw.axes, raw.chunks) == ("tcyx", (1, 3, 40, 40))
        chunk = shown.chunk("raw", 1, 0, 1, 0)[0]
        np.testing.assert_array_equal(chunk, images[1, 40:80, :40].transpose(2, 0, 1))
        found = shown.roi("thresholded", "1,0,0", "2,90,80")
        steps = {step["step"]: step for step in shown.api("/status").json["steps"]}
        assert steps["threshold"]["done"] == steps["threshold"]["blocks"] / 3
        rgb = shown.api("/roi/raw?start=2,0,0&stop=3,90,80&format=png")
        np.testing.assert_array_equal(imageio.imread(rgb.body), images[2])
    assert project.run().ok
    np.testing.assert_array_equal(found, project.results()["thresholded"][1:2], strict=True)


def test_without_computing_only_what_is_there_is_given(unused: Project) -> None:
    with served(lambda: Site.of(unused.steps())) as shown:
        assert shown.api("/roi/thresholded").status == 409
        assert shown.ask(f"{shown.path('probabilities')}/0/0/0/0/0").status == 404
    assert not Path("work").exists()
    assert not Path("result.n5").exists()


def test_a_failed_block_is_told_with_its_log(unused: Project) -> None:
    def failing() -> Site:
        return Site.of(unused.steps(), LocalExecutor(1, 120.0, Faults(fails=1.0)), max_attempts=1)

    with served(failing) as shown:
        for call in ("/roi/thresholded?stop=1,1,1", "/roi/probabilities?stop=1,1,1"):
            answer = shown.api(call)
            assert answer.status == 500
            assert answer.json["step"] == "prediction"
            assert Path(answer.json["log"]).is_file()
        status = {step["step"]: step for step in shown.api("/status").json["steps"]}["prediction"]
        assert status["failed"] == len(status["failures"]) >= 1
        assert status["failures"][0]["log"]


def test_once_writes_a_box_and_leaves(
    unused: Project, expected: Expected, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", "config.yaml"]
    assert main(["view", *config, "--once", "thresholded:0:9,0:18,0:16", "box.npy"]) == 0
    np.testing.assert_array_equal(np.load("box.npy"), expected["thresholded"][:9, :18, :16], strict=True)
    assert main(["view", *config, "--once", "0:9,0:18,0:99999", "box.tif"]) == 40
    assert "[36, 36, 128]" in capsys.readouterr().err
    assert main(["view", *config, "--once", "raw:0:1,0:18,0:16", "no/such/folder.txt"]) == 40


class Server:
    """``view`` as people start it."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "pipeline", "view", "--config", "config.yaml", "--no-browser"]
        self.process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.base = self.process.stdout.readline().strip().replace("/v/", "/").rstrip("/")

    def roi(self, layer: str, start: tuple[int, ...], stop: tuple[int, ...]) -> NDArray[Any]:
        corners = f"start={','.join(map(str, start))}&stop={','.join(map(str, stop))}"
        with urlopen(f"{self.base}/api/roi/{layer}?{corners}", timeout=300) as answer:
            found: NDArray[Any] = np.load(io.BytesIO(answer.read()))
            return found

    def computed(self) -> dict[str, int]:
        with urlopen(f"{self.base}/api/status", timeout=60) as answer:
            return {step["step"]: step["computed"] for step in json.load(answer)["steps"]}

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)


CLIENTS = 16


@pytest.mark.soak
def test_servers_a_run_and_many_clients_compute_each_block_once(unused: Project, expected: Expected) -> None:
    blocks = [tuple(i * b for i, b in zip(index, BLOCK, strict=True)) for index in np.ndindex(1, 2, 4)]
    servers = [Server(unused.folder) for _ in range(2)]
    try:

        def client(number: int) -> None:
            order = random.Random(number).sample(blocks, len(blocks))
            for start in order:
                stop = tuple(min(s + b, n) for s, b, n in zip(start, BLOCK, SHAPE, strict=True))
                found = servers[number % 2].roi("thresholded", start, stop)
                box = tuple(map(slice, start, stop))
                np.testing.assert_array_equal(found, expected["thresholded"][box], strict=True)

        with ThreadPoolExecutor(CLIENTS) as clients:
            waiting = [clients.submit(client, number) for number in range(CLIENTS)]
            run = unused.run()
            for one in waiting:
                one.result()
        assert run.ok
        counts = [server.computed() for server in servers]
    finally:
        for server in servers:
            server.end()
    for step in ("prediction", "threshold"):
        assert len(run.computed.get(step, [])) + sum(count[step] for count in counts) == len(blocks), (step, counts)
    for name, values in unused.results().items():
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.soak
def test_killed_workers_and_servers_hold_nobody_up(unused: Project, expected: Expected) -> None:
    servers = [Server(unused.folder), Server(unused.folder)]
    try:
        with ThreadPoolExecutor(2) as clients:
            lost, kept = (clients.submit(server.roi, "thresholded", (0, 0, 0), SHAPE) for server in servers)
            wait_for(lambda: all(server.workers() for server in servers), 60)
            servers[1].workers()[0].kill()
            servers[0].end(signal.SIGKILL)
            with pytest.raises((OSError, HTTPException)):
                lost.result()
            np.testing.assert_array_equal(kept.result(), expected["thresholded"], strict=True)
    finally:
        for server in servers:
            server.end(signal.SIGKILL)
    run = unused.run()
    assert run.ok
    assert not run.computed.get("prediction")
    assert not run.computed.get("threshold")


def test_silent_connections_block_nobody_and_vanished_clients_leave_nothing(unused: Project) -> None:
    with served(lambda: computing(unused)) as shown:
        silent = [socket.create_connection(("127.0.0.1", shown.port)) for _ in range(200)]
        assert shown.api("/layers").status == 200
        for connection in silent:
            connection.close()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", shown.port)) as connection:
                request = f"GET /{TOKEN}/api/roi/thresholded HTTP/1.1\r\nHost: a\r\n\r\n"
                connection.sendall(request.encode())
        demanded = shown.site.demand
        assert demanded is not None
        steps = shown.site.steps.everything()
        wait_for(lambda: not any(map(demanded.waiting, steps)), 120, lambda: list(map(demanded.waiting, steps)))
        assert sum(demanded.computed.values()) < 8  # what had been begun
        files = psutil.Process().num_fds()
        for _ in range(10):
            shown.api("/layers")
        assert psutil.Process().num_fds() <= files + 1


TEXT = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30)
PLACES = st.sampled_from(
    ["v", TOKEN, "data", "raw", "thresholded", "api", "roi", "..", "%2e%2e", ".zattrs", "0", ".zarray", "layers",
     "events", "state", "%00", "%ff", "start.js", "-1", "99999999999999999999", "{fingerprint}"]
)  # fmt: skip


METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"])
HEADERS = st.sampled_from(["Range", "If-None-Match", "Content-Type", "Accept", "X-Odd", "Content-Length", "Host"])
QUERIES = st.dictionaries(st.sampled_from(["start", "stop", "format", "channel", "x"]), TEXT)


def try_bad_requests(shown: Served, number: int) -> None:
    fingerprint = shown.site.layers["raw"].fingerprint
    sound = shown.ask(f"{shown.path('raw')}/.zattrs")

    @settings(max_examples=number)
    @given(st.lists(PLACES | TEXT, max_size=8), QUERIES, METHODS, HEADERS, TEXT, st.binary(max_size=40))
    def ask(parts: list[str], query: dict[str, str], method: str, header: str, value: str, body: bytes) -> None:
        path = "/" + "/".join(parts).replace("{fingerprint}", fingerprint)
        asked = "&".join(f"{name}={text}" for name, text in query.items())
        head = f"{method} {path}?{asked} HTTP/1.1\r\n{header}: {value}\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", shown.port), timeout=60) as connection:
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"Traceback" not in answer
        assert b"work_dir" not in answer  # the configuration, next to what is shown
        assert b"root:" not in answer
        status = int(answer.split()[1]) if answer else 0
        assert status in (0, 200, 204, 304, 400, 404, 405, 409, 411, 413, 431)

    ask()
    again = shown.ask(f"{shown.path('raw')}/.zattrs")
    assert (again.status, again.body) == (200, sound.body)


@pytest.mark.parametrize("number", [100, pytest.param(5000, marks=pytest.mark.soak)])
def test_bad_requests_do_no_harm(shown: Served, number: int, caplog: pytest.LogCaptureFixture) -> None:
    try_bad_requests(shown, number)
    assert "Traceback" not in caplog.text
