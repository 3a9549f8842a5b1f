"""Viewer and panel in a real browser: pixels, because layers that have drawn nothing call themselves ready."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from numpy.typing import NDArray

from blockwise.faults import Faults
from tests.browser import Browser, browser, chromium
from tests.processes import wait_for
from tests.runs import Project
from tests.viewer import Served, computing, served

__all__ = ["browser", "chromium"]

Z = 9
LAYER = "const layer = viewer.layerManager.managedLayers.find(l => l.name === arguments[0]);"
GEOMETRY = """
const panel = [...viewer.display.panels].find(p => p.sliceView);
const canvas = viewer.display.canvas.getBoundingClientRect();
const view = panel.sliceView.projectionParameters.value;
return [
  canvas.left + panel.canvasRelativeLogicalLeft + view.logicalWidth / 2,
  canvas.top + panel.canvasRelativeLogicalTop + view.logicalHeight / 2,
  ...viewer.position.value.slice(0, 2),
  view.invViewMatrix[0],
]
"""
"""Middle of the first cross-section in pixels, then in voxels, and voxels along a pixel."""
YELLOW = np.array([0xFF, 0xD4, 0x00])


@pytest.fixture(scope="module")
def shown(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all tests that look at a finished run."""
    folder = tmp_path_factory.mktemp("shown") / "project"
    shutil.copytree(finished.folder, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with served(lambda: computing(Project(folder), 2)) as found:
            yield found


def show_only(browser: Browser, name: str) -> None:
    """One layer alone, opaque, in the plane Z, some pixels a voxel."""
    script = """
    viewer.layerManager.managedLayers.forEach(l => l.setVisible(l.name === arguments[0]));
    const { displayState, opacity } = layer.layer;
    if (opacity) opacity.value = 1; else displayState.selectedAlpha.value = displayState.notSelectedAlpha.value = 1;
    viewer.position.value = Float32Array.from([60.5, 18.5, arguments[1] + 0.5]);
    viewer.crossSectionScale.value = 0.25;
    """
    browser.run(LAYER + script, name, Z)
    browser.wait_until_drawn()


def voxels_seen(browser: Browser) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Places along y and x of some voxels of the plane that is seen from above, and the colours of their middles."""
    right, down, x, y, scale = browser.run(GEOMETRY)
    rows, columns = map(np.ravel, np.meshgrid(np.arange(8, 30, 2), np.arange(50, 100, 3)))  # nothing lies over these
    i, j = (down + (rows + 0.5 - y) / scale).astype(int), (right + (columns + 0.5 - x) / scale).astype(int)
    return rows, columns, browser.picture()[i, j].astype(np.int64)


def without_panel(browser: Browser) -> NDArray[np.int64]:
    return browser.picture()[80:-40, :700].astype(np.int64)


def number_of_colours(browser: Browser) -> int:
    return len(np.unique(without_panel(browser).reshape(-1, 3), axis=0))


def move(browser: Browser, name: str, value: float) -> None:
    """A slider of the panel, as a hand would."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    field = browser.driver.find_element("css selector", f"#panel input[type=range][name={name}]")
    browser.run(script, field, value)


def wait_for_panel(browser: Browser) -> None:
    wait_for(lambda: browser.run("return document.getElementById('panel').dataset.ready"), 60, browser.errors)


def first_look(shown: Served, browser: Browser) -> list[float]:
    """The page without the viewer's own program: left, top, width and height of the picture, which has colours."""
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/main*.js*"]})
    try:
        browser.driver.get(shown.page)
        wait_for(
            lambda: browser.run("return document.getElementById('first-look')?.naturalWidth"), 20, browser.errors
        )
        place = "const { x, y, width, height } = document.getElementById('first-look').getBoundingClientRect();"
        left, top, width, height = browser.run(f"{place} return [x, y, width, height]")
        picture = browser.picture()[
            int(top) + 2 : int(top + height) - 2, max(0, int(left)) + 2 : int(left + width) // 2
        ]
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
        return [left, top, width, height]
    finally:
        browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        browser.errors()  # a program that did not come is one


def test_colours_are_where_they_must_be(shown: Served, browser: Browser, expected: dict[str, Any]) -> None:
    left, top, width, height = first_look(shown, browser)
    browser.open(shown.page)
    wait_for(lambda: "Connecting" not in browser.run("return document.body.innerText"), 20, browser.errors)
    first = without_panel(browser)
    assert (first.max(2) - first.min(2) > 30).mean() > 0.05
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 200
    asked = browser.run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert any(address.endswith("/start.js") for address in asked)
    assert not any(".z" in address for address in asked), "documents of layers come with the page"
    wait_for(lambda: browser.run("return viewer.showDefaultAnnotations.value"), 20, browser.errors)
    assert not browser.run("return document.getElementById('first-look')")
    right, down, x, y, scale = browser.run(GEOMETRY)
    assert abs(right - (x - 64) / scale - (left + width / 2)) < 3, "the picture was where the viewer draws"
    assert abs(down - (y - 18) / scale - (top + height / 2)) < 3
    assert abs(width * scale - 128) < 1
    show_only(browser, "classes")
    rows, columns, seen = voxels_seen(browser)
    colours = np.array(list(shown.site.colours().values()))
    mixed = np.einsum("cn,ck->nk", expected["probabilities"][:, Z, rows, columns], colours)
    assert np.abs(seen - mixed).max() < 3
    show_only(browser, "objects")
    rows, columns, seen = voxels_seen(browser)
    labels = expected["connected_components"][Z, rows, columns]
    assert not np.ptp(seen[labels == 0], axis=1).any()
    assert len(np.unique(labels)) > 2
    for label in np.unique(labels[labels > 0]):
        assert np.ptp(seen[labels == label], axis=0).max() < 6
        assert np.ptp(seen[labels == label], axis=1).min() > 40
    show_only(browser, "raw")
    seen = voxels_seen(browser)[2]
    assert np.ptp(seen, axis=1).max() < 3
    assert np.ptp(seen[:, 0]) > 60
    assert browser.errors() == []


def test_a_threshold_is_moved(shown: Served, browser: Browser) -> None:
    browser.open(shown.page)
    wait_for_panel(browser)
    masks = []
    for threshold in (0.4, 0.7):
        move(browser, "threshold", threshold)
        wait_for(lambda: len(shown.site.beside) > len(masks), 60, browser.errors)
        wait_for(lambda: browser.run(f"{LAYER} return !!layer", "tried mask"), 60)
        fingerprint = list(shown.site.beside)[-1][1]
        shows = f"{LAYER} return layer.layer.dataSources[0].spec.url.includes(arguments[1])"
        wait_for(lambda: browser.run(shows, "tried mask", fingerprint), 60)  # noqa: B023
        show_only(browser, "tried mask")
        rows, columns, seen = voxels_seen(browser)
        mask = shown.read_all(f"/token/data/thresholded/{fingerprint}")
        inside = mask[Z, rows, columns] > 0
        assert 0 < inside.sum() < inside.size
        assert np.abs(seen[inside] - YELLOW).max() < 6
        assert not np.ptp(seen[~inside], axis=1).any()
        masks.append(mask)
    assert masks[0].sum() > masks[1].sum()
    of_mask = number_of_colours(browser)
    browser.driver.find_element("css selector", "#panel input[type=checkbox]").click()
    wait_for(lambda: browser.run(f"{LAYER} return !!layer", "tried objects, provisional"), 60, browser.errors)
    wait_for(lambda: number_of_colours(browser) > of_mask, 60, browser.errors)  # it calls itself ready before
    assert "provisional: they end at the visible box" in browser.run("return panel.innerText")
    # Whoever opens the link sees the same, what is tried included, and the panel has its values.
    wait_for(lambda: "tried objects" in unquote(browser.run("return location.href")), 20)  # it follows after a moment
    browser.wait_until_drawn()
    before, link = without_panel(browser), browser.run("return location.href")
    browser.open(link)
    differs = lambda: (np.abs(without_panel(browser) - before) > 30).mean()  # noqa: E731
    wait_for(lambda: differs() < 0.01, 240, lambda: (differs(), browser.errors()))
    wait_for_panel(browser)
    assert browser.run("return document.querySelector('#panel input[name=threshold]').value") == "0.7"
    assert browser.run("return document.querySelector('#panel input[type=checkbox]').checked")
    for name in ("tried mask", "tried objects, provisional"):
        assert browser.run(f"{LAYER} return !!layer", name)
    assert browser.errors() == []


def test_failed_blocks_are_shown_and_the_map_leads_to_them(unused: Project, browser: Browser) -> None:
    with served(lambda: computing(unused, 2, Faults(fails=1.0))) as shown:
        browser.driver.get(shown.page)
        wait_for_panel(browser)
        wait_for(lambda: "InjectedError" in browser.run("return panel.innerText"), 60)
        text = browser.run("return panel.innerText")
        assert "Failed blocks" in text
        assert "prediction, block" in text
        canvas = browser.driver.find_element("css selector", "#panel canvas")
        red = "return [...arguments[0].getContext('2d').getImageData(20, 20, 1, 1).data.slice(0, 3)].join()"
        wait_for(lambda: browser.run(red, canvas) == "244,67,54", 60)
        browser.run(
            """const { left, bottom } = arguments[0].getBoundingClientRect();
            arguments[0].dispatchEvent(new MouseEvent("click", { clientX: left + 5, clientY: bottom - 3 }))""",
            canvas,
        )
        assert browser.run("return [...viewer.position.value]")[:2] == [16, 27]
        log = browser.run("return document.querySelector('#panel li a').href")
        assert b"Traceback" in shown.ask(log.removeprefix(shown.origin)).body


@pytest.mark.soak
def test_blocks_that_are_waited_for_keep_no_tab_from_the_server(unused: Project, browser: Browser) -> None:
    """Tabs share six connections; a worker that never ends its block has both of them wait for more."""
    with served(lambda: computing(unused, 1, Faults(hang=1.0))) as shown:
        for is_first in (True, False):
            if not is_first:
                browser.new_tab()
            browser.driver.get(shown.page)
            wait_for_panel(browser)
            demand, step = shown.site.demand, shown.site.steps.prediction
            assert demand is not None
            wait_for(lambda: demand.waiting(step), 60)  # noqa: B023
        script = "return fetch(`/${location.pathname.split('/')[2]}/api/layers`).then(answer => answer.status)"
        for tab in browser.driver.window_handles:
            browser.driver.switch_to.window(tab)
            assert browser.run(script) == 200
