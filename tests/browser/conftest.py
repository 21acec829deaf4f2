"""A real browser for the tests in this folder: Chromium as the system has it, driven by Playwright, without a network.

Screenshots go into the folder that COURSE_SCREENSHOTS names, if any: CI keeps them.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
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


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Start JupyterLab once for all tests, in a folder of its own; return its address and the folder.

    Notebook 7 stands beside it on the same server, where it is installed.
    """
    pytest.importorskip("jupyterlab", reason="needs JupyterLab, which Colab's environment does not have")
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
    places = {name: str(home / name) for name in kept}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=course",
               f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
               "--JupyterNotebookApp.expose_app_in_browser=True"]  # fmt: skip
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **places}, cwd=folder, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{base}/api?token=course", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (home / "lab.log").read_text()
                time.sleep(0.5)
        yield base, folder
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page where every request beyond this machine fails, and its complaints."""
    contexts = []

    def opened(**look):
        context = browser.new_context(**{"viewport": {"width": 900, "height": 800}, **look})
        contexts.append(context)
        complaints = []

        def complain(says, where):
            complaints.append(f"{says} ({where})")

        def judge(route):
            if route.request.url.startswith(LOCAL):
                route.continue_()
            else:
                complaints.append(f"asked for {route.request.url}")
                route.abort()

        context.route("**/*", judge)
        page = context.new_page()
        page.on("console", lambda said: complain(said.text, said.location["url"]) if said.type == "error" else None)
        page.on("pageerror", lambda error: complain(error, error.stack))
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
