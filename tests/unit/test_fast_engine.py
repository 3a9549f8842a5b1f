"""The fast engine against the reference engine, and against itself over blocks and tiles: equal to the last bit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blockwise.grid import Grid, grow, relative
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.fast import engine as fast
from tasks.pixel_classification.features import FILTERS, Feature, compute_features
from tasks.pixel_classification.project import Project, load_project
from tests.examples import examples
from tests.unit.random_forests import project, random_forest

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
CASES = (
    "3d_u8_all37",
    "3d_u16_few_3class",
    "2d_u8_all37",
    "2d_rgb_u8_3class",
    "3d_f32_mixed2d",
    "3d_u8_vigra_trained",
)
SMALL_SCALES = (0.3, 0.7, 0.85, 1.0, 1.6, 2.2)


def everything(shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def made_project(seed: int, features: tuple[Feature, ...], image: NDArray[Any], pure: bool = True) -> Project:
    """A project whose forest fits the image's features."""
    rng = np.random.default_rng(seed)
    values = compute_features(image.astype(np.float32), features).reshape(
        -1, image.shape[3] * n_values(features, image)
    )
    samples = values[rng.integers(len(values), size=200)]
    return project(features, random_forest(rng, samples, (3, 4), 3, 12, pure), image.shape[3])


def n_values(features: tuple[Feature, ...], image: NDArray[Any]) -> int:
    return sum(feature.components(image.shape[0]) for feature in features)


@st.composite
def selections(draw: st.DrawFn, scales: tuple[float, ...] = SMALL_SCALES) -> tuple[Feature, ...]:
    flat = {scale: draw(st.booleans()) for scale in scales}
    cells = st.tuples(st.sampled_from(sorted(FILTERS)), st.sampled_from(scales)).filter(
        lambda cell: cell[1] >= 0.7 or cell[0] == "GaussianSmoothing"
    )
    chosen = draw(st.lists(cells, min_size=1, max_size=6, unique=True))
    return tuple(Feature(name, scale, flat[scale]) for name, scale in chosen)


@st.composite
def images(draw: st.DrawFn) -> NDArray[Any]:
    shape = (
        draw(st.sampled_from([1, 9, 14, 21])),
        *(draw(st.integers(9, 40)) for _ in "yx"),
        draw(st.integers(1, 2)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]))
    if dtype.startswith("float"):
        return rng.normal(scale=100, size=shape).astype(dtype)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@settings(max_examples=examples(40))
