"""Removes what runs have left, and nothing else."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blockwise.backends.registry import end_leftovers, left_at_work
from blockwise.errors import UserError
from blockwise.files import read_json
from blockwise.identity import fingerprint
from blockwise.mask import SURVEY
from blockwise.outputs import VolumeOutput, found_dataset
from blockwise.ownership import OUTPUT
from blockwise.plan import IDENTITY
from blockwise.step import BlockStep
from blockwise.volume import Address, delete_volume, remove_bare_container
from pipeline.assembly.geometry import output_dataset
from pipeline.assembly.object_steps import DATASETS, ObjectSteps
from pipeline.assembly.steps import Steps
from pipeline.configuration.settings import Settings
from pipeline.running.lock import LOCK, OWNER
from pipeline.running.session import begin_session, end_sessions
from tasks.components.merge_step import ComponentMergeStep
from tasks.objects.table_step import ObjectTableStep
from tasks.prediction import CLASSIFIERS
from tasks.simple_segmentation import SimpleSegmentationStep

FORMER_DATASETS = {**DATASETS, SimpleSegmentationStep.name: SimpleSegmentationStep.name}
"""Names of datasets, without that of a threshold, by the steps that write them."""

LOGS = ("logs/run.log", "logs/run.log.1")
"""Files in a work folder: what was done and why."""


TABLE_STEPS = (ObjectTableStep.name, ComponentMergeStep.name)
"""Steps that write object tables, and one that did so in earlier versions."""


def find_ours(settings: Settings, steps: Steps) -> list[str]:
    """Datasets, folders and files that carry our fingerprints, as text: datasets as ``path:key``, then paths.

    Whatever else lies in the same folders is not listed.
    """
    found = _of_steps(steps) + _of_former_steps(settings, steps)
    work_dir = Path(settings.work_dir)
    found += find_classifiers(work_dir)
    # Without the step's folder nothing says that tables of these names are ours.
    labels = {Path(item).parent.name for item in found}
    variants = {label.removeprefix(name) for label in labels for name in TABLE_STEPS if label.startswith(name)}
    tables = [
        work_dir / f"objects{variant}.{suffix}" for variant in sorted(variants) for suffix in ("csv", "parquet")
    ]
    reports = [path for path in sorted(work_dir.glob("*Workflow.json")) if "digests" in (read_json(path) or {})]
    if reports:
        reports.append(work_dir / "overview.png")
    others = [work_dir / SURVEY, *(work_dir / log for log in LOGS), *(step.logs for step in steps.everything())]
    return found + [str(path) for path in (*reports, *tables, *others) if path.exists()]


def _of_steps(steps: Steps) -> list[str]:
    """What the configuration's steps have written, and what is known of it."""
    found = []
    for step in steps.everything():
        output = step.output()
        if isinstance(output, VolumeOutput) and output.found() is not None:
            found.append(output.address)
        found += find_step(Path(step.work_dir), step.label)
    return found


def _of_former_steps(settings: Settings, steps: Steps) -> list[str]:
    """The same of steps that the configuration has no more, because a threshold was renamed or removed, say.

    Their folders tell of which identity they are, and which dataset is theirs.

    Raises:
        UserError: jobs of such a step may be alive.
    """
    work_dir = Path(settings.work_dir)
    known = {step.label for step in steps.everything()}
    found: list[str] = []
    for path in sorted(work_dir.glob(f"*/*/{IDENTITY}")):
        identity, label = read_json(path) or {}, path.parent.parent.name
        if label in known or not _is_of(identity, label, path.parent.name):
            continue
        for folder, title in left_at_work(path.parent.parent).items():
            raise UserError(
                f"{folder}: {title} jobs of this step, which the configuration has no more, may be alive; "
                "put it back into the configuration, so that clean can cancel them"
            )
        variant = label.removeprefix(identity["step"])
        address = output_dataset(settings, FORMER_DATASETS.get(identity["step"], "") + variant)
        output = read_json(path.parent / OUTPUT) or {}
        dataset = found_dataset(address) if identity["step"] in FORMER_DATASETS else None
        if dataset and (dataset["fingerprint"], dataset["id"]) == (path.parent.name, output.get("id", dataset["id"])):
            found.append(address)
        found.append(str(path.parent))
        target = work_dir / f"{label}.json"
        if str(target) not in found and "fingerprint" in (read_json(target) or {}):
            found.append(str(target))
        logs = work_dir / "logs" / label
        if str(logs) not in found and logs.exists():
            found.append(str(logs))
    return found


def _is_of(identity: dict[str, Any], label: str, folder: str) -> bool:
    """Whether a folder of this name, in one that is called as a step, is of this identity, which is one of ours."""
    name = identity.get("step")
    own = name in (*ObjectSteps.names(), SimpleSegmentationStep.name)
    variant = identity.get("variant", "")
    return own and label == (f"{name}_{variant}" if variant else name) and fingerprint(identity) == folder


def find_step(work_dir: Path, label: str) -> list[str]:
    """Target and folders, of all fingerprints, of a step."""
    target = work_dir / f"{label}.json"
    found = [str(target)] if "fingerprint" in (read_json(target) or {}) else []
    folders = sorted((work_dir / label).glob(f"*/{IDENTITY}"))
    return [*found, *(str(path.parent) for path in folders if "step" in (read_json(path) or {}))]


def find_classifiers(work_dir: Path) -> list[str]:
    """Classifiers that were trained here."""
    return [str(path) for path in sorted((work_dir / CLASSIFIERS).glob(f"{'[0-9a-f]' * 32}-*.npz"))]


def remove(
    settings: Settings, steps: Iterable[BlockStep], found: list[str], folders: Sequence[Path] = (), last: str = ""
) -> None:
    """Remove what was found, then folders and containers that are empty.

    Targets go first, so that no step counts as finished, and markers after datasets: they tell which datasets are
    ours, should the removal be broken off. A dataset goes in one moment, and markers without it vouch for nothing.

    Args:
        settings: name the work folder.
        steps: whose jobs may still run.
        found: paths and addresses of datasets.
        folders: further folders that are removed where nothing is left in them, inner ones first.
        last: name of files that go after all else, as they tell what is ours.
    """
    begin_session(settings.work_dir)
    setups = settings.backend.setups()
    for step in steps:
        end_leftovers(step, setups)
    for item in sorted(found, key=functools.partial(_turn, last=last)):
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
    for name in (OWNER, LOCK, *LOGS):  # the removal itself has made them
        (work_dir / name).unlink(missing_ok=True)
    for folder in (*folders, work_dir):
        for inner in folder.glob("*"):
            _remove_if_empty(inner)
        _remove_if_empty(folder)


def _turn(item: str, last: str) -> int:
    """Files, datasets, folders, and the files that go last; see ``remove``."""
    path = Path(item)
    if path.name == last:
        return 3
    return 2 if path.is_dir() else 0 if path.exists() else 1


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
