"""What it costs to keep records in a store, beside a folder: processor time and requests for each block.

    python -m benchmarks.records [--blocks 200]

Computes blocks of a step that does next to nothing, as a worker does, in this process: plan, begin, each block with
its claim and marker, finish; then looks at the finished step. Once with the work folder on the disk, once on an S3
server of this machine (moto, a process of its own; needs the extra ``test``). The result lies in a folder both times,
so that the difference is that of the records. The server counts requests; processor time is this process's, all
threads, without the server's. What a store takes by the clock depends on its distance: most of a block's requests
come one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from blockwise.grid import Block, Grid
from blockwise.outputs import VolumeOutput
from blockwise.plan import begin, finish, is_complete, plan_step
from blockwise.records import open_records
from blockwise.sources import Source
from blockwise.volume_step import Holds, VolumeStep
from blockwise.worker import Worker

SIDE = 16
PHASES = ("plan", "begin", "a block", "plan again", "finish", "is it complete?")


class EmptyStep(VolumeStep):
    """Writes blocks of ones."""

    name: ClassVar[str] = "empty"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "mask"

    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def sources(self) -> tuple[Source, ...]:
        """None."""
        return ()

    def output(self) -> VolumeOutput:
        """Its dataset."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, {})

    def projected_memory(self) -> int:
        """Nothing."""
        return 0

    def compute(self, block: Block, prepared: Any) -> Any:
        """Ones."""
        return np.ones([s.stop - s.start for s in block.write_box], np.uint8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records")
    parser.add_argument("--blocks", type=int, default=200)
    blocks = parser.parse_args().blocks
    with tempfile.TemporaryDirectory() as folder, s3(Path(folder, "server.log")) as requests:
        in_folder = measure(blocks, f"{folder}/work", folder, lambda: Counter())
        in_store = measure(blocks, "s3://bucket/work", folder, requests)
        open_records("s3://bucket/work").leave_this_machine()
    table = Table("", "folder, ms", "store, ms", "requests", box=SIMPLE)
    for phase in PHASES:
        (here, _), (there, asked) = in_folder[phase], in_store[phase]
        shown = ", ".join(f"{kind} {number:.4g}" for kind, number in sorted(asked.items()))
        table.add_row(phase, f"{1e3 * here:.2f}", f"{1e3 * there:.2f}", shown)
    Console(width=110).print(table)
    print(f"processor time of this process; {blocks} blocks")


def measure(blocks: int, work_dir: str, folder: str, requests: Any) -> dict[str, tuple[float, Counter[str]]]:
    """Processor seconds and requests of each phase, for a block or for all of them."""
    grid = Grid("zyx", (blocks * SIDE, SIDE, SIDE), (SIDE,) * 3)
    address = f"{folder}/{work_dir.partition(':')[0].strip('/').replace('/', '-')}.n5:ones"
    step = EmptyStep(work_dir=work_dir, grid=grid, address=address, chunks=(SIDE,) * 3)
    found: dict[str, tuple[float, Counter[str]]] = {}

    @contextlib.contextmanager
    def phase(name: str, parts: int = 1) -> Iterator[None]:
        before, start = requests(), time.process_time()
        yield
        spent = (time.process_time() - start) / parts
        asked = requests()
        found[name] = spent, Counter({kind: (asked[kind] - before[kind]) / parts for kind in asked - before})

    with phase("plan"):
        plan = plan_step(step)
    with phase("begin"):
        begin(step, plan)
    worker = Worker(step, "no log")
    with phase("a block", blocks):
        for item in plan.items:
            result = worker.run(item, 1)
            if result.state != "computed":
                raise RuntimeError(result.message)
    step = step.model_copy()  # as another process, which has seen nothing yet
    with phase("plan again"):
        plan = plan_step(step)
    with phase("finish"):
        finish(step, plan, 0.0)
    step = step.model_copy()
    with phase("is it complete?"):
        if not is_complete(step):
            raise RuntimeError("the step is not complete")
    return found


@contextlib.contextmanager
def s3(log: Path) -> Iterator[Any]:
    """A server in a process of its own; gives a function that counts what it was asked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    os.environ.update(AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none", AWS_ENDPOINT_URL=url)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)

    def requests() -> Counter[str]:
        lines = re.findall(r"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP", log.read_text())
        return Counter("LIST" if "list-type" in path else verb for verb, path in lines)

    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
                break
            time.sleep(0.1)
        yield requests
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
