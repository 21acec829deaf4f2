"""Runs: a training that can be kept in a folder, and goes on there to the last bit after whatever ended it.

    networks + optimisers + EMA + random numbers + step  <->  folder (checkpoints.py)
Shapes: those of the weights.
Does not belong here: what a step does (train.py, train_gan.py).
"""

from __future__ import annotations

import json
import math
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
from course_lib.doors import described, whole_number
from course_lib.ema import EMA
from course_lib.parallel import average_over_processes, is_first_process

__all__ = ["Run"]

SAVE_SECONDS = 30  # a killed process loses at most this much
_unfinished: dict[Path, Generator] = {}  # a loop left by an interrupt still holds what it has not written


class Run:
    """All that a training run is made of, and how it is written to a folder and read back.

    nets, optimizers: by name, under which they are kept. ema: of one of the nets, or None. settings: what else makes
    it another run, for JSON. batches_a_step: how many of the batches each step draws. batches: for a folder they have
    `settings`, all that they follow from, for JSON, and `skip_to(n)`, as data.Batches and shapes.Drawings do. The other
    arguments are those of `train.fit`, and refused here when they do not fit.
    """

    def __init__(
        self,
        nets: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        ema: EMA | None,
        batches: Iterable[Any],
        *,
        steps: int,
        seed: int,
        precision: torch.dtype,
        folder: str | Path | None,
        name: str,
        settings: dict[str, Any] | None = None,
        batches_a_step: int = 1,
    ) -> None:
        if isinstance(batches, Tensor | str | bytes) or not isinstance(batches, Iterable):
            raise TypeError(f"expected batches to yield batches, got {described(batches)}: use data.batches(x, size)")
        if ema is not None and not isinstance(ema, EMA):
            raise TypeError(f"expected ema to be an EMA(net), got {described(ema)}")
        if folder is not None and not (hasattr(batches, "settings") and hasattr(batches, "skip_to")):
            raise TypeError(f"expected data.batches(x, size) where a run is kept in a folder, got {described(batches)}")
        if not isinstance(name, str):
            raise TypeError(f"expected name to be a word or two about the run, got {described(name)}")
        if precision not in (torch.float32, torch.bfloat16):
            raise ValueError(f"expected precision torch.float32 or torch.bfloat16, got {described(precision)}")
        self.steps, seed = whole_number("steps", steps, 1), whole_number("seed", seed, 0, 2**31 - 1)
        self.nets, self.optimizers, self.ema, self.batches = nets, optimizers, ema, batches
        self.folder = None if folder is None else Path(folder).resolve()
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.seconds, self.batches_a_step = 0, 0.0, batches_a_step
        self.precision, self.device = precision, next(next(iter(nets.values())).parameters()).device
        self.whole = True  # not in the middle of an update
        self.call = {"kind": "training run", "steps": self.steps, "seed": seed}  # what must be the same to go on
        self.call |= {name: type(optimizer).__name__ for name, optimizer in optimizers.items()}
        self.call |= {"ema_decay": ema.decay if ema else None, "precision": str(precision).removeprefix("torch.")}
        self.call |= {"name": name, **json.loads(json.dumps(settings or {}))}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.random = self._random_states()

    def go(self, take_step: Callable[[], dict[str, float]], report: type) -> Iterator:
        """Take the steps that are left and yield a report of each: report(step, steps, seconds, what the step says)."""
        loop = self._loop(take_step, report)
        return loop if self.folder is None else self._kept(loop)

    def next_batch(self) -> Any:
        try:
            return next(self._drawn)
        except StopIteration:
            raise ValueError(
                f"expected a batch for each of {self.steps} steps, got {self.step}: "
                "data.batches(x, size) never runs out"
            ) from None

    def rate(self, lr: float | Callable[[float], Any]) -> Any:
        """Say what lr, a number or a function of the share of steps done, is at this step."""
        return lr(self.step / self.steps) if callable(lr) else lr

    def half(self) -> torch.autocast:
        """Round to bfloat16 inside the block where this run does so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def gradients_of(self, loss: Tensor, weights: list[Tensor], rate: float, longest: float = math.inf) -> Tensor:
        """Average loss and gradients over the processes, refuse what is not finite, clip; returns the loss."""
        loss = average_over_processes(loss.detach(), weights)
        where = f"at step {self.step + 1} of {self.steps}: lower lr (now {rate:g}), or look for NaN in the data"
        if not torch.isfinite(loss):
            raise FloatingPointError(f"expected a finite loss, got {loss.item()} {where}")
        if not torch.isfinite(nn.utils.clip_grad_norm_(weights, longest)):
            raise FloatingPointError(f"expected finite gradients, got NaN or infinity {where}")
        return loss

    def done(self) -> None:
        """End a step whose updates are made."""
        self.step, self.whole = self.step + 1, True

    def _loop(self, take_step: Callable[[], dict[str, float]], report: type) -> Iterator:
        self._drawn = iter(self.batches)
        begin = time.perf_counter() - self.seconds
        while self.step < self.steps:
            with _undisturbed(), self._own_random_numbers():
                said = take_step()
                self.seconds = time.perf_counter() - begin
            yield report(step=self.step, steps=self.steps, seconds=self.seconds, **said)

    def _kept(self, loop: Iterator) -> Iterator:
        """The loop, with its state read from the folder first and written there whatever ends it."""
        folder, older = self.folder, _unfinished.get(self.folder)
        if older is not None:
            if older.gi_running:
                raise checkpoints.CheckpointError(
                    f"{folder} is in use by another thread: stop it or choose another folder"
                )
            older.close()  # writes where it stood
        batches = self.batches
        self.call["batches"] = json.loads(json.dumps(batches.settings))
        self._read()
        batches.skip_to(self.step * self.batches_a_step)
        loop = _unfinished[folder] = self._writing(loop)
        try:
            yield from loop
        finally:
            if _unfinished.get(folder) is loop:  # and not one that has taken over since
                del _unfinished[folder]
        if self.step < self.steps:
            raise checkpoints.CheckpointError(
                f"a newer loop goes on with the run in {folder}, so this one ends at step {self.step}: "
                "use the newer one"
            )

    def _writing(self, loop: Iterator) -> Generator:
        written = time.perf_counter()
        try:
            for progress in loop:
                if time.perf_counter() - written > SAVE_SECONDS:
                    self._write()
                    written = time.perf_counter()
                yield progress
        finally:
            with _undisturbed():
                self._write()

    def _write(self) -> None:
        if not self.whole or not is_first_process():
            return
        tensors = self._weights()
        for name, optimizer in self.optimizers.items():
            for index, entries in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in entries.items()}
        tensors |= {f"random.{name}": state for name, state in self.random.items()}
        card = {**self.call, "step": self.step, "ema_updates": self.ema.updates if self.ema else 0}
        card["seconds"] = round(self.seconds, 3)
        checkpoints.save(self.folder, tensors, card)

    def _read(self) -> None:
        folder = self.folder
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
            if self._kinds(tensors) != self._kinds(self._weights()):
                raise ValueError("other weights")  # found before any is overwritten
            for name, net in self.nets.items():
                net.load_state_dict(_part(tensors, name))
            if self.ema is not None:
                self.ema.net.load_state_dict(_part(tensors, "ema"))
                self.ema.updates = card["ema_updates"]
            for name, optimizer in self.optimizers.items():
                _fill(optimizer, _part(tensors, name))
            self.random = _part(tensors, "random")
            self.step, self.seconds = card["step"], card["seconds"]
        except (RuntimeError, KeyError, ValueError) as error:
            raise checkpoints.CheckpointError(
                f"the run in {folder} was made with another network or optimizer: choose another folder"
            ) from error

    def _parts(self) -> dict[str, nn.Module]:
        return self.nets | ({"ema": self.ema.net} if self.ema is not None else {})

    def _weights(self) -> dict[str, Tensor]:
        return {f"{part}.{n}": tensor for part, net in self._parts().items() for n, tensor in net.state_dict().items()}

    def _kinds(self, tensors: dict[str, Tensor]) -> dict[str, tuple]:
        parts = {*self._parts(), "ema"}
        return {name: (x.shape, x.dtype) for name, x in tensors.items() if name.partition(".")[0] in parts}

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
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


def _fill(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer what it remembered of each weight."""
    state: dict[int, dict] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for weight, entries in optimizer.state.items():
        for key, value in entries.items():
            if value.shape == weight.shape:  # to lie in memory as its weight does: fused optimizers take that on trust
                entries[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


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
