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
# # 05. Drawing with fewer steps
#
# <!-- colab -->
#
# **How do I draw with fewer steps?** A trained network is asked again and again while noise becomes a digit. Each
# question costs time, and the paper that started it all asked a thousand times. Here you write four ways to ask, and
# measure what each question buys.
#
# After this lesson you can
#
# - write the steps of DDIM, of Heun and of DDPM's ancestral sampler, and what DPM-Solver++(2M) adds, each in a few
#   lines;
# - say which curve all but the ancestral one follow, and measure how fast each comes near it;
# - say what eta does, and why old and fresh noise add up the way they do;
# - compare samplers fairly: by calls of the network, at a stated number of pictures, beside the noise of the measure.
#
# **Prerequisites:** lessons 01 and 02 (the jump, the best guess, the reverse step); Python and numpy. The torch calls
# that you need for an exercise are named in it. The network comes trained; lesson 04 shows how.
#
# **Time:** about 110 minutes of yours; after section 5 is a good place for a break. The computing takes 2 to 3
# minutes on two CPU cores that are quick with bfloat16 (AMX), and about 5 minutes on others (reckoned). A GPU does not
# change that: the lesson computes on the CPU. **Download:** MNIST, 11 MB, unless it is here already.

# %% tags=["setup"]
# <setup>

# %%
import math
from itertools import pairwise

import numpy as np
import torch

from course_lib import data, recipes, schedules, viz
from course_lib.checks import check
from course_lib.page import predict, show
from course_lib.profile import budget

model = recipes.load_denoiser(data.shipped("mnist-ddpm"))  # a Predictor, trained for ten minutes
flow = model.schedule  # x_t = (1 - t/T) x0 + (t/T) eps, T = 1000
print(f"{sum(p.numel() for p in model.net.parameters()):,} weights, schedule {flow.name}, T = {flow.T}")


# %%
def ask(predict, x, t):
    """Ask a predictor about a whole batch x at step t, a number; the answer is the pair (x0, eps)."""
    steps = torch.full((len(x),), t)
    return predict(x, steps)


# %% [markdown]
# ## 1. Guess, and mix again
#
# `ask(model, x_t, t)` answers with a pair: the best guess of the picture, `x0`, and of the noise, `eps`. Lesson 02
# showed that one guess from much noise is a blur. So the digit has to come in steps, and each step does what lesson 01
# did to real digits: it mixes a picture with noise. But here both are guesses, and there is a little less noise than
# before:
#
# $$x_{next} = a_{next}\, \hat x_0 + s_{next}\, \hat\epsilon \qquad \text{(DDIM, eq. 12, without new noise)}$$
#
# Here $a$ is signal_rate and $s$ is noise_rate. Nothing in this formula says how far apart t and t_next are.
#
# ### Exercise 5.1 - guess and mix again (10 minutes, difficulty 2 of 5)
#
# Write `ddim_step`. It gets a predictor, a schedule, `x_t` of shape `(B, *dims)` and two whole numbers, `t` in 1..T
# and `t_next` in 0..t-1. It returns x at t_next, like `x_t`, for pictures and for points alike.
#
# Useful: `ask(predict, x, t)` from the cell above asks about a whole batch x and returns the pair x0, eps;
# `schedule.rates(t, x)` returns the pair signal_rate, noise_rate of row t, shaped to multiply x.


# %% tags=["exercise"]
def ddim_step(predict, schedule, x_t, t, t_next):
    """Step from t to t_next: guess the picture and the noise, mix them again with less noise (DDIM, eq. 12)."""
    # <solution>
    x0, eps = ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x0 + s_next * eps
    # </solution>


# %% tags=["check"]
ddim_step = check("5.1", ddim_step)

# %% [markdown]
# A sampler is this step in a loop, down a list of times from T to 0. Now your step draws: ten digits from the same ten
# noises, with 2, 4, 8 and 40 steps.
#
# **Before you run it.** The four rows begin with the same noise and never get any other. Will a column show the same
# digit four times, or four different ones?

# %% tags=["prediction"]
same = predict("5.a", "the same noise, with 8 and with 40 steps, becomes", options=["the same digit", "another digit"])


# %%
@torch.no_grad()  # nothing is trained here
def walk(step, x, times, predict=None, schedule=None):
    """Walk from noise down the times and return x at each of them; without a predictor, the network is asked."""
    if predict is None:
        predict, schedule = model, flow
    path = [x]
    for t, t_next in pairwise(times):
        path.append(step(predict, schedule, path[-1], t, t_next))
    return path


noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(3))
rows = {f"{n} steps": walk(ddim_step, noise, flow.steps(n))[-1] for n in (2, 4, 8, 40)}
print("times of 4 steps:", flow.steps(4))

# %% tags=["picture"]
figure = viz.picture_rows(rows)
show(
    figure,
    "Four rows of ten digits: blurs after 2 steps, soft digits after 4, and nearly equal crisp ones after 8 and 40.",
)

# %%
far = (rows["8 steps"] - rows["40 steps"]).square().mean().sqrt()
other = (rows["40 steps"] - rows["40 steps"].roll(1, 0)).square().mean().sqrt()
print(f"8 against 40 steps: pixels differ by {far:.2f}; one digit against its neighbour: {other:.2f}")
same.compare("the same digit")

