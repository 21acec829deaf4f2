"""Train: the loop, as a generator. `for progress in fit(...)`: break to stop; nothing is lost.

    weights <- weights - lr * gradient of loss_fn(batch, generator), clipped
Shapes: whatever loss_fn takes from `batches`; the loss is a scalar.
Does not belong here: what the loss is (denoiser.py), how a run is kept (runs.py), pictures of progress (viz.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.doors import described, real_number
from course_lib.ema import EMA
from course_lib.runs import Run
from course_lib.types import Progress

__all__ = ["fit", "quick_precision"]


def fit(
    loss_fn: Callable[[Any, torch.Generator], Tensor],
    net: nn.Module,
    batches: Iterable[Any],
    *,
    steps: int,
    lr: float | Callable[[float], float] = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    ema: EMA | None = None,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    folder: str | Path | None = None,
    name: str = "",
) -> Iterator[Progress]:
    """Train net for some steps (with AdamW, or your optimizer over its weights), yielding Progress after each.

    loss_fn(batch, generator) -> scalar draws all its noise from that generator, which `seed` starts. batches: anything
    that yields batches, such as data.batches(x, 256). lr: a number, or a function of the share of steps done, in
    [0, 1). Gradients are clipped to norm 1. Raises FloatingPointError when the loss or its gradient is not finite,
    and ValueError when batches run out; the weights are then those of the last good step.

    precision: torch.bfloat16 lets matrix products and convolutions round to 8 bits of mantissa (mixed precision,
    arXiv:1710.03740): faster where quick_precision says so; weights and their sums stay float32.
    Started by torchrun, each process computes its share of every batch and all make the same step (parallel.py).

    folder: where the run is kept. Whatever ends the loop (break, an interrupt, an error), the same call goes on where
    it stood, to the last bit, random numbers included; a killed process loses at most 30 seconds. Needs batches that
    can be drawn again: data.batches or shapes.drawings.
    name: what makes it another run beside network, optimizer, EMA, batches, steps and seed, such as its loss or lr.
    Raises CheckpointError when the folder holds another run, which is left as it is, and when it cannot be written.

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
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"expected optimizer to be a torch.optim.Optimizer, got {described(optimizer)}")
    if not callable(lr):
        real_number("lr", lr, 0)
    if optimizer is None:
        optimizer = torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), lr=0.0, fused=True)
    run = Run(
        {"net": net}, {"optimizer": optimizer}, ema, batches,
        steps=steps, seed=seed, precision=precision, folder=folder, name=name,
    )  # fmt: skip
    return run.go(partial(_train_step, run, loss_fn, optimizer, lr), Progress)


def quick_precision(device: torch.device) -> torch.dtype:
    """Say in which `precision` to train there: bfloat16 on CUDA and on CPUs with AMX, float32 on all others.

    AMX, in servers by Intel, multiplies matrices of bfloat16 about three times as fast as of float32.

    >>> quick_precision(torch.device("cuda"))
    torch.bfloat16
    """
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu.get_capabilities().get("amx_bf16", False) else torch.float32
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _train_step(run: Run, loss_fn, optimizer: torch.optim.Optimizer, lr) -> dict[str, float]:
    """Draw a batch, follow the gradient once; returns the loss and the learning rate."""
    rate = real_number("lr", run.rate(lr), 0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    batch = run.next_batch()
    with run.half():
        loss = loss_fn(batch, run.generator)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ValueError(f"expected loss_fn to return a scalar that depends on the weights, got {described(loss)}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]  # others keep old gradients
    loss = run.gradients_of(loss, weights, rate, longest=1.0)
    run.whole = False
    optimizer.step()
    if run.ema is not None:
        run.ema.update(run.nets["net"])
    run.done()
    return {"loss": loss.item(), "lr": rate}
