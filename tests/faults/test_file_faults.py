"""Whatever happens to files while a run reads and writes them: it ends with the right bytes, or says what it was."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.running.session import end_sessions
from tests.faults.file_faults import FileFaults
from tests.runs import Project, assert_same
from tests.told import Tell

RUNS = [*range(20), 29, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(20, 320) if seed != 29)]


@pytest.mark.parametrize("seed", RUNS)
def test_right_bytes_or_an_error(
    unused: Project,
    expected: Any,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tell: Tell,
) -> None:
    monkeypatch.setattr("blockwise.volume.steady.PAUSE_S", 0.0)
    faults = FileFaults(seed, chance=(0.02, 0.05, 0.15)[seed % 3])
    with monkeypatch.context() as patch:
        faults.inject(patch)
        run = unused.run()
        faults.end()
    if run.ok:
        assert_same(unused.results(), expected)
        assert main(["verify", "--config", "config.yaml"]) == 0, capsys.readouterr().out
        end_sessions()
    else:
        assert re.search(r"(raw|result)\.n5", run.text), run.text
        again = unused.run()
        assert again.ok, again.text
        assert_same(unused.results(), expected)
    kinds = {f"of_kind_{kind}": number for kind, number in faults.injected.items()}
    tell(faults=sum(faults.injected.values()), runs_with_right_bytes=run.ok, runs_with_an_error=not run.ok, **kinds)
