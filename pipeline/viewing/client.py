"""The viewer's page: neuroglancer's own client, out of its Python package, which is an extra."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import mimetypes
from pathlib import Path

from blockwise.errors import UserError

START = "start.js"
"""Script that gives the page a state where its address has none, before the viewer looks."""

OLDEST = "2.41.2"
"""Earlier ones do not read all that is served here."""

PANEL = Path(__file__).parent / "panel" / "page"
"""Folder with the files of the panel beside the viewer."""

LEVEL = 1
"""Of gzip. 6 makes the files smaller by a sixth, and takes nearly three times as long."""

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
    return files | {path.name: path for path in PANEL.iterdir() if path.suffix in (".js", ".css")}


def page(files: dict[str, Path]) -> bytes:
    """The client's page with a place for the panel, and a script of ours before its own, which are deferred."""
    html = files["index.html"].read_text(encoding="utf-8")
    html = html.replace("<head>", f'<head><script src="{START}"></script><script src="quiet.js"></script>', 1)
    html = html.replace("</head>", '<link href="panel.css" rel="stylesheet"></head>', 1)
    return html.replace("<body>", f"<body>{_PLACES}", 1).encode()


_PLACES = (
    '<div id="neuroglancer-container"></div><aside id="panel"></aside><script src="look.js"></script>'
    '<script type="module" src="panel.js"></script>'
)
"""The viewer takes an element of this name for its own."""


@functools.cache
def compressed(path: Path) -> bytes:
    """A file of the client as gzip: behind a tunnel its megabytes take longer than all else."""
    return gzip.compress(path.read_bytes(), LEVEL, mtime=0)


def mime_type(name: str) -> str:
    """What browsers must be told of a file."""
    return TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
