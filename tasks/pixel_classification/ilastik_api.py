"""ilastik's Python API: whether it is installed, with which libraries, and which projects it can read."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

import h5py

from blockwise.errors import UserError
from tasks.pixel_classification.features import StructureTensor
from tasks.pixel_classification.lanes import INFOS
from tasks.pixel_classification.project import Project
from tasks.pixel_classification.project_fields import read_text
from tasks.project_file import ProjectFile

API = "ilastik.experimental.api"
REMEDY = (
    "Make the conda environment of environment.yml (conda env create -f environment.yml) and run in it, or set "
    "prediction.engine: reference, which needs no ilastik"
)
FASTFILTERS = "fastfilters"
LIBRARIES = ("ilastik", FASTFILTERS, "vigra", "numpy")
"""Whose versions may change a probability."""
LOOK = f"""
import importlib, importlib.metadata, json
import {API}
def version(name):
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    try:
        return str(module.__version__)
    except AttributeError:
        pass
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of a version that it does not tell"
print(json.dumps({{name: version(name) for name in {LIBRARIES!r}}}))
"""
NEEDED = ("FeatureSelections/ComputeIn2d", "PixelClassification/ClassifierFactory", "PixelClassification/LabelNames")
"""What the API reads of a project, and old ones lack."""
NEEDED_OF_IMAGES = ("axistags", "shape")


@dataclass(frozen=True)
class Installed:
    """What is installed.

    Attributes:
        versions: of those of ``LIBRARIES`` that are there, with their names.
    """

    versions: tuple[tuple[str, str], ...]

    @property
    def structure_tensor(self) -> StructureTensor:
        """Whose filters ilastik computes with: fastfilters' if it finds them, else vigra's, and says nothing."""
        return "fastfilters" if FASTFILTERS in dict(self.versions) else "vigra"


@cache
def installed() -> Installed:
    """Import ilastik's Python API in a process of its own, to see whether it works.

    Raises:
        UserError: it does not; the message says what is missing.
    """
    try:
        found = importlib.util.find_spec(API) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UserError(
            f"prediction.engine: ilastik is not installed for {sys.executable} (no module {API}). {REMEDY}"
        )
    run = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)  # noqa: S603
    if run.returncode:
        reason = run.stderr.strip().rpartition("\n")[2]
        raise UserError(
            f"prediction.engine: ilastik is installed for {sys.executable}, but fails: {reason}. {REMEDY}"
        )
    versions = json.loads(run.stdout.rstrip().rpartition("\n")[2])
    return Installed(tuple((name, version) for name, version in versions.items() if version is not None))


def check_filters(chosen: StructureTensor) -> None:
    """Refuse to compute with other filters than are meant: probabilities differ by up to 0.25.

    Raises:
        UserError: ilastik computes with other filters here, or is not installed.
    """
    present = installed()
    if present.structure_tensor == chosen:
        return
    listed = ", ".join(f"{name} {version}" for name, version in present.versions)
    if chosen == FASTFILTERS:
        raise UserError(
            f"prediction.engine: ilastik finds no fastfilters for {sys.executable} ({listed}) and would compute "
            "with vigra, which changes probabilities by up to 0.25; install it (conda install -c ilastik-forge "
            "fastfilters), or set prediction.structure_tensor: vigra if that is meant"
        )
    raise UserError(
        f"prediction.structure_tensor: {chosen!r} cannot be had of the engine ilastik for {sys.executable} "
        f"({listed}), which computes with fastfilters where they are installed; set fastfilters, or another engine"
    )


def check_project(project: Project) -> None:
    """Refuse what the API cannot read.

    Raises:
        UserError: the project is of another workflow, has two stages, no classifier or its channels first, or is old.
    """
    if project.stage > 1 or project.then is not None:
        raise UserError(
            f"project {project.path} has two stages (autocontext), of which ilastik's Python API computes both "
            "at once, for whole images only; choose prediction.engine: fast, or reference"
        )
    if project.forest is None or len(project.labels):
        raise UserError(
            f"project {project.path} holds labels but no classifier, which ilastik's Python API does not accept; "
            "train it in ilastik (Live Update) and save it, or choose prediction.engine: reference"
        )
    if "c" in project.axes and not project.axes.endswith("c"):
        raise UserError(
            f"project {project.path}: its last image has the axes {project.axes}, and ilastik's Python API computes "
            "features only where channels come last; choose prediction.engine: fast, or reference"
        )
    with ProjectFile.at(project.path).opened() as file:
        workflow = read_text(file, "workflowName")
        missing = _missing(file)
    if workflow != "Pixel Classification":
        raise UserError(
            f"project {project.path}: the workflow is {workflow!r}, of which ilastik's Python API reads no pixel "
            "classification; choose prediction.engine: fast, or reference"
        )
    if missing:
        raise UserError(
            f"project {project.path} was saved by ilastik {project.version} without {', '.join(missing)}, which "
            "ilastik's Python API needs; open it in ilastik 1.4 and save it again, or choose prediction.engine: "
            "fast, or reference"
        )


def _missing(file: h5py.File) -> list[str]:
    images = (f"{INFOS}/{lane}/Raw Data/{name}" for lane in file[INFOS] for name in NEEDED_OF_IMAGES)
    return [name for name in (*NEEDED, *images) if name not in file]
