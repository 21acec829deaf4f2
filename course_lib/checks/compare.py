"""Compare two results, whatever they are made of, and put the first difference in words.

Equation: equal means |got - expected| <= atol + rtol * |expected| for every number, and the same structure.
Shapes: any tree of tensors, arrays, numbers, lists, dicts and named tuples.
Not here: which mistake it was (engine.py).
"""

import math
import numbers
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from course_lib.checks.verdict import kind, quoted


class Difference(NamedTuple):
    """A name for tests ("shape", "dtype", "numbers", ...) and words for the student."""

    name: str
    says: str


def difference(expected, got, atol: float, rtol: float, where: str = "your result") -> Difference | None:
    """Return the first difference between two trees, or None where they agree.

    >>> difference((1, 2.0), (1, 2.5), atol=0, rtol=0).says
    'item 1 of your result is off by up to 0.5: you have 2.5, where 2 was expected.'
    """
    if got is None and expected is not None:
        return Difference("nothing returned", "your function returned None: is the `return` missing?")
    if isinstance(expected, torch.Tensor | np.ndarray):
        return _arrays(expected, got, atol, rtol, where)
    if isinstance(expected, numbers.Number | np.generic):
        return _numbers(expected, got, atol, rtol, where)
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(expected):
            keys = ", ".join(map(repr, expected))
            return Difference("type", f"{where} should be a dict with the keys {keys}, and it is {quoted(got)}.")
        pairs = [(f"{where}[{key!r}]", expected[key], got[key]) for key in expected]
    elif isinstance(expected, tuple | list):
        fields = getattr(expected, "_fields", None)
        if not isinstance(got, tuple | list) or (fields and getattr(got, "_fields", None) != fields):
            return Difference("type", f"{where} should be {kind(expected)}, and it is {kind(got)}.")
        if len(got) != len(expected):
            return Difference("length", f"{where} should have {len(expected)} items, and it has {len(got)}.")
        labels = fields or [f"item {index}" for index in range(len(expected))]
        pairs = [(f"{label} of {where}", e, g) for label, e, g in zip(labels, expected, got, strict=True)]
    else:
        same = expected is got or (type(expected) is type(got) and bool(expected == got))
        return None if same else Difference("value", f"{where} should be {quoted(expected)}, not {quoted(got)}.")
    return next((found for label, e, g in pairs if (found := difference(e, g, atol, rtol, label))), None)


def _numbers(expected, got, atol, rtol, where):
    if isinstance(got, torch.Tensor | np.ndarray) and got.ndim == 0:
        got = got.item()
    yes_or_no = bool | np.bool_
    is_number = isinstance(got, numbers.Number | np.generic)
    if not is_number or isinstance(expected, yes_or_no) != isinstance(got, yes_or_no):
        return Difference("type", f"{where} should be {kind(expected)}, and it is {kind(got)}.")
    return _values(torch.as_tensor(expected), torch.as_tensor(got), atol, rtol, where)


def _arrays(expected, got, atol, rtol, where):
    family = torch.Tensor if isinstance(expected, torch.Tensor) else np.ndarray
    if not isinstance(got, family):
        return Difference("type", f"{where} should be {kind(expected)}, and it is {kind(got)}.")
    if tuple(got.shape) != tuple(expected.shape):
        want, have = tuple(expected.shape), tuple(got.shape)
        return Difference("shape", f"{where} should have the shape {want}, and it has {have}.")
    if got.dtype != expected.dtype:
        says = f"{where} should have the dtype {expected.dtype}, and it has {got.dtype}"
        return Difference("dtype", f"{says}: look for the table or number that brought it in.")
    return _values(expected, got, atol, rtol, where)


def _values(expected, got, atol, rtol, where):
    """Compare two tensors or arrays of one shape as float64 numbers."""
    e, g = _float64(expected), _float64(got)
    if g.isnan().any() and not e.isnan().any():
        return Difference("nan", f"{where} holds NaN (not a number): look for 0 / 0 or the root of a negative number.")
    if g.isinf().any() and not e.isinf().any():
        return Difference("inf", f"{where} holds infinity: look for a division by zero or the logarithm of zero.")
    agree = (e == g) | (e.isnan() & g.isnan())
    gap = torch.where(agree, 0.0, (e - g).abs()).nan_to_num(nan=math.inf)
    if bool((agree | (gap <= atol + rtol * e.abs())).all()):
        return None
    worst = int(gap.argmax())
    place = f"at {[int(i) for i in np.unravel_index(worst, e.shape)]} " if e.ndim else ""
    far, mine, theirs = (f"{float(x.flatten()[worst]):.4g}" for x in (gap, g, e))
    return Difference("numbers", f"{where} is off by up to {far}: {place}you have {mine}, where {theirs} was expected.")


def _float64(array):
    """Any tensor or array as float64 on the CPU (a complex number as a pair)."""
    tensor = torch.as_tensor(array).detach().cpu()
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double()
