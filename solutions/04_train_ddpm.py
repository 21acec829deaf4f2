# %% [markdown] tags=["promise"]
# # 04. Can I train one myself?
#
# <!-- colab -->
#
# **Can I train one myself?** Yes, on this machine, in minutes. In this lesson you write the parts that a
# training is made of, train a diffusion model on 60,000 handwritten digits from random weights, watch the
# digits grow out of the noise, stop in the middle and go on as if nothing had happened, and find out by
# experiment which choices help when time is short.
#
# - **Prerequisites:** lessons 01 (schedules), 02 (the loss, the four languages, the reverse step) and 03 (the
#   U-Net).
# - **Time:** 75 minutes of yours. The computing takes 4 to 8 minutes on two CPU cores; on a GPU the trainings are
#   longer, and nobody has timed them yet.
# - **Download:** MNIST, 12 MB, once; without a network the lesson goes on with digits that are installed
#   already.

# %% tags=["setup"]
# <setup>

# %% [markdown]
# ## 1. The plan
#
# Everything is there but the training. Lesson 01 gave the schedule, which mixes pictures with noise. Lesson
# 02 gave the loss: draw a step $t$ and a noise for each picture, ask the network which noise it was, take the
# squared error. Lesson 03 gave the network. Training is to repeat four things: draw a batch, compute the
# loss, compute the gradient, move the weights a little against it.
#
# Whole data sets of this size live in memory, on the device that computes. Two networks are used: a small one
# for experiments, and a larger one at the end.

# %%
import copy
import time

import torch

from course_lib import data, objectives, schedules, viz
from course_lib.checks import check
from course_lib.models.unet import UNet
from course_lib.page import predict, show
from course_lib.profile import budget, profile

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
digits, held_out = data.handwritten(), data.handwritten(train=False)
pictures = digits.pictures.to(device)  # (60000, 1, 28, 28), white on black
print(f"{digits.name}: {tuple(pictures.shape)}, values {pictures.min():.0f} to {pictures.max():.0f}, on {device}")

# %%
SMALL = {"smoke": (8, 16), "cpu": (24, 48), "gpu": (64, 128)}[profile()]  # channels at each size of picture
LARGE = {"smoke": (8, 16), "cpu": (32, 64), "gpu": (96, 192)}[profile()]


def new_net(widths, seed=0):
    torch.manual_seed(seed)  # the same seed, the same random start
    net = UNet(widths=widths, blocks=1, patch=2)  # patch 2: four pixels become one, as in lesson 03
    return net.to(device, memory_format=torch.channels_last)  # a pixel's channels side by side: quicker


for name, widths in {"small": SMALL, "large": LARGE}.items():
    print(f"{name}: {sum(weight.numel() for weight in new_net(widths).parameters()):,} weights")

# %% [markdown]
# ## 2. The parts of a training
#
# First, how large is a step? AdamW is the *optimiser*, torch's rule for the step: it divides each weight's gradient
# by its usual size, so `lr` is about how far each weight moves in one step. Large steps learn fast, and then jitter
# around the goal: at the end they should be small. At the very beginning AdamW does not know yet what is usual, so the
# first steps should be small as well. Hence a curve in two straight pieces: up from 0 to the highest rate, during the
# *warm-up*, and down to 0 for the rest of the run.
#
# ### Exercise 4.1 - up, then down (5 minutes, difficulty 1 of 5)
#
# Write `learning_rate`. It gets `done`, the share of the run that is over (a number in [0, 1)), the `highest`
# rate, and `warm_up`, the share of the run that the rise takes (in [0, 1), and it may be 0). It returns the
# rate, a number: 0 at `done = 0`, `highest` at `done = warm_up`, and towards 0 at `done = 1`, straight lines
# in between. Plain Python will do. Without a warm-up the run begins at `highest`.

# %% tags=["exercise"]
def learning_rate(done, highest, warm_up):
    """Rise from 0 to the highest rate during the warm-up, then fall to 0."""
    # <solution>
    if done < warm_up:
        return highest * done / warm_up
    return highest * (1 - done) / (1 - warm_up)
    # </solution>


# %% tags=["check"]
learning_rate = check("4.1", learning_rate)

# %% tags=["picture"]
shares = torch.linspace(0, 1, 201)[:-1].tolist()
lines = {f"warm_up = {w}": (shares, [learning_rate(done, 2e-3, w) for done in shares]) for w in (0.05, 0.3)}
figure = viz.curves(lines, "share of the run that is done", "learning rate")
show(figure, "Two learning rates against the share done: straight up to 0.002, one early and one late, then down to 0.")

# %% [markdown]
# **What you saw.** Two triangles of the same area, the one more, the other less to the left. The area is how far
# the weights can travel; the right end is what lets them come to rest.
#
# Now the step itself. `loss_fn(x0, generator)` is lesson 02's loss as a function of a batch. One thing is
# new: some batches have a gradient that is many times as long as usual, and one such step could undo many
# good ones. So the gradient, all numbers of all weights taken as one long arrow, is shortened to a length of
# 1 where it is longer; its length is the root of the sum of all squares.
#
# ### Exercise 4.2 - one training step (10 minutes, difficulty 2 of 5)
#
# Write `train_step`. It gets the network `net`, a torch `optimizer` over its weights, `loss_fn`, a batch
# `x0`, a `generator`, and the rate `lr` for this step. It sets the rate for *all* groups of weights, computes
# the loss once, moves the weights once along a fresh gradient that is limited to a length of 1, and returns
# the loss as a plain Python number.
#
# Useful: `optimizer.param_groups` is a list of dicts, each with an entry `"lr"`; `optimizer.zero_grad()`;
# `loss.backward()`, which *adds* to the gradients that are there; `torch.nn.utils.clip_grad_norm_(weights,
# longest)`, which shortens the gradient of `weights`, such as `net.parameters()`, in place;
# `optimizer.step()`; `loss.item()`.

