"""Doors: what every public function checks before it computes.

    a wrong shape, dtype, range or t  ->  one sentence: what was expected, what came, what to do
Shapes: data is (B, *dims), t is (B,), tables are (T+1,).
Does not belong here: arithmetic of any kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "batch_like",
    "data_batch",
    "described",
    "generator_or_none",
    "real_number",
    "step_numbers",
    "steps_or_seconds",
    "timesteps",
    "whole_number",
]


def described(value: Any) -> str:
    """Name a value in a few words, for the end of a sentence that begins with "expected".

    >>> described(torch.zeros(2, 3)), described("seven"), described(None)
    ('a float32 tensor of shape (2, 3)', "'seven' (str)", 'None')
    """
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return f"{value[:40]!r} (str)"
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def data_batch(name: str, value: Any) -> Tensor:
    """Let in a floating-point batch (B, *dims) with B >= 1; refuse all else with ValueError or TypeError."""
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} to be a torch tensor, got {described(value)}: wrap it in torch.as_tensor")
    if not value.is_floating_point():
        raise TypeError(f"expected {name} to hold floating-point numbers, got {described(value)}: call .float()")
    if value.ndim < 2 or value.numel() == 0:
        raise ValueError(
            f"expected {name} of shape (B, *dims) with at least one picture or point, got {described(value)}"
        )
    return value


def batch_like(name: str, value: Any, other_name: str, other: Tensor) -> Tensor:
    """Let in a floating-point batch of exactly the shape, dtype and device of another one."""
    data_batch(name, value)
    if value.shape != other.shape:
        raise ValueError(
            f"expected {name} to have the shape of {other_name}, {tuple(other.shape)}, got {tuple(value.shape)}"
        )
    if value.dtype != other.dtype or value.device != other.device:
        raise TypeError(
            f"expected {name} like {other_name} ({other.dtype} on {other.device}), "
            f"got {value.dtype} on {value.device}: call {name}.to({other_name})"
        )
    return value


def timesteps(t: Any, T: int, *, batch: int | None = None, lowest: int = 0) -> Any:
    """Let in one whole number t, or a (B,) tensor of them, in lowest..T; a tensor comes back as int64.

    Values of a tensor on a GPU are not read (that would stall it); its shape and dtype are.
    """
    if not isinstance(t, Tensor):
        return whole_number("t", t, lowest, T, why=row_zero(lowest))
    if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
        raise TypeError(f"expected t to hold whole numbers in {lowest}..{T}, got {described(t)}: call .long()")
    if t.ndim != 1 or t.numel() == 0 or (batch is not None and t.shape[0] not in (1, batch)):
        size = "B" if batch is None else str(batch)
        raise ValueError(f"expected t of shape ({size},), one step for each of the batch, got {described(t)}")
    if t.device.type == "cpu" and not (lowest <= int(t.min()) and int(t.max()) <= T):
        wrong = int(t.min()) if int(t.min()) < lowest else int(t.max())
        raise ValueError(f"expected t in {lowest}..{T}, got {wrong}{row_zero(lowest)}")
    return t.long()  # torch would take uint8 for a mask


def row_zero(lowest: int) -> str:
    """Say why t = 0 is refused where it is."""
    return ": row 0 is clean data, there is no noise to predict in it" if lowest == 1 else ": row 0 is clean data"


def whole_number(name: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """Let in a whole number in low..high (no upper end when high is None)."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"expected {name} to be a whole number, got {described(value)}")
    if value < low or (high is not None and value > high):
        span = f"in {low}..{high}" if high is not None else f"of at least {low}"
        raise ValueError(f"expected {name} {span}, got {int(value)}{why}")
    return int(value)


def real_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Let in a finite real number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"expected {name} to be a number, got {described(value)}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"expected {name} in [{low:g}, {high:g}], got {float(value):g}")
    return float(value)


def step_numbers(name: str, values: Any, low: int, high: int) -> list[int]:
    """Let in a list of at least two whole numbers in low..high."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes) or len(values) < 2:
        raise TypeError(
            f"expected {name} as a list of at least two steps, such as schedule.steps(50), got {described(values)}"
        )
    return [whole_number(f"each of {name}", t, low, high) for t in values]


def steps_or_seconds(steps: int | None, minutes: float | None, lowest: int = 1) -> tuple[int | None, float | None]:
    """Let in how long to train, as at least `lowest` steps or as minutes, and return it as steps or as seconds.

    >>> steps_or_seconds(None, minutes=3)
    (None, 180.0)
    """
    if (steps is None) == (minutes is None):
        raise ValueError(f"expected steps or minutes, one of the two, got steps={steps}, minutes={minutes}")
    if steps is not None:
        return whole_number("steps", steps, lowest), None
    return None, 60 * real_number("minutes", minutes, 1e-3)


def generator_or_none(value: Any) -> torch.Generator | None:
    """Let in a torch.Generator or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(
            f"expected generator to be a torch.Generator or None, got {described(value)}: "
            "write torch.Generator().manual_seed(0)"
        )
    return value
