"""How long it takes from the command, and from the address, to the first picture of a finished run, in Chromium.

    python -m benchmarks.first_picture

The bundled example is computed first. Chromium runs already, as a user's browser does; without a graphics card it has
the processor draw, which takes most of the time. There is a picture when the viewer has drawn all that it has asked
for and what is seen has colours: layers that have drawn nothing call themselves ready, too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.viewer import ROOT, end, installed, start

OPENED = 3
"""How often the page is opened: a browser that has seen it knows its programs, compiled."""
SHARE, SPREAD = 0.02, 30
"""A picture has colours where so many of its pixels differ so much between red, green and blue."""


def first_picture() -> dict[str, Any] | str:
    """Times and processor time; why there are none, where there is no Chromium."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        return "needs chromium and chromium-driver"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _compute(folder)
        return _measure(folder)


def _compute(folder: Path) -> None:
    values = {
        "work_dir": "work",
        "raw": f"{ROOT / 'data' / 'raw.h5'}:data",
        "output": "result.n5",
        "blocks": {"shape": [64] * 3},
        "prediction": {"project": str(ROOT / "data" / "membranes.ilp")},
        "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
        "connected_components": {"foreground": 0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "luigi", "--module", "pipeline", "ConnectedComponentsWorkflow"]
    command += ["--config", "config.yaml", "--local-scheduler"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=installed(), check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def _measure(folder: Path) -> dict[str, Any]:
    from tests.browser import IS_READY, Browser

    browser = Browser()
    try:
        begun = time.perf_counter()
        server = start(folder)
        to_address = time.perf_counter() - begun
        cpu_to_address = server.cpu_seconds()
        driver = psutil.Process(browser.driver.service.process.pid)
        opened, of_browser = [], []
        for _ in range(OPENED):
            browser.driver.get("about:blank")
            before, begun = _cpu_seconds(driver), time.perf_counter()
            browser.driver.get(f"http://{server.host}:{server.port}/v/{server.token}/")
            while not (browser.run(IS_READY) and _has_colours(browser)):
                time.sleep(0.02)
            opened.append(round(time.perf_counter() - begun, 2))
            of_browser.append(round(_cpu_seconds(driver) - before, 2))
        of_server = server.cpu_seconds() - cpu_to_address
        end([server])
    finally:
        browser.close()
    return {
        "command_to_address_s": round(to_address, 2),
        "address_to_picture_s": opened[0],
        "command_to_picture_s": round(to_address + opened[0], 2),
        "opened_again_s": opened[1:],
        "cpu_s_of_server_to_address": round(cpu_to_address, 2),
        "cpu_s_of_server_for_all_pages": round(of_server, 2),
        "cpu_s_of_browser": of_browser,
    }


def _has_colours(browser: Any) -> bool:
    picture = browser.picture().astype(int)
    return bool((picture.max(2) - picture.min(2) > SPREAD).mean() > SHARE)


def _cpu_seconds(driver: psutil.Process) -> float:
    """Of Chromium, with all its processes, so far."""
    found = 0.0
    for process in (driver, *driver.children(recursive=True)):
        try:
            times = process.cpu_times()
            found += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return found


if __name__ == "__main__":
    print(first_picture())
