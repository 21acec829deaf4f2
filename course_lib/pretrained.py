"""Pretrained: a diffusers pipeline, such as Stable Diffusion, becomes a Predictor, a Schedule and a Codec.

    row t of our tables is diffusers' timestep t - 1; row 0, alpha_bar 1, is clean data, for which it has no row
Shapes: latents (N, 4, h, w) float32, about unit variance; pictures (N, 3, H, W) in [-1, 1]; texts (N, tokens, width).
Does not belong here: stepping (samplers.py) and training. diffusers takes seconds to import: inside functions only.
"""

from __future__ import annotations

import copy
import errno
import gc
import importlib.metadata
import importlib.util
import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_lib import objectives
from course_lib.data import shipped
from course_lib.denoiser import Denoiser
from course_lib.doors import data_batch, described, real_number, whole_number
from course_lib.guidance import guided
from course_lib.schedules import Schedule
from course_lib.types import Prediction, Predictor, noise_like

__all__ = [
    "CHOICES",
    "Choice",
    "Codec",
    "PretrainedError",
    "load_folder",
    "load_pipeline",
    "open_pipeline",
    "schedule_of",
    "times",
]

GB = 1e9  # bytes
PATIENCE = 10  # seconds without an answer, then the hub counts as not reachable
#: what a network may predict, by diffusers' names
OBJECTIVES = {"epsilon": objectives.eps, "v_prediction": objectives.v, "sample": objectives.x0}
#: the parts of a pipeline that have weights, and what their files are called
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "safety_checker": "model",
}


class PretrainedError(RuntimeError):
    """A pretrained pipeline is not to be had; the message says what to do."""


class Choice(NamedTuple):
    """Name a pipeline on the hub, and what it costs to have it: GB in half precision, twice the weights in single.

    >>> CHOICES[0].licence
    'CreativeML OpenRAIL-M'
    """

    id: str
    revision: str  # a commit, so that what arrives is what was chosen
    licence: str
    gigabytes: float  # of weights: as large as the download
    memory: float  # GB that must be free: the weights and some room to work, a round figure


#: tried in this order; millions of weights: U-Net 860, safety checker 304, text encoder 123, autoencoder 84
CHOICES = (
    Choice(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        "CreativeML OpenRAIL-M", gigabytes=2.74, memory=3.5,
    ),
    Choice(
        "CompVis/stable-diffusion-v1-4", "133a221b8aa7292a167afc5127cb63fb5005638b",
        "CreativeML OpenRAIL-M", gigabytes=2.74, memory=3.5,
    ),
)  # fmt: skip


class Codec:
    """The autoencoder of a pipeline, from latents to pictures and back; the player takes one as `codec`.

    A picture that the pipeline's safety checker flags comes out black, as it does from the pipeline itself.
    """

    def __init__(self, pipe: Any) -> None:
        _known(pipe)
        self.pipe = pipe

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Turn latents (N, 4, h, w) into pictures (N, 3, H, W) in [-1, 1], float32, where the latents are."""
        vae, (scaling, shift) = self.pipe.vae, self._units()
        channels = vae.config.latent_channels
        if data_batch("latents", latents).ndim != 4 or latents.shape[1] != channels:
            raise ValueError(f"expected latents of shape (N, {channels}, h, w), got {described(latents)}")
        z = (latents.float() / scaling + shift).to(vae.dtype).to(_device_of(self.pipe))
        x = vae.decode(z).sample.float().clamp(-1, 1)
        if getattr(self.pipe, "safety_checker", None) is not None:
            _, flagged = self.pipe.run_safety_checker(x, x.device, self.pipe.text_encoder.dtype)
            x[torch.as_tensor(flagged, device=x.device)] = -1
        return x.to(latents.device)

    @torch.no_grad()
    def encode(self, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents (N, 4, h, w) of pictures (N, 3, H, W) in [-1, 1] (arXiv:2112.10752, section 3.1), float32.

        The encoder answers with a normal distribution for each picture, of which this is one draw.
        Raises ValueError for other shapes, sides that do not divide into latents, or values beyond [-1, 1].
        """
        vae, (scaling, shift) = self.pipe.vae, self._units()
        side = 2 ** (len(vae.config.block_out_channels) - 1)
        data_batch("pictures", pictures)
        if (
            pictures.ndim != 4
            or pictures.shape[1] != vae.config.in_channels
            or any(n % side for n in pictures.shape[2:])
        ):
            raise ValueError(
                f"expected pictures of shape (N, {vae.config.in_channels}, H, W) with H and W multiples of {side}, "
                f"got {described(pictures)}"
            )
        if not bool((pictures.abs() <= 1).all()):
            raise ValueError(
                f"expected pictures in [-1, 1], got {float(pictures.min()):g} to {float(pictures.max()):g}: "
                "2 * x - 1 brings [0, 1] there"
            )
        drawn = vae.encode(pictures.to(vae.dtype).to(_device_of(self.pipe))).latent_dist
        z = drawn.mean + drawn.std * noise_like(drawn.mean, generator)
        return ((z.float() - shift) * scaling).to(pictures.device)

    def _units(self) -> tuple[float, float]:
        """Return what brings the autoencoder's numbers to about unit variance: (z - shift) * scaling."""
        config = self.pipe.vae.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0


