"""What a batch of many small images costs beyond the arithmetic, and how busy it keeps its workers.

    python -m benchmarks.images --images 10000 --size 48

Cuts a reference image into small ones, runs `BatchWorkflow` over them from the command line, twice, and compares the
processor time an image with that of prediction, smoothing and labelling alone, on arrays that are in memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import imageio.v3
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipeline.batch.image_chains import image_steps
from pipeline.batch.manifest import image_settings, load_batch
from tasks.components.labelling import label_components
from tasks.threshold import smooth_and_threshold

ROOT = Path(__file__).parents[1]
CASE = ROOT / "tests" / "data" / "2d_rgb_u8_3class"
REPETITIONS = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=48, help="side of an image, in pixels")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", help="where to work; on the kind of disk that is to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.chdir(folder)
        image = _write_images(options.images, options.size)
        _write_config(options.workers, "warm", "images/0.png")
        pure = _arithmetic(image)
        _run()  # so that compiled code is at hand
        _write_config(options.workers, "work", "images/*.png")
        first, second = _run(), _run()
    table = Table(
        "", "wall, s", "CPU, s", "CPU an image, ms", "of it arithmetic, ms", "overhead, ms", "busy", box=SIMPLE
    )
    for name, (wall, cpu) in (("run", first), ("nothing to do", second)):
        each = 1000 * cpu / options.images
        spent = pure if name == "run" else 0.0
        busy = f"{100 * cpu / wall / options.workers:.0f} %"
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"{each:.2f}", f"{spent:.2f}", f"{each - spent:.2f}", busy)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _write_images(count: int, size: int) -> NDArray[Any]:
    """Write crops of the reference image; one of them."""
    with h5py.File(CASE / "input.h5", "r") as file:
        image = file["data"][()]
    Path("images").mkdir()
    random = np.random.default_rng(0)
    crop = image[:size, :size]
    for i in range(count):
        y, x = (int(random.integers(n - size + 1)) for n in image.shape[:2])
        crop = image[y : y + size, x : x + size]
        imageio.v3.imwrite(f"images/{i}.png", crop)
    return np.asarray(crop)


def _write_config(workers: int, work_dir: str, files: str) -> None:
    values = {
        "work_dir": work_dir,
        "output": f"{work_dir}/{{name}}.n5",
        "prediction": {"project": str(CASE / "project.ilp")},
        "threshold": {"class": 1, "sigma": 1.0, "threshold": 0.4},
        "backend": {"workers": workers},
        "batch": {"files": files},
    }
    Path("config.yaml").write_text(yaml.safe_dump(values))


def _arithmetic(image: NDArray[Any]) -> float:
    """Processor time, in ms, of what an image cannot do without; one thread, as in a worker."""
    batch = load_batch("config.yaml", None)
    steps = image_steps(image_settings(batch.shared, batch.names[0], batch.rows[0]))
    threshold = steps.objects[0].threshold
    engine = steps.prediction.prepare()[0]
    interior = (slice(0, 1), slice(0, image.shape[0]), slice(0, image.shape[1]))
    start = 0.0
    for repetition in range(REPETITIONS + 1):
        if repetition == 1:  # the first one loads and compiles
            start = time.process_time()
        probabilities = engine.predict(image[np.newaxis], interior)[threshold.class_index, 0]
        mask = smooth_and_threshold(probabilities, threshold.sigma, threshold.threshold, interior[1:])
        label_components(mask, 1, 8)
        label_components(mask, 1, 8)  # once for the faces, once for the labels
    return 1000 * (time.process_time() - start) / REPETITIONS


def _run() -> tuple[float, float]:
    """Run the batch; wall and processor seconds of the command and its workers."""
    command = [sys.executable, "-m", "luigi", "--module", "pipeline", "BatchWorkflow", "--config", "config.yaml"]
    before, start = os.times(), time.monotonic()
    subprocess.run(
        [*command, "--local-scheduler", "--quiet"], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - start, cpu


if __name__ == "__main__":
    main()
