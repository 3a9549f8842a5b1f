"""Scales as steps, against the whole volume: for every block shape, with parts left out, with channels and time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blockwise.backends import Outcome
from blockwise.grid import Grid, pack_blocks
from blockwise.run import run_step
from blockwise.step import load_step
from blockwise.volume import create_volume, open_volume
from blockwise.volume.info import VolumeInfo
from tasks.pyramid.coarser import Method, coarser
from tasks.pyramid.layouts import Image, scale_name
from tasks.pyramid.scale_step import ScaleStep
from tasks.pyramid.scales import coarser_grid, coarser_scales
from tests.examples import examples
from tests.runs import ROOT, InlineBackend, Run


def scale_steps(
    folder: Path,
    raw: VolumeInfo,
    grid: Grid,
    chunks: tuple[int, ...],
    factors: Sequence[tuple[int, ...]],
    method: Method = "mean",
) -> list[ScaleStep]:
    """A copy of a volume, and coarser scales of it."""
    axes = "".join(axis for axis in "tczyx" if axis in raw.axes)
    ones = (1,) * len(axes)
    described = Image(
        name="raw", axes=axes, steps=(1.0,) * len(axes), units=("",) * len(axes),
        factors=(ones,) * (len(factors) + 1), method=method, is_label=False,
    )  # fmt: skip
    found: list[ScaleStep] = []
    for number, step in enumerate([(1,) * len(grid.axes), *factors]):
        grid = coarser_grid(grid, step)
        found.append(
            ScaleStep(
                work_dir=f"{folder}/work",
                variant=f"{number}_raw",
                grid=grid,
                before=found[-1] if found else None,
                raw=None if found else raw,
                factors=step,
                method=method,
                number=number,
                group_layout="n5",
                image=described,
                address=f"{folder}/out.n5:raw/{scale_name('n5', number)}",
                chunks=chunks,
            )
        )
    return found


def write(folder: Path, data: NDArray[Any], axes: str, chunks: tuple[int, ...]) -> VolumeInfo:
    address = f"{folder}/raw.n5:raw"
    create_volume(address, data.shape, chunks, data.dtype.name, {"axes": list(axes)})
    open_volume(address, "a").write(tuple(slice(0, n) for n in data.shape), data)
    return VolumeInfo(address=address, axes=axes, shape=data.shape, dtype=data.dtype.str, chunks=chunks)


def run(*steps: ScaleStep) -> dict[str, list[int]]:
    """Bring steps up to date; the blocks that were computed, by step. Each goes through JSON, as for a worker."""
    record = Run()
    for step in steps:
        outcome: Outcome = run_step(load_step(step.to_json()), InlineBackend(record), 1, lambda _: None)
        assert not outcome.failed, outcome
        assert not outcome.stopped
    return record.computed


def read(step: ScaleStep) -> NDArray[Any]:
    volume = open_volume(step.address)
    return volume.read(tuple(slice(0, n) for n in volume.shape))


@st.composite
def pyramids(draw: st.DrawFn):
    axes = draw(st.sampled_from(["zyx", "yx", "tzyx", "czyx", "zyxc", "tczyx", "tyx"]))
    named = {axis: draw(st.integers(1, 2 if axis in "tc" else 13)) for axis in axes}
    spatial = [axis for axis in "zyx" if axis in axes]
    grid_axes = "".join(axis for axis in "tzyx" if axis in axes)
    chunks = {axis: draw(st.integers(2, 5)) if axis in spatial else 1 for axis in grid_axes}
    blocks = {axis: chunks[axis] * draw(st.integers(1, 2)) if axis in spatial else 1 for axis in grid_axes}
    roi = None
    if draw(st.booleans()):
        low = {axis: draw(st.integers(0, named[axis] - 1)) for axis in grid_axes}
        roi = tuple((low[axis], draw(st.integers(low[axis] + 1, named[axis]))) for axis in grid_axes)
    grid = Grid(grid_axes, tuple(named[a] for a in grid_axes), tuple(blocks[a] for a in grid_axes), roi)
    if draw(st.booleans()):
        size = grid.blocks_per_axis
        kept = np.random.default_rng(draw(st.integers(0, 99))).random(size) < 0.5
        masked = Grid(grid.axes, grid.shape, grid.block_shape, roi, pack_blocks(kept))
        grid = masked if len(masked) else grid
    factors = [
        tuple(draw(st.sampled_from([1, 2])) if axis in spatial else 1 for axis in grid_axes)
        for _ in range(draw(st.integers(1, 2)))
    ]
    shape = tuple(named[axis] for axis in axes)
    data = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 4, shape, np.uint8)
    return axes, data, grid, tuple(chunks.values()), factors, draw(st.sampled_from(["mean", "mode"]))


def computed_part(data: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """What of a volume with the grid's axes last a grid computes; 0 elsewhere."""
    found = np.zeros_like(data)
    for block in grid:
        box = block.write_box if data.ndim == len(block.write_box) else (
            (*block.write_box[: grid.axes.count("t")], slice(None), *block.write_box[grid.axes.count("t") :])
        )  # fmt: skip
        found[box] = data[box]
    return found


@settings(max_examples=examples(12), deadline=None)
@given(pyramids())
def test_scales_are_those_of_the_whole_volume(case) -> None:
    check_whole(case)


@pytest.mark.soak
@settings(max_examples=examples(300), deadline=None)
@given(pyramids())
def test_many_more_of_them(case) -> None:
    check_whole(case)


