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
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

LOCAL = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "ws://127.0.0.1")


@pytest.fixture(scope="module")
def browser():
    """Start Chromium for the tests of a module: Playwright's event loop must not run on where others have none."""
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


@contextmanager
def server(tmp_path_factory, module, option, *more):
    """Start a notebook server in a folder of its own; give its address and the folder."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
    places = {name: str(home / name) for name in kept}
    command = [sys.executable, "-m", module, "--no-browser", "--allow-root", f"--{option}.ip=127.0.0.1",
               f"--{option}.port={port}", f"--{option}.port_retries=0", *more]  # fmt: skip
    with (home / "log").open("w") as log:
        running = subprocess.Popen(command, env={**os.environ, **places}, cwd=folder, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{base}/api?token=course", timeout=5)
                break
            except OSError:
                assert running.poll() is None, (home / "log").read_text()
                time.sleep(0.5)
        yield base, folder
    finally:
        running.terminate()
        running.wait(30)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Start JupyterLab once for all tests; Notebook 7 stands beside it on the same server, where it is installed."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab, which Colab's environment does not have")
    exposed = ("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True")
    token = "--IdentityProvider.token=course"
    with server(tmp_path_factory, "jupyterlab", "ServerApp", token, *exposed) as started:
        yield started


@pytest.fixture(scope="session")
def classic(tmp_path_factory):
    """Start the classic Notebook 6 once for all tests: the page that goes with Colab's ipywidgets 7.7.1."""
    if int(version("ipywidgets").split(".")[0]) > 7:
        pytest.skip("needs the classic Notebook, which only Colab's environment has")
    with server(tmp_path_factory, "notebook", "NotebookApp", "--NotebookApp.token=course") as started:
        yield started


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
