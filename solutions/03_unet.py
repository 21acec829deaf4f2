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
# # 03. The U-Net
#
# <!-- colab -->
#
# **What network can do that on images?** Lesson 02 asked a network for one guess, and points in the plane were
# content with three layers. A picture asks for more: a network that sees all of it and still returns every pixel.
#
# After this lesson you can
#
# - say how far a stack of convolutions sees, and what it costs, before you run it;
# - tell a network what time it is, and build a block that uses it;
# - walk a picture down to a small size and up again without losing its details;
# - let every place look at every other, and say why that is done only where pictures are small;
# - put the parts together to a U-Net that equals the library's, number by number, and train it to denoise.
#
# **Prerequisites:** lesson 02. The torch calls that you need for an exercise are named in it.
#
# **Time:** about 120 minutes of yours; after section 4 is a good place for a break. The computing takes about 2
# minutes on a CPU and 2 minutes on a GPU machine: all of it runs on the processor. **Download:** 12 MB (the MNIST
# digits), once; without a network the lesson goes on with smaller digits that come with the course.

# %% tags=["setup"]
# <setup>

# %%
import math
import time as clock

import torch
from torch import nn
from torch.nn.functional import mse_loss, pixel_shuffle, pixel_unshuffle, silu

from course_lib import data, objectives, schedules, viz
from course_lib.checks import check
from course_lib.denoiser import Denoiser, denoising_loss
from course_lib.models import unet as library
from course_lib.models.mlp import TimeEmbedding
from course_lib.page import predict, show
from course_lib.profile import budget

# %%
digits = data.handwritten().pictures  # (N, 1, 28, 28) in [-1, 1]
generator = torch.Generator().manual_seed(0)


def batch(size):
    """Draw some digits."""
    return digits[torch.randint(len(digits), (size,), generator=generator)]


print(f"{len(digits):,} digits of {digits.shape[-1]} x {digits.shape[-1]} pixels")

# %% [markdown]
# ## 1. How far does a convolution see?
#
# A convolution with a 3 x 3 kernel makes each output pixel from nine input pixels: the pixel and its neighbours. It
# uses the *same* weights at each place, which is why it needs so few. A second one on top sees the neighbours of
# the neighbours. To remove heavy noise you must know whether you look at a 4 or a 9, so you must see the whole
# digit.
#
# **Before you run anything.** Eight convolutions of 3 x 3, one after the other, on a picture of 28 x 28. How many
# pixels across is the square that one output pixel can see?

# %% tags=["prediction"]
guess = predict("3.a", "the side of the square that eight 3 x 3 convolutions see", options=[3, 9, 17, 24, 28])

# %% [markdown]
# There is a way to ask the network: the derivative of one output pixel by every input pixel. Where it is 0, that
# input can change nothing. We ask ten new networks of each kind and take the mean. For comparison we ask the U-Net
# that you are about to build, too.


# %%
def stack(layers, width=16):
    """Convolutions at full size, one after the other; padding=1 adds a rim, so that 28 x 28 stays 28 x 28."""
    parts = [nn.Conv2d(1, width, 3, padding=1)]
    for _ in range(layers - 2):
        parts += [nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*parts, nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1))


# %%
def reach(new_net, nets=10):
    """How strongly each input pixel moves the output pixel in the middle: (28, 28), adding up to 1, over new nets."""
    total = torch.zeros(28, 28)
    for _ in range(nets):  # one random network has its whims
        x = torch.randn(8, 1, 28, 28, generator=generator).requires_grad_()
        new_net()(x)[:, 0, 14, 14].sum().backward()
        seen = x.grad.abs().mean(dim=(0, 1))
        total += seen / seen.sum() / nets
    return total


