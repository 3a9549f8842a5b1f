"""Imports point downwards only: pipeline -> tasks -> blockwise, and from room to room within them."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from pipeline.configuration.settings import Settings
from tests.runs import Project, environment, run_luigi
from tests.unit.test_reference_config import keys_and_defaults

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("blockwise", "tasks", "pipeline")
FORBIDDEN = {"blockwise": {"tasks", "pipeline", "luigi", "ilastik"}, "tasks": {"pipeline"}, "pipeline": {"ilastik"}}
FLOORS = (
    "__main__",
    "workflows",
    "batch",
    "viewing",
    "inspecting",
    "exporting",
    "running",
    "assembly",
    "configuration",
)
"""Rooms of `pipeline`; each may use those that come after it."""
LUIGI = ROOT / "tasks" / "nodes"
"""Room of `tasks` that holds Luigi's tasks."""
BACKENDS = ROOT / "blockwise" / "backends"


SLOW = {
    *("numba", "llvmlite", "scipy", "scipy.ndimage", "skimage", "sklearn", "pandas", "pyarrow", "matplotlib", "PIL"),
    *("tensorstore", "tifffile", "imageio", "imagecodecs", "zarr", "dask", "distributed", "boto3", "neuroglancer"),
}
"""Libraries that take long to load: by whoever calls them, when he does."""
OTHERS = {
    *(
        "rich",
        "filelock",
        "pipeline.batch.run",
        "pipeline.assembly.stacks.placed",
        "pipeline.assembly.objects.splitting",
    ),
    *("tasks.context_prediction", "tasks.stacks.slices_step", "tasks.alignment.warp"),
}
"""What a volume's run with nothing to do has no use for; together they take as long as the largest of these."""


def files_of(*layers: str) -> list[Path]:
    files = [file for layer in layers for file in sorted((ROOT / layer).rglob("*.py"))]
    assert files
    return files


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imported(file: Path) -> Iterator[tuple[str, int]]:
    """Whatever a file imports, also within functions and below TYPE_CHECKING: modules, or names in them."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: imports are absolute"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@functools.cache
def modules() -> Mapping[str, Path]:
    """All files by the names of their modules; a package is its ``__init__``."""
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files_of(*LAYERS)}
    return {name.removesuffix(".__init__"): file for file, name in names.items()}


@functools.cache
def imports() -> Mapping[str, frozenset[str]]:
    """For each of our modules those of ours that it names; packages are run before what is in them, unnamed."""
    known = modules()
    found = {}
    for name, file in known.items():
        wanted = {target if target in known else target.rpartition(".")[0] for target, _ in imported(file)}
        found[name] = frozenset(wanted & known.keys()) - {name}
    return found


def circle(group: Callable[[str], str]) -> list[str]:
    """A circle of imports among groups of modules, if there is one."""
    graph: dict[str, set[str]] = {}
    for name, targets in imports().items():
        graph.setdefault(group(name), set()).update({group(target) for target in targets} - {group(name)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def room(name: str) -> str:
    """The folder right below its layer in which a module lies, or the module where it lies in none."""
    folders = modules()[name].relative_to(ROOT).parts[:-1]
    return ".".join(folders[:2]) if len(folders) > 1 else name


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_point_downwards(layer: str) -> None:
    for file in files_of(layer):
        for name, line in imported(file):
            assert name.partition(".")[0] not in FORBIDDEN[layer], f"{file}:{line}"


def test_rooms_of_the_pipeline_use_what_is_below_them() -> None:
    rooms = {room(name).partition(".")[2] for name in modules() if name.startswith("pipeline.")}
    assert rooms == set(FLOORS), "a new room needs a place in FLOORS"
    for name, targets in imports().items():
        for target in targets if name.startswith("pipeline.") else ():
            if target.startswith("pipeline."):
                own, other = (FLOORS.index(room(one).partition(".")[2]) for one in (name, target))
                assert own <= other, f"{name} imports {target}"
            assert target != "pipeline", f"{name} imports the package, which is above all rooms"


def test_no_files_import_each_other() -> None:
    assert circle(lambda name: name) == []


def test_no_rooms_import_each_other() -> None:
    assert circle(room) == []


@pytest.mark.parametrize("layer", LAYERS)
def test_a_backend_is_named_in_its_own_folder_only(layer: str) -> None:
    for file in files_of(layer):
        if BACKENDS not in file.parents or file.parent == BACKENDS / "jobs":
            text = file.read_text().lower().replace("slurm_array_task_id", "")  # as the container's contract has it
            # (A library's attribute is called xarray_dask_data.)
            assert not re.search(r"\bdask|slurm|aws_batch(?!_job_array_index)|aws batch", text), file


def test_messages_of_the_lowest_layer_name_no_key() -> None:
    """They are used without a configuration file as well; names come from above, see ``blockwise.advice``."""
    keys = [key for key, _ in keys_and_defaults(Settings)]
    words = [key for key in keys if "." in key] + [f"`{key}`" for key in keys] + ["work_dir ", "timeout_s)"]
    words += [f"{section} " for section in ("backend.dask", "backend.slurm", "backend.name")]
    for file in files_of("blockwise"):
        for text, line in texts(file):
            assert not [word for word in words if word in f"{text} "], f"{file}:{line}: {text}"


def texts(file: Path) -> Iterator[tuple[str, int]]:
    """All text in a file but docstrings, which stand alone."""
    tree = parsed(file)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value, node.lineno


def test_workers_load_no_library_that_only_drivers_need() -> None:
    """Each worker of each step would pay for it: Luigi alone takes as long as all else."""
    files = [path for path in (ROOT / "tasks").rglob("*.py") if "_step" in path.stem or path.parent.name == "tasks"]
    steps = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files if LUIGI not in path.parents]
    steps.append("pipeline.batch.image_step")
    code = f"import sys, blockwise.worker, {', '.join(steps)}; print(*sys.modules); "
    code += "from pipeline import BatchWorkflow; print(BatchWorkflow.__module__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    modules, name = done.stdout.splitlines()
    assert "tasks.threshold" in modules.split(), done.stderr
    assert not (SLOW | {"luigi", "pipeline.batch.workflow"}) & set(modules.split())
    assert name == "pipeline.batch.workflow", "it is there for whoever asks"


def test_a_run_with_nothing_to_do_loads_no_library_that_computes(project: Project) -> None:
    """It is over within a second of CPU, and the compiler alone takes half of that."""
    code = (
        "import sys\nfrom luigi.cmdline import luigi_run\ntry:\n    luigi_run()\n"
        "except SystemExit as end:\n    print(end.code)\nprint(*sys.modules)"
    )
    assert run_luigi(project)[0] == 0  # writes the report, if nothing else
    command = [sys.executable, "-c", code, *project.command()[3:]]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    *_, code, modules = done.stdout.splitlines()
    assert code == "0", done.stderr
    assert "Nothing to do" in done.stdout
    assert "tasks.threshold" in modules.split()
    assert not (SLOW | OTHERS) & set(modules.split())


def test_luigi_finds_the_workflows() -> None:
    code = "import luigi, pipeline, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "pipeline.batch.workflow" in done.stdout.split(), done.stderr
