"""The Gaussian's standard deviation: per axis, in voxels or in the raw volume's physical unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockwise.errors import UserError
from blockwise.volume import Address, create_volume, open_volume
from blockwise.volume.info import VolumeInfo
from pipeline.assembly.smoothing import sigma_in_voxels
from pipeline.configuration.settings import Threshold


def raw(folder: Path, axes: str = "zyx", **attributes: object) -> VolumeInfo:
    address = f"{folder}/raw.n5:raw"
    shape = (4,) * len(axes)
    create_volume(Address.parse(address), shape, shape, "uint8", {"axes": list(axes), **attributes})
    return VolumeInfo(address=address, axes=axes, shape=shape, dtype="uint8", chunks=shape)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sigma": 2}, (2.0, 2.0, 2.0)),
        ({"sigma": [0.5, 1, 2]}, (0.5, 1.0, 2.0)),
        ({"sigma": 8, "sigma_unit": "physical"}, (0.2, 2.0, 1.0)),
        ({"sigma": [40, 8, 4], "sigma_unit": "physical"}, (1.0, 2.0, 0.5)),
    ],
)
def test_sigma_along_each_axis(tmp_path: Path, settings: dict[str, object], expected: tuple[float, ...]) -> None:
    volume = raw(tmp_path, "czyx", resolution=[1, 40, 4, 8], units=["", "nm", "nm", "nm"])
    spacing = open_volume(volume.address).spacing
    assert sigma_in_voxels(Threshold(**settings), volume, spacing, "zyx") == expected


@pytest.mark.parametrize(
    ("settings", "attributes", "said"),
    [
        ({"sigma": [1, 2]}, {}, r"threshold.sigma: \[1.0, 2.0\] for the axes zyx"),
        ({"sigma_unit": "physical"}, {}, "does not say how far its voxels lie apart"),
        (
            {"sigma_unit": "physical"},
            {"resolution": [1, 2, 2], "units": ["um", "nm", "nm"]},
            "different units along zyx: um, nm, nm",
        ),
        ({"sigma_unit": "physical"}, {"resolution": [0, 2, 2]}, r"voxels of size \(0.0, 2.0, 2.0\) along zyx"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, settings: dict[str, object], attributes: dict[str, object], said: str
) -> None:
    volume = raw(tmp_path, **attributes)
    with pytest.raises(UserError, match=said):
        sigma_in_voxels(Threshold(**settings), volume, open_volume(volume.address).spacing, "zyx")
