"""How well and how fast slices are aligned, beside other ways to do it.

    python -m benchmarks.alignment [--cases FOLDER] [--skip-costs] [--skip-cases]

Stacks whose slices were moved by known transforms (a folder of slices, and `NAME.truth.json` beside it) lie outside
the project; where there are none, the bundled one is taken. Scores are those of the `score.py` that comes with them.
Times are processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tasks.alignment.features import find_features
from tasks.alignment.pairs import TOLERANCE, estimate_pair, match, ransac, refine
from tasks.alignment.placement import Estimate, Wish, place
from tasks.alignment.slices import describe_slice, judge, neighbours
from tasks.alignment.solve import Link, solve
from tasks.alignment.transforms import Model, compose, identity, inverse, translation

ROOT = Path(__file__).parents[1]
CASES = ROOT / ".." / "shared" / "align" / "given"
MODELS: dict[str, tuple[Model, ...]] = {
    "a": ("rigid", "translation"), "b": ("rigid",), "c": ("affine",), "d": ("rigid",), "e": ("rigid", "translation"),
    "f": ("rigid", "translation"), "g": ("rigid", "translation", "affine"),
}  # fmt: skip
GOALS = {
    "pair_median": {"b": 0.32, "c": 0.40, "": 0.35},
    "pair_p95": {"b": 0.7, "c": 0.9, "d": 1.0, "": 0.75},
    "pair_max": {"d": 2.0, "": 1.2},
    "stack_rms": {"b": 2.8, "c": 4.0, "": 2.5},
    "detr_rms": {"b": 1.8, "c": 4.0, "d": 1.5, "": 1.2},
}
Images = Mapping[int, NDArray[Any]]
Found = tuple[dict[int, NDArray[np.float64]], list[int]]
"""Transforms by slice, and slices that are called unusable."""


def ours(images: Images, model: Model) -> Found:
    """As the pipeline does it."""
    facts = {z: describe_slice(image) for z, image in images.items()}
    verdicts = judge(facts)
    features = {z: find_features(images[z]) for z, verdict in verdicts.items() if not verdict.unusable}
    estimates = []
    for z, others in neighbours(verdicts, 3).items():
        for other in others:
            pair = estimate_pair(features[z], features[other], model)
            if not pair.refused:
                estimates.append(Estimate(z, other, pair.matrix, features[z].factor))
    placement = place({z: facts[z].size for z in features}, estimates, Wish(model))
    return placement.matrices, [z for z in images if z not in placement.matrices]


def nothing(images: Images, model: Model) -> Found:
    """Leave all slices where they are."""
    return {z: identity() for z in images}, []


def chained_affine(images: Images, model: Model) -> Found:
    """As the original ingest system: an affine transform from each slice to the one before, one upon the other."""
    features = {z: find_features(image) for z, image in images.items()}
    numbers = list(images)
    found = {numbers[0]: identity()}
    for first, second in itertools.pairwise(numbers):
        source, target = match(features[first], features[second])
        matrix = ransac(source, target, "affine", TOLERANCE) if len(source) >= 20 else None
        step = identity() if matrix is None else refine(source, target, matrix, "affine", 1.5)
        found[second] = compose(found[first], step)
    return found, []


def turboreg(images: Images, model: Model) -> Found:
    """pystackreg, each slice to the one before."""
    from pystackreg import StackReg  # here: whoever tests the goals needs it not

    kinds = {"translation": StackReg.TRANSLATION, "rigid": StackReg.RIGID_BODY, "affine": StackReg.AFFINE}
    height, width = np.array([image.shape for image in images.values()]).max(0)
    padded = {
        z: np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])), mode="edge")
        for z, image in images.items()
    }
    numbers = list(images)
    found = {numbers[0]: identity()}
    for first, second in itertools.pairwise(numbers):
        back = StackReg(kinds[model]).register(padded[first], padded[second])[:2]
        step = inverse(back) if np.isfinite(back).all() and abs(np.linalg.det(back[:, :2])) > 1e-3 else identity()
        found[second] = compose(found[first], step)
    return found, []


METHODS: dict[str, Callable[[Images, Model], Found]] = {
    "this pipeline": ours,
    "doing nothing": nothing,
    "chained SIFT affine": chained_affine,
    "pystackreg, chained": turboreg,
}


def _methods() -> dict[str, Callable[[Images, Model], Found]]:
    """All that can be run here."""
    if importlib.util.find_spec("pystackreg") is not None:
        return METHODS
    return {name: align for name, align in METHODS.items() if align is not turboreg}


def read_case(folder: Path) -> Images:
    """The slices of a stack by their numbers."""
    files = {int(re.findall(r"\d+", path.stem)[-1]): path for path in sorted(folder.glob("*.png"))}
    return {z: np.asarray(imageio.v3.imread(path)) for z, path in files.items()}


def load_scorer(folder: Path) -> Any:
    """The module ``score`` that comes with the stacks."""
    spec = importlib.util.spec_from_file_location("score", folder / ".." / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def score_cases(folder: Path) -> None:
    """Print a line for each stack, method and model."""
    scorer = load_scorer(folder)
    if len(_methods()) < len(METHODS):
        print("pystackreg is left out: `pip install pystackreg`\n")
    print("| stack | model | method | pair median | p95 | max | stack rms | without tilt | flags | CPU, s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for truth_file in sorted(folder.glob("*.truth.json")):
        name = truth_file.name.removesuffix(".truth.json")
        truth, images = json.loads(truth_file.read_text()), read_case(folder / name)
        for model in MODELS.get(name[0], ("rigid",)):
            for method, align in _methods().items():
                if model == MODELS.get(name[0], ("rigid",))[0] or method in ("this pipeline", "pystackreg, chained"):
                    print(_line(name, model, method, align, images, truth, scorer))


def _line(
    name: str,
    model: Model,
    method: str,
    align: Callable[[Images, Model], Found],
    images: Images,
    truth: Any,
    scorer: Any,
) -> str:
    start = time.process_time()
    matrices, flagged = align(images, model)
    seconds = time.process_time() - start
    found = scorer.score({"transforms": matrices, "flagged": flagged}, truth)
    cells = [f"{found[key]:.2f}" for key in GOALS]
    if method == "this pipeline":
        goals = [limits.get(name[0], limits[""]) for limits in GOALS.values()]
        missed = [key for key, goal in zip(GOALS, goals, strict=True) if found[key] > goal]
        method = f"**{method}**" + (f" (misses {', '.join(missed)})" if missed else "")
    flags = f"{found['blank_found']}/{found['blank_total']}, {len(found['false_flags'])} false"
    shown = model if "SIFT affine" not in method and method != "doing nothing" else "-"
    return f"| {name} | {shown} | {method} | {' | '.join(cells)} | {flags} | {seconds:.1f} |"


def scene(side: int) -> NDArray[np.uint8]:
    """A picture with structures of all sizes."""
    random = np.random.RandomState(0)
    noise = sum(
        gaussian_filter(random.standard_normal((side, side)).astype(np.float32), s) * s for s in (1.5, 3, 6, 12)
    )
    return np.clip(128 + 50 * noise, 0, 255).astype(np.uint8)


def cost_of_a_pair(side: int, repetitions: int = 5) -> None:
    """Print processor seconds and memory for a slice and for a pair of this side."""
    big = scene(side + 20)
    first, second = big[:side, :side], big[7 : side + 7, 11 : side + 11]
    find_features(first[:128, :128])  # libraries are loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        one, other = find_features(first), find_features(second)
        middle = time.process_time()
        pair = estimate_pair(one, other, "rigid")
        times.append(((middle - start) / 2, time.process_time() - middle))
    assert not pair.refused
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    slices, pairs = np.median(times, 0)
    whole = slices / 3 + pairs
    print(
        f"| {side} x {side} | {slices:.3f} | {pairs:.3f} | {whole:.3f} | {slices + pairs:.3f} | {memory:.0f} MB |",
        flush=True,
    )


def cost_of_solving(count: int) -> None:
    """Print processor seconds and memory for placing so many slices of 2048 x 2048."""
    random = np.random.RandomState(1)
    truth = [translation(*shift) for shift in random.normal(0, 5, (count, 2))]
    links = [
        Link(i, j, compose(compose(inverse(truth[i]), truth[j]), translation(*random.normal(0, 0.3, 2))), 2.0)
        for i in range(count)
        for j in range(i + 1, min(i + 4, count))
    ]
    for model in ("translation", "rigid", "affine"):
        start = time.process_time()
        solve([(2048, 2048)] * count, links, model)
        seconds = time.process_time() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(f"| {count} | {model} | {seconds:.1f} | {memory:.0f} MB |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=CASES, help="folder of stacks with known transforms")
    parser.add_argument("--skip-cases", action="store_true")
    parser.add_argument("--skip-costs", action="store_true")
    parser.add_argument("--pair", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--solve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pair:
        cost_of_a_pair(options.pair)
        return
    if options.solve:
        cost_of_solving(options.solve)
        return
    if not options.skip_cases:
        if options.cases.is_dir():
            score_cases(options.cases)
        else:
            print(f"no stacks with known transforms in {options.cases}")
    if not options.skip_costs:
        print("\n| side | a slice, CPU s | a pair, CPU s | pair of a stack | two slices and a pair | memory |")
        print("|---|---|---|---|---|---|", flush=True)
        for side in (320, 1024, 2048):
            _alone("--pair", side)
        print("\n| slices | model | solve, CPU s | memory of the process |\n|---|---|---|---|", flush=True)
        for count in (500, 1000, 2000):
            _alone("--solve", count)


def _alone(option: str, number: int) -> None:
    """In a process of its own, so that memory is told apart."""
    subprocess.run([sys.executable, "-m", "benchmarks.alignment", option, str(number)], check=True)


if __name__ == "__main__":
    main()
