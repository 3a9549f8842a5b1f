"""Whether what lies in a step's place is the output that its markers vouch for: asked here, and nowhere else."""

from __future__ import annotations

from blockwise.errors import UserError
from blockwise.files import read_json
from blockwise.step import BlockStep

OUTPUT = "output.json"
"""Record beside the markers: which output they are of."""


class OutputReplacedError(UserError):
    """The output of a step is no longer the one that this run has begun with."""


def recorded_id(step: BlockStep) -> str:
    """Id of the output that the step's markers vouch for; empty where there is none."""
    return str((read_json(step.folder / OUTPUT) or {}).get("id", ""))


def why_not_ours(step: BlockStep) -> str:
    """What is wrong with the output, for people; empty where the step's markers vouch for it."""
    record = read_json(step.folder / OUTPUT)
    if record is None:
        return "no run has begun with it"
    layout = record.get("layout", 1)
    if layout != step.layout:
        return f"an earlier version kept it in other files (layout {layout} -> {step.layout})"
    found = step.output().found()
    if found is None:
        return "it is gone"
    if (found["fingerprint"], found["id"]) != (step.fingerprint, record["id"]):
        return "it was made by another run"
    return ""


def check_ours(step: BlockStep) -> None:
    """Refuse to vouch for a block of an output that is no longer this run's.

    Raises:
        OutputReplacedError: naming the output, and what has become of it.
    """
    if why := why_not_ours(step):
        raise OutputReplacedError(
            f"{step.label}: output {step.output().address}: {why}, while this run was writing it. Two runs must not "
            "write one output at once: give each an output of its own, or run one after the other"
        )
