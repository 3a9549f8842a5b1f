"""Stacks of tissue whose slices were moved by known transforms, where they are at hand: goals of an alignment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.alignment import CASES, GOALS, load_scorer, ours, read_case

STACKS = [("a_translation", "rigid"), ("a_translation", "translation"), ("b_rigid", "rigid"), ("c_affine", "affine"),
          ("d_defects", "rigid"), ("e_sizes", "rigid"), ("f_jump", "rigid"), ("g_none", "rigid")]  # fmt: skip


@pytest.mark.soak
@pytest.mark.skipif(not CASES.is_dir(), reason="the stacks with known transforms are not at hand")
@pytest.mark.parametrize(("name", "model"), STACKS)
def test_goals_are_reached(name: str, model: str) -> None:
    truth = json.loads(Path(CASES, f"{name}.truth.json").read_text())
    matrices, flagged = ours(read_case(CASES / name), model)
    score = load_scorer(CASES).score({"transforms": matrices, "flagged": flagged}, truth)
    assert {key: score[key] for key, limits in GOALS.items() if score[key] > limits.get(name[0], limits[""])} == {}
    assert (score["blank_found"], score["false_flags"], score["lost"]) == (score["blank_total"], [], [])
