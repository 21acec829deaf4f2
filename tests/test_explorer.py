"""The explorer: controls, words and picture agree, whatever is set, with ipywidgets 7.7.1 and 8 alike."""

import ast
import asyncio
import base64
import html.parser
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ipywidgets
import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from course_lib.widgets import explore, explorer

PNG = b"\x89PNG"


def draw_line(calls=None):
    """A draw function that writes its values into the picture, and records them."""

    def draw(**values):
        if calls is not None:
            calls.append(values)
        figure = plt.figure(figsize=(3, 1))
        figure.text(0, 0.5, "".join(char for char in str(values) if char not in "$<>"))
        return figure

    return draw


def test_a_slider_redraws_picture_and_words():
    calls = []
    shown = explore(draw_line(calls), alt="noise at t = {t}", t=(0, 1000, 400))
    before = shown.png
    shown.controls["t"].value = 500
    assert calls == [{"t": 400}, {"t": 500}]
    assert shown.words == "noise at t = 500" and shown.png.startswith(PNG) and shown.png != before
    assert shown._picture.value == shown.png and "noise at t = 500" in shown._caption.value


def test_each_kind_of_control():
    shown = explore(
        draw_line(),
        alt="{name} {T} {t} {share}",
        name=["linear", "cosine"],
        T=[1000, 10],
        t=(0, "T", 400),
        share=(0.0, 1),
    )
    assert [type(control) for control in shown.controls.values()] == [
        ipywidgets.Dropdown,
        ipywidgets.SelectionSlider,
        ipywidgets.IntSlider,
        ipywidgets.FloatSlider,
    ]
    assert shown.values == {"name": "linear", "T": 1000, "t": 400, "share": 0.0}
    assert [control.description for control in shown.controls.values()] == ["name", "T", "t", "share"]


def test_values_stay_in_bounds():
    shown = explore(draw_line(), alt="{t}", t=(0, 10, 5), name=["a", "b"])
    shown.controls["t"].value = 99
    assert shown.values["t"] == 10 and shown.words == "10"
    with pytest.raises(Exception, match="nvalid selection"):
        shown.controls["name"].value = "c"
    assert shown.values["name"] == "a"


def test_a_slider_follows_the_control_that_it_ends_at():
    calls = []
    shown = explore(draw_line(calls), alt="{t} of {T}", T=[1000, 100], t=(0, "T", 400))
    shown.controls["T"].value = 100
    assert shown.words == "100 of 100" and calls[1:] == [{"T": 100, "t": 100}]  # drawn once, never beyond T
    shown.controls["T"].value = 1000
    assert shown.controls["t"].max == 1000 and shown.words == "100 of 1000"


def test_a_drag_is_drawn_once_where_a_loop_runs():
    calls = []
    shown = explore(draw_line(calls), alt="{t}", t=(0, 100))

    async def drag():
        for t in range(1, 60):
            shown.controls["t"].value = t
        assert len(calls) == 1
        await asyncio.sleep(explorer.PAUSE * 10)

    asyncio.run(drag())
    assert calls == [{"t": 0}, {"t": 59}] and shown.words == "59"


def test_showing_it_catches_up_with_a_move_made_in_the_same_cell():
    shown = explore(draw_line(), alt="{t}", t=(0, 100))

    async def cell():
        shown.controls["t"].value = 7
        return shown._repr_mimebundle_()[0]["text/plain"]

    assert asyncio.run(cell()) == "[picture with sliders: 7]"


def test_an_error_in_drawing_becomes_a_sentence_and_heals():
    def draw(t):
        if t == 3:
            raise ValueError("no row <b>3</b>")
        return draw_line()(t=t)

    shown = explore(draw, alt="t = {t}", t=(0, 5))
    picture = shown.png
    shown.controls["t"].value = 3
    assert shown.words == "No picture for t = 3: drawing stopped with ValueError: no row <b>3</b>"
    assert shown.png == picture and "<b>" not in shown._caption.value
    shown.controls["t"].value = 4
    assert shown.words == "t = 4"


def test_an_error_in_the_first_drawing_is_raised():
    def broken(t):
        raise ZeroDivisionError("first frame")

    with pytest.raises(ZeroDivisionError, match="first frame"):
        explore(broken, alt="t = {t}", t=(0, 5))


