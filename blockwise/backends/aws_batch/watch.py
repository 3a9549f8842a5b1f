"""Follows the children of an array job with as few calls as can be: the parent counts them by state.

A child is asked about only where the parent counts more ends than are known. So the number of calls grows with arrays
and with ends, and not with children and time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blockwise.backends.aws_batch.answers import (
    ENDED,
    LIVING,
    BatchTask,
    index_of,
    parse_task,
    size_of,
    summary_of,
)
from blockwise.backends.aws_batch.client import BatchClient
from blockwise.backends.aws_batch.words import NOTHING_STARTS
from blockwise.backends.jobs.scheduler import NO_TASK, TaskId, Watched


class ArrayWatch:
    """What is known of one array job, or of an ordinary job in its place.

    Attributes:
        array: its id.
        known: children that have ended.
    """

    def __init__(self, array: str) -> None:
        self.array = array
        self.known: dict[int, BatchTask] = {}
        self._is_array = False
        self._still: dict[str, int] = {}
        self._since = 0.0

    def sample(self, watched: Watched) -> str | None:
        """Id of a child that waits as far as is known; why it does is said of it, and not of its parent."""
        if not self._is_array or not self._still.get("RUNNABLE"):
            return None
        left = sorted(set(watched.busy) - self.known.keys())
        return f"{self.array}:{left[-1]}" if left else None

    def look(
        self,
        job: Mapping[str, Any],
        sample: Mapping[str, Any] | None,
        watched: Watched,
        client: BatchClient,
        now: float,
        stuck_s: float,
    ) -> dict[TaskId, BatchTask]:
        """States of all tasks of interest.

        Args:
            job: description of the parent.
            sample: that of the child that was asked for.
            watched: tasks of interest.
            client: asked for children that have ended.
            now: monotonic time.
            stuck_s: after so long without any start that is given as the reason for which tasks wait.
        """
        if size_of(job) is None:
            task = parse_task(job, self.array, 0)
            counts = {task.state: 1}
            why = self._why(counts, "" if task.ended else task.reason, now, stuck_s)
            return {(self.array, 0): task if task.ended else self._living(0, task.state, why)}
        self._is_array = True
        counts = summary_of(job)
        self._learn(counts, watched, client)
        found = {(self.array, index): task for index, task in self.known.items()}
        waiting = sample.get("statusReason", "") if sample and sample["status"] == "RUNNABLE" else ""
        why = self._why(counts, waiting, now, stuck_s)
        # Which of the living ones are in which state is not asked; how many are is right.
        left = sorted({*watched.busy, *watched.idle} - self.known.keys())
        states = [state for state in reversed(LIVING) for _ in range(counts.get(state, 0))]
        if job["status"] in ENDED:  # those that are counted nowhere are not there any more
            found[self.array, NO_TASK] = parse_task(job, self.array, NO_TASK)
        else:  # counts are a little old at times
            states += [LIVING[0]] * len(left)
        for index, state in zip(left, states, strict=False):
            found[self.array, index] = self._living(index, state, why)
        return found

    def _learn(self, counts: Mapping[str, int], watched: Watched, client: BatchClient) -> None:
        """Find out which children have ended, where there are some that are not known."""
        if counts.get("FAILED", 0) > self._number("FAILED"):
            self._take(client.children(self.array, "FAILED"))
        if counts.get("SUCCEEDED", 0) > self._number("SUCCEEDED"):
            # Most likely those whose blocks are done.
            likely = [f"{self.array}:{index}" for index in sorted(set(watched.idle) - self.known.keys())]
            self._take([job for job in client.describe(likely).values() if job["status"] in ENDED])
        if counts.get("SUCCEEDED", 0) > self._number("SUCCEEDED"):
            self._take(client.children(self.array, "SUCCEEDED"))

    def _take(self, jobs: list[dict[str, Any]]) -> None:
        for job in jobs:
            self.known[index_of(job)] = parse_task(job, self.array, index_of(job))

    def _number(self, state: str) -> int:
        return sum(task.state == state for task in self.known.values())

    def _living(self, index: int, state: str, why: str) -> BatchTask:
        return BatchTask(self.array, index, state, why if state == "RUNNABLE" else "", "")

    def _why(self, counts: Mapping[str, int], said: str, now: float, stuck_s: float) -> str:
        """Why tasks wait, in AWS's words, or in ours where nothing has moved for long and none is on a machine."""
        if dict(counts) != self._still:
            self._still, self._since = dict(counts), now
        at_work = counts.get("STARTING", 0) + counts.get("RUNNING", 0)
        if said or at_work or not counts.get("RUNNABLE"):
            return said
        return NOTHING_STARTS if now - self._since >= stuck_s else ""
