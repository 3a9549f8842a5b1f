"""What to do when a job has ended and left blocks: pure decisions, by cause."""

from __future__ import annotations

from dataclasses import dataclass, replace

from blockwise.advice import Names
from blockwise.backends.jobs.needs import Needs
from blockwise.backends.jobs.scheduler import Cause, TaskState
from blockwise.job import BEGINS, Order
from blockwise.watchdog import GAVE_UP

MAX_MOVES = 5
"""How often a block may lose its job through no fault of its own; then it may be the fault after all."""

OUT_OF_MEMORY_WORDS = (
    "exceeded job memory limit",
    "exceeded step memory limit",
    "oom-kill",
    "oom_kill",
    "out of memory",
)


@dataclass(frozen=True)
class Ended:
    """A job that has ended and has left blocks.

    Attributes:
        name: as the scheduler's own commands call it.
        title: of the scheduler.
        state: the scheduler's last word; None where it has forgotten the job.
        log_head: beginning of the job's log.
        log_tail: its end.
        left: orders without a result, in the order in which the job works.
        progressed: some block of the job has a result.
        needs: what the job had.
    """

    name: str
    title: str
    state: TaskState | None
    log_head: str
    log_tail: str
    left: tuple[Order, ...]
    progressed: bool
    needs: Needs

    @property
    def cause(self) -> Cause:
        """Why it has ended. Not every scheduler knows that a job was killed for its memory."""
        if self.state is None:
            return Cause.UNKNOWN
        known = self.state.cause
        if known is Cause.UNKNOWN and BEGINS not in self.log_head:
            return Cause.NOT_STARTED
        if known is not None:
            return known
        if GAVE_UP in self.log_tail:
            return Cause.GAVE_UP
        if any(words in self.log_tail.lower() for words in OUT_OF_MEMORY_WORDS):
            return Cause.OUT_OF_MEMORY
        return Cause.KILLED if BEGINS in self.log_head else Cause.NOT_STARTED

    @property
    def last_words(self) -> str:
        """Last line of the log."""
        lines = [line.strip() for line in self.log_tail.splitlines() if line.strip()]
        return lines[-1][:200] if lines else "the log is empty"


@dataclass(frozen=True)
class Decision:
    """What becomes of the blocks that a job has left.

    Attributes:
        text: for the log.
        again: orders that are submitted once more, as they are.
        needs: with these needs.
        blamed: orders of which this counts as a failed attempt.
        blamed_needs: needs of the next attempt at them.
        error: name of the failure.
        message: what the failure says.
        final: another attempt cannot help.
        fruitless: the job has done nothing, and none of its blocks is known to be at fault.
        bad_node: node that this speaks against.
    """

    text: str
    again: tuple[Order, ...]
    needs: Needs
    blamed: tuple[Order, ...] = ()
    blamed_needs: Needs | None = None
    error: str = ""
    message: str = ""
    final: bool = False
    fruitless: bool = False
    bad_node: str = ""


def decide(job: Ended, names: Names) -> Decision:
    """Decide by cause; ``names``: what messages call settings."""
    if job.cause is Cause.OUT_OF_MEMORY:
        return _more_memory(job, names)
    if job.cause is Cause.TIME_LIMIT:
        return _more_time(job, names)
    if job.cause is Cause.KILLED:
        return _isolate(job)
    if job.cause is Cause.GAVE_UP:
        return _go_on(job)
    return _move(job)


def too_little(needs: Needs, names: Names) -> str:
    """What to say about a block for which raised needs were not enough."""
    return (
        f"needs more than {needs.memory}, twice what was asked for at first; set {names.option}memory_gb higher, "
        "or use smaller blocks"
    )


def _more_memory(job: Ended, names: Names) -> Decision:
    if not job.needs.raised:
        needs = job.needs.with_more_memory()
        return Decision(
            f"job {job.name}: out of memory with {job.needs.memory}: its {len(job.left)} blocks left go again with "
            f"{needs.memory}",
            job.left,
            needs,
        )
    suspect, *others = job.left
    return Decision(
        f"job {job.name}: out of memory again, with {job.needs.memory}: block {suspect.item.block} is given up"
        + _rest(others),
        tuple(others),
        job.needs,
        blamed=(suspect,),
        error="OutOfMemory",
        message=too_little(job.needs, names),
        final=True,
    )


def _more_time(job: Ended, names: Names) -> Decision:
    needs = job.needs.with_more_time()
    text = f"job {job.name}: time limit of {job.needs.time_min} min"
    if job.progressed:
        text += f": its {len(job.left)} blocks left go again with {needs.time_min} min"
        return Decision(text, job.left, needs)
    suspect, *others = job.left
    return Decision(
        f"{text} reached within block {suspect.item.block}: it is tried alone with {needs.time_min} min"
        + _rest(others),
        tuple(others),
        job.needs,
        blamed=(suspect,),
        blamed_needs=needs,
        error="TimeLimit",
        message=f"not done after {job.needs.time_min} min; set {names.option}time_min higher, or use smaller blocks",
    )


def _isolate(job: Ended) -> Decision:
    suspect, *others = job.left
    return Decision(
        f"job {job.name}: {job.cause.value} ({job.state}) in block {suspect.item.block}: it is tried alone"
        + _rest(others),
        tuple(others),
        job.needs,
        blamed=(suspect,),
        blamed_needs=job.needs,
        error="WorkerLost",
        message=f"job {job.name}: {job.cause.value} ({job.state})",
        fruitless=not job.progressed and not suspect.alone,
    )


def _go_on(job: Ended) -> Decision:
    """The block that took too long has a failure record, which counts as an attempt at it; no other is to blame."""
    text = f"job {job.name}: {job.cause.value}: its {len(job.left)} blocks left go to another job"
    return Decision(text, job.left, job.needs)


def _move(job: Ended) -> Decision:
    moved = [order if _is_preempted(job) else replace(order, moves=order.moves + 1) for order in job.left]
    again = tuple(order for order in moved if order.moves <= MAX_MOVES)
    blamed = tuple(order for order in moved if order.moves > MAX_MOVES)
    state = f"{job.title} has forgotten it" if job.state is None else str(job.state)
    text = f"job {job.name}: {job.cause.value} ({state}): its {len(again)} blocks left go to another job"
    if blamed:
        text += f"; {len(blamed)} blocks have lost {MAX_MOVES + 1} jobs and are given up"
    strikes = job.cause in (Cause.NODE_FAILURE, Cause.NOT_STARTED)
    return Decision(
        text,
        again,
        job.needs,
        blamed=blamed,
        error="JobLost",
        message=f"has lost {MAX_MOVES + 1} jobs; the last one, {job.name}: {job.cause.value} ({state})",
        final=True,
        fruitless=not job.progressed
        and job.cause in (Cause.NOT_STARTED, Cause.INTERRUPTED)
        and not _is_preempted(job),
        bad_node=job.state.node if strikes and job.state else "",
    )


def _is_preempted(job: Ended) -> bool:
    return job.state is not None and job.state.preempted


def _rest(others: list[Order]) -> str:
    return f"; the other {len(others)} go on in another job" if others else ""
