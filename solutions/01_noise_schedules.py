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
# # 01. Noise schedules
#
# <!-- colab -->
#
# **How is a picture destroyed, step by step, and who decides how fast?**
#
# A diffusion model learns to repair pictures that were ruined by noise. So before anything can be learned,
# somebody has to ruin them, in small and well-kept steps. That is the easy half of diffusion, and most of
# what goes wrong later is decided here.
#
# After this lesson you can
#
# - ruin a picture one step at a time, or jump straight to any step, with the right amount of noise;
# - make the table that says how much of the picture is left, and spot the ways in which it is usually made
#   wrong;
# - compare schedules on the clock that counts, the signal-to-noise ratio, instead of by the shape of a
#   curve;
# - say when the last step is *not* pure noise, show what that costs, and mend it.
#
# **Prerequisites:** lesson 00; Python and a little numpy; square roots and logarithms. The torch calls you
# need are named where you need them.
#
# **Time:** about 80 minutes of yours, more if English is not your first language; after section 5 is a good
# place for a break. The computing takes less than 1 minute on two cores of a CPU; a GPU (1 minute) is not
# needed. **Download:** nothing; the digits come with the course's packages.

# %% tags=["setup"]
# <setup>

# %% [markdown]
# ## 1. One small step
#
# These are real digits, written by hand, 8 pixels wide. A pixel is a number from -1 (black) to 1 (white).
# The three is the one that we will ruin.

# %% tags=["picture"]
import torch

from course_lib import schedules, viz
from course_lib.checks import check
from course_lib.data import digits
from course_lib.page import predict, show
from course_lib.profile import budget
from course_lib.widgets import explore

pictures, labels = digits()  # (1797, 1, 8, 8), (1797,)
x0 = pictures[3:4]  # (1, 1, 8, 8), a batch of one picture
print(f"x0 is a {labels[3]}, shape {tuple(x0.shape)}, from {x0.min():g} to {x0.max():g}")
figure = viz.picture_rows({"digits": pictures[:10]})
show(figure, "Ten handwritten digits from 0 to 9, coarse but easy to read.")

# %% [markdown]
# One step of the **forward process** makes the picture a little paler and adds a little noise $\epsilon$,
# drawn from the bell curve of mean 0 and variance 1, fresh for every pixel:
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \epsilon \qquad \text{(DDPM, eq. 2)}$$
#
# The number $\beta_t$ is small: it rises from 0.0001 at step 1 to 0.02 at step 1000. That list of numbers
# is the **noise schedule**, and this one, *linear*, is that of the DDPM paper.

# %%
schedule = schedules.linear_beta(T=1000)
for t in (1, 10, 500, 1000):
    print(f"beta[{t}] = {schedule.beta[t]:.5f}")

# %% [markdown]
# **Before you go on.** A thousand steps, and the largest one replaces 2 % of the variance. At which step do
# you expect half of the digits to be beyond reading? Commit to an answer; the cell keeps it, and section 6
# measures it.

# %% tags=["prediction"]
reading = predict("1.a", "step at which half of the digits are beyond reading", options=[100, 350, 700, 950])

# %% [markdown]
# ### Exercise 1.1 - one step (8 minutes, difficulty 1 of 5)
#
# Write `forward_step`. It gets, in this order, pictures or points `x` of shape `(B, *dims)` (B of them, each
# of any shape), one number `beta` from 0 to 1 (a tensor without axes), and noise `eps` of the same shape as
# `x`. It returns the next `x`, in the same shape. Nothing is cut off at -1 and 1.
#
# *Torch you need:* `beta.sqrt()` is the square root; numbers multiply tensors as they do in numpy.


# %% tags=["exercise"]
def forward_step(x, beta, eps):
    """Take one step of the forward process (DDPM, eq. 2)."""
    # <solution>
    return (1 - beta).sqrt() * x + beta.sqrt() * eps
    # </solution>


# %% tags=["check"]
forward_step = check("1.1", forward_step)

# %% [markdown]
# Now take a thousand of your steps, one after the other, and look in from time to time.


# %% tags=["picture"]
def walk(x, beta, step, seed=0):
    """Take all the steps of a schedule; return x at t = 0, 1, ..., T."""
    generator = torch.Generator().manual_seed(seed)  # a source of random numbers: the same ones each time
    path = [x]
    for t in range(1, len(beta)):
        path.append(step(path[-1], beta[t], torch.randn(x.shape, generator=generator)))
    return path


path = walk(x0, schedule.beta, forward_step)
seen = [0, 1, 50, 100, 200, 300, 400, 600, 1000]
strip = torch.cat([path[t] for t in seen])
figure = viz.picture_rows({"x_t": strip}, [f"t = {t}" for t in seen])
show(figure, "The three: as before at t = 1, grainy at 100, hard to make out at 200, only grains from 400 on.")

# %% [markdown]
# **What you saw.** One step does next to nothing: you could not tell $t = 1$ from $t = 0$. All the
# destruction comes from repeating it. (Pixels beyond -1 or 1 are drawn as black or white; the numbers
# themselves go further out.)

# %% [markdown]
# ## 2. Why the square roots?
#
# The formula looks fussy. Why not add `beta * eps` and be done? Because noises do not add up the way
# lengths do.
#
# **Before you run anything.** Add two independent noises, one with standard deviation 3, one with 4. Is the
# deviation of the sum 7, 5 or 3.5?

# %% tags=["prediction"]
sum_guess = predict("1.b", "deviation of the sum", options=[7, 5, 3.5])

