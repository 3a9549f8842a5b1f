"""Alignments whose driver is killed in the middle of a step, and what they deliver in the end."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

from blockwise.faults import Faults
from blockwise.step import BlockStep
from pipeline.assembly.stacks.placed import placed_steps
from pipeline.assembly.stacks.steps import stack_steps
from pipeline.configuration.settings import load_settings
from tests.processes import wait_for
from tests.runs import OUTPUT_OF_LUIGI, ROOT, Project, run_luigi, start_luigi

DEFECTS = ROOT / ".." / "shared" / "align" / "given" / "d_defects"
"""Real tissue with a missing, a black and an empty slice; it lies outside the project."""
OWN_NUMBER = re.compile(rb'"id": *"[0-9a-f]{32}"')
"""What each dataset is given when it is made, by which a later one in its place is told from it."""
DEADLINE_S = 600


class DisturbedStack:
    """A folder with slices and a configuration; the current folder must be it.

    Attributes:
        kept: blocks' markers that there were when a driver was killed, with their times.
    """

    def __init__(self, folder: Path, slices: list[Path], backend: dict[str, Any], alignment: dict[str, Any]) -> None:
        self.project = Project(folder)
        self.kept: dict[Path, int] = {}
        (folder / "slices").mkdir()
        for path in slices:
            shutil.copy(path, folder / "slices")
        values = {"work_dir": "work", "output": "result.n5", "alignment": alignment, "backend": backend}
        self.project.write(values)

    def kill_in(self, name: str, least: int) -> None:
        """Run until so many blocks of a step are done, and kill the driver before it is finished."""
        driver = start_luigi(self.project, workflow="AlignmentWorkflow")
        try:
            wait_for(lambda: self._is_at(name, least), DEADLINE_S, self.output)
        finally:
            os.kill(driver, signal.SIGKILL)
            _, status = os.waitpid(driver, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        self.kept |= self._markers()

    def finish(self) -> None:
        """Run to the end; no block is computed again that was done at any of the kills."""
        code, text = run_luigi(self.project, workflow="AlignmentWorkflow")
        assert code == 0, text
        after = self._markers()
        assert {path: after[path] for path in self.kept} == self.kept

    def output(self) -> str:
        """What the driver says."""
        return (self.project.folder / OUTPUT_OF_LUIGI).read_text()

    def _is_at(self, name: str, least: int) -> bool:
        step = _steps().get(name)
        if step is None or not (step.folder / "output.json").exists():
            return False
        assert not step.read_target(), f"{name} is finished, there is nothing to kill"
        return step.markers.count() >= least

    def _markers(self) -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in (self.project.folder / "work").glob("*/*/done/*/*.json")}


def _steps() -> dict[str, BlockStep]:
    """The steps that can be made at present, by name."""
    settings = load_settings("config.yaml")
    stack = stack_steps(settings)
    found = list(stack.all())
    if stack.report.read_target():
        found += placed_steps(settings, stack).all()
    return {step.name: step for step in found}


def hanging(name: str, block: int) -> dict[str, Any]:
    """Faults by which one block of a step hangs at the first attempt, and nothing else of a stack."""
    names = ("slices", "slice_features", "slice_pairs", "alignment", "alignment_report", "aligned", "tissue")
    for seed in itertools.count():
        faults = Faults(hang=0.005, seed=seed)
        if faults.strikes("hang", name, block, 1):
            struck = [(n, i) for n in names for i in range(50) if faults.strikes("hang", n, i, 1)]
            if struck == [(name, block)]:
                return faults.model_dump()
    raise AssertionError


def delivered(folder: Path, *, page: bool = True) -> dict[str, bytes]:
    """All that a run over a stack delivers, file by file."""
    endings = (".csv", ".html") if page else (".csv",)
    paths = [path for path in (folder / "result.n5").rglob("*") if path.is_file()]
    paths += [path for path in (folder / "work").iterdir() if path.suffix in endings]
    paths.append(folder / "work" / "transforms.json")
    return {str(path.relative_to(folder)): OWN_NUMBER.sub(b"", path.read_bytes()) for path in paths}


def assert_same_files(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Fail where two runs differ in a file, or a single byte."""
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
