"""Dask's entry in the registry."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import ClassVar

from blockwise.backends.base import Backend
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.executor import Executor
from blockwise.backends.kind import Kind, Setup
from blockwise.backends.memory import available_memory
from blockwise.errors import UserError


class DaskKind(Kind[DaskOptions]):
    """The workers of a Dask cluster."""

    title: ClassVar[str] = "Dask"
    options = DaskOptions

    def make(self, setup: Setup[DaskOptions], others: Sequence[Backend]) -> Backend:
        """Make a backend; see ``Kind``.

        Raises:
            UserError: the libraries are not installed.
        """
        _check_installed(setup)
        from blockwise.backends.dask.backend import DaskBackend

        return DaskBackend(setup, others)

    def make_executor(self, setup: Setup[DaskOptions]) -> Executor:
        """Make an executor; see ``Kind``.

        Raises:
            UserError: the libraries are not installed, or no cluster can be had.
        """
        _check_installed(setup)
        from blockwise.backends.dask.executor import DaskExecutor

        return DaskExecutor(setup)

    def memory_limit(self, setup: Setup[DaskOptions]) -> tuple[float, str]:
        """An equal share of this machine's memory where the cluster is of this machine; elsewhere nobody says."""
        if setup.options.address is not None or setup.options.slurm is not None:
            return math.inf, ""
        memory, workers = available_memory(), setup.options.workers or setup.workers
        limit = memory.size / workers
        return limit, f"{memory.owner} has {limit / 1e9:.2f} GB for each of {workers} Dask workers"

    def at_once(self, setup: Setup[DaskOptions]) -> tuple[int, str] | None:
        """A block for each worker; how many there are at an address only the cluster knows."""
        options = setup.options
        if options.address is not None:
            return None
        if options.jobs is not None:
            return options.jobs, f"{options.jobs} Dask workers in jobs, as fast as this machine; queue not counted"
        workers = options.workers or setup.workers
        return workers, f"{workers} Dask workers on this machine"


def _check_installed(setup: Setup[DaskOptions]) -> None:
    needed = ["distributed"] + ["dask_jobqueue"] * (setup.options.slurm is not None)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{setup.names.kind} is chosen, and {' and '.join(missing)} cannot be imported; install it with "
            "`pip install 'blockwise-ilastik[dask]'`, or in the project's folder `pip install -e '.[dask]'`"
        )
