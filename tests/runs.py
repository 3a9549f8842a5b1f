"""Small projects to run for real: a crop of the example data as N5, the example's classifier, few blocks.

``finished`` is one complete run, made once; ``project`` is a copy in a folder of its own, which a test may spoil.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import luigi
import numpy as np
import pytest
import yaml
import z5py
from filelock import FileLock
from luigi.retcodes import run_with_retcodes
from luigi.setup_logging import InterfaceLogging
from numpy.typing import NDArray

from blockwise.backends import Outcome, Referee
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.volume import open_volume
from blockwise.worker import Worker
from pipeline import ConnectedComponentsWorkflow
from pipeline.assembly.steps import Steps, build_steps
from pipeline.configuration.settings import load_settings
from pipeline.running.session import end_sessions
from pipeline.running.workflows import Workflow
from tasks.nodes.execution import Execution
from tasks.nodes.task import BlockTask

ROOT = Path(__file__).resolve().parents[1]
STEPS = (
    "prediction",
    "threshold",
    "component_faces",
    "component_merge",
    "connected_components",
    "object_table",
)
DATASETS = ("probabilities", "thresholded", "connected_components")
SHAPE = (36, 36, 128)
BLOCK = (36, 18, 32)


def settings() -> dict[str, Any]:
    """The configuration of a small run; paths are relative, so that copies of a run have the same identity."""
    return {
        "work_dir": "work",
        "raw": "raw.n5:raw",
        "output": "result.n5",
        "blocks": {"shape": list(BLOCK), "chunks": [18, 18, 16]},
        "prediction": {"project": "membranes.ilp"},
        "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
        "connected_components": {"foreground": 0, "connectivity": 26},
        "backend": {"name": "local", "workers": 1},
    }


def make_project(folder: Path, shape: tuple[int, ...] = SHAPE) -> Project:
    """Write raw data, classifier and configuration into an empty folder."""
    with h5py.File(ROOT / "data" / "raw.h5") as file:
        raw = file["data"][tuple(slice(20, 20 + n) if n < 100 else slice(0, n) for n in shape)]
    container = z5py.File(str(folder / "raw.n5"), mode="a")
    container.create_dataset("raw", data=raw, chunks=(18, 18, 16), compression="gzip")
    copy_few_trees(ROOT / "data" / "membranes.ilp", folder / "membranes.ilp")
    project = Project(folder)
    project.write(settings())
    return project


def copy_few_trees(source: Path, target: Path, trees: int = 10) -> None:
    """Copy a project with so many trees of each of its forests: every driver and every worker reads them all."""
    with h5py.File(source) as whole, h5py.File(target, "w") as few:
        for name in whole:
            whole.copy(name, few)
        forests = few["PixelClassification/ClassifierForests"]
        for forest in (forests[name] for name in forests if name.startswith("Forest")):
            for number in range(trees, int(forest["_options/tree_count_"][0])):
                del forest[f"Tree_{number:02}"]
            forest["_options/tree_count_"][0] = trees
    with h5py.File(target) as few, h5py.File(f"{target}.new", "w") as packed:  # without the room of what was deleted
        for name in few:
            few.copy(name, packed)
    Path(f"{target}.new").replace(target)


def make_long_project(folder: Path) -> Project:
    """As ``make_project``, of a volume that has a coarser scale, in one block."""
    project = make_project(folder, (36, 36, 32))
    container = z5py.File(str(folder / "raw.n5"), mode="a")
    values = np.tile(container["raw"][:], (1, 1, 9))
    container.create_dataset("long", data=values, chunks=(36, 36, 32), compression="gzip")
    project.change("raw", "raw.n5:long")
    project.change("blocks", {"shape": [36, 36, 288], "chunks": [36, 36, 32]})
    return project


@dataclass
class Run:
    """What one run in this process did.

    Attributes:
        ok: whether it succeeded.
        computed: per step, the blocks that were computed.
        checked: per step, the blocks whose data was checked and found good.
        log: what the program said.
    """

    ok: bool = False
    computed: dict[str, list[int]] = field(default_factory=dict)
    checked: dict[str, list[int]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.log)


class InlineBackend:
    """Computes blocks in this process, by the code that workers run."""

    def __init__(self, run: Run) -> None:
        self.record = run

    def take_over(self, step: BlockStep) -> None:
        """Nor has an earlier run left anything."""

    def clear(self, step: BlockStep) -> None:
        """Nothing outlives this process."""

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        worker = Worker(step, "no log")
        for item in items:
            attempt = 1
            while not referee.outcome.stopped:
                result = worker.run(item, attempt)
                if result.state != "failed":
                    kind = self.record.computed if result.state == "computed" else self.record.checked
                    kind.setdefault(step.label, []).append(item.block)
                if not referee.judge(result, attempt):
                    break
                attempt += 1
            report(referee.outcome)


class Project:
    """A folder with raw data, classifier, configuration and whatever runs have left there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def write(self, values: dict[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(values))

    def change(self, key: str, value: Any) -> None:
        """Change one key of the configuration, such as ``threshold.sigma``."""
        values = yaml.safe_load(self.config.read_text())
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
        self.write(values)

    def steps(self) -> Steps:
        return build_steps(load_settings(str(self.config)))

    def step(self, name: str) -> BlockStep:
        return next(step for step in self.steps().all() if step.label == name)

    def run(
        self, backend: Callable[[Run], Any] = InlineBackend, workflow: type[Workflow] = ConnectedComponentsWorkflow
    ) -> Run:
        """Run the workflow's steps through Luigi in this process; the current folder must be the project's."""
        run = Run()
        handler = logging.Handler()
        handler.emit = lambda record: run.log.append(record.getMessage())  # type: ignore[method-assign]
        loggers = [logging.getLogger(name) for name in ("blockwise", "tasks", "luigi-interface")]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        try:
            run.ok = luigi.build(self.tasks(run, backend, workflow), local_scheduler=True, log_level="WARNING")
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
            end_sessions()
        return run

    def tasks(self, run: Run, backend: Callable[[Run], Any], kind: type[Workflow]) -> list[BlockTask]:
        luigi.task_register.Register.clear_instance_cache()
        workflow = kind(config=str(self.config))
        workflow.__dict__["execution"] = Execution(backend(run), 2, show=False)
        return workflow.last_tasks()

    def results(self) -> dict[str, NDArray[Any] | bytes]:
        """Everything that a run delivers."""
        values: dict[str, NDArray[Any] | bytes] = {}
        for name in DATASETS:
            volume = open_volume(f"{self.folder}/result.n5:{name}")
            values[name] = volume.read(tuple(slice(0, n) for n in volume.shape))
        values["objects"] = (self.folder / "work" / "objects.csv").read_bytes()
        return values

    def state(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file, by path."""
        return {
            str(path.relative_to(self.folder)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def luigi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Luigi's command line to its end."""
        command = self.command(*arguments)
        return subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=300
        )

    def command(self, *arguments: str, workflow: str = "ConnectedComponentsWorkflow") -> list[str]:
        options = arguments if "--scheduler-port" in arguments else ("--local-scheduler", *arguments)
        return [sys.executable, "-m", "luigi", "--module", "pipeline", workflow, "--config", "config.yaml", *options]


def run_luigi(project: Project, *arguments: str, workflow: str = "ConnectedComponentsWorkflow") -> tuple[int, str]:
    """Luigi's command line in a fork of this process, which spares the imports: exit code and output."""
    child = start_luigi(project, *arguments, workflow=workflow)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    path = project.folder / OUTPUT_OF_LUIGI
    text = path.read_text()
    path.unlink()
    return code, text


OUTPUT_OF_LUIGI = "output-of-luigi"


def start_luigi(project: Project, *arguments: str, workflow: str = "ConnectedComponentsWorkflow") -> int:
    """Start Luigi's command line as ``run_luigi`` does; the fork's id."""
    path = project.folder / OUTPUT_OF_LUIGI
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the process may have threads
        child = os.fork()
    if child:
        return child
    try:
        sys.stdout = sys.stderr = path.open("w", buffering=1)
        luigi.task_register.Register.clear_instance_cache()
        logging.getLogger("luigi-interface").handlers.clear()
        InterfaceLogging._configured = False  # a run of this process has set it up, with its own stderr
        luigi.configuration.get_config().read(str(ROOT / "luigi.cfg"))
        run_with_retcodes(project.command(*arguments, workflow=workflow)[3:])
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(99)


def environment() -> dict[str, str]:
    """This process's environment, the packages and Luigi's settings found wherever the command runs."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LUIGI_CONFIG_PATH": str(ROOT / "luigi.cfg"),
        "COLUMNS": "200",
        "PYTHONWARNINGS": "default",
    }


def assert_same(found: dict[str, NDArray[Any] | bytes], expected: dict[str, NDArray[Any] | bytes]) -> None:
    """Fail where two runs' results differ in a single bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, bytes):
            assert found[name] == value, name
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


def dataset_folder(project: Project, name: str) -> Path:
    return project.folder / "result.n5" / name


def chunk_files(folder: Path) -> list[Path]:
    """Chunk files of an N5 dataset."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.isdigit())


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that all processes of a test session share, made in it by the first that wants it; read only.

    Args:
        factory: of the session.
        name: of the folder.
        make: fills an empty folder, which is the current one meanwhile.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, new = shared / name, shared / f"{name}.new"
    with FileLock(shared / f"{name}.lock"):
        if not folder.exists():
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            with contextlib.chdir(new):
                make(new)
            new.rename(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A complete run; read only."""

    def make(folder: Path) -> None:
        assert make_project(folder).run().ok

    return Project(made_once(tmp_path_factory, "finished", make))


@pytest.fixture(scope="session")
def expected(finished: Project) -> dict[str, NDArray[Any] | bytes]:
    """What a run of the unchanged configuration delivers."""
    return finished.results()


@pytest.fixture
def project(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A copy of the complete run, times of files included; the current folder is its folder."""
    folder = tmp_path / "project"
    shutil.copytree(finished.folder, folder)
    monkeypatch.chdir(folder)
    yield Project(folder)
    end_sessions()


@pytest.fixture
def unused(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project in which nothing has run."""
    for name in ("raw.n5", "membranes.ilp", "config.yaml"):
        source = finished.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    yield Project(tmp_path)
    end_sessions()
