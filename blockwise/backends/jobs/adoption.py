"""Re-attachment: jobs that an earlier run has left are taken over where they do what is wanted now, else ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from blockwise.backends.jobs.arrays import Array, Job
from blockwise.backends.jobs.cancel import cancel, target_names
from blockwise.backends.jobs.ledger import Entry, Ledger
from blockwise.backends.jobs.scheduler import Scheduler, SchedulerUnavailableError, Target
from blockwise.errors import UserError
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.trust.ownership import recorded_id

logger = logging.getLogger(__name__)


def adopt_jobs(step: BlockStep, wanted: Mapping[int, Item], ledger: Ledger, scheduler: Scheduler) -> list[Array]:
    """Take over the arrays in the ledger.

    A job is taken over, alive or not, where all of its blocks that are wanted are wanted as the job has them, which
    includes the stamps of what they read. Other jobs are cancelled, and are gone when this function returns: they
    would write results of what their input was.

    Args:
        step: the step.
        wanted: by block, what is to be done.
        ledger: of the step.
        scheduler: who is asked.

    Raises:
        UserError: the scheduler does not answer, or jobs do not end.
    """
    entries = ledger.entries()
    if not entries:
        return []
    try:
        found = [(entry, _array_of(entry, scheduler)) for entry in entries]
        arrays, doomed = _sort_out(step, wanted, ledger, found, scheduler)
        names = target_names(scheduler, doomed)
        if not cancel(scheduler, doomed):
            arrays_of_them = sorted({target.array for target in doomed})
            raise UserError(
                f"{step.label}: jobs {', '.join(names)} of an earlier run work on what has changed since, were "
                "cancelled, but do not end; run the same command again when "
                f"{scheduler.words.how_to_look(arrays_of_them)} shows them no more"
            )
    except SchedulerUnavailableError as error:
        raise UserError(
            f"{step.label}: an earlier run has left jobs, and {scheduler.words.title} does not answer ({error}); "
            f"they are listed in {ledger.place}. Run the same command again when {scheduler.words.works}"
        ) from error
    _log(step, arrays, names)
    return arrays


def _array_of(entry: Entry, scheduler: Scheduler) -> str | None:
    """Id of an array; it is looked up by name where the driver was killed while it submitted."""
    return entry.array if entry.array is not None else max(scheduler.named(entry.name), default=None)


def _sort_out(
    step: BlockStep,
    wanted: Mapping[int, Item],
    ledger: Ledger,
    found: list[tuple[Entry, str | None]],
    scheduler: Scheduler,
) -> tuple[list[Array], list[Target]]:
    """Arrays to take over, and what is to be cancelled."""
    arrays: list[Array] = []
    doomed: list[Target] = []
    held: set[int] = set()
    for entry, array_id in found:
        if array_id is None:
            ledger.forget(entry.name)
        elif (entry.fingerprint, entry.output) != (step.fingerprint, recorded_id(step)):
            doomed.append(Target(array_id))
        else:
            array, stale = _adopt(entry, array_id, wanted, ledger, held, scheduler)
            arrays.append(array)
            doomed += stale
    return arrays, doomed


def _adopt(
    entry: Entry, array_id: str, wanted: Mapping[int, Item], ledger: Ledger, held: set[int], scheduler: Scheduler
) -> tuple[Array, list[Target]]:
    lists, needs = ledger.load(entry.name)
    array = Array(array_id, entry.name, throttle=len(lists))
    stale = []
    for index, orders in enumerate(lists):
        mine = {order.item.block: order for order in orders if order.item.block in wanted}
        if any(order.item != wanted[block] for block, order in mine.items()):
            stale.append(Target(array_id, index))
            continue
        mine = {block: order for block, order in mine.items() if block not in held}
        held.update(mine)
        if mine:
            progressed = len(mine) < len(orders)
            log = ledger.log(scheduler.log_name(array_id, entry.name, index))
            array.jobs.append(
                Job(array_id, index, scheduler.task_name(array_id, index), needs, log, mine, progressed)
            )
    return array, stale


def _log(step: BlockStep, arrays: list[Array], doomed: list[str]) -> None:
    jobs = [job for array in arrays for job in array.jobs]
    if jobs:
        names = ", ".join(array.id for array in arrays if array.jobs)
        logger.info(
            "%s: took over %d jobs of an earlier run (arrays %s), which hold %d blocks",
            step.label, len(jobs), names, sum(len(job.orders) for job in jobs),
        )  # fmt: skip
    if doomed:
        logger.info(
            "%s: cancelled jobs %s of an earlier run: what they read has changed", step.label, ", ".join(doomed)
        )
