"""Blocks computed by the job arrays of a SLURM cluster."""

from __future__ import annotations

from collections.abc import Sequence

from blockwise.advice import Names
from blockwise.backends.base import Backend
from blockwise.backends.jobs.backend import JobsBackend
from blockwise.backends.slurm.cluster import SlurmCluster
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.script import SlurmOptions

JOBS = "jobs"
"""Folder of the ledger in that of its step."""


class SlurmBackend(JobsBackend):
    """A run over jobs on a SLURM cluster."""

    def __init__(
        self,
        options: SlurmOptions,
        detach: bool = False,
        commands: SlurmCommands | None = None,
        timeout_s: float | None = None,
        others: Sequence[Backend] = (),
        names: Names | None = None,
    ) -> None:
        cluster = SlurmCluster(options, commands or SlurmCommands())
        super().__init__(options, cluster, JOBS, detach, timeout_s, others, names)
