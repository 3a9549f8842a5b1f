"""How long it takes from the command, and from the address, to the first picture of a finished run, in Chromium.

    python -m benchmarks.first_picture

The bundled example is computed first. Chromium runs already, as a user's browser does; where there is no graphics
card the processor draws. First the page has a picture of one plane, which the server draws: the browser says when
it was painted. The page itself looks at the viewer's pixels each time it has drawn: there is a picture when all
that the viewer has asked for is drawn and what is seen has colours, as layers that have drawn nothing call
themselves ready, too. The time goes from the beginning of the navigation to the pixels, by the browser's own clock.
Raw voxels alone, in one plane, say what the browser takes for any picture of the viewer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import yaml

from benchmarks.viewer import ROOT, Server, end, installed, start

OPENED = 3
"""How often the page is opened: a browser that has seen it knows its programs, compiled."""
LOOK = """
new PerformanceObserver((list) => { window.lookAfter ??= list.getEntries()[0].renderTime; })
  .observe({ type: "element", buffered: true });
let viewer;
Object.defineProperty(window, "viewer", { configurable: true, get: () => viewer, set(made) {
  viewer = made;
  made.display.updateFinished.add(() => {
    if (window.pictureAfter || !made.layerManager.managedLayers.length || !made.isReady()) return;
    const { gl } = made.display;
    const { drawingBufferWidth: width, drawingBufferHeight: height } = gl;
    const pixels = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);  // waits until they are drawn
    let coloured = 0;
    for (let i = 0; i < pixels.length; i += 4) {
      const red = pixels[i], green = pixels[i + 1], blue = pixels[i + 2];
      coloured += Math.max(red, green, blue) - Math.min(red, green, blue) > 30;
    }
    if (coloured > 0.02 * width * height) window.pictureAfter = performance.now();
  });
} });
"""
"""When the picture of one plane was painted that the server draws, as the browser says; and when the viewer's own had
colours: a fiftieth of its pixels differs by more than 30 between red, green and blue."""


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
    begun = time.perf_counter()
    server = start(folder)
    to_address = time.perf_counter() - begun
    cpu_to_address = server.cpu_seconds()
    pages = _open(server, OPENED)
    of_server = server.cpu_seconds() - cpu_to_address
    least = _open(server, 1, _least)
    end([server])
    return {
        "command_to_address_s": round(to_address, 2),
        "address_to_first_look_s": [page["look"] for page in pages],
        "command_to_first_look_s": round(to_address + pages[0]["look"], 2),
        "address_to_picture_s": pages[0]["seconds"],
        "command_to_picture_s": round(to_address + pages[0]["seconds"], 2),
        "opened_again_s": [page["seconds"] for page in pages[1:]],
        "raw_alone_s": least[0]["seconds"],
        "cpu_s_of_server_to_address": round(cpu_to_address, 2),
        "cpu_s_of_server_for_all_pages": round(of_server, 2),
        "cpu_s_of_browser": [page["cpu"] for page in pages],
        "cpu_s_of_browser_for_raw_alone": least[0]["cpu"],
    }


def _open(server: Server, times: int, change: Callable[[dict[str, Any]], None] | None = None) -> list[dict[str, Any]]:
    """Seconds until there is a picture, and the browser's processor time by kind of process, in a fresh browser."""
    from tests.browser import Browser
    from tests.processes import wait_for

    browser, found = Browser(), []
    try:
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LOOK})
        driver = psutil.Process(browser.driver.service.process.pid)
        address = f"http://{server.host}:{server.port}/v/{server.token}/"
        for _ in range(times):
            browser.driver.get("about:blank")
            before = _cpu_seconds(driver)
            browser.driver.get(address + ("" if change is None else _changed(server, change)))
            wait_for(lambda: browser.run("return window.pictureAfter"), 120, browser.errors)
            look, picture = browser.run("return [window.lookAfter ?? 0, window.pictureAfter]")
            after = _cpu_seconds(driver)
            cpu = {kind: round(after[kind] - before.get(kind, 0.0), 2) for kind in after}
            cpu = {kind: seconds for kind, seconds in cpu.items() if seconds >= 0.1}
            found.append({"look": round(look / 1e3, 2), "seconds": round(picture / 1e3, 2), "cpu": cpu})
    finally:
        browser.close()
    return found


def _changed(server: Server, change: Callable[[dict[str, Any]], None]) -> str:
    """The viewer's first state with a change, as the end of an address."""
    script = server.page("start.js")
    line = next(line for line in script.splitlines() if "const state = " in line)
    text, _ = json.JSONDecoder().raw_decode(line.partition(" = ")[2])
    state = json.loads(text.replace("{origin}", f"http://{server.host}:{server.port}"))
    change(state)
    return "#!" + quote(json.dumps(state))


def _least(state: dict[str, Any]) -> None:
    """The raw volume alone, in one plane; in colours, as a picture must have them."""
    raw = state["layers"][0]
    raw["shader"] = "#uicontrol invlerp normalized\nvoid main() { emitRGB(vec3(normalized(), 0.0, 0.0)); }\n"
    state.update(layers=[raw], layout="xy")


def _cpu_seconds(driver: psutil.Process) -> dict[str, float]:
    """Of Chromium so far, by kind of process."""
    found: dict[str, float] = defaultdict(float)
    for process in (driver, *driver.children(recursive=True)):
        try:
            times, words = process.cpu_times(), process.cmdline()
        except psutil.NoSuchProcess:
            continue
        kind = next((word.partition("=")[2] for word in words if word.startswith("--type=")), "browser")
        found[kind] += times.user + times.system
    return found


if __name__ == "__main__":
    print(first_picture())
