"""Miniature: Stable Diffusion at teaching size, trained on shapes from nothing; `course train mini-sd` makes it.

    picture -> autoencoder -> latents z;    (z_t, t, sentence) -> text encoder and U-Net -> v
Shapes: pictures (B, 3, 32, 32) in [-1, 1], latents (B, 4, 8, 8) of about unit variance, tokens (B, 24).
Does not belong here: drawing the pictures (shapes.py), driving the finished pipeline (pretrained.py).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import string
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import checkpoints, judge, objectives, samplers, shapes
from course_lib.denoiser import Denoiser, denoising_loss
from course_lib.doors import described, steps_or_seconds, whole_number
from course_lib.ema import EMA
from course_lib.muon import Muon
from course_lib.parallel import agreed, is_first_process, share_of
from course_lib.pretrained import Codec, open_pipeline, schedule_of, times
from course_lib.recipes import machine
from course_lib.train import fit
from course_lib.types import Progress, noise_like

__all__ = ["LatentNet", "MiniatureRun", "autoencoder_loss", "draw", "pipeline", "score", "tokenizer"]

TOKENS = 24  # of a sentence, its beginning and its end included; the longest of `shapes` has 17
#: widths of the autoencoder's stages, (width, layers) of the text encoder, widths of the U-Net's stages, by profile
SIZES = {
    "smoke": ((8, 8, 16), (16, 1), (16, 16)),
    "cpu": ((32, 64, 64), (96, 3), (64, 128)),
    "gpu": ((64, 128, 128), (192, 6), (128, 256)),
}
#: Stable Diffusion's own noise schedule; v instead of its eps, which Stable Diffusion 2 predicts
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction",
    "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
}  # fmt: skip
SCALING = 0.18215  # what brings latents to unit variance, Stable Diffusion's own number
SHARE = 4  # one step in so many is the autoencoder's
BATCHES = (32, 64)  # of the autoencoder, of the U-Net
LR = 0.02  # of Muon, at first
KL = 1e-3  # weight of the latents' distance from a standard normal
HIDDEN = 0.1  # share of the sentences that the U-Net does not get to see, as guidance needs it
SCALE, STEPS = 4.0, 30  # guidance and steps of the card's scores
SCORED = {"smoke": 10, "cpu": 250, "gpu": 250}  # sentences of each of its two scores


def tokenizer() -> Any:
    """Make a CLIPTokenizer that knows each word of shapes.VOCABULARY as one token; others it spells in pieces.

    Byte-pair encoding (arXiv:1508.07909, algorithm 1): letters that stand side by side most often in the words become
    one piece, until each word is one.

    >>> tokenizer().tokenize("a blue hat")
    ['a</w>', 'blue</w>', 'h', 'at</w>']
    """
    from transformers import CLIPTokenizer

    words = [[*word[:-1], f"{word[-1]}</w>"] for word in shapes.VOCABULARY]
    letters = [*string.ascii_lowercase, *string.digits, *".,'!?-"]
    pieces, merges = dict.fromkeys([*letters, *(f"{letter}</w>" for letter in letters)]), []
    while any(len(word) > 1 for word in words):
        pairs = [pair for word in words for pair in pairwise(word)]
        merges.append(max(dict.fromkeys(pairs), key=pairs.count))
        words = [_merged(word, *merges[-1]) for word in words]
        pieces["".join(merges[-1])] = None
    known = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, rules = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps(known), encoding="utf-8")
        rules.write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]), encoding="utf-8")
        return CLIPTokenizer(str(vocabulary), str(rules), model_max_length=TOKENS)


def _merged(word: list[str], left: str, right: str) -> list[str]:
    """Join each left with the right that follows it."""
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == (left, right):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def pipeline(profile: str = "cpu", seed: int = 0) -> Any:
    """Make a StableDiffusionPipeline of teaching size, its networks not yet trained; it has no safety checker.

    profile: "smoke", "cpu" (5.5 million weights) or "gpu". Its scheduler is DDIM. No file and no network is needed.
    Raises ValueError for another profile.
    """
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    if not isinstance(profile, str) or profile not in SIZES:
        raise ValueError(f"expected profile {', '.join(SIZES)}, got {described(profile)}")
    stages, (width, layers), widths = SIZES[profile]
    words = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(whole_number("seed", seed, 0, 2**31 - 1))
        vae = diffusers.AutoencoderKL(
            block_out_channels=stages, norm_num_groups=8, latent_channels=4, layers_per_block=1,
            sample_size=shapes.SIDE, down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=SCALING,
        )  # fmt: skip
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                num_attention_heads=4, max_position_embeddings=TOKENS, bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
            )
        )  # fmt: skip
        unet = diffusers.UNet2DConditionModel(
            sample_size=shapes.SIDE // 4, in_channels=4, out_channels=4, block_out_channels=widths, layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
            norm_num_groups=16, cross_attention_dim=width, attention_head_dim=4,
        )  # fmt: skip
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=words, unet=unet,
        scheduler=diffusers.DDIMScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


class LatentNet(nn.Module):
    """The text encoder and the U-Net of a pipeline as one network: net(z_t, t / T, tokens) -> v, like z_t.

    z_t (B, 4, h, w), time (B,) in (0, 1], tokens (B, n) whole numbers. The U-Net reads the sentence by
    cross-attention (arXiv:2112.10752, section 3.3); both learn together, where Stable Diffusion's text encoder came
    trained by CLIP and stayed as it was.
    """

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.text_encoder, self.unet, self.T = pipe.text_encoder, pipe.unet, len(pipe.scheduler.alphas_cumprod)

    def forward(self, z_t: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        text = self.text_encoder(input_ids=tokens)[0]  # (B, n, width)
        timestep = (time * self.T).round().long() - 1  # diffusers counts from 0
        return self.unet(z_t, timestep, encoder_hidden_states=text).sample


def autoencoder_loss(vae: nn.Module, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Compare pictures (B, 3, H, W) with what is left of them after their latents, drawn once; returns a scalar.

    Mean absolute plus mean squared difference, plus a little of the divergence from a standard normal, which keeps the
    latents' numbers in reach (arXiv:1312.6114, eq. 10; so small in arXiv:2112.10752, section 3.1).
    """
    latent = vae.encode(pictures).latent_dist
    noise = noise_like(latent.mean, generator)
    difference = vae.decode(latent.mean + latent.std * noise).sample - pictures
    divergence = (latent.mean.square() + latent.var - 1 - latent.logvar).mean() / 2
    return difference.abs().mean() + difference.square().mean() + KL * divergence


