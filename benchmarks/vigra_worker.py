"""vigra's own filters and forest on one case; needs Debian's python3-vigra only. See `worker` for the protocol.

Run by the system's Python: python3 benchmarks/vigra_worker.py FOLDER
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import vigra


def compute(image, features, interior):
    """Feature vectors (voxels, features)."""
    box = tuple(slice(a, b) for a, b in interior)
    raw = np.ascontiguousarray(image[..., 0], dtype=np.float32)
    flat = raw.shape[0] == 1
    raw = vigra.taggedView(raw[0], "yx") if flat else vigra.taggedView(raw, "zyx")
    smoothed, channels = {}, []
    for name, scale, _ in features:
        sigma = min(scale, 1.0)
        if scale not in smoothed:
            wide = math.sqrt(scale**2 - 1) if scale > 1 else scale
            smoothed[scale] = vigra.filters.gaussianSmoothing(raw, wide, window_size=3.5)
        source = smoothed[scale]
        if name == "GaussianSmoothing":
            value = vigra.filters.gaussianSmoothing(source, sigma, window_size=2.0)
        elif name == "DifferenceOfGaussians":
            value = vigra.filters.gaussianSmoothing(source, sigma, window_size=2.0)
            value = value - vigra.filters.gaussianSmoothing(source, 0.66 * sigma, window_size=2.0)
        elif name == "LaplacianOfGaussian":
            value = vigra.filters.laplacianOfGaussian(source, sigma, window_size=2.0)
        elif name == "GaussianGradientMagnitude":
            value = vigra.filters.gaussianGradientMagnitude(source, sigma, window_size=2.0)
        elif name == "HessianOfGaussianEigenvalues":
            value = vigra.filters.hessianOfGaussianEigenvalues(source, sigma, window_size=2.0)
        else:
            value = vigra.filters.structureTensorEigenvalues(source, sigma, 0.5 * sigma, window_size=2.0)
        value = np.asarray(value)[None] if flat else np.asarray(value)
        value = value[..., None] if value.ndim == 3 else value
        channels += [value[..., k][box].reshape(-1) for k in range(value.shape[-1])]
    return np.stack(channels, axis=1)


def main():
    """Answer each line on the standard input with the CPU seconds of one round."""
    folder = Path(sys.argv[1])
    case = json.loads((folder / "case.json").read_text())
    image = np.load(folder / "image.npy")
    group = "PixelClassification/ClassifierForests"
    with h5py.File(case["ilp"], "r") as file:
        names = sorted(name for name in file[group] if name.startswith("Forest"))
    forests = [vigra.learning.RandomForest(case["ilp"], str(f"{group}/{name}")) for name in names]
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        features = compute(image, case["features"], case["interior"])
        middle = time.process_time()
        weights = [forest.treeCount() for forest in forests]
        sum(forest.predictProbabilities(features) * w for forest, w in zip(forests, weights, strict=True)) / sum(
            weights
        )
        end = time.process_time()
        peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
        answer = {"features": middle - start, "forest": end - middle, "all": end - start, "peak_mb": peak}
        print(json.dumps(answer), flush=True)


main()
