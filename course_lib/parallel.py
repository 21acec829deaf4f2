"""Parallel: several processes that train one network, each on its share of every batch.

    gradient of the whole batch = average of the gradients of the shares, when the shares have one size
Shapes: a batch of B rows is cut into slices of B / processes rows; gradients and losses keep their shapes.
Does not belong here: the loop (train.py). With one process, which is the usual case, nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["agreed", "average_over_processes", "is_first_process", "processes", "share_of"]


@contextmanager
def processes() -> Iterator[int]:
    """Join the other processes where torchrun started several, for the length of the block; yields how many there are.

    On GPUs each process takes the one that torchrun names. Where torchrun did not start us, or somebody (Accelerate,
    say) has joined the processes already, it changes nothing.

    >>> with processes() as count:
    ...     count
    1
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield _count()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield _count()
    finally:
        dist.destroy_process_group()


def is_first_process() -> bool:
    """Whether this process writes and speaks for all; true when it is alone."""
    return _count() == 1 or dist.get_rank() == 0


def share_of(rows: int) -> slice:
    """Say which rows of a batch this process computes: all of them when it is alone.

    Each process draws t and noise for the whole batch from the same generator and then takes its rows, so several
    processes see the very numbers that one would. Raises ValueError when the rows cannot be shared evenly.

    >>> share_of(128)
    slice(0, 128, None)
    """
    count = _count()
    if rows % count:
        raise ValueError(
            f"expected a batch that {count} processes can share evenly, got {rows} rows: choose a multiple"
        )
    size, rank = rows // count, dist.get_rank() if count > 1 else 0
    return slice(rank * size, (rank + 1) * size)


def agreed(number: float) -> float:
    """Take the first process's number in all of them, where each has measured its own and they must not differ.

    >>> agreed(0.25)
    0.25
    """
    if _count() == 1:
        return number
    parcel = torch.tensor([number], dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(parcel, 0)
    return parcel.item()


def average_over_processes(loss: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Replace each weight's gradient by its average over the processes; returns the average of their losses.

    All gradients travel as one vector. Weights without a gradient are left out, so all processes must agree on them.

    >>> average_over_processes(torch.tensor(2.0), [])
    tensor(2.)
    """
    if _count() == 1:
        return loss
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    parcel = torch.cat([loss.reshape(1).to(gradients[0]), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(parcel)
    parcel /= _count()
    for gradient, mean in zip(gradients, parcel[1:].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))
    return parcel[0]


def _count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
