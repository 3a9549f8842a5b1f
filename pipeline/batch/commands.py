"""``blockwise-ilastik`` for configurations of many files: a long list of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.backends.registry import blocks_at_once, describe_jobs
from pipeline.batch.cleaning import find_ours_in_batch, image_folders, possible_jobs
from pipeline.batch.image_step import ImagesStep
from pipeline.batch.images import BatchImages
from pipeline.batch.results_record import RECORD
from pipeline.batch.summary import LONGEST_TABLE, SUMMARY
from pipeline.inspecting.cleaning import remove
from pipeline.inspecting.forecast import StepStatus, describe, forecast_all
from pipeline.inspecting.forecast import status as step_status
from pipeline.inspecting.outlook import outlooks, time_notes
from pipeline.inspecting.rates import rate_of
from pipeline.inspecting.runs import Run
from pipeline.inspecting.volume_commands import status_cells

Rows = list[tuple[Run, list[StepStatus]]]
"""Runs, and how far the steps of each have come."""


def plan(images: BatchImages) -> None:
    """Print what a run would do."""
    rows = [] if images.small is None else forecast_all([images.small])
    left = sum(row.left for row in rows)
    limit, small = images.shared.batch.small_voxels, len(images.names) - len(images.large)
    print(
        f"{len(images.names):,} images: {small:,} small ones (up to {limit:,} voxels), computed whole, {left:,} left"
    )
    if images.large:
        todo = [run.label for run in map(images.large_run, images.large) if not run.is_complete()]
        named = ", ".join(todo[:LONGEST_TABLE]) + (", ..." if len(todo) > LONGEST_TABLE else "")
        ones = "one" if len(images.large) == 1 else "ones"
        print(
            f"{len(images.large):,} larger {ones}, computed block by block, {len(todo):,} left"
            + (f": {named}" if named else "")
        )
    if images.small is not None and (rate := rate_of(images.small)):
        backend = images.shared.backend
        found = outlooks([images.small], rows, [rate])
        for note in time_notes(found, blocks_at_once(backend.setups()), backend.name):
            print(note)


def status(images: BatchImages, console: Console) -> bool:
    """Print how far a run has come; False where something has failed."""
    rows = [(run, list(map(step_status, run.steps))) for run in images.runs()]
    large = [(run, found) for run, found in rows if run.label]
    if images.small is not None:
        table = Table("small images", "done", "failed", "missing", "finished", box=SIMPLE)
        table.add_row(*status_cells(rows[0][1][0]))
        console.print(table)
    if large:
        console.print(_table_of_large(large))
    messages = [message for run, found in rows for message in _messages(run, found)]
    for message in messages[:LONGEST_TABLE]:
        console.print(message, highlight=False, markup=False)
    if len(messages) > LONGEST_TABLE:
        print(f"... and {len(messages) - LONGEST_TABLE:,} more in {images.shared.work_dir}/{SUMMARY}")
    for run, found in rows:
        for row in found:
            for warning in row.warnings:
                console.print(f"{run.name(row.step, ': ')}: {warning}", highlight=False, markup=False, soft_wrap=True)
    if possible_jobs(images):
        for line in describe_jobs({run.name(step, ": "): step for run, _ in rows for step in run.steps}):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    return not messages


def _messages(run: Run, rows: list[StepStatus]) -> Iterator[str]:
    """Of all failures, each with the image's name."""
    if run.error:
        yield f"{run.label}: {run.error}"
    for row in rows:
        if isinstance(row.step, ImagesStep):
            for number, failure in sorted(row.failures.items()):
                yield f"{row.step.names[number]}: {describe(failure)}"
        else:
            yield from (f"{run.label}: {row.step.label}: {message}" for message in row.messages())


def _table_of_large(rows: Rows) -> Table:
    """A line for each large image, or for each that is not finished where there are many."""
    table = Table("large image", "blocks done", "failed", "missing", "steps finished", box=SIMPLE)
    finished = {run.label for run, found in rows if found and all(row.finished for row in found)}
    shown = rows if len(rows) <= LONGEST_TABLE else [row for row in rows if row[0].label not in finished]
    for run, found in shown[:LONGEST_TABLE]:
        counts = (
            sum(row.done for row in found),
            sum(len(row.failures) for row in found),
            sum(row.missing for row in found),
        )
        steps = f"{sum(row.finished for row in found)} of {len(found)}" if found else "cannot be opened"
        table.add_row(run.label, *(f"{count:,}" for count in counts), steps)
    table.caption = f"{len(finished):,} of {len(rows):,} large images finished"
    return table


def found_and_removal(images: BatchImages) -> tuple[list[str], Callable[[], None]]:
    """What ``clean`` may remove, and the function that removes it."""
    found = find_ours_in_batch(images)
    folders = image_folders(images)
    inner = [*folders, *{folder.parent: None for folder in folders}]
    with_jobs = [step for run in images.runs() for step in run.steps] if possible_jobs(images) else []
    return found, lambda: remove(images.shared, with_jobs, found, inner, RECORD)
