"""What tests have counted, summed up."""

from __future__ import annotations

import pytest

from tests.told import COUNTED, Tell, lines


def report(test: str, *counted: dict[str, int]) -> pytest.TestReport:
    properties = [("other", 7), *((COUNTED, numbers) for numbers in counted)]
    return pytest.TestReport(f"a.py::{test}", ("a.py", 1, ""), {}, "passed", None, "call", user_properties=properties)


def test_parameters_of_a_test_are_summed_up() -> None:
    reports = [
        report("test_b[1-x::y]", {"faults": 2_000, "right_bytes": 1}),
        report("test_b[2]", {"faults": 5}),
        report("test_a", {"inputs": 3}),
        report("test_c"),
    ]
    assert lines(reports) == ["test_a: 1 times, 3 inputs", "test_b: 2 times, 2,005 faults, 1 right bytes"]


def test_what_is_told_comes_with_the_report(tell: Tell, request: pytest.FixtureRequest) -> None:
    tell(faults=2)
    assert request.node.user_properties == [(COUNTED, {"faults": 2})]
    request.node.user_properties.clear()  # it is no count of the suite
