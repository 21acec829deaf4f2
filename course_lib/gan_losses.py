"""GAN losses: what the discriminator and the generator minimise, and the penalties that calm the discriminator.

    D = sigmoid(logits);   discriminator: -mean log D(real) - mean log(1 - D(fake));   generator: -mean log D(fake)
Shapes: logits (B,), larger = more real, no sigmoid; real and fake (B, *dims); every loss is a scalar.
Does not belong here: who is updated when (train_gan.py), networks (models/gan.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from course_lib.doors import batch_like, data_batch, described, generator_or_none, real_number

__all__ = ["DISCRIMINATOR", "GENERATOR", "discriminator_loss", "generator_loss", "gradient_penalty", "r1_penalty"]


def _log_loss(real: Tensor, fake: Tensor, smooth: float) -> Tensor:
    """Cross entropy (arXiv:1406.2661, eq. 1), with 1 - smooth as the label of real ones (arXiv:1606.03498, 3.4)."""
    return (softplus(-real) + smooth * real).mean() + softplus(fake).mean()  # -log sigmoid(x) = softplus(-x)


def _least_squares(real: Tensor, fake: Tensor, smooth: float) -> Tensor:
    """Towards 1 for real and 0 for fake ones (arXiv:1611.04076, eq. 9); smooth lowers the 1."""
    return (real - (1 - smooth)).square().mean() / 2 + fake.square().mean() / 2


def _hinge(real: Tensor, fake: Tensor, smooth: float) -> Tensor:
    """Towards 1 and -1, and no further (arXiv:1802.05957, eq. 16)."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _wasserstein(real: Tensor, fake: Tensor, smooth: float) -> Tensor:
    """Minus the distance of the means (arXiv:1701.07875, eq. 3): needs a penalty, or grows without end."""
    return fake.mean() - real.mean()


#: what the discriminator minimises, by kind: (real logits, fake logits, smooth) -> scalar
DISCRIMINATOR: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "minimax": _log_loss,
    "non_saturating": _log_loss,
    "hinge": _hinge,
    "least_squares": _least_squares,
    "wasserstein": _wasserstein,
}
#: what the generator minimises, by kind: fake logits -> scalar
GENERATOR: dict[str, Callable[[Tensor], Tensor]] = {
    "minimax": lambda fake: -softplus(fake).mean(),  # log(1 - D): flat where D is sure (arXiv:1406.2661, eq. 1)
    "non_saturating": lambda fake: softplus(-fake).mean(),  # -log D: steep there (arXiv:1406.2661, section 3)
    "hinge": lambda fake: -fake.mean(),  # arXiv:1802.05957, eq. 17
    "least_squares": lambda fake: (fake - 1).square().mean() / 2,  # arXiv:1611.04076, eq. 9
    "wasserstein": lambda fake: -fake.mean(),  # arXiv:1701.07875, eq. 3
}


def discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, kind: str = "non_saturating", smooth: float = 0.0
) -> Tensor:
    """Say how badly the discriminator tells real logits (B,) from fake ones (B,); a scalar to minimise.

    kind: minimax and non_saturating (the same for the discriminator), hinge, least_squares, wasserstein. smooth in
    [0, 1]: real pictures are called real to 1 - smooth only (one-sided label smoothing), for the first two and least
    squares. Raises ValueError for another kind, and for a smooth that would mean nothing.

    >>> discriminator_loss(torch.zeros(8), torch.zeros(8))  # it does not know: 2 log 2
    tensor(1.3863)
    """
    _kind(kind)
    smooth = real_number("smooth", smooth, 0, 1)
    if smooth and kind in ("hinge", "wasserstein"):
        raise ValueError(f"expected smooth=0 with kind {kind!r}, which has no labels to smooth, got {smooth:g}")
    return DISCRIMINATOR[kind](_logits("real_logits", real_logits), _logits("fake_logits", fake_logits), smooth)


def generator_loss(fake_logits: Tensor, kind: str = "non_saturating") -> Tensor:
    """Say how badly the generator fools the discriminator, from the logits (B,) of its pictures; a scalar to minimise.

    kind: as for discriminator_loss. Raises ValueError for another one.

    >>> generator_loss(torch.zeros(8)), generator_loss(torch.zeros(8), "minimax")
    (tensor(0.6931), tensor(-0.6931))
    """
    return GENERATOR[_kind(kind)](_logits("fake_logits", fake_logits))


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """Measure how steep the discriminator is at real data: mean of ||gradient||^2 (arXiv:1801.04406, eq. 9).

    real: (B, *dims), with real.requires_grad_() called before the discriminator made real_logits (B,) of it. The
    paper's regulariser is gamma / 2 times this scalar; it can be differentiated once more.
    Raises ValueError when the logits do not follow from real.

    >>> real = torch.ones(4, 3, requires_grad=True)
    >>> r1_penalty(real @ torch.tensor([1.0, 2.0, 2.0]), real)  # a plane of slope 3
    tensor(9.)
    """
    data_batch("real", real)
    return _slope(_logits("real_logits", real_logits), real, "real").square().sum(1).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Measure how far the discriminator's slope is from 1 between real and fake data (arXiv:1704.00028, eq. 3).

    real and fake: (B, *dims), alike. Each pair is joined by a line, a point drawn on it (uniformly, from generator),
    and (||gradient|| - 1)^2 averaged over the points. The paper takes this scalar ten times; it goes with
    wasserstein, and with a discriminator without batch norm, for which a gradient of one picture is none.

    >>> flat = lambda x: x.sum(1) * 0
    >>> gradient_penalty(flat, torch.ones(4, 3), torch.zeros(4, 3))
    tensor(1.)
    """
    if not callable(discriminator):
        raise TypeError(f"expected discriminator to be a network, got {described(discriminator)}")
    batch_like("fake", fake, "real", data_batch("real", real))
    device = real.device if generator_or_none(generator) is None else generator.device
    share = torch.rand(len(real), generator=generator, device=device, dtype=real.dtype).to(real.device)
    share = share.reshape(-1, *[1] * (real.ndim - 1))  # (B, 1, ..., 1)
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    slope = _slope(_logits("the discriminator's logits", discriminator(between)), between, "its input")
    return (slope.norm(dim=1) - 1).square().mean()


def _slope(logits: Tensor, x: Tensor, name: str) -> Tensor:
    """Differentiate each logit by its own row of x: (B, size of a row)."""
    if not x.requires_grad or not logits.requires_grad:
        raise ValueError(f"expected logits that follow from {name}: call .requires_grad_() on it, then the network")
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(f"expected logits that follow from {name}, got those of other data: use the same tensor")
    return gradient.flatten(1)


def _kind(kind: Any) -> str:
    if not isinstance(kind, str) or kind not in GENERATOR:
        raise ValueError(f"expected kind {', '.join(GENERATOR)}, got {described(kind)}")
    return kind


def _logits(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim != 1 or not len(value):
        raise ValueError(f"expected {name} of shape (B,), one number for each of the batch, got {described(value)}")
    return value
