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
# # 02. The denoising objective
#
# <!-- colab -->
#
# **What is the network asked to learn?** Lesson 01 turned data into noise. Here a network learns the way back, and
# the surprise is how modest its task is: one guess, scored by a squared error.
#
# After this lesson you can
#
# - say what the best possible guess is, and why it looks like a blur;
# - read one network output as a picture, as noise, or as a velocity, and know that these are one answer;
# - walk from the likelihood bound to the loss that everybody uses, and name what is dropped on the way;
# - write that loss, one step of training and one step back, train a model of points in the plane, and measure it
#   against the exact answer;
# - tell a diffusion model from a small network that popular articles call one.
#
# **Prerequisites:** lessons 00 and 01; Python and numpy; derivatives and averages. The torch calls that you need for
# an exercise are named in it; other new ones have a comment where they first come.
#
# **Time:** about 120 minutes of yours; after section 5 is a good place for a break. The computing takes about 2 minutes
# on a CPU and 2 minutes on a GPU machine: these networks are too small for a GPU to help. **Download:** nothing.

# %% tags=["setup"]
# <setup>

# %%
import math

import torch

from course_lib import data, objectives, schedules, viz
from course_lib.checks import check
from course_lib.models.exact import ExactPredictor
from course_lib.page import predict, show
from course_lib.profile import budget
from course_lib.types import noise_like

schedule = schedules.linear_beta(T=1000)  # the one of the DDPM paper, from lesson 01
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. One noisy point, many pasts
#
# Adding noise is a recipe. Can it be run backwards? Take the smallest data set there is: x0 is either -1 or 1, each
# as often. Shrink it by `a` = 0.6, add noise of deviation `s` = 0.8, and suppose that $x_t = 0.3$ comes out. Which x0
# was it?
#
# **Before you run anything.** You have to give one number as your answer, and pay the square of your error. Which
# answer costs the least on average: the nearer point 1, the rescaled 0.3 / 0.6 = 0.5, or 0.27?

# %% tags=["prediction"]
guess = predict("2.a", "the cheapest answer for x0, seeing x_t = 0.3", options=[1.0, 0.5, 0.27])

# %%
points = torch.tensor([-1.0, 1.0])
a, s = 0.6, 0.8
x0 = points[torch.randint(2, (400_000,), generator=generator)]
x_t = a * x0 + s * torch.randn(len(x0), generator=generator)
pasts = x0[(x_t - 0.3).abs() < 0.02]  # where all those came from that ended near 0.3
share = float((pasts == 1).float().mean())
print(f"{len(pasts)} of 400,000 ended near 0.3: {share:.0%} came from 1, {1 - share:.0%} from -1.")

# %% tags=["picture"]
answers = torch.linspace(-1, 1, 101)
cost = torch.stack([(pasts - answer).square().mean() for answer in answers])
figure = viz.curves({"cost": (answers, cost)}, "the answer given", "mean squared error", mark=float(pasts.mean()))
show(figure, "A parabola: the mean squared error is lowest for an answer a little above 0, marked by a thin line.")

# %%
guess.compare(round(float(pasts.mean()), 2))

# %% [markdown]
# **What you saw.** Both pasts are real, so nobody can run the recipe backwards. What exists is a best guess, and for
# squared errors it is always the average over all pasts, $\hat x_0 = E[x_0 \mid x_t]$: set the derivative of
# $E[(x_0 - g)^2]$ by $g$ to zero, and $g = E[x_0]$ remains. The best guess may be a value that no data ever take.
#
# For points $x_k$ that are equally frequent, Bayes' rule gives each a share: how high its bell, centred at $a\,x_k$,
# stands over $x_t$. The best guess is the average with these shares.
#
# $$w_k \propto \exp\left(-\frac{(x_t - a\,x_k)^2}{2 s^2}\right), \qquad \sum_k w_k = 1, \qquad
#   \hat x_0 = \sum_k w_k\, x_k$$
#
# ### Exercise 2.1 - the best guess (10 minutes, difficulty 2 of 5)
#
# Write `best_guess`. It gets noisy numbers `x_t` of shape `(B,)`, `points` of shape `(K,)` anywhere on the line, and
# two plain numbers: `a` in 0..1 and `s` above 0. It returns the best guess of x0 for each of `x_t`,
# shape `(B,)`, in the dtype of x_t.
#
# Useful: `x_t[:, None]` has shape `(B, 1)` and lines up with `(K,)` to `(B, K)`; `torch.softmax(scores, dim=1)` is
# exp of the scores divided by the sum over each row, computed so that it never becomes 0 / 0.

# %% tags=["exercise"]
def best_guess(x_t, points, a, s):
    """Average the points, each with its share given x_t."""
    # <solution>
    distance = (x_t[:, None] - a * points) ** 2  # (B, K)
    share = torch.softmax(-distance / (2 * s**2), dim=1)
    return (share * points).sum(dim=1)
    # </solution>


# %% tags=["check"]
best_guess = check("2.1", best_guess)

# %% [markdown]
# Does the formula agree with counting? And what becomes of the guess as the noise grows?

# %%
for place in (-1.0, -0.3, 0.3, 1.0):
    counted = x0[(x_t - place).abs() < 0.02].mean()
    formula = best_guess(torch.tensor([place]), points, a, s)
    print(f"x_t = {place:4.1f}: counted {counted:5.2f}, your best_guess {formula.item():5.2f}")

# %% tags=["picture"]
x, lines = torch.linspace(-2, 2, 201), {}
for t in (20, 200, 500, 900):
    signal_rate, noise_rate = float(schedule.signal_rate[t]), float(schedule.noise_rate[t])
    lines[f"t = {t}"] = (x, best_guess(x, points, signal_rate, noise_rate))
figure = viz.curves(lines, "x_t", "best guess of x0")
show(figure, "Best guess against x_t: a step from -1 to 1 at t = 20, ever gentler slopes, and flat near 0 at t = 900.")

# %% [markdown]
# **What you saw.** With little noise the best guess is the nearest point. With much noise it is the mean of all data,
# whatever $x_t$ is. In between it hedges.
#
# The same in the plane. `data.ring()` has eight clusters on a circle, and because it is a mixture of normal
# distributions, its best guess has a closed form: `ExactPredictor`, the answer key of this course. It returns a pair,
# the best guess of x0 and the best guess of eps.

# %% tags=["picture"]
ring = data.ring()  # radius 1, eight clusters of deviation 0.08
exact = ExactPredictor(ring, schedule)
x0 = ring.sample(1000, generator)
panels = {"data": x0}
for t in (50, 200, 400, 800):
    x_t = schedule.add_noise(x0, t, noise_like(x0, generator))
    panels[f"best guess, t = {t}"] = exact(x_t, torch.full((1000,), t)).x0
figure = viz.clouds(panels, limit=1.5, size=2.2)
show(figure, "Eight clusters, and best guesses: a ring with gaps at t = 50, a filled disc at 200, a dot at t = 800.")

