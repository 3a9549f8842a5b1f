"""Touching objects are cut as in the whole volume, whatever the blocks; what is too large stays whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, label
from skimage.filters import gaussian
from skimage.morphology import h_maxima, local_maxima, reconstruction
from skimage.segmentation import watershed

from blockwise.errors import UserError
from blockwise.grid import Grid
from pipeline.assembly.objects.steps import ObjectSteps
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import make_settings
from tasks.objects.table_step import ObjectTableStep
from tasks.splitting.cutting import cut_by_distance, cut_by_seeds, neighbourhood
from tasks.splitting.labels_step import SplitObjectsStep
from tasks.splitting.merge_step import SplitMergeStep
from tasks.splitting.parts_step import Cut, SplitPartsStep
from tasks.splitting.surroundings import look_around
from tasks.threshold import ThresholdStep
from tests.examples import examples
from tests.unit.blocked import Array, GivenMask, GivenProbabilities, InMemory, all_columns, whole
from tests.unit.blocked import given as given_step
from tests.unit.pixel_cases import ROOT

Labels = NDArray[Any]


def disks(shape: tuple[int, ...], *circles: tuple[tuple[float, ...], float]) -> NDArray[np.bool_]:
    places = np.indices(shape)
    found = np.zeros(shape, bool)
    for centre, radius in circles:
        found |= sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)) <= radius**2
    return found


def test_two_disks_that_touch_are_cut_where_they_touch() -> None:
    inside = disks((21, 39), ((10, 10), 9), ((10, 28), 9.5))
    parts = cut_by_distance(inside, 8, 1.0)
    assert parts.max() == 2
    assert set(np.unique(parts[:, :18])) == {0, 1}
    assert set(np.unique(parts[:, 21:])) == {0, 2}
    np.testing.assert_array_equal(parts > 0, inside)
    assert cut_by_distance(inside, 8, 20.0).max() == 1, "no maximum rises by so much"


def test_seeds_are_the_extended_maxima_of_scikit_image() -> None:
    """Its ``h_maxima`` gives the highest voxels of the same seeds, with a tolerance that floats would feel."""
    inside = gaussian_filter(np.random.default_rng(3).random((60, 70)), 3) > 0.5
    distance = np.rint(distance_transform_edt(inside) ** 2).astype(np.int32)  # whole numbers: no rounding
    neighbours = neighbourhood(2, 8)
    raised = reconstruction(np.maximum(distance - 3, 0), distance, footprint=neighbours)
    tops = local_maxima(raised, footprint=neighbours) & (raised > 0)
    highest = h_maxima(distance, 3, neighbours) > 0
    assert not (highest & ~tops).any()
    seeds, count = label(tops, neighbours)
    assert set(np.unique(seeds[highest])) == set(range(1, count + 1))
    assert count > 10


def cut_whole_volume(
    labels: Labels, connectivity: int, cut: Cut, cores: Labels | None, heights: Labels | None
) -> tuple[Labels, list[int]]:
    """Object after object over the whole volume: numbers in the order of first voxels, labels of too large ones."""
    found = np.zeros(labels.shape, np.int64)
    neighbours = neighbourhood(labels.ndim, connectivity)
    too_large = []
    for name, box in enumerate(find_objects(labels), 1):
        inside = labels == name
        markers = inside.astype(int)
        flooded = heights
        if any(s.stop - s.start > n for s, n in zip(box, cut.largest, strict=True)):
            too_large.append(name)
        elif cut.method == "seeds":
            markers = label(cores & inside, neighbours)[0]
            sizes = np.bincount(markers.ravel())
            fits = (sizes >= cut.min_seed) & (sizes <= (cut.max_seed or inside.size))
            markers = np.where(fits[markers], markers, 0)
        elif not inside.all():
            flooded = distance_transform_edt(inside)
            raised = reconstruction(np.maximum(flooded - cut.h, 0), flooded, footprint=neighbours)
            tops = local_maxima(raised, footprint=neighbours) if raised.any() else inside & False
            markers = label(tops & (raised > 0), neighbours)[0]
        if len(np.unique(markers[markers > 0])) < 2:
            parts = inside.astype(int)
        else:
            parts = watershed(-flooded, markers, neighbours, mask=inside)
        found += np.where(parts > 0, parts + found.max(), 0)
    return found, too_large


def numbered(labels: Labels, low: int, high: int | None) -> Labels:
    """Those of the right size, by their first voxels."""
    values, first, counts = np.unique(labels, return_index=True, return_counts=True)
    kept = [v for _, v, n in sorted(zip(first, values, counts, strict=True)) if v and low <= n <= (high or n)]
    numbers = np.zeros(labels.max(initial=0) + 1, np.int64)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[labels]


class GivenLabels(GivenMask):
    name = "connected_components"
    gives = "labels"


class PartsInMemory(InMemory, SplitPartsStep):
    pass


def blocked_split(
    labels: Labels,
    connectivity: int,
    grid: Grid,
    cut: Cut,
    sizes: tuple[int, int | None],
    thresholded: Labels | None = None,
    probabilities: Labels | None = None,
) -> tuple[Labels, dict[str, NDArray[Any]]]:
    """Labels of parts by the real steps over blocks, and the columns of the table."""
    place: dict[str, Any] = {"work_dir": "nowhere", "grid": grid}
    written = {**place, "chunks": grid.block_shape}
    flooded = None
    if probabilities is not None:
        flooded = ThresholdStep(
            **written, address="nowhere.n5:thresholded", class_index=0, channel=0, sigma=(1.0,) * len(grid.axes),
            probabilities=given_step(GivenProbabilities, grid, dtype="float32", channels=1), threshold=0.5, core=0.6,
        )  # fmt: skip
    parts = PartsInMemory(
        **place, thresholded=flooded or given_step(GivenMask, grid), foreground=1, connectivity=connectivity,
        objects=given_step(GivenLabels, grid), cut=cut, flooded=flooded,
    )  # fmt: skip
    opened = Array(labels.astype(np.uint64)), None
    if probabilities is not None:
        stored = np.expand_dims(probabilities, parts.flooded.probabilities.output().axes.index("c"))
        opened = opened[0], (Array(thresholded), (Array(stored), None))
    parts.run(opened)
    one_block = Grid(grid.axes, grid.shape, grid.shape)
    merge = SplitMergeStep(
        work_dir="nowhere", grid=one_block, faces=parts, min_size=sizes[0], max_size=sizes[1], numbering="restart"
    )
    found = merge.compute(one_block.block(0), None)
    final = SplitObjectsStep(**written, parts=parts, merge=merge, address="nowhere.n5:split")
    result = whole(final, np.uint64, (opened[0], found["lookup"], found["offsets"]))
    table = ObjectTableStep(work_dir="nowhere", grid=one_block, faces=parts, merge=merge)
    return result, all_columns(table, found)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float64], Grid, int, tuple[int, ...]]:
    ndim = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 40 if ndim == 2 else 16)) for _ in range(ndim))
    blocks = tuple(draw(st.integers(2, n + 3)) for n in shape)
    seed = draw(st.integers(0, 2**32 - 1))
    values = gaussian_filter(np.random.default_rng(seed).random(shape), draw(st.sampled_from([1.0, 2.0])))
    values = (values - values.min()) / max(values.max() - values.min(), 1e-9)
    connectivity = draw(st.sampled_from([4, 8] if ndim == 2 else [6, 18, 26]))
    largest = tuple(draw(st.integers(3, 40)) for _ in shape)
    return values, Grid("zyx"[-ndim:], shape, blocks), connectivity, largest


@settings(max_examples=examples(30), deadline=None)
@given(
    case=cases(),
    level=st.sampled_from([0.3, 0.45, 0.6]),
    h=st.sampled_from([0.2, 0.5, 1.0]),
    sizes=st.sampled_from([(0, None), (4, 90)]),
)
def test_parts_equal_those_of_the_whole_volume(case: Any, level: float, h: float, sizes: Any) -> None:
    values, grid, connectivity, largest = case
    labels = label(values > level, neighbourhood(values.ndim, connectivity))[0]
    cut = Cut(method="distance", h=h, largest=largest)
    found, table = blocked_split(labels, connectivity, grid, cut, sizes)
    expected, too_large = cut_whole_volume(labels, connectivity, cut, None, None)
    expected = numbered(expected, *sizes)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(table["voxels"], np.bincount(expected.ravel())[1:])
    places = [np.flatnonzero(expected == k)[0] for k in range(1, expected.max(initial=0) + 1)]
    np.testing.assert_array_equal(table["whole"], labels.ravel()[places])
    np.testing.assert_array_equal(table["too_large"], np.isin(table["whole"], too_large))


@settings(max_examples=examples(20), deadline=None)
@given(case=cases(), smallest=st.sampled_from([0, 3]))
def test_parts_with_a_seed_each_equal_those_of_the_whole_volume(case: Any, smallest: int) -> None:
    values, grid, connectivity, largest = case
    probabilities = values.astype(np.float32)
    smoothed = gaussian_filter(probabilities, 1.0, mode="nearest", truncate=4.0)
    inside, cores = smoothed > 0.5, smoothed > 0.6
    labels = label(inside, neighbourhood(values.ndim, connectivity))[0]
    cut = Cut(method="seeds", h=1, largest=largest, min_seed=smallest)
    mask = inside.astype(np.uint8) + (inside & cores)
    found, _ = blocked_split(labels, connectivity, grid, cut, (0, None), mask, probabilities)
    heights = gaussian(probabilities, 1.0, mode="nearest")
    expected, _ = cut_whole_volume(labels, connectivity, cut, cores & inside, heights)
    np.testing.assert_array_equal(found, numbered(expected, 0, None))


def test_time_steps_are_cut_each_by_itself() -> None:
    image = disks((21, 39), ((10, 10), 9), ((10, 28), 9.5))
    labels = np.stack([image, np.zeros_like(image), image]).astype(np.uint64)
    found, table = blocked_split(
        labels, 8, Grid("tyx", labels.shape, (1, 8, 9)), Cut(method="distance", h=1, largest=(40, 40)), (0, None)
    )
    one = numbered(cut_by_distance(image, 8, 1.0), 0, None)
    np.testing.assert_array_equal(found, np.stack([one, np.zeros_like(one), one]))
    assert list(table["t"]) == [0, 0, 2, 2]
    assert list(table["label"]) == [1, 2, 1, 2]


def test_no_more_is_read_than_objects_need() -> None:
    labels = np.zeros((300, 300), np.uint64)
    labels[100:120, 90:130] = 1
    labels[105:300, 140:299] = 2
    labels[:, 299] = 3
    read: list[Any] = []

    def reading(box: Any) -> Any:
        read.append(box)
        return labels[box]

    domain = (slice(0, 300), slice(0, 300))
    around = look_around(reading, (slice(100, 150), slice(100, 150)), domain, (60, 60))
    assert [around.name(number) for number in around.touching] == [1, 2]
    assert [around.name(number) for number in around.whole()] == [1]
    assert around.place(1) == (slice(100, 120), slice(90, 130))
    largest = [max(s.stop - s.start for s in axis) for axis in zip(*read, strict=True)]
    assert max(largest) <= 50 + 2 * 60
    read.clear()
    look_around(reading, (slice(0, 50), slice(0, 50)), domain, (60, 60))
    assert len(read) == 1, "nothing lies there"


def test_every_neighbourhood() -> None:
    for ndim, connectivity in ((2, 4), (2, 8), (3, 6), (3, 18), (3, 26)):
        assert neighbourhood(ndim, connectivity).sum() == connectivity + 1


def test_seeds_of_the_wrong_size_cut_nothing() -> None:
    inside = np.ones((3, 9), bool)
    seeds = np.zeros_like(inside)
    seeds[1, [0, 1, 7, 8]] = True
    heights = np.abs(np.arange(9) - 4.0)[None].repeat(3, 0)
    assert cut_by_seeds(inside, seeds, heights, 4).max() == 2
    assert cut_by_seeds(inside, seeds, heights, 4, min_size=3).max() == 1
    assert cut_by_seeds(inside, seeds, heights, 4, max_size=1).max() == 1


def objects(folder: Any, threshold: Any = None, **components: Any) -> ObjectSteps:
    values = {
        "work_dir": f"{folder}/work",
        "raw": f"{ROOT}/data/raw.h5:data",
        "output": f"{folder}/out.n5",
        "prediction": {"project": f"{ROOT}/data/membranes.ilp"},
        "threshold": threshold or {"class": 1},
        "connected_components": components,
    }
    return build_steps(make_settings(values, "test")).objects[0]


def test_steps_that_cut_come_only_if_they_are_asked_for(tmp_path: Any) -> None:
    plain = objects(tmp_path, max_size=90)
    assert [step.name for step in plain.all() if "split" in step.name] == []
    assert plain.component_merge.max_size == 90
    made = objects(tmp_path, max_size=90, split={"method": "distance"})
    assert [step.name for step in made.all()][4:7] == ["split_parts", "split_merge", "split_objects"]
    assert (made.component_merge.max_size, made.split_merge.max_size) == (None, 90)
    assert made.split_parts.cut == Cut(method="distance", h=1.0, largest=(128, 128, 128))
    other = objects(tmp_path, max_size=90, split={"h": 2})
    assert other.connected_components.fingerprint == made.connected_components.fingerprint
    assert other.split_objects.fingerprint != made.split_objects.fingerprint
    hysteresis = {"class": 1, "method": "hysteresis", "core": 0.8, "final": 0.4, "keep_cores": True}
    seeds = objects(tmp_path, hysteresis, split={"method": "seeds", "largest": [10, 20, 30]}, intensities=True)
    assert seeds.split_parts.halo == (10, 20, 30)
    assert seeds.cores.objects.name == seeds.measures.objects.name == "split_objects"
    block = seeds.split_parts.grid.block(0)
    assert set(seeds.split_objects.reads(block)) == set(seeds.split_objects.inputs)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"method": "seeds"}, "threshold: connected_components.split.method: seeds are the cores"),
        ({"largest": [3, 4]}, "connected_components.split.largest: .3, 4. for the axes zyx"),
    ],
)
def test_what_cannot_cut_is_refused(tmp_path: Any, split: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        objects(tmp_path, split=split)