# %% tags=["picture"]
generator = torch.Generator().manual_seed(0)
first, second, wide = (std * torch.randn(100_000, generator=generator) for std in (3, 4, 7))
both = first + second
print(f"deviations: {first.std():.2f} and {second.std():.2f}, of the sum {both.std():.2f}")
print(sum_guess.compare(round(float(both.std()), 2)))
figure = viz.histogram({"sum of the two": both, "a noise of deviation 7": wide}, "value", spread=(-22, 22))
show(figure, "Two bells: the sum of the two noises is narrower than the noise of deviation 7 drawn over it.")

# %% [markdown]
# **What you saw.** Variances add, deviations do not: $\sqrt{9 + 16} = 5$. That deviations add is easy to
# believe, but large values of one noise mostly meet small or opposite values of the other. So $\beta_t$
# counts *variance*, and $\sqrt{\beta_t}$ turns it into the deviation that `eps` is multiplied by.
#
# The other root makes room. If the old $x$ has variance 1, shrinking it by $\sqrt{1 - \beta_t}$ leaves
# variance $1 - \beta_t$, and the noise brings $\beta_t$: the sum is 1 again. See what happens to the
# variance of 200 digits with that shrinking, and without it.


# %% tags=["picture"]
def step_without_shrinking(x, beta, eps):
    return x + beta.sqrt() * eps


every = range(0, 1001, 20)
lines = {}
for name, step in {"your step": forward_step, "without shrinking": step_without_shrinking}.items():
    path = walk(pictures[:200], schedule.beta, step)
    lines[name] = (list(every), [float(path[t].var()) for t in every])
    print(f"{name}: variance {lines[name][1][0]:.2f} at t = 0, {lines[name][1][-1]:.2f} at t = 1000")
print(f"all the betas together: {schedule.beta.sum():.2f}")
figure = viz.curves(lines, "t", "variance of the pixels")
show(figure, "Variance against t: with your step it settles at 1, without shrinking it climbs beyond 10.")

# %% [markdown]
# **What you saw.** Without shrinking, the variance grows by every beta: 0.58 of the digits plus 10.05 of
# noise. With your step it goes to 1 and stays: $(1 - \beta)\,\text{var} + \beta$ pulls any variance
# towards 1. A network that meets pictures of all steps is spared inputs of wildly different size.
#
# Not shrinking is a legitimate choice too, called *variance exploding*; then somebody else has to rescale
# the input. What matters is how large the picture is *compared with* the noise. Keep that in mind until
# section 6.

# %% [markdown]
# ## 3. Jump straight to step t
#
# Adding noise one step at a time is honest but slow: to learn from step 700 you would add noise 700 times.
# There is a shortcut, and without it nobody could train a diffusion model on a laptop.
#
# The digit is shrunk again and again, so after $t$ steps it is multiplied by the product of all the factors.
# And the noise? After one step its variance is $\beta_1$. The second step shrinks that and adds its own:
#
# $$(1 - \beta_2)\,\beta_1 + \beta_2 = 1 - (1 - \beta_1)(1 - \beta_2)$$
#
# What is kept of the picture's variance and what is noise add up to 1, and so it goes on at every step. A sum
# of bell curves is a bell curve again: one single draw of noise will do.
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \epsilon
#   \qquad \bar\alpha_t = \prod_{s=1}^{t} (1 - \beta_s) \qquad \text{(DDPM, eq. 4)}$$

# %% [markdown]
# ### Exercise 1.2 - the jump (10 minutes, difficulty 2 of 5)
#
# Write `q_sample`. It gets clean data `x0` of shape `(B, *dims)` in [-1, 1], whole numbers `t` of shape
# `(B,)` in 1..T (each picture has its own step), noise `eps` like `x0`, and the table `alpha_bar` of shape
# `(T+1,)` whose row 0 is 1: row $t$ belongs to step $t$. It returns `x_t` like `x0`, for pictures
# `(B, 1, 8, 8)` and for points `(B, 2)` alike. (Pictures and noise are float32. The course's tables are
# float64; `.float()` makes float32 of them, and your function gets them like that.)
#
# *Torch you need:* `alpha_bar[t]` looks up all B rows at once, shape `(B,)`. To multiply a picture, it
# needs as many axes as `x0`, all of length 1 but the first: `numbers.reshape(B, 1, 1, 1)` for a picture.
# `x0.ndim` counts axes, and `[1] * 3` is `[1, 1, 1]`; a star unpacks a list, as in
# `reshape(B, *[1, 1, 1])`.


# %% tags=["exercise"]
def q_sample(x0, t, eps, alpha_bar):
    """Jump from clean data x0 to step t (DDPM, eq. 4)."""
    # <solution>
    kept = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))  # (B, 1, ..., 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * eps
    # </solution>


# %% tags=["check"]
q_sample = check("1.2", q_sample)

# %% [markdown]
# **A claim on trial: "the forward process has to be simulated, step by step."** Take 2,000 copies of the
# three. Walk each of them 300 steps with your `forward_step`; let another 2,000 jump there at once with
# your `q_sample`. If the jump is a different process, a pixel will show it.

# %% tags=["picture"]
generator = torch.Generator().manual_seed(1)
copies = x0.expand(2000, -1, -1, -1)  # the same three 2,000 times, (2000, 1, 8, 8)
walked = walk(copies, schedule.beta[:301], forward_step, seed=2)[-1]
eps = torch.randn(copies.shape, generator=generator)
jumped = q_sample(copies, torch.full((2000,), 300), eps, schedule.alpha_bar.float())

pixel = {"walked 300 steps": walked[:, 0, 1, 3], "jumped once": jumped[:, 0, 1, 3]}
for name, values in pixel.items():
    print(f"{name:>17}: one pixel has mean {values.mean():.2f} and deviation {values.std():.2f}")
print(f"largest difference of the means of any pixel: {(walked.mean(0) - jumped.mean(0)).abs().max():.2f}")
figure = viz.histogram(pixel, "value of one pixel at t = 300", bins=30)
show(figure, "Histograms of one pixel over 2,000 walks and 2,000 jumps: the two bells lie on one another.")

