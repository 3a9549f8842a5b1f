"""What is answered in place of voxels: a status of HTTP, and what is wrong, as JSON, with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blockwise.demand import BlockFailedError


class RefusedError(Exception):
    """An answer other than what was asked for.

    Attributes:
        status: of HTTP.
        error: what is wrong and what to do, for people.
        details: the same for programs, as JSON.
    """

    def __init__(self, status: int, error: str, **details: Any) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.details: Mapping[str, Any] = details

    def document(self) -> dict[str, Any]:
        """The answer's content."""
        return {"error": self.error, "status": self.status, **self.details}


def nothing_there(what: str = "there is nothing at this address") -> RefusedError:
    """404: no such page, layer or chunk."""
    return RefusedError(404, what)


def busy() -> RefusedError:
    """503: viewers try again."""
    return RefusedError(503, "too much is being computed; try again in a moment")


def failed(error: BlockFailedError) -> RefusedError:
    """500: a block cannot be computed."""
    return RefusedError(
        500,
        f"{error} [log: {error.log}]; mend the cause and ask again",
        step=error.step.label,
        block=error.block,
        cause=error.result.error,
        message=error.result.message,
        log=error.log,
    )


class NotFinishedError(RefusedError):
    """The voxels are not computed, and not to be computed here: 404, which viewers show as empty."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(404, f"{step}: {why}", step=step)

    def for_programs(self) -> RefusedError:
        """409: what is asked for may well be there later."""
        return RefusedError(409, self.error, **self.details)
