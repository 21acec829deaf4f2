"""Recording: the Steps of some runs, thinned and packed small enough for a page.

Equation: x_t = signal_rate * x0 + noise_rate * eps, so two of the three are enough; the browser mixes x_t again.
Shapes: pictures (N, C, H, W) or (N, H, W) in [-1, 1], points (N, 2), anything numpy can read; rates (T+1,).
Not here: torch, what the page looks like (player.js), and what a notebook is told (player.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Run", "read_runs", "record"]

BYTES = 700_000  # of all runs together, packed; a page holds them as text, a third longer
MOST_FRAMES = 120
MOST_VALUES = 24_000  # of one frame: 30 digits, or one colour picture of 88 x 88
MOST_SIDE = 128
MOST_PICTURES = 36
MOST_POINTS = 400
MIXES = 0.05  # x_t further than this from the mixture is recorded by itself
LEVELS = {"x0": 64, "x_t": 64, "eps": 20}  # as many as the eye wants; noise hides its own steps
SPANS = {"x0": (-1.0, 1.0), "x_t": (-1.0, 1.0), "eps": (-3.2, 3.2)}


@dataclass
class Run:
    """One run of a sampler, read: n steps make n + 1 frames, the last of which is where it ended."""

    name: str
    steps: list[Any]
    codec: Any
    rates: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # (n+1, 2): signal_rate, noise_rate
    mixed: bool = True  # whether x_t is the mixture of prediction.x0 and prediction.eps

    @property
    def t(self) -> list[int]:
        """Where each frame is, (n+1,)."""
        return [int(step.t) for step in self.steps] + [int(self.steps[-1].t_next)]

    @property
    def levels(self) -> np.ndarray:
        """The noise level of each frame as an angle, (n+1,): 0 is clean, pi/2 is noise; tan of it is sigma."""
        return np.arctan2(self.rates[:, 1], self.rates[:, 0])

    def frame(self, i: int) -> dict[str, np.ndarray]:
        """Return x_t, x0 and eps of frame i; at the end, the sample stands for x_t and x0, and eps is 0."""
        if i == len(self.steps):
            end = self.steps[-1].x_next
            clean = _material(end, self.codec)
            return {"x_t": clean, "x0": clean, "eps": np.zeros_like(_noise(end))}
        step = self.steps[i]
        x_t, x0 = _material(step.x_t, self.codec), _material(step.prediction.x0, self.codec)
        return {"x_t": x_t, "x0": x0, "eps": _noise(step.prediction.eps)}


def _array(x: Any) -> np.ndarray:
    """Read a tensor or an array as float64, without knowing torch."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().double().numpy()
    try:
        return np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        kind = type(x).__name__
        raise ValueError(f"expected numbers in each step, got {kind}: pass the Steps of a sampler") from error


def _material(x: Any, codec: Any = None) -> np.ndarray:
    """Read points as (N, 2), everything else as pictures (N, C, H, W)."""
    x = _array(codec.decode(x) if codec is not None else x)
    if x.ndim == 3:
        x = x[:, None]
    if ((x.ndim == 2 and x.shape[1] == 2) or x.ndim == 4) and x.size:
        return x
    raise ValueError(f"expected points (N, 2) or pictures (N, C, H, W), got shape {x.shape}")


def _noise(eps: Any) -> np.ndarray:
    """Read noise; of latents, which have no colours, the first channel."""
    eps = _material(eps)
    return eps[:, :1] if eps.ndim == 4 and eps.shape[1] not in (1, 3) else eps


