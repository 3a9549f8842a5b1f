"""Axes in any order, time steps, flat images and channels through the whole workflow."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skimage.filters import gaussian
from skimage.measure import label

from blockwise.errors import UserError
from blockwise.volume import create_volume, open_volume
from pipeline.__main__ import main
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings
from tests.containers import hdf5, n5, tiff
from tests.runs import ROOT, Project
from tests.unit.pixel_cases import case_folder, read

FLAT = "2d_rgb_u8_3class"


def whole(address: str) -> NDArray[Any]:
    volume = open_volume(address)
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def flat_project(folder: Path, monkeypatch: pytest.MonkeyPatch, raw: Any, **sections: Any) -> Project:
    monkeypatch.chdir(folder)
    shutil.copyfile(case_folder(FLAT) / "project.ilp", folder / "project.ilp")
    project = Project(folder)
    project.write(
        {
            "work_dir": "work",
            "raw": raw,
            "output": "result.n5",
            "prediction": {"project": "project.ilp"},
            "threshold": {"class": 1, "sigma": 1.0, "threshold": 0.4},
            **sections,
        }
    )
    return project


def film() -> NDArray[np.uint8]:
    """Three time steps of a colour image, tyxc."""
    image = read(case_folder(FLAT) / "input.h5", "data")
    return np.stack([image[:90, :80], image[70:, 100:180], image[40:130, 60:140]])


@pytest.fixture(scope="module")
def steps_apart(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, NDArray[Any]]]:
    """Results of each time step of ``film`` by itself, as a 2D image in one block."""
    found = []
    for image in film():
        folder = tmp_path_factory.mktemp("step")
        with pytest.MonkeyPatch.context() as patch:
            project = flat_project(folder, patch, hdf5(folder, image, "yxc"))
            run = project.run()
            assert run.ok, run.text
            found.append(project.results())
    return found


@pytest.mark.parametrize(
    ("axes", "numbering"),
    [
        ("tyxc", "restart"),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in (("ctyx", "continue"), ("xcyt", "restart"))),
    ],
)
def test_time_steps_are_independent(
    axes: str, numbering: str, steps_apart: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = film().transpose(["tyxc".index(axis) for axis in axes])
    project = flat_project(
        tmp_path,
        monkeypatch,
        {"path": "raw.n5", "key": "volumes/raw", "axes": axes},
        blocks={"shape": [48, 32]},
        connected_components={"numbering": numbering},
    )
    n5(
        tmp_path, data, "tczyx"[: len(axes)] if axes == "tyxc" else axes
    )  # once with wrong metadata, which is overruled
    run = project.run()
    assert run.ok, run.text
    found = project.results()
    assert open_volume("result.n5:probabilities").axes == "tcyx"
    assert len(run.computed["prediction"]) == 3 * 2 * 3
    before = 0
    for t, step in enumerate(steps_apart):
        np.testing.assert_array_equal(found["probabilities"][t], step["probabilities"], strict=True)
        np.testing.assert_array_equal(found["thresholded"][t], step["thresholded"], strict=True)
        labels = step["connected_components"]
        expected = np.where(labels > 0, labels + np.uint64(before), 0)
        np.testing.assert_array_equal(found["connected_components"][t], expected, strict=True)
        before += int(labels.max()) if numbering == "continue" else 0
    objects = pd.read_csv("work/objects.csv")
    counts = [int(step["connected_components"].max()) for step in steps_apart]
    assert all(counts)
    assert objects.groupby("t").size().tolist() == counts
    restarted = list(itertools.chain.from_iterable(range(1, n + 1) for n in counts))
    assert objects["label"].tolist() == (restarted if numbering == "restart" else list(range(1, sum(counts) + 1)))


@pytest.mark.soak
def test_numbering_changes_only_what_depends_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5(tmp_path, film()[:2], "tyxc")
    project = flat_project(tmp_path, monkeypatch, "raw.h5:raw")
    assert project.run().ok
    project.change("connected_components.numbering", "restart")
    run = project.run()
    assert run.ok
    assert set(run.computed) == {"component_merge", "connected_components", "object_table"}
    assert "numbering: not set -> restart" in run.text


@pytest.mark.soak
def test_a_damaged_chunk_of_a_time_step_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box of the damage has channels between t and y."""
    hdf5(tmp_path, film()[:2], "tyxc")
    project = flat_project(tmp_path, monkeypatch, "raw.h5:raw", blocks={"shape": [45, 80]})
    assert project.run().ok
    expected = project.results()
    project.change("threshold.sigma", 1.1)
    chunk = tmp_path / "result.n5/probabilities/0/1/1/1"  # N5 nests x, y, c, t
    status = chunk.stat()
    stored = bytearray(chunk.read_bytes())
    stored[len(stored) // 2] ^= 0xFF
    chunk.write_bytes(stored)
    os.utime(chunk, ns=(status.st_atime_ns, status.st_mtime_ns))  # nothing tells before it is read
    run = project.run()
    assert run.ok, run.text
    assert run.computed["prediction"] == [3]
    np.testing.assert_array_equal(project.results()["probabilities"], expected["probabilities"])


def test_a_volume_over_time_equals_scikit_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4D data with the bundled classifier of volumes, as TIFF hyperstack."""
    raw = whole(f"{ROOT / 'data' / 'raw.h5'}:data")
    data = np.stack([raw[20:60, 20:58, :64], raw[30:70, 60:98, 64:]])
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "data" / "membranes.ilp", tmp_path)
    project = Project(tmp_path)
    project.write(
        {
            "work_dir": "work",
            "raw": tiff(tmp_path, data, "tzyx"),
            "output": "result.n5",
            "blocks": {"shape": [24, 19, 32]},
            "prediction": {"project": "membranes.ilp"},
            "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
            "connected_components": {"foreground": 0, "numbering": "restart"},
        }
    )
    run = project.run()
    assert run.ok, run.text
    found = project.results()
    for t in range(2):
        mask = gaussian(found["probabilities"][t, 1], 1.6) > 0.25
        np.testing.assert_array_equal(found["thresholded"][t], mask)
        np.testing.assert_array_equal(found["connected_components"][t], label(mask == 0, connectivity=3))
    objects = pd.read_csv("work/objects.csv")
    volume = found["connected_components"]
    for t, part in objects.groupby("t"):
        np.testing.assert_array_equal(part["voxels"], np.bincount(volume[t].ravel())[1:])


@pytest.mark.parametrize(
    ("axes", "metadata", "found", "source"),
    [
        ("cyx", "yxc", "cyx", "raw.axes"),
        (None, "cyx", "cyx", "its metadata"),
        (None, None, "yxc", "the project's last image"),
    ],
)
def test_axes_come_from_setting_metadata_or_project(
    axes: str | None,
    metadata: str | None,
    found: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shape = [{"y": 60, "x": 50, "c": 3}[axis] for axis in found]
    create_volume(f"{tmp_path}/raw.n5:raw", tuple(shape), tuple(shape), "uint8", {"axes": list(metadata or "")})
    project = flat_project(tmp_path, monkeypatch, {"path": "raw.n5", "key": "raw", "axes": axes})
    steps = project.steps()
    assert (steps.prediction.raw.axes, steps.axes_from) == (found, source)
    assert steps.prediction.grid.shape == (60, 50)
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert f"axes {found} (from {source})" in " ".join(capsys.readouterr().out.split())


def test_axes_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_volume(f"{tmp_path}/raw.n5:four", (2, 3, 60, 50), (1, 1, 60, 50), "uint8", {})
    create_volume(f"{tmp_path}/raw.n5:deep", (9, 60, 50, 3), (9, 60, 50, 1), "uint8", {"axes": list("zyxc")})
    create_volume(f"{tmp_path}/raw.n5:flat", (1, 60, 50, 3), (1, 60, 50, 1), "uint8", {"axes": list("zyxc")})
    create_volume(f"{tmp_path}/raw.n5:lines", (60, 3), (60, 1), "uint8", {"axes": list("tc")})
    project = flat_project(tmp_path, monkeypatch, "raw.n5:four")
    for key, words in (
        (
            "four",
            r"4 axes, shape \(2, 3, 60, 50\), no metadata names them, and the project's last image has 3 \(yxc\)",
        ),
        ("deep", r"3 spatial axes \(zyxc, .*made for 2 \(yxc\)"),
        ("lines", r"the axes are .. according to its metadata, y and x are needed"),
    ):
        project.change("raw", f"raw.n5:{key}")
        with pytest.raises(UserError, match=words):
            project.steps()
    project.change("raw", "raw.n5:flat")  # one slice is as good as none
    assert project.steps().prediction.grid.axes == "zyx"


def test_channels_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five channels in another order, those that the project was made for."""
    image = film()[0]
    five = np.stack([image[..., 2], 255 - image[..., 0], image[..., 0], image[..., 1], image[..., 1] // 2])
    folders = [tmp_path / "plain", tmp_path / "chosen"]
    found = []
    for folder, data, axes, channel in (
        (folders[0], image, "yxc", None),
        (folders[1], five, "cyx", [2, 3, 0]),
    ):
        folder.mkdir()
        project = flat_project(folder, monkeypatch, {"path": "raw.h5", "key": "raw", "channel": channel})
        hdf5(folder, data, axes)
        assert project.run().ok
        found.append(project.results())
    np.testing.assert_array_equal(found[0]["connected_components"], found[1]["connected_components"])
    project.change("raw.channel", [0, 5, 1])
    with pytest.raises(UserError, match=r"raw\.channel: \(0, 5, 1\), but .* has channels 0 to 4"):
        project.steps()
    project.change("raw.channel", None)
    with pytest.raises(UserError, match="5 channels"):
        project.steps()


def test_blocks_have_a_default_for_images_and_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5(tmp_path, film()[0], "yxc")
    steps = flat_project(tmp_path, monkeypatch, "raw.h5:raw").steps()
    assert (steps.prediction.grid.block_shape, steps.prediction.chunks) == ((512, 512), (512, 512))
    monkeypatch.chdir(ROOT)
    settings = load_settings("configs/example.yaml")
    default = settings.model_copy(update={"blocks": settings.blocks.model_copy(update={"shape": None})})
    found, expected = (build_steps(s).all()[-1].fingerprint for s in (default, settings))
    assert found == expected