@torch.no_grad()
def draw(pipe: Any, sentences: list[str], *, scale: float = SCALE, steps: int = STEPS, seed: int = 0) -> Tensor:
    """Draw one picture for each sentence, (N, 3, H, W) in [-1, 1], by our DDIM at the pipeline's own times."""
    steps, seed = whole_number("steps", steps, 1), whole_number("seed", seed, 0, 2**31 - 1)
    generator, rows, drawn = torch.Generator().manual_seed(seed), times(pipe, steps), []
    size, device = (pipe.unet.config.in_channels, *[pipe.unet.config.sample_size] * 2), pipe.device
    for first in range(0, len(sentences), 125):
        some = sentences[first : first + 125]
        predict, schedule, codec = open_pipeline(pipe, some, scale=scale)
        noise = torch.randn(len(some), *size, generator=generator).to(device)
        drawn.append(codec.decode(samplers.sample(samplers.ddim_step, predict, schedule, noise, rows)).cpu())
    return torch.cat(drawn)


def score(
    pipe: Any, n: int = 250, part: str = "training", *, scale: float = SCALE, steps: int = STEPS, seed: int = 0
) -> dict[str, float | int]:
    """Let the pipeline draw n whole sentences of `shapes` and the judge read them: the shares of `judge.score`.

    part: "training" for combinations of colour, shape and place that were trained on, or "held out".
    """
    asked = next(shapes.drawings(whole_number("n", n, 1), part=part, brief=0, seed=seed + 2**30))
    return judge.score(draw(pipe, asked.sentences, scale=scale, steps=steps, seed=seed), asked.scenes)


