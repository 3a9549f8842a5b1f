"""The FIB-SEM cube from every format, and from a store: the same labels (`make soak`)."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import yaml

from blockwise.volume import create_volume, open_volume
from tests.containers import FORMATS
from tests.contract import servers
from tests.end_to_end.test_fibsem import CUBE, run_workflow, whole

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not CUBE.exists(), reason=f"needs the FIB-SEM cube in {CUBE}"),
]


def test_same_labels_from_every_format(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with h5py.File(CUBE / "raw.h5") as file:
        data = file["data"][()]
    with servers.s3() as url:
        addresses = {name: make(tmp_path, data, "zyx") for name, make in FORMATS.items()}
        addresses["s3"] = f"s3://bucket/cube.zarr:raw?endpoint={url}"
        create_volume(addresses["s3"], data.shape, (64,) * 3, data.dtype.name, {"axes": list("zyx")})
        open_volume(addresses["s3"], "a").write(tuple(slice(0, n) for n in data.shape), data)
        for name, address in addresses.items():
            (tmp_path / name).mkdir()
            settings = {
                "work_dir": str(tmp_path / name),
                "raw": address,
                "output": str(tmp_path / name / "result.n5"),
                "blocks": {"shape": [128] * 3},
                "prediction": {"project": str(CUBE / "boundaries.ilp")},
                "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
                "connected_components": {"foreground": 0, "connectivity": 26},
            }
            (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(settings))
            run_workflow(tmp_path / name / "config.yaml")
    expected = whole(tmp_path / "hdf5", "connected_components")
    assert expected.max() == 146
    for name in addresses:
        np.testing.assert_array_equal(whole(tmp_path / name, "connected_components"), expected, err_msg=name)
