"""What is predicted: a block of the FIB-SEM cube with its own project, and made-up projects for other work."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from tasks.context_prediction import stack
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import FILTERS, Feature, compute_features, halo
from tasks.pixel_classification.forest import Forest, Tree, join_trees
from tasks.pixel_classification.project import Project, load_project

ROOT = Path(__file__).parents[1]
CUBE = ROOT.parent / "shared" / "data" / "fibsem"
AUTOCONTEXT = ROOT.parent / "shared" / "reference" / "autocontext_2d_u8_3class"
SCALES = (0.3, 0.7, 1.0, 1.6, 3.5, 5.0, 10.0)


@dataclass(frozen=True)
class Case:
    """One kind of work.

    Attributes:
        name: in the table.
        project: features and forest.
        image: (z, y, x, c) with the halo.
        interior: the part that is predicted.
        ilp: the project's file, or None for a made-up forest.
        rounds: how often to measure.
    """

    name: str
    project: Project
    image: NDArray[Any]
    interior: tuple[slice, slice, slice]
    ilp: Path | None
    rounds: int

    @property
    def voxels(self) -> int:
        """Number of predicted voxels."""
        return int(np.prod([s.stop - s.start for s in self.interior]))

    def save(self, folder: Path) -> None:
        """Write what a worker needs; json and npy for the one that runs without this project's packages."""
        folder.mkdir()
        np.save(folder / "image.npy", self.image)
        (folder / "case.pickle").write_bytes(pickle.dumps((self.project, self.interior)))
        features = [[f.id, f.scale, f.in_2d or self.image.shape[0] == 1] for f in self.project.features]
        box = [[s.start, s.stop] for s in self.interior]
        facts = {"features": features, "interior": box, "ilp": None if self.ilp is None else str(self.ilp)}
        (folder / "case.json").write_text(json.dumps(facts))


def raw_and_project() -> tuple[NDArray[Any], Project, Path]:
    """The FIB-SEM cube where it lies beside the project, else the bundled example."""
    folder, ilp = (CUBE, "boundaries.ilp") if CUBE.exists() else (ROOT / "data", "membranes.ilp")
    with h5py.File(folder / "raw.h5") as file:
        raw = file["data"][()]
    return raw[..., None], load_project(str(folder / ilp)), folder / ilp


def block_case(raw: NDArray[Any], project: Project, ilp: Path, size: int = 128) -> Case:
    """A block with its halo out of the middle of a volume, as large as fits."""
    reach = halo(project.features)
    size = min(size, *(n - 2 * r for n, r in zip(raw.shape[:3], reach, strict=True)))
    starts = [(n - size) // 2 - r for n, r in zip(raw.shape[:3], reach, strict=True)]
    box = tuple(slice(a, a + size + 2 * r) for a, r in zip(starts, reach, strict=True))
    interior = (slice(reach[0], reach[0] + size), slice(reach[1], reach[1] + size), slice(reach[2], reach[2] + size))
    return Case(f"{ilp.stem}, block {size}³ + halo {reach[0]}", project, raw[box], interior, ilp, 5)


def all_features(in_2d: bool) -> tuple[Feature, ...]:
    """The 37 cells that ilastik offers."""
    cells = [(name, scale) for name in FILTERS for scale in SCALES if scale >= 0.7 or name == "GaussianSmoothing"]
    return tuple(Feature(name, scale, in_2d) for name, scale in cells)


def made_forest(
    image: NDArray[Any], features: tuple[Feature, ...], classes: int, leaves: int, n_trees: int = 100
) -> Forest:
    """Train on quantiles of a smoothed feature with noise, so that the trees grow to their full number of leaves."""
    rng = np.random.default_rng(0)
    part = image[:, :64, :64] if image.shape[0] > 1 else image[:, :512, :512]
    values = compute_features(part.astype(np.float32), features)
    values = values.reshape(-1, values.shape[-1])
    values = values[rng.choice(len(values), min(len(values), 20000), replace=False)]
    score = values[:, values.shape[1] // 2]
    labels = np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]))
    labels = np.where(rng.random(labels.size) < 0.15, rng.integers(0, classes, labels.size), labels)
    model = RandomForestClassifier(n_trees, max_leaf_nodes=leaves, random_state=0).fit(values, labels)
    return join_trees([_tree(e.tree_) for e in model.estimators_], (n_trees,), values.shape[1], tuple(range(classes)))


def _tree(tree: Any) -> Tree:
    is_leaf = tree.children_left < 0
    own = np.arange(tree.node_count, dtype=np.int32)
    votes = np.eye(tree.value.shape[2])[tree.value[:, 0].argmax(axis=1)]
    return Tree(
        feature=np.where(is_leaf, -1, tree.feature).astype(np.int32),
        threshold=np.where(is_leaf, 0.0, tree.threshold),
        left=np.where(is_leaf, own, tree.children_left).astype(np.int32),
        right=np.where(is_leaf, own, tree.children_right).astype(np.int32),
        leaf=np.where(is_leaf[:, None], votes, 0.0),
    )


def made_case(
    name: str, image: NDArray[Any], features: tuple[Feature, ...], classes: int, leaves: int, n_trees: int = 100
) -> Case:
    """A whole image without halo and a made-up forest."""
    forest = made_forest(image, features, classes, leaves, n_trees)
    names = tuple(f"class {i}" for i in range(classes))
    project = Project("made.ilp", "1.4.0", names, "zyxc", 1, features, forest, (), ())
    z, y, x = image.shape[:3]
    return Case(name, project, image, (slice(0, z), slice(0, y), slice(0, x)), None, 3)


def autocontext_cases() -> list[Case]:
    """Both stages of a project of autocontext in 2D, where it lies beside the project."""
    if not AUTOCONTEXT.exists():
        return []
    first, second = load_project(str(AUTOCONTEXT / "project.ilp")).stages
    with h5py.File(AUTOCONTEXT / "input.h5") as file:
        image = np.tile(file["data"][()], (5, 4))[None, ..., None]
    interior = (slice(0, 1), slice(0, image.shape[1]), slice(0, image.shape[2]))
    probabilities = np.moveaxis(make_engine("fast", first).predict(image, interior), 0, -1)
    size = f"{image.shape[1]} x {image.shape[2]}"
    return [
        Case(f"autocontext, stage 1, {size}", first, image, interior, None, 3),
        Case(f"autocontext, stage 2, {size}", second, stack(image, probabilities), interior, None, 3),
    ]


def all_cases() -> list[Case]:
    """The table's rows."""
    raw, project, ilp = raw_and_project()
    small = np.ascontiguousarray(raw[:96, :96, :96])
    n = min(4, raw.shape[0] // 4)
    flat = np.block([[raw[n * i + j, ..., 0] for j in range(n)] for i in range(n)])[None, ..., None]
    own = project.features
    return [
        block_case(raw, project, ilp),
        made_case("all 37 features in 3D, 96³", small, all_features(False), 2, 60),
        made_case(f"all 37 features in 2D, {flat.shape[1]}²", flat, all_features(True), 2, 60),
        made_case("4 classes, 96³", small, own, 4, 60),
        made_case("trees of 500 leaves, 96³", small, own, 2, 500),
        *autocontext_cases(),
    ]
