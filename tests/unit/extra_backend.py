"""``python -m tests.unit.extra_backend``: the pipeline's command line, or a run, with one more kind of backend."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from blockwise.backends import Backend, Outcome, Referee
from blockwise.backends.kind import Kind, Setup
from blockwise.backends.registry import BACKENDS
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.worker import Worker

LEFT = "left"
"""Folder, in that of a step, of what is taken for work that outlives its driver."""


class HereOptions(BaseModel):
    memory_gb: float = 1.0


class HereBackend:
    """Computes blocks in this process."""

    def __init__(self, others: Sequence[Backend]) -> None:
        self.others = others

    def take_over(self, step: BlockStep) -> None:
        for other in self.others:
            other.clear(step)

    def clear(self, step: BlockStep) -> None:
        for path in (step.folder.parent / LEFT).glob("*"):
            print(f"ended {step.label} {path.name}")
            path.rmdir()

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        worker = Worker(step, "no log")
        for item in items:
            referee.judge(worker.run(item, 1), 1)
        print(f"here {step.label} {len(items)}")


class HereKind(Kind[HereOptions]):
    title: ClassVar[str] = "HERE"
    options = HereOptions
    ledger: ClassVar[str] = LEFT

    def make(self, setup: Setup[HereOptions], others: Sequence[Backend]) -> HereBackend:
        return HereBackend(others)

    def memory_limit(self, setup: Setup[HereOptions]) -> tuple[float, str]:
        memory_gb = setup.options.memory_gb
        return memory_gb * 1e9, f"{setup.names.option}memory_gb allows {memory_gb:.2f} GB"

    def describe_jobs(self, steps: Mapping[str, BlockStep]) -> list[str]:
        folders = {name: Path(step.work_dir, step.label, LEFT) for name, step in steps.items()}
        return [f"{name}: {path.name}" for name, folder in folders.items() for path in folder.glob("*")]


def main(arguments: list[str]) -> int:
    BACKENDS["here"] = HereKind()  # type: ignore[index]
    import luigi

    from pipeline import PredictionWorkflow  # the configuration's model is made of the registry when it is loaded
    from pipeline.__main__ import main as command

    if arguments[0] == "run":
        workflow = PredictionWorkflow(config="config.yaml", quiet=True)
        return int(not luigi.build([workflow], local_scheduler=True, log_level="WARNING"))
    if arguments[0] == "plan-each":
        print(json.dumps([_plan(command, config) for config in arguments[1:]]))
        return 0
    return command(arguments)


def _plan(command: Callable[[list[str]], int], config: str) -> tuple[int, str]:
    """Exit code of a plan, and what it complains of."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return command(["plan", "--config", config]), said.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
