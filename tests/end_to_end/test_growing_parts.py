"""Regions and masks that grow and shrink over finished results: what is done again, and that this is enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blockwise.plan import begin, is_complete, plan_step
from pipeline.__main__ import main
from pipeline.running.session import end_sessions
from tests.end_to_end.test_parts import assert_is_whole_volume, write_mask
from tests.runs import BLOCK, SHAPE, Project

Ends = list[list[int]]
WHOLE = [[0, n] for n in SHAPE]


def box_of(roi: Ends) -> tuple[slice, ...]:
    return tuple(slice(*ends) for ends in roi)


def test_a_region_that_grows_by_a_block_computes_that_block(unused: Project, expected: Any) -> None:
    roi = [[0, 36], [0, 18], [0, 64]]
    unused.change("blocks.roi", roi)
    assert unused.run().computed["prediction"] == [0, 1]
    roi[2][1] = 96
    unused.change("blocks.roi", roi)
    run = unused.run()
    assert run.computed["prediction"] == [2]
    assert run.computed["threshold"] == [1, 2], "block 0 is out of reach of the former border"
    assert "the region has grown: 1 of 3 blocks were cut by its former border" in run.text
    assert_is_whole_volume(unused, expected["probabilities"], box_of(roi), np.ones(SHAPE, bool))
    assert unused.run().computed == {}
    # Ids are given in raster order, so these may change in every block; here they do not in all.
    roi[1][1] = 20  # cuts blocks 4, 5, 6; those before end where they ended
    unused.change("blocks.roi", roi)
    assert unused.run().computed["prediction"] == [4, 5, 6]
    roi[1][1] = 36
    unused.change("blocks.roi", roi)
    run = unused.run()
    assert run.computed["prediction"] == [4, 5, 6], "they write more than before, of the same files of raw data"
    assert_is_whole_volume(unused, expected["probabilities"], box_of(roi), np.ones(SHAPE, bool))


@pytest.mark.soak
def test_a_mask_that_grows_by_a_block_stops_where_nothing_differs(unused: Project, expected: Any) -> None:
    inside = np.zeros(SHAPE, bool)
    inside[:, :18, :30] = inside[:, :18, 100:] = True
    write_mask(inside)
    unused.change("blocks.mask", "mask.n5:inside")
    assert unused.run().computed["prediction"] == [0, 3]
    inside[4:30, 25:34, 100:120] = True
    write_mask(inside)
    run = unused.run()
    assert run.computed["prediction"] == [7]
    assert run.computed["threshold"] == [3, 7], "block 3 lies beside the new one"
    assert run.computed["component_faces"] == [7], (
        "the new voxels are out of reach of block 3, which is the same as before"
    )
    assert_is_whole_volume(unused, expected["probabilities"], box_of(WHOLE), inside)
    assert unused.run().computed == {}


@pytest.mark.soak
def test_whoever_dies_while_a_region_grows_leaves_nothing_that_counts(unused: Project, expected: Any) -> None:
    roi = [[0, 36], [0, 36], [0, 50]]
    unused.change("blocks.roi", roi)
    assert unused.run().ok
    roi[2][1] = 60
    unused.change("blocks.roi", roi)
    assert unused.run().ok
    record = json.loads(Path(unused.step("prediction").folder, "output.json").read_text())
    assert record["region"]["roi"] == roi
    unused.change("blocks.roi", [[0, 36], [0, 36], [0, 64]])
    step = unused.step("prediction")
    assert not is_complete(step)
    begin(step, plan_step(step))  # and dies
    assert [item.block for item in plan_step(step).items] == [1, 5]
    assert unused.run().ok
    assert_is_whole_volume(
        unused, expected["probabilities"], box_of([[0, 36], [0, 36], [0, 64]]), np.ones(SHAPE, bool)
    )


@pytest.mark.soak
def test_without_the_record_of_what_a_region_was_all_is_done_again(unused: Project, expected: Any) -> None:
    unused.change("blocks.roi", [[0, 36], [0, 36], [0, 50]])
    assert unused.run().ok
    unused.change("blocks.roi", WHOLE)
    assert unused.run().computed["prediction"] == [1, 2, 3, 5, 6, 7]
    Path("work/known.json").unlink()
    roi = [[0, 36], [0, 36], [0, 50]]  # the fingerprint of the first run, whose folder holds blocks of the second
    unused.change("blocks.roi", roi)
    run = unused.run()
    assert run.computed["prediction"] == [0, 1, 4, 5]
    assert_is_whole_volume(unused, expected["probabilities"], box_of(roi), np.ones(SHAPE, bool))


@pytest.mark.soak
def test_verify_reads_what_was_computed_as_large_as_it_is_now(
    unused: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = [[0, 36], [0, 18], [0, 50]], [[0, 36], [0, 18], [0, 80]]
    for roi in (small, large):
        unused.change("blocks.roi", roi)
        assert unused.run().ok
    for roi, message in ((small, "prediction: 0 blocks read"), (WHOLE, "prediction: 2 blocks read")):
        unused.change("blocks.roi", roi)
        assert main(["verify", "--config", "config.yaml"]) == 0
        assert main(["status", "--config", "config.yaml"]) == 0
        end_sessions()
        text = capsys.readouterr().out
        assert message in text
        assert text.count(" no") >= 6, "no step is finished in this region"
    unused.change("blocks.roi", large)
    assert unused.run().computed == {}


def changed(roi: Ends, inside: np.ndarray, rng: np.random.Generator) -> None:
    """Move an end of the region, or mark or clear a box of the mask; mostly they grow."""
    axis = int(rng.integers(3))
    grows = rng.random() < 0.8
    if rng.random() < 0.5:
        step = int(rng.choice([1, 7, BLOCK[axis]])) * (1 if grows else -1)
        low, high = roi[axis]
        if rng.random() < 0.5:
            low = min(max(0, low - step), high - 5)
        else:
            high = max(min(SHAPE[axis], high + step), low + 5)
        roi[axis] = [max(0, low), high]
    else:
        start = [int(rng.integers(n - 8)) for n in SHAPE]
        inside[tuple(slice(s, s + int(rng.integers(4, 40))) for s in start)] = grows


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(30))
def test_at_random(seed: int, unused: Project, expected: Any) -> None:
    rng = np.random.default_rng(seed)
    roi = [[4, 30], [3, 20], [10, 70]]
    inside = np.zeros(SHAPE, bool)
    inside[2:34, 4:34, 12:66] = True
    unused.change("blocks.mask", "mask.n5:inside")
    for _ in range(4):
        for _ in range(int(rng.integers(1, 3))):
            changed(roi, inside, rng)
        if not inside[box_of(roi)].any():
            inside[box_of(roi)] = True
        write_mask(inside)
        unused.change("blocks.roi", roi)
        assert unused.run().ok
        assert_is_whole_volume(unused, expected["probabilities"], box_of(roi), inside)
        assert unused.run().computed == {}
