"""The step player in a real browser: it plays, scrubs and steps, by mouse and keys, and says what happens."""

import time
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from course_lib.widgets import StepPlayer

from .hands import at, drag, ink, open_notebook, reaches, words

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">\"'& \U0001f600"
SIZE = "document.documentElement.scrollWidth <= window.innerWidth"


def steps_of(x0, n, seed=0):
    """n steps along the flow path to x0 (N, ...), with guesses that get better."""
    eps = np.random.default_rng(seed).standard_normal(x0.shape)
    steps = []
    for t in range(n, 0, -1):
        guess, share = x0 * (1 - t / n), t / n
        prediction = SimpleNamespace(x0=guess, eps=eps)
        x_t, x_next = (1 - share) * guess + share * eps, x0
        steps.append(SimpleNamespace(t=t, t_next=t - 1, x_t=x_t, prediction=prediction, x_next=x_next))
    return steps


def pictures(n=4, side=8):
    return np.random.default_rng(1).uniform(-1, 1, (n, 1, side, side))


@pytest.fixture
def show(open_page, tmp_path):
    """Return a function that opens a player's page from a file, or the frame that a saved notebook holds."""

    def shown(player, framed=False, **look):
        page, complaints = open_page(**look)
        path = tmp_path / "page.html"
        if framed:
            path.write_text(f"<!doctype html>{player._repr_mimebundle_()[0]['text/html']}", encoding="utf-8")
        else:
            path.write_text(player.page(), encoding="utf-8")
        page.goto(path.as_uri())
        inside = page.frames[1] if framed else page
        inside.wait_for_selector(".step-player[data-at]")
        return SimpleNamespace(page=page, inside=inside, complaints=complaints)

    return shown


@pytest.mark.parametrize("framed", [False, True], ids=["page", "frame"])
def test_keys_step_and_words_and_pictures_follow(show, screenshot, framed):
    player = StepPlayer(steps_of(pictures(), 10), alt="a", title="Ten steps")
    seen = show(player, framed)
    inside, press = seen.inside, seen.page.keyboard.press
    before = [ink(inside, k) for k in range(4)]
    inside.focus(".slider")
    moves = {"ArrowRight": 1, "ArrowUp": 2, "ArrowLeft": 1, "End": 10, "ArrowDown": 9, "Home": 0}
    for key, place in moves.items():
        press(key)
        assert reaches(inside, place) and words(inside) == player.words(place), key
    press("ArrowRight")
    reaches(inside, 1)
    after = [ink(inside, k) for k in range(4)]
    assert all(old != new for old, new in zip(before[:2], after[:2], strict=True)) and before[3] != after[3]
    assert inside.get_attribute(".slider", "aria-valuetext") == player.words(1)
    screenshot(seen.page, "framed" if framed else "page")
    assert seen.complaints == []


def test_the_pictures_are_the_recorded_ones(show):
    x0 = np.where(np.arange(16).reshape(1, 1, 4, 4) % 3, 1.0, -1.0)
    seen = show(StepPlayer(steps_of(x0, 4), alt="a"))
    seen.inside.click("button.last")
    pixels = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    shown = seen.inside.eval_on_selector("canvas", pixels)[::4]
    assert shown == [255 if value > 0 else 0 for value in x0.ravel()]


def test_the_slider_and_the_curve_are_dragged(show):
    seen = show(StepPlayer(steps_of(pictures(), 20), alt="a"))
    drag(seen.page, seen.inside, ".slider", 0, 0.5)
    assert reaches(seen.inside, 10)
    drag(seen.page, seen.inside, ".chart", 0.5, 0.75)
    assert reaches(seen.inside, 15) and words(seen.inside).startswith("t = 5: ")
    assert seen.complaints == []


def test_it_plays_to_the_end_pauses_and_begins_again(show):
    seen = show(StepPlayer(steps_of(pictures(), 6), alt="a"))
    assert at(seen.inside) == 0  # nothing moves by itself
    seen.inside.select_option("select", "4")
    seen.inside.focus(".slider")
    seen.page.keyboard.press("Space")
    assert seen.inside.get_attribute("button.play", "aria-label") == "Pause (space)"
    assert seen.inside.get_attribute(".words", "aria-live") == "off"
    seen.inside.wait_for_selector(".step-player[data-at='6']")
    seen.inside.wait_for_selector("button.play[aria-label='Play (space)']")
    assert seen.inside.get_attribute(".words", "aria-live") == "polite"
    seen.inside.select_option("select", "0.25")
    seen.inside.click("button.play")
    seen.inside.wait_for_selector(".step-player:not([data-at='0'])")
    seen.inside.click("button.play")
    stopped = at(seen.inside)
    seen.page.wait_for_timeout(1700)  # longer than a frame at this speed
    assert at(seen.inside) == stopped < 6


