"""Data: the toys in the plane, the embedded digits, and where data live on this machine.

    every loader returns whole tensors, ready to learn from: no files, no workers
Shapes: points (N, 2) of about unit size; pictures (N, C, H, W) in [-1, 1]; labels (N,) int64.
Does not belong here: networks and noise.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib.doors import data_batch, described, generator_or_none, real_number, whole_number
from course_lib.models.exact import GaussianMixture

__all__ = [
    "Batches",
    "DataError",
    "Digits",
    "batches",
    "checkerboard",
    "data_dir",
    "digits",
    "handwritten",
    "mnist",
    "ring",
    "shipped",
    "spiral",
    "two_moons",
]

#: SHA-256 of the four unpacked files of MNIST (LeCun, Cortes and Burges)
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

PATIENCE = 20  # seconds without an answer, then a server counts as not reachable
_fetching = threading.Lock()  # the time-out of sockets is one for all threads


class DataError(RuntimeError):
    """Data are neither here nor to be had; the message says what to do."""


class Digits(NamedTuple):
    """Handwritten digits, and which: pictures (N, 1, 28, 28) in [-1, 1], labels (N,) in 0..9."""

    pictures: Tensor
    labels: Tensor
    name: str


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


def shipped(name: str) -> Path:
    """Say where weights that ship with the course lie, such as "mnist-ddpm"; any other name is refused with the list.

    What you train yourself is kept elsewhere, so these stay what their cards say.

    >>> shipped("mnist-ddpm").name
    'mnist-ddpm'
    """
    folder = Path(__file__).resolve().parent.parent / "data" / "checkpoints"
    names = sorted(path.name for path in folder.glob("*/")) if folder.is_dir() else []
    if name not in names:
        raise ValueError(f"expected name to be one of {', '.join(names) or '(none ships here)'}, got {described(name)}")
    return folder / name


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


def mnist(train: bool = True) -> Digits:
    """Load MNIST from data_dir(), fetching it there once if need be: 60,000 training digits, or 10,000 test digits.

    The unpacked files must match their SHA-256, or they are unpacked or fetched again, beside the old ones, and moved
    in whole. Raises DataError, saying what to do, when they are neither here nor reachable.
    """
    if not isinstance(train, bool):
        raise TypeError(f"expected train to be True (60,000 digits) or False (10,000), got {described(train)}")
    folder = data_dir() / "MNIST" / "raw"
    with _fetching:
        if not _all_match(folder):
            _fetch_mnist(folder)
    part = "train" if train else "t10k"
    pictures = _numbers(folder / f"{part}-images-idx3-ubyte", header=16).reshape(-1, 1, 28, 28)  # 0..255
    labels = _numbers(folder / f"{part}-labels-idx1-ubyte", header=8)
    return Digits(pictures.float() / 127.5 - 1, labels.long(), "MNIST")


def handwritten(train: bool = True) -> Digits:
    """Load MNIST, or where it is not to be had the embedded digits enlarged to 28 x 28, so that a lesson goes on.

    `name` says which it was. The embedded ones are 1,500 for training and 297 for testing.
    """
    try:
        return mnist(train)
    except DataError:
        pictures, labels = digits()
        rows = slice(None, 1500) if train else slice(1500, None)
        large = torch.nn.functional.interpolate(pictures[rows], size=(20, 20), mode="bilinear", align_corners=False)
        large = torch.nn.functional.pad(large, (4, 4, 4, 4), value=-1.0)  # MNIST's own margin
        return Digits(large, labels[rows], "embedded digits, enlarged")


def _numbers(path: Path, header: int) -> Tensor:
    """Read the bytes behind a header; read so, MNIST that is there spares the seconds of importing torchvision."""
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8, offset=header)


def _all_match(folder: Path) -> bool:
    """Whether every file of MNIST is there, whole and true."""
    try:
        return all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in MNIST_FILES.items()
        )
    except OSError:
        return False


def _clear_old_drafts(folder: Path) -> None:
    """Remove what a killed process left behind; what is younger than a day may be another's, at work."""
    for draft in folder.glob(".draft-*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > 86_400:
                shutil.rmtree(draft)


def _fetch_mnist(folder: Path) -> None:
    """Unpack, and where needed download, in a draft folder beside the real one; then move the files in."""
    advice = "go on with the embedded digits (data.handwritten), or copy the four .gz files of MNIST into"
    try:
        from torchvision.datasets import MNIST
    except (ImportError, RuntimeError) as error:  # absent, or built for another torch
        raise DataError(f"unpacking MNIST needs torchvision ({error}): install the one made for this torch") from error
    patience = socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear_old_drafts(folder)
        with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as draft:
            raw = Path(draft) / "MNIST" / "raw"
            raw.mkdir(parents=True)
            for packed in folder.glob("*-ubyte.gz"):
                shutil.copyfile(packed, raw / packed.name)
            socket.setdefaulttimeout(PATIENCE)
            MNIST(draft, download=True)  # checks each .gz by MD5, downloads what does not match
            if not _all_match(raw):
                raise DataError(f"MNIST was unpacked but does not match its checksums: {advice} {folder}")
            for name in MNIST_FILES:
                os.replace(raw / name, folder / name)
    except OSError as error:  # URLError is one: no network; so is a full disk
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            said = f"{folder} cannot be written: set COURSE_DATA to a folder of yours"
        elif error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            said = f"the disk is full: free 70 MB for {folder}"
        else:
            said = f"MNIST cannot be had ({error}): {advice} {folder}"
        raise DataError(said) from error
    except (RuntimeError, HTTPException) as error:  # torchvision's word that no mirror answered
        if isinstance(error, DataError):
            raise
        raise DataError(f"MNIST is neither whole in {folder} nor reachable: {advice} it") from error
    finally:
        socket.setdefaulttimeout(patience)


class Batches:
    """Random batches for ever: x[i], or (x[i], labels[i]). Batch n follows from the seed and n alone.

    So a run that was stopped goes on with the very batch that it would have drawn next: `skip_to(n)`.
    """

    def __init__(self, x: Tensor, size: int, labels: Tensor | None = None, *, seed: int = 0) -> None:
        self.x, self.labels = data_batch("x", x), labels
        self.size = whole_number("size", size, 1, len(x))
        self.seed = whole_number("seed", seed, 0, 2**31 - 1)
        if labels is not None and (not isinstance(labels, Tensor) or labels.shape[:1] != (len(x),)):
            raise ValueError(f"expected one label for each of {len(x)} rows, got {described(labels)}")
        self.drawn, self._epoch = 0, -1

    @property
    def settings(self) -> dict[str, int]:
        """What the batches follow from, apart from what x holds: runs that differ here are two runs."""
        return {"rows": len(self.x), "size": self.size, "seed": self.seed}

    def skip_to(self, n: int) -> None:
        """Let the next batch be number n, counted from 0."""
        self.drawn = whole_number("n", n, 0)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Tensor | tuple[Tensor, Tensor]:
        epoch, place = divmod(self.drawn, len(self.x) // self.size)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**32)  # torch reads 32 bits
            self._order = torch.randperm(len(self.x), generator=generator).to(self.x.device)
            self._epoch = epoch
        rows = self._order[place * self.size : (place + 1) * self.size]
        self.drawn += 1
        return self.x[rows] if self.labels is None else (self.x[rows], self.labels[rows])


def batches(x: Tensor, size: int, labels: Tensor | None = None, *, seed: int = 0) -> Batches:
    """Yield random batches for ever: x[i], or (x[i], labels[i]) when labels are given; each epoch sees each row once.

    x (N, *dims) lies in memory as a whole, which at this size beats worker processes. A last, smaller batch of an
    epoch is dropped. Raises ValueError when size is larger than N.

    >>> next(batches(torch.zeros(100, 2), 32)).shape
    torch.Size([32, 2])
    """
    return Batches(x, size, labels, seed=seed)


def _draw(n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw n pairs of uniform and of normal numbers."""
    n = whole_number("n", n, 1)
    device = torch.device("cpu") if generator_or_none(generator) is None else generator.device
    uniform = torch.rand(n, 2, generator=generator, device=device)
    return uniform, torch.randn(n, 2, generator=generator, device=device)
