"""A StableDiffusionPipeline of the real classes and of no size, with random weights: for tests of what drives one.

Its pictures are 16 x 16 noise and its latents 8 x 8; it is made in code, so no network and no file is needed.
"""

import json
import tempfile
from pathlib import Path

import torch

WORDS = ["a", "red", "blue", "ball", "box", "on", "the", "left", "right", "of", "and"]
WIDTH = 8  # of the text embedding


def tokenizer():
    """Return a CLIPTokenizer that knows the letters and a few words, of 12 tokens at most."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:  # letter by letter, from the front
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts[:2] = ["".join(parts[:2])]
    merges = list(dict.fromkeys(merges))
    pieces += dict.fromkeys(merge.replace(" ", "") for merge in merges)
    words = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, rules = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps(words), encoding="utf-8")
        rules.write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
        return CLIPTokenizer(str(vocabulary), str(rules), model_max_length=12)


def text_encoder(words):
    """Return a CLIPTextModel of one layer for `words` tokens; its last token ends the text."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=12, bos_token_id=words - 2, eos_token_id=words - 1,
            pad_token_id=words - 1,
        )
    )  # fmt: skip


def pipeline(prediction_type="epsilon", scheduler="DDIMScheduler", **scheduling):
    """Return the pipeline with Stable Diffusion 1's noise schedule in a scheduler of diffusers, by name."""
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=WIDTH, attention_head_dim=2,
        )  # fmt: skip
        vae = diffusers.AutoencoderKL(
            block_out_channels=(4, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
        words = tokenizer()
        text = text_encoder(len(words))
    options = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": prediction_type,
        "steps_offset": 1, "timestep_spacing": "leading",
        **({"clip_sample": False, "set_alpha_to_one": False} if scheduler == "DDIMScheduler" else {}),
    }  # fmt: skip
    chosen = getattr(diffusers, scheduler)(**options | scheduling)
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=words, unet=unet, scheduler=chosen, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe
