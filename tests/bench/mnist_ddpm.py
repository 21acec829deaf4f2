"""Bench: the course's training on MNIST beside its peers, for the same minutes on the same two CPU threads.

    python tests/bench/mnist_ddpm.py --row NAME --minutes 3 --seed 0 --out results.jsonl     (--row list, --row all)
    python tests/bench/mnist_ddpm.py --table results.jsonl
Shapes: every row draws pictures (N, 1, 28, 28) in [-1, 1], which `evaluate_digits` compares with MNIST's.
Does not belong here: anything that the course itself needs; the peers are not among its dependencies (see README.md).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib import data, objectives, recipes, schedules
from course_lib.denoiser import Denoiser, denoising_loss, logit_normal_t, uniform_t
from course_lib.ema import EMA
from course_lib.evaluate import evaluate_digits
from course_lib.models.unet import UNet
from course_lib.train import fit, quick_precision

Drawing = tuple[str, int]  # sampler, steps


@dataclass
class Contestant:
    """One way to train and draw: `step(share)` trains once, told the share of the time that has gone."""

    net: nn.Module
    images: int  # a step
    passes: int  # of the network in a step; above 1 where a batch is too large for memory, or its authors add gradients
    loss: Callable[[], Tensor]  # of images / passes pictures
    step: Callable[[float], float]
    draw: Callable[[int, Drawing], Tensor]  # n pictures (n, 1, 28, 28)


@dataclass(frozen=True)
class Row:
    """A line of the table: who, how it draws, what it does differently, and the package it needs."""

    make: Callable[[int], Contestant]
    drawings: tuple[Drawing, ...]
    rest: str
    package: str | None = None
    recipe: recipes.DigitRecipe | None = None  # ours: trained by DigitRun


# ---------------------------------------------------------------------------------------------------------- ours


def ours(recipe: recipes.DigitRecipe, seed: int, *, half: bool = True) -> Contestant:
    """The network and the steps of a recipe, without its end: what throughput and work per picture are measured on.

    half: in mixed precision where `course train` takes it; False: in float32 everywhere.
    """
    digits = data.mnist()
    torch.manual_seed(seed)
    net = UNet(**recipes.NETS["cpu"], classes=0 if recipe.label_dropout is None else 10)
    net = net.to(memory_format=torch.channels_last)
    denoiser = Denoiser(net, getattr(schedules, recipe.schedule)(), getattr(objectives, recipe.objective))
    batches = data.batches(digits.pictures, recipe.batch, digits.labels, seed=seed)
    ema = EMA(net, recipe.ema_decay)

    def loss(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        draw_t = logit_normal_t if recipe.middle else uniform_t
        cond = None if recipe.label_dropout is None else batch[1]
        return denoising_loss(denoiser, batch[0], cond, draw_t=draw_t, generator=generator)

    optimizer = recipes.muon(net, recipe.lr) if recipe.optimizer == "muon" else None
    precision = quick_precision(torch.device("cpu")) if half else torch.float32
    loop = fit(
        loss, net, batches, steps=10**6, lr=recipe.lr, optimizer=optimizer, ema=ema, seed=seed, precision=precision
    )
    averaged = Denoiser(ema.net, denoiser.schedule, denoiser.objective, precision=precision)
    return Contestant(
        net, recipe.batch, 1,
        loss=lambda: loss(next(batches), torch.Generator().manual_seed(seed)),
        step=lambda share: next(loop).loss,
        draw=partial(draw_ours, averaged, seed),
    )  # fmt: skip


def draw_ours(denoiser: Denoiser, seed: int, n: int, drawing: Drawing) -> Tensor:
    """Draw by a sampler of the course; "dpm guided 1.15" is led by classifier-free guidance, two calls a step."""
    sampler, _, scale = drawing[0].partition(" guided ")
    return recipes.draw(denoiser, n, sampler, drawing[1], seed=seed, scale=float(scale or 1))


# --------------------------------------------------------------------------------------------------------- peers


def peer(
    net: nn.Module, loss: Callable[[Tensor], Tensor], draw: Callable[[int, Drawing], Tensor], *, seed: int, batch: int,
    optimizer: torch.optim.Optimizer, lr: Callable[[int, float], float] | None = None, average: Callable[[], Any],
    clip: float | None = None, passes: int = 1, half: bool = False,
) -> Contestant:  # fmt: skip
    """A peer's loop: loss of a batch of pictures in [-1, 1], its optimiser, its average of weights.

    lr(steps done, share of the time gone); batch: pictures in one pass; half: in mixed precision. The data lie in
    memory as ours do, which is faster than the DataLoader that each of them uses.
    """
    batches = data.batches(data.mnist().pictures, batch, seed=seed)
    done = 0

    def step(share: float) -> float:
        nonlocal done
        net.train()
        total = 0.0
        for _ in range(passes):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                part = loss(next(batches)) / passes
            part.backward()
            total += part.item()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        if lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = lr(done, share)
        optimizer.step()
        optimizer.zero_grad()
        average()
        done += 1
        return total

    return Contestant(net, batch * passes, passes, lambda: loss(next(batches)), step, seeded(draw, seed))


def seeded(draw: Callable[[int, Drawing], Tensor], seed: int) -> Callable[[int, Drawing], Tensor]:
    """Draw 250 at a time, the same pictures for the same seed, cut to 28 x 28 and to [-1, 1]."""

    @torch.no_grad()
    def drawn(n: int, drawing: Drawing) -> Tensor:
        torch.manual_seed(seed)
        parts = [draw(min(250, n - first), drawing) for first in range(0, n, 250)]
        edge = (parts[0].shape[-1] - 28) // 2
        return torch.cat(parts)[..., edge : edge + 28, edge : edge + 28].clamp(-1, 1)

    return drawn


def cosine_lr(lr: float, warm_up: float, done: int, share: float) -> float:
    """Rise for warm_up steps (or that share of all steps), then half a cosine; all steps are counted by the clock."""
    steps = done / share if share > 0 else math.inf
    rise = warm_up if warm_up >= 1 else warm_up * steps
    if done < rise:
        return lr * done / rise
    return lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - rise) / max(steps - rise, 1.0))))


def diffusers_net(sizes: tuple[int, ...] = (32, 32, 64, 64)) -> nn.Module:
    """The U-Net of its unconditional training example, narrowed: attention at the last level but one."""
    from diffusers import UNet2DModel

    down, up = ["DownBlock2D"] * len(sizes), ["UpBlock2D"] * len(sizes)
    down[-2], up[1] = "AttnDownBlock2D", "AttnUpBlock2D"
    return UNet2DModel(
        sample_size=32, in_channels=1, out_channels=1, layers_per_block=1,
        block_out_channels=sizes, down_block_types=tuple(down), up_block_types=tuple(up),
    )  # fmt: skip


def diffusers(
    seed: int, *, lr: float = 1e-4, batch: int = 16, warm_up: float = 500, fast: bool = False, half: bool = False
) -> Contestant:
    """The unconditional training example of diffusers; fast: in the memory format that suits CPUs."""
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(seed)
    net = diffusers_net()
    if fast:
        net = net.to(memory_format=torch.channels_last)
    forward = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    ema = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)

    def loss(x0: Tensor) -> Tensor:
        x0 = nn.functional.pad(x0, (2, 2, 2, 2), value=-1.0)
        eps, t = torch.randn_like(x0), torch.randint(0, 1000, (len(x0),))
        return nn.functional.mse_loss(net(forward.add_noise(x0, eps, t), t).sample, eps)

    def draw(n: int, drawing: Drawing) -> Tensor:
        kind = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpm": DPMSolverMultistepScheduler}[drawing[0]]
        scheduler = kind.from_config(forward.config, timestep_spacing="trailing")
        scheduler.set_timesteps(drawing[1])
        ema.store(net.parameters())
        ema.copy_to(net.parameters())
        net.eval()
        x = torch.randn(n, 1, 32, 32)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t).sample, t, x).prev_sample
        ema.restore(net.parameters())
        return x

    return peer(
        net, loss, draw, seed=seed, batch=batch, optimizer=optimizer, lr=partial(cosine_lr, lr, warm_up), clip=1.0,
        average=lambda: ema.step(net.parameters()), half=half,
    )  # fmt: skip


def diffusers_course(
    seed: int, *, widths: tuple[int, ...] = (32, 64, 64), groups: int = 32, half: bool = False
) -> Contestant:
    """The recipe of the Hugging Face course, unit 1, part 2: predict x0 from a blend with uniform noise, without t."""
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    net = UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, layers_per_block=2, block_out_channels=widths,
        norm_num_groups=groups,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip

    def loss(x0: Tensor) -> Tensor:
        x0 = (x0 + 1) / 2
        x_t = x0.lerp(torch.rand_like(x0), torch.rand(len(x0), 1, 1, 1))
        return nn.functional.mse_loss(net(x_t, 0).sample, x0)

    def draw(n: int, drawing: Drawing) -> Tensor:
        net.eval()
        x = torch.rand(n, 1, 28, 28)
        for left in range(drawing[1], 0, -1):
            x = x.lerp(net(x, 0).sample, 1 / left)
        return 2 * x - 1

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    return peer(net, loss, draw, seed=seed, batch=128, optimizer=optimizer, average=lambda: None, half=half)


def lucidrains(seed: int, *, lr: float = 8e-5, batch: int = 32, passes: int = 2) -> Contestant:
    """denoising-diffusion-pytorch as the Trainer of its README sets it up, narrowed to our number of parameters."""
    import ema_pytorch
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    torch.manual_seed(seed)
    net = GaussianDiffusion(Unet(dim=22, dim_mults=(1, 2, 4), channels=1, flash_attn=True), image_size=28)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.99))
    ema = ema_pytorch.EMA(net, beta=0.995, update_every=10)

    def draw(n: int, drawing: Drawing) -> Tensor:
        model = ema.ema_model.eval()
        model.is_ddim_sampling, model.sampling_timesteps = drawing[0] == "ddim", drawing[1]
        return 2 * model.sample(batch_size=n) - 1

    return peer(
        net, lambda x0: net((x0 + 1) / 2), draw, seed=seed, batch=batch, passes=passes, optimizer=optimizer, clip=1.0,
        average=ema.update,
    )  # fmt: skip


def smalldiffusion(seed: int, *, batch: int = 64, passes: int = 16) -> Contestant:
    """The FashionMNIST U-Net example of smalldiffusion, on MNIST."""
    from accelerate import Accelerator
    from smalldiffusion import Scaled, ScheduleLogLinear, Unet, generate_train_sample, samples

    torch.manual_seed(seed)
    net = Scaled(Unet)(28, 1, 1, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,))
    schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
    optimizer = torch.optim.AdamW(net.parameters(), lr=7e-4)
    ema, cpu = EMA(net, 0.999), Accelerator(cpu=True)  # ours counts up to 0.999 as torch_ema does

    def loss(x0: Tensor) -> Tensor:
        x0, sigma, eps, cond = generate_train_sample(x0, schedule)
        return type(net).get_loss(net, x0, sigma, eps, cond=cond)

    def draw(n: int, drawing: Drawing) -> Tensor:
        gam = {"gam 1.6": 1.6, "ddim": 1.0}[drawing[0]]
        *_, x0 = samples(ema.net, schedule.sample_sigmas(drawing[1]), gam=gam, batchsize=n, accelerator=cpu)
        return x0

    return peer(
        net, loss, draw, seed=seed, batch=batch, passes=passes, optimizer=optimizer, average=lambda: ema.update(net)
    )


MEMORY = "pictures from memory instead of a DataLoader, no horizontal flips (digits have a left and a right)"
PADDED = "padded to 32 x 32, as three halvings need"
SHORT = "1000-step DDPM drawing would take minutes for 64, so 20 steps of its DPM-Solver and DDIM, trailing timesteps"
NARROWED = "(32, 32, 64, 64) channels and 1 layer a block, to have our number of parameters"

ROWS: dict[str, Row] = {
    "ours-ddpm": Row(
        partial(ours, recipes.DDPM), (("dpm", 20), ("ddim", 20), ("ddpm", 100)),
        "eps, cosine schedule, AdamW 2e-3, batch 128, EMA 0.99", recipe=recipes.DDPM,
    ),
    "ours-best": Row(
        partial(ours, recipes.QUICK), (("dpm", 20),),
        "flow schedule and objective, Muon 0.02, batch 64, logit-normal t, EMA 0.99", recipe=recipes.QUICK,
    ),
    "ours-labels": Row(
        partial(ours, recipes.LABELS), (("dpm", 20), ("dpm guided 1.15", 10), ("dpm guided 1.15", 20), ("heun", 10)),
        "ours-best told the digit of each picture; each digit drawn equally often; the scale 1.15 was chosen among "
        "1, 1.15, 1.3, 1.5 and 2 on a training of its own, seed 0", recipe=recipes.LABELS,
    ),
    "diffusers": Row(
        diffusers, (("dpm", 20), ("ddim", 20)),
        "the unconditional training example: UNet2DModel, DDPMScheduler(1000), AdamW 1e-4 with cosine and 500 steps of "
        f"warm-up, batch 16, its EMA; {NARROWED}; {PADDED}; {SHORT}; {MEMORY}", "diffusers",
    ),
    "diffusers-tuned": Row(
        partial(diffusers, lr=1e-3, batch=64, warm_up=0.05, fast=True), (("dpm", 20), ("ddim", 20)),
        "as diffusers, but tuned by us for minutes: AdamW 1e-3, warm-up 5 % of the steps, batch 64, channels_last",
        "diffusers",
    ),
    "diffusers-course": Row(
        diffusers_course, (("blend", 40),),
        "the Hugging Face course's recipe: UNet2DModel (32, 64, 64) at 28 x 28, x0 predicted from a blend with uniform "
        f"noise, no t, Adam 1e-3, batch 128, no EMA; drawn with its 40 steps; {MEMORY}", "diffusers",
    ),
    "denoising-diffusion-pytorch": Row(
        lucidrains, (("ddim", 20),),
        "its README's Trainer: v, sigmoid schedule, Adam 8e-5, batch 32 twice a step, EMA 0.995; dim 22 with "
        "(1, 2, 4) to have our number of parameters at 28 x 28; fp32; its DDIM with 20 steps where the README has 250; "
        f"{MEMORY}", "denoising_diffusion_pytorch",
    ),
    "denoising-diffusion-pytorch-tuned": Row(
        partial(lucidrains, lr=1e-3, passes=1), (("ddim", 20),),
        "as denoising-diffusion-pytorch, but tuned by us for minutes: Adam 1e-3, batch 32 once a step",
        "denoising_diffusion_pytorch",
    ),
    "smalldiffusion": Row(
        smalldiffusion, (("gam 1.6", 20),),
        "its FashionMNIST U-Net example: 4.4 M parameters, AdamW 7e-4, batch 1024 (as 16 gradients of 64, to fit into "
        f"memory), EMA 0.999, log-linear sigmas 0.01..20; {MEMORY}", "smalldiffusion",
    ),
    "smalldiffusion-64": Row(
        partial(smalldiffusion, passes=1), (("gam 1.6", 20),),
        "as smalldiffusion, but batch 64: with 1024, three minutes are a handful of steps", "smalldiffusion",
    ),
}  # fmt: skip


# ----------------------------------------------------------------------------------------------------- measuring


def matmul_rate(repeats: int = 10) -> list[float]:
    """Measure float operations a second of fp32 matrix products, 2048 x 2048 each."""
    a, b, out = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.empty(2048, 2048)
    torch.mm(a, b, out=out)
    return [2 * 2048**3 / seconds(lambda: torch.mm(a, b, out=out)) for _ in range(repeats)]


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def work_per_image(contestant: Contestant) -> float:
    """Count the float operations of the network, forward and backward, for one picture (the optimiser's left out)."""
    contestant.net.train()
    with FlopCounterMode(display=False) as counter:
        contestant.loss().backward()
    contestant.net.zero_grad()
    return counter.get_total_flops() / (contestant.images / contestant.passes)


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def train(row: Row, minutes: float, seed: int) -> tuple[dict[str, Any], Callable[[int, Drawing], Tensor]]:
    """Train by the clock, which runs from before the first step to after the last one."""
    if row.recipe is not None:
        run = ClockRun("never written", row.recipe, steps=10**6, profile="cpu", seed=seed)
        net, images, draw, step = run.net, row.recipe.batch, partial(draw_ours, run.denoiser, seed), run.one_step
    else:
        contestant = row.make(seed)
        net, images, draw, step = contestant.net, contestant.images, contestant.draw, contestant.step
    losses, used = train_by_clock(step, 60 * minutes)
    some = max(1, len(losses) // 10)
    return {
        "parameters": parameters(net),
        "batch": images,
        "steps": len(losses),
        "seconds": used,
        "images_per_second": len(losses) * images / used,
        "loss_first_tenth": statistics.fmean(losses[:some]),
        "loss_last_tenth": statistics.fmean(losses[-some:]),
    }, draw


class ClockRun(recipes.DigitRun):
    """The course's own run, with the learning rate told the share of the time that has gone, as the peers' is."""

    gone = 0.0

    def _rate(self, done: float) -> float:
        return super()._rate(self.gone)

    def one_step(self, gone: float) -> float:
        if not hasattr(self, "loop"):
            self.loop = self._fit(self.nets, self.ema, self.steps, None)
        self.gone = gone
        return next(self.loop).loss


def train_by_clock(step: Callable[[float], float], budget: float) -> tuple[list[float], float]:
    """Step until the budget (seconds) is used up; the last step may end after it, and counts."""
    losses, used, begin = [], 0.0, time.perf_counter()
    while used < budget:
        losses.append(step(used / budget))
        used = time.perf_counter() - begin
    return losses, used


def time_drawing(draw: Callable[[int, Drawing], Tensor], drawing: Drawing) -> float:
    """Measure the seconds to draw 64 pictures: the median of up to three, after a warm-up."""
    draw(64, (drawing[0], 2))
    times: list[float] = []
    while not times or (len(times) < 3 and sum(times) < 10):
        times.append(seconds(lambda: draw(64, drawing)))
    return statistics.median(times)


def measure_row(name: str, minutes: float, seed: int, n: int, drawings: Iterable[Drawing] = ()) -> dict[str, Any]:
    """Train, draw and evaluate one row; everything that the table needs, as one JSON object."""
    row = ROWS[name]
    work = work_per_image(row.make(seed))
    rates = matmul_rate()
    result, draw = train(row, minutes, seed)
    rates += matmul_rate()
    rate = statistics.median(rates)
    result |= {
        "work_per_image": work,
        "matmul_rate": rate,
        "share_of_matmul": work * result["images_per_second"] / rate,
        "rest": row.rest,
        "drawings": [],
    }
    for drawing in tuple(drawings) or row.drawings:
        x = draw(n, drawing).to(torch.float32)
        pixels = {"pixel_mean": x.mean().item(), "pixel_deviation": x.std().item()}
        metrics = evaluate_digits(x.contiguous().numpy())
        took = time_drawing(draw, drawing)
        result["drawings"].append({"sampler": drawing[0], "steps": drawing[1], "seconds_64": took} | pixels | metrics)
    return result


def measure_throughput(seed: int, rounds: int = 7) -> dict[str, Any]:
    """Images a second of training at batch 128, ours and diffusers' in turn, beside matrix products; then drawing."""
    contestants = {
        "ours-best": ours(replace(recipes.QUICK, batch=128), seed),
        "ours-ddpm": ours(replace(recipes.DDPM, batch=128), seed),
        "ours-best, float32": ours(replace(recipes.QUICK, batch=128), seed, half=False),
        "diffusers": diffusers(seed, batch=128),
        "diffusers, channels_last": diffusers(seed, batch=128, fast=True),
        "diffusers, channels_last, bfloat16": diffusers(seed, batch=128, fast=True, half=True),
        "diffusers-course": diffusers_course(seed),
        "diffusers-course, our parameters": diffusers_course(seed, widths=(32, 48, 56), groups=8),
        "diffusers-course, our parameters, bfloat16": diffusers_course(seed, widths=(32, 48, 56), groups=8, half=True),
    }
    work = {name: work_per_image(contestant) for name, contestant in contestants.items()}
    speed: dict[str, list[float]] = {name: [] for name in contestants}
    share: dict[str, list[float]] = {name: [] for name in contestants}
    rates = []
    for contestant in contestants.values():
        contestant.step(0.1)  # the first one is slow
    for _ in range(rounds):
        rates.append(statistics.median(matmul_rate(5)))
        for name, contestant in contestants.items():
            steps = 8 if name.startswith("ours") else 2
            took = seconds(lambda c=contestant, k=steps: [c.step(0.1) for _ in range(k)])
            speed[name].append(128 * steps / took)
            share[name].append(work[name] * speed[name][-1] / rates[-1])
    drawers = {name: contestants[name].draw for name in ("ours-best", "diffusers", "diffusers, channels_last")}
    return {
        "batch": 128,
        "rounds": rounds,
        "matmul_rate": statistics.median(rates),
        "images_per_second": {name: statistics.median(values) for name, values in speed.items()},
        "images_per_second_rounds": speed,
        "share_of_matmul": {name: statistics.median(values) for name, values in share.items()},
        "work_per_image": work,
        "parameters": {name: parameters(contestant.net) for name, contestant in contestants.items()},
        "seconds_64": {
            name: {str(steps): time_drawing(draw, ("dpm", steps)) for steps in (20, 50)}
            for name, draw in drawers.items()
        },
    }


def setting(args: argparse.Namespace) -> dict[str, Any]:
    """What a number depends on besides the row: machine, threads, load, versions."""
    versions = {}
    for name in ("torch", "diffusers", "denoising-diffusion-pytorch", "smalldiffusion"):
        try:
            versions[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    when = time.strftime("%Y-%m-%d %H:%M")
    return {
        "row": args.row, "minutes": args.minutes, "seed": args.seed, "threads": torch.get_num_threads(),
        "machine": recipes.machine(), "versions": versions, "load_before": load, "when": when,
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------- the table


def read_results(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def table(results: list[dict[str, Any]]) -> str:
    """Lay results out in Markdown: for each number of minutes the rows, best first, then what each did."""
    trained = [result for result in results if result["row"] != "throughput"]
    parts = []
    for minutes, n in sorted({(r["minutes"], d["n"]) for r in trained for d in r["drawings"]}):
        parts.append("\n".join(minutes_table([r for r in trained if r["minutes"] == minutes], minutes, n)))
    if trained:
        rests = {result["row"]: result["rest"] for result in trained}
        parts.append("\n".join(["What each row is:", "", *(f"- **{name}**: {rest}." for name, rest in rests.items())]))
    parts += [throughput_table(result) for result in results if result["row"] == "throughput"]
    return "\n\n".join(parts)


def minutes_table(results: list[dict[str, Any]], minutes: float, n: int) -> Iterator[str]:
    groups: dict[tuple[str, str, int], list[tuple[dict, dict]]] = {}
    for result in results:
        for drawn in result["drawings"]:
            if drawn["n"] == n:
                groups.setdefault((result["row"], drawn["sampler"], drawn["steps"]), []).append((result, drawn))
    first = results[0]
    yield f"{minutes:g} minutes of training, N = {n:,} drawn, {first['machine']}, torch {first['versions']['torch']}"
    yield ""
    yield (
        "| row | parameters | images/s | share of matmul | seconds used | drawn by | distance | precision | recall "
        "| classes | nats from uniform | drawing 64 | seeds |"
    )
    yield "|---" * 13 + "|"
    ordered = sorted(groups.items(), key=lambda item: statistics.fmean(d["frechet_distance"] for _, d in item[1]))
    for (name, sampler, steps), pairs in ordered:
        of_run, of_drawing = [run for run, _ in pairs], [drawn for _, drawn in pairs]
        yield (
            f"| {name} | {of_run[0]['parameters'] / 1e6:.2f} M | {mean(of_run, 'images_per_second'):.0f} "
            f"| {100 * mean(of_run, 'share_of_matmul'):.0f} % | {mean(of_run, 'seconds'):.0f} "
            f"| {sampler}, {steps} steps "
            f"| {spread(of_drawing, 'frechet_distance', 1)} | {mean(of_drawing, 'precision'):.2f} "
            f"| {mean(of_drawing, 'recall'):.2f} | {min(d['classes_covered'] for d in of_drawing)} "
            f"| {spread(of_drawing, 'nats_from_uniform', 4)} | {mean(of_drawing, 'seconds_64'):.2f} s "
            f"| {', '.join(str(run['seed']) for run in of_run)} |"
        )
    yield from ratios(groups)


def ratios(groups: dict[tuple[str, str, int], list[tuple[dict, dict]]]) -> Iterator[str]:
    """Say how many times lower our rows are than the best peer."""
    best: dict[str, float] = {}
    for (name, *_), pairs in groups.items():
        distance = statistics.fmean(drawn["frechet_distance"] for _, drawn in pairs)
        best[name] = min(distance, best.get(name, math.inf))
    peers = {name: value for name, value in best.items() if not name.startswith("ours")}
    if not peers:
        return
    peer_name = min(peers, key=peers.get)
    yield ""
    for name, value in best.items():
        if name.startswith("ours"):
            yield f"- {name}: {peers[peer_name] / value:.1f} times lower than the best peer ({peer_name})"


def throughput_table(result: dict[str, Any]) -> str:
    lines = [
        f"Throughput: a training step of {result['batch']} pictures, median of {result['rounds']} interleaved rounds, "
        f"{result['machine']}; matrix products run at {result['matmul_rate'] / 1e9:.0f} GFLOP/s",
        "",
        "| network | parameters | images/s | share of matmul | MFLOP a picture | drawing 64, 20 steps | 50 steps |",
        "|---" * 7 + "|",
    ]
    for name, speed in result["images_per_second"].items():
        drawing = result["seconds_64"].get(name)
        times = f"{drawing['20']:.2f} s | {drawing['50']:.2f} s" if drawing else "- | -"
        lines.append(
            f"| {name} | {result['parameters'][name] / 1e6:.2f} M | {speed:.0f} "
            f"| {100 * result['share_of_matmul'][name]:.0f} % | {result['work_per_image'][name] / 1e6:.0f} | {times} |"
        )
    return "\n".join(lines)


def mean(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def spread(rows: list[dict[str, Any]], key: str, digits: int) -> str:
    """Write the mean, and with several seeds the lowest and the highest."""
    values = [row[key] for row in rows]
    text = f"{statistics.fmean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


# ------------------------------------------------------------------------------------------------ command line


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=[*ROWS, "throughput", "all", "list"], help="list names them")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, by the clock")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=1000, help="pictures to draw; distances depend on it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--draw", type=drawing, action="append", default=[], help="SAMPLER:STEPS, such as ddim:250")
    parser.add_argument("--out", type=Path, help="append a JSON line to this file; without it, print it")
    parser.add_argument("--table", type=Path, metavar="RESULTS", help="print the table of these results")
    args = parser.parse_args(words)
    if (args.row is None) == (args.table is None):
        parser.error("expected --row NAME or --table RESULTS, one of the two")
    if args.row == "all" and args.out is None:
        parser.error("expected --out FILE with --row all")
    return args


def drawing(text: str) -> Drawing:
    sampler, _, steps = text.rpartition(":")
    if not sampler or not steps.isdigit() or int(steps) < 1:
        raise argparse.ArgumentTypeError(f"expected SAMPLER:STEPS, such as ddim:250, got {text!r}")
    return sampler, int(steps)


def require(package: str | None) -> None:
    """Stop with a sentence when a peer is missing."""
    try:
        if package is not None:
            importlib.import_module(package)
    except ImportError as error:
        sys.exit(
            f"expected {package} to be installed, got {error}: in an environment of its own, beside the course's, "
            f"`pip install {package.replace('_', '-')}`; see tests/bench/README.md"
        )


def run_all(args: argparse.Namespace) -> int:
    """Run each row in a process of its own, so that none inherits another's memory or warm caches."""
    failed = 0
    for name in ["throughput", *ROWS]:
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        options = {"row": name, "minutes": args.minutes, "seed": args.seed, "n": args.n, "threads": args.threads}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        failed += subprocess.run([sys.executable, __file__, *words, "--out", str(args.out)]).returncode != 0
    return failed


def main(words: list[str] | None = None) -> int:
    args = arguments(words)
    if args.table is not None:
        print(table(read_results(args.table)))
        return 0
    if args.row == "list":
        print("\n".join([*ROWS, "throughput", "all"]))
        return 0
    if args.row == "all":
        return run_all(args)
    torch.set_num_threads(args.threads)
    require("diffusers" if args.row == "throughput" else ROWS[args.row].package)
    facts = setting(args)
    if args.row == "throughput":
        facts |= measure_throughput(args.seed)
    else:
        facts |= measure_row(args.row, args.minutes, args.seed, args.n, args.draw)
    line = json.dumps(facts)
    if args.out is None:
        print(line)
    else:
        with args.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    return 0


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when CUDA is first asked for
    os.environ["TQDM_DISABLE"] = "1"
    sys.exit(main())
