"""A queue of AWS Batch as the scheduler of a run over jobs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from blockwise.backends.aws_batch.answers import is_alive, size_of, summary_of
from blockwise.backends.aws_batch.client import BatchClient
from blockwise.backends.aws_batch.options import AwsBatchOptions
from blockwise.backends.aws_batch.request import job_request
from blockwise.backends.aws_batch.watch import ArrayWatch
from blockwise.backends.aws_batch.words import AwsBatchWords
from blockwise.backends.jobs.asking import submit_once
from blockwise.backends.jobs.scheduler import (
    SchedulerMissingError,
    SchedulerUnavailableError,
    Submission,
    Target,
    TaskId,
    TaskState,
    Watched,
    Words,
)
from blockwise.faults import Faults

MAX_ARRAY_SIZE = 10_000

ATTEMPTS = 3
"""How often a submission without an answer is tried in one go."""


class AwsBatchQueue:
    """A queue; see ``Scheduler``.

    Attributes:
        options: how jobs are submitted.
        client: calls AWS Batch.
        faults: what is to go wrong, for tests and trials.
        wait_s: pause after a submission without an answer; it doubles each time.
        stuck_s: after so long without any start people are told where to look.
    """

    words: Words = AwsBatchWords()
    throttles = False
    end_s = 60.0
    """Its states are some seconds old."""
    grace_s = 45.0
    """AWS sends TERM, and KILL 30 s later."""

    def __init__(
        self,
        options: AwsBatchOptions,
        client: BatchClient,
        faults: Faults | None = None,
        wait_s: float = 1.0,
        stuck_s: float = 600.0,
    ) -> None:
        self.options = options
        self.client = client
        self.faults = faults or Faults()
        self.wait_s = wait_s
        self.stuck_s = stuck_s
        self._watches: dict[str, ArrayWatch] = {}

    def max_array_size(self) -> int:
        """As AWS has it."""
        return MAX_ARRAY_SIZE

    def task_name(self, array: str, index: int) -> str:
        """Id of a child; an ordinary job has none, and is called so all the same."""
        return f"{array}:{index}"

    def log_name(self, array: str, name: str, index: int) -> str:
        """As a job calls its log where nobody says otherwise."""
        return f"{name}_{index}.log"

    def submit(self, submission: Submission) -> str:
        """Submit an array job, or an ordinary one for a single task."""
        request = job_request(self.options, submission, self.faults)

        def send() -> str:
            array = self.client.submit(request)
            if self.faults.strikes("lost_answer", submission.name):
                raise SchedulerUnavailableError("SubmitJob: its answer is lost, as asked for")
            return array

        return submit_once(send, self.named, request["jobName"], ATTEMPTS, self.wait_s)

    def named(self, name: str) -> frozenset[str]:
        """Ids of the jobs of the queue with a name."""
        if self.options.queue is None:
            raise SchedulerMissingError("the queue is not set in which a job is to be looked for by its name")
        return frozenset(str(job["jobId"]) for job in self.client.named(self.options.queue, name))

    def states(self, arrays: Sequence[Watched]) -> Mapping[TaskId, TaskState]:
        """Ask for the arrays; for children only where more have ended than is known of."""
        watches = {one.array: self._watches.get(one.array) or ArrayWatch(one.array) for one in arrays}
        self._watches = watches
        samples = {one.array: watches[one.array].sample(one) for one in arrays}
        described = self.client.describe([*watches, *filter(None, samples.values())])
        found: dict[TaskId, TaskState] = {}
        for one in arrays:
            job = described.get(one.array)
            if job is not None:
                sample = described.get(samples[one.array] or "")
                found.update(watches[one.array].look(job, sample, one, self.client, time.monotonic(), self.stuck_s))
        return found

    def counts(self, arrays: Sequence[str]) -> Mapping[str, Counter[str]]:
        """As the arrays themselves count their children."""
        return {
            array: Counter({state.lower(): n for state, n in (summary_of(job) or {job["status"]: 1}).items()})
            for array, job in self.client.describe(arrays).items()
        }

    def is_forgotten(self, array: str) -> bool:
        """Ask for one by itself."""
        try:
            return array not in self.client.describe([array])
        except SchedulerUnavailableError:
            return False

    def alive(self, targets: Sequence[Target], leaving: bool = True) -> bool:
        """Ask for the arrays, or for children of them."""
        ids = self._ids(targets)
        described = self.client.describe(ids)
        unknown = [one for one in ids if one not in described]
        return any(map(is_alive, described.values())) or not all(map(self.is_forgotten, unknown))

    def cancel(self, targets: Sequence[Target], kill: bool = False) -> None:
        """Cancel what waits, terminate what runs; AWS itself kills what does not go."""
        for one in self._ids(targets):
            self.client.end(one)

    def throttle(self, array: str, running: int) -> None:
        """AWS Batch cannot be told how many children of an array job may run at once."""

    def _ids(self, targets: Sequence[Target]) -> list[str]:
        """Ids of arrays and children; where only one task was wanted, the job has none."""
        parents = {one.array for one in targets if one.index is not None}
        described: Mapping[str, Mapping[str, Any]] = self.client.describe(sorted(parents))
        whole = {array for array, job in described.items() if size_of(job) is None}
        names = (
            one.array if one.index is None or one.array in whole else self.task_name(one.array, one.index)
            for one in targets
        )
        return list(dict.fromkeys(names))
