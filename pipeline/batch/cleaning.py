"""Finds what runs of a batch have left, for all its images, those that are no longer named included."""

from __future__ import annotations

from pathlib import Path

from blockwise.backends.registry import left_at_work
from blockwise.errors import UserError
from blockwise.records import open_records
from pipeline.batch.image_chains import image_steps
from pipeline.batch.image_step import ImagesStep, scratch_folder
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import IMAGES
from pipeline.batch.results_record import RECORD, ImageResults, recorded, results_of
from pipeline.batch.summary import SUMMARY, is_summary
from pipeline.batch.volumes import REMEMBERED
from pipeline.inspecting.cleaning import LOGS, find_trial, find_work, labels_in, present
from pipeline.inspecting.live_stores import live_folders


def find_ours_in_batch(images: BatchImages) -> list[str]:
    """Datasets, folders and files that carry our fingerprints, as text: datasets as ``path:key``, then paths.

    Whatever else lies in the same folders is not listed.

    Raises:
        UserError: jobs may be alive that nobody can cancel, because the batch has their step no more.
    """
    work_dir = Path(images.shared.work_dir)
    _refuse_living_jobs(images)
    found = [item for folder in image_folders(images) for item in _of_image(images, folder)]
    found += find_work(work_dir, (ImagesStep.name,))
    found += [str(path) for path in (work_dir / SUMMARY,) if is_summary(path)]
    others = (work_dir / name for name in (REMEMBERED, *LOGS))
    return found + present(*others, scratch_folder(str(work_dir)))


def image_folders(images: BatchImages) -> list[Path]:
    """Folders of the images that are named, then of those that once were."""
    parent = Path(images.shared.work_dir) / IMAGES
    named = [parent / name for name in images.names]
    return list(dict.fromkeys((*named, *(path.parent for path in sorted(parent.glob(f"*/{RECORD}"))))))


def possible_jobs(images: BatchImages) -> dict[Path, str]:
    """Folders of steps that list jobs which may be alive, each with whose they are.

    Asked first: steps of many images take long to make.
    """
    # The small images' own step is called as the folder of the images' folders.
    parent = (Path(images.shared.work_dir) / IMAGES).resolve()
    return left_at_work(parent) | left_at_work(parent, "*/*")


def _refuse_living_jobs(images: BatchImages) -> None:
    found = possible_jobs(images)
    runs = images.runs() if found else ()
    known = {step.folder.parent.resolve() for run in runs for step in run.steps}
    for folder, title in sorted((folder, found[folder]) for folder in found.keys() - known):
        raise UserError(
            f"{folder}: {title} jobs of an image, or of a step, that the batch has no more may be alive; put it "
            "back, so that clean can cancel them"
        )


def _of_image(images: BatchImages, folder: Path) -> list[str]:
    noted = recorded(open_records(folder))
    results = noted or _expected(images, folder.name)
    found = [*results.present(), *find_work(folder, labels_in(folder))]
    for live in live_folders(folder):
        found += find_trial(images.shared, live)
    # Without dataset or work file nothing says that tables of these names are ours.
    tables = [folder / name for name in results.tables] if found or noted else []
    return [*found, *present(folder / RECORD, *tables)]


def _expected(images: BatchImages, name: str) -> ImageResults:
    """What the present settings have an image write, for results without a record."""
    try:
        i = images.names.index(name)
        steps = images.steps(i) if i in images.large else image_steps(images.settings[i])
        return results_of(steps)
    except (ValueError, UserError, OSError):
        return ImageResults({}, ())
