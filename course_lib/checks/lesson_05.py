"""The exercises of lesson 05: DDIM's step, a list of times, an order, two steps of second order, noise that comes back.

Equations: DDIM (arXiv:2010.02502v4) eq. 12 and 16; EDM (arXiv:2206.00364) algorithm 1; DPM-Solver++ (arXiv:2211.01095)
algorithm 2.
Shapes: x_t, x0, eps, noise (B, *dims); t > t_next whole numbers in 0..T; sigma = noise_rate / signal_rate, a number.
Not here: how a verdict is reached (engine.py).
"""

import math

import numpy as np
import torch

from course_lib import data
from course_lib.checks.engine import Case, Exercise, Mistake, catalogue
from course_lib.doors import described, timesteps
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.models.unet import UNet
from course_lib.schedules import cosine, flow, linear_beta
from course_lib.types import Prediction


def _draw(*shape, seed):
    """Draw numbers of variance 1, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class _Asked:
    """An exact predictor that refuses what the lesson's network refuses, and to be asked more often than is needed."""

    def __init__(self, mixture, schedule, most):
        self.predict, self.most, self.calls = ExactPredictor(mixture, schedule), most, 0

    def __call__(self, x_t, t, cond=None):
        if not isinstance(t, torch.Tensor):
            raise TypeError(f"expected t of shape ({len(x_t)},), one step for each of the batch, got {described(t)}")
        timesteps(t, self.predict.schedule.T, batch=len(x_t), lowest=1)
        self.calls += 1
        if self.calls > self.most:
            raise RuntimeError(
                f"the predictor is asked more than {('once', 'twice')[self.most - 1]} in one step: keep both parts of "
                "its answer, x0 and eps"
            )
        return self.predict(x_t, t, cond)


def _ask(predict, x_t, t):
    return predict(x_t, torch.full((len(x_t),), t))


def _off(report):
    """How far the student's result is from the right one, on average over the numbers."""
    return f"{float((report.got - report.expected).abs().mean()):.2f}"


def _reach(report):
    """How far the student's numbers reach, and how far the right ones do."""
    return (
        f"{float(report.got.abs().max()):.3g} where the right one stays below {float(report.expected.abs().max()):.3g}"
    )


PICTURES = GaussianMixture(0.5 * _draw(3, 1, 5, 5, seed=1), std=0.3)  # of a size that the lesson's network refuses
POINTS = data.ring(modes=3, radius=0.8, std=0.2)
FAR = data.ring(modes=5, radius=2.0, std=0.2)  # farther out than any pixel


def _walks(calls=1):
    """A step in the middle first, then long and short ones, the first from pure noise and the last to clean data."""
    rows = [
        ("points from t = 600 to 300", POINTS, flow(), (40, 2), 600, 300),
        ("pictures from t = 80 to 30 of 100", PICTURES, cosine(100), (5, 1, 5, 5), 80, 30),
        ("points from pure noise, t = T", data.ring(), flow(), (40, 2), 1000, 500),
        ("the last step, to clean data", POINTS, linear_beta(), (20, 2), 200, 0),
        ("a single point", data.ring(), cosine(), (1, 2), 400, 399),
        ("points farther from 0 than 1", FAR, flow(), (40, 2), 500, 200),
        ("points from t = 100 to 1", POINTS, flow(), (40, 2), 100, 1),
    ]
    for seed, (label, mixture, schedule, shape, t, t_next) in enumerate(rows, 2):
        yield label, _Asked(mixture, schedule, calls), schedule, _draw(*shape, seed=seed), t, t_next


WALKS = [Case(*walk) for walk in _walks()]

# ---- 5.1 DDIM's step ----


def ddim_step(predict, schedule, x_t, t, t_next):
    x0, eps = predict(x_t, torch.full((len(x_t),), t))
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x0 + s_next * eps


