"""What can be said of a configuration whose slices are not aligned yet, or that has nothing after that."""

from __future__ import annotations

from pipeline.assembly.checks import check_memory
from pipeline.assembly.geometry import RawDescription
from pipeline.assembly.stacks.placed import NotAlignedError, StackOnly, finished_stack, stack_only
from pipeline.assembly.stacks.steps import first_look, stack_steps
from pipeline.assembly.steps import Steps, build_steps, make_steps, open_the_project
from pipeline.configuration.settings import Settings

StepsSoFar = Steps | StackOnly
"""What can be made of a configuration at present."""
NOTHING_AFTER = "prediction.project is not set: there is nothing after the alignment"


def is_alignment_only(settings: Settings) -> bool:
    """Whether there is nothing to be made of the aligned volume."""
    return settings.takes_aligned and not settings.prediction.project


def finished_steps(settings: Settings) -> StepsSoFar:
    """The steps of a configuration, those of its slices finished.

    Raises:
        NotAlignedError: they are not.
        UserError: see ``build_steps``.
    """
    if is_alignment_only(settings):
        return StackOnly(finished_stack(settings).all(), NOTHING_AFTER, settings)
    return build_steps(settings)


def steps_so_far(settings: Settings) -> StepsSoFar:
    """The steps of a configuration as far as they can be made: what is made of slices is known when they are aligned.

    Raises:
        UserError: see ``build_steps``.
    """
    if is_alignment_only(settings):
        return stack_only(settings, NOTHING_AFTER)
    try:
        return build_steps(settings)
    except NotAlignedError as error:
        return stack_only(settings, str(error))


def check_before_aligning(settings: Settings) -> None:
    """Look for what can be wrong with what is to be made of slices, as far as they tell before they are aligned.

    Raises:
        UserError: see ``build_steps``.
    """
    project = open_the_project(settings)
    slices = stack_steps(settings).slices
    info = first_look(settings, slices)
    if info is None:  # the alignment names those that cannot be read
        return
    # How large the aligned volume is, is not known yet: what refers to its voxels is looked at when it is there.
    blocks = settings.blocks.model_copy(update={"mask": None, "mask_factor": None, "roi": None})
    made = make_steps(
        settings.model_copy(update={"blocks": blocks}), project, RawDescription(info, "the slices"), whole=False
    )
    check_memory(made.needed(), settings.backend)
