"""Slices judged, put in place and freed of drift; files of transforms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from blockwise.errors import UserError
from tasks.alignment.drift import without_drift
from tasks.alignment.placement import Estimate, Wish, place
from tasks.alignment.slices import SliceFacts, describe_slice, is_refused, judge, neighbours
from tasks.alignment.transforms import compose, identity, inverse, translation
from tasks.alignment.transforms_file import csv_lines, read_transforms, tile_specs, write_transforms
from tasks.alignment.warp import Canvas, applied, canvas_of, put_in_place, tissue


def picture(seed: int = 0, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    noise = gaussian_filter(np.random.RandomState(seed).standard_normal(shape), 2)
    return np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)


def turned(degrees: float, x: float = 0, y: float = 0) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), x], [np.sin(angle), np.cos(angle), y]])


# Warping.


@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(-8, 8), st.integers(1, 70), st.integers(1, 70))
def test_whole_shifts_keep_every_grey_value_with_and_without_interpolation(
    x: int, y: int, left: int, width: int, height: int
) -> None:
    image, canvas = picture(), Canvas(left, -left, width, height)
    expected = np.full((300, 300), 7, np.uint8)
    expected[120 + y : 160 + y, 120 + x : 170 + x] = image
    expected = expected[120 - left : 120 - left + height, 120 + left : 120 + left + width]
    for kind in ("whole", "cubic"):
        np.testing.assert_array_equal(put_in_place(image, translation(x, y), canvas, 7, kind), expected)
    inside = tissue((50, 40), translation(x, y), canvas, "cubic")
    np.testing.assert_array_equal(inside, tissue((50, 40), translation(x, y), canvas, "whole"))
    assert (expected[inside == 0] == 7).all()


def test_interpolation_is_that_of_a_smooth_picture_and_does_not_depend_on_the_canvas() -> None:
    image = gaussian_filter(picture(1, (80, 90)).astype(np.float32), 3)
    matrix = turned(4, 5.3, -2.6)
    whole = put_in_place(image, matrix, Canvas(-10, -10, 120, 110), -1, "cubic")
    part = put_in_place(image, matrix, Canvas(13, 21, 30, 25), -1, "cubic")
    np.testing.assert_array_equal(part, whole[31:56, 23:53])
    back = inverse(matrix)
    y, x = np.mgrid[30:60, 30:60]
    u, v = (back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (0, 1))
    expected = map_coordinates(image.astype(np.float64), [v, u], order=3)
    np.testing.assert_allclose(whole[40:70, 40:70], expected, atol=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_all_types_of_grey_values(dtype: type) -> None:
    image = (picture() > 128).astype(dtype) * dtype(200)
    found = put_in_place(image, turned(10), Canvas(0, 0, 50, 40), 3, "cubic")
    assert found.dtype == image.dtype
    assert np.isin(3, found)
    if np.dtype(dtype).kind == "u":
        assert found.max() <= np.iinfo(dtype).max


def test_only_shifts_are_applied_by_whole_pixels() -> None:
    np.testing.assert_array_equal(applied(translation(1.6, -0.4), "whole"), translation(2, 0))
    with pytest.raises(ValueError, match="only shifts"):
        applied(turned(1), "whole")


def test_a_canvas_holds_all_or_what_all_have() -> None:
    matrices, sizes = [translation(0, 0), translation(5, -3)], [(10, 8), (12, 9)]
    assert canvas_of(matrices, sizes, "union") == Canvas(0, -3, 17, 11)
    assert canvas_of(matrices, sizes, "crop") == Canvas(5, 0, 5, 6)
    covered = tissue((12, 9), matrices[1], canvas_of(matrices, sizes, "crop"), "whole")
    assert covered.all()
    for kind in ("union", "crop"):
        inside = tissue((40, 30), turned(5), canvas_of([turned(5)], [(40, 30)], kind), "cubic")
        assert inside.all() == (kind == "crop")
    with pytest.raises(UserError, match="no pixel that all slices have"):
        canvas_of([translation(0, 0), translation(90, 0)], sizes, "crop")
    with pytest.raises(UserError, match="no slice could be placed"):
        canvas_of([], [], "union")


# What is known of slices.


def test_slices_are_judged_by_what_the_others_are_like() -> None:
    good = describe_slice(picture())
    facts = {
        0: good,
        1: describe_slice(picture(1)),
        2: SliceFacts(problem="missing"),
        3: describe_slice(np.full((40, 50), 9, np.uint8)),
        4: describe_slice(picture(2).astype(np.uint16)),
        5: describe_slice(picture(3), excluded=True),
        6: SliceFacts(problem="cannot be read: x"),
        7: describe_slice(picture(4)),
        8: describe_slice(picture(4)),
    }
    verdicts = judge(facts)
    assert [z for z, v in verdicts.items() if not v.unusable] == [0, 1, 7, 8]
    assert verdicts[3].unusable == "blank"
    assert verdicts[5].unusable == "excluded"
    assert verdicts[4].unusable == "holds uint16, the others hold uint8"
    assert [z for z, v in verdicts.items() if is_refused(v)] == [4, 6]
    assert [z for z, v in verdicts.items() if v.remark] == [8]
    assert neighbours(verdicts, 2) == {0: (1, 7), 1: (7, 8), 7: (8,), 8: ()}


def test_what_is_known_of_a_slice() -> None:
    image = picture()
    facts = describe_slice(image)
    assert (facts.size, facts.dtype) == ((50, 40), "uint8")
    assert facts.mean == pytest.approx(image.mean(), rel=1e-5)
    assert facts.std == pytest.approx(image.std(), rel=1e-5)
    assert facts.low < facts.mean < facts.high
    assert describe_slice(gaussian_filter(image, 1)).sharpness < facts.sharpness
    assert facts == describe_slice(image.copy())
    assert facts.digest != describe_slice(image.T).digest
    holes = image.astype(np.float32)
    holes[3, 4] = np.nan
    assert np.isfinite(describe_slice(holes).mean)
    assert describe_slice(np.full((3, 2), np.nan, np.float32)).texture == 0


# Placing.


def estimates(truth: dict[int, np.ndarray]) -> list[Estimate]:
    numbers = list(truth)
    return [
        Estimate(i, j, compose(inverse(truth[i]), truth[j]), 1.0)
        for n, i in enumerate(numbers)
        for j in numbers[n + 1 : n + 4]
    ]


def test_numbers_with_gaps_are_placed_and_lost_slices_named() -> None:
    truth = {3: identity(), 4: translation(2, 1), 9: translation(-4, 0), 10: translation(0, 0.5)}
    sizes = dict.fromkeys([*truth, 12], (50, 40))
    found = place(sizes, estimates(truth), Wish("translation"))
    assert found.lost == (12,)
    assert found.parts == ((3, 4, 9, 10),)
    for z, matrix in truth.items():
        np.testing.assert_allclose(found.matrices[z], matrix, atol=1e-6)


def test_what_falls_apart_is_refused_unless_allowed_or_anchored() -> None:
    truth = {z: translation(z, 0) for z in range(8)}
    pairs = [e for e in estimates(truth) if (e.first < 4) == (e.second < 4)]
    sizes = dict.fromkeys(truth, (50, 40))
    with pytest.raises(UserError, match=r"2 parts .*: 0 to 3 \(4 slices\); 4 to 7 \(4 slices\)"):
        place(sizes, pairs, Wish("translation"))
    assert len(place(sizes, pairs, Wish("translation", allow_parts=True)).parts) == 2
    anchors = {0: identity(), 7: translation(7, 0)}
    anchored = place(sizes, pairs, Wish("translation", anchors=anchors))
    np.testing.assert_allclose(anchored.matrices[4], translation(4, 0), atol=1e-6)
    with pytest.raises(UserError, match="slice 9 is anchored"):
        place(sizes, pairs, Wish("translation", anchors={9: identity()}))
    with pytest.raises(UserError, match="none of the 8 slices"):
        place(sizes, [], Wish("translation"))
    with pytest.raises(UserError, match="6 of 8 slices that can be used look like none"):
        place(sizes, pairs[:1], Wish("translation"))


def test_one_slice_alone_stays() -> None:
    np.testing.assert_array_equal(place({5: (9, 9)}, [], Wish("rigid")).matrices[5], identity())


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_drift_is_kept_or_taken_out(x: float, y: float) -> None:
    z = np.array([n for n in range(60) if n not in (7, 8, 30)], float)
    jitter = np.random.RandomState(0).normal(0, 1, (len(z), 2))
    shifts = jitter + z[:, None] * [x, y]
    np.testing.assert_array_equal(without_drift(shifts, z, "keep", 5), shifts)
    free = without_drift(shifts, z, "linear", 5)
    assert np.abs(np.polyfit(z, free, 1)).max() < 1e-9
    assert np.abs((free - free.mean(0)) - (jitter - jitter.mean(0))).max() < 1.0
    high = without_drift(shifts, z, "highpass", 5)
    assert np.abs(high[20:40]).max() < 5
    assert np.abs(without_drift(shifts * 0 + 4, z, "highpass", 5)).max() < 1e-9


def test_drift_is_taken_out_of_centres_and_leaves_turns() -> None:
    truth = {z: turned(0.2 * (z % 3), 3.0 * z, 0) for z in range(30)}
    wish = Wish("rigid", ridge=0, drift="linear")
    found = place(dict.fromkeys(truth, (60, 40)), estimates(truth), wish).matrices
    np.testing.assert_allclose([m[:, :2] for m in found.values()], [m[:, :2] for m in truth.values()], atol=1e-4)
    centres = np.array([m @ [29.5, 19.5, 1] for m in found.values()])
    assert abs(np.polyfit(range(30), centres[:, 0], 1)[0]) < 0.01


# Files.


def test_transforms_come_back_from_their_file_and_from_the_original_systems(tmp_path: Path) -> None:
    transforms = {3: turned(1, 2.5, -7), 12: np.array([[1.01, 0.2, 3], [-0.1, 0.97, 4]])}
    path = tmp_path / "transforms.json"
    write_transforms(path, transforms, [4, 5], {"model": "affine"})
    found, flagged = read_transforms(str(path))
    assert flagged == [4, 5]
    for z, matrix in transforms.items():
        np.testing.assert_allclose(found[z], matrix, atol=1e-9)
    assert json.loads(path.read_text())["model"] == "affine"
    lines = csv_lines(found)
    path.write_text(json.dumps({line.split(",")[0]: [float(v) for v in line.split(",")[1:]] for line in lines}))
    again, _ = read_transforms(str(path))
    np.testing.assert_allclose(again[12], transforms[12], atol=1e-9)
    assert lines[1] == "12,1.01,-0.1,0.2,0.97,3.0,4.0"


def test_tile_specifications_hold_the_numbers_in_columns(tmp_path: Path) -> None:
    matrix = np.array([[1.01, 0.2, 3], [-0.1, 0.97, 4]])
    (spec,) = tile_specs({12: matrix}, {12: str(tmp_path / "a b.png")}, {12: (50, 40)}, {12: (3.0, 250.0)})
    assert spec["transforms"]["specList"][0]["dataString"] == "1.01 -0.1 0.2 0.97 3.0 4.0"
    assert spec["mipmapLevels"]["0"]["imageUrl"].startswith("file:///")
    assert (spec["z"], spec["width"], spec["height"], spec["maxIntensity"]) == (12.0, 50.0, 40.0, 250.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "expected a matrix for each slice"),
        ('{"a": [[1,0,0],[0,1,0]]}', "'a' is no number of a slice"),
        ('{"3": [1, 2]}', r"slice 3 has \[1, 2\]; expected"),
        ('{"3": [[1, 0, 0], [1, 0, 0]]}', "slice 3 has"),
        ('{"3": [[1, 0, 0], ["x", 1, 0]]}', "slice 3 has"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_transforms(str(path))
    with pytest.raises(UserError, match="there is no such file"):
        read_transforms(str(tmp_path / "none.json"))
