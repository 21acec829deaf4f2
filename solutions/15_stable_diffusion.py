# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["promise"]
# # 15. Stable Diffusion, opened up
#
# <!-- colab -->
#
# **And the real thing?** Stable Diffusion is a text encoder, a U-Net, an autoencoder and a sampler, and by now you
# know what each of them does. Here you take the pipeline apart, put it together again out of your own functions, and
# measure what is said about it: what guidance buys, which scheduler is best, what fits into 4 GB.
#
# On a GPU the lesson draws with the real weights. Anywhere else it draws with a *miniature*: the same classes, the
# same folder format, trained by the course on pictures of 32 x 32 pixels that show one or two coloured shapes.
# Because a program, the *judge*, can read such pictures back, whatever needs counting is counted on the miniature,
# everywhere.
#
# After this lesson you can
#
# - say what happens between a sentence and a picture, and write the lines in which it happens;
# - drive a diffusers pipeline with your own sampler, and tell its clock from yours;
# - write guidance, image-to-image and inpainting, and say what each of their numbers does;
# - reckon and measure memory, and spot what is wrong in code that you find on the web.
#
# **Prerequisites:** lessons 01 (the jump), 02 (the best guess) and 05 (samplers); lesson 03 for the U-Net. The torch
# calls that you need for an exercise are named in it.
#
# **Time:** three hours of yours, in two sittings: sections 1 to 5, then 6 to 8 and 10. Sections 9 and 11, on memory
# and on what comes with the weights, can be read on another day; run their cells all the same, as later ones use
# them. The computing takes about 3 minutes on two CPU cores; plan as many with a GPU, where it was not measured yet.
# **Download:** nothing without a GPU; with one, 2.7 GB of real weights, once.

# %% tags=["setup"]
# <setup>

# %% [markdown]
# ## 1. From a sentence to a picture
#
# `load_pipeline` looks for the best pipeline to be had and says in a line which one it took, and why. Where there is
# no GPU, the list of real weights, `CHOICES`, is left out, and the miniature answers.

# %%
import copy
import tempfile
import time
from itertools import pairwise

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from course_lib import data, judge, shapes, viz
from course_lib.checks import check
from course_lib.page import predict, show
from course_lib.pretrained import CHOICES, load_folder, load_pipeline, open_pipeline, times
from course_lib.profile import budget, profile
from course_lib.samplers import ddim_step, dpm_step, sample, sample_steps

# %%
pipe = load_pipeline(CHOICES if profile() == "gpu" else ())
pipe.set_progress_bar_config(disable=True)
small = pipe.unet.config.sample_size == 8  # the miniature's latents are 8 x 8, those of Stable Diffusion 64 x 64

# %% [markdown]
# A pipeline draws what it was trained on. So the prompts depend on which one it is; change them as you like. The
# miniature knows a few dozen words (`shapes.VOCABULARY`).

# %%
if small:
    PROMPTS = [
        "a small red circle on the left", "a large blue star in the centre",
        "a large green ring above a large yellow square", "a small white cross at the bottom right",
    ]  # fmt: skip
else:
    PROMPTS = [
        "a red bicycle leaning against a brick wall, photograph", "a lighthouse at dawn, oil painting",
        "a green teapot on a wooden table, photograph", "a fox in the snow, woodcut",
    ]  # fmt: skip
MINI_SCALE, STEPS = 2.0, budget(smoke=4, cpu=20, gpu=30)  # how strongly to guide (section 5), in how many steps
SCALE = MINI_SCALE if small else 7.5  # what most people take for the real one

# %% [markdown]
# And this is all that it takes to draw one. `generator` fixes the noise; `guidance_scale` waits for section 5.


# %%
def seed(number):
    return torch.Generator().manual_seed(number)  # on the CPU, so that a seed means the same on every machine


def draw(prompt, number=0):
    """Draw one picture (1, 3, H, W) in [-1, 1] the way everybody does it."""
    options = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "generator": seed(number)}
    return 2 * pipe(prompt, output_type="pt", **options).images.float().cpu() - 1


pictures = torch.cat([draw(prompt, number) for number, prompt in enumerate(PROMPTS)])

# %% tags=["picture"]
figure = viz.picture_rows({"": pictures}, size=1.7)
show(figure, "Four pictures in a row, drawn for: " + "; ".join(PROMPTS) + ".")

# %% [markdown]
# **What you saw.** A sentence goes in, a picture comes out. What is in between?

# %%
for name in ("text_encoder", "unet", "vae", "safety_checker"):
    part = getattr(pipe, name, None)
    if part is not None:
        print(f"{name:14s} {type(part).__name__:30s} {sum(p.numel() for p in part.parameters()):13,} weights")
print("without any   ", type(pipe.tokenizer).__name__, "and", type(pipe.scheduler).__name__)

# %% [markdown]
# Three networks from two trainings: the autoencoder (*vae*) first, then the U-Net on its latents. The text encoder of
# the real one came ready trained from CLIP, a pair of networks that learnt to match pictures and captions; the
# miniature's learned together with its U-Net. Real weights bring a fourth, the safety checker; section 11 says what
# it does. We open them in the order in which your sentence meets them.
#
# ## 2. Words become rows of numbers
#
# The tokenizer cuts a text into pieces that it knows and looks up the number of each. The text encoder always reads
# the same number of tokens, 77 in Stable Diffusion. So a prompt is framed by a start and an end token, the rest is
# filled up with end tokens, and what is too long is cut off.
#
# ### Exercise 15.1 - a row of tokens (10 minutes, difficulty 1 of 5)
#
# Write `token_row`. It gets `words`, a list of whole numbers (it may be empty, or too long), and the whole numbers
# `length` (at least 2), `start` and `end`. It returns a tensor of `length` whole numbers: `start`, then as many of
# the words as leave room for one `end`, and `end` in every place behind them.
#
# Useful: `[1, 2] + [3] * 4` is `[1, 2, 3, 3, 3, 3]`; `words[:5]` are the first five at most; `torch.tensor(a_list)`.


# %% tags=["exercise"]
def token_row(words, length, start, end):
    """Frame the numbers of a prompt's words, and fill up with the end token."""
    # <solution>
    row = [start, *words[: length - 2], end]
    return torch.tensor(row + [end] * (length - len(row)))
    # </solution>


# %% tags=["check"]
token_row = check("15.1", token_row)

# %% [markdown]
# With your function we tokenize by hand, and compare with what the pipeline's tokenizer does by itself. The third
# text has a word that nobody has ever seen.


# %%
def tokenize(text, of=None):
    """Turn a text into its row of tokens (length,), for a pipeline."""
    tokenizer = (of or pipe).tokenizer
    pieces = [piece for word in text.split() for piece in tokenizer.tokenize(word)]
    words = tokenizer.convert_tokens_to_ids(pieces)
    return token_row(words, tokenizer.model_max_length, tokenizer.bos_token_id, tokenizer.eos_token_id)


for text in (PROMPTS[0], "red " * 100, "a red blorp"):
    row = tokenize(text)
    theirs = pipe.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]
    print(f"{text[:30]!r:34s} {row[:8].tolist()} ... {row[-1]}, as theirs: {bool((row == theirs).all())}")
print("pieces of the unknown word:", pipe.tokenizer.tokenize("blorp"))

# %% [markdown]
# **What you saw.** An unknown word is no error: it falls apart into smaller pieces, down to letters, and the network
# gets numbers that mean little to it. Nor is a long text an error: what is beyond the end is gone, and `pipe` says so
# in a log line only. (A small trap: versions 2 of Stable Diffusion fill up with another token, number 0. A pipeline
# brings its own tokenizer; never mix them.)
#
# The text encoder turns the row of tokens into the *text embedding*: a vector for every place, (1, tokens, width).
# This is all that the U-Net will ever see of your words, and it sees it by *cross-attention*: in lesson 03 every place
# of the picture asked all places of the picture; here it asks the rows of the embedding as well. Let us change one
# word.


# %%
def embed(texts, of=None):
    """Turn N texts into their embeddings (N, tokens, width), by the text encoder of a pipeline."""
    of = of or pipe
    rows = torch.stack([tokenize(text, of) for text in texts])
    with torch.no_grad():
        return of.text_encoder(rows.to(of.device))[0]


sentences = PROMPTS[0], PROMPTS[0].replace("red", "blue")
print(*sentences, sep="\n")

# %% [markdown]
# **Before you run it.** Red became blue. Which rows of the embedding change?

# %% tags=["prediction"]
changed = predict(
    "15.a",
    "with one word exchanged, these rows change",
    options=["only that word's", "that word's and all after it", "all of them"],
)

# %% tags=["picture"]
one, other = embed(sentences)
far = (one - other).float().norm(dim=-1).cpu().numpy()
differs = np.flatnonzero(far > 0.01 * far.max())
figure = viz.curves({"red against blue": (np.arange(len(far)), far)}, "place in the row of tokens",
                    "distance of the two vectors", markers=True)  # fmt: skip
show(
    figure,
    f"Distance between two embeddings against the place: {len(differs)} of {len(far)} places differ, from place "
    f"{differs[0]} to {differs[-1]}, most at {far.argmax()}.",
)

# %%
print(f"first place that differs: {differs[0]}, the token {pipe.tokenizer.tokenize(sentences[0])[differs[0] - 1]!r}")
print(f"places that differ: {len(differs)} of {len(far)}")
changed.compare(changed.options[0 if len(differs) == 1 else 1 if differs[0] > 0 else 2])

