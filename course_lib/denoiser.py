"""Denoiser: a network, a schedule and an objective become a Predictor; and the loss that trains it.

    L = E || c x0 + d eps - net(x_t, t/T, cond) ||^2        (DDPM, arXiv:2006.11239, algorithm 1)
Shapes: x_t (B, *dims), t (B,) in 1..T, cond whatever the network takes, or None.
Does not belong here: stepping backwards (samplers.py), the training loop (train.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_lib.doors import data_batch, described, generator_or_none, real_number, timesteps, whole_number
from course_lib.objectives import Objective, Weight, simple, solve, target
from course_lib.parallel import share_of
from course_lib.schedules import Schedule
from course_lib.types import Prediction, noise_like

__all__ = ["Denoiser", "denoising_loss", "logit_normal_t", "uniform_t"]


@dataclass(frozen=True)
class Denoiser:
    """A trained (or not yet trained) Predictor: net(x_t, t/T, cond) read through an objective.

    clip: data are known to lie in [-clip, clip], so a guess of x0 beyond is cut off there and eps follows it; without
    it an eps network draws nothing on cosine(), whose first step divides its error by a signal rate of 5e-5.
    precision: torch.bfloat16 lets the network round inside (mixed precision; train.quick_precision says where that is
    quick), torch.float32 forbids it, None leaves it to the code around; answers are like x_t all the same.
    Raises ValueError at once for eps on a schedule whose last signal rate is 0: there x_t holds nothing of x0.

    >>> from course_lib import models, objectives, schedules
    >>> from course_lib.models.mlp import MLP
    >>> predict = Denoiser(MLP(dim=2), schedules.cosine(), objectives.v)
    >>> predict(torch.zeros(5, 2), torch.full((5,), 1000)).x0.shape
    torch.Size([5, 2])
    """

    net: Callable[[Tensor, Tensor, Any], Tensor]
    schedule: Schedule
    objective: Objective
    clip: float | None = None
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and real_number("clip", self.clip, 0) == 0:
            raise ValueError("expected clip above 0, the largest value in the data, or None, got 0")
        if not any(self.precision is known for known in (None, torch.float32, torch.bfloat16)):
            wanted = "precision torch.float32, torch.bfloat16 or None"
            raise ValueError(f"expected {wanted}, got {described(self.precision)}")
        if not callable(self.net):
            raise TypeError(f"expected net to be a network, called as net(x_t, time, cond), got {described(self.net)}")
        if not isinstance(self.schedule, Schedule):
            raise TypeError(f"expected a Schedule, such as schedules.cosine(), got {described(self.schedule)}")
        if not isinstance(self.objective, Objective):
            raise TypeError(f"expected an Objective, such as objectives.eps, got {described(self.objective)}")
        if self.objective.name == "eps" and self.schedule.signal_rate[-1] == 0:
            raise ValueError(
                f"expected a schedule that keeps some signal at T for objective 'eps', got '{self.schedule.name}': "
                "where no signal is left eps does not tell x0, use objectives.v"
            )

    def output(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """Ask the network at x_t (B, *dims), t (B,) in 1..T; its raw output, like x_t."""
        data_batch("x_t", x_t)
        if not isinstance(t, Tensor):
            raise TypeError(f"expected t of shape ({len(x_t)},), one step for each of the batch, got {described(t)}")
        t = timesteps(t, self.schedule.T, batch=len(x_t), lowest=1).expand(len(x_t))
        time = t.to(x_t) / self.schedule.T
        with self._rounding(x_t.device):
            output = self.net(x_t, time) if cond is None else self.net(x_t, time, cond)
        if not isinstance(output, Tensor) or output.shape != x_t.shape:
            raise ValueError(f"expected the network to return {described(x_t)}, like x_t, got {described(output)}")
        return output.to(x_t) if output.dtype == torch.bfloat16 else output  # a last layer that rounds

    def __call__(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        output = self.output(x_t, t, cond)
        a, s = self.schedule.rates(t, x_t)
        prediction = solve(self.objective, output, x_t, a, s)
        if self.clip is None:
            return prediction
        x0 = prediction.x0.clamp(-self.clip, self.clip)
        return Prediction(x0, (x_t - a * x0) / s)

    def _rounding(self, device: torch.device) -> AbstractContextManager:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16)


def uniform_t(n: int, T: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw n steps t, each of 1..T as likely as any other (DDPM, algorithm 1): (n,) whole numbers.

    >>> uniform_t(4, 1000).shape
    torch.Size([4])
    """
    n, T = whole_number("n", n, 1), whole_number("T", T, 1)
    device = None if generator_or_none(generator) is None else generator.device
    return torch.randint(1, T + 1, (n,), generator=generator, device=device)


