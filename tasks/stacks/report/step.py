"""The end of an alignment: a page with pictures that says how it went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import FilesOutput, Table
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from tasks.stacks.alignment_step import AlignmentStep

REPORT_MEMORY = 400_000_000


class AlignmentReportStep(BlockStep):
    """A page, readable without a network, in one job; its grid has one block.

    Attributes:
        alignment: the step that has placed the slices.
    """

    name: ClassVar[str] = "alignment_report"
    version: ClassVar[int] = 1
    layout: ClassVar[int] = 2  # 2: how far each pair is from what all of them say

    alignment: Before[AlignmentStep]

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def sources(self) -> tuple[Source, ...]:
        """Transforms, and what is known of slices and pairs."""
        pairs = () if self.alignment.pairs is None else (self.alignment.pairs, self.alignment.pairs.features)
        return tuple(map(BlocksSource, (self.alignment, self.alignment.slices, *pairs)))

    def output(self) -> FilesOutput:
        """The page."""
        return FilesOutput(self.records, (), (self.page,), (self.label,))

    @property
    def page(self) -> Table:
        """Its file."""
        return Table(self.work, "alignment.html")

    def projected_memory(self) -> int:
        """Plots, and a few small pictures."""
        return BASE_MEMORY + REPORT_MEMORY

    def compute(self, block: Block, prepared: Any) -> Mapping[str, NDArray[Any]]:
        """Write the page."""
        from tasks.stacks.report.page import report_page  # loads matplotlib

        page = report_page(self.alignment)
        self.work.put(self.page.key, page.encode())
        return {}
