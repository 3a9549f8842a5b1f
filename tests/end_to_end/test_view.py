"""A finished run in the viewer: the bytes of the run, whatever the raw volume's format; nothing else of the disk."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
from numpy.typing import NDArray

from blockwise.volume import open_volume
from blockwise.volume.stack import StackVolume
from pipeline.viewing.chunk_cache import ChunkCache
from pipeline.viewing.client import client_files
from pipeline.viewing.command import page_address, tunnel_line
from pipeline.viewing.handler import Access
from pipeline.viewing.images.slabs import DEPTH
from pipeline.viewing.images.voxels import Voxels
from pipeline.viewing.site import Site
from tests.processes import wait_for
from tests.runs import Project, chunk_files, dataset_folder, environment
from tests.viewer import TOKEN, Served, served

LAYERS = ("raw", "probabilities", "thresholded", "connected_components")


@pytest.fixture
def shown(project: Project) -> Iterator[Served]:
    with served(lambda: Site.of(project.steps())) as found:
        yield found


def read(shown: Served, layer: str) -> NDArray[Any]:
    """All of a layer, as TensorStore reads it over HTTP."""
    base = f"{shown.origin}{shown.path(layer)}/0/"
    spec = {"driver": "zarr", "kvstore": {"driver": "http", "base_url": base}}
    return np.asarray(tensorstore.open(spec).result().read().result())


def stored(address: str) -> NDArray[Any]:
    volume = open_volume(address)
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def test_layers_hold_the_bytes_of_the_run(shown: Served, project: Project) -> None:
    results = project.results()
    for name in LAYERS:
        expected = stored("raw.n5:raw") if name == "raw" else results[name]
        np.testing.assert_array_equal(read(shown, name), expected, strict=True)


def test_raw_volumes_of_any_format_are_shown(unused: Project) -> None:
    values = stored("raw.n5:raw")
    with h5py.File("raw.h5", "w") as file:
        file["data"] = values.astype(np.float64)
    tifffile.imwrite("raw.tif", values.astype(">u2"))
    Path("slices").mkdir()
    for z, plane in enumerate(values):
        tifffile.imwrite(f"slices/{z:03}.tif", plane)
    for address in ("raw.h5:data", "raw.tif", "slices/*.tif"):
        unused.change("raw", address)
        with served(lambda: Site.of(unused.steps())) as shown:
            np.testing.assert_array_equal(read(shown, "raw"), values)


def test_planes_are_decoded_once_for_all_chunks_below_them(unused: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    values = stored("raw.n5:raw")
    Path("slices").mkdir()
    for z, plane in enumerate(values):
        tifffile.imwrite(f"slices/{z:03}.tif", plane, compression="deflate")
    decoded: list[tuple[int, ...]] = []
    monkeypatch.setattr(StackVolume, "_read", counted(StackVolume._read, decoded))
    unused.change("raw", "slices/*.tif")
    unused.change("blocks.chunks", [18, 18, 16])
    with served(lambda: Site.of(unused.steps())) as shown:
        np.testing.assert_array_equal(read(shown, "raw"), values)
        assert len(decoded) == len(set(decoded)) == -(-len(values) // DEPTH)
        tifffile.imwrite("slices/002.tif", values[3], compression="deflate")
        assert (shown.chunk("raw", 0, 0, 0)[2] == values[3, :18, :16]).all()


def counted(function: Callable[..., Any], boxes: list[tuple[int, ...]]) -> Callable[..., Any]:
    def read(self: Any, box: Any) -> Any:
        boxes.append(tuple(s.start for s in box))
        return function(self, box)

    return read


def test_what_a_region_leaves_out_is_zero_and_not_asked_of_anybody(unused: Project) -> None:
    unused.change("blocks.roi", [[0, 36], [0, 18], [0, 32]])
    with served(lambda: Site.of(unused.steps())) as shown:
        assert not shown.chunk("thresholded", 0, 1, 4).any()
        assert shown.ask(f"{shown.path('thresholded')}/0/0/0/0").status == 404
        assert not shown.roi("probabilities", "0,18,32", "9,36,99").any()


def test_a_chunk_has_a_tag_and_is_not_sent_twice(shown: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{shown.path('thresholded')}/0/0/0/0"
    first = shown.ask(path)
    assert first.status == 200
    assert shown.ask(path, If_None_Match='"other"').body == first.body
    with monkeypatch.context() as patched:
        patched.setattr(Voxels, "chunk", None)  # nothing is decoded
        patched.setattr(ChunkCache, "get", None)
        assert shown.ask(path, If_None_Match=first.headers["Etag"]).status == 304
    head = shown.ask(path, "HEAD")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(first.body)))


def test_what_several_ask_for_at_once_is_decoded_once(shown: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{shown.path('probabilities')}/0/0/0/0/0"
    decode, made, all_ask = Voxels.chunk, [], threading.Event()

    def slow(*arguments: Any, **more: Any) -> bytes:
        made.append(arguments)
        all_ask.wait(20)
        return decode(*arguments, **more)

    tag, looks = shown.site.tag, []
    monkeypatch.setattr(Voxels, "chunk", slow)
    monkeypatch.setattr(shown.site, "tag", lambda *arguments: looks.append(1) or tag(*arguments))
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(shown.ask, path) for _ in range(8)]
        wait_for(lambda: len(looks) == 8, 20)
        all_ask.set()
        answers = [one.result() for one in asked]
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert len(made) == 1


def test_what_is_damaged_is_an_error_and_never_zeros(project: Project) -> None:
    victim = chunk_files(dataset_folder(project, "connected_components"))[0]
    victim.write_bytes(victim.read_bytes()[:20])
    with served(lambda: Site.of(project.steps())) as shown:
        answer = shown.ask(f"{shown.path('connected_components')}/0/0/0/0")
        assert answer.status in (404, 500)
        assert b"Traceback" not in answer.body


def test_nothing_of_an_unfinished_or_stale_step_is_shown(project: Project) -> None:
    step = project.step("threshold")
    step.markers.remove(3)
    box = step.output().box(step.grid.block(3).write_box)
    chunk = tuple(s.start // c for s, c in zip(box, step.output().chunks, strict=True))
    with served(lambda: Site.of(project.steps())) as shown:
        assert shown.ask(f"{shown.path('thresholded')}/0/{'/'.join(map(str, chunk))}").status == 404
        assert shown.ask(f"{shown.path('thresholded')}/0/0/0/0").status == 200
        assert shown.ask(f"{shown.path('probabilities')}/0/0/{'/'.join(map(str, chunk))}").status == 200


def test_nothing_else_is_to_be_had(shown: Served) -> None:
    base = shown.path("raw")
    for path in (
        "/", "/etc/passwd", f"/{TOKEN}", f"/{TOKEN}/", f"/other/data/raw/{base.rpartition('/')[2]}/.zattrs",
        f"{base}/../../../config.yaml", f"{base}/%2e%2e/%2e%2e/config.yaml", f"{base}/0/-1/0/0", f"{base}/0/99/0/0",
        f"{base}/0/0/0", f"{base}/1/.zarray", f"/v/{TOKEN}/../../config.yaml", f"/v/{TOKEN}/..%2f__init__.py",
        "/v/other/", f"/{TOKEN}/data/raw/0123456789ab/.zattrs", f"/{TOKEN}/data/secret/x/.zattrs", "/events/other",
    ):  # fmt: skip
        answer = shown.ask(path)
        assert (answer.status, b"Traceback" in answer.body) == (404, False), path
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.json["status"] == 404
    unknown = shown.ask(f"/{TOKEN}/data/secret/x/.zattrs").json
    assert set(LAYERS) <= set(unknown["layers"])
    assert shown.ask(f"/state/{TOKEN}", "POST", b"[" * 100_000).status == 400
    assert shown.ask(f"/state/{TOKEN}", "POST", b'{"c": "a", "g": 2}').json == {"g": "a/2"}


def test_a_page_has_its_files_compressed_and_what_is_asked_of_layers_first(shown: Served) -> None:
    name, path = next(
        (name, path) for name, path in client_files().items() if name.startswith("main") and path.suffix == ".js"
    )
    answer = shown.ask(f"/v/{TOKEN}/{name}", Accept_Encoding="gzip, br")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "immutable" in answer.headers["Cache-Control"]
    assert len(answer.body) < path.stat().st_size / 2
    assert gzip.decompress(answer.body) == shown.ask(f"/v/{TOKEN}/{name}").body == path.read_bytes()
    script = shown.ask(f"/v/{TOKEN}/start.js").body.decode()
    documents, _ = json.JSONDecoder().raw_decode(script.partition(" = ")[2])
    keys = (".zattrs", "0/.zarray", "0/.zattrs")
    assert set(documents) == {f"{shown.path(layer)}/{key}" for layer in shown.site.layers for key in keys}
    for address, content in documents.items():
        assert shown.ask(address).body.decode() == content


def test_other_pages_may_read_only_on_request(project: Project) -> None:
    with served(lambda: Site.of(project.steps()), Access(TOKEN, cors=True)) as shown:
        answer = shown.ask(f"{shown.path('raw')}/.zattrs", Origin="http://elsewhere")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_the_command_prints_one_address(project: Project) -> None:
    command = [sys.executable, "-m", "pipeline", "view", "--config", "config.yaml"]
    variables = {**environment(), "SSH_CONNECTION": "1 2 3 4"}
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/v/([\w-]{20,})/\n", address)
        assert found, (address, process.stderr.read())
        assert f"ssh -N -L {found[1]}:127.0.0.1:{found[1]} " in process.stderr.readline()
        process.terminate()
        assert process.wait(60) == 0
        assert process.stdout.read() == process.stderr.read() == ""


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert page_address("::1", 80, "t") == "http://[::1]:80/v/t/"
    assert tunnel_line("127.0.0.1", 80) == ""
