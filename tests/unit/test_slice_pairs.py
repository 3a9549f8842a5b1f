"""How one slice lies on another, found from the pictures."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from tasks.alignment.features import Features, coarser, find_features, stretch, to_full_size
from tasks.alignment.pairs import GATE, estimate_pair, phase_shift
from tasks.alignment.transforms import Model, apply, corners, translation

SIDE = 180


@functools.cache
def scene(seed: int = 0) -> np.ndarray:
    """Something with structures of all sizes, larger than a slice by 60 pixels on each side."""
    random = np.random.RandomState(seed)
    noise = [gaussian_filter(random.standard_normal((SIDE + 120,) * 2), s) * s for s in (1.5, 3, 6)]
    return 128 + 60 * sum(noise)


def seen(matrix: np.ndarray, image: np.ndarray | None = None, side: int = SIDE) -> np.ndarray:
    """The slice that ``matrix`` puts in place."""
    y, x = np.mgrid[:side, :side].astype(float)
    u, v = np.moveaxis(apply(matrix, np.stack([x, y], -1)), -1, 0)
    return map_coordinates(scene() if image is None else image, [v + 60, u + 60], order=3)


def eight_bit(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


MOVED: dict[Model, np.ndarray] = {
    "translation": translation(7.4, -12.7),
    "rigid": np.array([[np.cos(0.03), -np.sin(0.03), 9], [np.sin(0.03), np.cos(0.03), -4.5]]),
    "affine": np.array([[1.03, 0.02, -6], [-0.01, 0.96, 8.25]]),
}


@pytest.mark.parametrize("model", MOVED)
@pytest.mark.parametrize("change", ["none", "contrast", "inverse size of numbers"])
def test_a_known_motion_is_found(model: Model, change: str) -> None:
    first, second = seen(translation(0, 0)), seen(MOVED[model])
    if change == "contrast":
        second = 255 * (second / 255).clip(0, 1) ** 1.5 * 0.7 + 30
    pictures = [eight_bit(first), eight_bit(second)]
    if change == "inverse size of numbers":
        pictures = [(p.astype(np.float32) * 200 + 900).astype(np.uint16) for p in pictures]
    pair = estimate_pair(*map(find_features, pictures), model)
    off = apply(pair.matrix, corners(SIDE, SIDE)) - apply(MOVED[model], corners(SIDE, SIDE))
    assert not pair.refused
    assert np.abs(off).max() < 0.25
    assert pair.likeness > 0.9


def test_slices_of_different_sizes_and_a_coarser_estimate() -> None:
    first, second = seen(translation(0, 0), side=176), seen(translation(9, -5), side=150)
    for largest, most in ((1024, 0.1), (90, 0.6)):
        features = [find_features(eight_bit(image), largest) for image in (first, second)]
        assert features[0].factor == (1 if largest == 1024 else 2)
        pair = estimate_pair(*features, "translation")
        assert not pair.refused
        np.testing.assert_allclose(pair.matrix[:, 2], (9, -5), atol=most)


def test_a_coarser_estimate_knows_where_the_centres_of_its_pixels_lie() -> None:
    image = np.arange(48.0).reshape(6, 8)
    small = coarser(image, 2)
    assert small[1, 2] == image[2:4, 4:6].mean()
    np.testing.assert_array_equal(to_full_size(np.array([[2.0, 1.0]]), 2), [[4.5, 2.5]])
    turned = MOVED["rigid"]
    pair = estimate_pair(*(find_features(eight_bit(seen(m)), 90) for m in (translation(0, 0), turned)), "rigid")
    assert np.abs(apply(pair.matrix, corners(SIDE, SIDE)) - apply(turned, corners(SIDE, SIDE))).max() < 0.7


def nothing_in_common() -> tuple[Features, Features]:
    return find_features(eight_bit(seen(translation(0, 0)))), find_features(
        eight_bit(seen(translation(0, 0), scene(1)))
    )


def test_what_has_nothing_in_common_is_refused_with_a_reason() -> None:
    assert "fit, fewer than 12" in estimate_pair(*nothing_in_common(), "rigid").refused
    blank = find_features(np.full((SIDE, SIDE), 7, np.uint8))
    some = nothing_in_common()[0]
    for pair in (estimate_pair(some, blank, "affine"), estimate_pair(blank, some, "affine")):
        assert pair.refused == "0 matches, none of a kind"


def test_a_match_in_one_corner_alone_is_refused() -> None:
    first, second = eight_bit(seen(translation(0, 0))), eight_bit(seen(translation(0, 0), scene(1)))
    second[:80, :80] = first[:80, :80]
    pair = estimate_pair(find_features(first), find_features(second), "translation")
    assert pair.inliers >= 12
    assert pair.refused


@pytest.mark.parametrize("shift", [(0, 0), (70, 20)], ids=["in place", "at a jump"])
@pytest.mark.parametrize("off", [0, 5])
def test_a_second_estimate_must_agree_where_little_lies_on_each_other(shift: tuple[int, int], off: int) -> None:
    coarse = gaussian_filter(scene(), 6) * 4 - 384
    first, second = (find_features(eight_bit(seen(m, coarse))) for m in (translation(0, 0), translation(*shift)))
    wrong = dataclasses.replace(second, points=second.points - (off, 0))
    pair = estimate_pair(first, wrong, "translation")
    np.testing.assert_allclose(pair.matrix[:, 2], (shift[0] + off, shift[1]), atol=0.5)
    assert pair.likeness > GATE.doubt, "by this alone it would count"
    if off and shift != (0, 0):
        assert pair.refused == f"phase correlation says that it is off by {off:.1f} pixels of a small picture"
    else:
        assert not pair.refused


def test_a_stretch_that_no_stage_makes_is_refused() -> None:
    wide = np.array([[1.3, 0, 0], [0, 1, 0]], float)
    pair = estimate_pair(*(find_features(eight_bit(seen(m))) for m in (translation(0, 0), wide)), "affine")
    assert "stretch the slice by 1.30" in pair.refused


def test_the_same_features_give_the_same_bytes() -> None:
    features = [find_features(eight_bit(seen(m))) for m in (translation(0, 0), MOVED["affine"])]
    again = [find_features(eight_bit(seen(m))) for m in (translation(0, 0), MOVED["affine"])]
    assert all(
        a.points.tobytes() == b.points.tobytes() and a.descriptors.tobytes() == b.descriptors.tobytes()
        for a, b in zip(features, again, strict=True)
    )
    one, other = estimate_pair(*features, "affine"), estimate_pair(*again, "affine")
    assert one.matrix.tobytes() == other.matrix.tobytes()


def test_a_box_limits_where_key_points_are_looked_for() -> None:
    image = eight_bit(seen(translation(0, 0)))
    points = find_features(image, box=((20, 100), (90, 170))).points
    assert len(points) > 20
    assert (points >= (90, 20)).all()
    assert (points < (170, 100)).all()
    nothing = find_features(image, box=((20, 100), (500, 600)))
    assert not len(nothing.points)
    assert estimate_pair(find_features(image), nothing, "rigid").refused


def test_a_box_far_from_the_corner_is_compared_where_it_lies() -> None:
    angle = 0.1
    turned = np.array([[np.cos(angle), -np.sin(angle), 12], [np.sin(angle), np.cos(angle), -12]])
    pictures = [eight_bit(seen(m)) for m in (translation(0, 0), turned)]
    whole = estimate_pair(*map(find_features, pictures), "rigid")
    part = estimate_pair(*(find_features(p, box=((90, 180), (90, 180))) for p in pictures), "rigid")
    assert not part.refused
    assert part.likeness > 0.95 * whole.likeness


def test_phase_correlation_finds_whole_pixels() -> None:
    one, other = seen(translation(0, 0)) - 128, seen(translation(-6, 11)) - 128
    assert phase_shift(one, other) == (-6, 11)
    assert phase_shift(one, one) == (0, 0)


def test_grey_values_are_stretched_between_tails() -> None:
    image = np.arange(1000, dtype=np.uint16).reshape(20, 50) * 60
    grey = stretch(image)
    assert (grey.min(), grey.max()) == (0, 255)
    assert (
        stretch(image.astype(np.float32) * -1)[::-1, ::-1] == stretch(image.max() - image)[::-1, ::-1]
    ).mean() > 0.99
    assert not stretch(np.full((4, 4), 3.5)).any()
