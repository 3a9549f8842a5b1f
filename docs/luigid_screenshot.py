"""Makes ``docs/luigid.png``: a real luigid, a real run against it, and headless Chromium looking at its page.

python docs/luigid_screenshot.py       # in the project's folder; needs chromium on the path
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import yaml

PICTURE = Path("docs/luigid.png")


def main() -> None:
    """Start, wait until the prediction is half done, look, and end everything."""
    chromium = shutil.which("chromium") or sys.exit("chromium is not installed")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        config = Path(folder) / "config.yaml"
        settings = yaml.safe_load(Path("configs/example.yaml").read_text())
        settings.update(work_dir=f"{folder}/work", output=f"{folder}/result.n5", blocks={"shape": [12, 16, 16]})
        settings["prediction"]["engine"] = "reference"  # slow enough to be looked at
        config.write_text(yaml.safe_dump(settings))
        bin_folder = Path(sys.executable).parent
        address = f"http://127.0.0.1:{port}"
        luigid = subprocess.Popen([bin_folder / "luigid", "--address", "127.0.0.1", "--port", port], cwd=folder)
        try:
            _wait_for(address)
            run = [bin_folder / "luigi", "--module", "pipeline", "ConnectedComponentsWorkflow", "--config", config]
            workflow = subprocess.Popen([*run, "--scheduler-host", "127.0.0.1", "--scheduler-port", port])
            _wait_for_markers(Path(folder) / "work", 100)
            page = f"{address}/static/visualiser/index.html#tab=workers"
            _look(chromium, page, folder)
            workflow.terminate()
            workflow.wait()
        finally:
            luigid.kill()
            luigid.wait()


def _look(chromium: str, page: str, folder: str) -> None:
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *quiet),
            *(f"--user-data-dir={folder}/chromium", "--window-size=1280,640", "--virtual-time-budget=8000"),
            *(f"--screenshot={PICTURE.resolve()}", page),
        ],
        check=True,
    )


def _wait_for(address: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.2)
        else:
            return
    sys.exit("luigid does not answer")


def _wait_for_markers(work_dir: Path, number: int) -> None:
    for _ in range(600):
        if sum(1 for _ in work_dir.glob("prediction/*/done/*/*.json")) >= number:
            time.sleep(6)  # luigid is told every five seconds
            return
        time.sleep(0.1)
    sys.exit("the run makes no progress")


if __name__ == "__main__":
    main()
