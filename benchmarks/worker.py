"""One engine on one case in its own process: python -m benchmarks.worker ENGINE FOLDER.

Says that it is ready after a small warm-up (which loads or compiles all code), then answers each line on its standard
input with the CPU seconds of one round and its peak memory so far.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.pixel_classification.project import Project

Interior = tuple[slice, slice, slice]
Round = Callable[[NDArray[Any], Interior], dict[str, float]]


def without_trees(project: Project) -> Project:
    """The same project with an empty forest: predicting with it costs the features only."""
    if project.forest is None:
        raise ValueError("the project has no forest")
    arrays = {
        name: getattr(project.forest, name)[:0] for name in ("roots", "feature", "threshold", "left", "right", "leaf")
    }
    return replace(project, forest=replace(project.forest, **arrays, sizes=()))


def own_engine(name: str, project: Project) -> Round:
    """One of this project's engines; the forest's share is the whole less a prediction without trees."""
    from tasks.pixel_classification.engines import make_engine

    engine, bare = make_engine(name, project), make_engine(name, without_trees(project))

    def run(image: NDArray[Any], interior: Interior) -> dict[str, float]:
        start = time.process_time()
        engine.predict(image, interior)
        middle = time.process_time()
        bare.predict(image, interior)
        features, whole = time.process_time() - middle, middle - start
        return {"features": features, "forest": whole - features, "all": whole}

    return run


def straightforward_engine(project: Project) -> Round:
    """Filters of bioimage-cpp, forest of onnxruntime."""
    from benchmarks.straightforward import compute, session

    if project.forest is None:
        raise ValueError("the project has no forest")
    forest = session(project.forest)

    def run(image: NDArray[Any], interior: Interior) -> dict[str, float]:
        start = time.process_time()
        features = compute(image, project.features, interior)
        middle = time.process_time()
        forest.run(None, {"features": features})
        end = time.process_time()
        return {"features": middle - start, "forest": end - middle, "all": end - start}

    return run


def peak_mb() -> float:
    """Peak memory of this process since it was started."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def main() -> None:
    """Warm up, then serve."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    project, interior = pickle.loads((folder / "case.pickle").read_bytes())
    image = np.load(folder / "image.npy")
    run = straightforward_engine(project) if name == "straightforward" else own_engine(name, project)
    corner = image[:48, :48, :48]
    run(corner, tuple(slice(0, n) for n in corner.shape[:3]))  # type: ignore[arg-type]
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        seconds = run(image, interior)
        print(json.dumps({**seconds, "peak_mb": peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
