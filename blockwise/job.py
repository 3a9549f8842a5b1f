"""A job: the list of blocks that one array task of a scheduler computes, and the program that does so on a node.

Run as ``python -m blockwise.job WORK --task N``, in a container or out of one. The program needs nothing from the
process that has submitted it, and tells it nothing: what becomes of a block stands in its marker or failure record.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import msgspec

from blockwise.advice import Advice
from blockwise.errors import UserError
from blockwise.job_log import copy_output
from blockwise.logs import keep_log
from blockwise.plan import Item, present_marker
from blockwise.records import Records, in_store, open_records, read_json, write_json
from blockwise.step import BlockStep, load_step
from blockwise.transient import patiently
from blockwise.trust.ownership import recorded_id
from blockwise.watchdog import Watchdog
from blockwise.worker import START_LIMIT_S, Worker

ARRAY = "array.json"
TASKS = "tasks.jsonl"
PARTS = "tasks"
"""In a store the lines lie in several records below this prefix: each job fetches one."""
TOGETHER = 100
"""Tasks whose orders lie in one record."""

INDEX_VARIABLES = (
    "AWS_BATCH_JOB_ARRAY_INDEX",
    "JOB_COMPLETION_INDEX",  # an indexed job of Kubernetes
    "BATCH_TASK_INDEX",  # Google Cloud Batch
    "SLURM_ARRAY_TASK_ID",
)
"""Variables in which schedulers tell a task its index."""

BEGINS = "job begins: "
"""First line of a job's log; without it the program has never started."""


@dataclass(frozen=True, slots=True)
class Order:
    """A block that is to be computed, by a job or by a worker of this machine.

    Attributes:
        item: the block.
        attempt: 1 for the first.
        moves: how often it has lost its job through no fault of its own.
        alone: it may be what kills its job, so it gets one for itself.
        short_failures: attempts that trouble of the file system or a store has ended; these do not count.
        pause_s: to wait before it is tried, in seconds.
    """

    item: Item
    attempt: int = 1
    moves: int = 0
    alone: bool = False
    short_failures: int = 0
    pause_s: float = 0.0

    @property
    def counted(self) -> int:
        """Number of the attempt among those that count."""
        return self.attempt - self.short_failures

    def again(self, pause_s: float | None = None) -> Order:
        """The next attempt; with a pause where a short failure has ended this one, which then does not count."""
        short = self.short_failures + (pause_s is not None)
        return replace(self, attempt=self.attempt + 1, short_failures=short, pause_s=pause_s or 0.0)


_ORDERS = msgspec.json.Decoder(list[Order])


