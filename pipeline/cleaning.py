"""Removes what runs have left, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from blockwise.backends.slurm import SlurmBackend
from blockwise.files import read_json
from blockwise.mask import SURVEY
from blockwise.outputs import VolumeOutput
from blockwise.plan import IDENTITY
from blockwise.step import BlockStep
from blockwise.volume import Address, delete_volume, remove_bare_container
from pipeline.config import Settings
from pipeline.image_results import RECORD
from pipeline.lock import LOCK, OWNER
from pipeline.session import begin_session, end_sessions
from pipeline.steps import Steps
from tasks.prediction import CLASSIFIERS


def find_ours(settings: Settings, steps: Steps) -> list[str]:
    """Datasets, folders and files that carry our fingerprints, as text: datasets as ``path:key``, then paths.

    Whatever else lies in the same folders is not listed.
    """
    found = []
    work_dir = Path(settings.work_dir)
    for step in steps.everything():
        output = step.output()
        if isinstance(output, VolumeOutput) and output.found() is not None:
            found.append(output.address)
        found += find_step(work_dir, step.label)
    found += find_classifiers(work_dir)
    # Without the step's folder nothing says that tables of these names are ours.
    merged = {Path(item).parent.name for item in found}
    merges = [objects.component_merge for objects in steps.objects if objects.component_merge.label in merged]
    tables = [str(path) for merge in merges for path in merge.output().tables if path.exists()]
    reports = [path for path in sorted(work_dir.glob("*Workflow.json")) if "digests" in (read_json(path) or {})]
    if reports:
        found += [str(path) for path in reports]
        found += [str(path) for path in (work_dir / "overview.png",) if path.exists()]
    others = [work_dir / SURVEY, work_dir / "logs" / "run.log", *(step.logs for step in steps.everything())]
    return found + tables + [str(path) for path in others if path.exists()]


def find_step(work_dir: Path, label: str) -> list[str]:
    """Target and folders, of all fingerprints, of a step."""
    target = work_dir / f"{label}.json"
    found = [str(target)] if "fingerprint" in (read_json(target) or {}) else []
    folders = sorted((work_dir / label).glob(f"*/{IDENTITY}"))
    return [*found, *(str(path.parent) for path in folders if "step" in (read_json(path) or {}))]


def find_classifiers(work_dir: Path) -> list[str]:
    """Classifiers that were trained here."""
    return [str(path) for path in sorted((work_dir / CLASSIFIERS).glob(f"{'[0-9a-f]' * 32}-*.npz"))]


def remove(settings: Settings, steps: Iterable[BlockStep], found: list[str], folders: Sequence[Path] = ()) -> None:
    """Remove what was found, targets and markers before data, then folders and containers that are empty.

    Args:
        settings: name the work folder.
        steps: whose jobs may still run.
        found: paths and addresses of datasets.
        folders: further folders that are removed where nothing is left in them, inner ones first.
    """
    begin_session(settings.work_dir)
    for step in steps:
        # Jobs of a driver that was killed, whatever backend is set now; where there are none, nothing happens.
        SlurmBackend(settings.backend.slurm).clear(step)
    for item in sorted(found, key=_turn):
        path = Path(item)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            delete_volume(item)
            remove_bare_container(Address.parse(item))
    end_sessions()
    work_dir = Path(settings.work_dir)
    for name in (OWNER, LOCK, "logs/run.log"):  # the removal itself has made them
        (work_dir / name).unlink(missing_ok=True)
    for folder in (*folders, work_dir):
        for inner in folder.glob("*"):
            _remove_if_empty(inner)
        _remove_if_empty(folder)


def _turn(item: str) -> int:
    """Markers must be gone before the data that they vouch for; what names the data stays until it is gone."""
    path = Path(item)
    return 2 if path.name == RECORD else 0 if path.exists() else 1


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
