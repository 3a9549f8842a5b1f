"""What people are told of SLURM: why jobs wait, and how to look at them and end them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from blockwise.advice import Names
from blockwise.backends.jobs.scheduler import Words

# {option} is what people know the options by.
_REMEDIES = {
    "PartitionTimeLimit": "{option}time_min is more than the partition allows (`sinfo -o '%P %l'`)",
    "PartitionNodeLimit": "the partition does not give what a task asks for; choose another {option}partition",
    "PartitionDown": "the partition is down; choose another {option}partition, or wait",
    "PartitionInactive": "the partition is inactive; choose another {option}partition, or wait",
    "BadConstraints": "no node fits; look at {option}constraint, nodelist, exclude and memory_gb",
    "ReqNodeNotAvail": "the nodes are down or reserved; look at `sinfo`, and at {option}nodelist and exclude",
    "InvalidAccount": "{option}account is not one of yours (`sacctmgr show associations user=$USER`)",
    "InvalidQOS": "{option}qos is not one of yours",
    "JobHeldUser": "somebody holds the jobs; release them with `scontrol release`",
    "JobHeldAdmin": "an administrator holds the jobs; ask there",
    "launch failed requeued held": "jobs could not be started and are held; ask the administrator, or scancel them",
    "AccountingPolicy": "a limit of your account is reached; jobs start when others of it have ended",
}
_PREFIXES = {
    "QOS": "a limit of the QOS is reached; jobs start when others have ended, or lower {option}max_submitted",
    "Assoc": "a limit of your account is reached; jobs start when others have ended",
}


def remedy(reason: str, names: Names) -> str:
    """What to do about a reason for which jobs are pending; empty where waiting is all there is to do."""
    known = [text for start, text in _REMEDIES.items() if reason.strip("()").startswith(start)]
    known += [text for start, text in _PREFIXES.items() if reason.startswith(start)]
    return known[0].format(option=names.option) if known else ""


class SlurmWords(Words):
    """What messages say of SLURM."""

    title: ClassVar[str] = "SLURM"
    settings: ClassVar[str] = (
        "partition, account, qos, constraint, nodelist, exclude, memory_gb, time_min, cpus and sbatch"
    )
    tools: ClassVar[str] = "SLURM's commands are"
    place: ClassVar[str] = "on the cluster"
    works: ClassVar[str] = "`squeue` works"

    def how_to_look(self, arrays: Sequence[str]) -> str:
        """As for a terminal on the cluster."""
        return f"`squeue --jobs {','.join(arrays)}`" if arrays else "`squeue --me`"

    def how_to_end(self, arrays: Sequence[str], names: Sequence[str]) -> str:
        """As for a terminal on the cluster."""
        return f"`scancel {' '.join([*arrays, *(f'--name={name}' for name in names)])}`"

    def remedy(self, reason: str, names: Names) -> str:
        """What to do about a reason for which jobs are pending."""
        return remedy(reason, names)
