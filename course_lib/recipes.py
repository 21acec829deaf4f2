"""Recipes: the training runs behind the weights that ship; `course train NAME` makes them again.

    data -> network -> loss -> fit -> card: what was trained, on what, how long, and how good it is
Shapes: pictures (N, 1, 28, 28) in [-1, 1]; a run yields Progress and ends with weights and card in its folder.
Does not belong here: the loop (train.py), pictures of progress (cli.py).
"""

from __future__ import annotations

import copy
import platform
import shutil
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import checkpoints, data, objectives, samplers, schedules
from course_lib.denoiser import Denoiser, denoising_loss, logit_normal_t, uniform_t
from course_lib.doors import described, real_number, steps_or_seconds, whole_number
from course_lib.ema import EMA
from course_lib.evaluate import evaluate_digits
from course_lib.features import DigitClassifier
from course_lib.guidance import guided
from course_lib.models.gan import Discriminator, Generator, StyleGenerator
from course_lib.models.unet import UNet
from course_lib.muon import Muon
from course_lib.parallel import agreed, is_first_process
from course_lib.train import fit, quick_precision
from course_lib.train_gan import fit_gan
from course_lib.types import GanProgress, Progress

__all__ = [
    "DDPM",
    "GAN",
    "LABELS",
    "QUICK",
    "SAMPLERS",
    "DigitClassifierRun",
    "DigitRecipe",
    "DigitRun",
    "GanRecipe",
    "GanRun",
    "draw",
    "generate",
    "load_denoiser",
    "load_generator",
    "machine",
    "muon",
]

#: the samplers by the names that the command line knows; ddpm is DDIM with as much noise as DDPM adds
SAMPLERS = {
    "ddpm": partial(samplers.ddim_step, eta=1.0),
    "ddim": samplers.ddim_step,
    "heun": samplers.heun_step,
    "dpm": samplers.dpm_step,
}
#: what `train.fit` computes in, by the names that the command line knows
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
#: U-Nets by profile
NETS = {
    "smoke": {"widths": (16, 32), "blocks": 1, "patch": 2},
    "cpu": {"widths": (48, 96), "blocks": 1, "patch": 2},
    "gpu": {"widths": (64, 128, 256), "blocks": 2, "patch": 1},
}
#: generators and discriminators by profile
GAN_NETS = {
    "smoke": ({"latent": 16, "width": 8}, {"width": 8}),
    "cpu": ({"latent": 64, "width": 32}, {"width": 32}),
    "gpu": ({"latent": 64, "width": 64}, {"width": 64}),
}


@dataclass(frozen=True)
class DigitRecipe:
    """What is chosen for a diffusion model of digits, apart from how long it trains.

    schedule, objective: names in `schedules` and `objectives`. optimizer: "adamw" or "muon", with its lr. middle:
    draw t by logit_normal_t instead of uniform_t. label_dropout: None for a model without labels, else the share of
    pictures whose label is hidden, so that the model draws with and without one (arXiv:2207.12598, algorithm 1).
    """

    schedule: str
    objective: str
    optimizer: str
    lr: float
    batch: int
    middle: bool = False
    label_dropout: float | None = None
    ema_decay: float = 0.99
    warm_up: float = 0.03  # share of the steps in which lr rises; afterwards it falls to 0 in a straight line


#: DDPM as lesson 04 writes it: eps, a cosine schedule, AdamW
DDPM = DigitRecipe("cosine", "eps", "adamw", lr=2e-3, batch=128)
#: what lesson 04's experiments chose for a short training
QUICK = DigitRecipe("flow", "flow", "muon", lr=0.02, batch=64, middle=True)
#: the same, told which digit each picture is
LABELS = replace(QUICK, label_dropout=0.1)


@dataclass(frozen=True)
class GanRecipe:
    """What is chosen for a GAN of digits, apart from how long it trains.

    style: the style-based generator instead of the plain one. spectral: spectral norm in the discriminator. lr: the
    generator's and the discriminator's at first; both fall to 0. loss, betas, r1, gradient_penalty, smooth,
    discriminator_steps: those of `train_gan.fit_gan`.
    """

    style: bool = False
    spectral: bool = False
    loss: str = "non_saturating"
    lr: tuple[float, float] = (2e-3, 2e-3)
    betas: tuple[float, float] = (0.5, 0.99)
    batch: int = 64
    r1: float = 0.0
    gradient_penalty: float = 0.0
    smooth: float = 0.0
    discriminator_steps: int = 1
    ema_decay: float = 0.99


