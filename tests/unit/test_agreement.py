"""Two segmentations compared in slabs give what the formulas give for the whole volumes, without more work."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import z5py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from skimage.metrics import variation_of_information

from blockwise.errors import UserError
from pipeline.inspecting import overlaps
from pipeline.inspecting.agreement import Agreement, compare
from tests.examples import examples

DTYPES = (np.uint8, np.uint16, np.uint32, np.uint64, np.int32, np.int64)
FAR = 2**63 + 5
"""A label that neither int64 nor float64 holds."""


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "VOXELS_AT_ONCE", 40)
    monkeypatch.setattr(overlaps, "VOXELS_COUNTED_AT_ONCE", 7)


def stored(folder: Path, **volumes: NDArray[Any]) -> list[str]:
    """Addresses of volumes whose chunks fit neither the slabs nor each other."""
    container = z5py.File(folder / f"{len(list(folder.iterdir()))}.n5", mode="a")
    for i, (name, data) in enumerate(volumes.items()):
        container.create_dataset(name, data=data, chunks=tuple(min(n, 3 + i) for n in data.shape))
    return [f"{container.filename}:{name}" for name in volumes]


def entropy(counts: NDArray[Any]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def pairs_within(counts: NDArray[Any]) -> int:
    """Pairs of voxels, in order, of which both lie in the same part."""
    return sum(n * (n - 1) for n in counts.tolist())


def divided(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def straightforward(a: NDArray[Any], b: NDArray[Any]) -> Agreement:
    """The definitions, on the whole volumes, voxel by voxel."""
    first, second = a.ravel().tolist(), b.ravel().tolist()
    joint = Counter(zip(first, second, strict=True))
    of_a, of_b = Counter(first), Counter(second)
    both = entropy(np.array(list(joint.values())))
    inside = {pair: n for pair, n in joint.items() if pair[0]}
    rows, columns = Counter[int](), Counter[int]()
    for (row, column), n in inside.items():
        rows[row] += n
        columns[column] += n
    together, in_a, in_b = (pairs_within(np.array(list(c.values()))) for c in (inside, rows, columns))
    return Agreement(
        voxels=len(first),
        labels_a=len(of_a.keys() - {0}),
        labels_b=len(of_b.keys() - {0}),
        differing_voxels=sum(x != y for x, y in zip(first, second, strict=True)),
        same_partition=len(joint) == len(of_a) == len(of_b) and all((x == 0) == (y == 0) for x, y in joint),
        split=both - entropy(np.array(list(of_a.values()))),
        merge=both - entropy(np.array(list(of_b.values()))),
        rand_error=1 - divided(2 * together, in_a + in_b) if inside else 0,
        rand_precision=divided(together, in_a) if inside else 1,
        rand_recall=divided(together, in_b) if inside else 1,
    )


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    shape = draw(array_shapes(min_dims=2, max_dims=4, max_side=8))
    made = []
    for _ in range(2):
        dtype = draw(st.sampled_from(DTYPES))
        top = draw(st.sampled_from([1, 3, 100]))
        data = draw(arrays(dtype, shape, elements=st.integers(draw(st.sampled_from([0, 1])), top)))
        if dtype == np.uint64 and draw(st.booleans()):
            data = np.where(data == 1, np.uint64(FAR), data)
        made.append(data)
    return made[0], draw(st.sampled_from([made[1], made[0]]))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=examples(60)
)
@given(both=segmentations())
def test_slabs_give_what_the_definitions_and_libraries_give(
    both: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path, few_at_once: None
) -> None:
    from sklearn.metrics import mutual_info_score  # takes seconds to load, in each process that collects
    from sklearn.metrics.cluster import pair_confusion_matrix

    found, expected = compare(*stored(tmp_path, a=both[0], b=both[1])), straightforward(*both)
    for name, value in expected.__dict__.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-12, nan_ok=True), name
    a, b = (np.unique(labels, return_inverse=True)[1].ravel() for labels in both)
    shared = mutual_info_score(a, b) / math.log(2)
    assert found.split == pytest.approx(entropy(np.bincount(b)) - shared, abs=1e-9)
    assert found.merge == pytest.approx(entropy(np.bincount(a)) - shared, abs=1e-9)
    assert (found.split, found.merge) == pytest.approx(variation_of_information(a, b), abs=1e-12)
    seen = both[0].ravel() != 0
    if seen.any():
        (_, only_b), (only_a, together) = pair_confusion_matrix(a[seen], b[seen])
        assert found.rand_precision == pytest.approx(divided(together, together + only_a), abs=1e-12, nan_ok=True)
        assert found.rand_recall == pytest.approx(divided(together, together + only_b), abs=1e-12, nan_ok=True)


@pytest.mark.soak
def test_work_grows_with_the_labels_not_with_their_square(
    tmp_path: Path, few_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    lexsort = np.lexsort
    monkeypatch.setattr(np, "lexsort", lambda keys: rows.append(len(keys[0])) or lexsort(keys))
    work = []
    for length in (200, 1600):
        labels = np.arange(length * 16).reshape(length, 4, 4) + 1
        rows.clear()
        found = compare(*stored(tmp_path, a=labels, b=labels[::-1].copy()))
        assert (found.labels_a, found.same_partition) == (labels.size, True)
        work.append(sum(rows) / labels.size)
    assert work[1] < 1.2 * work[0] < 6, f"rows sorted for each label: {work}"


@pytest.mark.soak
def test_memory_is_that_of_the_pairs(tmp_path: Path, few_at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    lexsort = np.lexsort
    monkeypatch.setattr(np, "lexsort", lambda keys: rows.append(len(keys[0])) or lexsort(keys))
    labels = np.tile(np.arange(1, 17, dtype=np.uint16).reshape(1, 4, 4), (3000, 1, 1))
    assert compare(*stored(tmp_path, a=labels, b=labels)).labels_a == 16
    assert max(rows) <= 3 * 16, "as many rows at once as there are pairs, whatever the size of the volume"


def test_volumes_that_cannot_be_compared(tmp_path: Path) -> None:
    ones = np.ones((4, 4), np.uint8)
    a, b, c = stored(tmp_path, a=ones, b=ones[:2], c=ones.astype(np.float32))
    with pytest.raises(UserError, match=r"\(4, 4\).*\(2, 4\)"):
        compare(a, b)
    with pytest.raises(UserError, match="float32; labels are integers"):
        compare(a, c)
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["labels"] = ones[:0]
    with pytest.raises(UserError, match=r"has 0 voxels along y, its shape is \(0, 4\)"):
        compare(f"{tmp_path}/empty.h5:labels", f"{tmp_path}/empty.h5:labels")
