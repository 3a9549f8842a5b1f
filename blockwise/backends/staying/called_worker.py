"""The program of a job that stays: calls whoever has asked for it, and computes blocks for him until he ends.

Run as ``python -m blockwise.backends.staying.called_worker``. When the connection ends, so does the program, at once,
even within a block: half a block's data without a marker harms nobody.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from blockwise.backends.staying.connection import Call, call
from blockwise.job import BEGINS
from blockwise.worker import serve

CONNECT_S = 3.0
"""How long one address may take to answer."""
ROUNDS = 3
"""How often all addresses are tried: a network may have trouble for a moment."""


def main() -> None:
    """Call, and serve."""
    # Lines appear when they are written: a job that is killed must not take its last words with it.
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    whom = Call.take_from_environment()
    print(f"{BEGINS}{whom.name}, on {socket.gethostname()}, process {os.getpid()}")
    link, why = call(whom, CONNECT_S)
    for pause in range(1, ROUNDS):
        if link is None:
            time.sleep(pause)
            link, why = call(whom, CONNECT_S)
    if link is None:
        # Who has ended is not to be told from a network that lets nobody through.
        sys.exit(f"nobody answers who has asked for this worker, at port {whom.port} of {why}")
    os.dup2(link.fileno(), 0)
    os.dup2(link.fileno(), 1)
    link.close()
    sys.stdin = os.fdopen(0, "r", closefd=False)
    serve(None)


if __name__ == "__main__":
    main()
