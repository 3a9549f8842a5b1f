"""What of a step is done, what is left, and why."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from blockwise.claims import StepLock, claims_of
from blockwise.identity import differences
from blockwise.not_finite import NotFiniteTotals, total
from blockwise.outputs import Output, new_attributes
from blockwise.records import read_json, write_json
from blockwise.records.markers import Marker
from blockwise.region import outgrown
from blockwise.stamps import UNWATCHED, Checksums, Snapshot, differs
from blockwise.step import CHECKSUMS, BlockStep
from blockwise.trust.absence import absent_chunks
from blockwise.trust.durability import UNSETTLED_FILES, begin_to_write, power_was_lost, settle
from blockwise.trust.ownership import record_output, recorded_id, recorded_region, why_not_ours
from blockwise.verdicts import Verdicts

IDENTITY = "identity.json"

CLAIMED_AT_ONCE = 100
"""Blocks whose stale markers are removed together: where records are in a store, that is one request."""


@dataclass(frozen=True, slots=True)
class Item:
    """A block that is to be done.

    Attributes:
        block: its id.
        stamps: what it is going to read, per source.
        check: its data may be good: compare with the marker's checksum first, compute only where it differs.
    """

    block: int
    stamps: Mapping[str, str]
    check: bool = False


@dataclass(frozen=True)
class Totals:
    """What a finished step's blocks were and took, from their markers.

    Attributes:
        checksums: of the blocks.
        cpu_seconds: of all blocks.
        peak_memory_mb: of the worker that needed most.
        not_finite: voxels that the blocks have read and that hold NaN or infinity, if there are any.
    """

    checksums: Checksums
    cpu_seconds: float
    peak_memory_mb: float
    not_finite: NotFiniteTotals | None


@dataclass(frozen=True)
class Plan:
    """What is left of a step.

    Attributes:
        items: blocks to do, in raster order.
        done: number of blocks that stay as they are.
        reasons: why anything is to do, one line each; empty when nothing is.
        snapshots: of each source.
        files: digest over the output's files; empty where anything is to do.
        new_output: the output must be created.
        grown: the region that is computed has grown.
        totals: of all blocks; None where anything is to do.
    """

    items: list[Item]
    done: int
    reasons: list[str]
    snapshots: Mapping[str, Snapshot]
    files: str
    new_output: bool
    grown: bool
    totals: Totals | None


def plan_step(step: BlockStep) -> Plan:
    """Compare markers, sources and output with each other; nothing is changed."""
    step.output().check_ours()
    snapshots = {name: source.snapshot() for name, source in step.inputs.items()}
    new_output, reasons = _output_state(step)
    before = (None if new_output else recorded_region(step)) or step.grid.region
    verdicts = Verdicts(step, snapshots, () if new_output else step.markers, outgrown(step, before))
    files = step.output().files() if verdicts.heard and step.change_detection != "metadata" else None
    items = list(itertools.starmap(Item, verdicts.to_do(files, doubtful=power_was_lost(step))))
    reasons += verdicts.tally.reasons(len(step.grid), fresh=not verdicts.heard)
    return Plan(
        items=items,
        done=len(step.grid) - len(items),
        reasons=reasons,
        snapshots=snapshots,
        files="" if items else UNWATCHED if files is None else files.digest,
        new_output=new_output,
        grown=before != step.grid.region,
        totals=None if items else _totals(step, verdicts),
    )


def present_marker(step: BlockStep, item: Item, output: Output | None = None) -> Marker | None:
    """The marker of a block that is done with what it reads at present; None where it is not.

    Args:
        step: whose block.
        item: the block; of one that is to be checked the files must be those that the marker names.
        output: the step's, where the caller has it opened.
    """
    marker = step.markers.read(item.block)
    if marker is None or marker.stamps != dict(item.stamps):
        return None
    if item.check and marker.files != (output or step.output()).files_stamp(step.grid.block(item.block)):
        return None
    return marker


def _totals(step: BlockStep, verdicts: Verdicts) -> Totals:
    return Totals(
        checksums=verdicts.checksums(),
        cpu_seconds=round(verdicts.cpu_seconds, 3),
        peak_memory_mb=verdicts.peak_memory_mb,
        not_finite=total(verdicts.not_finite, one_volume=step.unit == "voxel"),
    )


def not_finite_of(step: BlockStep, markers: Mapping[int, Marker]) -> NotFiniteTotals | None:
    """Voxels that finished blocks have read and that hold NaN or infinity, if there are any."""
    found = {block: marker.not_finite for block, marker in markers.items() if marker.not_finite is not None}
    return total(found, one_volume=step.unit == "voxel")


def begin(step: BlockStep, plan: Plan) -> None:
    """Make everything ready for the first block: from here on the step counts as unfinished.

    The order matters: the target goes first, then markers that will no longer hold, then data. What another process
    has begun, or computed, since the plan was made stays.
    """
    step.forget_target()
    if plan.grown:
        with StepLock(step).beginning():
            _begin_in_larger_region(step, plan.items)
    if plan.new_output:
        with StepLock(step).beginning():
            if why_not_ours(step):
                begin_anew(step)
                begin_to_write(step)
                return
    _remove_stale_markers(step, plan.items)
    if power_was_lost(step):
        _doubt_markers(step, plan.items)
    if plan.items:
        begin_to_write(step)


def begin_anew(step: BlockStep) -> None:
    """Put an empty output in the place of whatever of ours lies there; by who is alone with the step."""
    for fingerprint in (*other_fingerprints(step), step.fingerprint):
        step.work.clear(f"{step.label}/{fingerprint}")
    write_json(step.records, IDENTITY, step.identity)
    attributes = new_attributes(step.fingerprint, step.provenance())
    step.output().create(attributes)
    record_output(step, attributes["id"])


def _begin_in_larger_region(step: BlockStep, items: list[Item]) -> None:
    """Forget the blocks that the former region has cut; then, and only then, are all others those of the new one."""
    before = recorded_region(step)
    if before is None or before == step.grid.region:  # another process has done it meanwhile
        return
    is_cut = outgrown(step, before)
    for item in items:
        if is_cut(step.grid.block(item.block)):
            step.markers.remove(item.block)
    record_output(step, recorded_id(step))


def _remove_stale_markers(step: BlockStep, items: list[Item]) -> None:
    """Remove the markers of blocks that have read something else; whoever computes a block removes its marker."""
    claims = claims_of(step)
    stale = _stale(step, items)
    for start in range(0, len(stale), CLAIMED_AT_ONCE):
        with contextlib.ExitStack() as stack:
            part = []
            for item in stale[start : start + CLAIMED_AT_ONCE]:
                if (claim := claims.take(item.block)) is not None:
                    stack.enter_context(claim)
                    part.append(item)
            # Of some that another has computed meanwhile the markers are good.
            step.markers.remove(*(item.block for item in _stale(step, part)))


def _stale(step: BlockStep, items: list[Item]) -> list[Item]:
    """Those that have a marker, of something else; what is checked is compared with its marker."""
    unchecked = {item.block: item for item in items if not item.check}
    found = step.markers.read_many(unchecked)
    return [item for block, item in unchecked.items() if block in found and found[block].stamps != dict(item.stamps)]


def _doubt_markers(step: BlockStep, items: list[Item]) -> None:
    """Have markers vouch for no files until their blocks were read back."""
    for item in items:
        marker = step.markers.read(item.block) if item.check else None
        if marker is not None:
            step.markers.write(msgspec.structs.replace(marker, files=UNSETTLED_FILES))


def finish(step: BlockStep, plan: Plan, seconds: float) -> None:
    """Write the target of a step of which, when the plan was made, nothing was left."""
    output = step.output().found()
    if plan.totals is None or output is None:
        raise RuntimeError(f"{step.label}: {plan.done} of {len(step.grid)} blocks are done at the end of the step")
    with step.records.writing(CHECKSUMS) as path, path.open("wb") as file:
        np.save(file, plan.totals.checksums.checksums)
    settle(step)
    absent = absent_chunks(step, plan.snapshots)
    write_json(
        step.work,
        step.target,
        {
            "fingerprint": step.fingerprint,
            "digest": plan.totals.checksums.digest,
            "inputs": {name: snapshot.digest for name, snapshot in plan.snapshots.items()},
            "output": output["id"],
            "files": plan.files,
            "blocks": len(step.grid),
            "seconds": round(seconds, 3),
            "cpu_seconds": plan.totals.cpu_seconds,
            "peak_memory_mb": plan.totals.peak_memory_mb,
            **({} if plan.totals.not_finite is None else {"not_finite": plan.totals.not_finite.as_json()}),
            **({"absent_chunks": absent} if absent else {}),
        },
    )


def warnings_of(step: BlockStep, target: Mapping[str, Any]) -> list[str]:
    """What looked wrong with what a finished step has read, for people, from its target."""
    found = NotFiniteTotals.from_json(target.get("not_finite"))
    return [*target.get("absent_chunks", ()), *([] if found is None else [step.not_finite_text(found)])]


def is_complete(step: BlockStep) -> bool:
    """Whether the step's result is there, whole, and made from what its sources are now.

    Costs one stat per chunk file; markers are counted, not read.
    """
    target = step.read_target()
    if target is None:
        return False
    if why_not_ours(step) or recorded_id(step) != target["output"]:
        return False
    if any(differs(target["inputs"].get(name), source.digest()) for name, source in step.inputs.items()):
        return False
    if recorded_region(step) != step.grid.region:
        return False
    return step.markers.count() >= len(step.grid) and not differs(target["files"], _files_digest(step))


def _files_digest(step: BlockStep) -> str:
    if step.change_detection == "metadata":
        return UNWATCHED
    return step.output().files().digest


def _output_state(step: BlockStep) -> tuple[bool, list[str]]:
    """Whether the output must be made anew, and why."""
    why = why_not_ours(step)
    if not why:
        return False, []
    if recorded_id(step):
        return True, [f"the output of {step.label} is made anew: {why}"]
    reasons = []
    for fingerprint in other_fingerprints(step):
        old = read_json(step.work, f"{step.label}/{fingerprint}/{IDENTITY}")
        if old:
            reasons += differences(old, step.identity)
    return True, reasons


def other_fingerprints(step: BlockStep) -> list[str]:
    """Fingerprints with which a step of this label has been run before."""
    others = [name for name in step.work.children(step.label) if name != step.fingerprint]
    return [name for name in others if step.work.state(f"{step.label}/{name}/{IDENTITY}") is not None]
