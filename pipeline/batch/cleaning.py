"""Finds what runs of a batch have left, for all its images, those that are no longer named included."""

from __future__ import annotations

from pathlib import Path

from blockwise.backends.registry import left_at_work
from blockwise.errors import UserError
from blockwise.records import Records, in_store, open_records
from pipeline.batch.image_chains import image_steps
from pipeline.batch.image_step import ImagesStep, scratch_folder
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import IMAGES
from pipeline.batch.results_record import RECORD, ImageResults, recorded, results_of
from pipeline.batch.summary import SUMMARY, is_summary
from pipeline.batch.volumes import REMEMBERED
from pipeline.inspecting.cleaning import LOGS, find_trial, find_work, labels_in
from pipeline.inspecting.live_stores import live_folders
from pipeline.inspecting.work_place import WorkPlace


def find_ours_in_batch(images: BatchImages) -> list[str]:
    """Datasets, folders and files that carry our fingerprints, as text: datasets as ``path:key``, then paths.

    Whatever else lies in the same folders is not listed.

    Raises:
        UserError: jobs may be alive that nobody can cancel, because the batch has their step no more.
    """
    work = WorkPlace(images.shared.work_dir)
    _refuse_living_jobs(images)
    found = [item for name in image_names(images) for item in _of_image(images, work.inner(f"{IMAGES}/{name}"))]
    found += find_work(work, (ImagesStep.name,))
    found += work.present(SUMMARY) if is_summary(work.records) else []
    scratch = scratch_folder(work.place)
    return found + work.present(REMEMBERED, *LOGS) + [str(scratch)] * scratch.exists()


def image_names(images: BatchImages) -> list[str]:
    """Names of the images that are there, then of those that once were."""
    former = (key.split("/")[1] for key in WorkPlace(images.shared.work_dir).matching(f"{IMAGES}/*/{RECORD}"))
    return list(dict.fromkeys((*images.names, *former)))


def image_folders(images: BatchImages) -> list[Path]:
    """Folders of these images, then that in which they lie; none in a store."""
    if in_store(images.shared.work_dir):
        return []
    parent = Path(images.shared.work_dir) / IMAGES
    return [*(parent / name for name in image_names(images)), parent]


def possible_jobs(images: BatchImages) -> dict[str, str]:
    """Places of steps that list jobs which may be alive, each with whose they are.

    Asked first: steps of many images take long to make.
    """
    work = open_records(images.shared.work_dir)
    # The small images' own step is called as the folder of the images' folders.
    found = left_at_work(work, IMAGES, f"{IMAGES}/*/*")
    return {_whole(work, step): title for step, title in found.items()}


def _whole(work: Records, step: str) -> str:
    """The place of a step, whatever it is called by."""
    path = work.local(step)
    return work.place(step) if path is None else str(path.resolve())


def _refuse_living_jobs(images: BatchImages) -> None:
    found = possible_jobs(images)
    runs = images.runs() if found else ()
    known = {_whole(step.work, step.label) for run in runs for step in run.steps}
    for place in sorted(found.keys() - known):
        raise UserError(
            f"{place}: {found[place]} jobs of an image, or of a step, that the batch has no more may be alive; put "
            "it back, so that clean can cancel them"
        )


def _of_image(images: BatchImages, work: WorkPlace) -> list[str]:
    noted = recorded(work.records)
    results = noted or _expected(images, work.name)
    found = [*results.present(), *find_work(work, labels_in(work))]
    for live in live_folders(work.place):
        found += find_trial(images.shared, live)
    # Without dataset or work file nothing says that tables of these names are ours.
    tables = results.tables if found or noted else ()
    return [*found, *work.present(RECORD, *tables)]


def _expected(images: BatchImages, name: str) -> ImageResults:
    """What the present settings have an image write, for results without a record."""
    try:
        i = images.names.index(name)
        steps = images.steps(i) if i in images.large else image_steps(images.settings[i])
        return results_of(steps)
    except (ValueError, UserError, OSError):
        return ImageResults({}, ())
