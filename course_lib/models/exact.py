"""Exact: the Predictor of a Gaussian mixture in closed form, the answer key of the course.

    x_t given component k is normal with mean a * mean_k and variance a^2 std_k^2 + s^2; Bayes does the rest
Shapes: means (K, *dims), x_t (B, *dims), t (B,), cond (B,) labels.
Does not belong here: anything that is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.doors import data_batch, described, generator_or_none, real_number, timesteps, whole_number
from course_lib.schedules import Schedule
from course_lib.types import Prediction

__all__ = ["ExactPredictor", "GaussianMixture"]


class GaussianMixture:
    """A mixture of K round normal distributions in any number of dimensions.

    means (K, *dims); std: one number or (K,), above 0, or 0 for single points (their density is then infinite);
    weights (K,) above 0 that sum to 1 (equal by default); labels (K,) whole numbers, the class of each component, for
    `cond`.

    >>> ring = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), std=0.1)
    >>> ring.mean, ring.covariance.diagonal()
    (tensor([0., 0.]), tensor([1.0100, 0.0100]))
    """

    def __init__(
        self, means: Tensor, std: float | Tensor, weights: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        self.means = data_batch("means", means)
        K = len(means)
        if not _one_or_each(std, K):
            _refuse("std", std, K)
        self.std = torch.as_tensor(std, dtype=means.dtype, device=means.device).expand(K)
        equal = means.new_full((K,), 1 / K)
        self.weights = equal if weights is None else weights
        if not isinstance(self.weights, Tensor) or self.weights.shape != (K,):
            _refuse("weights", weights, K)
        self.weights = self.weights.to(means)
        if not torch.isfinite(self.means).all() or not torch.isfinite(self.std).all() or (self.std < 0).any():
            raise ValueError("expected finite means and every std finite and not below 0, got others: look for NaN")
        if not (self.weights > 0).all() or abs(float(self.weights.sum()) - 1) > 1e-4:
            raise ValueError(
                f"expected weights above 0 that sum to 1, got {described(weights)} with a sum of "
                f"{float(self.weights.sum()):g}: divide them by their sum"
            )
        if labels is not None and (
            not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != (K,)
        ):
            _refuse("labels", labels, K)
        self.labels = labels

    @property
    def mean(self) -> Tensor:
        """The mean of the whole mixture, (*dims)."""
        return torch.tensordot(self.weights, self.means, dims=1)

    @property
    def covariance(self) -> Tensor:
        """The covariance of the whole mixture over its flattened dimensions, (D, D)."""
        centred = (self.means - self.mean).flatten(1)
        within = (self.weights * self.std**2).sum() * torch.eye(centred.shape[1]).to(centred)
        return within + (self.weights[:, None] * centred).T @ centred

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples, (n, *dims)."""
        whole_number("n", n, 1)
        device = self.means.device if generator_or_none(generator) is None else generator.device
        k = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator).to(self.means.device)
        noise = torch.randn((n, *self.means.shape[1:]), generator=generator, device=device, dtype=self.means.dtype)
        return self.means[k] + self.std[k].reshape(-1, *[1] * (self.means.ndim - 1)) * noise.to(self.means.device)

    def log_prob(self, x_t: Tensor, a: float = 1.0, s: float = 0.0) -> Tensor:
        """Compute the log density, in nats (B,), of x_t = a * x0 + s * eps; of the clean data by default.

        Raises ValueError where it is infinite: single points (std 0) at s = 0.
        """
        x_t = self._data("x_t", x_t)
        a, s = real_number("a", a, 0), real_number("s", s, 0)
        if s == 0 and (a * self.std == 0).any():
            raise ValueError("expected s above 0, got 0: single points (std 0) have no density until noise is added")
        log_joint, _ = self._components(x_t, x_t.new_full((1,), a), x_t.new_full((1,), s), None)
        return log_joint.logsumexp(1)

    def _components(self, x_t: Tensor, a: Tensor, s: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log of weight times density of each component, (B, K), and their variances, (B, K) or (1, K)."""
        x, means = x_t.flatten(1), self.means.flatten(1)
        variance = a[:, None] ** 2 * self.std**2 + s[:, None] ** 2
        # |x - a mean|^2 without a (B, K, D) table
        distance = (x**2).sum(1)[:, None] - 2 * a[:, None] * x @ means.T + a[:, None] ** 2 * (means**2).sum(1)
        D = x.shape[1]
        log_joint = self.weights.log() - distance.clamp(min=0) / (2 * variance)
        log_joint = log_joint - 0.5 * D * (2 * math.pi * variance).log()
        if cond is not None:
            log_joint = log_joint.masked_fill(cond[:, None] != self.labels, -math.inf)
        return log_joint, variance

    def _data(self, name: str, x: Tensor) -> Tensor:
        if data_batch(name, x).shape[1:] != self.means.shape[1:] or x.dtype != self.means.dtype:
            raise ValueError(
                f"expected {name} of shape (B, {', '.join(map(str, self.means.shape[1:]))}) and dtype "
                f"{self.means.dtype}, like the means, got {described(x)}"
            )
        return x


@dataclass(frozen=True)
class ExactPredictor:
    """The best possible Predictor of a mixture: x0 = E[x0 | x_t], eps = -s * grad log p(x_t) (Tweedie's formula).

    At row 0 it returns x0 = x_t and eps = 0, the limits. cond (B,) keeps only the components with that label.
    Raises ValueError for a t outside the table, another shape, or a label that no component has.

    >>> from course_lib.schedules import cosine
    >>> mixture = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), std=0.1)
    >>> ExactPredictor(mixture, cosine())(torch.tensor([[0.9, 0.1]]), torch.tensor([1000])).x0.round(decimals=2)
    tensor([[0., 0.]])
    """

    mixture: GaussianMixture
    schedule: Schedule

    def __post_init__(self) -> None:
        if not isinstance(self.mixture, GaussianMixture) or not isinstance(self.schedule, Schedule):
            raise TypeError(
                f"expected a GaussianMixture and a Schedule, got {described(self.mixture)} and "
                f"{described(self.schedule)}: data.ring() and schedules.cosine() make them"
            )

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        mixture = self.mixture
        x = mixture._data("x_t", x_t)
        timesteps(t, self.schedule.T, batch=len(x))
        if cond is not None:
            self._known_labels(cond, len(x))
        a, s = (rate.flatten() for rate in self.schedule.rates(t, x))  # (B,)
        clean = s == 0  # row 0: answered at the end, for single points have no density there
        log_joint, variance = mixture._components(x, a, s.masked_fill(clean, 1), cond)
        share = log_joint.softmax(1)  # (B, K): how likely x_t came from each component
        pull = share * a[:, None] * mixture.std**2 / variance  # Kalman gain of each component
        means, flat = mixture.means.flatten(1), x.flatten(1)
        x0 = share @ means + pull.sum(1, keepdim=True) * flat - a[:, None] * (pull @ means)
        push = share / variance
        eps = s[:, None] * (push.sum(1, keepdim=True) * flat - a[:, None] * (push @ means))  # 0 where clean
        x0 = torch.where(clean[:, None], flat, x0)
        return Prediction(x0.reshape(x_t.shape), eps.reshape(x_t.shape))

    def _known_labels(self, cond: Tensor, batch: int) -> None:
        if self.mixture.labels is None:
            raise ValueError("expected cond to be None, as this mixture has no labels: make it with labels")
        if not isinstance(cond, Tensor) or cond.is_floating_point() or cond.shape != (batch,):
            raise ValueError(f"expected cond as whole numbers of shape ({batch},), got {described(cond)}")
        if not bool(torch.isin(cond, self.mixture.labels).all()):
            raise ValueError(
                f"expected labels among {self.mixture.labels.unique().tolist()}, got {cond.unique().tolist()}"
            )


def _one_or_each(value: float | Tensor, K: int) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.shape in ((), (K,)))


def _refuse(name: str, value: object, K: int) -> None:
    raise ValueError(f"expected {name} with one value for each of the {K} components, got {described(value)}")