# %% [markdown]
# **What you saw.** Same mean, same width, same bell, up to the jitter of 2,000 draws (the difference of two
# such means is uncertain by 0.02, and the largest of 64 differences by about three times that). The claim
# is false: one draw replaces the walk. What a jump does *not* give you is the road: two jumps, to $t = 299$
# and to $t = 300$, with fresh noise each are no neighbours.

# %% [markdown]
# ## 4. The table behind the jump
#
# You were handed `alpha_bar`. Where it comes from matters, because this table is where most home-made
# diffusion models are off by one step.

# %% [markdown]
# ### Exercise 1.3 - from beta to alpha_bar (8 minutes, difficulty 2 of 5)
#
# Write `alpha_bar_table`. It gets `beta` of shape `(T,)`, float64, each between 0 and 1, listed as in the
# papers: `beta[0]` belongs to step 1, `beta[T-1]` to step T. It returns the table of shape `(T+1,)`,
# float64: row 0 is 1 (clean data, all of it left), and row $t$ is what eq. 4 calls $\bar\alpha_t$.
#
# *Torch you need:* `x.cumprod(0)` is the running product along axis 0, `torch.cat([a, b])` joins two
# tensors of one axis, and `x.new_ones(1)` is a tensor that holds a single 1, of the same kind as `x`.


# %% tags=["exercise"]
def alpha_bar_table(beta):
    """How much of the picture's variance is left after each step, row 0 first (DDPM, eq. 4)."""
    # <solution>
    left = (1 - beta).cumprod(0)  # (T,)
    return torch.cat([beta.new_ones(1), left])
    # </solution>


# %% tags=["check"]
alpha_bar_table = check("1.3", alpha_bar_table)

# %% [markdown]
# **Two claims on trial: "$\beta_t$ is the amount of noise in $x_t$"**, and **"the noise grows evenly, so
# $\bar\alpha_t = 1 - t/T$ will do."** Your table against both:

# %% tags=["picture"]
beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # as listed in the paper
alpha_bar = alpha_bar_table(beta)
print(f"largest difference from the course's own table: {(alpha_bar - schedule.alpha_bar).abs().max():.0e}")

steps = torch.arange(1001)
for t in (100, 500, 1000):
    left = alpha_bar[t]
    print(f"t = {t:4}: beta {beta[t - 1]:.4f}, variance of noise {1 - left:.5f}, of picture {left:.5f}")
lines = {"noise in x_t": (steps, 1 - alpha_bar), "t / T": (steps, steps / 1000), "beta": (steps[1:], beta)}
figure = viz.curves(lines, "t", "variance")
show(figure, "The noise in x_t rises in an S and is nearly 1 at t = 600; t/T is straight; beta stays near 0.")

# %% [markdown]
# **What you saw.** Both claims fail. At $t = 500$ one step adds 0.01 of variance, while $x_t$ is made of
# 92 % noise: beta is the speed, not the distance. And with beta rising in a straight line, the noise rises
# in an S. (There is a schedule whose noise *rate* is $t/T$; you will meet it in section 6. Its name is not
# "linear".)

# %% [markdown]
# **Before you run the next cell.** People save time by taking fewer steps: the same ends, beta from 0.0001
# to 0.02, but T = 100 instead of 1000. How much of the digit is left at the last step, as signal rate
# $\sqrt{\bar\alpha_T}$? With T = 1000 it is 0.006.

# %% tags=["prediction"]
fewer = predict("1.c", "signal rate at T, for T = 100 and the same ends", options=[0.006, 0.06, 0.6])


# %%
def last_step(T, scale, draws=1000):
    """The signal rate at T, and many draws of x_T, for betas between scale times the usual ends."""
    table = alpha_bar_table(torch.linspace(1e-4 * scale, 0.02 * scale, T, dtype=torch.float64))
    noise = torch.randn(draws, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    x_T = q_sample(x0.expand(draws, -1, -1, -1), torch.full((draws,), T), noise, table.float())
    return float(table[T].sqrt()), x_T


sizes = (50, 100, 300, 1000, 3000)
same = {T: last_step(T, scale=1) for T in sizes}
scaled = {T: last_step(T, scale=1000 / T) for T in sizes}
for T in sizes:
    print(f"T = {T:4}: signal rate {same[T][0]:.3g} with the same ends, {scaled[T][0]:.3g} with scaled ends")
print(fewer.compare(round(same[100][0], 2)))

# %% [markdown]
# To the eye, a single $x_T$ is a mess either way. But pure noise averages out to grey. So look at the
# *mean* of 1,000 draws of $x_T$ as well: whatever is still there of the three must show.

# %% tags=["picture"]
rows = {
    "same ends,\none draw": torch.stack([same[T][1][0] for T in sizes]),
    "same ends,\nmean of 1000": torch.stack([same[T][1].mean(0) for T in sizes]),
    "ends x 1000/T,\nmean of 1000": torch.stack([scaled[T][1].mean(0) for T in sizes]),
}
figure = viz.picture_rows(rows, [f"T = {T}" for T in sizes], size=1.2)
show(figure, "With the same ends, the mean of 1000 draws shows the three plainly at T = 50 and 100, faintly at "
     "300, and is grey at 1000 and 3000. With scaled ends it is grey for every T.")

# %% [markdown]
# **What you saw.** Two popular sentences fail at once. "At the last step there is only noise": with T = 100
# and the same ends, 60 % of the digit's strength is still there, and a model that starts drawing from pure
# noise starts from something it has never seen. "More steps mean more noise": only as long as the betas
# stay what they were. What counts is their sum, since $\sqrt{\bar\alpha_T} \approx e^{-\sum\beta / 2}$;
# scale them with $1000/T$, and T only says how finely the same road is cut up. (For T of 50 or more: at
# T = 20 the last beta would be 1.)

# %% [markdown]
# ## 5. Move it yourself
#
# The picture below is made by *your* `q_sample`. Drag the sliders, or reach them with Tab and use the arrow
# keys. The noise stays the same draw all the time, so all that changes is how much of it you see. Try to
#
# - find the first $t$ at which you would no longer bet on a three, for *linear* and for *cosine*;
# - set *linear* and lower T: watch the signal rate end far above 0;
# - read the rates where the two curves cross: why are they not 0.5? (Variances add up to 1. What is
#   $0.71^2$?)

# %%
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(8))
makers = {"linear": schedules.linear_beta, "cosine": schedules.cosine, "sigmoid": schedules.sigmoid}


