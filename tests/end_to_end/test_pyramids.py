"""Coarser scales as steps of a run: where they lie, what they hold, and who reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import z5py
import zarr
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline import PyramidWorkflow
from pipeline.__main__ import main
from tasks.pyramid.coarser import Method, coarser
from tests.runs import Project, Run, run_luigi

METHODS: dict[str, Method] = {
    "raw": "mean", "probabilities": "mean", "thresholded": "mode", "connected_components": "mode",
    "simple_segmentation": "mode",
}  # fmt: skip
RESULTS = ("probabilities", "thresholded", "connected_components")


def everything(address: str) -> NDArray[Any]:
    volume = open_volume(address)
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def finest(name: str, output: str = "result.n5") -> NDArray[Any]:
    return everything("raw.n5:raw" if name == "raw" else f"{output}:{name}")


def expected_scales(name: str, number: int, output: str = "result.n5") -> list[NDArray[Any]]:
    """All scales of a dataset of cubic voxels, made of the whole of it."""
    found = [finest(name, output)]
    while len(found) < number:
        before = found[-1]
        factors = (1,) * (before.ndim - 3) + (2, 2, 2)
        found.append(coarser(before, factors, METHODS[name]))
    return found


def run(project: Project, **pyramid: Any) -> Run:
    """Make pyramids of a run, whose own steps are finished."""
    project.change("pyramid", pyramid)
    found = project.run(workflow=PyramidWorkflow)
    assert found.ok, found.text
    assert not {"prediction", "threshold", "connected_components"} & found.computed.keys()
    return found


def read_tensorstore(path: Path, driver: str) -> NDArray[Any]:
    array = ts.open({"driver": driver, "kvstore": f"file://{path.resolve()}/"}).result().read().result()
    return array.T if driver == "n5" else array


@pytest.mark.soak
def test_n5_beside_the_results(project: Project) -> None:
    run(project, scales=4, datasets=["raw", *RESULTS])
    opened = z5py.File("result.n5", mode="r")["pyramid"]
    for name in ("raw", *RESULTS):
        for number, expected in enumerate(expected_scales(name, 4)):
            for found in (
                everything(f"result.n5:pyramid/{name}/s{number}"),
                opened[f"{name}/s{number}"][:],
                read_tensorstore(Path(f"result.n5/pyramid/{name}/s{number}"), "n5"),
            ):
                np.testing.assert_array_equal(found, expected, err_msg=f"{name} {number}", strict=True)
        assert Path(f"result.n5/pyramid/{name}/s0").is_symlink(), "the finest scale is not copied"
    assert run(project, scales=4, datasets=["raw", *RESULTS]).computed == {}


@pytest.mark.soak
def test_n5_metadata_is_what_viewers_read(project: Project) -> None:
    """Names and order as n5-viewer, Paintera and Neuroglancer have them: x first, and factors of the finest scale."""
    attributes = json.loads(Path("raw.n5/raw/attributes.json").read_text())
    spacing = {"axes": ["x", "y", "z"], "resolution": [4.0, 4.0, 20.0], "units": ["nanometer"] * 3}
    Path("raw.n5/raw/attributes.json").write_text(json.dumps(attributes | spacing))
    run(project, scales=4)
    group = json.loads(Path("result.n5/pyramid/thresholded/attributes.json").read_text())
    factors = [[1, 1, 1], [2, 2, 1], [4, 4, 1], [8, 8, 2]]
    assert group["downsamplingFactors"] == group["scales"] == factors
    assert (group["axes"], group["resolution"], group["units"]) == (list("xyz"), [4, 4, 20], ["nm"] * 3)
    assert group["pixelResolution"] == {"unit": "nm", "dimensions": [4, 4, 20]}
    assert group["multiScale"] is True
    for number, each in enumerate(factors[1:], 1):
        scale = json.loads(Path(f"result.n5/pyramid/thresholded/s{number}/attributes.json").read_text())
        assert scale["downsamplingFactors"] == each
        assert "resolution" not in scale, "Neuroglancer would multiply it by the factors"
    group = json.loads(Path("result.n5/pyramid/probabilities/attributes.json").read_text())
    assert group["axes"] == list("xyzc")
    assert group["downsamplingFactors"][3] == [8, 8, 2, 1]
    assert "pixelResolution" not in group, "Neuroglancer wants a number for each axis, n5-viewer three of them"


LAYOUTS = [("pyramid.zarr", None, "0.4"), ("pyramid.ome.zarr", [36, 18, 32], "0.5")]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("container", "shards", "version"), [pytest.param(*LAYOUTS[0], marks=pytest.mark.soak), LAYOUTS[1]]
)
def test_ome_zarr_in_a_container_of_its_own(
    project: Project, container: str, shards: list[int] | None, version: str
) -> None:
    """Labels lie below the image that they belong to; the finest scale is copied from another format."""
    options = {"output": container, "shards": shards, "datasets": ["raw", *RESULTS], "scales": 3}
    run(project, **options)
    assert run(project, **options).computed == {}
    places = {"raw": "raw", "probabilities": "probabilities"}
    places |= {name: f"raw/labels/{name}" for name in RESULTS if name not in places}
    opened = zarr.open_group(container, mode="r")
    for name, place in places.items():
        attributes = dict(opened[place].attrs)
        holder = attributes["ome"] if version == "0.5" else attributes
        check_image(holder, version, is_label="labels" in place, method=METHODS[name])
        for number, expected in enumerate(expected_scales(name, 3)):
            for found in (
                everything(f"{container}:{place}/{number}"),
                opened[f"{place}/{number}"][:],
                read_tensorstore(Path(container, place, str(number)), "zarr3" if version == "0.5" else "zarr"),
            ):
                np.testing.assert_array_equal(found, expected, err_msg=f"{name} {number}")
    assert opened["probabilities/1"].chunks[0] == 2, "viewers want all channels in one chunk"
    labels = dict(opened["raw/labels"].attrs)
    assert (labels["ome"] if version == "0.5" else labels)["labels"] == ["thresholded", "connected_components"]


def check_image(holder: dict[str, Any], version: str, *, is_label: bool, method: str) -> None:
    """What OME-NGFF says of an image of three scales of cubes without units."""
    (image,) = holder["multiscales"]
    assert (holder if version == "0.5" else image)["version"] == version
    assert image["type"] == method
    assert [dataset["path"] for dataset in image["datasets"]] == ["0", "1", "2"]
    channel = [1] * (len(image["axes"]) - 3)
    for number, dataset in enumerate(image["datasets"]):
        expected: list[dict[str, Any]] = [{"type": "scale", "scale": [*channel, *[2**number] * 3]}]
        if number:
            middle = [0 * n for n in channel] + [(2**number - 1) / 2] * 3
            expected.append({"type": "translation", "translation": middle})
        assert dataset["coordinateTransformations"] == expected
    if is_label:
        assert holder["image-label"]["source"] == {"image": "../../"}


def test_precomputed(project: Project) -> None:
    """Sharded, whole shards a block; labels compressed as segmentation; ``info`` when all scales are finished."""
    options = {"output": "pyramid.precomputed", "datasets": ["raw", *RESULTS], "scales": 3}
    run(project, **options)
    assert run(project, **options).computed == {}
    for name in ("raw", *RESULTS):
        folder = Path("pyramid.precomputed", name)
        info = json.loads((folder / "info").read_text())
        assert (info["type"] == "segmentation") is (METHODS[name] == "mode")
        encoding = "compressed_segmentation" if name == "connected_components" else "raw"
        assert [scale["encoding"] for scale in info["scales"]] == [encoding] * 3
        for number, expected in enumerate(expected_scales(name, 3)):
            assert info["scales"][number]["resolution"] == [2**number] * 3
            found = everything(f"precomputed://{folder}:s{number}")
            np.testing.assert_array_equal(found, expected, err_msg=f"{name} {number}", strict=True)
            spec = {
                "driver": "neuroglancer_precomputed",
                "scale_index": number,
                "kvstore": f"file://{folder.resolve()}/",
            }
            others = ts.open(spec).result().read().result().T
            np.testing.assert_array_equal(others if expected.ndim == 4 else others[0], expected)
    shards = list(Path("pyramid.precomputed/raw/s0").glob("*.shard"))
    assert len(shards) == 16, "a block of 2 x 1 x 2 chunks is two shards of 1 x 1 x 2"
    scales = project.steps().scales()["probabilities"]
    assert [each.address for each in scales[1:]] == [
        f"precomputed://pyramid.precomputed/probabilities:s{n}" for n in (1, 2)
    ]
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    assert not any(path.is_file() for path in Path("pyramid.precomputed").rglob("*"))


def test_ome_zarr_beside_results_of_ome_zarr_copies_nothing(unused: Project) -> None:
    unused.change("output", "result.ome.zarr")
    unused.change("pyramid", {"scales": 2})
    found = unused.run()
    assert found.ok, found.text
    for name in RESULTS:
        place = "pyramid/probabilities" if name == "probabilities" else f"pyramid/probabilities/labels/{name}"
        assert Path("result.ome.zarr", place, "0").is_symlink()
        opened = zarr.open_group("result.ome.zarr", mode="r")[place]
        for number, expected in enumerate(expected_scales(name, 2, "result.ome.zarr")):
            np.testing.assert_array_equal(opened[str(number)][:], expected)
    assert unused.run().computed == {}
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    assert not Path("result.ome.zarr").exists()
    assert not Path("work").exists()


def test_readers_of_other_people(project: Project) -> None:
    models = pytest.importorskip("ome_zarr_models", reason="pip install 'blockwise-ilastik[readers]'")
    for container, shards, version in LAYOUTS:
        shutil.rmtree("pyramid.zarr", ignore_errors=True)
        run(project, output=container, shards=shards, datasets=["raw", *RESULTS], scales=3)
        kinds = models.v04 if version == "0.4" else models.v05
        opened = zarr.open_group(container, mode="r")
        for name in ("raw", "probabilities"):
            assert kinds.Image.from_zarr(opened[name]).attributes
        for name in ("thresholded", "connected_components"):
            assert kinds.ImageLabel.from_zarr(opened[f"raw/labels/{name}"]).attributes
        assert kinds.Image.from_zarr(opened["raw"]).labels is not None


def test_cloud_volume_reads_precomputed(project: Project) -> None:
    cloudvolume = pytest.importorskip("cloudvolume", reason="pip install 'blockwise-ilastik[readers]'")
    run(project, output="pyramid.precomputed", datasets=["raw", *RESULTS], scales=3)
    for name in ("raw", *RESULTS):
        for number, expected in enumerate(expected_scales(name, 3)):
            path = f"precomputed://file://{Path('pyramid.precomputed', name).resolve()}"
            volume = cloudvolume.CloudVolume(path, mip=number, progress=False)
            found = np.asarray(volume[:, :, :]).T
            np.testing.assert_array_equal(found if expected.ndim == 4 else found[0], expected)


def test_the_workflow_alone_makes_as_many_as_viewers_need(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tasks.pyramid.scales.SMALLEST", 40)
    before = [step.fingerprint for step in project.steps().all()]
    assert {name: len(scales) for name, scales in project.steps().scales().items() if len(scales) > 1} == {}
    found = run(project)
    assert found.computed["scale_2_probabilities"] == [0]
    assert [step.fingerprint for step in project.steps().all()] == before
    scales = project.steps().scales()
    assert [
        (each.address, each.factors, each.shape, each.is_finished) for each in scales["connected_components"]
    ] == [
        ("result.n5:connected_components", (1, 1, 1), (36, 36, 128), True),
        ("result.n5:pyramid/connected_components/s1", (2, 2, 2), (18, 18, 64), True),
        ("result.n5:pyramid/connected_components/s2", (4, 4, 4), (9, 9, 32), True),
    ]
    assert scales["probabilities"][2].factors == (1, 4, 4, 4)
    assert [each.address for each in scales["raw"]] == ["raw.n5:raw"]
    project.step("connected_components").forget_target()
    Path("work/scale_2_thresholded.json").unlink()
    assert [each.is_finished for each in project.steps().scales()["thresholded"]] == [True, True, False]
    assert [each.is_finished for each in project.steps().scales()["connected_components"]] == [False] * 3
    assert main(["status", "--config", "config.yaml"]) == 0
    assert "pyramid_connected_components" in capsys.readouterr().out


@pytest.mark.soak
def test_workers_of_this_machine_make_them(project: Project) -> None:
    """Through Luigi's command line, as users do; the summary names the groups, and not each scale."""
    project.change("pyramid", {"scales": 3, "output": "pyramid.precomputed"})
    project.change("backend.workers", 2)
    code, text = run_luigi(project, workflow="PyramidWorkflow")
    assert code == 0, text
    assert "precomputed://pyramid.precomputed/connected_components\n" in text
    assert ":s1" not in text
    for name in RESULTS:
        for number, expected in enumerate(expected_scales(name, 3)):
            found = everything(f"precomputed://pyramid.precomputed/{name}:s{number}")
            np.testing.assert_array_equal(found, expected)
    assert run_luigi(project, workflow="PyramidWorkflow")[1].startswith("Nothing to do")


