#!/usr/bin/env python3
"""Makes a small stack that jitters (``slices/slice_0000.png`` ...), and a project for it (``membranes_thin.ilp``).

    python data/make_slices.py [FOLDER]

Cells with bright membranes and vesicles, as if milled away slice by slice: 24 numbers, of which one is missing and
one slice is blank. How each slice was moved stands in ``slices/truth.json``, in the convention of
``docs/alignment.md``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import h5py
import imageio.v3
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

COUNT, SIDE, MARGIN = 24, 144, 16
MISSING, BLANK = 9, 15
LARGEST_IN_3D = 5.0
JITTER = 3.0
"""Standard deviation of the shifts, in pixels; whole ones."""


def tissue(count: int, side: int, seed: int = 0) -> NDArray[np.float32]:
    """Cells, membranes and vesicles without noise; zyx, from 0 to 255."""
    random = np.random.RandomState(seed)
    extent = np.array([count * 0.5, side, side])
    density = 1 / 14**3
    seeds = random.rand(int(density * np.prod(extent + 40)), 3) * (extent + 40) - 20
    grid = np.stack(np.mgrid[:count, :side, :side], -1).reshape(-1, 3) * [0.5, 1, 1]
    near, cell = cKDTree(seeds).query(grid, k=2)
    membrane = np.exp(-((near[:, 1] - near[:, 0]) ** 2) / 6)
    inside = 70 + 25 * random.rand(len(seeds))[cell[:, 0]]
    vesicles = random.rand(int(0.0018 * np.prod(extent)), 3) * extent
    distance, _ = cKDTree(vesicles).query(grid)
    values = inside + 110 * membrane + 45 * np.exp(-((distance / 1.8) ** 2))
    return gaussian_filter(values.reshape(count, side, side), (0.5, 0.7, 0.7)).astype(np.float32)


def cut(slice_: NDArray[np.float32], matrix: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """What a microscope sees of a slice that has moved by the inverse of ``matrix``."""
    y, x = np.mgrid[:side, :side].astype(float)
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    found: NDArray[np.float32] = map_coordinates(slice_, [v, u], order=3, mode="nearest")
    return found


def make_thin_project(folder: Path) -> None:
    """Copy the example's project, with the largest features in 2D: in 3D they need more slices than there are."""
    target = folder / "membranes_thin.ilp"
    shutil.copyfile(Path(__file__).with_name("membranes.ilp"), target)
    with h5py.File(target, "a") as file:
        scales = file["FeatureSelections/Scales"][()]
        file["FeatureSelections/ComputeIn2d"][...] = scales > LARGEST_IN_3D


def main(folder: Path) -> None:
    """Write the slices, and how they were moved."""
    random = np.random.RandomState(7)
    whole = tissue(COUNT, SIDE + 2 * MARGIN)
    folder.mkdir(parents=True, exist_ok=True)
    moved = []
    for z in range(COUNT):
        x, y = np.clip(np.rint(random.normal(0, JITTER, 2)), 1 - MARGIN, MARGIN - 1) + MARGIN
        matrix = np.array([[1, 0, x], [0, 1, y]])
        image = cut(whole[z], matrix, SIDE) if z != BLANK else np.full((SIDE, SIDE), 20.0)
        image = np.clip(np.rint(image + random.normal(0, 6, image.shape)), 0, 255).astype(np.uint8)
        if z != MISSING:
            imageio.v3.imwrite(folder / f"slice_{z:04d}.png", image)
            moved.append((z, matrix.tolist(), "blankgrey" if z == BLANK else "ok"))
    make_thin_project(folder.parent)
    slices = [{"z": z, "matrix": m, "kind": kind, "width": SIDE, "height": SIDE} for z, m, kind in moved]
    (folder / "truth.json").write_text(json.dumps({"case": "example", "slices": slices}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("slices"))
