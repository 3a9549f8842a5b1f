"""The whole workflow on a real FIB-SEM cube: blocks do not show, and ilastik agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from skimage.filters import gaussian
from skimage.measure import label

from blockwise.volume import open_volume
from tests.slurm.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
CUBE = ROOT.parent / "shared" / "data" / "fibsem"
ILASTIK_CPU_NS_PER_VOXEL = 4800

pytestmark = pytest.mark.skipif(not CUBE.exists(), reason=f"needs the FIB-SEM cube in {CUBE}")


def run_workflow(config: Path) -> str:
    command = [sys.executable, "-m", "luigi", "--module", "pipeline", "ConnectedComponentsWorkflow"]
    done = subprocess.run(
        [*command, "--config", str(config), "--local-scheduler"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_with_blocks(length: int, folder: Path) -> Path:
    """Folder of a finished run with cubes of this length as blocks."""
    folder = folder / f"blocks{length}"
    folder.mkdir()
    settings = {
        "work_dir": str(folder),
        "raw": f"{CUBE / 'raw.h5'}:data",
        "output": str(folder / "result.n5"),
        "blocks": {"shape": [length] * 3},
        "prediction": {"project": str(CUBE / "boundaries.ilp")},
        "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
        "connected_components": {"foreground": 0, "connectivity": 26},
        "backend": {"workers": 2},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    run_workflow(folder / "config.yaml")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with eight blocks."""
    return run_with_blocks(128, tmp_path)


def whole(folder: Path, key: str):
    volume = open_volume(f"{folder / 'result.n5'}:{key}")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


@pytest.mark.soak
def test_cube(run: Path):
    """One test, since the tests of a file may be dealt out to several processes, which would each run the cube."""
    mask_and_labels_equal_the_whole_volume(run)
    votes_agree_with_ilastik(run)
    prediction_costs_less_than_ilastiks(run)
    nothing_is_left_to_do(run)


@pytest.mark.soak  # smaller volumes show it in tests/unit and tests/faults
def test_blocks_do_not_show(run: Path, tmp_path: Path):
    small = run_with_blocks(64, tmp_path)
    for key in ("probabilities", "thresholded", "connected_components"):
        np.testing.assert_array_equal(whole(run, key), whole(small, key), err_msg=key)
    assert (run / "objects.csv").read_bytes() == (small / "objects.csv").read_bytes()


def mask_and_labels_equal_the_whole_volume(run):
    probabilities = whole(run, "probabilities")[1]
    mask = gaussian(probabilities, 1.6) > 0.25
    np.testing.assert_array_equal(whole(run, "thresholded"), mask)
    labels = whole(run, "connected_components")
    np.testing.assert_array_equal(labels, label(mask == 0, connectivity=3))
    objects = pd.read_parquet(run / "objects.parquet")
    np.testing.assert_array_equal(objects["voxels"], np.bincount(labels.ravel())[1:])


def votes_agree_with_ilastik(run):
    with h5py.File(CUBE / "expected_votes.h5") as file:
        expected = file["votes"][()] / np.float32(100)
    found = whole(run, "probabilities")
    difference = np.abs(found[1] - expected)
    assert difference.mean() < 1e-4
    assert (difference > 0.005).mean() < 0.005
    assert difference.max() < 0.1
    assert ((found[1] > found[0]) == (expected > 0.5)).mean() >= 0.9999


def prediction_costs_less_than_ilastiks(run):
    target = json.loads((run / "prediction.json").read_text())
    assert 1e9 * target["cpu_seconds"] / 250**3 < ILASTIK_CPU_NS_PER_VOXEL
    assert target["peak_memory_mb"] < 1000


def nothing_is_left_to_do(run):
    assert "Nothing to do" in run_workflow(run / "config.yaml")


@pytest.mark.soak  # tests/slurm does the same with a smaller volume
def test_slurm_gives_the_same_bytes(run: Path, cluster: Cluster, tmp_path: Path):
    folder = tmp_path / "slurm"
    folder.mkdir()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings.update(work_dir=str(folder), output=str(folder / "result.n5"))
    settings["backend"] = {"name": "slurm", "slurm": {"poll_s": 1, "grace_s": 5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    run_workflow(folder / "config.yaml")
    cluster.wait_until_quiet(30)
    for key in ("probabilities", "thresholded", "connected_components"):
        np.testing.assert_array_equal(whole(folder, key), whole(run, key), err_msg=key)
