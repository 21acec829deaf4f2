"""Viz: arrays in, matplotlib Figures out, in colours that survive colour-blindness.

    nothing is computed here but where the ink goes
Shapes: points (N, 2), paths (steps, N, 2), pictures (N, H, W) or (N, C, H, W) in [-1, 1], tables (T+1,).
Does not belong here: torch, schedules, predictors. Tensors come in as anything numpy can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "clouds",
    "curves",
    "field",
    "fields",
    "heat_maps",
    "histogram",
    "orbits",
    "parts",
    "picture_and_curves",
    "picture_rows",
    "rulers",
    "shares",
    "trajectories",
    "two_clocks",
]

#: Okabe and Ito's palette, black first; each has a dash pattern and a marker of its own, so colour is never alone
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    *,
    title: str = "",
    log: str = "",
    mark: float | None = None,
    markers: bool = False,
) -> Figure:
    """Draw named lines {name: (x, y)} with a legend, each with a colour and a dash of its own.

    log: "", "x", "y" or "xy". mark draws a thin vertical line at that x. markers puts one at each value (few values).

    >>> figure = curves({"line": ([0, 1], [0, 2])}, "t", "noise rate")
    >>> figure.axes[0].get_xlabel()
    't'
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f"expected log to be '', 'x', 'y' or 'xy', got {_kind(log)}")
    drawn = {name: _line(name, line) for name, line in _named("lines", lines).items()}
    mark = None if mark is None else _number("mark", mark)
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    _plot(axes, drawn, markers=markers)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    if mark is not None:
        axes.axvline(mark, color="0.4", lw=1)
    if len(lines) > 1:
        axes.legend(frameon=False)
    return figure


def two_clocks(
    left: Mapping[str, tuple[np.ndarray, np.ndarray]],
    right: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabels: tuple[str, str],
    ylabel: str,
) -> Figure:
    """Draw the same named measurements twice, side by side: {name: (x, y)} against one clock and against another.

    >>> line = {"linear": ([0, 1], [1, 0])}
    >>> [axes.get_xlabel() for axes in two_clocks(line, line, ("t", "log-SNR"), "share").axes]
    ['t', 'log-SNR']
    """
    if isinstance(xlabels, str) or not isinstance(xlabels, Sequence) or len(xlabels) != 2:
        raise TypeError(f"expected xlabels as two names, one for each side, got {_kind(xlabels)}")
    sides = [{name: _line(name, line) for name, line in _named("lines", lines).items()} for lines in (left, right)]
    figure, pair = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True, layout="constrained")
    for axes, lines, xlabel in zip(pair, sides, xlabels, strict=True):
        _plot(axes, lines, markers=True)
        axes.set_xlabel(xlabel)
    pair[0].set_ylabel(ylabel)
    pair[1].legend(frameon=False)
    return figure


def rulers(
    rows: Mapping[str, np.ndarray],
    xlabel: str,
    *,
    band: tuple | None = None,
    band_name: str = "",
    span: tuple | None = None,
) -> Figure:
    """Draw named rows of marks {name: (N,)}, one ruler below another, over an optional shaded band (low, high).

    span: (low, high) of the axis; what lies beyond, infinity included, is drawn as an arrow at that end.

    >>> figure = rulers({"linear": [0.0, 1.0], "cosine": [0.5]}, "log-SNR")
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['linear', 'cosine']
    """
    marks = {name: _array(name, row).ravel() for name, row in _named("rows", rows).items()}
    band = None if band is None else _span("band", band)
    low, high = (-np.inf, np.inf) if span is None else _span("span", span)
    figure, axes = plt.subplots(figsize=(8.0, 0.55 * len(marks) + 1.2), layout="constrained")
    if band is not None:
        axes.axvspan(*band, color="0.9", label=band_name)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for i, x in enumerate(marks.values()):
        inside = x[(x >= low) & (x <= high)]
        axes.plot(inside, np.full(len(inside), i), color=COLOURS[i % 7], marker=MARKERS[i % 7], lw=0.6, ms=5)
        for end, arrow, beyond in ((low, r"$\leftarrow$", x < low), (high, r"$\rightarrow$", x > high)):
            if beyond.any():
                axes.plot(end, i, color=COLOURS[i % 7], marker=arrow, ms=13, clip_on=False)
    axes.set_yticks(range(len(marks)), labels=list(marks))
    axes.set(xlabel=xlabel, ylim=(len(marks) - 0.5, -0.5))
    axes.grid(alpha=0.25, axis="x")
    return figure