def logit_normal_t(n: int, T: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw n steps t that favour the middle: t/T is the sigmoid of a standard normal (arXiv:2403.03206, eq. 19).

    On the flow path both ends are easy, pure noise and clean pictures, and the middle is where there is most to learn.

    >>> t = logit_normal_t(9999, 1000, torch.Generator().manual_seed(0))
    >>> round(float(((t > 250) & (t <= 750)).double().mean()), 2)  # 0.5 for uniform_t
    0.73
    """
    n, T = whole_number("n", n, 1), whole_number("T", T, 1)
    device = None if generator_or_none(generator) is None else generator.device
    share = torch.randn(n, generator=generator, device=device).sigmoid()  # (0, 1)
    return (share * T).ceil().long().clamp(1, T)


def denoising_loss(
    denoiser: Denoiser,
    x0: Tensor,
    cond: Any = None,
    *,
    weight: Weight = simple,
    draw_t: Callable[..., Tensor] = uniform_t,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a step and noise for each of x0 and compare the network's answer with the truth (DDPM, algorithm 1).

    x0: (B, *dims), data in about [-1, 1]. weight: objectives.simple, variational or min_snr(). draw_t: uniform_t or
    logit_normal_t, which step each picture gets. Returns a scalar: the mean over batch and dimensions, so that a
    network which returns 0 for eps scores 1. In a run of several processes each computes its own share of x0.

    >>> from course_lib import objectives, schedules
    >>> silent = Denoiser(lambda x_t, time: torch.zeros_like(x_t), schedules.cosine(), objectives.eps)
    >>> round(float(denoising_loss(silent, torch.zeros(9999, 2), generator=torch.Generator().manual_seed(0))), 1)
    1.0
    """
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"expected a Denoiser(net, schedule, objective), got {described(denoiser)}")
    if not callable(weight):
        raise TypeError(f"expected weight to be objectives.simple, variational or min_snr(), got {described(weight)}")
    data_batch("x0", x0)
    schedule = denoiser.schedule
    if not callable(draw_t):
        raise TypeError(f"expected draw_t to be uniform_t or logit_normal_t, got {described(draw_t)}")
    generator_or_none(generator)
    t = draw_t(len(x0), schedule.T, generator)
    if not isinstance(t, Tensor) or t.shape != x0.shape[:1]:
        raise ValueError(f"expected draw_t(n, T, generator) to return t of shape ({len(x0)},), got {described(t)}")
    t = timesteps(t, schedule.T, lowest=1).to(x0.device)
    eps = noise_like(x0, generator)
    mine = share_of(len(x0))  # all of it, unless several processes train together
    if isinstance(cond, Tensor) and cond.shape[:1] == x0.shape[:1]:  # one for each of the batch
        cond = cond[mine]
    x0, t, eps = x0[mine], t[mine], eps[mine]
    x_t = schedule.add_noise(x0, t, eps)
    truth = target(denoiser.objective, x0, eps, *schedule.rates(t, x0))
    error = (denoiser.output(x_t, t, cond) - truth).square().flatten(1).mean(1)  # (B,)
    return (weight(schedule, denoiser.objective, t).to(error.dtype).to(error.device) * error).mean()
