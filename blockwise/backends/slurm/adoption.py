"""Re-attachment: jobs that an earlier run has left are taken over where they do what is wanted now, else ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from blockwise.backends.slurm.answers import SlurmUnavailableError
from blockwise.backends.slurm.cancel import cancel_arrays
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.jobs import Array, Job
from blockwise.backends.slurm.ledger import Entry, Ledger
from blockwise.errors import UserError
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.trust.ownership import recorded_id

logger = logging.getLogger(__name__)


def adopt_jobs(step: BlockStep, wanted: Mapping[int, Item], ledger: Ledger, commands: SlurmCommands) -> list[Array]:
    """Take over the arrays in the ledger.

    A job is taken over, alive or not, where all of its blocks that are wanted are wanted as the job has them, which
    includes the stamps of what they read. Other jobs are cancelled, and are gone when this function returns: they
    would write results of what their input was.

    Args:
        step: the step.
        wanted: by block, what is to be done.
        ledger: of the step.
        commands: SLURM.

    Raises:
        UserError: SLURM does not answer, or jobs do not end.
    """
    entries = ledger.entries()
    if not entries:
        return []
    try:
        found = [(entry, _job_of(entry, commands)) for entry in entries]
        arrays, doomed = _sort_out(step, wanted, ledger, found)
        jobs = sorted({int(target.split("_")[0]) for target in doomed})
        if not cancel_arrays(commands, jobs, doomed):
            raise UserError(
                f"{step.label}: jobs {', '.join(doomed)} of an earlier run work on what has changed since, were "
                "cancelled, but do not end; run the same command again when `squeue` shows them no more"
            )
    except SlurmUnavailableError as error:
        raise UserError(
            f"{step.label}: an earlier run has left jobs, and SLURM does not answer ({error}); they are listed in "
            f"{ledger.folder}. Run the same command again when `squeue` works"
        ) from error
    _log(step, arrays, doomed)
    return arrays


def _job_of(entry: Entry, commands: SlurmCommands) -> int | None:
    """SLURM's id of an array; it is looked up by name where the driver was killed while it submitted."""
    return entry.job if entry.job is not None else max(commands.named(entry.name), default=None)


def _sort_out(
    step: BlockStep, wanted: Mapping[int, Item], ledger: Ledger, found: list[tuple[Entry, int | None]]
) -> tuple[list[Array], list[str]]:
    """Arrays to take over, and what is to be cancelled."""
    arrays: list[Array] = []
    doomed: list[str] = []
    held: set[int] = set()
    for entry, job in found:
        if job is None:
            ledger.forget(entry.name)
        elif (entry.fingerprint, entry.output) != (step.fingerprint, recorded_id(step)):
            doomed.append(str(job))
        else:
            array, stale = _adopt(entry, job, wanted, ledger, held)
            arrays.append(array)
            doomed += stale
    return arrays, doomed


def _adopt(
    entry: Entry, job: int, wanted: Mapping[int, Item], ledger: Ledger, held: set[int]
) -> tuple[Array, list[str]]:
    lists, needs = ledger.load(entry.name)
    array = Array(job, entry.name, throttle=len(lists))
    stale = []
    for index, orders in enumerate(lists):
        mine = {order.item.block: order for order in orders if order.item.block in wanted}
        if any(order.item != wanted[block] for block, order in mine.items()):
            stale.append(f"{job}_{index}")
            continue
        mine = {block: order for block, order in mine.items() if block not in held}
        held.update(mine)
        if mine:
            progressed = len(mine) < len(orders)
            array.jobs.append(Job(job, index, needs, ledger.places(entry.name).log(job, index), mine, progressed))
    return array, stale


def _log(step: BlockStep, arrays: list[Array], doomed: list[str]) -> None:
    jobs = [job for array in arrays for job in array.jobs]
    if jobs:
        names = ", ".join(str(array.job) for array in arrays if array.jobs)
        logger.info(
            "%s: took over %d jobs of an earlier run (arrays %s), which hold %d blocks",
            step.label, len(jobs), names, sum(len(job.orders) for job in jobs),
        )  # fmt: skip
    if doomed:
        logger.info(
            "%s: cancelled jobs %s of an earlier run: what they read has changed", step.label, ", ".join(doomed)
        )
