"""A real browser without a window, for the viewer's page; tests that need one are skipped where there is none."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.processes import wait_for

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,700", "--hide-scrollbars",
    "--enable-unsafe-swiftshader",
)  # fmt: skip
"""The last one: WebGL without a graphics card. The page around it is drawn as on any machine that has none."""
IS_READY = "return !!(window.viewer && viewer.layerManager.managedLayers.length && viewer.isReady())"
MESSAGES = """return viewer.layerManager.managedLayers.flatMap(layer => layer.layer.dataSources.flatMap(
    source => Array.from(source.messages).map(message => layer.name + ': ' + message.message)))"""


class Browser:
    """Chromium, looked at through one of its tabs."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(300)  # without a graphics card pixels are read when the processor has time

    def close(self) -> None:
        self.driver.quit()

    def begin_anew(self) -> None:
        """An empty tab, and no other; nothing that was said before is remembered."""
        former = self.driver.window_handles
        self.new_tab()
        here = self.driver.current_window_handle
        for tab in former:
            self.driver.switch_to.window(tab)
            self.driver.close()
        self.driver.switch_to.window(here)
        self.errors()

    def new_tab(self) -> None:
        self.driver.switch_to.new_window("tab")

    def open(self, url: str) -> None:
        """Open a page of a viewer, and wait until it says that it has drawn all; look at the pixels too."""
        self.driver.get("about:blank")
        self.driver.get(url)
        self.wait_until_drawn()

    def wait_until_drawn(self) -> None:
        wait_for(lambda: self.run(IS_READY), 120, lambda: (self.errors(), self.run(MESSAGES)))
        self.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def picture(self) -> NDArray[np.uint8]:
        """What is seen, RGB."""
        return np.asarray(Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB"))

    def errors(self) -> list[str]:
        """What the console has had to say since it was asked."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    pytest.importorskip("selenium")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail("chromium and chromium-driver are not installed")
        pytest.skip("needs chromium and chromium-driver")
    opened = Browser()
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A tab of a browser that all tests share: to start one takes long, and it compiles the page's programs once."""
    chromium.begin_anew()
    yield chromium
    chromium.begin_anew()  # a page that stays would go on drawing beside all other tests
