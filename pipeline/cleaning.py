"""Removes what runs have left, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from blockwise.backends.slurm import SlurmBackend
from blockwise.files import read_json
from blockwise.mask import SURVEY
from blockwise.outputs import VolumeOutput
from blockwise.plan import IDENTITY
from blockwise.volume import delete_volume
from pipeline.config import Settings
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
        folders = sorted((work_dir / step.label).glob(f"*/{IDENTITY}"))
        found += [str(path.parent) for path in folders if "step" in (read_json(path) or {})]
        target = read_json(step.target_path)
        if target and "fingerprint" in target:
            found.append(str(step.target_path))
    found += map(str, sorted((work_dir / CLASSIFIERS).glob(f"{'[0-9a-f]' * 32}-*.npz")))
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


def remove(settings: Settings, steps: Steps, found: list[str]) -> None:
    """Remove what ``find_ours`` has found, targets and markers before data, then folders that are empty."""
    begin_session(settings.work_dir)
    for step in steps.all():
        # Jobs of a driver that was killed, whatever backend is set now; where there are none, nothing happens.
        SlurmBackend(settings.backend.slurm).clear(step)
    # A path sorts before a dataset: markers must be gone before the data that they vouch for.
    for item in sorted(found, key=lambda item: ".n5:" in item):
        path = Path(item)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            delete_volume(item)
    end_sessions()
    work_dir = Path(settings.work_dir)
    for name in (OWNER, LOCK, "logs/run.log"):  # the removal itself has made them
        (work_dir / name).unlink(missing_ok=True)
    for folder in work_dir.glob("*"):
        _remove_if_empty(folder)
    _remove_if_empty(work_dir)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
