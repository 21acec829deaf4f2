"""Checkpoints: a folder with weights that a crash cannot half-write, and a card that says where they come from.

    <folder>/card.json names <folder>/weights-<token>.safetensors; the card is replaced last, in one move
Shapes: named tensors of any shape; the card is JSON (data, steps, seconds, machine, seed, command, metrics).
Does not belong here: what the weights mean. No pickle is ever read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from course_lib.doors import described

__all__ = ["CheckpointError", "load", "save"]

STRAY_SECONDS = 3600  # a file of a killed save is taken away once nobody can still be at work on it


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written; the message says what to do."""


def save(folder: str | Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> Path:
    """Write tensors and card into folder, replacing an older checkpoint only once the new one is whole.

    Killed at any moment, or out of disk, the folder holds the old checkpoint or the new one, never a mixture; when
    two processes save at once, the later one's. Returns the folder. Raises CheckpointError when it cannot be written,
    TypeError or ValueError for what is not a tensor or does not go into JSON.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     card = load(save(folder, {"weight": torch.ones(2)}, {"steps": 10}))[1]
    >>> card["steps"]
    10
    """
    folder, data = Path(folder), _bytes(tensors)
    weights = f"weights-{secrets.token_hex(6)}.safetensors"  # never twice the same, so no card comes to name it again
    text = _json({**card, "weights": weights, "sha256": hashlib.sha256(data).hexdigest()})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replaced = _named(folder)
        _write_whole(folder / weights, data)
        try:
            _write_whole(folder / "card.json", text.encode())
        except OSError:
            with suppress(OSError):
                (folder / weights).unlink()
            raise
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint could not be written to {folder} ({error.strerror or error}): free some space or choose "
            "another folder; what was there before is whole"
        ) from error
    _tidy(folder, replaced)
    return folder


def load(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the card of a checkpoint, after checking the weights against the card's hash.

    Raises CheckpointError, saying what to do, when the folder, the card or the weights are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    folder = Path(folder)
    try:
        card, data = _read(folder)
        if hashlib.sha256(data).hexdigest() != card["sha256"]:
            raise CheckpointError(
                f"the weights in {folder} do not match their card: they are damaged, fetch or train them again"
            )
        return from_bytes(data), card
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no whole checkpoint in {folder} ({Path(error.filename).name} is missing): "
            "train one with `course train`, or check the path"
        ) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint in {folder} cannot be read ({error}): fetch or train it again"
        ) from error


def _bytes(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save as to_bytes

    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"expected {name} to be a tensor, got {described(tensor)}: put other things into the card")
    try:  # a copy of each, as two names may share one memory
        return to_bytes({n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()})
    except (KeyError, TypeError, RuntimeError) as error:  # complex128, a sparse tensor, a name that is no text
        raise TypeError(f"expected plain tensors under names, got what safetensors cannot hold ({error})") from error


def _json(card: dict[str, Any]) -> str:
    try:
        return json.dumps(card, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise type(error)(f"expected a card of text, finite numbers, lists and dicts ({error})") from error


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Read the card and the bytes that it names, once more if somebody saved in between."""
    while True:
        card = _card(folder)
        try:
            return card, (folder / card["weights"]).read_bytes()
        except FileNotFoundError:
            if _card(folder) == card:
                raise


def _card(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("card.json is nested too deep") from None
    if not isinstance(card, dict) or not {"weights", "sha256"} <= card.keys():
        raise ValueError("card.json does not name its weights and their sha256")
    if not isinstance(card["weights"], str) or Path(card["weights"]).name != card["weights"]:
        raise ValueError("card.json points outside of its folder")
    return card


def _named(folder: Path) -> str | None:
    with suppress(ValueError, OSError):  # there is no card yet, or one that cannot be read
        return _card(folder)["weights"]
    return None


def _tidy(folder: Path, replaced: str | None) -> None:
    """Take away the weights whose card was replaced, and what saves that were killed left long ago.

    Weights that no card names may belong to a save that is under way in another process.
    """
    kept = _named(folder)
    with suppress(OSError):  # somebody else was quicker, or still reads it
        for path in [*folder.glob("weights-*.safetensors"), *folder.glob(".*.part")]:
            forgotten = path.name != kept and time.time() - path.stat().st_mtime > STRAY_SECONDS
            if path.name == replaced or forgotten:
                path.unlink()


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside the file, force it to disk, then put it in place in one move."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        with suppress(OSError):  # it was moved, or was never made
            draft.unlink()