@given(
    features=selections(),
    image=images(),
    tensor=st.sampled_from(["fastfilters", "vigra"]),
    pure=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_fast_equals_reference(
    features: tuple[Feature, ...],
    image: NDArray[Any],
    tensor: Literal["fastfilters", "vigra"],
    pure: bool,
    seed: int,
) -> None:
    made = made_project(seed, features, image, pure)
    whole = everything(image.shape)
    expected = make_engine("reference", made, tensor).predict(image, whole)
    np.testing.assert_array_equal(make_engine("fast", made, tensor).predict(image, whole), expected)


@settings(max_examples=examples(20))
@given(features=selections(), image=images(), seed=st.integers(0, 1000), data=st.data())
def test_blocks_and_tiles_do_not_show(
    features: tuple[Feature, ...], image: NDArray[Any], seed: int, data: st.DataObject
) -> None:
    engine = make_engine("fast", made_project(seed, features, image))
    shape = image.shape[:3]
    expected = engine.predict(image, everything(shape))
    block = tuple(data.draw(st.integers(max(1, n // 3), n)) for n in shape)
    tile = tuple(data.draw(st.integers(1, 20)) for _ in shape)
    result = np.full(expected.shape, np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "TILE_3D", tile)
        patch.setattr(fast, "TILE_2D", tile)
        for part in Grid(axes="zyx", shape=shape, block_shape=block):
            box = grow(part.write_box, engine.halo, everything(shape))
            interior = relative(part.write_box, box)
            result[(slice(None), *part.write_box)] = engine.predict(image[box], interior)
    np.testing.assert_array_equal(result, expected)


def test_nan_stays_where_it_is() -> None:
    features = (Feature("GaussianSmoothing", 0.7, False), Feature("StructureTensorEigenvalues", 1.6, False))
    image = np.random.default_rng(0).normal(size=(20, 24, 28, 1)).astype(np.float32)
    made = made_project(0, features, image)
    whole = everything(image.shape)
    clean = make_engine("fast", made).predict(image, whole)
    image[10, 12, 14], image[3, 20, 5] = np.nan, np.inf
    result = make_engine("fast", made).predict(image, whole)
    np.testing.assert_array_equal(result, make_engine("reference", made).predict(image, whole))
    reach = make_engine("fast", made).halo
    far = np.ones(image.shape[:3], bool)
    for at in ((10, 12, 14), (3, 20, 5)):
        far[tuple(slice(max(i - r, 0), i + r + 1) for i, r in zip(at, reach, strict=True))] = False
    np.testing.assert_array_equal(result[:, far], clean[:, far])
    assert (result[:, 10, 12, 14] == 0).all()


def test_a_volume_too_small_for_its_kernels_is_refused() -> None:
    features = (Feature("GaussianSmoothing", 3.5, False),)
    image = np.zeros((12, 40, 40, 1), np.uint8)
    made = made_project(0, features, np.zeros((13, 40, 40, 1), np.uint8))
    for name in ("fast", "reference"):
        with pytest.raises(ValueError, match=r"too (small|few)"):
            make_engine(name, made).predict(image, everything(image.shape))


@pytest.mark.parametrize("case", [pytest.param(CASES[0], marks=pytest.mark.soak), *CASES[1:]])
def test_ilastik_case(case: str) -> None:
    if not REFERENCE.exists():
        pytest.skip(f"the cases made with ilastik are not at {REFERENCE}")
    folder = REFERENCE / case
    read = load_project(str(folder / "project.ilp"))
    with h5py.File(folder / "input.h5") as file:
        image = file["data"][()]
    with h5py.File(folder / "expected_probabilities.h5") as file:
        expected = np.moveaxis(file["exported_data"][()], -1, 0)
    if "z" not in read.axes:
        image, expected = image[None], expected[:, None]
    if image.ndim == 3:
        image = image[..., None]
    tensor: Literal["fastfilters", "vigra"] = "vigra" if "vigra" in case else "fastfilters"
    result = make_engine("fast", read, tensor).predict(image, everything(image.shape))
    np.testing.assert_array_equal(
        result, make_engine("reference", read, tensor).predict(image, everything(image.shape))
    )
    error = np.abs(result - expected)
    assert error.mean() < 1e-4
    assert (error.max(axis=0) > 0.005).mean() <= 0.005
    assert error.max() <= 0.1
    assert (result.argmax(axis=0) == expected.argmax(axis=0)).mean() >= 0.9999


def test_blocks_of_a_large_sigma() -> None:
    """Kernels far longer than a block, at every border."""
    features = (Feature("HessianOfGaussianEigenvalues", 5.0, False), Feature("DifferenceOfGaussians", 10.0, True))
    image = np.random.default_rng(3).integers(0, 255, (24, 45, 47, 1), dtype=np.uint8)
    engine = make_engine("fast", made_project(5, features, image))
    expected = engine.predict(image, everything(image.shape))
    for low, high in pairwise((0, 3, 11, 24)):
        box = grow((slice(low, high), slice(7, 20), slice(31, 47)), engine.halo, everything(image.shape))
        interior = relative((slice(low, high), slice(7, 20), slice(31, 47)), box)
        np.testing.assert_array_equal(engine.predict(image[box], interior), expected[:, low:high, 7:20, 31:47])


@pytest.mark.parametrize("tensor", ["fastfilters", "vigra"])
def test_regions_of_one_value(tensor: Literal["fastfilters", "vigra"]) -> None:
    """Empty parts of a volume, larger than tiles and their margins, next to a textured one and at the border."""
    features = tuple(Feature(name, scale, False) for name in sorted(FILTERS) for scale in (0.7, 1.6))
    image = np.full((30, 70, 200, 1), 7, np.uint8)
    image[12:20, 30:50, 20:60, 0] = np.random.default_rng(2).integers(0, 255, (8, 20, 40))
    made = made_project(4, features, image)
    whole = everything(image.shape)
    expected = make_engine("reference", made, tensor).predict(image, whole)
    np.testing.assert_array_equal(make_engine("fast", made, tensor).predict(image, whole), expected)
    assert len(np.unique(expected)) > 5
