"""Damaged and hostile files give a message, never a traceback, a crash, a hang, or a full memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.samples import READERS
from tests.runs import ROOT
from tests.told import Tell

FEW, INPUTS = 8, 10_000
"""Inputs of each reader; so many in the soak."""


def looked_at(readers: Sequence[str], count: int, kept: Path) -> tuple[Counter[str], list[str]]:
    """What came of the first inputs of readers; what is wrong, and where its input is kept."""
    options = [*readers, "--count", str(count), "--keep", str(kept)]
    command = [sys.executable, "-m", "tests.faults.mutations", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    wrong = [f"{line['reader']}, seed {line['seed']}: {line['text']}" for line in lines if line["text"]]
    return Counter(line["outcome"] for line in lines), wrong


def test_a_few_inputs_of_every_reader(tmp_path: Path, tell: Tell) -> None:
    outcomes, wrong = looked_at(list(READERS), FEW, tmp_path)
    tell(inputs=outcomes.total(), **outcomes)
    assert not wrong, "\n".join(wrong)
    assert outcomes.total() == FEW * len(READERS)
    assert min(outcomes["read"], outcomes["refused"]) > 40


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_many_inputs(reader: str, tmp_path: Path, tell: Tell) -> None:
    outcomes, wrong = looked_at([reader], INPUTS, tmp_path)
    tell(inputs=outcomes.total(), **outcomes)
    assert not wrong, "\n".join(wrong[:20])
    assert outcomes.total() == INPUTS
