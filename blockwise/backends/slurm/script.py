"""What a job asks of the cluster, and the batch script that says so."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from pydantic import PositiveInt

from blockwise.backends.base import THREAD_VARIABLES, python_path
from blockwise.backends.jobs.needs import JobOptions
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

    @property
    def most_submitted(self) -> int:
        """As set: SLURM sees to it that no more than ``max_running`` of them run."""
        return self.max_submitted


def batch_script(options: SlurmOptions, submission: Submission, faults: Faults | None = None) -> str:
    """Write the script of an array.

    It ends in ``exec``, so that signals reach the program itself. ``--no-requeue``: after a node's failure the driver
    decides where blocks go; SLURM would start the same list again, perhaps beside a first copy that still runs.
    """
    excluded = ",".join(filter(None, (options.exclude, *submission.excluded)))
    wanted = {
        "job-name": submission.name,
        "array": f"0-{submission.tasks - 1}%{submission.throttle}",
        "output": f"{str(submission.logs).replace('%', '%%')}/%A_%a.log",
        "open-mode": "append",
        "chdir": str(Path.cwd()),
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": options.cpus,
        "mem": f"{submission.needs.memory_mb}M",
        "time": submission.needs.time_min,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "nodelist": options.nodelist,
        "exclude": excluded or None,
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{key}={shlex.quote(str(value))}" for key, value in wanted.items() if value is not None]
    lines += ["#SBATCH --no-requeue", *(f"#SBATCH {line.removeprefix('#SBATCH').strip()}" for line in options.sbatch)]
    lines += [f"export {name}=1" for name in THREAD_VARIABLES]
    lines += [f"export PYTHONPATH={shlex.quote(python_path())}"]
    if faults:
        lines += [f"export {VARIABLE}={shlex.quote(faults.model_dump_json())}"]
    if options.setup.strip():
        lines += ["set -e  # a setup that fails ends the job at once, with its message in the log"]
        lines += [options.setup.rstrip()]
    # -P: a tasks.py in the folder that the user submits from is not ours.
    program = [options.python or sys.executable, "-P", "-m", "blockwise.job", submission.work]
    log = f'{shlex.quote(str(submission.logs))}/"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}.log"'
    lines += [f'exec {shlex.join(program)} --task "$SLURM_ARRAY_TASK_ID" --log {log}']
    return "\n".join(lines) + "\n"
