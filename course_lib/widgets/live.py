"""Companion: a step player with controls; its run is drawn again on the kernel, step by step, and can be stopped.

Equation: player = StepPlayer(draw(**values)), where draw gives the Steps of a sampler.
Shapes: as the StepPlayer's; every value is a number or one item of a list.
Not here: torch, samplers, how controls are made (controls.py) and what is seen of a run (player.py).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import cache
from typing import Any

import ipywidgets

from course_lib.widgets.controls import follow, make_controls, spoken
from course_lib.widgets.player import StepPlayer, _file
from course_lib.widgets.still import hider, show_still_and_live, still

__all__ = ["Companion", "live"]

PAUSE = 0.01  # seconds that others get between two steps: enough to hear of a button
BUSY = 0.05  # seconds after which they get them
PREVIEW = 0.5  # seconds at least between two looks at a run that goes on
SHARE = 8  # a look may cost this part of the time, no more


def live(
    draw: Callable[..., Any],
    *,
    alt: str | Callable[..., str],
    title: str | Callable[..., str] = "",
    rates: Any = None,
    words: Callable[[Any], str] | None = None,
    curve: Callable[[Any], Mapping[str, Any]] | None = None,
    picture: str = "auto",
    codec: Any = None,
    paths: Sequence[int] | None = None,
    total: int | Callable[..., int] | None = None,
    uses: Mapping[str, Callable[[dict[str, Any]], bool]] | None = None,
    **controls: Any,
) -> Companion:
    """Show the Steps that draw(**values) gives in a step player, with controls and a button that draws them again.

    draw: a function that returns Steps, such as sample_steps(...), or {name: Steps} for runs side by side; a generator
    is drawn step by step, so that it can be watched and stopped. controls: as for `explore`. alt and title: a sentence,
    with values in it as {name}, or a function of the values. rates, words, picture, codec and paths: as StepPlayer's;
    rates may be rates(**values); curve is curve(steps), of whatever has been drawn when it is asked. total: how many
    steps a run will have, or total(**values); without, the value of a control called steps. uses: when a control
    matters, {"eta": lambda values: values["sampler"] == "ddim"}; else it is switched off.
    The first run is drawn at once, and an error in it is raised; a later one is told in a sentence, and the picture of
    before stays.

    >>> from types import SimpleNamespace as Step
    >>> import numpy as np
    >>> def draw(steps):
    ...     x = np.zeros((1, 4, 4))
    ...     for t in range(steps, 0, -1):
    ...         yield Step(t=t, t_next=t - 1, x_t=x, prediction=Step(x0=x, eps=x), x_next=x)
    >>> companion = live(draw, alt="{steps} steps of nothing", steps=(1, 9, 3))
    >>> companion.controls["steps"].value = 5
    >>> companion.run().alt
    '5 steps of nothing'
    """
    look = {"words": words, "picture": picture, "codec": codec, "paths": paths}
    return Companion(draw, controls, alt=alt, title=title, rates=rates, curve=curve, total=total, uses=uses, look=look)


class Companion:
    """A step player with controls, made by `live`.

    controls: name -> ipywidget, whose `value` may be set in code as well. player: the StepPlayer of the last good run.
    In a saved page, where nothing can be drawn, the player of that run remains.
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        controls: Mapping[str, Any],
        *,
        alt: Any,
        title: Any = "",
        rates: Any = None,
        curve: Any = None,
        total: Any = None,
        uses: Mapping[str, Any] | None = None,
        look: Mapping[str, Any] | None = None,
    ) -> None:
        self.uses, self._look = dict(uses or {}), dict(look or {})
        _door(draw, alt, curve, controls, self.uses)
        self.draw, self.alt, self.title, self.rates, self.curve, self.total = draw, alt, title, rates, curve, total
        self.controls, self._ends = make_controls(controls)
        self._switch()
        self._drawing = _Drawing(draw, self.values, self._used, total)
        for _ in self._drawing:
            pass
        self.player = self._made(self._drawing)
        self._task: Any = None
        self._handle: Any = None
        self._draw, self._stop, self._line = self._buttons()
        self.box = self._box()
        self._say(f"Drawn with {self._drawing}.")

    @property
    def values(self) -> dict[str, Any]:
        """What the controls say now."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def said(self) -> str:
        """The sentence under the controls."""
        return self._line.sentence

    @property
    def running(self) -> bool:
        """Whether a run is being drawn."""
        return self._line.running

    def run(self) -> StepPlayer:
        """Draw the run of the current values now, to its end, and return the player of the last good run."""
        for _ in self._going(self._begin()):
            pass
        return self.player

    def stop(self) -> None:
        """Stop the run that is being drawn, if any, after the step it is at; what it has drawn is shown."""
        self._drawing.stopped = True

    # ---- what a reader sees and moves ---------------------------------------------------------------------------

    def _buttons(self) -> tuple[Any, Any, Any]:
        """The Draw button, the Stop button, and the line that says how far it is."""
        look = {"width": "112px", "flex": "0 0 auto"}
        draw = ipywidgets.Button(description="Draw", icon="play", button_style="primary", layout=look)
        stop = ipywidgets.Button(description="Stop", icon="stop", disabled=True, layout=look)
        draw.tooltip, stop.tooltip = "Draw again with these values", "Stop after the step it is at"
        draw.on_click(lambda _: self._pressed())
        stop.on_click(lambda _: self.stop())
        line = _line_class()(done=self._drawing.count, total=self._drawing.total)
        line.layout = {"flex": "1 1 288px", "min_width": "0"}
        return draw, stop, line

    def _box(self) -> Any:
        for control in self.controls.values():
            control.layout.width, control.layout.max_width = "344px", "100%"
            control.observe(self._moved, "value")
        wrap = {"flex_flow": "row wrap", "max_width": "100%"}
        rows = [
            ipywidgets.HBox([*self.controls.values()], layout=wrap),
            ipywidgets.HBox([self._draw, self._stop, self._line], layout=wrap),
            self.player.widget,
            hider(self._name),
        ]
        box = ipywidgets.VBox(rows, layout={"max_width": "736px"})
        box.add_class("course-live")
        return box

    @property
    def _name(self) -> str:
        return " ".join([*self.controls, str(getattr(self.alt, "__qualname__", self.alt))])

    @property
    def _used(self) -> dict[str, Any]:
        """The values that matter now."""
        return {name: control.value for name, control in self.controls.items() if not control.disabled}

    def _switch(self) -> None:
        """Switch off the controls that do not matter now."""
        values = self.values
        for name, used in self.uses.items():
            self.controls[name].disabled = not used(values)

    def _moved(self, change: Any) -> None:
        follow(self._ends, change["owner"])
        self._switch()
        if not self.running:
            self._say(f"Press Draw to see {_listed(self._used)}.")

    def _say(self, sentence: str, trouble: bool = False) -> None:
        self._line.trouble, self._line.sentence = trouble, sentence

    def _show(self, player: StepPlayer) -> None:
        """Put another recording into the player in the box."""
        with self._shown.hold_sync():  # one message, or the browser would read new words with old pictures
            self._shown.data, self._shown.score = player.data, json.dumps(player.score)

    @property
    def _shown(self) -> Any:
        return self.box.children[2]

    # ---- runs ---------------------------------------------------------------------------------------------------

    def _pressed(self) -> None:
        """Draw while the kernel goes on listening; where no loop runs (a script, a test), at once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.run()
        else:
            self._task = loop.create_task(self._listening(self._begin()))  # kept, for a loop forgets its tasks

    async def _listening(self, drawing: _Drawing) -> None:
        """Go on step by step, and let others in between: a click on Stop, another cell."""
        rested = time.monotonic()
        for _ in self._going(drawing, self._glance()):
            if time.monotonic() - rested > BUSY:
                if self._drawing is drawing:
                    self._line.done = drawing.count
                await asyncio.sleep(PAUSE)
                rested = time.monotonic()

    def _glance(self) -> Callable[[_Drawing], None]:
        """Make a function that shows what is drawn so far, when it is time again."""
        due = time.monotonic() + PREVIEW

        def glance(drawing: _Drawing) -> None:
            nonlocal due
            begun = time.monotonic()
            if begun > due:
                self._show(self._made(drawing))
                cost = time.monotonic() - begun
                due = begun + max(PREVIEW, SHARE * cost)

        return glance

    def _begin(self) -> _Drawing:
        """Stop what is being drawn, and begin again with the values of now."""
        self.stop()
        self._drawing = _Drawing(self.draw, self.values, self._used, self.total)
        self._line.done, self._line.total, self._line.running = 0, self._drawing.total, True
        self._stop.disabled = False
        self._say(f"Drawing with {self._drawing} ...")
        return self._drawing

    def _going(self, drawing: _Drawing, glance: Callable[[_Drawing], None] | None = None) -> Iterator[None]:
        """Draw, giving way after each step, then show and say what came of it; one that was replaced says nothing."""
        said, trouble = "", False
        steps = iter(drawing)
        try:
            while not drawing.stopped and _next(steps, drawing):
                if glance:
                    glance(drawing)
                yield
            if self._drawing is drawing:
                said = self._kept(drawing)
        except Exception as error:
            said, trouble = _told(error, drawing), True
        finally:
            steps.close()
            if self._drawing is drawing:
                self._show(self.player)
                self._line.done, self._line.total, self._line.running = drawing.count, drawing.total, False
                self._stop.disabled = True
                self._say(said, trouble)

    def _kept(self, drawing: _Drawing) -> str:
        """Make what was drawn the player, and say what it is."""
        if drawing.stopped and not drawing.count:
            return "Stopped before the first step: the picture of before stays."
        self.player = self._made(drawing)
        if self._handle is not None:
            bundle, metadata = self._repr_mimebundle_()
            self._handle.update(bundle, metadata=metadata, raw=True)
        if drawing.stopped:
            of = f" of {drawing.total}" if drawing.total else ""
            return f"Stopped after {drawing.count}{of} steps with {drawing}: the end shown is where it was then."
        return f"Drawn with {drawing}."

    def _made(self, drawing: _Drawing) -> StepPlayer:
        """The player of what is drawn so far; it stands at its end, the picture that came out."""
        values, runs, rates = drawing.values, drawing.runs, self.rates
        if callable(rates) and not hasattr(rates, "signal_rate"):
            rates = rates(**values)
        alt, title = spoken(self.alt, values), spoken(self.title, values)
        curve = None if self.curve is None else self.curve(runs)
        player = StepPlayer(runs, alt=alt, title=title, rates=rates, curve=curve, **self._look)
        player.score["at"] = max(len(run["frames"]) for run in player.score["runs"]) - 1
        return player

    # ---- in a notebook ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"[step player with controls: {self.player.alt}]"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        bundle, metadata = self.player._repr_mimebundle_()
        return {**still(bundle, self._name), "text/plain": repr(self)}, metadata

    def _ipython_display_(self) -> None:
        self._handle = show_still_and_live(*self._repr_mimebundle_(), self.box)


