"""A real luigid on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_S = 60


class Luigid:
    """A real scheduler on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with (folder / "luigid.log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", "from luigi.cmdline import luigid; luigid()"),
                    *("--address", "127.0.0.1", "--port", str(self.port), "--state-path", str(folder / "state")),
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"luigid does not answer; see {folder / 'luigid.log'}")
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            self.ask("task_list", status="", upstream_status="")
        except OSError:
            return False
        return True

    def ask(self, what: str, **data: str) -> Any:
        query = urllib.parse.quote(json.dumps(data))
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/{what}?data={query}", timeout=30) as answer:
            return json.load(answer)["response"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[Luigid]:
    folder = tmp_path / "luigid"
    folder.mkdir()
    scheduler = Luigid(folder)
    yield scheduler
    scheduler.kill()
