"""Slices in the viewer: as they lay before they were aligned, on the volume that was made of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import imageio.v3
import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from blockwise.run import run_step
from blockwise.volume import Volume, create_volume, open_volume
from pipeline.__main__ import main
from pipeline.assembly.stacks.unaligned import finished_steps
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import Blocks, Settings, load_settings
from pipeline.viewing.aside import steps_aside
from pipeline.viewing.images.layers import layers_of
from pipeline.viewing.site import Site
from tasks.stacks.unmoved import UnmovedSlices, common_shift
from tests.runs import ROOT, InlineBackend, Run
from tests.stacks import Stack
from tests.viewer import TOKEN, Served, served

BEFORE = "slices_before_alignment"
MISSING, BLANK = 9, 15


def with_objects(stack: Stack, **prediction: Any) -> Settings:
    """The configuration of a stack, of which objects are to be made, too."""
    values = yaml.safe_load((stack.folder / "config.yaml").read_text())
    values["prediction"] = {"project": str(ROOT / "data" / "membranes_thin.ilp"), **prediction}
    values["blocks"] = {"shape": [24, 80, 80]}
    values["raw"] = {"voxel_size": [40, 8, 8], "voxel_unit": "nm"}
    (stack.folder / "config.yaml").write_text(yaml.safe_dump(values))
    return load_settings("config.yaml")


def expected(stack: Stack, shape: tuple[int, ...], x: int, y: int) -> NDArray[Any]:
    """All slices that there are, with one shift."""
    found = np.zeros(shape, np.uint8)
    for z in range(24):
        if z != MISSING:
            image = stack.pixels(z)
            found[z, y : y + image.shape[0], x : x + image.shape[1]] = image
    return found


@pytest.mark.parametrize("virtual", [False, True])
def test_slices_are_shown_as_they_lay_beside_the_aligned_volume(stack: Stack, *, virtual: bool) -> None:
    aligned = stack.volume()
    left, top = stack.placed().aligned.canvas[:2]
    stack.write(virtual=virtual)
    stack.run(report=True)
    with served(lambda: Site.of(build_steps(with_objects(stack)))) as shown:
        about = {layer["name"]: layer for layer in shown.api("/layers").json["layers"]}
        assert list(about)[:3] == ["raw", BEFORE, "probabilities"]
        for key in ("shape", "axes", "dtype", "spacing", "units"):
            assert about[BEFORE][key] == about["raw"][key], "one place is one place in both"
        assert about[BEFORE]["finished"]
        np.testing.assert_array_equal(shown.read_all(shown.path("raw")), aligned)
        before = shown.read_all(shown.path(BEFORE))
        np.testing.assert_array_equal(before, expected(stack, aligned.shape, -left, -top))
        assert before[BLANK].any(), "what was filled is shown as it is"
        assert (before != aligned).any((1, 2)).sum() > 15
        np.testing.assert_array_equal(shown.roi(BEFORE, "3,20,0", "5,60,158"), before[3:5, 20:60])
        states = first_layers(shown)
        assert states["raw (aligned)"] == (True, "raw")
        assert states["slices before alignment"] == (False, BEFORE)
        assert states["tissue"][1] == "tissue"
        assert "mask" not in states, "tissue is not called as the mask that a threshold makes"


def first_layers(shown: Served) -> dict[str, tuple[bool, str]]:
    """Whether the page shows each layer at first, and the layer's name in addresses; by its title."""
    state = asyncio.run_coroutine_threadsafe(shown.site.state(TOKEN), shown.loop).result(60)
    return {layer["name"]: (layer["visible"], layer["source"]["url"].split("/")[-3]) for layer in state["layers"]}


