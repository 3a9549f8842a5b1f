"""Makes the pictures in docs/viewing.md: python docs/viewing_screenshots.py CONFIG, where nothing has run yet.

CONFIG is of a volume of a few million voxels, such as the FIB-SEM cube of docs/performance.md in blocks of 64^3.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from tests.browser import Browser  # noqa: E402

SIZE = 1200, 850
BEGUN, HALF = 16, 36
"""Blocks of 64: when the run is held, and when the picture is taken."""
NUMBER = "return parseInt(document.querySelector('#panel tr.chosen .number')?.innerText ?? 0)"
"""Blocks of the chosen step that are done, as the panel has it."""
COLOURS, OF_PANEL, GREY = 256, 80, 60
"""Noise of microscopes does not compress; fewer colours do. The panel has some of its own, which mean something:
bright ones, and greys, of which red, green and blue differ by no more than that."""


@contextmanager
def viewed(config: str) -> Iterator[str]:
    """The address of a viewer."""
    command = [sys.executable, "-m", "pipeline", "view", "--config", config, "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def take(browser: Browser, name: str) -> None:
    """Take a picture of the page."""
    picture = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")
    edge = int(browser.run("return document.getElementById('panel').getBoundingClientRect().left"))
    panel = picture.crop((edge, 0, *picture.size))
    counts = sorted(panel.getcolors(panel.width * panel.height) or [], reverse=True)
    bright = [one for one in counts if max(one[1]) - min(one[1]) > GREY]
    frequent = {*counts[: OF_PANEL // 2], *bright[: OF_PANEL // 2]}
    voxels = picture.crop((0, 0, edge, picture.height)).quantize(COLOURS - len(frequent), dither=Image.Dither.NONE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(value for _, colour in frequent for value in colour), *voxels.getpalette()])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)


def half_done(browser: Browser, config: str) -> None:
    """A run at work, which is held while the picture is taken, and then goes on to its end."""
    command = [sys.executable, "-m", "luigi", "--module", "pipeline", "ConnectedComponentsWorkflow"]
    with viewed(config) as address, subprocess.Popen([*command, "--config", config, "--local-scheduler"]) as run:
        while blocks_done(address) < BEGUN:
            time.sleep(0.2)
        family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        for process in family:
            process.suspend()
        browser.driver.get(address)
        while browser.run(NUMBER) < HALF:  # the viewer goes on with what is looked at
            time.sleep(0.05)
        take(browser, "viewing_run")
        for process in family:
            process.resume()
        assert run.wait() == 0


def blocks_done(address: str) -> int:
    """Of the prediction."""
    scheme, _, host, _, token, _ = address.split("/")
    with urllib.request.urlopen(f"{scheme}//{host}/{token}/api/status") as answer:
        return int(json.load(answer)["steps"][0]["done"])


def finished(browser: Browser, config: str) -> None:
    """The layers, then another threshold."""
    with viewed(config) as address:
        browser.open(address)
        time.sleep(3)
        take(browser, "viewing")
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        for name, value in (("threshold", 0.05), ("sigma", 1.5)):
            slider = browser.driver.find_element("css selector", f"#panel [type=range][name={name}]")
            browser.run(script, slider, value)
        browser.run("document.querySelector('#panel input[type=checkbox]').click()")
        while "provisional" not in browser.run("return panel.innerText"):
            time.sleep(0.2)
        time.sleep(2)
        browser.wait_until_drawn()
        take(browser, "viewing_threshold")


def main(config: str) -> None:
    """Take all pictures."""
    browser = Browser()
    browser.driver.set_window_size(*SIZE)
    try:
        half_done(browser, config)
        finished(browser, config)
    finally:
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