# %%
def awake(net):
    """Give convolutions that start at zero ordinary weights: a new U-Net returns 0 and would show nothing."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            layer.reset_parameters()
    return net


def ready_made():
    net = awake(library.UNet(widths=(16, 32), blocks=1))
    return lambda x: net(x, torch.full((len(x),), 0.5))


# %%
torch.manual_seed(0)
maps = {f"{n} layers": reach(lambda n=n: stack(n)) for n in (2, 4, 8)} | {"U-Net": reach(ready_made)}
for name, seen in maps.items():
    half = int((seen.flatten().sort(descending=True).values.cumsum(0) < 0.5).sum()) + 1
    print(f"{name:8s} sees {int((seen > 0).any(0).sum()):2d} pixels across; half of its weight on {half} pixels")

# %% tags=["picture"]
figure = viz.heat_maps(maps, "column (pixels)", "row (pixels)", "weight of the input pixel", log=True)
show(figure, "Four maps: squares of 5, 9 and 17 pixels, brightest in the middle, and for the U-Net the whole picture.")

# %%
guess.compare(int((maps["8 layers"] > 0).any(0).sum()))

# %% [markdown]
# **What you saw.** n layers see 2n + 1 pixels across, and use much less: the weight is heaped up in the middle,
# because many paths lead there and only one to each corner. The U-Net sees everything: it works on smaller
# pictures, its attention connects all places, and its norms, too, measure over the whole picture.
#
# **A claim on trial:** *"A wider network, or a larger kernel, does the same."* Width leads nowhere: it adds
# channels, not neighbours. A kernel of 17 does reach as far as eight layers. What does it cost? Count it.
#
# ### Exercise 3.1 - count a convolution (10 minutes, difficulty 1 of 5)
#
# Write `count`. It gets four whole numbers: `channels_in`, `channels_out`, `kernel` (the side of the square kernel)
# and `size` (the side of the square picture; with padding, the output has the same). It returns two whole numbers:
# the weights, biases included, and the multiplications for one picture, where padding counts like any pixel.
#
# Each output channel has a window of its own over **all** input channels, and one bias, which is added and not
# multiplied. The windows are laid on every place of the picture.


# %% tags=["exercise"]
def count(channels_in, channels_out, kernel, size):
    """Count the weights and the multiplications of one convolution."""
    # <solution>
    per_output = channels_in * kernel**2
    weights = channels_out * (per_output + 1)
    multiplications = channels_out * per_output * size**2
    return weights, multiplications
    # </solution>


# %% tags=["check"]
count = check("3.1", count)

# %%
layer = nn.Conv2d(16, 32, 3)
theirs = sum(w.numel() for w in layer.parameters())
print(f"torch's own layer has {theirs:,} weights; you counted {count(16, 32, 3, 28)[0]:,}")
for name, layers, shape in [
    ("eight layers of 3 x 3", 8, (16, 16, 3, 28)),
    ("one layer of 17 x 17", 1, (16, 16, 17, 28)),
    ("eight layers, four times as wide", 8, (64, 64, 3, 28)),
    ("eight layers on half the size", 8, (16, 16, 3, 14)),
    ("the same, twice as wide", 8, (32, 32, 3, 14)),
]:
    weights, multiplications = count(*shape)
    print(f"{name:33s} {layers * weights:8,} weights, {layers * multiplications / 1e6:6.1f} million multiplications")

# %% [markdown]
# **The verdict.** The large kernel reaches as far as the eight layers, for four times the work, and with a silu
# after each layer it bends once where they bend eight times. Four times the width costs sixteen times the work, and
# still sees 17 pixels. But on a picture of half the size, every 3 x 3 window covers twice the distance, and the work
# falls to a quarter. So there is room for twice the channels at the *same* cost. That is the idea of the U-Net:
# **go down to see far, come up to see sharp.**
#
# ## 2. Smaller without loss
#
# A convolution may take every second place only (`stride=2`): the picture has half the side. And there is a way to
# halve without any weights: fold each 2 x 2 square of pixels into four channels. Nothing is lost, and it can be
# undone.

# %%
x = batch(1)
folded = pixel_unshuffle(x, 2)  # (1, 4, 14, 14)
print(f"{tuple(x.shape)} -> {tuple(folded.shape)}, back again without loss: {torch.equal(pixel_shuffle(folded, 2), x)}")

# %% tags=["picture"]
places = ["even, even", "even, odd", "odd, even", "odd, odd"]  # row, column
figure = viz.picture_rows({"folded": folded[0]}, places, size=1.4)
show(figure, "One digit as four small ones, nearly alike: each has every second row and every second column.")

# %% [markdown]
# Our U-Net does this first (`patch=2`) and unfolds at the very end, so its largest inner picture is 14 x 14. In
# section 8 you will measure what that saves.
#
# ## 3. What time is it?
#
# Lesson 02 ended with a network that was told t. How do you tell a number to a network? As one input between 0 and
# 1, it moves too little: t = 3 and t = 4 of 1000 differ by 0.001, and the first layer can hardly tell them apart.
# So one number becomes a row of waves, slow ones and fast ones, like the hands of a clock: the slow hand says
# roughly when, the fast one says exactly.
#
# $$\text{waves}(\text{time}) = (\sin(f_1\,\text{time}), \ldots, \sin(f_F\,\text{time}),\;
#   \cos(f_1\,\text{time}), \ldots, \cos(f_F\,\text{time}))$$
#
# ### Exercise 3.2 - time as waves (10 minutes, difficulty 2 of 5)
#
# Write `time_waves`. It gets `time` of shape `(B,)`, fractions t / T in [0, 1], one for each picture, and
# `frequency` of shape `(F,)` in radians per unit of time. It returns a table `(B, 2 F)`: for each picture first all
# sines, then all cosines.
#
# Useful: `time[:, None]` has shape `(B, 1)`; `x.sin()`, `x.cos()`; `torch.cat([one, other], dim=1)` sets two tables
# side by side.


# %% tags=["exercise"]
def time_waves(time, frequency):
    """Turn times (B,) into sines and cosines (B, 2 F)."""
    # <solution>
    angle = time[:, None] * frequency  # (B, F)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
    # </solution>


# %% tags=["check"]
time_waves = check("3.2", time_waves)

# %%
frequency = torch.logspace(math.log10(math.pi / 2), 3, 16)  # from a quarter turn to 1000 radians
steps = torch.arange(1001) / 1000
waves = time_waves(steps, frequency)  # (1001, 32)
print(f"largest difference from the library's: {(waves - TimeEmbedding(32)(steps)).abs().max():.1e}")
for name, part in (("both", waves), ("cosines alone", waves[:, 16:]), ("sines alone", waves[:, :16])):
    apart = (part[1:] - part[:-1]).norm(dim=1)  # how far each step is from the next
    print(f"{name:13s} t = 0 and 1 are {apart[0]:.2f} apart; over all steps {apart.min():.2f} to {apart.max():.2f}")

# %% tags=["picture"]
lines = {f"t = {t}": (torch.arange(1001), (waves - waves[t]).norm(dim=1)) for t in (100, 500)}
figure = viz.curves(lines, "t", "distance to the waves of ...")
show(figure, "Distance of each step's waves to those of t = 100 and of t = 500: 0 at that step, far everywhere else.")

# %% [markdown]
# **What you saw.** A notch: each step is near its neighbours and clearly apart from all others. The fastest wave
# alone sets neighbours 0.96 apart (it turns by 1 radian a step), where the bare number offers 0.001. Why sines *and*
# cosines? At t = 0 the slow cosines are flat and the slow sines steep; a quarter turn later it is the other way
# round. With both, every wave moves equally far at each step, so neighbours are 1.28 apart everywhere.
#
# ## 4. A block that listens
#
# The U-Net is made of one kind of block, used again and again. It makes two convolutions, and **adds** what they
# found to what came in:
#
# 1. `h = conv_1(silu(norm_1(x)))`, where silu(h) = h / (1 + exp(-h)) bends, and norm gives each group of channels
#    mean 0 and deviation 1, and then applies a factor and a summand of its own to each channel, both learned;
# 2. `scale, shift`: the linear layer `block.context` turns the context `(B, K)`, here the time, into `(B, 2 C)`;
#    its first half is the scale, its second half the shift, one number each for each channel of each picture;
# 3. `h` becomes norm_2 of h, times (1 + scale), plus shift;
# 4. `h` becomes conv_2 of silu of h;
# 5. out comes `block.skip(x)` plus h. `block.skip` does nothing, or is a 1 x 1 convolution where channels change.


# %%
def groups(channels):
    """Channels are normalised in groups of at least eight."""
    return max(g for g in range(1, 9) if channels % g == 0 and channels >= 8 * g)


def quiet(layer):
    """Let a layer say nothing at first."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# %%
