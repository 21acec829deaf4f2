"""Bench: Stable Diffusion 1's architecture at full size with random weights, for time and memory. It draws no pictures.

    each row a process of its own: build -> one step to warm up -> steps -> decode -> seconds, peak of memory
Shapes: sizes in pixels of a side; latents (1, 4, size / 8, size / 8); memory in GB of 10^9 bytes.
Does not belong here: anything about quality; random weights draw noise, however long they take.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from course_lib import miniature
from course_lib.doors import described, whole_number
from course_lib.pretrained import GB, open_pipeline, times
from course_lib.samplers import ddim_step, sample_steps

__all__ = ["OPTIONS", "bench", "full_size", "measure", "table"]

#: the rows, by name: the precision, what is switched on, and whether it needs a GPU
OPTIONS: dict[str, tuple[str, Callable[[Any], Any], bool]] = {
    "single precision": ("single", lambda pipe: None, False),
    "half precision": ("half", lambda pipe: None, False),
    "half, attention written out": ("half", lambda pipe: _plain_attention(pipe), False),
    "half, attention slicing": ("half", lambda pipe: pipe.enable_attention_slicing(), False),
    "half, VAE tiling": ("half", lambda pipe: pipe.vae.enable_tiling(), False),
    "half, offload part by part": ("half", lambda pipe: pipe.enable_model_cpu_offload(), True),
    "half, offload layer by layer": ("half", lambda pipe: pipe.enable_sequential_cpu_offload(), True),
}


def full_size(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """Build a StableDiffusionPipeline as large as Stable Diffusion 1, its weights random numbers of deviation 0.02.

    860 million weights in the U-Net, 123 in the text encoder, 84 in the autoencoder; no safety checker, as nothing is
    drawn. device "meta" builds it without memory, to count. Sizes: arXiv:2112.10752, table 15, and the files that
    CompVis published.
    """
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    words = miniature.tokenizer()
    words.model_max_length = 77
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, projection_dim=768,
            )
        )  # fmt: skip
    parts = {"unet": unet, "vae": vae, "text_encoder": text_encoder}
    if device != "meta":
        parts = {name: _random(part.to(dtype), device) for name, part in parts.items()}
    return diffusers.StableDiffusionPipeline(
        **parts, tokenizer=words, scheduler=diffusers.DDIMScheduler(**miniature.SCHEDULER), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@torch.no_grad()
def _random(part: nn.Module, device: str) -> nn.Module:
    """Give the weights of a part that has none yet memory and small random numbers; positions count from 0."""
    part = part.to_empty(device=device).eval().requires_grad_(False)
    for weight in part.parameters():
        weight.normal_(0, 0.02)
    for name, buffer in part.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.numel()).reshape(buffer.shape))
    return part


def _plain_attention(pipe: Any) -> None:
    """Write out the table of all pairs, as before PyTorch 2 (arXiv:1706.03762, eq. 1)."""
    from diffusers.models.attention_processor import AttnProcessor

    pipe.unet.set_attn_processor(AttnProcessor())


def measure(option: str, size: int, *, model: str = "sd1", device: str | None = None, steps: int = 3) -> dict[str, Any]:
    """Take so many steps with guidance and decode once, in this process; returns one row of the table.

    model: "sd1" for the full size, "miniature" for a quick look at what the table says. The row: what ran where,
    seconds of a step (median) and of decoding, and the peak of memory in GB: of the GPU, or of the whole process.
    """
    if option not in OPTIONS or model not in ("sd1", "miniature"):
        known = f"an option of {', '.join(OPTIONS)} and a model of sd1, miniature"
        raise ValueError(f"expected {known}, got {option}, {model}")
    whole_number("size", size, 8), whole_number("steps", steps, 1)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision, switch_on, needs_gpu = OPTIONS[option]
    dtype = {"single": torch.float32, "half": torch.float16 if where.type == "cuda" else torch.bfloat16}[precision]
    row = {"option": option, "size": size, "model": f"{model}, random weights"}
    row |= {
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(where),
        "machine": miniature.machine(),
        "torch": torch.__version__.split("+")[0],
    }
    if needs_gpu and where.type != "cuda":
        return {**row, "note": "needs a GPU"}
    pipe = full_size(dtype, "cpu" if needs_gpu else str(where)) if model == "sd1" else miniature.pipeline()
    pipe = pipe if needs_gpu else pipe.to(where, dtype)
    switch_on(pipe)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    predict, schedule, codec = open_pipeline(pipe, "a small red circle on the left", scale=7.5)
    noise = torch.randn(1, 4, size // factor, size // factor, generator=torch.Generator().manual_seed(0)).to(where)
    walk = sample_steps(ddim_step, predict, schedule, noise, times(pipe, steps + 1))
    seconds = [_seconds(lambda: next(walk), where) for _ in range(steps + 1)][1:]
    return row | {
        "seconds a step": round(statistics.median(seconds), 4),
        "seconds to decode": round(_seconds(lambda: codec.decode(noise), where), 3),
        "peak GB": round(_peak(where), 2),
    }


def _seconds(do: Callable[[], Any], where: torch.device) -> float:
    begin = time.perf_counter()
    do()
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _peak(where: torch.device) -> float:
    """Return the largest memory so far, in GB: that of tensors on the GPU, or that of this process."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated() / GB
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / GB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GB  # macOS counts bytes, Linux KiB


def bench(sizes: Iterable[int] = (512, 1024), options: Iterable[str] = tuple(OPTIONS), **more: Any) -> Iterator[dict]:
    """Yield the row of each option at each size, each measured in a new process, so that peaks of memory do not mix.

    more: model, device and steps of `measure`. A row that does not fit into memory says so in its note.
    """
    for size in sizes:
        for option in options:
            asked = json.dumps({"option": option, "size": size, **more})
            done = subprocess.run(
                [sys.executable, "-m", "course_lib.bench_sd", asked], capture_output=True, text=True, encoding="utf-8"
            )
            if done.returncode == 0:
                yield json.loads(done.stdout.splitlines()[-1])
            else:
                last = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
                note = "did not fit into memory" if done.returncode in (-9, 137) or "memory" in last else last[:120]
                yield {"option": option, "size": size, "note": note}


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Write rows as a Markdown table; what a row lacks is told by its note.

    >>> print(table([{"option": "half precision", "size": 512, "note": "needs a GPU"}]))
    | option | pixels | seconds a step | seconds to decode | peak memory, GB | precision |
    |---|---|---|---|---|---|
    | half precision | 512 x 512 | needs a GPU | | | |
    """
    heads = ("option", "pixels", "seconds a step", "seconds to decode", "peak memory, GB", "precision")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        if not isinstance(row, dict) or not {"option", "size"} <= row.keys():
            raise TypeError(f"expected rows as bench yields them, got {described(row)}")
        cells = [row.get(name, "") for name in ("seconds a step", "seconds to decode", "peak GB", "dtype")]
        if "seconds a step" not in row:
            cells = [row.get("note", ""), "", "", ""]
        texts = [row["option"], f"{row['size']} x {row['size']}", *map(str, cells)]
        lines.append("|" + "|".join(f" {text} " if text else " " for text in texts) + "|")
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
