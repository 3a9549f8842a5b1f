"""Which compression for the outputs: size, cost, and who can read it.

    python -m benchmarks.codecs RESULT.n5      # a finished run's output

Copies each dataset of a result with each codec of N5, chunk for chunk, and prints processor time per voxel and size.
Whether others read it is tried with TensorStore.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tensorstore
import z5py
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

CODECS: dict[str, dict[str, Any]] = {
    "raw": {},
    "gzip 1": {"compression": "gzip", "level": 1},
    "gzip 5": {"compression": "gzip", "level": 5},
    "zstd": {"compression": "zstd"},
    "lz4": {"compression": "lz4"},
    "blosc": {"compression": "blosc"},
}
ROUNDS = 3


def main() -> None:
    """Measure and print."""
    source = z5py.File(sys.argv[1], mode="r")
    table = Table("dataset", "codec", "write ns/voxel", "read ns/voxel", "size, MB", "TensorStore", box=SIMPLE)
    for name in ("probabilities", "thresholded", "connected_components"):
        data, chunks = source[name][:], source[name].chunks
        voxels = data.size // (data.shape[0] if data.ndim == 4 else 1)
        for codec, options in CODECS.items():
            with tempfile.TemporaryDirectory() as folder:
                write, read = _cost(Path(folder), data, chunks, options)
                size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
                readable = "yes" if _tensorstore_reads(Path(folder) / "0.n5" / "data") else "no"
            costs = (f"{1e9 * seconds / voxels:.1f}" for seconds in (write, read))
            table.add_row(name, codec, *costs, f"{size / ROUNDS / 1e6:.1f}", readable)
    Console().print(table)


def _cost(folder: Path, data: Any, chunks: tuple[int, ...], options: dict[str, Any]) -> tuple[float, float]:
    """Median processor time of writing and of reading all of it."""
    writes, reads = [], []
    for i in range(ROUNDS):
        container = z5py.File(str(folder / f"{i}.n5"), mode="a")
        dataset = container.create_dataset(
            "data", shape=data.shape, chunks=chunks, dtype=data.dtype, **(options or {"compression": "raw"})
        )
        start = time.process_time()
        dataset[:] = data
        middle = time.process_time()
        dataset[:]
        writes.append(middle - start)
        reads.append(time.process_time() - middle)
    return sorted(writes)[ROUNDS // 2], sorted(reads)[ROUNDS // 2]


def _tensorstore_reads(folder: Path) -> bool:
    try:
        store = tensorstore.open({"driver": "n5", "kvstore": {"driver": "file", "path": str(folder)}}).result()
        store[tuple(slice(0, min(8, n)) for n in store.shape)].read().result()
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
