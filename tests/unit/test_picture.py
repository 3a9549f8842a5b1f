"""The picture at the end of a run, panel by panel."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.running import picture
from pipeline.running.picture import HEIGHT, MAGMA, MARGIN, SIDE, TITLE, WIDTH, draw_overview


def drawn(panels: list[list[picture.Panel]], path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(picture, "_rows", lambda steps: panels)
    draw_overview((), path)
    return np.asarray(Image.open(path).convert("RGB"))


def test_voxels_become_squares_of_their_value_in_the_middle_of_their_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = np.array([[10, 200, 30, 40], [50, 60, 70, 80]], np.uint8)
    colours = np.zeros((5, 1, 3), np.uint8)
    colours[:, 0, 1] = (1, 2, 3, 4, 5)
    made = drawn([[("flat", flat), ("tall", colours)], [("more", flat)]], tmp_path / "p.png", monkeypatch)
    assert made.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    size = SIDE // 4
    top = MARGIN + TITLE + SIDE // 2 - size
    for row in (0, 1):
        image = made[row * HEIGHT + top : row * HEIGHT + top + 2 * size, MARGIN : MARGIN + SIDE]
        assert (image == np.repeat(np.repeat(flat, size, 0), size, 1)[..., None]).all()
    size = SIDE // 5
    left = WIDTH + (WIDTH - size) // 2
    image = made[MARGIN + TITLE : MARGIN + TITLE + SIDE, left : left + size]
    assert (image == np.repeat(np.repeat(colours, size, 0), size, 1)).all()
    assert (made[HEIGHT:, WIDTH:] == 255).all()  # there is no fourth panel


def test_a_large_slice_is_made_smaller_and_mixes_no_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.where(np.indices((1024, 900)).sum(0) % 2, 255, 7).astype(np.uint8)
    made = drawn([[("", labels)]], tmp_path / "p.png", monkeypatch)[MARGIN + TITLE :]
    assert set(np.unique(made)) == {7, 255}


@pytest.mark.parametrize("title", ["Zellkörper ≥ 0.5", "word " * 60, "x" * 300, ""])
def test_titles_stay_in_their_panel(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    black = np.zeros((1, 1), np.uint8)
    made = drawn([[("", black), (title, black), ("", black)]], tmp_path / "p.png", monkeypatch)[: MARGIN + TITLE]
    has_ink = (made < 255).any(axis=(0, 2))
    assert not has_ink[:WIDTH].any()
    assert not has_ink[2 * WIDTH :].any()
    assert has_ink.any() == bool(title)


def test_grey_goes_from_the_least_to_the_largest_of_what_is_finite() -> None:
    values = np.array([[-3, 1, 5], [np.nan, np.inf, -np.inf]], np.float32)
    assert picture._grey(values).tolist() == [[0, 128, 255], [0, 255, 0]]
    assert picture._grey(np.array([[0, 1, 2]], np.uint8), 0, 2).tolist() == [[0, 128, 255]]
    for same in (np.full((2, 2), 7, np.uint16), np.full((2, 2), math.nan), np.full((1, 1), -9.0)):
        assert (picture._grey(same) == 0).all()


def test_heat_is_that_of_matplotlib() -> None:
    from matplotlib import colormaps

    values = np.linspace(0, 255, 256)[None]
    expected = np.asarray(colormaps["magma"](np.arange(256)))[:, :3] * 255
    assert np.abs(picture._heat(values, 255)[0] - expected).max() < 4
    assert picture._heat(np.array([[np.nan, 2.0]]), 1).tolist() == [[MAGMA[0].tolist(), MAGMA[-1].tolist()]]
