"""What markers say of a step's blocks, compared with what is there now: which are done, which are not, and why.

There may be ten million blocks. Markers go by one after the other, and of each only what is needed later stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.not_finite import NotFinite
from blockwise.records.markers import Marker
from blockwise.stamps import Checksums, Snapshot, WrittenFiles, differs
from blockwise.step import BlockStep
from blockwise.trust.durability import UNSETTLED_FILES

_MISSING, _GOOD, _CUT, _STALE, _ADOPTED = range(5)
"""Of a block: no marker; one that holds; the region's former border went through it; it has read something else;
likewise, but its data may be good."""


@dataclass
class Tally:
    """How many blocks are to be done, by cause; ``stale`` by what they have read."""

    missing: int = 0
    stale: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    touched: int = 0
    doubtful: int = 0
    adopted: int = 0

    def reasons(self, total: int, *, fresh: bool) -> list[str]:
        """The causes in words, of so many blocks; that none has been done yet is no cause."""
        reasons = []
        if self.missing and not fresh:
            reasons.append(f"{self.missing} of {total} blocks are not done yet")
        if self.cut:
            reasons.append(f"the region has grown: {self.cut} of {total} blocks were cut by its former border")
        for name, count in self.stale.items():
            reasons.append(f"{name} has changed below {count} of {total} blocks")
        if self.doubtful:
            reasons.append(
                f"this machine went down while blocks were being written: {self.doubtful} of {total} finished blocks "
                "are checked"
            )
        if self.touched:
            reasons.append(f"the files of {self.touched} of {total} finished blocks were touched: they are checked")
        if self.adopted:
            reasons.append(f"{self.adopted} of {total} finished blocks are checked before anything is computed again")
        return reasons


class Verdicts:
    """What is known of each block once all markers have been read.

    Attributes:
        tally: of blocks that are to be done.
        heard: number of markers.
        cpu_seconds: of all markers.
        peak_memory_mb: largest of all markers.
        not_finite: by block, what those that have read anything not finite say of it.
    """

    def __init__(
        self,
        step: BlockStep,
        snapshots: Mapping[str, Snapshot],
        markers: Iterable[Marker],
        is_cut: Callable[[Block], bool],
    ) -> None:
        """Read the markers.

        Args:
            step: whose blocks.
            snapshots: of what it reads.
            markers: all there are.
            is_cut: whether the border of the region was once in the way of a block, see ``blockwise.region``.
        """
        self._step, self._snapshots = step, snapshots
        blocks = math.prod(step.grid.blocks_per_axis)
        self.tally = Tally()
        self.heard = 0
        self.cpu_seconds = 0.0
        self.peak_memory_mb = 0.0
        self.not_finite: dict[int, NotFinite] = {}
        self._states = bytearray(blocks)
        self._checksums = np.zeros(blocks, "S32")
        self._files = [""] * blocks
        is_computed = step.grid.computed.ravel()
        for marker in markers:
            if not 0 <= marker.block < blocks or self._states[marker.block] != _MISSING:
                continue
            self._note(marker)
            if is_computed[marker.block]:
                self._states[marker.block] = self._state(marker, step.grid.block(marker.block), is_cut)

    def _note(self, marker: Marker) -> None:
        self.heard += 1
        self.cpu_seconds += marker.cpu_seconds
        self.peak_memory_mb = max(self.peak_memory_mb, marker.peak_memory_mb)
        if marker.not_finite is not None:
            self.not_finite[marker.block] = marker.not_finite
        self._checksums[marker.block] = marker.checksum.encode()
        self._files[marker.block] = marker.files

    def _state(self, marker: Marker, block: Block, is_cut: Callable[[Block], bool]) -> int:
        if is_cut(block):
            return _CUT
        stamps = self._stamps(block)
        changed = [name for name in stamps if differs(marker.stamps.get(name), stamps[name])]
        if not changed:
            return _GOOD
        if self._step.adopts(marker, stamps):
            return _ADOPTED
        for name in changed:
            self.tally.stale[name] = self.tally.stale.get(name, 0) + 1
        return _STALE

    def _stamps(self, block: Block) -> dict[str, str]:
        boxes = self._step.reads(block)
        return {name: snapshot.stamp(boxes[name]) for name, snapshot in self._snapshots.items()}

    def to_do(self, files: WrittenFiles | None, *, doubtful: bool) -> Iterator[tuple[int, dict[str, str], bool]]:
        """Blocks that are not done, in raster order; they are counted in the tally.

        Args:
            files: of the output as they are now, later than all markers; None where nobody looks at them.
            doubtful: whether what was written may never have come to the disk.

        Yields:
            The block, what it is going to read, and whether its data may be good.
        """
        for block in self._step.grid:
            state = self._states[block.id]
            check = state == _ADOPTED
            if state == _MISSING:
                self.tally.missing += 1
            elif state == _CUT:
                self.tally.cut += 1
            elif state == _ADOPTED:
                self.tally.adopted += 1
            elif state == _GOOD:
                if doubtful or self._files[block.id] == UNSETTLED_FILES:
                    self.tally.doubtful += 1
                elif files and self._files[block.id] != files.stamp(block):
                    self.tally.touched += 1
                else:
                    continue
                check = True
            yield block.id, self._stamps(block), check

    def checksums(self) -> Checksums:
        """Of what all blocks have written."""
        shape = self._step.grid.blocks_per_axis
        found: NDArray[np.bytes_] = self._checksums.reshape(shape)
        return Checksums(self._step.grid, found)
