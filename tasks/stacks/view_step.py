"""In place of the aligned volume: a file that says how slices lie, from which they are read and moved on the fly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.identity import canonical_json, digest
from blockwise.outputs import FilesOutput, Table
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from tasks.alignment.warp import applied
from tasks.stacks.alignment_step import AlignmentStep, TransformsSource


class AlignedViewStep(BlockStep):
    """A file that ``blockwise.volume.readers.moved_slices`` reads, in one job; its grid has one block.

    Attributes:
        alignment: the step that has found the transforms, all of them shifts.
        canvas: left, top, width and height, in pixels of the common frame.
        dtype: of the slices.
        fill: grey value where there is no slice.
    """

    name: ClassVar[str] = "aligned_view"
    version: ClassVar[int] = 1

    alignment: Before[AlignmentStep]
    canvas: tuple[int, int, int, int]
    dtype: str
    fill: float

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result, and which files the slices are."""
        files = [file.model_dump(mode="json") for file in self.alignment.slices.files]
        return {
            "canvas": list(self.canvas),
            "dtype": self.dtype,
            "fill": self.fill,
            "files": digest(canonical_json(files)),
        }

    def sources(self) -> tuple[Source, ...]:
        """Transforms, and what is known of the slices."""
        return (TransformsSource(self.alignment, "whole"), BlocksSource(self.alignment.slices))

    def output(self) -> FilesOutput:
        """The file."""
        return FilesOutput(self.records, (), (self._table,), (self.label,))

    @property
    def address(self) -> str:
        """Address of the volume."""
        return f"{self.work_dir}/{self._table.key}"

    @property
    def _table(self) -> Table:
        return Table(self.work, "aligned.slices.json")

    def projected_memory(self) -> int:
        """Next to nothing."""
        return BASE_MEMORY

    def compute(self, block: Block, prepared: Any) -> Mapping[str, NDArray[Any]]:
        """Write the file, unless it is what it should be: its time tells readers whether it has changed."""
        matrices, sizes = self.alignment.placed()
        files = self.alignment.slices.by_number
        left, top, width, height = self.canvas
        entries: list[Any] = []
        for z in self.alignment.slices.grid.ids():
            if z not in matrices:
                entries.append(None)
                continue
            x, y = applied(matrices[z], "whole")[:, 2].astype(int).tolist()
            place = {"x": x - left, "y": y - top, "width": sizes[z][0], "height": sizes[z][1]}
            entries.append({"path": files[z].path, "plane": files[z].plane, **place})
        fill = self.fill if np.dtype(self.dtype).kind == "f" else int(self.fill)
        head = {"shape": [len(entries), height, width], "dtype": self.dtype, "fill": fill}
        text = json.dumps({**head, "slices": entries}, indent=1) + "\n"
        if self.work.get(self._table.key) != text.encode():
            self.work.put(self._table.key, text.encode())
        return {}