# %% [markdown]
# **What you saw.** The noise decides which digit it becomes, in most columns from very few steps on; more steps
# only make it sharper. (A column may change its mind where two digits were close.) Some columns are no digit at any
# number of steps: that is the network, trained for ten minutes, not your sampler. All these walks seem to follow one
# and the same path, some with longer strides. The next sections make that exact.
#
# ## 2. Where to put the steps
#
# `flow.steps(n)` spaces the steps evenly in t. Small steps could be placed where they matter more. A simple family of
# spacings is a power: even in t for power 1, and more and more crowded near clean data for 2 or 3:
#
# $$t_i = \max\left(i,\ \text{round}\left(T \cdot (i/n)^{power}\right)\right), \qquad i = n, n-1, \dots, 0$$
#
# The maximum keeps the steps apart where the rows of the table would run out.
#
# ### Exercise 5.2 - a list of times (10 minutes, difficulty 1 of 5)
#
# Write `make_times`. It gets whole numbers `T` and `n` in 1..T, and a number `power` of at least 1, such as 1.5. It
# returns a Python list of n + 1 falling whole numbers, from T to 0.
#
# Useful: `round(3.7)` is 4; `range(n, -1, -1)` counts from n down to 0.


# %% tags=["exercise"]
def make_times(T, n, power):
    """List n + 1 falling steps from T to 0, spaced like a power."""
    # <solution>
    return [max(i, round(T * (i / n) ** power)) for i in range(n, -1, -1)]
    # </solution>


# %% tags=["check"]
make_times = check("5.2", make_times)

# %% tags=["picture"]
rulers = {f"power {power}": make_times(flow.T, 10, power) for power in (1, 2, 3)}
figure = viz.rulers(rulers, "t (0: clean data, 1000: noise)")
show(figure, "Three rulers of eleven marks from 0 to 1000: even for power 1, ever more crowded near 0 for 2 and 3.")

# %% [markdown]
# Which one is best? To answer that we need a place where the right answer is known.
#
# ## 3. The curve behind the steps
#
# Divide x by its signal rate: $y = x / a = x_0 + \sigma\,\epsilon$, with $\sigma = s / a$, noise over signal. Divide
# DDIM's step by $a_{next}$ in the same way, put $y - \sigma\,\hat\epsilon$ for $\hat x_0$, and it reads
# $y_{next} = y + (\sigma_{next} - \sigma)\,\hat\epsilon$: a straight stride, with the slope that was measured at its
# beginning. That is Euler's method for the differential equation
#
# $$\frac{dy}{d\sigma} = \hat\epsilon(y, \sigma) \qquad \text{(DDIM, eq. 14; EDM, eq. 1)}$$
#
# The equation has one exact solution through each noise. For a network nobody knows it, but in the plane, with the
# exact predictor of `data.ring()`, we can come as near as we like by taking 3,200 steps.

# %%
from course_lib.models.exact import ExactPredictor, GaussianMixture

ring = GaussianMixture(data.ring().means.double(), std=0.08)  # in double precision, to see small errors
fine = schedules.flow(T=6400)  # a finer table than the usual one, for many steps
exact = ExactPredictor(ring, fine)
starts = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double()
paths = {}
for n in (4, 16, 400):
    x = walk(ddim_step, starts[:6], make_times(6400, n, 2), exact, fine)
    paths[f"{n} steps"] = torch.stack(x)

# %% tags=["picture"]
figure = viz.trajectories(paths, cloud=ring.sample(300, torch.Generator().manual_seed(1)), limit=1.5, size=3.0)
show(
    figure,
    "Six paths from noise to a ring of eight clusters: with 4 steps some end beside their cluster.",
)

# %% [markdown]
# The paths are drawn in x, as the sampler sees them, and the three panels are much alike: look at the ends, the
# crosses. The curves head for the middle of the ring first, for that is the best guess while nothing is decided, and
# turn to their cluster late. A long stride goes straight on where the curve bends, and so it ends beside.
#
# How fast does the error fall with the number of steps? For a smooth curve it is $C / n^p$ when n is large, and p is
# called the **order** of the method. Twice the steps halve the error for p = 1 and quarter it for p = 2. On a plot
# with two logarithmic axes that is a straight line of slope -p.
#
# ### Exercise 5.3 - the order (10 minutes, difficulty 2 of 5)
#
# Write `order`. It gets two numpy arrays of shape `(K,)`, `steps` and `errors`, all above 0. It returns p, a float:
# the power in error = C / steps**p that fits best. Useful: `np.log`, and `np.polyfit(x, y, 1)`, which returns slope
# and intercept of the straight line through points (x, y).


# %% tags=["exercise"]
def order(steps, errors):
    """Fit the power p in errors = C / steps**p."""
    # <solution>
    slope, _ = np.polyfit(np.log(steps), np.log(errors), 1)
    return float(-slope)
    # </solution>


# %% tags=["check"]
order = check("5.3", order)

# %% [markdown]
# **Before you run it.** Which order has DDIM?

# %% tags=["prediction"]
euler = predict("5.b", "twice the steps make DDIM's error smaller by a factor of", options=[1.4, 2, 4])

# %%
counts = np.array([5, 10, 20, 40, 80])
reference = recipes.SAMPLERS["heun"]  # the course's own, of second order, with very many steps
n = budget(smoke=800, cpu=3200, gpu=3200)
truth = walk(lambda *where: reference(*where).x_next, starts, make_times(6400, n, 2), exact, fine)[-1]


def errors_of(step, power=2):
    """Mean distance from the exact solution, for each number of steps."""
    ends = [walk(step, starts, make_times(6400, n, power), exact, fine)[-1] for n in counts]
    return np.array([float((end - truth).norm(dim=1).mean()) for end in ends])


errors = {f"DDIM, power {power}": errors_of(ddim_step, power) for power in (1, 2, 3)}

# %% tags=["picture"]
lines = {name: (counts, row) for name, row in errors.items()}
figure = viz.curves(lines, "steps", "mean distance from the exact end", log="xy", markers=True)
figure.axes[0].set_xticks(counts, labels=counts, minor=False)
figure.axes[0].set_xticks([], minor=True)
show(figure, "Three falling lines on logarithmic axes, nearly parallel from 10 steps on, with a slope of about -1.")

