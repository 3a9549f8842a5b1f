"""What runs on a Dask worker: a slice of blocks, given to a worker process of ours beside it.

So a block that kills, hangs or eats memory harms neither Dask nor its neighbours, and whatever loses interest in a
slice (Ctrl-C, a driver that was killed, a scheduler that is gone, a Dask worker that is asked to leave) ends the
process. Threads cannot be ended.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import time
from collections import deque
from pathlib import Path

from distributed import Status, Worker, get_worker
from distributed.worker import thread_state

from blockwise.backends.dask.brief import Brief, Place, read_brief
from blockwise.backends.dask.children import Children
from blockwise.backends.dask.code import present_code
from blockwise.backends.dask.dealing import SLICE_S
from blockwise.backends.worker_link import Ended
from blockwise.errors import UserError
from blockwise.job import Order
from blockwise.records import open_records
from blockwise.trust.ownership import why_not_ours

LONGEST_S = 5 * SLICE_S
"""After so long a slice gives back what it has not begun: blocks may take longer than those before."""

_children = Children()
"""Of this Dask worker."""


class UnfitError(UserError):
    """A Dask worker must not compute: it has other code, or another work folder."""


class _Unwanted(Exception):  # noqa: N818 (it is no error)
    """Nobody waits for a slice any more."""


def compute_slice(place: Place, orders: list[Order], patience_s: float) -> list[Ended]:
    """Compute blocks, one after the other; the results of those that have ended.

    The others take too long for one slice, or nobody wants them here any more.

    Args:
        place: of the step's brief.
        orders: of the blocks.
        patience_s: how long a file system may take to show the brief.

    Raises:
        UserError: this Dask worker must not compute: other code, or another work folder.
    """
    worker, key = get_worker(), thread_state.key
    brief = _trusted(place, patience_s)
    waiting, ended = deque(orders), list[Ended]()
    end = time.monotonic() + LONGEST_S
    with contextlib.suppress(_Unwanted), _children.one(place, brief, _name(worker)) as pool:
        while waiting or pool.busy:
            if not _is_wanted(worker, key):
                raise _Unwanted
            if time.monotonic() > end:
                waiting.clear()
            pool.hand_out(waiting)
            ended += pool.results()
    return ended


def look(place: Place) -> tuple[str, bool]:
    """Why this Dask worker must not compute, and whether that may pass; nothing where it may."""
    try:
        brief = read_brief(place)
        if brief is None:
            return _not_shared(place), True
        code = present_code(brief.module)
        if code != brief.code:
            return f"it has other code: {', '.join(brief.code.differences(code))}; install the same there", False
        return _output(brief), True
    except Exception as error:  # whatever it is, it is told in one sentence
        return f"{type(error).__name__}: {error}", False


def let_go(place: Place) -> int:
    """A step has ended: processes that are prepared for it may serve another; number of slices still at work."""
    _trusted.cache_clear()
    return _children.let_go(place)


@functools.lru_cache(maxsize=4)
def _trusted(place: Place, patience_s: float) -> Brief:
    """A step's brief, once nothing speaks against this Dask worker."""
    end = time.monotonic() + patience_s
    why, may_pass = look(place)
    while why and may_pass and time.monotonic() < end:
        time.sleep(0.5)
        why, may_pass = look(place)
    brief = read_brief(place)
    if why or brief is None:
        raise UnfitError(f"Dask worker {get_worker().address} cannot compute: {why or _not_shared(place)}")
    return brief


def _not_shared(place: Place) -> str:
    return (
        f"{open_records(place.work_dir).place(place.key)} is not there, which the driver has written; the work "
        "folder must be on a file system that all Dask workers share, under the same path, or in a store"
    )


def _output(brief: Brief) -> str:
    """What is wrong with the output, as seen from here; relative addresses are for the process that computes."""
    step = brief.step
    places = (step.output().address, step.work_dir)
    if str(Path.cwd()) != brief.folder and not all(place.startswith("/") or "://" in place for place in places):
        return ""
    why = why_not_ours(step)
    return f"output {step.output().address}: {why}, as seen from there; is it on a shared file system?" if why else ""


def _is_wanted(worker: Worker, key: str) -> bool:
    """Whether anybody waits for this task, and its Dask worker is not about to end."""
    task = worker.state.tasks.get(key)
    is_wanted = task is not None and task.state in ("executing", "long-running")
    return is_wanted and worker.status in (Status.running, Status.paused)


def _name(worker: Worker) -> str:
    return re.sub(r"[^\w.-]+", "-", f"{socket.gethostname()}-{worker.name}")
