"""StepPlayer: every step of a sampler, to play, scrub and compare; live, saved, or in a page without a kernel.

Equation: x_t = signal_rate * x0 + noise_rate * eps, at each step's t.
Shapes: Steps with x_t (N, C, H, W), (N, H, W) or (N, 2); arrays or tensors of any library that numpy can read.
Not here: torch, thinning and packing (recording.py), the looks and the keys (player.js, player.css).
"""

from __future__ import annotations

import base64
import html
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from course_lib.widgets import recording
from course_lib.widgets.recording import Run

__all__ = ["StepPlayer"]

HERE = Path(__file__).resolve().parent
#: what is said while the guess has gone less than this share of its distance to the final picture
STAGES = (
    (0.1, "hardly anything decided"),
    (0.35, "rough shapes decided"),
    (0.75, "outlines decided"),
    (0.9, "strokes decided, edges still move"),
    (2.0, "only fine grain is left"),
)
DISTANCE = {"pictures": "distance of the guess from the final picture", "points": "distance of the guess from the end"}


class StepPlayer:
    """Show each step of one or several runs: x_t, the guess of x0, the predicted noise, rates, a curve, and words.

    runs: Steps of any sampler, such as list(sample_steps(...)), or {name: Steps}; several stay in step by noise level.
    Data are pictures (N, C, H, W) in [-1, 1] with 1 or 3 channels, points (N, 2), or latents with a codec, an object
    whose decode(x) makes pictures. rates: a Schedule or (signal_rate, noise_rate), each (T+1,); without, both are found
    from the steps. curve: {label: one number a step}, for several runs {label: {name: numbers}}; without, the distance
    (root mean square) of the guess from the end. alt: a sentence for those who see no picture. words: a sentence a
    step, as a list or words(step); without, what the data say: the share of noise is the noise's share of the variance,
    noise_rate**2 / (signal_rate**2 + noise_rate**2); what is decided is the share of the distance from the first guess
    to the final picture that the guess has gone.
    picture: "auto", or "grey" for colours shown as grey. paths: numbers of the points whose way is drawn.
    field: (points (M, 2), eps (steps, M, 2)) or {name: such a pair}, drawn as arrows along -eps.
    panels: what to show of x_t, x0 and eps, {name: caption}; without, all three and the rates.
    Raises ValueError, in one sentence, for what cannot be shown. Long runs are thinned, and the player says so.

    >>> from types import SimpleNamespace as Step
    >>> zero, one = np.zeros((1, 4, 4)), np.eye(4)[None]
    >>> step = Step(t=1, t_next=0, x_t=one, prediction=Step(x0=one, eps=zero), x_next=one)
    >>> StepPlayer([step], alt="a line").words(0)
    't = 1: only fine grain is left, 0 % noise'
    """

    def __init__(
        self,
        runs: Any,
        *,
        alt: str,
        rates: Any = None,
        curve: Mapping[str, Any] | None = None,
        title: str = "",
        words: Callable[[Any], str] | Sequence[str] | Mapping[str, Any] | None = None,
        picture: str = "auto",
        codec: Any = None,
        paths: Sequence[int] | None = None,
        field: Any = None,
        panels: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError("expected alt, a sentence that says what there is to see, got nothing")
        if picture not in ("auto", "grey"):
            raise ValueError(f"expected picture to be 'auto' or 'grey', got {str(picture)[:40]!r}")
        self.alt, self.title = " ".join(alt.split()), str(title)
        codec = _Grey(codec) if picture == "grey" else codec
        self._runs = recording.read_runs(runs, rates, codec)
        self._ends = {run.name: run.frame(len(run.steps))["x0"] for run in self._runs}
        self._starts = {run.name: run.frame(0) for run in self._runs}
        label, self._curve = _read_curve(curve, self._runs)
        self._words = words
        self.score, self.data = recording.record(self._runs, self._described, _read_field(field, self._runs))
        self.score |= {"curve": label or DISTANCE[self.score["kind"]], "title": self.title}
        if panels is not None:
            self.score["panels"] = _read_panels(panels)
        if self.score["kind"] == "points":
            self.score["paths"] = _read_paths(paths, self.score["count"])
        self._widget: Any = None

    def words(self, frame: int, run: int = 0) -> str:
        """Return the sentence of a frame that is shown, counted from 0; -1 is the end."""
        return self.score["runs"][run]["frames"][frame]["words"]

    def page(self) -> str:
        """Return the player as a whole HTML page that needs no kernel and no network.

        >>> from types import SimpleNamespace as Step
        >>> x = np.zeros((1, 4, 4))
        >>> step = Step(t=1, t_next=0, x_t=x, prediction=Step(x0=x, eps=x), x_next=x)
        >>> StepPlayer([step], alt="nothing").page()[:15]
        '<!doctype html>'
        """
        packed = _json({**self.score, "data": base64.b64encode(self.data).decode("ascii")})
        return PAGE.format(css=_file("player.css"), js=_file("player.js"), score=packed)

    @property
    def widget(self) -> Any:
        """The same player as a widget, to stand among other widgets where a kernel runs; made when first asked for.

        Its `score` (JSON) and `data` (bytes) may be replaced by those of another player, data first.
        """
        if self._widget is None:
            self._widget = _widget_class()(score=json.dumps(self.score), data=self.data)
        return self._widget

    def __repr__(self) -> str:
        return f"[step player: {self.alt}]"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        # No live widget's view: JupyterLab prefers it, and shows an error where the notebook is opened again.
        png = self._png()
        data = {"text/plain": repr(self), "text/html": self._frame_html(png), "image/png": png}
        return data, {"image/png": {"alt": self.alt}}

    def _frame_html(self, png: str) -> str:
        """The page in a frame of its own, which can reach nothing outside; as high as its panels are.

        Where a notebook is not trusted, frames are taken away and what stands inside them remains: a picture.
        """
        wide = {run["name"]: _aspect(run, self.score["count"]) for run in self.score["runs"]}
        lines = bool(self.title) + bool(self.score["note"])
        panels, rest = sum(wide.values()), 240 + 100 * len(wide) + 24 * lines
        narrow = f"{round(33 * panels)}vw + {rest + 40 + 50 * len(wide)}px"
        size = f"width: 100%; height: min({round(230 * panels + rest)}px, calc({narrow}))"
        page, alt = html.escape(self.page(), quote=True), html.escape(self.alt, quote=True)
        still = f'<img style="max-width: 100%" alt="{alt}" src="data:image/png;base64,{png}">'
        frame = f'sandbox="allow-scripts" title="{alt}" style="{size}; border: 0" srcdoc="{page}"'
        return f"<iframe {frame}>{still}</iframe>"

    def _png(self) -> str:
        """The last frame of each run, as PNG in base64."""
        draw = _cloud if self.score["kind"] == "points" else _mosaic
        ends = [end[: self.score["count"]] for end in self._ends.values()]
        pictures = [draw(end, self.score.get("extent", 1.0)) for end in ends]
        high = max(len(picture) for picture in pictures)
        padded = [np.pad(p, ((0, high - len(p)), (0, 8), (0, 0)), constant_values=255) for p in pictures]
        return base64.b64encode(_encode_png(np.concatenate(padded, axis=1)[:, :-8])).decode("ascii")

    def _described(self, run: Run, i: int) -> dict[str, Any]:
        """What frame i says besides its pictures: a sentence, and the value of the curve."""
        x = run.frame(i)
        given = self._curve.get(run.name)
        if given is None:
            with np.errstate(invalid="ignore", over="ignore"):
                value = float(np.sqrt(((x["x0"] - self._ends[run.name]) ** 2).mean()))
        else:
            value = given[i] if i < len(given) else None  # nothing is measured at the end
        curve = value if value is not None and np.isfinite(value) else None
        return {"words": self._given_words(run, i) or self._own_words(run, i, x), "curve": curve}

    def _given_words(self, run: Run, i: int) -> str:
        words = self._words.get(run.name) if isinstance(self._words, Mapping) else self._words
        if callable(words) and i < len(run.steps):
            return str(words(run.steps[i]))
        if words is None or callable(words):
            return ""
        if isinstance(words, str) or len(words) not in (len(run.steps), len(run.steps) + 1):
            raise ValueError(f"expected one sentence a step, {len(run.steps)}, as a list or a function of the step")
        return str(words[i]) if i < len(words) else ""

    def _own_words(self, run: Run, i: int, x: dict[str, np.ndarray]) -> str:
        broken = sum(not np.isfinite(one).all() for one in x["x_t"])
        a, s = run.rates[i]
        share = s**2 / (a**2 + s**2) if a or s else 0.0
        if broken:
            stage = f"not a number in {broken} of {len(x['x_t'])}"
        elif i == len(run.steps):
            return f"t = {run.t[i]}: the end, as the run left it"
        elif x["x0"].ndim == 2:
            stage = f"{100 * self._gone('x_t', run, x):.0f} % of the way gone"
        else:
            stage = next(stage for below, stage in STAGES if self._gone("x0", run, x) < below)
        return f"t = {run.t[i]}: {stage}, {100 * share:.0f} % noise"

    def _gone(self, what: str, run: Run, x: dict[str, np.ndarray]) -> float:
        """The share of the distance to the end that x_t or x0 has gone since the first frame, from 0 to 1."""
        start, end = self._starts[run.name][what], self._ends[run.name]
        whole, left = (np.linalg.norm((now - end).reshape(len(end), -1), axis=1).sum() for now in (start, x[what]))
        return float(np.clip(1 - left / whole, 0, 1)) if whole > 0 else 1.0


class _Grey:
    """A codec that shows colours as grey, after another codec if there is one."""

    def __init__(self, codec: Any):
        self.codec = codec

    def decode(self, x: Any) -> np.ndarray:
        return recording._material(x, self.codec).mean(axis=1, keepdims=True)


def _read_curve(curve: Any, runs: list[Run]) -> tuple[str, dict[str, Sequence[float]]]:
    """Let in {label: numbers} or {label: {run: numbers}}."""
    if curve is None:
        return "", {}
    if not isinstance(curve, Mapping) or len(curve) != 1:
        raise ValueError("expected curve as {label: one number a step}, got something else: one label, one curve")
    ((label, values),) = curve.items()
    named = values if isinstance(values, Mapping) else {run.name: values for run in runs}
    for run in runs:
        got = np.asarray(named.get(run.name, ()), dtype=float)
        if got.shape not in ((len(run.steps),), (len(run.steps) + 1,)):
            n = len(run.steps)
            raise ValueError(f"expected curve to have one number for each of {n} steps, got shape {got.shape}")
    return str(label), {run.name: [float(value) for value in named[run.name]] for run in runs}


def _read_field(given: Any, runs: list[Run]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Let in (points, eps), or {run: (points, eps)}."""
    if given is None:
        return {}
    read = {}
    for name, pair in (given if isinstance(given, Mapping) else {runs[0].name: given}).items():
        points, eps = (recording._array(x) for x in pair)
        run = next((run for run in runs if run.name == name), None)
        if run is None or points.ndim != 2 or points.shape[1] != 2 or eps.shape != (len(run.steps), *points.shape):
            raise ValueError(
                f"expected field as points (M, 2) and eps (steps, M, 2) of a run, got {points.shape} and {eps.shape}"
            )
        read[name] = points, eps
    return read


def _read_panels(panels: Any) -> list[tuple[str, str]]:
    """Let in {"x_t": caption, ...} of one to three panels."""
    if not isinstance(panels, Mapping) or not panels or not set(panels) <= {"x_t", "x0", "eps"}:
        raise ValueError(f"expected panels as {{'x_t': caption}}, of x_t, x0 and eps, got {str(panels)[:60]}")
    return [(name, " ".join(str(caption).split())) for name, caption in panels.items()]


def _read_paths(paths: Sequence[int] | None, count: int) -> list[int]:
    chosen = range(min(5, count)) if paths is None else paths
    if not all(0 <= int(k) < count for k in chosen):
        raise ValueError(f"expected paths to be numbers of points in 0..{count - 1}, got {list(chosen)[:8]}")
    return [int(k) for k in chosen]


# ---- pages and pictures -----------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>Step player</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; color: #1a1a1a; background: #fff; }}
@media screen and (prefers-color-scheme: dark) {{ body {{ color: #ececec; background: #16181c; }} }}
@media print {{ :root {{ color-scheme: light; }} }}
{css}</style>
<main id="player"></main>
<script type="application/json" id="score">{score}</script>
<script type="module">
{js}
const score = JSON.parse(document.getElementById("score").textContent);
const bytes = Uint8Array.from(atob(score.data), (letter) => letter.charCodeAt(0));
const player = await mount(document.getElementById("player"), score, bytes);
player.root.dataset.opened = performance.now().toFixed(0); // ms since the page began, for the benchmark
</script>
</html>
"""


def _json(value: Any) -> str:
    """JSON that cannot end a script or begin a tag, whatever its strings say."""
    text = json.dumps(value, allow_nan=False)  # ASCII, so U+2028 is escaped already
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _widget_class() -> type:
    import anywidget
    import traitlets

    class StepPlayerWidget(anywidget.AnyWidget):
        _esm = _file("player.js")
        _css = _file("player.css")
        score = traitlets.Unicode("{}").tag(sync=True)
        data = traitlets.Bytes(b"").tag(sync=True)

    return StepPlayerWidget


def _aspect(run: dict[str, Any], count: int) -> float:
    """Height over width of a run's panels."""
    x0 = run["channels"]["x0"]
    if "height" not in x0:
        return 1.0
    columns = -(-(count**0.5) // 1)
    return -(-count // columns) * x0["height"] / (columns * x0["width"])


def _mosaic(pictures: np.ndarray, _: float) -> np.ndarray:
    """Lay pictures (N, C, H, W) in [-1, 1] side by side as (rows, columns, 3) bytes; what is no number is orange."""
    n, channels, height, width = pictures.shape
    columns = int(-(-(n**0.5) // 1))
    bytes_ = np.rint((np.clip(np.nan_to_num(pictures), -1, 1) + 1) * 127.5).repeat(3 // channels, axis=1)
    broken = ~np.isfinite(pictures).all(axis=1)
    bytes_ = np.where(broken[:, None], np.array([213, 94, 0]).reshape(1, 3, 1, 1), bytes_)
    page = np.full((-(-n // columns) * (height + 1), columns * (width + 1), 3), 255, dtype=np.uint8)
    for k, picture in enumerate(bytes_):
        top, left = k // columns * (height + 1), k % columns * (width + 1)
        page[top : top + height, left : left + width] = picture.transpose(1, 2, 0)
    zoom = max(1, 240 // page.shape[1])
    return page[:-1, :-1].repeat(zoom, 0).repeat(zoom, 1)


def _cloud(points: np.ndarray, extent: float) -> np.ndarray:
    """Draw points (N, 2) as dots on white, (240, 240, 3) bytes."""
    page = np.full((240, 240, 3), 255, dtype=np.uint8)
    inside = points[np.isfinite(points).all(1) & (np.abs(points) < extent).all(1)]
    for x, y in inside:
        row, column = int(119.5 * (1 - y / extent)), int(119.5 * (1 + x / extent))
        page[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = (0, 114, 178)
    return page


def _encode_png(rgb: np.ndarray) -> bytes:
    """Write (H, W, 3) bytes as PNG (RFC 2083): a header, the rows with filter 0, an end."""
    height, width, _ = rgb.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), rgb.reshape(height, -1)], axis=1).tobytes()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