class _Drawing:
    """One run as it is drawn: its values, the Steps so far, and whether somebody asked it to stop."""

    def __init__(self, draw: Any, values: dict[str, Any], used: dict[str, Any], total: Any) -> None:
        self.draw, self.values, self.used, self.stopped = draw, values, used, False
        self.kept: dict[str, list[Any]] = {}
        self.given = total(**values) if callable(total) else total
        self.total = self.given or int(values.get("steps") or 0)  # 0: nobody knows

    @property
    def count(self) -> int:
        """How many steps are drawn."""
        return sum(map(len, self.kept.values()))

    @property
    def runs(self) -> Any:
        """What is drawn so far, as StepPlayer takes it: the Steps, or {name: Steps} of those that have begun."""
        if set(self.kept) == {""}:
            return list(self.kept[""])
        return {name: list(steps) for name, steps in self.kept.items() if steps}

    def __iter__(self) -> Iterator[None]:
        """Draw step by step."""
        drawn = self.draw(**self.values)
        named = drawn if isinstance(drawn, Mapping) else {"": drawn}
        for steps in named.values():
            if not isinstance(steps, Iterable) or isinstance(steps, str | bytes):
                got = type(steps).__name__
                raise TypeError(f"expected draw to return Steps, such as sample_steps(...), got {got}")
        if not self.given:
            sizes = [len(steps) if isinstance(steps, Sized) else self.total for steps in named.values()]
            self.total = sum(sizes) if all(sizes) else 0
        for name, steps in named.items():
            kept = self.kept[str(name)] = []
            for step in steps:
                kept.append(step)
                yield

    def __str__(self) -> str:
        return _listed(self.used)


