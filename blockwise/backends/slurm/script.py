"""What a job asks of the cluster, and the batch script that says so."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import PositiveInt

from blockwise.backends.base import THREAD_VARIABLES, python_path
from blockwise.backends.jobs.needs import JobOptions, Needs
from blockwise.backends.jobs.scheduler import Submission
from blockwise.faults import VARIABLE, Faults


class SlurmOptions(JobOptions):
    """How jobs are submitted. See ``configs/reference.yaml`` for the meaning of every key."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    max_submitted: PositiveInt = 1000
    setup: str = ""
    sbatch: tuple[str, ...] = ()
    view_jobs: PositiveInt = 4

    @property
    def most_submitted(self) -> int:
        """As set: SLURM sees to it that no more than ``max_running`` of them run."""
        return self.max_submitted


def batch_script(options: SlurmOptions, submission: Submission, faults: Faults | None = None) -> str:
    """Write the script of an array.

    It ends in ``exec``, so that signals reach the program itself. ``--no-requeue``: after a node's failure the driver
    decides where blocks go; SLURM would start the same list again, perhaps beside a first copy that still runs.
    """
    logs = str(submission.logs)
    wanted = {
        "job-name": submission.name,
        "array": f"0-{submission.tasks - 1}%{submission.throttle}",
        "output": f"{logs.replace('%', '%%')}/%A_%a.log",
    }
    lines = _head(options, submission.needs, wanted, submission.excluded, faults)
    program = [*_python(options), "blockwise.job", submission.work]
    log = f'{shlex.quote(logs)}/"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}.log"'
    lines += [f'exec {shlex.join(program)} --task "$SLURM_ARRAY_TASK_ID" --log {log}']
    return "\n".join(lines) + "\n"


def staying_script(
    options: SlurmOptions,
    needs: Needs,
    name: str,
    log: str,
    variables: Mapping[str, str],
    faults: Faults | None = None,
) -> str:
    """Write the script of a job with one worker that stays.

    Args:
        options: see ``SlurmOptions``.
        needs: what it asks for.
        name: of the job.
        log: path, with SLURM's own signs, such as ``%j`` for its id.
        variables: of its environment.
        faults: what is to go wrong, for tests and trials.
    """
    lines = _head(options, needs, {"job-name": name, "output": log}, (), faults)
    lines += [f"export {variable}={shlex.quote(value)}" for variable, value in variables.items()]
    lines += [f"exec {shlex.join([*_python(options), 'blockwise.backends.staying.called_worker'])}"]
    return "\n".join(lines) + "\n"


def _python(options: SlurmOptions) -> list[str]:
    # -P: a tasks.py in the folder that the user submits from is not ours.
    return [options.python or sys.executable, "-P", "-m"]


def _head(
    options: SlurmOptions, needs: Needs, wanted: Mapping[str, str], exclude: Sequence[str], faults: Faults | None
) -> list[str]:
    """What a script asks for, and what stands before its program."""
    asked = {
        **wanted,
        "open-mode": "append",
        "chdir": str(Path.cwd()),
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": options.cpus,
        "mem": f"{needs.memory_mb}M",
        "time": needs.time_min,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "nodelist": options.nodelist,
        "exclude": ",".join(filter(None, (options.exclude, *exclude))) or None,
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{key}={shlex.quote(str(value))}" for key, value in asked.items() if value is not None]
    lines += ["#SBATCH --no-requeue", *(f"#SBATCH {line.removeprefix('#SBATCH').strip()}" for line in options.sbatch)]
    lines += [f"export {name}=1" for name in THREAD_VARIABLES]
    lines += [f"export PYTHONPATH={shlex.quote(python_path())}"]
    if faults:
        lines += [f"export {VARIABLE}={shlex.quote(faults.model_dump_json())}"]
    if options.setup.strip():
        lines += ["set -e  # a setup that fails ends the job at once, with its message in the log"]
        lines += [options.setup.rstrip()]
    return lines
