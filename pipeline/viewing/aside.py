"""Blocks whose own place holds a result of other settings: computed in a store of their own, below the work folder.

So a project that was trained again, or another threshold, can be looked at before anything is given up for it. A run
with these settings begins anew in the steps' own place.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from blockwise.demand.beginning import why_taken
from blockwise.step import BlockStep
from blockwise.volume_step import VolumeStep
from pipeline.assembly.objects.steps import ObjectSteps, object_steps
from pipeline.assembly.steps import Steps, build_steps
from pipeline.configuration.settings import Settings, Threshold
from pipeline.inspecting.live_stores import CONTAINERS, live_folder


def steps_aside(settings: Settings, steps: Steps) -> tuple[Steps, list[str]]:
    """The steps of a run, those in a store of their own whose place is taken; and what is so, for people.

    Args:
        settings: of the run.
        steps: of the run, all in their own places.

    Raises:
        NotOursError: something lies in a step's place that no run of ours has written.
    """
    if why_taken(steps.prediction):
        # Steps know what was made of slices, and the mask that came with it: neither is made anew elsewhere.
        masked = settings.model_copy(update={"blocks": steps.settings.blocks})
        aside = build_steps(apart(masked, steps.prediction))
        return replace(aside, stack=steps.stack), [_note(settings, steps.prediction)]
    notes: list[str] = []

    def free(threshold: Threshold, objects: ObjectSteps) -> ObjectSteps:
        if not why_taken(objects.threshold):
            return objects
        notes.append(_note(settings, objects.threshold))
        return object_steps(apart(settings, objects.threshold), threshold, steps.prediction)

    found = tuple(free(*pair) for pair in zip(settings.threshold, steps.objects, strict=True))
    return (replace(steps, objects=found) if notes else steps), notes


def _folder(settings: Settings, step: BlockStep) -> Path:
    return live_folder(settings.work_dir) / step.fingerprint / "0"


def apart(settings: Settings, step: VolumeStep) -> Settings:
    """Settings with which a step, and what reads it, lie in a store of their own."""
    folder = _folder(settings, step)
    places: dict[str, Any] = {
        "work_dir": str(folder),
        "output": str(folder / CONTAINERS[step.shards is not None]),
    }
    return settings.model_copy(update=places)


def _note(settings: Settings, step: BlockStep) -> str:
    return (
        f"{step.label}: its place holds a result of other settings, which is left as it is; what is computed here is "
        f"kept in {_folder(settings, step)}, and no run will find it"
    )
