"""A run in a process of its own, which may be killed: ``python -m tests.end_to_end.stored_run FOLDER``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.runs import Project


def main() -> None:
    os.chdir(sys.argv[1])
    run = Project(Path.cwd()).run()
    print(json.dumps({"ok": run.ok, "computed": run.computed, "log": run.log}), flush=True)
    os._exit(0 if run.ok else 1)


if __name__ == "__main__":
    main()