@pytest.mark.soak
def test_a_region_that_grows_computes_what_it_has_cut(unused: Project) -> None:
    """Also where the border lies within a coarser voxel, or moves within a coarser block."""
    roi = [[0, 36], [0, 18], [0, 63]]
    unused.change("blocks.roi", roi)
    unused.change("pyramid", {"scales": 3, "datasets": ["probabilities", "thresholded"]})
    assert unused.run().ok
    for stop, redone in ((64, [0]), (96, [1]), (128, [1])):
        roi[2][1] = stop
        unused.change("blocks.roi", roi)
        found = unused.run()
        assert found.ok, found.text
        assert found.computed["scale_1_probabilities"] == redone
        for name in ("probabilities", "thresholded"):
            for number, expected in enumerate(expected_scales(name, 3)):
                found_scale = everything(f"result.n5:pyramid/{name}/s{number}")
                np.testing.assert_array_equal(found_scale, expected, err_msg=f"{name} {number} {stop}")
        assert unused.run().computed == {}


@pytest.mark.soak
def test_a_link_becomes_a_copy_and_back(project: Project) -> None:
    finest_scale, link = finest("thresholded"), Path("result.n5/pyramid/thresholded/s0")
    for copied in (False, True, False):
        run(project, scales=2, datasets=["thresholded"], copy_finest=copied)
        assert link.is_symlink() is not copied
        np.testing.assert_array_equal(everything("result.n5:pyramid/thresholded/s0"), finest_scale)
        np.testing.assert_array_equal(finest("thresholded"), finest_scale)
    project.change("pyramid.copy_finest", True)  # a run has not come to it
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    assert not Path("result.n5").exists()


