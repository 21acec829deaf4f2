"""Guidance: a Predictor that knows a condition becomes one that insists on it.

    eps = eps(x_t, none) + scale * (eps(x_t, cond) - eps(x_t, none)), and the same for x0
Shapes: x_t (B, *dims), t (B,) in 1..T, cond (B, *its own dims): class labels (B,), texts (B, tokens, width).
Does not belong here: what cond means, stepping backwards (samplers.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from course_lib.doors import data_batch, described, real_number
from course_lib.types import Prediction, Predictor

__all__ = ["guided"]


def guided(predict: Predictor, scale: float, null_cond: Tensor | None = None) -> Predictor:
    """Lead every prediction from "anything" to cond and beyond (classifier-free guidance, arXiv:2207.12598, eq. 6).

    scale: 0 unconditional, 1 conditional, above 1 stronger. The paper writes (1 + w) eps(x_t, cond) - w eps(x_t), so
    its w is scale - 1. null_cond: the condition that says nothing, like one row of cond (or one for each row): the
    label that stands for none, the embedding of "" or of a negative prompt; None if predict takes cond=None for it.
    Both questions go to predict as one batch of 2B (with None, one after the other; at 0 and 1 only one is asked).
    Raises TypeError or ValueError for a scale below 0, and for a cond that is missing or does not fit.

    >>> from course_lib import data, schedules
    >>> from course_lib.models.exact import ExactPredictor
    >>> predict = guided(ExactPredictor(data.ring(), schedules.cosine()), scale=3)
    >>> predict(torch.zeros(2, 2), torch.tensor([500, 500]), torch.tensor([0, 4])).x0[:, 0]  # the modes are at +-1
    tensor([ 2.9814, -2.9814])
    """
    scale = real_number("scale", scale, 0)
    if not callable(predict):
        raise TypeError(f"expected a Predictor, called as predict(x_t, t, cond), got {described(predict)}")
    if null_cond is not None and not isinstance(null_cond, Tensor):
        raise TypeError(f"expected null_cond to be a tensor like one row of cond, or None, got {described(null_cond)}")

    def predict_guided(x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        if not isinstance(cond, Tensor) or cond.shape[:1] != data_batch("x_t", x_t).shape[:1]:
            raise ValueError(f"expected cond with {len(x_t)} rows, one for each of x_t, got {described(cond)}")
        if scale == 1:
            return predict(x_t, t, cond)
        null = None if null_cond is None else _rows_like(cond, null_cond)
        if scale == 0:
            return predict(x_t, t, null)
        if null is None:
            without, told = predict(x_t, t, None), predict(x_t, t, cond)
        else:
            t = t.expand(len(x_t))
            both = predict(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, cond]))
            without, told = zip(*(part.chunk(2) for part in both), strict=True)
        return Prediction(*(anything + scale * (this - anything) for anything, this in zip(without, told, strict=True)))

    return predict_guided


def _rows_like(cond: Tensor, null_cond: Tensor) -> Tensor:
    """Repeat null_cond so that every row of cond has its own."""
    if null_cond.shape not in (cond.shape, cond.shape[1:], (1, *cond.shape[1:])):
        raise ValueError(
            f"expected null_cond of shape {tuple(cond.shape[1:])}, like one row of cond, got {described(null_cond)}"
        )
    return null_cond.to(cond).expand_as(cond)
