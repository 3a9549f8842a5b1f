"""Chunks of given volumes that are not there: legal, and also what is left of a copy that was broken off."""

from __future__ import annotations

from collections.abc import Mapping

from blockwise.stamps import FileStates, Snapshot
from blockwise.step import BlockStep


def absent_chunks(step: BlockStep, snapshots: Mapping[str, Snapshot]) -> list[str]:
    """One line for each volume that a step reads and that lacks chunks, for people; empty where none does."""
    lines = []
    for name, snapshot in snapshots.items():
        if not isinstance(snapshot, FileStates):
            continue
        absent, total = snapshot.volume.absent_pieces(snapshot.states)
        if absent:
            first = snapshot.first_absent()
            lines.append(
                f"{name} {step.inputs[name].address}: {absent:,} of {total:,} chunks are not there and are read as "
                f"the fill value, mostly 0{first and f'; the first is {first}'}. N5 and Zarr leave out chunks that "
                "hold nothing else; if this is a copy, see that it is whole"
            )
    return lines
