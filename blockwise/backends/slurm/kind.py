"""SLURM's entry in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from blockwise.backends.base import Backend
from blockwise.backends.executor import Executor
from blockwise.backends.jobs.needs import at_once, memory_limit
from blockwise.backends.jobs.overview import describe_jobs
from blockwise.backends.kind import Kind, Setup
from blockwise.backends.slurm.backend import JOBS, SlurmBackend
from blockwise.backends.slurm.cluster import SlurmCluster
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.script import SlurmOptions
from blockwise.step import BlockStep

PATIENCE_S = 3.0
"""How long squeue may take when somebody only looks."""


class SlurmKind(Kind[SlurmOptions]):
    """The job arrays of a cluster."""

    title: ClassVar[str] = "SLURM"
    options = SlurmOptions
    resource: ClassVar[str] = "slurm_steps"
    paths: ClassVar[tuple[str, ...]] = ("python",)
    ledger: ClassVar[str] = JOBS

    def make(self, setup: Setup[SlurmOptions], others: Sequence[Backend]) -> SlurmBackend:
        """Make a backend; see ``Kind``."""
        commands = SlurmCommands(faults=setup.faults)
        return SlurmBackend(setup.options, setup.detach, commands, setup.timeout_s, others, setup.names)

    def make_executor(self, setup: Setup[SlurmOptions]) -> Executor:
        """Make an executor; see ``Kind``."""
        from blockwise.backends.slurm.staying_jobs import SlurmStayingJobs
        from blockwise.backends.staying.executor import StayingExecutor

        options = setup.options
        advice = setup.names.advice(f"raise {setup.names.option}memory_gb")
        jobs = SlurmStayingJobs(options, setup.names, setup.faults)
        return StayingExecutor(options.view_jobs, jobs, setup.timeout_s, advice, options.poll_s)

    def memory_limit(self, setup: Setup[SlurmOptions]) -> tuple[float, str]:
        """As set; what is not set follows from the step, and has no limit."""
        return memory_limit(setup.options, setup.names)

    def at_once(self, setup: Setup[SlurmOptions]) -> tuple[int, str]:
        """A block for each job that may run."""
        return at_once(setup.options)

    def describe_jobs(self, steps: Mapping[str, BlockStep]) -> list[str]:
        """How job arrays stand; see ``Kind``."""
        return describe_jobs(steps, SlurmCluster(SlurmOptions(), SlurmCommands(attempts=1, limit_s=PATIENCE_S)), JOBS)
