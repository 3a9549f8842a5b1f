"""Single blocks computed by a Dask cluster, as they are asked for."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from blockwise.backends.dask.afar import PATIENCE_S, afar, cannot_load, check_workers, packed
from blockwise.backends.dask.backend import dask_advice
from blockwise.backends.dask.brief import Place, forget_brief, is_there, write_brief
from blockwise.backends.dask.cluster import Cluster
from blockwise.backends.dask.dealing import MOST_LOSSES
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.kind import Setup
from blockwise.backends.worker_link import Ended
from blockwise.errors import UserError
from blockwise.grid import box_size
from blockwise.job import Order
from blockwise.step import BlockStep
from blockwise.worker import Result

if TYPE_CHECKING:
    from distributed import Client


class DaskExecutor:
    """See ``Executor``. The connection stays; a cluster of one's own is started with the first block.

    Attributes:
        size: number of threads that the cluster has, or is to have.
        cluster: where blocks are computed.
        timeout_s: longest time for one block; None for no limit.
        faults: what is to go wrong, for tests and trials.
    """

    def __init__(self, setup: Setup[DaskOptions]) -> None:
        self.cluster = Cluster(setup.options, setup.workers, setup.names)
        self.timeout_s = setup.timeout_s
        self.faults = setup.faults
        self._advice = dask_advice(setup.names, setup.options)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._places: dict[tuple[str, str], Place] = {}
        self._closed = False
        size = self.cluster.threads
        if size is None:  # a scheduler that does not answer is told before anything is served
            self._client = self.cluster.connect("")
            size = sum(self._client.nthreads().values())
        self.size = max(size, 1)

    def compute(self, step: BlockStep, order: Order) -> Result:
        """See ``Executor``."""
        from distributed import KilledWorker

        client, place = self._ready(step)
        why = ""
        for _ in range(MOST_LOSSES):
            arguments = packed(place, [order], PATIENCE_S)
            future = client.submit(afar("compute_slice"), arguments, key=f"blockwise-{uuid.uuid4().hex}", pure=False)
            try:
                ended: list[Ended] = future.result()
            except CancelledError as error:
                raise UserError(self._why_ended(client)) from error
            except ImportError as error:
                raise UserError(f"{step.label}: a Dask worker cannot compute: {cannot_load(error)}") from error
            except KilledWorker as error:
                why = f"Dask workers have died while it was computed: {error}"
                break
            if ended:
                return ended[0].result
            why = "Dask workers that had begun with it were asked to leave"
        voxels = box_size(step.grid.block(order.item.block).write_box)
        return Result(order.item.block, "failed", voxels, 0.0, "WorkerLost", why)

    def close(self) -> None:
        """See ``Executor``."""
        with self._lock:
            self._closed = True
            for place in self._places.values():
                forget_brief(place)
            if self._client is not None:
                self._client.close()  # which ends what is at work
            self.cluster.close()

    def _ready(self, step: BlockStep) -> tuple[Client, Place]:
        """The connection, and the place of a step's brief; both made where they are not there."""
        with self._lock:
            if self._closed:
                raise UserError("the workers have been ended")
            if self._client is None or self._client.status == "closed":
                self._client = self.cluster.connect(step.work_dir)
            key = step.records.place(), step.fingerprint
            place = self._places.get(key)
            if place is None or not is_there(place):  # a run may have begun anew, and cleared it away
                place = self._places[key] = write_brief(step, self.timeout_s, self.faults, self._advice)
                check_workers(self._client, place, step.label)
            return self._client, place

    def _why_ended(self, client: Client) -> str:
        return "the workers have been ended" if self._closed else self.cluster.why_gone(client.scheduler.address)
