"""Pyramids in object stores: written by steps, read by TensorStore, taken away again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorstore as ts
from numpy.typing import NDArray

from blockwise.volume import Address, open_volume
from blockwise.volume.formats import open_store
from blockwise.volume.groups import group_attributes
from pipeline import PyramidWorkflow
from pipeline.__main__ import main
from tasks.pyramid.coarser import Method, coarser
from tests.runs import Project

METHODS: dict[str, Method] = {"probabilities": "mean", "connected_components": "mode"}


SOAK = pytest.mark.soak
CASES = [
    pytest.param("s3", ".n5", None, marks=SOAK),
    pytest.param("gs", ".zarr", None, marks=SOAK),
    pytest.param("s3", ".precomputed", None, marks=SOAK),
    pytest.param("s3", ".ome.zarr", [36, 18, 32], marks=SOAK),
    ("gs", ".precomputed", None),
]


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
        group = place_of(container, name, ending)
        assert group_attributes(group)
        for number in range(2):
            np.testing.assert_array_equal(read(group, number, ending, shards), expected)
            expected = coarser(expected, (1,) * (expected.ndim - 3) + (2, 2, 2), method)
    assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
    for name in METHODS:
        group = place_of(container, name, ending)
        assert group_attributes(group) is None
        assert open_store(group).array_keys() == []


def place_of(container: Address, name: str, ending: str) -> Address:
    """The group of a dataset's scales."""
    if ending == ".precomputed":
        return Address(f"precomputed://{container.location}/{name}", "", container.options)
    return container.within(f"probabilities/labels/{name}" if name != "probabilities" and ending != ".n5" else name)


def read(group: Address, number: int, ending: str, shards: Any) -> NDArray[Any]:
    """A scale, as TensorStore finds it by itself."""
    store = open_store(group)
    if ending == ".precomputed":
        spec = {"driver": "neuroglancer_precomputed", "scale_index": number, "kvstore": store.kvstore("")}
        array = ts.open(spec).result().read().result().T
        return array if len(array) > 1 else array[0]
    key = f"{group.key}/{'s' * (ending == '.n5')}{number}"
    driver = "n5" if ending == ".n5" else "zarr3" if shards else "zarr"
    array = ts.open({"driver": driver, "kvstore": store.kvstore(key)}).result().read().result()
    return array.T if ending == ".n5" else array
