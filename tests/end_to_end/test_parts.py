"""A region of interest and a mask, from the configuration to the objects, against the whole volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import z5py
from skimage.filters import gaussian
from skimage.measure import label

from pipeline.__main__ import main
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings
from pipeline.inspecting.cleaning import find_ours
from tests.runs import SHAPE, Project, chunk_files, dataset_folder

SIGMA, THRESHOLD = 1.6, 0.25


def write_mask(inside: np.ndarray) -> None:
    container = z5py.File("mask.n5", mode="a")
    if "inside" not in container:
        container.create_dataset("inside", shape=inside.shape, chunks=(9, 9, 8), dtype="uint8", compression="gzip")
    container["inside"][:] = inside.astype(np.uint8)


def repeated(coarse: np.ndarray, factor: int) -> np.ndarray:
    for axis in range(3):
        coarse = coarse.repeat(factor, axis)
    return coarse


def assert_is_whole_volume(project: Project, probabilities: Any, box: Any, inside: np.ndarray) -> None:
    """Compare with the whole volume's computation; ``inside`` has the shape of the volume."""
    found = project.results()
    inside = inside[box]
    boundary = np.where(inside, probabilities[1][box], np.float32(0))
    weight = np.where(inside, gaussian(inside.astype(np.float32), SIGMA), 1)
    mask = (gaussian(boundary, SIGMA) / weight > THRESHOLD) & inside
    expected = {
        "probabilities": np.where(inside, probabilities[:, *box], 0),
        "thresholded": mask,
        "connected_components": label(inside & ~mask, connectivity=3),
    }
    for name, value in expected.items():
        whole = np.array(found[name])
        place = (slice(None),) * (whole.ndim - 3) + box
        np.testing.assert_array_equal(whole[place], value, err_msg=name)
        whole[place] = 0
        assert not whole.any(), name
    objects = pd.read_csv(project.folder / "work" / "objects.csv")
    assert list(objects["voxels"]) == list(np.bincount(expected["connected_components"].ravel())[1:])
    assert len(objects) > 3


def test_region_with_open_ends(unused: Project, expected: Any) -> None:
    unused.change("blocks.roi", [[None, 30], [5, None], [10, 100]])
    run = unused.run()
    assert run.ok
    assert run.computed["prediction"] == list(range(8))
    box = (slice(0, 30), slice(5, SHAPE[1]), slice(10, 100))
    assert_is_whole_volume(unused, expected["probabilities"], box, np.ones(SHAPE, bool))
    assert unused.run().computed == {}
    unused.change("blocks.roi", [[None, 30], [20, None], [40, 90]])
    run = unused.run()
    assert run.computed["prediction"] == [5, 6], "blocks that the region does not touch are not computed"
    assert "grid.roi: [[0, 30], [5, 36], [10, 100]] -> [[0, 30], [20, 36], [40, 90]]" in run.text


@pytest.mark.soak
def test_coarser_mask_within_a_region(unused: Project, expected: Any) -> None:
    coarse = np.zeros([n // 2 for n in SHAPE], bool)
    coarse[2:16, 3:18, 4:30] = True
    coarse[5:7, :, 10:14] = False
    write_mask(coarse)
    unused.change("blocks.mask", "mask.n5:inside")
    unused.change("blocks.roi", [[1, None], [None, None], [None, 127]])
    box = (slice(1, 36), slice(0, 36), slice(0, 127))
    run = unused.run()
    assert run.ok
    left = [0, 1, 4, 5]  # the mask ends before x = 64, the third block
    assert [run.computed[name] for name in ("prediction", "threshold", "component_faces")] == [left] * 3
    assert_is_whole_volume(unused, expected["probabilities"], box, repeated(coarse, 2))
    written = {path.relative_to(dataset_folder(unused, "thresholded")).parts[0] for path in
               chunk_files(dataset_folder(unused, "thresholded"))}  # fmt: skip
    assert written == {"0", "1", "2", "3"}, "chunks beyond x = 64 are not written"
    assert unused.run().computed == {}

    coarse[8, 4, 5:9] = False  # below block 0 only, within reach of the Gaussian for block 4 no more
    write_mask(coarse)
    run = unused.run()
    assert run.ok
    assert run.computed["prediction"] == [0]
    assert "mask has changed below 1 of 4 blocks" in run.text
    assert_is_whole_volume(unused, expected["probabilities"], box, repeated(coarse, 2))

    coarse[8, 4, 40:50] = True  # in other blocks: a larger set of blocks
    write_mask(coarse)
    run = unused.run()
    assert run.computed["prediction"] == [2, 3]
    assert "2 of 6 blocks are not done yet" in run.text
    assert_is_whole_volume(unused, expected["probabilities"], box, repeated(coarse, 2))

    coarse[:, :, 40:50] = False  # without them again: what they hold must go
    write_mask(coarse)
    run = unused.run()
    assert run.computed["prediction"] == left
    assert "made anew: it was computed in a region that is not within the present one" in run.text
    assert_is_whole_volume(unused, expected["probabilities"], box, repeated(coarse, 2))


def test_plan_and_status_look_at_a_mask_and_write_nothing(
    unused: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mask(np.ones([n // 2 for n in SHAPE]))
    unused.change("blocks.mask", "mask.n5:inside")
    before = unused.state(), sorted(unused.folder.rglob("*"))
    for command in ("plan", "status"):
        assert main([command, "--config", "config.yaml"]) == 0
    assert "prediction" in capsys.readouterr().out
    assert (unused.state(), sorted(unused.folder.rglob("*"))) == before


def test_clean_knows_what_was_found_of_the_mask_and_leaves_the_mask(unused: Project) -> None:
    write_mask(np.ones([n // 2 for n in SHAPE]))
    unused.change("blocks.mask", "mask.n5:inside")
    assert unused.run().ok
    settings = load_settings(str(unused.config))
    assert "work/mask.npz" in find_ours(settings, build_steps(settings))
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    assert not Path("work").exists()
    assert Path("mask.n5/inside").exists()