class Reader(html.parser.HTMLParser):
    """Keeps the tags and the alt text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.alt, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.alt += [value for name, value in attrs if name == "alt"]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def test_the_bundle_is_a_picture_with_words_where_no_widget_runs():
    hostile = '"><script>alert(1)</script><img onerror=x>'
    shown = explore(draw_line(), alt=lambda name: f"chosen: {name}", name=["plain", hostile])
    shown.controls["name"].value = hostile
    data, metadata = shown._repr_mimebundle_()
    page = Reader(data["text/html"])
    assert page.tags == ["div", "figure", "img", "figcaption", "p", "style"] and page.alt == [f"chosen: {hostile}"]
    assert base64.b64decode(data["image/png"]) == shown.png and metadata["image/png"]["alt"] == shown.words
    assert data["text/plain"] == f"[picture with sliders: chosen: {hostile}]"
    assert Reader(shown._caption.value).tags == ["p"]
    assert set(data) == {"text/plain", "text/html", "image/png"}  # a live view would hide the rest, and then be gone


def test_a_notebook_gets_the_still_picture_then_the_sliders_and_keeps_the_last_picture(monkeypatch):
    shown, outputs, kept = explore(draw_line(), alt="t = {t}", t=(0, 9)), [], []
    handle = SimpleNamespace(update=lambda data, **more: kept.append(data["text/plain"]))

    def display(data, **more):
        outputs.append(data)
        return handle

    monkeypatch.setattr("IPython.display.display", display)
    shown._ipython_display_()
    view = outputs[1]["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == shown.box.model_id and "text/html" not in outputs[1]
    mark = re.search("course-still-[0-9a-f]{8}", outputs[0]["text/html"]).group()
    assert f".{mark} {{ display: none }}" in shown.box.children[-1].value

    async def drag():
        for t in range(1, 6):
            shown.controls["t"].value = t
            await asyncio.sleep(explorer.PAUSE * 2)
        assert kept == []  # not in the middle of a drag
        await asyncio.sleep(explorer.REST + 0.5)

    asyncio.run(drag())
    assert kept == ["[picture with sliders: t = 5]"]


def test_figures_do_not_pile_up():
    plt.close("all")
    shown = explore(draw_line(), alt="{t}", t=(0, 100))
    for t in (1, 2, 3):
        shown.controls["t"].value = t
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        ({}, "expected at least one control"),
        ({"t": 5}, "expected the control t as"),
        ({"t": []}, "expected the control t as"),
        ({"t": (1, 2, 3, 4)}, "expected the control t as"),
        ({"t": (5, 5)}, "expected low <= start <= high"),
        ({"t": (0, 10, 11)}, "expected low <= start <= high"),
        ({"t": (0, float("nan"))}, "expected low <= start <= high"),
        ({"t": (True, 3)}, "expected low <= start <= high"),
        ({"t": (0, "T")}, "expected t to end at a number or at an earlier control"),
        ({"T": ["a"], "t": (0, "T")}, "expected t to end at a number or at an earlier control"),
        ({"<b>": (0, 1)}, "expected a control's name to be a Python name"),
    ],
)
def test_bad_controls_are_refused_in_a_sentence(controls, words):
    with pytest.raises((TypeError, ValueError), match=words):
        explore(draw_line(), alt="words", **controls)


def test_bad_draw_and_bad_alt_are_refused_in_a_sentence():
    with pytest.raises(TypeError, match="expected draw to be a function"):
        explore("draw", alt="words", t=(0, 1))
    with pytest.raises(TypeError, match="expected draw to return a matplotlib Figure, got NoneType"):
        explore(lambda t: None, alt="words", t=(0, 1))
    for empty in ("", "  ", None):
        with pytest.raises(ValueError, match="expected alt"):
            explore(draw_line(), alt=empty, t=(0, 1))
    with pytest.raises(ValueError, match="expected alt to give a sentence"):
        explore(draw_line(), alt=lambda t: " ", t=(0, 1))


def test_widgets_import_no_torch():
    for path in Path(explorer.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = [
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        ]
        imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert imported and not any(name.split(".")[0] == "torch" for name in imported)
    code = "import sys, course_lib.widgets; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(explorer.__file__).parents[2]).returncode == 0
    )
