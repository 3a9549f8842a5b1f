"""Slices in the viewer: as they lay before they were aligned, on the volume that was made of them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings
from pipeline.viewing.site import Site
from tests.runs import ROOT
from tests.stacks import Stack
from tests.viewer import TOKEN, Served, served

BEFORE = "slices_before_alignment"
MISSING, BLANK = 9, 15


def with_objects(stack: Stack, **alignment: Any) -> Site:
    """The site of a stack that is aligned, and of which objects are to be made."""
    stack.write(**alignment)
    stack.run(report=True)
    values = yaml.safe_load((stack.folder / "config.yaml").read_text())
    values["prediction"] = {"project": str(ROOT / "data" / "membranes_thin.ilp")}
    values["blocks"] = {"shape": [24, 80, 80]}
    values["raw"] = {"voxel_size": [40, 8, 8], "voxel_unit": "nm"}
    (stack.folder / "config.yaml").write_text(yaml.safe_dump(values))
    return Site.of(build_steps(load_settings("config.yaml")))


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
    with served(lambda: with_objects(stack, virtual=virtual)) as shown:
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
