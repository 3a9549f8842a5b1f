"""A voxel's probabilities do not depend on the block that it is computed in, to the last bit."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blockwise.grid import grow, relative
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import FILTERS, Feature, StructureTensor, compute_features, halo
from tasks.pixel_classification.project import load_project
from tests.examples import examples
from tests.unit.pixel_cases import DATA, image_zyxc, predict

IDS = list(FILTERS)
SELECTIONS: dict[str, tuple[tuple[int, ...], tuple[Feature, ...]]] = {
    "3d": ((21, 24, 27, 1), tuple(Feature(i, s, False) for i in IDS for s in (0.7, 1.6))),
    "2d": ((1, 40, 45, 1), tuple(Feature(i, s, False) for i in IDS for s in (1.0, 3.5))),
    "mixed": ((14, 30, 33, 1), tuple(Feature(i, s, s > 1) for i in IDS for s in (0.7, 1.0, 1.6, 3.5))),
    "channels": ((12, 17, 19, 2), tuple(Feature(i, s, s == 1) for i in IDS[2:] for s in (1.0, 1.6))),
}


@cache
def whole_volume(name: str, variant: StructureTensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shape, features = SELECTIONS[name]
    image = np.random.default_rng(5).normal(100, 40, shape).astype(np.float32)
    return image, compute_features(image, features, variant)


@pytest.mark.parametrize("name", SELECTIONS)
@settings(max_examples=examples(12))
@given(data=st.data(), variant=st.sampled_from(["fastfilters", "vigra"]))
def test_features_of_any_block_with_its_halo_are_those_of_the_whole(
    name: str, data: st.DataObject, variant: StructureTensor
) -> None:
    image, expected = whole_volume(name, variant)
    features = SELECTIONS[name][1]
    box = data.draw(boxes(image.shape[:3]))
    read_box = grow(box, halo(features), tuple(slice(0, n) for n in image.shape[:3]))
    crop = image[read_box]
    found = compute_features(crop, features, variant, relative(box, read_box))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, expected[box])


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A box in a volume; half of its sides lie at the volume's border."""
    found = []
    for n in shape:
        start = draw(st.one_of(st.just(0), st.integers(0, n - 1)))
        stop = draw(st.one_of(st.just(n), st.integers(start + 1, n)))
        found.append(slice(start, stop))
    return tuple(found)


@pytest.mark.parametrize("name", [pytest.param("3d_u16_few_3class", marks=pytest.mark.soak), "2d_rgb_u8_3class"])
@pytest.mark.parametrize("block_shape", [(17, 40, 33), pytest.param((48, 31, 200), marks=pytest.mark.soak)])
def test_probabilities_of_blocks_are_those_of_the_whole_image(name: str, block_shape: tuple[int, int, int]) -> None:
    project = load_project(str(DATA / name / "project.ilp"))
    image = image_zyxc(DATA / name / "input.h5", project.axes)[:, :80, :80]
    engine = make_engine("reference", project)
    found = np.full((len(project.classes), *image.shape[:3]), np.nan, np.float32)
    for box in tiles(image, block_shape):
        read_box = grow(box, engine.halo, tuple(slice(0, n) for n in image.shape[:3]))
        found[(slice(None), *box)] = engine.predict(image[read_box], relative(box, read_box))  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.moveaxis(found, 0, -1), predict(project, image))


def tiles(image: NDArray[Any], shape: tuple[int, int, int]) -> list[tuple[slice, ...]]:
    counts = [-(-n // s) for n, s in zip(image.shape[:3], shape, strict=True)]
    return [
        tuple(slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, shape, image.shape[:3], strict=True))
        for index in np.ndindex(*counts)
    ]


def test_one_voxel_short_of_halo_shows() -> None:
    """The halo is not only enough but needed: otherwise the tests above would pass with anything."""
    features = tuple(Feature(i, 1.6, False) for i in IDS)
    image = np.random.default_rng(0).normal(size=(1, 1, 60, 1)).astype(np.float32).repeat(20, 0).repeat(20, 1)
    reach = halo(features)[2]
    middle = compute_features(image, features)[:, :, 30]
    short = compute_features(np.ascontiguousarray(image[:, :, 30 - reach + 1 :]), features)[:, :, reach - 1]
    assert (middle != short).any()
    exact = compute_features(np.ascontiguousarray(image[:, :, 30 - reach :]), features)[:, :, reach]
    np.testing.assert_array_equal(middle, exact)
