"""A ``view`` at work, as the benchmarks start it, ask it and end it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import psutil

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Server:
    """One ``view`` at work.

    Attributes:
        process: the program.
        host: where it answers.
        port: likewise.
        token: of its addresses.
    """

    process: subprocess.Popen[str]
    host: str
    port: int
    token: str

    def connect(self) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection(self.host, self.port, timeout=600)

    def get(self, call: str, document: Any = None, over: http.client.HTTPConnection | None = None) -> bytes:
        """The content of an answer; of a POST where there is a document; over a connection, or one of its own."""
        connection = over or self.connect()
        body = None if document is None else json.dumps(document)
        connection.request("GET" if body is None else "POST", f"/{self.token}{call}", body)
        answer = connection.getresponse()
        content = answer.read()
        if over is None:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{call}: {answer.status} {content!r:.300}")
        return content

    def page(self, name: str) -> str:
        """A file of the viewer's page."""
        connection = self.connect()
        connection.request("GET", f"/v/{self.token}/{name}")
        content = connection.getresponse().read().decode()
        connection.close()
        return content

    def computed(self) -> dict[str, int]:
        """Blocks that it has computed, by step."""
        steps = json.loads(self.get("/api/status"))["steps"]
        return {step["step"]: step["computed"] for step in steps}

    def cpu_seconds(self) -> float:
        """Of itself and its workers, so far."""
        return sum(self.cpu_by_kind())

    def cpu_by_kind(self) -> tuple[float, float]:
        """Processor seconds of itself, and of its workers, so far."""
        itself = psutil.Process(self.process.pid)
        return _cpu_seconds(itself), sum(map(_cpu_seconds, itself.children()))


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def start(folder: Path) -> Server:
    """Start ``view`` in a folder."""
    command = [sys.executable, "-m", "pipeline", "view", "--config", "config.yaml", "--no-browser"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=installed())
    if process.stdout is None:
        raise RuntimeError("no output")
    address = urlparse(process.stdout.readline().strip())
    return Server(process, address.hostname or "", address.port or 0, address.path.split("/")[2])


def installed() -> dict[str, str]:
    """The environment of an installed program, whose modules are compiled to Python's byte code once for all."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def end(servers: list[Server]) -> None:
    """End the servers."""
    for server in servers:
        server.process.terminate()
        server.process.communicate()
