"""The picture that a page shows until the viewer has drawn."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
from numpy.typing import NDArray

from blockwise.volume import open_volume
from pipeline.viewing import first_look
from pipeline.viewing.images.contrast import contrast
from pipeline.viewing.images.plane import Plane, drawn
from pipeline.viewing.site import Site
from pipeline.viewing.state import OPACITY
from tests.end_to_end.test_time import flat_project
from tests.runs import SHAPE, Project, make_long_project
from tests.viewer import TOKEN, Served, computing, served

MIDDLE = SHAPE[0] // 2


def seen(shown: Served) -> NDArray[np.uint8]:
    answer = shown.ask(f"/v/{TOKEN}/{first_look.PICTURE}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    return imageio.imread(answer.body)


def raw_plane(shown: Served) -> NDArray[np.float64]:
    """The plane in the middle, 0 where it is black and 1 where it is white."""
    limits = contrast(shown.site.layers["raw"], shown.site.voxels)
    assert limits is not None
    raw = open_volume("raw.n5:raw").read((slice(MIDDLE, MIDDLE + 1), *(slice(0, n) for n in SHAPE[1:])))[0]
    return np.clip((raw - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)


def test_it_has_raw_voxels_and_the_classes_over_them(project: Project, expected: dict[str, Any]) -> None:
    with served(lambda: Site.of(project.steps())) as shown:
        picture, raw = seen(shown), raw_plane(shown)
        colours = np.array(list(shown.site.colours().values()))
    classes = np.einsum("cyx,ck->yxk", expected["probabilities"][:, MIDDLE], colours)
    right = 255 * (1 - OPACITY) * raw[..., None] + OPACITY * classes
    assert picture.shape == (*SHAPE[1:], 3)
    assert np.ptp(right) > 100
    assert np.abs(picture - right).max() < 1


def test_nothing_is_computed_for_it(unused: Project) -> None:
    with served(lambda: computing(unused, 1)) as shown:
        np.testing.assert_array_equal(seen(shown), np.round(255 * raw_plane(shown))[..., None].repeat(3, axis=-1))
        assert not Path("work", "prediction").exists()
        assert not Path("result.n5").exists()


def test_where_it_would_take_as_long_as_the_viewer_there_is_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = 2 * 18 * 18 * 16 * 8  # of one plane of raw voxels, uint8
    with served(lambda: Site.of(project.steps())) as shown:
        monkeypatch.setattr(first_look, "MOST_BYTES", chunks)
        assert (seen(shown).min(axis=-1) == seen(shown).max(axis=-1)).all(), "no classes: they take longer"
        monkeypatch.setattr(first_look, "MOST_BYTES", chunks - 1)
        assert shown.ask(f"/v/{TOKEN}/{first_look.PICTURE}").status == 204


def test_what_cannot_be_read_is_no_picture(project: Project) -> None:
    with served(lambda: Site.of(project.steps())) as shown:
        shutil.rmtree("raw.n5")
        assert shown.ask(f"/v/{TOKEN}/{first_look.PICTURE}").status == 204


def test_channels_are_colours_as_in_the_viewer_and_shares_may_be_whole_numbers() -> None:
    raw = np.stack([np.full((2, 3), value, np.uint16) for value in (100, 200, 300, 999)])
    assert (imageio.imread(drawn(raw, (100, 300), None, ())) == [0, 128, 255]).all(), "the fourth is not seen"
    assert (imageio.imread(drawn(raw[:2], (100, 300), None, ())) == [0, 128, 0]).all()
    assert (imageio.imread(drawn(raw[2:3], (0, 300), None, ())) == 255).all(), "one alone is grey"
    classes = np.array([51, 204], np.uint8).repeat(6).reshape(2, 2, 3)
    picture = imageio.imread(drawn(raw[0], (100, 300), classes, [(255, 0, 0), (0, 0, 255)]))
    assert (picture == np.round(255 * OPACITY * np.array([0.2, 0.0, 0.8]))).all()
    lost = np.where(np.eye(3), np.nan, 200.0)
    assert (imageio.imread(drawn(lost, (100, 300), None, ()))[..., 0] == np.where(np.eye(3), 0, 128)).all()


def test_flat_images_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    project = flat_project(tmp_path, monkeypatch, {"path": "raw.h5", "key": "data", "axes": "yxc"})
    with served(lambda: Site.of(project.steps())) as shown:
        state = asyncio.run_coroutine_threadsafe(shown.site.state(TOKEN), shown.loop).result()
        assert not first_look.place(shown.site, state)["isQuarter"]
        picture = seen(shown)
        assert picture.shape == (40, 60, 3)
        assert (np.ptp(picture, axis=-1) > 30).mean() > 0.5, "three channels are colours"


def test_it_is_drawn_at_the_scale_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = make_long_project(tmp_path)
    with served(lambda: Site.of(project.steps())) as shown:
        raw = shown.site.layers["raw"]
        state = asyncio.run_coroutine_threadsafe(shown.site.state(TOKEN), shown.loop).result()
        assert seen(shown).shape == (36, 288, 3)
        state["crossSectionScale"] = 2.0
        plane = Plane.of_state(state)
        number = plane.scale(raw)
        assert raw.scales[number].factors == (2, 2, 2)
        assert plane.box(raw, raw.scales[number]) == (slice(9, 10), slice(0, 18), slice(0, 144))
        assert plane.size(raw, raw.scales[number]) == (144.0, 18.0)
        state["crossSectionScale"] = 0.25
        plane = Plane.of_state(state)
        assert plane.box(raw, raw.scales[0]) == (slice(18, 19), slice(0, 36), slice(16, 273))
