"""What it costs to have blocks computed where they are asked for: each once, with one worker and with two.

    python -m benchmarks.serving

A volume of 384 x 384 x 192 voxels, tiles of the bundled example, in 108 blocks of 64^3. ``view`` serves it; clients
ask for the mask, block by block, until they have all of it, and look afterwards how many blocks were computed: with
several servers and many clients on one store the sum must be the number of blocks. Then a finished chunk is asked for
again. Seconds on a machine that does other things mean little; processor time and counts do.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import h5py
import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (192, 384, 384)
BLOCK = 64
READS = 500


@dataclass
class Server:
    """One ``view`` at work.

    Attributes:
        process: the program.
        host: where it answers.
        port: likewise.
        token: of its addresses.
    """

    process: subprocess.Popen[str]
    host: str
    port: int
    token: str

    def get(self, call: str) -> bytes:
        """The content of an answer, from a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        connection.request("GET", f"/{self.token}{call}")
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{call}: {answer.status} {content!r:.300}")
        return content

    def computed(self) -> dict[str, int]:
        """Blocks that it has computed, by step."""
        steps = json.loads(self.get("/api/status"))["steps"]
        return {step["step"]: step["computed"] for step in steps}

    def cpu_seconds(self) -> float:
        """Of itself and its workers, so far."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]
        return sum(times.user + times.system for times in (process.cpu_times() for process in family))


def main() -> None:
    """Run the experiment, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16, help="that ask at once")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    rows = [measure(*case, options.clients) for case in ((1, 1), (1, 2), (2, 1))]
    table = Table("servers", "workers each", "prediction", "threshold", "seconds", "CPU seconds", "ns CPU per voxel")
    for row in rows:
        table.add_row(*(f"{value:g}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=120)
    console.print(table)
    finished = measure_reads()
    console.print(f"a finished chunk of 64^3: {finished}")
    if options.json:
        Path(options.json).write_text(json.dumps({"experiment": rows, "finished chunk": finished}, indent=1) + "\n")


def measure(servers: int, workers: int, clients: int) -> dict[str, Any]:
    """Ask for all of the mask of a fresh volume."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), workers)
        started = [start(Path(folder)) for _ in range(servers)]
        warm(started)
        before = [server.cpu_seconds() for server in started]
        begun = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            for future in [pool.submit(ask, started[i % servers], i, clients) for i in range(clients)]:
                future.result()
        seconds = time.perf_counter() - begun
        cpu = sum(server.cpu_seconds() for server in started) - sum(before)
        counts = [server.computed() for server in started]
        end(started)
    return {
        "servers": servers,
        "workers": workers,
        "prediction": sum(count["prediction"] for count in counts),
        "threshold": sum(count["threshold"] for count in counts),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "ns_per_voxel": round(cpu / np.prod(SHAPE) * 1e9),
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


def start(folder: Path) -> Server:
    """Start ``view`` in a folder."""
    command = [sys.executable, "-m", "pipeline", "view", "--config", "config.yaml", "--no-browser"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError("no output")
    address = urlparse(process.stdout.readline().strip())
    return Server(process, address.hostname or "", address.port or 0, address.path.split("/")[2])


def warm(servers: list[Server]) -> None:
    """Have the servers answer something, which computes nothing."""
    for server in servers:
        server.get("/api/layers")


def ask(server: Server, number: int, clients: int) -> None:
    """Ask for all blocks of the mask; each client begins with another one."""
    starts = [np.multiply(index, BLOCK) for index in np.ndindex(*(n // BLOCK for n in SHAPE))]
    first = number * len(starts) // clients
    for start_at in (*starts[first:], *starts[:first]):
        corners = [",".join(map(str, corner)) for corner in (start_at, start_at + BLOCK)]
        server.get(f"/api/roi/thresholded?start={corners[0]}&stop={corners[1]}")


def end(servers: list[Server]) -> None:
    """End the servers."""
    for server in servers:
        server.process.terminate()
        server.process.communicate()


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
