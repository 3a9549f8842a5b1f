"""What luigid is told of a step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from blockwise.backends import Outcome
from tasks.nodes.progress import showing_progress
from tests.unit.odd_step import odd_step


@pytest.mark.parametrize(("done", "shown"), [(0, 0), (121, 23), (511, 99), (512, 100)])
def test_the_percentage_is_whole_and_100_only_at_the_end(done: int, shown: int, tmp_path: Path) -> None:
    told: list[int] = []
    teller = SimpleNamespace(
        set_tracking_url=lambda url: None,
        set_status_message=lambda text: None,
        set_progress_percentage=told.append,
    )
    with showing_progress(odd_step(tmp_path, 1), teller, show=False) as report:
        report(Outcome(total=512, computed=done))
    assert told[-1] == shown
    assert isinstance(told[-1], int)
