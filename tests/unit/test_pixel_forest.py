"""Trees decide as vigra and scikit-learn do, for every float32."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tasks.pixel_classification.forest import Forest, Tree, evaluate, join_trees, round_up
from tasks.pixel_classification.project_fields import LayoutError
from tasks.pixel_classification.training import train, tree_of_sklearn
from tasks.pixel_classification.vigra_forest import read_forest
from tests.examples import examples

DOUBLES = st.floats(allow_nan=False, width=64)
SINGLES = st.floats(allow_nan=False, width=32)


@settings(max_examples=examples(400))
@given(threshold=DOUBLES, value=SINGLES)
@example(threshold=0.1, value=float(np.float32(0.1)))
@example(threshold=-0.1, value=float(np.float32(-0.1)))
@example(threshold=1e300, value=3.4e38)
@example(threshold=-1e300, value=-3.4e38)
@example(threshold=0.0, value=-0.0)
@example(threshold=5e-324, value=0.0)
def test_rounded_thresholds_decide_as_doubles_do(threshold: float, value: float) -> None:
    rounded = round_up(np.array([threshold]))[0]
    assert (np.float32(value) < rounded) == (np.float64(np.float32(value)) < threshold)


@settings(max_examples=examples(400))
@given(threshold=DOUBLES)
def test_values_next_to_a_threshold_decide_as_doubles_do(threshold: float) -> None:
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
        values = (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf)))
    rounded = round_up(np.array([threshold]))[0]
    for value in values:
        assert (value < rounded) == (np.float64(value) < threshold)


@settings(max_examples=examples(60))
@given(
    features=arrays(np.float32, (30, 2), elements=st.floats(-4, 4, width=32)),
    labels=arrays(np.int64, 30, elements=st.integers(1, 3)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_tree_of_scikit_learn_decides_the_same(
    features: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> None:
    from sklearn.tree import DecisionTreeClassifier  # takes seconds to load, in each process that collects

    grown = DecisionTreeClassifier(random_state=seed).fit(features, labels)
    classes = tuple(int(label) - 1 for label in grown.classes_)
    forest = join_trees([tree_of_sklearn(grown.tree_)], (1,), 2, classes)
    cuts = grown.tree_.threshold[grown.tree_.children_left >= 0].astype(np.float32)
    around = [np.nextafter(cuts, np.float32(side)) for side in (-np.inf, np.inf)]
    values = np.unique(np.concatenate([cuts, *around, features.ravel()]))[:60]
    samples = np.stack(np.meshgrid(values, values), -1).reshape(-1, 2)
    np.testing.assert_allclose(evaluate(forest, samples), grown.predict_proba(samples), atol=1e-6)


def test_training_is_decided_by_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 5)).astype(np.float32)
    labels = rng.choice([1, 3], 80)
    first, again, other = (train(features, labels, seed) for seed in (7, 7, 8))
    assert first.checksum == again.checksum != other.checksum
    assert first.classes == (0, 2)
    assert len(first.roots) == 100


def test_trees_are_grown_to_purity() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 3)).astype(np.float32)
    forest = train(features, rng.integers(1, 4, 60), 0)
    leaves = forest.leaf[forest.feature < 0]
    np.testing.assert_array_equal(leaves.max(1), 1)


def stump(threshold: float, left: list[float], right: list[float]) -> Tree:
    return Tree(
        feature=np.array([0, -1, -1], np.int32),
        threshold=np.array([threshold, 0, 0]),
        left=np.array([1, 1, 2], np.int32),
        right=np.array([2, 1, 2], np.int32),
        leaf=np.array([[0, 0], left, right], np.float64),
    )


def two_forests() -> Forest:
    trees = [stump(0.5, [1, 0], [0, 1]), stump(1.5, [1, 0], [0.25, 0.75]), stump(2.5, [1, 0], [0, 1])]
    return join_trees(trees, (2, 1), 1, (0, 1))


def test_forests_are_weighted_by_their_trees_and_leaves_may_be_impure() -> None:
    found = evaluate(two_forests(), np.array([[0.0], [1.0], [2.0], [3.0]], np.float32))
    np.testing.assert_allclose(found[:, 1], [0, 1 / 3, 1.75 / 3, 2.75 / 3], rtol=1e-6)


def test_a_value_equal_to_the_threshold_goes_right() -> None:
    forest = join_trees([stump(0.5, [1, 0], [0, 1])], (1,), 1, (0, 1))
    np.testing.assert_array_equal(evaluate(forest, np.array([[0.5]], np.float32)), [[0, 1]])


def test_nan_gives_no_class() -> None:
    np.testing.assert_array_equal(evaluate(two_forests(), np.array([[np.nan]], np.float32)), [[0, 0]])


def test_another_number_of_columns_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="2 feature columns, but the forest was trained on 1"):
        evaluate(two_forests(), np.zeros((1, 2), np.float32))


ONE_SPLIT = [1, 2, 0, 0, 9, 7, 0, 0x40000000, 2, 0x40000000, 5]
"""Topology of a tree with one threshold node, whose left child is stored last."""


def forest_group(topology: list[int], **replaced: float) -> h5py.Group:
    file = h5py.File("forest", "w", driver="core", backing_store=False)
    values = {"column_count_": 1, "class_count_": 2, "problem_type_": 1, "predict_weighted_": 0} | replaced
    for name, value in values.items():
        part = "_options" if name == "predict_weighted_" else "_ext_param"
        file[f"Forest0000/{part}/{name}"] = np.array([value], np.float64)
    file["Forest0000/Tree_0/topology"] = np.array(topology, np.int32)
    file["Forest0000/Tree_0/parameters"] = np.array([1, 0.5, 4, 0, 1, 6, 1, 0], np.float64)
    return file


def test_children_may_lie_anywhere() -> None:
    forest = read_forest(forest_group(ONE_SPLIT))
    found = evaluate(forest, np.array([[0.0], [1.0]], np.float32))
    np.testing.assert_array_equal(found, [[1, 0], [0, 1]])
    assert forest.classes == (0, 1)


@pytest.mark.parametrize(
    ("topology", "replaced", "message"),
    [
        (
            [1, 2, 1, 0, 9, 7, 0, 0x40000000, 2, 0x40000000, 5],
            {},
            "node 2 is of type 0x1, which ilastik never writes",
        ),
        ([1, 2, 0x40000001, 0], {}, "type 0x40000001"),
        ([1, 2, 0, 0, 9, 9, 0, 0x40000000, 2, 0x40000000, 5], {}, "node 2 has a child at 9"),
        ([1, 2, 0, 0, 2, 7, 0, 0x40000000, 2, 0x40000000, 5], {}, "node 2 has a child at 2"),
        ([1, 2, 0, 0, 99, 7, 0, 0x40000000, 2, 0x40000000, 5], {}, "node 2 has a child at 99"),
        ([1, 2, 0, 0, 9, 7, 0, 0x40000000, 2, 0x40000000], {}, "node 9 is cut off"),
        ([1, 2, 0, 0, 9, 7, 3, 0x40000000, 2, 0x40000000, 5], {}, "beyond its 1"),
        (ONE_SPLIT, {"class_count_": 3}, r"are \[1, 2\], expected \[1, 3\]"),
        (ONE_SPLIT, {"predict_weighted_": 1}, "weighs its leaves"),
        (ONE_SPLIT, {"problem_type_": 0}, "is no classification"),
    ],
)
def test_other_layouts_are_refused(topology: list[int], replaced: dict[str, float], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        read_forest(forest_group(topology, **replaced))


def test_known_labels_name_the_columns_and_must_fit_them() -> None:
    group = forest_group(ONE_SPLIT)
    group["known_labels"] = np.array([1, 3], np.uint32)
    assert read_forest(group).classes == (0, 2)
    del group["known_labels"]
    group["known_labels"] = np.array([1, 2, 3], np.uint32)
    with pytest.raises(LayoutError, match="known_labels are"):
        read_forest(group)
