"""Stacks of slices to align in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.run import run_step
from blockwise.step import load_step
from blockwise.volume import open_volume
from pipeline.assembly.stacks.placed import PlacedSteps, placed_steps
from pipeline.assembly.stacks.steps import StackSteps, stack_steps
from pipeline.configuration.settings import load_settings
from tasks.stacks.report.step import AlignmentReportStep
from tests.runs import ROOT, InlineBackend, Run, made_once

EXAMPLE = ROOT / "data" / "slices"


class Stack:
    """A folder with slices and a configuration; the current folder must be it."""

    def __init__(self, folder: Path, **alignment: Any) -> None:
        self.folder = folder
        self.alignment = {"slices": "slices/slice_*.png", "model": "translation", "slab": 4, **alignment}
        if not (folder / "slices").exists():
            shutil.copytree(EXAMPLE, folder / "slices", ignore=shutil.ignore_patterns("*.json"))
        self.write()

    def write(self, **alignment: Any) -> None:
        """Write the configuration, with some of the alignment's keys changed."""
        self.alignment |= alignment
        values = {"work_dir": "work", "output": "result.n5", "alignment": self.alignment}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(values))

    def stack(self) -> StackSteps:
        return stack_steps(load_settings("config.yaml"))

    def placed(self) -> PlacedSteps:
        return placed_steps(load_settings("config.yaml"), self.stack())

    def run(self, *, report: bool = False) -> dict[str, list[int]]:
        """Bring everything up to date; the blocks that were computed, by step. Steps go through JSON.

        The page with pictures takes longer than all else: it is made where it is wanted.
        """
        record = Run()
        for stage in (self.stack, self.placed):
            for made in stage().all():
                if made.name == AlignmentReportStep.name and not report:
                    continue
                step = load_step(made.to_json())
                step.make_ready()
                outcome = run_step(step, InlineBackend(record), 1, lambda _: None)
                if outcome.failed:
                    raise UserError("; ".join(result.message for result in outcome.failed.values()))
                assert not outcome.stopped
        return record.computed

    def slice(self, z: int) -> Path:
        return self.folder / "slices" / f"slice_{z:04d}.png"

    def pixels(self, z: int) -> NDArray[Any]:
        return np.asarray(imageio.v3.imread(self.slice(z)))

    def transforms(self) -> dict[str, Any]:
        """What ``transforms.json`` holds."""
        return dict(json.loads((self.folder / "work" / "transforms.json").read_text()))

    def volume(self, name: str = "aligned") -> NDArray[Any]:
        volume = open_volume(f"result.n5:{name}")
        return volume.read(tuple(slice(0, n) for n in volume.shape))


@pytest.fixture(scope="session")
def finished_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished alignment; read only."""
    return made_once(tmp_path_factory, "stack", lambda folder: Stack(folder).run(report=True))


@pytest.fixture
def stack(finished_stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A copy of it, times of files included, in the current folder."""
    folder = tmp_path / "stack"
    shutil.copytree(finished_stack, folder)
    monkeypatch.chdir(folder)
    return Stack(folder)


@pytest.fixture
def unused_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.chdir(tmp_path)
    return Stack(tmp_path)