# %% [markdown]
# Notice the bridges at t = 50, the filled disc at t = 200 and the dot at t = 800: places where there are **no data at
# all**. A perfect network gives these answers too. For pictures, a place between data is a blur; this is why a
# denoiser asked once draws blurs, and why drawing takes many steps.
#
# ## 2. The best guess knows which way is up
#
# There is a second way to describe the best guess. Let $p_t$ be the density of all noisy points at step t. The
# gradient of its logarithm, the **score**, points to where noisy points are more common. Tweedie's formula says that
# it is the best guess of the noise, up to a factor:
#
# $$\nabla_{x_t} \log p_t(x_t) = -\frac{\hat\epsilon}{s}, \qquad
#   \hat x_0 = \frac{x_t + s^2\, \nabla \log p_t(x_t)}{a}$$
#
# **A claim on trial:** *"Score models and noise predictors are two kinds of model."* If so, the two numbers below
# should differ. One comes from differentiating the density with torch, the other from the predictor.

# %%
t = 200
signal_rate, noise_rate = float(schedule.signal_rate[t]), float(schedule.noise_rate[t])
x_t = torch.randn(1000, 2, generator=generator).requires_grad_()  # torch writes down what becomes of it
log_p = ring.log_prob(x_t, signal_rate, noise_rate)  # of the noisy density at t
(score,) = torch.autograd.grad(log_p.sum(), x_t)  # the derivative of the first by the second
from_noise = -exact(x_t.detach(), torch.full((1000,), t)).eps / noise_rate
print(f"first point: score {score[0].tolist()}, -eps / s {from_noise[0].tolist()}")
print(f"largest difference over 1000 points: {(score - from_noise).abs().max():.1e}")

# %% tags=["picture"]
axis = torch.linspace(-1.65, 1.65, 12)
grid = torch.cartesian_prod(axis, axis)  # every pair, (144, 2)
arrows = {}
for t in (50, 200, 600):
    arrows[f"t = {t}"] = -exact(grid, torch.full((len(grid),), t)).eps / schedule.noise_rate[t].float()
show(
    viz.fields(grid, arrows, cloud=ring.sample(300, generator), limit=1.8),
    "Arrows of the score: to the nearest cluster at t = 50, to the middle at t = 200 and 600, ever shorter.",
)

# %% [markdown]
# **What you saw.** The same numbers to within rounding: the claim does not hold. Learning to guess the noise *is*
# learning the score.
#
# Notice how the field changes its mind. At t = 600 all arrows lead to the middle: nothing is decided. At t = 50 they
# lead to the nearest cluster, and they are many times longer (read the colour bars: up to about 40, 4.5 and 2.3),
# because there is little noise to blame for a point so far away. Following the arrows while
# the noise falls is what drawing means.
#
# ## 3. One answer, four languages
#
# What should the network put out: the picture, or the noise? Both at once is never needed. $x_t$ is known, and
# $x_t = a\,x_0 + s\,\epsilon$ ties the two together. Any mixture of the two will do as a target:
#
# $$\text{target} = c\, x_0 + d\, \epsilon$$
#
# | objective | c | d | meaning |
# |---|---|---|---|
# | eps | 0 | 1 | the noise (DDPM) |
# | x0 | 1 | 0 | the clean data |
# | v | -s | a | the velocity on the circle of signal and noise |
# | flow | -1 | 1 | the velocity on the straight line from data to noise |
#
# ### Exercise 2.2 - one output, two answers (15 minutes, difficulty 3 of 5)
#
# Write `solve_output`. It gets the network's `output` and the noisy `x_t`, both `(B, *dims)`, and four rates `a`,
# `s`, `c`, `d` of shape `(B, 1, ..., 1)`, so that ordinary `*` and `/` line up. It returns the pair `x0, eps`, both
# like `x_t` in shape and dtype, that satisfies both equations:
#
# $$a\, x_0 + s\, \epsilon = x_t \qquad\qquad c\, x_0 + d\, \epsilon = \text{output}$$
#
# Do it once for general rates, with pencil and paper first; a divisor $a d - s c$ will appear. Divide by nothing
# else: any one of the four may be 0.

# %% tags=["exercise"]
def solve_output(output, x_t, a, s, c, d):
    """Solve two equations for (x0, eps)."""
    # <solution>
    determinant = a * d - s * c
    x0 = (d * x_t - s * output) / determinant
    eps = (a * output - c * x_t) / determinant
    return x0, eps
    # </solution>


# %% tags=["check"]
solve_output = check("2.2", solve_output)

# %% [markdown]
# If all objectives say the same, does it matter which one is chosen? A network is never quite right. Let us shift its
# output by 0.01, read it with your function, and see how far the picture moves.

# %% tags=["picture"]
t = torch.arange(1, 1001)
x_t, lines = torch.zeros(1000, 1), {}
a, s = schedule.rates(t, like=x_t)  # (1000, 1) each: signal_rate and noise_rate
for objective in (objectives.eps, objectives.x0, objectives.v):
    right, _ = solve_output(x_t, x_t, a, s, *objective.row(a, s))
    moved, _ = solve_output(x_t + 0.01, x_t, a, s, *objective.row(a, s))
    lines[objective.name] = (t, (moved - right).abs().flatten())
figure = viz.curves(lines, "t", "x0 moves by", log="y", title="an output that is wrong by 0.01")
show(figure, "Shift of x0 against t: constant for x0, rising to 0.01 for v, and rising far above 1 for eps.")

# %% [markdown]
# **What you saw.** At T the eps objective multiplies its errors by $s / a \approx 157$: an output that is wrong by
# one hundredth moves the picture by more than its whole range. x0 and v are calm there. Where little noise is
# left, eps and v are the exact ones: they move the picture by s / a and by s times the error, x0 by all of it. And as
# a is at most 1, v is never worse than eps. So the language does not change what is asked, but it does change
# **which errors hurt**.

# %% [markdown]
# ## 4. The best possible loss is not zero
#
# The exact predictor cannot be beaten: no network, however large, guesses better from $x_t$. So its own squared error
# is the floor of every loss curve on these data.
#
# **Before you run it.** The floor of the eps objective depends on t. At one of these steps even the best predictor is
# about as bad as one that always answers 0, whose error is 1. Which?

# %% tags=["prediction"]
worst = predict("2.b", "the best guess of eps is nearly worthless at", options=["t = 1", "t = 500", "t = 1000"])

# %%
times = [1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 700, 1000]
n = budget(smoke=500, cpu=4000, gpu=4000)
x0, floors = ring.sample(n, generator), {"eps": [], "x0": [], "v": []}
for t in times:
    eps = noise_like(x0, generator)
    best = exact(schedule.add_noise(x0, t, eps), torch.full((n,), t))
    a, s = schedule.rates(t, like=x0)
    for name, floor in floors.items():
        c, d = getattr(objectives, name).row(a, s)
        error = c * (best.x0 - x0) + d * (best.eps - eps)
        floor.append(float(error.square().mean()))

# %% tags=["picture"]
lines = {name: (times, floor) for name, floor in floors.items()}
figure = viz.curves(lines, "t", "smallest possible mean squared error", log="x", markers=True)
show(figure, "Floors: eps falls from 1, has a second hump near t = 100 and ends at 0; x0 rises to 0.5; v is their sum.")