class Block(nn.Module):
    def __init__(self, channels_in, channels_out, context):
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups(channels_in), channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.context = nn.Linear(context, 2 * channels_out)
        self.norm_2 = nn.GroupNorm(groups(channels_out), channels_out)
        self.conv_2 = quiet(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x, context):
        return residual(self, x, context)  # yours, in a moment


# %% [markdown]
# ### Exercise 3.3 - the residual block (15 minutes, difficulty 3 of 5)
#
# Write `residual`. It gets a `block` with the six layers above (norm_1, conv_1, context, norm_2, conv_2, skip), `x`
# of shape `(B, channels_in, H, W)` and `context` of shape `(B, K)`, and returns `(B, channels_out, H, W)` by the
# five steps above. x stays as it is.
#
# Scale and shift are `(B, C)`, and pictures `(B, C, H, W)`. Shapes line up from the *last* axis, so they need two
# axes more at the end: `table[:, :, None, None]`. `x.chunk(2, dim=...)` cuts a tensor into two halves along an
# axis.


# %% tags=["exercise"]
def residual(block, x, context):
    """Add to x what two convolutions make of it, scaled and shifted by the context."""
    # <solution>
    h = block.conv_1(silu(block.norm_1(x)))
    scale, shift = block.context(context)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
    h = block.norm_2(h) * (1 + scale) + shift
    h = block.conv_2(silu(h))
    return block.skip(x) + h
    # </solution>


# %% tags=["check"]
residual = check("3.3", residual)

# %% [markdown]
# Why a scale and a shift, and why after the norm? A shift moves a channel up or down, and silu lets through what is
# positive: so time can open a channel at t = 900, where shapes are sought, and close it at t = 10, where only grain
# is left. A time that is added *before* the norm is partly subtracted away again.
#
# **Before you run it.** `conv_2` starts at zero, so a new block returns what it got (where the channels stay the
# same); the last layer of a U-Net starts at zero, too. Popular texts say this makes training faster. We train a
# small U-Net from three seeds: with all its zero starts, with ordinary random ones, and, to see which zeros matter,
# with only the output layer random. All zero or all random: which has the lower loss after the first 40 steps?

# %% tags=["prediction"]
guess_zero = predict("3.b", "lower loss after 40 steps", options=["all zero", "all random", "no clear difference"])

# %%
schedule = schedules.flow(T=1000)


