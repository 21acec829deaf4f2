"""A real browser for the tests in this folder: Chromium as the system has it, driven by Playwright, without a network.

Screenshots go into the folder that COURSE_SCREENSHOTS names, if any: CI keeps them.
"""

import os
import shutil
from pathlib import Path

import pytest

LOCAL = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "ws://127.0.0.1")


@pytest.fixture(scope="session")
def browser():
    """Start Chromium once for all tests."""
    from playwright.sync_api import Error, sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser")
    which = {"executable_path": found} if found else {"channel": "chrome"}  # the Chrome of macOS and Windows
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(args=["--no-sandbox"], **which)
        except Error as error:
            if found:
                raise
            pytest.skip(f"needs Chromium, such as apt-get's chromium and fonts-dejavu-core: {error.message[:80]}")
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page where every request beyond this machine fails, and its complaints."""
    contexts = []

    def opened(**look):
        context = browser.new_context(**{"viewport": {"width": 900, "height": 800}, **look})
        contexts.append(context)
        complaints = []

        def judge(route):
            if route.request.url.startswith(LOCAL):
                route.continue_()
            else:
                complaints.append(f"asked for {route.request.url}")
                route.abort()

        context.route("**/*", judge)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page, complaints

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def screenshot(request):
    """Return a function that keeps a picture of the page, where CI asks for it."""

    def keep(page, name):
        folder = os.environ.get("COURSE_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder, f"{request.node.originalname}-{name}.png"))

    return keep
