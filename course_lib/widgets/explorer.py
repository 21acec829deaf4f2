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
import sys
from collections.abc import Callable
from typing import Any

import ipywidgets

from course_lib.widgets.controls import follow, make_controls, spoken
from course_lib.widgets.still import hider, show_still_and_live, still

__all__ = ["Explorer", "explore"]

PAUSE = 0.02  # seconds in which the moves of a drag gather into one redraw
REST = 1.0  # seconds after the last redraw in which the picture that a saved notebook keeps is replaced


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

    def __init__(self, draw: Callable[..., Any], alt: str | Callable[..., str], controls: dict[str, Any]) -> None:
        if not callable(draw):
            raise TypeError(f"expected draw to be a function that returns a Figure, got {type(draw).__name__}")
        if not callable(alt) and not (isinstance(alt, str) and alt.strip()):
            raise ValueError("expected alt, a sentence or a function that returns one: say what there is to see")
        self.draw, self.alt = draw, alt
        self.controls, self._ends = make_controls(controls)
        self.png, self.words = self._drawn()
        self._picture = ipywidgets.Image(
            value=self.png, format="png", layout={"max_width": "100%", "align_self": "flex-start"}
        )
        self._caption = ipywidgets.HTML(_paragraph(self.words))
        self.box = ipywidgets.VBox([*self.controls.values(), self._picture, self._caption, hider(self._name)])
        self._stale = False  # moved since the last drawing
        self._handle: Any = None  # of what a saved notebook keeps
        self._keeping: Any = None
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
        follow(self._ends, change["owner"])
        if waiting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.redraw()
        else:
            loop.call_later(PAUSE, self._catch_up)
            if self._keeping is not None:
                self._keeping.cancel()
            self._keeping = loop.call_later(REST, self._keep)

    def _catch_up(self) -> None:
        if self._stale:
            self.redraw()

    def _keep(self) -> None:
        """Let a saved notebook have the picture of now."""
        if self._handle is not None:
            data, metadata = self._repr_mimebundle_()
            self._handle.update(data, metadata=metadata, raw=True)

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
        words = spoken(self.alt, values)
        if not words:
            raise ValueError("expected alt to give a sentence for these values, got nothing")
        return buffer.getvalue(), words

    def __repr__(self) -> str:
        return f"[picture with sliders: {self.words}]"

    @property
    def _name(self) -> str:
        return " ".join([*self.controls, str(getattr(self.alt, "__qualname__", self.alt))])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        self._catch_up()
        png, words = base64.b64encode(self.png).decode("ascii"), html.escape(self.words, quote=True)
        page = (
            f'<figure><img style="max-width: 100%" alt="{words}" src="data:image/png;base64,{png}">'
            f"<figcaption>{words}</figcaption></figure>"
        )
        data = {"text/plain": repr(self), "text/html": page, "image/png": png}
        return still(data, self._name), {"image/png": {"alt": self.words}}

    def _ipython_display_(self) -> None:
        self._handle = show_still_and_live(*self._repr_mimebundle_(), self.box)


def _paragraph(words: str) -> str:
    return f'<p role="status" style="line-height: 1.4; margin: 0.2em 0 0.6em 0.6em">{html.escape(words)}</p>'
