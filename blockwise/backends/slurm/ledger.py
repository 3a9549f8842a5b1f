"""The arrays of a step that may be alive, on disk: what a driver that was killed leaves to the next one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from blockwise.advice import Advice
from blockwise.backends.slurm.script import ArrayPlaces, Needs
from blockwise.files import replacing
from blockwise.job import ARRAY, Order, read_orders, write_orders
from blockwise.logs import keep_newest
from blockwise.records import open_records, read_json, write_json
from blockwise.step import BlockStep

JOBS = "jobs"
"""Folder of the ledger in that of its step."""

NEEDS = "needs.json"
SUBMITTED = "submitted.json"
SCRIPT = "script.sh"


@dataclass(frozen=True)
class Entry:
    """One array.

    Attributes:
        name: of the array in SLURM, and of its folder.
        job: SLURM's id; None where the driver was killed while it submitted.
        fingerprint: of the step that it computes.
        output: id of the output that it writes.
    """

    name: str
    job: int | None
    fingerprint: str
    output: str


class Ledger:
    """A folder with one subfolder per array, in the step's folder but not below its fingerprint.

    So jobs of other settings are found too: they must end before their output is replaced.
    """

    def __init__(self, step: BlockStep) -> None:
        self.folder = (Path(step.work_dir) / step.label / JOBS).resolve()
        self.records = open_records(self.folder)
        self.logs = step.logs.resolve()

    def places(self, name: str) -> ArrayPlaces:
        """Paths of an array."""
        return ArrayPlaces(self.folder / name, self.folder / name / SCRIPT, self.logs)

    def enter(
        self,
        name: str,
        step: BlockStep,
        lists: list[list[Order]],
        needs: Needs,
        timeout_s: float | None,
        script: Callable[[ArrayPlaces], str],
        advice: Advice | None = None,
    ) -> ArrayPlaces:
        """Write an array down before it is submitted, and make the folders that it needs."""
        places = self.places(name)
        places.logs.mkdir(parents=True, exist_ok=True)
        if not self.look():  # nobody writes to the logs that are there
            keep_newest(places.logs)
        write_json(self.records, f"{name}/{NEEDS}", asdict(needs))
        with replacing(places.script) as temporary:
            temporary.write_text(script(places))
        write_orders(self.records.below(name), step, lists, timeout_s, advice)
        return places

    def submitted(self, name: str, job: int) -> None:
        """Write down SLURM's id of an array."""
        write_json(self.records, f"{name}/{SUBMITTED}", {"job": job})

    def entries(self) -> list[Entry]:
        """All arrays; one that was not written down to its end was never submitted and goes."""
        found = []
        for folder in sorted(self.folder.iterdir()) if self.folder.exists() else []:
            array = read_json(self.records, f"{folder.name}/{ARRAY}")
            if array is None:
                self.forget(folder.name)
                continue
            found.append(Entry(folder.name, self._job(folder.name), array["fingerprint"], array["output"]))
        return found

    def look(self) -> dict[str, int | None]:
        """Id of each array by its name, None where it is not known; changes nothing, so anybody may ask any time."""
        try:
            names = sorted(folder.name for folder in self.folder.iterdir() if folder.is_dir())
            return {name: self._job(name) for name in names}
        except OSError:  # none, or the run has just removed them
            return {}

    def load(self, name: str) -> tuple[list[list[Order]], Needs]:
        """Orders of an array's tasks, and its needs."""
        value = read_json(self.records, f"{name}/{NEEDS}")
        if value is None:
            raise RuntimeError(f"{self.folder / name / NEEDS} is gone")
        return read_orders(self.records.below(name)), Needs(**value)

    def _job(self, name: str) -> int | None:
        return (read_json(self.records, f"{name}/{SUBMITTED}") or {}).get("job")

    def forget(self, name: str) -> None:
        """Remove an array that has ended."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are left
            self.folder.rmdir()