# %% tags=["exercise"]
def train_step(net, optimizer, loss_fn, x0, generator, lr):
    """Move the weights once against the gradient of the loss, and report the loss."""
    # <solution>
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = loss_fn(x0, generator)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return loss.item()
    # </solution>


# %% tags=["check"]
train_step = check("4.2", train_step)

# %% [markdown]
# Every step follows one batch, so the weights jitter. A cheap cure (DDPM, appendix B): beside the network in
# training, keep an *average* of its weights over the last steps, and draw with that. After each step,
#
# $$\text{average} \leftarrow d \cdot \text{average} + (1 - d) \cdot \text{weights}$$
#
# With $d = 0.99$ it looks back over about 100 steps. But what is in it at the beginning? The random start.
#
# **Before you compute anything.** With $d = 0.99$ from the first step on, how much of the random start is
# still in the average after 100 steps?

# %% tags=["prediction"]
left = predict("4.a", "percent of the random start left after 100 steps", options=[1, 10, 37])

# %% [markdown]
# A common cure makes $d$ smaller at first: in update $k = 0, 1, 2, \ldots$ it is the smaller one of `decay`
# and $(1 + k) / (10 + k)$, that is 0.1, 0.18, 0.25 and so on; 0.99 comes only after 890 updates, and until then the
# average looks back over about a ninth of the steps so far.
#
# ### Exercise 4.3 - the running average (10 minutes, difficulty 2 of 5)
#
# Write `ema_update`. It gets two networks of the same build, `average` and `net`, the number `k` of updates
# that were made before (0 at first), and `decay`. It changes the weights of `average` in place, with the
# smaller decay of the two, and leaves `net` alone. Networks may also hold *buffers*, tensors that are not
# trained, such as counts: they are copied. Nothing is returned.
#
# Useful: `average.parameters()` and `net.parameters()` come in the same order, and so do `.buffers()`; `zip`
# walks two lists at once. `a.mul_(2)`, `a.add_(b, alpha=3)` (which adds 3 b) and `a.copy_(b)` write into the
# tensor `a`. Above the `def`, or around the lines, `torch.no_grad()` says that nobody will ask for a
# gradient.

# %% tags=["exercise"]
@torch.no_grad()
def ema_update(average, net, k, decay=0.99):
    """Move average a little towards the weights of net."""
    # <solution>
    decay = min(decay, (1 + k) / (10 + k))
    for slow, weight in zip(average.parameters(), net.parameters(), strict=True):
        slow.mul_(decay).add_(weight, alpha=1 - decay)
    for slow, buffer in zip(average.buffers(), net.buffers(), strict=True):
        slow.copy_(buffer)
    # </solution>


# %% tags=["check"]
ema_update = check("4.3", ema_update)

# %% [markdown]
# Your function can answer the question about the random start. Begin with a weight of 1, let the network's
# own weight be 0 from then on, and see what stays.

# %%
one, zero = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
with torch.no_grad():
    one.weight.fill_(1.0)
    zero.weight.fill_(0.0)
for k in range(100):
    ema_update(one, zero, k)
    if k + 1 in (1, 10, 30, 100):
        print(f"after {k + 1:3d} updates: yours {one.weight.item():.1e}, with 0.99 all along {0.99 ** (k + 1):.2f}")
left.compare(37)

# %% [markdown]
# **What you saw.** With 0.99 all along, a third of the random start is left after 100 steps, and a random
# start draws noise. With the smaller decay it is gone after ten. In a short training that decides.
#
# ## 3. From noise to picture, in strides
#
# To see what the network has learned, we draw with it while it trains. Lesson 02's reverse step goes from $t$
# to $t - 1$, a thousand times; for a look in between that is too slow. Its formula, DDPM's equation 7, holds for
# longer strides as well. Write $s$ for $t_\text{next}$, where the stride ends. What matters is how much noise was
# added between $s$ and $t$ all together:
#
# $$\beta = 1 - \frac{\bar\alpha_t}{\bar\alpha_s} \qquad
#   \mu = \frac{\sqrt{\bar\alpha_s}\, \beta\, x_0 + \sqrt{1 - \beta}\, (1 - \bar\alpha_s)\, x_t}{1 - \bar\alpha_t}
#   \qquad \sigma^2 = \frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}\; \beta$$
#
# ### Exercise 4.4 - the ancestral step (15 minutes, difficulty 3 of 5)
#
# Write `ancestral_step`. It gets a predictor `predict`, the `schedule`, noisy data `x_t` of shape `(B,
# *dims)`, whole numbers `t > t_next` in 0..T, and `noise` like `x_t`. It returns the data at `t_next`, like
# `x_t`: the mean above plus the *standard deviation* times the noise. One thing more: a picture has values in
# [-1, 1], so the guessed `x0` is limited to that before it is used; `x_t` and the result are noisy, and are
# not.
#
# Useful: `predict(x_t, steps).x0` is the guess, where `steps` holds one t for each picture:
# `torch.full((len(x_t),), t, device=x_t.device)`. `x.clamp(-1, 1)` limits. `schedule.alpha_bar[t]` is one
# number (a tensor with `.sqrt()`), and row 0 is 1: at `t_next = 0` the formula leaves no noise, without an
# `if`.

