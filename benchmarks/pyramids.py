"""What coarser scales cost: our means and modes against TensorStore's, in turns.

    python -m benchmarks.pyramids

Prints processor time per voxel that is read, the best of several rounds, for windows of 2 x 2 x 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import tensorstore
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tasks.pyramid.coarser import Method, coarser, compile_for

SIDE = 256
ROUNDS = 5
FACTORS = (2, 2, 2)
CONTEXT = tensorstore.Context({"data_copy_concurrency": {"limit": 1}})


def volumes() -> dict[str, tuple[NDArray[np.generic], Method]]:
    """What is made coarser, by name, and how."""
    rng = np.random.default_rng(0)
    cubes = np.kron(rng.integers(1, 1 << 40, (SIDE // 8,) * 3, np.uint64), np.ones((8, 8, 8), np.uint64))
    sparse = np.where(rng.random(cubes.shape) < 0.2, np.uint64(0), cubes)
    bytes_ = rng.integers(0, 256, cubes.shape, np.uint8)
    return {
        "mean of uint8": (bytes_, "mean"),
        "mean of uint16": (bytes_.astype(np.uint16), "mean"),
        "mean of float32": (np.asarray(rng.random(cubes.shape), np.float32), "mean"),
        "mode of uint64, cubes of 8": (cubes, "mode"),
        "mode of uint64, a fifth of the voxels 0": (sparse, "mode"),
        "mode of uint8, a mask of noise": ((bytes_ < 50).astype(np.uint8), "mode"),
    }


def cpu(function: Callable[[], object]) -> float:
    """Processor seconds of a call, all threads."""
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    table = Table("", "ours, ns", "TensorStore, ns", "ratio", box=SIMPLE)
    for name, (data, method) in volumes().items():
        compile_for(data.dtype, method)
        theirs = tensorstore.downsample(tensorstore.array(data, context=CONTEXT), list(FACTORS), method)
        seconds = [(cpu(lambda: coarser(data, FACTORS, method)), cpu(lambda: theirs.read().result()))  # noqa: B023
                   for _ in range(ROUNDS)]  # fmt: skip
        ours, other = (1e9 * min(times) / data.size for times in zip(*seconds, strict=True))
        table.add_row(name, f"{ours:.2f}", f"{other:.2f}", f"{other / ours:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
