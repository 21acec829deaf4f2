"""Objectives: what the network is asked for, each as one row (c, d).

    target = c * x0 + d * eps;     with x_t = a * x0 + s * eps this is two equations for (x0, eps)
Shapes: x0, eps, x_t, output (B, *dims); a, s are the pair that Schedule.rates returns, (B, 1, ..., 1).
Does not belong here: networks, and drawing t or noise (denoiser.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib.doors import batch_like, data_batch, described, real_number, timesteps
from course_lib.schedules import Schedule
from course_lib.types import Prediction

__all__ = [
    "Objective",
    "Weight",
    "eps",
    "flow",
    "min_snr",
    "simple",
    "solve",
    "target",
    "v",
    "variational",
    "x0",
]


class Objective(NamedTuple):
    """A row of the two-by-two system: row(a, s) -> (c, d), so that target = c * x0 + d * eps."""

    name: str
    row: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


#: the noise (DDPM, arXiv:2006.11239, eq. 14)
eps = Objective("eps", lambda a, s: (torch.zeros_like(a), torch.ones_like(a)))
#: the clean data (DDPM, section 3.2)
x0 = Objective("x0", lambda a, s: (torch.ones_like(a), torch.zeros_like(a)))
#: the velocity on the circle of signal and noise (progressive distillation, arXiv:2202.00512, appendix D)
v = Objective("v", lambda a, s: (-s, a))
#: the velocity on the straight line from data to noise (rectified flow, arXiv:2209.03003, eq. 1, time reversed)
flow = Objective("flow", lambda a, s: (-torch.ones_like(a), torch.ones_like(a)))


def target(objective: Objective, x0: Tensor, eps: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """Compute what the network should return, c * x0 + d * eps, like x0 (B, *dims).

    >>> a, s = torch.tensor([[0.8]]), torch.tensor([[0.6]])
    >>> target(v, torch.ones(1, 2), torch.zeros(1, 2), a, s)
    tensor([[-0.6000, -0.6000]])
    """
    _known(objective)
    data_batch("x0", x0)
    batch_like("eps", eps, "x0", x0)
    _rate_pair(a, s, x0)
    c, d = objective.row(a, s)
    return c * x0 + d * eps


def solve(objective: Objective, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Prediction:
    """Turn a network's output back into (x0, eps): Cramer's rule on a x0 + s eps = x_t, c x0 + d eps = output.

    Raises ValueError where the two equations say the same thing: eps where no signal is left (a = 0; use v),
    x0 at clean data (s = 0). Values on a GPU are not read, so there the result is infinite instead.

    >>> a, s = torch.tensor([[0.8]]), torch.tensor([[0.6]])
    >>> solve(eps, torch.tensor([[1.0]]), torch.tensor([[1.4]]), a, s).x0.round(decimals=3)
    tensor([[1.]])
    """
    _known(objective)
    data_batch("x_t", x_t)
    batch_like("output", output, "x_t", x_t)
    _rate_pair(a, s, x_t)
    c, d = objective.row(a, s)
    determinant = a * d - s * c
    if determinant.device.type == "cpu" and bool((determinant == 0).any()):
        raise ValueError(
            f"expected rates from which objective '{objective.name}' tells x0, got signal rate {float(a.min()):g} and "
            f"noise rate {float(s.min()):g}: where no signal is left use v; at clean data there is nothing to predict"
        )
    return Prediction((d * x_t - s * output) / determinant, (a * output - c * x_t) / determinant)


Weight = Callable[[Schedule, Objective, Tensor], Tensor]  # (schedule, objective, t of shape (B,)) -> (B,) float64


def simple(schedule: Schedule, objective: Objective, t: Tensor) -> Tensor:
    """Weigh every step the same in the objective's own units (DDPM, eq. 14): (B,) ones.

    >>> from course_lib.schedules import linear_beta
    >>> simple(linear_beta(), eps, torch.tensor([1, 1000]))
    tensor([1., 1.], dtype=torch.float64)
    """
    t = _steps_of(schedule, objective, t)
    return torch.ones(t.shape, dtype=torch.float64)


def variational(schedule: Schedule, objective: Objective, t: Tensor) -> Tensor:
    """Weigh step t as the variational bound does, std**2 = beta (DDPM, eq. 12): (B,), in nats a dimension.

    On eps it is beta_t / (2 alpha_t (1 - alpha_bar_t)); other objectives by how far their error moves eps.

    >>> from course_lib.schedules import linear_beta
    >>> variational(linear_beta(), eps, torch.tensor([1, 1000])).round(decimals=3)
    tensor([0.5000, 0.0100], dtype=torch.float64)
    """
    t = _steps_of(schedule, objective, t)
    a, s = schedule.signal_rate[t], schedule.noise_rate[t]
    # a^2 / alpha_t = alpha_bar_(t-1), which stays finite where no signal is left
    return schedule.beta[t] * schedule.alpha_bar[t - 1] / (2 * (s * _determinant(objective, a, s)) ** 2)


def min_snr(gamma: float = 5.0) -> Weight:
    """Weigh the error of x0 by min(snr, gamma) (arXiv:2303.09556, section 3.4).

    >>> from course_lib.schedules import cosine
    >>> min_snr(5.0)(cosine(), eps, torch.tensor([1, 1000])).round(decimals=3)
    tensor([0., 1.], dtype=torch.float64)
    """
    gamma = real_number("gamma", gamma, 1e-6)

    def weight(schedule: Schedule, objective: Objective, t: Tensor) -> Tensor:
        t = _steps_of(schedule, objective, t)
        a, s = schedule.signal_rate[t], schedule.noise_rate[t]
        return schedule.snr[t].clamp(max=gamma) * (s / _determinant(objective, a, s)) ** 2

    return weight


def _determinant(objective: Objective, a: Tensor, s: Tensor) -> Tensor:
    c, d = objective.row(a, s)
    return a * d - s * c


def _known(objective: Objective) -> None:
    if not isinstance(objective, Objective):
        raise TypeError(f"expected an Objective (objectives.eps, x0, v or flow), got {described(objective)}")


def _rate_pair(a: Tensor, s: Tensor, like: Tensor) -> None:
    for name, rate in (("a", a), ("s", s)):
        fits = isinstance(rate, Tensor) and rate.ndim == like.ndim and rate.shape[0] in (1, len(like))
        if not fits or rate[0].numel() != 1:
            raise ValueError(
                f"expected {name} as Schedule.rates returns it, of shape (B{', 1' * (like.ndim - 1)}), "
                f"got {described(rate)}: call schedule.rates(t, like)"
            )
        if rate.dtype != like.dtype or rate.device != like.device:
            raise TypeError(f"expected {name} as {like.dtype} on {like.device}, got {rate.dtype} on {rate.device}")


def _steps_of(schedule: Schedule, objective: Objective, t: Tensor) -> Tensor:
    _known(objective)
    if not isinstance(schedule, Schedule):
        raise TypeError(f"expected a Schedule, got {described(schedule)}: make one with schedules.cosine()")
    if not isinstance(t, Tensor):
        raise TypeError(f"expected t to be a (B,) tensor of whole numbers, got {described(t)}")
    return timesteps(t.cpu(), schedule.T, lowest=1)
