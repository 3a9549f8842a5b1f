"""Whether results are cut into files as the configuration says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from blockwise.errors import UserError
from blockwise.outputs import VolumeOutput
from blockwise.step import BlockStep
from blockwise.trust.ownership import why_not_ours


def storage_notes(steps: Iterable[BlockStep]) -> Iterator[str]:
    """A line for each result that was written with other chunks or shards, and stays as it is: no voxel differs."""
    for step in steps:
        output = step.output()
        if not isinstance(output, VolumeOutput) or why_not_ours(step):  # it is made anew anyway
            continue
        try:
            other = output.other_storage()
        except UserError:  # whoever reads it says so
            continue
        if other:
            yield f"{step.label}: {other}; it is kept as it is, remove the dataset to have it written anew"
