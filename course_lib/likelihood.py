"""Likelihood: how probable a model finds given data, by following the noise-free ODE up to pure noise.

    log p(z_0) = log p(z_end) + integral of div v(z, phi) dphi       (score SDE, arXiv:2011.13456, eq. 39)
    z = x / r is x on the unit circle, r^2 = a^2 + s^2, at the angle phi = atan(s / a), where dz / dphi = v
Shapes: x (B, *dims), times rising from the data's step to T; result (B,), in nats.
Does not belong here: sampling, training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from course_lib.doors import data_batch, described, generator_or_none, step_numbers, whole_number
from course_lib.samplers import ask
from course_lib.schedules import Schedule
from course_lib.types import Predictor, noise_like

__all__ = ["bits_per_dim", "log_likelihood"]


def log_likelihood(
    predict: Predictor,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int],
    cond: Any = None,
    *,
    probes: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Compute the log density (B,), in nats, of x (B, *dims) under the model's distribution at step times[0].

    times: rising steps, times[0] >= 1 (at row 0 there is no noise to predict; row 1 is a hair away), times[-1] so near
    T that x is standard normal on the circle. Heun's rule in the angle. probes 0 sums the divergence exactly, one pass
    for each dimension (2-D toys); probes n > 0 estimates it from n random directions (Hutchinson's trick; pictures).

    >>> from course_lib import schedules
    >>> from course_lib.models.exact import ExactPredictor, GaussianMixture
    >>> schedule, normal = schedules.cosine(), GaussianMixture(torch.zeros(1, 2), std=1.0)
    >>> found = log_likelihood(ExactPredictor(normal, schedule), schedule, torch.zeros(1, 2), [1, 500, 1000])
    >>> abs(float(found - normal.log_prob(torch.zeros(1, 2)))) < 1e-3
    True
    """
    data_batch("x", x)
    generator_or_none(generator)
    whole_number("probes", probes, 0)
    if not isinstance(schedule, Schedule):
        raise TypeError(f"expected a Schedule, such as schedules.cosine(), got {described(schedule)}")
    times = step_numbers("times", times, 1, schedule.T)
    if any(t >= t_next for t, t_next in pairwise(times)):
        raise ValueError(f"expected rising times, from data to noise (T), got {times[:6]}: reverse or thin them")
    probe = [noise_like(x, generator).sign() for _ in range(probes)]
    phi = torch.atan2(schedule.noise_rate, schedule.signal_rate)
    a, s = schedule.rates(times[0], x)
    r, D = (a**2 + s**2).sqrt(), x[0].numel()
    z, change = x / r, x.new_zeros(len(x))
    for t, t_next in pairwise(times):
        turn = float(phi[t_next] - phi[t])
        v, divergence = _v_and_divergence(predict, schedule, z, t, cond, probe)
        v_next, divergence_next = _v_and_divergence(predict, schedule, z + turn * v, t_next, cond, probe)
        z = z + turn * (v + v_next) / 2
        change = change + turn * (divergence + divergence_next) / 2
    log_end = -0.5 * z.square().flatten(1).sum(1) - 0.5 * D * math.log(2 * math.pi)
    return log_end + change - D * r.log().flatten()


def bits_per_dim(log_prob: Tensor, x: Tensor) -> Tensor:
    """Turn log densities (B,) in nats of x (B, *dims) into bits per dimension, (B,): smaller is likelier.

    >>> bits_per_dim(torch.tensor([-math.log(2.0) * 6]), torch.zeros(1, 1, 2, 3))
    tensor([1.])
    """
    data_batch("x", x)
    if not isinstance(log_prob, Tensor) or log_prob.shape != (len(x),):
        raise ValueError(f"expected log_prob of shape ({len(x)},), one for each of x, got {described(log_prob)}")
    return -log_prob / (x[0].numel() * math.log(2))


def _v_and_divergence(
    predict: Predictor, schedule: Schedule, z: Tensor, t: int, cond: Any, probe: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """v at z and its divergence with respect to z, (B,): exact without probes, else Hutchinson's estimate."""
    a, s = schedule.rates(t, z)
    r = (a**2 + s**2).sqrt()
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        x0, eps = ask(predict, r * z, t, cond)
        v = (a * eps - s * x0) / r
        if probe:
            parts = [(_pull(v, z, direction) * direction).flatten(1).sum(1) for direction in probe]
            divergence = torch.stack(parts).mean(0)
        else:
            flat = v.flatten(1)
            columns = range(flat.shape[1])
            divergence = sum(_pull(flat[:, i], z, torch.ones_like(flat[:, i])).flatten(1)[:, i] for i in columns)
    return v.detach(), divergence.detach()


def _pull(output: Tensor, z: Tensor, direction: Tensor) -> Tensor:
    pulled = None
    if output.requires_grad:
        (pulled,) = torch.autograd.grad(output, z, direction, retain_graph=True, allow_unused=True)
    if pulled is None:
        raise ValueError("expected predict to pass gradients on to x_t, got none: no torch.no_grad or detach inside it")
    return pulled
