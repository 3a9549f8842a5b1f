"""The viewer's page: neuroglancer's own client, out of its Python package, which is an extra."""

from __future__ import annotations

import importlib.util
import mimetypes
from pathlib import Path

from blockwise.errors import UserError

START = "start.js"
"""Script that gives the page a state where its address has none, before the viewer looks."""

OLDEST = "2.41.2"
"""Earlier ones do not read all that is served here."""

TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".map": "application/json"}


def client_files() -> dict[str, Path]:
    """Files of the client by name.

    Raises:
        UserError: the package is not installed, or has no client.
    """
    found = importlib.util.find_spec("neuroglancer")
    places = list(found.submodule_search_locations or ()) if found else []
    folder = Path(places[0], "static", "client") if places else None
    files = {path.name: path for path in folder.iterdir() if path.is_file()} if folder and folder.is_dir() else {}
    if "index.html" not in files:
        raise UserError(
            f"the viewer's page needs neuroglancer from {OLDEST} on, which is not installed: "
            f"pip install 'neuroglancer>={OLDEST}' (or: make .venv/view.installed)"
        )
    return files


def page(files: dict[str, Path]) -> bytes:
    """The client's page, with a script of ours before its own; these are deferred, so that ours comes first."""
    html = files["index.html"].read_text(encoding="utf-8")
    return html.replace("<head>", f'<head><script src="{START}"></script>', 1).encode()


def mime_type(name: str) -> str:
    """What browsers must be told of a file."""
    return TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