def read_runs(runs: Any, rates: Any = None, codec: Any = None) -> list[Run]:
    """Let in the Steps of one run, or {name: Steps} of several, and find the rates of each frame.

    rates: an object with signal_rate and noise_rate, or a pair of such tables (T+1,); without, they are found from
    x_t = a x0 + s eps by least squares. Raises ValueError for anything else.
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    if not named:
        raise ValueError('expected at least one run, got none: pass list(sample_steps(...)) or {"name": steps}')
    read = [_read(str(name), steps, codec) for name, steps in named.items()]
    kinds = {run.frame(0)["x0"].ndim for run in read}
    if len(kinds) > 1:
        raise ValueError("expected runs of one kind, got points and pictures: show them in two players")
    tables = None if rates is None else _tables(rates)
    for run in read:
        _find_rates(run, tables)
    return read


def _read(name: str, steps: Any, codec: Any) -> Run:
    called = f"the run {name[:40]!r}" if name else "the run"
    if not isinstance(steps, Iterable) or isinstance(steps, str | bytes):
        kind = type(steps).__name__
        raise ValueError(f"expected {called} to be a list of Steps, got {kind}: pass list(sample_steps(...))")
    steps = list(steps)
    if not steps:
        raise ValueError(f"expected at least one step, got none in {called}: pass list(sample_steps(...))")
    for step in steps:
        lacks = [word for word in ("t", "t_next", "x_t", "prediction", "x_next") if not hasattr(step, word)]
        if lacks:
            kind = type(step).__name__
            raise ValueError(f"expected Steps with t, x_t and so on in {called}, got {kind} without {lacks[0]}")
    run = Run(name, steps, codec)
    first = run.frame(0)
    if any(run.frame(i)["x0"].shape != first["x0"].shape for i in {0, len(steps) - 1, len(steps)}):
        raise ValueError(f"expected the same pictures at each step of {called}, got another shape at its end")
    for what, x in first.items():
        if x.ndim == 4 and what != "eps" and x.shape[1] not in (1, 3):
            raise ValueError(
                f"expected pictures of 1 or 3 channels, got {x.shape[1]}: "
                "give codec, an object whose decode(x) makes pictures"
            )
    return run


def _tables(rates: Any) -> np.ndarray:
    """Read a Schedule or a pair of tables as (T+1, 2)."""
    pair = (rates.signal_rate, rates.noise_rate) if hasattr(rates, "signal_rate") else rates
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"expected rates as a Schedule or (signal_rate, noise_rate), got {type(rates).__name__}")
    a, s = _array(pair[0]), _array(pair[1])
    if a.ndim != 1 or a.shape != s.shape or not np.isfinite([a, s]).all():
        raise ValueError(f"expected two finite tables of T+1 rows each, got shapes {a.shape} and {s.shape}")
    return np.stack([a, s], axis=1)


def _find_rates(run: Run, tables: np.ndarray | None) -> None:
    """Look the rates up, or solve for them; then see whether x_t is their mixture."""
    if tables is not None:
        if not 0 <= min(run.t) <= max(run.t) < len(tables):
            raise ValueError(f"expected t in 0..{len(tables) - 1}, the rows of rates, got {min(run.t)}..{max(run.t)}")
        run.rates = tables[run.t]
    else:
        end = (1.0, 0.0)  # as far as anybody can tell from pictures alone
        run.rates = np.array([_solve(**_plain(step)) for step in run.steps] + [end])
    looked = np.unique(np.linspace(0, len(run.steps) - 1, 12).round().astype(int))
    run.mixed = run.codec is None and all(_mixes(*run.rates[i], **_plain(run.steps[i])) for i in looked)


def _plain(step: Any) -> dict[str, np.ndarray]:
    return {"x_t": _array(step.x_t), "x0": _array(step.prediction.x0), "eps": _array(step.prediction.eps)}


def _solve(x_t: np.ndarray, x0: np.ndarray, eps: np.ndarray) -> tuple[float, float]:
    """Find a and s of x_t = a x0 + s eps by least squares over what is finite."""
    known = np.isfinite(x_t) & np.isfinite(x0) & np.isfinite(eps)
    if known.sum() < 2:
        return 0.0, 1.0
    a, s = np.linalg.lstsq(np.stack([x0[known], eps[known]], axis=1), x_t[known], rcond=None)[0]
    return float(max(a, 0.0)), float(max(s, 0.0))


def _mixes(a: float, s: float, x_t: np.ndarray, x0: np.ndarray, eps: np.ndarray) -> bool:
    off = np.abs(a * np.clip(x0, -1, 1) + s * eps - x_t) if x0.ndim > 2 else np.abs(a * x0 + s * eps - x_t)
    off = off[np.isfinite(off)]
    return off.size == 0 or bool(np.sqrt((off**2).mean()) < MIXES)


# ---- thinning and packing ---------------------------------------------------------------------------------------


def record(runs: list[Run], describe: Callable[[Run, int], dict[str, Any]], arrows: Any = None) -> tuple[dict, bytes]:
    """Pack runs into (score, data): what JSON can say, and the channels that it points to, at most BYTES of them.

    describe(run, i): what else a frame i says (words, curve). arrows: {run name: (points (M, 2), eps (n, M, 2))}.
    Frames are left out evenly in noise level, pictures and points from the end; score["note"] says so.
    """
    total = [len(run.steps) + 1 for run in runs]
    frames = min(max(total), MOST_FRAMES)
    while True:
        kept = [_evenly(run.levels, frames) for run in runs]
        score, data = _pack(runs, kept, arrows or {})
        if len(data) <= BYTES or frames <= 2:
            break
        frames = max(2, min(frames - 1, int(0.95 * frames * BYTES / len(data))))
    for run, packed, rows in zip(runs, score["runs"], kept, strict=True):
        packed["frames"] = [_frame(run, i, describe(run, i)) for i in rows]
    thinned = [f"{len(rows):,} of {n:,} frames" for rows, n in zip(kept, total, strict=True) if len(rows) < n]
    score["note"] = _note(thinned[:1], score.pop("drawn"))
    return score, data


def _evenly(levels: np.ndarray, n: int) -> list[int]:
    """Choose at most n frames, evenly in noise level, the first and the last among them."""
    if len(levels) <= n:
        return list(range(len(levels)))
    travelled = np.concatenate([[0.0], np.abs(np.diff(levels)).cumsum()]) + np.linspace(0, 1e-6, len(levels))
    wanted = np.linspace(0, travelled[-1], n)
    return sorted({0, len(levels) - 1, *(int(np.abs(travelled - w).argmin()) for w in wanted)})


def _note(frames: list[str], drawn: list[str]) -> str:
    parts = frames + drawn
    return f"Showing {', '.join(parts)}." if parts else ""


def _frame(run: Run, i: int, said: dict[str, Any]) -> dict[str, Any]:
    a, s = (float(rate) for rate in run.rates[i])
    mix = {"signal": 1.0, "noise": 0.0} if i == len(run.steps) else {"signal": a, "noise": s}
    return {"t": run.t[i], "signal": a, "noise": s, "level": float(run.levels[i]), "mix": mix, **said}


def _pack(runs: list[Run], kept: list[list[int]], arrows: Mapping[str, Any]) -> tuple[dict, bytes]:
    shapes = [run.frame(0)["x0"].shape for run in runs]
    cloud, of = len(shapes[0]) == 2, min(shape[0] for shape in shapes)
    stride = 1 if cloud else max(-(-max(shape[2:]) // MOST_SIDE) for shape in shapes)
    while not cloud and max(_values(shape, stride) for shape in shapes) > MOST_VALUES:
        stride += 1
    each = 2 if cloud else max(_values(shape, stride) for shape in shapes)
    count = min(of, MOST_POINTS if cloud else min(MOST_PICTURES, max(1, MOST_VALUES // each)))
    drawn = [f"{count:,} of {max(shape[0] for shape in shapes):,} {'points' if cloud else 'pictures'}"] * any(
        shape[0] > count for shape in shapes
    )
    drawn += [f"every {_ordinal(stride)} pixel"] * (stride > 1)
    score: dict[str, Any] = {"kind": "points" if cloud else "pictures", "count": count, "drawn": drawn, "runs": []}
    parts: list[bytes] = []
    for run, rows in zip(runs, kept, strict=True):
        frames = [{name: _cut(x, count, stride) for name, x in run.frame(i).items()} for i in rows]
        packed: dict[str, Any] = {"name": run.name, "channels": {}}
        for name in ("x0", "eps") if run.mixed else ("x0", "eps", "x_t"):
            packed["channels"][name] = _channel(name, np.stack([frame[name] for frame in frames]), parts)
        if run.name in arrows:
            points, eps = arrows[run.name]
            last = [min(i, len(eps) - 1) for i in rows]  # at the end, the last step's field
            packed["fieldPoints"] = points.tolist()
            packed["channels"]["field"] = _channel("field", eps[last], parts)
        score["runs"].append(packed)
    if cloud:
        score["extent"] = _extent(runs)
    return score, b"".join(parts)


def _values(shape: tuple[int, ...], stride: int) -> int:
    return shape[1] * -(-shape[2] // stride) * -(-shape[3] // stride)


def _cut(x: np.ndarray, count: int, stride: int) -> np.ndarray:
    return x[:count] if x.ndim == 2 else x[:count, :, ::stride, ::stride]


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")


def _extent(runs: list[Run]) -> float:
    """Half the side of the square that all clouds stay in, a few strays left out."""
    ends = np.concatenate([np.abs(run.frame(i)["x_t"]).max(1) for run in runs for i in (0, len(run.steps))])
    ends = ends[np.isfinite(ends)]
    return float(1.08 * np.quantile(ends, 0.99)) or 1.0 if ends.size else 1.0


def _channel(name: str, x: np.ndarray, parts: list[bytes]) -> dict[str, Any]:
    """Round x (frames, N, ...) to whole numbers, squeeze them, append them to parts; say how to read them."""
    wide = x.ndim == 3  # points need finer steps than grey values
    if wide:
        known = x[np.isfinite(x)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
        high, levels, nan, dtype = (high if high > low else low + 1.0), 4096, 65535, "<u2"
    else:
        (low, high), levels, nan, dtype = SPANS[name], LEVELS[name], 255, "u1"
        if name == "x0" and x.shape[2] == 1:
            levels = 32
    with np.errstate(invalid="ignore"):
        codes = np.rint((np.clip(x, low, high) - low) / (high - low) * (levels - 1))
    codes = np.where(np.isfinite(x), codes, nan).astype(dtype)
    flat = codes.reshape(len(codes), -1)
    change = np.concatenate([flat[:1], flat[1:] - flat[:-1]])  # wraps round, and the browser wraps it back
    plain, delta = _squeeze(flat), _squeeze(change)
    start, data = sum(map(len, parts)), min(plain, delta, key=len)
    parts.append(data)
    shape = {} if wide else dict(zip(("channels", "height", "width"), x.shape[2:], strict=True))
    return {"start": start, "length": len(data), "frames": len(x), "levels": levels, "low": low, "high": high,
            "delta": data is delta, **shape}  # fmt: skip


def _squeeze(codes: np.ndarray) -> bytes:
    """Deflate, looking for runs only: as small as the best level on pictures and noise, and fifty times as fast."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return squeezer.compress(np.ascontiguousarray(codes).tobytes()) + squeezer.flush()
