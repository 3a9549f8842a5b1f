"""Calls AWS Batch by boto3, and tells what its errors mean."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from blockwise.backends.jobs.scheduler import (
    SchedulerMissingError,
    SchedulerUnavailableError,
    SubmissionRefusedError,
)

logger = logging.getLogger(__name__)

IDS_PER_CALL = 100
"""DescribeJobs takes no more."""

ATTEMPTS = 5
"""How often boto3 itself makes a call that may be made twice; it slows down where it is throttled."""

LIMIT_S = 30
"""How long to wait for a connection, or for an answer."""

REASON = "ended by the run that had submitted it"

_THROTTLED = frozenset({
    "TooManyRequestsException", "ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded",
    "RequestThrottled", "SlowDown",
})  # fmt: skip


class BatchClient:
    """AWS Batch. Region and credentials are those of boto3: environment, files, or the machine's role.

    Attributes:
        attempts: how often a call that may be made twice is made.
        limit_s: how long to wait for an answer.
    """

    def __init__(self, attempts: int = ATTEMPTS, limit_s: float = LIMIT_S) -> None:
        self.attempts = attempts
        self.limit_s = limit_s
        self._clients: dict[tuple[int, int], Any] = {}

    def submit(self, request: dict[str, Any]) -> str:
        """Submit a job once; its id.

        Raises:
            SchedulerUnavailableError: it may have been submitted, or not.
            SubmissionRefusedError: it never will be.
        """
        with _translated("SubmitJob"):
            return str(self._submitting.submit_job(**request)["jobId"])

    def describe(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Describe jobs, by id; those that are not known are left out."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), IDS_PER_CALL):
            with _asked("DescribeJobs"):
                answer = self._asking.describe_jobs(jobs=list(ids[start : start + IDS_PER_CALL]))
            found.update({job["jobId"]: job for job in answer["jobs"]})
        return found

    def children(self, array: str, status: str) -> list[dict[str, Any]]:
        """Summaries of all children of an array job that are in a state."""
        with _asked("ListJobs"):
            pages = self._asking.get_paginator("list_jobs").paginate(arrayJobId=array, jobStatus=status)
            return [job for page in pages for job in page["jobSummaryList"]]

    def named(self, queue: str, name: str) -> list[dict[str, Any]]:
        """Summaries of the jobs of a queue that have a name, in whatever state."""
        with _asked("ListJobs"):
            pages = self._asking.get_paginator("list_jobs").paginate(
                jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}]
            )
            return [job for page in pages for job in page["jobSummaryList"] if job["jobName"] == name]

    def end(self, job: str) -> None:
        """End a job or a child, or an array job and its children: what waits is cancelled, what runs is terminated.

        CancelJob does nothing to what runs and says so to nobody. It comes first, so that nothing of what waits
        starts in place of what is terminated.
        """
        for call in ("cancel_job", "terminate_job"):
            try:
                with _translated(call):
                    getattr(self._asking, call)(jobId=job, reason=REASON)
            except SubmissionRefusedError as error:
                logger.debug("%s", error)

    @property
    def _asking(self) -> Any:
        return self._client(self.attempts)

    @property
    def _submitting(self) -> Any:
        """A job has no name that AWS would refuse to take twice: whoever tries again looks first."""
        return self._client(1)

    def _client(self, attempts: int) -> Any:
        """A client of this process: what a fork takes over of another's connections spoils them."""
        key = (os.getpid(), attempts)
        if key not in self._clients:
            self._clients[key] = self._connect(attempts)
        return self._clients[key]

    def _connect(self, attempts: int) -> Any:
        import boto3
        from botocore.config import Config

        retries = {"mode": "adaptive", "total_max_attempts": attempts}
        config = Config(retries=retries, connect_timeout=self.limit_s, read_timeout=self.limit_s)
        # A session of its own: the one that boto3 shares is for one thread, and keeps credentials that have changed.
        return boto3.session.Session().client("batch", config=config)


@contextlib.contextmanager
def _asked(call: str) -> Iterator[None]:
    """A question that is refused is not answered: nothing is known then."""
    try:
        with _translated(call):
            yield
    except SubmissionRefusedError as error:
        raise SchedulerUnavailableError(str(error)) from error


@contextlib.contextmanager
def _translated(call: str) -> Iterator[None]:
    """Turn boto3's errors into those of a scheduler."""
    try:
        from botocore import exceptions as boto
    except ImportError as error:
        raise SchedulerMissingError(
            f"boto3, by which AWS Batch is called, is not installed ({error}): pip install 'blockwise-ilastik[aws]'"
        ) from error
    try:
        yield
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoRegionError, boto.ProfileNotFound) as error:
        raise SchedulerMissingError(
            f"AWS cannot be called: {str(error).rstrip('.')}. Set a region (AWS_DEFAULT_REGION), and give this "
            "machine a role or credentials, as for the `aws` command"
        ) from error
    except boto.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _THROTTLED or status == 429 or status >= 500:
            raise SchedulerUnavailableError(f"{call}: {error}") from error
        raise SubmissionRefusedError(f"{call}: {error}") from error
    except boto.ParamValidationError as error:
        raise SubmissionRefusedError(f"{call}: {error}") from error
    except boto.BotoCoreError as error:
        raise SchedulerUnavailableError(f"{call}: {error}") from error
