"""The batch script."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from blockwise.backends.jobs.needs import Needs
from blockwise.backends.jobs.scheduler import Submission
from blockwise.backends.slurm.script import SlurmOptions, batch_script

WORK, LOGS = "/scratch/a b/jobs/threshold-1", Path("/scratch/100%/logs")


def script(exclude_nodes: tuple[str, ...] = (), **options: Any) -> str:
    submission = Submission("threshold-1", WORK, LOGS, 8, Needs(1200, 45), 3, exclude_nodes)
    return batch_script(SlurmOptions(**options), submission)


def test_options_become_lines():
    text = script(
        exclude_nodes=("n7",),
        partition="main",
        account="lab",
        qos="low",
        constraint="avx2&gpu",
        nodelist="n[1-4]",
        exclude="n9",
        cpus=2,
        sbatch=("--mail-type=FAIL", "#SBATCH --gres=tmp:10G"),
    )
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in (
        "--job-name=threshold-1",
        "--array=0-7%3",
        "--output=/scratch/100%%/logs/%A_%a.log",
        "--mem=1200M",
        "--time=45",
        "--partition=main",
        "--account=lab",
        "--qos=low",
        "--constraint='avx2&gpu'",
        "--nodelist='n[1-4]'",
        "--exclude=n9,n7",
        "--cpus-per-task=2",
        "--no-requeue",
        "--mail-type=FAIL",
        "--gres=tmp:10G",
    ):
        assert f"#SBATCH {line}" in lines
    assert lines[-1].startswith("exec ")
    assert "export OMP_NUM_THREADS=1" in lines


def test_what_is_not_set_is_left_to_the_cluster():
    for key in ("partition", "account", "qos", "constraint", "nodelist", "exclude"):
        assert f"--{key}" not in script()


def test_the_setup_comes_before_the_program_and_bash_can_read_it():
    text = script(setup="module load gcc\nexport A='b c'\n", python="/opt/my python")
    assert text.index("module load gcc\nexport A='b c'\n") < text.index("exec '/opt/my python' -P -m blockwise.job")
    assert "'/scratch/a b/jobs/threshold-1'" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False, capture_output=True).returncode == 0