def train(net, steps, size=16, lr=2e-3):
    """Train a network to denoise (lesson 02) and return the losses."""
    denoiser, losses = Denoiser(net, schedule, objectives.flow), []
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        loss = denoising_loss(denoiser, batch(size), generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


# %%
starts = {"all zero": lambda net: net, "output layer random": lambda net: awake(net.write), "all random": awake}
losses = {name: [] for name in starts}
for seed in range(3):
    for name, start in starts.items():
        torch.manual_seed(seed)
        generator.manual_seed(seed)  # the same pictures, times and noise for all three
        net = library.UNet(widths=(16, 32), blocks=1)
        start(net)
        losses[name].append(train(net, budget(smoke=12, cpu=42, gpu=42)))
smooth = {}
for name, runs in losses.items():
    windows = torch.stack(runs).unfold(1, 6, 6).mean(dim=2)  # unfold cuts axis 1 into windows of 6 steps
    smooth[name] = windows.mean(dim=0)
    print(f"{name:20s} loss of the last six steps, seed by seed:", *(f"{value:.2f}" for value in windows[:, -1]))

# %% tags=["picture"]
figure = viz.curves({name: (6 * torch.arange(len(y)) + 3, y) for name, y in smooth.items()}, "training step", "loss")
show(
    figure,
    "Three falling curves of the loss, mean of three seeds: all zero is highest over these first steps, and with only "
    "the output layer random the loss is close to that of all random.",
)

# %%
zero, random = smooth["all zero"][-1], smooth["all random"][-1]
closer = "no clear difference" if (zero / random).log().abs() < 0.03 else None
guess_zero.compare(closer or ("all zero" if zero < random else "all random"))

# %% [markdown]
# **What you saw.** In this small network a start with all zeros does *not* help the first steps. Most of the delay
# comes from one layer, the last: what comes *before* a layer of zeros gets no gradient until that layer has moved,
# so in the first step no other layer learns. The zeros inside the blocks cost little or nothing. So what are they
# for? Look at a deep stack of new blocks.

# %%
torch.manual_seed(0)
x, context = torch.randn(4, 16, 14, 14), torch.randn(4, 8)
for depth in (1, 10, 40):
    blocks = nn.ModuleList(Block(16, 16, 8) for _ in range(depth))
    sizes = []
    for start in (lambda net: net, awake):
        h = x
        with torch.no_grad():
            for block in start(blocks):
                h = block(h, context)
        sizes.append(float(h.std()))
    print(f"{depth:2d} blocks: deviation {sizes[0]:.2f} with zero starts, {sizes[1]:.2f} with random ones")

# %% [markdown]
# With zero starts a stack of any depth begins as "pass it on", and its output has the size of its input. With
# random ones it grows with depth, as each block adds its own random values. In a network of seven blocks, like ours,
# nobody suffers from that; in one of forty it can limit which learning rate is safe.
#
# And why GroupNorm, where many networks use BatchNorm? BatchNorm measures mean and deviation over all pictures of
# the batch. Try the same picture in two batches.

# %%
torch.manual_seed(0)
picture, calm, wild = torch.randn(1, 16, 14, 14), torch.randn(7, 16, 14, 14), 3 * torch.randn(7, 16, 14, 14)
for norm in (nn.BatchNorm2d(16), nn.GroupNorm(groups(16), 16)):
    one, other = (norm(torch.cat([picture, others]))[0] for others in (calm, wild))
    print(f"{type(norm).__name__:12s} the same picture among others: differs by up to {(one - other).abs().max():.2f}")

# %% [markdown]
# A batch of a diffusion model holds pictures at *all* noise levels, so with BatchNorm the answer for a nearly clean
# digit would depend on how noisy its neighbours happen to be. With GroupNorm each picture is on its own.
#
# ## 5. Down, up, and what is kept
#
# At the bottom the network sees far, but the place of each pixel is gone: 7 x 7 places for 28 x 28 pixels. So the
# way up gets help. Every picture on the way down is **kept**, and on the way up each block reads it beside its own,
# joined along the channels. Last kept, first used, because the sizes must fit. For widths (8, 16), with one block a
# size:
#
# | layer | gets | takes | returns | kept afterwards |
# |---|---|---|---|---|
# | (read) | | | 8 channels, 14 x 14 | **a** |
# | down: block | 8, 14 x 14 | | 8, 14 x 14 | a **b** |
# | down: convolution, stride 2 | 8, 14 x 14 | | 8, 7 x 7 | a b **c** |
# | down: block | 8, 7 x 7 | | 16, 7 x 7 | a b c **d** |
# | middle | 16, 7 x 7 | | 16, 7 x 7 | a b c d |
# | up: block | 16, 7 x 7 | d: 16 | 16, 7 x 7 | a b c |
# | up: block | 16, 7 x 7 | c: 8 | 16, 7 x 7 | a b |
# | up: `nn.Upsample` | 16, 7 x 7 | | 16, 14 x 14 | a b |
# | up: block | 16, 14 x 14 | b: 8 | 8, 14 x 14 | a |
# | up: block | 8, 14 x 14 | a: 8 | 8, 14 x 14 | |


# %%
def run(layer, x, context):
    """Call a layer, with the context if it takes one: blocks do, halving and doubling do not."""
    return layer(x) if isinstance(layer, (nn.Conv2d, nn.Upsample)) else layer(x, context)


# %% [markdown]
# ### Exercise 3.4 - down and up (15 minutes, difficulty 3 of 5)
#
# Write `walk`. It gets a picture `h` of shape `(B, C, H, W)`, the `context` of shape `(B, K)`, two lists of layers
# `down` and `up`, and one function `middle`, called as `middle(h, context)`. It returns what the last layer
# returns.
#
# Keep h itself and then every layer's result on the way down. On the way up, an `nn.Upsample` takes nothing
# (`isinstance(layer, nn.Upsample)` asks for it); before every other layer, h and the picture kept last are joined
# along the channels, h first. Useful: `run` from above, `list.append`, `list.pop`,
# `torch.cat([one, other], dim=...)`.


# %% tags=["exercise"]
def walk(h, context, down, middle, up):
    """Go down and keep every picture; go up and join each of them again."""
    # <solution>
    kept = [h]
    for layer in down:
        h = run(layer, h, context)
        kept.append(h)
    h = middle(h, context)
    for layer in up:
        if not isinstance(layer, nn.Upsample):
            h = torch.cat([h, kept.pop()], dim=1)
        h = run(layer, h, context)
    return h
    # </solution>


# %% tags=["check"]
walk = check("3.4", walk)

# %% [markdown]
# What do the kept pictures carry? A test that shows it: let a small network **copy** a digit. It has three sizes,
# and at the bottom 8 channels of 7 x 7, half as many numbers as there are pixels. A second one is the same, but
# what it joins is empty.
#
# **Before you run it.** Is the network without the kept pictures able to copy, after 120 steps?

# %% tags=["prediction"]
guess_copy = predict("3.c", "its error, compared with the other's", options=["the same", "twice", "over three times"])


# %%
class Forgetful(nn.Module):
    """A block that gets zeros in place of the kept picture."""

    def __init__(self, block, width):
        super().__init__()
        self.block, self.width = block, width

    def forward(self, h, context):
        own = torch.arange(h.shape[1], device=h.device) < self.width  # the first channels are its own
        return self.block(h * own[:, None, None], context)


# %%
class Copier(nn.Module):
    def __init__(self, width=8, keeps=True):
        super().__init__()
        halve = [nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(2)]
        # a ModuleList is a list whose layers count as the network's own: in a plain list nothing would be trained
        self.down = nn.ModuleList([Block(width, width, 1), halve[0], Block(width, width, 1), halve[1]])
        up = [Block(2 * width, width, 1) for _ in range(5)]
        up = up if keeps else [Forgetful(block, width) for block in up]
        double = nn.Upsample(scale_factor=2)  # repeats each pixel in a square of four, without weights
        self.up = nn.ModuleList([up[0], double, up[1], up[2], double, up[3], up[4]])
        self.middle, self.read = Block(width, width, 1), nn.Conv2d(1, width, 3, padding=1)
        self.write = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x):
        return self.write(walk(self.read(x), torch.zeros(len(x), 1), self.down, self.middle, self.up))


