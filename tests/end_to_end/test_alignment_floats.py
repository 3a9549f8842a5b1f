"""Slices of floats, named by a printf pattern, from files to objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import imageio.v3
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from blockwise.volume import open_volume
from pipeline.running.session import end_sessions
from tests.runs import ROOT, Project, run_luigi
from tests.stacks import EXAMPLE

FIRST, MISSING, STOP = 97, 100, 112
SHIFTS = {98: (6, -3), 99: (2, 4), 101: (-5, 1), 103: (3, 3)}
"""Of slices beside the others, along x and y."""


def write_slices(folder: Path) -> dict[int, NDArray[np.float32]]:
    """Slices that no integers hold, some of them moved, numbered from 97 beyond 99 with one left out; beside them a
    file that the pattern does not mean.
    """
    folder.mkdir()
    slices = {}
    for i, z in enumerate(range(FIRST, STOP)):
        x, y = 8 + SHIFTS.get(z, (0, 0))[0], 8 + SHIFTS.get(z, (0, 0))[1]
        image = np.asarray(imageio.v3.imread(EXAMPLE / "slice_0003.png"), np.float32)
        noise = np.random.default_rng(i).normal(0, 2, image.shape)
        slices[z] = np.ascontiguousarray((image + noise)[y : y + 112, x : x + 120] * 0.95 + 0.25, np.float32)
        if z != MISSING:
            tifffile.imwrite(folder / f"slice_{z:04d}.tif", slices[z])
    tifffile.imwrite(folder / "slice_mean.tif", slices[FIRST])
    return slices


def configured(**values: Any) -> Project:
    """A configuration with these keys in the current folder."""
    shared = {
        "work_dir": "work", "output": "result.n5", "blocks": {"shape": [15, 64, 64]},
        "prediction": {"project": str(ROOT / "data" / "membranes_thin.ilp")},
        "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25}, "backend": {"workers": 1},
    }  # fmt: skip
    project = Project(Path.cwd())
    project.write({**shared, **values, "blocks": shared["blocks"] | values.get("blocks", {})})
    return project


def stored(name: str) -> NDArray[Any]:
    volume = open_volume(f"result.n5:{name}")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


@pytest.mark.soak
def test_floats_of_a_printf_pattern_go_from_files_to_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = write_slices(tmp_path / "slices")
    monkeypatch.chdir(tmp_path)
    alignment = {"slices": "slices/slice_%04d.tif", "model": "translation", "fill": -40.5}
    code, text = run_luigi(configured(alignment=alignment))
    assert code == 0, text
    assert "ConnectedComponentsWorkflow is finished" in text
    told = json.loads(Path("work/transforms.json").read_text())
    assert told["flagged"] == [MISSING]
    at = {int(z): np.rint(np.array(matrix)[:, 2]).astype(int) for z, matrix in told["transforms"].items()}
    first = at[FIRST] - SHIFTS.get(FIRST, (0, 0))
    assert {z: tuple((place - first).tolist()) for z, place in at.items()} == {
        z: SHIFTS.get(z, (0, 0)) for z in slices if z != MISSING
    }
    # The oracle: the same volume made by hand, and given as raw volume and mask.
    left, top = np.min(list(at.values()), axis=0)
    right, bottom = np.max(list(at.values()), axis=0) + np.array((120, 112))
    volume = np.full((STOP - FIRST, bottom - top, right - left), -40.5, np.float32)
    tissue = np.zeros(volume.shape, np.uint8)
    for z, (x, y) in at.items():
        place = (z - FIRST, slice(y - top, y - top + 112), slice(x - left, x - left + 120))
        volume[place], tissue[place] = slices[z], 1
    np.testing.assert_array_equal(stored("aligned"), volume, strict=True)
    np.testing.assert_array_equal(stored("tissue"), tissue)
    assert open_volume("result.n5:aligned").attributes["first_slice"] == FIRST
    with h5py.File("given.h5", "w") as file:
        file["raw"], file["tissue"] = volume, tissue
    found, table = stored("connected_components"), Path("work/objects.csv").read_bytes()
    assert found.max() > 1
    assert not found[MISSING - FIRST].any()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    given = configured(raw={"path": "../given.h5:raw", "axes": "zyx"}, blocks={"mask": "../given.h5:tissue"})
    run = given.run()
    end_sessions()
    assert run.ok, run.text
    np.testing.assert_array_equal(stored("connected_components"), found)
    assert Path("work/objects.csv").read_bytes() == table


def test_slices_that_cannot_be_read_are_named_by_what_comes_after_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not how large a volume is of which nothing is known yet."""
    write_slices(tmp_path / "slices")
    monkeypatch.chdir(tmp_path)
    broken = [z for z in range(FIRST, STOP) if z != MISSING]
    for z in broken:
        Path(f"slices/slice_{z:04d}.tif").write_bytes(b"no image")
    project = Project(tmp_path)
    project.write({
        "work_dir": "work", "output": "result.n5", "alignment": {"slices": "slices/slice_%04d.tif"},
        "prediction": {"project": str(ROOT / "data" / "membranes_thin.ilp")}, "backend": {"workers": 1},
    })  # fmt: skip
    code, text = run_luigi(project)
    assert code != 0
    assert f"{len(broken)} of {len(broken)} slices cannot be used" in text
    for z in broken[:10]:
        assert f"slice {z} (slices/slice_{z:04d}.tif)" in text
    assert f"and {len(broken) - 10} more" in text
    assert "Traceback" not in text
    assert not Path("result.n5").exists()
