"""Removes what runs have left, and nothing else."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blockwise.backends.registry import end_leftovers, left_at_work
from blockwise.errors import UserError
from blockwise.identity import fingerprint
from blockwise.mask import SURVEY
from blockwise.outputs import FilesOutput, GroupOutput, VolumeOutput, found_dataset, found_group
from blockwise.plan import IDENTITY
from blockwise.step import BlockStep
from blockwise.trust.ownership import OUTPUT
from blockwise.volume import Address, delete_volume, remove_bare_container
from blockwise.volume.groups import delete_group
from pipeline.assembly.geometry import output_dataset
from pipeline.assembly.known import KNOWN
from pipeline.assembly.objects.steps import DATASETS, ObjectSteps
from pipeline.assembly.pyramids.scales import former_places
from pipeline.assembly.stacks.placed import PLACED_STEPS, STACK_STEPS, StackOnly
from pipeline.assembly.stages import STAGE_1
from pipeline.assembly.steps import Steps
from pipeline.configuration.settings import Settings
from pipeline.inspecting.live_stores import CONTAINERS, live_folders
from pipeline.inspecting.rates import RATES
from pipeline.inspecting.work_place import StoredPlace, WorkPlace
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
    work = WorkPlace(settings.work_dir)
    outputs = [step.output() for step in steps.everything()]
    found = [o.address for o in outputs if isinstance(o, VolumeOutput | GroupOutput) and o.found() is not None]
    known = [step.label for step in steps.everything()]
    former = [label for label in labels_in(work) if label not in known and label.startswith(FORMER_STEPS)]
    for label in sorted(former, key=lambda label: not label.startswith(ScaleStep.name)):  # before what holds them
        found += _former_dataset(settings, work, label)
    stage_1 = output_dataset(settings, STAGE_1)
    if not steps.before and found_dataset(stage_1) is not None:  # there was a project of two stages
        found.append(stage_1)
    labels = {label for label, _ in _identities(work, "*")}
    found += find_work(work, (*known, *former))
    for folder in live_folders(settings.work_dir):
        found += find_trial(settings, folder)
    # Without the step's folder nothing says that tables of these names are ours.
    variants = {label.removeprefix(name) for label in labels for name in TABLE_STEPS if label.startswith(name)}
    tables = [f"objects{variant}.{suffix}" for variant in sorted(variants) for suffix in ("csv", "parquet")]
    # So with the tables of an alignment.
    tables += [table for step in steps.stack if step.work.holds(step.label) for table in _tables(step)]
    reports = [key for key in work.matching("*Workflow.json") if "digests" in (work.read(key) or {})]
    if reports:
        reports.append("overview.png")
    return found + work.present(*reports, *tables, *LOGS)


def _tables(step: BlockStep) -> tuple[str, ...]:
    output = step.output()
    return tuple(table.key for table in output.tables) if isinstance(output, FilesOutput) else ()


def _former_dataset(settings: Settings, work: WorkPlace, label: str) -> Iterator[str]:
    """The dataset of a step that the configuration has no more, because a threshold was renamed or removed, say.

    Its folders tell of which identity it is, and which dataset is theirs.

    Raises:
        UserError: jobs of the step may be alive.
    """
    for title in left_at_work(work.records, label).values():
        raise UserError(
            f"{work.records.place(label)}: {title} jobs of this step, which the configuration has no more, may be "
            "alive; put it back into the configuration, so that clean can cancel them"
        )
    for _, mark in _identities(work, label):
        identity, output = (work.read(f"{label}/{mark}/{name}") or {} for name in (IDENTITY, OUTPUT))
        for address in _former_addresses(settings, identity["step"], label):
            found = found_group(address) or found_dataset(address) or {}
            if found.get("fingerprint") == mark and found["id"] == output.get("id", found["id"]):
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
    work = WorkPlace(str(folder))
    labels = labels_in(work)
    for container in (folder / name for name in CONTAINERS if (folder / name).exists()):
        apart = settings.model_copy(update={"output": str(container)})
        for label in labels:
            yield from _former_dataset(apart, work, label)
    yield from find_work(work, labels)


def find_work(work: WorkPlace, labels: Iterable[str]) -> list[str]:
    """What lies in a work folder of steps of these labels, of all fingerprints, and for all steps; no datasets."""
    found = []
    for label in labels:
        if "fingerprint" in (work.read(f"{label}.json") or {}):
            found += work.present(f"{label}.json")
        found += work.present(*(f"{label}/{mark}" for _, mark in _identities(work, label)))
        found += work.present(f"logs/{label}")
    classifiers = work.matching(f"{CLASSIFIERS}/{'[0-9a-f]' * 32}-*.npz")
    return found + work.present(*classifiers, SURVEY, KNOWN, RATES)


def labels_in(work: WorkPlace) -> list[str]:
    """Labels of the steps that have worked in a folder."""
    return sorted({label for label, _ in _identities(work, "*")})


def _identities(work: WorkPlace, label: str) -> list[tuple[str, str]]:
    """Labels and fingerprints of which there is a record of identity that says the same."""
    keys = (key.split("/") for key in work.matching(f"{label}/*/{IDENTITY}"))
    return [(name, mark) for name, mark, _ in keys if _is_ours(work, name, mark)]


def _is_ours(work: WorkPlace, label: str, mark: str) -> bool:
    identity = work.read(f"{label}/{mark}/{IDENTITY}") or {}
    name, variant = identity.get("step"), identity.get("variant")
    return label == (f"{name}_{variant}" if variant else name) and fingerprint(identity) == mark


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
        if isinstance(item, StoredPlace):
            item.remove()
        elif path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            _delete_output(Address.parse(item))
            remove_bare_container(Address.parse(item))
    end_sessions()
    # The removal itself has made some.
    WorkPlace(settings.work_dir).remove_remains((OWNER, LOCK, *LOGS), map(str, folders))


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
    if isinstance(item, StoredPlace):
        return 2 * item.is_prefix
    return 2 if path.is_dir() else 0 if path.exists() else 1
