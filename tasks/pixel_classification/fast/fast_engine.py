"""What is known of the fast engine before it predicts: drivers ask, who must not wait for the compiler to load."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.pixel_classification.engine import Interior, check_volume
from tasks.pixel_classification.features import StructureTensor, halo
from tasks.pixel_classification.project import Project

if TYPE_CHECKING:
    from tasks.pixel_classification.fast.engine import Stream

BYTES_PER_NODE = 64  # of the trees as they are read: 20 in the queue, the others in the forest and its tables


class FastEngine:
    """Streams a block through the features and the forest; equal to the reference engine bit for bit."""

    def __init__(self, project: Project, structure_tensor: StructureTensor) -> None:
        self.project = project
        self.structure_tensor = structure_tensor

    @property
    def halo(self) -> tuple[int, int, int]:
        """What the features reach."""
        return halo(self.project.features)

    @property
    def bytes_per_voxel(self) -> float:
        """The image in float32, once more while it is smoothed, a volume per scale and channel, the result."""
        scales = {(feature.scale, feature.in_2d) for feature in self.project.features}
        return 4.0 * (2 + len(scales) * self.project.n_channels + len(self.project.classes))

    @property
    def fixed_memory(self) -> int:
        """The trees, the tables of ranks, and the queue of a group of voxels, at most."""
        forest = self.project.forest
        return 0 if forest is None else forest.feature.size * (BYTES_PER_NODE + 2 * forest.leaf.shape[1])

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """None."""
        return ()

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """As ilastik does; see ``check_volume``."""
        check_volume(self.project, shape)

    @cached_property
    def _stream(self) -> Stream:
        from tasks.pixel_classification.fast.engine import Stream  # loads numba

        return Stream(self.project, self.structure_tensor)

    def predict(self, image: NDArray[Any], interior: Interior) -> NDArray[np.float32]:
        """Predict a block; see ``Engine``."""
        return self._stream.predict(image, interior)
