"""How blocks are computed: from the backend's settings to a backend."""

from __future__ import annotations

from blockwise.backends import Backend, LocalBackend
from blockwise.backends.slurm import SlurmBackend
from blockwise.backends.slurm.commands import SlurmCommands
from pipeline.configuration.settings import BackendSettings
from tasks.nodes.execution import Execution


def execution(settings: BackendSettings) -> Execution:
    """Turn the backend's settings into a backend, the same one for all steps, so that they share its workers."""
    backend: Backend
    if settings.name == "slurm":
        commands = SlurmCommands(faults=settings.faults)
        backend = SlurmBackend(settings.slurm, settings.detach, commands, settings.timeout_s)
    else:
        others = (SlurmBackend(settings.slurm),)
        backend = LocalBackend(settings.workers, settings.timeout_s, settings.faults, others)
    return Execution(backend, settings.max_attempts, resource="slurm_steps" if settings.name == "slurm" else "")
