"""The fast forest against the plain one on the same features: equal to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.pixel_classification.fast import ranks as tables
from tasks.pixel_classification.fast.ranks import make_ranks, rank
from tasks.pixel_classification.fast.streaming import GROUP_3D, group_buffers, predict_groups
from tasks.pixel_classification.fast.traversal import PackedForest, pack
from tasks.pixel_classification.fast.vectors import GROUP, LANES
from tasks.pixel_classification.forest import Forest, evaluate
from tests.examples import examples
from tests.unit.random_forests import random_forest

FAR = np.float32([np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 1.0])


def vote_by_groups(forest: Forest, values: NDArray[np.float32], packed: PackedForest) -> NDArray[np.float32]:
    """Probabilities of samples, put as voxels into a tile that does not fill its groups; behind it is NaN."""
    shape = (-(-len(values) // 55), 5, 11)
    tile = np.zeros((forest.n_features, *shape), np.float32)
    tile.reshape(forest.n_features, -1)[:, : len(values)] = values.T
    features = np.pad(tile.reshape(forest.n_features, -1), [(0, 0), (0, LANES)], constant_values=np.nan)
    columns, ranks = len(forest.classes), packed.ranks.arrays
    buffers = group_buffers(forest.n_features, columns, packed.arrays, ranks)
    out = np.zeros((columns, *shape), np.float32)
    corner, classes = np.zeros(3, np.int64), np.arange(columns)
    predict_groups(features, np.array(shape), np.array(GROUP_3D), packed.arrays, ranks, classes, buffers, corner, out)
    return out.reshape(columns, -1).T[: len(values)]


def assert_as_plain(forest: Forest, values: NDArray[np.float32]) -> None:
    """Comparing features and comparing ranks give what the plain forest gives."""
    expected = evaluate(forest, values)
    for by_ranks in (False, True):
        np.testing.assert_array_equal(vote_by_groups(forest, values, pack(forest, by_ranks)), expected)


@settings(max_examples=examples(60, part=8))
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    columns=st.integers(1, 4),
    leaves=st.sampled_from([1, 2, 5, 40, 300]),
    pure=st.booleans(),
    kind=st.sampled_from(["noise", "constant", "few values", "nan and inf", "far apart"]),
)
def test_fast_forest_equals_plain_forest(
    seed: int, sizes: tuple[int, ...], columns: int, leaves: int, pure: bool, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    values: Any = rng.normal(size=(300, 5)).astype(np.float32)
    if kind == "constant":
        values[:] = values[0]
    elif kind == "few values":
        values = np.round(values)
    elif kind == "nan and inf":
        values[rng.random(values.shape) < 0.05] = np.nan
        values[rng.random(values.shape) < 0.05] = np.inf
        values[rng.random(values.shape) < 0.05] = -np.inf
    elif kind == "far apart":
        values *= np.float32(10.0) ** rng.integers(-44, 38, values.shape).astype(np.float32)
        rare = rng.random(values.shape) < 0.2
        values[rare] = rng.choice(FAR, rare.sum())
    assert_as_plain(random_forest(rng, values, sizes, columns, leaves, pure), values)


def test_pack_sees_impure_leaves() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 3)).astype(np.float32)
    assert pack(random_forest(rng, values, (5,), 3, 20, pure=True)).pure
    assert not pack(random_forest(rng, values, (5,), 3, 20, pure=False)).pure


def test_more_votes_than_fit_in_a_byte() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(64, 2)).astype(np.float32)
    assert_as_plain(random_forest(rng, values, (400,), 2, 3, pure=True), values)


@pytest.mark.parametrize("columns", [2, 5, 30])
def test_many_classes(columns: int) -> None:
    rng = np.random.default_rng(columns)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    for pure in (True, False):
        assert_as_plain(random_forest(rng, values, (7,), columns, 60, pure), values)


def test_leaves_whose_sum_float32_does_not_tell() -> None:
    """The sum of all columns then depends on the way through the trees."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    forest = random_forest(rng, values, (5, 3), 3, 20, pure=False)
    forest.leaf[:] *= rng.uniform(0.5, 1.5, (len(forest.leaf), 1))
    assert np.isnan(pack(forest).totals).all()
    assert_as_plain(forest, values)