# %%
p = order(counts, errors["DDIM, power 2"])
print(", ".join(f"{name}: order {order(counts, row):.2f}" for name, row in errors.items()))
euler.compare(round(2**p, 2))

# %% [markdown]
# **What you saw.** DDIM is of first order: twice the steps, half the error. The spacing moves the lines up and down a
# little and does not change their slope. A steeper line needs a better slope.
#
# ## 4. Look before you leap: Heun
#
# The slope at the beginning of a stride is not fair to its end. Heun's method takes the Euler stride on trial, asks
# for the slope where it ended, and goes back to take the stride with the average of the two:
#
# $$y_{next} = y + (\sigma_{next} - \sigma)\,\frac{\hat\epsilon + \hat\epsilon_{next}}{2}
#   \qquad \text{(EDM, algorithm 1)}$$
#
# ### Exercise 5.4 - Heun's step (20 minutes, difficulty 4 of 5)
#
# Write `heun_step` with the inputs and the result of `ddim_step`. Work in $y = x / a$ and $\sigma = s / a$, and
# return $x_{next} = a_{next}\, y_{next}$. In two places the Euler stride itself is the result, and the predictor is
# asked once: at `t_next == 0`, where no noise is left to ask about, and where $\sigma > 1000$, where hardly any signal
# is left to divide by (at t = T of the flow schedule a is 0 and $\sigma$ infinite). Everywhere else it is asked twice
# and not more, for its calls are what costs time.
#
# Useful: a and s are tensors that hold one number each, so `if s / a > 1000:` works, also where a is 0. The Euler
# stride is the mixture of exercise 5.1. `ask(...).eps` is eps alone. The predictor is asked about x, never about y.


# %% tags=["exercise"]
def heun_step(predict, schedule, x_t, t, t_next):
    """Step with the average of two slopes (EDM, algorithm 1)."""
    # <solution>
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    x0, eps = ask(predict, x_t, t)
    euler = a_next * x0 + s_next * eps
    if t_next == 0 or s / a > 1000:
        return euler
    eps_next = ask(predict, euler, t_next).eps
    y_next = x_t / a + (s_next / a_next - s / a) * (eps + eps_next) / 2
    return a_next * y_next
    # </solution>


# %% tags=["check"]
heun_step = check("5.4", heun_step)

# %% [markdown]
# ## 5. Remember the last answer: DPM-Solver++(2M)
#
# Heun pays for its second slope with a second call. But a moment ago, at the step before, the predictor was asked as
# well. How x0 changed since then tells how it will go on changing. On the clock of half the log-SNR,
# $\lambda = -\log\sigma$, the last step was $h_{last}$ long and the next one is $h$ long; so lean forward, half way
# into the step:
#
# $$D = \hat x_0 + \frac{h}{2\,h_{last}}\,(\hat x_0 - \hat x_0^{\,before}), \qquad
#   h_{last} = \log\frac{\sigma_{before}}{\sigma}, \quad h = \log\frac{\sigma}{\sigma_{next}}
#   \qquad \text{(DPM-Solver++, alg. 2)}$$
#
# Then D takes the place of x0: the noise that fits it is $(x_t - a D) / s$, and the two are mixed again as before.
# This is of second order as well, and asks **once** a step.
#
# ### Exercise 5.5 - lean forward (10 minutes, difficulty 3 of 5)
#
# Write `extrapolate`. It gets the guesses `x0` and `x0_before`, both `(B, *dims)`, and three plain numbers
# `sigma_before` > `sigma` > `sigma_next` > 0, of which sigma_before may be infinite (`math.inf`). It returns D, like
# `x0`. Useful: `math.log`, the natural logarithm, which is infinite at infinity.


# %% tags=["exercise"]
def extrapolate(x0, x0_before, sigma_before, sigma, sigma_next):
    """Guess x0 half way into the next step, from its change over the last one (DPM-Solver++, algorithm 2)."""
    # <solution>
    h_last = math.log(sigma_before / sigma)
    h = math.log(sigma / sigma_next)
    return x0 + h / (2 * h_last) * (x0 - x0_before)
    # </solution>


# %% tags=["check"]
extrapolate = check("5.5", extrapolate)

# %% [markdown]
# The step around your function has to remember something, so `make_dpm_step()` makes a fresh step with an empty memory
# for each walk. The first step has nothing to remember; on the flow schedule it comes from an infinite sigma, so that
# $h_{last}$ is infinite in the second one and nothing is added; and the last one ends at sigma 0, infinitely far in
# log-SNR. All three are DDIM's.


# %%
def make_dpm_step():
    """Make a step that remembers the guess of the step before."""
    memory = []

    def step(predict, schedule, x, t, t_next):
        x0 = ask(predict, x, t).x0
        (a, s), (a_next, s_next) = schedule.rates(t, x), schedule.rates(t_next, x)
        D, sigma = x0, float(schedule.sigma[t])
        if memory and t_next > 0:
            D = extrapolate(x0, *memory, sigma, float(schedule.sigma[t_next]))
        memory[:] = [x0, sigma]
        return a_next * D + s_next * (x - a * D) / s

    return step


# %% [markdown]
# Now all three against the exact solution. A fair comparison counts **calls of the predictor**, the only thing that
# costs time.
#
# **A claim on trial:** *"A second-order sampler needs half the calls of a first-order one."*


# %%
class Noted:
    """A predictor that keeps its answers, to be counted and looked at."""

    def __init__(self, predict):
        self.predict, self.answers = predict, []

    def __call__(self, x_t, t, cond=None):
        self.answers.append(self.predict(x_t, t, cond))
        return self.answers[-1]