# %% [markdown]
# **What you saw.** Each place may look only at places before it (the encoder is *causal*), so nothing changes before
# the word, and everything after it does, the filling included. (Peaks far behind the word are no words: there stands
# the filling, one and the same token.) Hence a claim to put on trial: *"each word of the prompt steers by its own
# vector."* The judge can tell. We draw with the embedding of one sentence, in which some rows are taken from a
# sentence with another colour.
#
# For everything that is counted we take the miniature, `mini`, whichever pipeline you have. Where nothing is taken
# apart, the course's own `open_pipeline` does the drawing: it makes of a pipeline what the samplers of lesson 05 want,
# the network as a Predictor, its Schedule, and a codec, which goes from latents to pictures and back; `times` lists
# the rows that the pipeline visits. `cond` is an embedding that takes the prompt's place.

# %%
mini = pipe if small else load_folder(data.shipped("mini-sd"), pipe.device)
mini.set_progress_bar_config(disable=True)


def noise(n, number=0, of=None):
    """Draw latents of pure noise (n, 4, h, w)."""
    of = of or mini
    side, channels = of.unet.config.sample_size, of.unet.config.in_channels
    return torch.randn(n, channels, side, side, generator=seed(number)).to(of.device)


# %%
N, place = budget(smoke=4, cpu=32, gpu=96), 3  # place 3: start, a, small, COLOUR
names = list(shapes.COLOURS)
texts = [[f"a small {names[(k + move) % 8]} {shapes.SHAPES[k % 6]} in the centre" for k in range(N)] for move in (0, 3)]
one, other = (embed(said, mini) for said in texts)
mixed = {"nothing": one, "the colour's row": one.clone(), "all rows behind it": one.clone(), "both": other}
mixed["the colour's row"][:, place] = other[:, place]
mixed["all rows behind it"][:, place + 1 :] = other[:, place + 1 :]

# %%
model, schedule, codec = open_pipeline(mini, [""] * N, scale=MINI_SCALE)  # cond decides what is drawn
for name, cond in mixed.items():
    drawn = codec.decode(sample(ddim_step, model, schedule, noise(N), times(mini, STEPS), cond))
    shares = [judge.score(drawn, [shapes.parse(text) for text in said])["colour"] for said in texts]
    print(f"taken from the other sentence: {name:18s} old colour {shares[0]:4.0%}, new colour {shares[1]:4.0%}")
print(f"N = {N} pictures each")

# %% [markdown]
# **What you saw.** For this network and these sentences the claim holds: the word's own row decides the colour, and
# the rows behind it, which have read the word as well, decide nothing. The curve above could have fooled us. That a
# vector *holds* something does not mean that it is *used*; only an exchange can tell. (The miniature's text encoder
# learned together with its U-Net. Stable Diffusion's did not, so there it is worth trying again.)
#
# ## 3. Latents: a small picture for the network, a large one for you
#
# The U-Net never sees a pixel. It works on *latents*, which the autoencoder makes of pictures and turns back into
# pictures. They are smaller (in Stable Diffusion an eighth of the height and the width, with four channels), and that
# is why one computer can draw at all.

# %%
model, schedule, codec = open_pipeline(pipe, PROMPTS[0], scale=SCALE)
z = codec.encode(pictures[:1].to(pipe.device), seed(0))
print(f"picture {tuple(pictures[:1].shape)}: {pictures[0].numel():,} numbers")
print(f"latents {tuple(z.shape)}: {z[0].numel():,} numbers, {pictures[0].numel() / z[0].numel():.0f} times fewer")
print(f"scaling factor {pipe.vae.config.scaling_factor}, deviation of these latents {z.std():.2f}")

# %% tags=["picture"]
channels = {"four channels": z[0].cpu() / z.abs().max().cpu()}
show(
    viz.picture_rows(channels, size=1.5), "The four channels of the latents as grey pictures: coarse maps of the scene."
)

# %% [markdown]
# **What you saw.** The channels are coarse maps of the picture: you can find its parts in them, at the same places.
# No channel is red or green; which mixture stands for what, the autoencoder made up while it was trained. And one
# channel of the miniature shows next to nothing but noise: three were enough for such pictures, and its loss rewards
# an autoencoder that leaves a channel empty.
#
# The raw numbers of an autoencoder can have any size. A diffusion model wants data of variance about 1, or its
# schedule means another amount of noise than it says. So a factor, for Stable Diffusion measured once, stands in the
# configuration (the miniature's autoencoder was brought to the same factor after its training, channel by channel;
# so its empty channel is as strong as the others):
#
# $$\text{latents} = \text{factor} \cdot \text{encoder(picture)}, \qquad
#   \text{picture} = \text{decoder}(\text{latents} / \text{factor}) \qquad
#   \text{(latent diffusion, appendix G)}$$
#
# ### Exercise 15.2 - back to pixels (10 minutes, difficulty 2 of 5)
#
# Write `decode_latents`. It gets `vae`, an autoencoder of diffusers, and `latents` of shape `(B, 4, h, w)`, and
# returns pictures `(B, 3, H, W)`, cut off at -1 and 1.
#
# Useful: `vae.config.scaling_factor` is the factor; `vae.decode(z)` returns an object whose `.sample` is the
# pictures, which may reach a little beyond -1 and 1; `x.clamp(low, high)`.


# %% tags=["exercise"]
def decode_latents(vae, latents):
    """Turn latents (B, 4, h, w) of about unit variance into pictures (B, 3, H, W) in [-1, 1]."""
    # <solution>
    return vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
    # </solution>


# %% tags=["check"]
decode_latents = check("15.2", decode_latents)

# %% tags=["picture"]
factor, tries = pipe.vae.config.scaling_factor, {"as it was": pictures[:1]}
with torch.no_grad():
    for name, wrong in {"yours": 1, "factor forgotten": factor, "multiplied": factor**2}.items():
        # the safety checker of real weights saw this picture when it was drawn
        tries[name] = decode_latents(pipe.vae, (z * wrong).to(pipe.vae.dtype)).float().cpu()
figure = viz.picture_rows({"": torch.cat(list(tries.values()))}, columns=list(tries), size=1.7)
off = [f"{name}: {(x - pictures[:1]).abs().mean():.2f}" for name, x in tries.items()]
show(figure, "A picture, and three decoded from its latents. Mean difference of a pixel from it: " + ", ".join(off))

# %% [markdown]
# **What you saw.** A forgotten factor raises no error. It makes a picture, and only the eye, or a check, knows that
# it is wrong. How much does the way through the latents cost when all is right? Real drawings, there and back:

# %%
drawings = next(shapes.drawings(budget(smoke=20, cpu=300, gpu=300), brief=0, seed=15))
_, _, mini_codec = open_pipeline(mini, "")
back = mini_codec.decode(mini_codec.encode(drawings.pictures.to(mini.device), seed(0))).cpu()
for name, seen in {"drawings": drawings.pictures, "through the autoencoder": back}.items():
    found = judge.score(seen, drawings.scenes)
    print(f"{name:24s} everything right {found['all']:.1%} (N = {found['n']})")

# %% [markdown]
# What the autoencoder loses, no sampler brings back: this is the ceiling for every score that follows.
#
# ## 4. Every step, and two clocks
#
# Now the samplers of lesson 05 shall walk. They need a Schedule whose row 0 is clean data, and a list of rows that
# ends in 0. diffusers keeps both in its own way: `scheduler.alphas_cumprod` has T entries and begins with the first
# *noisy* level, and its timesteps count these from 0. Its timestep 999 is our row 1000.
#
# ### Exercise 15.3 - two clocks (10 minutes, difficulty 2 of 5)
#
# Write `our_clock`. It gets `alphas_cumprod`, a tensor of shape `(T,)`, and `timesteps`, a falling list of whole
# numbers in 0..T-1. It returns a pair: the table alpha_bar of shape `(T+1,)`, in the dtype of alphas_cumprod, whose
# row 0 is clean data; and the list of the same levels as rows of that table, with a last step to clean data.
#
# Useful: `torch.cat([a, b])` joins two tensors; `torch.ones(1, dtype=x.dtype)`; what is alpha_bar of clean data?


# %% tags=["exercise"]
def our_clock(alphas_cumprod, timesteps):
    """Turn diffusers' table and timesteps into a table with a clean row 0 and rows that fall to 0."""
    # <solution>
    alpha_bar = torch.cat([torch.ones(1, dtype=alphas_cumprod.dtype), alphas_cumprod])
    return alpha_bar, [timestep + 1 for timestep in timesteps] + [0]
    # </solution>


# %% tags=["check"]
our_clock = check("15.3", our_clock)

# %%
import diffusers

scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
scheduler.set_timesteps(5)
timesteps = scheduler.timesteps.tolist()
alpha_bar, rows = our_clock(scheduler.alphas_cumprod, timesteps)
print(f"5 timesteps of diffusers: {timesteps}, your rows: {rows}, times(pipe, 5): {times(pipe, 5)}")
print("largest difference from the course's table:", float((alpha_bar - schedule.alpha_bar).abs().max()))
print(f"the first of 5 steps is told that {1 - alpha_bar[rows[0]]:.0%} of the variance is noise; it gets pure noise")