# %%
print(f"eps: {floors['eps'][0]:.2f} at t = 1, {floors['eps'][-1]:.5f} at t = 1000")
sums = [of_eps + of_x0 for of_eps, of_x0 in zip(floors["eps"], floors["x0"], strict=True)]
gap = max(abs(both - of_v) for both, of_v in zip(sums, floors["v"], strict=True))
print(f"floor of v less the floors of eps and x0: at most {gap:.4f}")
worst.compare("t = 1")

# %% [markdown]
# **What you saw.** Where the picture is nearly clean, its noise is nearly unknowable: at t = 1 the noise moves a
# point by 0.01, inside a cluster that is eight times as wide. At T it is the other way round: $x_t$ *is* the noise,
# and of x0 only the average is known. The second hump, near t = 100, is the doubt between clusters: the noise is now
# as long as the way to the neighbour. The floor of v is the sum of both, at every t.
#
# **A claim on trial:** *"The network predicts the noise that was added."* It predicts the average of all noises that
# could have been added. On these data even the perfect answer misses by the floor, and a training loss that
# stays below the floor would be a bug or memorised data, not a triumph.

# %% [markdown]
# ## 5. Where the loss comes from
#
# A model of data should make the data likely: $-\log p(x_0)$ should be small. That cannot be computed directly, but
# DDPM bounds it by a sum of terms, each asking how well one reverse step $p(x_{t-1} \mid x_t)$ imitates the true one
# (eq. 5):
#
# $$-\log p(x_0) \le \underbrace{L_T}_{\text{is } x_T \text{ noise?}} + \sum_{t=2}^{T} \underbrace{E\,
#   \mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)\,\big\|\,p(x_{t-1} \mid x_t)\big)}_{\text{one step back}} +
#   \underbrace{E\left[-\log p(x_0 \mid x_1)\right]}_{\text{the last step}}$$
#
# KL(q || p) is the mean of log q - log p over draws from q: what it costs to take p for q, in nats (natural
# logarithms). It is 0 where the two agree and above 0 everywhere else.
# The true step looks into the answer book: it knows $x_0$. Then it is a normal distribution (eq. 6 and 7), because
# two normal facts meet: where $x_{t-1}$ may come from, and where it must lead. Its mean mixes $x_0$ and $x_t$:
#
# $$\tilde\mu = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t\, x_0 + \sqrt{1 - \beta_t}\,(1 - \bar\alpha_{t-1})\, x_t}
#   {1 - \bar\alpha_t} \qquad \text{variance } \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t$$
#
# Believe it when you have seen it: start many points at $x_0 = 0.5$, take four big steps, and keep those that land
# near -0.2. Where were they one step before? The bell beside them is eq. 7 in another form: where two normal facts
# meet, their precisions (1 / variance) add, and each fact pulls the mean in proportion to its own. After "+-" stands
# the standard error: the count has chance in it, and may well be two of these away.

# %%
short, t, x0 = schedules.linear_beta(10, 0.05, 0.5), 4, 0.5
a, s, beta = short.signal_rate[t - 1], short.noise_rate[t - 1], short.beta[t]
noise = torch.randn(2, 1_000_000, generator=generator)
before = a * x0 + s * noise[0]  # x_3, by the jump
after = (1 - beta).sqrt() * before + beta.sqrt() * noise[1]  # x_4, by one step
landed = before[(after + 0.2).abs() < 0.01]
from_x0, from_x_t = 1 / s**2, (1 - beta) / beta  # the precisions
mean = (from_x0 * a * x0 + from_x_t * -0.2 / (1 - beta).sqrt()) / (from_x0 + from_x_t)
std = (from_x0 + from_x_t) ** -0.5
chance = landed.std() / len(landed) ** 0.5
print(f"counted {len(landed)} points: mean {landed.mean():.3f} +- {chance:.3f}, std {landed.std():.3f}")
print(f"the bell: mean {mean:.3f}, std {std:.3f}")

# %% tags=["picture"]
bell = mean + std * torch.randn(200_000, generator=generator)
both = {"counted": landed, "the bell": bell}
figure = viz.histogram(both, "x_3, of those with x_4 near -0.2", bins=60, spread=(-1.3, 1.5))
show(figure, "Two histograms that lie on each other: the points counted one step before, and the bell.")

# %% [markdown]
# ### What each step is charged
#
# The model's step has to do without the answer book. It is given the same shape, a normal distribution, and puts its
# best guess where $x_0$ stood. Two normals with fixed variance differ only by their means, so the KL becomes a
# squared distance between means (eq. 8), and as both means hold the same $x_t$, only the error of the guess is left
# (eq. 12):
#
# $$\text{charge}_t = \frac{\beta_t}{2\,(1 - \beta_t)\,(1 - \bar\alpha_t)}\;
#   E\,\big\| \epsilon - \hat\epsilon(x_t, t) \big\|^2$$
#
# Here DDPM's choice $\sigma_t^2 = \beta_t$ is used for the model's variance. So the whole bound needs no other skill
# than guessing noise. And no network output for $x_{t-1}$ is needed: its mean follows from the guess by arithmetic.
#
# **Before you run it.** Give the bound the exact predictor, and add up the charges from t = 1 on. After how many of
# the 1000 steps is half of the sum reached?

# %% tags=["prediction"]
half = predict("2.c", "half of all charges are made in the first ... steps", options=[10, 150, 500])

# %%
n = budget(smoke=200, cpu=2000, gpu=2000)
x0, error = ring.sample(n, generator), torch.zeros(schedule.T, dtype=torch.float64)
for t in range(1, schedule.T + 1):
    eps = noise_like(x0, generator)
    eps = eps / eps.square().mean().sqrt()  # variance exactly 1: less chance in the sum
    best = exact(schedule.add_noise(x0, t, eps), torch.full((n,), t))
    error[t - 1] = (eps - best.eps).square().sum(dim=1).mean()  # both dimensions
weight = objectives.variational(schedule, objectives.eps, torch.arange(1, schedule.T + 1))
charge = weight * error
reached = {"the bound": charge.cumsum(0) / charge.sum(), "the simple loss": error.cumsum(0) / error.sum()}
for name, sums in reached.items():
    print(f"{name}: half of it by t = {int((sums < 0.5).sum()) + 1}")

# %% tags=["picture"]
lines = {name: (torch.arange(1, schedule.T + 1), sums) for name, sums in reached.items()}
figure = viz.curves(lines, "t", "share of the sum so far", log="x")
show(figure, "Share of the sum up to t: the bound passes one half near t = 12, the simple loss near t = 160.")

# %%
half.compare(int((reached["the bound"] < 0.5).sum()) + 1)

# %% [markdown]
# Is it truly a bound? The density of the ring is known, so all parts can be added up and compared with the truth.
# Beside the charges there are three parts that no network can change: what $x_T$ still holds of $x_0$; the widths,
# because the model uses $\beta_t$ where the true step has $\tilde\beta_t$; and the width of the very last step.

