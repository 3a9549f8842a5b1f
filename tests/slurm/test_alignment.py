"""A stack of slices aligned by jobs of a cluster, some of which die, and whose driver is killed: the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disturbed import DEFECTS, DisturbedStack, assert_same_files, delivered
from tests.slurm.cluster import Cluster
from tests.stacks import EXAMPLE

SLURM = {
    "name": "slurm",
    "faults": {"kill": 0.1, "seed": 2},
    "slurm": {"poll_s": 1, "grace_s": 2, "blocks_per_job": 6},
}


@pytest.fixture
def folders(tmp_path: Path, cluster: Cluster) -> Iterator[tuple[Path, Path]]:
    """Of a run on the cluster, and of one in processes of this machine."""
    found = tmp_path / "cluster", tmp_path / "alone"
    for folder in found:
        folder.mkdir()
    yield found
    try:
        cluster.wait_until_quiet(30)
    finally:
        cluster.cancel_all()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("slices", "model"),
    [
        (EXAMPLE, "translation"),
        pytest.param(
            DEFECTS,
            "rigid",
            marks=pytest.mark.skipif(not DEFECTS.is_dir(), reason="real stacks lie outside the project"),
        ),
    ],
    ids=["bundled", "d_defects"],
)
def test_jobs_give_the_same_bytes_as_one_process(
    folders: tuple[Path, Path], slices: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = {"slices": "slices/*.png", "slab": 2, "model": model}
    files = sorted(slices.glob("*.png"))
    monkeypatch.chdir(folders[0])
    stack = DisturbedStack(folders[0], files, SLURM, wish)
    for step in ("slice_pairs", "aligned"):
        stack.kill_in(step, 1)
    stack.finish()
    monkeypatch.chdir(folders[1])
    DisturbedStack(folders[1], files, {"name": "local"}, wish).finish()
    found = delivered(folders[0])
    assert_same_files(found, delivered(folders[1]))
    print(f"{len(stack.kept)} blocks were done when drivers were killed; {len(found)} files are the same")
