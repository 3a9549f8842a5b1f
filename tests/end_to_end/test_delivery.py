"""``blockwise-ilastik export`` and ``ingest``, and when ``plan`` recommends the latter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline.__main__ import main
from pipeline.configuration.nickname import nickname
from pipeline.exporting.results import export_result, ingest_advice
from tasks.pyramid.coarser import coarser
from tests.containers import png, tiff
from tests.contract.files import WRITERS
from tests.contract.test_decoding import unknown_compression
from tests.runs import Project

CONFIG = ("--config", "config.yaml")


def whole(address: str) -> NDArray[Any]:
    volume = open_volume(address)
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def test_every_result_in_every_format(project: Project, expected: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for what, target, *options in (
        ("labels", "out/{nickname}_{dataset}.tif", "--dtype", "uint16", "--compress"),
        ("mask", "out/slices/{z}.tif"),
        ("probabilities", "out/{dataset}.h5", "--dtype", "uint8"),
        ("segmentation", "out/a.n5:{dataset}"),
        ("labels", "out/labels.ome.zarr", "--scales", "2"),
    ):
        assert main(["export", what, target, *CONFIG, *options]) == 0
    written = capsys.readouterr().out.split()
    assert written[0] == "out/raw_raw_labels.tif"
    assert len(written) == 1 + 36 + 3
    np.testing.assert_array_equal(tifffile.imread(written[0]), expected["connected_components"].astype(np.uint16))
    np.testing.assert_array_equal(tifffile.imread("out/slices/07.tif"), expected["thresholded"][7])
    with h5py.File("out/probabilities.h5") as file:
        found = file["exported_data"][()]
        np.testing.assert_array_equal(found, np.rint(expected["probabilities"].astype(float) * 255))
    np.testing.assert_array_equal(whole("out/a.n5:segmentation"), expected["probabilities"].argmax(0) + 1)
    np.testing.assert_array_equal(whole("out/labels.ome.zarr"), expected["connected_components"])
    coarse = coarser(expected["connected_components"], (2, 2, 2), "mode")
    np.testing.assert_array_equal(whole("out/labels.ome.zarr:1"), coarse)


def test_what_cannot_be_exported_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["labels", "a.tif", "--dtype", "int3"], "dtype 'int3' is not known"),
        (["labels", "a.xyz"], "unknown format '.xyz'"),
        (["labels", "{t}.tif"], "there is no {t}"),
        (["probabilities", "a.tif", "--dtype", "uint8", "--range", "0.4", "0.6"], "outside of the range 0.4 to 0.6"),
    ):
        assert main(["export", *arguments, *CONFIG]) == 40
        assert words in capsys.readouterr().err
    assert not list(Path().glob("*.tif"))
    assert main(["export", "labels", "a.tif", *CONFIG]) == 0
    assert main(["export", "labels", "a.tif", *CONFIG]) == 40
    assert "exists already" in capsys.readouterr().err
    project.change("threshold.sigma", 2.0)
    assert main(["export", "probabilities", "b.tif", *CONFIG]) == 0
    assert main(["export", "labels", "c.tif", *CONFIG]) == 40
    assert "export of labels: threshold is not finished, or no longer current" in capsys.readouterr().err
    project.change("prediction.classes", [1])
    assert project.run().ok
    with pytest.raises(UserError, match="1 of 2 classes"):
        export_result(project.steps(), "segmentation", "d.tif")


def test_exports_carry_the_voxel_size_of_the_raw_volume(project: Project, tmp_path: Path) -> None:
    data = whole("raw.n5:raw")
    metadata = {"axes": "ZYX", "spacing": 4.0, "unit": "um"}
    tifffile.imwrite("raw.tif", data, imagej=True, resolution=(2.0, 2.0), metadata=metadata)
    project.change("raw", "raw.tif")
    assert project.run().ok
    export_result(project.steps(), "labels", "labels.ome.zarr")
    assert open_volume("labels.ome.zarr").spacing.steps == (4.0, 0.5, 0.5)


@pytest.mark.soak
def test_plan_recommends_ingest_where_it_pays(
    unused: Project, expected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = whole("raw.n5:raw")
    assert ingest_advice(unused.steps()) == ""
    unused.change("raw", png(Path(), data, "zyx"))
    assert main(["plan", *CONFIG]) == 0
    shown = capsys.readouterr().out
    assert "1x36x128 voxels are decoded at once, so blocks of 36x18x32 read the volume 8 times" in shown
    assert "blockwise-ilastik ingest './stack/*.png' stack.n5:raw" in shown
    assert main(["ingest", "stack/*.png", "stack.n5:raw"]) == 0
    assert "stack.n5:raw: axes zyx, shape (36, 36, 128), uint8, chunks (36, 36, 64)" in capsys.readouterr().out
    assert main(["ingest", "stack/*.png", "stack.n5:raw"]) == 40
    assert "something already" in capsys.readouterr().err
    unused.change("raw", "stack.n5:raw")
    run = unused.run()
    assert run.ok
    np.testing.assert_array_equal(unused.results()["connected_components"], expected["connected_components"])
    copy = main(
        ["ingest", tiff(Path(), data[:4], "zyx"), "film.zarr:raw", "--axes", "tyx", "--chunks", "1", "18", "64"]
    )
    assert copy == 0
    film = open_volume("film.zarr:raw")
    assert (film.axes, film.chunks) == ("tyx", (1, 18, 64))


@pytest.mark.parametrize(
    "name", ["nifti-gz", *(pytest.param(name, marks=pytest.mark.soak) for name in ("precomputed-sharded", "imaris"))]
)
def test_volumes_that_are_only_read(
    unused: Project, expected: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    unused.change("raw", WRITERS[name](Path.cwd(), whole("raw.n5:raw")))
    assert main(["plan", *CONFIG]) == 0
    shown = capsys.readouterr().out
    assert "axes zyx (from its metadata), shape (36, 36, 128)" in shown
    advice = "36x36x128 voxels are decoded at once, so blocks of 36x18x32 read the volume 8 times"
    assert (advice in shown) == (name == "nifti-gz")
    assert unused.run().ok
    np.testing.assert_array_equal(unused.results()["connected_components"], expected["connected_components"])


def test_plan_refuses_what_no_block_could_decode(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    unused.change("raw", unknown_compression(Path("raw.tif"), whole("raw.n5:raw")))
    assert main(["plan", *CONFIG]) == 40
    assert "raw.tif: its voxels (compressed by PIXARFILM) cannot be decoded" in capsys.readouterr().err
    run = unused.run()
    assert not run.ok
    assert "compressed by PIXARFILM" in run.text


def test_names_of_volumes() -> None:
    assert nickname("/data/embryo.ome.zarr:0") == "embryo_0"
    assert nickname("s3://bucket/deep/a.n5:volumes/raw?anonymous=true") == "a_volumes_raw"
    assert nickname("slices/*.png") == "slices"
    assert nickname("run7/img_%04d.tif") == "run7"