# %%
lines, slopes = {}, {}
second = {"Heun": (lambda: heun_step, 2), "2M": (make_dpm_step, 2), "2M, power 1": (make_dpm_step, 1)}
for name, (make, power) in {"DDIM": (lambda: ddim_step, 2), **second}.items():
    calls, row = [], []
    for n in counts:
        asked = Noted(exact)
        end = walk(make(), starts, make_times(6400, n, power), asked, fine)[-1]
        calls.append(len(asked.answers))
        row.append(float((end - truth).norm(dim=1).mean()))
    lines[name], slopes[name] = (calls, row), order(counts, np.array(row))

# %% tags=["picture"]
figure = viz.curves(lines, "calls of the predictor", "mean distance from the exact end", log="xy", markers=True)
figure.axes[0].set_xticks([5, 10, 20, 40, 80, 160], labels=[5, 10, 20, 40, 80, 160])
figure.axes[0].set_xticks([], minor=True)
print(", ".join(f"{name}: order {slope:.2f}" for name, slope in slopes.items()))
print(f"with 80 calls the error of DDIM is {lines['DDIM'][1][-1] / lines['2M'][1][-1]:.0f} times that of 2M")
show(
    figure,
    "DDIM falls with slope -1, Heun and 2M with -2, 2M below Heun; 2M with power 1 is near DDIM up to 20 calls.",
)

# %% [markdown]
# **What you saw.** Orders near 1, 2 and 2. The claim fits one place of the picture: with 10 calls 2M is level with
# DDIM's 20. No single factor holds elsewhere. With 5 calls 2M gains next to nothing, and Heun, whose steps cost two
# calls each, is no better than DDIM at about ten. With 80 the gain is far more than a factor of two: DDIM, which halves
# its error with twice the calls, would need about a thousand for that of 2M. And of the two of second order, 2M pays
# half for the same order.
#
# The spacing matters to 2M more than to DDIM: evenly spaced in t, it has no lead over DDIM at 10 and at 20 calls, and
# half of its error at 40. (Its line is no straight one, so its fitted order says little.) Steps crowded near clean
# data serve it better on the ring.
#
# This is a good place for a break.
#
# ## 6. Noise that comes back
#
# DDPM's own sampler, which you wrote in lesson 02, is different: it adds fresh noise in each step. DDIM's paper
# has both as two ends of one family, with a number $\eta$ between 0 and 1. Let $shrink = \sigma_{next} / \sigma$. Then
#
# $$x_{next} = a_{next}\,\hat x_0 + kept\;\hat\epsilon + std\;\epsilon', \qquad
#   std = \eta\, s_{next} \sqrt{1 - shrink^2} \qquad \text{(DDIM, eq. 12 and 16)}$$
#
# (The paper writes std in alphas, for schedules whose $a^2 + s^2$ is 1. The flow schedule has a + s = 1, so we write
# it in sigmas, which holds for both.) Here $\epsilon'$ is fresh noise. What is $kept$? At t_next there must be noise
# of deviation $s_{next}$, no more and no less, for that is what the predictor will be told. Old and fresh noise are
# independent, so their variances add up:
#
# $$kept^2 + std^2 = s_{next}^2$$
#
# ### Exercise 5.6 - old noise and fresh noise (15 minutes, difficulty 3 of 5)
#
# Write `eta_step`. It gets the inputs of `ddim_step`, then `eta`, a number in 0..1, and `noise`, of the shape of
# `x_t` and of variance 1. It returns x at t_next, like `x_t`. Compute shrink as a times s_next, over a_next times s:
# that is fine where a is 0. No special case is needed at t_next = 0: see what std is there. Useful: `.sqrt()` of a
# tensor.


# %% tags=["exercise"]
def eta_step(predict, schedule, x_t, t, t_next, eta, noise):
    """Step with a share of fresh noise: none at eta = 0, as much as DDPM's at eta = 1 (DDIM, eq. 12 and 16)."""
    # <solution>
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    x0, eps = ask(predict, x_t, t)
    shrink = (a * s_next) / (a_next * s)  # sigma_next / sigma
    std = eta * s_next * (1 - shrink**2).sqrt()
    kept = (s_next**2 - std**2).sqrt()
    return a_next * x0 + kept * eps + std * noise
    # </solution>


# %% tags=["check"]
eta_step = check("5.6", eta_step)

# %% [markdown]
# Three walks from **one** noise, ten digits each, with 50 steps. Each of the ten gets fresh noise of its own. To see
# the walks and not only their ends, `recorded` notes what the network answered at the beginning of each step.


# %%
def make_eta_step(eta, generator):
    """Make a step that draws its fresh noise from a generator."""

    def step(predict, schedule, x_t, t, t_next):
        fresh = torch.randn(x_t.shape, generator=generator)
        return eta_step(predict, schedule, x_t, t, t_next, eta, fresh)

    return step


# %%
from course_lib.types import Prediction, Step


@torch.no_grad()
def recorded(step, x, times):
    """Walk down the times, and hand over each Step: where it began, what the network said, where it ended."""
    for t, t_next in pairwise(times):
        asked = Noted(model)
        x_next = step(asked, flow, x, t, t_next)
        yield Step(t, t_next, x, asked.answers[0], x_next)
        x = x_next


# %%
one = noise[4:5].expand(10, -1, -1, -1)  # the same noise ten times
tenfold, spread = {}, {}
for eta in (0.0, 0.3, 1.0):
    step = make_eta_step(eta, torch.Generator().manual_seed(5))
    steps = tenfold[f"eta = {eta}"] = list(recorded(step, one, flow.steps(50)))
    guesses = [step.prediction.x0 for step in steps] + [steps[-1].x_next]
    spread[f"eta = {eta}"] = [float(x0.std(dim=0).square().mean().sqrt()) for x0 in guesses]

