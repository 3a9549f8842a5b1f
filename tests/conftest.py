"""What all tests share: fixtures that make real runs and real servers, and examples that no clock cuts short."""

import gc
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.aws_batch.fixtures import _stand_in, aws_batch
from tests.batches import batch_folder
from tests.dask.cluster import dask_address, dask_in_jobs
from tests.examples import examples
from tests.luigid import luigid
from tests.runs import expected, finished, project, unused
from tests.slurm.cluster import cluster
from tests.stacks import finished_stack, stack, unused_stack
from tests.told import lines, tell

__all__ = [
    "_stand_in",
    "aws_batch",
    "batch_folder",
    "cluster",
    "dask_address",
    "dask_in_jobs",
    "expected",
    "finished",
    "finished_stack",
    "luigid",
    "project",
    "stack",
    "tell",
    "unused",
    "unused_stack",
]

SLURM = Path(__file__).with_name("slurm")

# Where this is set, each of the many hundred processes that tests start would compile all of the sources for itself:
# a second of CPU, of three that a whole run takes.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

IN_MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes of memory; the folders of tests that pass go at once, and never hold so much."""

# Files of the tests are many, small, and soon gone: where there is room they lie in memory, but for the long tests.
if (
    "MANY_EXAMPLES" not in os.environ
    and os.access(IN_MEMORY, os.W_OK)
    and min(shutil.disk_usage(IN_MEMORY).free, psutil.virtual_memory().available / 2) > ROOM
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))

settings.register_profile(
    "no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=examples(100)
)
settings.load_profile("no clock")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was counted."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    if counted := lines(report for report in reports if report.when == "call"):
        terminalreporter.section("counted")
        for line in counted:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what tries random examples, so that `make soak` tries all of them, and what talks to SLURM."""
    gc.freeze()  # the many thousand objects that collection has made stay to the end
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("examples")
        values = getattr(getattr(item, "callspec", None), "params", {}).values()
        if (
            SLURM in item.path.parents
            or "cluster" in getattr(item, "fixturenames", ())
            or "slurm" in map(str, values)
        ):
            item.add_marker("slurm")
