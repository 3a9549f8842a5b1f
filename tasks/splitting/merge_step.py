"""Step 7 where touching objects are cut: number their parts as if there had been no blocks."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.step import Before
from tasks.components.measures import from_columns
from tasks.components.merge_step import ComponentMergeStep
from tasks.splitting.parts_step import SplitPartsStep


class SplitMergeStep(ComponentMergeStep):
    """Number the parts of all objects, in one job; its own grid has one block.

    Attributes:
        faces: the step that tells of the parts.
    """

    name: ClassVar[str] = "split_merge"
    version: ClassVar[int] = 1
    layout: ClassVar[int] = 1

    faces: Before[SplitPartsStep]

    def prepare(self) -> Any:
        """Nothing: parts are joined by their names."""
        return None

    def _groups(
        self, needed: tuple[str, ...]
    ) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64], int, NDArray[np.int64]]:
        """What has the same object and number in it is one: an object that is too large lies in several blocks."""
        grid = self.faces.grid
        table, offsets = self._read("components")
        known = from_columns(table, self.faces.columns)
        steps = known["first"] // math.prod(grid.shape[1:]) if "t" in grid.axes else np.zeros_like(known["first"])
        keys = np.stack([steps, known["whole"], known["part"]], axis=1)
        different, groups = np.unique(keys, axis=0, return_inverse=True)
        measures = {name: known[name] for name in needed if name in known}
        return measures, groups.reshape(len(keys)).astype(np.int64), len(different), offsets
