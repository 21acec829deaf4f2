"""The companion in JupyterLab: a control is moved, a run drawn again, watched and stopped, and the notebook answers."""

import re
import time

import nbformat
import pytest

from .hands import at, ink, open_notebook, reaches, words

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
SOURCE = """
import time
from types import SimpleNamespace as Some
import numpy as np
from course_lib.widgets import live

def draw(sampler, steps, eta, seed):
    slow = 0.2 if sampler == "slow" else 0.0
    x0, eps = np.random.default_rng(seed).uniform(-1, 1, (2, 4, 1, 8, 8))
    for t in range(steps, 0, -1):
        time.sleep(slow)
        if sampler == "broken" and t == 2:
            raise ValueError("<img src=x onerror=document.title='broken'>")
        guess = x0 * (1 - (t - 1) / steps)
        x_t = (1 - t / steps) * guess + t / steps * eps
        yield Some(t=t, t_next=t - 1, x_t=x_t, prediction=Some(x0=guess, eps=eps), x_next=x0)

def used(values):
    return values["sampler"] == "ddim"

companion = live(draw, alt="squares in {steps} steps", title="{sampler}", sampler=["ddim", "slow", "broken"],
    steps=(2, 50, 6), eta=(0.0, 1.0), seed=(0, 99), uses={"eta": used})
companion
"""
IN_FRONT = ".jp-NotebookPanel:not(.lm-mod-hidden)"


@pytest.fixture
def notebook(lab, open_page):
    """Return a function that opens the companion's notebook, run from a fresh kernel, or only opened again."""
    base, folder = lab

    def opened(name, run=True, **look):
        path = folder / name
        if run:
            cells = [nbformat.v4.new_code_cell(source) for source in (SOURCE, "print('answer', 6 * 7)")]
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), path)
        page, complaints = open_page(**{"viewport": {"width": 1200, "height": 1000}, **look})
        open_notebook(page, base, name)
        page.set_default_timeout(60_000)
        if run:
            page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
            page.wait_for_selector(f"{IN_FRONT} .course-live .step-player[data-at]")
        return page, complaints, path

    return opened


def said(page):
    return page.inner_text(".course-live-line p")


def says(page, pattern, seconds=60):
    """Wait until the companion's sentence has the pattern in it; return the sentence."""
    end = time.monotonic() + seconds
    while not re.search(pattern, said(page)):
        assert time.monotonic() < end, f"{said(page)!r} has no {pattern!r}"
        page.wait_for_timeout(30)
    return said(page)


def choose(page, name):
    page.locator(".course-live select").first.select_option(label=name)


def stop(page):
    """Press Stop in the middle of a slow run of 50 steps, and return how many were drawn: hardly more than before."""
    before = int(page.inner_text(".course-live .count").split()[1])
    page.get_by_role("button", name="Stop").click()
    done = int(re.search(r"Stopped after (\d+) of 50 steps", says(page, "Stopped after"))[1])
    assert before <= done <= before + 10 < 50  # two seconds, if the machine has nothing else to do
    return done


def answer(page, word):
    """Run another cell that prints a word, and return what it printed; the cell may be out of sight."""
    return page.evaluate(
        """async (word) => {
          const notebook = window.jupyterapp.shell.currentWidget.content, cell = notebook.widgets[1];
          cell.model.sharedModel.setSource(`print("${word}")`);
          notebook.activeCellIndex = 1;
          await window.jupyterapp.commands.execute("notebook:run-cell");
          return cell.model.outputs.get(0)?.toJSON().text;
        }""",
        word,
    )


