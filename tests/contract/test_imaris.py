from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError, open_volume
from blockwise.volume.axes import Spacing
from tests.contract.files import imaris
from tests.contract.test_files import everything, voxels


@pytest.mark.parametrize(
    ("times", "channels", "axes"), [(1, 1, "zyx"), (1, 3, "czyx"), (2, 1, "tzyx"), (2, 3, "tczyx")]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_time_and_channels_of_imaris(tmp_path: Path, times: int, channels: int, axes: str, dtype: str) -> None:
    data = voxels(dtype, (times, channels, 5, 20, 18))
    path = imaris(tmp_path / "A.IMS", data)
    volume = open_volume(path)
    expected = data.squeeze(tuple(i for i in (0, 1) if data.shape[i] == 1))
    assert (volume.axes, volume.shape) == (axes, expected.shape)
    assert volume.chunks == (*(1,) * (len(axes) - 3), 8, 16, 16)
    np.testing.assert_array_equal(everything(volume), expected, strict=True)
    box = tuple(slice(n // 2, n) for n in volume.shape)
    np.testing.assert_array_equal(volume.read(box), expected[box])
    assert volume.spacing is not None
    assert volume.spacing.along(axes, "zyx") == Spacing((4.0, 0.5, 0.25), ("micrometer",) * 3)


def test_resolution_levels_of_imaris(tmp_path: Path) -> None:
    data = voxels("uint16", (1, 1, 5, 20, 18))
    path = imaris(tmp_path / "a.ims", data)
    second = open_volume(f"{path}:1")
    np.testing.assert_array_equal(everything(second), data[0, 0, :, ::2, ::2])
    assert second.spacing == Spacing((4.0, 1.0, 0.5), ("micrometer",) * 3)
    with pytest.raises(UserError, match=r"'2' is no resolution level of .*it holds: 0, 1"):
        open_volume(f"{path}:2")


def test_imaris_files_that_are_refused(tmp_path: Path) -> None:
    data = voxels("uint16", (2, 2, 5, 20, 18))
    path = imaris(tmp_path / "a.ims", data)
    with h5py.File(path, "a") as file:
        level = file["DataSet/ResolutionLevel 0"]
        level.move("TimePoint 1/Channel 1/Data", "TimePoint 1/Channel 1/Other")
        level["TimePoint 1/Channel 1"].create_dataset("Data", data=np.zeros((8, 16, 16), np.uint16))
    with pytest.raises(UserError, match=r"TimePoint 1/Channel 1/Data holds \(8, 16, 16\) uint16, but"):
        everything(open_volume(path))
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 1/Channel 1/Data"]
    with pytest.raises(UserError, match=r"there is no .*TimePoint 1/Channel 1/Data"):
        everything(open_volume(path))
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
    with pytest.raises(UserError, match="lacks Channel 0"):
        open_volume(path)
    with h5py.File(tmp_path / "b.ims", "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="holds no DataSet"):
        open_volume(f"{tmp_path}/b.ims")
    (tmp_path / "c.ims").write_bytes(b"II*\0" + bytes(500))
    with pytest.raises(UserError, match=r"c\.ims: cannot be opened as Imaris file"):
        open_volume(f"{tmp_path}/c.ims")


def test_imaris_data_in_another_file_is_refused(tmp_path: Path) -> None:
    path = imaris(tmp_path / "a.ims", voxels("uint16", (1, 2, 5, 20, 18)))
    imaris(tmp_path / "b.ims", voxels("uint16", (1, 2, 5, 20, 18)))
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 1"]
        link = h5py.ExternalLink("b.ims", "DataSet/ResolutionLevel 0/TimePoint 0/Channel 1")
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 1"] = link
    with pytest.raises(UserError, match=r"lies in another file, .*b\.ims"):
        everything(open_volume(path))


@pytest.mark.parametrize("how", ["virtual", "external"])
def test_imaris_voxels_in_another_file_are_refused(how: str, tmp_path: Path) -> None:
    """Were that file missing, HDF5 would give zeros for them."""
    data = voxels("uint16", (1, 1, 5, 20, 18))
    path = imaris(tmp_path / "a.ims", data)
    name = "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"
    with h5py.File(path, "a") as file:
        shape = file[name].shape
        del file[name]
        if how == "virtual":
            layout = h5py.VirtualLayout(shape, "uint16")
            layout[:] = h5py.VirtualSource("gone.h5", "data", shape)
            file.create_virtual_dataset(name, layout)
        else:
            file.create_dataset(name, shape, "uint16", external=[(f"{tmp_path}/gone.raw", 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(UserError, match="lie in other files"):
        open_volume(path)


def test_damage_in_an_imaris_file_is_told(tmp_path: Path) -> None:
    data = voxels("uint16", (1, 2, 9, 20, 18))
    path = imaris(tmp_path / "a.ims", data)
    with h5py.File(path) as file:
        dataset = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"]
        start = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray(Path(path).read_bytes())
    content[start : start + 50] = bytes(50)
    Path(path).write_bytes(content)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read((slice(0, 1), *(slice(0, 8),) * 3)), data[0, :1, :8, :8, :8])
    with pytest.raises(DamagedDataError) as failure:
        everything(volume)
    assert failure.value.box == (slice(1, 2), slice(0, 8), slice(0, 16), slice(0, 16))