def draw(schedule, T, t):
    chosen = makers[schedule](T)
    x_t = q_sample(x0, torch.tensor([t]), eps, chosen.alpha_bar.float())[0]
    rates = {"signal_rate": chosen.signal_rate, "noise_rate": chosen.noise_rate}
    return viz.picture_and_curves(x_t, rates, t, title=f"x_t at t = {t} of {T}")


def words(schedule, T, t):
    a, s = makers[schedule](T).rates(t, x0)
    return f"{schedule}, t = {t} of {T}: {float(a):.3f} times the three plus {float(s):.3f} times the noise."


# %%
explore(draw, alt=words, schedule=list(makers), T=[1000, 300, 100, 30, 10], t=(0, "T", 60))

# %% [markdown]
# ## 6. Four schedules, one clock
#
# By now there are many schedules: *cosine* (made because *linear* was thought to ruin pictures too early),
# *sigmoid*, and *flow*, the straight line $x_t = (1 - t/T)\,x_0 + (t/T)\,\epsilon$ that recent large models
# use. Their curves look different. How different are they?
#
# A picture ten times brighter under noise ten times stronger is the same picture. So the only thing that
# can matter is the ratio: the **signal-to-noise ratio**, SNR, signal variance over noise variance. It runs
# over many powers of ten, so one takes the natural logarithm of it. At 0 both rates are equal.
#
# $$\text{log-SNR} = \ln \frac{\bar\alpha_t}{1 - \bar\alpha_t}$$

# %% [markdown]
# ### Exercise 1.4 - the real clock (6 minutes, difficulty 2 of 5)
#
# Write `log_snr`. It gets the table `alpha_bar` of shape `(T+1,)`, float64, values from 1 down to 0, and
# returns the natural logarithm of the signal-to-noise ratio in the same shape and dtype. Row 0 holds no
# noise, so infinity is right there (and minus infinity where no signal is left): no special case is needed.
#
# *Torch you need:* `x.log()` is the natural logarithm.


# %% tags=["exercise"]
def log_snr(alpha_bar):
    """Natural logarithm of signal variance over noise variance, for every row of the table."""
    # <solution>
    return (alpha_bar / (1 - alpha_bar)).log()
    # </solution>


# %% tags=["check"]
log_snr = check("1.4", log_snr)

# %% [markdown]
# Here are the four schedules on that clock. *Flow* does not keep the variance at 1; dividing by
# $\sqrt{a^2 + s^2}$ brings it there, without changing the ratio.

# %% tags=["picture"]
four = [schedules.linear_beta(), schedules.cosine(), schedules.sigmoid(), schedules.flow()]
clocks = {}
for one in four:
    share = one.signal_rate**2 / (one.signal_rate**2 + one.noise_rate**2)  # alpha_bar, once the variance is 1
    clocks[one.name] = log_snr(share)  # (1001,)
    first, middle, last = (float(clocks[one.name][t]) for t in (1, 500, 1000))
    print(f"{one.name:>8}: log-SNR {first:4.1f} at t = 1, {middle:4.1f} at 500, {last:5.1f} at T")
inner = steps[1:-1]
figure = viz.curves({name: (inner, clock[inner]) for name, clock in clocks.items()}, "t", "log-SNR", mark=500)
show(figure, "From t = 100 to t = 900 linear lies below the other three, which stay close together; towards T "
     "linear goes on evenly to -10, and the other three fall steeply. A thin line marks t = 500.")

# %% [markdown]
# **What you saw.** At $t = 500$, the thin line, the other three have as much signal as noise, and *linear* is
# at -2.5 already. They also end in different places: *linear* at -10, *cosine* and *sigmoid* at about -20, and
# *flow*, which leaves no signal at all, at minus infinity. (The figure leaves row 0 and row T out.)
#
# **Before you run the next cell.** Stop each schedule where its log-SNR is, say, -1 (linear at about
# $t = 360$, cosine at about 650), with the same digit and the same noise. Which picture will be clearer?

# %% tags=["prediction"]
matched = predict("1.d", "clearer at the same log-SNR", options=["linear", "cosine", "no difference"])

# %%
levels, rows = [4, 2, 0, -1, -2, -4], {}
for one in four:
    rows_at = [int((clocks[one.name] - level).abs().argmin()) for level in levels]  # the nearest steps
    a, s = one.rates(torch.tensor(rows_at), x0.expand(len(levels), -1, -1, -1))
    rows[one.name] = (a * x0 + s * eps) / (a**2 + s**2).sqrt()
    print(f"{one.name:>8} is at log-SNR {', '.join(map(str, levels))} when t = {rows_at}")
apart = max(float((row - rows["linear"]).abs().max()) for row in rows.values())
print(f"largest difference of any pixel from linear's: {apart:.3f}")
print(matched.compare("no difference"))

# %% [markdown]
# See it happen on two of them, with nine digits and one and the same noise, mixed by your `q_sample`. Beside
# each noisy picture stands the best guess of the digit: by the exact predictor of lesson 00, which knows 1,297
# other digits and averages them by Bayes' rule.