def ranks_of(values: NDArray[np.float32], thresholds: NDArray[np.float32], most: int) -> NDArray[np.bool_]:
    """Which of GROUP values are below which thresholds, by ranks."""
    made, column, limit = make_ranks(np.zeros(thresholds.size, np.int32), thresholds, most)
    columns, found = np.zeros(GROUP * max(1, made.columns), np.int8), np.zeros(GROUP, np.int32)
    for source in range(len(made.sources)):
        rank(values, 0, source, made.arrays, found, columns)
    return columns.reshape(-1, GROUP)[column] < limit[:, None]


@settings(max_examples=examples(80))
@given(
    seed=st.integers(0, 2**32 - 1),
    number=st.sampled_from([1, 2, 3, 254, 255, 256, 511, 2000]),
    spread=st.sampled_from([0, 1, 3, 40]),
    most=st.sampled_from([1, 7, 255, 300, tables.MOST]),
)
def test_ranks_decide_as_values_do(seed: int, number: int, spread: int, most: int) -> None:
    """Thresholds that are equal, next to each other, infinite, denormal, NaN, and values at and beside them."""
    rng = np.random.default_rng(seed)
    centre = rng.choice(np.float32([0, 1, -3e4, 1e-40]))
    powers = np.float32(10.0) ** rng.integers(-spread, min(spread, 37) + 1, number).astype(np.float32)
    thresholds = (centre + rng.normal(size=number).astype(np.float32) * powers).astype(np.float32)
    odd = rng.random(number) < 0.1
    thresholds[odd] = rng.choice(np.append(FAR, np.float32(np.nan)), odd.sum())
    near = rng.choice(thresholds, GROUP)
    beside = np.nextafter(near, rng.choice(np.float32([-np.inf, np.inf]), GROUP))
    values = np.where(rng.random(GROUP) < 0.5, near, beside)
    other = rng.random(GROUP) < 0.2
    values[other] = rng.choice(FAR, other.sum())
    values[np.isnan(values)] = 0
    np.testing.assert_array_equal(
        ranks_of(values, thresholds, most if number < 2000 else tables.MOST), values < thresholds[:, None]
    )


def test_more_thresholds_than_a_rank_holds() -> None:
    rng = np.random.default_rng(3)
    thresholds = rng.normal(size=150_000).astype(np.float32)
    thresholds[5] = np.nan
    made, _, _ = make_ranks(np.zeros(thresholds.size, np.int32), thresholds)
    assert len(made.sources) > 2
    values = rng.choice(thresholds[6:], GROUP)
    some = rng.choice(thresholds.size, 2000, replace=False)
    np.testing.assert_array_equal(ranks_of(values, thresholds, tables.MOST)[some], values < thresholds[some, None])


def test_tables_stay_small_and_fast() -> None:
    """Few values share their bucket with more than one threshold, whatever the thresholds' distribution."""
    rng = np.random.default_rng(4)
    for thresholds in (rng.normal(size=250), rng.lognormal(sigma=3, size=250), rng.standard_cauchy(250)):
        made, _, _ = make_ranks(np.zeros(250, np.int32), thresholds.astype(np.float32))
        shared = np.diff(made.floors.astype(np.int64))
        assert shared.max() <= 12
        assert (shared[shared > 1] - 1).sum() < 80
        assert made.floors.size <= 250 * tables.BUCKETS + 1


def test_ranks_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(200, 3)).astype(np.float32)
    small, large = (random_forest(rng, values, (n,), 2, 60, pure=True) for n in (2, 50))
    for features, expected in (("+avx2,+fma", (False, True)), ("+avx2,+avx512f,+avx512bw", (False, False))):
        monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
        assert (pack(small).ranks.columns > 0, pack(large).ranks.columns > 0) == expected
