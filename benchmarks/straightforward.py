"""The straightforward engine: filters of bioimage-cpp on the whole block, then onnxruntime's tree ensemble."""

from __future__ import annotations

import itertools
import math
from typing import Any

import bioimage_cpp.filters as filters
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tasks.pixel_classification.features import Feature
from tasks.pixel_classification.forest import Forest

BELOW = 1 - 1e-7  # bioimage-cpp rounds the kernel's radius up


def _window(sigma: float, window: float) -> float:
    return math.floor(window * sigma + 0.5) / sigma * BELOW


def _gaussian(image: NDArray[np.float32], sigma: float, window: float) -> NDArray[np.float32]:
    wide = _window(sigma, window)
    return filters.gaussian_smoothing(image, sigma, window_size=wide) if wide else image


def _filter(smooth: NDArray[np.float32], name: str, sigma: float) -> NDArray[np.float32]:
    wide = _window(sigma, 2.0)
    if name == "GaussianSmoothing":
        return _gaussian(smooth, sigma, 2.0)
    if name == "DifferenceOfGaussians":
        return _gaussian(smooth, sigma, 2.0) - _gaussian(smooth, 0.66 * sigma, 2.0)
    if name == "StructureTensorEigenvalues":
        return filters.structure_tensor_eigenvalues(smooth, 0.5 * sigma, sigma, window_size=2.0 * BELOW)
    function = {
        "LaplacianOfGaussian": filters.laplacian_of_gaussian,
        "GaussianGradientMagnitude": filters.gaussian_gradient_magnitude,
        "HessianOfGaussianEigenvalues": filters.hessian_of_gaussian_eigenvalues,
    }[name]
    return function(smooth, sigma, window_size=wide)


def compute(
    image: NDArray[Any], features: tuple[Feature, ...], interior: tuple[slice, slice, slice]
) -> NDArray[np.float32]:
    """Feature vectors (voxels, features) of a block."""
    smoothed: dict[tuple[float, int], NDArray[np.float32]] = {}
    flat = image.shape[0] == 1
    channels = []
    for feature, channel in itertools.product(features, range(image.shape[3])):
        raw = np.ascontiguousarray(image[..., channel], dtype=np.float32)
        if feature.in_2d and not flat:
            raise ValueError("this benchmark does not mix 2D and 3D scales")
        key = (feature.scale, channel)
        sigma = min(feature.scale, 1.0)
        if key not in smoothed:
            wide = math.sqrt(feature.scale**2 - 1) if feature.scale > 1 else feature.scale
            smoothed[key] = _gaussian(raw[0] if flat else raw, wide, 3.5)
        value = _filter(smoothed[key], feature.id, sigma)
        value = value[None] if flat else value
        components = value[..., None] if value.ndim == 3 else value
        channels += [components[..., k][interior].reshape(-1) for k in range(components.shape[-1])]
    return np.stack(channels, axis=1)


def session(forest: Forest) -> onnxruntime.InferenceSession:
    """The forest as an ONNX tree ensemble that adds up the leaves, for one thread."""
    inner = forest.feature >= 0
    tree = np.repeat(np.arange(len(forest.roots)), np.diff([*forest.roots, len(forest.feature)]))
    node = np.arange(len(forest.feature)) - forest.roots[tree]
    leaf, column = np.nonzero(forest.leaf)
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["probabilities"],
        domain="ai.onnx.ml",
        n_targets=forest.leaf.shape[1],
        nodes_treeids=tree.tolist(),
        nodes_nodeids=node.tolist(),
        nodes_featureids=np.maximum(forest.feature, 0).tolist(),
        nodes_modes=["BRANCH_LT" if i else "LEAF" for i in inner],
        nodes_values=forest.threshold.tolist(),
        nodes_truenodeids=np.where(inner, forest.left - forest.roots[tree], 0).tolist(),
        nodes_falsenodeids=np.where(inner, forest.right - forest.roots[tree], 0).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=node[leaf].tolist(),
        target_ids=column.tolist(),
        target_weights=(forest.leaf[leaf, column] / len(forest.roots)).tolist(),
    )
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, forest.n_features])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, forest.leaf.shape[1]])]
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)]
    graph = helper.make_graph([ensemble], "forest", inputs, outputs)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