# %% tags=["exercise"]
def ancestral_step(predict, schedule, x_t, t, t_next, noise):
    """Draw the data at t_next from the normal distribution of DDPM's eq. 7, for a stride of any length."""
    # <solution>
    x0 = predict(x_t, torch.full((len(x_t),), t, device=x_t.device)).x0.clamp(-1, 1)
    alpha_bar, alpha_bar_next = schedule.alpha_bar[t], schedule.alpha_bar[t_next]
    beta = 1 - alpha_bar / alpha_bar_next
    mean = alpha_bar_next.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - alpha_bar_next) * x_t
    variance = (1 - alpha_bar_next) / (1 - alpha_bar) * beta
    return mean / (1 - alpha_bar) + variance.sqrt() * noise
    # </solution>


# %% tags=["check"]
ancestral_step = check("4.4", ancestral_step)

# %%
from itertools import pairwise

from tqdm.auto import tqdm


@torch.no_grad()
def draw_ancestral(predictor, schedule, n, strides=50, seed=0):
    """Draw n digits with your step, from the same noises for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 28, 28, generator=generator).to(device)
    for t, t_next in pairwise(schedule.steps(strides)):
        noise = torch.randn(n, 1, 28, 28, generator=generator).to(device)
        x = ancestral_step(predictor, schedule, x, t, t_next, noise)
    return x.cpu()


# %%
def show_strip(step, drawn):
    """Show ten drawings of a network in training, and how many steps it has learned for."""
    show(viz.picture_rows({f"step {step:4d}": drawn[:10]}, size=0.7), f"Ten drawings after {step} training steps.")


# %% [markdown]
# ## 4. Train it
#
# Here are your parts, put together. It is a *generator*: after each step it hands over the loss and the
# average, and waits. So the `for` loop that uses it can draw, measure or stop whenever it likes.

# %%
def training(net, loss_fn, steps, highest, batch=64):
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)  # fused: all weights in one go, which is quicker
    stream, generator = data.batches(pictures, batch), torch.Generator().manual_seed(0)
    for step in range(steps):
        lr = learning_rate(step / steps, highest, warm_up=0.05)
        loss = train_step(net, optimizer, loss_fn, next(stream), generator, lr)
        ema_update(average, net, step)
        yield step + 1, loss, average


# %% [markdown]
# A `Denoiser` is a network with its schedule and its language, as in lesson 02. `clip=1.0` tells it that pictures
# lie in [-1, 1], so that its guess of x0 is limited as in your step, whichever sampler asks. And `precision` lets it
# compute with half as many bits (bfloat16) where that is quicker: on GPUs, and on some processors of servers.

# %%
from course_lib.denoiser import Denoiser, denoising_loss, uniform_t
from course_lib.train import quick_precision

precision = quick_precision(device)
print(f"the networks of this lesson compute in {precision} here")


def denoiser_of(net, schedule, objective):
    return Denoiser(net, schedule, objective, clip=1.0, precision=precision)


def loss_of(net, schedule, objective, draw_t=uniform_t):
    denoiser = denoiser_of(net, schedule, objective)
    return lambda x0, generator: denoising_loss(denoiser, x0, draw_t=draw_t, generator=generator)


# %% [markdown]
# How long will it take? Measure a few steps on a throw-away network before you start anything long. The first
# ones do not count, because much is set up in them; and of the others the median, which one slow step cannot move.

# %%
from statistics import median

cosine, steps = schedules.cosine(), budget(smoke=12, cpu=600, gpu=3000)


def seconds_a_step(widths, n=8):
    net = new_net(widths)
    loop = training(net, loss_of(net, cosine, objectives.eps), n + 4, highest=1e-3)
    clock = [time.perf_counter() for _ in loop]  # after each step
    return median(later - before for before, later in pairwise(clock[3:]))


print(f"{steps} steps of 64 pictures will take about {steps * seconds_a_step(SMALL):.0f} s")

# %% [markdown]
# This is a plain DDPM: the language of eps, the cosine schedule, AdamW. Ten noises are put aside, and every
# now and then the average of the weights so far draws ten digits from them, always the same ten noises. Watch
# the strips appear. (In the smoke profile, which only tests that every cell runs, nothing is trained long enough for
# digits, here and below.)

# %%
net, copies, step = new_net(SMALL), {}, 0
average = net  # until the first step makes one
moments = [steps // part for part in (24, 12, 6, 3, 2, 1)]
loop = training(net, loss_of(net, cosine, objectives.eps), steps, highest=2e-3)
bar = tqdm(loop, total=steps, desc="training")
try:
    for step, loss, average in bar:
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if step in moments:
            copies[step] = copy.deepcopy(net), copy.deepcopy(average)
            show_strip(step, draw_ancestral(denoiser_of(average, cosine, objectives.eps), cosine, 10))
except KeyboardInterrupt:
    print(f"Stopped at step {step}: the cells below go on with what is there.")
copies[step] = copy.deepcopy(net), copy.deepcopy(average)  # the last one, wherever you stopped

# %% [markdown]
# **What you saw.** Each strip begins with the same ten noises. At first there is only noise. Then blobs on a
# dark ground, then strokes, and strokes that close into digits. The network was never shown a stroke on its
# own: it was asked, again and again, which noise is in a picture.
#
# One line of your step deserves a second look. At t = 1000 the cosine schedule leaves a signal rate of 0.00005, and a
# guess of x0 from a guess of eps is divided by it. What if the guess is not limited to [-1, 1]?
#
# From here on the course's `draw` draws, with 20 steps of a quicker sampler from lesson 05. Your step limits the guess
# by itself; other samplers do not, and the `clip` of the `Denoiser` does it for them. One of these two has none.

# %% tags=["picture"]
from course_lib.recipes import draw

free = Denoiser(average, cosine, objectives.eps)  # without clip
rows = {"limited": draw(denoiser_of(average, cosine, objectives.eps), 10), "not limited": draw(free, 10)}
print(f"the signal rate at t = 1000 is {cosine.signal_rate[1000]:.5f}")
show(viz.picture_rows(rows, size=0.7), "Two rows of ten drawings by one network: strokes and some digits where the "
                                       "guess is limited, and harsh black and white grain where it is not.")

# %% [markdown]
# **What you saw.** The same network, the same noises. A small error of eps becomes a huge error of x0 in the very first
# stride, and nothing repairs it afterwards. Much of what is said about eps and cosine is about this division.
#
# ### Where does it learn first?
#
# Look at the second strip again: grainy blobs, not one digit. Had the network learned so little by then? A strip cannot
# tell, for a drawing begins with pure noise, and a bad answer there spoils all that comes after. So ask in another way:
# mix *real* digits that it has never seen with noise, at many t, and see what it takes for the picture. A small
# classifier of digits reads these guesses.
#
# **Before you run it.** The network of the second strip gets 250 digits, noised to t = 500. In how many percent of its
# guesses can the right digit be read?

# %% tags=["prediction"]
seen = predict("4.b", "percent of the digits that can be read in its guesses at t = 500", options=[10, 50, 90])

# %%
from course_lib.evaluate import load_digit_features
from course_lib.types import Step

see = load_digit_features()  # the classifier; lesson 07 asks what such a judge hides
clean, times = held_out.pictures[: budget(smoke=25, cpu=250, gpu=250)].to(device), cosine.steps(20)
eps = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)).to(device)


@torch.no_grad()
def answers(net, n):
    """Show n digits to a network at each t from noise to clean: a Step with what it sees and what it makes of it."""
    predictor = denoiser_of(net, cosine, objectives.eps)
    noised = [cosine.add_noise(clean[:n], torch.full((n,), t, device=device), eps[:n]) for t in times]
    for (t, t_next), (x_t, x_next) in zip(pairwise(times), pairwise(noised), strict=True):
        yield Step(t, t_next, x_t, predictor(x_t, torch.full((n,), t, device=device)), x_next)


# %%
def readable(x):
    """The share of the pictures in which the classifier reads the right digit."""
    return float((see(x.clamp(-1, 1).cpu())[1].argmax(1) == held_out.labels[: len(x)].numpy()).mean())


shown, read = sorted({moments[1], moments[3], step} & copies.keys()), {}  # the second strip, the fourth and the last
for at in shown:
    asked = list(answers(copies[at][1], len(clean)))
    read[f"after {at} steps"] = [*(readable(step.prediction.x0) for step in asked), readable(clean)]
rows = {"x_t itself": [*(readable(step.x_t) for step in asked), readable(clean)], **read}
print("t              ", *(f"{t:4d}" for t in times[::2]))
for name, row in rows.items():
    print(f"{name:15s}", *(f"{share:4.0%}" for share in row[::2]))
print(seen.compare(round(100 * next(iter(read.values()))[times.index(500)])))

# %% [markdown]
# This is no drawing: at each step of the player, all three networks (fewer, if you stopped the run) look at the
# *same* noised digits. **Find it:** come
# down from t = 1000. At which t can you first read most of the twelve in the guess of each network? Write down these
# numbers, and the lowest t at which all networks still see nothing; the cell after the player has the classifier's.

# %%
from course_lib.widgets import StepPlayer

said = {}
for name, row in read.items():
    said[name] = [f"t = {t}: {share:.0%} of {len(clean)} can be read in the guess"
                  for t, share in zip(times, row, strict=True)]  # fmt: skip
StepPlayer(
    {f"after {at} steps": list(answers(copies[at][1], 12)) for at in shown},
    title="One network, three ages",
    rates=cosine, curve={f"share of {len(clean)} digits read in the guess": read}, words=said,
    alt="Twelve real digits under less and less noise, and what the network made of them at three moments of its "
        "training: near t = 1000 grain at every age, then digits, and the longer it was trained, the sooner.",
)  # fmt: skip

# %%
for name, row in rows.items():
    border = max((t for t, share in zip(times, row, strict=True) if share >= 0.75), default=0)
    print(f"{name}: the classifier reads three of four digits up to t = {border}")

# %% [markdown]
# **What you saw.** By the second strip nine of ten digits can be read in the guess half way up, where x_t itself tells
# the classifier nothing; and the same network cannot draw a single one. It learns from the clean end: with little
# noise, the picture is easy to find. Training moves the border up, towards more noise, quickly at first, then slowly.
# Near t = 1000 nothing can be read at any age, nor should it: nothing is left of the digit. Drawing goes the other way.
# It begins where the network learns last, and so the first digits come late.
#
# ### A claim on trial: the lower the loss, the better the drawings
#
# The network and its average were put aside at each strip. The next cells measure both: their loss, and how far their
# drawings are from real digits. **Before you run them.** From half way to the end, which of the two will fall by more
# than a fifth?

# %% tags=["prediction"]
second_half = predict("4.c", "in the second half of the run, what falls by more than a fifth", options=[
    "neither", "the loss alone", "the distance alone", "both"])

# %%
from course_lib.metrics import class_coverage, frechet_distance

size = len(digits.pictures) // 6  # 10,000 of MNIST
real, _ = see(digits.pictures[:size])
n = budget(smoke=20, cpu=200, gpu=1000)


# %%
def distance(drawn):
    """How far drawn digits are from real ones, as the classifier sees them: the Frechet distance."""
    return frechet_distance(real, see(drawn)[0], feature_name=see.name).value


def some_real(n):
    """Pick n of the other real digits by lot."""
    lot = torch.randperm(len(digits.pictures) - size, generator=torch.Generator().manual_seed(0))
    return digits.pictures[size:][lot[:n]]


print(f"the floor: {n} real digits are {distance(some_real(n)):.0f} away from {size:,} other real digits")

# %% [markdown]
# The Frechet distance compares the mean and the spread of two sets of pictures, in the 128 numbers that a
# small classifier computes before it decides; lesson 07 puts it on trial. Small sets score too high, so only
# equal numbers of drawings may be compared, and real digits do not score 0. The test loss is taken on digits
# that were not trained on, always with the same noise.

# %%
@torch.no_grad()
def test_loss(predictor):
    x0, generator = held_out.pictures[:1000].to(device), torch.Generator().manual_seed(1)
    return denoising_loss(predictor, x0, generator=generator).item()


table = {}
for step, (weights, average) in copies.items():
    both = [denoiser_of(one, cosine, objectives.eps) for one in (weights, average)]
    table[step] = [test_loss(both[1]), *(distance(draw(one, n)) for one in both)]
    print("step {:4d}: test loss {:.4f}, distance {:5.0f} (weights), {:5.0f} (average)".format(step, *table[step]))

# %% tags=["picture"]
at = list(table)
first, lines = table[at[0]], {}
for k, name in enumerate(["test loss of the average", "distance, weights", "distance, average"]):
    lines[name] = at, [row[k] / first[min(k, 1)] for row in table.values()]  # both distances by the same number
scale = "xy" if at[0] > 0 else "y"  # step 0, where you stopped before the first one, has no logarithm
figure = viz.curves(lines, "training step", "share of the first value", log=scale, markers=True)
figure.axes[0].set_xticks(at, labels=at)
figure.axes[0].set_xticks([], minor=True)
show(figure, "Test loss and distances over the training, the loss as a share of its first value, both distances as "
             "shares of the weights' first. The loss flattens; the distances go on falling and end close together.")

# %%
if at[-1] == moments[-1]:
    half, end = table[at[-2]], table[at[-1]]
    loss_fell, distance_fell = 1 - end[0] / half[0], 1 - end[2] / half[2]
    print(f"steps {at[-2]} to {at[-1]}: the loss falls by {loss_fell:.0%}, the distance by {distance_fell:.0%}")
    fell = {(0, 0): "neither", (0, 1): "the distance alone", (1, 0): "the loss alone", (1, 1): "both"}
    print(second_half.compare(fell[loss_fell > 0.2, distance_fell > 0.2]))
else:
    print("The training was stopped before its end: for the second half, run it once more and let it finish.")

# %% [markdown]
# **What you saw.** Within one run, loss and distance fall together, but not alike. In the second half of ours the test
# loss fell by a sixth, and the distance by more than a quarter (N = 200, one seed). Most of the loss is noise that
# nobody can guess, and the drawings live on the small rest. A loss that looks flat is no reason to stop. Between
# *different* objectives a loss says nothing at all, as section 6 shows.
#
# **Another claim:** *averaging the weights always helps*. Compare the two columns of distances. The average is less
# shaky, and remembers worse weights. In our run it was behind at every strip, by 29 percent at step 50 and by 2 at the
# end (N = 200, one seed); in another one, of 900 steps, it was ahead by a tenth half way, and level at the end. At the
# end there is nothing left to average: the learning rate has gone to 0, and the weights have come to rest by
# themselves. Where the rate stays high, as in DDPM's own training of days, an average should pay; we did not measure
# it.
#
# ## 5. Interrupt it
#
# A laptop is closed, a free GPU is taken away: trainings stop. What must be kept so that it can go on *as if
# nothing had happened*, to the last digit?
#
# ### Exercise 4.5 - what a checkpoint holds (10 minutes, difficulty 2 of 5)
#
# Write `snapshot`. It gets `net` and `average` (networks), the `optimizer`, the random `generator`, and the
# number `step` of steps that were taken. It returns a dict with five entries of these names: the states of
# the first four, and the step. The snapshot must not change when the training goes on.
#
# Useful: `net.state_dict()` and `optimizer.state_dict()` return dicts of tensors, which are the run's own and
# not copies; `generator.get_state()` is a tensor; `copy.deepcopy` copies dicts with all that is in them.

# %% tags=["exercise"]
def snapshot(net, average, optimizer, generator, step):
    """Put aside all that a training needs to go on as if it had never stopped."""
    # <solution>
    states = {
        "net": net.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "step": step,
    }
    return copy.deepcopy(states)
    # </solution>


# %% tags=["check"]
snapshot = check("4.5", snapshot)

# %% [markdown]
# Why the optimiser? AdamW keeps two averages of every weight's gradient. Why the generator? It draws t and
# eps. How large would it all be for the network above?

# %%
optimizer, generator = torch.optim.AdamW(net.parameters()), torch.Generator()
train_step(net, optimizer, loss_of(net, cosine, objectives.eps), pictures[:64], generator, lr=0.0)
states = snapshot(net, average, optimizer, generator, step)


def megabytes(state):
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size() / 1e6
    return sum(map(megabytes, state.values())) if isinstance(state, dict) else 0.0


print(", ".join(f"{name} {megabytes(state):.2f} MB" for name, state in states.items()))

# %% [markdown]
# The course's `fit` is your loop, and with a `folder` it writes such a snapshot there whatever ends the loop:
# `break`, the stop button, an error. The same call goes on from there. The order of the data follows from a seed, and
# `fit` skips the batches already seen; that is why `step` is kept.
#
# **Before you run it.** One training of 20 steps runs through. A second one stops after 10 steps, forgets
# everything, and a new network goes on from the folder. The losses of steps 11 to 20 are:

# %% tags=["prediction"]
again = predict("4.d", "the losses of steps 11 to 20 are", options=["alike", "the same numbers", "larger after a stop"])

# %%
from tempfile import TemporaryDirectory

from course_lib.ema import EMA
from course_lib.train import fit


def twenty(seed, folder=None, stop=20):
    net = new_net((8, 16), seed)
    loss_fn, stream, losses = loss_of(net, cosine, objectives.eps), data.batches(pictures, 32), []
    for progress in fit(loss_fn, net, stream, steps=20, ema=EMA(net), folder=folder):
        losses.append(progress.loss)
        if progress.step == stop:
            break  # as the stop button would
    return losses


# %%
without = twenty(seed=0)
with TemporaryDirectory() as folder:
    before = twenty(seed=0, folder=folder, stop=10)
    after = twenty(seed=123, folder=folder)  # a network with another random start, as after switching off
for step in (10, 11, 15, 20):
    print(f"step {step}: {without[step - 1]:.9f} without a stop, {(before + after)[step - 1]:.9f} with one")
print("largest difference:", max(abs(a - b) for a, b in zip(without, before + after, strict=True)))
again.compare("the same numbers" if before + after == without else "alike")

# %% [markdown]
# **What you saw.** The same numbers, to the last digit. "About the same" would be a warning: it means that
# something was forgotten. (On a GPU, sums may be taken in another order, and the last digits may differ even
# between two runs without a stop.) Here the program stopped itself. Your turn with the stop button comes in section 7,
# where there is something to lose.
#
# ## 6. What helps when time is short?
#
# Your DDPM took a minute or two. What can a quarter of its steps buy (a third, on a GPU)? Here are seven
# trainings of the same small network, with the same random start, the same batches and the same number of steps. From
# line to line, little changes:
#
# - the language (lesson 02): eps, x0, v, flow;
# - the schedule (lesson 01): linear, cosine, and the straight line of flow;
# - the optimiser: AdamW, or Muon, which gives each kernel's step the same size in all directions (lesson 03's kernels
#   are seen as a matrix, which is replaced by the nearest orthogonal one), where AdamW's step is dominated by a few;
# - the steps t: all alike, or more of those in the middle (*logit-normal*: t/T is the sigmoid of a normal
#   number).

# %%
from course_lib.denoiser import logit_normal_t
from course_lib.recipes import muon

flow = schedules.flow()
choices = {  # schedule, objective, optimiser, how t is drawn
    "eps, linear": (schedules.linear_beta(), objectives.eps, "AdamW", uniform_t),
    "eps, cosine": (cosine, objectives.eps, "AdamW", uniform_t),
    "x0, cosine": (cosine, objectives.x0, "AdamW", uniform_t),
    "v, cosine": (cosine, objectives.v, "AdamW", uniform_t),
    "flow": (flow, objectives.flow, "AdamW", uniform_t),
    "flow, Muon": (flow, objectives.flow, "Muon", uniform_t),
    "flow, Muon, middle": (flow, objectives.flow, "Muon", logit_normal_t),
}

# %% [markdown]
# **Before you run it.** Which of the four languages draws best after these few seconds, with AdamW and all
# steps alike? And which of them has the lowest loss?

# %% tags=["prediction"]
language = predict("4.e", "the best drawings come from", options=["eps", "x0", "v", "flow"])
lowest = predict("4.f", "the lowest loss has", options=["eps", "x0", "v", "flow"])

# %%
def prepared(widths, choice, steps, folder=None):
    """Return a training loop that follows a choice, and the predictor that it makes: the average of its weights."""
    schedule, objective, optimizer, draw_t = choice
    net = new_net(widths)
    ema = EMA(net, decay=0.99)
    lr, optimizer = (0.02, muon(net, 0.02)) if optimizer == "Muon" else (2e-3, None)  # None: fit makes an AdamW
    loop = fit(
        loss_of(net, schedule, objective, draw_t), net, data.batches(pictures, 64), steps=steps, ema=ema,
        lr=lambda done: learning_rate(done, lr, warm_up=0.05), optimizer=optimizer, folder=folder,
    )  # fmt: skip
    return loop, denoiser_of(ema.net, schedule, objective)


# %%
short, results = budget(smoke=6, cpu=150, gpu=1000), {}
for name, choice in tqdm(choices.items(), desc="trainings"):
    loop, predictor = prepared(SMALL, choice, short)
    *_, last = loop  # runs to the end, and keeps what the last step reported
    drawn = draw(predictor, n)
    row = results[name] = {"loss": test_loss(predictor), "distance": distance(drawn), "drawn": drawn[:10]}
    print(f"{name:19s} {last.seconds:4.0f} s, loss {row['loss']:.3f}, distance {row['distance']:5.0f}")

# %% tags=["picture"]
figure = viz.picture_rows({f"{name}: {row['distance']:.0f}": row["drawn"] for name, row in results.items()}, size=0.6)
show(figure, "Seven rows of ten drawings, one row for each choice, with its distance; the same noises in each column.")

# %%
languages = {"eps": "eps, cosine", "x0": "x0, cosine", "v": "v, cosine", "flow": "flow"}
print(language.compare(min(languages, key=lambda word: results[languages[word]]["distance"])))
print(lowest.compare(min(languages, key=lambda word: results[languages[word]]["loss"])))

# %% [markdown]
# **What you saw.** The losses are not comparable. In our run (MNIST, 150 steps, N = 200, one seed):
#
# | choice | loss | distance |
# |---|---|---|
# | eps, linear | 0.09 | 914 |
# | eps, cosine | 0.14 | 856 |
# | x0, cosine | 0.11 | 556 |
# | v, cosine | 0.29 | 749 |
# | flow | 0.45 | 679 |
# | flow, Muon | 0.35 | 438 |
# | flow, Muon, middle | 0.35 | 333 |
#
# The lowest loss of all seven drew worst; eps and x0 with one schedule have losses close together, and x0 draws far
# better; and the largest loss comes second of the five with AdamW. Flow asks for a difference of picture and noise,
# which is larger than either: that makes its loss large, not its drawings bad. So much for "the lower the loss, the
# better". Look at two of the rows again, larger.

# %% tags=["picture"]
rows = {name: results[name]["drawn"] for name in ("eps, cosine", "x0, cosine")}
show(viz.picture_rows(rows, size=0.9), "Two rows of ten drawings from the same noises: grain with eps, smooth with x0.")

# %% [markdown]
# **What you saw.** eps leaves grain everywhere, and the schedule made no difference you can see; x0 is smooth. Two
# equations turn one answer into another, but near t = T they divide a guess of eps by a small signal rate: small
# errors become large ones, and the limit only cuts them. A guess of x0 is at worst a blur. Early in a training that
# counts; near t = 0 the roles are exchanged (lesson 02), and v and flow stand between.
#
# What helped most is how the steps are used: from 679 to 438 with Muon, and to 333 with more steps in the
# middle; your DDPM needed 600 steps for that. Muon learns more from each step, and the middle of the flow
# path is where the picture is decided: at its ends, the best answer is an easy one. (These are single trainings
# with few drawings: differences of a fifth can be chance, factors are not. And after hours of training on
# large data the order may be another one.)
#
# ## 7. The long run
#
# Now the best choice, the larger network, and a minute or two. `HOW` decides what the next cell does:
# `"train"` begins anew, `"resume"` goes on with your own stopped run, `"load"` takes the weights that come
# with the course (the same choices, a larger network yet, ten minutes on two cores). Stop it in the middle if you like:
# nothing is lost.

# %%
import shutil

from course_lib.recipes import load_denoiser

HOW = "train"  # or "resume", or "load"
own = data.data_dir() / "trained" / "lesson-04" / profile()
steps = budget(smoke=16, cpu=400, gpu=4000)
if HOW == "train":
    shutil.rmtree(own, ignore_errors=True)

# %%
if HOW == "load":
    model = load_denoiser(data.shipped("mnist-ddpm"))
else:
    loop, model = prepared(LARGE, choices["flow, Muon, middle"], steps, folder=own)
    bar = tqdm(total=steps, desc="training")
    try:
        for progress in loop:
            bar.set_postfix(loss=f"{progress.loss:.3f}", refresh=False)
            bar.update(progress.step - bar.n)
            if progress.step in (steps // 16, steps // 4, steps):
                show_strip(progress.step, draw(model, 10))
    except KeyboardInterrupt:
        loop.close()  # which writes down the step it is at
        print('Stopped; nothing is lost. Set HOW = "resume" and run these two cells again to go on.')

# %% tags=["picture"]
final = draw(model, budget(smoke=40, cpu=400, gpu=1000))
rows = {f"{k} to {k + 9}": final[k : k + 10] for k in (0, 10, 20, 30)}
figure = viz.picture_rows(rows, size=0.7)
show(figure, "Forty drawings of the final network: about half can be read as a digit.")

# %% [markdown]
# These are yours, from random weights. How good are they, and are all ten digits among them? (How far the shares are
# from equal ones is measured in nats, the unit of information that goes with the natural logarithm: a fair yes or no
# is 0.69 of them.)

# %%
floor = distance(some_real(len(final)))
print(f"distance {distance(final):.0f}, N = {len(final)}; as many real digits: {floor:.0f}")
_, chances = see(final)
covered, nats = class_coverage(chances.argmax(1), 10, feature_name=see.name)
print(f"{covered.value:.0f} of 10 digits occur; {nats.value:.3f} nats from equal shares (all ten alike: 0)")

# %% tags=["picture"]
counts = torch.bincount(torch.from_numpy(chances.argmax(1)), minlength=10) / len(final)
truth = torch.bincount(digits.labels, minlength=10) / len(digits.labels)
figure = viz.shares({"drawn": counts, "training digits": truth}, 0.1, 2 * (0.09 / len(final)) ** 0.5, "digit")
show(figure, "How often each of the ten digits was drawn, beside its share of the training data.")

# %% [markdown]
# **What you saw.** All ten, none of them forgotten: a diffusion model is asked about every picture of the training
# set, so leaving a digit out costs loss. Do not mind one bar that leaves the grey band: chance keeps a share of 0.1
# inside it in 19 of 20 cases, and there are ten. But our run had two outside, and one of them was hardly chance: 26
# ones of 400, where their share of the training digits calls for 45. Ten minutes of training do not quite mend it: 78
# of 1,000 instead of 112, with the weights that ship. Not forgetting is not yet being fair. Lesson 06 meets a rival
# that forgets digits easily. The judge here is itself a network, trained on real digits: where drawings are bad, its
# opinion means little.
#
# **The third claim:** *you need a GPU, and hours*. For digits you needed two cores and a few minutes. With
# the same choices, ten minutes on two cores reach a distance of 19 with N = 1,000 (the weights that ship with
# the course; one seed), where real digits score 10; three minutes reached 35 to 44 (three seeds), and on slower cores,
# which take fewer steps in that time, 52 to 55.
#
# ## 8. What labels buy
#
# One thing was left out: which digit each picture is. A network that is told has an easier task, because it
# need not find out first what the blur in front of it will be. The course ships one that was trained just
# like yours, for ten minutes, with labels (lesson 08 shows how). **Before you run it:** told which digit,
# will it draw better digits, or only the digit that was asked for?

# %% tags=["prediction"]
told = predict("4.g", "labels buy", options=["better digits, too", "only the choice of the digit"])

# %% tags=["picture"]
labelled = load_denoiser(data.shipped("mnist-ddpm-labels"))
rows = {f"a {digit}": draw(labelled, budget(smoke=2, cpu=8, gpu=8), label=digit) for digit in range(10)}
figure = viz.picture_rows(rows, size=0.55)
show(figure, "Ten rows of eight drawings: the digits 0 to 9, one row for each label.")

# %%
unlabelled = load_denoiser(data.shipped("mnist-ddpm"))
scores = {name: distance(draw(one, n)) for name, one in {"without": unlabelled, "with": labelled}.items()}
for name, score in scores.items():
    print(f"ten minutes of training {name} labels: distance {score:.0f}, N = {n}")
told.compare("better digits, too" if scores["with"] < scores["without"] else "only the choice of the digit")

# %% [markdown]
# **What you saw.** Each column begins with the same noise, and keeps something of a hand; the label chooses
# the digit, and now and then it is not obeyed. Same network, same minutes, better digits: after three minutes of
# training, the distance is 40 without labels and 15 with them (N = 1,000, mean of three seeds), less than half, for
# the same computing. After ten minutes it is 19 against 9. There little is left to gain, since as many real digits
# score 10. And 9 is not "better than real": with labels each digit is drawn equally often, where real ones come by
# lot, and a difference of one is chance. It is not free: somebody had to read 60,000 digits.
#
# ## Summary
#
# - A training repeats four things: a batch, a loss, a gradient, a small move. Forget the old gradient, limit
#   the new one.
# - The learning rate goes up, then down to 0. Where it ends at 0, an average of the weights adds little, and one that
#   keeps the random start ruins everything.
# - A checkpoint holds all that changes: network, average, optimiser, random numbers, step. Then a stop leaves
#   no trace.
# - Losses of different objectives cannot be compared, and late in a run the loss hardly shows what the
#   drawings gain.
# - In a short training the language matters, and Muon with a good choice of t matters more. Labels, compared at other
#   budgets, help as well, and a lot.
# - **To remember:** compare at the same budget, judge drawings by drawings, and say how many they were.
#
# ## Quiz
#
# ### Question 1
#
# You guessed how much of the random start is left in an average with a decay of 0.99 after 100 steps. Your
# friend trains for 100 steps, draws with such an average, and sees noise. What happened?
#
# <details><summary>A. The network has learned nothing in 100 steps.</summary>Perhaps, but the average does
# not show it: draw with the weights themselves to find out.</details>
# <details><summary>B. 37 % of the random start is still in the average.</summary>Right: 0.99 to the power of
# 100. A smaller decay at the beginning forgets it within ten steps.</details>
# <details><summary>C. Averages of weights make blurred pictures, and so noise.</summary>No: it is weights
# that are averaged, not pictures, and late in a run their average draws about as well.</details>
#
# ### Question 2
#
# Two trainings on the same data: one with x0 ends at a loss of 0.05, one with flow at 0.2. Which one draws
# better?
#
# <details><summary>A. The one with x0: its loss is four times lower.</summary>No: the two numbers measure
# errors of different things.</details>
# <details><summary>B. One cannot say: draw with both, and compare equal numbers of drawings.</summary>Right,
# and at the same budget.</details>
# <details><summary>C. The one with flow: a larger loss means that it learned a harder task.</summary>No: a
# larger loss proves nothing, either.</details>
#
# ### Question 3
#
# After a stop, a run goes on with its network and its average, but with a new AdamW. What do you expect?
#
# <details><summary>A. The same losses to the last digit, because all weights are the same.</summary>No:
# AdamW's next step depends on what it remembers of earlier gradients.</details>
# <details><summary>B. It goes on, with other losses, and the first steps are blind.</summary>Right: AdamW has
# to find out again which gradients are usual.</details>
# <details><summary>C. It begins again at the loss of step 1.</summary>No: what was learned is in the
# weights.</details>
#
# ## References
#
# - Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, arXiv:2006.11239: algorithm 1 (training), eq.
#   7 (the reverse step), appendix B (the average of the weights).
# - Nichol, Dhariwal: Improved Denoising Diffusion Probabilistic Models, arXiv:2102.09672, eq. 17 (the cosine
#   schedule) and eq. 19 (beta for longer strides).
# - Loshchilov, Hutter: Decoupled weight decay regularization, arXiv:1711.05101, algorithm 2 (AdamW).
# - Salimans, Ho: Progressive distillation, arXiv:2202.00512, appendix D (v). Liu, Gong, Liu: Flow straight
#   and fast, arXiv:2209.03003, eq. 1 (flow). Esser et al.: Scaling rectified flow transformers,
#   arXiv:2403.03206, eq. 19 (logit-normal steps).
# - Jordan et al.: Muon, an optimizer for hidden layers in neural networks, 2024,
#   kellerjordan.github.io/posts/muon.
# - Heusel et al.: GANs trained by a two time-scale update rule, arXiv:1706.08500, eq. 6 (the Frechet
#   distance).
#
# ## Next
#
# [Lesson 05](05_samplers.ipynb) draws from these networks in fewer steps: which sampler, how many steps, and
# what it costs.
