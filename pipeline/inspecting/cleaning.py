"""Removes what runs have left, and nothing else."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from blockwise.backends.registry import end_leftovers, left_at_work
from blockwise.claims import LOCKS
from blockwise.errors import UserError
from blockwise.identity import fingerprint
from blockwise.mask import SURVEY
from blockwise.outputs import FilesOutput, GroupOutput, VolumeOutput, found_dataset, found_group
from blockwise.plan import IDENTITY
from blockwise.records import open_records, read_json
from blockwise.step import BlockStep
from blockwise.trust.ownership import OUTPUT
from blockwise.volume import Address, delete_volume, remove_bare_container
from blockwise.volume.groups import delete_group
from pipeline.assembly.geometry import output_dataset
from pipeline.assembly.known import KNOWN
from pipeline.assembly.object_steps import DATASETS, ObjectSteps
from pipeline.assembly.placed_steps import PLACED_STEPS, STACK_STEPS, StackOnly
from pipeline.assembly.scales import former_places
from pipeline.assembly.stages import STAGE_1
from pipeline.assembly.steps import Steps
from pipeline.configuration.settings import Settings
from pipeline.inspecting.live_stores import CONTAINERS, live_folders
from pipeline.inspecting.rates import RATES
from pipeline.running.lock import LOCK, OWNER
from pipeline.running.session import begin_session, end_sessions
from tasks.components.merge_step import ComponentMergeStep
from tasks.context_prediction import ContextPredictionStep
from tasks.objects.table_step import ObjectTableStep
from tasks.prediction import CLASSIFIERS, PredictionStep
from tasks.pyramid.group_step import LabelsStep, PyramidStep
from tasks.pyramid.scale_step import ScaleStep
from tasks.simple_segmentation import SimpleSegmentationStep

FORMER_DATASETS = {
    PredictionStep.name: "probabilities",
    ContextPredictionStep.name: "probabilities",
    **DATASETS,
    **{name: name for name in (SimpleSegmentationStep.name, *PLACED_STEPS)},
}
"""Names of datasets, without that of a threshold, by the steps that write them."""

PYRAMID_STEPS = (ScaleStep.name, PyramidStep.name, LabelsStep.name)

FORMER_STEPS = (
    *(*ObjectSteps.names(), SimpleSegmentationStep.name, ContextPredictionStep.name),
    *(*PYRAMID_STEPS, *STACK_STEPS, *PLACED_STEPS),
)
"""Steps that a configuration may have had: their labels begin so."""

LOGS = ("logs/run.log", "logs/run.log.1")
"""Files in a work folder: what was done and why."""


TABLE_STEPS = (ObjectTableStep.name, ComponentMergeStep.name)
"""Steps that write object tables, and one that did so in earlier versions."""


def find_ours(settings: Settings, steps: Steps | StackOnly) -> list[str]:
    """Datasets, folders and files that carry our fingerprints, as text: datasets as ``path:key``, then paths.

    Whatever else lies in the same folders is not listed.

    Raises:
        UserError: jobs may be alive of a step that the configuration has no more.
    """
    work_dir = Path(settings.work_dir)
    outputs = [step.output() for step in steps.everything()]
    found = [o.address for o in outputs if isinstance(o, VolumeOutput | GroupOutput) and o.found() is not None]
    known = [step.label for step in steps.everything()]
    former = [label for label in labels_in(work_dir) if label not in known and label.startswith(FORMER_STEPS)]
    for label in sorted(former, key=lambda label: not label.startswith(ScaleStep.name)):  # before what holds them
        found += _former_dataset(settings, work_dir / label)
    stage_1 = output_dataset(settings, STAGE_1)
    if not steps.before and found_dataset(stage_1) is not None:  # there was a project of two stages
        found.append(stage_1)
    found += find_work(work_dir, (*known, *former))
    for folder in live_folders(work_dir):
        found += find_trial(settings, folder)
    # Without the step's folder nothing says that tables of these names are ours.
    labels = {Path(item).parent.name for item in found}
    variants = {label.removeprefix(name) for label in labels for name in TABLE_STEPS if label.startswith(name)}
    tables = [
        work_dir / f"objects{variant}.{suffix}" for variant in sorted(variants) for suffix in ("csv", "parquet")
    ]
    # So with the tables of an alignment.
    tables += [table for step in steps.stack if step.folder.parent.exists() for table in _tables(step)]
    reports = [path for path in sorted(work_dir.glob("*Workflow.json")) if "digests" in (_read(path) or {})]
    if reports:
        reports.append(work_dir / "overview.png")
    return found + present(*reports, *tables, *(work_dir / log for log in LOGS))


def _tables(step: BlockStep) -> tuple[Path, ...]:
    output = step.output()
    return output.tables if isinstance(output, FilesOutput) else ()


def _former_dataset(settings: Settings, folder: Path) -> Iterator[str]:
    """The dataset of a step that the configuration has no more, because a threshold was renamed or removed, say.

    Its folders tell of which identity it is, and which dataset is theirs.

    Raises:
        UserError: jobs of the step may be alive.
    """
    for jobs, title in left_at_work(folder).items():
        raise UserError(
            f"{jobs}: {title} jobs of this step, which the configuration has no more, may be alive; "
            "put it back into the configuration, so that clean can cancel them"
        )
    for path in _identities(folder.parent, folder.name):
        identity, output = _read(path) or {}, _read(path.parent / OUTPUT) or {}
        for address in _former_addresses(settings, identity["step"], folder.name):
            found = found_group(address) or found_dataset(address) or {}
            if found.get("fingerprint") == path.parent.name and found["id"] == output.get("id", found["id"]):
                yield address


def _former_addresses(settings: Settings, step: str, label: str) -> Iterable[str]:
    """Where a step of this name and label may have written."""
    variant = label.removeprefix(step)
    if step in PYRAMID_STEPS:
        return former_places(settings, step, variant.removeprefix("_"))
    key = FORMER_DATASETS.get(step)
    return () if key is None else (output_dataset(settings, key + variant),)


def find_trial(settings: Settings, folder: Path) -> Iterator[str]:
    """What lies in a folder of ``live_folders``: the dataset of a threshold that was tried, and its markers."""
    labels = labels_in(folder)
    for container in (folder / name for name in CONTAINERS if (folder / name).exists()):
        apart = settings.model_copy(update={"output": str(container)})
        for label in labels:
            yield from _former_dataset(apart, folder / label)
    yield from find_work(folder, labels)


def find_work(work_dir: Path, labels: Iterable[str]) -> list[str]:
    """What lies in a work folder of steps of these labels, of all fingerprints, and for all steps; no datasets."""
    found = []
    for label in labels:
        target = work_dir / f"{label}.json"
        found += [str(target)] if "fingerprint" in (_read(target) or {}) else []
        found += [str(path.parent) for path in _identities(work_dir, label)]
        found += present(work_dir / "logs" / label)
    classifiers = sorted((work_dir / CLASSIFIERS).glob(f"{'[0-9a-f]' * 32}-*.npz"))
    return found + present(*classifiers, work_dir / SURVEY, work_dir / KNOWN, work_dir / RATES)


def labels_in(work_dir: Path) -> list[str]:
    """Labels of the steps that have worked in a folder."""
    return sorted({path.parent.parent.name for path in _identities(work_dir, "*")})


def _identities(work_dir: Path, label: str) -> list[Path]:
    """Records of identity in folders that are called as their fingerprint, in one that is called as their step."""
    return [path for path in sorted(work_dir.glob(f"{label}/*/{IDENTITY}")) if _is_ours(path)]


def _is_ours(path: Path) -> bool:
    identity, label = _read(path) or {}, path.parent.parent.name
    name, variant = identity.get("step"), identity.get("variant")
    return label == (f"{name}_{variant}" if variant else name) and fingerprint(identity) == path.parent.name


def _read(path: Path) -> dict[str, Any] | None:
    return read_json(open_records(path.parent), path.name)


def present(*paths: Path) -> list[str]:
    """Those that there are, as text."""
    return [str(path) for path in paths if path.exists()]


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
            _delete_output(Address.parse(item))
            remove_bare_container(Address.parse(item))
    end_sessions()
    work_dir = Path(settings.work_dir)
    for name in (OWNER, LOCK, *LOGS):  # the removal itself has made them
        (work_dir / name).unlink(missing_ok=True)
    for folder in (*folders, work_dir):
        shutil.rmtree(folder / LOCKS, ignore_errors=True)
        for inner in folder.glob("*"):
            _remove_if_empty(inner)
        _remove_if_empty(folder)


def _delete_output(address: Address) -> None:
    """Delete a dataset, or a group and the links in it; what else lies in a group has turns of its own."""
    if found_group(str(address)) is None:
        delete_volume(address)
    else:
        delete_group(address)


def _turn(item: str, last: str) -> int:
    """Files, datasets, folders, and the files that go last; see ``remove``."""
    path = Path(item)
    if path.name == last:
        return 3
    return 2 if path.is_dir() else 0 if path.exists() else 1


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
