"""A mask over blocks equals the mask of the whole volume: what is read, which blocks are left, what they compute."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage.filters import gaussian
from skimage.measure import label

from blockwise.errors import UserError
from blockwise.grid import Grid, pack_blocks
from blockwise.mask import SURVEY, Mask, MaskReader, keep_survey, masked, survey
from blockwise.volume import Address, create_volume, open_volume
from pipeline.assembly.masking import mask_and_grid, possible_factors
from pipeline.configuration.settings import Settings
from tests.examples import examples
from tests.unit.blocked import blocked_components, blocked_threshold


def write_mask(path: Path, inside: np.ndarray, axes: str, chunks: tuple[int, ...] | None = None) -> str:
    address = f"{path}/mask.n5:inside"
    create_volume(Address.parse(address), inside.shape, chunks or inside.shape, "uint8", {"axes": list(axes)})
    volume = open_volume(address, "a")
    volume.write(tuple(slice(0, n) for n in inside.shape), inside.astype(np.uint8))
    return address


def upsampled(inside: np.ndarray, axes: str, factors: tuple[int, ...], grid: Grid) -> np.ndarray:
    """The oracle: each voxel repeated, cut to the grid's shape, the same for all times."""
    for axis, f in enumerate(factors):
        inside = inside.repeat(f, axis)
    inside = inside.transpose([axes.index(axis) for axis in grid.axes if axis in axes])
    if "t" in grid.axes and "t" not in axes:
        inside = inside[None].repeat(grid.shape[0], 0)
    return inside[tuple(slice(0, n) for n in grid.shape)]


