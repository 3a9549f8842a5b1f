"""Transforms of slices for other programs."""

from __future__ import annotations

import json
from pathlib import Path

from blockwise.completeness import Completeness
from blockwise.errors import UserError
from blockwise.files import replacing
from pipeline.assembly.stacks.steps import stack_steps
from pipeline.configuration.settings import Settings
from tasks.alignment.transforms_file import csv_lines, tile_specs

ENDINGS = (".csv", ".json")


def export_transforms(settings: Settings, target: str) -> Path:
    """Write the transforms of a finished alignment.

    Args:
        settings: the configuration.
        target: ``.csv`` for a table as the original ingest system has it, ``.json`` for render's tile specifications.

    Raises:
        UserError: the ending is another one, the alignment is not finished, or a tile specification would name a file
            that holds more than one slice.
    """
    path = Path(target)
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"{target}: transforms are written as a table (.csv) or as tile specifications of render (.json); our "
            f"own file lies in the work folder, {settings.work_dir}/transforms.json"
        )
    alignment = stack_steps(settings).alignment
    if not Completeness().of(alignment):
        raise UserError("the slices are not aligned yet, or have changed since; run AlignmentWorkflow first")
    matrices, sizes = alignment.placed()
    if path.suffix.lower() == ".csv":
        text = "\n".join(csv_lines(matrices))
    else:
        facts, files = alignment.slices.all_facts(), alignment.slices.by_number
        if planes := [file for file in files.values() if file.plane is not None]:
            raise UserError(
                f"{target}: tile specifications name an image for each slice, but slices are planes of "
                f"{planes[0].path}; write a table (.csv), or export its planes as files and align these"
            )
        greys = {z: (facts[z].low, facts[z].high) for z in matrices}
        text = json.dumps(tile_specs(matrices, {z: files[z].path for z in matrices}, sizes, greys), indent=1)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")
    return path
