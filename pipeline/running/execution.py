"""How blocks are computed: from the backend's settings to a backend."""

from __future__ import annotations

from blockwise.backends.registry import BACKENDS, make_backend
from pipeline.configuration.settings import BackendSettings
from tasks.nodes.execution import Execution


def execution(settings: BackendSettings) -> Execution:
    """Turn the backend's settings into a backend, the same one for all steps, so that they share its workers."""
    backend = make_backend(settings.name, settings.setups())
    return Execution(backend, settings.max_attempts, resource=BACKENDS[settings.name].resource)
