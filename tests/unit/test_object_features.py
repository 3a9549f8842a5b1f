"""ilastik's object features: its own values in the reference case; else the whole volume, in plain numpy."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label

from blockwise.errors import UserError
from blockwise.grid import Grid
from tasks.objects.features.catalog import FEATURES, QUANTILES, STANDARD, Feature, chosen_features
from tasks.objects.features.eigensystem import eigensystems
from tasks.objects.features.neighbourhood import Margin
from tests.examples import examples
from tests.unit.blocked import blocked_components
from tests.unit.pixel_cases import case_folder, read
from tests.unit.test_ilastik_threshold import CASE

Image = NDArray[Any]


def vigras_values(folder: Any) -> dict[str, NDArray[np.float32]]:
    """What ilastik has stored of its own images, without the background."""
    with h5py.File(folder / "project.ilp", "r") as file:
        group = file["ObjectExtraction/RegionFeatures/0000/[[0], [1]]/Standard Object Features"]
        return {name: group[name][1:] for name in group}


def neighbourhood(labels: Image, number: int, margin: Margin) -> Image:
    reach = tuple(margin.voxels)[-labels.ndim :]
    pitch = margin.pitch[-labels.ndim :]
    box = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m))
        for s, m, n in zip(find_objects(labels)[number - 1], reach, labels.shape, strict=True)
    )
    away = distance_transform_edt(labels[box] != number, sampling=pitch)
    found = np.zeros(labels.shape, bool)
    found[box] = (away > 0) & (away < margin.distance)
    return found


def of_values(name: str, values: Image, limits: tuple[float, float]) -> list[float]:
    """A feature of the values of some voxels, (channels, voxels)."""
    v = values.astype(np.float64)
    n = v.shape[1]
    if n == 0:
        return [0.0 if name == "Sum" else np.nan] * (len(v) ** 2 if name == "Covariance" else len(v))
    away = v - v.mean(axis=1, keepdims=True)
    squares = (away**2).sum(axis=1)
    is_same = np.all(v == v[:, :1], axis=1)
    with np.errstate(all="ignore"):
        found = {
            "Mean": v.mean(axis=1),
            "Sum": v.sum(axis=1),
            "Minimum": v.min(axis=1),
            "Maximum": v.max(axis=1),
            "Variance": squares / n,
            "Skewness": np.where(is_same, np.nan, np.sqrt(n) * (away**3).sum(axis=1) / squares**1.5),
            "Kurtosis": np.where(is_same, np.nan, n * (away**4).sum(axis=1) / squares**2 - 3),
            "Covariance": (away @ away.T / n).ravel(),
            "Central<PowerSum<2>>": squares,
            "Central<PowerSum<3>>": (away**3).sum(axis=1),
            "Central<PowerSum<4>>": (away**4).sum(axis=1),
        }
    return list(found[name])


def histogram(values: Image, limits: tuple[float, float]) -> Image:
    low, high = limits
    width = high - low if high > low else 64 * np.finfo(float).eps
    return np.bincount(np.minimum((64 / width * (values - low)).astype(int), 63), minlength=64)


def quantiles(values: Image, limits: tuple[float, float]) -> list[float]:
    """As OBJECTS_FORMAT has it: along the cumulative histogram."""
    low, high = limits
    width = high - low if high > low else 64 * np.finfo(float).eps
    counts = histogram(values, limits)
    keys = [((values.min() - low) * 64 / width, 0)]
    for j in np.flatnonzero(counts):
        if keys[-1][0] <= j:
            keys.append((j, counts[:j].sum()))
        keys.append((j + 1, counts[: j + 1].sum()))
    keys[-1] = ((values.max() - low) * 64 / width, len(values))
    places, below = np.array(keys).T
    found = []
    for q in QUANTILES[1:-1]:
        end = int(np.searchsorted(below, q * len(values)))  # where nothing is counted, the place before the gap
        part = (q * len(values) - below[end - 1]) / (below[end] - below[end - 1])
        found.append(low + (places[end - 1] + part * (places[end] - places[end - 1])) * width / 64)
    return [values.min(), *found, values.max()]


def expected(feature: Feature, labels: Image, image: Image, margin: Margin, inside: Image) -> Image:
    """A feature of all objects, plainly; ``image`` has channels in front."""
    objects = range(1, int(labels.max()) + 1)
    below = image[:, labels > 0].astype(float)
    rows = []
    for number in objects:
        where = labels == number
        xyz = np.argwhere(where)[:, ::-1].astype(float)
        if feature.region != "object":
            around = neighbourhood(labels, number, margin) & inside
            where = around if feature.region == "neighborhood" else where | around
        limits = (below.min(), below.max())
        if feature.histogram:
            values = image[0][where].astype(float)
            if feature.region != "object":
                limits = (values.min(initial=np.inf), values.max(initial=-np.inf)) if len(values) else (0, 0)
            rows.append(quantiles(values, limits) if feature.name == "Quantiles" else histogram(values, limits))
        elif feature.name == "Count":
            rows.append([len(xyz)])
        elif feature.name in ("Coord<Minimum>", "Coord<Maximum>", "Coord<PowerSum<1>>", "RegionCenter"):
            found = {
                "Coord<Minimum>": xyz.min(axis=0),
                "Coord<Maximum>": xyz.max(axis=0) + 1,
                "Coord<PowerSum<1>>": xyz.sum(axis=0),
                "RegionCenter": xyz.mean(axis=0),
            }
            rows.append(found[feature.name])
        elif feature.name in ("RegionRadii", "RegionAxes"):
            away = xyz - xyz.mean(axis=0)
            values, vectors = np.linalg.eigh(away.T @ away / len(xyz))
            if feature.name == "RegionRadii":
                rows.append(np.sqrt(np.maximum(values[::-1], 0)))
            else:
                rows.append(vectors[:, ::-1].ravel())
        else:
            rows.append(of_values(feature.base, image[:, where], limits))
    return np.array(rows, float).reshape(len(objects), -1)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    axes = draw(st.sampled_from(["yx", "zyx", "zyx"]))
    shape = tuple(draw(st.integers(1, 14 if axes == "yx" else 8)) for _ in axes)
    return {
        "axes": axes,
        "shape": shape,
        "block_shape": tuple(draw(st.integers(2, n + 2)) for n in shape),
        "dtype": draw(st.sampled_from(["uint8", "uint16", "int16", "uint32", "float32"])),
        "channels": draw(st.sampled_from([1, 1, 2])),
        "margin": tuple(draw(st.integers(1, 5)) for _ in axes),
        "masked": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def made(case: dict[str, Any]) -> tuple[Image, Image, Image]:
    """Mask, image with channels in front, and where anything is computed."""
    random = np.random.default_rng(case["seed"])
    mask = (random.random(case["shape"]) < random.choice([0.1, 0.4])).astype(np.uint8)
    image = random.integers(0, 200, (case["channels"], *case["shape"])).astype(case["dtype"])
    if case["dtype"] == "float32":
        image = image / np.float32(7) - 10
    if case["dtype"] == "int16":
        image -= 100
    inside = random.random(case["shape"]) < (0.8 if case["masked"] else 2)
    return mask, image, inside


@settings(max_examples=examples(60, part=8), deadline=None)
@given(cases())
def test_all_features_equal_the_whole_volume_for_every_block_shape(case: dict[str, Any]) -> None:
    mask, image, inside = made(case)
    names = [name for name, feature in FEATURES.items() if feature.is_of(case["channels"])]
    of_steps = {
        "raw": dict(enumerate(image)),
        "inside": inside if case["masked"] else None,
        "features": names,
        "margin": case["margin"],
    }
    connectivity = {2: 4, 3: 6}[len(case["axes"])]
    grids = [Grid(case["axes"], case["shape"], blocks) for blocks in (case["block_shape"], case["shape"])]
    (labels, found), (_, whole) = (blocked_components(mask, 1, connectivity, grid, **of_steps) for grid in grids)
    assert found.keys() == whole.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
    labels = label(mask * inside)[0]
    spatial = labels.reshape(labels.shape[-2:]) if labels.ndim == 3 and len(labels) == 1 else labels
    margin = Margin(case["margin"])
    if spatial.ndim < labels.ndim:
        image, inside = image.reshape(len(image), *spatial.shape), inside.reshape(spatial.shape)
    for feature in chosen_features(names, case["channels"]) if labels.max() else ():
        values = expected(feature, spatial, image, margin, inside)
        columns = [whole[name] for name in feature.columns_of(values.shape[1])]
        if feature.name == "RegionAxes":
            assert_same_axes(np.stack(columns, axis=1), spatial)
        else:
            np.testing.assert_allclose(
                np.stack(columns, axis=1), values, rtol=1e-9, atol=1e-6, err_msg=feature.name, equal_nan=True
            )


def assert_same_axes(found: Image, labels: Image) -> None:
    """Unit vectors at right angles, the columns, along which the coordinates have the variances of the radii."""
    n = labels.ndim
    for number, matrix in enumerate(found.reshape(-1, n, n), start=1):
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(n), atol=1e-12)
        xyz = np.argwhere(labels == number)[:, ::-1].astype(float)
        away = (xyz - xyz.mean(axis=0)) @ matrix
        covariance = away.T @ away / len(xyz)
        np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
        assert np.all(np.diff(np.diag(covariance)) < 1e-9)


@pytest.mark.parametrize("block_shape", [(180, 220), (50, 77)])
def test_ilastiks_own_values(block_shape: tuple[int, int]) -> None:
    folder = case_folder(CASE)
    raw = read(folder / "input.h5", "data")
    identities = read(folder / "expected_identities.h5", "exported_data").reshape(raw.shape)
    stored = vigras_values(folder)
    grid = Grid("yx", raw.shape, block_shape)
    labels, table = blocked_components(
        (identities > 0).astype(np.uint8), 1, 4, grid, raw={0: raw}, features=list(stored), margin=(9, 9)
    )
    np.testing.assert_array_equal(labels, identities)
    for name, vigras in stored.items():
        feature = FEATURES[name]
        found = np.stack([table[column] for column in feature.columns_of(vigras.shape[1])], axis=1)
        if name == "RegionAxes":  # where an object lies even, the sign is that of vigra's rounding errors
            even = lie_even(labels)
            assert even.sum() == 3
            found[even], vigras[even] = np.abs(found[even]), np.abs(vigras[even])
        np.testing.assert_allclose(found, vigras, rtol=1e-6, atol=1e-6, err_msg=name)


def lie_even(labels: Image) -> NDArray[np.bool_]:
    """Of which objects the coordinates do not vary together, or vary equally much."""
    found = []
    for number in range(1, int(labels.max()) + 1):
        points = np.argwhere(labels == number)
        products = len(points) * (points.T @ points) - np.outer(points.sum(axis=0), points.sum(axis=0))
        found.append(products[0, 1] == 0 or products[0, 0] == products[1, 1])
    return np.array(found)


def test_restarting_labels_and_time_steps_have_ranges_of_their_own() -> None:
    random = np.random.default_rng(3)
    mask = (random.random((3, 9, 10)) < 0.3).astype(np.uint8)
    raw = random.integers(0, 255, mask.shape).astype(np.uint8) // np.array([1, 2, 3], np.uint8)[:, None, None]
    names = ["Histogram", "Quantiles", "Mean in neighborhood", "RegionRadii", "Histogram in neighborhood"]
    for numbering in ("continue", "restart"):
        options: dict[str, Any] = {"numbering": numbering, "features": names, "margin": (2, 3)}
        _, table = blocked_components(mask, 1, 4, Grid("tyx", mask.shape, (1, 4, 5)), raw={0: raw}, **options)
        for t in range(3):
            one = table["t"] == t
            single = Grid("yx", mask.shape[1:], mask.shape[1:])
            _, alone = blocked_components(mask[t], 1, 4, single, raw={0: raw[t]}, **options)
            for name in alone:
                if name != "label" or numbering == "restart":
                    np.testing.assert_array_equal(table[name][one], alone[name], err_msg=name)


def test_objects_in_shards_are_those_of_one_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    random = np.random.default_rng(5)
    mask = (random.random((6, 20, 20)) < 0.3).astype(np.uint8)
    raw = random.integers(0, 255, mask.shape).astype(np.uint8)
    names = ["Mean", "Quantiles", "Kurtosis in neighborhood", "RegionAxes"]
    grid = Grid("zyx", mask.shape, (3, 7, 6))
    _, whole = blocked_components(mask, 1, 6, grid, raw={0: raw}, features=names, margin=(1, 3, 3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tasks.objects.shards.LARGEST_SHARD", 7)
    monkeypatch.setattr("tasks.objects.shards.BUFFER_BYTES", 2000)
    _, found = blocked_components(mask, 1, 6, grid, raw={0: raw}, features=names, margin=(1, 3, 3))
    assert len(whole["label"]) > 50
    for name in whole:
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
    assert not list(tmp_path.rglob(".shards-*"))


@given(st.integers(1, 3), st.sampled_from([1e-9, 1.0, 1e12]), st.booleans(), st.integers(0, 2**32 - 1))
def test_eigensystems_are_those_of_lapack(n: int, size: float, is_flat: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.integers(-4, 5, (4, 6, n)) * np.array([1, 0, 1])[:n] ** is_flat
    matrices = size * np.einsum("kij,kil->kjl", points, points).astype(float)
    values, vectors = eigensystems(matrices)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrices)[:, ::-1], rtol=1e-12, atol=1e-12 * matrices.max())
    again = np.einsum("kij,kj,klj->kil", vectors, values, vectors)
    np.testing.assert_allclose(again, matrices, rtol=1e-12, atol=1e-12 * matrices.max())


def test_names_that_are_not_known_are_refused() -> None:
    assert [one.name for one in chosen_features(["Variance", "Mean in neighborhood", "Mean", "Mean"], 1)] == [
        "Mean",
        "Mean in neighborhood",
        "Variance",
    ]
    with pytest.raises(UserError, match=r"'Men': not among .*did you mean 'Mean'"):
        chosen_features(["Men"], 1)
    with pytest.raises(UserError, match="2D Skeleton Features"):
        chosen_features(["Diameter"], 1, plugin="2D Skeleton Features")
    with pytest.raises(UserError, match="images with one channel only; this one has 3"):
        chosen_features(["Histogram"], 3)
    with pytest.raises(UserError, match="images with several channels only; this one has 1"):
        chosen_features(["Covariance"], 1)
    assert {feature.plugin for feature in FEATURES.values()} == {STANDARD}