# %% [markdown]
# **What you saw.** Two peculiarities, which are Stable Diffusion's own. With `timestep_spacing="leading"` the walk
# does not begin at T: with few steps the network is told of less noise than it gets. And `set_alpha_to_one=False`
# stops one row before clean data, which is why `times` may end in 1 where your list ends in 0. Neither is a law of
# nature; Lin and others (arXiv:2305.08891) call the first a flaw, and newer models mend it.
#
# Now every step. The three panels show the latents as they are, the network's guess of the final picture, and the
# noise that it sees, each of them sent through the decoder.
#
# **Before you scrub.** What is settled first in the guess?

# %% tags=["prediction"]
settles = predict(
    "15.b", "in the guess of the final picture, this is settled first", options=["the place", "the colour", "the shape"]
)

# %%
from course_lib.widgets import StepPlayer

few = PROMPTS if small else PROMPTS[:1]
model, schedule, codec = open_pipeline(pipe, few, scale=SCALE)
steps = list(sample_steps(ddim_step, model, schedule, noise(len(few), 5, pipe), times(pipe, STEPS)))
StepPlayer(
    steps, codec=codec, rates=schedule, title="Every step, decoded",
    alt="Noise becomes pictures step by step; beside it the guess of the final picture, and the noise seen in it.",
)  # fmt: skip

# %% [markdown]
# **Find it.** Scrub slowly through the first third and watch the middle panel, the guess. At which t can you first
# name the place, the colour, the shape of each thing? Is there a picture that changes its mind? Write down three
# numbers, then let the judge count: a property is settled at t if from there on the guess shows what the end shows.

# %%
M = budget(smoke=6, cpu=48, gpu=200)
open_texts = [f"a small {names[k % 8]} {shapes.SHAPES[k % 6]}" for k in range(M)]  # none of them says where
model, schedule, codec = open_pipeline(mini, open_texts, scale=MINI_SCALE)
walk = list(sample_steps(ddim_step, model, schedule, noise(M, 1), times(mini, STEPS)))
guesses = [codec.decode(x0).cpu() for x0 in [step.prediction.x0 for step in walk] + [walk[-1].x_next]]


# %%
def blot(x):
    """Find what differs from the ground: its middle (N, 2) in pixels, x and y, and its colour (N, 3) in [-1, 1]."""
    away = x - x.flatten(2).median(2).values[:, :, None, None]  # the ground is what most pixels are
    weight = away.square().sum(1) + 1e-9
    weight = weight / weight.sum((1, 2), keepdim=True)  # (N, H, W), adds up to 1: where the thing is
    pixel = torch.arange(x.shape[-1]) + 0.5
    middle = torch.stack([weight.sum(1) @ pixel, weight.sum(2) @ pixel], dim=1)
    return middle, (x * weight[:, None]).sum((2, 3))


# %%
def nearest(x, known):
    """Which of the known points each row of x is nearest to."""
    known = torch.tensor(list(known), dtype=torch.float32)
    return torch.cdist(x, known).argmin(1)  # cdist: the distance of every row from every point


def shape_of(scene):
    return scene.things[0].shape if len(scene.things) == 1 else None


seen = {
    "the place": [nearest(blot(x)[0], shapes.PLACES.values()) for x in guesses],
    "the colour": [nearest(127.5 * (blot(x)[1] + 1), shapes.COLOURS.values()) for x in guesses],
    "the shape": [[shape_of(scene) for scene in judge.judge(x)] for x in guesses],
}

# %%
same = {
    name: np.array([[a == b for a, b in zip(row, rows[-1], strict=True)] for row in rows])
    for name, rows in seen.items()
}  # (steps + 1, M), True where the guess shows what the end shows
settled = {}
for name, table in same.items():
    lasting = np.cumprod(table[::-1], axis=0)[::-1]  # from the end backwards, 1 as long as it stays True
    settled[name] = lasting.mean(axis=1)  # the share of the M pictures

# %% tags=["picture"]
rows = times(mini, STEPS)
lines = {name: (rows, share) for name, share in settled.items()}
figure = viz.curves(lines, "t (left: clean, right: noise)", f"share settled, of {M} pictures", markers=True)
told = [f"{name} {share[0]:.0%} at t = {rows[0]} and 100% from t = {rows[share.argmax()]}" for name, share in
        settled.items()]  # fmt: skip
show(figure, "Share of pictures in which a property is settled, against t: " + "; ".join(told) + ".")

