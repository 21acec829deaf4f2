"""EMA: a slow copy of a network that draws better than the network itself.

    average <- decay * average + (1 - decay) * weights       (DDPM, arXiv:2006.11239, section 4: decay 0.9999)
Shapes: those of the weights.
Does not belong here: the training loop (train.py).
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from course_lib.doors import described, real_number

__all__ = ["EMA"]


class EMA:
    """Keep an exponential moving average of a network's weights, in `.net`, ready to use, without gradients.

    decay in [0, 1). Early on it is smaller, min(decay, (1 + k) / (10 + k)) at update k, so that the random start is
    soon forgotten. Buffers are copied, not averaged.

    >>> net = nn.Linear(2, 2)
    >>> slow = EMA(net, decay=0.99)
    >>> slow.update(net); slow.updates
    1
    """

    def __init__(self, net: nn.Module, decay: float = 0.999) -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"expected net to be a torch.nn.Module, got {described(net)}")
        self.decay = real_number("decay", decay, 0, 1 - 1e-9)
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.updates = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move a little towards the weights of net; call it after each optimiser step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = dict(net.named_parameters()) if isinstance(net, nn.Module) else {}
        shapes = {name: weight.shape for name, weight in weights.items()}
        if shapes != {name: average.shape for name, average in self.net.named_parameters()}:
            raise ValueError(f"expected the network that this EMA was made from, got {described(net)}: make a new EMA")
        for name, average in self.net.named_parameters():
            average.lerp_(weights[name], 1 - decay)
        for average, buffer in zip(self.net.buffers(), net.buffers(), strict=True):
            average.copy_(buffer)
        self.updates += 1