# %%
beta, alpha_bar = schedule.beta, schedule.alpha_bar
left = alpha_bar[-1]
parts = {
    # KL from N(sqrt(left) x0, 1 - left) to N(0, 1), in two dimensions
    "is x_T noise? (L_T)": left * x0.square().sum(dim=1).mean() / 2 - left - (1 - left).log(),
    # -log of the height of a bell with variance beta[1]; how far off its centre is, the charges say
    "the last step's own width": (2 * math.pi * beta[1]).log(),
    # r = true variance / the model's: the KL of two bells with one centre is (r - 1 - log r) / 2 for each dimension
    "the other steps' widths": sum(r - 1 - r.log() for r in (1 - alpha_bar[1:-1]) / (1 - alpha_bar[2:])),
    "charges for wrong noise": charge.sum(),
}
for name, nats in parts.items():
    print(f"{name:28s}{float(nats):8.4f} nats")
print(f"{'the bound':28s}{float(sum(parts.values())):8.4f} nats")
print(f"{'the truth, -log p(x0)':28s}{-float(ring.log_prob(x0).mean()):8.4f} nats")

# %% [markdown]
# **What you saw.** A thousand terms add up to a number just above the truth. Only one line of the table depends on
# the network: the charges. DDPM then does something bold: it drops their weights and keeps
#
# $$L_\text{simple} = E_{t,\,x_0,\,\epsilon}\,\big\| \epsilon - \hat\epsilon(x_t, t) \big\|^2 \qquad \text{(eq. 14)}$$
#
# **A claim on trial:** *"Training minimises the likelihood bound."* The bound puts half of its charges on about a
# dozen nearly clean steps, where the eye sees nothing; the simple loss needs about 160 steps for its first half. The
# authors report that dropping the weights costs a little likelihood and gains much picture quality (their table 1).
# It is a choice of taste, not a consequence of the bound.

# %% [markdown]
# ## 6. Write the loss
#
# ### Exercise 2.3 - the denoising loss (15 minutes, difficulty 3 of 5)
#
# Write `denoising_loss` for the eps objective (DDPM, algorithm 1, lines 2 to 5). It gets a network `net`, clean data
# `x0` of shape `(B, *dims)`, a `schedule` with `schedule.T` steps, and a `generator`. Draw one whole t in 1..T for
# **each** example, all equally likely; draw noise like x0; make $x_t$; ask the network once, as
# `net(x_t, time)` with `time` = t / T of shape `(B,)`; return the mean of (output - eps)² as a tensor of shape `()`.
#
# Useful: `torch.randint(low, high, (n,), generator=generator)` draws n whole numbers and leaves `high` out;
# `torch.randn(shape, generator=generator)` draws noise of variance 1; `schedule.rates(t, like=x0)` returns the pair
# `a, s`, ready to multiply x0.

# %% tags=["exercise"]
def denoising_loss(net, x0, schedule, generator):
    """Score a network's guess of the noise (DDPM, algorithm 1)."""
    # <solution>
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    a, s = schedule.rates(t, x0)
    output = net(a * x0 + s * eps, t / schedule.T)
    return ((output - eps) ** 2).mean()
    # </solution>


# %% tags=["check"]
denoising_loss = check("2.3", denoising_loss)

# %% [markdown]
# Before training anything, know the two ends of the scale: a network that always answers 0, and the best there can
# be.

# %%
def silent(x_t, time):
    return torch.zeros_like(x_t)


def perfect(x_t, time):
    return exact(x_t, (time * schedule.T).round().long()).eps


x_test = ring.sample(50_000, generator)
for name, net in {"always 0": silent, "perfect": perfect}.items():
    print(f"{name:9s} scores {denoising_loss(net, x_test, schedule, torch.Generator().manual_seed(1)):.3f}")
best_loss = float(denoising_loss(perfect, x_test, schedule, torch.Generator().manual_seed(1)))

# %% [markdown]
# So on the ring with this schedule, the useful range of the loss is from 1 down to about 0.17, and 0 is out of reach.
#
# ## 7. Write one step back
#
# A step back is eq. 7 with the best guess in place of x0: its mean, and on top fresh noise of deviation
# $\sqrt{\tilde\beta_t}$.
#
# ### Exercise 2.4 - one reverse step (15 minutes, difficulty 3 of 5)
#
# Write `reverse_step`. It gets a `predictor`, the `schedule`, noisy data `x_t` of shape `(B, *dims)`, one whole
# number `t` in 1..T, and `noise` like x_t. It returns $x_{t-1}$, like x_t in shape and dtype.
#
# Useful: `predictor(x_t, steps)` returns the pair `x0, eps`; it wants one t for each example, and `torch.full((n,),
# t)` holds n times t. `schedule.beta[t]` and `schedule.alpha_bar[t]` are single numbers (tensors with a `.sqrt()`);
# row 0 of alpha_bar is 1, so t = 1 needs no `if` in the formula of section 5 (with precisions it would: 1 / 0).

# %% tags=["exercise"]
def reverse_step(predictor, schedule, x_t, t, noise):
    """Draw x_(t-1) from the normal distribution of eq. 7, with the predicted x0."""
    # <solution>
    x0, _ = predictor(x_t, torch.full((len(x_t),), t))
    beta, alpha_bar, alpha_bar_next = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
    mean = alpha_bar_next.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - alpha_bar_next) * x_t
    variance = (1 - alpha_bar_next) / (1 - alpha_bar) * beta
    return mean / (1 - alpha_bar) + variance.sqrt() * noise
    # </solution>


# %% tags=["check"]
reverse_step = check("2.4", reverse_step)

# %% [markdown]
# First a test on section 5: let the predictor look into the answer book, as the true step does. Then your step must
# give the bell that you counted there.

# %%
from course_lib.types import Prediction


def answer_book(x_t, t):
    x0 = torch.full_like(x_t, 0.5)
    a, s = short.rates(t, like=x_t)
    return Prediction(x0, (x_t - a * x0) / s)


here = torch.full((1, 1), -0.2)
centre = reverse_step(answer_book, short, here, 4, torch.zeros(1, 1))
width = reverse_step(answer_book, short, here, 4, torch.ones(1, 1)) - centre
print(f"your step: mean {centre.item():.3f}, std {width.item():.3f}; the bell: mean {mean:.3f}, std {std:.3f}")

# %% [markdown]
# A thousand of your steps make a sampler. With the exact predictor in it, there is no training and no excuse: what
# comes out should be the ring.
#
# **Before you run it.** Popular texts say that a step *removes a little noise*. Yours removes some and adds some.
# What if the adding is left out, and each step returns the mean alone?

# %% tags=["prediction"]
quiet = predict(
    "2.d",
    "drawing with the means alone gives",
    options=["the same ring", "clumps that are too tight", "one blob in the middle"],
)

# %%
@torch.no_grad()
def draw(predictor, n, loudness=1.0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator)  # x_T
    for t in range(schedule.T, 0, -1):
        x = reverse_step(predictor, schedule, x, t, loudness * noise_like(x, generator))
    return x


n = budget(smoke=100, cpu=2000, gpu=2000)
drawn, hushed = draw(exact, n), draw(exact, n, loudness=0.0)

# %% tags=["picture"]
figure = viz.clouds({"true data": ring.sample(n, generator), "your steps": drawn, "means alone": hushed}, limit=1.5)
show(figure, "True data and your steps: eight round clusters. Means alone: eight small clumps, nearer to the middle.")

