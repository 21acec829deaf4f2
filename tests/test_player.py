"""StepPlayer: what is recorded is what the steps hold, small, thinned honestly, and safe whatever its words are."""

import base64
import html.parser
import io
import json
import math
import re
import zlib
from types import SimpleNamespace

import ipywidgets
import matplotlib.image
import numpy as np
import pytest
import torch

from course_lib import data, schedules
from course_lib.models.exact import ExactPredictor
from course_lib.samplers import ddim_step, dpm_step, heun_step, sample_steps
from course_lib.widgets import StepPlayer, recording

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\u2028 \U0001f600 -->"


def steps_of(x0, n=5, seed=0, T=1000):
    """Steps along the cosine path to x0 (N, ...), each with a guess that is partly right."""
    schedule, eps = schedules.cosine(T), np.random.default_rng(seed).standard_normal(x0.shape)
    times, steps = schedule.steps(n), []
    for i in range(n):
        a, s = (float(table[times[i]]) for table in (schedule.signal_rate, schedule.noise_rate))
        guess = x0 * (i + 1) / n
        x_t = a * guess + s * eps
        x_next = x0 if i == n - 1 else x_t
        prediction = SimpleNamespace(x0=guess, eps=eps)
        steps.append(SimpleNamespace(t=times[i], t_next=times[i + 1], x_t=x_t, prediction=prediction, x_next=x_next))
    return steps


def digits(n=4, side=8, channels=1, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (n, channels, side, side))


def decoded(player, name, run=0):
    """Unpack one channel as the browser does, independently of how it was packed."""
    channel = player.score["runs"][run]["channels"][name]
    raw = zlib.decompress(player.data[channel["start"] : channel["start"] + channel["length"]])
    codes = np.frombuffer(raw, "<u2" if channel["levels"] > 255 else "u1").reshape(channel["frames"], -1)
    if channel["delta"]:
        codes = codes.cumsum(0, dtype=codes.dtype)
    nan = np.iinfo(codes.dtype).max
    span = channel["high"] - channel["low"]
    return np.where(codes == nan, np.nan, channel["low"] + span * codes / (channel["levels"] - 1))


def mixed(player, run=0):
    x0, eps = decoded(player, "x0", run), decoded(player, "eps", run)
    rates = [(frame["mix"]["signal"], frame["mix"]["noise"]) for frame in player.score["runs"][run]["frames"]]
    return np.array([a * x + s * e for (a, s), x, e in zip(rates, x0, eps, strict=True)])


# ---- what is recorded -------------------------------------------------------------------------------------------


def test_pictures_come_back_within_half_a_level():
    steps = steps_of(digits())
    player = StepPlayer(steps, alt="noise becomes squares", rates=schedules.cosine())
    wanted = np.array([step.prediction.x0.ravel() for step in steps] + [steps[-1].x_next.ravel()])
    assert np.abs(decoded(player, "x0") - wanted).max() <= 1 / 31 + 1e-9
    shown, x_t = mixed(player), np.array([step.x_t.ravel() for step in steps])
    assert np.abs(shown[:-1] - x_t).max() < 1 / 31 + 3.2 / 19 + 0.8  # noise beyond 3.2 deviations is cut
    assert np.sqrt(((shown[:-1] - x_t) ** 2).mean()) < 0.1
    assert np.abs(shown[-1] - steps[-1].x_next.ravel()).max() <= 1 / 31 + 1e-9


def test_points_come_back_finely():
    schedule = schedules.cosine(100)
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    steps = list(sample_steps(ddim_step, ExactPredictor(data.ring(), schedule), schedule, noise, schedule.steps(10)))
    player = StepPlayer(steps, alt="a ring appears", rates=schedule)
    assert player.score["kind"] == "points" and player.score["paths"] == [0, 1, 2, 3, 4]
    wanted = np.array([step.x_t.numpy().ravel() for step in steps] + [steps[-1].x_next.numpy().ravel()])
    assert np.abs(mixed(player) - wanted).max() < 0.01
    assert [frame["t"] for frame in player.score["runs"][0]["frames"]] == [*schedule.steps(10)]


@pytest.mark.parametrize("take", [ddim_step, heun_step, dpm_step])
def test_rates_are_found_where_none_are_given(take):
    schedule = schedules.flow(100)
    noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    steps = list(sample_steps(take, ExactPredictor(data.ring(), schedule), schedule, noise, schedule.steps(6)))
    given, found = (StepPlayer(steps, alt="a", rates=rates).score["runs"][0]["frames"] for rates in (schedule, None))
    for one, other in zip(given, found, strict=True):
        assert one["signal"] == pytest.approx(other["signal"], abs=1e-3)
        assert one["noise"] == pytest.approx(other["noise"], abs=1e-3)


