"""What messages call the settings that people may change, and what they advise.

Nothing here knows a configuration file. Whoever reads one hands down its keys as ``Names``, and messages name these.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """What people may do about a block for which a worker has not enough of something; goes to the workers.

    Attributes:
        memory: where it needs more memory.
        time: where it takes longer than it may.
    """

    memory: str = "use smaller blocks, or leave more memory to each worker"
    time: str = "allow a block more time, or use smaller blocks"


@dataclass(frozen=True)
class Names:
    """Names of settings, as they follow "lower", "raise" or "set".

    Attributes:
        block_shape: voxels of a block.
        workers: number of workers.
        timeout: longest time for one block.
        kind: the choice of this backend.
        option: what stands before the names of the backend's own options.
    """

    block_shape: str = "the block shape"
    workers: str = "the number of workers"
    timeout: str = "the time limit of a block"
    kind: str = "this backend"
    option: str = ""

    def advice(self, more_memory: str) -> Advice:
        """Advice in these names.

        Args:
            more_memory: what leaves more of it to each worker, such as "lower the number of workers".
        """
        return Advice(
            f"lower {self.block_shape}, or leave more to each worker: {more_memory}",
            f"raise {self.timeout}, or lower {self.block_shape}",
        )