def test_runs_keep_in_step_by_noise_level(show):
    seen = show(StepPlayer({"long": steps_of(pictures(), 20), "short": steps_of(pictures(), 4)}, alt="a"))
    seen.inside.focus(".slider")
    for _ in range(10):
        seen.page.keyboard.press("ArrowRight")
    long, short = (text.split(": ")[1] for text in words(seen.inside).split("\n\n"))
    assert (long, short) == ("t = 10", "t = 2")  # half the noise in both, at frames 10 and 2
    seen.page.keyboard.press("End")
    assert words(seen.inside).count("the end") == 2


def test_panels_that_are_chosen_stand_alone_under_their_names(show, screenshot):
    panels = {"x_t": "the generator", "x0": "its average"}
    seen = show(StepPlayer(steps_of(pictures(), 5), alt="a", panels=panels))
    assert seen.inside.locator(".panels figcaption").all_inner_texts() == ["the generator", "its average"]
    assert "rate" not in seen.inside.inner_text(".facts")
    seen.page.keyboard.press("Tab")
    seen.page.keyboard.press("p")
    assert seen.inside.locator(".pinned canvas").count() == 2
    screenshot(seen.page, "panels")
    assert seen.complaints == []


def test_a_picture_is_pinned_by_mouse_and_by_key(show, screenshot):
    seen = show(StepPlayer({"a": steps_of(pictures(), 5), "b": steps_of(pictures(), 5)}, alt="a"))
    assert not seen.inside.is_visible(".pinned")
    box = seen.inside.locator("canvas").first.bounding_box()
    seen.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.75 * box["height"])
    assert seen.inside.input_value("input[type=number]") == "4" and seen.inside.locator(".pinned canvas").count() == 6
    seen.inside.focus(".slider")
    seen.page.keyboard.press("End")
    now, then = (seen.inside.locator(".pinned canvas").nth(k).evaluate("c => c.toDataURL()") for k in (1, 2))
    assert now != then and "at t = 5" in seen.inside.inner_text(".pinned")
    screenshot(seen.page, "pinned")
    seen.page.keyboard.press("p")
    assert not seen.inside.is_visible(".pinned")
    assert seen.complaints == []


def test_a_cloud_with_paths_and_a_field(show, screenshot):
    steps = steps_of(np.random.default_rng(0).standard_normal((60, 2)), 8)
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 5), np.linspace(-2, 2, 5)), -1).reshape(-1, 2)
    field = grid, np.stack([grid * k for k in range(8)])
    with_field, without = StepPlayer(steps, alt="a", field=field), StepPlayer(steps, alt="a", paths=[])
    seen, bare = show(with_field), show(without)
    frames = []
    seen.inside.focus(".slider")
    for _ in range(9):
        frames.append(ink(seen.inside))
        seen.page.keyboard.press("ArrowRight")
    screenshot(seen.page, "cloud")
    assert len(set(frames)) == 9 and frames[0] != ink(bare.inside)
    box = seen.inside.locator("canvas").first.bounding_box()
    before = ink(seen.inside)
    seen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert ink(seen.inside) != before and seen.complaints == []


def test_hostile_words_are_shown_as_they_are(show):
    long = HOSTILE + "y" * 10_000
    runs = {HOSTILE: steps_of(pictures(), 2), "b": steps_of(pictures(), 2)}
    curve = {long: {HOSTILE: [1, 2], "b": [2, 1]}}
    player = StepPlayer(runs, alt=long, title=long, words=lambda step: HOSTILE, curve=curve)
    for framed in (False, True):
        seen = show(player, framed)
        assert HOSTILE in words(seen.inside) and seen.inside.text_content("h3") == long
        assert seen.inside.locator("img").count() == 0 and seen.page.title() != "broken"
        assert seen.inside.evaluate(SIZE)
        assert seen.complaints == []


def test_what_is_not_a_number_is_painted_orange(show):
    steps = steps_of(np.zeros((1, 1, 4, 4)), 2)
    for step in steps:
        step.x_t = step.x_t.copy()
        step.x_t[0, 0, 0, 0] = step.prediction.x0[0, 0, 0, 0] = np.nan
    seen = show(StepPlayer(steps, alt="a"))
    corner = "c => Array.from(c.getContext('2d').getImageData(0, 0, 1, 1).data)"
    assert seen.inside.eval_on_selector("canvas", corner) == [213, 94, 0, 255]
    assert "not a number in 1 of 1" in words(seen.inside) and seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(show, screenshot, scheme):
    look = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "has_touch": True}
    runs = {"twenty steps": steps_of(pictures(16, 28), 20), "four steps": steps_of(pictures(16, 28), 4)}
    seen = show(StepPlayer(runs, alt="a", title="Two runs on a phone"), device_scale_factor=2, **look)
    assert seen.inside.evaluate(SIZE)
    heights = "all => all.map((one) => one.getBoundingClientRect().height)"
    assert min(seen.inside.locator("button, select, input").evaluate_all(heights)) >= 28
    seen.inside.locator("button.next").tap()
    assert reaches(seen.inside, 1)
    dark = seen.inside.evaluate("document.querySelector('.step-player').classList.contains('dark')")
    assert dark == (scheme == "dark")
    screenshot(seen.page, scheme)


