"""What people are told of AWS Batch: why jobs wait, where they must do something about it, and how to end them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from blockwise.advice import Names
from blockwise.backends.jobs.scheduler import Words

NOTHING_STARTS = "nothing starts"
"""Stands for a reason where AWS gives none."""

# {option} is what people know the options by.
_REMEDIES = {
    NOTHING_STARTS: "look at the compute environment of {option}queue: is it enabled and valid, do its instances "
    "reach the network, has one of them as much memory and as many vcpus as are asked for, is maxvCpus above 0",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": "maxvCpus of the compute environment is less than one job "
    "asks for; raise it, or lower {option}cpus",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": "no instance type of the compute environment has what a job asks "
    "for; lower {option}memory_gb or cpus, use smaller blocks, or add larger instance types",
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS": "the service role of the compute environment lacks permissions",
    "MISCONFIGURATION": "the compute environment or the job definition must be mended",
    "CAPACITY": "AWS has no such instances to give at present; wait, or add instance types to the environment",
    "ACTION_REQUIRED": "the compute environment is invalid or its queue is blocked; look at it in AWS's console",
}


class AwsBatchWords(Words):
    """What messages say of AWS Batch."""

    title: ClassVar[str] = "AWS Batch"
    settings: ClassVar[str] = "queue, job_definition, share_identifier, memory_gb, time_min and cpus"
    tools: ClassVar[str] = "what calls it (boto3, a region, credentials) is"
    place: ClassVar[str] = "where these are"
    works: ClassVar[str] = "it does"

    def how_to_look(self, arrays: Sequence[str]) -> str:
        """By the ``aws`` command."""
        return f"`aws batch describe-jobs --jobs {' '.join(arrays) or 'ID …'}`"

    def how_to_end(self, arrays: Sequence[str], names: Sequence[str]) -> str:
        """By the ``aws`` command, one call for each."""
        commands = [f"`aws batch terminate-job --reason ended --job-id {array}`" for array in arrays]
        if names:
            commands.append(f"the same for whatever is called {', '.join(names)}")
        return ", ".join(commands)

    def remedy(self, reason: str, names: Names) -> str:
        """What to do about a reason for which jobs are not started."""
        known = [text for start, text in _REMEDIES.items() if reason.startswith(start)]
        return known[0].format(option=names.option) if known else ""