# %%
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.types import Step
from course_lib.widgets import StepPlayer

known, new = pictures[:1297], pictures[1297:]  # (1297, 1, 8, 8), (500, 1, 8, 8)
nine = new[:9]
noise = torch.randn(nine.shape, generator=torch.Generator().manual_seed(8))


def road(one):
    """Mix the nine digits at t = 1000, 990, ..., 0, and guess from there."""
    predictor, table = ExactPredictor(GaussianMixture(known, std=0.0), one), one.alpha_bar.float()
    x = {t: q_sample(nine, torch.full((9,), t), noise, table) for t in range(1000, 0, -10)} | {0: nine}
    return [Step(t, t - 10, x[t], predictor(x[t], torch.full((9,), t)), x[t - 10]) for t in x if t]


# %% [markdown]
# The player keeps the two in step **by noise level**, and the curve below the pictures shows the $t$ of each. It
# runs from noise to clean digits, as all players of this course do; pull the slider to the left to ruin them.
#
# **Find it.** Picture 5, in the middle, is a four, but for a while its guess is a zero. At which $t$ of *linear*
# does the zero open into a four, and at which $t$ of *cosine*? Write both down before you run the cell below
# the player.

# %%
roads = {one.name: road(one) for one in four[:2]}  # linear, cosine
ts = [t / 1000 for t in range(1000, -1, -10)]
StepPlayer(
    roads,
    curve={"t / T": ts},
    title="One road, two timetables",
    alt="Nine digits on the road from noise, under linear and under cosine. At each place of the slider "
    "both show the same pictures and the same guesses, only t differs; at the end stand the digits 0 to 8.",
)

# %%
for name, walked in roads.items():
    fifth = torch.stack([step.prediction.x0[4].flatten() for step in walked])  # (100, 64)
    kinds = labels[torch.cdist(fifth, known.flatten(1)).argmin(1)]  # of the known digit nearest to each guess
    last = min(step.t for step, kind in zip(walked, kinds, strict=True) if kind == 0)
    print(f"{name}: guess 5 is most like a 0 down to t = {last}, log-SNR {clocks[name][last]:.1f}")

# %% [markdown]
# **What you saw.** No difference, but for the rounding to whole steps: the zero opens at one and the same noise
# level, about 300 steps apart. Four schedules, four formulas, a handful of papers, and they all show a network *the
# same pictures*, up to a factor. A schedule only decides where the road begins and ends, and **when** it is
# where: how many of the steps are spent at which log-SNR.
#
# Did you notice the left end? The slider counts the steps of *linear*, and for its first 400 hardly anything
# moves in a guess, while *cosine* goes through its first 100. And the guess reads further than you do: at
# $t = 300$ of *linear* it shows most of the digits, where $x_t$ is grains with a shadow in them.

# %% [markdown]
# ### What does a step buy?
#
# Then which log-SNR deserves steps? Let us measure where digits stop being readable. The reader is a
# program that lets the 1,297 known digits vote on the 500 others: the nearer a known digit, the more its vote
# counts. You need not read the next two cells; they are that program, and a loop over steps.

# %%
names = torch.nn.functional.one_hot(labels[:1297]).float()  # (1297, 10), a 1 in the column of the label


def recognised(x_t, a, s):
    """The share of 500 noisy digits (500, 1, 8, 8) that the known digits name rightly."""
    distance = torch.cdist(x_t.flatten(1), a * known.flatten(1)) ** 2  # (500, 1297), each with each
    votes = (-distance / (2 * s**2)).softmax(1) @ names  # (500, 10), weights by Bayes' rule
    return float((votes.argmax(1) == labels[1297:]).float().mean())


# %%
def reading_curve(one, times, generator):
    """The share that is read rightly at each of some steps of a schedule."""
    shares = []
    for t in times:
        a, s = float(one.signal_rate[t]), float(one.noise_rate[t])
        shares.append(recognised(a * new + s * torch.randn(new.shape, generator=generator), a, s))
    return shares


# %% tags=["picture"]
times = list(range(25, 1000, 25))
generator = torch.Generator().manual_seed(4)
curves = {one.name: reading_curve(one, times, generator) for one in four}
half = max(t for t, share in zip(times, curves["linear"], strict=True) if share >= 0.5)
print(f"linear: half of the digits are read rightly up to about t = {half}")
print(reading.compare(half))
by_t = {name: (times, share) for name, share in curves.items()}
by_clock = {name: (clocks[name][times], share) for name, share in curves.items()}
figure = viz.two_clocks(by_t, by_clock, ("t", "log-SNR"), "share of digits read rightly")
show(figure, "Digits read rightly. Against t, linear falls far earlier than the other three; against log-SNR "
     "the four curves are one, falling from more than 0.9 at +1 to chance, 0.1, at -5.")

# %% [markdown]
# **What you saw.** On the left, four curves that seem to say that *linear* ruins digits sooner. On the
# right, one curve: nearly everything is decided between a log-SNR of +1 and -5. (Each point is a share of
# 500 digits, uncertain by about 0.02; guessing gives 0.1.)
#
# A schedule thus decides twice. While learning, how often each log-SNR is met; while drawing with, say, 20
# of the 1000 steps, where the 20 begin. Spaced evenly in $t$, they fall as in the first four rows. The last
# row is another spacing on the *linear* table, named after Karras: more steps where there is little noise. An
# arrow is a step that begins further left, below -12.

# %% tags=["picture"]
for name, clock in clocks.items():
    early, late = float((clock[1:] > 1).float().mean()), float((clock < -5).float().mean())
    print(f"{name:>8}: {early:.0%} of the steps above +1, {late:.0%} below -5, the rest between")