@pytest.mark.soak
def test_thresholds_that_go_and_datasets_that_come(project: Project) -> None:
    """Scales of what the configuration has no more are cleaned with all else; other people's things stay."""
    run(project, scales=2)
    values = {"name": "cells", "class": 1, "sigma": 1.6, "threshold": 0.3}
    project.change("threshold", values)
    project.change("pyramid", {"scales": 2, "datasets": ["simple_segmentation", "thresholded"]})
    assert project.run(workflow=PyramidWorkflow).ok
    for name in ("simple_segmentation", "thresholded_cells"):
        found = everything(f"result.n5:pyramid/{name}/s1")
        np.testing.assert_array_equal(found, coarser(finest(name), (2, 2, 2), "mode"))
    Path("result.n5/pyramid/mine").mkdir()
    Path("result.n5/pyramid/mine/attributes.json").write_text("{}")
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    assert not Path("work").exists()
    assert [path.name for path in Path("result.n5/pyramid").iterdir()] == ["mine"]


def test_places_of_other_people_are_left_alone(project: Project) -> None:
    Path("result.n5/pyramid/thresholded/s0").mkdir(parents=True)
    project.change("pyramid.scales", 2)
    found = project.run()
    assert not found.ok
    assert "something lies there that is no link" in found.text
    Path("result.n5/pyramid/thresholded/attributes.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r"a group that this pipeline has not written.*set another `output`"):
        project.run()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pyramid.scales", "many", "pyramid.scales: found 'many'"),
        ("pyramid.scales", 0, "pyramid.scales: found 0"),
        ("pyramid.datasets", ["labels"], "pyramid.datasets"),
        ("pyramid.output", "pyramid.h5", "results are written as N5 or Zarr"),
        ("pyramid.shards", [36, 18, 32], "only Zarr takes shards that are set, N5 has none"),
        ("pyramid.output", "./result.n5", "this is the container of output"),
        ("pyramid.output", "raw.n5", "this is the container of raw"),
    ],
)
def test_wrong_settings_are_refused(project: Project, key: str, value: Any, message: str) -> None:
    project.change("pyramid.scales", 2)
    project.change(key, value)
    with pytest.raises(UserError, match=message):
        project.run()
