"""Headless Chromium for the pages: one browser at a time, what it complains about, and axe's accessibility rules."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

WIDTHS = (390, 1280)
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--headless=new")
_AXE = "axe-core@4.10.3"


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
    """The script of axe-core, installed by npm outside the repository; None where that is not possible."""
    if shutil.which("npm") is None:
        return None
    folder = Path(mkdtemp(prefix="axe-"))
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), _AXE]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    text = script.read_text(encoding="utf-8") if done.returncode == 0 else None
    shutil.rmtree(folder, ignore_errors=True)
    return text


def accessibility_faults(tab):
    """Each fault of axe in the tab as (rule, elements); skips the test where axe cannot be had."""
    if axe_source() is None:
        pytest.skip("axe-core cannot be installed: npm or its registry is missing")
    tab.evaluate(axe_source())
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(fault["id"], [node["html"][:120] for node in fault["nodes"]]) for fault in found["violations"]]
