"""One volume through every engine: are the bytes equal, what does it cost, and what does the death of a machine cost?

    python -m benchmarks.engines [--engine slurm ...] [--block 64 128 128] [--side 250] [--cube FOLDER]

The FIB-SEM cube, where it lies beside the project, else the bundled example, goes through prediction, threshold and
connected components. Engines are what the tests have: workers of this machine, a SLURM of two nodes on it, Dask on
it and in jobs of that SLURM, and the stand-in for AWS Batch with raw volume, work folder and results in an S3 server
of this machine. Each computes two blocks at a time, and everything twice: the second time a worker, node, Dask worker
or instance is killed when half of the predictions are there, and what had a marker by then is compared with what has
one at the end.

Processor time is that of the driver and all that it and its scheduler have started, without servers of the cloud. By
the clock, start and end of jobs count too, and how long the scheduler takes to notice; on a machine with other work
it says little. Needs the extra ``test``, and SLURM for what is on it (``apt-get install slurm-wlm``).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import psutil
import yaml
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.cases import CUBE, ROOT
from benchmarks.clusters import ENGINES, Engine
from blockwise.identity import array_checksum
from blockwise.records import within
from blockwise.volume import Address, create_volume, open_volume
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings

RESULTS = Path(__file__).parent / "engines.json"
DATASETS = {"probabilities": "probabilities", "mask": "thresholded", "labels": "connected_components"}
LIMIT_S = 1800
"""For one run; then it counts as failed."""
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run all that is asked for, each run in a process of its own; print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--block", nargs=3, type=int, default=[64, 128, 128], metavar="N", help="shape, z y x")
    parser.add_argument(
        "--side", type=int, default=10**6, metavar="N", help="voxels per axis of a crop, from the corner"
    )
    parser.add_argument("--cube", type=Path, default=CUBE if CUBE.exists() else ROOT / "data", metavar="FOLDER")
    parser.add_argument("--alone", nargs=3, metavar=("ENGINE", "FOLDER", "KILL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        engine, folder, kill = given.alone
        print(json.dumps(_alone(engine, Path(folder), given, kill == "kill")))
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in given.engine:
        found[name] = {kind: _in_a_process(name, kind, given) for kind in ("plain", "kill")}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    Console(width=180).print(table({name: found[name] for name in ENGINES if name in found}))


def _in_a_process(name: str, kind: str, given: argparse.Namespace) -> dict[str, Any]:
    # Not below TMPDIR/pytest-…: SLURM's sockets have short names only.
    folder = tempfile.mkdtemp(prefix="engines-")
    command = [sys.executable, "-m", "benchmarks.engines", "--alone", name, folder, kind]
    command += ["--block", *map(str, given.block), "--side", str(given.side), "--cube", str(given.cube.resolve())]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}, {kind}: {done.stderr[-3000:]}\nall that is left of it: {folder}")
    shutil.rmtree(folder)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}, {kind}: {found}", file=sys.stderr, flush=True)
    return found


def _alone(name: str, folder: Path, given: argparse.Namespace, kill: bool) -> dict[str, Any]:
    """One run on one engine, in a process of its own, so that processor time is that of its children."""
    # Daemons become children of this process, and not of the system's first one; what they have used is counted.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with ENGINES[name](folder) as engine:
        place = engine.place or str(folder)
        config = _write_config(folder, place, engine, given)
        begun = time.perf_counter()
        with (folder / "driver.out").open("wb") as out:
            command = [sys.executable, "-m", "luigi", "--module", "pipeline", "ConnectedComponentsWorkflow"]
            command += ["--config", str(config), "--local-scheduler"]
            driver = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=out, stderr=out)
            death = _kill_in_the_middle(config, driver, engine) if kill else {}
            code = driver.wait(LIMIT_S)
        wall = time.perf_counter() - begun
        if code:
            raise RuntimeError(f"exit code {code}: {(folder / 'driver.out').read_text()[-2000:]}")
        if kill:
            after = _markers(config)
            death["again"] = sum(after[block] != marker for block, marker in death.pop("markers").items())
        found = {"wall_s": round(wall, 1), "blocks": len(_markers(config)), **death, "checksums": _checksums(place)}
    _reap()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {**found, "cpu_s": round(used.ru_utime + used.ru_stime, 1)}


def _write_config(folder: Path, place: str, engine: Engine, given: argparse.Namespace) -> Path:
    with h5py.File(given.cube / "raw.h5") as file:
        values = file["data"][tuple(slice(0, given.side) for _ in range(3))]
    raw = f"{within(place, 'raw.n5')}:raw"
    create_volume(Address.parse(raw), values.shape, (64, 64, 64), str(values.dtype), {"axes": ["z", "y", "x"]})
    open_volume(raw, "a").write(tuple(slice(0, n) for n in values.shape), values)
    [project] = given.cube.glob("*.ilp")
    settings = {
        "work_dir": within(place, "work"),
        "raw": raw,
        "output": within(place, "result.n5"),
        "blocks": {"shape": given.block},
        "prediction": {"project": str(project)},
        "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
        "connected_components": {"foreground": 0, "connectivity": 26},
        "backend": engine.backend,
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def _kill_in_the_middle(config: Path, driver: subprocess.Popen[bytes], engine: Engine) -> dict[str, Any]:
    """Kill when half of the predictions are there; what was finished, and how many blocks were lost at work."""
    many = len(build_steps(load_settings(str(config))).prediction.grid)
    end = time.monotonic() + LIMIT_S
    while len(markers := _markers(config)) < many // 2:
        if driver.poll() is not None or time.monotonic() > end:
            raise RuntimeError("it has ended, or takes too long, before half of the predictions were there")
        time.sleep(engine.look_s)
    lost = engine.kill(psutil.Process(driver.pid))
    return {"finished": len(markers), "lost": lost, "markers": markers}


def _markers(config: Path) -> dict[int, Any]:
    """Markers of predicted blocks, which tell how long each took, to the last digit."""
    return build_steps(load_settings(str(config))).prediction.markers.scan()


def _checksums(place: str) -> dict[str, str]:
    found = {}
    for name, key in DATASETS.items():
        volume = open_volume(f"{within(place, 'result.n5')}:{key}")
        found[name] = array_checksum(volume.read(tuple(slice(0, n) for n in volume.shape)))[:12]
    return found


def _reap() -> None:
    """Take in all that has ended."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.2)
        except ChildProcessError:
            return
    left = [process.cmdline() for process in psutil.Process().children(recursive=True)]
    raise RuntimeError(f"processes are left at work: {left}")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def table(found: dict[str, Any]) -> Table:
    """The results for the eye."""
    columns = ("engine", *DATASETS, "wall, s", "CPU, s", "finished at the kill", "of these again", "lost at work")
    out = Table(*columns, "wall, s", "CPU, s", box=MARKDOWN)
    for name, runs in found.items():
        plain, kill = runs["plain"], runs["kill"]
        sums = [
            plain["checksums"][key] if plain["checksums"] == kill["checksums"] else "DIFFER after the kill"
            for key in DATASETS
        ]
        counts = (f"{kill['finished']} of {kill['blocks']}", kill["again"], kill["lost"])
        out.add_row(
            *(name, *sums),
            *map(str, (plain["wall_s"], plain["cpu_s"], *counts, kill["wall_s"], kill["cpu_s"])),
        )
    return out


if __name__ == "__main__":
    main()
