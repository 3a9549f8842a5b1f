"""Ends what a process has left in a queue, however that process has ended: then this program's input ends.

Run as a file, so that nothing else is loaded, with a command as its arguments. Each line of standard input is a name;
when there are no more lines the command is run for each, ``{name}`` in it being the name. One that comes once more is
let go.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

AGAIN_S = (0.0, 10.0)
"""When the command is run: somebody may have been about to submit."""


def main() -> None:
    """Wait, and end what is left; whoever has started this program has not to wait for its end."""
    if os.fork():
        os._exit(0)
    names: set[str] = set()
    for line in sys.stdin:
        names ^= {line.strip()}
    for pause in AGAIN_S if names else ():
        time.sleep(pause)
        for name in names:
            command = [word.replace("{name}", name) for word in sys.argv[1:]]
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)  # noqa: S603


if __name__ == "__main__":
    main()
