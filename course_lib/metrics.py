"""Metrics: how far drawn pictures are from real ones, in a space of features, and what each number hides.

    Frechet^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))        (FID, arXiv:1706.08500, eq. 6)
Shapes: features (N, D) and class probabilities (N, K) as arrays; every result names its N and its features.
Does not belong here: networks (features.py), torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import NamedTuple

import numpy as np

__all__ = ["MetricResult", "class_coverage", "frechet_distance", "kernel_distance", "precision_recall"]


class MetricResult(NamedTuple):
    """A number that cannot be quoted without saying of what: it prints with its N and its features."""

    name: str
    value: float
    n_real: int  # 0 where no real data are compared
    n_fake: int
    feature_name: str

    def __str__(self) -> str:
        real = f", {self.n_real} real" if self.n_real else ""
        return f"{self.name} {self.value:.4g} (N = {self.n_fake} drawn{real}; features: {self.feature_name})"


def frechet_distance(real: np.ndarray, fake: np.ndarray, *, feature_name: str) -> MetricResult:
    """Compare the means and covariances of two sets of features (N, D) (FID, arXiv:1706.08500, eq. 6).

    The distance of two normal distributions, squared. Small sets score too high: compare only results of the same N.
    Call it FID only when the features are Inception's. Raises ValueError for fewer than two rows or other widths.

    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> round(frechet_distance(x, x + [3.0, 0.0], feature_name="points").value, 6)
    9.0
    """
    real, fake = _pair(real, fake)
    difference = real.mean(0) - fake.mean(0)
    cov_real, cov_fake = np.atleast_2d(np.cov(real.T)), np.atleast_2d(np.cov(fake.T))
    # tr (C1 C2)^(1/2) = sum of roots of the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2)
    values, vectors = np.linalg.eigh(cov_real)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_fake @ root).clip(min=0)).sum()
    value = difference @ difference + np.trace(cov_real) + np.trace(cov_fake) - 2 * cross
    return MetricResult("Frechet distance", max(float(value), 0.0), len(real), len(fake), feature_name)


def kernel_distance(real: np.ndarray, fake: np.ndarray, *, feature_name: str) -> MetricResult:
    """Compare two sets of features (N, D) by a cubic kernel (KID, arXiv:1801.01401, section 4); unbiased at any N.

    k(x, y) = (x . y / D + 1)^3; the mean over pairs, without the pairs of a point with itself. It can be below 0.

    >>> x = np.zeros((10, 2))
    >>> kernel_distance(x, x + 1.0, feature_name="points").value  # (0 + 1)^3 + (1 + 1)^3 - 2 (0 + 1)^3
    7.0
    """
    real, fake = _pair(real, fake)
    n, m = len(real), len(fake)
    within = _kernel_sum(real) / (n * (n - 1)) + _kernel_sum(fake) / (m * (m - 1))
    value = within - 2 * _kernel_sum(real, fake) / (n * m)
    return MetricResult("Kernel distance", value, n, m, feature_name)


def precision_recall(
    real: np.ndarray, fake: np.ndarray, *, feature_name: str, neighbours: int = 3
) -> tuple[MetricResult, MetricResult]:
    """Measure the share of drawn points that lie among real ones, and of real ones among drawn ones.

    A point lies among others when it is within some other's distance to its own k-th neighbour (Improved precision and
    recall, arXiv:1904.06991, eq. 1 and 2). Returns (precision, recall), each in [0, 1].

    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> [result.value for result in precision_recall(x, x + 100, feature_name="points")]
    [0.0, 0.0]
    """
    real, fake = _pair(real, fake)
    if not isinstance(neighbours, Integral) or not 1 <= neighbours < min(len(real), len(fake)):
        raise ValueError(
            f"expected neighbours as a whole number in 1..{min(len(real), len(fake)) - 1}, one less than the smaller "
            f"set, got {neighbours!r}"
        )
    precision, recall = _share_within(fake, real, neighbours), _share_within(real, fake, neighbours)
    return (
        MetricResult("Precision", precision, len(real), len(fake), feature_name),
        MetricResult("Recall", recall, len(real), len(fake), feature_name),
    )


def class_coverage(labels: np.ndarray, classes: int, *, feature_name: str) -> tuple[MetricResult, MetricResult]:
    """Count the classes among recognised labels (N,), and how far their histogram is from uniform.

    Returns (number of classes that occur, sum p log(K p) in nats: 0 when all are equally frequent, log K when one is
    left). The labels are a classifier's opinion: on bad pictures it means nothing.

    >>> [round(r.value, 3) for r in class_coverage(np.array([0, 0, 1, 1]), 4, feature_name="truth")]
    [2.0, 0.693]
    """
    if not isinstance(classes, Integral) or classes < 1:
        raise ValueError(f"expected classes as a whole number of at least 1, got {classes!r}")
    labels = _array("labels", labels)
    if labels.ndim != 1 or len(labels) == 0 or labels.dtype.kind not in "iu":
        raise ValueError(f"expected labels as whole numbers of shape (N,), got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"expected labels in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    share = np.bincount(labels, minlength=classes) / len(labels)
    seen = share[share > 0]
    nats = float((seen * np.log(classes * seen)).sum())
    return (
        MetricResult("Classes covered", float(len(seen)), 0, len(labels), feature_name),
        MetricResult("Nats from uniform", nats, 0, len(labels), feature_name),
    )


def _pair(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Let in two sets of finite features of the same width, as float64."""
    pair = []
    for name, x in (("real", real), ("fake", fake)):
        x = _array(f"{name} features", x)
        if x.ndim != 2 or len(x) < 2 or x.size == 0 or x.dtype.kind not in "fiu":
            raise ValueError(f"expected {name} features of shape (N, D) with N at least 2, got {x.dtype} {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError(f"expected finite {name} features, got NaN or infinity: look at the pictures first")
        pair.append(x.astype(np.float64))
    if pair[0].shape[1] != pair[1].shape[1]:
        raise ValueError(
            f"expected both sets in one feature space, got widths {pair[0].shape[1]} and {pair[1].shape[1]}"
        )
    return pair[0], pair[1]


def _array(name: str, x: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor with gradients or on a GPU, ragged rows
        raise TypeError(
            f"expected {name} as one array, got {type(x).__name__}: write x.detach().cpu().numpy() for a tensor"
        ) from error


def _kernel_sum(x: np.ndarray, y: np.ndarray | None = None) -> float:
    """Sum k over all pairs of x and y, or over the pairs of different rows of x."""

    def kernel(dot):
        return (dot / x.shape[1] + 1) ** 3

    total = sum(kernel(rows @ (x if y is None else y).T).sum() for rows in _few(x))
    return float(total - kernel((x**2).sum(1)).sum() if y is None else total)


def _share_within(points: np.ndarray, others: np.ndarray, neighbours: int) -> float:
    """The share of points that lie within the k-th-neighbour radius of at least one of the others."""
    middle = others.mean(0)  # far from the origin, the squares below would lose the small distances
    points, others = points - middle, others - middle
    slack = 1e-12 * (others**2).sum(1).max()  # of rounding: equal points must lie within a radius of 0
    radius = [np.partition(rows, neighbours)[:, neighbours] for rows in _squared(others, others)]  # 0: itself
    reach = np.concatenate(radius) + slack
    return float(np.mean(np.concatenate([(rows <= reach).any(1) for rows in _squared(points, others)])))


def _squared(points: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    for rows in _few(points):
        yield (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T


def _few(x: np.ndarray) -> Iterator[np.ndarray]:
    """A thousand rows at a time, so that ten thousand pictures do not need a table of 800 MB."""
    return (x[i : i + 1000] for i in range(0, len(x), 1000))
