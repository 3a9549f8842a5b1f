"""After a step's blocks are computed: is what they have read still what it was?

What a block reads is stamped before it is read. Here it is looked at again: a file that vanished in between may have
been read as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

from blockwise.errors import UserError
from blockwise.grid import overlap
from blockwise.stamps import FileStates, Snapshot
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource


def forget_what_read_touched_files(step: BlockStep) -> str:
    """Drop the markers of blocks that have read files of another step which are no longer as it has written them.

    Returns:
        Label of that step, whose blocks are to be checked first; empty where there is none.
    """
    for name, source in step.inputs.items():
        boxes = source.touched() if isinstance(source, BlocksSource) else []
        if not boxes:
            continue
        for block in step.grid:
            read = step.reads(block)[name]
            if any(overlap(read, box) for box in boxes):
                step.markers.remove(block.id)
        return source.label
    return ""


def refuse_vanished_files(step: BlockStep, before: Mapping[str, Snapshot], now: Mapping[str, Snapshot]) -> None:
    """Refuse to go on where files of a given volume were there when the step began, and are not any more.

    Raises:
        UserError: naming the first of them.
    """
    for name, snapshot in now.items():
        earlier = before.get(name)
        if not isinstance(snapshot, FileStates) or not isinstance(earlier, FileStates):
            continue
        if gone := snapshot.vanished_since(earlier):
            raise UserError(
                f"{step.label}: {name} {step.inputs[name].address}: {len(gone)} files were there when the step "
                f"began, and are gone now; the first is {gone[0]}. Put them back and run the same command again; if "
                "they are meant to be missing, run it again as it is: they then count as 0"
            )
