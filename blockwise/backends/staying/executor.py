"""Single blocks computed by workers in jobs of a scheduler, which stay.

A job calls the process that has submitted it (``connection``), so that the kernel tells each side of the other's end.
Jobs that are still in the queue are ended by ``keeper``, however the process ends; one that starts nevertheless finds
nobody to call.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from blockwise.advice import Advice
from blockwise.backends.staying import keeper
from blockwise.backends.staying.crew import Crew, Member
from blockwise.backends.staying.door import Door
from blockwise.backends.staying.jobs import Fate, NotNowError, StayingJobs
from blockwise.backends.staying.remote_worker import RemoteWorker
from blockwise.errors import UserError
from blockwise.job import Order
from blockwise.step import BlockStep
from blockwise.worker import Result

logger = logging.getLogger(__name__)

TEND_S = 0.5
"""How often it is looked whether workers are wanted."""
FIRST_LOOK_S = 1.0
"""When the scheduler is asked first how jobs stand that have not called; later less and less often."""
PAUSE_S = 5.0
"""Before a scheduler is asked again that has not answered, or takes no more jobs."""
FATE_S = 2.0
"""How long is waited to learn how a job has ended."""


class StayingExecutor:
    """See ``Executor``. Jobs are submitted when blocks wait, and end when there is nothing to do for some time.

    Attributes:
        size: most jobs at a time.
        jobs: of the scheduler.
        timeout_s: longest time for one block; None for no limit.
        advice: for blocks that fail for want of memory or time.
        poll_s: longest pause between two looks at jobs that have not called yet.
    """

    def __init__(
        self, size: int, jobs: StayingJobs, timeout_s: float | None, advice: Advice, poll_s: float = 10.0
    ) -> None:
        self.size = size
        self.jobs = jobs
        self.timeout_s = timeout_s
        self.advice = advice
        self.poll_s = poll_s
        self._crew = Crew(size, jobs)
        self._changed = threading.Condition()
        self._needs: list[tuple[int, Path]] = []
        self._raised: Counter[str] = Counter()
        self._closed = False
        self._door: Door | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self._look_at = 0.0
        self._pause = FIRST_LOOK_S

    def compute(self, step: BlockStep, order: Order) -> Result:
        """See ``Executor``."""
        member, worker = self._take(step)
        is_lost = True
        try:
            if not worker.serves(step):
                worker.begin(step, member.number)
            worker.give(order)
            result = worker.finish(self.timeout_s).result
            is_lost = worker.order is not None
        finally:
            if worker.fate is not None and worker.fate.lacked_memory:
                self._raised[step.fingerprint] += 1
            with self._changed:
                member.busy, member.idle_since = False, time.monotonic()
                if is_lost or self._closed:
                    self._let_go(member)
                self._changed.notify_all()
            if is_lost and not self._closed:
                self.jobs.end([member.name], [member.job])  # it may hang in a way that lets it notice nothing
        return result

    def close(self) -> None:
        """See ``Executor``."""
        with self._changed:
            self._closed = True
            members = list(self._crew.members.values())
            for member in members:
                if member.is_idle:
                    self._let_go(member)
                elif member.worker is not None:
                    member.worker.hang_up()  # whoever waits for its answers finds it ended
            self._changed.notify_all()
        if self._door is not None:
            self._door.close()
        if members:
            self.jobs.end([member.name for member in members], [member.job for member in members])
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()  # it ends, once more, what may be left

    def _take(self, step: BlockStep) -> tuple[Member, RemoteWorker]:
        """A worker with memory enough for a step, when there is one; nobody else has it until it is given back.

        Raises:
            UserError: none is to be had.
        """
        memory_mb = self.jobs.memory_for(step) << self._raised[step.fingerprint]
        need = memory_mb, step.logs.resolve()
        with self._changed:
            self._begin()
            self._needs.append(need)
            try:
                while True:
                    if self._closed:
                        raise UserError("the workers have been ended")
                    idle = [m for m in self._crew.idle_for(memory_mb) if m.worker and not m.worker.is_gone]
                    same = [m for m in idle if m.worker and m.worker.serves(step)]
                    for member in same or idle:
                        if member.worker is not None:
                            member.busy = True
                            return member, member.worker
                    self._crew.check()
                    self._changed.wait()
            finally:
                self._needs.remove(need)
                if not self._needs:
                    self._crew.try_again()

    def _begin(self) -> None:
        """Open the door, and have somebody tend the jobs, when the first block is wanted."""
        if self._door is not None or self._closed:
            return
        try:
            self._door = Door(self._let_in)
        except OSError as error:
            raise UserError(f"no port can be opened for workers to call: {error.strerror or error}") from error
        program = [sys.executable, "-I", str(Path(keeper.__file__)), *self.jobs.end_command]
        self._keeper = subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
        self._keeper.wait()  # it goes on by itself
        threading.Thread(target=self._tend, args=(self._door,), name="jobs", daemon=True).start()

    def _tend(self, door: Door) -> None:
        """Submit, look at, and end jobs, as they are wanted, until all is over."""
        while True:
            with self._changed:
                if self._closed:
                    return
                for member in self._crew.leaving():
                    self._let_go(member)
                needs = [need for need, _ in self._needs]
                if (small := self._crew.make_room(needs)) is not None:
                    self._let_go(small)
                memory_mb = self._crew.wanted(needs) if time.monotonic() >= self._not_before else 0
                logs = next((logs for need, logs in self._needs if need == memory_mb), None)
            try:
                if memory_mb and logs is not None:
                    self._submit(door, memory_mb, logs)
                    continue
                self._look()
            except NotNowError as error:
                logger.warning("%s; next try in %.0f s", error, PAUSE_S)
                self._not_before = self._look_at = time.monotonic() + PAUSE_S
            except UserError as error:
                self._refuse(str(error))
            with self._changed:
                self._changed.wait(TEND_S)

    def _submit(self, door: Door, memory_mb: int, logs: Path) -> None:
        with self._changed:
            member = self._crew.new(memory_mb)
            self._tell_keeper(member)
        try:
            job = self.jobs.submit(door.call_from(member.name), memory_mb, logs)
        except (NotNowError, UserError):
            with self._changed:
                self._let_go(member)
            raise
        logger.info("%s %d is submitted: what waits is computed when it has started", self.jobs.title, job)
        with self._changed:
            member.job, member.log = job, self.jobs.log(job, logs)
            is_late = self._closed
        self._look_at, self._pause = time.monotonic() + FIRST_LOOK_S, FIRST_LOOK_S
        if is_late:
            self.jobs.end([member.name], [job])

    def _look(self) -> None:
        """Find jobs that have ended before they have called."""
        if time.monotonic() < self._look_at:
            return
        with self._changed:
            coming = {m.job: m for m in self._crew.members.values() if m.worker is None and m.job}
        self._pause = min(2 * self._pause, self.poll_s)
        self._look_at = time.monotonic() + self._pause
        fates = self.jobs.fates(list(coming)) if coming else {}
        with self._changed:
            for job, fate in fates.items():
                if coming[job].worker is None and coming[job].name in self._crew.members:
                    self._crew.ended_in_vain(coming[job], fate)
                    self._changed.notify_all()

    def _refuse(self, why: str) -> None:
        """Have all who wait know that no worker is to be had."""
        with self._changed:
            self._crew.refuse(why)
            self._changed.notify_all()

    def _let_in(self, name: str, link: socket.socket) -> None:
        """A job has called."""
        with self._changed:
            member = self._crew.members.get(name)
            if member is None or member.worker is not None or self._closed:
                link.close()
                return
            worker = RemoteWorker(
                link, lambda: f"worker in {self.jobs.title} {member.job}", lambda: self._fate(member), self.advice
            )
            self._crew.called(name, worker)
            self._changed.notify_all()

    def _fate(self, member: Member) -> Fate | None:
        """What has become of a job whose worker has ended; a moment passes until the scheduler knows."""
        end = time.monotonic() + FATE_S
        while member.job and time.monotonic() < end and not self._closed:
            try:
                found = self.jobs.fates([member.job])
            except NotNowError:
                return None
            if member.job in found:
                return found[member.job]
            time.sleep(TEND_S / 2)
        return None

    def _let_go(self, member: Member) -> None:
        """Forget a job, which ends with its connection."""
        if self._crew.members.pop(member.name, None) is not None and not self._closed:
            self._tell_keeper(member)
        if member.worker is not None:
            member.worker.close()

    def _tell_keeper(self, member: Member) -> None:
        """Let the keeper know of a job before there is one, or that it is over."""
        if self._keeper is None or self._keeper.stdin is None:
            raise RuntimeError("a job without a keeper")
        with contextlib.suppress(OSError):  # without a keeper jobs find out themselves, when they start
            self._keeper.stdin.write(f"{member.name}\n".encode())
            self._keeper.stdin.flush()
