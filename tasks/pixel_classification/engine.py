"""Engines: several implementations of the same prediction behind one interface."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from tasks.pixel_classification.features import StructureTensor, check_size, compute_features, halo, n_channels
from tasks.pixel_classification.forest import evaluate
from tasks.pixel_classification.project import Project

Interior = tuple[slice, slice, slice]

SAMPLES_AT_ONCE = 1 << 14

WORKING_VOLUMES = {
    "GaussianSmoothing": 5,
    "LaplacianOfGaussian": 6,
    "GaussianGradientMagnitude": 6,
    "DifferenceOfGaussians": 6,
    "HessianOfGaussianEigenvalues": 12,
    "StructureTensorEigenvalues": 15,
}
"""Volumes alive at the peak of each filter of one channel in 3D, the smoothed image counted."""


class Engine(Protocol):
    """Predicts with one project."""

    def __hash__(self) -> int:
        """An engine is equal to itself only, so that what was done with it can be remembered."""

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) around a block that its probabilities depend on."""

    @property
    def bytes_per_voxel(self) -> float:
        """Memory at the peak, per voxel of the image that ``predict`` is given, the image not counted."""

    @property
    def fixed_memory(self) -> int:
        """Memory that it takes whatever the image, in bytes, in processes of its own."""

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """Of libraries that are not ours and decide about bits, each after its name."""

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse a volume (z, y, x) that the project cannot predict; see ``check_volume``."""

    def predict(self, image: NDArray[Any], interior: Interior) -> NDArray[np.float32]:
        """Predict a block.

        Args:
            image: (z, y, x, c), any number type, values as they are in the file; z is 1 for a 2D image. Around
                ``interior`` it holds the halo, or ends where the volume ends.
            interior: the part to return, (z, y, x).

        Returns:
            float32 (classes, z, y, x), all classes of the project; 0 for classes without labels.
        """


class ReferenceEngine:
    """The straightforward way: all features of the block, then the forest. To be read next to the file format."""

    def __init__(self, project: Project, structure_tensor: StructureTensor) -> None:
        self.project = project
        self.structure_tensor = structure_tensor

    @property
    def halo(self) -> tuple[int, int, int]:
        """What the features reach."""
        return halo(self.project.features)

    @property
    def bytes_per_voxel(self) -> float:
        """All features, the image, and what the greediest filter holds; float32, and a fifth for slack."""
        features = self.project.features
        working = max(WORKING_VOLUMES[feature.id] for feature in features)
        channels = self.project.n_channels
        return 4.0 * 1.2 * (n_channels(features, channels, 2) + 2 * channels + working)

    @property
    def fixed_memory(self) -> int:
        """None."""
        return 0

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """None."""
        return ()

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """As ilastik does; see ``Engine``."""
        check_volume(self.project, shape)

    def predict(self, image: NDArray[Any], interior: Interior) -> NDArray[np.float32]:
        """Predict a block; see ``Engine``."""
        forest = self.project.forest
        if forest is None:
            raise ValueError("the project has no forest; train it first")
        pixels = image.astype(np.float32)
        features = compute_features(pixels, self.project.features, self.structure_tensor, interior)
        shape = features.shape[:3]
        rows = features.reshape(-1, features.shape[3])
        out = np.zeros((len(self.project.classes), len(rows)), np.float32)
        for start in range(0, len(rows), SAMPLES_AT_ONCE):
            part = slice(start, start + SAMPLES_AT_ONCE)
            out[list(forest.classes), part] = evaluate(forest, rows[part]).T
        return out.reshape(-1, *shape)


def check_volume(project: Project, shape: tuple[int, int, int]) -> None:
    """Refuse a volume (z, y, x) that is too small for the features, or flat where the training images were not.

    Raises:
        UserError: naming the scale, the axis and the least size; or both numbers of feature channels.
    """
    check_size(project.features, shape)
    given = n_channels(project.features, project.n_channels, shape[0])
    if project.n_features not in (None, given):
        raise UserError(
            f"project {project.path}: its classifier was trained on {project.n_features} feature channels, "
            f"but a volume of shape {shape} (z, y, x) gives {given}: eigenvalues are 3 in 3D and 2 in one slice. "
            f"Train on images {'of one slice' if shape[0] == 1 else 'of more than one slice'}, as the volume is"
        )
