"""Data: the toys in the plane, the embedded digits, and where data live on this machine.

    every loader returns whole tensors, ready to learn from: no files, no workers
Shapes: points (N, 2) of about unit size; pictures (N, C, H, W) in [-1, 1]; labels (N,) int64.
Does not belong here: networks and noise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from course_lib.doors import data_batch, described, generator_or_none, real_number, whole_number
from course_lib.models.exact import GaussianMixture

__all__ = ["batches", "checkerboard", "data_dir", "digits", "ring", "spiral", "two_moons"]


def data_dir() -> Path:
    """Say where data live: COURSE_DATA, else data/ of the repository this runs from, else a per-user cache.

    The folder need not exist yet.
    """
    if os.environ.get("COURSE_DATA"):
        return Path(os.environ["COURSE_DATA"]).expanduser()
    repository = Path(__file__).resolve().parent.parent
    if (repository / "pyproject.toml").is_file() and (repository / "solutions").is_dir():
        return repository / "data"
    import platformdirs

    return Path(platformdirs.user_cache_dir("diffusion-course", appauthor=False))


def ring(modes: int = 8, radius: float = 1.0, std: float = 0.08) -> GaussianMixture:
    """Place round Gaussians evenly on a circle, labelled 0..modes-1: a mixture, so its exact predictor is known.

    >>> ring().sample(5).shape
    torch.Size([5, 2])
    """
    radius = real_number("radius", radius)
    angle = torch.arange(whole_number("modes", modes, 1)) * (2 * math.pi / modes)
    return GaussianMixture(radius * torch.stack([angle.cos(), angle.sin()], dim=1), std, labels=torch.arange(modes))


def two_moons(n: int, std: float = 0.06, generator: torch.Generator | None = None) -> Tensor:
    """Draw n points of two half circles that reach into each other, (n, 2), about unit size.

    >>> two_moons(4).shape
    torch.Size([4, 2])
    """
    std = real_number("std", std, 0)
    u, jitter = _draw(n, generator)
    upper = u[:, 0] < 0.5
    angle = math.pi * u[:, 1]
    x = torch.where(upper, angle.cos() - 0.5, 0.5 - angle.cos())
    y = torch.where(upper, angle.sin() - 0.25, 0.25 - angle.sin())
    return torch.stack([x, y], dim=1) + std * jitter


def spiral(n: int, turns: float = 1.5, std: float = 0.03, generator: torch.Generator | None = None) -> Tensor:
    """Draw n points of a spiral from the middle outwards, evenly along its length, (n, 2).

    >>> spiral(4).shape
    torch.Size([4, 2])
    """
    turns, std = real_number("turns", turns), real_number("std", std, 0)
    u, jitter = _draw(n, generator)
    radius = u[:, 0].sqrt()  # even along the length: length grows with the square of the radius
    angle = 2 * math.pi * turns * radius
    return 1.4 * radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1) + std * jitter


def checkerboard(n: int, squares: int = 4, generator: torch.Generator | None = None) -> Tensor:
    """Draw n points of the dark squares of a board over [-1.5, 1.5] squared, (n, 2).

    >>> checkerboard(4).shape
    torch.Size([4, 2])
    """
    squares = whole_number("squares", squares, 2)
    u, _ = _draw(n, generator)
    dark = torch.tensor([(i, j) for i in range(squares) for j in range(squares) if (i + j) % 2 == 0])
    device = u.device if generator is None else generator.device
    chosen = torch.randint(len(dark), (n,), generator=generator, device=device)
    return (dark.to(device)[chosen] + u) * (3 / squares) - 1.5


def digits() -> tuple[Tensor, Tensor]:
    """Load the embedded digits: 1,797 real handwritten digits of 8 x 8 pixels (UCI, through scikit-learn).

    Returns pictures (1797, 1, 8, 8) in [-1, 1] and labels (1797,) in 0..9. Needs no file and no network.

    >>> pictures, labels = digits()
    >>> pictures.shape, float(pictures.min()), float(pictures.max())
    (torch.Size([1797, 1, 8, 8]), -1.0, 1.0)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pictures = torch.as_tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1  # 0..16 grey levels
    return pictures, torch.as_tensor(bunch.target, dtype=torch.int64)


def batches(x: Tensor, size: int, labels: Tensor | None = None, *, seed: int = 0) -> Iterator:
    """Yield random batches for ever: x[i], or (x[i], labels[i]) when labels are given; each epoch sees each row once.

    x (N, *dims) lies in memory as a whole, which at this size beats worker processes. A last, smaller batch of an
    epoch is dropped. Raises ValueError when size is larger than N.

    >>> next(batches(torch.zeros(100, 2), 32)).shape
    torch.Size([32, 2])
    """
    data_batch("x", x)
    size = whole_number("size", size, 1, len(x))
    if labels is not None and (not isinstance(labels, Tensor) or labels.shape[:1] != (len(x),)):
        raise ValueError(f"expected one label for each of {len(x)} rows, got {described(labels)}")
    return _forever(x, size, labels, torch.Generator().manual_seed(whole_number("seed", seed, 0)))


def _forever(x: Tensor, size: int, labels: Tensor | None, generator: torch.Generator) -> Iterator:
    while True:
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for rows in order[: len(x) // size * size].split(size):
            yield x[rows] if labels is None else (x[rows], labels[rows])


def _draw(n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw n pairs of uniform and of normal numbers."""
    n = whole_number("n", n, 1)
    device = torch.device("cpu") if generator_or_none(generator) is None else generator.device
    uniform = torch.rand(n, 2, generator=generator, device=device)
    return uniform, torch.randn(n, 2, generator=generator, device=device)
