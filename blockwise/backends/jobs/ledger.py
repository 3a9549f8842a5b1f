"""The arrays of a step that may be alive, written down: what a driver that was killed leaves to the next one."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass

from blockwise.advice import Advice
from blockwise.backends.jobs.needs import Needs
from blockwise.job import ARRAY, Order, read_orders, write_orders
from blockwise.logs import JobLog, keep_newest
from blockwise.records import read_json, write_json
from blockwise.step import BlockStep

NEEDS = "needs.json"
SUBMITTED = "submitted.json"


@dataclass(frozen=True)
class Entry:
    """One array.

    Attributes:
        name: of the array, for the scheduler and here.
        array: the scheduler's id; None where the driver was killed while it submitted.
        fingerprint: of the step that it computes.
        output: id of the output that it writes.
    """

    name: str
    array: str | None
    fingerprint: str
    output: str


class Ledger:
    """Records with one prefix per array, beside those of the step but not below its fingerprint.

    So jobs of other settings are found too: they must end before their output is replaced.
    """

    def __init__(self, step: BlockStep, folder: str) -> None:
        """Nothing is read or made.

        Args:
            step: whose arrays.
            folder: name of the folder, which is that of a kind of scheduler: none answers for another's jobs.
        """
        self.records = step.work.below(f"{step.label}/{folder}")
        self.step = step
        self.logs = step.logs.resolve()

    @property
    def place(self) -> str:
        """Where it lies, for messages."""
        return self.address(NEEDS).rpartition("/")[0]

    def address(self, name: str) -> str:
        """Where the orders of an array lie, as ``python -m blockwise.job`` takes it from whatever folder."""
        path = self.records.local(name)
        return self.records.place(name) if path is None else str(path.resolve())

    def log(self, name: str) -> JobLog:
        """The log of a job, by its name."""
        return JobLog(self.step, self.logs / name)

    def enter(
        self,
        name: str,
        step: BlockStep,
        lists: list[list[Order]],
        needs: Needs,
        timeout_s: float | None,
        advice: Advice | None = None,
    ) -> None:
        """Write an array down before it is submitted, and make the folder for its logs."""
        self.logs.mkdir(parents=True, exist_ok=True)
        if not self.look():  # nobody writes to the logs that are there
            keep_newest(self.logs)
        write_json(self.records, f"{name}/{NEEDS}", asdict(needs))
        write_orders(self.records.below(name), step, lists, timeout_s, advice)

    def submitted(self, name: str, array: str) -> None:
        """Write down the scheduler's id of an array."""
        write_json(self.records, f"{name}/{SUBMITTED}", {"job": array})

    def entries(self) -> list[Entry]:
        """All arrays; one that was not written down to its end was never submitted and goes."""
        found = []
        for name in self.records.children():
            array = read_json(self.records, f"{name}/{ARRAY}")
            if array is None:
                self.forget(name)
                continue
            found.append(Entry(name, self._array(name), array["fingerprint"], array["output"]))
        return found

    def look(self) -> dict[str, str | None]:
        """Id of each array by its name, None where it is not known; changes nothing, so anybody may ask any time."""
        return {name: self._array(name) for name in self.records.children()}

    def load(self, name: str) -> tuple[list[list[Order]], Needs]:
        """Orders of an array's tasks, and its needs."""
        value = read_json(self.records, f"{name}/{NEEDS}")
        if value is None:
            raise RuntimeError(f"{self.records.place(f'{name}/{NEEDS}')} is gone")
        return read_orders(self.records.below(name)), Needs(**value)

    def forget(self, name: str) -> None:
        """Remove an array that has ended."""
        with contextlib.suppress(OSError):  # what is left of it is hidden, and goes with the next one
            self.records.clear(name)
        path = self.records.local(name)
        if path is not None:
            with contextlib.suppress(OSError):  # others are left
                path.parent.rmdir()

    def _array(self, name: str) -> str | None:
        found = (read_json(self.records, f"{name}/{SUBMITTED}") or {}).get("job")
        return None if found is None else str(found)
