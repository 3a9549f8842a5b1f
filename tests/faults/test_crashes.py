"""A run that is killed between any two operations on files is continued by the next one, to the same bytes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import z5py

from blockwise.plan import is_complete
from tests.runs import Project, assert_same, make_project

TEMPORARY = re.compile(r"\.[0-9]+\.[0-9a-f]{8}$")
"""Files that a killed process was about to rename; small, and gone with their folder."""

OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


class FileOperations:
    """Watches this process's changes to files below a folder, through Python's audit events."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.kinds: list[str] = []
        self.kill_at = -1
        self.active = True
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active or not (event in OPERATIONS or (event == "open" and self._writes(arguments))):
            return
        path = os.path.abspath(os.fsdecode(arguments[0])) if not isinstance(arguments[0], int) else ""
        if not path.startswith(self.folder):
            return
        if len(self.kinds) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.kinds.append(f"{event} {_kind(path[len(self.folder) :])}")

    @staticmethod
    def _writes(arguments: tuple[Any, ...]) -> bool:
        flags = arguments[2]
        return isinstance(arguments[0], str | bytes) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _kind(path: str) -> str:
    """A path without what differs from run to run and from block to block."""
    path = TEMPORARY.sub(".temporary", path)
    path = re.sub(r"[0-9a-f]{12}", "FINGERPRINT", path)
    path = re.sub("/(prediction|threshold|component_faces|connected_components)/", "/STEP/", path)
    return re.sub(r"\d+", "N", path.replace("n5", "container"))


def fork(project: Project, kill_at: int, recorder: Path | None = None) -> int:
    """Run in a fork that is killed before its file operation number ``kill_at``; how it ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the process may have threads
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        operations = FileOperations(project.folder)
        operations.kill_at = kill_at
        ok = project.run().ok
        operations.active = False
        if recorder:
            recorder.write_text("\n".join(operations.kinds))
        os._exit(0 if ok else 1)
    except BaseException:
        os._exit(2)


def first_of_each_kind(kinds: list[str]) -> list[int]:
    """Numbers of the operations that are the first of their kind."""
    return sorted({kind: i for i, kind in reversed(list(enumerate(kinds)))}.values())


def spoil(project: Project, change: str) -> None:
    """Make work for the next run."""
    if change == "threshold":
        project.change("threshold.threshold", 0.3)
    elif change == "raw":
        raw = z5py.File("raw.n5", mode="a")["raw"]
        raw[:18, :18, 48:] = 255 - raw[:18, :18, 48:]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A complete run over two blocks of two chunks."""
    project = make_project(tmp_path_factory.mktemp("small"), (36, 36, 64))
    project.change("blocks", {"shape": [36, 36, 32], "chunks": [18, 36, 32]})
    with contextlib.chdir(project.folder):
        assert project.run().ok
    return project


@pytest.mark.parametrize(
    ("change", "every"),
    [
        ("threshold", 60),
        pytest.param("threshold", 1, marks=pytest.mark.soak),
        pytest.param("raw", 1, marks=pytest.mark.soak),
    ],
)
def test_killed_at_each_kind_of_file_operation(
    small: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, every: int
) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(small.folder, project.folder)
    monkeypatch.chdir(project.folder)
    spoil(project, change)
    start = tmp_path / "start"
    shutil.copytree(project.folder, start)
    kinds_file = tmp_path / "kinds"
    assert fork(project, -1, kinds_file) == 0
    expected = project.results()
    files = set(project.state())
    kinds = kinds_file.read_text().splitlines()
    numbers = first_of_each_kind(kinds)
    assert len(numbers) > 10
    for number in numbers[::every]:
        restore(start, project)
        assert os.WTERMSIG(fork(project, number)) == signal.SIGKILL, kinds[number]
        finished = {(step.label, block) for step in project.steps().all() for block in step.markers.scan()}
        run = project.run()
        assert run.ok, (kinds[number], run.text)
        assert_same(project.results(), expected)
        assert all(map(is_complete, project.steps().all()))
        again = {(name, block) for name, blocks in run.computed.items() for block in blocks}
        if change == "threshold":  # the markers of the others vouch for what is gone or changed
            assert not again & finished, kinds[number]
        left = {name for name in set(project.state()) ^ files if not TEMPORARY.search(name)}
        assert not left, kinds[number]


def restore(start: Path, project: Project) -> None:
    shutil.rmtree(project.folder)
    shutil.copytree(start, project.folder)
    os.chdir(project.folder)
