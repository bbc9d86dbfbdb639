"""Headless Chromium for the pages: one browser at a time, what it complains about, and axe's accessibility rules."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

WIDTHS = (390, 1280)
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--headless=new")


@contextmanager
def chromium():
    """A browser; the test is skipped where Chromium is not installed."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def watched(context, home):
    """A tab, and the list of its console errors and of its requests to anything but ``home``."""
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: message.type == "error" and faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    allowed = (home, "data:", "blob:")
    tab.on("request", lambda request: None if request.url.startswith(allowed) else faults.append(request.url))
    return tab, faults


@cache
def axe_source():
    """The script of axe-core, which comes with ``axe-playwright-python``."""
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def accessibility_faults(tab):
    """Each fault of axe in the tab as (rule, elements)."""
    tab.evaluate(axe_source())
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(fault["id"], [node["html"][:120] for node in fault["nodes"]]) for fault in found["violations"]]
