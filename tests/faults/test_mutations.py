"""Damaged and hostile files give a message, never a traceback, a crash, a hang, or a full memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.faults.mutations import LIMIT_S, READERS
from tests.runs import ROOT

INPUTS = 10_000
"""Of each reader, in the soak."""
AT_ONCE = 500
DIED = "the process has ended with"


def looked_at(readers: Sequence[str], first: int, count: int) -> tuple[Counter[str], list[str], int]:
    """What came of inputs of readers; what is wrong; the seed of the last one that was looked at."""
    options = [*readers, "--first", str(first), "--count", str(count)]
    command = [sys.executable, "-m", "tests.faults.mutations", *options]
    ended = ""
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S * 60)
        output = run.stdout
        ended = f"{DIED} {run.returncode}: {run.stderr[-2000:]}" if run.returncode else ""
    except subprocess.TimeoutExpired as error:
        output, ended = (error.stdout or b"").decode(), "does not come to an end"
    outcomes: Counter[str] = Counter()
    faults, reader, seed = [], readers[0], first
    for line in output.splitlines():
        value = json.loads(line)
        reader, seed = value.get("reader", reader), value.get("seed", seed)
        if "outcome" in value:
            outcomes[value["outcome"]] += 1
            if value["outcome"] == "fault":
                faults.append(f"{reader}, seed {seed}: {value['text']}")
    if ended:
        faults.append(f"{reader}, seed {seed}: {ended}")
    return outcomes, faults, seed


def test_a_few_inputs_of_every_reader() -> None:
    outcomes, faults, _ = looked_at(list(READERS), 0, 20)
    assert not faults, "\n".join(faults)
    assert outcomes.total() == 20 * len(READERS)
    assert min(outcomes["read"], outcomes["refused"]) > 100


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_many_inputs(reader: str) -> None:
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    seed = 0
    while seed < INPUTS and len(faults) < 20:
        found, wrong, last = looked_at([reader], seed, min(AT_ONCE, INPUTS - seed))
        if any(DIED in fault for fault in wrong):
            # Seldom, and of no input in particular, TensorStore's threads bring a process down.
            again, wrong_again, _ = looked_at([reader], last, 1)
            if not wrong_again:
                wrong = [fault for fault in wrong if DIED not in fault]
                found += again + Counter({"died, but not again": 1})
        outcomes += found
        faults += wrong
        seed = last + 1
    print(f"{reader}: {outcomes.total()} inputs: {dict(outcomes)}")
    assert not faults, "\n".join(faults)
