"""A batch in the viewer: images to choose from, small ones as they were written, blocks of large ones computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blockwise.backends.executor import Executor
from blockwise.backends.local_executor import LocalExecutor
from pipeline.batch.gallery import gallery_of
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.viewing.gallery import Gallery
from tests.batches import results, run_here, write_config, write_images
from tests.viewer import TOKEN, served

pytestmark = pytest.mark.usefixtures("batch_folder")


def gallery(executor: Executor | None = None) -> Gallery:
    return gallery_of(BatchImages(load_batch("config.yaml", None)), executor, 1)


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


def test_blocks_of_large_images_are_computed() -> None:
    write_images(1)
    write_config(batch={"files": "images/*.png", "small_voxels": 1}, blocks={"shape": [32, 32]})
    with served(lambda: gallery(LocalExecutor(1, 60.0))) as shown:
        found = shown.roi("thresholded", "0,0", "9,9", image="cell0")
    assert run_here()[0].ok
    np.testing.assert_array_equal(found, results("cell0")["thresholded"][:9, :9], strict=True)
