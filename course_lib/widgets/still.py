"""Still: what a notebook shows of a live widget when its kernel is gone, and while it is there, hides.

Equation: two outputs, first the still one (a page, a picture, words), then the widget; the widget hides the still one.
Shapes: none; a mime bundle and a box of widgets in, two outputs of a cell out.
Not here: what is still or live (explorer.py, live.py). One bundle for both would not do: JupyterLab prefers the
widget in it, and shows an error in its place where the notebook is opened again.
"""

from __future__ import annotations

import zlib
from typing import Any

import ipywidgets

__all__ = ["show_still_and_live"]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
HINT = "Its controls are here while the notebook runs: run this cell."
#: JupyterLab's and Notebook's "model not found" is the only widget output without an element in it
STYLE = """<style>
.jp-OutputArea-child:has(.course-still) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*)) {
  display: none;
}
</style>"""


def still(bundle: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the bundle with its page marked, so that the live widget of this name can hide it."""
    note = f'<p style="font-size: 0.85em; opacity: 0.75; margin: 0.3em 0.6em">{HINT}</p>'
    page = f'<div class="course-still {_mark(name)}">{bundle["text/html"]}{note}{STYLE}</div>'
    return {**bundle, "text/html": page}


def hider(name: str) -> Any:
    """Make the widget that hides the still page of this name wherever it stands itself, however often it changes."""
    return ipywidgets.HTML(f"<style>.{_mark(name)} {{ display: none }}</style>", layout={"display": "none"})


def show_still_and_live(bundle: dict[str, Any], metadata: dict[str, Any], box: Any) -> Any:
    """Display the still bundle, then the box; return the handle that can update the still one."""
    from IPython.display import display

    handle = display(bundle, metadata=metadata, raw=True, display_id=True)
    if box.model_id is not None:  # None where there is no kernel
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        display({"text/plain": f"[{HINT}]", WIDGET_VIEW: view}, raw=True)
    return handle


def _mark(name: str) -> str:
    """The same for the same name, so that a notebook that is run again stays the same."""
    return f"course-still-{zlib.crc32(name.encode('utf-8')):08x}"