# %%
mean = {name: float(-(share[:-1] * np.diff(rows)).sum()) for name, share in settled.items()}
print("settled on average since", ", ".join(f"t = {t:.0f}: {name}" for name, t in mean.items()))
for k in (0, STEPS // 3):
    print(f"after {k} of {STEPS} steps, t = {rows[k]}:", ", ".join(f"{x} {settled[x][k]:.0%}" for x in settled))
settles.compare(max(mean, key=mean.get))

# %% [markdown]
# **What you saw.** No sentence said where, and yet the place is settled first: the very first guess, a blot, is right
# about it in many pictures. The colour comes a little later, though the sentence names it; the shape comes last, for
# it needs edges, and edges are fine detail, which noise hides longest. In the last steps nothing changes that the
# judge could name. (Lesson 05 found the same order in digits: the rough first, the fine last.) How far a preview after
# a third of the steps can be trusted, the last line says.
#
# ## 5. Guidance: insist
#
# Left alone, the network mixes what you asked for with what is common. *Classifier-free guidance* asks it twice at
# every step, once with your text and once with the empty one (or with a *negative prompt*), and goes on from the
# answer without, in the direction of the answer with, further than it leads:
#
# $$\text{out} = \text{out}_{null} + scale \cdot (\text{out}_{text} - \text{out}_{null})
#   \qquad \text{(classifier-free guidance, eq. 6)}$$
#
# Scale 0 ignores your text, scale 1 is the plain answer to it. (The paper counts from there: its w is scale - 1.)
#
# ### Exercise 15.4 - ask twice (15 minutes, difficulty 3 of 5)
#
# Write `guided_output`. It gets a `unet` of diffusers, noisy latents `x_t` of shape `(B, 4, h, w)`, a `timestep` (a
# number), two embeddings `null` and `text`, each `(B, tokens, width)`, and a number `scale`. It returns the guided
# output, like `x_t`.
#
# Useful: `unet(x, timestep, encoder_hidden_states=embedding).sample` asks the network. One call with a batch of 2B is
# faster than two: `torch.cat([a, b])` joins along the first axis, and `both.chunk(2)` cuts in two halves again.


# %% tags=["exercise"]
def guided_output(unet, x_t, timestep, null, text, scale):
    """Ask with and without the text, and go further the way from one to the other (arXiv:2207.12598, eq. 6)."""
    # <solution>
    both = unet(torch.cat([x_t, x_t]), timestep, encoder_hidden_states=torch.cat([null, text])).sample
    without, told = both.chunk(2)
    return without + scale * (told - without)
    # </solution>


# %% tags=["check"]
guided_output = check("15.4", guided_output)

# %% [markdown]
# And that is the last part. Here is the whole of Stable Diffusion, put together out of your own functions: tokens
# (15.1, in `embed`), the clock (15.3), guidance (15.4), DDIM's step of lesson 05 written out, and at the end the
# decoder (15.2). The real network answers eps, the miniature's v, two rows of lesson 02: one line for each. Does it
# draw what the pipeline draws?


# %%
def clock_of(of):
    """Return a pipeline's table and the rows of STEPS steps, by your clock."""
    scheduler = diffusers.DDIMScheduler.from_config(of.scheduler.config)
    scheduler.set_timesteps(STEPS)
    alpha_bar, rows = our_clock(scheduler.alphas_cumprod, scheduler.timesteps.tolist())
    return alpha_bar, [*rows[:-1], 1]  # 1, not 0: these pipelines stop one row before clean data (section 4)


def picture_and_noise(of, out, x, a, s):
    """Guess x0 and eps from what the network answers (lesson 02)."""
    if of.scheduler.config.prediction_type == "v_prediction":
        return a * x - s * out, s * x + a * out
    return (x - s * out) / a, out


# %%
@torch.no_grad()
def paint(prompts, scale, x, negative="", of=None):
    """Draw latents for prompts, from pure noise x, a prompt each."""
    of = of or mini
    null, text = embed([negative] * len(prompts), of), embed(prompts, of)
    alpha_bar, rows = clock_of(of)
    for t, t_next in pairwise(rows):
        out = guided_output(of.unet, x.to(of.unet.dtype), t - 1, null, text, scale).float()
        x0, eps = picture_and_noise(of, out, x, alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt())
        x = alpha_bar[t_next].sqrt() * x0 + (1 - alpha_bar[t_next]).sqrt() * eps
    return x


# %%
asked = {"num_inference_steps": STEPS, "guidance_scale": MINI_SCALE}
said = drawings.sentences[:4]
x = paint(said, MINI_SCALE, noise(4))
with torch.no_grad():
    yours = decode_latents(mini.vae, x)
theirs = mini(said, latents=noise(4), output_type="latent", **asked).images
print(f"largest difference from the pipeline: latents {float((x - theirs).abs().max()):.1e}", end=", ")
theirs = 2 * mini(said, latents=noise(4), output_type="pt", **asked).images - 1
print(f"pictures {float((yours - theirs).abs().max()):.1e}")

# %% [markdown]
# **What you saw.** No difference, but perhaps in the last digits of the numbers. What is missing in these lines is the
# safety checker of the real weights: who takes a pipeline apart loses it without a word. `codec.decode` still asks it,
# so from here on it decodes whatever you look at.
#
# Now turn the knob. **Before you run it.** *"The higher the scale, the closer to the prompt"* stands in many
# tutorials. Scale 1 is the plain answer. From which scale on does the judge find fewer pictures right than there?

# %% tags=["prediction"]
fewer = predict("15.c", "fewer pictures are right from scale", options=[2, 4, 8, 16, "none of these"])

# %%
scales = (0, 1, 2, 4, 8, 16)
asked = next(shapes.drawings(budget(smoke=4, cpu=64, gpu=500), brief=0, seed=16))
start, latents, found = noise(len(asked.scenes), 2), {}, {}
for scale in scales:
    latents[scale] = paint(asked.sentences, scale, start)
    found[scale] = judge.score(mini_codec.decode(latents[scale]), asked.scenes)

# %% tags=["picture"]
lines = {name: (scales, [found[scale][name] for scale in scales]) for name in ("all", "colour", "shape", "place")}
figure = viz.curves(lines, "guidance scale", f"share of {len(start)} pictures", markers=True)
told = ", ".join(f"{found[scale]['all']:.0%} at {scale}" for scale in scales)
show(figure, f"Shares of right pictures against the scale, for colour, shape, place and all. All right: {told}.")

# %%
for scale in scales:
    row = found[scale]
    print(f"scale {scale:2d}: all right {row['all']:4.0%}, as many things as asked for {row['count']:4.0%}, "
          f"deviation of the latents {latents[scale].std():.2f}")  # fmt: skip
worse = [scale for scale in scales[2:] if found[scale]["all"] < found[1]["all"] - 0.02]  # by more than 2 in 100
fewer.compare(worse[0] if worse else "none of these")

# %%
row = [paint(PROMPTS[:1], scale, noise(1, 5, pipe), of=pipe) for scale in scales]
row = open_pipeline(pipe, "")[2].decode(torch.cat(row)).cpu()


def read_back(pictures):
    """What the judge sees in pictures, of the miniature only, in words."""
    scenes = judge.judge(pictures.cpu()) if pictures.shape[-1] == shapes.SIDE else []
    said = (" and ".join(f"{x.colour} {x.shape}" for x in scene.things) or "nothing" for scene in scenes)
    return ", ".join(said).replace(f"{judge.UNKNOWN} {judge.UNKNOWN}", "something else")


# %% tags=["picture"]
figure = viz.picture_rows({"": row}, columns=[f"scale {scale}" for scale in scales], size=1.2)
show(figure, f"Six pictures from one noise for '{PROMPTS[0]}', by scale. Read back: {read_back(row) or 'nothing'}.")

# %% [markdown]
# **What you saw.** The claim is false. The plain answer at scale 1 is right already: these sentences say all that is in
# their pictures, the miniature has learnt them, and the judge has nothing left to reward. Far up, guidance takes away:
# colours tip over, and shapes come apart. The deviation of the latents grows with the scale, and it is tempting to say
# why: *"the decoder gets numbers that are too large."* Two controls: make the latents of scale 16 as quiet as those of
# scale 1, and those of scale 1 as loud as those of scale 16.

# %%
ratio = latents[16].std() / latents[1].std()
quiet, loud = latents[16] / ratio, latents[1] * ratio
controls = {"scale 16": latents[16], "scale 16, made quiet": quiet, "scale 1, made loud": loud}
for name, x in controls.items():
    right = judge.score(mini_codec.decode(x), asked.scenes)["all"]
    print(f"{name:22s} deviation {x.std():.2f}, all right {right:4.0%} (N = {len(x)})")
single = mini_codec.encode(drawings.pictures.to(mini.device), seed(0)).std((1, 2, 3))
print(f"real drawings, one at a time: deviation {single.min():.2f} to {single.max():.2f}")

# %% [markdown]
# **What you saw.** The quiet ones are no better, and the loud ones hardly worse. What spoils the pictures is what the
# latents say, not how loudly. A number that grows along with the damage need not be its cause.
#
# Where sentences leave something open, guidance can do more, and cost more. The next ones do not say where: how many
# are right, and how freely is the place chosen?

# %%
K = budget(smoke=4, cpu=48, gpu=200)
brief = [f"a small {names[k % 8]} {shapes.SHAPES[k % 6]}" for k in range(K)]
wanted, free = [shapes.parse(text) for text in brief], {}
for scale in (1, 2, 4, 8):
    free[scale] = mini_codec.decode(paint(brief, scale, noise(K, 3))).cpu()
    middle, right = blot(free[scale])[0], judge.score(free[scale], wanted)["all"]
    usual = nearest(middle, shapes.PLACES.values()).bincount().max() / K
    print(f"scale {scale}: all right {right:4.0%}, middles spread over {middle.std(0).norm():.1f} pixels, "
          f"in the most usual of the nine places {usual:.0%} (N = {K})")  # fmt: skip

# %% [markdown]
# **What you saw.** With the place left open, the plain answer at scale 1 is no longer right every time: some pictures
# show two things. A little guidance mends most of that, and more of it takes away again. The price should be variety,
# but the last two columns show nothing clear of it here. The paper measured the trade on photographs
# (arXiv:2207.12598, section 4), where it is larger on both sides: clearer pictures, and fewer kinds of them. Which
# scale is best belongs to a model, its data, and what your sentences leave open.
#
# ### What a negative prompt is
#
# A negative prompt takes the place of the empty text: the answer is led away from it. **A claim on trial:** *"A
# negative prompt tells the model what not to draw."* We draw the same sentences from the same noise once more, led
# away from a small red circle at the top.

# %%
few, avoid = brief[:8], "a small red circle at the top"
one, other = (paint(few, 1, noise(len(few), 3), negative=negative) for negative in ("", avoid))
print(f"scale 1, with and without: largest difference of the latents {float((one - other).abs().max()):.1e}")
for scale in (2, 4):
    led = mini_codec.decode(paint(brief, scale, noise(K, 3), negative=avoid)).cpu()
    for name, x in {"without": free[scale], "with": led}.items():
        high = (blot(x)[0][:, 1] < 12.25).float().mean()  # pixels: half way between the top and the centre
        row = judge.score(x, wanted)
        print(f"scale {scale}, {name:8s} at the top {high:4.0%}, right colour {row['colour']:4.0%}, "
              f"right shape {row['shape']:4.0%}, one thing {row['count']:4.0%} (N = {K})")  # fmt: skip

# %% tags=["picture"]
figure = viz.picture_rows({"without": free[4][:10], avoid: led[:10]}, size=0.8)
show(figure, f"Pictures from the same noise, without: {read_back(free[4][:10])}; and with: {read_back(led[:10])}.")

# %% [markdown]
# **What you saw.** At scale 1 nothing changes but last digits: there the answer without the text drops out of the
# formula, so *any* negative prompt is without effect. Above, the top loses few of its things or none, and colours and
# shapes suffer that nobody wanted to change. Look for orange that has become yellow, for green that has become blue,
# away from red, and for squares with hollow sides, away from round. A negative prompt forbids nothing, and it is no
# list either: it is one direction, in which all that it says is mixed, and every picture is led away along all of it.
#
# ### Your turn
#
# Choose, press **Draw**, and scrub. Find a scale at which the picture is still right but its colours no longer are.
# Then give the prompt itself as the negative prompt: what is left?

# %%
from course_lib.widgets import live


def draw_again(prompt, negative, scale, steps, seed):
    """Draw one picture, a Step at a time."""
    model, schedule, _ = open_pipeline(pipe, prompt, negative, scale)
    return sample_steps(ddim_step, model, schedule, noise(1, seed, pipe), times(pipe, steps))


_, schedule, codec = open_pipeline(pipe, "")

# %%
live(
    draw_again,
    alt="A picture for '{prompt}', led away from '{negative}' with scale {scale:.1f}, {steps} steps, seed {seed}.",
    rates=schedule,
    codec=codec,
    prompt=PROMPTS,
    negative=["", *PROMPTS],
    scale=(0.0, 16.0, SCALE),
    steps=(2, 50, STEPS),
    seed=(0, 99, 5),
)

# %% [markdown]
# ## 6. Schedulers, swapped
#
# What diffusers calls a *scheduler* is the schedule and the sampler in one object; swapping it is one line,
# `X.from_config(pipe.scheduler.config)`. **A claim on trial:** *"Euler draws better pictures than DDIM."*
#
# **Before you run it.** We let both walk over the same timesteps, from the same noise to the same end (clean data;
# left alone, this DDIM would stop one row before it). What will come out?

# %% tags=["prediction"]
euler = predict(
    "15.d",
    "DDIM and Euler, same noise, same timesteps, same end: the pictures",
    options=["agree to the last digits", "look alike", "are different pictures"],
)


# %%
@torch.no_grad()
def stepped_by(scheduler, prompts, x, n):
    """Draw latents for prompts, from noise x, in n steps that a scheduler of diffusers takes."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(n, device=mini.device)
    null, text = embed([""] * len(prompts), mini), embed(prompts, mini)
    x = x * scheduler.init_noise_sigma  # 1, but for schedulers that count in sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, timestep).to(mini.unet.dtype)
        out = guided_output(mini.unet, seen, timestep, null, text, MINI_SCALE).float()
        x = scheduler.step(out, timestep, x).prev_sample
    return x


# %%
config = dict(mini.scheduler.config)
swapped = {
    "DDIM": diffusers.DDIMScheduler.from_config(config),
    "Euler": diffusers.EulerDiscreteScheduler.from_config(config),
    "DPM-Solver++ 2M": diffusers.DPMSolverMultistepScheduler.from_config(config),
}
said, scenes = asked.sentences[:24], asked.scenes[:24]
start = noise(len(said), 4)
with_end = swapped["DDIM"].from_config(config, set_alpha_to_one=True)  # ends at clean data, as Euler does
one, other = (stepped_by(scheduler, said[:4], start[:4], 10) for scheduler in (with_end, swapped["Euler"]))
off = float((one - other).abs().max())
print(f"DDIM and Euler, 10 steps: largest difference of the latents {off:.1e}")
euler.compare(euler.options[(off > 1e-3) + (off > 0.3)])

# %% [markdown]
# Now all of them, and our own steps of lesson 05 beside them. The reference for "agreement" is DDIM with many
# steps from the same noise (100; on a GPU 250): the mean difference of a pixel from it, where black to white is 2.

# %%
model, schedule, codec = open_pipeline(mini, said, scale=MINI_SCALE)
ways = {}
for name, theirs in swapped.items():
    ways[f"diffusers' {name}"] = lambda n, theirs=theirs: stepped_by(theirs, said, start, n)
for name, step in {"DDIM": ddim_step, "2M": dpm_step}.items():
    ways[f"our {name}, their rows"] = lambda n, step=step: sample(step, model, schedule, start, times(mini, n))
    ways[f"our {name}, from T"] = lambda n, step=step: sample(step, model, schedule, start, schedule.steps(n))
of_16, _, codec = open_pipeline(mini, said[:16], scale=MINI_SCALE)
many = times(mini, budget(smoke=8, cpu=100, gpu=250))
truth = codec.decode(sample(ddim_step, of_16, schedule, start[:16], many))

# %%
print(f"{'':28s}steps  seconds  all right  difference from the reference (N = {len(said)}, and {len(truth)})")
for name, way in ways.items():
    for n in (5, 10, 20)[: budget(smoke=1, cpu=3, gpu=3)]:
        begun = time.perf_counter()
        drawn = codec.decode(way(n))
        seconds = time.perf_counter() - begun
        right, off = judge.score(drawn, scenes)["all"], float((drawn[:16] - truth).abs().mean())
        print(f"{name:28s}{n:5d}  {seconds:7.2f}  {right:9.0%}  {off:.4f}")

# %% [markdown]
# **What you saw.** The claim is false: with the same timesteps and the same end, DDIM and Euler draw the same
# picture, to the accuracy of the numbers. DDIM *is* Euler's method, in sigma, as lesson 05 found. Three things differ
# between rows of the table: the length of the last step, where the walk begins, and the order of the method. DDIM and
# Euler share the third. 2M is of higher order: over the same rows, from T, it comes clearly nearer to the reference.
# So do more steps. The judge notices one row only, our 2M in their rows with 5 steps; all the other pictures are as
# good as the network behind them.
#
# Two details are worth knowing. Ours and theirs agree row by row for DDIM. For 2M they part with few steps: their
# rows end in 2, 1, two levels that hardly differ from each other, and a method that leans forward by the last step's
# change leans badly there (diffusers takes its last step differently). From T to 0 in even steps our 2M comes nearest
# of all.
#
# ## 7. From a picture to a picture
#
# To change a picture, begin with it. Not at T, but half way: mix its latents with as much noise as belongs to some
# row t, and walk down from *there*, with a prompt. The more noise, the more is forgotten. diffusers calls the share
# of the walk that is walked *strength* (the idea is SDEdit's, arXiv:2108.01073, algorithm 1).
#
# ### Exercise 15.5 - begin half way (15 minutes, difficulty 3 of 5)
#
# Write `begin_half_way`. It gets clean latents `x0` of shape `(B, *dims)`, a `strength` above 0 and up to 1, a
# `schedule`, `rows` (n + 1 falling whole numbers, of a walk of n steps) and noise `eps` like `x0`. Of the n steps,
# strength * n are left to walk, rounded, and at least one. It returns a pair: the noisy latents for the row where
# these begin, like `x0`, and the list of the rows from there to the end.
#
# Useful: `schedule.rates(t, x0)` returns signal_rate and noise_rate of row t, shaped to multiply x0; `rows[-3:]` are
# the last three of a list (three rows are two steps); `round` and `max`.


# %% tags=["exercise"]
def begin_half_way(x0, strength, schedule, rows, eps):
    """Mix x0 with the noise of the row at which the last strength * n of n steps begin."""
    # <solution>
    left = max(1, round(strength * (len(rows) - 1)))
    rest = rows[-left - 1 :]
    a, s = schedule.rates(rest[0], x0)
    return a * x0 + s * eps, rest
    # </solution>


# %% tags=["check"]
begin_half_way = check("15.5", begin_half_way)

# %% [markdown]
# Real drawings of a thing somewhere; the prompt asks for the same shape in another colour, and does not say where.
#
# **Before you run it.** At which strength have half of the pictures taken the new colour?

# %% tags=["prediction"]
turning = predict("15.e", "half of the pictures take the new colour from strength", options=[0.2, 0.4, 0.6, 0.8])

# %%
olds = [shapes.parse(f"a large {names[k % 8]} {shapes.SHAPES[k % 6]} {p}") for k, p in enumerate(
    ["on the left", "at the top right", "in the centre", "at the bottom"] * (N // 4))]  # fmt: skip
texts = [f"a large {names[(k + 3) % 8]} {shapes.SHAPES[k % 6]}" for k in range(len(olds))]
source = shapes.render(olds, generator=seed(6)).to(mini.device)
x0 = mini_codec.encode(source, seed(7))
model, schedule, _ = open_pipeline(mini, texts, scale=MINI_SCALE)


def repaint(strength):
    """Walk the last part of the way from the source pictures."""
    x, rest = begin_half_way(x0, strength, schedule, times(mini, STEPS), noise(len(x0), 8))
    return mini_codec.decode(sample(ddim_step, model, schedule, x, rest))


# %%
strengths, rows, kept = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0), {"source": source[:6]}, {"new colour": [], "same place": []}
for strength in strengths:
    painted = repaint(strength)
    rows[f"strength {strength}"] = painted[:6]
    found = judge.score(painted.cpu(), [shapes.parse(text) for text in texts])
    moved = (blot(painted.cpu())[0] - blot(source.cpu())[0]).norm(dim=1)
    kept["new colour"].append(found["colour"])
    kept["same place"].append(float((moved < 3).float().mean()))  # within 3 pixels

# %%
_, rest = begin_half_way(x0, 0.4, schedule, times(mini, STEPS), noise(len(x0), 8))
a, s = schedule.rates(schedule.T, x0)  # a mistake, on purpose: the noise of T, and then the walk of strength 0.4
painted = mini_codec.decode(sample(ddim_step, model, schedule, a * x0 + s * noise(len(x0), 8), rest))
rows["0.4, noise of T"] = painted[:6]
moved = (blot(painted.cpu())[0] - blot(source.cpu())[0]).norm(dim=1)
print(f"strength 0.4, but with the noise of T: same place {(moved < 3).float().mean():.0%}")

# %% tags=["picture"]
figure = viz.picture_rows({name: row.cpu() for name, row in rows.items()}, size=0.8)
told = "; ".join(f"{name}: {read_back(rows[name])}" for name in ("source", "strength 0.4", "0.4, noise of T"))
show(figure, f"Six things, a column each, from their source to the greatest strength, and the mistake. {told}.")

# %% tags=["picture"]
lines = {name: (strengths, shares) for name, shares in kept.items()}
figure = viz.curves(lines, "strength", f"share of {len(olds)} pictures", markers=True)
told = "; ".join(f"{name} " + ", ".join(f"{share:.0%}" for share in shares) for name, shares in kept.items())
show(figure, f"Shares against the strength, from {strengths[0]} to {strengths[-1]}: {told}.")

# %%
turned = next((s for s, share in zip(strengths, kept["new colour"], strict=True) if share >= 0.5), 1.0)
for name, shares in kept.items():
    print(f"{name}: " + ", ".join(f"{share:.0%} at {s}" for s, share in zip(strengths, shares, strict=True)))
turning.compare(turned)

# %% [markdown]
# **What you saw.** With very little noise some colours are muddy, half way between old and new, and the judge names
# neither. With much noise the prompt wins, and the place is forgotten. (At strength 1 the new colour can be rarer
# again: free of the source, the network sometimes draws two things, and the judge counts such a picture as wrong in
# everything.) Between them lies a wide stretch where the new colour is there and the place is kept. That is where
# image-to-image is useful, and where its strength must be looked for, for every model anew.
#
# Were you surprised how early the colour turns? Section 4 settled it far earlier in the walk, but there nothing pulled
# against the guess. Here the little noise of a late row is enough for another sentence to repaint a patch of one
# colour, and not enough to move it. And the last row of pictures is a mistake that raises no error: too much noise
# for the row where the walk begins. Pictures come out all the same, some of them odd, and hardly know the source.
#
# ## 8. Only a part: inpainting
#
# To redraw a part, walk the whole way from pure noise, but after every step put the known part back: its true latents
# with as much noise as belongs to where the step has arrived (RePaint, arXiv:2201.09865, eq. 8, without its repeats).
#
# ### Exercise 15.6 - keep what is known (15 minutes, difficulty 3 of 5)
#
# Write `keep_known`. It gets latents `x_next` at row `t_next`, clean latents `x0` of the known picture, both
# `(B, 4, h, w)`, a `mask` of the *picture's* size, `(B, 1, H, W)`, 1 where to draw anew and 0 where to keep, the row
# `t_next`, a `schedule` and noise `eps` like `x0`. H is a multiple of h, the same as W of w. A cell of the latents is
# drawn anew if any of its pixels is. It returns the mixture, like `x_next`.
#
# Useful: `max_pool2d(mask, k)` keeps the largest of each square of k x k pixels; `x.shape[-1]` is a width;
# `schedule.rates` as before. Row 0 of a schedule is clean: no special case is needed.


# %% tags=["exercise"]
def keep_known(x_next, x0, mask, t_next, schedule, eps):
    """Keep the known part, with the noise of row t_next, and take the rest from x_next (RePaint, eq. 8)."""
    # <solution>
    anew = max_pool2d(mask, mask.shape[-1] // x0.shape[-1])  # (B, 1, h, w)
    a, s = schedule.rates(t_next, x0)
    return anew * x_next + (1 - anew) * (a * x0 + s * eps)
    # </solution>


# %% tags=["check"]
keep_known = check("15.6", keep_known)


# %%
@torch.no_grad()
def inpaint(prompts, x0, mask):
    """Draw anew where the mask is 1."""
    model, schedule, codec = open_pipeline(mini, prompts, scale=MINI_SCALE)
    x, eps = noise(len(x0), 9), noise(len(x0), 10)
    for t, t_next in pairwise(times(mini, STEPS)):
        x = ddim_step(model, schedule, x, t, t_next).x_next
        x = keep_known(x, x0, mask, t_next, schedule, eps)
    return codec.decode(x)


# %%
pairs = [f"a large {names[k % 8]} {shapes.SHAPES[k % 6]} left of a large {names[(k + 3) % 8]}" for k in range(N // 2)]
olds, news = ([f"{pair} {shape}" for pair in pairs] for shape in ("square", "triangle"))
source = shapes.render([shapes.parse(old) for old in olds], generator=seed(11)).to(mini.device)
right = (torch.arange(32) >= 16).float().to(mini.device)
mask = right.expand(len(source), 1, 32, 32)  # 1 in the right half
painted = inpaint(news, mini_codec.encode(source, seed(12)), mask)

# %% tags=["picture"]
figure = viz.picture_rows({"source": source[:6].cpu(), "right half redrawn": painted[:6].cpu()}, size=1.0)
show(figure, "Drawings of a thing beside a square, and below each the same with its right half drawn anew.")

# %%
coded = mini_codec.decode(mini_codec.encode(source, seed(12)))
for name, x in {"right half redrawn": painted, "encoded and decoded": coded}.items():
    change = (x - source).abs().mean((0, 1, 2)).cpu()
    print(f"{name}: mean change of a pixel, left half {change[:16].mean():.3f}, right half {change[16:].mean():.3f}")
found = judge.score(painted, [shapes.parse(new) for new in news])
print(f"as the new sentence says: {found['all']:.0%}, shapes {found['shape']:.0%} (N = {found['n']})")

# %% [markdown]
# **What you saw.** The right half is new, and the left half is nearly the source's: a part of its change is what the
# autoencoder loses by itself, as the second line says. Nothing in the network was made for this. The weakness of it:
# while the part is drawn, the known part beside it is swapped under its hands at every step, so a seam need not fit
# (things apart on an empty ground, as here, hide that well). Pipelines made for inpainting were trained with the mask
# and the known latents as further input channels (nine instead of four).
#
# ## 9. Memory, measured
#
# **A claim on trial:** *"A 1B-parameter model runs on a 4 GB card."* First the weights. A network can be built on
# torch's `meta` device, with shapes and no numbers: so we can count the real Stable Diffusion 1.5 without having it.

# %%
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel

words = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
eye = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
eye = CLIPConfig(vision_config={**eye, "patch_size": 14}, projection_dim=768)  # CLIP's other half, which sees
both_ways = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
with torch.device("meta"):  # the sizes are those of the configuration files beside the real weights
    real = {
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        "vae": AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **both_ways),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**words)), "safety_checker": StableDiffusionSafetyChecker(eye),
    }  # fmt: skip

# %%
counts = {name: sum(p.numel() for p in part.parameters()) for name, part in real.items()}
whole = sum(counts.values())
total = whole - counts["safety_checker"]
print({name: f"{n:,}" for name, n in counts.items()})
print(f"together {whole:,}, without the safety checker {total:,}")

# %% [markdown]
# So "1B" leaves out the safety checker, which comes with these weights. What do they take?
#
# ### Exercise 15.7 - how much memory (10 minutes, difficulty 1 of 5)
#
# Write `gib_needed`. It gets `weights`, how many there are, a `dtype` of torch such as `torch.float16`, and
# `working`, the *bytes* that the computation needs beside the weights. It returns the sum in GiB, a float: 1 GiB is
# 2**30 bytes. A card sold as "4 GB" has 4 of them.
#
# Useful: `torch.float16.itemsize` is the number of bytes that one number of a dtype takes.


# %% tags=["exercise"]
def gib_needed(weights, dtype, working):
    """Memory for weights of a dtype and for the work with them, in GiB."""
    # <solution>
    return (weights * dtype.itemsize + working) / 2**30
    # </solution>


# %% tags=["check"]
gib_needed = check("15.7", gib_needed)

# %%
for dtype in (torch.float32, torch.float16):
    for name, count in {"without": total, "with": whole}.items():
        needed = gib_needed(count, dtype, 0)
        print(f"{str(dtype)[6:]}, {name:7s} the safety checker: {needed:.2f} GiB, of 4 GiB {4 - needed:5.2f} left")
adam = 3 * total * 4  # gradients and Adam's two averages, in single precision
print(f"to train all of them in float32: {gib_needed(total, torch.float32, adam):.1f} GiB, and the activations")
mine = sum(p.numel() for p in mini.unet.parameters())
held = sum(p.numel() * p.element_size() for p in mini.unet.parameters())
print(
    f"the miniature's U-Net: by your function {gib_needed(mine, mini.unet.dtype, 0):.4f}, held {held / 2**30:.4f} GiB"
)

# %% [markdown]
# In single precision the weights alone fill the card, and with the safety checker they do not fit; half precision
# takes half of that. Whether the rest is enough depends on the *work*: the largest set of numbers that must be there
# at the same time. That has to be measured. On a GPU torch keeps the record. On a processor we look at the memory of
# this process every millisecond; below a few MB it tells nothing.

# %%
import threading

import psutil


# %%
def held_now():
    """Bytes in use now, on the GPU or of this process; torch's record of the most begins anew."""
    if mini.device.type != "cuda":
        return psutil.Process().memory_info().rss
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def most_held(seen):
    """Most bytes in use since then: by torch's record, or the most of those seen and now."""
    if mini.device.type != "cuda":
        return max([held_now(), *seen])
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


# %%
def watch(done, seen):
    """Look every millisecond, until done."""
    while not done.wait(0.001):
        seen.append(psutil.Process().memory_info().rss)


# %%
def peak(call):
    """Run call(); return the most memory it needed beside what was there before, in MiB, and its seconds."""
    call()  # once for what is only made the first time
    before, seen, done = held_now(), [], threading.Event()
    threading.Thread(target=watch, args=(done, seen)).start()
    begun = time.perf_counter()
    call()
    most, seconds = most_held(seen), time.perf_counter() - begun
    done.set()
    return (most - before) / 2**20, seconds


# %%
size = 100 * 2**20
most, _ = peak(lambda: torch.ones(size, dtype=torch.uint8, device=mini.device).max())
print(f"a tensor of 100 MiB: {most:.0f} MiB seen")

# %% [markdown]
# ### Half precision
#
# Half the bytes for the weights, and for the work. What does it do to the picture? The latents stay in single
# precision (what a sampler adds up is small); only the network computes with fewer digits.

# %%
start, whole = noise(4, 13), None
Net = torch.nn.Module
for name, cast in {"float32": Net.float, "bfloat16": Net.bfloat16, "float16": Net.half}.items():
    less = copy.copy(mini)  # the same parts, but for its own U-Net
    less.unet = cast(copy.deepcopy(mini.unet))
    model, schedule, codec = open_pipeline(less, asked.sentences[:4], scale=MINI_SCALE)
    begun = time.perf_counter()
    drawn = codec.decode(sample(ddim_step, model, schedule, start, times(mini, STEPS)))
    seconds, whole = time.perf_counter() - begun, drawn if whole is None else whole
    held = sum(p.numel() * p.element_size() for p in less.unet.parameters())
    print(f"{name:9s} U-Net {held / 2**20:5.1f} MiB, {STEPS} steps in {seconds:5.2f} s on {mini.device.type}, "
          f"mean difference of a pixel from single precision {(drawn - whole).abs().mean():.5f}")  # fmt: skip

# %% [markdown]
# **What you saw.** The weights are half as many bytes, always. The pictures differ a little, and more in bfloat16,
# which has only 8 binary digits where float16 has 11. The seconds belong to the machine, so read your own rows: a
# processor may gain a little, or lose where it has no instructions for numbers of 16 bits. So we play safe.
#
# ### Exercise 15.8 - which dtype (5 minutes, difficulty 1 of 5)
#
# Write `choose_dtype`. It gets the name of a device, a string such as `"cpu"`, `"cuda"` or `"cuda:1"` (the second
# GPU). It returns torch's dtype for the weights: half precision (float16) on a CUDA device, single precision
# elsewhere.
#
# Useful: `torch.device("cuda:1").type` is `"cuda"`.


# %% tags=["exercise"]
def choose_dtype(device):
    """Half precision where CUDA computes, single elsewhere."""
    # <solution>
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32
    # </solution>


# %% tags=["check"]
choose_dtype = check("15.8", choose_dtype)

# %% [markdown]
# ### From 512 to 1024 pixels
#
# In attention every place asks every place. 512 x 512 pixels are 64 x 64 latents: 4,096 tokens at the highest level
# of the U-Net, and a matrix of 4,096 x 4,096 for each of its 8 heads.
#
# **Before you run it.** With twice the side of the picture, that matrix grows by a factor of

# %% tags=["prediction"]
matrix = predict("15.f", "twice the side, the attention matrix grows by a factor of", options=[2, 4, 16])

# %%
heads, guidance = 8, 2  # both questions of guidance go through as one batch
entries = {side: (side // 8) ** 4 * heads * guidance for side in (512, 768, 1024)}
for side, n in entries.items():
    half, single = (gib_needed(n, dtype, 0) for dtype in (torch.float16, torch.float32))
    print(f"{side} pixels: {(side // 8) ** 2:6,} tokens, matrices of one layer: {half:.2f} or {single:.2f} GiB")
matrix.compare(entries[1024] // entries[512])

# %% [markdown]
# (The first number is half, the second single precision.) No wonder that 1024 pixels were said to be out of reach.
# But must the matrix ever be there as a whole? The softmax of a row can be added up piece by piece (FlashAttention,
# arXiv:2205.14135, algorithm 1), and torch's `scaled_dot_product_attention` does so. One head of width 40, as at the
# top of the real U-Net:

# %%
from torch.nn.functional import scaled_dot_product_attention


def written_out(q, k, v):
    """Attention with the whole matrix."""
    return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1) @ v


# %%
ways, cost = {"matrix written out": written_out, "piece by piece": scaled_dot_product_attention}, {}
for tokens in (256, 1024, 4096, 8192, 16384)[: budget(smoke=3, cpu=5, gpu=5)]:
    q, k, v = torch.randn(3, 1, 1, tokens, 40, generator=seed(0)).to(mini.device)
    for name, way in ways.items():
        if tokens <= 8192 or name == "piece by piece":  # 16,384 tokens: 1 GiB of matrix, and 1 more of softmax
            most, seconds = peak(lambda way=way, q=q, k=k, v=v: way(q, k, v))
            cost.setdefault(name, []).append((tokens, seconds, most))
            print(f"{tokens:6d} tokens, {name:18s} {seconds * 1000:8.1f} ms, {most:6.0f} MiB")

# %% tags=["picture"]
lines = {name: ([row[0] for row in rows], [1000 * row[1] for row in rows]) for name, rows in cost.items()}
figure = viz.curves(lines, "tokens", "milliseconds for one head", log="xy", markers=True)
told = "; ".join(f"{name} {row[0]:,.1f} to {row[-1]:,.1f} ms" for name, (_, row) in lines.items())
show(figure, f"Time against tokens, from {cost['piece by piece'][0][0]} on, on logarithmic axes: {told}.")

# %% [markdown]
# **What you saw.** Few tokens cost nearly nothing but the call. From some thousands on, twice the tokens cost about
# four times the time, in both: the square of the tokens takes over, the fourth power of the side, 16 times from 512 to
# 1024. The *memory* does not have to grow like that: piece by piece there is next to nothing to see.
#
# That decides about a piece of advice. **A claim on trial:** *"Call `enable_attention_slicing()`, it saves memory."*
# We give the miniature's U-Net larger latents, so that there is something to measure.

# %%
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

unet, side = copy.deepcopy(mini.unet), budget(smoke=16, cpu=64, gpu=64)
latents = torch.randn(1, 4, side, side, generator=seed(0)).to(mini.device)
words = mini.encode_prompt("a red circle", mini.device, 1, False)[0]
for name in ("as it comes (piece by piece)", "sliced, one head at a time", "matrix written out"):
    if name.startswith("sliced"):
        unet.set_attention_slice("max")
    else:
        unet.set_attn_processor(AttnProcessor2_0() if name.startswith("as") else AttnProcessor())
    with torch.no_grad():
        most, seconds = peak(lambda: unet(latents, 500, encoder_hidden_states=words))
    print(f"{side * side:,} tokens, {name:28s} {most:6.0f} MiB, {seconds:.2f} s")

# %% [markdown]
# **What you saw.** Against the matrix written out, slicing saves most of the memory. Against what diffusers does
# today without being asked, it costs memory *and* time. The advice was good in 2022, before torch 2. Advice about
# memory has a date: measure.
#
# ### Tiling the autoencoder
#
# At the end one call decodes everything at once, at full resolution. `vae.enable_tiling()` decodes tiles that
# overlap, and blends them. *"It changes nothing but the memory"*?

# %%
vae, side = copy.deepcopy(mini.vae), budget(smoke=2, cpu=12, gpu=16)
mosaic = drawings.pictures.repeat(8, 1, 1, 1)[: side**2].unflatten(0, (side, side))  # drawings, row by row
mosaic = mosaic.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3)[None]  # (1, 3, 32 * side, 32 * side)
wide, decoded = mini_codec.encode(mosaic.to(mini.device), seed(0)) / vae.config.scaling_factor, {}
for name, switch in {"all at once": vae.disable_tiling, "in tiles": vae.enable_tiling}.items():
    switch()
    with torch.no_grad():
        most, seconds = peak(lambda: vae.decode(wide))
        decoded[name] = vae.decode(wide).sample.clamp(-1, 1).cpu()
    print(f"{name:12s} {most:6.0f} MiB, {seconds:.2f} s for {32 * side} x {32 * side} pixels")
print(f"mean difference of a pixel: {(decoded['all at once'] - decoded['in tiles']).abs().mean():.3f}")

# %% tags=["picture"]
decoded["difference"] = (decoded["all at once"] - decoded["in tiles"]).abs() - 1
corner = torch.cat(list(decoded.values()))[..., :128, :128]
figure = viz.picture_rows({"": corner}, columns=list(decoded), size=2.2)
show(figure, "A corner of a picture decoded at once, in tiles, and the difference of the two, which is "
     f"{(corner[2] + 1).mean():.3f} on average and up to {(corner[2] + 1).max():.2f}.")  # fmt: skip

# %% [markdown]
# **What you saw.** The memory falls, and the claim is false. The decoder brings its numbers to mean 0 and deviation 1
# over all that it sees (group norm), so a tile decodes in another way than the whole: look for things of two colours,
# and for coloured smears where a tile holds little. Stable Diffusion's own tiles are 512 pixels wide and hold more; it
# is said to show less of this, which was not tried here. Use tiling when the memory does not suffice, not always.
#
# ### Offload
#
# The parts work one after another, so only one has to be on the GPU at a time. `pipe.enable_model_cpu_offload()`
# brings each part there when it is called, at the price of moving the weights. One part is left out of this: the
# safety checker stays on the card (`_exclude_from_cpu_offload` says so in the pipeline's class).

# %%
sizes = {name: gib_needed(n, torch.float16, 0) for name, n in counts.items()}
print("Stable Diffusion 1.5 in half precision, GiB:", {name: round(n, 2) for name, n in sizes.items()})
stays = sizes["safety_checker"]
print(f"all on the card {sum(sizes.values()):.2f} GiB; the largest part and the safety checker, as offload leaves it, "
      f"{max(sizes.values()) + stays:.2f} GiB")  # fmt: skip
if pipe.device.type == "cuda" and not small:
    pipe.enable_model_cpu_offload()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    draw(PROMPTS[0])
    print(f"measured, one picture with offload: at most {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
else:
    print("Measured only where the real weights lie on a GPU: here there is nowhere to move the parts from.")

# %% [markdown]
# **The verdict on "1B on 4 GB".** False in single precision, where the weights leave no room for any work; far from
# true for training; possible for drawing in half precision, which leaves 2.01 GiB for the work without the safety
# checker and 1.45 with it. Whether these suffice at your size is no matter of belief: `course bench sd` in a terminal
# measures it on your machine, at full size, with every one of these switches. (Its weights are random: it tells time
# and memory, and draws nothing.)
#
# ## 10. Two snippets that are copied everywhere
#
# Somebody loads Stable Diffusion as many tutorials do, in one form or another:
#
# ```python
# # Load Stable Diffusion 2.1 in half precision
# pipe = StableDiffusionPipeline.from_pretrained("CompVis/stable-diffusion-v1-4", torch_dtype="float16")
# ```
#
# **Before you run it.** The dtype is a string. (Newer versions of diffusers call the option `dtype`; below it gets the
# name that yours knows.) In which precision do the weights come?

# %% tags=["prediction"]
string = predict(
    "15.g",
    'with the string "float16" for the dtype, the weights come in',
    options=["half precision", "single precision", "nothing: an error"],
)

# %%
option = "torch_dtype" if tuple(map(int, diffusers.__version__.split(".")[:2])) < (0, 40) else "dtype"
diffusers.utils.logging.set_verbosity_error()  # or its log would show the line that few read
asked_for = {"no dtype": {}, '"float16"': {option: "float16"}, "your choice for a GPU": {option: choose_dtype("cuda")}}
with tempfile.TemporaryDirectory() as folder:
    mini.save_pretrained(folder)
    for name, options in asked_for.items():
        copied = diffusers.StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, **options)
        held = sum(p.numel() * p.element_size() for p in copied.unet.parameters())
        print(f"{name:22s} U-Net in {str(copied.unet.dtype)[6:]}, {held / 2**20:.1f} MiB")
        if name == '"float16"':
            came = "single precision" if copied.unet.dtype == torch.float32 else "half precision"
    text_encoder = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", dtype="float16")
print(f'"float16" given to transformers, which loads the text encoder alone: {str(text_encoder.dtype)[6:]}')
string.compare(came)

# %% [markdown]
# **What you saw.** No error. The string is dropped, with a line in the log ("Passed `dtype` float16 is not a
# `torch.dtype`. Defaulting to `torch.float32`."; switched off here), and the weights come in single precision: twice
# the memory, and the tutorial goes on about how much it saved. (So with diffusers 0.39 and 0.42.) A library next door,
# transformers, takes the same string at its word, which may be why so many write it. Nor did anything say that the
# comment promises 2.1 and the id loads 1.4.
#
# Here is the second, and what is wrong with it is wrong with the first as well:
#
# ```python
# pipe = StableDiffusionPipeline.from_pretrained("runwayml/stable-diffusion-v1-5", safety_checker=None)
# ```
#
# It *pins nothing*. The id is a name that somebody else may empty: this very one is gone, and Stable Diffusion 2.x
# left its owner's page in November 2025. Without `revision` you get what lies there today, not what you tested.
# Without `use_safetensors=True` diffusers also takes a pickle, and a pickle can run any program when it is opened.
# And, in the second alone, the safety checker is switched off, not because anybody decided so, but because a line was
# copied.

# %%
for choice in CHOICES:
    print(f"{choice.id}: commit {choice.revision[:12]}, {choice.licence}, {choice.gigabytes} GB")
print("What does not fit, or is gone, is said in a sentence. As on a machine with 0.5 GB free:")
passed_over = load_pipeline(CHOICES, device="cpu", memory=0.5)

# %% [markdown]
# The corrected form is the first line of this lesson, `load_pipeline(CHOICES)`: ids that were looked at, each with
# its commit and its licence; a dtype, chosen for the device; safetensors only; the checker left alone; and a
# miniature for the day on which the id is gone.
#
# ## 11. What comes with the weights
#
# - **Licence.** The weights of Stable Diffusion 1.x stand under CreativeML OpenRAIL-M. In our words: you may use,
#   change, share and sell; nobody claims your pictures, and you answer for them. Whoever passes on the weights,
#   changed or not, must pass on the licence and its list of forbidden uses (among them: breaking laws, harming
#   minors, harassing people, false information meant to harm, medical advice, deciding about people's rights by
#   machine). Read it before you publish; this paragraph is no legal advice.
# - **The safety checker** compares the picture with 17 fixed concepts in the space of CLIP, and makes it black if one
#   is too near. It looks for sexual content alone, not for violence or insult, and is easy to get around
#   (arXiv:2210.04610). It is a net with known holes; taking it off is a decision that needs a reason and another net.
# - **Provenance.** The model card, a text that comes with the weights, says what a model was trained on: here subsets
#   of LAION-5B, pictures and captions found on the web, mostly English, with their biases, and without asking those
#   who made them. A picture from it should say so.

# %% [markdown]
# One way to say so is a *watermark*, a mark in the pixels that an eye does not see. Here are two: the lowest bit of
# each pixel, and a faint pattern over the whole picture, found again by correlation. The first is said to be
# safe because it is invisible. What is left of each after what happens to pictures on the web every day? Chance finds
# something of any mark in any picture, so the deviation of what it finds is the measure: beyond 4 of them, it is no
# chance.

# %%
import io

from PIL import Image

tiled = mosaic[0, :, :128, :128]
plain = ((tiled + 1) * 127.5).round().clamp(1, 254).byte().permute(1, 2, 0).numpy()
rng = np.random.default_rng(0)
bits = rng.integers(0, 2, plain.shape, dtype=np.uint8)  # the message: a bit for each number
pattern = rng.choice([-1, 1], plain.shape)
marked = {"lowest bits": (plain & 254) | bits, "faint pattern": (plain + 4.0 * pattern).clip(0, 255).astype(np.uint8)}


# %%
def read(name, picture):
    """What is found of a mark (4 grey levels of the pattern were put in), and how many deviations of chance that is."""
    n = picture.size
    if name == "lowest bits":
        found = np.mean((picture & 1) == bits)
        return f"{found:5.1%} of the bits ({round((found - 0.5) / (0.5 / n**0.5)):4d})"
    found = np.mean(picture * (pattern - pattern.mean()))
    return f"strength {found:4.1f} ({round(found / (picture.std() / n**0.5)):3d})"


# %%
def saved(picture, **options):
    """Save and open again."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **options)
    return np.array(Image.open(io.BytesIO(file.getvalue())))


def resized(picture, width, height):
    return np.array(Image.fromarray(picture).resize((width, height)))


# %%
height, width = plain.shape[:2]
fates = {
    "PNG": lambda x: saved(x, format="PNG"),
    "JPEG, quality 90": lambda x: saved(x, format="JPEG", quality=90),
    "JPEG, quality 50": lambda x: saved(x, format="JPEG", quality=50),
    "half the size and back": lambda x: resized(resized(x, width // 2, height // 2), width, height),
    "moved by one pixel": lambda x: np.roll(x, 1, axis=1),
}  # fmt: skip
print(f"in brackets: deviations of chance, {plain.size:,} numbers in a picture")
print(f"{'no mark at all':24s}", "; ".join(f"{name}: {read(name, plain)}" for name in marked))
for fate, change in fates.items():
    print(f"{fate:24s}", "; ".join(f"{name}: {read(name, change(picture))}" for name, picture in marked.items()))

# %% [markdown]
# **What you saw.** As a message the lowest bits survive PNG alone: of all that they said, the other lines keep little
# more than the half that chance gets right. That a mark *was* there shows after halving the size, too. The pattern
# survives PNG, a good JPEG and halving, weaker each time; at quality 50 it sinks towards chance, and a shift by one
# pixel ends it. Marks that withstand more exist, made to be found again after a shift or a crop; who wants one gone has
# tools, too; and a missing mark proves nothing.
#
# ## Summary
#
# - Tokens, text embedding, latents, guided steps, decoder: a page of code, and its parts were yours.
# - Latents are data of unit variance by a factor; diffusers counts timesteps from 0 and has no clean row.
# - Guidance goes from the answer without the text to the answer with it, and beyond; a negative prompt moves the
#   start, and forbids nothing.
# - DDIM and Euler are one method; their name decides nothing; steps, spacing and order do.
# - Image-to-image begins half way, with the noise of that row; inpainting puts the known part back after each step.
# - **To remember:** what raises no error can still be wrong (a string for a dtype, a factor, a name). Measure it.
#
# ## Quiz
#
# ### Question 1
#
# You guessed what the string `"float16"` does. How would you have found out without this lesson?
#
# <details><summary>A. By the error message.</summary>No: there is none, only a line in the log.</details>
# <details><summary>B. By printing `pipe.unet.dtype`, or the bytes of its weights.</summary>Right: ask the thing
# itself, not the call that was meant to make it.</details>
# <details><summary>C. By the look of the pictures.</summary>No: half and single precision look alike.</details>
#
# ### Question 2
#
# With scale 1, what does a negative prompt change?
#
# <details><summary>A. It forbids what it says.</summary>No: out = null + 1 * (text - null) = text. It
# cancels.</details>
# <details><summary>B. Nothing.</summary>Right: at scale 1 the answer without the text drops out of the formula, and
# so does the negative prompt that stands in its place.</details>
# <details><summary>C. It halves the guidance.</summary>No: look at the formula with scale = 1.</details>
#
# ### Question 3
#
# Image-to-image with strength 0.4 raises no error and returns pictures, but the things in them stand anywhere, not
# where the source had them. Which mistake fits?
#
# <details><summary>A. The latents got the noise of row T, and the walk began half way.</summary>Right: in the noise of
# row T next to nothing of the source is left, and no later row brings it back. You saw it in section 7.</details>
# <details><summary>B. The prompt was too long.</summary>No: what is too long is cut off, and the rest still
# steers.</details>
# <details><summary>C. Half precision.</summary>No: you measured how little it changes.</details>
#
# ## References
#
# - Rombach et al.: High-Resolution Image Synthesis with Latent Diffusion Models, arXiv:2112.10752: section 3.1 (the
#   autoencoder), appendix G (the scaling factor).
# - Ho, Salimans: Classifier-Free Diffusion Guidance, arXiv:2207.12598: eq. 6; section 4 (what
#   guidance costs in variety).
# - Song, Meng, Ermon: DDIM, arXiv:2010.02502v4: eq. 12. Lu et al.: DPM-Solver++, arXiv:2211.01095: algorithm 2.
# - Lin et al.: Common Diffusion Noise Schedules and Sample Steps are Flawed, arXiv:2305.08891: section 3.
# - Meng et al.: SDEdit, arXiv:2108.01073: algorithm 1. Lugmayr et al.: RePaint, arXiv:2201.09865: eq. 8.
# - Radford et al.: CLIP, arXiv:2103.00020: section 2.4 (the text encoder).
# - Dao et al.: FlashAttention, arXiv:2205.14135: algorithm 1.
# - Rando et al.: Red-Teaming the Stable Diffusion Safety Filter, arXiv:2210.04610.
#
# ## Next
#
# This was the last lesson. Take the pipeline that you put together and change one thing: the sampler, the text, the
# data. `course train mini-sd` trains another miniature from the start, in less than an hour on two cores, on whatever
# `course_lib/shapes.py` draws and says: add a shape, or a word.