def _next(steps: Iterator[None], drawing: _Drawing) -> bool:
    """Draw one step; False where there is none. The kernel's own interrupt counts as Stop."""
    try:
        next(steps)
    except StopIteration:
        return False
    except KeyboardInterrupt:
        drawing.stopped = True
        return False
    return True


def _listed(values: Mapping[str, Any]) -> str:
    """Say values in a row, such as "sampler = ddim, eta = 0.5"."""
    said = [f"{value:g}" if isinstance(value, float) else str(value) for value in values.values()]
    return ", ".join(f"{name.replace('_', ' ')} = {value[:60]}" for name, value in zip(values, said, strict=True))


def _told(error: Exception, drawing: _Drawing) -> str:
    """Say what stopped a run, and what to do."""
    what = " ".join(str(error).split())
    what = f"{type(error).__name__}: {what[:300]}" if what else type(error).__name__
    after = f" after {drawing.count} steps" if drawing.count else ""
    return (
        f"No picture for {drawing}: drawing stopped{after} with {what.rstrip('.')}. "
        "The picture of before stays; move a control and press Draw again."
    )


def _door(draw: Any, alt: Any, curve: Any, controls: Mapping[str, Any], uses: Mapping[str, Any]) -> None:
    """Refuse what cannot work, in a sentence."""
    if not callable(draw):
        kind = type(draw).__name__
        raise TypeError(f"expected draw to be a function that returns Steps, got {kind}: pass sample_steps in a lambda")
    if not callable(alt) and not (isinstance(alt, str) and alt.strip()):
        raise ValueError("expected alt, a sentence or a function that returns one: say what there is to see")
    if curve is not None and not callable(curve):
        kind = type(curve).__name__
        raise TypeError(f"expected curve to be a function curve(steps), for each run has its own, got {kind}")
    for name, used in uses.items():
        if name not in controls or not callable(used):
            raise ValueError(f'expected uses as {{"eta": lambda values: ...}} of a control, got {str(name)[:40]!r}')


@cache
def _line_class() -> type:
    import anywidget
    import traitlets

    class LiveLine(anywidget.AnyWidget):
        _esm = _file("live.js")
        _css = _file("live.css")
        sentence = traitlets.Unicode("").tag(sync=True)
        trouble = traitlets.Bool(False).tag(sync=True)
        running = traitlets.Bool(False).tag(sync=True)
        done = traitlets.Int(0).tag(sync=True)
        total = traitlets.Int(0).tag(sync=True)  # 0: nobody knows

    return LiveLine
