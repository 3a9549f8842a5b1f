"""Single blocks, computed because somebody waits for them, where they are not there."""

from blockwise.demand.wishes import BlockFailedError, BusyError, Demand

__all__ = ["BlockFailedError", "BusyError", "Demand"]
