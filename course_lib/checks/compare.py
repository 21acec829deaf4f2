"""Compare two results, whatever they are made of, and put the first difference in words.

Equation: equal means |got - expected| <= atol + rtol * |expected| for every finite number (rtol is 0 for whole
numbers), infinity only where infinity is expected, NaN only where NaN is, and the same structure.
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
        says = "your function returned None: is the `return` missing?"
        if where != "your result":  # there is a return, and a part of what it gives back is None
            lists = " (calls that change a list, such as `append`, return None)" if isinstance(expected, list) else ""
            says = f"{where} should be {kind(expected)}, and it is None{lists}."
        return Difference("nothing returned", says)
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
    kinds = [(isinstance(x, yes_or_no), np.iscomplexobj(x)) for x in (expected, got)]
    if not is_number or kinds[0] != kinds[1]:
        return Difference("type", f"{where} should be {kind(expected)}, and it is {kind(got)}.")
    return _values(np.asarray(expected), np.asarray(got), atol, rtol, where)  # Python's floats have 64 bits


def _arrays(expected, got, atol, rtol, where):
    family = torch.Tensor if isinstance(expected, torch.Tensor) else np.ndarray
    if not isinstance(got, family):
        return Difference("type", f"{where} should be {kind(expected)}, and it is {kind(got)}.")
    if tuple(got.shape) != tuple(expected.shape):
        want, have = tuple(expected.shape), tuple(got.shape)
        return Difference("shape", f"{where} should have the shape {want}, and it has {have}.")
    if got.dtype != expected.dtype:
        says = f"{where} should have the dtype {expected.dtype}, and it has {got.dtype}"
        cure = f"`.to({expected.dtype})`" if family is torch.Tensor else f"`.astype(np.{expected.dtype})`"
        return Difference("dtype", f"{says}: end with {cure}, or look for the table or number that brought it in.")
    if getattr(expected, "requires_grad", False) and not got.requires_grad:
        says = f"{where} should lead a gradient back, and it leads none: look for `detach`, `item` or `no_grad`."
        return Difference("gradient", says)
    return _values(expected, got, atol, rtol, where)


def _values(expected, got, atol, rtol, where):
    """Compare two tensors or arrays of one shape, number by number; infinity is equal to itself alone."""
    e, g = _plain(expected), _plain(got)
    if g.isnan().any() and not e.isnan().any():
        return Difference("nan", f"{where} holds NaN (not a number): look for 0 / 0 or the root of a negative number.")
    if g.isinf().any() and not e.isinf().any():
        return Difference("inf", f"{where} holds infinity: look for a division by zero or the logarithm of zero.")
    agree = (e == g) | (e.isnan() & g.isnan())
    gap = (e - g).abs().double().masked_fill(agree, 0.0).nan_to_num(nan=math.inf, posinf=math.inf)
    slack = rtol * e.abs().double() if e.is_floating_point() else torch.zeros_like(gap)  # a count is right or wrong
    within = gap <= atol + torch.where(slack.isfinite(), slack, 0.0)
    if bool((agree | within).all()):
        return None
    worst = int(gap.masked_fill(agree | within, -1.0).argmax())
    place = f"at {[int(i) for i in np.unravel_index(worst, e.shape)]} " if e.ndim else ""
    return Difference("numbers", f"{where} {_both(*(x.flatten()[worst].item() for x in (e, g)), place)}")


def _both(expected, got, place):
    """Say how far one number is off, with as many digits as it takes to tell the two apart."""
    far = abs(expected - got)
    whole = isinstance(expected, int)  # a count is shown as it is, not as 1.806e+06
    digits = 17 if whole else next((n for n in range(4, 17) if f"{got:.{n}g}" != f"{expected:.{n}g}"), 17)
    off = f"is off by up to {far:.{17 if whole else 4}g}: " if math.isfinite(far) else "differs: "
    close = isinstance(expected, float) and 0 < far < 1e-4 * abs(expected) < math.inf
    more = " The two are so close that float32 may have crept in on the way." if close else ""
    return f"{off}{place}you have {got:.{digits}g}, where {expected:.{digits}g} was expected.{more}"


def _plain(array):
    """Any tensor or array on the CPU, as float64 or (what counts or says yes or no) as int64; complex as a pair."""
    tensor = torch.as_tensor(array).detach().cpu()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.double() if tensor.is_floating_point() else tensor.long()
