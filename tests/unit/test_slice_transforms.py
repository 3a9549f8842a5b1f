"""Transforms of slices: their algebra, what defines one, and where all slices lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.alignment.solve import Link, solve
from tasks.alignment.transforms import (
    FEWEST_POINTS,
    Model,
    apply,
    compose,
    corners,
    fit,
    identity,
    inverse,
    nearest_rotation,
    rotation_angle,
    translation,
)

MODELS: tuple[Model, ...] = ("translation", "rigid", "affine")


def some_matrix(model: Model, random: np.random.RandomState, size: float = 20) -> np.ndarray:
    angle = random.uniform(-0.02, 0.02)
    matrix = translation(*random.uniform(-size, size, 2))
    if model == "rigid":
        matrix[:, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    elif model == "affine":
        matrix[:, :2] += random.uniform(-0.03, 0.03, (2, 2))
    return matrix


@given(st.integers(0, 2**31), st.sampled_from(MODELS))
def test_a_transform_is_found_from_the_fewest_points_and_from_weighted_ones(seed: int, model: Model) -> None:
    random = np.random.RandomState(seed % 2**31)
    matrix = some_matrix(model, random)
    points = corners(300, 200)[: FEWEST_POINTS[model]] + random.uniform(-9, 9, 2)
    found = fit(points, apply(matrix, points), np.ones(len(points)), model)
    np.testing.assert_allclose(found, matrix, atol=1e-9)
    wrong = np.vstack([apply(matrix, points), [[1e4, -1e4]]])
    weights = np.append(np.ones(len(points)), 0)
    np.testing.assert_allclose(fit(np.vstack([points, [[0, 0]]]), wrong, weights, model), matrix, atol=1e-9)
    np.testing.assert_allclose(compose(matrix, inverse(matrix)), identity(), atol=1e-12)
    np.testing.assert_allclose(
        apply(compose(matrix, matrix), points), apply(matrix, apply(matrix, points)), atol=1e-9
    )


def test_points_on_a_line_define_no_affine_transform() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    assert np.isnan(fit(points, points, np.ones(3), "affine")).any()


def test_the_nearest_rotation_is_that_of_a_stretched_one() -> None:
    turn = nearest_rotation(np.array([[0.0, -3.0], [3.0, 0.0]]))
    np.testing.assert_allclose(turn, [[0, -1], [1, 0]], atol=1e-12)
    assert rotation_angle(turn) == pytest.approx(np.pi / 2)


def links_of(truth: list[np.ndarray], reach: int = 3) -> list[Link]:
    return [
        Link(i, j, compose(inverse(truth[i]), truth[j]))
        for i in range(len(truth))
        for j in range(i + 1, min(i + 1 + reach, len(truth)))
    ]


@pytest.mark.parametrize("model", MODELS)
def test_exact_pairs_give_all_slices_back(model: Model) -> None:
    random = np.random.RandomState(3)
    truth = [identity(), *(some_matrix(model, random) for _ in range(11))]
    sizes = [(200 + 7 * i, 150 + 5 * i) for i in range(12)]
    solution = solve(sizes, links_of(truth), model, ridge=0)
    np.testing.assert_allclose(solution.matrices, truth, atol=1e-5)
    assert solution.residuals.max() < 1e-5
    assert solution.components == [list(range(12))]


def test_a_wrong_pair_is_outvoted() -> None:
    random = np.random.RandomState(4)
    truth = [identity(), *(some_matrix("rigid", random) for _ in range(11))]
    links = links_of(truth)
    wrong = next(i for i, link in enumerate(links) if (link.first, link.second) == (5, 6))
    links[wrong] = Link(5, 6, compose(links[wrong].matrix, translation(30, -20)))
    solution = solve([(200, 200)] * 12, links, "rigid", ridge=0)
    np.testing.assert_allclose(solution.matrices, truth, atol=0.05)
    assert solution.residuals.argmax() == wrong


def test_a_ridge_takes_out_a_slow_twist_and_follows_a_sudden_turn() -> None:
    def turned(degrees: float) -> np.ndarray:
        angle = np.deg2rad(degrees)
        linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.hstack([linear, (100 - linear @ [100, 100])[:, None]])

    slow = [turned(0.03 * i) for i in range(120)]
    twisted = solve([(201, 201)] * 120, links_of(slow), "rigid").matrices
    free = solve([(201, 201)] * 120, links_of(slow), "rigid", ridge=0).matrices
    assert np.rad2deg(rotation_angle(free[-1, :, :2])) == pytest.approx(3.57, abs=0.01)
    assert np.rad2deg(rotation_angle(twisted[-1, :, :2])) < 1.2
    jitter = [turned(1.0 if i == 60 else 0.0) for i in range(120)]
    followed = solve([(201, 201)] * 120, links_of(jitter), "rigid").matrices
    assert np.rad2deg(rotation_angle(followed[60, :, :2])) == pytest.approx(1, abs=0.05)


def test_parts_that_no_pair_holds_together_are_told_and_lie_each_by_itself() -> None:
    truth = [translation(3 * i, 0) for i in range(7)]
    links = [link for link in links_of(truth) if (link.first < 4) == (link.second < 4)]
    solution = solve([(100, 100)] * 7, links, "translation")
    assert solution.components == [[0, 1, 2, 3], [4, 5, 6]]
    np.testing.assert_allclose(solution.matrices[4], identity(), atol=1e-6)
    np.testing.assert_allclose(solution.matrices[6], translation(6, 0), atol=1e-6)


def test_anchors_stay_and_others_lie_between_them() -> None:
    truth = [translation(2 * i, 0) for i in range(9)]
    anchors = {0: identity(), 8: translation(20, 4)}
    solution = solve([(100, 100)] * 9, links_of(truth), "translation", loss=50, anchors=anchors)
    np.testing.assert_allclose(solution.matrices[8], anchors[8])
    assert 16 * 0.5 < solution.matrices[4][0, 2] < 20 * 0.5 + 1
    assert (np.diff(solution.matrices[:, 1, 2]) > 0).all()


def test_no_links_and_no_slices() -> None:
    assert solve([(5, 5)] * 3, [], "rigid").components == [[0], [1], [2]]
    np.testing.assert_array_equal(solve([(5, 5)] * 3, [], "affine").matrices, [identity()] * 3)
