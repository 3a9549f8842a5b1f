"""Markers of images from versions that kept a digest of the configuration, not of the steps' fingerprints."""

from __future__ import annotations

from blockwise.chain import Chain
from blockwise.outputs import VolumeOutput, found_dataset
from blockwise.records.markers import Marker
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource
from tasks.objects.table_step import ObjectTableStep

STAMPS = {"raw", "configuration"}
"""What they hold stamps of; later ones have one of the mask."""

TABLES = 1
"""Version of the tables that they vouch for, which have no measures of images and no sizes in micrometres."""


def is_earlier(marker: Marker) -> bool:
    """Whether it was written by such a version."""
    return marker.stamps.keys() == STAMPS


def has_results_of(chain: Chain) -> bool:
    """Whether what lies in the places of a chain's results was made by such a version from what the chain is made of.

    Each dataset carries its step's fingerprint, and this stands for the steps before it as well.
    """
    told: set[str] = set()
    for step in reversed(chain.steps):
        output = step.output()
        if isinstance(output, VolumeOutput):
            found = found_dataset(output.address)
            if found is None or found["fingerprint"] != step.fingerprint:
                return False
            told.add(step.label)
        if step.label in told:
            told |= _read_by(step)
    others = [step for step in chain.steps if step.label not in told]
    return all(
        isinstance(step, ObjectTableStep)
        and (step.version, step.step_um) == (TABLES, None)
        and _read_by(step) <= told
        for step in others
    )


def _read_by(step: BlockStep) -> set[str]:
    return {source.label for source in step.sources() if isinstance(source, BlocksSource)}
