"""How much memory workers may have: the least of the machine's and what control groups allow."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from blockwise.backends.memory import available_memory, oom_kills

GB = 1 << 30


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"memory.max": "max"}, 8),
        ("0::/\n", {"memory.max": 2 * GB}, 2),
        ("0::/a/b\n", {"a/memory.max": 3 * GB, "a/b/memory.max": "max"}, 3),
        ("0::/a/b\n", {"a/memory.max": 3 * GB, "a/b/memory.max": 2 * GB, "a/c/memory.max": GB}, 2),
        ("0::/../../host/of/container\n", {"memory.max": GB}, 1),
        ("0::/a\n", {"a/memory.max": 16 * GB}, 8),
        ("5:cpu:/a\n4:memory:/a/b\n0::/\n", {"memory/a/b/memory.limit_in_bytes": GB}, 1),
        ("4:cpu,memory:/docker/x\n", {"memory/memory.limit_in_bytes": 2 * GB}, 2),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": 2**63 - 4096}, 8),
        ("5:cpu:/a\n", {"memory/a/memory.limit_in_bytes": GB}, 8),
        ("4:memory:/slurm/uid_1:2/job\n", {"memory/slurm/uid_1:2/memory.limit_in_bytes": GB}, 1),
    ],
)
def test_control_groups(membership: str, limits: dict[str, object], expected: int, tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": membership, **{f"sys/fs/cgroup/{k}": f"{v}\n" for k, v in limits.items()}})
    memory = available_memory(tmp_path, total=8 * GB)
    assert memory.size == expected * GB
    assert ("control group" in memory.owner) == (expected < 8)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 7\n"}, 2),
        ("0::/a/b\n", {"sys/fs/cgroup/a/memory.events": "oom_kill 5\n"}, 1),
        ("4:memory:/a\n", {"sys/fs/cgroup/memory/a/memory.oom_control": "under_oom 0\noom_kill 4\n"}, 4),
        ("4:memory:/a\n", {"sys/fs/cgroup/memory/a/memory.oom_control": "under_oom 0\n"}, 1),
        ("0::/\n", {}, 1),
    ],
    ids=["version 2", "another group", "version 1", "an old kernel", "no group"],
)
def test_processes_that_the_kernel_has_ended(
    membership: str, files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    write(tmp_path, {"proc/self/cgroup": membership, "proc/vmstat": "pgfault 9\noom_kill 1\n", **files})
    assert oom_kills(tmp_path) == expected


def test_this_machine() -> None:
    assert 0 < available_memory().size <= psutil.virtual_memory().total


def test_no_linux(tmp_path: Path) -> None:
    assert available_memory(tmp_path, total=GB).owner == "this machine"
    assert oom_kills(tmp_path) == 0