# %%
def clusters(x):
    """Measure how wide the clusters are around their own centres, and how far the centres have moved."""
    own = torch.cdist(x, ring.means).argmin(dim=1)  # cdist: distance of each x from each mean, (n, 8)
    centres = torch.stack([x[own == k].mean(dim=0) for k in range(8)])
    return (x - centres[own]).std(), (centres - ring.means).norm(dim=1).mean()


for name, x in {"true data": ring.sample(n, generator), "your steps": drawn, "means alone": hushed}.items():
    width, moved = clusters(x)
    print(f"{name:12s} width of a cluster {width:.3f}, its centre moved by {moved:.3f}")
quiet.compare("clumps that are too tight")

# %% [markdown]
# **What you saw.** The noise in the reverse step is not decoration. The mean is an average, averages pull inwards,
# and a thousand pulls without any noise against them give clumps that are about a quarter as wide as they should be,
# and whose centres have moved inwards.
#
# ### Which cluster will it be?
#
# **A claim on trial:** *"The starting noise decides what will be drawn."* Each point begins as noise and ends in one
# of eight clusters. Say that it has *settled* at t if from there on its guess of x0 stays nearest to the cluster in
# which it ends. If the claim holds, all points have settled at T.
#
# **Before you run it.** At which t have half of the points settled, if they walk by your steps, noise and all?

# %% tags=["prediction"]
settling = predict("2.e", "half of the points have settled at t =", options=[1000, 500, 100])

# %%
from course_lib.types import Step


def film(loudness, n=200, seed=1):
    """Walk n points back with your step, and keep all that there is to see on the way."""
    generator = torch.Generator().manual_seed(seed)
    x, steps = torch.randn(n, 2, generator=generator), []
    for t in range(schedule.T, 0, -1):
        x_next = reverse_step(exact, schedule, x, t, loudness * noise_like(x, generator))
        steps.append(Step(t, t - 1, x, exact(x, torch.full((n,), t)), x_next))
        x = x_next
    return steps


# %%
def nearest_cluster(x):
    return torch.cdist(x, ring.means).argmin(dim=1)


films = {"your steps": film(loudness=1.0), "means alone": film(loudness=0.0)}
right, settled = {}, {}  # the guess is nearest to the cluster in which the point ends; and so from here on
for name, steps in films.items():
    end = nearest_cluster(steps[-1].x_next)
    right[name] = torch.stack([nearest_cluster(step.prediction.x0) == end for step in steps])  # (1000, 200)
    settled[name] = right[name].flip(0).cumprod(0).flip(0)

# %% [markdown]
# Both films start from the same noise, and the player keeps them in step by noise level. The grey strokes behind
# $x_t$ are the field of section 2: each pulls towards its end with the dot. The line is the way of one point, number
# 5, and the dashed line leads from it to its guess.
#
# **Find it.** First press play, and see where the means alone keep all the points. Then scrub: at which t does the
# guess of point 5 enter its last cluster, by your steps? Write it down before you run the cell below the player. (The
# curve answers the question above.)

# %%
from course_lib.widgets import StepPlayer

axis = torch.linspace(-2.4, 2.4, 9)
places = torch.cartesian_prod(axis, axis)  # (81, 2)
pull = torch.stack([exact(places, torch.full((81,), step.t)).eps for step in films["your steps"]])
share = {name: [*rows.double().mean(1), 1] for name, rows in settled.items()}

# %%
StepPlayer(
    films,
    rates=schedule,
    curve={"share of the points that have settled": share},
    words=lambda step: f"t = {step.t}: guesses {step.prediction.x0.norm(dim=1).mean():.2f} from the middle",
    paths=[4],  # counted from 0
    field={name: (places, pull) for name in films},
    title="From noise to the ring",
    alt="200 points on their way from noise to a ring of eight clusters. By your steps the cloud "
    "stays wide, and the way of one point is jagged; by the means alone all points go straight "
    "to the middle and leave it near the end.",
)

# %%
for name, rows in settled.items():
    at = schedule.T - (rows == 0).sum(dim=0)  # the rows before a point has settled come first
    print(f"{name}: half of the points have settled at t = {int(at.median())}, point 5 at t = {int(at[4])}")
    guessed = ", ".join(f"{right[name][schedule.T - t].double().mean():.0%} at {t}" for t in (1000, 500, 200, 50))
    print(f"    guesses nearest to the right one of the eight clusters: {guessed}")
    if name == "your steps":
        print(settling.compare(int(at.median())))

# %% [markdown]
# **What you saw.** It depends on the step. By the means alone the start decides everything: each point falls to the
# middle, hardly moves until most of the noise is gone, and then leaves for the cluster that its guess named from the
# beginning. By your steps the start decides nothing: the guess at T is right about as often as chance, one in eight,
# and fresh noise keeps the choice open for most of the way. So the claim holds for samplers that add no noise of
# their own (in lesson 00 the same noise always ended at the same picture), and fails for this one.
#
# Your step also has a general form, in which strides longer than one are allowed. Lesson 05 is about it; here is the
# proof that it is the same step.

# %%
from course_lib.samplers import ddim_step

x_t, noise = torch.randn(1000, 2, generator=generator), torch.randn(1000, 2, generator=generator)
for t in (1000, 500, 2, 1):
    general = ddim_step(exact, schedule, x_t, t, t - 1, eta=1.0, noise=noise).x_next
    yours = reverse_step(exact, schedule, x_t, t, noise)
    print(f"t = {t}: largest difference {(general - yours).abs().max():.0e}")

# %% [markdown]
# ## 8. Train it
#
# ### Exercise 2.5 - one step of learning (10 minutes, difficulty 2 of 5)
#
# Write `train_step`. It gets a torch `optimizer`, a function `loss_fn`, a batch `x0` and a `generator`. It computes
# the loss once, as `loss_fn(x0, generator)`, changes the weights once, and returns the loss as a plain Python number
# (a float).
#
# Useful: `optimizer.zero_grad()` forgets the old gradients, `loss.backward()` computes new ones,
# `optimizer.step()` moves the weights along them, and `loss.item()` is the number in a tensor.

# %% tags=["exercise"]
def train_step(optimizer, loss_fn, x0, generator):
    """Take one step of gradient descent and report the loss."""
    # <solution>
    loss = loss_fn(x0, generator)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    # </solution>


# %% tags=["check"]
train_step = check("2.5", train_step)

# %% [markdown]
# The network is a small `MLP`: two numbers and a time go in, two numbers come out, with three hidden layers of 64
# between. First your own loop, for a few hundred steps.

# %%
from course_lib.models.mlp import MLP

torch.manual_seed(0)
net = MLP(dim=2, width=64)
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
stream = data.batches(ring.sample(20_000, generator), 1024)


def loss_fn(x0, generator):
    return denoising_loss(net, x0, schedule, generator)


steps = budget(smoke=40, cpu=400, gpu=400)
losses = [train_step(optimizer, loss_fn, next(stream), generator) for _ in range(steps)]

