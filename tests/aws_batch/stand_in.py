"""A stand-in for AWS Batch: it speaks boto3's protocol on the loopback interface, and really executes jobs.

What AWS refuses it refuses too; arguments that AWS does not know are refused by boto3 itself. Faults are asked for by
its attributes.
"""

from __future__ import annotations

import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.aws_batch.machine import Container
from tests.aws_batch.protocol import Answer, serve
from tests.processes import wait_for

STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
OVER = ("SUCCEEDED", "FAILED")
PAGE = 100
EXITED = "Essential container in task exited"
LOST = "Host EC2 (instance i-0123456789abcdef0) terminated."


class RefusedError(Exception):
    """The caller is wrong."""


@dataclass
class Job:
    """An ordinary job, a child of an array, or, with children, an array."""

    id: str
    request: dict[str, Any]
    index: int | None = None
    children: list[Job] = field(default_factory=list)
    own_status: str = "RUNNABLE"
    reason: str = ""
    container_reason: str = ""
    exit_code: int | None = None
    cancelled: bool = False
    terminated: bool = False
    container: Container | None = None

    @property
    def status(self) -> str:
        states = {child.own_status for child in self.children}
        if not states:
            return self.own_status
        return "PENDING" if states - set(OVER) else "FAILED" if "FAILED" in states else "SUCCEEDED"

    def view(self) -> dict[str, Any]:
        """As DescribeJobs and ListJobs tell of it."""
        view: dict[str, Any] = {"jobId": self.id, "jobName": self.request["jobName"], "status": self.status}
        view |= {"isCancelled": self.cancelled, "isTerminated": self.terminated, "statusReason": self.reason}
        if self.exit_code is not None:
            view["container"] = {"exitCode": self.exit_code, "reason": self.container_reason}
        if self.children:
            counts = Counter(child.own_status for child in self.children)
            summary = {state: counts[state] for state in STATES}
            view["arrayProperties"] = {"size": len(self.children), "statusSummary": summary}
        elif self.index is not None:
            view["arrayProperties"] = {"index": self.index}
        return view


