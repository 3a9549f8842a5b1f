"""A batch in the viewer: images to choose from, small ones as they were written, blocks of large ones computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from blockwise.backends.executor import Executor
from blockwise.backends.local_executor import LocalExecutor
from pipeline.__main__ import main
from pipeline.batch.gallery import gallery_of
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.viewing.gallery import Gallery
from tests.batches import results, run_here, times, write_config, write_images
from tests.processes import wait_for
from tests.viewer import TOKEN, Served, served

pytestmark = pytest.mark.usefixtures("batch_folder")


def gallery(executor: Executor | None = None) -> Gallery:
    return gallery_of(BatchImages(load_batch("config.yaml", None)), "config.yaml", executor, 1)


def computing() -> Gallery:
    return gallery(LocalExecutor(1, 60.0))


def try_threshold(shown: Served, name: str, call: str = "", **values: Any) -> Any:
    body = json.dumps({"values": values, "start": {"y": 0, "x": 0}, "stop": {"y": 99, "x": 99}}).encode()
    answer = shown.ask(f"/{TOKEN}.{name}/api/trials{call}", "POST", body)
    assert answer.status == 200, answer.body
    return answer.json


def tried_mask(shown: Served, found: Any) -> NDArray[Any]:
    return shown.read_all(found["layer"]["source"]["url"].removeprefix("zarr2://{origin}").rstrip("/"))


def test_images_are_chosen_from_a_list_and_hold_what_was_written() -> None:
    write_images(3)
    write_config(batch={"files": "images/*.png", "small_voxels": 51 * 60})
    with served(gallery) as shown:
        assert [image["state"] for image in shown.api("/images").json["images"]] == ["", "", "large"]
        missing = shown.api("/roi/thresholded", image="cell0")
        assert (missing.status, "run the workflow" in missing.json["error"]) == (409, True)
    assert run_here()[0].ok
    with served(gallery) as shown:
        assert [image["state"] for image in shown.api("/images").json["images"]] == ["done", "done", "large"]
        page = shown.ask(f"/v/{TOKEN}/").body.decode()
        for i in range(3):
            name = f"cell{i}"
            assert f"/v/{TOKEN}.{name}/" in page
            assert shown.ask(f"/v/{TOKEN}.{name}/start.js").status == 200
            for layer in ("probabilities", "thresholded", "connected_components"):
                found = shown.roi(layer, None, None, image=name)
                np.testing.assert_array_equal(found, results(name)[layer], strict=True)
        for path in (f"/v/{TOKEN}.other/", f"/{TOKEN}/api/layers", f"/{TOKEN}/data/raw/x/.zattrs", "/v/x.cell0/"):
            assert shown.ask(path).status == 404, path
        assert shown.api("/status", image="cell1").json["steps"][0]["finished"]


def test_a_small_image_that_has_changed_is_not_shown_as_it_was() -> None:
    write_images(2)
    assert run_here()[0].ok
    Path("images/cell0.png").write_bytes(Path("images/cell1.png").read_bytes())
    with served(gallery) as shown:
        assert shown.api("/roi/thresholded", image="cell0").status == 409
        assert shown.api("/roi/thresholded", image="cell1").status == 200


@pytest.mark.soak
def test_blocks_of_large_images_are_computed() -> None:
    write_images(1)
    write_config(batch={"files": "images/*.png", "small_voxels": 1}, blocks={"shape": [32, 32]})
    with served(lambda: gallery(LocalExecutor(1, 60.0))) as shown:
        found = shown.roi("thresholded", "0,0", "9,9", image="cell0")
    assert run_here()[0].ok
    np.testing.assert_array_equal(found, results("cell0")["thresholded"][:9, :9], strict=True)


@pytest.mark.soak
def test_small_images_are_computed_and_tried_before_and_after_the_run() -> None:
    write_images(2)
    with served(computing) as shown:
        before = shown.roi("thresholded", None, None, image="cell0")
        tried = tried_mask(shown, try_threshold(shown, "cell0", threshold=0.6))
        assert not Path("out").exists()  # what a run writes
        assert run_here()[0].ok
        wait_for(lambda: shown.api("/status", image="cell0").json["steps"][0]["finished"], 60)
        np.testing.assert_array_equal(before, results("cell0")["thresholded"], strict=True)
        state = times()
        again = try_threshold(shown, "cell0", threshold=0.6)
        np.testing.assert_array_equal(tried_mask(shown, again), tried, strict=True)
        own = try_threshold(shown, "cell0")
        np.testing.assert_array_equal(tried_mask(shown, own), before, strict=True)
        assert not try_threshold(shown, "cell0", "/objects")["provisional"]
        assert try_threshold(shown, "cell0", "/objects", threshold=0.6)["provisional"]
        path = try_threshold(shown, "cell0", "/configuration", threshold=0.6)["path"]
        assert times() == state
    assert run_here()[0].computed == {}
    values = yaml.safe_load(Path(path).read_text())
    assert (values["threshold"]["threshold"], values["batch"]) == (0.6, {"files": "images/*.png"})
    Path(path).replace("config.yaml")
    assert run_here()[0].ok
    np.testing.assert_array_equal(tried, results("cell0")["thresholded"], strict=True)
    assert any(Path("work/images/cell0/live").iterdir())
    assert main(["clean", "--config", "config.yaml", "--yes"]) == 0
    assert not any(Path("work").rglob("*.n5"))


def test_values_of_an_image_with_a_row_of_its_own_are_written_there() -> None:
    write_images(2)
    Path("rows.csv").write_text("raw,threshold.threshold\nimages/cell0.png,0.5\nimages/cell1.png,\n")
    write_config(batch={"manifest": "rows.csv"})
    with served(computing) as shown:
        call = f"/{TOKEN}.cell0/api/trials/configuration"
        answer = shown.ask(call, "POST", b'{"values": {"threshold": 0.6}}')
        assert (answer.status, "in its own row" in answer.json["error"]) == (500, True)
