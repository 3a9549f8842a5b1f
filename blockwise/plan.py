"""What of a step is done, what is left, and why."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blockwise.files import read_json, replacing, write_json
from blockwise.identity import differences
from blockwise.markers import Marker
from blockwise.outputs import new_attributes
from blockwise.stamps import UNWATCHED, Checksums, Snapshot, differs
from blockwise.step import BlockStep

IDENTITY = "identity.json"
OUTPUT = "output.json"
DOOMED = ".old-"
"""Begins the name of a folder that is being removed."""


@dataclass(frozen=True)
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
class Plan:
    """What is left of a step.

    Attributes:
        items: blocks to do, in raster order.
        done: number of blocks that stay as they are.
        reasons: why anything is to do, one line each; empty when nothing is.
        inputs: digest of each source.
        new_output: the output must be created.
    """

    items: list[Item]
    done: int
    reasons: list[str]
    inputs: Mapping[str, str]
    new_output: bool


@dataclass
class _Tally:
    missing: int = 0
    stale: dict[str, int] = field(default_factory=dict)
    touched: int = 0


def plan_step(step: BlockStep) -> Plan:
    """Compare markers, sources and output with each other; nothing is changed."""
    step.output().check_ours()
    snapshots = {source.name: source.snapshot() for source in step.sources()}
    new_output, reasons = _output_state(step)
    markers = {} if new_output else step.markers.scan()
    items, tally = _items(step, snapshots, markers)
    reasons += _tally_reasons(tally, len(step.grid), fresh=new_output or not markers)
    digests = {name: snapshot.digest for name, snapshot in snapshots.items()}
    return Plan(items, len(step.grid) - len(items), reasons, digests, new_output)


def begin(step: BlockStep, plan: Plan) -> None:
    """Make everything ready for the first block: from here on the step counts as unfinished.

    The order matters: the target goes first, then markers that will no longer hold, then data.
    """
    step.target_path.unlink(missing_ok=True)
    if plan.new_output:
        for folder in (*_other_folders(step), step.folder):
            _remove(folder)
        write_json(step.folder / IDENTITY, step.identity)
        attributes = new_attributes(step.fingerprint, step.provenance())
        step.output().create(attributes)
        write_json(step.folder / OUTPUT, {"id": attributes["id"]})
        return  # no markers are left
    for item in plan.items:
        if not item.check:
            step.markers.remove(item.block)


def finish(step: BlockStep, inputs: Mapping[str, str], seconds: float) -> None:
    """Write the target: all blocks have markers."""
    markers = step.markers.scan()
    output = step.output().found()
    if len(markers) < len(step.grid) or output is None:
        raise RuntimeError(f"{step.label}: {len(markers)} of {len(step.grid)} markers at the end of the step")
    checksums = Checksums.of(step.grid, markers.values())
    with replacing(step.checksums_path) as temporary, temporary.open("wb") as file:
        np.save(file, checksums.checksums)
    write_json(
        step.target_path,
        {
            "fingerprint": step.fingerprint,
            "digest": checksums.digest,
            "inputs": dict(inputs),
            "output": output["id"],
            "files": _files_digest(step),
            "blocks": len(step.grid),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(sum(marker.cpu_seconds for marker in markers.values()), 3),
            "peak_memory_mb": max((marker.peak_memory_mb for marker in markers.values()), default=0.0),
        },
    )


def is_complete(step: BlockStep) -> bool:
    """Whether the step's result is there, whole, and made from what its sources are now.

    Costs one stat per chunk file; markers are counted, not read.
    """
    target = step.read_target()
    if target is None:
        return False
    output = step.output().found()
    if output is None or output["fingerprint"] != step.fingerprint or output["id"] != target["output"]:
        return False
    if any(differs(target["inputs"].get(source.name), source.digest()) for source in step.sources()):
        return False
    return step.markers.count() >= len(step.grid) and not differs(target["files"], _files_digest(step))


def _files_digest(step: BlockStep) -> str:
    if step.change_detection == "metadata":
        return UNWATCHED
    return step.output().files().digest


def _output_state(step: BlockStep) -> tuple[bool, list[str]]:
    """Whether the output must be made anew, and why."""
    found = step.output().found()
    recorded = read_json(step.folder / OUTPUT)
    if found and recorded and found["fingerprint"] == step.fingerprint and found["id"] == recorded["id"]:
        return False, []
    if step.folder.exists() and recorded:
        return True, [f"the output of {step.label} is gone, or was made by another run: all blocks are redone"]
    reasons = []
    for folder in _other_folders(step):
        old = read_json(folder / IDENTITY)
        if old:
            reasons += differences(old, step.identity)
    return True, reasons


def _other_folders(step: BlockStep) -> list[Path]:
    """Folders of other fingerprints, and what is left of one whose removal was interrupted."""
    if not step.folder.parent.exists():
        return []
    others = (path for path in step.folder.parent.iterdir() if path != step.folder)
    return sorted(path for path in others if (path / IDENTITY).exists() or path.name.startswith(DOOMED))


def _remove(folder: Path) -> None:
    """Remove a folder; renamed first, so that a half-removed one is known as such."""
    if not folder.exists():
        return
    if not folder.name.startswith(DOOMED):
        folder = folder.rename(folder.with_name(DOOMED + folder.name))
    shutil.rmtree(folder)


def _items(
    step: BlockStep, snapshots: Mapping[str, Snapshot], markers: Mapping[int, Marker]
) -> tuple[list[Item], _Tally]:
    items: list[Item] = []
    tally = _Tally()
    files = step.output().files() if markers and step.change_detection != "metadata" else None
    for block in step.grid:
        read_box = step.read_box(block)
        stamps = {name: snapshot.stamp(block, read_box) for name, snapshot in snapshots.items()}
        marker = markers.get(block.id)
        if marker is None:
            tally.missing += 1
            items.append(Item(block.id, stamps))
        elif changed := [name for name in stamps if differs(marker.stamps.get(name), stamps[name])]:
            for name in changed:
                tally.stale[name] = tally.stale.get(name, 0) + 1
            items.append(Item(block.id, stamps))
        elif files and marker.files != files.stamp(block, block.write_box):
            tally.touched += 1
            items.append(Item(block.id, stamps, check=True))
    return items, tally


def _tally_reasons(tally: _Tally, total: int, fresh: bool) -> list[str]:
    reasons = []
    if tally.missing and not fresh:
        reasons.append(f"{tally.missing} of {total} blocks are not done yet")
    for name, count in tally.stale.items():
        reasons.append(f"{name} has changed below {count} of {total} blocks")
    if tally.touched:
        reasons.append(f"the files of {tally.touched} of {total} finished blocks were touched: they are checked")
    return reasons
