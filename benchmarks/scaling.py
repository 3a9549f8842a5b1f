"""How the fast engine's cost grows: python -m benchmarks.scaling. Writes scaling.json and the plots in docs/."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks.cases import ROOT, SCALES, Case, block_case, made_case, raw_and_project
from benchmarks.worker import without_trees
from blockwise.grid import box_size, grow, relative
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import FILTERS, Feature
from tasks.pixel_classification.forest import Forest
from tasks.pixel_classification.project import Project

RESULTS = Path(__file__).parent / "scaling.json"
SIZES = (16, 24, 32, 48, 64, 96, 192)
REGION = 192


def cost(project: Project, case: Case, rounds: int = 3) -> float:
    """CPU time in ns per predicted voxel: the best of some rounds, so that disturbances stay out."""
    engine = make_engine("fast", project)
    engine.predict(case.image, case.interior)
    best = np.inf
    for _ in range(rounds):
        start = time.process_time()
        engine.predict(case.image, case.interior)
        best = min(best, time.process_time() - start)
    return round(best / case.voxels * 1e9, 1)


def forest_cost(case: Case) -> float:
    """The forest's share."""
    return round(cost(case.project, case) - cost(without_trees(case.project), case), 1)


def feature_costs(case: Case, features: Iterable[Feature]) -> list[float]:
    """Cost of each feature by itself."""
    bare = without_trees(case.project)
    return [
        cost(replace(bare, features=(f,), forest=replace(bare.forest, n_features=f.components(2))), case)
        for f in features
    ]


def first_trees(forest: Forest, count: int) -> Forest:
    """A forest of some of the trees."""
    return replace(forest, roots=forest.roots[:count], sizes=(count,))


def impure(forest: Forest) -> Forest:
    """A forest with shares of all classes in each leaf, a different one in each; they sum to 1."""
    shares = np.random.default_rng(0).dirichlet(np.ones(forest.leaf.shape[1]), len(forest.leaf))
    return replace(forest, leaf=0.5 * forest.leaf + 0.5 * shares)


def block_cost(project: Project, raw: Any, size: int) -> float:
    """CPU time in ns per voxel of a region in the middle of the volume, predicted in blocks of one size."""
    engine = make_engine("fast", project)
    volume = tuple(slice(0, n) for n in raw.shape[:3])
    edge = min(REGION, *raw.shape[:3])
    starts = [range((n - edge) // 2, (n - edge) // 2 + edge, size) for n in raw.shape[:3]]
    seconds, voxels = 0.0, 0
    for corner in itertools.product(*starts):
        block = tuple(slice(a, min(a + size, r.start + edge)) for a, r in zip(corner, starts, strict=True))
        box = grow(block, engine.halo, volume)
        before = time.process_time()
        engine.predict(raw[box], relative(block, box))
        seconds += time.process_time() - before
        voxels += box_size(block)
    return round(seconds / voxels * 1e9, 1)


def measure() -> dict[str, Any]:
    """All numbers."""
    raw, project, ilp = raw_and_project()
    block = block_case(raw, project, ilp)
    part = np.ascontiguousarray(raw[:96, :96, :96])
    whole = replace(block, project=project, image=part, interior=(slice(0, 96),) * 3)
    noise = np.random.default_rng(0).integers(0, 255, part.shape, dtype=np.uint8)
    out: dict[str, Any] = {}
    for in_2d in (False, True):
        features = [Feature(name, 1.6, in_2d) for name in FILTERS]
        out[f"filters {'2D' if in_2d else '3D'}"] = dict(zip(FILTERS, feature_costs(whole, features), strict=True))
    gaussians = [Feature("GaussianSmoothing", scale, False) for scale in SCALES]
    out["sigma"] = dict(zip(map(str, SCALES), feature_costs(whole, gaussians), strict=True))
    out["trees"] = {
        str(n): forest_cost(replace(whole, project=replace(project, forest=first_trees(project.forest, n))))
        for n in (10, 25, 50, 100)
    }
    out["leaves"] = {
        str(n): forest_cost(made_case("", part, project.features, 2, n)) for n in (10, 30, 60, 125, 250, 500, 1000)
    }
    mixed = replace(project, forest=impure(project.forest))
    out["kinds of leaves"] = {"pure": forest_cost(whole), "impure": forest_cost(replace(whole, project=mixed))}
    out["classes"] = {str(n): forest_cost(made_case("", part, project.features, n, 60)) for n in (2, 4, 8)}
    out["image"] = {
        "cube": cost(project, whole),
        "noise": cost(project, replace(whole, image=noise)),
        "constant": cost(project, replace(whole, image=np.zeros_like(part))),
    }
    out["block"] = {str(n): block_cost(project, raw, n) for n in SIZES}
    return out


def plot(results: dict[str, Any], path: Path) -> None:
    """Three panels: filters, depth of the trees, size of the block."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    names = ["Gaussian", "Laplacian", "gradient", "difference", "structure t.", "Hessian"]
    for shift, key in ((-0.2, "filters 3D"), (0.2, "filters 2D")):
        left.barh(np.arange(6) + shift, results[key].values(), height=0.4, label=key.split()[1])
    left.set_yticks(range(6), names)
    left.set(xlabel="ns per voxel", title="one feature at sigma 1.6")
    left.legend(loc="center right")
    middle.plot([int(n) for n in results["leaves"]], results["leaves"].values(), "o-")
    middle.set(xlabel="leaves per tree (100 trees)", ylabel="ns per voxel", title="forest", ylim=(0, None))
    right.plot([int(n) for n in results["block"]], results["block"].values(), "o-")
    right.set(xlabel="edge of the block (halo 15)", ylabel="ns per voxel", title="all", ylim=(0, None))
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure, write, plot."""
    results = measure()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    (ROOT / "docs").mkdir(exist_ok=True)
    plot(results, ROOT / "docs" / "performance.png")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