# %%
copiers, lines = {}, {}
for name, keeps in (("with kept pictures", True), ("without", False)):
    torch.manual_seed(0)
    generator.manual_seed(0)
    copier, errors = Copier(keeps=keeps), []
    optimizer = torch.optim.Adam(copier.parameters(), lr=5e-3)
    for _ in range(budget(smoke=30, cpu=120, gpu=120)):
        x = batch(8)
        optimizer.zero_grad()
        error = mse_loss(copier(x), x)
        error.backward()
        optimizer.step()
        errors.append(error.item())
    copiers[name], lines[name] = copier, (torch.arange(len(errors)), errors)

# %% tags=["picture"]
show(
    viz.curves(lines, "training step", "mean squared error", log="y"),
    "Two falling curves of the copying error: without the kept pictures it stays several times higher.",
)

# %% tags=["picture"]
x, rows = batch(8), {}
rows["digit"] = x
for name, copier in copiers.items():
    with torch.no_grad():
        rows[name] = copier(x)
show(viz.picture_rows(rows), "Digits and two copies: sharp with the kept pictures, soft without them.")

# %%
factor = mse_loss(rows["without"], x) / mse_loss(rows["with kept pictures"], x)
print(f"The error without kept pictures is {factor:.1f} times as large.")
guess_copy.compare("over three times" if factor > 3 else "twice" if factor > 1.4 else "the same")

# %% [markdown]
# **A claim on trial:** *"The skip connections are there against vanishing gradients."* If the gradient were the
# matter, then without kept pictures the lower layers should hardly get any. Here it is, for fresh copiers, at the
# first layer:

# %%
for name, keeps in (("with kept pictures", True), ("without", False)):
    torch.manual_seed(0)
    copier = awake(Copier(keeps=keeps))
    mse_loss(copier(x), x).backward()
    print(f"{name:18s} gradient at the first layer: {copier.read.weight.grad.norm():.3f}")

# %% [markdown]
# **The verdict.** It is smaller without, about a tenth, and far from vanishing; and Adam, which trained both,
# divides the gradient by its usual size anyway (lesson 04). (Against vanishing, there is the other skip, *inside*
# each block.) What was missing is visible in the rows above: where the edges are. The long skips carry **detail**
# past the bottom. A denoiser needs it: what it returns has an opinion on every pixel.
#
# ## 6. Everything looks at everything
#
# At the bottom each of the 7 x 7 places looks at every other, wherever it is. Each place asks a question (a
# *query*), shows a label (a *key*) and holds an answer (a *value*): three rows of d numbers that a 1 x 1
# convolution makes. How well a query fits a key is their product; softmax turns the scores into shares; the shares
# mix the values (Transformer, eq. 1):
#
# $$\text{score}_{ij} = \frac{\text{query}_i \cdot \text{key}_j}{\sqrt d}, \qquad
#   \text{share}_{ij} = \frac{e^{\text{score}_{ij}}}{\sum_k e^{\text{score}_{ik}}}, \qquad
#   \text{out}_i = \sum_j \text{share}_{ij}\,\text{value}_j$$
#
# Why the root? A sum of d products of numbers of variance 1 has deviation $\sqrt d$ (variances add, lesson 01).
# Several *heads* do this side by side, each with d = C / heads of the channels, so that one place can look at
# several things.
#
# ### Exercise 3.5 - attention (25 minutes, difficulty 4 of 5)
#
# Write `look`. It gets `table` of shape `(B, 3 C, H, W)`, whose first C channels are the query, the next C the key,
# the last C the value, and the number of `heads`, which divides C; the first head owns the first d channels of
# each. It returns `(B, C, H, W)`: for each place and head the mixed values, channels in the same order.
#
# A way: reshape to `(B, 3, heads, d, H * W)`; `.transpose(-1, -2)`; `.unbind(1)` gives three tensors `(B, heads, H
# * W, d)`. `@` multiplies matrices, for each picture and head at once; `torch.softmax(score, dim=...)`. On the way
# back, transpose before you reshape: reshape moves no numbers.


