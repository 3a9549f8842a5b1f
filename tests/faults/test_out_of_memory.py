"""Workers that the kernel ends for want of memory, in a control group that has too little for two of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control_groups import little_memory
from tests.runs import ROOT
from tests.unit.odd_step import FILLED_BYTES, odd_step

CODE = """
import json, logging, os, sys
from pathlib import Path
Path(sys.argv[2], "cgroup.procs").write_text(str(os.getpid()))
logging.basicConfig(level=logging.INFO, format="%(message)s")
from blockwise.backends import LocalBackend
from blockwise.backends.memory import available_memory, oom_kills
from blockwise.run import run_step
from blockwise.step import load_step
outcome = run_step(load_step(sys.argv[1]), LocalBackend(2, None), 1, lambda outcome: None)
found = {"computed": outcome.computed, "failed": len(outcome.failed)}
print(json.dumps(found | {"killed": oom_kills(), "limit": available_memory().size}))
"""


@pytest.mark.soak
def test_a_run_goes_on_with_as_many_workers_as_memory_is_there_for(tmp_path: Path) -> None:
    blocks, size = 4, 4 * FILLED_BYTES
    step = odd_step(tmp_path, blocks, orders=dict.fromkeys(range(blocks), "fill in company"))
    with little_memory(size) as group:
        driver = subprocess.run(
            [sys.executable, "-c", CODE, step.to_json(), str(group)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    said = driver.stdout + driver.stderr
    assert driver.returncode == 0, said
    found = json.loads(driver.stdout)
    assert (found["computed"], found["failed"]) == (blocks, 0), said
    assert found["killed"] >= 1, "there was memory enough for both"
    assert size - 4096 <= found["limit"] <= size
    assert "going on with 1 of the workers" in said
    assert "was ended by the kernel for want of memory, of which the control group of this process" in said
    assert f"has {size / 1e9:.2f} GB" in said
    assert {marker.attempt for marker in step.markers.scan().values()} == {1}, "no block is at fault"
