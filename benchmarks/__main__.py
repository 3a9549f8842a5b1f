"""Measure the engines side by side: python -m benchmarks [--case WORD] [--rounds N].

Each engine runs in its own process with one thread. The rounds alternate between the engines, so that a disturbance
of the machine meets all of them; times are medians of CPU time per predicted voxel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cases import Case, all_cases
from blockwise.compiled import cache_folder

FAST_ROOM = Path(__file__).parents[1] / "tasks" / "pixel_classification"
RESULTS = Path(__file__).parent / "results.json"
SYSTEM_PYTHON = "/usr/bin/python3"
ENGINES = ("fast", "straightforward", "vigra")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Worker:
    """A process that runs one engine on one case."""

    def __init__(self, engine: str, folder: Path, cache: str | None = None) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", engine, str(folder)]
        if engine == "vigra":
            command = [SYSTEM_PYTHON, str(Path(__file__).parent / "vigra_worker.py"), str(folder)]
        environment = {**os.environ, **ONE_THREAD, **({"NUMBA_CACHE_DIR": cache} if cache else {})}
        start = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.receive()
        self.start_s = time.perf_counter() - start

    def send(self) -> None:
        """Ask for a round."""
        print(file=self.process.stdin, flush=True)

    def receive(self) -> dict[str, float]:
        """Wait for its answer."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def has_vigra() -> bool:
    """Whether the system's Python has vigra."""
    probe = [SYSTEM_PYTHON, "-c", "import vigra, h5py"]
    return Path(SYSTEM_PYTHON).exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0


def summary(case: Case, rounds: list[dict[str, float]]) -> dict[str, float]:
    """Medians, in ns per voxel."""
    scale = 1e9 / case.voxels
    parts = {
        key: round(statistics.median(r[key] for r in rounds) * scale, 1) for key in ("features", "forest", "all")
    }
    return {**parts, "peak_mb": round(max(r["peak_mb"] for r in rounds))}


def measure(case: Case, folder: Path, engines: list[str], n_rounds: int) -> dict[str, Any]:
    """Alternate the engines on one case, then run two workers of the fast engine at once."""
    case.save(folder)
    workers = {engine: Worker(engine, folder) for engine in engines}
    rounds: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    for _ in range(n_rounds):
        for engine, worker in workers.items():
            worker.send()
            rounds[engine].append(worker.receive())
    result: dict[str, Any] = {engine: summary(case, rounds[engine]) for engine in engines}
    for worker in workers.values():
        worker.close()
    pair = [Worker("fast", folder), Worker("fast", folder)]
    result["fast"]["start_s"] = round(min(worker.start_s for worker in pair), 2)
    together: list[dict[str, float]] = []
    for _ in range(n_rounds):
        for worker in pair:
            worker.send()
        together += [worker.receive() for worker in pair]
    for worker in pair:
        worker.close()
    result["fast, 2 workers"] = summary(case, together)
    result["voxels"], result["channels"] = case.voxels, case.project.forest.n_features
    return result


def compile_seconds(folder: Path) -> float:
    """Time from the start of a worker to its first block when nothing is compiled yet."""
    with tempfile.TemporaryDirectory() as empty:
        worker = Worker("fast", folder, cache=empty)
        worker.close()
    return round(worker.start_s, 1)


def table(results: dict[str, Any]) -> Table:
    """The results for the eye."""
    out = Table("case", "engine", "features", "forest", "all", "times faster", "peak MB")
    out.title = "CPU time in ns per voxel; times faster than the straightforward engine (features, forest, all)"
    for name, result in results.items():
        base = result["straightforward"]
        for engine in [*ENGINES, "fast, 2 workers"]:
            if engine in result:
                r = result[engine]
                ratios = "  ".join(f"{base[key] / r[key]:.1f}" for key in ("features", "forest", "all"))
                row = [f"{r[key]:.0f}" for key in ("features", "forest", "all")]
                out.add_row(name, engine, *row, ratios, f"{r['peak_mb']:.0f}")
        out.add_section()
    return out


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", default="", help="only the cases whose name has this in it")
    parser.add_argument("--rounds", type=int, default=0, help="rounds per case, instead of 3 to 5")
    given = parser.parse_args()
    engines = [engine for engine in ENGINES if engine != "vigra" or has_vigra()]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        chosen = [case for case in all_cases() if given.case in case.name]
        for number, case in enumerate(chosen):
            folder = Path(temporary) / str(number)
            usable = [engine for engine in engines if engine != "vigra" or case.ilp]
            results[case.name] = measure(case, folder, usable, given.rounds or case.rounds)
        cold = compile_seconds(Path(temporary) / "0")
    console = Console(width=130)
    console.print(table(results))
    first = next(iter(results.values()))["fast"]
    console.print(f"start of a worker: {first['start_s']} s; when nothing is compiled yet: {cold} s")
    facts = {
        "machine": platform.processor() or platform.machine(),
        "kind": cache_folder(FAST_ROOM).name,
        "compile_s": cold,
    }
    RESULTS.write_text(json.dumps({**facts, "cases": results}, indent=1, ensure_ascii=False) + "\n")
    console.print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