# %% [markdown]
# **Find it.** All thirty begin with the same noise, so their first guess is the same blur. Scrub down slowly: at
# which t do the ten of eta = 0.3 part, and at which those of eta = 1? And from where on is every digit what it will be,
# though fresh noise still comes? (The curve is how far the ten guesses are apart.)

# %%
from course_lib.widgets import StepPlayer

StepPlayer(
    tenfold,
    rates=flow,
    curve={"spread of the ten guesses": spread},
    title="One noise, ten walks",
    alt="Ten walks from one noise, at three values of eta. At eta 0 all ten are the same zero; at 0.3 they end as a "
    "few kinds of digits, some of them zeros; at eta 1 as all kinds.",
)

# %%
for name, row in list(spread.items())[1:]:  # at eta 0 there is none
    there = {share: next(t for t, far in zip(flow.steps(50), row, strict=True) if far >= share * row[-1])
             for share in (0.5, 0.9)}  # fmt: skip
    print(f"{name}: spread {row[-1]:.2f} at the end; half of it is there at t = {there[0.5]}, 90 % at {there[0.9]}")

# %% [markdown]
# **What you saw.** At eta 0 the noise at the start decides everything. At 0.3 the ten are of a few kinds, and some
# still are the digit of the upper row: they began alike and parted on the way. At eta 1 the start decides next to
# nothing: fresh noise has the last word. But it has it early. Half of what sets the ten apart is there at t = 750 or
# before, at 0.3 and at 1 alike, and in the lower half of the walk fresh noise moves strokes, seldom a digit.
# (Put `noise[2:3]` in place of `noise[4:5]`: to the eye, the last row stays as it is.)

# %% [markdown]
# ## 7. On digits: what does a call buy?
#
# For digits there is no exact predictor and no answer key, and nobody wants one curve's end as such. What counts
# is whether a crowd of drawn digits looks like a crowd of real ones. `evaluate` measures it with a small classifier of
# digits: it compares the mean and covariance of 128 features (the Frechet distance; 0 for equal crowds).
#
# Two things have to be known before any comparison. A small crowd scores too high, even one of real digits, so the
# number of pictures is stated and the same for all. And chance moves the score. So we look at real digits first: ten
# different crowds of them, against the first 10,000 of the training set.

# %%
from course_lib.evaluate import load_digit_features
from course_lib.metrics import frechet_distance

