"""Asks a scheduler again when it has not answered, without having it do a thing twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from blockwise.backends.jobs.scheduler import SchedulerUnavailableError

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_WAIT_S = 30.0


def retrying(call: Callable[[], T], attempts: int, wait_s: float) -> T:
    """Call until there is an answer.

    Args:
        call: what is tried; it may be done more than once.
        attempts: how often it is tried.
        wait_s: pause after the first failure; it doubles each time.

    Raises:
        SchedulerUnavailableError: there was none.
    """
    # It loads tornado, where that is installed; workers of a batch know this module, and ask nobody.
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    policy = Retrying(
        retry=retry_if_exception_type(SchedulerUnavailableError),
        wait=wait_exponential(wait_s, max=LONGEST_WAIT_S),
        stop=stop_after_attempt(attempts),
        before_sleep=_log_retry,
        reraise=True,
    )
    return policy(call)


def submit_once(
    send: Callable[[], str], named: Callable[[str], frozenset[str]], name: str, attempts: int, wait_s: float
) -> str:
    """Submit an array under a name that no other has; its id.

    Args:
        send: submits it. What seems to have failed may have succeeded all the same.
        named: finds the ids of arrays with a name.
        name: of the array.
        attempts: as for ``retrying``.
        wait_s: as for ``retrying``.
    """
    tried = False

    def attempt() -> str:
        nonlocal tried
        known = named(name) if tried else frozenset()
        if known:
            return max(known)
        tried = True
        return send()

    return retrying(attempt, attempts, wait_s)


def _log_retry(state: RetryCallState) -> None:
    if state.outcome is not None:
        logger.info("%s; trying again", state.outcome.exception())