def open_pipeline(
    pipe: Any, prompt: str | Sequence[str], negative_prompt: str | Sequence[str] | None = None, scale: float = 7.5
) -> tuple[Predictor, Schedule, Codec]:
    """Open a StableDiffusionPipeline for the course's samplers, player and sliders: (Predictor, Schedule, Codec).

        predict, schedule, codec = open_pipeline(pipe, "a red ball")
        x0 = sample(ddim_step, predict, schedule, torch.randn(1, 4, 64, 64), times(pipe, 30))
        pictures = codec.decode(x0)  # (1, 3, 512, 512)

    The Predictor takes float32 latents (N, 4, h, w), N as many as there are prompts or a multiple of it (then each
    prompt has N / prompts neighbours), and t in 1..T; its cond, None for the prompt, may be other texts (N, tokens,
    width). Networks of lower precision get and give theirs; what a sampler adds up stays float32. No gradients.
    negative_prompt: what guidance leads away from, "" by default, one for all or one each. scale: see `guided`; it
    is diffusers' guidance_scale, but below 1 it mixes, where diffusers does not guide.
    Raises TypeError or ValueError for another kind of pipeline, and for a scheduler that clips.
    """
    _known(pipe)
    prompts = _texts("prompt", prompt)
    negatives = _texts("negative_prompt", "" if negative_prompt is None else negative_prompt)
    if len(negatives) not in (1, len(prompts)):
        raise ValueError(f"expected one negative_prompt, or {len(prompts)} as there are prompts, got {len(negatives)}")
    negatives *= len(prompts) // len(negatives)
    scale, schedule = real_number("scale", scale, 0), schedule_of(pipe.scheduler)
    denoiser = Denoiser(_network(pipe, schedule.T), schedule, OBJECTIVES[pipe.scheduler.config.prediction_type])
    with torch.no_grad():
        told, null = pipe.encode_prompt(prompts, _device_of(pipe), 1, True, negatives)

    def predict(x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        _latents(x_t, _device_of(pipe))
        if len(x_t) % len(prompts):
            raise ValueError(
                f"expected {len(prompts)} latents, one for each prompt, or a multiple of it, got {len(x_t)}"
            )
        each = len(x_t) // len(prompts)
        cond = told.repeat_interleave(each, 0) if cond is None else cond
        return guided(denoiser, scale, null.repeat_interleave(each, 0))(x_t, t, cond)

    return predict, schedule, Codec(pipe)


def times(pipe: Any, steps: int) -> list[int]:
    """List the rows that a pipeline visits by itself in so many steps, for sample_steps: steps + 1 falling numbers.

    They come from its scheduler (timestep_spacing, steps_offset), one up as our rows begin with clean data; the last
    is 0, or 1 where the scheduler keeps the noise of its first timestep (set_alpha_to_one, final_sigmas_type).
    Timesteps between two rows are rounded, repeated ones are taken once. diffusers' own DDIM goes back by T // steps
    whatever the spacing, so with "linspace", and with "trailing" where steps does not divide T, it lands beside them.
    """
    _known(pipe)
    scheduler, T = copy.deepcopy(pipe.scheduler), len(pipe.scheduler.alphas_cumprod)
    scheduler.set_timesteps(whole_number("steps", steps, 1, T))
    if hasattr(scheduler, "sigmas"):
        keeps_noise = float(scheduler.sigmas[-1]) > 0
    else:
        keeps_noise = float(getattr(scheduler, "final_alpha_cumprod", 1)) < 1
    rows = {int(timestep) + 1 for timestep in scheduler.timesteps.double().round()} | {int(keeps_noise)}
    if max(rows) > T:
        raise ValueError(
            f"expected fewer steps, got {steps}: with its steps_offset the scheduler begins beyond T = {T}"
        )
    return sorted(rows, reverse=True)


def _known(pipe: Any) -> None:
    """Let in a StableDiffusionPipeline, and what is built like one."""
    lacks = [
        part
        for part in ("encode_prompt", "tokenizer", "text_encoder", "unet", "vae", "scheduler")
        if getattr(pipe, part, None) is None
    ]
    if lacks:
        raise TypeError(
            f"expected a StableDiffusionPipeline, got {described(pipe)} without {lacks[0]}: load_pipeline() gives one"
        )
    config = pipe.unet.config
    more = [name for name in ("addition_embed_type", "time_cond_proj_dim", "class_embed_type") if config.get(name)]
    if more or config.in_channels != pipe.vae.config.latent_channels:
        raise ValueError(
            "expected a pipeline whose network takes latents and a text, as Stable Diffusion 1 and 2 do, "
            f"got one that takes {more[0] if more else f'{config.in_channels} channels'} as well"
        )


def schedule_of(scheduler: Any) -> Schedule:
    """Read the table of a diffusers scheduler and put the row of clean data in front: T + 1 rows.

    Raises ValueError for a scheduler without such a table, for one that predicts what the course does not know, and
    for one that clips, as latents go beyond 1.
    """
    name, config = type(scheduler).__name__, scheduler.config
    alphas, predicts = getattr(scheduler, "alphas_cumprod", None), config.get("prediction_type")
    if alphas is None or predicts not in OBJECTIVES:
        raise ValueError(
            f"expected a scheduler with alphas_cumprod and prediction_type {', '.join(OBJECTIVES)}, "
            f"got {name} with {predicts}: take DDIMScheduler.from_config(pipe.scheduler.config)"
        )
    known = inspect.signature(type(scheduler).__init__).parameters  # config may hold another scheduler's options, too
    clips = [option for option in ("clip_sample", "thresholding") if option in known and config.get(option)]
    if clips:
        raise ValueError(
            f"expected a scheduler that does not clip, as latents go beyond 1, got {name} with {clips[0]}: "
            f"take {name}.from_config(pipe.scheduler.config, {clips[0]}=False)"
        )
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), alphas.detach().to("cpu", torch.float64)])
    return Schedule(name, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _network(pipe: Any, T: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Make of the pipeline's U-Net a network as a Denoiser asks it: net(x_t, t / T, text)."""

    @torch.no_grad()
    def net(x_t: Tensor, time: Tensor, text: Tensor) -> Tensor:
        timestep = (time * T).round().long() - 1  # diffusers counts from 0
        dtype = pipe.unet.dtype
        return pipe.unet(x_t.to(dtype), timestep, encoder_hidden_states=text.to(dtype)).sample.to(x_t.dtype)

    return net


def _texts(name: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"expected {name} as a text or a list of texts, got {described(value)}")
    return list(texts)


def _latents(x_t: Any, device: torch.device) -> None:
    data_batch("x_t", x_t)
    if torch.finfo(x_t.dtype).bits < 32:
        raise TypeError(f"expected latents in float32, got {described(x_t)}: call .float(), steps add up small things")
    if x_t.device.type != device.type:
        raise ValueError(f"expected latents on {device}, where the pipeline is, got {x_t.device}: call .to('{device}')")


def _device_of(pipe: Any) -> torch.device:
    """Say where a pipeline computes: with offloading not where its weights are."""
    return torch.device(getattr(pipe, "_execution_device", pipe.device))


class _Place(NamedTuple):
    """Where a pipeline may be had: how it is called, why it was taken, how to find its folder."""

    name: str
    why: str
    find: Callable[[], Path]
    half: bool  # half precision where the device likes it


def load_pipeline(
    choices: Sequence[Choice] = CHOICES,
    *,
    device: str | torch.device | None = None,
    memory: float | None = None,
    say: Callable[[str], Any] = print,
) -> Any:
    """Load the best StableDiffusionPipeline to be had, ready on its device, and say in one line which and why.

    In this order: the folder that COURSE_SD names; the first of `choices` that the hub or its cache gives; the
    miniature that ships with the course. What is passed over is told in one sentence that says what to do.
    device: by default the GPU if there is one; without one the choices are passed over, unless device="cpu" asks for
    them. memory: GB to reckon with instead of those that are free, to see what a small GPU would get. Weights are
    half precision on CUDA, and always safetensors; a safety checker stays on. A download goes into the hub's cache,
    file by file, whole or not at all, and respects HF_HUB_OFFLINE; a folder of yours is only read.
    Raises PretrainedError, saying what to do, when nothing at all can be loaded.
    """
    lacks = [name for name in ("diffusers", "transformers") if importlib.util.find_spec(name) is None]
    if lacks:
        raise PretrainedError(f"{lacks[0]} is not installed: run `python -m pip install diffusers transformers`")
    if not isinstance(choices, list | tuple) or not all(isinstance(one, Choice) for one in choices):
        raise TypeError(f"expected choices as a list of Choice, such as CHOICES, got {described(choices)}")
    where = _device(device)
    for place in _places(choices, where, memory, unasked=device is None):
        try:
            pipe = _read(place.find(), where, place.half)
        except PretrainedError as error:
            say(f"{place.name} is passed over: {error}.")
            continue
        guard = "without a safety checker" if pipe.safety_checker is None else "its safety checker is on"
        say(f"{place.name}, {str(pipe.dtype).removeprefix('torch.')} on {where.type}, {guard}: {place.why}.")
        return pipe
    raise PretrainedError(
        "no pipeline could be loaded: connect to the network, or set COURSE_SD to a folder that save_pretrained wrote"
    )


def load_folder(folder: str | Path, device: str | torch.device = "cpu") -> Any:
    """Load the StableDiffusionPipeline that save_pretrained wrote to a folder, from its safetensors, in float32.

    Raises PretrainedError, saying what to do, for a folder that is not whole or holds something else.
    """
    return _read(Path(folder), _device(device), half=False)


def _device(asked: str | torch.device | None) -> torch.device:
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    try:
        device = torch.device(next(name for name, is_here in here.items() if is_here) if asked is None else asked)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"expected device cuda, mps or cpu, got {described(asked)}") from error
    if not here.get(device.type):
        found = " or ".join(name for name, is_here in here.items() if is_here)
        raise ValueError(f"expected device {found}, which this machine has, got {device}: leave device out")
    return device


def _places(choices: Sequence[Choice], device: torch.device, memory: float | None, unasked: bool) -> Iterator[_Place]:
    """Yield where to look, best first."""
    half = device.type == "cuda"
    if os.environ.get("COURSE_SD"):  # its path is not told: people share notebooks
        folder = Path(os.environ["COURSE_SD"]).expanduser()
        yield _Place("The folder in COURSE_SD", "COURSE_SD comes first", lambda: folder, half)
    if choices and unasked and device.type == "cpu":
        yield _Place("Stable Diffusion itself", "", _no_gpu, False)
        choices = ()
    for choice in choices:
        why = f"the first of the list to be had (commit {choice.revision[:7]}, licence {choice.licence})"
        yield _Place(choice.id, why, partial(_fetched, choice, device, memory), half)
    yield _Place("The miniature of the course", "it runs anywhere", _miniature, False)


def _no_gpu() -> Path:
    raise PretrainedError('there is no GPU, and a processor is slow: load_pipeline(device="cpu") tries it all the same')


def _miniature() -> Path:
    try:
        return shipped("mini-sd")
    except ValueError as error:
        raise PretrainedError("it does not ship with this copy of the course: fetch the course anew") from error


def _fetched(choice: Choice, device: torch.device, memory: float | None) -> Path:
    """Return the folder of a choice in the hub's cache, after fetching what is not there yet."""
    from huggingface_hub import snapshot_download

    half = device.type == "cuda"
    needs = choice.memory if half else choice.memory + choice.gigabytes
    free = _free_memory(device) if memory is None else real_number("memory", memory, 0)
    if free < needs:
        raise PretrainedError(
            f"it needs {needs:.1f} GB of memory on {device.type} and {free:.1f} GB are free: close what uses it, "
            "or take a larger machine"
        )
    weights = [f"*/{_file(name, 'fp16' if half else None)}" for name in set(WEIGHTS.values())]
    wanted = ["model_index.json", "*/*.json", "tokenizer/*.txt", *weights]  # no pickle among them
    silent = _knock(choice)
    try:  # a whole copy in the cache outlives the model's removal from the hub
        return Path(snapshot_download(choice.id, revision=choice.revision, allow_patterns=wanted,
                                      local_files_only=silent is not None))  # fmt: skip
    except Exception as error:  # whatever a network, a hub and a disk can do
        raise PretrainedError(_not_fetched(silent or error)) from error


def _knock(choice: Choice) -> Exception | None:
    """Ask the hub once whether it has a model, as snapshot_download would go on asking for half a minute."""
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(choice.id, revision=choice.revision, timeout=PATIENCE)
    except Exception as error:
        return error
    return None


def _not_fetched(error: Exception) -> str:
    """Say what an error of huggingface_hub means, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner asks for consent first: agree on its page on the hub, then run `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        return "the hub does not have it, or no more: choose another model"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: free some space, or set HF_HOME to a larger disk"
    unreached = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, TimeoutError, ConnectionError)
    if isinstance(error, unreached) or "TransportError" in {kind.__name__ for kind in type(error).__mro__}:  # httpx's
        return "the hub was not reached and its cache has not all of it: connect to the network, unset HF_HUB_OFFLINE"
    return f"it could not be fetched ({_told(error)}): try again later"


def _free_memory(device: torch.device) -> float:
    """Measure the GB that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / GB
    if device.type == "mps":
        return (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) / GB
    import psutil

    return psutil.virtual_memory().available / GB


def _file(name: str, variant: str | None) -> str:
    return f"{name}.{variant}.safetensors" if variant else f"{name}.safetensors"


def _variant(folder: Path, half: bool) -> str | None:
    """Look whether a pipeline's folder is whole, and return which of its weights to load: "fp16", or None."""
    try:
        parts = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        kind, parts = parts["_class_name"], {part: parts[part] for part in WEIGHTS if part in parts}
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = "it has no model_index.json that can be read: name a folder that save_pretrained wrote"
        raise PretrainedError(told) from error
    if kind != "StableDiffusionPipeline":
        raise PretrainedError(f"it holds a {kind}: the course opens a StableDiffusionPipeline")
    files = [(part, WEIGHTS[part]) for part, (library, *_) in parts.items() if library]
    for variant in ("fp16", None) if half else (None, "fp16"):
        if all(_is_whole(folder / part, name, variant) for part, name in files):
            return variant
    part, name = next((part, name) for part, name in files if not _is_whole(folder / part, name, None))
    if any(path.suffix in (".bin", ".ckpt", ".pt", ".pth") for path in (folder / part).glob("*")):
        raise PretrainedError(
            f"the weights of its {part} are a pickle, which can run anything when it is opened: "
            "take a copy with .safetensors files"
        )
    raise PretrainedError(f"it is only half there, {part}/{_file(name, None)} is missing: fetch or save it again")


def _is_whole(folder: Path, name: str, variant: str | None) -> bool:
    """Whether a part's weights are there, in one file or with every file that an index names."""
    index = folder / f"{name}.safetensors.index{f'.{variant}' if variant else ''}.json"
    if not index.is_file():
        return (folder / _file(name, variant)).is_file()
    shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return all((folder / shard).is_file() for shard in shards)


def _read(folder: Path, device: torch.device, half: bool) -> Any:
    """Load the pipeline of a folder that is whole, from safetensors alone, and bring it to its device."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):  # their bars tell less than the line that follows
        library.utils.logging.disable_progress_bar()
    gc.collect()  # what an attempt before this one has left
    if device.type == "cuda":
        torch.cuda.empty_cache()
    version = tuple(int(part) for part in importlib.metadata.version("diffusers").split(".")[:2])
    dtype = {"dtype" if version >= (0, 40) else "torch_dtype": torch.float16 if half else torch.float32}
    variant = _variant(folder, half)
    try:
        return diffusers.StableDiffusionPipeline.from_pretrained(
            str(folder), variant=variant, use_safetensors=True, local_files_only=True, **dtype
        ).to(device)
    except Exception as error:  # each part has its own errors, and so has each device
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
            do = "close what uses it, or take a larger machine"
            raise PretrainedError(f"it does not fit into the memory of {device.type}: {do}") from error
        raise PretrainedError(f"it could not be read ({_told(error)}): fetch or save it again") from error


def _told(error: Exception) -> str:
    """Return the type and the first line of an error, without a path: people share notebooks."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return type(error).__name__ if "/" in first or "\\" in first else f"{type(error).__name__}: {first[:120]}"
