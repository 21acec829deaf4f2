"""Types: the few shapes of thing that the whole course passes around.

    x_t = signal_rate[t] * x0 + noise_rate[t] * eps;   predict(x_t, t, cond) -> Prediction(x0, eps)
Shapes: data (B, *dims) in [-1, 1]; t (B,) whole numbers, row 0 is clean data; cond whatever a network takes, or None.
Does not belong here: anything that computes, but for drawing noise, which every floor above needs.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from course_lib.doors import data_batch, generator_or_none

__all__ = ["GanProgress", "Prediction", "Predictor", "Progress", "Step", "noise_like"]


class Prediction(NamedTuple):
    """What a Predictor believes about x_t: x_t == signal_rate * x0 + noise_rate * eps."""

    x0: Tensor  # (B, *dims), data units
    eps: Tensor  # (B, *dims), unit variance


class Predictor(Protocol):
    """Turns noisy data x_t (B, *dims) at steps t (B,) into a Prediction."""

    def __call__(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Prediction: ...


class Step(NamedTuple):
    """One reverse step of a sampler, with all that a picture of it needs."""

    t: int  # where it began
    t_next: int  # where it ended, t_next < t
    x_t: Tensor  # (B, *dims) at t
    prediction: Prediction  # made from x_t
    x_next: Tensor  # (B, *dims) at t_next; after the last step, the sample


class Progress(NamedTuple):
    """What `fit` reports after each training step."""

    step: int  # 1..steps
    steps: int
    loss: float
    lr: float
    seconds: float  # of training so far, those before a stop included


class GanProgress(NamedTuple):
    """What `fit_gan` reports after each step: Progress, with the generator's loss and lr, and how the game stands."""

    step: int  # 1..steps
    steps: int
    loss: float
    lr: float
    seconds: float  # of training so far, those before a stop included
    discriminator_loss: float  # penalties included
    real_score: float  # mean of sigmoid(logits) of this step's real pictures
    fake_score: float  # and of the generator's; 0.5 each: the discriminator cannot tell


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw standard normal noise of the shape, dtype and device of x (B, *dims).

    A generator of another device (a CPU generator for data on a GPU, so that a seed means the same everywhere)
    draws there, and the noise moves.

    >>> noise_like(torch.zeros(2, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 8, 8])
    """
    data_batch("x", x)
    device = x.device if generator_or_none(generator) is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)
