"""``blockwise-ilastik`` for configurations of one volume."""

from __future__ import annotations

from rich import filesize
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.backends.registry import blocks_at_once, describe_jobs, make_some_executor
from blockwise.errors import printable
from blockwise.not_finite import noted_of
from blockwise.outputs import VolumeOutput
from blockwise.volume import open_volume
from pipeline.assembly.checks import check_memory
from pipeline.assembly.known import known_notes
from pipeline.assembly.stacks.placed import StackOnly
from pipeline.assembly.steps import Steps
from pipeline.assembly.storage import storage_notes
from pipeline.configuration.setting_names import naming_keys
from pipeline.configuration.settings import Settings
from pipeline.exporting.results import ingest_advice
from pipeline.inspecting.forecast import StepForecast, StepStatus, forecast_all
from pipeline.inspecting.forecast import status as step_status
from pipeline.inspecting.outlook import StepOutlook, free_bytes, outlooks, time_notes
from pipeline.inspecting.probe import probe
from pipeline.inspecting.rates import keep_rates, rate_of
from tasks.nodes.terminal import duration


def compute_a_few(settings: Settings, steps: Steps | StackOnly, wanted: int, console: Console) -> None:
    """Compute a few blocks and keep their rates; ``wanted`` of a step, 0 for as many as it takes.

    Raises:
        BlockFailedError: a block cannot be computed.
        UserError: workers would need more memory than there is.
    """
    with naming_keys():
        check_memory(steps.begun(), settings.backend)
        backend = settings.backend
        executor = make_some_executor(backend.name, backend.setups())
        notes = probe(steps.begun(), executor, backend.max_attempts, wanted or None)
    keep_rates(steps.begun())
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def plan(settings: Settings, steps: Steps | StackOnly, console: Console) -> None:
    """Print what a run would do."""
    table = Table("step", "blocks", "left", "reads", "writes", "halo", "memory", box=SIMPLE)
    for column in table.columns:
        column.no_wrap = True
        column.justify = "left" if column.header == "step" else "right"
    with naming_keys():
        rows = forecast_all(steps.begun())
    for row in rows:
        table.add_row(*_plan_cells(row))
    for line in _inputs(settings, steps, is_done=not rows[0].left):
        console.print(line, markup=False)
    console.print(table)
    console.print("halo: voxels read beyond those written; memory: projected, for one worker")
    _print_outlook(settings, steps, rows, console)
    for row in rows:
        for reason in row.reasons:
            console.print(f"{row.step}: {reason}", highlight=False, markup=False)
        for warning in row.warnings:
            console.print(f"{row.step}: {warning}", highlight=False, markup=False, soft_wrap=True)
    known = known_notes(steps.prediction) if isinstance(steps, Steps) else ()
    for note in (*known, *storage_notes(steps.begun())):
        console.print(note, highlight=False, markup=False)
    if isinstance(steps, Steps):
        raw = steps.prediction.raw
        if odd := noted_of(open_volume(raw.address).attributes, raw.axes):
            console.print(f"raw: {odd}, as was seen when it was copied", highlight=False, markup=False)
    advice = ingest_advice(steps) if isinstance(steps, Steps) else ""
    if advice:
        console.print(advice, highlight=False, markup=False, soft_wrap=True)


def _print_outlook(settings: Settings, steps: Steps | StackOnly, rows: list[StepForecast], console: Console) -> None:
    """Print what is left in time and bytes, output by output."""
    found = outlooks(steps.begun(), rows, [rate_of(step) for step in steps.begun()])
    engines = blocks_at_once(settings.backend.setups())
    chosen = engines.get(settings.backend.name)
    left = [outlook for outlook in found if outlook.left]
    if left:
        table = Table("left", "time", "writes", "on disk", "into", box=SIMPLE)
        for outlook in left:
            table.add_row(*_outlook_cells(outlook, chosen.number if chosen else None))
        console.print(table)
    for note in (*time_notes(found, engines, settings.backend.name), *_disk_notes(left)):
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _outlook_cells(outlook: StepOutlook, at_once: int | None) -> list[str]:
    seconds = None if at_once is None else outlook.seconds(at_once)
    output = outlook.step.output()
    return [
        outlook.step.label,
        "?" if seconds is None else duration(seconds),
        _bytes(outlook.written),
        "?" if outlook.stored is None else _bytes(outlook.stored),
        output.address if isinstance(output, VolumeOutput) else "",
    ]


def _disk_notes(left: list[StepOutlook]) -> list[str]:
    """How much is to be written, and whether there is room for it."""
    written = sum(outlook.written for outlook in left)
    if not written:
        return []
    kept = [(outlook.stored, outlook.written) for outlook in left]
    stored = sum(size if stored is None else stored for stored, size in kept)
    told = f"disk: {_bytes(written)} to write"
    if any(known is not None for known, _ in kept):
        told += f", about {_bytes(stored)} in files"
    free = next(filter(None, (free_bytes(outlook.step) for outlook in left)), None)
    if free is None:
        return [told]
    room = "" if free[0] > stored else "; there may be too little room"
    return [f"{told}; {_bytes(free[0])} are free at {free[1]}{room}"]


def _voxel_size(steps: Steps) -> str:
    """How large voxels are; nothing where the volume does not say so in a unit of length."""
    step_um = steps.objects[0].object_table.step_um
    return "" if step_um is None else f", voxels of {' x '.join(f'{step:g}' for step in step_um)} um"


def _inputs(settings: Settings, steps: Steps | StackOnly, *, is_done: bool) -> list[str]:
    """What a run is given, a line each."""
    if isinstance(steps, StackOnly):
        return [f"slices {settings.alignment.slices}", steps.why]
    if not is_done:
        steps.prediction.check_raw()
    raw, project = steps.prediction.raw, settings.prediction.project
    return [
        f"raw {raw.address}: axes {raw.axes} (from {steps.axes_from}), shape {raw.shape}, {raw.dtype}"
        f"{_voxel_size(steps)}; blocks {steps.prediction.grid.block_shape}",
        printable(f"project {project}: classes {', '.join(steps.prediction.class_names)}"),
    ]


def _plan_cells(row: StepForecast) -> list[str]:
    left = f"{row.left:,}" if row.exact else f"<= {row.left:,}"
    return [
        row.step,
        f"{row.blocks:,}",
        left,
        _bytes(row.bytes_read),
        _bytes(row.bytes_written),
        f"{100 * row.halo_waste:.0f} %",
        _bytes(row.memory),
    ]


def _bytes(number: float) -> str:
    return filesize.decimal(int(number))


def status(steps: Steps | StackOnly, console: Console) -> bool:
    """Print how far a run has come; False where something has failed."""
    table = Table("step", "done", "failed", "missing", "finished", box=SIMPLE)
    rows = [step_status(step) for step in steps.begun()]
    for row in rows:
        table.add_row(*status_cells(row))
    console.print(table)
    for row in rows:
        for message in row.messages():
            console.print(f"{row.step.label}: {message}", highlight=False, markup=False)
    for row in rows:
        for warning in row.warnings:
            console.print(f"{row.step.label}: {warning}", highlight=False, markup=False, soft_wrap=True)
    for line in describe_jobs({step.label: step for step in steps.everything()}):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return not any(row.failures for row in rows)


def status_cells(row: StepStatus) -> list[str]:
    """How far a step has come, for a table: step, done, failed, missing, finished."""
    counts = (row.done, len(row.failures), row.missing)
    return [row.step.label, *(f"{count:,}" for count in counts), "yes" if row.finished else "no"]
