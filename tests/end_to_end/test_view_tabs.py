"""Several tabs of one browser share its six connections to a server: none may keep the others waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blockwise.faults import Faults
from tests.browser import Browser, browser
from tests.processes import wait_for
from tests.runs import Project
from tests.viewer import Served, computing, served

__all__ = ["browser"]

TABS = 7


@pytest.fixture
def never_done(unused: Project) -> Iterator[Served]:
    """A server whose workers begin blocks, and do not end them."""
    with served(lambda: computing(unused, 1, Faults(hang=1.0))) as found:
        yield found


def test_blocks_that_are_waited_for_keep_no_tab_from_its_panel(never_done: Served, browser: Browser) -> None:
    for number in range(TABS):
        if number:
            browser.driver.switch_to.new_window("tab")
        browser.driver.get(never_done.page)
        wait_for(lambda: browser.run("return document.getElementById('panel')?.dataset.ready"), 60, browser.errors)
        step = never_done.site.steps.prediction
        wait_for(lambda: never_done.site.demand.waiting(step), 60)  # type: ignore[union-attr]
    script = "return fetch(`/${location.pathname.split('/')[2]}/api/layers`).then(answer => answer.status)"
    for handle in browser.driver.window_handles:
        browser.driver.switch_to.window(handle)
        assert browser.run(script) == 200