def test_an_x_t_that_is_no_mixture_is_recorded_by_itself():
    steps = steps_of(digits())
    for step in steps:
        step.x_t = np.clip(step.x_t + 0.5, -1, 1)
    player = StepPlayer(steps, alt="a", rates=schedules.cosine())
    assert np.abs(decoded(player, "x_t")[:-1] - [step.x_t.ravel() for step in steps]).max() <= 1 / 63 + 1e-9
    assert "x_t" not in StepPlayer(steps_of(digits()), alt="a").score["runs"][0]["channels"]


def test_latents_are_shown_through_their_codec():
    class Double:
        def decode(self, x):
            return np.asarray(x)[:, :1].repeat(2, axis=2).repeat(2, axis=3)

    steps = steps_of(digits(channels=4, side=4))
    with pytest.raises(ValueError, match="expected pictures of 1 or 3 channels, got 4: give codec"):
        StepPlayer(steps, alt="a")
    channels = StepPlayer(steps, alt="a", codec=Double()).score["runs"][0]["channels"]
    assert (channels["x_t"]["height"], channels["x0"]["channels"]) == (8, 1)
    assert (channels["eps"]["height"], channels["eps"]["channels"]) == (4, 1)


def test_colours_stay_or_turn_grey():
    steps = steps_of(digits(channels=3))
    assert StepPlayer(steps, alt="a").score["runs"][0]["channels"]["x0"]["channels"] == 3
    assert StepPlayer(steps, alt="a", picture="grey").score["runs"][0]["channels"]["x0"]["channels"] == 1


def test_a_field_is_one_set_of_arrows_a_step():
    steps, points = steps_of(np.random.default_rng(0).standard_normal((9, 2))), np.array([[0.0, 1.0], [1.0, 0.0]])
    eps = np.arange(20.0).reshape(5, 2, 2)
    player = StepPlayer(steps, alt="a", field=(points, eps))
    assert player.score["runs"][0]["fieldPoints"] == points.tolist()
    assert np.abs(decoded(player, "field")[:5] - eps.reshape(5, 4)).max() < 0.01
    with pytest.raises(ValueError, match=r"expected field as points \(M, 2\)"):
        StepPlayer(steps, alt="a", field=(points, eps[:3]))


def test_panels_are_chosen_and_named():
    player = StepPlayer(steps_of(digits()), alt="a", panels={"x0": "its <b>average</b>"})
    assert player.score["panels"] == [("x0", "its <b>average</b>")]
    assert "<b>average" not in player.page()
    for wrong in ({}, {"x1": "a"}, ["x0"], "x0"):
        with pytest.raises(ValueError, match="expected panels as"):
            StepPlayer(steps_of(digits()), alt="a", panels=wrong)


# ---- thinning ---------------------------------------------------------------------------------------------------


def test_a_long_run_is_thinned_evenly_keeps_its_ends_and_says_so():
    steps = steps_of(digits(side=4), n=1000)
    player = StepPlayer(steps, alt="a", rates=schedules.cosine())
    frames = player.score["runs"][0]["frames"]
    assert (frames[0]["t"], frames[-1]["t"], len(frames)) == (1000, 0, recording.MOST_FRAMES)
    assert player.score["note"] == "Showing 120 of 1,001 frames."
    gaps = -np.diff([frame["level"] for frame in frames])
    assert gaps.max() < 3 * (math.pi / 2) / len(frames)


def test_a_thousand_steps_of_sixteen_digits_stay_under_two_megabytes():
    steps = steps_of(np.random.default_rng(0).uniform(-1, 1, (16, 1, 28, 28)), n=1000)
    for k, step in enumerate(steps):  # the worst case: nothing of one step's noise is in the next
        step.prediction.eps = np.random.default_rng(k).standard_normal(step.x_t.shape)
        a, s = (float(table[step.t]) for table in (schedules.cosine().signal_rate, schedules.cosine().noise_rate))
        step.x_t = a * step.prediction.x0 + s * step.prediction.eps
    player = StepPlayer(steps, alt="a", rates=schedules.cosine())
    assert len(player.data) <= recording.BYTES and len(player.score["runs"][0]["frames"]) >= 24
    assert len(json.dumps(player._repr_mimebundle_()[0])) + len(player.data) < 2_000_000


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((200, 1, 8, 8), "36 of 200 pictures"),
        ((2, 1, 512, 512), "1 of 2 pictures, every 4th pixel"),
        ((1, 3, 512, 512), "every 6th pixel"),
        ((3000, 2), "400 of 3,000 points"),
    ],
)
def test_what_is_too_much_is_left_out_and_said(shape, note):
    player = StepPlayer(steps_of(np.random.default_rng(0).uniform(-1, 1, shape), n=3), alt="a")
    assert note in player.score["note"] and len(player.data) <= recording.BYTES


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (3, 4, 4), (1, 2), (2, 3, 5, 7)])
@pytest.mark.parametrize("n", [1, 2])
def test_little_works_too(shape, n):
    player = StepPlayer(steps_of(np.random.default_rng(0).uniform(-1, 1, shape), n=n), alt="a")
    assert len(player.score["runs"][0]["frames"]) == n + 1 and player.score["note"] == ""
    assert player.words(-1) == "t = 0: the end, as the run left it"


