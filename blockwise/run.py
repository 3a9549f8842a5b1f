"""Runs one step: plan, begin, compute what is left, finish."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from blockwise.backends import Backend, Outcome, Referee
from blockwise.claims import StepLock
from blockwise.logs import keep_logs
from blockwise.plan import Plan, begin, finish, plan_step
from blockwise.records.markers import FAILED
from blockwise.step import BlockStep
from blockwise.transient import PAUSES_S, insistently
from blockwise.trust.absence import absent_chunks
from blockwise.trust.ownership import check_ours
from blockwise.trust.second_look import forget_what_read_touched_files, refuse_vanished_files

logger = logging.getLogger(__name__)

LOOKS = 3
"""How often a step does its blocks: those whose input or output has changed meanwhile are done again."""


def run_step(
    step: BlockStep,
    backend: Backend,
    max_attempts: int,
    report: Callable[[Outcome], None],
    pauses_s: Sequence[float] = PAUSES_S,
) -> Outcome:
    """Bring a step's result up to date.

    Args:
        step: the step; what it reads is finished.
        backend: where blocks are computed.
        max_attempts: how often a block is tried.
        report: called now and then with how things stand.
        pauses_s: after each short failure of the file system or a store; their number is how many of them, of each
            block and of the plan, count for nothing.

    Returns:
        How it went. The step's target exists afterwards only if no block failed.
    """
    with StepLock(step).running():
        return _run_alone(step, backend, max_attempts, report, pauses_s)


def _run_alone(
    step: BlockStep,
    backend: Backend,
    max_attempts: int,
    report: Callable[[Outcome], None],
    pauses_s: Sequence[float],
) -> Outcome:
    start = time.monotonic()
    backend.take_over(step)
    plan = insistently(pauses_s, plan_step, step)
    if plan.new_output or plan.grown:
        backend.clear(step)
    outcome = Outcome(total=len(plan.items))
    for look in range(LOOKS):
        _tell(step, plan)
        if plan.new_output or plan.grown or plan.items:
            begin(step, plan)
        if not plan.items:
            break
        outcome.total = outcome.done + len(plan.items)
        report(outcome)
        try:
            backend.run(step, plan.items, Referee(outcome, max_attempts, pauses_s), report)
        finally:
            keep_logs(step)
        report(outcome)
        if outcome.failed or outcome.stopped:
            return outcome
        # What was read, or written, may have changed meanwhile: then the blocks in question are not done.
        outcome.upstream = insistently(pauses_s, forget_what_read_touched_files, step)
        if outcome.upstream:
            outcome.stopped = f"files of {outcome.upstream} were changed while they were read; it checks its blocks"
            return outcome
        before, plan = plan.snapshots, insistently(pauses_s, plan_step, step)
        refuse_vanished_files(step, before, plan.snapshots)
        if plan.new_output:
            check_ours(step)
        if look == LOOKS - 1 and plan.items:
            outcome.stopped = f"what it reads or writes keeps changing: {'; '.join(plan.reasons)}"
            return outcome
    finish(step, plan, time.monotonic() - start)
    if plan.totals is not None and plan.totals.not_finite is not None:
        logger.warning("%s: %s", step.label, step.not_finite_text(plan.totals.not_finite))
    return outcome


def _tell(step: BlockStep, plan: Plan) -> None:
    for reason in plan.reasons:
        logger.info("%s: %s", step.label, reason)
    if plan.items:
        logger.info("%s: %d of %d blocks to do", step.label, len(plan.items), len(step.grid))
        for line in absent_chunks(step, plan.snapshots):
            logger.warning("%s: %s", step.label, line)


def failure_summary(step: BlockStep, outcome: Outcome, shown: int = 5) -> str:
    """What a person must know after a step has failed: which blocks, which error, which log, what now."""
    lines = [f"{step.label}: {len(outcome.failed)} of {outcome.total} blocks failed, {outcome.done} done"]
    if outcome.stopped:
        lines.append(f"  stopped: {outcome.stopped}")
    failures = step.markers.failures()
    for block_id in sorted(outcome.failed)[:shown]:
        result = outcome.failed[block_id]
        where = failures[block_id].log if block_id in failures else str(step.logs)
        lines.append(f"  {step.title(block_id)}: {result.error}: {result.message} [log: {where}]")
    if len(outcome.failed) > shown:
        lines.append(f"  ... and {len(outcome.failed) - shown} more; see {step.records.place(FAILED)}")
    lines.append("  finished blocks are kept: mend the cause and run the same command again")
    return "\n".join(lines)