#: DCGAN with the non-saturating loss and R1, as a handful of trainings of 600 and 1,000 steps chose
GAN = GanRecipe(r1=1.0)


class _PictureRun:
    """What all runs that end with a drawer of digits share: pace, steps, folder, card."""

    def __init__(
        self,
        folder: str | Path,
        recipe: Any = None,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        profile: str = "cpu",
        seed: int = 0,
        precision: str | None = None,
        command: str = "",
    ) -> None:
        recipe = self.default() if recipe is None else recipe
        if not isinstance(recipe, type(self.default())):
            kind = type(self.default()).__name__
            raise TypeError(f"expected a {kind}, such as recipes.{self.example}, got {described(recipe)}")
        if not isinstance(profile, str) or profile not in NETS:
            raise ValueError(f"expected profile smoke, cpu or gpu, got {profile!r}")
        if precision is not None and (not isinstance(precision, str) or precision not in PRECISIONS):
            raise ValueError(f"expected precision {' or '.join(PRECISIONS)}, got {described(precision)}")
        steps, seconds = steps_or_seconds(steps, minutes)
        self.folder, self.recipe, self.profile, self.command = Path(folder), recipe, profile, command
        self.seed = whole_number("seed", seed, 0, 2**31 - 1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        begun = self._kept("precision")  # by a run that goes on
        quick = "bfloat16" if quick_precision(self.device) == torch.bfloat16 else "float32"
        self.precision = precision or (begun if begun in list(PRECISIONS) else quick)
        self.digits = data.mnist()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.nets = tuple(net.to(self.device, memory_format=torch.channels_last) for net in self._new_nets())
        self.ema = EMA(self.nets[0], recipe.ema_decay)
        self.seconds = 0.0
        self.done = False
        begin = time.perf_counter()
        self.step_seconds = agreed(self._pace())
        if steps is None:
            steps = max(1, round((seconds - time.perf_counter() + begin) / self.step_seconds))
        self.steps = int(agreed(self._kept("steps") or steps))  # one number, or processes would wait for ever

    def __iter__(self) -> Iterator[Progress | GanProgress]:
        if self.done:
            return
        for progress in self._fit(self.nets, self.ema, self.steps, self.folder / "run"):
            self.seconds = progress.seconds
            yield progress
        if is_first_process():
            checkpoints.save(self.folder, self.ema.net.state_dict(), self._card())
            shutil.rmtree(self.folder / "run", ignore_errors=True)
        self.done = True

    def _pace(self) -> float:
        """Measure the seconds of a step, on a copy; the first steps of a process are slow and do not count."""
        nets = copy.deepcopy(self.nets)
        loop = self._fit(nets, EMA(nets[0]), 100, None)
        deque(islice(loop, 4), maxlen=0)
        begin = time.perf_counter()
        deque(islice(loop, 12), maxlen=0)
        return (time.perf_counter() - begin) / 12

    def _kept(self, what: str) -> Any:
        """What the card of the stopped run in the folder says, such as its steps; None when there is no such run."""
        if not (self.folder / "run" / "card.json").is_file():
            return None
        return checkpoints.load(self.folder / "run")[1].get(what)

    def _card(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "data": "MNIST, 60,000 training digits",
            "recipe": asdict(self.recipe),
            "net": self.size,
            "weights_in_net": sum(weight.numel() for weight in self.nets[0].parameters()),
            "steps": self.steps,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "machine": machine(),
            "torch": torch.__version__.split("+")[0],
            "command": f"{self.command} --precision {self.precision} --steps {self.steps}".strip(),
            "metrics": self._metrics(),
        }


class DigitRun(_PictureRun):
    """A diffusion model of MNIST's digits in training: `for progress in run: ...`; break to stop, nothing is lost.

    recipe: a DigitRecipe, QUICK if none is given. steps, or minutes of training on this machine, for which the pace
    is measured first. profile: "smoke", "cpu" or "gpu", the size of the network. precision: "float32" or "bfloat16"; if
    none is given, train.quick_precision. A stopped run waits in folder/run, and a new DigitRun of the same folder goes
    on with it, steps, precision and all; at the end, weights (the EMA's) and card lie in the folder. Raises DataError
    when MNIST is not to be had, CheckpointError when the folder holds another run.
    """

    kind, example = "digit denoiser", "QUICK"

    @staticmethod
    def default() -> DigitRecipe:
        return QUICK

    @property
    def net(self) -> UNet:
        """The network in training."""
        return self.nets[0]

    @property
    def denoiser(self) -> Denoiser:
        """The Predictor so far, made of the averaged weights."""
        return self._denoiser(self.ema.net)

    def draw(self, n: int) -> Tensor:
        """Draw the same n digits (n, 1, 28, 28) as ever, as the model makes them now, quickly."""
        return draw(self.denoiser, n, "dpm", 10)

    def _new_nets(self) -> tuple[nn.Module, ...]:
        """Make the networks, first the one that is kept; `size` makes it again."""
        self.size = {**NETS[self.profile], "classes": 0 if self.recipe.label_dropout is None else 10}
        return (UNet(**self.size),)

    def _fit(self, nets: tuple[nn.Module, ...], ema: EMA, steps: int, folder: Path | None) -> Iterator[Progress]:
        x, (net,) = self.digits.pictures.to(self.device), nets
        batches = data.batches(x, self.recipe.batch, self.digits.labels.to(self.device), seed=self.seed)
        optimizer = muon(net, self.recipe.lr) if self.recipe.optimizer == "muon" else None
        return fit(
            partial(self._loss, self._denoiser(net)), net, batches, steps=steps, lr=self._rate, optimizer=optimizer,
            ema=ema, seed=self.seed, precision=PRECISIONS[self.precision], folder=folder, name=str(self.recipe),
        )  # fmt: skip

    def _loss(self, denoiser: Denoiser, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        x0, label = batch
        draw_t = logit_normal_t if self.recipe.middle else uniform_t
        if self.recipe.label_dropout is None:
            return denoising_loss(denoiser, x0, draw_t=draw_t, generator=generator)
        hidden = torch.rand(len(label), generator=generator).to(label.device) < self.recipe.label_dropout
        return denoising_loss(denoiser, x0, label.masked_fill(hidden, 10), draw_t=draw_t, generator=generator)

    def _rate(self, done: float) -> float:
        return _rise_and_fall(self.recipe.lr, self.recipe.warm_up, done)

    def _denoiser(self, net: UNet) -> Denoiser:
        return _denoiser(net, self.recipe.schedule, self.recipe.objective, PRECISIONS[self.precision])

    def _metrics(self) -> dict[str, Any]:
        drawn = draw(self.denoiser, 1000, "dpm", 20, seed=0)
        return {"sampler": "dpm", "steps": 20, **evaluate_digits(drawn.numpy())}


class GanRun(_PictureRun):
    """A GAN of MNIST's digits in training: `for progress in run: ...`, of GanProgress. Use it as a DigitRun.

    recipe: a GanRecipe, GAN if none is given. profile: the size of both networks. At the end the generator's averaged
    weights lie in the folder.
    """

    kind, example = "digit generator", "GAN"

    @staticmethod
    def default() -> GanRecipe:
        return GAN

    @property
    def generator(self) -> nn.Module:
        """The generator so far, made of the averaged weights."""
        return self.ema.net

    def draw(self, n: int) -> Tensor:
        """Draw the same n digits (n, 1, 28, 28) as ever, from the same noise, as the generator makes them now."""
        return generate(self.generator, n)

    def _new_nets(self) -> tuple[nn.Module, ...]:
        """Make the networks, first the one that is kept; `size` makes it again."""
        self.size, judge = GAN_NETS[self.profile]
        return _generator(self.size, self.recipe.style), Discriminator(**judge, spectral=self.recipe.spectral)

    def _fit(self, nets: tuple[nn.Module, ...], ema: EMA, steps: int, folder: Path | None) -> Iterator[GanProgress]:
        recipe = self.recipe
        batches = data.batches(self.digits.pictures.to(self.device), recipe.batch, seed=self.seed)
        return fit_gan(
            *nets, batches, steps=steps, loss=recipe.loss, lr=self._rate, betas=recipe.betas, r1=recipe.r1,
            gradient_penalty=recipe.gradient_penalty, smooth=recipe.smooth,
            discriminator_steps=recipe.discriminator_steps, ema=ema, seed=self.seed,
            precision=PRECISIONS[self.precision], folder=folder, name=str(recipe),
        )  # fmt: skip

    def _rate(self, done: float) -> tuple[float, float]:
        return tuple(_rise_and_fall(lr, 0.0, done) for lr in self.recipe.lr)

    def _metrics(self) -> dict[str, Any]:
        return evaluate_digits(generate(self.generator, 1000).numpy())


class DigitClassifierRun:
    """The classifier of digits whose features our metrics use, in training: cross entropy on MNIST, shifted a little.

    Use it as a DigitRun. Raises DataError when MNIST is not to be had: other digits would make another scale.
    """

    def __init__(self, folder: str | Path, *, steps: int = 1500, seed: int = 0, command: str = "") -> None:
        self.folder, self.command = Path(folder), command
        self.steps, self.seed = whole_number("steps", steps, 1), whole_number("seed", seed, 0, 2**31 - 1)
        self.digits, self.test = data.mnist(), data.mnist(train=False)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = DigitClassifier()

    def __iter__(self) -> Iterator[Progress]:
        batches = data.batches(self.digits.pictures, 256, self.digits.labels, seed=self.seed)
        lr = partial(_rise_and_fall, 2e-3, 0.0)
        seconds = 0.0
        for progress in fit(
            self._loss, self.net, batches, steps=self.steps, lr=lr, seed=self.seed, folder=self.folder / "run"
        ):
            seconds = progress.seconds
            yield progress
        if is_first_process():
            checkpoints.save(self.folder, self.net.state_dict(), self._card(seconds))
            shutil.rmtree(self.folder / "run", ignore_errors=True)

    def _loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        x, labels = batch
        shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
        return nn.functional.cross_entropy(self.net(x.roll(shift, dims=(2, 3))), labels)

    @torch.no_grad()
    def _card(self, seconds: float) -> dict[str, Any]:
        x, y = self.test.pictures, self.test.labels
        wrong = sum(
            int((self.net(part).argmax(1) != truth).sum())
            for part, truth in zip(x.split(500), y.split(500), strict=True)
        )
        return {
            "kind": "digit classifier",
            "data": "MNIST, 60,000 training digits",
            "steps": self.steps,
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "machine": machine(),
            "torch": torch.__version__.split("+")[0],
            "command": f"{self.command} --steps {self.steps}".strip(),
            "metrics": {"test error": wrong / len(y), "N": len(y)},
        }


def load_denoiser(folder: str | Path) -> Denoiser:
    """Load a diffusion model of digits, such as data.shipped("mnist-ddpm"), as a Predictor on the CPU.

    It computes in train.quick_precision: machines of two kinds draw digits that differ by about 0.001 in the mean.
    Raises CheckpointError, saying what to do, when the folder holds no such model or a damaged one.
    """
    tensors, card = checkpoints.load(folder)
    try:
        net = UNet(**card["net"])
        net.load_state_dict(tensors)
        schedule, objective = card["recipe"]["schedule"], card["recipe"]["objective"]
        net = net.to(memory_format=torch.channels_last).eval().requires_grad_(False)
        return _denoiser(net, schedule, objective, quick_precision(torch.device("cpu")))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise checkpoints.CheckpointError(
            f"expected a diffusion model of digits in {folder}, got other weights: `course train mnist-ddpm` makes one"
        ) from error


def load_generator(folder: str | Path) -> nn.Module:
    """Load the generator of a GAN of digits, such as data.shipped("mnist-gan"): z (B, .latent) -> (B, 1, 28, 28).

    Raises CheckpointError, saying what to do, when the folder holds no such model or a damaged one.
    """
    tensors, card = checkpoints.load(folder)
    try:
        net = _generator(card["net"], card["recipe"]["style"])
        net.load_state_dict(tensors)
        return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise checkpoints.CheckpointError(
            f"expected the generator of a GAN of digits in {folder}, got other weights: `course train mnist-gan` "
            "makes one"
        ) from error


def draw(
    denoiser: Denoiser,
    n: int,
    sampler: str = "dpm",
    steps: int = 20,
    seed: int = 0,
    label: int | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Draw n digits (n, 1, 28, 28) in [-1, 1], 250 at a time; a model with labels gets each of the ten as often.

    sampler: a name in SAMPLERS. label: draw only this digit. scale: of `guidance.guided`; 1 asks for the label and no
    more, and any but 0 and 1 doubles the network's work. The same call draws the same digits.
    Raises ValueError for another sampler, more steps than the schedule has, a scale below 0, and for a label, or
    another scale than 1, of a model without labels.
    """
    if not isinstance(denoiser, Denoiser) or not isinstance(denoiser.net, nn.Module):
        raise TypeError(f"expected a Denoiser of a network, such as load_denoiser gives, got {described(denoiser)}")
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise ValueError(f"expected sampler {', '.join(SAMPLERS)}, got {described(sampler)}")
    n, schedule = whole_number("n", n, 1), denoiser.schedule
    times = schedule.steps(whole_number("steps", steps, 1, schedule.T))
    labels, predict = _labels(denoiser.net, n, label), denoiser
    device = next(denoiser.net.parameters()).device
    if real_number("scale", scale, 0) != 1:
        if labels is None:
            raise ValueError(f"expected scale 1 for a model without labels, got {scale}: see mnist-ddpm-labels")
        predict = guided(denoiser, scale, torch.tensor(denoiser.net.classes, device=device))
    generator, drawn = torch.Generator().manual_seed(whole_number("seed", seed, 0, 2**31 - 1)), []
    for rows in torch.arange(n).split(250):
        noise = torch.randn(len(rows), 1, 28, 28, generator=generator).to(device)
        cond = None if labels is None else labels[rows].to(device)
        x0 = samplers.sample(SAMPLERS[sampler], predict, schedule, noise, times, cond, generator=generator)
        drawn.append(x0.clamp(-1, 1).cpu())
    return torch.cat(drawn)


@torch.no_grad()
def generate(generator: nn.Module, n: int, seed: int = 0) -> Tensor:
    """Let the generator of a GAN draw n digits (n, 1, 28, 28) in [-1, 1], 250 at a time; its noise follows from seed.

    The same call draws the same digits.
    """
    if not isinstance(generator, Generator | StyleGenerator):
        raise TypeError(f"expected a generator, such as load_generator gives, got {described(generator)}")
    device, noise = next(generator.parameters()).device, torch.Generator()
    noise.manual_seed(whole_number("seed", seed, 0, 2**31 - 1))
    more = {"generator": noise} if isinstance(generator, StyleGenerator) else {}  # it draws noise of its own, too
    drawn = []
    for rows in torch.arange(whole_number("n", n, 1)).split(250):
        z = torch.randn(len(rows), generator.latent, generator=noise).to(device)
        drawn.append(generator(z, **more).cpu())
    return torch.cat(drawn)


def muon(net: UNet, lr: float) -> Muon:
    """Make the optimiser for a U-Net: Muon for the kernels between the first and the last layer, Adam for the rest."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"expected net to be a U-Net, got {described(net)}")
    weights = dict(net.named_parameters())
    inner = {n for n, weight in weights.items() if weight.ndim == 4 and not n.startswith(("read.", "write."))}
    return Muon([weights[n] for n in weights if n in inner], [weights[n] for n in weights if n not in inner], lr)


def machine() -> str:
    """Name this machine in a few words, for cards: the GPU, or the processor's kind and its threads.

    >>> "threads" in machine() or torch.cuda.is_available()
    True
    """
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} threads"


def _labels(net: nn.Module, n: int, label: int | None) -> Tensor | None:
    classes = getattr(net, "classes", 0)
    if label is None:
        return torch.arange(n) % classes if classes else None
    if not classes:
        raise ValueError(f"expected a model with labels to draw a {label}, got one without: see mnist-ddpm-labels")
    return torch.full((n,), whole_number("label", label, 0, classes - 1))


def _denoiser(net: UNet, schedule: str, objective: str, precision: torch.dtype) -> Denoiser:
    named = {"cosine": schedules.cosine, "linear": schedules.linear_beta, "flow": schedules.flow}
    rows = {row.name: row for row in (objectives.eps, objectives.x0, objectives.v, objectives.flow)}
    clip = 1.0 if objective == "eps" else None
    return Denoiser(net, named[schedule](), rows[objective], clip, precision)


def _generator(size: dict[str, int], style: bool) -> Generator | StyleGenerator:
    return (StyleGenerator if style else Generator)(**size)


def _rise_and_fall(lr: float, warm_up: float, done: float) -> float:
    """Let lr rise over the first share of the steps, then fall in a straight line towards 0."""
    return lr * min(1.0, (done + 1e-3) / warm_up if warm_up else 1.0) * (1 - done)
