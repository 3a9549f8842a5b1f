"""Steps that one call of a worker runs one after the other: known, computed and checked as one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blockwise.identity import canonical_json, digest, fingerprint_of
from blockwise.not_finite import NotFinite, noting, without_note
from blockwise.outputs import FilesOutput, Output, Table, VolumeOutput, new_attributes
from blockwise.sources import Source
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource

INPUTS = "\0inputs"
"""Stands for the inputs in an identity; nothing else in one is called so."""


@dataclass(frozen=True)
class Chain:
    """Steps over one thing, an image, that are small enough to be computed in one go.

    What its result is made of are its members' fingerprints and the state of what is given to them.

    Attributes:
        steps: the members, each after those that it reads.
    """

    steps: tuple[BlockStep, ...]

    @cached_property
    def given(self) -> dict[str, Source]:
        """What members read and no member writes, by label: the raw volume, a mask."""
        labels = {step.label for step in self.steps}
        sources = [source for step in self.steps for source in step.sources()]
        return {s.label: s for s in sources if not (isinstance(s, BlocksSource) and s.label in labels)}

    @property
    def volumes(self) -> tuple[VolumeOutput, ...]:
        """The datasets that the members write."""
        return tuple(output for output in self._outputs if isinstance(output, VolumeOutput))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that the members write."""
        return tuple(table for output in self._outputs if isinstance(output, FilesOutput) for table in output.tables)

    @property
    def _outputs(self) -> list[Output]:
        return [step.output() for step in self.steps]

    def fingerprints(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """Fingerprints of the members of a chain that differs from this one only in what is given to it.

        Args:
            given: by label the identities of what is given; what is left out is as it is here.
        """
        texts = {label: canonical_json(identity) for label, identity in given.items()}
        found = []
        for label, before, after, inputs in self._identities:
            parts = [f"{name}:{texts.get(source, identity)}" for name, source, identity in inputs]
            found.append(fingerprint_of(f"{before}{{{','.join(parts)}}}{after}"))
            texts[label] = f'"{found[-1]}"'
        return tuple(found)

    @cached_property
    def _identities(self) -> list[tuple[str, str, str, list[tuple[str, str, str]]]]:
        """Label of each member, its identity as text before and after its inputs, and of these name, label, identity.

        Of thousands of chains that are alike most of the text is the same.
        """
        found = []
        for step in self.steps:
            before, after = canonical_json({**step.identity, "inputs": INPUTS}).split(canonical_json(INPUTS))
            named = sorted(step.identity["inputs"].items())
            inputs = [(canonical_json(name), step.inputs[name].label, canonical_json(own)) for name, own in named]
            found.append((step.label, before, after, inputs))
        return found

    def compute(self) -> Any:
        """Compute all blocks of all members, here and now; the checksum of their datasets, as ``noting`` gives it."""
        computed = [_compute(step) for step in self.steps]
        checksum = _joined([checksum for checksums, _ in computed for checksum in checksums])
        return noting(checksum, [found for _, of_step in computed for found in of_step])

    def checksum(self) -> str:
        """Read the datasets back, and return their checksum.

        Raises:
            UserError: a dataset is gone.
            FileNotFoundError: a table is gone.
        """
        for table in self.tables:
            table.file()
        return _joined([output.checksum(block) for output in self.volumes for block in output.grid])


def _joined(checksums: list[str]) -> str:
    return digest(",".join(checksums))


def _compute(step: BlockStep) -> tuple[list[str], list[NotFinite | None]]:
    """Compute all blocks of a step; checksums where it writes a dataset, and what of the input is not finite."""
    output = step.output()
    prepared = step.prepare()
    computed = [(block, *without_note(step.compute(block, prepared))) for block in step.grid]
    # Made now only, so that what cannot be read leaves nothing behind.
    output.create(new_attributes(step.fingerprint, step.provenance()))
    checksums = [output.write(block, data) for block, data, _ in computed]
    return checksums if isinstance(output, VolumeOutput) else [], [found for _, _, found in computed]