marks = {one.name: clocks[one.name][one.steps(20)[:-1]] for one in four}  # the last entry is clean data
marks["linear, karras"] = clocks["linear"][four[0].steps(20, spacing="karras")[:-1]]
xlabel = "log-SNR where each of the 20 steps begins (noise on the left)"
figure = viz.rulers(marks, xlabel, band=(-5, 1), band_name="where digits are decided", span=(-12, 12))
show(figure, "Five rulers of 20 marks each. Linear has six marks left of the band; cosine, sigmoid and flow have "
     "one or two, of which the first is an arrow, beyond -12. The last marks of these four stand between +3 and "
     "+6; Karras spacing goes on to +9.")

# %% [markdown]
# **What you saw.** *Linear* spends three in ten of its steps where these digits are already beyond
# recovery, the others fewer than one in ten. That is the observation that gave us *cosine*. And the spacing
# counts as much as the schedule: even in $t$, the last step leaps from between +3 and +6 to clean data;
# Karras' spacing walks on to +9, which is good for fine detail. Lesson 05 measures what that buys. Is
# *cosine* the better schedule, then? Not so fast: these digits were 8 pixels wide.

# %% [markdown]
# ## 7. The same step, a bigger picture
#
# **Before you run the next cell.** Blow the digits up to 64 x 64, each pixel a block of 8 x 8 equal ones,
# and add noise at $t = 300$ of *linear*, fresh for every one of the 4,096 pixels. Compared with the 8 x 8
# digits at $t = 300$, will they be easier to read, harder, or the same?

# %% tags=["prediction"]
bigger = predict("1.e", "64 x 64 at the same t is", options=["easier to read", "the same", "harder to read"])


# %% tags=["picture"]
def enlarge(x, k):
    """Turn every pixel into a block of k x k equal ones."""
    return x.repeat_interleave(k, dim=2).repeat_interleave(k, dim=3)  # each row k times, each column k times


generator = torch.Generator().manual_seed(5)
t, table = torch.full((8,), 300), schedule.alpha_bar.float()
small, large = pictures[:8], enlarge(pictures[:8], 8)  # (8, 1, 8, 8), (8, 1, 64, 64)
small_t = q_sample(small, t, torch.randn(small.shape, generator=generator), table)
large_t = q_sample(large, t, torch.randn(large.shape, generator=generator), table)
averaged = torch.nn.functional.avg_pool2d(large_t, 8)  # the mean of each block, (8, 1, 8, 8)
a, s = float(schedule.signal_rate[300]), float(schedule.noise_rate[300])
rows = {"8 x 8": small_t, "64 x 64": large_t, "blocks averaged,\ncontrast restored": averaged / a}
figure = viz.picture_rows(rows, size=1.3)
show(figure, "Digits 0 to 7 at t = 300: at 8 x 8 hard to read, at 64 x 64 seen through grain; averaged, plain.")

# %%
for name, x_t in {"8 x 8": small_t, "blocks averaged": averaged}.items():
    noise = (x_t - a * small).std()
    print(f"{name:>17}: noise of deviation {noise:.2f}, log-SNR {2 * torch.log(a / noise):.1f}")
print(f"noise rate {s:.2f}, and one eighth of it {s / 8:.2f}")
print(bigger.compare("easier to read"))

# %% [markdown]
# **What you saw.** Averaging 64 independent noises divides their deviation by 8 (variances add, remember 3
# and 4). The digit is the same in all 64 pixels and loses nothing. So each doubling of the width gives
# $2 \ln 2 = 1.4$ of log-SNR away for free; eight times the width, 4.2. (A photograph of 64 x 64 is no
# blown-up digit, it has fine detail as well; but its coarse shapes obey this rule.)
#
# The cure is to take back what was given away: run the larger picture $2 \ln 8$ lower on the clock. Here
# are two schedules as they are, and *cosine* lowered by that much, all on digits of 64 x 64, read by the
# program of section 6. (You need not read its cell.)


# %%
def reading_large(alpha_bar, times, generator):
    """The share of digits read rightly at 64 x 64, from the means of the blocks."""
    shares = []
    for t in times:
        rows = torch.full((len(new),), t)
        noise = torch.randn(len(new), 1, 64, 64, generator=generator)
        x_t = torch.nn.functional.avg_pool2d(q_sample(enlarge(new, 8), rows, noise, alpha_bar.float()), 8)
        shares.append(recognised(x_t, float(alpha_bar[t].sqrt()), float((1 - alpha_bar[t]).sqrt()) / 8))
    return shares


# %% tags=["picture"]
import math

times = list(range(50, 1000, 50))
linear_table, cosine_table = four[0].alpha_bar, four[1].alpha_bar
shifted = torch.sigmoid(log_snr(cosine_table) - 2 * math.log(8))  # back from log-SNR to alpha_bar
tables = {"linear": linear_table, "cosine": cosine_table, "cosine, shifted": shifted}
large_curves = {name: (times, reading_large(table, times, generator)) for name, table in tables.items()}
for name, (_, share) in large_curves.items():
    half = max(t for t, right in zip(times, share, strict=True) if right >= 0.5)
    print(f"{name:>15}: half of them read rightly up to about t = {half}")
figure = viz.curves(large_curves, "t", "share of digits read rightly, 64 x 64", markers=True)
show(figure, "At 64 x 64, half of the digits are read until t = 950 with cosine, 700 with linear, 650 with "
     "shifted cosine, whose curve falls evenly, as that of cosine did at 8 x 8.")

# %% [markdown]
# **What you saw.** At 64 x 64 it is *cosine* that wastes steps, at the other end: for more than eight
# tenths of them these digits are plain to read, and then everything is decided at once. *Linear*, "the bad
# one" of section 6, does better here. So "cosine beats linear" is not a fact about schedules; it was found
# on photographs of 32 x 32 and 64 x 64, with detail in every pixel. Ask of every schedule: **for pictures
# of which size, and how smooth?**

