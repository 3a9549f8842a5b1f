"""Voxel sizes and units as other programs write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import z5py
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.volume import Spacing, ingest, open_volume
from blockwise.volume.conventions import spacing_in_group, spacing_of
from blockwise.volume.lengths import in_micrometers
from tests.examples import examples

FOUR = (40.0, 4.0, 8.0)
"""Steps along z, y and x."""
X_FIRST = [8.0, 4.0, 40.0]


_WORDS = ("resolution", "units", "axes", "scale", "transform", "pixelResolution", "dimensions", "unit", "path",
          "scales", "downsamplingFactors", "element_size_um", "multiscales", "datasets")  # fmt: skip


def n5(folder: Path, attributes: dict[str, Any], key: str = "image/s0", shape: tuple[int, ...] = (3, 4, 5)) -> str:
    """An array as z5py writes it, with whatever attributes."""
    z5py.File(str(folder / "a.n5"), mode="a").create_dataset(key, shape=shape, chunks=shape, dtype="uint8")
    return told(folder, attributes, key)


def told(folder: Path, attributes: dict[str, Any], key: str) -> str:
    path = folder / "a.n5" / key / "attributes.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**found, **attributes}))
    return f"{folder}/a.n5:{key}"


def cosem(names: str, units: Any = ("nm", "nm", "nm")) -> dict[str, Any]:
    steps = dict(zip("zyx", FOUR, strict=True))
    return {
        "transform": {"axes": list(names), "scale": [steps[a] for a in names], "units": units, "translate": [0] * 3}
    }


@pytest.mark.parametrize(
    "attributes",
    [
        {"pixelResolution": {"dimensions": X_FIRST, "unit": "nm"}},
        {"pixelResolution": {"dimensions": X_FIRST, "unit": "nm"}, "downsamplingFactors": [1, 1, 1]},
        {"pixelResolution": {"dimensions": [4.0, 4.0, 10.0], "unit": "nm"}, "downsamplingFactors": [2, 1, 4]},
        {"resolution": X_FIRST, "units": ["nm"] * 3},
        {"resolution": X_FIRST, "units": "nm"},
        {"axes": ["x", "y", "z"], "resolution": X_FIRST, "units": "nm"},
        {"axes": ["x", "y", "z"], "pixelResolution": {"dimensions": X_FIRST, "unit": "nm"}},
        cosem("xyz"),
        cosem("zyx"),
        cosem("xyz", "nm"),
        # The one that says more of this scale wins.
        {**cosem("zyx"), "pixelResolution": {"dimensions": [1.0, 1.0, 1.0], "unit": "um"}},
    ],
)
def test_n5(attributes: dict[str, Any], tmp_path: Path) -> None:
    volume = open_volume(n5(tmp_path, attributes))
    assert volume.spacing == Spacing(FOUR, ("nm",) * 3)
    assert in_micrometers(volume.spacing, "zyx", "xyz") == (0.008, 0.004, 0.04)


@pytest.mark.parametrize("target", ["b.n5:copy", "b.zarr:copy"])
def test_a_copy_keeps_sizes_though_nobody_names_axes(target: str, tmp_path: Path) -> None:
    address = n5(tmp_path, {"pixelResolution": {"dimensions": X_FIRST, "unit": "nm"}})
    copy = ingest(address, f"{tmp_path}/{target}")
    assert (copy.axes, copy.spacing) == (None, Spacing(FOUR, ("nm",) * 3))


def test_n5_of_several_scales(tmp_path: Path) -> None:
    unit = {"pixelResolution": {"dimensions": X_FIRST, "unit": "nm"}}
    first = n5(tmp_path, {})
    second = n5(tmp_path, {"downsamplingFactors": [2, 2, 1]}, "image/s1")
    third = n5(tmp_path, {}, "image/s2")
    assert open_volume(first).spacing is None
    told(tmp_path, unit, "image")
    assert open_volume(first).spacing == Spacing(FOUR, ("nm",) * 3)
    assert open_volume(second).spacing == Spacing((40.0, 8.0, 16.0), ("nm",) * 3)
    assert open_volume(third).spacing is None, "nobody says how much coarser it is"
    told(tmp_path, {"scales": [[1, 1, 1], [2, 2, 1], [4, 4, 2]]}, "image")
    assert open_volume(third).spacing == Spacing((80.0, 16.0, 32.0), ("nm",) * 3)
    datasets = [{"path": "s0"}, {"path": "s1", **cosem("xyz")}]
    told(tmp_path, {"multiscales": [{"datasets": datasets}]}, "image")
    assert open_volume(second).spacing == Spacing(FOUR, ("nm",) * 3)


def test_channels_have_no_size(tmp_path: Path) -> None:
    more = {"axes": ["c", "x", "y", "z"], "pixelResolution": {"dimensions": X_FIRST, "unit": "nm"}}
    volume = open_volume(n5(tmp_path, more, shape=(3, 4, 5, 2)))
    assert (volume.axes, volume.spacing) == ("zyxc", Spacing((*FOUR, 1.0), ("nm", "nm", "nm", "")))
    assert open_volume(n5(tmp_path, {"pixelResolution": [1, 2, 3]}, "b", (3, 4, 5, 2))).spacing is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"pixelResolution": value}
        for value in (3, "nm", [], {}, {"dimensions": 3}, {"dimensions": ["a", "b", "c"]}, [1, 2])
    ]
    + [{"pixelResolution": [1, 2, 3], "downsamplingFactors": value} for value in ([1], ["x", "y", "z"])]
    + [
        {"transform": value}
        for value in (3, [], {"axes": 3, "scale": [1]}, {"axes": ["z", "z", "x"], "scale": [1, 2, 3]})
    ]
    + [{"resolution": value, "units": 7} for value in (3, [1, 2], {"x": 1})],
)
def test_what_fits_nothing_says_nothing(attributes: dict[str, Any], tmp_path: Path) -> None:
    address = n5(tmp_path, attributes)
    told(tmp_path, {"multiscales": [3, {"datasets": [4]}, {}], "scales": 7}, "image")
    assert open_volume(address).spacing in (None, Spacing((3.0, 2.0, 1.0), ("",) * 3))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["zyx", "x", "nm", "s1", "1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=examples(100))
@given(
    attributes=st.dictionaries(st.sampled_from(_WORDS), _JSON),
    group=st.dictionaries(st.sampled_from(_WORDS), _JSON),
    axes=st.sampled_from([None, "zyx", "czyx", "yx"]),
    x_first=st.booleans(),
)
def test_whatever_attributes_hold_they_give_a_size_or_none(attributes, group, axes, x_first) -> None:
    ndim = len(axes or "zyx")
    for found in (
        spacing_of(attributes, axes, ndim, x_first=x_first),
        spacing_in_group(attributes, group, "s1", ndim),
    ):
        if found is not None:
            assert len(found.steps) == len(found.units) == ndim
            in_micrometers(found, axes or "zyx", "zyx")


def test_a_unit_for_all_or_none(tmp_path: Path) -> None:
    for key, units in (("a", ["nm", "nm"]), ("b", None), ("c", 7)):
        volume = open_volume(n5(tmp_path, {"axes": ["x", "y", "z"], "resolution": X_FIRST, "units": units}, key))
        assert volume.spacing == Spacing(FOUR, ("",) * 3)
        assert in_micrometers(volume.spacing, "zyx", "zyx") is None


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr(zarr_format: int, tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=zarr_format)
    for key, attributes in (
        ("cosem", cosem("zyx")),
        ("plain", {"resolution": list(FOUR), "units": ["nm"] * 3}),
    ):
        group.create_array(key, shape=(3, 4, 5), chunks=(3, 4, 5), dtype="uint8").attrs.update(attributes)
        assert open_volume(f"{tmp_path}/a.zarr:{key}").spacing == Spacing(FOUR, ("nm",) * 3), key


def test_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, attributes in (
            ("fiji", {"element_size_um": np.array([0.04, 0.004, 0.008], np.float32)}),
            ("cremi", {"resolution": FOUR, "units": "nm"}),
        ):
            file.create_dataset(key, (3, 4, 5), "uint8").attrs.update(attributes)
        file.create_dataset("nothing", (3, 4, 5), "uint8")
        file.create_dataset("other", (3, 4, 5, 2), "uint8").attrs["element_size_um"] = FOUR
    for key in ("fiji", "cremi"):
        volume = open_volume(f"{tmp_path}/a.h5:{key}")
        assert volume.axes is None
        assert in_micrometers(volume.spacing, "zyx", "zyx") == (0.04, 0.004, 0.008), key
    for key in ("nothing", "other"):
        assert open_volume(f"{tmp_path}/a.h5:{key}").spacing is None


def test_n5_with_neither_axes_nor_units_says_nothing_that_is_sure(tmp_path: Path) -> None:
    assert open_volume(n5(tmp_path, {"resolution": list(FOUR)})).spacing is None


def test_slices_and_time_points(tmp_path: Path) -> None:
    """A slice says nothing of the distance to the next one."""
    data = np.zeros((3, 4, 5), np.uint8)
    options: dict[str, Any] = {"imagej": True, "resolution": (125, 250)}
    for i in range(2):
        tifffile.imwrite(tmp_path / f"z{i}.tif", data[i], **options, metadata={"axes": "YX", "unit": "um"})
        tifffile.imwrite(
            tmp_path / f"t{i}.tif", data, **options, metadata={"axes": "ZYX", "unit": "um", "spacing": 0.04}
        )
    films = open_volume(f"{tmp_path}/t*.tif")
    assert films.axes == "tzyx"
    assert in_micrometers(films.spacing, films.axes, "zyx") == (0.04, 0.004, 0.008)
    slices = open_volume(f"{tmp_path}/z*.tif")
    assert slices.axes == "zyx"
    assert in_micrometers(slices.spacing, "zyx", "yx") == (0.004, 0.008)
    assert in_micrometers(slices.spacing, "zyx", "zyx") is None
