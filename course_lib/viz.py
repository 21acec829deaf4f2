"""Viz: arrays in, matplotlib Figures out, in colours that survive colour-blindness.

    nothing is computed here but where the ink goes
Shapes: points (N, 2), paths (steps, N, 2), pictures (N, H, W) or (N, C, H, W) in [-1, 1], tables (T+1,).
Does not belong here: torch, schedules, predictors. Tensors come in as anything numpy can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "clouds", "curves", "field", "histogram", "picture_rows", "trajectories"]

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
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for i, (name, (x, y)) in enumerate(lines.items()):
        marker = MARKERS[i % 7] if markers else None
        axes.plot(_array(x), _array(y), color=COLOURS[i % 7], ls=DASHES[i % 7], marker=marker, lw=1.8, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    if mark is not None:
        axes.axvline(mark, color="0.4", lw=1)
    if len(lines) > 1:
        axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    return figure


def histogram(
    samples: Mapping[str, np.ndarray], xlabel: str, *, bins: int = 80, title: str = "", spread: tuple | None = None
) -> Figure:
    """Draw the densities of named samples {name: (N,)} as outlines over one another, on the same bins.

    spread: (low, high) of the horizontal axis; by default all values.

    >>> histogram({"noise": np.arange(10.0)}, "value").axes[0].get_ylabel()
    'density'
    """
    values = {name: _array(x).ravel() for name, x in samples.items()}
    low, high = spread or (min(x.min() for x in values.values()), max(x.max() for x in values.values()))
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    edges = np.linspace(low, high, bins + 1)
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
    tables = {name: _pictures(row) for name, row in rows.items()}
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
    figure.suptitle(title) if title else None
    return figure


def clouds(
    points: Mapping[str, np.ndarray], *, overlay: bool = False, limit: float = 2.0, title: str = "", size: float = 3.0
) -> Figure:
    """Draw named clouds {name: (N, 2)} side by side, or over one another with `overlay`.

    The axes reach from -limit to limit both ways.

    >>> len(clouds({"data": np.zeros((5, 2)), "drawn": np.zeros((5, 2))}).axes)
    2
    """
    panels = 1 if overlay else len(points)
    figure, grid = plt.subplots(1, panels, figsize=(size * panels, size + 0.3), squeeze=False, layout="constrained")
    for i, (name, cloud) in enumerate(points.items()):
        axes, cloud = grid[0][0 if overlay else i], _array(cloud)
        style = i if overlay else 1
        axes.scatter(*cloud.T, s=5, alpha=0.5, color=COLOURS[style % 7], marker=MARKERS[style % 7], lw=0, label=name)
        _plane(axes, limit)
        if not overlay:
            axes.set_title(name, fontsize=10)
    if overlay:
        grid[0][0].legend(frameon=False, markerscale=2)
    figure.suptitle(title) if title else None
    return figure


def field(
    at: np.ndarray, arrows: np.ndarray, *, cloud: np.ndarray | None = None, limit: float = 2.0, title: str = ""
) -> Figure:
    """Draw arrows (N, 2) standing at points (N, 2), coloured by length, over an optional cloud of data.

    >>> figure = field(np.zeros((1, 2)), np.ones((1, 2)))
    >>> figure.axes[1].get_ylabel()
    'length of the arrow'
    """
    at, arrows = _array(at), _array(arrows)
    figure, axes = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    if cloud is not None:
        axes.scatter(*_array(cloud).T, s=4, color="0.6", lw=0)
    length = np.hypot(*arrows.T)
    unit = arrows / np.maximum(length, 1e-12)[:, None]
    drawn = axes.quiver(*at.T, *unit.T, length, cmap="viridis", angles="xy", pivot="mid", width=0.004)
    figure.colorbar(drawn, ax=axes, label="length of the arrow")
    _plane(axes, limit)
    axes.set_title(title, fontsize=10)
    return figure


def trajectories(
    paths: Mapping[str, np.ndarray], *, cloud: np.ndarray | None = None, limit: float = 2.0, size: float = 3.4
) -> Figure:
    """Draw named bundles of paths {name: (steps, N, 2)} side by side, from noise (circle) to sample (cross).

    >>> len(trajectories({"eta 0": np.zeros((4, 3, 2))}).axes)
    1
    """
    figure, grid = plt.subplots(
        1, len(paths), figsize=(size * len(paths), size + 0.3), squeeze=False, layout="constrained"
    )
    for axes, (name, path) in zip(grid[0], paths.items(), strict=True):
        path = _array(path)
        if cloud is not None:
            axes.scatter(*_array(cloud).T, s=4, color="0.75", lw=0)
        for i in range(path.shape[1]):
            axes.plot(*path[:, i].T, color=COLOURS[1 + i % 6], lw=1, alpha=0.8)
        axes.scatter(*path[0].T, s=18, marker="o", facecolor="none", edgecolor="black", label="noise")
        axes.scatter(*path[-1].T, s=22, marker="x", color="black", label="sample")
        _plane(axes, limit)
        axes.set_title(name, fontsize=10)
    grid[0][0].legend(frameon=False, fontsize=8)
    return figure


def _array(value) -> np.ndarray:
    """Read a tensor, list or array as a numpy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value, dtype=float)


def _pictures(row) -> list[np.ndarray]:
    """Split (N, H, W) or (N, C, H, W) into pictures that imshow takes."""
    row = _array(row)
    if row.ndim == 3:
        row = row[:, None]
    if row.ndim != 4 or row.shape[1] not in (1, 3):
        raise ValueError(f"expected pictures of shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {row.shape}")
    if row.shape[1] == 1:
        return list(row[:, 0])
    return list(((row + 1) / 2).clip(0, 1).transpose(0, 2, 3, 1))


def _plane(axes: Axes, limit: float) -> None:
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="first coordinate", ylabel="second")
    axes.tick_params(labelsize=7)
