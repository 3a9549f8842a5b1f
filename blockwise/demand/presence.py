"""Which blocks are there, asked one by one: a plan looks at all of a step's blocks, this at those that are needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from blockwise.errors import UserError
from blockwise.grid import Block, Box, Region
from blockwise.identity import array_checksum, digest
from blockwise.mask import MaskSource
from blockwise.outputs import Output, VolumeOutput
from blockwise.plan import Item, is_complete, present_marker
from blockwise.region import outgrown
from blockwise.sources import RawSource, Source
from blockwise.stamps import UNWATCHED, Snapshot, differs
from blockwise.step import BlockStep
from blockwise.trust.durability import power_was_lost
from blockwise.trust.ownership import OutputReplacedError, Ownership, recorded_region
from blockwise.upstream import BlocksSource
from blockwise.volume import Volume, open_volume

BELIEVED_S = 5.0
"""A block that was found done is taken for done for so long, by those who read it or need it."""


def stands_alone(step: BlockStep) -> bool:
    """Whether a block of a step needs no more than some blocks of datasets before it: it can be computed by itself.

    Not so of what needs tables of all blocks, such as final labels.
    """
    return isinstance(step.output(), VolumeOutput) and all(
        isinstance(source, RawSource | MaskSource) or (type(source) is BlocksSource and stands_alone(source.step))
        for source in step.inputs.values()
    )


def needed_blocks(step: BlockStep, block: int) -> Iterator[tuple[BlockStep, int]]:
    """The blocks of other steps that a block reads."""
    boxes = step.reads(step.grid.block(block))
    for name, source in step.inputs.items():
        if isinstance(source, BlocksSource):
            yield from ((source.step, other) for other in source.step.grid.ids_touching(boxes[name]))


class Presence:
    """What is known of blocks that are there.

    To be asked by several threads at once: each answer is of some moment, and the truth is in the markers.
    """

    def __init__(self) -> None:
        self._looks: dict[tuple[str, str], _Look] = {}
        self._complete: dict[tuple[str, str], tuple[Any, bool]] = {}
        self._found: dict[tuple[str, str, int], float] = {}

    def look_again(self) -> None:
        """Take nothing for known any more."""
        self._looks.clear()
        self._complete.clear()
        self._found.clear()

    def forget(self, step: BlockStep, block: int) -> None:
        """A block has turned out not to be what it was taken for."""
        self._complete.pop(_key(step), None)
        self._found.pop((*_key(step), block), None)

    def is_complete(self, step: BlockStep) -> bool:
        """Whether a step is finished, and all before it, as ``plan.is_complete`` says.

        Looked at once for each target: of large steps it takes long.
        """
        known = self.known_complete(step)
        if known is None:
            target = _target_state(step)
            known = is_complete(step) and all(map(self.is_complete, _steps_before(step)))
            self._complete[_key(step)] = target, known
        return known and self._look(step).is_ours

    def known_complete(self, step: BlockStep) -> bool | None:
        """What ``is_complete`` has found for the present target; None where nobody has looked. Not so without one."""
        target = _target_state(step)
        if target is None:
            return False
        looked_at, found = self._complete.get(_key(step), (None, False))
        return found if looked_at == target else None

    def seems_complete(self, step: BlockStep) -> bool:
        """Whether a step is finished, and all before it, as far as their targets tell; no file is looked at."""
        target = step.read_target()
        if target is None or not self._look(step).is_ours:
            return False
        sources = ((name, s) for name, s in step.inputs.items() if isinstance(s, BlocksSource))
        return all(
            target["inputs"].get(name) == source.digest() and self.seems_complete(source.step)
            for name, source in sources
        )

    def is_done(self, step: BlockStep, block: int, *, is_finished: bool = False) -> bool:
        """Whether a block is done with what it reads at present, and its files are those that its marker names.

        Args:
            step: whose block.
            block: its id.
            is_finished: it is known that the step is: only the block's own files are looked at.
        """
        key = (*_key(step), block)
        found = self._found.get(key)
        if found is not None and time.monotonic() - found < BELIEVED_S:
            return True
        look = self._look(step)
        marker = step.markers.read(block)
        if marker is None or not look.is_ours or power_was_lost(step) or look.is_cut(block):
            return False
        if is_finished or self.known_complete(step):
            item = Item(block, marker.stamps, check=True)
        elif stands_alone(step) and all(self.is_done(*needed) for needed in needed_blocks(step, block)):
            item = self.item(step, block)
        else:
            return False
        # What is not watched is as the marker has it.
        check = item.check and step.change_detection != "metadata"
        if present_marker(step, replace(item, check=check), look.output) is None:
            return False
        self._found[key] = time.monotonic()
        return True

    def item(self, step: BlockStep, block: int) -> Item:
        """A block as something that is to be done, with stamps of what it reads at present.

        What it needs of other steps must be there. Of a block whose marker is of these stamps the data is compared
        with the marker's checksum before anything is computed.
        """
        look = self._look(step)
        boxes = step.reads(step.grid.block(block))
        stamps = {name: look.stamp(source, boxes[name]) for name, source in step.inputs.items()}
        marker = step.markers.read(block)
        if marker is None or any(differs(marker.stamps.get(name), stamp) for name, stamp in stamps.items()):
            return Item(block, stamps)
        return Item(block, marker.stamps, check=True)

    def _look(self, step: BlockStep) -> _Look:
        return self._looks.setdefault(_key(step), _Look(step))


@dataclass
class _Look:
    """What of a step is opened once for all its blocks."""

    step: BlockStep
    volumes: dict[str, Volume] = field(default_factory=dict)
    masks: dict[str, Snapshot] = field(default_factory=dict)
    outgrown: tuple[Region, Callable[[Block], bool]] | None = None

    @cached_property
    def output(self) -> Output:
        return self.step.output()

    @cached_property
    def ownership(self) -> Ownership:
        return Ownership(self.step)

    @property
    def is_ours(self) -> bool:
        try:
            self.ownership.check()
        except OutputReplacedError:
            return False
        return True

    def is_cut(self, block: int) -> bool:
        """Whether a block was computed in a smaller region, whose border has cut it."""
        before = recorded_region(self.step)
        if before is None or before == self.step.grid.region:
            return False
        if self.outgrown is None or self.outgrown[0] != before:
            self.outgrown = before, outgrown(self.step, before)
        return self.outgrown[1](self.step.grid.block(block))

    def stamp(self, source: Source, box: Box) -> str:
        """The stamp that a snapshot of all of a source would have for a box."""
        if isinstance(source, BlocksSource):
            return _stamp_of_blocks(source.step, box)
        if isinstance(source, RawSource):
            return self._stamp_of_files(source, box) if source.watch_files else UNWATCHED
        if source.label not in self.masks:
            self.masks[source.label] = source.snapshot()
        return self.masks[source.label].stamp(box)

    def _stamp_of_files(self, source: RawSource, box: Box) -> str:
        volume = self.volumes.get(source.label)
        if volume is None:
            volume = self.volumes.setdefault(source.label, open_volume(source.info.address))
        spatial = dict(zip(source.spatial, box, strict=True))
        return array_checksum(
            volume.file_states(tuple(spatial.get(axis, slice(0, n)) for axis, n in enumerate(volume.shape)))
        )


def _stamp_of_blocks(step: BlockStep, box: Box) -> str:
    """As ``Checksums.stamp`` has it, from the markers of the blocks in question alone."""
    ranges = step.grid.index_ranges(box)
    checksums = np.zeros([len(r) for r in ranges], "S32")
    for block_id in step.grid.ids_touching(box):
        marker = step.markers.read(block_id)
        if marker is None:
            raise UserError(f"{step.label}: {step.title(block_id)} is not there any more; ask again")
        index = step.grid.index_of(block_id)
        checksums[tuple(i - r.start for i, r in zip(index, ranges, strict=True))] = marker.checksum.encode()
    return digest(checksums.tobytes())


def _steps_before(step: BlockStep) -> list[BlockStep]:
    return [source.step for source in step.inputs.values() if isinstance(source, BlocksSource)]


def _key(step: BlockStep) -> tuple[str, str]:
    return step.records.place(), step.fingerprint


def _target_state(step: BlockStep) -> Any:
    """What tells a target from a later one; None where there is none of this fingerprint."""
    target = step.read_target()
    return None if target is None else (target["output"], target["digest"], target["inputs"], target["files"])