def picture_and_curves(
    picture: np.ndarray, lines: Mapping[str, np.ndarray], t: int, *, title: str = "", ylabel: str = "rate"
) -> Figure:
    """Draw a picture (1, H, W) in [-1, 1] beside named tables {name: (T+1,)}, with a line at t and a dot on each table.

    >>> figure = picture_and_curves(np.zeros((1, 8, 8)), {"signal_rate": [1.0, 0.5, 0.0]}, 1)
    >>> figure.axes[1].get_xlabel()
    't'
    """
    shown = _pictures("picture", _array("picture", picture)[None])[0]
    tables = {name: _array(name, table).ravel() for name, table in _named("lines", lines).items()}
    if not isinstance(t, Integral) or not all(0 <= t < len(table) for table in tables.values()):
        raise ValueError(f"expected t to be a row of every table, got {_kind(t)}")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0), width_ratios=(1, 1.5), layout="constrained")
    left.imshow(shown, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    left.set_title(title, fontsize=10)
    left.axis("off")
    _plot(right, {name: (np.arange(len(table)), table) for name, table in tables.items()})
    right.axvline(t, color="0.4", lw=1)
    for i, table in enumerate(tables.values()):
        right.plot(t, table[t], marker=MARKERS[i % 7], color=COLOURS[i % 7])
    right.set(xlabel="t", ylabel=ylabel)
    right.legend(frameon=False, fontsize=9)
    return figure


def histogram(
    samples: Mapping[str, np.ndarray], xlabel: str, *, bins: int = 80, title: str = "", spread: tuple | None = None
) -> Figure:
    """Draw the densities of named samples {name: (N,)} as outlines over one another, on the same bins.

    spread: (low, high) of the horizontal axis; by default all values.

    >>> histogram({"noise": np.arange(10.0)}, "value").axes[0].get_ylabel()
    'density'
    """
    values = {name: _array(name, x).ravel() for name, x in _named("samples", samples).items()}
    if not all(x.size and np.isfinite(x).all() for x in values.values()):
        raise ValueError("expected samples of finite numbers, at least one each, got none or NaN: look at them first")
    bins = int(_number("bins", bins, 1))
    spread = None if spread is None else _span("spread", spread)
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins, spread)
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for i, (name, x) in enumerate(values.items()):
        height, _ = np.histogram(x, edges, density=True)
        axes.stairs(height, edges, color=COLOURS[i % 7], ls=DASHES[i % 7], lw=1.8, label=name)
    axes.set(xlabel=xlabel, ylabel="density", title=title)
    axes.legend(frameon=False)
    return figure


