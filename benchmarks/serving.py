"""What it costs to have blocks computed where they are asked for: each once, with one worker and with two.

    python -m benchmarks.serving

A volume of 384 x 384 x 192 voxels, tiles of the bundled example, in 108 blocks of 64^3. ``view`` serves it; one
client asks for all of the mask at once, or many ask for it block by block until each of them has all of it. How
many blocks were computed is looked at afterwards: with several servers and many clients on one store the sum must
be the number of blocks. On the same volume other thresholds are tried, for all blocks of three cross-sections.
Then a finished chunk is asked for again, and the first picture of the finished example is waited for in Chromium,
where there is one (benchmarks/first_picture.py). Seconds on a machine that does other things mean little;
processor time and counts do.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.first_picture import first_picture
from benchmarks.viewer import ROOT, Server, end, start
from pipeline.viewing.state import DOWNLOADS

SHAPE = (192, 384, 384)
BLOCK = 64
READS = 500
KINDS = ("servers_cpu_s", "workers_cpu_s", "clients_cpu_s")
TRIED = (0.3, 0.35, 0.4, 0.45)
"""The first of them has workers decode the probabilities, which they keep."""


def main() -> None:
    """Run the experiment, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16, help="that ask at once")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    many = options.clients
    rows = [measure(*case) for case in ((1, 1, 1), (1, 2, 1), (1, 1, many), (1, 2, many), (2, 1, many))]
    trials = [trial for row in rows for trial in row.pop("trials")]
    table = Table(
        "servers",
        "workers each",
        "clients",
        "prediction",
        "threshold",
        "seconds",
        "CPU: servers",
        "of workers",
        "of clients",
        "ns per voxel",
    )
    for row in rows:
        table.add_row(*(f"{value:g}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=120)
    console.print(table)
    found = {
        "two workers, times as fast as one": _ratios(rows, lambda row: float(row["seconds"])),
        "the same, were servers and clients elsewhere": _ratios(rows, _without_others),
        "threshold moved, two workers": trials,
        "finished chunk of 64^3": measure_reads(),
        "first picture": first_picture(),
    }
    for name, value in found.items():
        console.print(f"{name}: {value}")
    if options.json:
        Path(options.json).write_text(json.dumps({"experiment": rows, **found}, indent=1) + "\n")


def _ratios(rows: list[dict[str, Any]], seconds: Callable[[dict[str, Any]], float]) -> dict[str, float]:
    """Of one worker's time to that of two, with one client and with many."""
    return {
        f"{one['clients']} clients": round(one["seconds"] / seconds(two), 2)
        for one, two in itertools.pairwise(rows)
        if (one["servers"], one["workers"], two["workers"]) == (1, 1, 2)
    }


def _without_others(row: dict[str, Any]) -> float:
    """Seconds that two workers would take, did server and clients not take their share of two cores."""
    return float(row["seconds"] - (row["servers_cpu_s"] + row["clients_cpu_s"]) / 2)


def measure(servers: int, workers: int, clients: int) -> dict[str, Any]:
    """Ask for all of the mask of a fresh volume: one client at once, several block by block."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), workers)
        started = [start(Path(folder)) for _ in range(servers)]
        warm(started)
        before = _cpu_by_kind(started)
        begun = time.perf_counter()
        if clients == 1:
            started[0].get("/api/roi/thresholded")
        else:
            with ThreadPoolExecutor(clients) as pool:
                for future in [pool.submit(ask, started[i % servers], i, clients) for i in range(clients)]:
                    future.result()
        seconds = time.perf_counter() - begun
        cpu = dict(zip(KINDS, (b - a for a, b in zip(before, _cpu_by_kind(started), strict=True)), strict=True))
        counts = [server.computed() for server in started]
        trials = [measure_trial(started[0], value) for value in TRIED] if workers > 1 else []
        end(started)
    return {
        "servers": servers,
        "workers": workers,
        "clients": clients,
        "prediction": sum(count["prediction"] for count in counts),
        "threshold": sum(count["threshold"] for count in counts),
        "seconds": round(seconds, 1),
        **{kind: round(seconds, 1) for kind, seconds in cpu.items()},
        "ns_per_voxel": round((cpu["servers_cpu_s"] + cpu["workers_cpu_s"]) / np.prod(SHAPE) * 1e9),
        "trials": trials,
    }


def _cpu_by_kind(servers: list[Server]) -> tuple[float, float, float]:
    """Processor seconds so far, in the order of ``KINDS``."""
    found = [server.cpu_by_kind() for server in servers]
    return sum(one[0] for one in found), sum(one[1] for one in found), time.process_time()


def measure_trial(server: Server, threshold: float) -> dict[str, float]:
    """Try a threshold, and ask for its blocks in three cross-sections, over as many connections as the viewer has."""
    before, begun = server.cpu_seconds(), time.perf_counter()
    found = json.loads(server.get("/api/trials", {"values": {"threshold": threshold}}))
    path = found["layer"]["source"]["url"].removeprefix("zarr2://{origin}").removeprefix(f"/{server.token}")
    counts = [n // BLOCK for n in SHAPE]
    seen = [index for index in np.ndindex(*counts) if any(i == n // 2 for i, n in zip(index, counts, strict=True))]
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        for _ in pool.map(lambda index: server.get(f"{path}0/{'/'.join(map(str, index))}"), seen):
            pass
    seconds = time.perf_counter() - begun
    cpu = server.cpu_seconds() - before
    return {
        "threshold": threshold,
        "blocks": len(seen),
        "seconds": round(seconds, 2),
        "cpu_ms_per_block": round(1e3 * cpu / len(seen), 1),
    }


def prepare(folder: Path, workers: int) -> None:
    """Write raw data and a configuration."""
    with h5py.File(ROOT / "data" / "raw.h5") as file:
        raw = np.tile(file["data"][()], [-(-n // m) for n, m in zip(SHAPE, file["data"].shape, strict=True)])
    with h5py.File(folder / "raw.h5", "w") as file:
        file.create_dataset("data", data=raw[tuple(map(slice, SHAPE))], chunks=(BLOCK,) * 3)
    values = {
        "work_dir": "work",
        "raw": "raw.h5:data",
        "output": "result.n5",
        "blocks": {"shape": [BLOCK] * 3},
        "prediction": {"project": str(ROOT / "data" / "membranes.ilp")},
        "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
        "backend": {"workers": workers},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def warm(servers: list[Server]) -> None:
    """Have the servers answer something, which computes nothing."""
    for server in servers:
        server.get("/api/layers")


def ask(server: Server, number: int, clients: int) -> None:
    """Ask for all blocks of the mask; each client begins with another one."""
    starts = [np.multiply(index, BLOCK) for index in np.ndindex(*(n // BLOCK for n in SHAPE))]
    first = number * len(starts) // clients
    with contextlib.closing(server.connect()) as connection:  # as browsers do, and programs that read much
        for start_at in (*starts[first:], *starts[:first]):
            corners = [",".join(map(str, corner)) for corner in (start_at, start_at + BLOCK)]
            server.get(f"/api/roi/thresholded?start={corners[0]}&stop={corners[1]}", over=connection)


def measure_reads() -> dict[str, float]:
    """Ask for finished chunks, one after the other, over one connection."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), 2)
        server = start(Path(folder))
        server.get("/api/roi/thresholded?start=0,0,0&stop=64,64,64")
        layers = {layer["name"]: layer for layer in json.loads(server.get("/api/layers"))["layers"]}
        path = layers["thresholded"]["data"] + "0/0/0/0"
        connection = http.client.HTTPConnection(server.host, server.port)
        seconds = []
        before = psutil.Process(server.process.pid).cpu_times()
        for _ in range(READS):
            begun = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            seconds.append(time.perf_counter() - begun)
        after = psutil.Process(server.process.pid).cpu_times()
        cpu = (after.user + after.system - before.user - before.system) / READS
        end([server])
    return {
        "p50_ms": round(1e3 * statistics.median(seconds), 2),
        "cpu_ms": round(1e3 * cpu, 2),
        "per_second_of_one_core": round(1 / cpu),
    }


if __name__ == "__main__":
    main()
