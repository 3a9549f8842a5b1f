"""Beginning a step for the sake of single blocks, in a place where nothing lies that somebody may still want."""

from __future__ import annotations

import msgspec

from blockwise.claims import StepLock
from blockwise.errors import UserError
from blockwise.plan import begin_anew, other_fingerprints
from blockwise.step import BlockStep
from blockwise.trust.durability import UNSETTLED_FILES, begin_to_write, power_was_lost
from blockwise.trust.ownership import recorded_region, why_not_ours


class PlaceTakenError(UserError):
    """A result of other settings lies where a step would write."""


def begin_in_free_place(step: BlockStep) -> None:
    """Make everything ready for blocks of a step, as ``plan.begin`` does, but in the place of no other result.

    A run makes an output anew in place of an older one of ours: it was asked to. Who only looks was not. What another
    process has begun stays.

    Raises:
        PlaceTakenError: a result of other settings, or its markers, would have to go.
        NotOursError: something lies there that no run of ours has written.
    """
    if why_not_ours(step):
        with StepLock(step).beginning():
            if why_not_ours(step):
                if why := why_taken(step):
                    raise PlaceTakenError(why)
                step.forget_target()
                begin_anew(step)
                begin_to_write(step)
                return
    elif why := why_taken(step):
        raise PlaceTakenError(why)
    if power_was_lost(step):
        with StepLock(step).beginning():
            if power_was_lost(step):
                _doubt_markers(step)
                begin_to_write(step)
    else:
        begin_to_write(step)


def why_taken(step: BlockStep) -> str:
    """Which result of other settings lies where a step would write, and what to do, for people; empty where none is.

    Raises:
        NotOursError: something lies there that no run of ours has written.
    """
    if not why_not_ours(step):
        if recorded_region(step) == step.grid.region:
            return ""
        return (
            f"{step.label}: {step.output().address} was computed in a smaller region, and is left as it is. Run the "
            "workflow, which computes what its border has cut, and what is new"
        )
    output = step.output()
    output.check_ours()
    if output.found() is not None:
        return (
            f"{step.label}: {output.address} holds a result of other settings, or of another work folder; it is left "
            "as it is. Run the workflow, which makes it anew, or choose another output"
        )
    if others := other_fingerprints(step):
        place = step.work.place(f"{step.label}/{others[0]}")
        return (
            f"{step.label}: {place} has the markers of a result of other settings; they are left as they are. Run "
            "the workflow, which begins anew, or choose another work folder"
        )
    return ""


def _doubt_markers(step: BlockStep) -> None:
    """Have markers vouch for no files until their blocks were read back."""
    for marker in step.markers:
        if marker.files != UNSETTLED_FILES:
            step.markers.write(msgspec.structs.replace(marker, files=UNSETTLED_FILES))