def picture_rows(
    rows: Mapping[str, np.ndarray], columns: Sequence[str] | None = None, *, size: float = 0.9, title: str = ""
) -> Figure:
    """Draw named rows of pictures {name: (N, H, W) or (N, C, H, W) in [-1, 1]}, one picture a column.

    columns: a heading for each column, such as "t = 500". Values outside [-1, 1] are drawn as the nearest end.

    >>> len(picture_rows({"digits": np.zeros((3, 8, 8))}).axes)
    3
    """
    tables = {name: _pictures(name, row) for name, row in _named("rows", rows).items()}
    size = _number("size", size, 1e-3)
    if columns is not None and (isinstance(columns, str | bytes) or not isinstance(columns, Sequence)):
        raise TypeError(f"expected columns as a list of headings, got {_kind(columns)}")
    width = max(len(row) for row in tables.values())
    figure, grid = plt.subplots(
        len(tables), width, figsize=(size * width + 0.9, size * len(tables) + 0.4), squeeze=False, layout="constrained"
    )
    for axes in grid.ravel():
        axes.axis("off")
    for axes_row, (name, row) in zip(grid, tables.items(), strict=True):
        for axes, picture in zip(axes_row, row, strict=False):
            axes.imshow(picture, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes_row[0].text(-0.1, 0.5, name, ha="right", va="center", transform=axes_row[0].transAxes, fontsize=9)
    for axes, heading in zip(grid[0], columns or [], strict=False):
        axes.set_title(heading, fontsize=9)
    if title:
        figure.suptitle(title)
    return figure


def clouds(
    points: Mapping[str, np.ndarray], *, overlay: bool = False, limit: float = 2.0, title: str = "", size: float = 3.0
) -> Figure:
    """Draw named clouds {name: (N, 2)} side by side, or over one another with `overlay`.

    The axes reach from -limit to limit both ways.

    >>> len(clouds({"data": np.zeros((5, 2)), "drawn": np.zeros((5, 2))}).axes)
    2
    """
    drawn = {name: _points(name, cloud) for name, cloud in _named("points", points).items()}
    limit, size = _number("limit", limit, 1e-9), _number("size", size, 1e-3)
    panels = 1 if overlay else len(drawn)
    figure, grid = plt.subplots(1, panels, figsize=(size * panels, size + 0.3), squeeze=False, layout="constrained")
    for i, (name, cloud) in enumerate(drawn.items()):
        axes = grid[0][0 if overlay else i]
        style = i if overlay else 1
        axes.scatter(*cloud.T, s=5, alpha=0.5, color=COLOURS[style % 7], marker=MARKERS[style % 7], lw=0, label=name)
        _plane(axes, limit)
        if not overlay:
            axes.set_title(name, fontsize=10)
    if overlay:
        grid[0][0].legend(frameon=False, markerscale=2)
    if title:
        figure.suptitle(title)
    return figure


def field(
    at: np.ndarray, arrows: np.ndarray, *, cloud: np.ndarray | None = None, limit: float = 2.0, title: str = ""
) -> Figure:
    """Draw arrows (N, 2) standing at points (N, 2), coloured by length, over an optional cloud of data.

    >>> figure = field(np.zeros((1, 2)), np.ones((1, 2)))
    >>> figure.axes[1].get_ylabel()
    'length of the arrow'
    """
    at, arrows, limit = _points("at", at), _points("arrows", arrows), _number("limit", limit, 1e-9)
    if at.shape != arrows.shape:
        raise ValueError(f"expected one arrow for each of {len(at)} points, got {len(arrows)}")
    cloud = None if cloud is None else _points("cloud", cloud)
    figure, axes = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    if cloud is not None:
        axes.scatter(*cloud.T, s=4, color="0.6", lw=0)
    _quiver(figure, axes, at, arrows)
    _plane(axes, limit)
    axes.set_title(title, fontsize=10)
    return figure


def fields(
    at: np.ndarray, arrows: Mapping[str, np.ndarray], *, cloud: np.ndarray | None = None, limit: float = 2.0
) -> Figure:
    """Draw named fields {name: (N, 2)} of arrows side by side, standing at the same points (N, 2).

    Each panel has a colour bar of its own, as lengths may differ a hundredfold.

    >>> len(fields(np.zeros((1, 2)), {"t = 50": np.ones((1, 2)), "t = 900": np.ones((1, 2))}).axes)
    4
    """
    at, limit = _points("at", at), _number("limit", limit, 1e-9)
    panels = {name: _points(name, table) for name, table in _named("arrows", arrows).items()}
    if any(table.shape != at.shape for table in panels.values()):
        raise ValueError(f"expected one arrow for each of {len(at)} points, got {[len(t) for t in panels.values()]}")
    cloud = None if cloud is None else _points("cloud", cloud)
    figure, grid = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.6), squeeze=False, layout="constrained")
    for axes, (name, table) in zip(grid[0], panels.items(), strict=True):
        if cloud is not None:
            axes.scatter(*cloud.T, s=4, color="0.6", lw=0)
        _quiver(figure, axes, at, table, location="bottom")
        _plane(axes, limit)
        axes.set_title(name, fontsize=10)
    return figure


