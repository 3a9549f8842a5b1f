"""ilastik's features of a voxel: six filters at several scales, each on a pre-smoothed image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from tasks.pixel_classification.filters import Volume, derivative, eigenvalues, radius

StructureTensor = Literal["fastfilters", "vigra"]

PRESMOOTHING_WINDOW = 3.5
FILTER_WINDOW = 2.0


@dataclass(frozen=True)
class Feature:
    """One selected cell of ilastik's feature table.

    Attributes:
        id: ilastik's name of the filter, a key of `FILTERS`.
        scale: sigma in voxels.
        in_2d: filter each z slice by itself.
    """

    id: str
    scale: float
    in_2d: bool

    def components(self, n_z: int) -> int:
        """Number of values per input channel, for an image with `n_z` slices."""
        if not self.id.endswith("Eigenvalues"):
            return 1
        return 2 if self.in_2d or n_z == 1 else 3

    @property
    def least_scale(self) -> float:
        """Scale below which a derivative has no neighbour to differ from; smoothing is the identity there.

        The library fastfilters takes the structure tensor's derivatives at half the scale.
        """
        if self.id == "GaussianSmoothing" or self.id == "DifferenceOfGaussians":
            return 0.0
        return 0.5 / FILTER_WINDOW * (2 if self.id == "StructureTensorEigenvalues" else 1)


def _gaussian(image: Volume, sigma: float, ndim: int, variant: StructureTensor) -> list[Volume]:
    return [derivative(image, (0,) * ndim, sigma, FILTER_WINDOW)]


def _unit_orders(ndim: int, order: int) -> list[tuple[int, ...]]:
    return [tuple(order if i == axis else 0 for i in range(ndim)) for axis in range(ndim)]


def _laplacian(image: Volume, sigma: float, ndim: int, variant: StructureTensor) -> list[Volume]:
    first, *others = (derivative(image, orders, sigma, FILTER_WINDOW) for orders in _unit_orders(ndim, 2))
    for other in others:
        first += other
    return [first]


def _gradient_magnitude(image: Volume, sigma: float, ndim: int, variant: StructureTensor) -> list[Volume]:
    total = np.zeros_like(image)
    for orders in _unit_orders(ndim, 1):
        slope = derivative(image, orders, sigma, FILTER_WINDOW)
        slope *= slope
        total += slope
    return [np.sqrt(total, out=total)]


def _difference_of_gaussians(image: Volume, sigma: float, ndim: int, variant: StructureTensor) -> list[Volume]:
    wide = derivative(image, (0,) * ndim, sigma, FILTER_WINDOW)
    # Not in place: at tiny scales a Gaussian is the identity and gives the image itself, which other features need.
    return [wide - derivative(image, (0,) * ndim, 0.66 * sigma, FILTER_WINDOW)]


def _pairs(ndim: int) -> list[tuple[int, int]]:
    return list(combinations_with_replacement(range(ndim), 2))


def _hessian(image: Volume, sigma: float, ndim: int, variant: StructureTensor) -> list[Volume]:
    orders = [tuple((i == a) + (i == b) for i in range(ndim)) for a, b in _pairs(ndim)]
    return list(eigenvalues([derivative(image, order, sigma, FILTER_WINDOW) for order in orders]))


def _structure_tensor_sigmas(sigma: float, variant: StructureTensor) -> tuple[float, float]:
    """Scales of the derivatives and of the smoothing of their products; the two libraries swap them."""
    return (0.5 * sigma, sigma) if variant == "fastfilters" else (sigma, 0.5 * sigma)


def _structure_tensor(image: Volume, sigma: float, ndim: int, variant: StructureTensor) -> list[Volume]:
    inner, outer = _structure_tensor_sigmas(sigma, variant)
    slopes = [derivative(image, orders, inner, FILTER_WINDOW) for orders in _unit_orders(ndim, 1)]
    products = (slopes[a] * slopes[b] for a, b in _pairs(ndim))
    return list(eigenvalues([derivative(product, (0,) * ndim, outer, FILTER_WINDOW) for product in products]))


Filter = Callable[[Volume, float, int, StructureTensor], list[Volume]]
FILTERS: dict[str, Filter] = {
    "GaussianSmoothing": _gaussian,
    "LaplacianOfGaussian": _laplacian,
    "GaussianGradientMagnitude": _gradient_magnitude,
    "DifferenceOfGaussians": _difference_of_gaussians,
    "StructureTensorEigenvalues": _structure_tensor,
    "HessianOfGaussianEigenvalues": _hessian,
}


def _sigmas(scale: float) -> tuple[float, float]:
    """Sigma of the pre-smoothing and sigma of the filter that follows it."""
    return (math.sqrt(scale * scale - 1), 1.0) if scale > 1 else (scale, scale)


def _reach(feature: Feature) -> int:
    """How far in voxels a feature looks from its voxel along each filtered axis."""
    smoothing, sigma = _sigmas(feature.scale)
    if feature.id == "StructureTensorEigenvalues":
        reach = radius(sigma, FILTER_WINDOW) + radius(0.5 * sigma, FILTER_WINDOW)  # either variant
    else:
        reach = radius(sigma, FILTER_WINDOW)
    return radius(smoothing, PRESMOOTHING_WINDOW) + reach


def halo(features: Sequence[Feature]) -> tuple[int, int, int]:
    """Voxels (z, y, x) around a block that its features depend on."""
    in_plane = max((_reach(feature) for feature in features), default=0)
    across = max((_reach(feature) for feature in features if not feature.in_2d), default=0)
    return across, in_plane, in_plane


def n_channels(features: Sequence[Feature], raw_channels: int, n_z: int) -> int:
    """Length of the feature vector of a voxel."""
    return raw_channels * sum(feature.components(n_z) for feature in features)


def check_size(features: Sequence[Feature], shape: tuple[int, int, int]) -> None:
    """Refuse a volume that ilastik would refuse because a scale is too large for it.

    Args:
        features: the selected features.
        shape: of the whole volume, (z, y, x); z is 1 for an image.

    Raises:
        UserError: naming the scale, the axis and the least size.
    """
    for feature in sorted(features, key=lambda f: f.scale, reverse=True):
        needed = math.ceil(PRESMOOTHING_WINDOW * feature.scale) + 1
        axes = "yx" if feature.in_2d or shape[0] == 1 else "zyx"
        for axis, size in zip("zyx", shape, strict=True):
            if axis in axes and size < needed:
                raise UserError(
                    f"The volume of shape {shape} (z, y, x) has {size} voxels along {axis}, but the "
                    f"feature {feature.id} at scale {feature.scale} needs at least {needed}. Use a larger volume, or "
                    f"a project without this scale{' or with this scale in 2D' if axis == 'z' else ''}."
                )


def compute_features(
    image: NDArray[np.float32],
    features: Sequence[Feature],
    structure_tensor: StructureTensor = "fastfilters",
    interior: tuple[slice, slice, slice] | None = None,
) -> NDArray[np.float32]:
    """Feature vectors of the voxels of an image.

    A vector depends only on the voxels within `halo(features)`, bit for bit; at the image's border these are
    mirrored. So a block with its halo, cut off at the volume's border, gives the same values as the whole volume.

    Args:
        image: float32 (z, y, x, c), z = 1 for a 2D image; raw values, not scaled.
        features: the selected features in the project's order.
        structure_tensor: whose scales of the structure tensor to follow. ilastik with the library fastfilters (every
            binary release) takes derivatives at half the scale, with vigra (2018 and before) it smooths at half.
        interior: the part to return, without the halo; all of it if None.

    Returns:
        float32 (z, y, x, features) of the interior; channels in ilastik's order: feature, input channel, component.
        A view whose memory order is one volume per channel.
    """
    box = interior or (slice(None), slice(None), slice(None))
    n_z, n_c = image.shape[0], image.shape[3]
    inner_shape = image[..., 0][box].shape
    planes = np.empty((n_channels(features, n_c, n_z), *inner_shape), np.float32)
    starts = np.cumsum([0] + [n_c * feature.components(n_z) for feature in features])
    for channel in range(n_c):
        raw = np.ascontiguousarray(image[..., channel], dtype=np.float32)
        for scale, in_2d in dict.fromkeys((f.scale, f.in_2d or n_z == 1) for f in features):
            ndim = 2 if in_2d else 3
            smoothing, sigma = _sigmas(scale)
            smooth = derivative(raw, (0,) * ndim, smoothing, PRESMOOTHING_WINDOW)
            for start, feature in zip(starts, features, strict=False):
                if (feature.scale, feature.in_2d or n_z == 1) == (scale, in_2d):
                    values = FILTERS[feature.id](smooth, sigma, ndim, structure_tensor)
                    for component, value in enumerate(values):
                        planes[start + channel * len(values) + component] = value[box]
    return np.moveaxis(planes, 0, -1)
