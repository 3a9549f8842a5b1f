"""JPEG and BMP, alone and as stacks; PNG is among the formats of the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError, open_volume
from tests.contract.test_files import everything

Y, X = np.mgrid[:40, :50]
GREY = ((3 * Y + 2 * X) // 2).astype(np.uint8)
COLOURS = np.stack([GREY, GREY // 2, 255 - GREY], -1)


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "bmp", "BMP"])
@pytest.mark.parametrize("picture", [GREY, COLOURS], ids=["grey", "colours"])
def test_single_pictures_and_stacks(tmp_path: Path, ending: str, picture: np.ndarray) -> None:
    planes = [np.roll(picture, 5 * i, 0) for i in range(3)]
    for z, plane in enumerate(planes):
        Image.fromarray(plane).save(tmp_path / f"s{z:02d}.{ending}", quality=95)
    decoded = np.stack([np.asarray(Image.open(tmp_path / f"s{z:02d}.{ending}")) for z in range(3)])
    tolerance = 3 if ending.lower().startswith("j") else 0
    assert np.abs(decoded.astype(int) - planes).mean() <= tolerance
    axes = "yx" if picture.ndim == 2 else "yxc"
    stack = open_volume(f"{tmp_path}/s%02d.{ending}")
    assert (stack.axes, stack.shape, stack.slicewise) == (f"z{axes}", decoded.shape, True)
    np.testing.assert_array_equal(everything(stack), decoded, strict=True)
    single = open_volume(f"{tmp_path}/s01.{ending}")
    assert single.axes == axes
    np.testing.assert_array_equal(everything(single), decoded[1], strict=True)


@pytest.mark.parametrize("ending", ["jpg", "bmp"])
def test_pictures_that_are_cut_off_are_told(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(COLOURS).save(path)
    content = path.read_bytes()
    for length in (len(content) - 200, len(content) // 3, 10):
        path.write_bytes(content[:length])
        with pytest.raises((UserError, DamagedDataError), match=rf"a\.{ending}"):
            everything(open_volume(str(path)))
