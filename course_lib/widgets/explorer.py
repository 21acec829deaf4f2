"""Explorer: one picture, redrawn as its reader moves sliders, with words under it that follow.

Equation: picture = draw(**values), words = alt(**values).
Shapes: none; every value is a number or one item of a list.
Not here: what is drawn, and torch. Only what ipywidgets 7.7.1 and 8 share is used.
"""

from __future__ import annotations

import asyncio
import base64
import html
import io
import math
import sys
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import ipywidgets

__all__ = ["Explorer", "explore"]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PAUSE = 0.02  # seconds in which the moves of a drag gather into one redraw


def explore(draw: Callable[..., Any], *, alt: str | Callable[..., str], **controls: Any) -> Explorer:
    """Show draw(**values), a matplotlib Figure, and redraw it whenever a reader moves one of the controls.

    controls: name=(low, high) or (low, high, start) for a slider, of whole numbers if all three are whole;
    high may be the name of an earlier control (t=(0, "T")); name=[...] for a choice, numbers on a slider,
    words in a menu. alt: a sentence for each setting, alt(**values) or a pattern such as "the digit at
    t = {t}", shown under the picture. An error in the first drawing is raised; a later one is told in place
    of the sentence.
    Raises TypeError or ValueError for a control that is neither, and for alt text that is empty.

    >>> import matplotlib.pyplot as plt
    >>> explorer = explore(lambda t: plt.figure(), alt="noise at t = {t}", t=(0, 1000, 400))
    >>> explorer.controls["t"].value = 500
    >>> explorer.words
    'noise at t = 500'
    """
    return Explorer(draw, alt, controls)


class Explorer:
    """A picture with controls, made by `explore`.

    controls: name -> ipywidget, whose `value` may be set in code as well. png: the picture now; words: the
    sentence under it now. In a saved page, where nothing can move, the last picture and its words remain.
    """

    def __init__(
        self, draw: Callable[..., Any], alt: str | Callable[..., str], controls: dict[str, Any]
    ) -> None:
        if not callable(draw):
            raise TypeError(
                f"expected draw to be a function that returns a Figure, got {type(draw).__name__}"
            )
        if not callable(alt) and not (isinstance(alt, str) and alt.strip()):
            raise ValueError(
                "expected alt, a sentence or a function that returns one: say what there is to see"
            )
        if not controls:
            raise ValueError("expected at least one control, such as t=(0, 1000)")
        self.draw, self.alt = draw, alt
        self.controls: dict[str, Any] = {}
        for name, wanted in controls.items():
            self.controls[name] = _control(name, wanted, self.controls)
        self.png, self.words = self._drawn()
        self._picture = ipywidgets.Image(
            value=self.png, format="png", layout={"max_width": "100%", "align_self": "flex-start"}
        )
        self._caption = ipywidgets.HTML(_paragraph(self.words))
        self.box = ipywidgets.VBox([*self.controls.values(), self._picture, self._caption])
        self._stale = False  # moved since the last drawing
        self._ends = [
            (self.controls[name], self.controls[span[1]])
            for name, span in controls.items()
            if isinstance(span, tuple) and isinstance(span[1], str)
        ]
        for control in self.controls.values():
            control.observe(self._moved, "value")

    @property
    def values(self) -> dict[str, Any]:
        """What the controls say now."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self) -> None:
        """Draw the picture of the current values now; an error becomes the sentence under the old picture."""
        self._stale = False
        try:
            self.png, self.words = self._drawn()
        except Exception as error:
            at = ", ".join(f"{name} = {value}" for name, value in self.values.items())
            self.words = f"No picture for {at}: drawing stopped with {type(error).__name__}: {error}"
        self._picture.value, self._caption.value = self.png, _paragraph(self.words)

    def _moved(self, change: Any) -> None:
        """Redraw soon, once for all moves until then; where no loop runs (a script, a test), at once."""
        waiting, self._stale = self._stale, True
        for slider, end in self._ends:
            if end is change["owner"]:  # the slider's own value is cut down to the new end if need be
                slider.max = max(end.value, slider.min)
        if waiting:
            return
        try:
            asyncio.get_running_loop().call_later(PAUSE, self._catch_up)
        except RuntimeError:
            self.redraw()

    def _catch_up(self) -> None:
        if self._stale:
            self.redraw()

    def _drawn(self) -> tuple[bytes, str]:
        """The picture as PNG and its words, for the current values."""
        values = self.values
        figure = self.draw(**values)
        if not hasattr(figure, "savefig"):
            raise TypeError(f"expected draw to return a matplotlib Figure, got {type(figure).__name__}")
        buffer = io.BytesIO()
        try:
            figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        finally:
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close(figure)
        words = " ".join(str(self.alt(**values) if callable(self.alt) else self.alt.format(**values)).split())
        if not words:
            raise ValueError("expected alt to give a sentence for these values, got nothing")
        return buffer.getvalue(), words

    def __repr__(self) -> str:
        return f"[picture with sliders: {self.words}]"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        self._catch_up()
        png, words = base64.b64encode(self.png).decode("ascii"), html.escape(self.words, quote=True)
        page = (
            f'<figure><img style="max-width: 100%" alt="{words}" src="data:image/png;base64,{png}">'
            f"<figcaption>{words} (The sliders move where this notebook runs.)</figcaption></figure>"
        )
        data: dict[str, Any] = {"text/plain": repr(self), "text/html": page, "image/png": png}
        if self.box.model_id is not None:  # None where there is no kernel
            data[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return data, {"image/png": {"alt": self.words}}


def _control(name: str, wanted: Any, before: dict[str, Any]) -> Any:
    """Make the widget that a control asks for."""
    look = {"description": name.replace("_", " "), "style": {"description_width": "6em"}}
    if not name.isidentifier():
        raise ValueError(f"expected a control's name to be a Python name, got {name!r}")
    wide = {**look, "layout": {"width": "32em", "max_width": "100%"}}
    if isinstance(wanted, list) and wanted:
        if all(map(_is_number, wanted)):
            return ipywidgets.SelectionSlider(options=wanted, value=wanted[0], **wide)
        return ipywidgets.Dropdown(options=[(str(item), item) for item in wanted], value=wanted[0], **look)
    if isinstance(wanted, tuple) and len(wanted) in (2, 3):
        return _slider(name, *wanted, before=before, look=wide)
    raise TypeError(
        f"expected the control {name} as (low, high), (low, high, start) or a list of choices, got {wanted!r}"
    )


def _slider(name: str, low: Any, high: Any, start: Any = None, *, before: dict[str, Any], look: dict) -> Any:
    if isinstance(high, str):
        if high not in before or not _is_number(before[high].value):
            raise ValueError(
                f"expected {name} to end at a number or at an earlier control of numbers, got {high!r}"
            )
        high = before[high].value
    start = low if start is None else start
    if not all(map(_is_number, (low, high, start))) or not low <= start <= high or low == high:
        raise ValueError(
            f"expected low <= start <= high for the control {name}, got {low!r}, {start!r}, {high!r}"
        )
    if all(isinstance(number, Integral) for number in (low, high, start)):
        return ipywidgets.IntSlider(value=start, min=low, max=high, **look)
    return ipywidgets.FloatSlider(value=start, min=low, max=high, step=(high - low) / 100, **look)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _paragraph(words: str) -> str:
    return f'<p role="status" style="line-height: 1.4; margin: 0.2em 0 0.6em 0.6em">{html.escape(words)}</p>'
