"""The end of a batch: a table of what became of each image."""

from __future__ import annotations

import contextlib
import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from blockwise.identity import PIECE
from blockwise.records import Records, open_records
from pipeline.configuration.settings import Settings
from tasks.nodes.terminal import duration

LONGEST_TABLE = 40
"""Up to this many images are listed each; of more, those that failed."""
SUMMARY = "batch.csv"
"""Record in the work folder."""


@dataclass(frozen=True)
class ImageReport:
    """What became of one image: a row of the summary.

    Attributes:
        name: of the image.
        state: ``done``, ``failed`` or ``not tried``.
        objects: number of objects; None where it is not done.
        seconds: wall time of its computation, in whatever run that was.
        raw: address of the image.
        output: container of the results.
        message: what went wrong, or looks wrong.
    """

    name: str
    state: str
    objects: int | None
    seconds: float | None
    raw: str
    output: str
    message: str


def write_summary(records: Records, rows: list[ImageReport]) -> None:
    """Write a table of all images as CSV."""
    with records.writing(SUMMARY) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(ImageReport)], lineterminator="\n")
        table.writeheader()
        table.writerows(map(asdict, rows))


def is_summary(records: Records) -> bool:
    """Whether there is such a table, and no other."""
    with (
        contextlib.suppress(OSError, UnicodeDecodeError),
        records.file(SUMMARY).open(encoding="utf-8") as file,
    ):
        return file.readline().rstrip("\n") == ",".join(field.name for field in fields(ImageReport))
    return False


def count_objects(settings: Settings) -> int:
    """Number of objects of an image, of all thresholds: lines of the tables below their headers."""
    records = open_records(settings.work_dir)
    tables = [f"objects_{threshold.name}" if threshold.name else "objects" for threshold in settings.threshold]
    return sum(_lines(records.file(f"{table}.csv")) - 1 for table in tables)


def _lines(path: Path) -> int:
    """Number of lines of a file, which is read in pieces."""
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(PIECE), b""))


def summary_table(rows: list[ImageReport]) -> Table:
    """The table for a terminal."""
    table = Table("image", "state", "objects", "seconds", "message", box=SIMPLE)
    shown = rows if len(rows) <= LONGEST_TABLE else [row for row in rows if row.state != "done"][:LONGEST_TABLE]
    for row in shown:
        objects = "" if row.objects is None else f"{row.objects:,}"
        seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
        table.add_row(row.name, row.state, objects, seconds, escape(row.message))
    return table


def totals(rows: list[ImageReport]) -> str:
    """One line about all images."""
    done = [row for row in rows if row.state == "done"]
    objects = sum(row.objects or 0 for row in done)
    seconds = sum(row.seconds or 0 for row in done)
    failed = sum(row.state == "failed" for row in rows)
    return (
        f"{len(done):,} of {len(rows):,} images done, {failed:,} failed; {objects:,} objects; "
        f"{duration(seconds)} of computation"
    )