class MiniatureRun:
    """A miniature in training: `for progress in run: ...`, of Progress; break to stop, nothing is lost.

    First the autoencoder learns, in a quarter of the steps, then text encoder and U-Net together, on pictures that
    `shapes` draws as they are needed. steps in all (rounded down to a multiple of 4), or minutes on this machine, for
    which the pace is measured first. profile: "smoke", "cpu" or "gpu", the size of the networks. A stopped run waits in
    folder/run, and a new MiniatureRun of the same folder goes on with it, steps and all; at the end the pipeline lies
    in the folder, as save_pretrained writes it (U-Net and autoencoder in half precision), with its card.
    Raises CheckpointError when the folder holds another run.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        profile: str = "cpu",
        seed: int = 0,
        command: str = "",
    ) -> None:
        steps, seconds = steps_or_seconds(steps, minutes, lowest=SHARE)
        self.folder, self.profile, self.command, self.seconds = Path(folder), profile, command, 0.0
        self.seed = whole_number("seed", seed, 0, 2**31 - 1)
        self.pipe = pipeline(profile, seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pipe.to(self.device)
        self.pipe.vae.to(memory_format=torch.channels_last)
        self.net = LatentNet(self.pipe)
        self.ema = EMA(self.net, 0.995)
        self.done = False
        begin = time.perf_counter()
        paces = self._pace(self._learn_latents, self.pipe.vae), self._pace(self._learn_words, self.net)
        self.step_seconds = agreed((paces[0] + (SHARE - 1) * paces[1]) / SHARE)
        if steps is None:
            steps = max(SHARE, round((seconds - time.perf_counter() + begin) / self.step_seconds))
        self.steps = int(agreed(self._kept_steps() or SHARE * (steps // SHARE)))

    def __iter__(self) -> Iterator[Progress]:
        if self.done:
            return
        first = self.steps // SHARE
        self.pipe.vae.requires_grad_(True)
        for progress in self._learn_latents(self.pipe.vae, first, self.folder / "run" / "autoencoder"):
            self.seconds = progress.seconds
            yield progress._replace(steps=self.steps)
        self._measure_latents()
        before = self.seconds
        for progress in self._learn_words(self.net, self.steps - first, self.folder / "run" / "denoiser", self.ema):
            self.seconds = before + progress.seconds
            yield progress._replace(step=first + progress.step, steps=self.steps, seconds=self.seconds)
        self.net.load_state_dict(self.ema.net.state_dict())
        if is_first_process():
            self._save()
        self.done = True

    def draw(self, n: int) -> Tensor:
        """Draw pictures (n, 3, 32, 32) of the same n sentences as ever, as the networks make them now, quickly.

        While the autoencoder learns: what it makes of pictures of those sentences.
        """
        asked = next(shapes.drawings(n, brief=0, seed=self.seed))
        if self.ema.updates == 0:
            codec = Codec(self.pipe)
            return codec.decode(codec.encode(asked.pictures.to(self.device), torch.Generator().manual_seed(0))).cpu()
        pipe = copy.copy(self.pipe)
        pipe.text_encoder, pipe.unet = self.ema.net.text_encoder, self.ema.net.unet
        return draw(pipe, asked.sentences, steps=10)

    def _learn_latents(
        self, vae: nn.Module, steps: int, folder: Path | None = None, ema: EMA | None = None
    ) -> Iterator[Progress]:
        """Train the autoencoder."""

        def loss(batch: shapes.Drawn, generator: torch.Generator) -> Tensor:
            pictures = batch.pictures[share_of(len(batch.pictures))].to(self.device)
            return autoencoder_loss(vae, pictures.contiguous(memory_format=torch.channels_last), generator)

        batches = shapes.drawings(BATCHES[0], seed=self.seed)
        return self._fit(loss, vae, batches, steps, folder, ema)

    def _learn_words(
        self, net: nn.Module, steps: int, folder: Path | None = None, ema: EMA | None = None
    ) -> Iterator[Progress]:
        """Train text encoder and U-Net on latents of the autoencoder, which stays as it is."""
        schedule, codec = schedule_of(self.pipe.scheduler), Codec(self.pipe)
        denoiser, nothing = Denoiser(net, schedule, objectives.v), self._tokens([""])

        def loss(batch: shapes.Drawn, generator: torch.Generator) -> Tensor:
            pictures = batch.pictures.to(self.device).contiguous(memory_format=torch.channels_last)
            z = codec.encode(pictures, generator).contiguous()
            hidden = torch.rand(len(z), 1, generator=generator) < HIDDEN
            tokens = torch.where(hidden, nothing, self._tokens(batch.sentences))
            return denoising_loss(denoiser, z, tokens.to(self.device), generator=generator)

        return self._fit(loss, net, shapes.drawings(BATCHES[1], seed=self.seed + 1), steps, folder, ema)

    def _fit(
        self, loss: Any, net: nn.Module, batches: shapes.Drawings, steps: int, folder: Path | None, ema: EMA | None
    ) -> Iterator[Progress]:
        weights = dict(net.named_parameters())
        outer = ("embedding", "conv_in", "conv_out", "quant")  # embeddings, first and last layers
        inner = {name for name, w in weights.items() if w.ndim > 1 and not any(part in name for part in outer)}
        muon = Muon([weights[n] for n in weights if n in inner], [weights[n] for n in weights if n not in inner], LR)
        return fit(
            loss, net, batches, steps=steps, lr=_rise_and_fall, optimizer=muon, ema=ema, seed=self.seed,
            precision=torch.bfloat16 if self.device.type == "cuda" else torch.float32, folder=folder,
            name=f"miniature {self.profile}",
        )  # fmt: skip

    def _tokens(self, sentences: list[str]) -> Tensor:
        return self.pipe.tokenizer(sentences, padding="max_length", truncation=True, return_tensors="pt").input_ids

    @torch.no_grad()
    def _measure_latents(self) -> None:
        """Bring each channel of drawn latents to mean 0 and the deviation that Stable Diffusion's have, 1 / 0.18215.

        The change goes into the 1 x 1 convolutions that end the encoder and begin the decoder: pictures stay the same.
        """
        vae = self.pipe.vae.eval().requires_grad_(False)
        pictures = next(shapes.drawings(1000, seed=self.seed)).pictures.to(self.device)
        spread = [vae.encode(some).latent_dist for some in pictures.split(250)]
        middle, var = (
            torch.cat([getattr(s, part) for s in spread]).transpose(0, 1).flatten(1) for part in ("mean", "var")
        )
        mean, factor = (
            middle.mean(1),
            1 / (SCALING * (middle.var(1) + var.mean(1)).sqrt()),
        )  # of latents as they are drawn
        last, first, n = vae.quant_conv, vae.post_quant_conv, len(mean)
        last.weight[:n] *= factor[:, None, None, None]
        last.bias[:n] = (last.bias[:n] - mean) * factor
        last.bias[n:] += 2 * factor.log()  # the other half of the channels is the logarithm of the variance
        first.bias += first.weight[:, :, 0, 0] @ mean
        first.weight /= factor[None, :, None, None]

    def _pace(self, learn: Any, net: nn.Module) -> float:
        """Measure the seconds of a step, on a copy; the first steps of a process are slow and do not count."""
        loop = learn(copy.deepcopy(net), 100)
        deque(islice(loop, 3), maxlen=0)
        begin = time.perf_counter()
        deque(islice(loop, 6), maxlen=0)
        return (time.perf_counter() - begin) / 6

    def _kept_steps(self) -> int | None:
        """How many steps the stopped run in the folder was to have, if there is one."""
        card = self.folder / "run" / "autoencoder"
        return SHARE * checkpoints.load(card)[1].get("steps") if (card / "card.json").is_file() else None

    def _save(self) -> None:
        """Write the pipeline whole, then move it into place, model_index.json last: without it, it is no pipeline."""
        pipe, draft = self.pipe.to("cpu"), self.folder / "run" / "pipeline"
        for part in (pipe.unet, pipe.vae):
            part.half().float()  # the card is about the weights as they are written
        card = self._card()
        shutil.rmtree(draft, ignore_errors=True)
        for part in (pipe.unet, pipe.vae):
            part.half()
        pipe.save_pretrained(draft)
        for part in (pipe.unet, pipe.vae):
            part.float()
        weights = sorted(draft.glob("*/*.safetensors"))
        card["sha256"] = {w.relative_to(draft).as_posix(): hashlib.sha256(w.read_bytes()).hexdigest() for w in weights}
        (draft / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        (self.folder / "model_index.json").unlink(missing_ok=True)
        for path in sorted(draft.iterdir(), key=lambda path: path.name == "model_index.json"):
            place = self.folder / path.name
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(path, place)
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def _card(self) -> dict[str, Any]:
        parts = {name: getattr(self.pipe, name) for name in ("text_encoder", "unet", "vae")}
        return {
            "kind": "miniature of Stable Diffusion",
            "data": "shapes, drawn by the course; one combination of colour, shape and place in seven is held out",
            "weights_in_net": {name: sum(w.numel() for w in net.parameters()) for name, net in parts.items()},
            "steps": self.steps,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "machine": machine(),
            "torch": torch.__version__.split("+")[0],
            "command": f"{self.command} --steps {self.steps}".strip(),
            "metrics": {"sampler": "ddim", "steps": STEPS, "scale": SCALE}
            | {part: score(self.pipe, SCORED[self.profile], part) for part in ("training", "held out")},
        }


def _rise_and_fall(done: float) -> float:
    """Let the rate rise over the first 3 % of the steps, then fall in a straight line towards 0."""
    return LR * min(1.0, (done + 1e-3) / 0.03) * (1 - done)
