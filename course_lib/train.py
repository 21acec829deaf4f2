"""Train: the loop, as a generator. `for progress in fit(...)`: break to stop; nothing is lost.

    weights <- weights - lr * gradient of loss_fn(batch, generator), clipped
Shapes: whatever loss_fn takes from `batches`; the loss is a scalar.
Does not belong here: what the loss is (denoiser.py), pictures of progress (viz.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.doors import described, real_number, whole_number
from course_lib.ema import EMA
from course_lib.types import Progress

__all__ = ["fit"]


def fit(
    loss_fn: Callable[[Any, torch.Generator], Tensor],
    net: nn.Module,
    batches: Iterable[Any],
    *,
    steps: int,
    lr: float | Callable[[float], float] = 1e-3,
    ema: EMA | None = None,
    seed: int = 0,
) -> Iterator[Progress]:
    """Train net with AdamW for some steps, yielding Progress after each.

    loss_fn(batch, generator) -> scalar draws all its noise from that generator, which `seed` starts. batches: anything
    that yields batches, such as data.batches(x, 256). lr: a number, or a function of the share of steps done, in
    [0, 1). Gradients are clipped to norm 1. Raises FloatingPointError when the loss or its gradient is not finite,
    and ValueError when batches run out; the weights are then those of the last good step.

    >>> from course_lib import data
    >>> net = nn.Linear(2, 2)
    >>> loss = lambda x, generator: (net(x) - x).square().mean()
    >>> [p.step for p in fit(loss, net, data.batches(torch.randn(64, 2), 32), steps=3)]
    [1, 2, 3]
    """
    if not isinstance(net, nn.Module) or not any(p.requires_grad for p in net.parameters()):
        raise TypeError(f"expected net to be a torch.nn.Module with weights to train, got {described(net)}")
    if not callable(loss_fn):
        raise TypeError(f"expected loss_fn to be called as loss_fn(batch, generator), got {described(loss_fn)}")
    if isinstance(batches, Tensor | str | bytes) or not isinstance(batches, Iterable):
        raise TypeError(f"expected batches to yield batches, got {described(batches)}: use data.batches(x, size)")
    if ema is not None and not isinstance(ema, EMA):
        raise TypeError(f"expected ema to be an EMA(net), got {described(ema)}")
    if not callable(lr):
        real_number("lr", lr, 0)
    steps, seed = whole_number("steps", steps, 1), whole_number("seed", seed, 0)
    return _loop(loss_fn, net, iter(batches), steps, lr, ema, torch.Generator().manual_seed(seed))


def _loop(loss_fn, net, batches, steps, lr, ema, generator) -> Iterator[Progress]:
    optimizer = torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), lr=0.0)
    begin = time.perf_counter()
    for step in range(1, steps + 1):
        rate = real_number("lr", lr((step - 1) / steps) if callable(lr) else lr, 0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_fn(_next(batches, step, steps), generator)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise ValueError(f"expected loss_fn to return a scalar that depends on the weights, got {described(loss)}")
        if not torch.isfinite(loss):
            raise FloatingPointError(f"expected a finite loss, got {loss.item()} {_where(step, steps, rate)}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(net.parameters(), 1.0)):
            raise FloatingPointError(f"expected finite gradients, got NaN or infinity {_where(step, steps, rate)}")
        optimizer.step()
        if ema is not None:
            ema.update(net)
        yield Progress(step, steps, loss.item(), rate, time.perf_counter() - begin)


def _next(batches: Iterator[Any], step: int, steps: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(
            f"expected a batch for each of {steps} steps, got {step - 1}: data.batches(x, size) never runs out"
        ) from None


def _where(step: int, steps: int, rate: float) -> str:
    return f"at step {step} of {steps}: lower lr (now {rate:g}), or look for NaN in the data"
