"""MLP: the smallest network that can denoise, for points in the plane and other short vectors.

    h <- h + silu(linear(h) + time + label), a few times;     time as sines and cosines of t/T
Shapes: x (B, dim), time (B,) in [0, 1], label (B,) whole numbers; output (B, dim).
Does not belong here: schedules, objectives, pictures (unet.py).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from course_lib.doors import data_batch, described, whole_number

__all__ = ["MLP", "TimeEmbedding"]


class TimeEmbedding(nn.Module):
    """Turn time (B,) in [0, 1] into sines and cosines (B, width) (after Transformer, arXiv:1706.03762, section 3.5).

    Frequencies grow geometrically from one quarter turn to 1000 radians over the unit of time.

    >>> TimeEmbedding(8)(torch.tensor([0.0, 0.5])).shape
    torch.Size([2, 8])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if whole_number("width", width, 2) % 2:
            raise ValueError(f"expected an even width, got {width}: half is sines, half cosines")
        self.register_buffer("frequency", torch.logspace(math.log10(math.pi / 2), 3, width // 2), persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        _fractions(time, None)
        angle = time[:, None] * self.frequency  # (B, width / 2)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class MLP(nn.Module):
    """Map points x (B, dim), time (B,) in [0, 1] and optional labels (B,) to points (B, dim).

    classes: number of labels; label == classes then means "no label", the null condition of guidance.
    Raises ValueError or TypeError when x, time or label has another shape or kind.

    >>> MLP(dim=2)(torch.zeros(5, 2), torch.rand(5)).shape
    torch.Size([5, 2])
    """

    def __init__(self, dim: int = 2, width: int = 128, depth: int = 3, classes: int = 0) -> None:
        super().__init__()
        self.dim, self.classes = whole_number("dim", dim, 1), whole_number("classes", classes, 0)
        whole_number("width", width, 2), whole_number("depth", depth, 1)
        self.read = nn.Linear(dim, width)
        self.time = nn.Sequential(TimeEmbedding(width), nn.Linear(width, width), nn.SiLU())
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.write = nn.Linear(width, dim)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        self._door(x, time, label)
        context = self.time(time.to(x))
        if self.label is not None:
            none = torch.full((len(x),), self.classes, device=x.device)
            context = context + self.label(none if label is None else label)
        h = self.read(x)
        for layer in self.layers:
            h = h + nn.functional.silu(layer(h) + context)
        return self.write(h)

    def _door(self, x: Tensor, time: Tensor, label: Tensor | None) -> None:
        if data_batch("x", x).shape[1:] != (self.dim,):
            raise ValueError(f"expected x of shape (B, {self.dim}), got {described(x)}")
        network_inputs(x, time, label, self.read.weight.dtype, self.classes)


def network_inputs(x: Tensor, time: Tensor, label: Tensor | None, dtype: torch.dtype, classes: int) -> None:
    """Let in x of the weights' dtype, time (B,) in [0, 1] and labels (B,) in 0..classes, for any network here."""
    if x.dtype != dtype:
        raise TypeError(f"expected x as {dtype}, like the weights, got {x.dtype}: call x.to({dtype})")
    _fractions(time, len(x))
    if label is None:
        return
    if not classes:
        raise ValueError(
            "expected no labels, as this network was made with classes=0: leave cond out, or make it with classes"
        )
    if not isinstance(label, Tensor) or label.dtype != torch.int64 or label.shape != (len(x),):
        raise ValueError(f"expected labels as int64 of shape ({len(x)},), got {described(label)}: call .long()")
    if label.device.type == "cpu" and not (0 <= int(label.min()) and int(label.max()) <= classes):
        raise ValueError(
            f"expected labels in 0..{classes} ({classes} means no label), got {int(label.min())}..{int(label.max())}"
        )


def _fractions(time: Tensor, batch: int | None) -> None:
    fits = isinstance(time, Tensor) and time.is_floating_point() and time.ndim == 1
    if not fits or batch not in (None, len(time)):
        raise ValueError(
            f"expected time of shape ({batch or 'B'},) as fractions in [0, 1], got {described(time)}: divide t by T"
        )
    if time.device.type == "cpu" and not bool(((time >= 0) & (time <= 1)).all()):
        raise ValueError(
            f"expected time as fractions in [0, 1], got {float(time.min()):g}..{float(time.max()):g}: divide t by T"
        )
