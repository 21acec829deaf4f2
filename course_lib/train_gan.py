"""Train a GAN: two networks, two optimisers, one game. `for progress in fit_gan(...)`: break to stop, as with `fit`.

    discriminator: tell batches of real from fake.detach();   generator: make fake that the discriminator calls real
Shapes: batches (B, *dims) in [-1, 1]; z (B, latent) normal noise; generator(z) like a batch; discriminator(x) (B,).
Does not belong here: the losses (gan_losses.py), how a run is kept (runs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import gan_losses
from course_lib.doors import data_batch, described, real_number, whole_number
from course_lib.ema import EMA
from course_lib.parallel import share_of
from course_lib.runs import Run
from course_lib.types import GanProgress

__all__ = ["fit_gan"]

Rates = float | tuple[float, float]


@dataclass(frozen=True)
class _Game:
    """What the two networks play for."""

    loss: str
    r1: float
    gradient_penalty: float
    smooth: float
    discriminator_steps: int
    betas: tuple[float, float]
    latent: int


def fit_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    batches: Iterable[Tensor],
    *,
    steps: int,
    loss: str = "non_saturating",
    lr: Rates | Callable[[float], Rates] = (2e-4, 2e-4),
    betas: tuple[float, float] = (0.5, 0.99),
    r1: float = 0.0,
    gradient_penalty: float = 0.0,
    smooth: float = 0.0,
    discriminator_steps: int = 1,
    latent: int | None = None,
    ema: EMA | None = None,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    folder: str | Path | None = None,
    name: str = "",
) -> Iterator[GanProgress]:
    """Train both networks by Adam (Goodfellow et al., arXiv:1406.2661, algorithm 1), yielding GanProgress.

    generator: z (B, latent) -> (B, *dims); latent: the length of z, if it has no `.latent`. discriminator: (B, *dims)
    -> logits (B,). batches: of real data alone, such as data.batches(x, 64). Each step updates the discriminator
    discriminator_steps times, on a batch of its own each, then the generator once.
    loss, smooth: see gan_losses. r1: gamma of the R1 penalty, added as gamma / 2 times r1_penalty (arXiv:1801.04406).
    gradient_penalty: how many times gan_losses.gradient_penalty is added; 10 in arXiv:1704.00028. lr: (generator's,
    discriminator's), one number for both, or a function of the share of steps done that returns either. ema: of the
    generator. In several processes each computes its share of a batch; batch norm sees that share alone.
    Raises FloatingPointError when a loss or gradient is not finite, ValueError for what does not fit together.

    ema, seed, precision, folder, name: as in `train.fit`, with the same promise. The seed starts all random numbers.

    >>> from course_lib import data
    >>> makes, judges = nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    >>> [p.step for p in fit_gan(makes, judges, data.batches(torch.randn(64, 2), 32), steps=3, latent=3)]
    [1, 2, 3]
    """
    for what, net in {"generator": generator, "discriminator": discriminator}.items():
        if not isinstance(net, nn.Module) or not any(p.requires_grad for p in net.parameters()):
            raise TypeError(f"expected {what} to be a torch.nn.Module with weights to train, got {described(net)}")
    latent = getattr(generator, "latent", None) if latent is None else latent
    if latent is None:
        raise ValueError("expected latent, the length of the noise z, as this generator does not tell it, got None")
    if not callable(lr):
        _pair(lr)
    gan_losses.discriminator_loss(torch.zeros(1), torch.zeros(1), loss, smooth)  # refuses what it does not know
    game = _Game(
        loss=loss, smooth=float(smooth), r1=real_number("r1", r1, 0),
        gradient_penalty=real_number("gradient_penalty", gradient_penalty, 0),
        discriminator_steps=whole_number("discriminator_steps", discriminator_steps, 1),
        betas=_betas(betas), latent=whole_number("latent", latent, 1),
    )  # fmt: skip
    nets = {"generator": generator, "discriminator": discriminator}
    run = Run(
        nets, {f"{name}_optimizer": _adam(net, game.betas) for name, net in nets.items()}, ema, batches,
        steps=steps, seed=seed, precision=precision, folder=folder, name=name,
        settings=asdict(game), batches_a_step=game.discriminator_steps,
    )  # fmt: skip
    return run.go(partial(_train_step, run, game, lr), GanProgress)


def _train_step(run: Run, game: _Game, lr) -> dict[str, float]:
    """Let the discriminator learn, then the generator."""
    generator, discriminator = run.nets.values()
    generator_rate, discriminator_rate = _pair(run.rate(lr))
    for _ in range(game.discriminator_steps):
        batch = _batch(run)
        real, z = batch[share_of(len(batch))].requires_grad_(game.r1 > 0), _noise(run, game, batch)
        with run.half():
            fake = generator(z).detach().to(real)  # only judged here: no gradient into the generator
            if fake.shape != real.shape:
                raise ValueError(f"expected the generator to make data like {described(real)}, got {described(fake)}")
            real_logits, fake_logits = discriminator(real), discriminator(fake)  # apart, for the sake of batch norm
            loss = gan_losses.discriminator_loss(real_logits, fake_logits, game.loss, game.smooth)
            if game.r1:
                loss = loss + game.r1 / 2 * gan_losses.r1_penalty(real_logits, real)
            if game.gradient_penalty:
                penalty = gan_losses.gradient_penalty(discriminator, real, fake, run.generator)
                loss = loss + game.gradient_penalty * penalty
        discriminator_loss = _follow(run, "discriminator_optimizer", loss, discriminator_rate)
    z = _noise(run, game, batch)
    with run.half():
        loss = gan_losses.generator_loss(discriminator(generator(z)), game.loss)  # not detached: learns through both
    generator_loss = _follow(run, "generator_optimizer", loss, generator_rate)
    if run.ema is not None:
        run.ema.update(generator)
    run.done()
    scores = {"real_score": real_logits.sigmoid().mean().item(), "fake_score": fake_logits.sigmoid().mean().item()}
    return {"loss": generator_loss, "lr": generator_rate, "discriminator_loss": discriminator_loss, **scores}


def _follow(run: Run, name: str, loss: Tensor, rate: float) -> float:
    """Move the weights of one optimizer against the gradient of the loss; returns the loss."""
    optimizer = run.optimizers[name]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=weights)  # and the weights of the other network get none
    loss = run.gradients_of(loss, weights, rate)
    run.whole = False  # until both networks have made their move
    optimizer.step()
    return loss.item()


def _batch(run: Run) -> Tensor:
    batch = run.next_batch()
    if not isinstance(batch, Tensor):
        raise TypeError(f"expected batches of real data alone, got {described(batch)}: leave the labels out")
    return data_batch("a batch", batch).detach()


def _noise(run: Run, game: _Game, batch: Tensor) -> Tensor:
    """Draw z for a whole batch, so that several processes see the numbers of one, and take this process's share."""
    z = torch.randn(len(batch), game.latent, generator=run.generator)
    return z[share_of(len(batch))].to(batch)


def _adam(net: nn.Module, betas: tuple[float, float]) -> torch.optim.Adam:
    return torch.optim.Adam((weight for weight in net.parameters() if weight.requires_grad), lr=0.0, betas=betas)


def _pair(lr: Any) -> tuple[float, float]:
    """Let in a learning rate for both networks, or (the generator's, the discriminator's)."""
    pair = lr if isinstance(lr, tuple | list) else (lr, lr)
    if len(pair) != 2:
        raise ValueError(
            f"expected lr as one number or (the generator's, the discriminator's), got {len(pair)} numbers"
        )
    return real_number("lr", pair[0], 0), real_number("lr", pair[1], 0)


def _betas(betas: Any) -> tuple[float, float]:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"expected betas as two numbers, such as (0.5, 0.99), got {described(betas)}")
    return tuple(real_number("each of betas", beta, 0, 1 - 1e-9) for beta in betas)
