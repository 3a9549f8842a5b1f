"""Makes the pictures in docs/viewing.md: python docs/viewing_screenshots.py CONFIG, where nothing has run yet.

CONFIG is of a volume of a few million voxels, such as the FIB-SEM cube of docs/performance.md in blocks of 64^3.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from tests.browser import Browser  # noqa: E402

SIZE = 1200, 850
COLOURS = 224
"""Noise of microscopes does not compress; fewer colours do."""


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
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)


def half_done(browser: Browser, config: str) -> None:
    """A run at work; it goes on to its end."""
    command = [sys.executable, "-m", "luigi", "--module", "pipeline", "ConnectedComponentsWorkflow"]
    with subprocess.Popen([*command, "--config", config, "--local-scheduler"]) as run:
        with viewed(config) as address:
            browser.driver.get(address)
            number = "return parseInt(document.querySelector('#panel tr.chosen .number')?.innerText ?? 0)"
            while browser.run(number) < 30:
                time.sleep(0.2)
            browser.run("viewer.position.value = Float32Array.from([125.5, 125.5, 160.5])")  # the run is there
            time.sleep(1.5)
            take(browser, "viewing_run")
        assert run.wait() == 0


def finished(browser: Browser, config: str) -> None:
    """The layers, then another threshold."""
    with viewed(config) as address:
        browser.open(address)
        time.sleep(3)
        take(browser, "viewing")
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        for name, value in (("threshold", 0.3), ("sigma", 1.0)):
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
