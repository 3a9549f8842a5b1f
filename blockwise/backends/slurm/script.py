"""What a job asks of the cluster, and the batch script that says so."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from blockwise.backends.base import THREAD_VARIABLES, python_path
from blockwise.faults import VARIABLE, Faults
from blockwise.step import BlockStep

MEMORY_SLACK = 1.25
"""Memory asked for, as a multiple of the projected one: a job that exceeds it is killed."""

LEAST_MEMORY_MB = 512
"""Less is not worth asking for: libraries alone need most of it."""


class SlurmOptions(BaseModel):
    """How jobs are submitted. See ``configs/reference.yaml`` for the meaning of every key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    time_min: PositiveInt = 60
    memory_gb: PositiveFloat | None = None
    cpus: PositiveInt = 1
    job_minutes: PositiveFloat = 10
    blocks_per_job: PositiveInt | None = None
    max_running: PositiveInt = 100
    max_submitted: PositiveInt = 1000
    setup: str = ""
    sbatch: tuple[str, ...] = ()
    python: str | None = None
    poll_s: PositiveFloat = 10
    grace_s: Annotated[float, Field(ge=0)] = 30
    view_jobs: PositiveInt = 4


@dataclass(frozen=True)
class Needs:
    """What one task of an array asks for.

    Attributes:
        memory_mb: in units of 2^20 bytes, as SLURM counts.
        time_min: time limit.
        raised: it has been given more memory already.
    """

    memory_mb: int
    time_min: int
    raised: bool = False

    def with_more_memory(self) -> Needs:
        """Twice the memory."""
        return replace(self, memory_mb=2 * self.memory_mb, raised=True)

    def with_more_time(self) -> Needs:
        """Twice the time."""
        return replace(self, time_min=2 * self.time_min)

    @property
    def memory(self) -> str:
        """For people."""
        return f"{self.memory_mb / 1024:.2f} GiB"


def first_needs(step: BlockStep, options: SlurmOptions) -> Needs:
    """What a step's jobs ask for at first: as set, else what the step projects and some slack."""
    if options.memory_gb:
        return Needs(math.ceil(options.memory_gb * 1e9 / 2**20), options.time_min)
    projected = math.ceil(step.projected_memory() * MEMORY_SLACK / 2**20)
    return Needs(max(LEAST_MEMORY_MB, projected), options.time_min)


@dataclass(frozen=True)
class ArrayPlaces:
    """Paths of one array, all of them absolute.

    Attributes:
        folder: with the orders.
        script: the batch script.
        logs: folder of the logs, which must exist before the array is submitted.
    """

    folder: Path
    script: Path
    logs: Path

    def log(self, job: int, task: int) -> Path:
        """Log of one task."""
        return self.logs / f"{job}_{task}.log"


def batch_script(
    options: SlurmOptions,
    needs: Needs,
    places: ArrayPlaces,
    tasks: int,
    throttle: int,
    exclude: Sequence[str],
    faults: Faults | None = None,
) -> str:
    """Write the script of an array of tasks ``0 .. tasks - 1``.

    It ends in ``exec``, so that signals reach the program itself. ``--no-requeue``: after a node's failure the driver
    decides where blocks go; SLURM would start the same list again, perhaps beside a first copy that still runs.
    """
    wanted = {
        "job-name": places.folder.name,
        "array": f"0-{tasks - 1}%{throttle}",
        "output": f"{str(places.logs).replace('%', '%%')}/%A_%a.log",
    }
    lines = _head(options, needs, wanted, exclude, faults)
    program = [*_python(options), "blockwise.job", str(places.folder)]
    log = f'{shlex.quote(str(places.logs))}/"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}.log"'
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