# %% tags=["picture"]
steps = range(1, len(losses) + 1)
lines = {"your training": (list(steps), losses), "best possible": (list(steps), [best_loss] * len(losses))}
show(
    viz.curves(lines, "training step", "loss"),
    "The loss falls steeply from 1 at first, then creeps and jitters a little above the line of the best possible.",
)

# %% [markdown]
# After a few hundred steps the curve looks flat, close to the best possible. Is the work done? The next cell goes on
# with the course's `fit`, which is your loop with a gradient limit and a report after each step, and keeps an EMA: a
# slow average of the weights, which draws better than the jittering weights themselves. Copies are put aside on the
# way: "early" holds the weights of your loop as they are, "middle" and "late" are averages. It takes under 30 seconds
# on two cores.

# %%
import copy

from course_lib.ema import EMA
from course_lib.train import fit

ema, copies = EMA(net, decay=0.998), {"early": copy.deepcopy(net)}  # deepcopy: training does not touch it
steps = budget(smoke=60, cpu=5000, gpu=5000)
for progress in fit(loss_fn, net, stream, steps=steps, lr=lambda done: 4e-3 * (1 - done), ema=ema):
    if progress.step == steps // 8:
        copies["middle"] = copy.deepcopy(ema.net)
copies["late"] = ema.net
print(f"{steps} steps of 1024 points in {progress.seconds:.0f} s")

# %% [markdown]
# To draw, a network must become a predictor. That is your `solve_output` with the row of eps, nothing else.

# %%
def predictor_of(net, objective=objectives.eps):
    def predictor(x_t, t, cond=None):
        a, s = schedule.rates(t, like=x_t)
        return Prediction(*solve_output(net(x_t, t / schedule.T), x_t, a, s, *objective.row(a, s)))

    return predictor


n = budget(smoke=100, cpu=2000, gpu=2000)
samples = {name: draw(predictor_of(net), n) for name, net in copies.items()}

# %% tags=["picture"]
panels = {"true data": ring.sample(n, generator), "exact predictor": draw(exact, n), **samples}
show(
    viz.clouds(panels, limit=1.5, size=2.3),
    "Five clouds. True data, exact predictor and late network: eight clusters. Early and middle: smeared, none.",
)

# %% [markdown]
# ### How good is it?
#
# The eye is kind; a number should be fair. The **energy distance** compares two clouds by the distances between and
# within them, and is 0 for equal distributions. But two samples of the *same* distribution never agree exactly, so a
# number means nothing without its own noise floor: true data against other true data.
#
# Beside it stands a plainer count. In the true ring, 1.1 % of the points lie more than three deviations from their
# cluster. Strays beyond that are mistakes.

# %%
def energy_distance(x, y):
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())


def strays(x):
    return float((torch.cdist(x, ring.means).amin(dim=1) > 0.24).float().mean())  # amin: smallest of a row


truth = ring.sample(n, generator)
again = [energy_distance(ring.sample(n, generator), truth) for _ in range(20)]
print(f"true data again, 20 times: distance {min(again):.4f} to {max(again):.4f}, strays {strays(truth):.1%}")
for name, x in {"exact predictor": panels["exact predictor"], **samples}.items():
    print(f"{name:16s} distance {energy_distance(x, truth):.4f}, strays {strays(x):.1%}")

# %%
for name, net in copies.items():
    with torch.no_grad():
        loss = float(denoising_loss(net, x_test, schedule, torch.Generator().manual_seed(1)))
    print(f"{name:7s} loss {loss:.4f}, which is {loss - best_loss:.4f} above the best possible")

# %% [markdown]
# **What you saw.** By the distance, early and late are far apart, but the late network can hardly be told from true
# data: it lies where the exact predictor lies, within or near what chance does. The strays tell it apart all the
# same. One number never says all.
#
# **A claim on trial:** *"The loss tells how good the samples are."* Between early and late the loss moves in its
# second decimal, on a scale that begins at 1, while the strays fall from half of all points to a few in a
# hundred. Most of the loss is the
# floor, which no network can touch; what draws well or badly is the small rest above it. Judge samples by samples.

# %% tags=["picture"]
nearest = {}
for name in ("true data", "exact predictor", "late"):
    mode = torch.cdist(panels[name], ring.means).argmin(dim=1)
    nearest[name] = torch.bincount(mode, minlength=8) / n  # bincount: how often each of 0..7 comes
chance = 2 * math.sqrt(0.125 * 0.875 / n)  # two standard errors
figure = viz.shares(nearest, 0.125, chance, "cluster")
show(figure, "Bars for eight clusters, three each, all close to 0.125; most end within the grey band of chance.")

# %% [markdown]
# No cluster is missed and none is favoured beyond what chance does to true data: about one bar in twenty may leave
# the band. Where is the network still wrong? Compare its guess of x0 with the exact one, step by step.

# %% tags=["picture"]
late, gaps, doubts = predictor_of(copies["late"]), [], []
x0 = ring.sample(4000, generator)
for t in times:
    x_t, step = schedule.add_noise(x0, t, noise_like(x0, generator)), torch.full((4000,), t)
    with torch.no_grad():
        gaps.append(float((late(x_t, step).x0 - exact(x_t, step).x0).square().mean().sqrt()))
    doubts.append(float((exact(x_t, step).x0 - x0).square().mean().sqrt()))
lines = {"network from best guess": (times, gaps), "best guess from truth": (times, doubts)}
figure = viz.curves(lines, "t", "root mean square distance", log="xy", markers=True)
show(figure, "Distance against t: the network stays below the best guess's own error until late, then climbs past it.")

# %% [markdown]
# Notice the right end. At T the network's guess of x0 is far off, although its loss there is tiny: it speaks eps, and
# you saw in section 3 what $s / a$ does to small errors. The samples survive, because the first steps move only a
# little towards the guess. With more work per step, as in lesson 05, this will matter.
#
# ## 9. Is this little network a diffusion model?
#
# Some popular articles show "a diffusion model" in a few lines: a fully connected network 100-128-128-100 that takes
# the data and learns to give them back. No noise is added, no time goes in. Here it is, on real digits resized to
# 10 x 10 = 100 numbers.

# %%
from torch import nn

pictures, _ = data.digits()
vectors = nn.functional.interpolate(pictures, size=(10, 10), mode="bilinear").flatten(1)  # (1797, 100)
vectors = vectors[torch.randperm(len(vectors), generator=generator)]
train, held_out = vectors[:1500], vectors[1500:]


