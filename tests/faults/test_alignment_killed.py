"""An alignment whose driver is killed in the middle of one step after the other: the bytes of one that was not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disturbed import DEFECTS, DisturbedStack, assert_same_files, delivered, hanging
from tests.processes import processes_in, wait_for
from tests.stacks import EXAMPLE, Stack

DEADLINE_S = 120


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, the current one; no process is left in it."""
    found = tmp_path / "disturbed"
    found.mkdir()
    monkeypatch.chdir(found)
    yield found
    for process in processes_in(found):
        process.kill()


def killed_and_finished(stack: DisturbedStack, kills: list[tuple[str, int, int]]) -> None:
    """Kill the driver in steps, each when so many blocks are done and one hangs; the last run goes to the end."""
    for name, block, least in kills:
        stack.project.change("backend.faults", hanging(name, block))
        stack.kill_in(name, least)
        wait_for(lambda: not processes_in(stack.project.folder), DEADLINE_S)
    stack.project.change("backend.faults", {})
    stack.finish()


@pytest.mark.soak
def test_a_small_stack_killed_while_it_is_put_in_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = {"slices": "slices/*.png", "slab": 4, "model": "translation", "neighbours": 2}
    stack = DisturbedStack(folder, sorted(EXAMPLE.glob("*.png"))[:8], {"name": "local", "workers": 1}, wish)
    killed_and_finished(stack, [("aligned", 1, 1)])
    calm = folder.parent / "calm"
    (calm / "slices").mkdir(parents=True)
    for path in (folder / "slices").iterdir():
        (calm / "slices" / path.name).symlink_to(path)
    monkeypatch.chdir(calm)
    Stack(calm, **wish).run()
    assert_same_files(delivered(folder, page=False), delivered(calm, page=False))


@pytest.mark.soak
def test_a_stack_with_defects_killed_in_each_later_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = {"slices": "slices/*.png", "slab": 4, "model": "rigid"}
    files = sorted((DEFECTS if DEFECTS.is_dir() else EXAMPLE).glob("*.png"))
    stack = DisturbedStack(folder, files, {"name": "local", "workers": 2}, wish)
    kills = [("slice_pairs", 20, 20), ("alignment", 0, 0), ("alignment_report", 0, 0), ("aligned", 5, 4)]
    killed_and_finished(stack, kills)
    calm = folder.parent / "calm"
    calm.mkdir()
    monkeypatch.chdir(calm)
    undisturbed = DisturbedStack(calm, files, {"name": "local", "workers": 1}, wish)
    undisturbed.finish()
    found = delivered(folder)
    assert_same_files(found, delivered(calm))
    print(f"{len(stack.kept)} blocks were done when drivers were killed; {len(found)} files are the same")
