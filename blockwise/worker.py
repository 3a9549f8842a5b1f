"""Computes blocks of one step, one after the other: the same code on a workstation and on a cluster node.

Run as ``python -m blockwise.worker``, it takes a step and then blocks from standard input, a line of JSON each, and
answers each block with a line of JSON. Told to rest, it lets go of the step and waits a while for the next one. When
standard input ends, the process that gave the work is gone, and the worker ends at once, even within a block: half a
block's data without a marker harms nobody.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from blockwise.advice import Advice
from blockwise.claims import StepLock, claims_of, waited_for
from blockwise.errors import UserError
from blockwise.faults import Faults
from blockwise.grid import box_size
from blockwise.logs import LARGEST_LOG, put_aside
from blockwise.not_finite import NotFinite, without_note
from blockwise.plan import Item, present_marker
from blockwise.records.markers import Failure, Marker
from blockwise.step import BlockStep, load_step
from blockwise.transient import is_transient
from blockwise.trust.input_check import InputCheck
from blockwise.trust.ownership import Ownership
from blockwise.usage import Stopwatch, forget_peak_memory, peak_memory
from blockwise.volume import DamagedDataError
from blockwise.volume.steady import noting_files

START_LIMIT_S = 300.0
"""A worker that is not ready after this time (imports, loading a project, compiling) is given up."""

REST_LIMIT_S = 30.0
"""A worker that rests ends after this time: a step that has no use for it may need its memory."""


@dataclass(frozen=True)
class Result:
    """What became of one attempt at a block.

    Attributes:
        block: its id.
        state: ``computed``, ``unchanged`` (its data was checked and is good), ``found`` (another process has computed
            it meanwhile) or ``failed``.
        voxels: size of its write box.
        seconds: wall time.
        error: name of the exception.
        message: what it says.
        final: another attempt cannot help.
        upstream: name of the step whose damaged blocks are to be computed again first.
        transient: the file system or a store had trouble for a short time; see ``blockwise.transient``.
    """

    block: int
    state: str
    voxels: int
    seconds: float
    error: str = ""
    message: str = ""
    final: bool = False
    upstream: str = ""
    transient: bool = False


class OutOfMemoryError(Exception):
    """A block needs more memory than its worker can get."""


class Worker:
    """Computes blocks of one step and keeps what they share.

    Attributes:
        advice: for blocks that fail for want of memory or time.
        settled: the last block that has got a result, on disk.
        settling: held while a result is written, so that another thread can tell for sure whether there is one.
        on_turn: called when a block begins that had to wait for another process: what it waits is not its own time.
    """

    def __init__(self, step: BlockStep, log: str, advice: Advice | None = None) -> None:
        self.step = step
        self.advice = advice or Advice()
        self.output = step.output()
        self.input_check = InputCheck(step)
        self.ownership = Ownership(step)
        self.log = log
        self.faults = Faults.from_environment()
        self.prepared: Any = None
        self.is_prepared = False
        self.settled: int | None = None
        self.settling = threading.RLock()
        self.on_turn: Callable[[], None] = lambda: None
        self._lock = StepLock(step)
        self._claims = claims_of(step)

    def run(self, item: Item, attempt: int) -> Result:
        """Compute one block, or find that this is done; never raises an Exception.

        Another process may compute the block at this moment: then this one waits for it, and finds the block done.
        """
        with self.claimed(item.block):
            return self._run(item, attempt)

    @contextlib.contextmanager
    def claimed(self, block: int) -> Iterator[None]:
        """While the body runs the block is nobody else's, and the output stays what it is."""
        what = f"computes block {block} of {self.step.label}"
        with self._lock.computing() as has_waited:
            claim, was_taken = waited_for(lambda: self._claims.take(block), what, tell=_log)
            with claim:
                if has_waited or was_taken:
                    self.on_turn()
                yield

    def _run(self, item: Item, attempt: int) -> Result:
        start = Stopwatch()
        block = self.step.grid.block(item.block)
        voxels = box_size(block.write_box)
        try:
            if present_marker(self.step, item, self.output) is not None:
                state = "unchanged" if item.check else "found"
                self._settle(item.block)
            elif item.check and self._is_good(item):
                state = "unchanged"
            else:
                state = "computed"
                self._compute(item, attempt, start)
            return Result(item.block, state, voxels, start.seconds)
        except Exception as caught:
            error = self._explained(caught)
            upstream = self._forget_damaged(error)
            transient = is_transient(error)
            final = bool(upstream) or (isinstance(error, UserError) and not transient)
            self.record(item.block, attempt, error, final, upstream)
            name = type(error).__name__
            return Result(item.block, "failed", voxels, start.seconds, name, str(error), final, upstream, transient)

    def prepare(self) -> None:
        """Load what all blocks share; done once."""
        if not self.is_prepared:
            self.prepared = self.step.prepare()
            self.is_prepared = True

    def try_to_prepare(self) -> None:
        """Load what all blocks share; an error is met again, and recorded, with the first block."""
        try:
            self.prepare()
        except Exception:
            _log(traceback.format_exc())

    def record(self, block: int, attempt: int, error: Exception, final: bool = False, upstream: str = "") -> bool:
        """Write the failure record of an attempt; whether it lies there."""
        text = "".join(traceback.format_exception(error))
        _log(f"block {block}, attempt {attempt}: {text}")
        failure = Failure(
            block=block,
            fingerprint=self.step.fingerprint,
            error=type(error).__name__,
            message=_encodable(str(error)),
            traceback=_encodable(text),
            log=self.log,
            attempt=attempt,
            host=socket.gethostname(),
            final=final,
            upstream=upstream,
            transient=is_transient(error),
        )
        with self.settling:
            try:
                self.step.markers.write_failure(failure)
            except (OSError, UserError) as full:  # the disk that has failed the block may fail its record as well
                _log(f"block {block}: no failure record: {full}")
                return False
            self.settled = block
        return True

    def _compute(self, item: Item, attempt: int, start: Stopwatch) -> None:
        block = self.step.grid.block(item.block)
        self.prepare()
        self.faults.before(self.step.name, block, attempt)
        with noting_files() as seen:
            try:
                data, not_finite = without_note(self.step.compute(block, self.prepared))
            finally:
                # Also where it failed: input that was not what it should be is the cause, and is told in its place.
                stamps = self.input_check.stamps_of(item.stamps, self.step.reads(block), seen)
        self.ownership.check()  # nothing is written into what another run has put there
        # From here on the old data is overwritten: neither a marker nor the target must vouch for a mixture.
        self.step.forget_target()
        self.step.markers.remove(item.block)
        checksum = self.output.write(block, data)
        self.faults.after(self.step.name, self.output, block, data, attempt)
        self.ownership.check()
        self._mark(replace(item, stamps=stamps), checksum, attempt, start, not_finite)

    def _is_good(self, item: Item) -> bool:
        marker = self.step.markers.read(item.block)
        if marker is None:
            return False
        start = Stopwatch()
        try:
            checksum = self.output.checksum(self.step.grid.block(item.block))
        except (DamagedDataError, FileNotFoundError):
            return False
        if checksum == marker.checksum:
            self._mark(item, checksum, marker.attempt, start, marker.not_finite)
        return checksum == marker.checksum

    def _mark(self, item: Item, checksum: str, attempt: int, start: Stopwatch, not_finite: NotFinite | None) -> None:
        marker = Marker(
            block=item.block,
            fingerprint=self.step.fingerprint,
            checksum=checksum,
            stamps=dict(item.stamps),
            files=self.output.files_stamp(self.step.grid.block(item.block)),
            seconds=round(start.seconds, 4),
            cpu_seconds=round(start.cpu_seconds, 4),
            peak_memory_mb=round(peak_memory() / 1e6, 1),
            attempt=attempt,
            host=socket.gethostname(),
            not_finite=not_finite,
        )
        with self.settling:
            self.step.markers.write(marker)
            self.settled = item.block

    def _settle(self, block: int) -> None:
        with self.settling:
            self.settled = block

    def _explained(self, error: Exception) -> Exception:
        """An error as people should read it: a MemoryError, Python's or numpy's own, says nothing of settings."""
        if not isinstance(error, MemoryError):
            return error
        better = OutOfMemoryError(f"{str(error) or 'no memory left'}; {memory_advice(self.step, self.advice)}")
        better.__cause__ = error
        return better

    def _forget_damaged(self, error: Exception) -> str:
        """Have an upstream step redo what could not be read; the name of that step, or nothing."""
        if not isinstance(error, DamagedDataError):
            return ""
        for source in self.step.sources():
            if source.address == error.address and source.forget(error.box):
                return source.label
        return ""