def layers(numbers_in=100):
    hidden = [nn.Linear(numbers_in, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(128, 100))  # each layer takes what the one before puts out


# %%
torch.manual_seed(0)
article = layers()
optimizer, stream = torch.optim.Adam(article.parameters(), lr=1e-3), data.batches(train, 128)


def copying_loss(x, generator):
    return (article(x) - x).square().mean()


for _ in range(budget(smoke=200, cpu=3000, gpu=3000)):
    train_step(optimizer, copying_loss, next(stream), generator)
with torch.no_grad():
    error = float(copying_loss(held_out, None)) / float(held_out.var())
print(f"digits it has never seen come back with an error of {error:.2%} of their variance")

# %% [markdown]
# By its own loss this is a success: new digits come back nearly unchanged. **Before you run the next cell:** a
# diffusion model begins with pure noise. What will this network make of it?

# %% tags=["prediction"]
from_noise = predict(
    "2.f", "pure noise goes in; out comes", options=["a digit", "the average digit", "smeared noise"]
)

# %% tags=["picture"]
x = torch.randn(10, 100, generator=torch.Generator().manual_seed(0))
rows = {"noise": x}
with torch.no_grad():
    for k in range(1, 1001):
        x = article(x)
        if k in (1, 10, 100, 1000):
            rows["1 pass" if k == 1 else f"{k} passes"] = x
show(
    viz.picture_rows({name: row.reshape(-1, 10, 10) for name, row in rows.items()}),
    "Ten columns that begin as noise: smeared noise after 1 and 10 passes, harsh blots after 1000, no digits.",
)

# %%
def nearest(x):
    return float(torch.cdist(x, train).amin(dim=1).mean())


print(f"distance to the nearest training digit: new digits {nearest(held_out):.1f}")
for name, row in rows.items():
    print(f"{name:12s} {nearest(row):6.1f}, values up to {row.abs().max():.1f}")
from_noise.compare("smeared noise")

# %% [markdown]
# **What you saw.** One pass gives smeared noise, and more passes never lead to a digit. The distance from the digits
# does fall: the network keeps the part of the noise that looks like its digits. But it has not learned to choose
# among them, because it has never seen noise. It has no reverse step, either: no $x_{t-1}$, no rates, no t. And its
# loss, near zero, was the best of this whole lesson: one more case against reading quality from a loss.

# %% [markdown]
# ### Which missing part was the fatal one?
#
# Three parts are missing: noise in training, a sampler, and the time input. It is often said that a network without
# time cannot be a diffusion model at all. Begin with that one: the exact predictor lets us test it without training
# anything. The best network without t must average its answers over the steps that $x_t$ may have come from, with
# Bayes' shares:
#
# $$\hat\epsilon(x_t) = \sum_t p(t \mid x_t)\; \hat\epsilon(x_t, t), \qquad p(t \mid x_t) \propto p_t(x_t)$$

# %%
steps = list(range(10, 1001, 20))  # fifty of the thousand steps stand for all


def without_time(mixture, x_t):
    """Answer as the best predictor that is not told t; also its own guess of t."""
    predictor, n = ExactPredictor(mixture, schedule), len(x_t)
    rates = [(float(schedule.signal_rate[t]), float(schedule.noise_rate[t])) for t in steps]
    log_p = torch.stack([mixture.log_prob(x_t, a, s) for a, s in rates], dim=1)  # (B, 50)
    share = torch.softmax(log_p, dim=1)
    eps = torch.stack([predictor(x_t, torch.full((n,), t)).eps for t in steps], dim=1)  # (B, 50, dim)
    return (share[:, :, None] * eps).sum(dim=1), (share * torch.tensor(steps)).sum(dim=1)


# %%
from course_lib.models.exact import GaussianMixture

worlds = {"ring, 2 numbers": ring, "digits, 100 numbers": GaussianMixture(vectors, std=0.1)}
asked, read, n = [10, 50, 110, 210, 310, 410, 510, 710, 910], {}, budget(smoke=30, cpu=200, gpu=200)
for name, mixture in worlds.items():
    read[name] = []
    for t in asked:
        x0 = mixture.sample(n, generator)
        _, t_read = without_time(mixture, schedule.add_noise(x0, t, noise_like(x0, generator)))
        read[name].append(float(t_read.mean()))

# %% tags=["picture"]
lines = {name: (asked, row) for name, row in read.items()} | {"true t": (asked, asked)}
figure = viz.curves(lines, "true t", "t as read from x_t alone", markers=True)
show(figure, "t read from x_t: for digits it follows the true t up to about 300; for the ring it stays in the middle.")

# %% [markdown]
# **What you saw.** Two numbers say next to nothing about how much noise is in them. A hundred numbers tell it, nearly
# exactly up to t = 300: the distance from the nearest known digit, divided by $\sqrt{100}$, *is* the noise level. Two
# numbers average too little for that. (Each of these digits has noise of 0.1 of its own, so that it has a density.)
#
# So for the ring a missing t should hurt, and for pictures it should hardly matter. First the ring, drawn with the
# best possible predictor without t.

# %%
from functools import partial

from course_lib.samplers import sample


def blind_predictor(x_t, t, cond=None):
    a, s = schedule.rates(t, like=x_t)
    eps, _ = without_time(ring, x_t)
    return Prediction(*solve_output(eps, x_t, a, s, *objectives.eps.row(a, s)))


# %% tags=["picture"]
starts, walk = torch.randn(budget(smoke=50, cpu=1000, gpu=1000), 2, generator=generator), schedule.steps(100)
ancestral = partial(ddim_step, eta=1.0)  # your reverse step, with longer strides; partial fills in eta
both = {"with t": exact, "without t": blind_predictor}
both = {name: sample(ancestral, p, schedule, starts, walk, generator=generator) for name, p in both.items()}
print(", ".join(f"{name}: strays {strays(x):.0%}" for name, x in both.items()))
show(viz.clouds(both, limit=2.5), "With t: eight clusters. Without t: one round cloud in the middle, and no ring.")

# %% [markdown]
# Without t, the ring is lost. Would another language than eps save it? No: with the averages taken in x0, v and flow,
# the strays of 1000 points were 100, 69 and 90 % (eps: 76 %; 100 strides, one seed).
#
# Now the article's own network, 100-128-128-100 and still without t, trained with one thing changed: noise goes into
# its input at random steps, and the clean digit is its target (the x0 objective). Beside it stand a twin that gets t
# as a 101st number, and one without t that speaks eps.

# %%
from course_lib.denoiser import Denoiser
from course_lib.denoiser import denoising_loss as course_loss


class Little(nn.Module):
    def __init__(self, told):
        super().__init__()
        self.told, self.layers = told, layers(100 + told)

    def forward(self, x_t, time):
        clock = [2 * time[:, None] - 1] if self.told else []  # from -1 to 1
        return self.layers(torch.cat([x_t, *clock], dim=1))


# %%
def train_little(told, objective):
    torch.manual_seed(0)
    net, steps = Little(told), budget(smoke=60, cpu=3000, gpu=3000)
    denoiser, ema = Denoiser(net, schedule, objective), EMA(net, decay=0.998)

    def loss_fn(x0, generator):
        return course_loss(denoiser, x0, generator=generator)

    for _ in fit(loss_fn, net, data.batches(train, 256), steps=steps, lr=lambda done: 3e-3 * (1 - done), ema=ema):
        pass
    return Denoiser(ema.net, schedule, objective)


denoisers = {"noise, no t": train_little(False, objectives.x0), "noise and t": train_little(True, objectives.x0)}
speaks_eps = train_little(False, objectives.eps)

# %% tags=["picture"]
answers = {"the article's network": lambda x_t, t: article(x_t)}
answers |= {name: (lambda x_t, t, d=d: d(x_t, t).x0) for name, d in denoisers.items()}
lines, x0 = {}, held_out.repeat(5, 1)
for name, answer in answers.items():
    row, draws = [], torch.Generator().manual_seed(2)  # the same noise for all three
    for t in times[3:]:
        x_t = schedule.add_noise(x0, t, noise_like(x0, draws))
        with torch.no_grad():
            row.append(float((answer(x_t, torch.full((len(x0),), t)) - x0).square().mean()))
    lines[name] = (times[3:], row)
figure = viz.curves(lines, "t", "mean squared error of x0, new digits", log="x", markers=True)
show(figure, "Error against t: the article's network ends at twice the error of the others, which are nearly one line.")

# %%
for k, t in enumerate(times[3:]):
    print(f"t = {t:4d}: " + ", ".join(f"{name} {row[k]:.3f}" for name, (_, row) in lines.items()))
print(f"one and the same grey for every pixel of every digit: {held_out.var():.3f}")

# %% [markdown]
# Notice the left end of the curves: at t = 10 the copying network has the smallest error of the three, because $x_t$
# is nearly the answer. At T it is no better than one even grey. The other two differ by less than a fifth at every
# step, in favour of t.
#
# Now they draw. The same hundred starts go to each: through ten passes of the network alone, without any sampler, or
# through your reverse step, which knows t in any case. So each missing part is added by itself.

# %%
def ten_passes(net, x):
    with torch.no_grad():
        for _ in range(10):
            x = net(x)
    return x


starts = torch.randn(100, 100, generator=torch.Generator().manual_seed(1))
drawn = {"article": ten_passes(article, starts)}
drawn["noise only"] = ten_passes(denoisers["noise, no t"].net.layers, starts)
walkers = {"sampler only": Denoiser(lambda x_t, time: article(x_t), schedule, objectives.x0)}
for name, denoiser in (walkers | denoisers | {"eps, no t": speaks_eps}).items():
    seeded = torch.Generator().manual_seed(2)
    drawn[name] = sample(ancestral, denoiser, schedule, starts, schedule.steps(250), generator=seeded)

# %% tags=["picture"]
figure = viz.picture_rows({name: row[:10].reshape(-1, 10, 10) for name, row in drawn.items()})
for name, row in drawn.items():
    print(f"{name:12s} distance to the nearest digit {nearest(row):5.1f}, values up to {row.abs().max():.1f}")
show(figure, "Six rows. Noise, with or without t: soft digits. Noise only: blurs. The other three: no digits.")

# %% [markdown]
# **The verdict, as measured here.** The article's network is not a diffusion model, and the fatal lack is noise in
# training: a sampler alone does not help it, while noise alone leads to blurs like digits, though nearly all of them
# alike. (Their distance is small: a number that counts nearness says nothing of variety.) With both, the *same*
# 100-128-128-100 draws soft but readable digits, even without t, if it speaks x0. In the language of eps the same
# network without t runs away, because s / a multiplies its errors.
#
# So the sentence "without time input it cannot be a diffusion model" is too strong for pictures, where the noise can
# be read from $x_t$; for points in the plane, where it cannot, the ring is lost in all four languages. Telling the
# network t costs one number, and every later lesson does it.
#
# ## Summary
#
# - A noisy point has many pasts. The best guess under squared error is their average, $E[x_0 \mid x_t]$: the mean of
#   all data at much noise, the nearest data at little noise, and often a place where no data are.
# - Guessing eps, x0, v, flow or the score is one and the same task; two equations turn one answer into another. The
#   choice decides which errors hurt.
# - The likelihood bound is a weighted sum of squared errors of eps. The simple loss drops the weights, by choice.
# - The best possible loss is not 0. What matters is the small rest above the floor, and samples are judged by samples,
#   against a second set of true data.
# - A step back is the mean of eq. 7 plus fresh noise. Without the noise, samples are too alike, and the start alone
#   decides where they end; with it, that is decided late.
# - **To remember:** noise in training is what makes a denoiser, and a noisy walk back makes it a diffusion model. A
#   small loss does not.
#
# ## Quiz
#
# ### Question 1
#
# You guessed where the best possible prediction of eps is nearly worthless. Why is it at t = 1?
#
# <details><summary>A. The network is trained least often at t = 1.</summary>No: all t are drawn equally often, and the
# measurement used the exact predictor, which was not trained at all.</details>
# <details><summary>B. The noise at t = 1 is much smaller than the spread of the data, so nothing shows which part of
# x_t is noise.</summary>Right. For x0 it is the easiest step of all: x_t is nearly the answer.</details>
# <details><summary>C. At t = 1 no noise has been added yet.</summary>No: that is row 0. At t = 1 there is noise of
# deviation 0.01, and its size is known; its direction is not.</details>
#
# ### Question 2
#
# A friend trains on pictures. The loss falls to 0.03 and stays there. What do you know about the samples?
#
# <details><summary>A. They must be good, because 0.03 is near 0.</summary>No. The article's network had a smaller
# loss and drew smeared noise.</details>
# <details><summary>B. Little. It depends on the floor for these data, which is unknown, and on which steps the rest
# comes from.</summary>Right: draw samples and compare them with held-out data, next to the distance between two sets
# of true data.</details>
# <details><summary>C. They must be poor, because the loss is not 0.</summary>No: no predictor reaches 0, not even the
# exact one.</details>
#
# ### Question 3
#
# In which case is the time input needed most?
#
# <details><summary>A. For large pictures, because they have more pixels to denoise.</summary>No: many pixels show the
# noise level well. A network without t drew digits no worse than its twin with t, if it spoke x0.</details>
# <details><summary>B. For points in the plane.</summary>Right. Two numbers do not tell how noisy they are; the best
# predictor without t lost the ring, in all four languages.</details>
# <details><summary>C. In neither: the sampler knows t, and that is enough.</summary>No: the sampler knew t in both
# experiments, and the ring was lost all the same.</details>
#
# ## References
#
# - Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, arXiv:2006.11239: eq. 5 (the bound), 6 and 7 (the true
#   step back), 8 and 12 (the charges), 14 (the simple loss), algorithm 1, section 3.2 (variances), table 1 (what
#   dropping the weights does).
# - Sohl-Dickstein et al.: Deep Unsupervised Learning using Nonequilibrium Thermodynamics, arXiv:1503.03585 (where the
#   bound comes from).
# - Efron: Tweedie's formula and selection bias, 2011, doi:10.1198/jasa.2011.tm11181; Vincent: A connection between
#   score matching and denoising autoencoders, 2011, doi:10.1162/NECO_a_00142 (section 2).
# - Salimans, Ho: Progressive distillation for fast sampling of diffusion models, arXiv:2202.00512, appendix D (v).
# - Liu, Gong, Liu: Flow straight and fast, arXiv:2209.03003, eq. 1 (flow).
# - Sun et al.: Is noise conditioning necessary for denoising generative models?, arXiv:2502.13129 (networks without t,
#   on real pictures).
# - Székely, Rizzo: Energy statistics, 2013, doi:10.1016/j.jspi.2013.03.018 (the energy distance).
#
# ## Next
#
# [Lesson 03](03_unet.ipynb) builds the network that can do this for pictures: the U-Net.