# ---- several runs -----------------------------------------------------------------------------------------------


def test_runs_of_different_lengths_and_numbers_stand_side_by_side():
    player = StepPlayer({"long": steps_of(digits(6), 20), "short": steps_of(digits(4), 3)}, alt="a")
    assert [len(run["frames"]) for run in player.score["runs"]] == [21, 4]
    assert player.score["count"] == 4 and "4 of 6 pictures" in player.score["note"]
    assert player.words(0, run=1).startswith("t = 1000: ")


def test_a_run_that_skips_and_one_that_stops_early():
    early = steps_of(digits(), 10)[:4]
    frames = StepPlayer(early, alt="a", rates=schedules.cosine()).score["runs"][0]["frames"]
    assert frames[-1]["t"] == early[-1].t_next > 0
    assert frames[-1]["noise"] == pytest.approx(float(schedules.cosine().noise_rate[early[-1].t_next]))


# ---- words and curves -------------------------------------------------------------------------------------------


def test_words_follow_from_the_data():
    steps = steps_of(digits(), 10)
    player = StepPlayer(steps, alt="a", rates=schedules.cosine())
    said = [player.words(k) for k in range(11)]
    stages = [sentence.split(": ")[1].split(",")[0] for sentence in said]
    assert stages[0] == "hardly anything decided" and stages[9] == "only fine grain is left"
    assert list(dict.fromkeys(stages[:10])) == [
        "hardly anything decided",
        "rough shapes decided",
        "outlines decided",
        "strokes decided",
        "only fine grain is left",
    ]
    assert said[5] == f"t = {steps[5].t}: outlines decided, 51 % noise"


def test_words_may_be_the_lessons_own():
    steps = steps_of(digits(), 3)
    by_function = StepPlayer(steps, alt="a", words=lambda step: f"step {step.t}!")
    assert [by_function.words(k) for k in range(3)] == ["step 1000!", "step 667!", "step 333!"]
    assert StepPlayer(steps, alt="a", words=["one", "two", "three", "done"]).words(-1) == "done"
    with pytest.raises(ValueError, match="expected one sentence a step, 3,"):
        StepPlayer(steps, alt="a", words=["one"])


def test_the_curve_is_the_distance_to_the_end_or_what_is_given():
    steps = steps_of(digits(), 4)
    curve = [frame["curve"] for frame in StepPlayer(steps, alt="a").score["runs"][0]["frames"]]
    end = steps[-1].x_next
    assert curve == pytest.approx([np.sqrt(((step.prediction.x0 - end) ** 2).mean()) for step in steps] + [0.0])
    given = StepPlayer(steps, alt="a", curve={"loss": [4, 3, float("nan"), 1]}).score
    assert given["curve"] == "loss"
    assert [frame["curve"] for frame in given["runs"][0]["frames"]] == [4, 3, None, 1, None]
    with pytest.raises(ValueError, match="expected curve to have one number for each of 4 steps"):
        StepPlayer(steps, alt="a", curve={"loss": [1, 2]})


def test_what_is_not_a_number_is_kept_and_said():
    steps = steps_of(digits(), 3)
    steps[1].x_t[2, 0, 0, 0] = steps[1].prediction.x0[2, 0, 0, 0] = np.nan
    steps[2].prediction.eps = steps[2].prediction.eps.copy()
    steps[2].prediction.eps[0] = np.inf
    player = StepPlayer(steps, alt="a", rates=schedules.cosine())
    assert np.isnan(decoded(player, "x0")).sum(1).tolist() == [0, 1, 0, 0]
    assert np.isnan(decoded(player, "eps")).sum(1).tolist() == [0, 0, 64, 0]
    assert "not a number in 1 of 4" in player.words(1)
    assert "NaN" not in player.page().split('id="score">')[1].split("</script>")[0]
    nothing = steps_of(np.full((2, 1, 4, 4), np.nan), 2)
    assert "not a number in 2 of 2" in StepPlayer(nothing, alt="a").words(0)