def write_orders(
    records: Records,
    step: BlockStep,
    lists: list[list[Order]],
    timeout_s: float | None = None,
    advice: Advice | None = None,
) -> None:
    """Write what the tasks of one array compute: the step, and one line of orders per task.

    Addresses in a step may be relative to the folder that this process is in, and a container starts in another one.

    Args:
        records: of the array.
        step: whose blocks.
        lists: orders by task.
        timeout_s: longest time for one block; None for no limit.
        advice: for blocks that fail for want of memory or time.
    """
    lines = (msgspec.json.encode(orders) + b"\n" for orders in lists)
    if in_store(records.place()):
        for number in range(-(-len(lists) // TOGETHER)):
            records.put(_part(number), b"".join(itertools.islice(lines, TOGETHER)))
    else:
        with records.writing(TASKS) as path, path.open("wb") as file:
            file.writelines(lines)
    array = {"step": step.to_json(), "fingerprint": step.fingerprint, "output": recorded_id(step)}
    limits = {"timeout_s": timeout_s, "advice": asdict(advice or Advice())}
    write_json(records, ARRAY, array | limits | {"folder": os.getcwd()})


def read_orders(records: Records) -> list[list[Order]]:
    """Read the orders of all tasks."""
    if in_store(records.place()):
        parts = sorted(records.get_many(records.keys(PARTS)))
        return [_ORDERS.decode(line) for _, content in parts for line in content.splitlines()]
    with records.file(TASKS).open("rb") as file:
        return [_ORDERS.decode(line) for line in file]


def _read_order(records: Records, task: int) -> list[Order]:
    """The orders of one task.

    Raises:
        UserError: there is no such task.
    """
    if in_store(records.place()):
        lines = (records.get(_part(task // TOGETHER)) or b"").splitlines()
        line = next(itertools.islice(lines, task % TOGETHER, None), None)
    else:
        with records.file(TASKS).open("rb") as file:
            line = next(itertools.islice(file, task, None), None)
    if line is None:
        raise UserError(f"there is no task {task} in {records.place(TASKS)}, which has a line for each, from 0 on")
    return _ORDERS.decode(line)


def _part(number: int) -> str:
    return f"{PARTS}/{number:06d}.jsonl"


def run_job(records: Records, task: int, log: str) -> None:
    """Compute a task's blocks, one after the other; a block that fails does not end the job, one that hangs does."""
    array = read_json(records, ARRAY)
    if array is None:
        print(f"nothing to do: {records.place(ARRAY)} is gone; the run that has submitted this job has ended")
        return
    orders = _read_order(records, task)
    step = load_step(array["step"])
    keep_log(step, log)  # it has begun, which its driver must know if it comes to no end
    worker = Worker(step, log, Advice(**array.get("advice", {})))
    watchdog = Watchdog(worker)
    limit_s = array.get("timeout_s")
    failed = 0
    begun = False
    for order in orders:
        block = order.item.block
        if patiently(recorded_id, step) != array["output"]:
            print(f"ends early: {step.output().address} has been replaced by a newer run")
            return
        if patiently(present_marker, step, order.item, worker.output):
            print(f"block {block}: is done already")
            continue
        if not begun:
            begun = True
            with watchdog.watching(
                block, order.attempt, limit_s and max(limit_s, START_LIMIT_S), "preparing for it "
            ):
                worker.try_to_prepare()
        with watchdog.watching(block, order.attempt, limit_s):
            result = worker.run(order.item, order.attempt)
        failed += result.state == "failed"
        print(f"block {block}: {result.state} after {result.seconds:.1f} s")
    print(f"job ends: {len(orders)} blocks, {failed} failed")


def task_index(environment: Mapping[str, str]) -> int | None:
    """Index of the task that a scheduler has started here, from 0 on; None where no variable tells it."""
    told = (environment.get(name, "") for name in INDEX_VARIABLES)
    return next((int(text) for text in told if text.isdecimal()), None)


def _name_of(place: str) -> str:
    return place.partition("?")[0].rstrip("/").rpartition("/")[2]


def main() -> None:
    """Run one job."""
    parser = argparse.ArgumentParser(prog="python -m blockwise.job", description="computes the blocks of one job")
    parser.add_argument("work", metavar="WORK", help="where the orders of its array lie")
    parser.add_argument("--task", type=int, metavar="N", help=f"by default as told by {', '.join(INDEX_VARIABLES)}")
    parser.add_argument("--log", help="where standard output goes; by default it is copied to a log of the step")
    options = parser.parse_args()
    task = task_index(os.environ) if options.task is None else options.task
    if task is None or task < 0:
        parser.error(f"which task is it, from 0 on? Give --task N, or set one of {', '.join(INDEX_VARIABLES)}")
    if os.getpid() == 1:  # of a container: nothing else ends it when it is asked to end
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    # Lines appear when they are written: a job that is killed must not take its last words with it.
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    work = options.work if "://" in options.work else os.path.abspath(options.work)
    records = open_records(work)
    name = _name_of(work)
    _enter_folder(records)
    log = options.log or _own_log(records, f"{name}_{task}.log")
    print(f"{BEGINS}{name}, task {task}, on {socket.gethostname()}, process {os.getpid()}")
    with _last_words_kept(records, log):
        run_job(records, task, log)


@contextlib.contextmanager
def _last_words_kept(records: Records, log: str) -> Iterator[None]:
    """Have the end of the log where the driver finds it, also where the body ends the job."""
    code = 0
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except Exception:
        traceback.print_exc()
        code = 1
    if in_store(records.place()):
        with contextlib.suppress(OSError, UserError):
            if (array := read_json(records, ARRAY)) is not None:
                keep_log(load_step(array["step"]), log)
    sys.exit(code)


def _enter_folder(records: Records) -> None:
    """Go where the driver is, as far as that folder is to be seen from here."""
    folder = (read_json(records, ARRAY) or {}).get("folder")
    if folder is not None:
        with contextlib.suppress(OSError):
            os.chdir(folder)


def _own_log(records: Records, name: str) -> str:
    """Keep the log of a job beside those of its step's other jobs; its path, for failure records."""
    array = read_json(records, ARRAY)
    if array is None:
        return name
    path = load_step(array["step"]).logs / name
    copy_output(path)
    return str(path)


if __name__ == "__main__":
    main()
