"""Pyramids in object stores: written by steps, read by TensorStore, taken away again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorstore as ts

from blockwise.volume import Address, open_volume
from blockwise.volume.formats import open_store
from blockwise.volume.groups import group_attributes
from pipeline import PyramidWorkflow
from pipeline.__main__ import main
from tasks.pyramid.coarser import Method, coarser
from tests.runs import Project

METHODS: dict[str, Method] = {"probabilities": "mean", "connected_components": "mode"}


CASES = [("s3", ".n5", None), ("gs", ".zarr", None), ("s3", ".ome.zarr", [36, 18, 32])]


@pytest.mark.parametrize(("scheme", "ending", "shards"), CASES)
def test_pyramids_in_stores(
    project: Project, scheme: str, ending: str, shards: list[int] | None, s3_server: str, gs_server: str
) -> None:
    options = f"?endpoint={s3_server}" if scheme == "s3" else ""
    output = f"{scheme}://bucket/{project.folder.parent.name}/pyramid{ending}"
    project.change("pyramid", {"scales": 2, "datasets": list(METHODS), "output": output + options, "shards": shards})
    found = project.run(workflow=PyramidWorkflow)
    assert found.ok, found.text
    assert project.run(workflow=PyramidWorkflow).computed == {}
    container = Address.parse(output + options)
    for name, method in METHODS.items():
        volume = open_volume(f"result.n5:{name}")
        expected = volume.read(tuple(slice(0, n) for n in volume.shape))
        below = name == "connected_components" and ending != ".n5"
        place = f"probabilities/labels/{name}" if below else name
        assert group_attributes(container.within(place))
        for number in range(2):
            scale = container.within(f"{place}/{'s' * (ending == '.n5')}{number}")
            np.testing.assert_array_equal(read(scale, ending, shards), expected, strict=True)
            expected = coarser(expected, (1,) * (expected.ndim - 3) + (2, 2, 2), method)
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    assert open_store(container).array_keys() == []


def read(scale: Address, ending: str, shards: Any) -> np.ndarray:
    driver = "n5" if ending == ".n5" else "zarr3" if shards else "zarr"
    spec = {"driver": driver, "kvstore": open_store(scale).kvstore(scale.key)}
    array = ts.open(spec).result().read().result()
    return array.T if ending == ".n5" else array