# ---- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "more", "words"),
    [
        ([], {}, "expected at least one step, got none"),
        ({}, {}, "expected at least one run, got none"),
        ({"a": []}, {}, "got none in the run 'a'"),
        (7, {}, "to be a list of Steps, got int"),
        ([1, 2], {}, "got int without t"),
        (steps_of(np.zeros((3, 5))), {}, r"expected points \(N, 2\) or pictures \(N, C, H, W\), got shape \(3, 5\)"),
        (steps_of(np.zeros((0, 1, 4, 4))), {}, "got shape"),
        ({"a": steps_of(digits()), "b": steps_of(np.zeros((3, 2)))}, {}, "points and pictures"),
        (steps_of(digits()), {"rates": schedules.cosine(100)}, r"expected t in 0..100, the rows of rates"),
        (steps_of(digits()), {"rates": 3}, "expected rates as a Schedule"),
        (steps_of(digits()), {"picture": "blue"}, "expected picture to be"),
        (steps_of(digits()), {"alt": " "}, "expected alt"),
        (steps_of(digits()), {"curve": {"a": [1], "b": [2]}}, "expected curve as"),
        (steps_of(np.zeros((3, 2))), {"paths": [3]}, r"numbers of points in 0..2, got \[3\]"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(runs, more, words):
    with pytest.raises(ValueError, match=words) as refusal:
        StepPlayer(runs, **{"alt": "a", **more})
    assert str(refusal.value).startswith("expected") and "\n" not in str(refusal.value)


def test_a_generator_of_steps_is_read_to_its_end():
    assert len(StepPlayer(iter(steps_of(digits(), 3)), alt="a").score["runs"][0]["frames"]) == 4


# ---- pages ------------------------------------------------------------------------------------------------------


class Reader(html.parser.HTMLParser):
    """Keeps the tags, their attributes and what stands in scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def hostile():
    words = HOSTILE + "x" * 10_000
    return StepPlayer(
        {HOSTILE: steps_of(digits(), 2), "b" * 10_000: steps_of(digits(), 3)},
        alt=words,
        title=words,
        words=lambda step: words,
        curve={HOSTILE: {HOSTILE: [1, 2], "b" * 10_000: [1, 2, 3]}},
    )


def test_hostile_words_end_no_script_and_begin_no_tag(hostile):
    plain = Reader(StepPlayer(steps_of(digits(), 2), alt="a").page())
    reader = Reader(hostile.page())
    assert [tag for tag, _ in reader.tags] == [tag for tag, _ in plain.tags]
    score = json.loads(reader.scripts[0])
    assert score["title"].startswith(HOSTILE) and score["runs"][0]["name"] == HOSTILE
    assert "\u2028" not in hostile.page() and "<img" not in hostile.page()


def test_the_frame_around_the_page_is_sandboxed_and_holds_the_whole_page(hostile):
    bundle, alt = hostile._repr_mimebundle_()[0], " ".join(hostile.alt.split())
    (frame, attributes), (still, inside) = Reader(bundle["text/html"]).tags
    assert frame == "iframe" and attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == hostile.page() and attributes["title"] == alt
    assert still == "img" and inside["alt"] == alt and inside["src"].endswith(bundle["image/png"])


def test_the_page_asks_for_nothing():
    page = StepPlayer(steps_of(digits(), 2), alt="a").page()
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"[a-z]+://[^\"'\s)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nobody fetches
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|importScripts|innerHTML|insertAdjacentHTML)\b", page)


def test_the_bundle_has_a_page_a_picture_and_words_and_nothing_that_dies_with_the_kernel():
    player = StepPlayer({"a": steps_of(digits(5), 2), "b": steps_of(digits(5), 2)}, alt="squares  appear")
    bundle, metadata = player._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/png"}
    assert bundle["text/plain"] == "[step player: squares appear]"
    assert metadata["image/png"] == {"alt": "squares appear"}
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert picture.ndim == 3 and picture.std() > 0.1
    points = StepPlayer(steps_of(np.random.default_rng(0).standard_normal((9, 2)), 2), alt="a")
    assert matplotlib.image.imread(io.BytesIO(base64.b64decode(points._png()))).shape[:2] == (240, 240)


def test_the_picture_shows_the_last_frame():
    x0 = np.where(np.arange(64).reshape(1, 1, 8, 8) % 2, 1.0, -1.0)
    steps = steps_of(x0, 2)
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(StepPlayer(steps, alt="a")._png())))
    zoom = picture.shape[0] // 8
    assert np.allclose(picture[zoom // 2 :: zoom, zoom // 2 :: zoom, 0], (x0[0, 0] + 1) / 2)


def test_the_widget_carries_the_same_recording():
    player = StepPlayer(steps_of(digits(), 2), alt="a", title="t")
    assert json.loads(player.widget.score) == player.score and player.widget.data == player.data
    assert isinstance(player.widget, ipywidgets.DOMWidget) and player.widget is player.widget
