"""What a job asks of AWS Batch."""

from __future__ import annotations

import re
from typing import Any

from blockwise.backends.aws_batch.options import AwsBatchOptions
from blockwise.backends.base import THREAD_VARIABLES
from blockwise.backends.jobs.scheduler import Submission
from blockwise.faults import VARIABLE, Faults

LONGEST_NAME = 128

PYTHON = "python3"


def job_request(options: AwsBatchOptions, submission: Submission, faults: Faults | None = None) -> dict[str, Any]:
    """Arguments of SubmitJob.

    An array has 2 children at least, so that a single task is an ordinary job. AWS is to try nothing again: the
    driver decides where blocks go, as it knows which of them are done.
    """
    environment = dict.fromkeys(THREAD_VARIABLES, "1")
    if faults:
        environment[VARIABLE] = faults.model_dump_json()
    # -P: a tasks.py in the container's folder is not ours.
    command = [options.python or PYTHON, "-P", "-m", "blockwise.job", submission.work]
    request: dict[str, Any] = {
        "jobName": job_name(submission.name),
        "jobQueue": options.queue,
        "jobDefinition": options.job_definition,
        "containerOverrides": {
            "command": command if submission.tasks > 1 else [*command, "--task", "0"],
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
            "resourceRequirements": [
                {"type": "MEMORY", "value": str(submission.needs.memory_mb)},
                {"type": "VCPU", "value": str(options.cpus)},
            ],
        },
        "retryStrategy": {"attempts": 1},
        "timeout": {"attemptDurationSeconds": 60 * submission.needs.time_min},
    }
    if submission.tasks > 1:
        request["arrayProperties"] = {"size": submission.tasks}
    if options.share_identifier is not None:
        request["shareIdentifier"] = options.share_identifier
    return request


def job_name(name: str) -> str:
    """A name as AWS takes it: letters, digits, hyphens and underscores; what makes it unique stands at its end."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[-LONGEST_NAME:].lstrip("-_")
