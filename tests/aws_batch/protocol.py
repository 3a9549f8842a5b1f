"""The protocol in which boto3 calls AWS Batch, on the loopback interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]] | None
"""Status and content; None where the answer is lost."""


def serve(answer: Callable[[str, dict[str, Any]], Answer]) -> ThreadingHTTPServer:
    """Serve on a free port, in threads, until the server is shut down.

    Args:
        answer: by path and content of a request. An error has its type as ``__type``.
    """

    class Handler(BaseHTTPRequestHandler):
        wbufsize = 1 << 16  # an answer in one packet

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(self.path, request)
            if found is None:
                self.close_connection = True
                return
            status, content = found
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status != 200:
                self.send_header("x-amzn-errortype", content["__type"])
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
