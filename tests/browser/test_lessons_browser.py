"""A lesson as a student meets it: a real browser on JupyterLab and on Notebook 7, from a fresh kernel to the last cell.

How a player behaves in every case is in test_player_browser.py; here the parts of a whole lesson meet.
"""

import re
import shutil
from types import SimpleNamespace

import nbformat
import pytest

from course_lib import build

from .hands import kernel_is_idle, open_notebook, try_out

FIRST = build.sources()[0]
SHOWN = "window.jupyterapp.shell.currentWidget"
ALL_RAN = f"""() => {SHOWN}.sessionContext.session?.kernel?.status === "idle" && {SHOWN}.content.widgets.every(
  (cell) => cell.model.type !== "code" || cell.model.executionCount)"""
ERRORS = f"""() => {SHOWN}.content.widgets.flatMap((cell) => cell.model.sharedModel.outputs || []).filter(
  (output) => output.output_type === "error").map((output) => `${{output.ename}}: ${{output.evalue}}`)"""


@pytest.fixture(params=["lab", "notebooks"], ids=["lab", "notebook"])
def lesson(request, lab, open_page, screenshot):
    """The student edition of lesson 00, opened where it stands alone in a folder."""
    base, folder = lab
    which = request.node.callspec.id
    if which == "notebook":
        pytest.importorskip("notebook", minversion="7", reason="needs Notebook 7")
    file = folder / f"{which}-{FIRST.stem}.ipynb"
    shutil.copy(build.REPOSITORY_ROOT / "lessons" / f"{FIRST.stem}.ipynb", file)
    page, complaints = open_page(viewport={"width": 1200, "height": 900})
    open_notebook(page, base, file.name, request.param)
    jupyters = re.compile(rf"{re.escape(base)}/static/(lab|notebook)/")  # what Jupyter itself complains of
    return SimpleNamespace(
        page=page,
        file=file,
        keep=lambda name: screenshot(page, f"{which}-{name}"),
        complaints=lambda: [says for says in complaints if not jupyters.search(says)],
    )


def restart_and_run_all(page):
    """Choose "Restart Kernel and Run All Cells" and say yes."""
    page.evaluate("void window.jupyterapp.commands.execute('notebook:restart-run-all')")
    page.click(".jp-Dialog button.jp-mod-accept")
    page.wait_for_selector(".jp-Dialog", state="detached")
    page.wait_for_function(ALL_RAN)


def cell_with(page, code):
    """Go to the first cell that says this; return it. It stays on the screen when the page has settled."""
    index = page.evaluate(
        f"(code) => {SHOWN}.content.widgets.findIndex((cell) => cell.model.sharedModel.source.includes(code))", code
    )
    assert index >= 0, code
    page.evaluate(f"(index) => {{ {SHOWN}.content.activeCellIndex = index; }}", index)
    page.evaluate(f"(index) => {SHOWN}.content.scrollToItem(index, 'start')", index)
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook > .jp-WindowedPanel-outer .jp-Cell").nth(
        index
    )


def player_in(cell):
    frame = cell.locator("iframe[srcdoc]").element_handle().content_frame()
    frame.wait_for_selector(".step-player[data-at]")
    return frame


def test_the_first_lesson_from_a_fresh_kernel_to_a_saved_notebook(lesson):
    page = lesson.page
    restart_and_run_all(page)
    assert page.evaluate(ERRORS) == []
    try_out(page, player_in(cell_with(page, "StepPlayer(thirty")))
    lesson.keep("player")

    guessing = cell_with(page, "sure = predict(")
    guessing.locator("button", has_text="500").focus()
    page.keyboard.press("Space")
    guessing.locator(".widget-label", has_text="(kept: 500)").wait_for()
    kept = guessing.locator(".course-still", has_text="(kept: 500)")  # for the file; here the buttons hide it
    kept.wait_for(state="attached")
    assert kept.is_hidden()
    lesson.keep("guess")
    answer = cell_with(page, "sure.compare(")
    assert "You made no guess this time" in answer.inner_text()
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-cell')")
    answer.get_by_text("Your guess was 500").wait_for()
    assert lesson.complaints() == []

    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function(f"!{SHOWN}.context.model.dirty")
    saved = nbformat.read(lesson.file, 4)
    assert all(cell.execution_count for cell in saved.cells if cell.cell_type == "code")
    page.evaluate(f"{SHOWN}.sessionContext.shutdown()")  # from here on there is nothing but the file
    page.reload()
    kernel_is_idle(page)
    try_out(page, player_in(cell_with(page, "StepPlayer(thirty")))
    guessed = cell_with(page, "sure = predict(").locator(".jp-OutputArea")
    guessed.get_by_text("Loading widget").wait_for(state="hidden")
    lesson.keep("again")
    assert "(kept: 500)" in guessed.inner_text() and "model not found" not in guessed.inner_text()
