"""Checkpoints: a folder with weights that a crash cannot half-write, and a card that says where they come from.

    <folder>/card.json names <folder>/weights-<hash>.safetensors; the card is replaced last, in one move
Shapes: named tensors of any shape; the card is JSON (data, steps, seconds, machine, seed, command, metrics).
Does not belong here: what the weights mean. No pickle is ever read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from course_lib.doors import described

__all__ = ["CheckpointError", "load", "save"]


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written; the message says what to do."""


def save(folder: str | Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> Path:
    """Write tensors and card into folder, replacing an older checkpoint only once the new one is whole.

    Killed at any moment, or out of disk, the folder holds the old checkpoint or the new one, never a mixture.
    Returns the folder. Raises CheckpointError when it cannot be written, TypeError for what is not a tensor.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     card = load(save(folder, {"weight": torch.ones(2)}, {"steps": 10}))[1]
    >>> card["steps"]
    10
    """
    from safetensors.torch import save as to_bytes

    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"expected {name} to be a tensor, got {described(tensor)}: put other things into the card")
    folder = Path(folder)
    data = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    weights = f"weights-{digest[:12]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**card, "weights": weights, "sha256": digest}, indent=2) + "\n"
        _write_whole(folder / weights, data)
        _write_whole(folder / "card.json", text.encode())
        for old in [*folder.glob("weights-*.safetensors"), *folder.glob(".*.part")]:
            if old.name != weights:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint could not be written to {folder} ({error.strerror or error}): free some space or choose "
            "another folder; what was there before is whole"
        ) from error
    return folder


def load(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the card of a checkpoint, after checking the weights against the card's hash.

    Raises CheckpointError, saying what to do, when the folder, the card or the weights are missing or damaged.
    """
    from safetensors.torch import load as from_bytes

    folder = Path(folder)
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        name, digest = Path(card["weights"]).name, card["sha256"]  # a bare name: a card cannot point elsewhere
        data = (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no whole checkpoint in {folder} ({Path(error.filename).name} is missing): "
            "train one with `course train`, or check the path"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the checkpoint in {folder} cannot be read ({error}): train it again") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise CheckpointError(f"the weights in {folder} do not match their card: the file is damaged, fetch it again")
    return from_bytes(data), card


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside the file, force it to disk, then put it in place in one move."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
