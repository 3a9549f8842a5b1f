"""How the fast engine predicts a block: the reference engine's results, tile by tile in compiled code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.pixel_classification.engine import Interior
from tasks.pixel_classification.fast import tile as columns
from tasks.pixel_classification.fast.presmoothing import mirrored, presmooth, with_room
from tasks.pixel_classification.fast.streaming import predict_tiles
from tasks.pixel_classification.fast.tile import INNER, MARGIN, N_KERNELS, NARROW, OUTER
from tasks.pixel_classification.fast.traversal import PackedForest, pack
from tasks.pixel_classification.features import (
    FILTER_WINDOW,
    PRESMOOTHING_WINDOW,
    Feature,
    StructureTensor,
)
from tasks.pixel_classification.filters import half_kernel, radius
from tasks.pixel_classification.forest import Forest
from tasks.pixel_classification.project import Project

COLUMN = {
    "GaussianSmoothing": columns.GAUSSIAN,
    "LaplacianOfGaussian": columns.LAPLACIAN,
    "GaussianGradientMagnitude": columns.MAGNITUDE,
    "DifferenceOfGaussians": columns.DIFFERENCE,
    "StructureTensorEigenvalues": columns.TENSOR,
    "HessianOfGaussianEigenvalues": columns.HESSIAN,
}
TILE_3D = (8, 16, 64)
TILE_2D = (1, 32, 64)


@dataclass(frozen=True)
class FeatureScale:
    """What is computed from one pre-smoothed volume.

    Attributes:
        smoothing: taps 0..r of the pre-smoothing.
        in_2d: each z slice by itself.
        kernels: float32 (N_KERNELS, 3), see `fast.tile`.
        plan: int64 (8,), see `fast.tile`.
    """

    smoothing: NDArray[np.float32]
    in_2d: bool
    kernels: NDArray[np.float32]
    plan: NDArray[np.int64]


def _kernels(sigma: float, ids: set[str], structure_tensor: StructureTensor) -> tuple[NDArray[np.float32], int]:
    """Kernels of a scale (N_KERNELS, 3) and the radius of the smoothing of its structure tensor."""
    kernels = np.zeros((N_KERNELS, 3), np.float32)

    def put(row: int, at: float, order: int) -> None:
        taps = half_kernel(at, order, FILTER_WINDOW)
        kernels[row, : taps.size] = taps

    put(0, sigma, 0)
    if ids & {"LaplacianOfGaussian", "GaussianGradientMagnitude", "HessianOfGaussianEigenvalues"}:
        put(1, sigma, 1)
        put(2, sigma, 2)
    if "DifferenceOfGaussians" in ids:
        put(NARROW, 0.66 * sigma, 0)
    if "StructureTensorEigenvalues" not in ids:
        return kernels, 0
    inner, outer = (0.5 * sigma, sigma) if structure_tensor == "fastfilters" else (sigma, 0.5 * sigma)
    put(INNER, inner, 0)
    put(INNER + 1, inner, 1)
    put(OUTER, outer, 0)
    return kernels, radius(outer, FILTER_WINDOW)


def _scales(features: Sequence[Feature], n_channels: int, n_z: int, tensor: StructureTensor) -> list[FeatureScale]:
    """The features, grouped by the pre-smoothed volume that they share."""
    starts = np.cumsum([0] + [n_channels * feature.components(n_z) for feature in features])
    scales = []
    for scale, in_2d in dict.fromkeys((f.scale, f.in_2d or n_z == 1) for f in features):
        smoothing, sigma = (math.sqrt(scale * scale - 1), 1.0) if scale > 1 else (scale, scale)
        plan = np.full(8, -1, np.int64)
        ids = set()
        for start, feature in zip(starts, features, strict=False):
            if (feature.scale, feature.in_2d or n_z == 1) == (scale, in_2d):
                plan[COLUMN[feature.id]] = start
                ids.add(feature.id)
        kernels, plan[columns.TENSOR_MARGIN] = _kernels(sigma, ids, tensor)
        plan[columns.IN_2D] = in_2d
        scales.append(FeatureScale(half_kernel(smoothing, 0, PRESMOOTHING_WINDOW), in_2d, kernels, plan))
    return scales


def _smoothed(
    image: NDArray[np.generic], scales: list[FeatureScale], box: list[tuple[int, int]]
) -> NDArray[np.float32]:
    """The pre-smoothed volumes of a block with its margin, mirrored at the volume's border.

    Float32 (scales * c, z, y, x), with room behind it.
    """
    margins = [0 if all(scale.in_2d for scale in scales) else MARGIN, MARGIN, MARGIN]
    wide = [(a - m, b + m) for (a, b), m in zip(box, margins, strict=True)]
    shape, n_channels = image.shape[:3], image.shape[3]
    inside = [(max(a, 0), min(b, n)) for (a, b), n in zip(wide, shape, strict=True)]
    sides = (len(scales) * n_channels, *(b - a for a, b in wide))
    out = with_room(math.prod(sides))[: math.prod(sides)].reshape(sides)
    box_inside = (inside[0], inside[1], inside[2])
    corner = (inside[0][0] - wide[0][0], inside[1][0] - wide[1][0], inside[2][0] - wide[2][0])
    size = math.prod(shape)
    raw = with_room(size)
    for channel in range(n_channels):
        raw[:size].reshape(shape)[...] = image[..., channel]
        for k, scale in enumerate(scales):
            volume = out[k * n_channels + channel]
            presmooth(raw, shape, scale.smoothing, box_inside, scale.in_2d, corner, volume)
    for axis, ((a, b), n) in enumerate(zip(wide, shape, strict=True)):
        by_axis = np.moveaxis(out, 1 + axis, 0)
        for position, source in zip(range(a, b), mirrored(a, b, n), strict=True):
            if position != source:
                by_axis[position - a] = by_axis[source - a]
    return out


def _check_size(image: NDArray[Any], scales: list[FeatureScale]) -> None:
    for scale in scales:
        r = scale.smoothing.size - 1
        for axis, size in list(zip("zyx", image.shape, strict=False))[1 if scale.in_2d else 0 :]:
            if size <= max(r, 2):
                raise ValueError(f"{size} voxels along {axis} are too few for kernels of radius {max(r, 2)}")


class Stream:
    """Blocks on their way through the features and the forest of one project."""

    def __init__(self, project: Project, structure_tensor: StructureTensor) -> None:
        self.project = project
        self.structure_tensor = structure_tensor

    @cached_property
    def _forest(self) -> tuple[Forest, PackedForest]:
        if self.project.forest is None:
            raise ValueError("the project has no forest; train it first")
        return self.project.forest, pack(self.project.forest)

    def predict(self, image: NDArray[Any], interior: Interior) -> NDArray[np.float32]:
        """Predict a block; see ``Engine``."""
        n_z, n_channels = image.shape[0], image.shape[3]
        scales = _scales(self.project.features, n_channels, n_z, self.structure_tensor)
        _check_size(image, scales)
        forest, packed = self._forest
        box = [s.indices(n)[:2] for s, n in zip(interior, image.shape[:3], strict=True)]
        out = np.zeros((len(self.project.classes), *(b - a for a, b in box)), np.float32)
        predict_tiles(
            _smoothed(image, scales, box),
            np.stack([scale.kernels for scale in scales]),
            np.stack([scale.plan for scale in scales]),
            n_channels,
            np.array([a for a, _ in box], np.int64),
            np.array(image.shape[:3], np.int64),
            np.array(TILE_2D if out.shape[1] == 1 else TILE_3D, np.int64),
            forest.n_features,
            packed.arrays,
            packed.ranks.arrays,
            np.array(forest.classes, np.int64),
            out,
        )
        return out
