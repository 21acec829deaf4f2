"""Widgets: pictures that a reader moves, by mouse or keyboard; without a live kernel, still pictures.

Equation: none.
Shapes: none; numbers and words in, a matplotlib Figure drawn by the caller out.
Not here: torch, what is drawn (viz.py), and pictures that stand still (page.show).
"""

from course_lib.widgets.explorer import Explorer, explore
from course_lib.widgets.live import Companion, live
from course_lib.widgets.player import StepPlayer

__all__ = ["Companion", "Explorer", "StepPlayer", "explore", "live"]