def _one_too_low(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(max(t_next - 1, 0), x_t)
    return a_next * x0 + s_next * eps


def _neighbour(predict, schedule, x_t, t, t_next):
    return ddim_step(predict, schedule, x_t, t, t - 1)


def _same_level(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t)
    a, s = schedule.rates(t, x_t)
    return a * x0 + s * eps


def _asked_about_next(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t_next)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x0 + s_next * eps


def _swapped(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return s_next * x0 + a_next * eps


def _roots_missing(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next**2 * x0 + s_next**2 * eps


def _noise_squared(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x0 + s_next**2 * eps


def _euler_in_x(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t)
    _, s = schedule.rates(t, x_t)
    _, s_next = schedule.rates(t_next, x_t)
    return x_t + (s_next - s) * (eps - x0)


def _x_t_for_eps(predict, schedule, x_t, t, t_next):
    x0, _ = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x0 + s_next * x_t


def _only_x0(predict, schedule, x_t, t, t_next):
    return _ask(predict, x_t, t).x0


def _fresh_noise(predict, schedule, x_t, t, t_next):
    x0, _ = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x0 + s_next * torch.randn_like(x_t)


def _minus(predict, schedule, x_t, t, t_next):
    x0, eps = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x0 - s_next * eps


def _x_t_for_x0(predict, schedule, x_t, t, t_next):
    _, eps = _ask(predict, x_t, t)
    a_next, s_next = schedule.rates(t_next, x_t)
    return a_next * x_t + s_next * eps


def _global_flow(predict, schedule, x_t, t, t_next):
    return ddim_step(predict, flow(), x_t, t, t_next)


def _global_model(predict, schedule, x_t, t, t_next, *more):
    """Ask a network of digits like the notebook's, which refuses points and pictures of other sizes."""
    return UNet(widths=(4, 4))(x_t, torch.full((len(x_t),), t / schedule.T))


def _clamped(predict):
    """A predictor whose guess of the picture is clamped, as a student does it in between."""

    def guess(x_t, t):
        x0, eps = predict(x_t, t)
        return Prediction(x0.clamp(-1, 1), eps)

    return guess


def _with_clamp(step):
    """A step with its guess of the picture clamped."""
    return lambda predict, *rest: step(_clamped(predict), *rest)


def _no_clamp(report):
    return (
        "You clamp the guess of the picture to -1..1: right for pixels, wrong for points, and section 3 walks points. "
        f"The formula has no clamp. Off by {_off(report)} on average."
    )


CLAMP_HINTS = ("Do all data lie between -1 and 1?", "Use x0 as the predictor returns it.")
GLOBAL_MODEL = Mistake(
    "global model",
    _global_model,
    "You ask the notebook's `model`, and not the argument `predict`: that network knows digits alone, and section 3 "
    "walks points.",
    ("Which of the arguments does your function not use?", "ask(predict, x_t, t)"),
)
ASKED_TWICE = Mistake(
    "asked twice",
    lambda predict, schedule, x_t, t, *more: (_ask(predict, x_t, t), _ask(predict, x_t, t)),
    "You ask the predictor twice about the same, and calls of the network are what costs time: one answer holds both "
    "x0 and eps.",
    ("How many things does the predictor return?", "x0, eps = ask(predict, x_t, t)"),
)
MIX_HINTS = (
    "Two lines: ask the predictor about x_t at t for x0 and eps; mix them with the rates of t_next.",
    "The mixture is the one of lesson 01: a_next * x0 + s_next * eps, with the pair schedule.rates(t_next, x_t).",
)
MIX_MISTAKES = [
    Mistake(
        "rates of t",
        _same_level,
        "You return x_t as it was, so the noise never falls. x0 and eps mixed at the level at which the predictor was "
        "asked are x_t again: ask about t, and mix with the rates of t_next.",
        ("How noisy is x_t, and how noisy should your result be?", MIX_HINTS[1]),
    ),
    Mistake(
        "asked about t_next",
        _asked_about_next,
        "You ask the predictor about t_next, and x_t has the noise of t: it takes that for less than it is, and what "
        "you mix from its answer at the same rates is x_t again. Ask about t, and mix with the rates of t_next.",
        ("How noisy is x_t, and how noisy should your result be?", MIX_HINTS[0]),
    ),
    Mistake(
        "one row too low",
        _one_too_low,
        "You read row t_next - 1: your result is one row too clean, and the next step takes it for noisier than it "
        "is. Row 0 is clean data, so step t_next is row t_next.",
        ("Which row of the table belongs to t_next = 0?", MIX_HINTS[1]),
    ),
    Mistake(
        "to the neighbour",
        _neighbour,
        "You step to t - 1, whatever t_next is: the list of times has no effect, and what is meant for a few long "
        "steps ends as noise.",
        ("Which of the five arguments does your function not use?", MIX_HINTS[1]),
    ),
    Mistake(
        "rates exchanged",
        _swapped,
        lambda r: (
            f"Signal and noise have changed places: your x_next is off by {_off(r)} on average, and at t_next = 0 it "
            "would be pure noise. A prediction is the pair (x0, eps), and rates are the pair (signal, noise)."
        ),
        ("At t_next = 0 the rates are (1, 0). What should be left then?", MIX_HINTS[1]),
    ),
    Mistake(
        "squared rates",
        _roots_missing,
        lambda r: (
            f"The rates come squared, as alpha_bar and 1 - alpha_bar: x_next is off by {_off(r)} on average. "
            "alpha_bar is a variance, and a picture is multiplied by a deviation, its root."
        ),
        ("Do variances or deviations multiply a picture?", MIX_HINTS[1]),
    ),
    Mistake(
        "noise squared",
        _noise_squared,
        lambda r: (
            "The noise comes with the square of its rate, a variance, and the signal with a root: x_next is off by "
            f"{_off(r)} on average. Both rates are used as `rates` returns them."
        ),
        ("Do variances or deviations multiply noise?", MIX_HINTS[1]),
    ),
    Mistake(
        "straight line in x",
        _euler_in_x,
        lambda r: (
            "You walk straight on in x, by (s_next - s) * (eps - x0): that is the same step on the flow path alone, "
            f"where signal and noise rates add up to 1. Here x_next is off by {_off(r)} on average."
        ),
        ("Which of the two rates does your step not use?", MIX_HINTS[1]),
    ),
    Mistake(
        "x_t for eps",
        _x_t_for_eps,
        lambda r: (
            "You mix x0 with x_t. x_t is not noise: it holds the picture as well, so the picture is counted twice, and "
            f"x_next is off by {_off(r)} on average."
        ),
        ("What does the predictor return besides x0?", MIX_HINTS[1]),
    ),
    Mistake(
        "jumped to x0",
        _only_x0,
        "You return the best guess of x0 itself. That is the blur of lesson 02: no later step can sharpen it, for the "
        "next call is told that there is still noise in it.",
        ("How much noise should be left at t_next?", MIX_HINTS[1]),
    ),
    Mistake(
        "fresh noise",
        _fresh_noise,
        "You mix with new random noise: that forgets the way that x_t came, and two runs from the same noise would "
        "end in two digits. DDIM keeps the noise that the predictor sees in x_t.",
        ("Whose noise is in x_t already?", MIX_HINTS[1]),
    ),
    Mistake(
        "minus",
        _minus,
        lambda r: (
            "You take the noise away: x_next would hold minus eps, and the predictor has never seen that beside this "
            f"picture. Off by {_off(r)} on average. A little less noise than before is still plus."
        ),
        ("What does x_t = a * x0 + s * eps become with less noise?", MIX_HINTS[1]),
    ),
    Mistake(
        "x_t for x0",
        _x_t_for_x0,
        lambda r: (
            "You mix x_t itself with eps, and x_t holds noise already: it is counted twice, and x_next is off by "
            f"{_off(r)} on average."
        ),
        ("Which part of the answer is the guess of the picture?", MIX_HINTS[1]),
    ),
    Mistake(
        "global flow",
        _global_flow,
        "You use the notebook's `flow` in place of the argument `schedule`: right for the digits, wrong wherever the "
        "schedule is another one, as the finer table of section 3.",
        ("Which of the five arguments does your function not use?", MIX_HINTS[1]),
    ),
    GLOBAL_MODEL,
    ASKED_TWICE,
    Mistake("clamped", _with_clamp(ddim_step), _no_clamp, CLAMP_HINTS),
]

# ---- 5.2 a list of times ----


def make_times(T, n, power):
    return [max(i, round(T * (i / n) ** power)) for i in range(n, -1, -1)]


def _used(make_times, T, n, power):
    """Make the list and, in the last case, use it as the lesson does, as rows of a table: no numbers like 12.0."""
    times = make_times(T, n, power)
    wrong = [t for t in times if isinstance(t, float)] if T == 12 and isinstance(times, list) else []  # numpy's, too
    if wrong:
        raise TypeError(f"expected whole numbers, such as {round(wrong[0])}, got {float(wrong[0])}")
    return times


def _powers(T, n, power):
    return [round(T * (i / n) ** power) for i in range(n, -1, -1)]


def _front_loaded(T, n, power):
    """The same powers laid from the noisy end: dense near T."""
    return [min(T - i, round(T * (1 - (i / n) ** power))) for i in range(n + 1)]


TIMES_CASES = [
    Case("T = 1000, n = 5, power = 1", 1000, 5, 1),
    Case("T = 1000, n = 5, power = 2", 1000, 5, 2),
    Case("T = 1000, n = 50, power = 2", 1000, 50, 2),
    Case("T = 300, n = 7, power = 3", 300, 7, 3),
    Case("T = 40, n = 40, power = 3", 40, 40, 3),
    Case("T = 6400, n = 1, power = 2", 6400, 1, 2),
    Case("T = 1000, n = 8, power = 1.5", 1000, 8, 1.5),
    Case("T = 12, n = 4, power = 1", 12, 4, 1),
]
TIMES_HINTS = (
    "Write down the five steps for T = 1000, n = 5, power = 2 by hand, six numbers: the second is 1000 * 0.8 * 0.8.",
    "A list comprehension: for i in range(n, -1, -1), the larger of i and round(T * (i / n) ** power).",
)
TIMES_MISTAKES = [
    Mistake(
        "0 left out",
        lambda T, n, power: make_times(T, n, power)[:-1],
        "The list ends before 0: the last step to clean data is never taken, and the sample keeps some noise.",
        ("n steps have how many ends?", "range(n, -1, -1) goes down to 0; range(n, 0, -1) stops at 1."),
    ),
    Mistake(
        "T left out",
        lambda T, n, power: make_times(T, n, power)[1:],
        "The list does not begin at T: pure noise would be handed to the model as something less noisy.",
        ("Where does drawing begin?", "range(n, -1, -1) begins with i = n, and (n / n) ** power is 1."),
    ),
    Mistake(
        "n numbers",
        lambda T, n, power: [round(T * (i / max(n - 1, 1)) ** power) for i in range(n - 1, -1, -1)],
        lambda r: (
            f"You return {len(r.got)} numbers, which is {len(r.got) - 1} steps. n steps are n + 1 numbers: a fence "
            "with five gaps has six posts."
        ),
        ("How many numbers are [1000, 500, 0], and how many steps?", TIMES_HINTS[1]),
    ),
    Mistake(
        "rising",
        lambda T, n, power: make_times(T, n, power)[::-1],
        "The list rises, and drawing goes down: from noise, T, to clean data, 0.",
        ("Which end is noise?", "range(n, -1, -1) counts down."),
    ),
    Mistake(
        "repeats",
        _powers,
        lambda r: (
            f"Right until rows run out: for n = 50 your list ends in {r.got[-4:]}, and a step from a row to itself is "
            "no step. Each t_i must be at least i."
        ),
        ("What is round(1000 * (1 / 50) ** 2)?", "Take max(i, ...) of each."),
    ),
    Mistake(
        "no whole numbers",
        lambda T, n, power: [max(float(i), T * (i / n) ** power) for i in range(n, -1, -1)],
        lambda r: f"t is a row of a table, so it must be a whole number; yours are like {r.got[-2]!r}.",
        ("What does round(3.7) give?", TIMES_HINTS[1]),
    ),
    Mistake(
        "a decimal point",
        lambda T, n, power: [float(t) for t in make_times(T, n, power)],
        "The values are right, but they are numbers with a decimal point, like 12.0, and a row of a table needs a "
        "whole number, like 12. numpy's round() keeps the point; Python's takes it away.",
        ("What is type(np.round(3.7)), and what type(round(3.7))?", TIMES_HINTS[1]),
    ),
    Mistake(
        "cut, not rounded",
        lambda T, n, power: [max(i, int(T * (i / n) ** power)) for i in range(n, -1, -1)],
        "int() cuts the digits after the point off, round() goes to the nearest whole number: some of yours are one "
        "row too low.",
        ("What is int(2.9)?", "Use round() in place of int()."),
    ),
    Mistake(
        "power upside down",
        lambda T, n, power: make_times(T, n, 1 / power),
        lambda r: (
            f"With power 2 you take the root: {r.got} crowds its steps near the noise. Squares crowd them near clean "
            "data."
        ),
        ("Is 0.2 ** 2 larger or smaller than 0.2?", "(i / n) ** power"),
    ),
    Mistake(
        "dense at the wrong end",
        _front_loaded,
        lambda r: (
            f"Your steps are small near the noise and long near clean data: {r.got}. The formula puts the small ones "
            "at the clean end."
        ),
        ("Is i counted from the noise or from clean data?", TIMES_HINTS[1]),
    ),
    Mistake(
        "power ignored",
        lambda T, n, power: make_times(T, n, 1.0),
        "All your lists are even in t, whatever the power is.",
        ("Which of the three arguments does your function not use?", TIMES_HINTS[1]),
    ),
    Mistake(
        "power made whole",
        lambda T, n, power: make_times(T, n, int(power)),
        "You make a whole number of the power, so that 1.5 becomes 1. The times are whole numbers, and the power "
        "may be any number of at least 1.",
        ("Which of your numbers must be whole, and which need not?", "Use power as it comes; round what multiplies T."),
    ),
    Mistake(
        "bits for a power",
        lambda T, n, power: [max(i, round(T * (i / n) ^ power)) for i in range(n, -1, -1)],
        "`^` is no power in Python: it works on the bits of whole numbers, and refuses fractions. Write `**`.",
        ("How is 2 to the power of 3 written in Python?", TIMES_HINTS[1]),
    ),
]

# ---- 5.3 the order ----


def order(steps, errors):
    slope, _ = np.polyfit(np.log(steps), np.log(errors), 1)
    return float(-slope)


def _fit(x, y):
    return [float(number) for number in np.polyfit(x, y, 1)]


ORDER_CASES = [
    Case(label, np.array(steps), np.array(errors))
    for label, steps, errors in (
        ("errors that halve", [5, 10, 20, 40], [0.4, 0.2, 0.1, 0.05]),
        ("errors with ups and downs", [4, 8, 16, 64], [0.3, 0.09, 0.02, 0.0021]),
        ("tiny errors", [10, 100, 1000], [1e-3, 2e-6, 1e-8]),
        ("errors that grow", [3, 6, 24], [0.1, 0.14, 0.3]),
        ("large errors", [2, 3, 5], [30.0, 8.0, 0.7]),
    )
]
ORDER_HINTS = (
    "Take the logarithm of both lists first; then np.polyfit(x, y, 1) gives the slope and the intercept.",
    "If error = C / steps**p, then log(error) = log(C) - p * log(steps): p is minus the slope.",
)
ORDER_MISTAKES = [
    Mistake(
        "sign",
        lambda steps, errors: -order(steps, errors),
        lambda r: (
            f"You return {r.got:.2f}, the slope itself. Errors fall as steps grow, so the slope is negative; the order "
            "is minus the slope."
        ),
        ORDER_HINTS,
    ),
    Mistake(
        "no logarithms",
        lambda steps, errors: -_fit(steps, errors)[0],
        lambda r: (
            f"A straight line through the errors themselves gives {r.got:.2g}, an error a step. The order is the power "
            "in C / steps**p, which is a slope only between logarithms."
        ),
        ORDER_HINTS,
    ),
    Mistake(
        "one logarithm",
        lambda steps, errors: -_fit(steps, np.log(errors))[0],
        lambda r: (
            f"Only the errors went through the logarithm, and {r.got:.2g} comes out: that is the rate of an "
            "exponential, which the errors do not follow."
        ),
        ORDER_HINTS,
    ),
    Mistake(
        "intercept",
        lambda steps, errors: -_fit(np.log(steps), np.log(errors))[1],
        lambda r: f"You return {r.got:.2f}, the second number of polyfit: the intercept. The slope comes first.",
        ("In which order does np.polyfit return its numbers?", "slope, intercept = np.polyfit(x, y, 1)"),
    ),
    Mistake(
        "axes exchanged",
        lambda steps, errors: -_fit(np.log(errors), np.log(steps))[0],
        "You fit the steps as a function of the errors: that slope is about one over the order. Right for order 1 "
        "alone.",
        ("Which of the two was chosen, and which was measured?", "np.polyfit(log of steps, log of errors, 1)"),
    ),
    Mistake(
        "first and last only",
        lambda steps, errors: math.log(errors[0] / errors[-1]) / math.log(steps[-1] / steps[0]),
        "You use the first and the last error alone. Where all lie on a line that is right; where they do not, the "
        "errors between count as well.",
        ("How many of the errors does your result depend on?", ORDER_HINTS[0]),
    ),
    Mistake(
        "sign dropped",
        lambda steps, errors: abs(order(steps, errors)),
        lambda r: (
            f"abs() hides the sign: where the errors grow with the steps you return {r.got:.2f}, as for a method that "
            "works. Use minus the slope."
        ),
        ("Which order has a method whose errors grow?", ORDER_HINTS[1]),
    ),
    Mistake(
        "factor for order",
        lambda steps, errors: 2 ** order(steps, errors),
        lambda r: (
            f"You return 2**p, {r.got:.2f}: the factor by which twice the steps make the error smaller. Asked for is p."
        ),
        ("Is it the factor or the power that is wanted?", ORDER_HINTS[1]),
    ),
    Mistake(
        "rounded",
        lambda steps, errors: round(order(steps, errors), 2),
        lambda r: (
            f"You round to two digits, {r.got:g} for {r.expected:.4f}: leave the rounding to the print, so that "
            "nothing is lost before."
        ),
        ("Where do the digits go after the second?", "Return float(-slope), without round()."),
    ),
]

# ---- 5.4 Heun's step ----


def heun_step(predict, schedule, x_t, t, t_next):
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    x0, eps = predict(x_t, torch.full((len(x_t),), t))
    euler = a_next * x0 + s_next * eps
    if t_next == 0 or s / a > 1000:
        return euler
    eps_next = predict(euler, torch.full((len(x_t),), t_next)).eps
    y_next = x_t / a + (s_next / a_next - s / a) * (eps + eps_next) / 2
    return a_next * y_next


HEUN_CASES = [
    *(Case(*walk) for walk in _walks(calls=2)),
    Case(
        "points from t = T of the cosine schedule",
        _Asked(POINTS, cosine(), 2),
        cosine(),
        _draw(40, 2, seed=9),
        1000,
        800,
    ),
]


def _end(a, s, t_next):
    """Whether there is no second slope: no noise is left to ask about, or hardly any signal to divide by."""
    return t_next == 0 or s / a > 1000


def _heun(average, x_of=None, second=None, end=_end):
    """Heun's step with one thing done otherwise."""

    def step(predict, schedule, x_t, t, t_next):
        (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
        x0, eps = _ask(predict, x_t, t)
        euler = a_next * x0 + s_next * eps
        if end(a, s, t_next):
            return euler
        x, time = second(x_t, euler, t, t_next) if second else (euler, t_next)
        after = _ask(predict, x, time)
        if x_of:
            return x_of(x_t, euler, a, s, a_next, s_next, x0, eps, after)
        return a_next * (x_t / a + (s_next / a_next - s / a) * average(eps, after.eps))

    return step


def _half(one, other):
    return (one + other) / 2


def _in_x(x_t, euler, a, s, a_next, s_next, x0, eps, after):
    return x_t + (s_next / a_next - s / a) * (eps + after.eps) / 2


def _not_scaled_back(x_t, euler, a, s, a_next, s_next, x0, eps, after):
    return x_t / a + (s_next / a_next - s / a) * (eps + after.eps) / 2


def _in_s(x_t, euler, a, s, a_next, s_next, x0, eps, after):
    return a_next * (x_t / a + (s_next - s) * (eps + after.eps) / 2)


def _not_scaled_by_next(x_t, euler, a, s, a_next, s_next, x0, eps, after):
    return a * (x_t / a + (s_next / a_next - s / a) * (eps + after.eps) / 2)


def _sigma_inverted(x_t, euler, a, s, a_next, s_next, x0, eps, after):
    return a_next * (x_t / a + (a_next / s_next - a / s) * (eps + after.eps) / 2)


def _asked_again(predict, schedule, x_t, t, t_next):
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    euler = ddim_step(predict, schedule, x_t, t, t_next)
    if _end(a, s, t_next):
        return euler
    slopes = _ask(predict, x_t, t).eps + _ask(predict, euler, t_next).eps
    return a_next * (x_t / a + (s_next / a_next - s / a) * slopes / 2)


def _trial_asked_in_y(predict, schedule, x_t, t, t_next):
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    if _end(a, s, t_next):
        return ddim_step(predict, schedule, x_t, t, t_next)
    y, h = x_t / a, s_next / a_next - s / a
    eps = _ask(predict, x_t, t).eps
    eps_next = _ask(predict, y + h * eps, t_next).eps
    return a_next * (y + h * (eps + eps_next) / 2)


def _asked_in_y(predict, schedule, x_t, t, t_next):
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    if _end(a, s, t_next):
        return ddim_step(predict, schedule, x_t, t, t_next)
    y, h = x_t / a, s_next / a_next - s / a
    eps = _ask(predict, y, t).eps
    eps_next = _ask(predict, y + h * eps, t_next).eps
    return a_next * (y + h * (eps + eps_next) / 2)


def _old_x0(x_t, euler, a, s, a_next, s_next, x0, eps, after):
    return a_next * x0 + s_next * (eps + after.eps) / 2


def _from_trial(x_t, euler, a, s, a_next, s_next, x0, eps, after):
    return euler + a_next * (s_next / a_next - s / a) * (eps + after.eps) / 2


def _in_y(report):
    return (
        "You ask the predictor about y, and it knows x = a_next * y alone: it would take a scaled picture for another "
        f"one. x_next is off by {_off(report)} on average. Work in y, and ask about x."
    )


END_HINT = "if t_next == 0 or s / a > 1000: return the Euler step"
HEUN_HINTS = (
    "Take the Euler step first, the mixture of 5.1; then ask once more, at its end and at t_next, for eps_next.",
    "y_next = x_t / a + (s_next / a_next - s / a) * (eps + eps_next) / 2, and x_next = a_next * y_next.",
)
HEUN_MISTAKES = [
    Mistake(
        "no second slope",
        ddim_step,
        lambda r: (
            f"This comes out as DDIM's step; Heun's differs from it by {_off(r)} on average here. If you asked twice: "
            "an average of two pictures, or of x0 and of eps, is the Euler guess again. The slopes are what to average."
        ),
        ("How often should the predictor be asked, and what of its answer is the slope?", HEUN_HINTS[1]),
    ),
    Mistake(
        "last step asked again",
        _heun(_half, end=lambda a, s, t_next: s / a > 1000),
        "Right except for the last step: at t_next = 0 you ask the predictor about clean data. It was never trained on "
        "row 0, and refuses it. Return the Euler step there, before you ask again.",
        ("What does eps mean where there is no noise?", END_HINT),
    ),
    Mistake(
        "first step divided by 0",
        _heun(_half, end=lambda a, s, t_next: t_next == 0),
        "Right except for the first step of the flow schedule: a = 0 at T, x_t / a is infinite, and your result is not "
        "a number.",
        ("What is a at t = T on the flow path?", END_HINT),
    ),
    Mistake(
        "a of 0 alone",
        _heun(_half, end=lambda a, s, t_next: t_next == 0 or a == 0),
        "Right on the flow schedule. On the cosine schedule a is 0.00005 at T, and not 0: x_t / a is huge, the step in "
        "sigma as well, and the small error of a slope is multiplied by it. Ask whether sigma = s / a is above 1000.",
        ("How large is sigma at t = T on the cosine schedule?", END_HINT),
    ),
    Mistake(
        "asked too often",
        _asked_again,
        "You ask the predictor more than twice in one step, and Heun pays for two slopes, not for three: keep both x0 "
        "and eps of the first answer. (A call of ddim_step asks as well, and keeps its eps to itself.)",
        ("Which calls does your function make in a step in the middle?", "x0, eps = ask(predict, x_t, t)"),
    ),
    Mistake(
        "both ends",
        _heun(_half, end=lambda a, s, t_next: False),
        "Right in the middle, wrong at both ends: x_t / a is infinite at T of the flow schedule, and at t_next = 0 "
        "there is no noise to ask about.",
        ("What is a at T, and what could eps mean at row 0?", END_HINT),
    ),
    Mistake(
        "stepped in x",
        _heun(_half, x_of=_in_x),
        lambda r: (
            f"You add the slope to x_t. The equation dy / dsigma = eps holds for y = x / a, not for x: your x_next is "
            f"off by {_off(r)} on average."
        ),
        ("Which quantity has eps as its slope?", HEUN_HINTS[1]),
    ),
    Mistake(
        "not scaled back",
        _heun(_half, x_of=_not_scaled_back),
        lambda r: (
            f"You return y_next, and x_next is a_next * y_next: your numbers reach {_reach(r)}, and the next step "
            "would divide again."
        ),
        ("What does x = a * y say at t_next?", HEUN_HINTS[1]),
    ),
    Mistake(
        "noise_rate for sigma",
        _heun(_half, x_of=_in_s),
        lambda r: (
            f"Your step in sigma is s_next - s, but sigma is s / a, noise over signal: x_next is off by {_off(r)} on "
            "average."
        ),
        ("What is sigma, in terms of a and s?", HEUN_HINTS[1]),
    ),
    Mistake(
        "sigma turned",
        _heun(lambda one, other: -_half(one, other)),
        lambda r: (
            f"Your step in sigma is sigma - sigma_next: it goes back into the noise, off by {_off(r)} on average. From "
            "sigma to sigma_next it is sigma_next - sigma, a number below 0."
        ),
        ("Is sigma_next larger or smaller than sigma?", HEUN_HINTS[1]),
    ),
    Mistake(
        "sigma upside down",
        _heun(_half, x_of=_sigma_inverted),
        lambda r: (
            f"Your sigma is a / s, signal over noise: it is noise over signal, s / a. x_next is off by {_off(r)} on "
            "average."
        ),
        ("Should sigma grow or fall as noise is taken away?", HEUN_HINTS[1]),
    ),
    Mistake(
        "a for a_next",
        _heun(_half, x_of=_not_scaled_by_next),
        lambda r: (
            f"You return a * y_next with the signal rate of t: x_next is off by {_off(r)} on average. It belongs to "
            "t_next."
        ),
        ("Which row's rate leads from y_next to x_next?", HEUN_HINTS[1]),
    ),
    Mistake(
        "half of one slope",
        _heun(lambda one, other: one + other / 2),
        lambda r: (
            "`eps + eps_next / 2` halves the second slope alone: set brackets around the sum. Off by "
            f"{_off(r)} on average."
        ),
        ("In which order does Python take + and /?", "(eps + eps_next) / 2"),
    ),
    Mistake(
        "second call at t",
        _heun(_half, second=lambda x_t, euler, t, t_next: (euler, t)),
        lambda r: (
            "You ask about the Euler guess at t, but it has the noise of t_next: the second slope is wrong, and x_next "
            f"off by {_off(r)} on average."
        ),
        ("How noisy is the Euler guess?", "ask(predict, euler, t_next)"),
    ),
    Mistake(
        "second call from x_t",
        _heun(_half, second=lambda x_t, euler, t, t_next: (x_t, t_next)),
        lambda r: (
            "You ask at t_next about x_t, which has not moved: the second slope must be measured where the first one "
            f"leads to. x_next is off by {_off(r)} on average."
        ),
        ("Where does the first slope lead?", "ask(predict, euler, t_next)"),
    ),
    Mistake(
        "second slope alone",
        _heun(lambda one, other: other),
        lambda r: (
            "You step with the second slope alone, which is as lopsided as the first alone: of first order, off by "
            f"{_off(r)} on average."
        ),
        ("Which slope is fair to the whole step?", "(eps + eps_next) / 2"),
    ),
    Mistake(
        "slopes added",
        _heun(lambda one, other: one + other),
        lambda r: f"You add the slopes and do not halve the sum: a double step, off by {_off(r)} on average.",
        ("What is the average of two numbers?", "(eps + eps_next) / 2"),
    ),
    Mistake(
        "trial asked in y",
        _trial_asked_in_y,
        _in_y,
        ("Was the network trained on x or on y?", "ask(predict, a_next * y_trial, t_next).eps"),
    ),
    Mistake(
        "asked in y",
        _asked_in_y,
        _in_y,
        ("Was the network trained on x or on y?", "ask(predict, x_t, t), later ask(predict, a_next * y_trial, t_next)"),
    ),
    Mistake(
        "old x0 kept",
        _heun(_half, x_of=_old_x0),
        lambda r: (
            "You average eps inside the mixture and keep the old x0, which would change with it: average the slopes in "
            f"y. Off by {_off(r)} on average."
        ),
        ("If the noise in x_t is another one, is its picture the same?", HEUN_HINTS[1]),
    ),
    Mistake(
        "on from the trial",
        _heun(_half, x_of=_from_trial),
        lambda r: (
            "You go on from the trial point, which is two strides in one step: go back, and take one stride from y "
            f"with the average. Off by {_off(r)} on average."
        ),
        ("Where does the second stride of Heun begin?", HEUN_HINTS[1]),
    ),
    GLOBAL_MODEL,
    Mistake("clamped", _with_clamp(heun_step), _no_clamp, CLAMP_HINTS),
]

# ---- 5.5 the extrapolated x0 ----


def extrapolate(x0, x0_before, sigma_before, sigma, sigma_next):
    h_last = math.log(sigma_before / sigma)
    h = math.log(sigma / sigma_next)
    return x0 + h / (2 * h_last) * (x0 - x0_before)


def _leap(factor):
    def step(x0, x0_before, sigma_before, sigma, sigma_next):
        h_last, h = math.log(sigma_before / sigma), math.log(sigma / sigma_next)
        return x0 + factor(h_last, h) * (x0 - x0_before)

    return step


def _by_sigma(x0, x0_before, sigma_before, sigma, sigma_next):
    return x0 + (sigma - sigma_next) / (2 * (sigma_before - sigma)) * (x0 - x0_before)


def _logs_over(x0, x0_before, sigma_before, sigma, sigma_next):
    h_last, h = math.log(sigma / sigma_before), math.log(sigma_next / sigma)
    return x0 + h / (2 * h_last) * (x0 - x0_before)


def _last_log_over(x0, x0_before, sigma_before, sigma, sigma_next):
    h_last, h = math.log(sigma / sigma_before), math.log(sigma / sigma_next)
    return x0 + h / (2 * h_last) * (x0 - x0_before)


LEAP_CASES = [
    Case("sigma from 8 over 3 to 1.5", _draw(4, 2, seed=11), _draw(4, 2, seed=12), 8.0, 3.0, 1.5),
    Case("pictures", _draw(2, 1, 4, 4, seed=13), _draw(2, 1, 4, 4, seed=14), 0.9, 0.4, 0.05),
    Case("from pure noise, sigma_before infinite", _draw(3, 2, seed=15), _draw(3, 2, seed=16), math.inf, 4.0, 0.6),
    Case("hardly any noise", _draw(1, 2, seed=17), _draw(1, 2, seed=18), 4e-6, 2e-6, 5e-7),
]
LEAP_HINTS = (
    "First the two lengths: h_last = log(sigma_before / sigma) and h = log(sigma / sigma_next), both above 0.",
    "Then x0 plus h / (2 * h_last) times the change x0 - x0_before.",
)
LEAP_MISTAKES = [
    Mistake(
        "half missing",
        _leap(lambda h_last, h: h / h_last),
        lambda r: (
            "You extrapolate to the end of the step. What counts is x0 along the whole way, and the fair value is the "
            f"one half way: your x0 is off by {_off(r)} on average. (Or is your h twice as long as it should be?)"
        ),
        ("If x0 changes by 1 during the step, how large is its average change?", LEAP_HINTS[1]),
    ),
    Mistake(
        "ratio upside down",
        _leap(lambda h_last, h: h_last / (2 * h)),
        lambda r: (
            "The two lengths have changed places: a short step would leap far and a long one hardly at all. Off by "
            f"{_off(r)} on average."
        ),
        ("Which step is to be predicted: the last one or the one ahead?", LEAP_HINTS[1]),
    ),
    Mistake(
        "backwards",
        _leap(lambda h_last, h: -h / (2 * h_last)),
        lambda r: (
            "You lean back towards the older guess, x0_before. The change is expected to go on: lean forward. Off by "
            f"{_off(r)} on average."
        ),
        ("If x0 grew in the last step, should the next guess be larger or smaller?", LEAP_HINTS[1]),
    ),
    Mistake(
        "sigma without logarithm",
        _by_sigma,
        lambda r: (
            "You measure the steps in sigma; 2M measures them in half the log-SNR, -log(sigma). Off by "
            f"{_off(r)} on average."
        ),
        ("On which clock does the formula measure h?", LEAP_HINTS[0]),
    ),
    Mistake(
        "steps taken as equal",
        _leap(lambda h_last, h: 0.5),
        lambda r: (
            "You take both steps as equally long, with a factor of 1/2 always. Here they are not, and your x0 is off "
            f"by {_off(r)} on average."
        ),
        ("Which of the arguments does your function not use?", LEAP_HINTS[0]),
    ),
    Mistake(
        "not extrapolated",
        lambda x0, x0_before, sigma_before, sigma, sigma_next: x0,
        lambda r: f"You return x0 as it is: that is DDIM. The memory of the last step would change it by {_off(r)}.",
        ("What does x0_before tell about x0?", LEAP_HINTS[1]),
    ),
    Mistake(
        "change alone",
        lambda x0, x0_before, sigma_before, sigma, sigma_next: (
            extrapolate(x0, x0_before, sigma_before, sigma, sigma_next) - x0
        ),
        "You return the correction alone: add it to x0.",
        ("Should the result look like a picture or like a difference of two?", LEAP_HINTS[1]),
    ),
    Mistake(
        "from the older guess",
        lambda x0, x0_before, sigma_before, sigma, sigma_next: (
            extrapolate(x0, x0_before, sigma_before, sigma, sigma_next) - x0 + x0_before
        ),
        lambda r: f"You start from x0_before; the newest guess is x0. Off by {_off(r)} on average.",
        ("Which of the two guesses was made from less noise?", LEAP_HINTS[1]),
    ),
    Mistake(
        "brackets missing",
        _leap(lambda h_last, h: h / 2 * h_last),
        lambda r: (
            "`h / 2 * h_last` divides by 2 and then multiplies by h_last: write `h / (2 * h_last)`. Off by "
            f"{_off(r)} on average."
        ),
        ("In which order does Python take * and /?", LEAP_HINTS[1]),
    ),
    Mistake(
        "logs upside down",
        _logs_over,
        "Both of your logarithms are upside down. Their minus signs cancel, but with sigma_before infinite you take "
        "the logarithm of 0: use log(sigma_before / sigma) and log(sigma / sigma_next).",
        ("What is sigma / sigma_before where sigma_before is infinite?", LEAP_HINTS[0]),
    ),
    Mistake(
        "last log upside down",
        _last_log_over,
        lambda r: (
            "Your h_last is upside down, so it is below 0 and you lean back towards x0_before: use "
            f"log(sigma_before / sigma). Off by {_off(r)} on average."
        ),
        ("Which of the two sigmas is larger, and which sign has the logarithm of your ratio?", LEAP_HINTS[0]),
    ),
]

# ---- 5.6 noise that comes back ----


def eta_step(predict, schedule, x_t, t, t_next, eta, noise):
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    x0, eps = predict(x_t, torch.full((len(x_t),), t))
    shrink = (a * s_next) / (a_next * s)  # sigma_next / sigma
    std = eta * s_next * (1 - shrink**2).sqrt()
    kept = (s_next**2 - std**2).sqrt()
    return a_next * x0 + kept * eps + std * noise


def _eta(split):
    """A step with noise whose split(s_next, shrink, eta, a_next, s) gives (kept, std)."""

    def step(predict, schedule, x_t, t, t_next, eta, noise):
        (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
        x0, eps = _ask(predict, x_t, t)
        kept, std = split(s_next, (a * s_next) / (a_next * s), eta, s)
        return a_next * x0 + kept * eps + std * noise

    return step


def _right_std(s_next, shrink, eta):
    return eta * s_next * (1 - shrink**2).sqrt()


def _variance_for_std(s_next, shrink, eta, s):
    variance = _right_std(s_next, shrink, eta) ** 2
    return (s_next**2 - variance).sqrt(), variance


def _variance_both(s_next, shrink, eta, s):
    variance = _right_std(s_next, shrink, eta) ** 2
    return (s_next**2 - variance**2).sqrt(), variance


def _all_kept(s_next, shrink, eta, s):
    return s_next, _right_std(s_next, shrink, eta)


def _plain_difference(s_next, shrink, eta, s):
    std = _right_std(s_next, shrink, eta)
    return s_next - std, std


def _no_root(s_next, shrink, eta, s):
    std = _right_std(s_next, shrink, eta)
    return s_next**2 - std**2, std


def _eta_squared(s_next, shrink, eta, s):
    std = eta * _right_std(s_next, shrink, eta)
    return (s_next**2 - std**2).sqrt(), std


def _eta_twice(s_next, shrink, eta, s):
    std = _right_std(s_next, shrink, eta)
    return (s_next**2 - std**2).sqrt(), eta * std


def _by_noise_rates(s_next, shrink, eta, s):
    return _variance_kept(s_next, eta * s_next * (1 - (s_next / s) ** 2).sqrt())


def _shrink_not_squared(s_next, shrink, eta, s):
    return _variance_kept(s_next, eta * s_next * (1 - shrink).sqrt())


def _variance_kept(s_next, std):
    return (s_next**2 - std**2).sqrt(), std


def _all_fresh(s_next, shrink, eta, s):
    return _variance_kept(s_next, eta * s_next)


def _of_s(s_next, shrink, eta, s):
    return _variance_kept(s_next, eta * s * (1 - shrink**2).sqrt())


def _exchanged(s_next, shrink, eta, s):
    std = _right_std(s_next, shrink, eta)
    return std, (s_next**2 - std**2).sqrt()


def _root_of_std_missing(s_next, shrink, eta, s):
    return _variance_kept(s_next, eta * s_next * (1 - shrink**2))


def _eta_under_root(s_next, shrink, eta, s):
    return _variance_kept(s_next, s_next * (eta * (1 - shrink**2)).sqrt())


def _kept_of_s(s_next, shrink, eta, s):
    std = _right_std(s_next, shrink, eta)
    return (s**2 - std**2).sqrt(), std


def _shrink_inverted(s_next, shrink, eta, s):
    return _variance_kept(s_next, eta * s_next * (1 - (1 / shrink) ** 2).sqrt())


def _not_added(predict, schedule, x_t, t, t_next, eta, noise):
    return eta_step(predict, schedule, x_t, t, t_next, eta, torch.zeros_like(noise))


def _own_noise(predict, schedule, x_t, t, t_next, eta, noise):
    return eta_step(predict, schedule, x_t, t, t_next, eta, torch.randn_like(x_t))


def _eta_ignored(predict, schedule, x_t, t, t_next, eta, noise):
    return eta_step(predict, schedule, x_t, t, t_next, 1.0, noise)


def _verbatim(predict, schedule, x_t, t, t_next, eta, noise):
    (a, s), (a_next, s_next) = schedule.rates(t, x_t), schedule.rates(t_next, x_t)
    x0, eps = _ask(predict, x_t, t)
    kept, std = _variance_kept(s_next, eta * s_next / s * (1 - (a / a_next) ** 2).sqrt())
    return a_next * x0 + kept * eps + std * noise


def _deviation(report):
    """The noise in the first case, whose x0 is 0: the student's deviation and the one that belongs to t_next."""
    return f"{float(report.got.std()):.2f} where step t_next has {float(report.expected.std()):.2f}"


def _eta_cases():
    nothing = GaussianMixture(torch.zeros(1, 2), std=0.0)  # data that are all 0: x_t is noise alone
    x, noise = _draw(4000, 2, seed=21), _draw(4000, 2, seed=22)
    _, s = flow().rates(700, x)
    label = "noise alone, t = 700 to 500, eta = 0.8"
    yield Case(label, _Asked(nothing, flow(), 1), flow(), s * x, 700, 500, 0.8, noise)
    for (label, *walk), eta in zip(_walks(), (0.0, 0.3, 1.0, 1.0, 0.9, 0.5, 0.7), strict=True):
        fresh = _draw(*walk[2].shape, seed=31 + len(label)) * (1 if eta else 100)  # at 0, none of it may come in
        yield Case(f"{label}, eta = {eta:g}", *walk, eta, fresh)


ETA_HINTS = (
    "Two numbers are needed: std, how much fresh noise comes in, and kept, how much of the old noise stays.",
    "shrink = (a * s_next) / (a_next * s); std = eta * s_next * sqrt(1 - shrink**2); kept = sqrt(s_next**2 - std**2).",
)
ETA_MISTAKES = [
    Mistake(
        "no fresh noise",
        lambda predict, schedule, x_t, t, t_next, eta, noise: ddim_step(predict, schedule, x_t, t, t_next),
        "This is DDIM: eta and noise have no effect in your function.",
        ("Which of the arguments does your function not use?", ETA_HINTS[1]),
    ),
    Mistake(
        "old noise not lowered",
        _eta(_all_kept),
        lambda r: (
            f"You add fresh noise and keep all of the old: the deviation becomes {_deviation(r)}. The next call is "
            "told the smaller number, and takes the surplus for picture."
        ),
        ("How much noise may there be at t_next, old and fresh together?", ETA_HINTS[1]),
    ),
    Mistake(
        "variance for std",
        _eta(_variance_for_std),
        lambda r: (
            f"What multiplies the fresh noise is its variance, std**2: the deviation falls to {_deviation(r)}. A "
            "deviation multiplies noise."
        ),
        ("What is the deviation of 0.5 * noise?", ETA_HINTS[1]),
    ),
    Mistake(
        "root of std missing",
        _eta(_variance_both),
        lambda r: (
            "You take std**2 for std throughout: the sum is as noisy as it should be, but too little of it is fresh. "
            f"Your x_next is off by {_off(r)} on average."
        ),
        ("Is there a square root in your std?", ETA_HINTS[1]),
    ),
    Mistake(
        "deviations subtracted",
        _eta(_plain_difference),
        lambda r: (
            f"kept = s_next - std subtracts deviations, and variances are what adds up: the deviation falls to "
            f"{_deviation(r)}."
        ),
        ("3 and 4 gave 5 in lesson 01. What is left of 5 when 4 are fresh?", ETA_HINTS[1]),
    ),
    Mistake(
        "root of kept missing",
        _eta(_no_root),
        lambda r: f"kept lacks its square root: it is a variance now, and the deviation falls to {_deviation(r)}.",
        ("s_next**2 - std**2 is a variance. What multiplies noise?", ETA_HINTS[1]),
    ),
    Mistake(
        "eta squared",
        _eta(_eta_squared),
        lambda r: (
            "eta comes in twice, in std and once more: with eta = 0.8 you add 0.64 of DDPM's noise. At 0 and 1 nobody "
            f"would notice. Off by {_off(r)} on average."
        ),
        ("How often does eta stand in the formula of std?", ETA_HINTS[1]),
    ),
    Mistake(
        "eta once more at the noise",
        _eta(_eta_twice),
        lambda r: (
            f"std holds eta already, and you multiply the noise by eta again: the deviation falls to {_deviation(r)}."
        ),
        ("What multiplies the fresh noise in the formula?", "std * noise, with eta inside std alone."),
    ),
    Mistake(
        "noise rates for sigma",
        _eta(_by_noise_rates),
        lambda r: (
            "Your shrink is s_next / s. It is the ratio of the sigmas, of noise over signal, so the signal rates "
            f"belong in it. Off by {_off(r)} on average."
        ),
        ("What is sigma, in terms of a and s?", ETA_HINTS[1]),
    ),
    Mistake(
        "shrink not squared",
        _eta(_shrink_not_squared),
        lambda r: f"1 - shrink should be 1 - shrink**2: the fresh noise is too weak. Off by {_off(r)} on average.",
        ("Do variances or deviations add up?", ETA_HINTS[1]),
    ),
    Mistake(
        "all noise fresh",
        _eta(_all_fresh),
        lambda r: (
            "std = eta * s_next: at eta = 1 you throw all old noise away, even in the shortest step, and x_t is "
            f"forgotten. Off by {_off(r)} on average."
        ),
        ("Should a very short step change much of the noise?", ETA_HINTS[1]),
    ),
    Mistake(
        "s for s_next",
        _eta(_of_s),
        "Your fresh noise is measured by s, the noise of where you come from. It can be more than t_next has room for: "
        "kept becomes the root of a negative number, and at t_next = 0 the finished sample gets noise.",
        ("How much fresh noise should there be at t_next = 0?", ETA_HINTS[1]),
    ),
    Mistake(
        "eta under the root",
        _eta(_eta_under_root),
        lambda r: (
            "eta stands under the square root, so 0.25 acts as 0.5: right at 0 and at 1 alone. Off by "
            f"{_off(r)} on average."
        ),
        ("Does eta multiply the deviation or the variance?", ETA_HINTS[1]),
    ),
    Mistake(
        "kept from s",
        _eta(_kept_of_s),
        lambda r: (
            f"kept is measured from s, the noise of where you come from: the deviation becomes {_deviation(r)}. Old "
            "and fresh noise together must be the noise of t_next."
        ),
        ("How much noise may there be at t_next, old and fresh together?", ETA_HINTS[1]),
    ),
    Mistake(
        "shrink upside down",
        _eta(_shrink_inverted),
        "Your shrink is above 1, so you take the root of a negative number: it is sigma_next / sigma, and sigma falls.",
        ("Which of sigma and sigma_next is larger?", ETA_HINTS[1]),
    ),
    Mistake(
        "fresh noise not added",
        _not_added,
        lambda r: (
            f"You make room for fresh noise and add none: the deviation falls to {_deviation(r)}. The argument noise "
            "belongs into the sum."
        ),
        ("Which of the arguments does your function not use?", "a_next * x0 + kept * eps + std * noise"),
    ),
    Mistake(
        "own noise",
        _own_noise,
        "You draw noise of your own. Use the argument noise: whoever calls the step decides about its seed.",
        ("Which of the arguments does your function not use?", ETA_HINTS[1]),
    ),
    Mistake(
        "eta ignored",
        _eta_ignored,
        lambda r: (
            "You add all of DDPM's noise, whatever eta is: right at eta = 1 alone. With eta = 0.8 you are off by "
            f"{_off(r)} on average."
        ),
        ("Which of the arguments does your function not use?", ETA_HINTS[1]),
    ),
    Mistake(
        "kept and std exchanged",
        _eta(_exchanged),
        lambda r: (
            "kept and std have changed places: the sum is as noisy as it should be, but at eta = 0 all of the noise "
            f"would be fresh. Off by {_off(r)} on average."
        ),
        ("Which of the two multiplies eps, and which noise?", "a_next * x0 + kept * eps + std * noise"),
    ),
    Mistake(
        "no root in std",
        _eta(_root_of_std_missing),
        lambda r: (
            "Your std lacks its square root, and kept fits it: the sum is as noisy as it should be, but too little of "
            f"it is fresh. Off by {_off(r)} on average."
        ),
        ("Is there a square root in your std?", ETA_HINTS[1]),
    ),
    Mistake(
        "eq. 16 verbatim",
        _verbatim,
        lambda r: (
            "Your std is the paper's, s_next / s * sqrt(1 - (a / a_next)**2). That form needs a^2 + s^2 = 1; the flow "
            f"schedule has a + s = 1. Off by {_off(r)} on average. Use shrink, the ratio of the sigmas."
        ),
        ("What is a^2 + s^2 half way on the flow schedule?", ETA_HINTS[1]),
    ),
    GLOBAL_MODEL,
    ASKED_TWICE,
    Mistake("clamped", _with_clamp(eta_step), _no_clamp, CLAMP_HINTS),
]

EXERCISES = catalogue(
    Exercise(
        number="5.1",
        name="ddim_step",
        reference=ddim_step,
        cases=WALKS,
        mistakes=MIX_MISTAKES,
        hints=MIX_HINTS,
        right="from T and to 0, long steps and short, points and pictures, on three schedules.",
        atol=1e-5,
    ),
    Exercise(
        number="5.2",
        name="make_times",
        reference=make_times,
        use=_used,
        cases=TIMES_CASES,
        mistakes=TIMES_MISTAKES,
        hints=TIMES_HINTS,
        right="n steps, from T to 0, whole numbers that fall and never repeat.",
    ),
    Exercise(
        number="5.3",
        name="order",
        reference=order,
        cases=ORDER_CASES,
        mistakes=ORDER_MISTAKES,
        hints=ORDER_HINTS,
        right="clean errors and rough ones, tiny ones, and errors that grow.",
    ),
    Exercise(
        number="5.4",
        name="heun_step",
        reference=heun_step,
        cases=HEUN_CASES,
        mistakes=HEUN_MISTAKES,
        hints=HEUN_HINTS,
        right="two slopes in the middle, one at either end, points and pictures, on three schedules.",
        atol=1e-5,
    ),
    Exercise(
        number="5.5",
        name="extrapolate",
        reference=extrapolate,
        cases=LEAP_CASES,
        mistakes=LEAP_MISTAKES,
        hints=LEAP_HINTS,
        right="long steps and short ones, points and pictures, and the first step from pure noise.",
        atol=1e-5,
    ),
    Exercise(
        number="5.6",
        name="eta_step",
        reference=eta_step,
        cases=list(_eta_cases()),
        mistakes=ETA_MISTAKES,
        hints=ETA_HINTS,
        right="old and fresh noise add up at every step, from T and to 0, and eta = 0 is DDIM.",
        atol=1e-5,
    ),
)
