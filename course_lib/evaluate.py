"""Evaluate: a file of drawn digits in, every number we have about them out, each with its N and its features.

    samples.npy -> features -> Frechet distance, precision, recall, classes covered and how evenly
Shapes: samples (N, 1, 28, 28) float32 in [-1, 1]; the reference is the first 10,000 training digits of MNIST.
Does not belong here: the distances themselves (metrics.py), drawing (samplers.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from course_lib import checkpoints, data
from course_lib.doors import described
from course_lib.features import DigitClassifier, DigitFeatures
from course_lib.metrics import class_coverage, frechet_distance, precision_recall

__all__ = ["REFERENCE", "evaluate_digits", "load_digit_features", "read_samples"]

WANTED = "float32 digits of shape (N, 1, 28, 28) in [-1, 1], N at least 4"
REFERENCE = 10_000  # real digits; fixed, for the distance depends on their number too


def load_digit_features(folder: str | Path | None = None) -> DigitFeatures:
    """Load the classifier of digits that ships with the course, or the one in another folder, as a feature space.

    Raises CheckpointError, saying what to do, when its weights are missing or damaged.
    """
    folder = Path(folder) if folder is not None else data.shipped("digit-classifier")
    tensors, card = checkpoints.load(folder)
    net = DigitClassifier()
    try:
        net.load_state_dict(tensors)
        name = f"digit classifier {card['sha256'][:8]}, {card['data']}"
    except (RuntimeError, KeyError) as error:
        raise checkpoints.CheckpointError(
            f"expected a digit classifier in {folder}, got other weights: `course train digit-classifier` makes it"
        ) from error
    return DigitFeatures(net.eval(), name)


def read_samples(path: str | Path) -> np.ndarray:
    """Read drawn digits from a .npy file, (N, 1, 28, 28) float32 in [-1, 1], N at least 4. No pickle is read.

    Raises ValueError, saying what was expected, for a missing file or any other content.
    """
    try:
        samples = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"expected an .npy file of {WANTED}, got no file at {path}: check the path") from None
    except (OSError, ValueError, EOFError, MemoryError, BadZipFile) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"expected an .npy file of {WANTED}, got one that numpy cannot read ({said}): {path}"
        ) from None
    if not isinstance(samples, np.ndarray):
        samples.close()
        raise ValueError(f"expected an .npy file of {WANTED}, got an archive: save with numpy.save(path, x.numpy())")
    return _digits(samples)


def evaluate_digits(samples: np.ndarray, see: DigitFeatures | None = None) -> dict[str, Any]:
    """Compare drawn digits (N, 1, 28, 28) with MNIST's; the numbers by name, with N and the features they belong to.

    see: the feature space; by default the classifier that ships. Compare only results of the same N and features.
    Raises ValueError for anything but float32 digits in [-1, 1], at least 4, DataError when MNIST is not to be had,
    CheckpointError when the classifier is not.
    """
    _digits(samples)
    see = load_digit_features() if see is None else see
    real, _ = see(data.mnist().pictures[:REFERENCE])
    fake, chances = see(torch.from_numpy(samples))
    distance = frechet_distance(real, fake, feature_name=see.name)
    precision, recall = precision_recall(real, fake, feature_name=see.name)
    covered, nats = class_coverage(chances.argmax(1), 10, feature_name=see.name)
    return {
        "frechet_distance": distance.value,
        "precision": precision.value,
        "recall": recall.value,
        "classes_covered": int(covered.value),
        "nats_from_uniform": nats.value,
        "n": distance.n_fake,
        "n_real": distance.n_real,
        "real": f"MNIST, the first {REFERENCE:,} training digits",
        "features": see.name,
    }


def _digits(samples: np.ndarray) -> np.ndarray:
    """Let in what can be measured; four, for the third neighbour of a point must be another point."""
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.shape[1:] != (1, 28, 28):
        came = f"{samples.dtype} of shape {samples.shape}" if isinstance(samples, np.ndarray) else described(samples)
        raise ValueError(f"expected {WANTED}, got {came}: save with numpy.save(path, x.numpy())")
    if len(samples) < 4:
        raise ValueError(f"expected {WANTED}, got {len(samples)}: draw more")
    if not np.isfinite(samples).all():
        raise ValueError(f"expected {WANTED}, got NaN or infinity among {len(samples)}: draw them again")
    if samples.min() < -1.001 or samples.max() > 1.001:
        raise ValueError(
            f"expected {WANTED}, got {samples.min():g}..{samples.max():g}: call .clamp(-1, 1) before saving"
        )
    return samples
