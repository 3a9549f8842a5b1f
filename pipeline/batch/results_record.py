"""What a batch has written for an image, noted so that it can be removed when the image is no longer named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from blockwise.chain import Chain
from blockwise.outputs import GroupOutput, VolumeOutput, found_dataset, found_group
from blockwise.records import Records, open_records, read_json, write_json
from pipeline.assembly.steps import Steps
from pipeline.configuration.settings import Settings

RECORD = "results.json"
"""Record in an image's folder; read before anything of the image is removed, and itself removed last."""


@dataclass(frozen=True)
class ImageResults:
    """Results of an image, those of former settings included, whether they are there or not.

    Attributes:
        datasets: and groups of them: by address the fingerprints that they were given.
        tables: names of files in the image's folder.
    """

    datasets: Mapping[str, tuple[str, ...]]
    tables: tuple[str, ...]

    def present(self) -> list[str]:
        """Addresses of those datasets that lie there and carry one of these fingerprints."""
        return [address for address, marks in self.datasets.items() if _fingerprint(address) in marks]


def results_of(steps: Steps) -> ImageResults:
    """What an image's steps write."""
    outputs = [(step.output(), step.fingerprint) for step in steps.usual()]
    datasets = {o.address: (mark,) for o, mark in outputs if isinstance(o, VolumeOutput | GroupOutput)}
    return ImageResults(datasets, tuple(table.key for table in Chain(steps.all()).tables))


def recorded(records: Records) -> ImageResults | None:
    """What was noted among an image's records; None where nothing was."""
    record = read_json(records, RECORD)
    if record is None or not {"datasets", "tables"} <= record.keys():
        return None
    return ImageResults({a: tuple(marks) for a, marks in record["datasets"].items()}, tuple(record["tables"]))


def record(settings: Settings, steps: Steps) -> None:
    """Note what is about to be written for an image; what was noted before stays."""
    records = open_records(settings.work_dir)
    before, new = recorded(records) or ImageResults({}, ()), results_of(steps)
    addresses = dict.fromkeys((*before.datasets, *new.datasets))
    both = ImageResults(
        {a: tuple(dict.fromkeys((*before.datasets.get(a, ()), *new.datasets.get(a, ())))) for a in addresses},
        tuple(dict.fromkeys((*before.tables, *new.tables))),
    )
    if both != before:
        write_json(records, RECORD, {"datasets": dict(both.datasets), "tables": both.tables}, indent=None)


def _fingerprint(address: str) -> str | None:
    found = found_group(address) or found_dataset(address)
    return None if found is None else str(found["fingerprint"])