# %% [markdown]
# ## 8. Is the last step pure noise?
#
# Drawing starts from the bell curve, on the ground that $x_T$ is "pure noise". With *linear* and T = 1000
# the signal rate at the end is 0.006: surely nobody can see that?
#
# **Before you run the next cell.** Somebody tosses a coin, takes an all-black picture for heads and an
# all-white one for tails, and jumps to $t = 1000$. You see only $x_T$ and say "white" if its mean is above 0.
# How often are you right, if the picture is 512 x 512?

# %% tags=["prediction"]
told = predict("1.f", "right answers in 100, at 512 x 512", options=[52, 75, 100])


# %%
def told_apart(size, draws, generator):
    """How often the mean of x_T tells white from black."""
    right = 0
    for colour in (-1.0, 1.0):
        flat = torch.full((draws, 1, size, size), colour)
        noise = torch.randn(flat.shape, generator=generator)
        x_T = q_sample(flat, torch.full((draws,), 1000), noise, schedule.alpha_bar.float())
        right += int((x_T.mean((1, 2, 3)) * colour > 0).sum())
    return 100 * right / (2 * draws)


# %%
generator = torch.Generator().manual_seed(6)
for size, draws in ((8, 20_000), (64, 1000), (512, 30)):
    share = told_apart(size, draws, generator)
    print(f"{size:3} x {size:<3}: right in {share:.0f} of 100 ({2 * draws} pictures)")
print(told.compare(round(share)))

# %% [markdown]
# **What you saw.** At 8 x 8 you might as well toss a coin. At 512 x 512 you are right practically always,
# although no eye could see it: the mean of 262,144 noises is so close to 0 that 0.006 stands out. The claim
# "$x_T$ is pure noise" is false for large pictures, and a network can average as well as you.
#
# Why care? Because while *learning*, the network sees that $x_T$ gives the brightness away, and trusts it;
# while *drawing*, it is handed true noise, whose mean is 0, and reads from it: "medium grey". Stable
# Diffusion's schedule leaves ten times more, a signal rate of 0.068. Let us see what that does, with 40
# flat 64 x 64 pictures from black to white as data.

# %%
root_beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
leaky = alpha_bar_table(root_beta**2)  # "scaled linear"
print(f"signal rate at T: {leaky[-1].sqrt():.4f}")

levels = torch.linspace(-0.975, 0.975, 40)  # the data: brightness from black to white
print(f"data darker than -0.6 or brighter than 0.6: {float((levels.abs() > 0.6).float().mean()):.0%}")

# %% [markdown]
# No training is needed: for such data the *best possible* prediction is known in closed form (lesson 02
# derives it). We start 200 drawings from true noise and walk back in 50 steps (lesson 05 explains them).
#
# **Before you run it.** 40 % of the data are darker than -0.6 or brighter than 0.6. Of the drawings, how
# many will be?

# %% tags=["prediction"]
grey = predict("1.g", "percent of the drawings that are that dark or bright", options=[1, 20, 40])

# %%
from course_lib.samplers import ddim_step, sample

flat_pictures = GaussianMixture(levels.reshape(-1, 1, 1, 1).expand(-1, 1, 64, 64), std=0.02)


def brightness_drawn(alpha_bar, steps=50):
    """Draw 200 pictures from true noise with the best possible predictor; return their brightness."""
    road = schedules.Schedule("own", alpha_bar.sqrt(), (1 - alpha_bar).sqrt())
    x_T = torch.randn(200, 1, 64, 64, generator=torch.Generator().manual_seed(7))
    drawn = sample(ddim_step, ExactPredictor(flat_pictures, road), road, x_T, road.steps(steps))
    return drawn.mean((1, 2, 3))  # (200,)


# %%
drawn = brightness_drawn(leaky)
share = 100 * float((drawn.abs() > 0.6).float().mean())
print(f"drawings that dark or bright: {share:.0f} %")
print(f"deviation of the brightness: {drawn.std():.3f}, of the data {levels.std():.3f}")
print(f"and in 10 steps instead of 50: {brightness_drawn(leaky, 10).std():.3f}")
print(grey.compare(round(share)))

# %% [markdown]
# **What you saw.** A perfect predictor, and still hardly any dark or bright picture: medium grey, as
# foretold. It is not the predictor's fault, and not a matter of steps, for 10 or 50 make no difference: it is
# the table's. This is how Lin and co-authors explained why Stable Diffusion would draw neither a black night
# nor a white snowfield, and their cure is five lines long.

# %% [markdown]
# ### Exercise 1.5 - nothing left at T (12 minutes, difficulty 3 of 5)
#
# Write `zero_terminal_snr`. It gets a table `alpha_bar` of shape `(T+1,)`, float64, T at least 2, row 0
# equal to 1, and returns a new table of the same shape. Work on the signal rates
# $a_t = \sqrt{\bar\alpha_t}$: **shift** them all down so that $a_T$ becomes 0, then **stretch** them all so
# that row 1 is what it was. Row 0 stays clean data, 1. Give back $\bar\alpha$, not $a$. Leave the input as
# it was.
#
# *Torch you need:* `a[-1]` is the last row; `new = old.clone()` makes a copy that you may write into, as in
# `new[0] = 1`.


# %% tags=["exercise"]
def zero_terminal_snr(alpha_bar):
    """Shift and stretch the signal rates so that none is left at T (arXiv:2305.08891, algorithm 1)."""
    # <solution>
    a = alpha_bar.sqrt()  # a new tensor, so the input stays as it was
    first, last = a[1], a[-1]
    a = (a - last) * first / (first - last)
    a[0] = 1
    return a**2
    # </solution>