def check_whole(case) -> None:
    axes, data, grid, chunks, factors, method = case
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = write(folder, data, axes, tuple(min(2, n) for n in data.shape))
        steps = scale_steps(folder, raw, grid, chunks, factors, method)
        run(*steps)
        ordered = "".join(axis for axis in "tczyx" if axis in axes)
        expected = computed_part(data.transpose([axes.index(axis) for axis in ordered]), grid)
        for step, each in zip(steps, [(1,) * len(grid.axes), *factors], strict=True):
            named = dict(zip(grid.axes, each, strict=True))
            expected = coarser(expected, tuple(named.get(axis, 1) for axis in ordered), method)
            np.testing.assert_array_equal(read(step), expected, strict=True)


@pytest.fixture
def steps(tmp_path: Path) -> list[ScaleStep]:
    """Three scales of 4 x 4 x 4, 2 x 2 x 2 and 1 x 1 x 1 blocks of 8 x 8 x 8 voxels."""
    data = np.random.default_rng(5).integers(0, 256, (32, 32, 32), np.uint8)
    raw = write(tmp_path, data, "zyx", (8, 8, 8))
    return scale_steps(tmp_path, raw, Grid("zyx", data.shape, (8, 8, 8)), (4, 8, 4), [(2, 2, 2)] * 2)


def test_one_changed_block_redoes_one_column_of_coarser_blocks(steps: list[ScaleStep]) -> None:
    computed = run(*steps)
    assert [len(blocks) for blocks in computed.values()] == [64, 8, 1]
    assert run(*steps) == {}
    raw = open_volume(str(steps[0].raw and steps[0].raw.address), "a")
    box = (slice(8, 16), slice(24, 32), slice(0, 8))
    raw.write(box, 255 - raw.read(box))
    computed = run(*steps)
    (finest,) = steps[0].grid.ids_touching(box)
    (coarser_one,) = steps[1].grid.ids_touching((slice(4, 8), slice(12, 16), slice(0, 4)))
    assert computed == {"scale_0_raw": [finest], "scale_1_raw": [coarser_one], "scale_2_raw": [0]}
    whole = raw.read(tuple(slice(0, n) for n in raw.shape))
    np.testing.assert_array_equal(read(steps[2]), coarser(coarser(whole, (2, 2, 2), "mean"), (2, 2, 2), "mean"))


def test_a_change_that_means_do_not_show_ends_there(steps: list[ScaleStep]) -> None:
    run(*steps)
    raw = open_volume(str(steps[0].raw and steps[0].raw.address), "a")
    box = (slice(0, 8),) * 3
    data = raw.read(box)
    data[:2, :2, :2] = data[:2, :2, :2][::-1]  # the same eight voxels in another order
    raw.write(box, data)
    assert run(*steps) == {"scale_0_raw": [0], "scale_1_raw": [0]}


def test_a_lost_chunk_of_a_scale_is_made_again_and_nothing_else(steps: list[ScaleStep]) -> None:
    run(*steps)
    chunk = Path(steps[1].address.partition(":")[0], "raw", "s1", "0", "0", "0")
    content = chunk.read_bytes()
    chunk.unlink()
    assert run(*steps) == {"scale_1_raw": [0]}
    assert chunk.read_bytes() == content


KILLED = """
import os, sys
from blockwise.plan import Item
from blockwise.run import run_step
from blockwise.step import load_step
from tests.runs import InlineBackend, Run

class Dying(InlineBackend):
    def run(self, step, items, referee, report):
        super().run(step, items[:5], referee, report)
        os._exit(9)

for line in sys.stdin:
    run_step(load_step(line), Dying(Run()), 1, lambda _: None)
"""


@pytest.mark.soak
def test_what_a_killed_process_has_done_stays(steps: list[ScaleStep]) -> None:
    run(steps[0])
    text = steps[1].to_json() + "\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED], input=text, text=True, env=environment, check=False)
    assert done.returncode == 9
    assert steps[1].read_target() is None
    assert run(*steps) == {"scale_1_raw": [5, 6, 7], "scale_2_raw": [0]}


@pytest.mark.parametrize(
    ("shape", "axes", "voxel_size", "number", "expected"),
    [
        ((1000, 600), "yx", None, None, [(500, 300), (250, 150)]),
        ((256, 256), "yx", None, None, []),
        ((600, 20, 20), "zyx", None, None, [(300, 10, 10), (150, 5, 5)]),
        ((40, 600, 600), "zyx", (40, 8, 8), None, [(40, 300, 300), (40, 150, 150)]),
        ((40, 64, 64), "zyx", (40, 8, 8), 5, [(40, 32, 32), (40, 16, 16), (20, 8, 8), (10, 4, 4)]),
        ((40, 64, 64), "zyx", (2, 8, 8), 4, [(20, 64, 64), (10, 64, 64), (5, 32, 32)]),
        ((2, 3, 5, 1, 9), "tczyx", None, 9, [(2, 3, 3, 1, 5), (2, 3, 2, 1, 3), (2, 3, 1, 1, 2), (2, 3, 1, 1, 1)]),
    ],
)
def test_which_scales_there_are(shape, axes, voxel_size, number, expected) -> None:
    found = coarser_scales(shape, axes, voxel_size, number)
    assert [scale.shape for scale in found] == expected
    factors = (1,) * len(shape)
    for scale in found:
        factors = tuple(a * b for a, b in zip(factors, scale.step, strict=True))
        assert scale.factors == factors
