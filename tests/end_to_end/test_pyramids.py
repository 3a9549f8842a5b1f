"""Coarser scales as steps of a run: their voxels, what is computed again, and who reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.volume import open_volume
from tasks.pyramid.coarser import coarser
from tests.runs import Project


def everything(address: str) -> NDArray[Any]:
    volume = open_volume(address)
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def expected_scales(finest: NDArray[Any], method: str, number: int) -> list[NDArray[Any]]:
    found = [finest]
    for _ in range(number - 1):
        factors = (1,) * (finest.ndim - 3) + tuple(2 if n > 1 else 1 for n in found[-1].shape[-3:])
        found.append(coarser(found[-1], factors, method))
    return found


METHODS = {"probabilities": "mean", "thresholded": "mode", "connected_components": "mode"}


def test_scales_of_a_finished_run(project: Project) -> None:
    project.change("pyramid.scales", 4)
    run = project.run()
    assert run.ok, run.text
    assert not {"prediction", "threshold", "connected_components"} & run.computed.keys()
    for name, method in METHODS.items():
        finest = everything(f"result.n5:{name}")
        for number, expected in enumerate(expected_scales(finest, method, 4)):
            found = everything(f"result.n5:pyramid/{name}/s{number}")
            np.testing.assert_array_equal(found, expected, err_msg=f"{name} {number}", strict=True)
    assert project.run().computed == {}
