"""A lesson's page: pictures carry alt text, predictions are kept, nothing a reader writes runs as HTML."""

import base64
import html
import re

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure

from course_lib import doctor, page
from course_lib.page import Guess, predict, show, start

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def shown(monkeypatch):
    """Collect what is displayed."""
    collected = []
    monkeypatch.setattr("IPython.display.display", collected.append)
    monkeypatch.setattr(page, "_guesses", {})
    return collected


def test_start_prints_one_line_and_seeds_nothing(capsys):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    start("01")
    start("01")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Lesson 01 | {doctor.line()}"] * 2
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("bad", ["1", "001", 1, "one"])
def test_start_refuses_what_is_no_lesson_number(bad):
    with pytest.raises(ValueError, match="expected a lesson number of two digits"):
        start(bad)


def test_show_puts_the_alt_text_in_every_form_of_one_bundle(shown):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    show(figure, 'A line from "one"\n to <two>.')
    data, metadata = shown[0]._repr_mimebundle_()
    alt = 'A line from "one" to <two>.'
    assert set(data) == {"text/html", "image/png", "text/plain"}
    assert data["text/plain"] == metadata["image/png"]["alt"] == alt
    assert re.search(r'alt="([^"]*)"', data["text/html"])[1] == html.escape(alt)
    assert "<two>" not in data["text/html"] and data["text/html"].startswith("<figure><img ")
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG") and data["image/png"] in data["text/html"]
    assert repr(shown[0]) == f"[picture: {alt}]"


def test_show_makes_the_same_bytes_each_time_and_closes_the_figure(shown):
    for _ in range(2):
        figure, axes = plt.subplots(figsize=(2, 1))
        axes.plot([1, 2])
        show(figure, "A line that rises.")
        assert not plt.fignum_exists(figure.number)
    assert shown[0].png == shown[1].png


def test_show_refuses_silence_and_what_is_no_figure(shown):
    with pytest.raises(ValueError, match="expected alt text"):
        show(Figure(), "  \n ")
    with pytest.raises(ValueError, match="expected alt text"):
        show(Figure(), None)
    with pytest.raises(TypeError, match="expected a matplotlib Figure, got list"):
        show([1], "A list.")
    assert shown == []


def _parts(question):
    """The words above the buttons, and the buttons."""
    words, row = question.box.children
    return words.value, row.children


def test_predict_is_unanswered_until_somebody_chooses(shown):
    guess = predict("1.b", "deviation of the sum", options=[7, 5, 3.5])
    assert guess.value is None
    assert guess.compare(5).startswith("You made no guess this time; 5 came out.")
    words, buttons = _parts(shown[0])
    assert words == "deviation of the sum" and [button.icon for button in buttons] == ["", "", ""]
    assert [button.tooltip for button in buttons][1] == "deviation of the sum: 5"  # what a screen reader says
    buttons[0].click()
    buttons[1].click()  # changed my mind
    assert guess.value == 5
    words, buttons = _parts(shown[0])
    assert words == "deviation of the sum (kept: 5)" and [button.icon for button in buttons] == ["", "check", ""]


def test_running_the_cell_again_keeps_the_choice_until_the_question_changes(shown):
    guess = predict("1.b", "deviation of the sum", [7, 5])
    guess.choose(7)
    assert predict("1.b", "deviation of the sum", [7, 5]).value == 7
    assert [button.icon for button in _parts(shown[1])[1]] == ["check", ""]
    assert predict("1.b", "another question", [7, 5]).value is None


def test_the_question_reads_without_widgets_and_escapes_its_words(shown):
    guess = predict("1.c", "is <b>5</b> & 6", ["<script>", "no"])
    bundle = shown[0]._repr_mimebundle_()
    assert "<script>" not in bundle["text/html"] and "<b>" not in bundle["text/html"]
    assert "<li>&lt;script&gt;</li><li>no</li>" in bundle["text/html"]
    assert bundle["text/plain"] == repr(guess) == "is <b>5</b> & 6: <script>, no? (not answered yet)"
    assert WIDGET not in bundle
    assert not any(isinstance(child, ipywidgets.HTML) for child in shown[0].box.children)


def test_a_saved_notebook_keeps_the_question_and_the_choice_in_an_output_of_its_own(shown):
    class Kept(list):
        def update(self, bundle, raw):
            assert raw
            self.append(bundle)

    predict("1.e", "half of it", [7, 5])
    (question,) = shown
    kept = Kept()
    shown_raw = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda data, **how: (shown_raw.append(data), kept)[1])
        question._ipython_display_()
    still, live = shown_raw
    assert "<li>7</li>" in still["text/html"] and WIDGET not in still and set(live) == {"text/plain", WIDGET}
    _parts(question)[1][1].click()
    assert "half of it (kept: 5)" in kept[-1]["text/html"]


@pytest.mark.parametrize("options", [[5], [5, 5], [5, "5"], []])
def test_predict_needs_different_options(options, shown):
    with pytest.raises(ValueError, match="expected at least two different options"):
        predict("1.d", "which", options)


@pytest.mark.parametrize(
    ("options", "chosen", "outcome", "words"),
    [
        ([7, 5, 3.5], 5, 5, "Your guess was 5, and that is what came out"),
        ([7, 5, 3.5], 5, 4.98, "Your guess was 5, and 4.98 came out: you saw it coming."),
        ([7, 5, 3.5], 7, 4.98, "Your guess was 7, and 4.98 came out: a surprise"),
        (["higher", "lower"], "lower", "lower", "that is what came out"),
        (["higher", "lower"], "lower", "higher", "a surprise"),
        ([True, False], True, False, "a surprise"),
    ],
)
def test_compare_says_kindly_how_it_went(options, chosen, outcome, words):
    guess = Guess("which", options)
    guess.choose(chosen)
    said = guess.compare(outcome)
    assert words in said and repr(said) == said
    assert f"your guess: {chosen}" in repr(guess)


def test_choose_refuses_what_was_not_offered():
    with pytest.raises(ValueError, match=r"expected one of \[7, 5\], got 6"):
        Guess("which", [7, 5]).choose(6)
