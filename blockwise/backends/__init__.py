"""Where blocks are computed: one interface, several places."""

from blockwise.backends.base import Backend, Outcome, Referee
from blockwise.backends.local import LocalBackend

__all__ = ["Backend", "LocalBackend", "Outcome", "Referee"]
