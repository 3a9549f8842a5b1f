"""Blocks computed by the job arrays of a SLURM cluster."""

from blockwise.backends.slurm.backend import SlurmBackend
from blockwise.backends.slurm.script import SlurmOptions

__all__ = ["SlurmBackend", "SlurmOptions"]