def _encodable(text: str) -> str:
    """Text that a file can hold: names of files need not be UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _log(text: str) -> None:
    """Write to the worker's log; a disk without room for it must not end the worker."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def memory_advice(step: BlockStep, advice: Advice) -> str:
    """What a step was thought to need, and what to do where that is not enough."""
    return f"{step.label} projects {step.projected_memory() / 1e9:.2f} GB for a worker; {advice.memory}"


def _read_lines(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    """Hand on the lines of a stream; when it ends, the process ends at once, whatever it is doing."""
    with contextlib.suppress(OSError):  # a connection may also break
        for line in stream:
            lines.put(line)
    os._exit(0)


def _begin(step: str, log: str, advice: Advice) -> Worker:
    """Begin with a step: from here on standard output and error go to its log."""
    _write_to(log)
    forget_peak_memory()
    worker = Worker(load_step(step), log, advice)
    worker.try_to_prepare()
    return worker


def _write_to(log: str) -> None:
    """Have standard output and error go to a log, to a new one where it is large."""
    put_aside(Path(log))
    with contextlib.suppress(OSError), open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _answer(answers: IO[str], value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")


def serve(rest_limit_s: float | None) -> None:
    """Serve blocks from standard input until it ends, of one step after the other.

    Args:
        rest_limit_s: longest time without a step; None for no limit.
    """
    # What libraries print must not mix with the answers: standard output goes to the log.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(sys.stdin, lines), daemon=True).start()
    worker: Worker | None = None
    while True:
        try:
            message = json.loads(lines.get(timeout=rest_limit_s if worker is None else None))
        except queue.Empty:
            os._exit(0)  # the other thread waits for lines, and would not let this process end
        if "rest" in message:
            worker = None
            gc.collect()
        elif "step" in message:
            worker = _begin(message["step"], message["log"], Advice(**message.get("advice", {})))
            worker.on_turn = lambda: _answer(answers, {"turn": True})
            _answer(answers, {"ready": True})
        elif worker is not None:
            item = Item(message["block"], message["stamps"], message["check"])
            _answer(answers, asdict(worker.run(item, message["attempt"])))
            if os.fstat(2).st_size > LARGEST_LOG:
                _write_to(worker.log)


def main() -> None:
    """Serve whoever has started this process."""
    serve(REST_LIMIT_S)


if __name__ == "__main__":
    main()
