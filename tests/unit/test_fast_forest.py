"""The fast forest against the plain one on the same features: equal to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.pixel_classification.fast.streaming import vote
from tasks.pixel_classification.fast.traversal import pack
from tasks.pixel_classification.fast.vectors import LANES
from tasks.pixel_classification.forest import Forest, evaluate
from tests.examples import examples
from tests.unit.random_forests import random_forest


def vote_by_groups(forest: Forest, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of samples, 64 at a time in their order."""
    packed = pack(forest)
    columns = len(forest.classes)
    nodes = (packed.nodes, packed.nodes.view(np.float32), packed.roots)
    scratch = (
        np.zeros(packed.queue_size, np.int32),
        np.zeros(packed.queue_size, np.uint64),
        np.zeros(len(packed.outcomes) * LANES, np.uint8),
        np.zeros((columns, LANES), np.float32),
        np.zeros(LANES, np.float64),
    )
    ends = np.cumsum(forest.sizes, dtype=np.int64)
    out = np.zeros((len(values), columns), np.float32)
    for start in range(0, len(values), LANES):
        part = values[start : start + LANES]
        group = np.zeros((forest.n_features, LANES), np.float32)
        group[:, : len(part)] = part.T
        bits = sum(1 << i for i, sample in enumerate(part) if not np.isnan(sample).any())
        result = np.empty((columns, LANES), np.float32)
        vote(group.reshape(-1), np.uint64(bits), nodes, ends, packed.outcomes, packed.pure, scratch, result)
        out[start : start + LANES] = result.T[: len(part)]
    return out


@settings(max_examples=examples(60))
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    columns=st.integers(1, 4),
    leaves=st.sampled_from([1, 2, 5, 40, 300]),
    pure=st.booleans(),
    kind=st.sampled_from(["noise", "constant", "few values", "nan and inf"]),
)
def test_fast_forest_equals_plain_forest(
    seed: int, sizes: tuple[int, ...], columns: int, leaves: int, pure: bool, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    values: Any = rng.normal(size=(150, 5)).astype(np.float32)
    if kind == "constant":
        values[:] = values[0]
    elif kind == "few values":
        values = np.round(values)
    elif kind == "nan and inf":
        values[rng.random(values.shape) < 0.05] = np.nan
        values[rng.random(values.shape) < 0.05] = np.inf
        values[rng.random(values.shape) < 0.05] = -np.inf
    forest = random_forest(rng, values, sizes, columns, leaves, pure)
    np.testing.assert_array_equal(vote_by_groups(forest, values), evaluate(forest, values))


def test_pack_sees_impure_leaves() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 3)).astype(np.float32)
    assert pack(random_forest(rng, values, (5,), 3, 20, pure=True)).pure
    assert not pack(random_forest(rng, values, (5,), 3, 20, pure=False)).pure


def test_more_votes_than_fit_in_a_byte() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(64, 2)).astype(np.float32)
    forest = random_forest(rng, values, (400,), 2, 3, pure=True)
    np.testing.assert_array_equal(vote_by_groups(forest, values), evaluate(forest, values))