def shares(counts: Mapping[str, np.ndarray], expected: float, margin: float, xlabel: str) -> Figure:
    """Draw named rows of shares {name: (K,)} as groups of bars, over a band expected - margin .. expected + margin.

    >>> len(shares({"data": [0.4, 0.6], "drawn": [0.5, 0.5]}, 0.5, 0.02, "cluster").axes[0].patches)
    5
    """
    rows = {name: _array(name, row).ravel() for name, row in _named("counts", counts).items()}
    expected, margin = _number("expected", expected), _number("margin", margin, 0)
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    axes.axhspan(expected - margin, expected + margin, color="0.85", label="expected, give or take chance")
    width = 0.8 / len(rows)
    for i, (name, row) in enumerate(rows.items()):
        at = np.arange(len(row)) + (i - (len(rows) - 1) / 2) * width
        hatch = ("", "//", "..", "xx")[i % 4]
        axes.bar(at, row, width, color=COLOURS[1 + i % 6], hatch=hatch, edgecolor="white", label=name)
    axes.set(xlabel=xlabel, ylabel="share of the samples", xticks=range(max(map(len, rows.values()))))
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=len(rows) + 1)
    return figure


def heat_maps(
    maps: Mapping[str, np.ndarray], xlabel: str, ylabel: str, label: str, *, log: bool = False, size: float = 2.2
) -> Figure:
    """Draw named tables {name: (H, W)} of numbers from 0 up, side by side with one colour bar; 0 is left white.

    log: colours by powers of ten, four of them at most.

    >>> figure = heat_maps({"one": np.eye(3), "two": np.ones((3, 3))}, "column", "row", "weight")
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['one', 'two']
    """
    size = _number("size", size, 1e-3)
    tables = {name: _array(name, table) for name, table in _named("maps", maps).items()}
    if not all(table.ndim == 2 and (table >= 0).all() and table.any() for table in tables.values()):
        raise ValueError("expected maps of shape (H, W) with numbers from 0 up, not all 0: look at them first")
    highest = max(table.max() for table in tables.values())
    norm = LogNorm(highest / 1e4, highest, clip=True) if log else Normalize(0, highest)
    figure, row = plt.subplots(
        1, len(tables), figsize=(size * len(tables) + 0.8, size + 0.4), squeeze=False, layout="constrained"
    )
    for axes, (name, table) in zip(row[0], tables.items(), strict=True):
        image = axes.imshow(np.ma.masked_equal(table, 0), norm=norm, cmap="viridis", interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(xlabel)
    row[0, 0].set_ylabel(ylabel)
    figure.colorbar(image, ax=row[0], label=label)
    return figure


def parts(rows: Mapping[str, Mapping[str, float]], xlabel: str) -> Figure:
    """Draw named rows of the same parts {name: {part: number}} as horizontal bars, one panel a row.

    >>> figure = parts({"of the weights": {"down": 0.4, "up": 0.6}}, "share")
    >>> [float(bar.get_width()) for bar in figure.axes[0].patches]
    [0.4, 0.6]
    """
    rows = _named("rows", rows)
    bars = {name: {part: _number(part, n, 0) for part, n in _named(name, row).items()} for name, row in rows.items()}
    names = list(next(iter(bars.values())))
    if any(list(row) != names for row in bars.values()):
        raise ValueError("expected the same parts in every row, in the same order: give each row all of them")
    figure, panels = plt.subplots(
        1, len(bars), figsize=(3.6 * len(bars) + 0.6, 0.26 * len(names) + 1), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for i, (axes, (name, row)) in enumerate(zip(panels[0], bars.items(), strict=True)):
        axes.barh(names, list(row.values()), color=COLOURS[1 + i % 6])
        axes.set(title=name, xlabel=xlabel)
    panels[0, 0].invert_yaxis()
    return figure


def trajectories(
    paths: Mapping[str, np.ndarray], *, cloud: np.ndarray | None = None, limit: float = 2.0, size: float = 3.4
) -> Figure:
    """Draw named bundles of paths {name: (steps, N, 2)} side by side, from noise (circle) to sample (cross).

    >>> len(trajectories({"eta 0": np.zeros((4, 3, 2))}).axes)
    1
    """
    bundles = {name: _paths(name, path) for name, path in _named("paths", paths).items()}
    limit, size = _number("limit", limit, 1e-9), _number("size", size, 1e-3)
    cloud = None if cloud is None else _points("cloud", cloud)
    figure, grid = plt.subplots(
        1, len(bundles), figsize=(size * len(bundles), size + 0.3), squeeze=False, layout="constrained"
    )
    for axes, (name, path) in zip(grid[0], bundles.items(), strict=True):
        if cloud is not None:
            axes.scatter(*cloud.T, s=4, color="0.75", lw=0)
        for i in range(path.shape[1]):
            axes.plot(*path[:, i].T, color=COLOURS[1 + i % 6], lw=1, alpha=0.8)
        axes.scatter(*path[0].T, s=18, marker="o", facecolor="none", edgecolor="black", label="noise")
        axes.scatter(*path[-1].T, s=22, marker="x", color="black", label="sample")
        _plane(axes, limit)
        axes.set_title(name, fontsize=10)
    grid[0][0].legend(frameon=False, fontsize=8)
    return figure


def orbits(
    paths: Mapping[str, np.ndarray], at: np.ndarray, arrows: np.ndarray, xlabel: str, ylabel: str, *, size: float = 3.4
) -> Figure:
    """Draw named paths {name: (steps, 2)} side by side, from circle to cross, over arrows (N, 2) standing at (N, 2).

    The axes reach as far as the points where the arrows stand; the arrows are drawn with one length.

    >>> [axes.get_title() for axes in orbits({"out": np.ones((3, 2))}, np.eye(2), np.eye(2), "x", "y").axes]
    ['out']
    """
    lines = {name: _points(name, path) for name, path in _named("paths", paths).items()}
    at, arrows, size = _points("at", at), _points("arrows", arrows), _number("size", size, 1e-3)
    if at.shape != arrows.shape:
        raise ValueError(f"expected one arrow for each of {len(at)} points, got {len(arrows)}")
    limit = float(np.abs(at).max()) or 1.0
    figure, row = plt.subplots(1, len(lines), figsize=(size * len(lines), size), squeeze=False, layout="constrained")
    for i, (axes, (name, path)) in enumerate(zip(row[0], lines.items(), strict=True)):
        unit = arrows / np.maximum(np.hypot(*arrows.T), 1e-12)[:, None]
        axes.quiver(*at.T, *unit.T, color="0.7", angles="xy", pivot="mid", width=0.006)
        axes.plot(*path.T, color=COLOURS[1 + i % 6], lw=1.4)
        axes.scatter(*path[0], s=36, marker="o", facecolor="white", edgecolor="black", zorder=3, label="start")
        axes.scatter(*path[-1], s=40, marker="x", color="black", zorder=3, label="end")
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel=xlabel, ylabel=ylabel, title=name)
    row[0][0].legend(frameon=True, fontsize=8, loc="upper left")
    return figure


def _kind(value: object) -> str:
    """Name a value in a few words, for the end of a sentence that begins with "expected"."""
    if value is None or isinstance(value, bool | int | float | str):
        return f"{value!r:.40}"
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def _array(name: str, value: object) -> np.ndarray:
    """Read a tensor, list or array of numbers as a numpy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double()  # numpy knows no bfloat16
    try:
        if value is not None and not isinstance(value, str | bytes):  # numpy would read them as NaN and as numbers
            return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"expected {name!r} to hold numbers in a regular shape, got {_kind(value)}")


def _named(name: str, value: object) -> Mapping:
    if not isinstance(value, Mapping) or not value:
        raise TypeError(f"expected {name} as a dictionary with at least one name, got {_kind(value)}")
    return value


def _number(name: str, value: object, low: float = -np.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(value) or value < low:
        least = "" if low == -np.inf else f" of at least {low:g}"
        raise ValueError(f"expected {name} as a finite number{least}, got {_kind(value)}")
    return float(value)


def _span(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"expected {name} as a pair (low, high), got {_kind(value)}")
    low, high = _number(f"{name}[0]", value[0]), _number(f"{name}[1]", value[1])
    if low >= high:
        raise ValueError(f"expected {name} as (low, high) with low < high, got ({low:g}, {high:g}): swap them")
    return low, high


def _line(name: str, value: object) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"expected line {name!r} as a pair (x, y), got {_kind(value)}")
    x, y = _array(name, value[0]), _array(name, value[1])
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected x and y of line {name!r} as two lists of one length, got {x.shape} and {y.shape}")
    return x, y


def _points(name: str, value: object) -> np.ndarray:
    points = _array(name, value)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"expected {name!r} as points of shape (N, 2), got {points.shape}")
    return points


def _paths(name: str, value: object) -> np.ndarray:
    paths = _array(name, value)
    if paths.ndim != 3 or paths.shape[2] != 2 or not paths.size:
        raise ValueError(f"expected {name!r} as paths of shape (steps, N, 2), got {paths.shape}: stack the steps")
    return paths


def _pictures(name: str, value: object) -> list[np.ndarray]:
    """Split (N, H, W) or (N, C, H, W) into pictures that imshow takes."""
    row = _array(name, value)
    if row.ndim == 3:
        row = row[:, None]
    if row.ndim != 4 or row.shape[1] not in (1, 3) or not row.size:
        raise ValueError(
            f"expected {name!r} as pictures of shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {row.shape}"
        )
    if row.shape[1] == 1:
        return list(row[:, 0])
    return list(((row + 1) / 2).clip(0, 1).transpose(0, 2, 3, 1))


def _plot(axes: Axes, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], *, markers: bool = False) -> None:
    """Draw named lines over a faint grid, each with a colour, a dash and perhaps a marker of its own."""
    for i, (name, (x, y)) in enumerate(lines.items()):
        marker = MARKERS[i % 7] if markers else None
        axes.plot(x, y, color=COLOURS[i % 7], ls=DASHES[i % 7], marker=marker, ms=4, lw=1.8, label=name)
    axes.grid(alpha=0.25)


def _quiver(figure: Figure, axes: Axes, at: np.ndarray, arrows: np.ndarray, location: str = "right") -> None:
    """Draw arrows of one length, coloured by their true length, with a colour bar."""
    length = np.hypot(*arrows.T)
    unit = arrows / np.maximum(length, 1e-12)[:, None]
    bold = 0.004 if location == "right" else 0.008  # panels side by side are smaller
    drawn = axes.quiver(*at.T, *unit.T, length, cmap="viridis", angles="xy", pivot="mid", width=bold)
    figure.colorbar(drawn, ax=axes, label="length of the arrow", location=location)


def _plane(axes: Axes, limit: float) -> None:
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="first coordinate", ylabel="second")
    axes.tick_params(labelsize=7)
