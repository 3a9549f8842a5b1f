"""A disk that is full, or read only: a message, a state that holds, and a next run that goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runs import Project, assert_same, run_luigi

Disk = Callable[[str], None]


@pytest.fixture
def disk(unused: Project) -> Iterator[Disk]:
    """Mounts a small file system at ``disk``; called again, it changes the options."""
    folder = Path("disk").resolve()
    folder.mkdir()

    def mount(options: str) -> None:
        again = "remount," if folder.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


def check_failed_and_goes_on(project: Project, disk: Disk, expected: Any, fragments: list[str]) -> None:
    code, text = run_luigi(project)
    assert code in (30, 40), text
    assert "Traceback" not in text
    message = " ".join(text.split())
    assert [fragment for fragment in fragments if fragment not in message] == [], text
    finished = {name: set(project.step(name).markers.scan()) for name in ("prediction", "threshold")}
    disk("size=50m,rw")
    run = project.run()
    assert run.ok, run.text
    for name, blocks in finished.items():
        assert not blocks & set(run.computed.get(name, []))
    if not Path("result.n5").exists():
        Path("result.n5").symlink_to("disk/result.n5")
    if not Path("work").exists():
        Path("work").symlink_to("disk/work")
    assert_same(project.results(), expected)


def test_output_on_a_full_disk(unused: Project, disk: Disk, expected: Any) -> None:
    disk("size=240k")
    unused.change("output", "disk/result.n5")
    fragments = ["prediction: ", "blocks failed", "stopped: disk/result.n5/probabilities/", "MB free on this disk"]
    check_failed_and_goes_on(unused, disk, expected, fragments)


@pytest.mark.parametrize(
    "size", ["8k", *(pytest.param(size, marks=pytest.mark.soak) for size in ("40k", "100k", "140k"))]
)
def test_work_folder_on_a_full_disk(unused: Project, disk: Disk, expected: Any, size: str) -> None:
    disk(f"size={size}")
    unused.change("work_dir", "disk/work")
    check_failed_and_goes_on(unused, disk, expected, ["disk/work", "No space left on device"])


@pytest.mark.soak
def test_output_in_a_read_only_folder(unused: Project, disk: Disk, expected: Any) -> None:
    disk("size=50m,ro")
    unused.change("output", "disk/result.n5")
    check_failed_and_goes_on(unused, disk, expected, ["disk/result.n5", "Read-only file system"])


def test_read_only_work_folder(unused: Project, disk: Disk, expected: Any) -> None:
    disk("size=50m,ro")
    unused.change("work_dir", "disk/work")
    check_failed_and_goes_on(
        unused, disk, expected, ["work_dir disk/work: cannot be written", "Read-only file system"]
    )
    assert not Path("result.n5").is_symlink()
