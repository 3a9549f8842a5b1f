"""What the raw volume's metadata and its odd values mean for a run: sizes, borders, NaN."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.measure import label, regionprops_table
from skimage.segmentation import clear_border, relabel_sequential

from blockwise.not_finite import noted_of
from blockwise.volume import create_volume, ingest, open_volume
from pipeline.__main__ import main
from pipeline.batch.image_chains import ImageChains, image_steps
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.running.session import end_sessions
from tests.batches import batch_folder, run_here, write_config, write_images
from tests.runs import SHAPE, Project, chunk_files, run_luigi

__all__ = ["batch_folder"]

ODD = {(0, 0, 5): np.nan, (20, 17, 31): np.inf, (20, 17, 32): np.nan, (35, 35, 127): -np.inf}
"""At the corners of blocks, which many other blocks read as halo."""


def write_raw(project: Project, odd: dict[tuple[int, ...], float], **attributes: Any) -> None:
    """The raw volume once more, as floats."""
    everything = tuple(slice(0, n) for n in SHAPE)
    values = open_volume("raw.n5:raw").read(everything).astype(np.float32)
    for place, value in odd.items():
        values[place] = value
    create_volume("floats.n5:raw", SHAPE, (18, 18, 16), "float32", attributes)
    open_volume("floats.n5:raw", "a").write(everything, values)
    project.change("raw", "floats.n5:raw")


def test_what_is_not_finite_is_counted_once_and_told(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_raw(unused, ODD)
    counted = "4 voxels are not finite (2 NaN and 2 infinite)"
    said = f"{counted} in what is given, in 3 of 8 blocks, the first at z 0, y 0, x 5"
    run = unused.run()
    assert run.ok
    assert f"prediction: {said}" in run.text
    expected = {"nan": 2, "infinite": 2, "blocks": 3, "block": 0, "first": [0, 0, 5]}
    # A run that was killed goes on: some blocks have been computed before, others were touched and are checked.
    Path("work/prediction.json").unlink()
    step = unused.step("prediction")
    step.markers.remove(0)
    for file in chunk_files(Path("result.n5/probabilities")):
        os.utime(file)
    assert main(["status", "--config", "config.yaml"]) == 0
    assert "2 voxels are not finite" in capsys.readouterr().out, "of the blocks that are done"
    run = unused.run()
    assert run.computed == {"prediction": [0]}
    assert 7 in run.checked["prediction"], "which has an infinity"
    assert json.loads(Path("work/prediction.json").read_text())["not_finite"] == expected
    assert main(["status", "--config", "config.yaml"]) == 0
    assert said in capsys.readouterr().out
    code, text = run_luigi(unused)
    assert code == 0
    assert f"warning  prediction: {said}" in text
    report = json.loads(Path("work/ConnectedComponentsWorkflow.json").read_text())
    assert report["steps"]["prediction"]["not_finite"] == expected


@pytest.mark.soak
def test_chunks_that_are_not_there_are_told_to_the_end(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    chunk_files(Path("raw.n5/raw"))[3].unlink()
    said = "raw raw.n5:raw: 1 of 32 chunks are not there and are read as the fill value"
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert f"prediction: {said}" in capsys.readouterr().out
    assert f"prediction: {said}" in unused.run().text
    assert main(["status", "--config", "config.yaml"]) == 0
    assert f"prediction: {said}" in capsys.readouterr().out
    code, text = run_luigi(unused)
    assert code == 0
    assert text.count(f"warning  prediction: {said}") == 1
    report = json.loads(Path("work/ConnectedComponentsWorkflow.json").read_text())
    assert report["steps"]["prediction"]["absent_chunks"][0].startswith(said)


@pytest.mark.soak
def test_finite_floats_and_integers_say_nothing(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_raw(unused, {})
    run = unused.run()
    assert run.ok
    markers = [json.loads(path.read_text()) for path in Path("work/prediction").glob("*/done/*/*.json")]
    assert len(markers) == 8
    assert not any("not_finite" in marker for marker in markers)
    assert main(["status", "--config", "config.yaml"]) == 0
    assert "finite" not in run.text + capsys.readouterr().out + Path("work/prediction.json").read_text()


@pytest.mark.parametrize("target", ["copy.n5:raw", "copy.zarr:raw", "three.zarr:raw"])
def test_a_copy_tells_what_is_not_finite(target: str, unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.ones(SHAPE, np.float32)
    for place, value in ODD.items():
        values[place] = value
    np.save("odd.npy", values)
    np.save("sound.npy", np.ones(SHAPE, np.float32))
    if target.startswith("three"):
        create_volume("three.zarr:other", (4,), (4,), "uint8", {}, zarr_format=3)
    said = "4 voxels are not finite (2 NaN and 2 infinite), the first at z 0, y 0, x 5"
    assert main(["ingest", "odd.npy", target, "--axes", "zyx"]) == 0
    assert f"warning: {target}: {said}" in capsys.readouterr().out
    assert "unfinished" not in open_volume(target).attributes
    unused.change("raw", target)
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert f"raw: {said}" in capsys.readouterr().out
    # In slabs of one layer of chunks the same is found.
    again = ingest(target, f"again-{target}", chunks=(8, 8, 16), memory_bytes=8 * 8 * 128 * 4)
    assert again.attributes["not_finite"] == {"nan": 2, "infinite": 2, "first": [0, 0, 5]}
    assert main(["ingest", "sound.npy", f"sound-{target}", "--axes", "zyx"]) == 0
    assert "finite" not in capsys.readouterr().out
    assert "not_finite" not in open_volume(f"sound-{target}").attributes


def test_a_foreign_attribute_of_that_name_says_nothing() -> None:
    for value in (None, 3, "NaN", {"nan": 3}, {"nan": "x", "infinite": 0, "first": [1]}, {"first": [1], "nan": 1}):
        assert noted_of({"not_finite": value}, "zyx") == ""
    assert noted_of({"not_finite": {"nan": 1, "infinite": 0, "first": [1]}}, "zyx").endswith("the first at (1,)")


@pytest.mark.usefixtures("batch_folder")
@pytest.mark.parametrize("large", [False, True])
def test_images_of_a_batch(large: bool, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(2)
    for i in range(2):
        image = np.float32(imageio.v3.imread(f"images/cell{i}.png"))
        image[7, 3, 1] = np.nan if i else 0
        tifffile.imwrite(f"images/cell{i}.tif", image, photometric="rgb")
        Path(f"images/cell{i}.png").unlink()
    limit = {"small_voxels": 10} if large else {}
    write_config(batch={"files": "images/*.tif", **limit}, blocks={"shape": [64, 64]})
    run, workflow = run_here()
    assert run.ok
    messages = [row.message for row in workflow.batch._report({})]
    assert messages == ["", "1 voxel is not finite (1 NaN), the first at (7, 3)"]
    assert main(["status", "--config", "config.yaml"]) == 0
    told = capsys.readouterr().out
    if large:
        assert (
            "cell1: prediction: 1 voxel is not finite (1 NaN) in what is given, in 1 of 1 blocks, the first at y 7"
            in told
        )
    else:
        assert "in 1 of 2 images, the first in image cell1" in told
    assert run_here()[0].computed == {}
    end_sessions()


@pytest.mark.usefixtures("batch_folder")
def test_images_of_a_batch_have_voxels_of_their_own_size() -> None:
    """Their steps are made once for all that are alike."""
    write_images(1)
    image = imageio.v3.imread("images/cell0.png")
    for i, step in enumerate((0.5, 0.25, None)):
        sizes = {} if step is None else {"PhysicalSizeX": step, "PhysicalSizeY": 2 * step}
        tifffile.imwrite(f"images/{i}.ome.tif", image, photometric="rgb", metadata={"axes": "YXS", **sizes})
    write_config(
        batch={"files": "images/*.ome.tif"},
        connected_components={"exclude_border": True},
        threshold={"class": 1, "sigma": 0.5, "threshold": 0.4},
    )
    assert run_here()[0].computed == {"images": [0, 1, 2]}
    tables = [pd.read_csv(path) for path in sorted(Path("work/images").glob("*/objects.csv"))]
    assert len(tables[0])
    for table, area in zip(tables[:2], (0.5, 0.125), strict=True):
        np.testing.assert_allclose(table["area_um2"], area * table["voxels"], rtol=1e-12)
        assert list(table.columns[-4:]) == ["touches_border", "area_um2", "centroid_um_y", "centroid_um_x"]
    assert tables[2].columns[-1] == "touches_border"
    assert not any(table["touches_border"].any() for table in tables)
    assert run_here()[0].computed == {}, "what is remembered of them has their sizes"
    images = BatchImages(load_batch("config.yaml", None))
    chains = ImageChains(images.volumes)
    found = [chains.fingerprints(settings) for settings in images.settings]
    assert found == [tuple(step.fingerprint for step in image_steps(one).all()) for one in images.settings]
    end_sessions()


@pytest.mark.parametrize("exclude", [pytest.param(False, marks=pytest.mark.soak), True])
def test_physical_columns_and_borders(exclude: bool, unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_raw(unused, {}, axes=["z", "y", "x"], resolution=[40.0, 4.0, 4.0], units=["nm"] * 3)
    roi = ((0, 36), (4, 36), (10, 120))
    unused.change("blocks.roi", [list(pair) for pair in roi])
    unused.change("connected_components.min_size", "0.00001 um3")
    unused.change("connected_components.exclude_border", exclude)
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert "voxels of 0.04 x 0.004 x 0.004 um" in capsys.readouterr().out
    assert unused.run().ok
    found = unused.results()
    box = tuple(slice(*pair) for pair in roi)
    whole = label(found["thresholded"][box] == 0, connectivity=3)
    whole = relabel_sequential(whole * (np.bincount(whole.ravel()) >= 16)[whole])[0]  # 15.6 voxels
    inside = relabel_sequential(clear_border(whole))[0]
    expected = inside if exclude else whole
    assert 0 < inside.max() < whole.max()
    np.testing.assert_array_equal(found["connected_components"][box], expected)
    table = pd.read_csv("work/objects.csv")
    assert list(table.columns[-5:]) == [
        "touches_border", "volume_um3", "centroid_um_z", "centroid_um_y", "centroid_um_x"
    ]  # fmt: skip
    assert (~table["touches_border"]).sum() == inside.max()
    labels = found["connected_components"].astype(int)
    properties = regionprops_table(labels, spacing=(0.04, 0.004, 0.004), properties=("area", "centroid"))
    np.testing.assert_allclose(table["volume_um3"], properties["area"], rtol=1e-12)
    np.testing.assert_allclose(table["centroid_um_x"], properties["centroid-2"], rtol=1e-12)
    pd.testing.assert_frame_equal(pd.read_parquet("work/objects.parquet"), table, check_dtype=False)
    # Other metadata: nothing but the table is made again.
    attributes = json.loads(Path("floats.n5/raw/attributes.json").read_text())
    Path("floats.n5/raw/attributes.json").write_text(json.dumps({**attributes, "resolution": [4.0, 4.0, 41.0]}))
    assert unused.run().computed == {"object_table": [0]}


def test_a_voxel_size_that_is_set_counts_and_redoes_the_table_alone(unused: Project) -> None:
    assert unused.run().ok
    voxels = pd.read_csv("work/objects.csv")["voxels"]
    unused.change("raw", {"path": "raw.n5", "key": "raw", "voxel_size": [40, 4, 4.5], "voxel_unit": "nm"})
    assert unused.run().computed == {"object_table": [0]}
    np.testing.assert_allclose(pd.read_csv("work/objects.csv")["volume_um3"], 0.04 * 0.004 * 0.0045 * voxels)
    assert unused.step("threshold").sigma == (1.6, 1.6, 1.6)
    unused.change("threshold", {"class": 1, "sigma": 8, "sigma_unit": "physical"})
    assert unused.step("threshold").sigma == (0.2, 2.0, 8 / 4.5)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"voxel_size": [4, 4]}, "raw.voxel_size: [4.0, 4.0] has 2 numbers, but raw.n5:raw has 3 spatial axes"),
        (
            {"voxel_size": [4, 4, 4], "voxel_unit": "parsec"},
            "raw.voxel_unit: found 'parsec'; 'parsec' is no unit of length",
        ),
        ({"voxel_size": [4, 4, 0]}, "raw.voxel_size"),
    ],
)
def test_a_voxel_size_that_cannot_be_is_refused(
    raw: dict[str, Any], said: str, unused: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    unused.change("raw", {"path": "raw.n5", "key": "raw", **raw})
    assert main(["plan", "--config", "config.yaml"]) == 40
    assert said in capsys.readouterr().err


def test_a_size_with_a_unit_needs_voxels_with_a_size(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    unused.change("connected_components.min_size", "0.5 um3")
    assert main(["plan", "--config", "config.yaml"]) == 40
    assert "connected_components.min_size: 0.5 um3, but raw raw.n5:raw does not say" in capsys.readouterr().err
