"""The companion: what its controls say is drawn step by step, can be stopped, and never loses the last good picture."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from jupyter_client.manager import KernelManager
from matplotlib.figure import Figure

from course_lib import widgets
from course_lib.widgets import StepPlayer, explore, live
from course_lib.widgets.controls import make_controls

HOSTILE = "</script><img src=x onerror=alert(1)>\"'& \U0001f600"
VIEW = "application/vnd.jupyter.widget-view+json"


def steps_of(n, seed=0, seconds=0.0):
    """n steps to a square, drawn one after the other."""
    x0, eps = np.random.default_rng(seed).uniform(-1, 1, (2, 4, 1, 4, 4))
    for t in range(n, 0, -1):
        time.sleep(seconds)
        guess = x0 * (1 - (t - 1) / n)
        x_t = (1 - t / n) * guess + t / n * eps
        yield SimpleNamespace(t=t, t_next=t - 1, x_t=x_t, prediction=SimpleNamespace(x0=guess, eps=eps), x_next=x0)


def draw(steps, seed=0):
    return steps_of(steps, seed)


def frames(companion):
    """The t of each frame that the player in the box shows now."""
    return [frame["t"] for frame in json.loads(companion.box.children[2].score)["runs"][0]["frames"]]


async def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        await asyncio.sleep(0.01)


def press(companion):
    companion._draw.click()


# ---- a run that ends by itself ----------------------------------------------------------------------------------


def test_the_first_run_is_there_at_once_and_stands_at_its_end():
    companion = live(draw, alt="{steps} steps", title="seed {seed}", steps=(1, 9, 3), seed=(0, 5))
    assert frames(companion) == [3, 2, 1, 0] and companion.player.score["at"] == 3
    assert companion.player.alt == "3 steps" and companion.player.title == "seed 0"
    assert companion.said == "Drawn with steps = 3, seed = 0." and not companion.running
    assert (companion._line.done, companion._line.total) == (3, 3)


def test_a_moved_control_waits_for_draw():
    companion = live(draw, alt="{steps} steps", steps=(1, 9, 3))
    companion.controls["steps"].value = 5
    assert companion.said == "Press Draw to see steps = 5." and frames(companion) == [3, 2, 1, 0]
    press(companion)  # no loop runs here: it is done at once
    assert companion.said == "Drawn with steps = 5." and frames(companion) == [5, 4, 3, 2, 1, 0]
    assert companion.player.alt == "5 steps" and companion._stop.disabled


def test_what_is_shown_is_what_a_step_player_of_the_same_steps_shows():
    companion = live(draw, alt="a", steps=(1, 9, 3), seed=(0, 5, 2))
    companion.controls["seed"].value = 4
    own, wanted = companion.run(), StepPlayer(steps_of(3, 4), alt="a")
    assert own.data == wanted.data == companion.box.children[2].data
    assert {**own.score, "at": 0} == {**wanted.score, "at": 0}


def test_on_a_loop_a_run_gives_way_between_its_steps():
    async def page():
        companion = live(lambda steps: steps_of(steps, seconds=0.03), alt="a", steps=(1, 30, 2))
        companion.controls["steps"].value = 30
        begun = time.monotonic()
        press(companion)
        assert time.monotonic() - begun < 0.5 and companion.running and companion.said.startswith("Drawing with")
        seen = set()
        while companion.running:
            seen.add(companion._line.done)
            await asyncio.sleep(0.01)
        return companion, seen

    companion, seen = asyncio.run(page())
    assert len(seen) > 8 and companion._line.total == 30
    assert len(frames(companion)) == 31 and companion.said == "Drawn with steps = 30."


def test_a_long_run_can_be_watched():
    async def page():
        companion = live(lambda steps: steps_of(steps, seconds=0.05), alt="a", steps=(1, 40, 1))
        companion.controls["steps"].value = 40
        press(companion)
        lengths = set()
        while companion.running:
            lengths.add(len(frames(companion)))
            await asyncio.sleep(0.02)
        return lengths

    lengths = asyncio.run(page())
    assert len(lengths) >= 3 and any(2 < n < 41 for n in lengths)


def test_runs_side_by_side_and_their_progress():
    def both(steps):
        return {"long": steps_of(2 * steps), "short": steps_of(steps)}

    companion = live(both, alt="two", total=lambda steps: 3 * steps, steps=(1, 9, 2))
    assert [len(run["frames"]) for run in companion.player.score["runs"]] == [5, 3]
    assert (companion._line.done, companion._line.total) == (6, 6) and companion.player.score["at"] == 4
    assert live(lambda k: list(steps_of(k)), alt="a", k=[4, 2])._line.total == 4
    assert live(lambda k: steps_of(k), alt="a", k=[4, 2])._line.total == 0  # nobody can know


def test_rates_and_curves_go_with_the_values():
    def rates(steps):
        return np.linspace(1, 0, steps + 1), np.linspace(0, 1, steps + 1)

    def curve(steps):
        return {"how many are left": [step.t for step in steps]}

    companion = live(draw, alt="a", rates=rates, curve=curve, words=lambda step: f"at {step.t}", steps=(1, 9, 4))
    assert companion.player.score["curve"] == "how many are left" and companion.player.words(0) == "at 4"
    companion.controls["steps"].value = 2
    shown = companion.run().score["runs"][0]["frames"]
    assert [frame["curve"] for frame in shown] == [2, 1, None] and shown[1]["noise"] == pytest.approx(0.5)


# ---- stop, and draw again ---------------------------------------------------------------------------------------


@pytest.fixture
def slow():
    """A companion whose first run is short and whose next takes ten seconds."""
    companion = live(lambda steps, seed: steps_of(steps, seed, 0.05), alt="a", steps=(1, 200, 1), seed=(0, 9))
    companion.controls["steps"].value = 200
    return companion


def test_stop_keeps_what_was_drawn_so_far(slow):
    async def page():
        press(slow)
        await until(lambda: slow._line.done >= 4)
        slow._stop.click()
        begun = time.monotonic()
        await until(lambda: not slow.running)
        return time.monotonic() - begun

    assert asyncio.run(page()) < 3
    done = slow._line.done
    assert 4 <= done < 30 and len(frames(slow)) == done + 1 and frames(slow)[0] == 200
    assert slow.said == (
        f"Stopped after {done} of 200 steps with steps = 200, seed = 0: the end shown is where it was then."
    )
    assert slow._stop.disabled and slow.player.score["runs"][0]["frames"][-1]["t"] == 200 - done


def test_stop_before_the_first_step_keeps_the_picture(slow):
    before = slow.player

    async def page():
        press(slow)
        slow._stop.click()
        await until(lambda: not slow.running)

    asyncio.run(page())
    assert slow.player is before and slow.said == "Stopped before the first step: the picture of before stays."


def test_a_second_draw_stops_the_first(slow):
    async def page():
        press(slow)
        await until(lambda: slow._line.done >= 2)
        slow.controls["steps"].value, slow.controls["seed"].value = 3, 7
        press(slow)
        await until(lambda: not slow.running)
        said = slow.said
        await asyncio.sleep(0.3)  # the first must not come back
        return said

    assert asyncio.run(page()) == slow.said == "Drawn with steps = 3, seed = 7."
    assert frames(slow) == [3, 2, 1, 0]


def test_the_kernels_interrupt_counts_as_stop():
    def interrupted(steps):
        for step in steps_of(steps):
            if steps == 9 and step.t == 5:
                raise KeyboardInterrupt
            yield step

    companion = live(interrupted, alt="a", steps=(1, 9, 3))
    companion.controls["steps"].value = 9
    companion.run()
    assert companion.said.startswith("Stopped after 4 of 9 steps") and len(frames(companion)) == 5


KERNEL_CODE = """
import sys, time
sys.path.insert(0, {folder!r})
import test_live
from course_lib.widgets import live
companion = live(lambda steps: test_live.steps_of(steps, seconds=0.1), alt="a", steps=(1, 100, 2))
companion.controls["steps"].value = 100
print(companion._draw.model_id, companion._stop.model_id)
"""


def test_a_real_kernel_hears_stop_between_two_steps_and_runs_a_cell_meanwhile():
    manager = KernelManager()
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel()
    kernel = manager.blocking_client()
    said = []

    def run(code):
        said.clear()
        reply = kernel.execute_interactive(
            code, timeout=120, output_hook=lambda message: said.append(message["content"].get("text", ""))
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(said).strip()

    def click(button):
        data = {"method": "custom", "content": {"event": "click"}}
        kernel.shell_channel.send(kernel.session.msg("comm_msg", {"comm_id": button, "data": data}))

    try:
        kernel.start_channels()
        kernel.wait_for_ready(timeout=120)
        draws, stops = run(KERNEL_CODE.format(folder=str(Path(__file__).parent))).split()
        click(draws)
        done = int(run("print(companion._line.done)"))
        while done < 3:
            done = int(run("print(companion._line.done)"))
        click(stops)
        while run("print(companion.running)") == "True":
            pass
        sentence = run("print(companion.said)")
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
    stopped = int(re.search(r"Stopped after (\d+) of 100 steps", sentence)[1])
    assert done <= stopped < done + 30


# ---- errors -----------------------------------------------------------------------------------------------------


def test_an_error_becomes_a_sentence_and_the_last_good_picture_stays():
    def fails(steps):
        for step in steps_of(steps, seconds=0.05 if steps == 20 else 0):
            if steps == 20 and step.t == 1:
                raise ValueError(f"no row 20\nin {HOSTILE}" + "x" * 5000)
            yield step

    companion = live(fails, alt="a", steps=(1, 20, 3))
    good = companion.player

    async def page():
        companion.controls["steps"].value = 20
        press(companion)
        await until(lambda: len(frames(companion)) > 4)  # what was drawn so far was shown
        await until(lambda: not companion.running)

    asyncio.run(page())
    assert companion.said.startswith(
        "No picture for steps = 20: drawing stopped after 19 steps with ValueError: no row 20 in </script><img"
    )
    assert companion.said.endswith("The picture of before stays; move a control and press Draw again.")
    assert len(companion.said) < 600 and companion._line.trouble
    assert companion.player is good and frames(companion) == [3, 2, 1, 0]
    companion.controls["steps"].value = 2
    assert companion.run() is not good and not companion._line.trouble


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "TypeError: expected draw to return Steps, such as sample_steps(...), got NoneType"),
        ("steps", "got str"),
        ([], "ValueError: expected at least one step, got none"),
        ([1], "ValueError: expected Steps with t, x_t and so on in the run, got int without t"),
        ({"a": 3}, "got int"),
        ({}, "got none"),
    ],
)
def test_what_is_no_run_is_told_in_a_sentence_or_raised_at_first(made, words):
    companion = live(lambda k: steps_of(2) if k == 1 else made, alt="a", k=[1, 2])
    companion.controls["k"].value = 2
    companion.run()
    assert words in companion.said and companion.said.startswith("No picture for k = 2: ")
    with pytest.raises((TypeError, ValueError), match="expected"):
        live(lambda k: made, alt="a", k=[1, 2])


def test_an_error_in_the_first_run_is_raised():
    def broken(k):
        raise ZeroDivisionError("first step")
        yield

    with pytest.raises(ZeroDivisionError, match="first step"):
        live(broken, alt="a", k=[1, 2])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"draw": steps_of(3)}, "expected draw to be a function that returns Steps, got generator"),
        ({"alt": " "}, "expected alt, a sentence"),
        ({"curve": {"loss": [1]}}, "expected curve to be a function"),
        ({"uses": {"eta": bool}}, "expected uses as .* of a control, got 'eta'"),
        ({"uses": {"steps": 3}}, "expected uses as .* of a control, got 'steps'"),
        ({"steps": 5}, "expected the control steps as"),
        ({"picture": "blue"}, "expected picture to be"),
    ],
)
def test_bad_calls_are_refused_in_a_sentence(more, words):
    with pytest.raises((TypeError, ValueError), match=words):
        live(**{"draw": draw, "alt": "a", "steps": (1, 9, 3), **more})
    with pytest.raises(ValueError, match="expected at least one control"):
        live(draw, alt="a")


# ---- controls ---------------------------------------------------------------------------------------------------


def test_controls_are_those_of_explore():
    wanted = {"sampler": ["ddim", "heun"], "steps": (5, 100, 20), "eta": (0.0, 1.0), "T": [100, 10], "t": (0, "T", 50)}
    companion = live(lambda **values: steps_of(2), alt="a", **wanted)
    explorer_kinds = [type(control) for control in make_controls(wanted)[0].values()]
    assert [type(control) for control in companion.controls.values()] == explorer_kinds
    companion.controls["T"].value = 10
    assert companion.values == {"sampler": "ddim", "steps": 20, "eta": 0.0, "T": 10, "t": 10}


def test_a_control_that_does_not_matter_is_switched_off_and_not_spoken_of():
    companion = live(
        lambda sampler, eta: steps_of(2),
        alt="a",
        sampler=["heun", "ddim"],
        eta=(0.0, 1.0),
        uses={"eta": lambda values: values["sampler"] == "ddim"},
    )
    assert companion.controls["eta"].disabled and companion.said == "Drawn with sampler = heun."
    companion.controls["sampler"].value = "ddim"
    assert not companion.controls["eta"].disabled
    companion.controls["eta"].value = 0.5
    assert companion.said == "Press Draw to see sampler = ddim, eta = 0.5."


# ---- pages ------------------------------------------------------------------------------------------------------


def test_a_notebook_gets_the_still_player_then_the_live_one_and_keeps_the_last_run(monkeypatch):
    outputs, kept = [], []
    handle = SimpleNamespace(update=lambda data, **more: kept.append(data))

    def display(data, **more):
        outputs.append(data)
        return handle

    monkeypatch.setattr("IPython.display.display", display)
    companion = live(draw, alt="{steps} steps", steps=(1, 9, 3))
    companion._ipython_display_()
    still, alive = outputs
    assert set(still) == {"text/plain", "text/html", "image/png"} and "<iframe" in still["text/html"]
    assert set(alive) == {"text/plain", VIEW} and alive[VIEW]["model_id"] == companion.box.model_id
    mark = re.search("course-still-[0-9a-f]{8}", still["text/html"]).group()
    assert f".{mark} {{ display: none }}" in companion.box.children[-1].value
    other = explore(lambda t: Figure(), alt="other", t=(0, 3))
    assert mark not in other._repr_mimebundle_()[0]["text/html"]
    companion.controls["steps"].value = 5
    companion.run()
    assert len(kept) == 1 and kept[0]["text/plain"] == "[step player with controls: 5 steps]"
    assert mark in kept[0]["text/html"] and 'title="5 steps"' in kept[0]["text/html"]


def test_hostile_words_stay_words():
    companion = live(lambda name: steps_of(2), alt=lambda name: f"a {name}", title="{name}", name=["plain", HOSTILE])
    companion.controls["name"].value = HOSTILE
    companion.run()
    assert HOSTILE[:20] in companion.said
    page = companion._repr_mimebundle_()[0]["text/html"]
    assert "<img src=x" not in page and page.count("<style") == 1
    script = Path(widgets.__file__).with_name("live.js").read_text(encoding="utf-8")
    assert "innerHTML" not in script and "textContent" in script
