"""Controls: what a reader moves, made from plain Python values: sliders for spans, menus for choices.

Equation: name=(low, high[, start]) is a slider; name=[...] is a slider of numbers, or a menu of words.
Shapes: none; every value is a number or one item of a list.
Not here: what happens when one is moved (explorer.py, live.py). Only what ipywidgets 7.7.1 and 8 share is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import ipywidgets

__all__ = ["make_controls"]


def make_controls(wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """Make the widget of each control: (low, high) or (low, high, start), or a list of choices.

    Returns name -> widget, and the pairs (slider, the earlier control that it ends at), for `follow`.
    Raises TypeError or ValueError, in one sentence, for a control that is neither.

    >>> controls, ends = make_controls({"T": [1000, 100], "t": (0, "T", 40)})
    >>> controls["t"].max, len(ends)
    (1000, 1)
    """
    if not wanted:
        raise ValueError("expected at least one control, such as t=(0, 1000)")
    made: dict[str, Any] = {}
    for name, span in wanted.items():
        made[name] = _control(name, span, made)
    ends = [
        (made[name], made[span[1]])
        for name, span in wanted.items()
        if isinstance(span, tuple) and isinstance(span[1], str)
    ]
    return made, ends


def follow(ends: list[tuple[Any, Any]], moved: Any) -> None:
    """Cut the sliders that end at the control `moved` to its value; their own values go along if need be."""
    for slider, end in ends:
        if end is moved:
            slider.max = max(end.value, slider.min)


def spoken(pattern: Any, values: Mapping[str, Any]) -> str:
    """Say a pattern such as "noise at t = {t}", or what a function of the values returns, as one line.

    >>> spoken("noise at t = {t}", {"t": 3})
    'noise at t = 3'
    """
    return " ".join(str(pattern(**values) if callable(pattern) else pattern.format(**values)).split())


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
            raise ValueError(f"expected {name} to end at a number or at an earlier control of numbers, got {high!r}")
        high = before[high].value
    start = low if start is None else start
    if not all(map(_is_number, (low, high, start))) or not low <= start <= high or low == high:
        raise ValueError(f"expected low <= start <= high for the control {name}, got {low!r}, {start!r}, {high!r}")
    if all(isinstance(number, Integral) for number in (low, high, start)):
        return ipywidgets.IntSlider(value=start, min=low, max=high, **look)
    return ipywidgets.FloatSlider(value=start, min=low, max=high, step=(high - low) / 100, **look)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