# %% tags=["exercise"]
def look(table, heads):
    """Let each place of a picture mix the values of all places (Transformer, eq. 1)."""
    # <solution>
    B, C, H, W = table.shape[0], table.shape[1] // 3, *table.shape[2:]
    query, key, value = table.reshape(B, 3, heads, C // heads, H * W).transpose(-1, -2).unbind(1)
    score = query @ key.transpose(-1, -2) / math.sqrt(C // heads)
    looked = torch.softmax(score, dim=-1) @ value  # (B, heads, H * W, C / heads)
    return looked.transpose(-1, -2).reshape(B, C, H, W)
    # </solution>


# %% tags=["check"]
look = check("3.5", look)

# %% [markdown]
# **Before you run it.** What does it cost? A picture with twice the side has four times the places. How many times
# the scores?

# %% tags=["prediction"]
guess_cost = predict("3.d", "scores at 14 x 14, compared with 7 x 7", options=[2, 4, 8, 16])

# %%
for size in (7, 14, 28):
    table = torch.randn(4, 3 * 48, size, size, generator=generator)
    look(table, heads=4)  # the first call warms up
    begun = clock.perf_counter()
    for _ in range(3):
        look(table, heads=4)
    seconds = (clock.perf_counter() - begun) / 3
    products = 2 * size**4 * 48  # multiplications a picture: query with key, and share with value
    print(
        f"{size:2d} x {size:2d}: {size**4:7,} scores a head, {products / 1e6:5.1f} million multiplications a picture, "
        f"{1000 * seconds:6.1f} milliseconds for 4 pictures"
    )
guess_cost.compare(14**4 // 7**4)

# %% [markdown]
# **What you saw.** Twice the side, sixteen times the scores: the number grows with $(HW)^2$. (Measured times need
# not follow exactly: small calls have a fixed cost, and many scores no longer fit into the processor's fast memory.)
# 0.2 million multiplications at 7 x 7, 59 million at 28 x 28; the whole network of section 8 needs about 20. This is
# why attention stands at the bottom.
#
# ## 7. Which digit?
#
# One more input, for later: a label that says what to draw. It enters by the same door as time. Each class has a
# row of numbers that the network learns, added to the context. There is one row more than there are classes, for
# "no label": a network that knows both can be steered (lesson 08).
#
# ### Exercise 3.6 - the label (5 minutes, difficulty 2 of 5)
#
# Write `add_label`. It gets `context` of shape `(B, K)`, `table` of shape `(classes + 1, K)`, whose last row means
# "no label", and `label`: whole numbers `(B,)` in 0..classes, or None, which means no label for any picture. It
# returns the context plus each picture's row, `(B, K)`, and leaves the context as it is.
#
# Useful: a tensor of whole numbers is an index, `table[label]`.


# %% tags=["exercise"]
def add_label(context, table, label=None):
    """Add to each picture's context the row of its label."""
    # <solution>
    null = len(table) - 1
    if label is None:
        label = torch.full((len(context),), null)
    return context + table[label]
    # </solution>


# %% tags=["check"]
add_label = check("3.6", add_label)

# %% [markdown]
# ## 8. Put together
#
# All parts are yours now. Attention gets its norm, its two 1 x 1 convolutions (the second starts at zero, as in the
# block), and a skip of its own.


# %%
class Look(nn.Module):
    def __init__(self, channels, heads=4):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(groups(channels), channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.write = quiet(nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        return x + self.write(look(self.query_key_value(self.norm(x)), self.heads))


class Waves(TimeEmbedding):  # the library's frequencies, and your waves
    def forward(self, time):
        return time_waves(time, self.frequency)


# %% [markdown]
# The way down, as in the table of section 5: at each size but the first a convolution of stride 2, then a block. The
# letters a b c d are the entries of `kept`.


# %%
def way_down(widths, context):
    """The layers down, and how many channels each kept picture has."""
    layers, kept = [], [widths[0]]
    for level, width in enumerate(widths):
        if level > 0:
            layers.append(nn.Conv2d(kept[-1], kept[-1], 3, stride=2, padding=1))
            kept.append(kept[-1])
        layers.append(Block(kept[-1], width, context))
        kept.append(width)
    return nn.ModuleList(layers), kept


# %% [markdown]
# The way up, from the row after "middle": at each size two blocks, each takes the last letter, so it reads the channels
# of both; then comes the doubling.


# %%
def way_up(widths, kept, context):
    """The layers up: each block reads its own channels and those of the picture kept last."""
    layers, width = [], widths[-1]
    for level in reversed(range(len(widths))):
        for _ in range(2):
            layers.append(Block(width + kept.pop(), widths[level], context))
            width = widths[level]
        if level > 0:
            layers.append(nn.Upsample(scale_factor=2))
    return nn.ModuleList(layers)


# %% [markdown]
# The whole: "(read)" and "middle" are rows of the table as well. Around them stand time and label, which make the
# context, and `write`, which makes a picture of the last channels.


# %%
class UNet(nn.Module):
    def __init__(self, widths=(24, 48), classes=0):
        super().__init__()
        K = 4 * widths[0]  # numbers in the context
        self.time = nn.Sequential(Waves(widths[0]), nn.Linear(widths[0], K), nn.SiLU())
        self.label = nn.Embedding(classes + 1, K) if classes else None  # a table (classes + 1, K) that is learned
        self.read = nn.Conv2d(4, widths[0], 3, padding=1)  # a grey picture, folded
        self.down, kept = way_down(widths, K)
        self.middle = nn.ModuleList([Block(widths[-1], widths[-1], K), Look(widths[-1])])
        self.up = way_up(widths, kept, K)
        self.norm = nn.GroupNorm(groups(widths[0]), widths[0])
        self.write = quiet(nn.Conv2d(widths[0], 4, 3, padding=1))

    def bottom(self, h, context):
        return self.middle[1](self.middle[0](h, context))


# %% [markdown]
# Last, the order in which they are called. The sum of time and label goes through one more silu, once for all blocks:
# without it, `block.context` would add what it makes of time to what it makes of the label, and neither could change
# what the other does.


# %%
def unet_forward(self, x, time, label=None):
    """Noisy pictures (B, 1, H, W), time (B,) in [0, 1] and labels (B,) to pictures like x."""
    context = self.time(time.to(x))
    if self.label is not None:
        context = add_label(context, self.label.weight, label)
    h = self.read(pixel_unshuffle(x, 2))
    h = walk(h, silu(context), self.down, self.bottom, self.up)
    return pixel_shuffle(self.write(silu(self.norm(h))), 2)


UNet.forward = unet_forward  # in a file of your own, write it inside the class

# %% [markdown]
# Is it the library's network? Give both the same weights, and the same noisy pictures, times and labels.

# %%
torch.manual_seed(0)
mine, theirs = UNet((24, 48), classes=10), awake(library.UNet(widths=(24, 48), blocks=1, classes=10))
mine.load_state_dict(theirs.state_dict())  # an error if a single name or shape differs
x, time, label = torch.randn(5, 1, 28, 28), torch.rand(5), torch.tensor([7, 0, 3, 10, 9])
with torch.no_grad():
    gaps = [(mine(x, time, which) - theirs(x, time, which)).abs().max() for which in (label, None)]
print(
    f"{sum(w.numel() for w in mine.parameters()):,} weights; with and without labels, outputs differ by {max(gaps):.0e}"
)

# %% [markdown]
# The same, to within rounding. Where are its weights, and where is its work? Your `count` counts every convolution.
#
# **Before you run it.** The convolutions at 14 x 14 have few channels: they hold about a fifth of all convolution
# weights. What share of the multiplications do they make?

# %% tags=["prediction"]
guess_work = predict("3.e", "per cent of the multiplications at 14 x 14", options=[5, 20, 50, 80])


# %%
def where(net, x):  # {layer: [weights, multiplications]} of its convolutions, counted while x goes through
    found = {}

    def note(name):
        def seen(layer, inputs, output):  # a forward hook: torch calls it each time the layer has run
            new = count(layer.in_channels, layer.out_channels, layer.kernel_size[0], output.shape[-1])
            found[name] = [a + b for a, b in zip(found.get(name, (0, 0)), new, strict=True)]

        return seen

    convolutions = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(note(".".join(name.split(".")[:2]))) for name, layer in convolutions]
    net(x, torch.zeros(len(x)))
    [hook.remove() for hook in hooks]
    return found


# %%
found = where(mine, x[:1])
weights, work = ({name: pair[i] for name, pair in found.items()} for i in (0, 1))
print(f"{sum(weights.values()):,} weights in convolutions (the rest is in linear layers, norms and labels),")
print(f"{sum(work.values()) / 1e6:.1f} million multiplications a picture")

# %% tags=["picture"]
shares = {
    "of the convolution weights": {name: n / sum(weights.values()) for name, n in weights.items()},
    "of the multiplications": {name: n / sum(work.values()) for name, n in work.items()},
}
figure = viz.parts(shares, "share")
show(
    figure,
    "Bars for eleven layers: those at 14 x 14 have a far larger share of the multiplications than of the weights.",
)

# %%
large = ("read", "down.0", "up.3", "up.4", "write")  # at 14 x 14
of_weights, of_work = (sum(row[name] for name in large) for row in shares.values())
print(f"at 14 x 14: {of_weights:.0%} of the convolution weights, {of_work:.0%} of the multiplications")
guess_work.compare(round(100 * of_work))

# %% [markdown]
# **What you saw.** Weights sit where the channels are many, work where the places are many. That is why a network
# can be made larger at the bottom for little time, and why folding pays: without it (`patch=1`) all of this runs on
# pictures of twice the side, for four times the multiplications and sixteen times the scores. Measured:

# %%
for patch in (2, 1):
    net = library.UNet(widths=(24, 48), blocks=1, patch=patch)
    train(net, 1, size=32)  # the first step warms up
    begun, steps = clock.perf_counter(), budget(smoke=1, cpu=4, gpu=4)
    train(net, steps, size=32)
    print(f"patch = {patch}: {32 * steps / (clock.perf_counter() - begun):6.0f} pictures a second in training")

# %% [markdown]
# ## 9. It denoises
#
# Now train what you built, as in lesson 02, for a minute or so. The objective is *flow*: the network is asked for
# eps - x0. A second network is the same without attention, on the same pictures.
#
# **Before you run it.** *"Attention is needed"*, say many articles. How much higher is the loss without it, on
# digits?

# %% tags=["prediction"]
options = ["hardly higher", "10 to 30 % higher", "twice as high"]
guess_look = predict("3.f", "loss without attention, compared with the other", options=options)

# %%
nets, curves = {}, {}
for name in ("your U-Net", "without attention"):
    torch.manual_seed(0)
    generator.manual_seed(0)
    nets[name] = UNet((24, 48))
    if name == "without attention":
        nets[name].middle[1] = nn.Identity()
    losses = train(nets[name], budget(smoke=25, cpu=200, gpu=200), size=32, lr=4e-3)
    smooth = losses.unfold(0, 25, 25).mean(dim=1)  # windows of 25 steps
    curves[name] = (25 * torch.arange(len(smooth)) + 12.5, smooth)

# %% tags=["picture"]
figure = viz.curves(curves, "training step", "loss (mean of 25 steps)", markers=True)
show(figure, "Two falling loss curves that lie close together: the U-Net with attention and the one without.")

# %%
unseen, tests = data.handwritten(train=False).pictures[:200], {}
for name, net in nets.items():
    with torch.no_grad():
        seeded = torch.Generator().manual_seed(0)  # the same times and noise for both
        tests[name] = float(denoising_loss(Denoiser(net, schedule, objectives.flow), unseen, generator=seeded))
    print(f"{name:18s} loss on 200 digits that it never saw: {tests[name]:.3f}")
ratio = tests["without attention"] / tests["your U-Net"]
guess_look.compare(options[0] if ratio < 1.075 else options[1] if ratio < 1.6 else options[2])

# %% [markdown]
# **The verdict, as measured here** (one seed, 200 steps). On digits of 28 x 28 attention hardly matters: at 7 x 7
# a few convolutions reach everywhere already. It costs next to nothing there, so we keep it. Larger pictures, where
# two far places must agree and convolutions do not reach, are another matter (lesson 11), and a sentence as input
# needs it (lesson 12).
#
# Now look at its guesses, at four noise levels, on a digit that it never saw. "Output" is what the network really
# returns, drawn at half its strength: it reaches past black and white.

# %% tags=["picture"]
denoiser = Denoiser(nets["your U-Net"], schedule, objectives.flow)
x0, times, rows = unseen[3:4].expand(4, 1, 28, 28), torch.tensor([200, 500, 700, 900]), {}  # one digit, four times
x_t = schedule.add_noise(x0, times, torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)))
with torch.no_grad():
    rows["x_t"], rows["output / 2"] = x_t, denoiser.output(x_t, times) / 2  # halved: it reaches past -1 and 1
    rows["guess of x0"], rows["x0"] = denoiser(x_t, times).x0, x0
figure = viz.picture_rows(rows, [f"t = {t}" for t in times.tolist()], size=1.2)
show(
    figure,
    "Four noise levels: the noisy digit, half the output (noise less digit), the guess (ever more blurred), the digit.",
)

# %% [markdown]
# **A claim on trial:** *"The U-Net turns a noisy picture into the clean one."* Row two is what it returns: noise
# less digit, eps - x0. It returns what the objective asks for, and the two equations of lesson 02 make a guess of
# x0 from it. And that guess is an average: sharp where little noise is left, a blur where many digits are possible.
# Nothing has been drawn yet.
#
# One thing more: does it listen to time? Give it digits at t = 500 and *tell* it another time.

# %%
x0, told = unseen[:64], list(range(100, 1000, 100))
x_t = schedule.add_noise(x0, 500, torch.randn(x0.shape, generator=torch.Generator().manual_seed(3)))
error, rows = [], {"x_t": x_t[:8]}
for t in told:
    with torch.no_grad():
        output = denoiser.output(x_t, torch.full((64,), t))
        guess_x0 = x_t - 0.5 * output  # flow at t = 500: x_t = 0.5 x0 + 0.5 eps, output = eps - x0
    error.append(float(mse_loss(guess_x0, x0)))
    if t in (100, 500, 900):
        rows[f"told {t}"] = guess_x0[:8]
rows["x0"] = x0[:8]

# %% tags=["picture"]
lines = {"error": (told, error)}
figure = viz.curves(lines, "time that it was told", "mean squared error of x0", mark=500, markers=True)
show(figure, "Error against the told time: a valley with its bottom near 500, the true time, and higher on both sides.")

# %% tags=["picture"]
show(
    viz.picture_rows(rows),
    "Noisy digits at t = 500 and three guesses: told 100, specks of noise remain; told 500, clean; told 900, faint.",
)

# %% [markdown]
# **What you saw.** The error is smallest near the true time. Told too early, the network takes too little away, and
# specks of the noise stay; told too late, it takes part of the digit away too, which turns faint. A few hundred
# numbers in scale and shift carry that message into every block.
#
# ## Summary
#
# - n convolutions of 3 x 3 see 2n + 1 pixels. Width does not change that, large kernels pay dearly for it, a
#   smaller picture gets it at a quarter of the cost.
# - Time enters as waves, and opens and closes channels by scale and shift, right after the norm.
# - A block adds to what it gets. A start with all zeros did not make our small network faster, and most of the delay
#   came from its last layer; inside the blocks, zeros keep the size of deep stacks.
# - Going down sees far, coming up sees sharp, and the kept pictures carry the detail past the bottom.
# - Attention connects all places, for $(HW)^2$ scores: at the bottom it is nearly free. For digits it is not
#   needed (one seed, 200 steps).
# - **To remember:** the U-Net returns what the objective asks for, a best guess for every pixel, told how noisy the
#   picture is.
#
# ## Quiz
#
# ### Question 1
#
# You guessed how far eight 3 x 3 convolutions see. What happens to that number if every layer gets twice the
# channels?
#
# <details><summary>A. It doubles.</summary>No: channels are more numbers at the same places.</details>
# <details><summary>B. It stays at 17 pixels, for four times the work.</summary>Right. Each layer adds one pixel on
# each side, whatever its width; and twice the inputs times twice the outputs is four times the
# multiplications.</details>
# <details><summary>C. It stays, and so does the work.</summary>No: count it. Every output channel reads every input
# channel.</details>
#
# ### Question 2
#
# A friend's U-Net returns blurred pictures at **every** noise level, even at t = 50. Where do you look first?
#
# <details><summary>A. At the zero starts.</summary>No: they delay the beginning; they do not decide what
# the trained network can do.</details>
# <details><summary>B. At the kept pictures: are they joined, and in the right order?</summary>Right. Without them,
# detail has to pass the bottom, and the copy was soft even with no noise at all.</details>
# <details><summary>C. At attention: there is too little of it.</summary>No: without attention the loss was nearly
# the same, after a short training.</details>
#
# ### Question 3
#
# Scores of attention at 14 x 14 come in what number, compared with 7 x 7?
#
# <details><summary>A. Four times: there are four times the places.</summary>No: each of four times the places looks
# at four times the places.</details>
# <details><summary>B. Sixteen times.</summary>Right: 196 squared against 49 squared.</details>
# <details><summary>C. Twice: the side doubles.</summary>No: every place looks at every place, not at its own
# row.</details>
#
# ## References
#
# - Ronneberger, Fischer, Brox: U-Net, arXiv:1505.04597, figure 1 (down, up, and what is kept).
# - Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, arXiv:2006.11239, appendix B (the U-Net with time).
# - He et al.: Identity mappings in deep residual networks, arXiv:1603.05027, eq. 3 (a block adds; nothing bends the
#   sum).
# - Vaswani et al.: Attention is all you need, arXiv:1706.03762, eq. 1 (attention), section 3.5 (waves).
# - Perez et al.: FiLM, arXiv:1709.07871, eq. 2 (scale and shift); Nichol, Dhariwal: Improved DDPM,
#   arXiv:2102.09672, appendix A (the same, with time).
# - Wu, He: Group normalization, arXiv:1803.08494, eq. 7. Goyal et al., arXiv:1706.02677, section 5.1 (zero starts).
# - Luo et al.: Understanding the effective receptive field, arXiv:1701.04128 (why the middle weighs most).
#
# ## Next
#
# [Lesson 04](04_train_ddpm.ipynb) trains this network until it draws.