@settings(max_examples=examples(25))
@given(data=st.data())
def test_read_and_survey_equal_the_whole_mask(tmp_path_factory, data):
    axes = data.draw(st.sampled_from(["yx", "zyx", "tyx"]))
    shape = tuple(data.draw(st.integers(1, 3 if axis == "t" else 20)) for axis in axes)
    blocks = tuple(
        1 if axis == "t" else data.draw(st.integers(1, n + 2)) for axis, n in zip(axes, shape, strict=True)
    )
    grid = Grid(axes, shape, blocks, data.draw(st.sampled_from([None, tuple((n // 3, n) for n in shape)])))
    mask_axes = "".join(data.draw(st.permutations(axes)))
    if "t" in axes and data.draw(st.booleans()):
        mask_axes = mask_axes.replace("t", "")
    factors = tuple(1 if axis == "t" else data.draw(st.integers(1, 4)) for axis in mask_axes)
    coarse = tuple(-(-shape[axes.index(axis)] // f) for axis, f in zip(mask_axes, factors, strict=True))
    inside = np.random.default_rng(data.draw(st.integers(0, 999))).random(coarse) < 0.2
    folder = tmp_path_factory.mktemp("mask")
    chunks = tuple(data.draw(st.integers(1, n)) for n in coarse)
    mask = Mask(address=write_mask(folder, inside, mask_axes, chunks), axes=mask_axes, factors=factors)
    expected = upsampled(inside, mask_axes, factors, grid)
    reader = MaskReader(mask, axes)
    for block in grid:
        np.testing.assert_array_equal(reader.read(block.write_box), expected[block.write_box])
    if any(expected[block.write_box].any() for block in grid):
        left = masked(mask, grid, str(folder), watch_files=True)
        wanted = {block.id for block in grid if expected[block.write_box].any()}
        assert set(left.ids()) == wanted


def test_what_was_found_is_kept_until_the_mask_changes(tmp_path):
    inside = np.zeros((8, 8), np.uint8)
    inside[1, 1] = 1
    mask = Mask(address=write_mask(tmp_path, inside, "yx"), axes="yx", factors=(2, 2))
    grid = Grid("yx", (16, 16), (4, 4))
    first = survey(mask, grid, str(tmp_path), watch_files=True)
    assert not (tmp_path / SURVEY).exists(), "only a run writes"
    keep_survey(mask, grid, str(tmp_path), watch_files=True)
    written = (tmp_path / SURVEY).stat().st_mtime_ns
    assert survey(mask, grid, str(tmp_path), watch_files=True).digest == first.digest
    keep_survey(mask, grid, str(tmp_path), watch_files=True)
    assert (tmp_path / SURVEY).stat().st_mtime_ns == written
    with np.load(tmp_path / SURVEY) as kept:
        np.testing.assert_array_equal(kept["checksums"], first.checksums)
    inside[7, 7] = 1
    open_volume(mask.address, "a").write((slice(0, 8), slice(0, 8)), inside)
    second = survey(mask, grid, str(tmp_path), watch_files=True)
    changed = [
        index for index in itertools.product(range(4), range(4)) if first.checksums[index] != second.checksums[index]
    ]  # only the block below the changed voxel
    assert changed == [(3, 3)]
    (tmp_path / SURVEY).write_bytes(b"cut off")
    assert survey(mask, grid, str(tmp_path), watch_files=True).digest == second.digest


@settings(max_examples=examples(80))
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    block_shape=st.tuples(*[st.integers(2, 22)] * 3),
    sigma=st.tuples(*[st.sampled_from([0.0, 0.3, 1.0, 2.5])] * 3),
    threshold=st.sampled_from([0.0, 0.25, 0.5]),
    density=st.sampled_from([0.02, 0.5, 0.98, 1.0]),
    dtype=st.sampled_from(["float32", "uint8"]),
    seed=st.integers(0, 2**32 - 1),
)
@example((20, 20, 20), (7, 7, 7), (1.0, 1.0, 1.0), 0.5, 1.0, "float32", 3)
def test_threshold_equals_whole_volume(shape, block_shape, sigma, threshold, density, dtype, seed):
    """What lies inside alone is averaged, with the Gaussian's weights."""
    random = np.random.default_rng(seed)
    inside = random.random(shape) < density
    probabilities = random.random(shape, np.float32)
    if dtype == "uint8":
        probabilities = (probabilities * 255).astype(np.uint8)
    probabilities[~inside] = 0
    found = blocked_threshold(probabilities, sigma, threshold, Grid("zyx", shape, block_shape), inside)
    weight = gaussian(inside.astype(np.float32), sigma)
    weight[~inside] = 1
    expected = (gaussian(probabilities, sigma) / weight > threshold) & inside
    np.testing.assert_array_equal(found, expected)
    if inside.all():
        np.testing.assert_array_equal(found, gaussian(probabilities, sigma) > threshold)


def test_the_border_of_a_mask_draws_no_value_down():
    probabilities = np.full((20, 20), 0.6, np.float32)
    inside = np.zeros((20, 20), bool)
    inside[3:9, 2:15] = True
    probabilities[~inside] = 0
    found = blocked_threshold(probabilities, (2.0, 2.0), 0.59, Grid("yx", (20, 20), (6, 6)), inside)
    np.testing.assert_array_equal(found, inside)


@settings(max_examples=examples(80))
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    block_shape=st.tuples(*[st.integers(1, 5)] * 3),
    foreground=st.sampled_from([0, 1]),
    connectivity=st.sampled_from([6, 18, 26]),
    seed=st.integers(0, 2**32 - 1),
)
def test_components_equal_whole_volume_and_blocks_outside_are_left_out(
    shape, block_shape, foreground, connectivity, seed
):
    random = np.random.default_rng(seed)
    coarse = random.random([-(-n // 3) for n in shape]) < 0.5
    grid = Grid("zyx", shape, block_shape)
    coarse.flat[0] = True  # a mask of zeros is refused before any work
    inside = upsampled(coarse, "zyx", (3, 3, 3), grid)
    mask = ((random.random(shape) < 0.5) & inside).astype(np.uint8)
    kept = np.zeros(grid.blocks_per_axis, bool)
    for block in grid:
        kept[block.index] = inside[block.write_box].any()
    found, _ = blocked_components(
        mask, foreground, connectivity, replace(grid, kept=pack_blocks(kept)), inside=inside
    )
    objects = inside & ((mask != 0) if foreground else (mask == 0))
    np.testing.assert_array_equal(found, label(objects, connectivity={6: 1, 18: 2, 26: 3}[connectivity]))


@given(st.integers(1, 300), st.integers(1, 60))
def test_possible_factors_are_those_that_fit(length, mask_length):
    fitting = [f for f in range(1, length + 1) if -(-length // f) == mask_length]
    found = list(possible_factors(length, mask_length))
    assert found == (fitting if mask_length > 1 else [length])


@pytest.mark.parametrize(
    ("shape", "axes", "factor", "said"),
    [
        ((8, 8, 8), "zyx", None, "has axes zyx, shape (8, 8, 8); the volume has yx"),
        ((9, 16), "yx", None, "9 along y, where the volume has 16; a mask that is coarser by a whole number f"),
        ((3, 16), "yx", None, "3 along y, where the volume has 16: it is coarser by 6 to 7; say so with"),
        ((8, 16), "yx", (3, 1), "8 along y, where the volume has 16: it is coarser by 2, not 3"),
        ((8, 16), "yx", (2,), "blocks.mask_factor: [2] has 1 numbers, but"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, shape, axes, factor, said):
    address = write_mask(tmp_path, np.ones(shape, np.uint8), axes)
    with pytest.raises(UserError) as error:
        mask_and_grid(configuration(tmp_path, mask=address, mask_factor=factor), Grid("yx", (16, 16), (4, 4)))
    assert said in str(error.value)


def test_a_mask_of_zeros_and_a_factor_without_mask_are_refused(tmp_path):
    grid = Grid("yx", (16, 16), (4, 4), ((0, 8), (0, 16)))
    inside = np.zeros((8, 8), np.uint8)
    inside[4:] = 1
    with pytest.raises(UserError, match="is 0 everywhere in the region of interest"):
        mask_and_grid(configuration(tmp_path, mask=write_mask(tmp_path, inside, "yx")), grid)
    assert not (tmp_path / SURVEY).exists()
    with pytest.raises(UserError, match=r"there is no blocks\.mask"):
        mask_and_grid(configuration(tmp_path, mask_factor=(2, 2)), grid)


def configuration(folder: Path, **blocks: object) -> Settings:
    return Settings.model_validate(
        {"work_dir": str(folder), "raw": "raw.n5:raw", "output": "out.n5", "blocks": blocks,
         "prediction": {"project": "p.ilp"}}
    )  # fmt: skip