def test_another_theme_of_the_page_is_followed_at_once(show):
    seen = show(StepPlayer(steps_of(pictures(), 3), alt="a"))
    is_dark = "() => document.querySelector('.step-player').classList.contains('dark')"
    chart = "document.querySelector('.chart').toDataURL()"
    assert not seen.inside.evaluate(is_dark)
    before = seen.inside.evaluate(chart)
    seen.inside.evaluate("document.body.style.cssText = 'color: #eee; background: #111'")
    seen.inside.wait_for_function(is_dark)
    assert seen.inside.evaluate(chart) != before and seen.complaints == []


def test_every_control_has_a_name_and_tab_reaches_it_in_order(show):
    seen = show(StepPlayer(steps_of(pictures(), 3), alt="a"))
    reached = []
    for _ in range(9):
        seen.page.keyboard.press("Tab")
        reached.append(seen.page.evaluate("[document.activeElement.tagName, document.activeElement.className]"))
    assert [kind or tag for tag, kind in reached] == [
        "slider", "first", "back", "play", "next", "last", "SELECT", "INPUT", "pin",
    ]  # fmt: skip
    tree = seen.page.locator(".step-player").aria_snapshot()
    for name in ("Step", "First step (Home)", "Play (space)", "speed", "picture", "Pin (P)"):
        assert f'"{name}"' in tree, tree


# ---- JupyterLab -------------------------------------------------------------------------------------------------

SOURCE = """
from types import SimpleNamespace as Some
import numpy as np
from course_lib.widgets import StepPlayer
x0, eps = np.random.default_rng(0).uniform(-1, 1, (2, 4, 1, 8, 8))
def step(t):
    guess = x0 * (1 - t / 6)
    return Some(t=t, t_next=t - 1, x_t=guess + t / 6 * eps, prediction=Some(x0=guess, eps=eps), x_next=x0)
player = StepPlayer([step(t) for t in range(6, 0, -1)], alt="squares", title="In the notebook")
player
"""
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def framed_player(page):
    """The player in the notebook's first output."""
    frame = page.wait_for_selector(".jp-OutputArea iframe[srcdoc]").content_frame()
    frame.wait_for_selector(".step-player[data-at]")
    return frame


def try_out(page, inside, first):
    """Step, drag and play, and see that pictures and words follow and that the notebook keeps its keys to itself."""
    assert at(inside) == 0 and words(inside) == first
    before = ink(inside)
    inside.focus(".step-player .slider")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert reaches(inside, 2) and words(inside).startswith("t = 4: ") and ink(inside) != before
    inside.locator(".slider").scroll_into_view_if_needed()
    drag(page, inside, ".step-player .slider", 2 / 6, 5 / 6)
    inside.wait_for_selector(".step-player:not([data-at='2'])", timeout=10_000)
    assert at(inside) > 2
    page.keyboard.press("Home")
    reaches(inside, 0)
    page.keyboard.press("Space")
    inside.wait_for_selector(".step-player:not([data-at='0'])")
    assert inside.evaluate("document.activeElement.className") == "slider"
    page.keyboard.press("Home")  # stops it
    assert reaches(inside, 0)


def test_jupyterlab_runs_it_and_saves_what_needs_no_kernel(lab, open_page, screenshot):
    base, folder = lab
    cells = [nbformat.v4.new_code_cell(source) for source in (SOURCE, "player.widget")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), folder / "player.ipynb")
    page, _ = open_page(viewport={"width": 1200, "height": 900})
    open_notebook(page, base, "player.ipynb")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    first = words(framed_player(page))
    try_out(page, framed_player(page), first)
    page.wait_for_selector(".jp-OutputArea .step-player[data-at]")  # the widget, in no frame
    screenshot(page, "live")
    try_out(page, page, first)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    deadline = time.monotonic() + 60
    while not nbformat.read(folder / "player.ipynb", 4).cells[0].outputs and time.monotonic() < deadline:
        time.sleep(0.2)
    assert set(nbformat.read(folder / "player.ipynb", 4).cells[0].outputs[0].data) == {
        "image/png", "text/html", "text/plain",
    }  # fmt: skip


def test_jupyterlab_shows_the_last_picture_of_a_notebook_that_it_does_not_trust(lab, open_page, screenshot):
    base, folder = lab
    bundle, metadata = StepPlayer(steps_of(pictures(), 5), alt="four squares")._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell("player", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("execute_result", bundle, metadata=metadata, execution_count=1)]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL), folder / "strange.ipynb")
    page, _ = open_page(viewport={"width": 1200, "height": 900})
    open_notebook(page, base, "strange.ipynb")
    still = page.wait_for_selector(".jp-OutputArea img[alt='four squares']")
    screenshot(page, "untrusted")
    assert still.evaluate("image => image.naturalWidth") > 100
    in_front = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea"  # other notebooks may be open behind it
    assert page.locator(f"{in_front} img").count() == 1 and page.locator(f"{in_front} iframe").count() == 0
