"""Keys of layers: documents that viewers understand, chunks that cover the volume once, and nothing else."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise.volume import Spacing
from blockwise.volume.info import VolumeInfo
from pipeline.viewing.images.keys import chunk_at, document
from pipeline.viewing.images.layers import Layer, raw_layer
from pipeline.viewing.images.scales import Scale, coarsened, scales_of
from tasks.pyramid.coarser import Method, coarser
from tasks.pyramid.scales import SMALLEST


def layer(axes: str = "zyx", shape: tuple[int, ...] = (40, 70, 90), dtype: str = "<u2", **more: Any) -> Layer:
    info = VolumeInfo(address="a.n5:raw", axes=axes, shape=shape, dtype=dtype, chunks=shape)
    spatial = sum(axis in "zyx" for axis in axes)
    return raw_layer(info, more.get("spacing"), more.get("chunk", (32,) * spatial))


def read(key: str, of: Layer) -> Any:
    found = document(of, key)
    return None if found is None else json.loads(found)


def test_axes_are_served_in_order_with_all_channels_in_a_chunk() -> None:
    shown = layer("xyzct", (90, 70, 40, 3, 2))
    assert shown.axes == "tczyx"
    assert read("0/.zarray", shown)["shape"] == [2, 3, 40, 70, 90]
    assert read("0/.zarray", shown)["chunks"] == [1, 3, 32, 32, 32]
    assert read("0/.zarray", shown)["fill_value"] == 0


@pytest.mark.parametrize(
    ("stored", "shown"),
    [("|b1", "|u1"), ("<f8", "<f4"), ("<f2", "<f4"), ("<i8", "<f4"), (">u2", "<u2"), ("<u8", "<u8"), ("|i1", "|i1")],
)
def test_types_are_those_that_viewers_know(stored: str, shown: str) -> None:
    assert read("0/.zarray", layer(dtype=stored))["dtype"] == shown


def test_spacing_is_told_in_units_that_viewers_know() -> None:
    known = layer(spacing=Spacing((40.0, 4.0, 4.0), ("nm", "nm", "nm")))
    image = read(".zattrs", known)["multiscales"][0]
    assert [axis["unit"] for axis in image["axes"]] == ["nanometer"] * 3
    assert image["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [40, 4, 4]}]
    unknown = layer(spacing=Spacing((40.0, 4.0, 4.0), ("parsec", "nm", "nm")))
    assert "unit" not in str(read(".zattrs", unknown))
    assert unknown.steps == (40, 4, 4)


@given(st.data())
def test_chunks_of_every_scale_cover_the_volume_once(data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(["zyx", "yx", "tzyx", "czyx"]))
    shape = tuple(data.draw(st.integers(1, {"t": 3, "c": 3, "z": 70}.get(axis, 700))) for axis in axes)
    spatial = sum(axis in "zyx" for axis in axes)
    shown = layer(axes, shape, chunk=tuple(data.draw(st.integers(30, 99)) for _ in range(spatial)))
    for number, scale in enumerate(shown.scales):
        covered = np.zeros(shape, np.uint8)
        counts = [-(-n // c) for n, c in zip(scale.shape(shape), shown.chunks, strict=True)]
        for index in itertools.product(*map(range, counts)):
            chunk = chunk_at(shown, "/".join(map(str, (number, *index))))
            assert chunk is not None
            covered[chunk.box] += 1
            lengths = [s.stop - s.start for s in chunk.box]
            assert chunk.shape == tuple(-(-n // f) for n, f in zip(lengths, scale.factors, strict=True))
            starts = [s.start * f for s, f in zip(chunk.own_box, scale.factors, strict=True)]
            assert starts == [s.start for s in chunk.box]
        assert (covered == 1).all()
        assert chunk_at(shown, "/".join(map(str, (number, *counts)))) is None


@given(st.text(alphabet="0123./-+ e%\n٣a", max_size=12))
def test_what_decodes_to_no_place_is_no_key(key: str) -> None:
    shown = layer()
    is_key = key in [f"0/{z}/{y}/{x}" for z, y, x in itertools.product(range(2), range(3), range(3))]
    assert (chunk_at(shown, key) is not None) is is_key
    assert (document(shown, key) is not None) is (key in (".zgroup", ".zattrs", "0/.zarray", "0/.zattrs"))


@given(st.data())
def test_coarser_scales_are_made_step_by_step(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(3))
    steps = tuple(tuple(data.draw(st.integers(1, 2)) for _ in range(3)) for _ in range(2))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 255, shape).astype(np.uint8)
    scale = Scale(tuple(np.prod(steps, axis=0).tolist()), steps)
    methods: tuple[Method, Method] = ("mean", "mode")
    for method in methods:
        found = coarsened(values, scale, method)
        np.testing.assert_array_equal(found, coarser(coarser(values, steps[0], method), steps[1], method))
        assert found.shape == scale.shape(shape)


@given(st.tuples(*[st.integers(1, 5000)] * 3), st.tuples(*[st.sampled_from([1.0, 4.0, 30.0])] * 3))
def test_scales_end_when_the_volume_fits_or_a_chunk_would_cost_too_much(
    shape: tuple[int, ...], steps: tuple[float, ...]
) -> None:
    scales = scales_of(shape, "zyx", (64, 64, 64), steps)
    assert scales[0].factors == (1, 1, 1)
    assert all(max(scale.shape(shape)) > SMALLEST for scale in scales[:-1])
    assert all(scale.is_small((64, 64, 64)) for scale in scales)
    assert all(len(scale.steps) == number for number, scale in enumerate(scales))
