"""Sizes of objects in a physical unit become voxels, exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from blockwise.errors import UserError
from blockwise.volume import Spacing
from blockwise.volume.lengths import in_micrometers
from pipeline.assembly.objects.sizes import sizes_in_voxels
from pipeline.configuration.settings import ConnectedComponents
from pipeline.configuration.sizes import parse_size


def voxels(step_um=(0.01, 0.01, 0.01), axes=3, **sizes):
    return sizes_in_voxels(ConnectedComponents(**sizes), step_um, axes, "raw.n5:raw")


@pytest.mark.parametrize(
    ("text", "micrometers"),
    [("0.5 um3", Fraction(1, 2)), ("0.5µm³", Fraction(1, 2)), ("2 μm^3", 2), ("3e5 nm3", Fraction(3, 10**4)),
     ("1 Micrometer 3", 1), (".1 mm3", 10**8), ("5. Å3", Fraction(5, 10**12))],
)  # fmt: skip
def test_text(text, micrometers):
    assert (parse_size(text).micrometers, parse_size(text).axes) == (micrometers, 3)
    assert parse_size(text.rstrip("3³") + "2").axes == 2


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"min_size": 50}, (50, None)),
        ({"min_size": "0.5 um3"}, (500_000, None)),  # in floats 500,000.00000000006, of which the next is 500,001
        ({"min_size": "1 nm3", "max_size": "1500 nm3"}, (1, 1)),
        ({"min_size": 3, "max_size": "0.0000049 um3"}, (3, 4)),
        ({"min_size": "2001 nm3", "max_size": 9}, (3, 9)),
        ({"min_size": "0 um3"}, (0, None)),
    ],
)
def test_sizes_in_voxels(sizes, expected):
    assert voxels(**sizes) == expected


@given(
    step=st.lists(st.sampled_from(["0.004", "0.00456", "0.1", "0.3", "1.2"]), min_size=2, max_size=3),
    count=st.integers(1, 10**6),
)
def test_a_size_of_whole_voxels_is_that_many(step, count):
    size = count
    for one in step:
        size = size * Fraction(one)
    text = f"{size * 10**30 // 1}e-30 um{len(step)}"
    assert voxels([float(one) for one in step], len(step), min_size=text, max_size=text) == (count, count)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"min_size": "0.5 um3", "step_um": None}, r"min_size: 0.5 um3, but raw raw.n5:raw does not say how large"),
        ({"max_size": "5 um2"}, r"connected_components.max_size: 5 um2 is an area, .*write a volume"),
        ({"min_size": "5 um3", "axes": 2, "step_um": (1.0, 1.0)}, r"min_size: 5 um3 is a volume"),
        ({"max_size": "5 nm3"}, r"max_size: 5 nm3 is 0 voxels, .* no object has such a size"),
        ({"min_size": 5, "max_size": "4000 nm3"}, r"max_size: 4000 nm3 is 4 voxels, with min_size 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(case, said):
    with pytest.raises(UserError, match=said):
        voxels(**case)


@pytest.mark.parametrize("size", ["50", "um3", "5 um", "5 parsec3", "5 um4", "-5 um3", "0.5 um3 x", -1, "5 s3"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ValidationError, match=r"such as 0.5 um3"):
        ConnectedComponents(min_size=size)


def test_units_of_length():
    def um(step, unit):
        return in_micrometers(Spacing((step, 1.0), (unit, "")), "xc", "x")

    single = 0.009999999776482582  # of single precision
    found = [um(10, "nm"), um(2.5, "Angstrom"), um(0.1, "µm"), um(-3, "mm"), um(single, "micrometer"), um(1, "meter")]
    assert found == [(0.01,), (0.00025,), (0.1,), (3000.0,), (0.01,), (1e6,)]
    assert all(um(1, unit) is None for unit in ("", "pixel", "second", "inch"))
    assert all(um(step, "m") is None for step in (0, float("nan"), float("inf"), 1e300, 1e-320))
    assert in_micrometers(None, "zyx", "zyx") is None
    assert in_micrometers(Spacing((1.0,), ("um",)), "x", "yx") is None
