"""Time steps and channels together with a mask, hysteresis, intensities and the most probable class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.filters import gaussian
from skimage.measure import label, regionprops_table

from blockwise.volume import open_volume
from pipeline import SimpleSegmentationWorkflow
from pipeline.exporting.results import export_result
from tests.containers import hdf5, n5
from tests.end_to_end.test_time import film, flat_project, whole

SIGMA, CORE, FINAL = 1.0, 0.6, 0.35


@pytest.mark.soak
def test_each_time_step_equals_the_whole_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = film()
    coarse = np.zeros((30, 27), np.uint8)  # 3 times coarser, the same for all times
    coarse[4:28, 3:20] = 1
    coarse[10:13, 8:12] = 0
    raw = hdf5(tmp_path, frames, "tyxc")
    (tmp_path / "mask").mkdir()
    mask = n5(tmp_path / "mask", coarse, "yx")
    project = flat_project(
        tmp_path,
        monkeypatch,
        raw,
        blocks={"shape": [40, 32], "mask": mask},
        threshold={"class": 1, "sigma": SIGMA, "method": "hysteresis", "core": CORE, "final": FINAL},
        connected_components={"intensities": True, "numbering": "restart"},
    )
    run = project.run()
    assert run.ok, run.text
    assert len(run.computed["prediction"]) == 3 * 3 * 2, "of 3 x 3 x 3 blocks the last column is outside"
    inside = coarse.repeat(3, 0).repeat(3, 1)[: frames.shape[1], : frames.shape[2]] > 0
    weight = np.where(inside, gaussian(inside.astype(np.float32), SIGMA), 1)
    found = project.results()
    table = pd.read_parquet("work/objects.parquet")
    for t, image in enumerate(frames):
        probabilities = np.asarray(found["probabilities"])[t]
        assert not probabilities[:, ~inside].any()
        assert probabilities[:, inside].any(axis=0).all()
        smoothed = np.where(inside, gaussian(probabilities[1], SIGMA) / weight, 0)
        np.testing.assert_array_equal(
            found["thresholded"][t], (smoothed > FINAL) + (smoothed > CORE).astype(np.uint8)
        )
        objects = label(smoothed > FINAL, connectivity=2)
        kept = np.unique(objects[smoothed > CORE])
        numbers = np.zeros(objects.max() + 1, int)
        numbers[kept] = np.arange(1, len(kept) + 1)
        expected = numbers[objects]
        np.testing.assert_array_equal(found["connected_components"][t], expected)
        assert len(kept) > 0
        rows = table[table["t"] == t]
        for channel in range(3):
            properties = regionprops_table(
                expected, image[..., channel].astype(float), properties=("area", "intensity_mean", "intensity_max")
            )
            np.testing.assert_array_equal(rows["voxels"], properties["area"])
            np.testing.assert_allclose(rows[f"intensity_mean_{channel}"], properties["intensity_mean"], rtol=1e-12)
            np.testing.assert_array_equal(rows[f"intensity_max_{channel}"], properties["intensity_max"])
    assert project.run().computed == {}

    most = np.where(inside, np.asarray(found["probabilities"]).argmax(axis=1) + 1, 0)
    export_result(project.steps(), "segmentation", "of_probabilities.n5:data")
    np.testing.assert_array_equal(whole("of_probabilities.n5:data"), most)
    run = project.run(workflow=SimpleSegmentationWorkflow)
    assert run.ok, run.text
    np.testing.assert_array_equal(whole("result.n5:simple_segmentation"), most)
    export_result(project.steps(), "segmentation", "of_segmentation.n5:data")
    np.testing.assert_array_equal(whole("of_segmentation.n5:data"), most)
    assert open_volume("result.n5:simple_segmentation").axes == "tyx"
