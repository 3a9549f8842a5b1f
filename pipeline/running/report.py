"""The end of a run: a summary in words and one picture."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from blockwise.errors import UserError
from blockwise.plan import warnings_of
from blockwise.records import Records, open_records, read_json, write_json
from blockwise.step import BlockStep
from pipeline.configuration.settings import Settings
from pipeline.running.picture import draw_overview
from tasks.objects.table_step import ObjectTableStep
from tasks.prediction import PredictionStep
from tasks.pyramid.scale_step import ScaleStep

PICTURE = "overview.png"
"""Record in the work folder."""

NO_PICTURE = "no_picture"
"""Key of a report whose picture could not be drawn: why."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunReport:
    """Summary and picture of a finished workflow.

    Attributes:
        workflow: its name.
        settings: the configuration.
        steps: the workflow's steps, in order.
    """

    workflow: str
    settings: Settings
    steps: tuple[BlockStep, ...]

    @property
    def records(self) -> Records:
        """The records of the work folder."""
        return open_records(self.settings.work_dir)

    @property
    def key(self) -> str:
        """Key of the report; it says which results the picture shows."""
        return f"{self.workflow}.json"

    def is_current(self) -> bool:
        """Whether the report was made of the results as they are."""
        report = read_json(self.records, self.key)
        if report is None or report["digests"] != self._digests():
            return False
        return self.records.state(PICTURE) is not None or bool(report.get(NO_PICTURE))

    def write(self) -> None:
        """Draw the picture, then write the report."""
        report: dict[str, Any] = {"digests": self._digests(), "steps": self._targets()}
        if why := self._draw():
            report[NO_PICTURE] = why
        write_json(self.records, self.key, report)

    def _draw(self) -> str:
        """Draw the picture; why there is none, where that fails: all results are done, and it is only for the eye."""
        try:
            with self.records.writing(PICTURE) as path:
                draw_overview(self.steps, path)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):
                self.records.delete(PICTURE)  # of former results
            place = self.records.place(self.key)
            logger.warning("the picture was not drawn: %s (remove %s to have it tried again)", why, place)
            return why
        return ""

    def text(self) -> str:
        """The summary, for a terminal."""
        from tasks.objects.table import read_column  # slow to load: a run with nothing to do is over before

        lines = [f"{self.workflow} is finished."]
        grid = [step for step in self.steps if isinstance(step, PredictionStep)][-1].grid
        voxels = grid.voxels
        size = " x ".join(str(s.stop - s.start) for s in grid.domain)
        lines.append(f"  volume   {size} ({grid.axes}), {voxels:,} voxels in {len(grid)} blocks")
        for table in self._tables():
            voxels_each = read_column(table.parquet.file(), "voxels").to_numpy()
            count, total, largest = len(voxels_each), voxels_each.sum(), voxels_each.max(initial=0)
            which = f" {table.variant}:" if table.variant else ""
            lines.append(f"  objects {which} {count:,}, {total:,} voxels in all, the largest {largest:,}")
            if table.faces.name == "split_parts":
                too_large = int(read_column(table.parquet.file(), "too_large").to_numpy().sum())
                lines.append(f"           {too_large:,} of them too large to be cut (column too_large)")
        lines += [f"  {'step':<{self._width + 2}}  seconds   CPU seconds   per voxel   memory"]
        for name, target in self._targets().items():
            cpu = target["cpu_seconds"]
            lines.append(
                f"    {name:<{self._width}}{target['seconds']:9.1f}{cpu:14.1f}{1e9 * cpu / voxels:9.0f} ns"
                f"{target['peak_memory_mb']:6.0f} MB"
            )
        return "\n".join((*lines, *self._warnings(), self.places()))

    def _warnings(self) -> list[str]:
        """What looks wrong with what was read."""
        targets = self._targets()
        return [
            f"  warning  {step.label}: {w}" for step in self.steps for w in warnings_of(step, targets[step.label])
        ]

    def places(self) -> str:
        """Where the results lie."""
        shown = [step for step in self.steps if hasattr(step, "address") and step.name != ScaleStep.name]
        rows = [(step.label, str(step.address)) for step in shown]
        rows += [(_table_name(table), f"{table.csv} and .parquet") for table in self._tables()]
        why = (read_json(self.records, self.key) or {}).get(NO_PICTURE)
        rows.append(("picture", f"not drawn: {why}" if why else self.records.place(PICTURE)))
        return "\n".join(["  results", *(f"    {name:<{self._width}}{place}" for name, place in rows)])

    @property
    def _width(self) -> int:
        """Of the column with the steps' names."""
        return max(22, *(len(step.label) + 2 for step in self.steps))

    def _targets(self) -> dict[str, dict[str, Any]]:
        targets = {}
        for step in self.steps:
            target = step.read_target()
            if target is None:
                raise UserError(f"{step.label} is not finished; run the workflow first")
            targets[step.label] = target
        return targets

    def _digests(self) -> dict[str, str]:
        return {name: target["digest"] for name, target in self._targets().items()}

    def _tables(self) -> list[ObjectTableStep]:
        """The steps that have written object tables."""
        return [step for step in self.steps if isinstance(step, ObjectTableStep)]


def _table_name(table: ObjectTableStep) -> str:
    return f"objects_{table.variant}" if table.variant else "objects"