N = budget(smoke=24, cpu=350, gpu=350)
see = load_digit_features()
real = data.handwritten()  # MNIST, or the embedded digits where it is not to be had
print(f"features: {see.name}; real digits: {real.name}; N = {N}")
features, _ = see(real.pictures[: len(real.pictures) // 6])


def distance(seen):
    """Frechet distance of a crowd's features (N, 128) from the real ones."""
    return frechet_distance(features, seen, feature_name=see.name).value


# %%
generator = torch.Generator().manual_seed(0)
rest = real.pictures[len(features) :]
crowds = [rest[torch.randperm(len(rest), generator=generator)[:N]] for _ in range(10)]
floor = [distance(see(crowd)[0]) for crowd in crowds]
print(f"real digits, ten crowds of {N}: {np.mean(floor):.1f}, give or take {np.std(floor):.1f}")

# %% [markdown]
# That is the floor: no sampler can be expected below it. Now the same N noises go to four samplers, with 6, 10, 20 and
# 40 calls each. Heun gets fewer steps, so that its calls are the same (its first and its last step ask once).
#
# **Before you run it.** With 40 calls, which one will be clearly ahead of the others in quality?

# %% tags=["prediction"]
ahead = predict("5.c", "clearly ahead with 40 calls", options=["ancestral", "DDIM", "Heun", "2M", "none of them"])

# %%
makers = {
    "ancestral": lambda seed: make_eta_step(1.0, torch.Generator().manual_seed(seed)),
    "DDIM": lambda seed: ddim_step,
    "Heun": lambda seed: heun_step,
    "2M": lambda seed: make_dpm_step(),
}
budgets = (6, 10, 20, 40)
crowd = torch.randn(N, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def draw_crowd(noises, name, calls, power=1):
    """Draw a digit from each of the noises, 100 at a time."""
    times = make_times(flow.T, calls // 2 + 1 if name == "Heun" else calls, power)
    drawn = [walk(makers[name](part), x, times)[-1] for part, x in enumerate(noises.split(100))]
    return torch.cat(drawn).clamp(-1, 1)


# %%
pictures = {(name, calls): draw_crowd(crowd, name, calls) for name in makers for calls in budgets}
seen = {key: see(drawn)[0] for key, drawn in pictures.items()}
scores = {name: [distance(seen[name, calls]) for calls in budgets] for name in makers}
print("calls     " + "".join(f"{calls:>9d}" for calls in budgets))
for name, row in scores.items():
    print(f"{name:10s}" + "".join(f"{score:9.1f}" for score in row))
print(f"{'real':10s}" + f"{np.mean(floor):9.1f}" * len(budgets))

# %% tags=["picture"]
lines = {name: (budgets, row) for name, row in scores.items()}
lines["real digits"] = (budgets, [np.mean(floor)] * len(budgets))
figure = viz.curves(lines, "calls of the network", f"Frechet distance, N = {N}", log="x", markers=True)
figure.axes[0].set_xticks(budgets, labels=budgets)
figure.axes[0].set_xticks([], minor=True)
show(
    figure,
    "Ancestral scores highest at 6 calls and 2M lowest; from 20 calls on all are nearly flat and close together.",
)

# %% [markdown]
# Which of these differences are real? Score only half of the pictures, drawn by lot, again and again: the spread of
# these scores is about what chance does to the whole. (That is the delete-half jackknife.) All samplers began
# with the same noises, so the same half of each is compared. A lead below twice its spread says nothing.

# %%
halves = [torch.randperm(N, generator=generator)[: N // 2].numpy() for _ in range(budget(smoke=4, cpu=10, gpu=10))]


def lead(one, other, calls):
    """How much lower the first one scores than the second, and how much chance there is in it."""
    gaps = [distance(seen[other, calls][half]) - distance(seen[one, calls][half]) for half in halves]
    return distance(seen[other, calls]) - distance(seen[one, calls]), np.std(gaps)


for calls in budgets:
    best = min(scores, key=lambda name: scores[name][budgets.index(calls)])
    leads = {other: "{:.1f} +- {:.1f}".format(*lead(best, other, calls)) for other in scores if other != best}
    print(f"{calls:3d} calls: {best} leads", ", ".join(f"{other} by {by}" for other, by in leads.items()))

# %%
leader = min(scores, key=lambda name: scores[name][-1])
leads = [lead(leader, other, budgets[-1]) for other in scores if other != leader]
clear = all(gap > 2 * chance for gap, chance in leads)
ahead.compare(leader if clear else "none of them")

# %% [markdown]
# **What you saw.** With 6 calls the samplers are far apart, and 2M is ahead of the others by more than chance. With
# 10 calls Heun and 2M share the lead. From 20 calls on the gaps are small, and not nothing: at 20 and at 40 calls
# Heun leads DDIM by more than twice the chance, and at 20 it leads 2M so, too. But against the ancestral sampler,
# whose own fresh noise makes the chance several times as large, nothing can be said; no one is clearly ahead of *all*.
# What remains above the floor for every sampler is mostly the network's error, which no sampler mends. (Measured once
# with 1,000 pictures, 6 calls: 2M 31, Heun 43, DDIM 46, ancestral 75; 20 calls: Heun 19, 2M 21, ancestral 24, DDIM 25;
# real digits 7 to 12.)
#
# **Why 2M leads with 6 calls.** A likely reason: it pays for each stride once, so its strides are shorter (6 of them
# against Heun's 4), and it corrects three of them, as DDIM does none. The ancestral sampler adds much fresh noise in
# each long stride, and has few guesses to clear it up.
#
# ### Near to the curve, or good?
#
# How near each one comes to the end of its curve was measured too. Nobody knows that end for digits, but 2M with 200
# calls, `draw_crowd(crowd[:200], "2M", 200)`, stands in for it (Heun with 200 ends within 0.003 of it). Here is how far
# the others end from it: the root mean square difference of a pixel, whose range is -1 to 1, over 200 digits. The
# ancestral sampler follows no curve.
#
# | calls | 6 | 10 | 20 | 40 |
# |---|---|---|---|---|
# | DDIM | 0.141 | 0.111 | 0.074 | 0.045 |
# | Heun | 0.181 | 0.124 | 0.066 | 0.048 |
# | 2M | 0.133 | 0.095 | 0.036 | 0.023 |
#
# 2M is nearest everywhere, Heun nearer than DDIM with 20 calls alone, and there by little, and yet Heun scores best of
# all there. Why, we did not measure. The curve is the network's, not nature's, and to follow it closely is not a merit
# of its own.
#
# **A claim on trial:** *"Deterministic samplers have less variety."* Variety can be measured: recall is the share of
# real digits that lie among the drawn ones in the space of features, precision the share of drawn ones that lie among
# real ones. And the classes can be counted: 0 nats for ten equally frequent digits.

# %%
from course_lib.metrics import class_coverage, precision_recall

for name in makers:
    drawn = seen[name, budgets[-1]]
    precision, recall = precision_recall(features, drawn, feature_name=see.name)
    labels = see(pictures[name, budgets[-1]])[1].argmax(1)
    covered, nats = class_coverage(labels, 10, feature_name=see.name)
    print(
        f"{name:10s} precision {precision.value:.2f}, recall {recall.value:.2f}, {covered.value:.0f} classes, ", end=""
    )
    print(f"{nats.value:.3f} nats from uniform")

# %% [markdown]
# The claim finds no support: the ancestral sampler has not the highest recall here but the lowest, by 0.02 to 0.03,
# of which some may be chance; by classes it is the most even, by little. (With 1,000 pictures, 6 calls: recall 0.75
# against 0.84 to 0.91; 20 calls: 0.87 against 0.90 to 0.94.) Where the noise at the start comes from chance, nothing
# else has to.
#
# A second claim falls in the table above: *"DDPM needs a thousand steps."* With 20 calls its score is within a few
# points of the best, and with 1,000 of them, measured once in the same way, it was 26.7. And a third,
# *"more steps are always better"*: between 20 and 40 calls little or nothing is gained.
#
# ### And the spacing?
#
# On the ring the spacing mattered little to DDIM, and 2M gained from crowding its steps near clean data. Here are ten
# calls again, on digits.

# %%
for name in ("DDIM", "2M"):
    even = scores[name][budgets.index(10)]
    crowded = distance(see(draw_crowd(crowd, name, 10, power=2))[0])
    print(f"{name:5s} 10 calls: power 1 scores {even:.1f}, power 2 scores {crowded:.1f}")

# %% [markdown]
# **What you saw.** On digits, the power that served well on the ring does clear harm: the score rises by far more
# than chance explains. Power 2 crowds its steps near clean data and strides over the noisy half of the walk. The
# clusters of the ring are small and sharp, and are settled late; the shape of a digit seems to be settled earlier. No
# spacing is best for all data: try two or three, and measure.
#
# ## 8. Three samplers, one noise
#
# In lesson 02 you met the claim that *the starting noise decides what will be drawn*, and a word for when: a digit has
# **settled** at t if from there on the guess stays the digit that it becomes. Now your samplers draw 100 digits each,
# from the same noises and with the same 20 steps, and the classifier reads every guess on the way.
#
# **Before you run it.** At which t have half of DDIM's digits settled?

# %% tags=["prediction"]
settling = predict("5.d", "half of DDIM's digits have settled at t =", options=[850, 500, 150])

# %%
times, start = flow.steps(20), crowd[: budget(smoke=12, cpu=100, gpu=100)]
walks = {name: list(recorded(make(9), start, times)) for name, make in makers.items()}


def reads(steps):
    """Which digit the classifier reads in each guess on a walk, and in the end: (steps + 1, N)."""
    guesses = [step.prediction.x0 for step in steps] + [steps[-1].x_next]
    return np.stack([see(x0.clamp(-1, 1))[1].argmax(1) for x0 in guesses])


read = {name: reads(steps) for name, steps in walks.items()}
settled = {name: np.cumprod((row == row[-1])[::-1], axis=0)[::-1].mean(axis=1) for name, row in read.items()}

# %% [markdown]
# **Find it.** Here are twelve of them, by three samplers: scrub, or press play. Where are the three guesses alike, and
# which sampler leaves the other two first? One of the twelve becomes another digit with Heun than with DDIM: which one,
# and from which t on can you tell?


# %%
def few(step, n=12):
    """The first n pictures of a Step."""
    x0, eps = step.prediction
    return step._replace(x_t=step.x_t[:n], prediction=Prediction(x0[:n], eps[:n]), x_next=step.x_next[:n])


three = ("ancestral", "DDIM", "Heun")
StepPlayer(
    {name: [few(step) for step in walks[name]] for name in three},
    rates=flow,
    curve={f"share of {len(start)} digits that have settled": {name: settled[name] for name in three}},
    title="Three samplers, one noise",
    alt="Twelve digits on their way from the same noises by three samplers. DDIM and Heun end at the same digits, but "
    "for one or two; the ancestral sampler at others.",
)

# %%
for name, row in settled.items():
    half = next(t for t, share in zip(times, row, strict=True) if share >= 0.5)
    same = ", ".join(f"{np.mean(read[name][i] == read['DDIM'][i]):4.0%} at {times[i]}" for i in (0, 2, 4, 10, 20))
    print(f"{name:10s} half have settled at t = {half}; read as DDIM's is: {same}")
for k in np.flatnonzero(read["Heun"][-1, :12] != read["DDIM"][-1, :12]):
    pairs = zip(times, read["DDIM"][:, k], read["Heun"][:, k], strict=True)
    print(f"picture {k + 1}, as DDIM and Heun see it:", ", ".join(f"{t}: {d} {h}" for t, d, h in pairs if t % 100 == 0))
settling.compare(next(t for t, share in zip(times, settled["DDIM"], strict=True) if share >= 0.5))

# %% [markdown]
# **What you saw.** Half of DDIM's digits have settled at t = 850, where the guess is still a soft blur. And where no
# fresh noise comes in, the claim of lesson 02 holds well: from first to last, DDIM, Heun and 2M see nearly the same
# pictures, and at the end more than nine in ten are read as DDIM's are. The exceptions stood between two digits.
# Picture 7 is undecided at t = 800; at 700 DDIM has drawn a bar across its middle and Heun has not, and from there they
# go apart. (Picture 4 is the same to the eye: there it is the classifier that wavers.)
#
# The ancestral sampler leaves with its first fresh noise. At t = 900 fewer than a quarter of its guesses are read as
# DDIM's, at 800 one in ten, which is chance. It settles later, too: each fresh noise may change its mind again.
#
# ### Your turn: how much fresh noise is enough?
#
# The same again, as often as you like: choose, then press **Draw**. Your functions run while you watch, and **Stop**
# ends a run after the step it is at. (At eta = 1, DDIM is the ancestral sampler.)
#
# **Find out:** stay with DDIM, 20 steps and seed 3, and raise eta from 0. What is the smallest eta at which one of the
# twelve becomes another digit? And the smallest at which hardly any is left?

# %%
from course_lib.widgets import live


def draw_again(sampler, steps, eta, seed):
    """Draw twelve digits with the chosen sampler, a Step at a time."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 1, 28, 28, generator=generator)
    step = {"DDIM": make_eta_step(eta, generator), "Heun": heun_step, "2M": make_dpm_step()}[sampler]
    return recorded(step, x, flow.steps(steps))


# %%
live(
    draw_again,
    alt="Twelve digits, drawn by {sampler} in {steps} steps with eta = {eta:.2f} from seed {seed}.",
    rates=flow,
    sampler=["DDIM", "Heun", "2M"],
    steps=(2, 50, 20),
    eta=(0.0, 1.0),
    seed=(0, 99, 3),
    uses={"eta": lambda values: values["sampler"] == "DDIM"},
)

# %% [markdown]
# When you have an answer, compare it with the classifier's.

# %%
etas = (0, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 1)
ends = {eta: reads(list(draw_again("DDIM", 20, eta, seed=3)))[-1] for eta in etas}
for eta, digits in ends.items():
    print(f"eta = {eta:4.2f}: {' '.join(map(str, digits))}   {(digits == ends[0]).sum():2d} of 12 as at eta = 0")

# %% [markdown]
# **What you saw.** At 0.01 and 0.02 the classifier reads some of the odd ones (pictures 1, 4 and 8) in another way, and
# the eye finds no difference. At 0.05 the zero of picture 5 is broken open, at 0.1 it is a seven. At 0.3 more than
# half of them have become something else, at 0.5 and at 0.7 three of twelve hold out, and at 1 none is left. So there
# is no border between a sampler that follows its noise and one that does not: the more fresh noise, the fewer digits
# end where the start would have led them.
#
# ## 9. Between two noises
#
# If the noise decides the digit, what lies between two noises? The obvious way is the straight line. **A claim on
# trial:** *"For interpolation you must walk on the sphere, not on the line."*


# %%
def along_the_line(one, other, w):
    return (1 - w) * one + w * other


def along_the_sphere(one, other, w):
    """Turn from one towards the other by the share w of the angle between them."""
    angle = torch.acos((one * other).sum() / (one.norm() * other.norm()))
    return (torch.sin((1 - w) * angle) * one + torch.sin(w * angle) * other) / torch.sin(angle)


shares, rows = torch.linspace(0, 1, 9), {}
for name, between in {"line": along_the_line, "sphere": along_the_sphere}.items():
    mixed = torch.stack([between(noise[1], noise[5], w) for w in shares])
    print(f"{name:6s} deviation of the noise: {[round(float(x.std()), 2) for x in mixed]}")
    rows[name] = walk(make_dpm_step(), mixed, flow.steps(20))[-1]

# %% tags=["picture"]
figure = viz.picture_rows(rows, columns=[f"{float(w):.2f}" for w in shares])
show(
    figure,
    "Two rows of nine digits, from a thin 8 to a thick 0: half way the line's zeros are thinner than the sphere's.",
)

# %% [markdown]
# Half way along the line the noise has a deviation of only about 0.7: variances add, and weights of one half leave a
# quarter of each. The network is told that there is noise of deviation 1. On the sphere the deviation stays where it
# belongs. Yet both rows show digits. Is the middle of the line worse? A crowd of middles tells.

# %%
pairs = list(zip(crowd, crowd.roll(1, 0), strict=True))
drawn = {"fresh noises": pictures["2M", 10]}
for name, between in {"line": along_the_line, "sphere": along_the_sphere}.items():
    middles = torch.stack([between(one, other, torch.tensor(0.5)) for one, other in pairs])
    drawn[f"middles of the {name}"] = draw_crowd(middles, "2M", 10)
for name, many in drawn.items():
    bright = float((many > 0).float().mean())
    print(f"{name:21s}: score {distance(see(many)[0]):.1f}, share of bright pixels {bright:.3f}")

# %% [markdown]
# **What you saw.** The claim holds: middles of the sphere score like fresh noises, middles of the line far worse. One
# picture would not have told you: the line's digits look clean, but as a crowd they are thinner and plainer than they
# should be, with fewer bright pixels, and the score compares crowds.
#
# ## Summary
#
# - A sampler is a loop of: guess the picture and the noise, mix them again with less noise.
# - Without fresh noise all samplers follow one curve, $dy / d\sigma = \hat\epsilon$. DDIM is Euler's method for it, of
#   order 1; Heun is of order 2 and asks twice a step; 2M is of order 2 and asks once, as it remembers.
# - With fresh noise, variances add up: $kept^2 + std^2 = s_{next}^2$.
# - Compare samplers by calls of the network, at one stated N, beside the score of real data and the spread of chance.
# - **To remember:** with few calls, the order of a sampler and what it remembers count for much; with many calls,
#   mostly the network does.
#
# ## Quiz
#
# ### Question 1
#
# You guessed how much smaller DDIM's error becomes with twice the steps. Why a factor of two, not more?
#
# <details><summary>A. Because each step is half as long and misses the bend by a quarter as much, but there are twice
# as many of them.</summary>Right: that is what first order means.</details>
# <details><summary>B. Because the predictor makes errors of its own.</summary>No: the predictor was exact there. All of
# the error came from the length of the steps.</details>
# <details><summary>C. Because the steps were badly placed.</summary>No: three spacings gave three lines of nearly
# the same slope.</details>
#
# ### Question 2
#
# Sampler A draws better digits with 20 steps than sampler B with 20 steps. Which should you use?
#
# <details><summary>A. A.</summary>Not yet: if A is like Heun, its 20 steps take nearly twice the calls, and B may do
# better in the same time.</details>
# <details><summary>B. It depends on how often each asks the network, on N, and on whether the gap is larger than
# chance.</summary>Right.</details>
# <details><summary>C. B, because simpler methods are more robust.</summary>No measurement here says so.</details>
#
# ### Question 3
#
# In a step with eta = 1 you forget to lower the kept noise. What happens?
#
# <details><summary>A. Nothing much, noise is noise.</summary>No: the predictor is told how much noise there is, and
# takes what exceeds it for a part of the picture.</details>
# <details><summary>B. There is more noise in x than the predictor is told, at every step.</summary>Right: variances
# add up, and kept**2 + std**2 would exceed s_next**2.</details>
# <details><summary>C. The walk becomes DDIM.</summary>No: DDIM is what you get when std is 0.</details>
#
# ## References
#
# - Song, Meng, Ermon: Denoising Diffusion Implicit Models, arXiv:2010.02502v4: eq. 12 (the step), 14 (the differential
#   equation), 16 (eta).
# - Karras et al.: Elucidating the Design Space of Diffusion-Based Generative Models (EDM), arXiv:2206.00364: eq. 1 and
#   algorithm 1 (Heun), eq. 5 (spacing).
# - Lu et al.: DPM-Solver++, arXiv:2211.01095: algorithm 2 (2M).
# - Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, arXiv:2006.11239: algorithm 2 (the ancestral sampler).
# - Heusel et al.: GANs trained by a two time-scale update rule, arXiv:1706.08500: eq. 6 (the Frechet distance).
# - Shoemake: Animating rotation with quaternion curves, 1985, doi:10.1145/325165.325242 (the sphere).
#
# ## Next
#
# You have a complete diffusion model of digits: schedule, objective, network, training, samplers.
# [Lesson 06](06_gan.ipynb) meets its rival, which draws in a single call, and breaks it; later lessons tell the model
# what to draw.