def test_a_moved_control_and_draw_show_a_new_run(notebook, screenshot):
    page, complaints, _ = notebook("live.ipynb")
    assert said(page) == "Drawn with sampler = ddim, steps = 6, eta = 0, seed = 0."
    assert reaches(page, 6) and words(page) == "t = 0: the end, as the run left it"
    assert page.locator(".jp-OutputArea iframe").evaluate("frame => frame.getBoundingClientRect().height") == 0
    screenshot(page, "first")
    before = ink(page)
    handles = page.locator(".course-live .noUi-handle")
    handles.nth(0).focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    says(page, "Press Draw to see .*steps = 9")
    handles.nth(2).focus()
    page.keyboard.press("ArrowUp")  # not the notebook's key now
    says(page, "Press Draw to see .*steps = 9, eta = 0, seed = 1")
    page.get_by_role("button", name="Draw").focus()
    page.keyboard.press("Enter")
    says(page, "Drawn with sampler = ddim, steps = 9, eta = 0, seed = 1")
    assert reaches(page, 9) and ink(page) != before and page.inner_text(".course-live .count") == "step 9 of 9"
    page.focus(".step-player .slider")
    page.keyboard.press("Home")
    assert reaches(page, 0) and words(page).startswith("t = 9: ")
    assert complaints == []
    screenshot(page, "drawn")


def test_stop_is_heard_between_two_steps_and_the_notebook_answers_meanwhile(notebook, screenshot):
    page, complaints, _ = notebook("slow.ipynb")
    choose(page, "slow")
    page.locator(".course-live .noUi-handle").first.focus()
    page.keyboard.press("End")
    says(page, "Press Draw to see sampler = slow, steps = 50")
    page.get_by_role("button", name="Draw").click()  # ten seconds, if nobody stops it
    page.wait_for_function("/^step [3-9] of 50$/.test(document.querySelector('.course-live .count').textContent)")
    assert answer(page, "meanwhile") == "meanwhile\n" and said(page).startswith("Drawing with sampler = slow")
    page.wait_for_selector(".course-live .step-player .ends span:has-text('t = 50')")  # what is drawn so far
    screenshot(page, "drawing")
    done = stop(page)
    assert reaches(page, done) and words(page) == f"t = {50 - done}: the end, as the run left it"
    assert page.get_by_role("button", name="Stop").is_disabled()
    screenshot(page, "stopped")
    page.get_by_role("button", name="Draw").click()
    says(page, "Drawing with sampler = slow")
    choose(page, "ddim")
    page.get_by_role("button", name="Draw").click()  # in the middle of the other
    says(page, "Drawn with sampler = ddim, steps = 50")
    assert reaches(page, 50) and complaints == []


def test_an_error_is_a_sentence_and_the_picture_stays(notebook, screenshot):
    page, complaints, _ = notebook("broken.ipynb")
    before = ink(page)
    choose(page, "broken")
    page.get_by_role("button", name="Draw").click()
    sentence = says(page, "No picture for sampler = broken")
    assert "<img src=x onerror=document.title='broken'>" in sentence and page.locator(".course-live img").count() == 0
    assert ink(page) == before and page.title() != "broken" and complaints == []
    screenshot(page, "broken")


def test_a_notebook_opened_again_has_the_last_run_and_no_error(notebook, screenshot):
    page, _, path = notebook("again.ipynb")
    page.locator(".course-live .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    says(page, "Press Draw to see .*steps = 7")
    page.get_by_role("button", name="Draw").click()
    says(page, "Drawn with .*steps = 7")
    page.wait_for_selector(".jp-OutputArea iframe[title='squares in 7 steps']", state="attached")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    assert "squares in 7 steps" in path.read_text(encoding="utf-8")
    page.evaluate("window.jupyterapp.commands.execute('kernelmenu:shutdown')")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel")
    page, _, _ = notebook("again.ipynb", run=False)
    frame = page.wait_for_selector(f"{IN_FRONT} .jp-OutputArea iframe[title='squares in 7 steps']").content_frame()
    frame.wait_for_selector(".step-player[data-at='7']")
    frame.focus(".slider")
    page.keyboard.press("ArrowLeft")
    assert reaches(frame, 6) and at(frame) == 6
    shown = page.locator(f"{IN_FRONT} .jp-OutputArea").first
    assert shown.locator("> .jp-OutputArea-child").count() == 2 and "model not found" not in shown.inner_text()
    screenshot(page, "again")