def test_a_stack_of_which_nothing_is_made_is_shown_too(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["view", "--config", "config.yaml", "--once", f"{BEFORE}:3:5,0:158,0:158", "box.npy"]
    left, top = stack.placed().aligned.canvas[:2]
    with served(lambda: Site.of(finished_steps(load_settings("config.yaml")))) as shown:
        assert list(first_layers(shown)) == ["raw (aligned)", "slices before alignment", "tissue"]
        np.testing.assert_array_equal(shown.read_all(shown.path("raw")), stack.volume())
        np.testing.assert_array_equal(shown.read_all(shown.path("tissue")), stack.volume("tissue"))
        before = shown.read_all(shown.path(BEFORE))
        np.testing.assert_array_equal(before, expected(stack, (24, 158, 158), -left, -top))
        assert {step["step"]: step["finished"] for step in shown.api("/status").json["steps"]} == dict.fromkeys(
            ["slices", "slice_features", "slice_pairs", "alignment", "alignment_report", "aligned", "tissue"], True
        )
        assert shown.api("/trials").status == 409
    assert main(command) == 0
    np.testing.assert_array_equal(np.load("box.npy"), before[3:5])
    imageio.v3.imwrite(stack.slice(2), stack.pixels(2)[::-1])
    assert main(command) == 40
    assert "are not aligned yet, or have changed since" in capsys.readouterr().err


@pytest.mark.soak
def test_what_is_computed_beside_a_result_of_other_settings_keeps_to_the_tissue(stack: Stack) -> None:
    settings = with_objects(stack)
    step = build_steps(
        settings.model_copy(update={"blocks": Blocks(shape=(24, 80, 80), roi=((0, 4), (70, 74), (70, 74)))})
    ).prediction
    run_step(step, InlineBackend(Run()), 1, lambda _: None)
    settings = with_objects(stack, dtype="uint8")
    steps, notes = steps_aside(settings, build_steps(settings))
    assert len(notes) == 1
    assert "work/live" in steps.prediction.address
    assert steps.prediction.mask is not None
    assert steps.prediction.mask.address == "result.n5:tissue"
    assert list(layers_of(steps))[:3] == ["raw", BEFORE, "probabilities"]


def small_stack(stack: Stack, images: dict[int, NDArray[Any]], shifts: dict[int, tuple[float, float]]) -> None:
    """Slices of one's own, with shifts that are given: nothing is estimated."""
    for z in range(24):
        stack.slice(z).unlink(missing_ok=True)
    for z, image in images.items():
        tifffile.imwrite(stack.folder / "slices" / f"s{z}.tif", image)
    matrices = {str(z): [[1, 0, x], [0, 1, y]] for z, (x, y) in shifts.items()}
    (stack.folder / "mine.json").write_text(json.dumps({"transforms": matrices, "flagged": []}))
    stack.write(slices="slices/s*.tif", transforms="mine.json", fill=7)


def noise(height: int, width: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(height * width).integers(20, 200, (height, width)).astype(dtype)


def read_whole(volume: Volume) -> NDArray[Any]:
    return volume.read(tuple(slice(0, n) for n in volume.shape))


@pytest.mark.parametrize(
    ("shifts", "canvas", "place"),
    [
        ({3: (0, 0), 4: (4, -2), 6: (-1, 3)}, "union", (1, 2)),
        ({3: (1000, -500), 4: (1004, -502), 6: (999, -497)}, "union", (0, 2)),
        ({3: (0, 0), 4: (4, -2), 6: (-1, 3)}, "crop", (-4, -3)),
    ],
)
def test_slices_of_all_sizes_lie_on_the_canvas_with_one_shift(
    unused_stack: Stack, shifts: dict[int, tuple[float, float]], canvas: str, place: tuple[int, int]
) -> None:
    images = {3: noise(20, 30), 4: noise(20, 26), 6: noise(17, 30)}
    small_stack(unused_stack, images | {5: noise(9, 90, "uint8"), 7: noise(19, 28)}, shifts)
    unused_stack.write(canvas=canvas, bad_slices="fill", exclude=[7])
    (unused_stack.folder / "slices" / "s8.tif").write_bytes(b"no image")
    unused_stack.run()
    placed = unused_stack.placed().aligned
    found = read_whole(UnmovedSlices(placed, "slices/s*.tif"))
    assert found.dtype == np.uint16
    assert found.shape == unused_stack.volume().shape
    whole = np.full((6, 200, 200), 7, np.uint16)
    for z, image in (images | {7: noise(19, 28)}).items():
        x, y = 50 + place[0], 50 + place[1]
        whole[z - 3, y : y + image.shape[0], x : x + image.shape[1]] = image
    np.testing.assert_array_equal(found, whole[:, 50 : 50 + found.shape[1], 50 : 50 + found.shape[2]])


def test_planes_of_a_volume_in_many_files_are_watched_one_by_one(unused_stack: Stack) -> None:
    images = {z: noise(20, 30, "uint16") + np.uint16(z) for z in range(4)}
    small_stack(unused_stack, {}, {z: (0, z) for z in range(4)})
    unused_stack.write(slices="given.n5:raw")
    create_volume("given.n5:raw", (4, 20, 30), (1, 10, 30), "uint16", {"axes": ["z", "y", "x"]})
    for z, image in images.items():
        open_volume("given.n5:raw", "a").write((slice(z, z + 1), slice(0, 20), slice(0, 30)), image[None])
    unused_stack.run()
    slices = UnmovedSlices(unused_stack.placed().aligned, "given.n5:raw")
    expected = np.full((4, 23, 30), 7, np.uint16)
    expected[:, :20] = list(images.values())
    np.testing.assert_array_equal(read_whole(slices), expected)
    before = slices.file_states()
    open_volume("given.n5:raw", "a").write((slice(2, 3), slice(10, 20), slice(0, 30)), images[0][None, :10])
    assert np.flatnonzero((slices.file_states() != before).any((1, 2, 3))).tolist() == [2]


@given(
    *[st.integers(-60, 60)] * 2, *[st.integers(1, 50)] * 2, st.lists(st.tuples(*[st.integers(1, 50)] * 2), min_size=1)
)
def test_slices_stay_where_they_are_as_far_as_they_fit(
    left: int, top: int, width: int, height: int, sizes: list[tuple[int, int]]
) -> None:
    shift = common_shift((left, top, width, height), sizes)
    for start, at, length, largest in zip((left, top), shift, (width, height), np.max(sizes, 0), strict=True):
        if largest <= length:
            assert 0 <= at <= length - largest, "whole"
        else:
            assert length - largest <= at <= 0, "no part of the canvas is left empty by the largest"
        if min(0, length - largest) <= -start <= max(0, length - largest):
            assert at == -start, "as in the common frame"