# %% tags=["check"]
zero_terminal_snr = check("1.5", zero_terminal_snr)

# %% [markdown]
# Same data, same noise, only the table is yours; first in 10 steps, then in 100.

# %% tags=["picture"]
mended, many = zero_terminal_snr(leaky), budget(smoke=40, cpu=100, gpu=100)  # steps
rows = {"data": levels, "leaky table, 50 steps": drawn}
for n in (10, many):
    rows[f"your table, {n} steps"] = brightness_drawn(mended, n)
for name, values in rows.items():
    share = float((values.abs() > 0.6).float().mean())
    print(f"{name:>21}: deviation {values.std():.2f}, that dark or bright {share:.0%}")
figure = viz.histogram(rows, "brightness of a picture", bins=10, spread=(-1, 1))
show(figure, "Brightness: the data even from -1 to 1; a narrow hill around 0 with the leaky table, and one hardly "
     "wider with the mended table in 10 steps; with the mended table in 100 steps all from -1 to 1, with fewer at "
     "the very ends.")

# %% [markdown]
# **What you saw.** Black and white are back, and the number of steps counts again: from pure noise to the end
# is a long way on the clock, and 10 steps are too coarse for it. (In 100 steps the very ends are still a little
# rare.) One price is due: at T there is no signal left, so a network that predicts `eps` can say nothing about
# $x_0$ there. What to predict instead is a question of the next lesson.

# %% [markdown]
# ## Summary
#
# - One step: $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\epsilon$. Variances add, deviations do
#   not; that is where the roots come from.
# - One jump: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$, the same distribution as
#   $t$ steps. Row 0 of the table is clean data.
# - $\beta$ is the speed, $1 - \bar\alpha$ the distance. Fewer steps with the same betas leave the picture
#   standing.
# - Log-SNR is the clock. Schedules differ in where they begin and end on it, and in how they spend the steps
#   between.
# - The size of the picture moves the clock: $2 \ln k$ for pictures $k$ times as wide. No schedule is good
#   or bad by itself.
# - $x_T$ is pure noise only if $\bar\alpha_T$ is 0. If not, the network learns to trust what should not be
#   there.

# %% [markdown]
# ## Quiz
#
# ### Question 1
#
# Think back to your guess about the noises of deviation 3 and 4. You take two forward steps with
# $\beta = 0.02$ each. What is the noise rate (the deviation of all the noise) in $x_2$?
#
# <details><summary>A. 0.28</summary>
# No: that is 0.141 + 0.141, deviations added, the "7" of your guess. Variances add.
# </details>
# <details><summary>B. 0.20</summary>
# Yes: the first noise is shrunk a little and the second added, 0.98 x 0.02 + 0.02 = 0.0396, and the root of
# that is 0.199. It is also the root of 1 - 0.98 x 0.98.
# </details>
# <details><summary>C. 0.04</summary>
# No: 0.04 is about the variance. The noise rate multiplies eps, so it is a deviation: take the root.
# </details>
#
# ### Question 2
#
# A friend trains with linear betas from 0.0001 to 0.02 and T = 100 "to be faster". The training loss
# is fine, the drawings are mush. What is the likeliest reason?
#
# <details><summary>A. 100 steps are too coarse to draw anything</summary>
# No: good samplers draw with 20 steps (lesson 05), and you saw 100 do it. The number of steps is not the
# trouble.
# </details>
# <details><summary>B. At T = 100 the signal rate is still 0.6, and drawing starts from pure noise</summary>
# Yes: the network has never seen pure noise. Scale the betas by 1000/T (for T of 50 or more: at T = 20 the
# last beta would be 1), or choose a schedule by its log-SNR at the ends.
# </details>
# <details><summary>C. beta should have been a standard deviation</summary>
# No: beta is a variance, and the roots turn it into deviations. That was right.
# </details>
#
# ### Question 3
#
# A schedule works well at 64 x 64. What does it need at 512 x 512?
#
# <details><summary>A. Nothing: t/T means the same at every size</summary>
# No: you saw digits that were hard to read at 8 x 8, and plain at 64 x 64 once blocks were averaged, at the
# same t.
# </details>
# <details><summary>B. More steps T, at the same log-SNR curve</summary>
# No: that cuts the same road into more pieces. The coarse shapes stay readable for just as large a share of
# it.
# </details>
# <details><summary>C. Its log-SNR lowered by about 4.2 everywhere</summary>
# Yes: 512 is 8 times as wide, and averaging blocks of 8 x 8 gives 2 ln 8 = 4.2 of log-SNR away, so take it
# back.
# </details>

# %% [markdown]
# ## References
#
# - DDPM, arXiv:2006.11239: eq. 2 (one step), eq. 4 (the jump), section 4 (linear betas).
# - Improved DDPM, arXiv:2102.09672: eq. 17 (cosine), section 3.2 (why: linear is too noisy at 32 x 32 and
#   64 x 64).
# - Variational Diffusion Models, arXiv:2107.00630: section 5.1 (for the bound on the likelihood, in continuous
#   time, nothing matters but the log-SNR at the ends).
# - On the Importance of Noise Scheduling, arXiv:2301.10972: section 2 (picture size), section 2.1 with
#   algorithm 1 (sigmoid).
# - Simple Diffusion, arXiv:2301.11093: section 3.1 (shifting the log-SNR by picture size).
# - Rectified flow, arXiv:2209.03003: eq. 1 (the straight line). EDM, arXiv:2206.00364: eq. 5 (karras
#   spacing).
# - Common Diffusion Noise Schedules and Sample Steps are Flawed, arXiv:2305.08891: table 1 (signal left at
#   T), algorithm 1.
#
# ## Next
#
# We can ruin a picture. [Lesson 02](02_denoising_objective.ipynb) asks what exactly a network should learn, to
# repair it.
