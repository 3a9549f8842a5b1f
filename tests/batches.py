"""Small batches to run for real: crops of a reference image, its project, one configuration."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3
import luigi
import pytest
import yaml

from blockwise.volume import open_volume
from pipeline.batch.workflow import BatchWorkflow
from pipeline.running.session import end_sessions
from tasks.nodes.execution import Execution
from tests.runs import DATASETS, InlineBackend, Run
from tests.unit.pixel_cases import case_folder, read

CASE = "2d_rgb_u8_3class"
CONFIG: dict[str, Any] = {
    "work_dir": "work",
    "output": "out/{name}.n5",
    "prediction": {"project": "project.ilp"},
    "threshold": {"class": 1, "sigma": 1.0, "threshold": 0.4},
    "backend": {"workers": 2},
    "batch": {"files": "images/*.png"},
}


def write_images(count: int) -> None:
    image = read(case_folder(CASE) / "input.h5", "data")
    Path("images").mkdir()
    for i in range(count):
        y, x = 3 * i, 5 * i
        imageio.v3.imwrite(f"images/cell{i}.png", image[y : y + 50 + i, x : x + 60])


def write_config(**changes: Any) -> None:
    Path("config.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))


@pytest.fixture
def batch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder with a project and a configuration; it is the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(case_folder(CASE) / "project.ilp", "project.ilp")
    write_config()
    yield
    end_sessions()


def run_here(manifest: str = "", *, show: bool = False) -> tuple[Run, BatchWorkflow]:
    """Run a batch in this process; what was computed is named by numbers in the batch."""
    run = Run()
    luigi.task_register.Register.clear_instance_cache()
    workflow = BatchWorkflow(config="config.yaml", manifest=manifest)
    workflow.batch.__dict__["execution"] = Execution(InlineBackend(run), 2, show)
    run.ok = luigi.build([workflow], local_scheduler=True, log_level="WARNING")
    end_sessions()
    return run, workflow


def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for dataset in DATASETS:
        volume = open_volume(f"out/{name}.n5:{dataset}")
        found[dataset] = volume.read(tuple(slice(0, n) for n in volume.shape))
    found["objects"] = Path(f"work/images/{name}/objects.csv").read_bytes()
    return found


def times(folder: str = "out") -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}
