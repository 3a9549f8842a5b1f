"""Measure what it costs to bring results to the disk: python -m benchmarks.durability FOLDER [--rounds N] [--side N].

A run of prediction to objects over a volume of random voxels, with `syncfs` at the end of each step as always, and
without it; rounds alternate. FOLDER is on the disk that is asked about. What other programs have left to be written
to it is waited for as well, so let nothing else write there.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from blockwise import files
from blockwise.backends.local import LocalBackend
from blockwise.records import folder
from blockwise.run import run_step
from blockwise.trust import durability
from pipeline.assembly.steps import Steps, build_steps
from pipeline.configuration.settings import make_settings

PROJECT = Path(__file__).parents[1] / "data" / "membranes.ilp"
BLOCK = 64


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=256, help="of the volume, in voxels")
    options = parser.parse_args()
    totals: dict[str, list[float]] = {"with": [], "without": []}
    synced: list[float] = []
    written = 0
    for _ in range(options.rounds):
        for mode in totals:
            with tempfile.TemporaryDirectory(dir=options.folder) as place:
                steps = prepared(Path(place), options.side)
                with durable(mode == "with") as times:
                    start = time.perf_counter()
                    run(steps)
                    totals[mode].append(time.perf_counter() - start)
                if mode == "with":
                    synced.append(sum(times))
                    written = sum(path.stat().st_size for path in Path(place, "out.n5").rglob("*") if path.is_file())
    show(options.side, totals, synced, written)


def prepared(place: Path, side: int) -> Steps:
    """A raw volume, and the steps over it; nothing of earlier rounds is left to be written."""
    raw = np.random.default_rng(0).integers(0, 256, (side,) * 3, np.uint8)
    with h5py.File(place / "raw.h5", "w") as file:
        file["data"] = raw
    shutil.copy(PROJECT, place)
    settings = make_settings(
        {
            "work_dir": f"{place}/work",
            "raw": f"{place}/raw.h5:data",
            "output": f"{place}/out.n5",
            "blocks": {"shape": [BLOCK] * 3},
            "prediction": {"project": f"{place}/{PROJECT.name}"},
            "threshold": {"class": 1, "threshold": 0.5},
        },
        "the benchmark",
    )
    files.sync(place, whole=True)
    return build_steps(settings)


def run(steps: Steps) -> None:
    """All steps to objects."""
    backend = LocalBackend(2, None)
    for step in steps.all():
        outcome = run_step(step, backend, 1, lambda outcome: None)
        if outcome.failed or outcome.stopped:
            raise RuntimeError(f"{step.label}: {outcome}")
    backend.close()


@contextmanager
def durable(is_durable: bool) -> Iterator[list[float]]:
    """Note how long bringing data to the disk takes; or do not do it."""
    times: list[float] = []
    sync = files.sync

    def timed(path: Path, *, whole: bool) -> None:
        if is_durable:
            start = time.perf_counter()
            sync(path, whole=whole)
            times.append(time.perf_counter() - start)

    with mock.patch.object(durability, "sync", timed), mock.patch.object(folder, "sync", timed):
        yield times


def show(side: int, totals: dict[str, list[float]], synced: list[float], written: int) -> None:
    """Print what was found."""
    table = Table("", "run, wall", "of it waiting for the disk")
    table.add_row("with", f"{statistics.median(totals['with']):.2f} s", f"{statistics.median(synced):.2f} s")
    table.add_row("without", f"{statistics.median(totals['without']):.2f} s", "-")
    console = Console()
    console.print(f"{side}^3 voxels, blocks of {BLOCK}^3, {written / 1e6:.0f} MB written; medians of {len(synced)}")
    console.print(table)


if __name__ == "__main__":
    main()
