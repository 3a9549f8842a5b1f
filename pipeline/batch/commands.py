"""``blockwise-ilastik`` for configurations of many files."""

from __future__ import annotations

from collections.abc import Callable

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.backends.registry import describe_jobs
from pipeline.batch.cleaning import find_ours_in_batch, image_folders, named_steps, possible_jobs
from pipeline.batch.forecast import BatchForecast, BatchStatus, LargeStatus, batch_status, forecast_batch
from pipeline.batch.images import BatchImages
from pipeline.batch.results_record import RECORD
from pipeline.batch.summary import LONGEST_TABLE, SUMMARY
from pipeline.batch.verification import Part, parts_of
from pipeline.inspecting.cleaning import remove
from pipeline.inspecting.verification import verify
from pipeline.running.session import begin_session
from tasks.nodes.terminal import counting_bar


def plan(images: BatchImages) -> None:
    """Print what a run would do."""
    forecast: BatchForecast = forecast_batch(images)
    limit = images.shared.batch.small_voxels
    print(
        f"{len(images.names):,} images: {forecast.small:,} small ones (up to {limit:,} voxels), computed whole, "
        f"{forecast.small_left:,} left"
    )
    if forecast.large:
        todo = forecast.large_left
        named = ", ".join(todo[:LONGEST_TABLE]) + (", ..." if len(todo) > LONGEST_TABLE else "")
        ones = "one" if forecast.large == 1 else "ones"
        print(
            f"{forecast.large:,} larger {ones}, computed block by block, {len(todo):,} left"
            + (f": {named}" if named else "")
        )


def status(images: BatchImages, console: Console) -> bool:
    """Print how far a run has come; False where something has failed."""
    found: BatchStatus = batch_status(images)
    if found.small is not None:
        row = found.small
        table = Table("small images", "done", "failed", "missing", "finished", box=SIMPLE)
        table.add_row(
            row.step, f"{row.done:,}", f"{row.failed:,}", f"{row.missing:,}", "yes" if row.finished else "no"
        )
        console.print(table)
    if found.large:
        console.print(_table_of_large(found.large))
    for message in found.messages[:LONGEST_TABLE]:
        console.print(message, highlight=False, markup=False)
    if len(found.messages) > LONGEST_TABLE:
        print(f"... and {len(found.messages) - LONGEST_TABLE:,} more in {images.shared.work_dir}/{SUMMARY}")
    for line in describe_jobs(named_steps(images)) if possible_jobs(images) else ():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return not found.has_failed


def _table_of_large(rows: tuple[LargeStatus, ...]) -> Table:
    """A line for each large image, or for each that is not finished where there are many."""
    table = Table("large image", "blocks done", "failed", "missing", "steps finished", box=SIMPLE)
    shown = rows if len(rows) <= LONGEST_TABLE else [row for row in rows if not row.is_finished]
    for row in shown[:LONGEST_TABLE]:
        steps = f"{row.finished} of {row.steps}" if row.steps else "cannot be opened"
        table.add_row(row.image, f"{row.done:,}", f"{row.failed:,}", f"{row.missing:,}", steps)
    table.caption = f"{sum(row.is_finished for row in rows):,} of {len(rows):,} large images finished"
    return table


def check(images: BatchImages) -> int:
    """Read finished images back and print what is damaged; the number of damaged images and blocks."""
    begin_session(images.shared.work_dir)
    return sum(_check_part(part, images.shared.backend.workers) for part in parts_of(images))


def _check_part(part: Part, workers: int) -> int:
    if part.step is None:
        print(f"{part.label}: {part.note}")
        return 0
    with counting_bar(part.label, len(part.blocks)) as progress:
        result = verify(part.step, workers, progress, part.blocks)
    note = f"; {part.note}" if part.note else ""
    print(f"{part.label}: {result.checked} {part.unit} read, {len(result.damaged)} damaged{note}")
    for item in result.damaged:
        print(f"  {part.describe(item)}")
    return len(result.damaged)


def found_and_removal(images: BatchImages) -> tuple[list[str], Callable[[], None]]:
    """What ``clean`` may remove, and the function that removes it."""
    found = find_ours_in_batch(images)
    folders = image_folders(images)
    inner = [*folders, *{folder.parent: None for folder in folders}]
    with_jobs = named_steps(images) if possible_jobs(images) else {}
    return found, lambda: remove(images.shared, with_jobs.values(), found, inner, RECORD)
