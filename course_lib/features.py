"""Features: named spaces in which metrics compare pictures.

    features(x) = what a small classifier of digits sees just before it decides
Shapes: pictures (N, 1, 28, 28) in [-1, 1]; features (N, 128) and class probabilities (N, 10) as numpy arrays.
Does not belong here: distances (metrics.py), training and loading the classifier (recipes.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.doors import data_batch, described

__all__ = ["DigitClassifier", "DigitFeatures"]


class DigitClassifier(nn.Module):
    """Recognise handwritten digits: x (B, 1, 28, 28) in [-1, 1] -> logits (B, 10). `features` stops one layer earlier.

    >>> net = DigitClassifier()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, net.features(torch.zeros(2, 1, 28, 28)).shape
    (torch.Size([2, 10]), torch.Size([2, 128]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(64 * 7 * 7, 128), nn.ReLU(),
        )  # fmt: skip
        self.decide = nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        """Compute what the last layer decides from, (B, 128), each number at least 0."""
        if data_batch("x", x).shape[1:] != (1, 28, 28):
            raise ValueError(f"expected digits of shape (B, 1, 28, 28), got {described(x)}: enlarge or crop them")
        return self.see(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.decide(self.features(x))


@dataclass(frozen=True)
class DigitFeatures:
    """A feature space with its name, for `metrics`: which classifier, trained how, on what."""

    net: DigitClassifier
    name: str

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Compute features (N, 128) and class probabilities (N, 10) of pictures x (N, 1, 28, 28), 500 at a time."""
        seen = [self.net.features(part.float().cpu()) for part in data_batch("x", x).split(500)]
        features = torch.cat(seen)
        return features.numpy(), self.net.decide(features).softmax(1).numpy()
