"""Samplers: from noise to data, one step at a time.

    x_next = a' x0 + s' eps: guess the picture and the noise, then mix them again with less noise
Shapes: x_t (B, *dims); t > t_next whole numbers in 0..T. A step asks `predict` and returns a Step.
Does not belong here: networks, training, pictures. Any Predictor will do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from course_lib.doors import (
    batch_like,
    data_batch,
    described,
    generator_or_none,
    real_number,
    step_numbers,
    whole_number,
)
from course_lib.schedules import NO_SIGNAL, Schedule
from course_lib.types import Prediction, Predictor, Step, noise_like

__all__ = ["ddim_step", "dpm_step", "heun_step", "sample", "sample_steps"]


def ddim_step(
    predict: Predictor,
    schedule: Schedule,
    x_t: Tensor,
    t: int,
    t_next: int,
    cond: Any = None,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
    previous: Step | None = None,
) -> Step:
    """Take one reverse step t -> t_next (DDIM, arXiv:2010.02502v4, eq. 12; std is eq. 16).

    eta 0 is deterministic (on the flow path, Euler's step); eta 1 between neighbours is DDPM's ancestral step.
    noise: like x_t, needed when eta > 0. previous is not used. At t_next = 0 the table makes std 0 by itself.

    >>> from course_lib import data, schedules
    >>> from course_lib.models.exact import ExactPredictor
    >>> schedule = schedules.cosine()
    >>> step = ddim_step(ExactPredictor(data.ring(), schedule), schedule, torch.randn(5, 2), 1000, 0)
    >>> step.x_next.shape
    torch.Size([5, 2])
    """
    eta = real_number("eta", eta, 0, 1)
    _door(schedule, x_t, t, t_next)
    if eta > 0:
        batch_like("noise", noise, "x_t", x_t)
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    x0, eps = prediction = ask(predict, x_t, t, cond)
    shrink = (a * s_next) / (a_next * s)  # sigma_next / sigma
    std = eta * s_next * (1 - shrink**2).clamp(min=0).sqrt()
    kept = s_next * (1 - eta**2 + (eta * shrink) ** 2).sqrt()  # sqrt(s_next**2 - std**2), to the last digit
    x_next = a_next * x0 + kept * eps
    if eta > 0:
        x_next = x_next + std * noise
    return Step(t, t_next, x_t, prediction, x_next)


def heun_step(
    predict: Predictor,
    schedule: Schedule,
    x_t: Tensor,
    t: int,
    t_next: int,
    cond: Any = None,
    *,
    noise: Tensor | None = None,
    previous: Step | None = None,
) -> Step:
    """Take one step of second order, asking twice (EDM, arXiv:2206.00364, algorithm 1, in sigma = s / a).

    With y = x / a the ODE is dy / dsigma = eps. At t_next = 0 there is no noise to ask about, and where hardly any
    signal is left (sigma above 1000; infinite where a = 0) one step spans decades of sigma: in both places it is one
    Euler step, ddim_step. noise and previous are not used.

    >>> from course_lib import data, schedules
    >>> from course_lib.models.exact import ExactPredictor
    >>> schedule = schedules.cosine()
    >>> heun_step(ExactPredictor(data.ring(), schedule), schedule, torch.randn(5, 2), 1000, 500).x_next.shape
    torch.Size([5, 2])
    """
    euler = ddim_step(predict, schedule, x_t, t, t_next, cond)
    if t_next == 0 or schedule.sigma[t] > NO_SIGNAL:
        return euler
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    eps_next = ask(predict, euler.x_next, t_next, cond).eps
    y = x_t / a + (s_next / a_next - s / a) * (euler.prediction.eps + eps_next) / 2
    return euler._replace(x_next=a_next * y)


def dpm_step(
    predict: Predictor,
    schedule: Schedule,
    x_t: Tensor,
    t: int,
    t_next: int,
    cond: Any = None,
    *,
    noise: Tensor | None = None,
    previous: Step | None = None,
) -> Step:
    """Take one step of second order, asking once: DPM-Solver++(2M) (arXiv:2211.01095, algorithm 2).

    It is ddim_step with x0 extrapolated along lambda = log(a / s) from the step before. The first step (previous is
    None), a step from where no signal is left, and the last step to clean data are of first order. noise is not used.

    >>> from course_lib import data, schedules
    >>> from course_lib.models.exact import ExactPredictor
    >>> schedule = schedules.cosine()
    >>> predict, x = ExactPredictor(data.ring(), schedule), torch.randn(5, 2)
    >>> first = dpm_step(predict, schedule, x, 1000, 500)
    >>> dpm_step(predict, schedule, first.x_next, 500, 250, previous=first).t_next
    250
    """
    step = ddim_step(predict, schedule, x_t, t, t_next, cond)
    if previous is not None and (not isinstance(previous, Step) or previous.t_next != t):
        raise ValueError(f"expected previous to be the Step that ended at t = {t}, or None, got {described(previous)}")
    if previous is None or t_next == 0:
        return step
    log_sigma = schedule.sigma[[previous.t, t, t_next]].log()
    h_last, h = -log_sigma.diff()  # how far lambda rose in the last step (infinitely far if from a = 0), and rises now
    slope = (step.prediction.x0 - previous.prediction.x0) * float(h / (2 * h_last))
    a_next, _ = schedule.rates(t_next, x_t)
    return step._replace(x_next=step.x_next - a_next * float(torch.expm1(-h)) * slope)


def sample_steps(
    step: Callable[..., Step],
    predict: Predictor,
    schedule: Schedule,
    x_T: Tensor,
    times: Sequence[int],
    cond: Any = None,
    *,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Walk from noise x_T (B, *dims) down the falling `times`, yielding every Step.

    step: ddim_step, heun_step, dpm_step, functools.partial(ddim_step, eta=1.0), or your own of the same signature.
    times: whole numbers such as schedule.steps(50). No gradients are kept. The last Step's x_next is the sample.

    >>> from course_lib import data, schedules
    >>> from course_lib.models.exact import ExactPredictor
    >>> schedule = schedules.cosine()
    >>> predict = ExactPredictor(data.ring(), schedule)
    >>> [s.t for s in sample_steps(ddim_step, predict, schedule, torch.randn(5, 2), schedule.steps(4))]
    [1000, 750, 500, 250]
    """
    if not callable(step):
        raise TypeError(f"expected step to be a sampler's step, such as ddim_step, got {described(step)}")
    _known(schedule)
    data_batch("x_T", x_T)
    times = step_numbers("times", times, 0, schedule.T)
    if any(t <= t_next for t, t_next in pairwise(times)):
        raise ValueError(f"expected falling times, from noise (T) to data (0), got {times[:6]}: reverse or thin them")
    generator_or_none(generator)
    return _walk(step, predict, schedule, x_T, times, cond, generator)


@torch.no_grad()
def _walk(step, predict, schedule, x_t, times, cond, generator) -> Iterator[Step]:
    done = None
    for t, t_next in pairwise(times):
        noise = noise_like(x_t, generator)
        done = step(predict, schedule, x_t, t, t_next, cond, noise=noise, previous=done)
        if not isinstance(done, Step):
            raise TypeError(f"expected step to return a Step, got {described(done)}: see ddim_step")
        x_t = done.x_next
        yield done


def sample(
    step: Callable[..., Step],
    predict: Predictor,
    schedule: Schedule,
    x_T: Tensor,
    times: Sequence[int],
    cond: Any = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Walk like sample_steps and return only the sample (B, *dims)."""
    steps = sample_steps(step, predict, schedule, x_T, times, cond, generator=generator)
    return deque(steps, maxlen=1).pop().x_next


def ask(predict: Predictor, x_t: Tensor, t: int, cond: Any) -> Prediction:
    """Call predict with one step t for the whole batch, and check what comes back."""
    if not callable(predict):
        raise TypeError(f"expected a Predictor, called as predict(x_t, t, cond), got {described(predict)}")
    prediction = predict(x_t, torch.full((len(x_t),), t, device=x_t.device), cond)
    if not isinstance(prediction, tuple) or len(prediction) != 2:
        raise TypeError(f"expected predict to return Prediction(x0, eps), got {described(prediction)}")
    x0, eps = prediction
    return Prediction(batch_like("the predicted x0", x0, "x_t", x_t), batch_like("the predicted eps", eps, "x_t", x_t))


def _known(schedule: Schedule) -> None:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"expected a Schedule, such as schedules.cosine(), got {described(schedule)}")


def _door(schedule: Schedule, x_t: Tensor, t: int, t_next: int) -> None:
    _known(schedule)
    data_batch("x_t", x_t)
    t = whole_number("t", t, 1, schedule.T, why=": a step begins at noise, row 0 is clean data")
    whole_number("t_next", t_next, 0, t - 1, why=f": a reverse step goes down from t = {t}")