class StandIn:
    """A queue with one compute environment.

    Attributes:
        slots: most jobs that run at once.
        largest_mb: most memory of a job; one that asks for more is never started.
        minute_s: how long a minute of a time limit lasts.
        jobs: all that are known, by id.
        calls: how often each call was answered.
        throttled: calls that are to be answered by 429, by number.
        lost: calls that are to be carried out, and their answer lost.
        idle: which jobs succeed without being run.
        spoilt: which jobs fail although they have done all.
        stuck: why nothing is started; None where it is.
        role: variables that stand for the job's role: what gives it access to a store.
        wrapped: makes another command of that of a job and its variables, as one that runs it in an image.
    """

    def __init__(self, folder: Path, slots: int = 4) -> None:
        self.folder = folder
        self.slots = slots
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.reset()
        self.server = serve(self.answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self._loop, daemon=True).start()

    def reset(self) -> None:
        """As new: no jobs, no faults."""
        self.jobs: dict[str, Job] = {}
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.idle: Callable[[Job], bool] = lambda job: False
        self.spoilt: Callable[[Job], bool] = lambda job: False
        self.stuck: str | None = None
        self.wrapped: Callable[[list[str], Mapping[str, str]], list[str]] | None = None
        self.role: Mapping[str, str] = {}
        self.largest_mb = 16_000
        self.minute_s = 60.0

    # What tests do to it.

    def alive(self) -> list[Job]:
        """Jobs that have not ended."""
        with self.lock:
            return [job for job in self._single() if job.own_status not in OVER]

    def running(self) -> list[Job]:
        """Jobs at work."""
        with self.lock:
            return [job for job in self._single() if job.own_status == "RUNNING"]

    def lose_instance(self, job: Job) -> None:
        """The machine of a job goes away, with it."""
        with self.lock:
            assert job.container is not None
            job.container.ended_by = ("", LOST)
            job.container.kill()

    def forget(self) -> None:
        """Lose all jobs, which go on all the same, as far as anybody knows."""
        with self.lock:
            for job in self._single():
                if job.container is not None and job.own_status == "RUNNING":
                    job.container.kill()
            self.jobs.clear()

    def wait_until_quiet(self, seconds: float = 60) -> None:
        """Wait until no job is alive."""
        wait_for(lambda: not self.alive(), seconds, lambda: [job.view() for job in self.alive()])

    def end_all(self) -> None:
        """End whatever a test has left."""
        with self.lock:
            for job in self.alive():
                self._end(job, True, "the test is over")
                if job.container is not None:
                    job.container.kill()

    def close(self) -> None:
        """End it with its jobs."""
        self.end_all()
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    # What callers ask of it.

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        if (request["jobQueue"], request["jobDefinition"]) != ("main", "blocks"):
            raise RefusedError(f"no such queue or job definition: {request['jobQueue']}, {request['jobDefinition']}")
        if request["timeout"]["attemptDurationSeconds"] < 60:
            raise RefusedError("attemptDurationSeconds must be at least 60")
        size = request.get("arrayProperties", {}).get("size")
        if size is not None and not 2 <= size <= 10_000:
            raise RefusedError(f"array size must be between 2 and 10000, found {size}")
        job = Job(str(uuid.uuid4()), request)
        self.jobs[job.id] = job
        for index in range(size or 0):
            child = Job(f"{job.id}:{index}", request, index)
            job.children.append(child)
            self.jobs[child.id] = child
        return {"jobId": job.id, "jobName": request["jobName"]}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        if not 1 <= len(request["jobs"]) <= PAGE:
            raise RefusedError(f"between 1 and {PAGE} jobs may be described, found {len(request['jobs'])}")
        return {"jobs": [self.jobs[one].view() for one in request["jobs"] if one in self.jobs]}

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        if "arrayJobId" in request:
            parent = self.jobs.get(request["arrayJobId"])
            found = [job for job in parent.children if job.status == request["jobStatus"]] if parent else []
        else:
            [name] = request["filters"][0]["values"]
            found = [job for job in self.jobs.values() if ":" not in job.id and job.request["jobName"] == name]
        start = int(request.get("nextToken", 0))
        more = {"nextToken": str(start + PAGE)} if len(found) > start + PAGE else {}
        return {"jobSummaryList": [job.view() for job in found[start : start + PAGE]], **more}

    def cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._end_by_id(request, False)

    def terminate(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._end_by_id(request, True)

    def answer(self, path: str, request: dict[str, Any]) -> Answer:
        """Answer a call; see ``serve``."""
        call = path.rpartition("/")[2]
        with self.lock:
            self.calls[call] += 1
            if self.throttled[call] > 0:
                self.throttled[call] -= 1
                return 429, {"message": "Too Many Requests", "__type": "TooManyRequestsException"}
            try:
                content = {"submitjob": self.submit, "describejobs": self.describe, "listjobs": self.list,
                           "canceljob": self.cancel, "terminatejob": self.terminate}[call](request)  # fmt: skip
            except RefusedError as error:
                return 400, {"message": str(error), "__type": "ClientException"}
            if self.lost[call] > 0:
                self.lost[call] -= 1
                return None
            return 200, content

    # How it works.

    def _single(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.children]

    def _end_by_id(self, request: dict[str, Any], terminate: bool) -> dict[str, Any]:
        job = self.jobs.get(request["jobId"])
        for one in (job.children or [job]) if job else []:
            self._end(one, terminate, request["reason"])
        return {}

    def _end(self, job: Job, terminate: bool, reason: str) -> None:
        if job.own_status == "RUNNABLE":
            job.own_status, job.reason, job.cancelled = "FAILED", reason, True
        elif job.own_status == "RUNNING" and terminate and job.container is not None:
            job.terminated = True
            job.container.end("", reason, signal.SIGTERM)

    def _loop(self) -> None:
        while not self.closing.wait(0.03):
            with self.lock:
                for job in self.running():
                    self._look(job)
                free = self.slots - len(self.running())
                waiting = [job for job in self._single() if job.own_status == "RUNNABLE"]
                for job in waiting:
                    free -= self._start(job, free)

    def _look(self, job: Job) -> None:
        assert job.container is not None
        code = job.container.look()
        if code is None:
            return
        job.exit_code, job.reason = code, EXITED
        if job.container.ended_by is not None:
            job.container_reason, job.reason = job.container.ended_by
            job.exit_code = None if job.reason == LOST else code
        elif self.spoilt(job):
            job.exit_code = 1
        job.own_status = "SUCCEEDED" if job.exit_code == 0 else "FAILED"

    def _start(self, job: Job, free: int) -> int:
        """Start a job where it can be; how many slots that has taken."""
        needs = {one["type"]: one["value"] for one in job.request["containerOverrides"]["resourceRequirements"]}
        if int(needs["MEMORY"]) > self.largest_mb:
            job.reason = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - no instance is large enough"
            return 0
        job.reason = self.stuck or ""
        if free < 1 or self.stuck is not None:
            return 0
        if self.idle(job):
            job.own_status, job.exit_code, job.reason = "SUCCEEDED", 0, EXITED
            return 0
        variables = {"AWS_BATCH_JOB_ID": job.id, "AWS_BATCH_JOB_ATTEMPT": "1", "AWS_BATCH_JQ_NAME": "main"}
        if job.index is not None:
            variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.index)
        limit_s = job.request["timeout"]["attemptDurationSeconds"] / 60 * self.minute_s
        job.container = Container(
            job.request, variables, self.folder / f"{job.id}.log", limit_s, self.role, self.wrapped
        )
        job.own_status, job.reason = "RUNNING", ""
        return 1
