"""The same under Colab's ipywidgets 7.7.1 and ipykernel 6.17, in the classic Notebook that goes with them."""

import shutil

import nbformat
import pytest

from course_lib import build

from .hands import ink, reaches, try_out, words
from .test_live_browser import KERNEL, SOURCE, choose, said, says, stop

ROUND = """() => new Promise(
  (done) => Jupyter.notebook.kernel.execute("", {shell: {reply: () => done(1)}}, {silent: true}))"""
RAN = """(last) => Jupyter.notebook.get_cells().slice(0, last + 1).every(
  (cell) => cell.cell_type !== "code" || /[0-9]/.test(cell.input_prompt_number))"""
ERRORS = """Jupyter.notebook.get_cells().flatMap((cell) => cell.output_area?.outputs ?? []).filter(
  (output) => output.output_type === "error").map((output) => `${output.ename}: ${output.evalue}`)"""


@pytest.fixture
def run(classic, open_page):
    """Return a function that opens a notebook of the folder and runs it, up to the cell that says `upto`."""
    base, folder = classic

    def ran(name, upto):
        page, complaints = open_page(viewport={"width": 1200, "height": 1100})
        page.set_default_timeout(120_000)
        page.goto(f"{base}/notebooks/{name}?token=course")
        page.wait_for_function("window.Jupyter?.notebook?.kernel?.is_connected()")
        page.wait_for_function("Jupyter.notebook.kernel.widget_manager")
        for _ in range(3):  # it asks the kernel for older widgets first, and loses a new one that comes meanwhile
            page.evaluate(ROUND)
        says_so = "(code) => Jupyter.notebook.get_cells().findIndex((cell) => cell.get_text().includes(code))"
        last = page.evaluate(says_so, upto)
        page.evaluate("(last) => Jupyter.notebook.execute_cell_range(0, last + 1)", last)
        page.wait_for_function(RAN, arg=last)
        assert page.evaluate(ERRORS) == []
        return page, complaints

    ran.folder = folder
    return ran


def own(complaints):
    """What is complained of beside the classic Notebook's own files, and the fonts that its MathJax tries in vain."""
    return [says for says in complaints if "/static/" not in says and "about:blank" not in says]


def test_the_first_lesson_from_a_fresh_kernel(run, screenshot):
    stem = build.sources()[0].stem
    shutil.copy(build.REPOSITORY_ROOT / "lessons" / f"{stem}.ipynb", run.folder)
    page, complaints = run(f"{stem}.ipynb", "sure = predict(")
    frame = page.wait_for_selector(".output_area iframe[srcdoc]").content_frame()
    frame.wait_for_selector(".step-player[data-at]")
    try_out(page, frame)
    screenshot(page, "player")
    page.locator(".widget-button", has_text="500").first.focus()
    page.keyboard.press("Space")
    page.locator(".widget-label", has_text="(kept: 500)").wait_for()
    assert own(complaints) == []


def test_the_companion_draws_stops_and_lets_the_notebook_answer(run, screenshot):
    cells = [nbformat.v4.new_code_cell(source) for source in (SOURCE, "print('answer', 6 * 7)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), run.folder / "live.ipynb")
    page, complaints = run("live.ipynb", "'answer'")
    page.wait_for_selector(".course-live .step-player[data-at='6']")
    assert page.locator(".output_area iframe").evaluate("frame => frame.getBoundingClientRect().height") == 0
    before = ink(page)
    for handle in (0, 2):
        page.locator(".course-live .ui-slider-handle").nth(handle).focus()
        page.keyboard.press("ArrowRight")
    says(page, "Press Draw to see .*steps = 7, eta = 0, seed = 1")
    page.get_by_role("button", name="Draw").click()
    says(page, "Drawn with sampler = ddim, steps = 7, eta = 0, seed = 1")
    assert reaches(page, 7) and ink(page) != before
    page.focus(".step-player .slider")
    page.keyboard.press("Home")
    assert reaches(page, 0) and words(page).startswith("t = 7: ")
    page.keyboard.press("End")

    choose(page, "slow")
    page.locator(".course-live .ui-slider-handle").first.focus()
    page.keyboard.press("End")
    says(page, "Press Draw to see sampler = slow, steps = 50")
    page.get_by_role("button", name="Draw").click()  # ten seconds, if nobody stops it
    page.wait_for_function("/^step [3-9] of 50$/.test(document.querySelector('.course-live .count').textContent)")
    page.evaluate("const cell = Jupyter.notebook.get_cell(1); cell.set_text('print(\"meanwhile\")'); cell.execute()")
    page.wait_for_function("Jupyter.notebook.get_cell(1).output_area.outputs[0]?.text === 'meanwhile\\n'")
    assert said(page).startswith("Drawing with sampler = slow")
    assert reaches(page, stop(page))
    screenshot(page, "stopped")
    choose(page, "broken")
    page.get_by_role("button", name="Draw").click()
    assert "<img src=x onerror=" in says(page, "No picture for sampler = broken")
    assert page.locator(".course-live img").count() == 0 and page.title() != "broken" and own(complaints) == []
