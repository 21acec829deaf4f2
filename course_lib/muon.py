"""Muon: an optimiser that takes a step of the same length in every direction of a weight matrix.

    momentum <- mu * momentum + (1 - mu) * gradient;     weights <- weights - lr * nearest orthogonal matrix
Shapes: weights (out, in) or kernels (out, in, h, w), read as matrices (out, in * h * w).
Does not belong here: biases, norms, embeddings, first and last layers: AdamW takes those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from course_lib.doors import described, real_number

__all__ = ["Muon", "orthogonal"]


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Replace every singular value of a matrix (m, n) by a number near 1, between about 0.7 and 1.2.

    Newton-Schulz iteration X <- a X + b (X X^T) X + c (X X^T)^2 X with the coefficients of Jordan et al. (Muon, 2024),
    chosen to lift small singular values fast; it needs products of matrices only, most of them as small as X X^T, of
    which all factors are made.

    >>> values = torch.linalg.svdvals(orthogonal(torch.diag(torch.tensor([3.0, 0.5, 0.1]))))
    >>> bool((values > 0.6).all() and (values < 1.3).all())
    True
    """
    if not isinstance(matrix, Tensor) or matrix.ndim != 2 or not matrix.is_floating_point():
        raise ValueError(f"expected a matrix (m, n) of floating-point numbers, got {described(matrix)}")
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)  # now no singular value is above 1
    gram, product = x @ x.T, torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(rounds):  # X <- factor X, and so X X^T <- factor X X^T factor: X itself, which is long, can wait
        factor = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)  # b X X^T + c (X X^T)^2
        factor.diagonal().add_(3.4445)
        product, gram = factor @ product, factor @ gram @ factor
    x = product @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Follow `matrices` by Muon (Jordan et al., 2024) and all `others` by Adam (arXiv:1412.6980, algorithm 1).

    lr: the length of Muon's steps, about 0.02; Adam's is `ratio` times it. No weight decay. Raises ValueError for a
    matrix of fewer than two dimensions, which belongs to the others, and where there is no weight at all.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 1))
    >>> hidden = [net[2].weight]
    >>> optimizer = Muon(hidden, [weight for weight in net.parameters() if weight is not hidden[0]])
    >>> before = net[2].weight.detach().clone()
    >>> net(torch.randn(64, 4)).square().mean().backward(); optimizer.step()
    >>> 0.01 < float(torch.linalg.matrix_norm(net[2].weight.detach() - before, 2)) < 0.03
    True
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor] = (),
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        ratio: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        matrices, others = list(matrices), list(others)
        for weight in matrices:
            if not isinstance(weight, Tensor) or weight.ndim < 2:
                raise ValueError(
                    f"expected matrices of two or more dimensions, got {described(weight)}: it is one of the others"
                )
        for weight in others:
            if not isinstance(weight, Tensor):
                raise TypeError(f"expected others to be weights of a network, got {described(weight)}")
        if not matrices and not others:
            raise ValueError("expected weights to follow, got none: pass a network's parameters")
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"expected betas as two numbers in [0, 1), got {described(betas)}")
        betas = tuple(real_number("each of betas", beta, 0, 1 - 1e-9) for beta in betas)
        groups = [
            {"params": weights, "step_of": step_of}
            for weights, step_of in ((matrices, "muon"), (others, "adam"))
            if weights
        ]
        defaults = {"lr": real_number("lr", lr, 0), "momentum": real_number("momentum", momentum, 0, 1)}
        super().__init__(groups, {**defaults, "ratio": real_number("ratio", ratio, 0), "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Follow the gradients once; weights without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            follow = self._muon if group["step_of"] == "muon" else self._adam
            for weight in group["params"]:
                if weight.grad is not None:
                    follow(weight, self.state[weight], group)
        return loss

    def _muon(self, weight: Tensor, state: dict, group: dict) -> None:
        momentum = state.setdefault("momentum", torch.zeros_like(weight))
        momentum.lerp_(weight.grad, 1 - group["momentum"])
        ahead = weight.grad.lerp(momentum, group["momentum"])  # Nesterov: where the momentum is about to be
        step = orthogonal(ahead.reshape(len(weight), -1))  # (out, in * h * w)
        widen = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
        weight.sub_(step.reshape(weight.shape), alpha=group["lr"] * widen)

    def _adam(self, weight: Tensor, state: dict, group: dict) -> None:
        (b1, b2), k = group["betas"], int(state.get("step", 0)) + 1
        mean = state.setdefault("mean", torch.zeros_like(weight)).lerp_(weight.grad, 1 - b1)
        square = state.setdefault("square", torch.zeros_like(weight)).lerp_(weight.grad.square(), 1 - b2)
        state["step"] = k
        deviation = (square / (1 - b2**k)).sqrt() + 1e-8
        weight.addcdiv_(mean, deviation, value=-group["lr"] * group["ratio"] / (1 - b1**k))
