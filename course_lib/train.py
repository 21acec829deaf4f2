"""Train: the loop, as a generator. `for progress in fit(...)`: break to stop; nothing is lost.

    weights <- weights - lr * gradient of loss_fn(batch, generator), clipped
Shapes: whatever loss_fn takes from `batches`; the loss is a scalar.
Does not belong here: what the loss is (denoiser.py), pictures of progress (viz.py).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import checkpoints
from course_lib.data import Batches
from course_lib.doors import described, real_number, whole_number
from course_lib.ema import EMA
from course_lib.parallel import average_over_processes, is_first_process
from course_lib.types import Progress

__all__ = ["fit"]

SAVE_SECONDS = 30  # a killed process loses at most this much
_unfinished: dict[Path, Generator] = {}  # a loop left by an interrupt still holds what it has not written


def fit(
    loss_fn: Callable[[Any, torch.Generator], Tensor],
    net: nn.Module,
    batches: Iterable[Any],
    *,
    steps: int,
    lr: float | Callable[[float], float] = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    ema: EMA | None = None,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    folder: str | Path | None = None,
    name: str = "",
) -> Iterator[Progress]:
    """Train net for some steps (with AdamW, or your optimizer over its weights), yielding Progress after each.

    loss_fn(batch, generator) -> scalar draws all its noise from that generator, which `seed` starts. batches: anything
    that yields batches, such as data.batches(x, 256). lr: a number, or a function of the share of steps done, in
    [0, 1). Gradients are clipped to norm 1. Raises FloatingPointError when the loss or its gradient is not finite,
    and ValueError when batches run out; the weights are then those of the last good step.

    precision: torch.bfloat16 lets matrix products and convolutions round to 8 bits of mantissa (mixed precision,
    arXiv:1710.03740): about twice as fast on a recent GPU; weights and their sums stay float32.
    Started by torchrun, each process computes its share of every batch and all make the same step (parallel.py).

    folder: where the run is kept. Whatever ends the loop (break, an interrupt, an error), the same call goes on where
    it stood, to the last bit, random numbers included; a killed process loses at most 30 seconds. Needs data.batches.
    name: what makes it another run beside network, optimizer, EMA, batches, steps and seed, such as its loss or lr.
    Raises CheckpointError when the folder holds another run, which is left as it is, and when it cannot be written.

    >>> from course_lib import data
    >>> net = nn.Linear(2, 2)
    >>> loss = lambda x, generator: (net(x) - x).square().mean()
    >>> [p.step for p in fit(loss, net, data.batches(torch.randn(64, 2), 32), steps=3)]
    [1, 2, 3]
    """
    if not isinstance(net, nn.Module) or not any(p.requires_grad for p in net.parameters()):
        raise TypeError(f"expected net to be a torch.nn.Module with weights to train, got {described(net)}")
    if not callable(loss_fn):
        raise TypeError(f"expected loss_fn to be called as loss_fn(batch, generator), got {described(loss_fn)}")
    if isinstance(batches, Tensor | str | bytes) or not isinstance(batches, Iterable):
        raise TypeError(f"expected batches to yield batches, got {described(batches)}: use data.batches(x, size)")
    if ema is not None and not isinstance(ema, EMA):
        raise TypeError(f"expected ema to be an EMA(net), got {described(ema)}")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"expected optimizer to be a torch.optim.Optimizer, got {described(optimizer)}")
    if folder is not None and not isinstance(batches, Batches):
        raise TypeError(f"expected data.batches(x, size) where a run is kept in a folder, got {described(batches)}")
    if not isinstance(name, str):
        raise TypeError(f"expected name to be a word or two about the run, got {described(name)}")
    if not callable(lr):
        real_number("lr", lr, 0)
    if precision not in (torch.float32, torch.bfloat16):
        raise ValueError(f"expected precision torch.float32 or torch.bfloat16, got {described(precision)}")
    steps, seed = whole_number("steps", steps, 1), whole_number("seed", seed, 0, 2**31 - 1)
    if optimizer is None:
        optimizer = torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), lr=0.0)
    run = _Run(net, optimizer, ema, torch.Generator().manual_seed(seed), seed, steps, precision)
    if folder is None:
        return _loop(loss_fn, run, iter(batches), lr)
    return _kept_loop(loss_fn, run, batches, lr, Path(folder).resolve(), name)


def _loop(loss_fn, run: _Run, batches: Iterator, lr) -> Iterator[Progress]:
    begin = time.perf_counter() - run.seconds
    while run.step < run.steps:
        with _undisturbed(), run.own_random_numbers():
            loss, rate = _train_step(loss_fn, run, batches, lr)
            run.seconds = time.perf_counter() - begin
        yield Progress(run.step, run.steps, loss, rate, run.seconds)


def _train_step(loss_fn, run: _Run, batches: Iterator, lr) -> tuple[float, float]:
    """Draw a batch, follow the gradient once; returns the loss and the learning rate."""
    net, optimizer = run.net, run.optimizer
    rate = real_number("lr", lr(run.step / run.steps) if callable(lr) else lr, 0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    batch = _next(batches, run)
    with torch.autocast(run.device, torch.bfloat16, enabled=run.precision == torch.bfloat16):
        loss = loss_fn(batch, run.generator)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ValueError(f"expected loss_fn to return a scalar that depends on the weights, got {described(loss)}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]  # others keep old gradients
    loss = average_over_processes(loss.detach(), weights)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"expected a finite loss, got {loss.item()} {_where(run, rate)}")
    if not torch.isfinite(nn.utils.clip_grad_norm_(weights, 1.0)):
        raise FloatingPointError(f"expected finite gradients, got NaN or infinity {_where(run, rate)}")
    run.whole = False
    optimizer.step()
    if run.ema is not None:
        run.ema.update(net)
    run.step, run.whole = run.step + 1, True
    return loss.item(), rate


def _kept_loop(loss_fn, run: _Run, batches: Batches, lr, folder: Path, name: str) -> Iterator[Progress]:
    """The loop, with its state read from the folder first and written there whatever ends it."""
    older = _unfinished.get(folder)
    if older is not None:
        if older.gi_running:
            raise checkpoints.CheckpointError(f"{folder} is in use by another thread: stop it or choose another folder")
        older.close()  # writes where it stood
    run.call["name"] = name
    run.call["batches"] = {"rows": len(batches.x), "size": batches.size, "seed": batches.seed}
    run.read(folder)
    batches.skip_to(run.step)
    loop = _unfinished[folder] = _writing(_loop(loss_fn, run, batches, lr), run, folder)
    try:
        yield from loop
    finally:
        if _unfinished.get(folder) is loop:  # and not one that has taken over since
            del _unfinished[folder]
    if run.step < run.steps:
        raise checkpoints.CheckpointError(
            f"a newer loop goes on with the run in {folder}, so this one ends at step {run.step}: use the newer one"
        )


def _writing(loop: Iterator[Progress], run: _Run, folder: Path) -> Generator[Progress]:
    written = time.perf_counter()
    try:
        for progress in loop:
            if time.perf_counter() - written > SAVE_SECONDS:
                run.write(folder)
                written = time.perf_counter()
            yield progress
    finally:
        with _undisturbed():
            run.write(folder)


class _Run:
    """All that a training run is made of, and how it is written to a folder and read back."""

    def __init__(self, net, optimizer, ema, generator, seed: int, steps: int, precision: torch.dtype) -> None:
        self.net, self.optimizer, self.ema, self.generator = net, optimizer, ema, generator
        self.steps, self.step, self.seconds = steps, 0, 0.0
        self.precision, self.device = precision, next(net.parameters()).device.type
        self.whole = True  # not in the middle of an update
        self.call = {"kind": "training run", "steps": steps, "seed": seed}  # what must be the same to go on
        self.call |= {"optimizer": type(optimizer).__name__, "ema_decay": ema.decay if ema else None}
        self.call["precision"] = str(precision).removeprefix("torch.")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.random = self._random_states()

    def write(self, folder: Path) -> None:
        if not self.whole or not is_first_process():
            return
        tensors = self._weights()
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        tensors |= {f"random.{name}": state for name, state in self.random.items()}
        card = {**self.call, "step": self.step, "ema_updates": self.ema.updates if self.ema else 0}
        card["seconds"] = round(self.seconds, 3)
        checkpoints.save(folder, tensors, card)

    def read(self, folder: Path) -> None:
        if not (folder / "card.json").exists():
            return
        tensors, card = checkpoints.load(folder)
        other = {name: card.get(name) for name, value in self.call.items() if card.get(name) != value}
        if other:
            mine = {name: self.call[name] for name in other}
            raise checkpoints.CheckpointError(
                f"expected a run with {mine} in {folder}, got {other}: choose another folder"
            )
        try:
            if _kinds(tensors) != _kinds(self._weights()):
                raise ValueError("other weights")  # found before any is overwritten
            self.net.load_state_dict(_part(tensors, "net"))
            if self.ema is not None:
                self.ema.net.load_state_dict(_part(tensors, "ema"))
                self.ema.updates = card["ema_updates"]
            state: dict[int, dict] = {}
            for name, tensor in _part(tensors, "optimizer").items():
                index, _, key = name.partition(".")
                state.setdefault(int(index), {})[key] = tensor
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
            self.random = _part(tensors, "random")
            self.step, self.seconds = card["step"], card["seconds"]
        except (RuntimeError, KeyError, ValueError) as error:
            raise checkpoints.CheckpointError(
                f"the run in {folder} was made with another network or optimizer: choose another folder"
            ) from error

    def _weights(self) -> dict[str, Tensor]:
        parts = {"net": self.net} | ({"ema": self.ema.net} if self.ema is not None else {})
        return {f"{part}.{name}": tensor for part, net in parts.items() for name, tensor in net.state_dict().items()}

    @contextmanager
    def own_random_numbers(self) -> Iterator[None]:
        """Give a step (its dropout, say) random numbers of its own, whatever is drawn between the steps."""
        outside = self._random_states()
        self._set_random_states(self.random)
        try:
            yield
            self.random = self._random_states()
        finally:
            self._set_random_states({**outside, "loss": self.random["loss"]})

    def _random_states(self) -> dict[str, Tensor]:
        states = {"loss": self.generator.get_state(), "torch": torch.get_rng_state()}
        return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})

    def _set_random_states(self, states: dict[str, Tensor]) -> None:
        self.generator.set_state(states["loss"])
        torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def _kinds(tensors: dict[str, Tensor]) -> dict[str, tuple]:
    return {name: (x.shape, x.dtype) for name, x in tensors.items() if name.startswith(("net.", "ema."))}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back one interrupt of the keyboard until the block is done, so no update is torn; a second one is let in."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held: list[tuple] = []

    def hold(*interrupt) -> None:
        held.append(interrupt)
        if len(held) > 1:
            before(*interrupt)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        before(*held[0])


def _next(batches: Iterator[Any], run: _Run) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(
            f"expected a batch for each of {run.steps} steps, got {run.step}: data.batches(x, size) never runs out"
        ) from None


def _where(run: _Run, rate: float) -> str:
    return f"at step {run.step + 1} of {run.steps}: lower lr (now {rate:g}), or look for NaN in the data"
