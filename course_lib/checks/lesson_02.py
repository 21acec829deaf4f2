"""The exercises of lesson 02: the best guess, one output read two ways, the loss, one step back, one step of learning.

Equations: DDPM (arXiv:2006.11239) eq. 4, 7 and 14, algorithm 1; Bayes' rule for a handful of points.
Shapes: x0, x_t, eps, noise (B, *dims); t (B,) or one number; points (K,); a, s, c, d (B, 1, ..., 1).
Not here: how a verdict is reached (engine.py).
"""

from typing import NamedTuple

import torch

from course_lib import data
from course_lib.checks.engine import Case, Exercise, Finding, Mistake, catalogue
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.objectives import v
from course_lib.schedules import cosine, linear_beta


def _draw(*shape, seed):
    """Draw numbers of variance 1, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- 2.1 the best guess ----


def best_guess(x_t, points, a, s):
    distance = (x_t[:, None] - a * points) ** 2  # (B, K)
    share = torch.softmax(-distance / (2 * s**2), dim=1)
    return (share * points).sum(dim=1)


def _gap(x_t, points, a=1.0):
    return (x_t[:, None] - a * points) ** 2


def _weighed(score, points, dim=1):
    return (torch.softmax(score, dim=dim) * points).sum(dim=1)


def _by_plain_exp(x_t, points, a, s):
    share = torch.exp(-_gap(x_t, points, a) / (2 * s**2))
    return (share * points).sum(dim=1) / share.sum(dim=1)


PAIR = torch.tensor([-1.0, 1.0])
GUESS_CASES = [
    Case("two points, x_t = 0.3, a = 0.6, s = 0.8", torch.tensor([0.3, -0.3, 0.0, 1.4, -2.0]), PAIR, 0.6, 0.8),
    Case("three points", torch.tensor([0.1, 0.5, -0.8]), torch.tensor([-1.0, 0.2, 0.9]), 0.8, 0.6),
    Case("much noise", torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([-1.0, 0.5, 0.6, 0.9]), 0.1, 0.995),
    Case("hardly any noise", torch.tensor([0.3, -0.9]), PAIR, 0.9998, 0.02),
    Case("points beyond 1", torch.tensor([-1.9, 0.4, 1.6]), torch.tensor([-3.0, 0.5, 2.0]), 0.7, 0.3),
    Case("both rates tiny", torch.tensor([3e-7, -8e-7]), PAIR, 1e-6, 1e-6),
    Case("nothing left of x0, a = 0", torch.tensor([0.3, -1.2]), torch.tensor([-1.0, 0.2, 0.9]), 0.0, 1.0),
]
SHARE_HINTS = (
    "Write the two shares for x_t = 0.3 on paper first: exp(-(0.3 - 0.6)**2 / 1.28) and exp(-(0.3 + 0.6)**2 / 1.28).",
    "The score of each point is minus its squared distance from x_t, divided by 2 * s**2; softmax makes shares "
    "of them.",
)

GUESS_MISTAKES = [
    Mistake(
        "nearest point",
        lambda x_t, points, a, s: points[_gap(x_t, points, a).argmin(dim=1)],
        lambda r: (
            f"You return the nearest point. At x_t = 0.3 that is {r.got[0]:.2f}, and in more than a third of the "
            f"cases the truth is the other point, {r.got[0] * 2:.0f} away. The best guess hedges: "
            f"{r.expected[0]:.2f}."
        ),
        (
            "Which answer makes the squared error smallest on average, when both points are possible?",
            "Weigh every point by how likely it is, and add up: no argmin is needed.",
        ),
    ),
    Mistake(
        "x_t ignored",
        lambda x_t, points, a, s: points.mean().expand(len(x_t)),
        lambda r: (
            f"You answer {r.got[0]:.2f} whatever x_t is. That is the best guess before x_t was seen; x_t = 0.3 "
            f"moves it to {r.expected[0]:.2f}."
        ),
        (
            "Your answer must depend on x_t: a point near x_t deserves a larger share.",
            "Replace the equal shares by softmax of the scores -(x_t - a * point)**2 / (2 * s**2).",
        ),
    ),
    Mistake(
        "points not shrunk",
        lambda x_t, points, a, s: _weighed(-_gap(x_t, points) / (2 * s**2), points),
        lambda r: (
            "You compare x_t with the points themselves. But the noise was added to a * point: without noise, the "
            f"point 1 would be found at x_t = 0.6. At x_t = 0.3 this gives {r.got[0]:.2f} instead of "
            f"{r.expected[0]:.2f}."
        ),
        (
            "Where does x_t lie, on average, if x0 was 1?",
            "The distance to measure is x_t - a * points.",
        ),
    ),
    Mistake(
        "rescaled",
        lambda x_t, points, a, s: x_t / a,
        lambda r: (
            f"x_t / a undoes the shrinking and forgets the noise: at x_t = 0.3 it answers {r.got[0]:.2f}, where the "
            f"two shares say {r.expected[0]:.2f}, and at x_t = 1.4 it answers {r.got[3]:.2f}, beyond all the data."
        ),
        (
            "Does your answer know which points there are?",
            "Weigh the points themselves: their average can never lie outside of them.",
        ),
    ),
    Mistake(
        "divided by a",
        lambda x_t, points, a, s: _weighed(-((x_t[:, None] / a - points) ** 2) * a**2 / (2 * s**2), points),
        "Right wherever a is above 0. At a = 0, where nothing is left of x0, you divide by 0; the best guess there is "
        "the mean of all points.",
        (
            "Which distance can be written without dividing?",
            "The distance to measure is x_t - a * points.",
        ),
    ),
    Mistake(
        "rates exchanged",
        lambda x_t, points, a, s: _weighed(-((x_t[:, None] - s * points) ** 2) / (2 * a**2), points),
        lambda r: (
            f"a and s have changed places: at x_t = 0.3 this gives {r.got[0]:.2f} instead of {r.expected[0]:.2f}. `a` "
            "is what is left of a point, `s` the deviation of the noise around it."
        ),
        SHARE_HINTS,
    ),
    Mistake(
        "divided and multiplied",
        lambda x_t, points, a, s: _weighed(-_gap(x_t, points, a) / 2 * s**2, points),
        lambda r: (
            "Python works from left to right: `/ 2 * s**2` divides by 2 and then *multiplies* by s**2. At x_t = 0.3 "
            f"that gives {r.got[0]:.2f} instead of {r.expected[0]:.2f}; with little noise, all points count alike."
        ),
        ("What is 8 / 2 * 4 in Python?", "Put the divisor in brackets: / (2 * s**2)."),
    ),
    Mistake(
        "mean for sum",
        lambda x_t, points, a, s: _weighed(-_gap(x_t, points, a) / (2 * s**2), points) / len(points),
        lambda r: (
            f"You take the mean of share * point, which divides by the number of points once more: {r.got[0]:.2f} at "
            f"x_t = 0.3, where {r.expected[0]:.2f} is right. The shares add up to 1 already."
        ),
        ("Which calls of yours divide by something?", "Add up: .sum(dim=1) in place of .mean(dim=1)."),
    ),
    Mistake(
        "softmax of exp",
        lambda x_t, points, a, s: _weighed(torch.exp(-_gap(x_t, points, a) / (2 * s**2)), points),
        lambda r: (
            "The exponential is taken twice: softmax takes it of what it gets. So the shares are nearly equal, and at "
            f"x_t = 0.3 you answer {r.got[0]:.2f} instead of {r.expected[0]:.2f}."
        ),
        ("What does torch.softmax do with its scores first?", "Hand the exponent to softmax, without torch.exp."),
    ),
    Mistake(
        "s not squared",
        lambda x_t, points, a, s: _weighed(-_gap(x_t, points, a) / (2 * s), points),
        lambda r: (
            f"The bell needs the variance s**2 below, and has s: at x_t = 0.3 you get {r.got[0]:.3f} instead of "
            f"{r.expected[0]:.3f}. It seems little here; at s = 0.02 the bell is fifty times too wide in variance."
        ),
        SHARE_HINTS,
    ),
    Mistake(
        "half missing",
        lambda x_t, points, a, s: _weighed(-_gap(x_t, points, a) / s**2, points),
        lambda r: (
            f"The 2 in 2 * s**2 is missing, so you are too sure of yourself: {r.got[0]:.2f} at x_t = 0.3, where "
            f"the points themselves say {r.expected[0]:.2f}."
        ),
        SHARE_HINTS,
    ),
    Mistake(
        "sign",
        lambda x_t, points, a, s: _weighed(_gap(x_t, points, a) / (2 * s**2), points),
        lambda r: (
            f"The sign is turned: far points get the large shares. At x_t = 0.3 you answer {r.got[0]:.2f}, on the "
            "side of the farther point."
        ),
        (
            "A large distance should make a point unlikely. What does softmax do with a large score?",
            "Put a minus in front of the squared distance.",
        ),
    ),
    Mistake(
        "softmax across the batch",
        lambda x_t, points, a, s: _weighed(-_gap(x_t, points, a) / (2 * s**2), points, dim=0),
        "Your shares add up to 1 down the batch, over different x_t, instead of across the points. So what one "
        "x_t is "
        "told depends on who else is in the batch.",
        (
            "The table of scores is (B, K): one row for each x_t. Which direction runs over the points?",
            "Use dim=1, for the shares and for the sum.",
        ),
    ),
    Mistake(
        "shares not normalised",
        lambda x_t, points, a, s: (torch.exp(-_gap(x_t, points, a) / (2 * s**2)) * points).sum(dim=1),
        lambda r: (
            f"Your shares do not add up to 1, so the average comes out too small: {r.got[0]:.2f} at x_t = 0.3, "
            f"where {r.expected[0]:.2f} is right."
        ),
        (
            "What do the shares of one x_t add up to?",
            "Divide by their sum, or let torch.softmax(scores, dim=1) do it.",
        ),
    ),
    Mistake(
        "underflow",
        _by_plain_exp,
        "The formula is right, and the computer's numbers run out: with s = 0.02, exp(-612) is 0, and so are "
        "all shares, and "
        "0 / 0 is not a number. Real pictures have thousands of dimensions and always end there.",
        (
            "Shares do not change when you add the same number to all scores. Which number keeps the largest at "
            "exp(0)?",
            "torch.softmax(scores, dim=1) subtracts the largest score first.",
        ),
    ),
]

# ---- 2.2 one output, two answers ----


def solve_output(output, x_t, a, s, c, d):
    determinant = a * d - s * c
    x0 = (d * x_t - s * output) / determinant
    eps = (a * output - c * x_t) / determinant
    return x0, eps


def _turned(output, x_t, a, s, c, d):
    x0, eps = solve_output(output, x_t, a, s, c, d)
    return eps, x0


def _undivided(output, x_t, a, s, c, d):
    return d * x_t - s * output, a * output - c * x_t


def _plus(output, x_t, a, s, c, d):
    determinant = a * d + s * c
    return (d * x_t - s * output) / determinant, (a * output - c * x_t) / determinant


def _always_noise(output, x_t, a, s, c, d):
    return (x_t - s * output) / a, output


def _transposed(output, x_t, a, s, c, d):
    determinant = a * d - s * c
    return (d * x_t - c * output) / determinant, (a * output - s * x_t) / determinant


def _undone_without_rate(output, x_t, a, s, c, d):
    _, eps = solve_output(output, x_t, a, s, c, d)
    return (x_t - eps) / a, eps


def _unscaled(output, x_t, a, s, c, d):
    _, eps = solve_output(output, x_t, a, s, c, d)
    return x_t - s * eps, eps


def _plus_in_x0(output, x_t, a, s, c, d):
    determinant = a * d - s * c
    return (d * x_t + s * output) / determinant, (a * output - c * x_t) / determinant


def _plus_in_eps(output, x_t, a, s, c, d):
    determinant = a * d - s * c
    return (d * x_t - s * output) / determinant, (a * output + c * x_t) / determinant


def _inputs_exchanged(output, x_t, a, s, c, d):
    return solve_output(x_t, output, a, s, c, d)


def _without_brackets(output, x_t, a, s, c, d):
    determinant = a * d - s * c
    return d * x_t - s * output / determinant, a * output - c * x_t / determinant


def _without_rates(output, x_t, a, s, c, d):
    _, eps = solve_output(output, x_t, a, s, c, d)
    return x_t - eps, eps


def _stacked(output, x_t, a, s, c, d):
    return torch.stack(solve_output(output, x_t, a, s, c, d))


def _put_back(which):
    """Say how far a student's pair misses one of the two equations, in the first case that differs."""

    def says(report):
        output, x_t, a, s, c, d = report.case.args
        x0, eps = report.got
        misses = (a * x0 + s * eps - x_t, c * x0 + d * eps - output)
        x_t_off, output_off = (float(miss.abs().max()) for miss in misses)
        return (
            f"{which} Put back into the two equations, your pair misses x_t by up to {x_t_off:.2g} and output by up to "
            f"{output_off:.2g}."
        )

    return says


def _rows():
    """Make a case for each objective, with rates that differ within the batch."""
    schedule, cases = linear_beta(1000), []
    for name, shape, t in (
        ("x0", (4, 2), (1, 200, 500, 900)),
        ("v", (3, 1, 4, 4), (20, 300, 700)),
        ("eps", (2, 2), (50, 400)),
    ):
        x0, eps = _draw(*shape, seed=len(name)), _draw(*shape, seed=9)
        a, s = schedule.rates(torch.tensor(t), x0)
        zero, one = torch.zeros_like(a), torch.ones_like(a)
        c, d = {"x0": (one, zero), "eps": (zero, one), "v": v.row(a, s)}[name]
        cases.append(Case(f"a network for {name}", c * x0 + d * eps, a * x0 + s * eps, a, s, c, d))
    for name, rates, row, big, loud in (
        ("a network for flow", [0.2, 0.9, 0.5], (-1.0, 1.0), 1, 1),
        ("flow at T, where a = 0, large x0", [0.0, 0.0], (-1.0, 1.0), 1000, 1),
        ("one example at t = 0, where s = 0, loud eps", [1.0], (0.0, 1.0), 1, 1000),
        ("a row that nobody uses", [0.5, 0.8], (-2.0, 3.0), 1, 1),
    ):
        a = torch.tensor(rates)[:, None]
        c, d = (torch.full_like(a, value) for value in row)
        x0, eps = big * _draw(len(a), 2, seed=7), loud * _draw(len(a), 2, seed=8)
        cases.append(Case(name, c * x0 + d * eps, a * x0 + (1 - a) * eps, a, 1 - a, c, d))
    return cases


SOLVE_HINTS = (
    "Two equations, two unknowns: a * x0 + s * eps = x_t and c * x0 + d * eps = output. Multiply the first by d, the "
    "second by s, and subtract: eps is gone.",
    "x0 is (d * x_t - s * output) / (a * d - s * c). For eps, multiply by c and by a instead; the divisor is the same.",
)

SOLVE_MISTAKES = [
    Mistake(
        "order turned",
        _turned,
        "Both numbers are right, and the order is turned: return x0 first, then eps. A sampler would take the "
        "noise for "
        "the picture, and nothing would warn it, as both have the same shape.",
        ("Which of your two results should look like data?", "End with `return x0, eps`."),
    ),
    Mistake(
        "not divided",
        _undivided,
        "The division by the determinant a * d - s * c is missing. For v you would never notice, because there it is "
        "a**2 + s**2 = 1; for x0 it is -s and for eps it is a.",
        (
            "Put your two results back into a * x0 + s * eps. Is it x_t again, for every objective?",
            "Divide both results by a * d - s * c.",
        ),
    ),
    Mistake(
        "determinant with a plus",
        _plus,
        "The determinant has a minus: a * d - s * c. With a plus it is right for eps (where c = 0), turns the "
        "sign for "
        "x0, and becomes 0 for v where a = s.",
        SOLVE_HINTS,
    ),
    Mistake(
        "always noise",
        _always_noise,
        "You take every output for eps and leave c and d aside. That reads DDPM's network rightly, and any other one "
        "wrongly: a network asked for x0 would have its picture subtracted as if it were noise.",
        SOLVE_HINTS,
    ),
    Mistake(
        "table transposed",
        _transposed,
        "c and s have changed places: your equations read a * x0 + c * eps = x_t. The table has one row for each "
        "equation, (a, s) and (c, d).",
        SOLVE_HINTS,
    ),
    Mistake(
        "noise rate missing",
        _undone_without_rate,
        "eps is right, but x0 is not (x_t - eps) / a: in x_t the noise stands multiplied by s. At small t you would "
        "subtract a hundred times too much noise.",
        (
            "How much of eps is in x_t?",
            "x0 = (x_t - s * eps) / a.",
        ),
    ),
    Mistake(
        "no rates",
        _without_rates,
        "eps is right, but x0 is not x_t - eps: in x_t the noise stands multiplied by s, and x0 multiplied by a. At T, "
        "where a is near 0, that would leave nearly no picture in your answer.",
        ("Solve a * x0 + s * eps = x_t for x0.", "x0 = (x_t - s * eps) / a, or the form that never divides by a."),
    ),
    Mistake(
        "plus in x0",
        _plus_in_x0,
        _put_back("In x0 there is a plus where a minus belongs: eps has to cancel when you subtract the equations."),
        SOLVE_HINTS,
    ),
    Mistake(
        "plus in eps",
        _plus_in_eps,
        _put_back("In eps there is a plus where a minus belongs: x0 has to cancel when you subtract the equations."),
        SOLVE_HINTS,
    ),
    Mistake(
        "inputs exchanged",
        _inputs_exchanged,
        _put_back("x_t and output have changed places: x_t belongs to the equation with a and s, output to c and d."),
        SOLVE_HINTS,
    ),
    Mistake(
        "brackets missing",
        _without_brackets,
        _put_back("Only the second product is divided by the determinant, as there are no brackets around the sum."),
        ("Which part of your line does Python divide?", "Put the whole difference in brackets before you divide."),
    ),
    Mistake(
        "stacked",
        _stacked,
        "The numbers are right, stacked into one tensor. Asked for is a pair: end with `return x0, eps`.",
        ("How does Python return two things?", "With a comma: return x0, eps."),
    ),
    Mistake(
        "signal rate missing",
        _unscaled,
        "eps is right; x0 still lies a times too close to zero, because x_t holds a * x0. At t = 900 of the linear "
        "schedule that is 60 times too small: a grey picture.",
        (
            "What is x_t - s * eps, if x_t = a * x0 + s * eps?",
            "Divide by a at the end.",
        ),
    ),
]

# ---- 2.3 the loss ----


def denoising_loss(net, x0, schedule, generator):
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    a, s = schedule.rates(t, x0)
    output = net(a * x0 + s * eps, t / schedule.T)
    return ((output - eps) ** 2).mean()


class Probe:
    """A network of one weight that writes down what it was asked."""

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.tensor(0.3))
        self.x_t = self.time = self.output = None
        self.asked = 0

    def __call__(self, x_t, time):
        output = self.weight * x_t + 0.1
        self.x_t, self.time, self.output = x_t.detach().clone(), torch.as_tensor(time).detach().clone(), output.detach()
        self.asked += 1
        return output


def _as_they_are(a, s):
    return a, s


def _variant(
    low=1, high=1, one_t=False, share_noise=False, even=False, rate=_as_they_are, clock=None, answer=None, seeded=True
):
    """Write algorithm 1 with one thing wrong."""

    def denoising_loss(net, x0, schedule, generator):
        generator = generator if seeded else None
        B = len(x0)
        t = torch.randint(low, schedule.T + high, (1 if one_t else B,), generator=generator).expand(B)
        shape = (1, *x0.shape[1:]) if share_noise else x0.shape
        eps = (torch.rand if even else torch.randn)(shape, generator=generator).expand(x0.shape)
        a, s = rate(*schedule.rates(t, x0))
        output = net(a * x0 + s * eps, clock(t, schedule) if clock else t / schedule.T)
        return answer(output, x0, eps) if answer else ((output - eps) ** 2).mean()

    return denoising_loss


def _unlearnable(output, x0, eps):
    return ((output.detach() - eps) ** 2).mean()


def _even(*shape, generator):
    """Noise of mean 0 and variance 1 that is not a bell: even between the roots of -3 and 3."""
    return (torch.rand(shape, generator=generator) - 0.5) * 12**0.5


def _with_parts(draw_eps=None, target=None, seed=None, backward=False, T=None):
    """Write algorithm 1 with other noise, target, generator or T, or with the backward pass inside."""

    def denoising_loss(net, x0, schedule, generator):
        generator = generator if seed is None else torch.Generator().manual_seed(seed)
        steps = schedule.T if T is None else T
        t = torch.randint(1, steps + 1, (len(x0),), generator=generator)
        eps = draw_eps(x0, generator) if draw_eps else torch.randn(x0.shape, generator=generator)
        a, s = schedule.rates(t, x0)
        output = net(a * x0 + s * eps, t / steps)
        loss = ((output - (target(a, s, x0, eps) if target else eps)) ** 2).mean()
        if backward:
            loss.backward()
        return loss

    return denoising_loss


def _in_turn(net, x0, schedule, generator):
    t = torch.arange(len(x0)) % schedule.T + 1
    eps = torch.randn(x0.shape, generator=generator)
    a, s = schedule.rates(t, x0)
    return ((net(a * x0 + s * eps, t / schedule.T) - eps) ** 2).mean()


LOSS_MISTAKES = [
    Mistake(
        "t from 0 to T-1",
        _variant(low=0, high=0),
        "Your t runs from {low} to {high}; algorithm 1 draws it from 1 to T. At row 0 there is no noise in x_t "
        "at all, so "
        "the network is asked for something that is not there, and it never sees the last step, where drawing "
        "begins.",
        (
            "What are the smallest and largest numbers that your draw can give?",
            "torch.randint leaves its upper end out: torch.randint(1, schedule.T + 1, ...).",
        ),
    ),
    Mistake(
        "row 0 drawn too",
        _variant(low=0),
        "Your t begins at 0, and row 0 is clean data: there x_t is x0 itself, and the noise that you ask for "
        "was never "
        "added. Nobody can answer, so part of the loss is only disturbance.",
        ("Which is the first row with noise in it?", "torch.randint(1, schedule.T + 1, ...)."),
    ),
    Mistake(
        "last step never drawn",
        _variant(high=0),
        "The step T never comes: your t ends at {high} of {T}. Drawing begins exactly there, with a network that was "
        "never asked about it.",
        ("Does torch.randint include its upper end?", "It does not: write schedule.T + 1."),
    ),
    Mistake(
        "one t for the whole batch",
        _variant(one_t=True),
        "All {B} examples of the batch got the same step. The average over many batches is still right, but one "
        "batch "
        "teaches one noise level only, and the loss jumps from step to step as t does.",
        (
            "How many numbers does your torch.randint return?",
            "Its size should be (len(x0),): one t for each example.",
        ),
    ),
    Mistake(
        "t not divided by T",
        _variant(clock=lambda t, schedule: t.float()),
        "The network was told time up to {longest:g}; it wants the fraction t / T, between 0 and 1. With T = "
        "1000 its "
        "time input would be a thousand times larger than everything else that it sees.",
        ("What does the statement say the second argument of net is?", "Pass t / schedule.T."),
    ),
    Mistake(
        "one noise for the batch",
        _variant(share_noise=True),
        "All examples got the same noise. Within a batch the network can compare them, and the {B} examples teach no "
        "more about noise than one would.",
        ("Print the shape of your noise.", "It should have the shape of x0: torch.randn(x0.shape, ...)."),
    ),
    Mistake(
        "noise from rand",
        _variant(even=True),
        "Your noise has mean {mean:.2f} and variance {variance:.2f}; it should have 0 and 1. torch.rand draws evenly "
        "between 0 and 1, so every picture would only become brighter.",
        ("Two functions have nearly the same name, and one of them draws the bell curve.", "torch.randn, with an n."),
    ),
    Mistake(
        "rates swapped",
        _variant(rate=lambda a, s: (s, a)),
        "The rates are swapped: at t = 1 your x_t is nearly all noise, and at t = T it is nearly clean. The "
        "clock of the "
        "network would run backwards.",
        (
            "schedule.rates returns two tables. Which of them is 1 at row 0?",
            "x_t = a * x0 + s * eps, with (a, s) = schedule.rates(t, x0).",
        ),
    ),
    Mistake(
        "rates squared",
        _variant(rate=lambda a, s: (a**2, s**2)),
        "These are alpha_bar and 1 - alpha_bar without their roots. Halfway, where both are 0.5, your x_t has "
        "variance 0.25 + "
        "0.25 = 0.50 where 1.00 is right: variances add, deviations do not.",
        (
            "If you use schedule.alpha_bar, what has to happen before it multiplies x0?",
            "schedule.rates(t, x0) has taken the roots already: use both as they are.",
        ),
    ),
    Mistake(
        "compared with x0",
        _variant(answer=lambda output, x0, eps: ((output - x0) ** 2).mean()),
        "You compare the output with x0. That is an objective too, and not this one: whoever reads the output as eps "
        "(algorithm 2 does) would subtract the picture.",
        ("Which of the things you drew should the network find?", "The error is output - eps."),
    ),
    Mistake(
        "other noise asked for",
        _variant(answer=lambda output, x0, eps: ((output - torch.randn_like(eps)) ** 2).mean()),
        "The noise in your target is another draw than the noise in x_t. Nobody can guess that one, so the network "
        "learns to answer 0 and the loss stays at 1.",
        ("How often do you call torch.randn?", "Once: keep it as eps, mix it into x_t, and compare with the same eps."),
    ),
    Mistake(
        "gradient cut",
        _variant(answer=_unlearnable),
        "The number is right, but no gradient leads back from it to the network: backward() would have nothing "
        "to do. "
        "Somewhere stands a detach(), .item() or torch.no_grad().",
        (
            "Print loss.requires_grad.",
            "Return the tensor itself, computed from the network's output without detach, item or no_grad.",
        ),
    ),
    Mistake(
        "generator not used",
        _variant(seeded=False),
        "Two calls with equally seeded generators gave different x_t, so part of your randomness comes from "
        "elsewhere, "
        "and nobody could repeat your training.",
        (
            "Which of your draws does not get the generator?",
            "Both do: torch.randint(..., generator=generator) and torch.randn(..., generator=generator).",
        ),
    ),
    Mistake(
        "summed",
        _variant(answer=lambda output, x0, eps: ((output - eps) ** 2).sum(dim=1).mean()),
        "Your loss is {ratio:.3g} times too large: somewhere a sum stands for a mean. It would grow with the "
        "number of "
        "pixels, and a learning rate that works for points would be far too large for pictures.",
        ("What would be a fair score for a network that always answers 0?", "Take the mean over everything: .mean()."),
    ),
    Mistake(
        "own T",
        _with_parts(T=1000),
        "Your loss works with a schedule of 1000 steps and stops with one of {T}, which came in here: somewhere "
        "it counts the steps by itself, or uses a schedule from outside.",
        ("Which name in your function does not come in as an argument?", "Use schedule.T and schedule.rates."),
    ),
    Mistake(
        "whole division",
        _variant(clock=lambda t, schedule: (t // schedule.T).float()),
        "The network was told a time of 0 or 1 and nothing between: // cuts the fraction off, so of t / T only T / T "
        "is left.",
        ("What is 7 // 10 in Python, and what is 7 / 10?", "One slash: t / schedule.T."),
    ),
    Mistake(
        "even noise",
        _with_parts(draw_eps=lambda x0, generator: _even(*x0.shape, generator=generator)),
        "Your noise has mean {mean:.2f} and variance {variance:.2f}, as it should, and another shape: of {count} "
        "numbers the largest is {largest:.2f}, where the bell curve goes beyond 3.",
        ("torch.rand draws evenly, torch.randn from the bell curve.", "torch.randn, with an n, and nothing around it."),
    ),
    Mistake(
        "one noise a point",
        _with_parts(
            draw_eps=lambda x0, generator: torch.randn((len(x0), *[1] * (x0.ndim - 1)), generator=generator).expand_as(
                x0
            )
        ),
        "The numbers of one example all got the same noise: each point moves along the diagonal only, and of a picture "
        "only the brightness would change.",
        ("Print the shape of your noise.", "It should have the shape of x0: torch.randn(x0.shape, ...)."),
    ),
    Mistake(
        "noise in 64 bits",
        _with_parts(draw_eps=lambda x0, generator: torch.randn(x0.shape, generator=generator, dtype=torch.float64)),
        "The network got an x_t of {dtype}, where x0 has {right}: a real network has float32 weights and would stop.",
        ("Which of your draws or tables has 64 bits?", "torch.randn(x0.shape, generator=generator) draws float32."),
    ),
    Mistake(
        "scaled target",
        _with_parts(target=lambda a, s, x0, eps: s * eps),
        "You compare with s * eps, the noise as it lies in x_t. The network is asked for eps itself, of variance 1 at "
        "every t; whoever reads your output as eps would find too little of it where s is small.",
        ("What is drawn with variance 1?", "The error is output - eps, without a rate."),
    ),
    Mistake(
        "half",
        _variant(answer=lambda output, x0, eps: ((output - eps) ** 2).mean() / 2),
        "Your loss is half of what is asked for: eq. 14 has no 1/2. Training would not mind, but the floor and the "
        "other numbers of this lesson are those of the whole.",
        ("What is your result divided by?", "((output - eps) ** 2).mean(), and nothing else."),
    ),
    Mistake(
        "root",
        _variant(answer=lambda output, x0, eps: ((output - eps) ** 2).mean().sqrt()),
        "You return the root of the mean square, {value:.3f} in place of {right:.3f}. Eq. 14 has no root, and the "
        "floors of section 4 are mean squares.",
        ("Is there a root in eq. 14?", "((output - eps) ** 2).mean(), and nothing else."),
    ),
    Mistake(
        "absolute",
        _variant(answer=lambda output, x0, eps: (output - eps).abs().mean()),
        "You take absolute values, {value:.3f} in place of {right:.3f}. Under those the best answer is the middle one "
        "of all pasts (the median), not their average, and Tweedie's formula no longer fits.",
        ("Squares, not absolute values.", "((output - eps) ** 2).mean()"),
    ),
    Mistake(
        "in turn",
        _in_turn,
        "Two generators with different seeds gave the same t: your steps come in turn and are not drawn. In a small "
        "batch the large t would never come.",
        ("Does your t come from the generator?", "torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)"),
    ),
    Mistake(
        "own generator",
        _with_parts(seed=0),
        "Two generators with different seeds gave the same noise: you make one of your own, and seed it, inside the "
        "function. Every batch of a training would get the very same noise.",
        (
            "What happens at the second call of your function?",
            "Leave manual_seed out, and hand the argument on: generator=generator.",
        ),
    ),
    Mistake(
        "backward inside",
        _with_parts(backward=True),
        "The loss is right, but you call backward() inside. Whoever trains with it (exercise 2.5) calls it once more, "
        "and torch stops there: the path back is used up after one pass.",
        ("Whose task are the gradients?", "Return the loss as it is, and leave backward() to train_step."),
    ),
]
LOSS_BY_NAME = {mistake.name: mistake for mistake in LOSS_MISTAKES}


def _loss_finding(name, **measured):
    mistake = LOSS_BY_NAME[name]
    return Finding(name, mistake.says.format(**measured), mistake.hints)


def judge_loss(function):
    """Ask the student's loss about a network that writes down what it was asked (algorithm 1 draws at random)."""
    schedule, x0 = linear_beta(10, 0.05, 0.5), 0.7 * _draw(6000, 2, seed=5) + torch.tensor([0.5, -0.2])
    net = Probe()
    try:
        loss = function(net, x0.clone(), schedule, torch.Generator().manual_seed(1))
    except (IndexError, ValueError):
        long = linear_beta(1000)
        function(Probe(), x0.clone(), long, torch.Generator().manual_seed(1))  # another slip stops here as well
        return _loss_finding("own T", T=schedule.T)
    found = _loss_plain(loss, net, x0)
    if found:
        return found
    t = net.time * schedule.T
    found = _loss_times(t, schedule.T, len(x0)) or _loss_noise(net, t.round().long(), x0, schedule)
    if found:
        return found
    a, s = schedule.rates(t.round().long(), x0)
    return _loss_value(loss, net, x0, a, s) or _loss_again(function, net, x0, schedule)


def _loss_plain(loss, net, x0):
    if loss is None:
        return Finding("nothing returned", "Your function returned None: is the `return` missing?")
    if net.asked != 1:
        says = f"The network was asked {net.asked} times for one loss; algorithm 1 asks it once, for the whole batch."
        return Finding("asked once", says, ("Call net(x_t, t / schedule.T) once.", "Give it all of x_t at a time."))
    if net.x_t.shape != x0.shape:
        says = f"The network got an x_t of shape {tuple(net.x_t.shape)}, where x0 has {tuple(x0.shape)}."
        return Finding("shape of x_t", says, ("a, s and eps must line up with x0.", "Use schedule.rates(t, x0)."))
    if net.x_t.dtype != x0.dtype:
        return _loss_finding("noise in 64 bits", dtype=net.x_t.dtype, right=x0.dtype)
    time = net.time
    if time.ndim == 0 or len(time) == 1 or (time.shape == (len(x0),) and bool((time == time[0]).all())):
        return _loss_finding("one t for the whole batch", B=len(x0))
    if time.shape != (len(x0),):
        return Finding(
            "shape of t", f"The network got times of shape {tuple(time.shape)}; one for each example is ({len(x0)},)."
        )
    if float(time.max()) > 1 + 1e-4:
        return _loss_finding("t not divided by T", longest=float(time.max()))
    return None


def _loss_times(t, T, B):
    low, high = float(t.min()), float(t.max())
    if float((t - t.round()).abs().max()) > 1e-3:
        says = f"The network was told times that are no whole t divided by T = {T}, such as {float(t[0]) / T:.3f}."
        return Finding(
            "time off", says, ("Time is t / schedule.T, of the schedule that comes in.", "Draw whole t first.")
        )
    if set(t.unique().tolist()) == {0, T}:
        return _loss_finding("whole division")
    low, high = round(low), round(high)
    if low < 1:
        return _loss_finding("row 0 drawn too" if high == T else "t from 0 to T-1", low=low, high=high)
    if high < T:
        return _loss_finding("last step never drawn", high=high, T=T)
    share = torch.bincount(t.round().long(), minlength=T + 1)[1:] / B
    if low > 1 or float((share - 1 / T).abs().max()) > 0.03:
        says = f"Your steps are not drawn evenly from 1..{T}: the rarest has a share of {float(share.min()):.0%}."
        return Finding(
            "t uneven",
            says,
            ("Every step is as likely as every other.", "torch.randint(1, schedule.T + 1, (len(x0),))"),
        )
    return None


def _loss_noise(net, t, x0, schedule):
    """Is the noise that can be worked out from x_t a standard normal draw, and not tied to x0?"""
    a, s = schedule.rates(t, x0)
    if _normal((net.x_t - a * x0) / s, x0):
        return None
    for name, (signal, noise) in (("rates swapped", (s, a)), ("rates squared", (a**2, s**2))):
        if _normal((net.x_t - signal * x0) / noise, x0):
            return _loss_finding(name)
    eps = (net.x_t - a * x0) / s
    if float(eps.std(dim=0).max()) < 0.01:
        return _loss_finding("one noise for the batch", B=len(x0))
    if abs(float(eps.mean()) - 0.5) < 0.02 and abs(float(eps.var()) - 1 / 12) < 0.02:
        return _loss_finding("noise from rand", mean=float(eps.mean()), variance=float(eps.var()))
    mean, variance = float(eps.mean()), float(eps.var())
    if abs(mean) < 0.07 and abs(variance - 1) < 0.1:
        if float((eps[:, 0] - eps[:, 1]).abs().max()) < 0.01:
            return _loss_finding("one noise a point")
        if float(eps.abs().max()) < 2:
            count, largest = eps.numel(), float(eps.abs().max())
            return _loss_finding("even noise", mean=mean, variance=variance, count=count, largest=largest)
    says = (
        f"Worked back from your x_t, the noise has mean {mean:.2f} and variance {variance:.2f} and should have 0 and "
        "1, with nothing of x0 in it: x_t = a * x0 + s * eps does not hold for the t that the network was told."
    )
    hints = (
        "Use the same t for the rates and for the network.",
        "(a, s) = schedule.rates(t, x0); x_t = a * x0 + s * eps.",
    )
    return Finding("x_t off", says, hints)


def _normal(eps, x0):
    """Does eps look like independent standard normal noise? The margins are five standard errors or more."""
    centred = x0 - x0.mean(dim=0)
    unit = centred / centred.std(dim=0)
    across = float((eps[:, 0] * eps[:, 1]).mean())
    tied = (eps * unit).mean(dim=0).abs().max()
    spread = (eps.mean(dim=0).abs().max() < 0.07) and ((eps.var(dim=0) - 1).abs().max() < 0.1)
    return bool(spread) and abs(across) < 0.07 and float(tied) < 0.07 and abs(float((eps**4).mean()) - 3) < 0.6


def _loss_value(loss, net, x0, a, s):
    value, eps = torch.as_tensor(loss).detach(), (net.x_t - a * x0) / s
    if value.numel() != 1 or value.ndim:
        says = f"Your loss has the shape {tuple(value.shape)}; it should be one number for the whole batch."
        return Finding(
            "no single number", says, ("Which step makes one number of many?", "Take .mean() over everything.")
        )
    value, right = float(value), float(((net.output - eps) ** 2).mean())
    if abs(value - right) > 1e-3 * right:
        errors = {
            "compared with x0": (net.output - x0).square().mean(),
            "scaled target": (net.output - s * eps).square().mean(),
            "absolute": (net.output - eps).abs().mean(),
            "root": right**0.5,
            "half": right / 2,
        }
        for name, error in errors.items():
            if abs(value - float(error)) < 1e-3 * right:
                return _loss_finding(name, value=value, right=right)
        if abs(value - float((net.output**2).mean()) - 1) < 0.05:
            return _loss_finding("other noise asked for")
        if any(abs(value / right - times) < 1e-2 * times for times in (x0[0].numel(), len(x0), x0.numel())):
            return _loss_finding("summed", ratio=value / right)
        says = f"Your loss is {value:.4g}, and the mean of (output - eps)**2 for the same draws is {right:.4g}."
        hints = ("Is there a weight, a root or a factor that eq. 14 has not?", "((output - eps) ** 2).mean()")
        return Finding("value off", says, hints)
    return None if isinstance(loss, torch.Tensor) and loss.requires_grad else _loss_finding("gradient cut")


def _noise_in(net, x0, schedule):
    """Work the noise out of what the network was asked."""
    a, s = schedule.rates((net.time * schedule.T).round().long(), x0)
    return (net.x_t - a * x0) / s


def _loss_again(function, net, x0, schedule):
    """The same seed must give the same x_t, another one another; x0 must stay; pictures must pass as points do."""
    if net.weight.grad is not None:
        return _loss_finding("backward inside")
    again, other, kept = Probe(), Probe(), x0.clone()
    function(again, kept, schedule, torch.Generator().manual_seed(1))
    if not torch.equal(again.x_t, net.x_t):
        return _loss_finding("generator not used")
    function(other, x0.clone(), schedule, torch.Generator().manual_seed(2))
    if float((_noise_in(other, x0, schedule) - _noise_in(net, x0, schedule)).abs().max()) < 1e-3:
        return _loss_finding("own generator")
    if torch.equal(other.time, net.time):
        return _loss_finding("in turn")
    if not torch.equal(kept, x0):
        return Finding(
            "in place", "The loss is right, but you changed x0 in place: the next batch would start from noise."
        )
    pictures = Probe()
    function(pictures, _draw(8, 1, 4, 4, seed=4), schedule, torch.Generator().manual_seed(2))
    if pictures.x_t.shape != (8, 1, 4, 4):
        says = f"Points pass, pictures do not: x_t of pictures (8, 1, 4, 4) came out as {tuple(pictures.x_t.shape)}."
        return Finding(
            "pictures", says, ("Which shape has each of a, s and eps?", "schedule.rates(t, x0) fits any x0.")
        )
    return None


# ---- 2.4 one step back ----


def reverse_step(predictor, schedule, x_t, t, noise):
    x0, _ = predictor(x_t, torch.full((len(x_t),), t))
    beta, alpha_bar, alpha_bar_next = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
    mean = alpha_bar_next.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - alpha_bar_next) * x_t
    variance = (1 - alpha_bar_next) / (1 - alpha_bar) * beta
    return mean / (1 - alpha_bar) + variance.sqrt() * noise


def _around(spread=None, centre=None):
    """Write the step with another spread, another centre, or both."""

    def reverse_step(predictor, schedule, x_t, t, noise):
        x0, eps = predictor(x_t, torch.full((len(x_t),), t))
        beta, ab, ab_next = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        mean = (ab_next.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - ab_next) * x_t) / (1 - ab)
        variance = (1 - ab_next) / (1 - ab) * beta
        mean = centre(x0, eps, x_t, beta, ab, ab_next) if centre else mean
        return mean + (spread(variance, beta, t, ab_next) if spread else variance.sqrt()) * noise

    return reverse_step


def _with_noise(chosen):
    """Write the step with other noise than what comes in."""

    def step(predictor, schedule, x_t, t, noise):
        eps = predictor(x_t, torch.full((len(x_t),), t)).eps
        return reverse_step(predictor, schedule, x_t, t, chosen(x_t, noise, eps))

    return step


def _at_rows(rows):
    """Write the step with other rows: `rows(t)` gives the one that the predictor is asked about, and that of beta."""

    def step(predictor, schedule, x_t, t, noise):
        asked, row = rows(t)
        x0, _ = predictor(x_t, torch.full((len(x_t),), asked))
        beta, ab, ab_next = schedule.beta[row], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        mean = ab_next.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - ab_next) * x_t
        return mean / (1 - ab) + ((1 - ab_next) / (1 - ab) * beta).sqrt() * noise

    return step


def _by_precisions(predictor, schedule, x_t, t, noise):
    x0, _ = predictor(x_t, torch.full((len(x_t),), t))
    a, s, beta = schedule.signal_rate[t - 1], schedule.noise_rate[t - 1], schedule.beta[t]
    from_x0, from_x_t = 1 / s**2, (1 - beta) / beta
    mean = (from_x0 * a * x0 + from_x_t * x_t / (1 - beta).sqrt()) / (from_x0 + from_x_t)
    return (mean + (from_x0 + from_x_t) ** -0.5 * noise).to(x_t.dtype)


def _off(report):
    """How far a student's step is off, as a root mean square, and where."""
    return f"{float((report.got - report.expected).square().mean().sqrt()):.2g} ({report.case.label})"


def _strict(mixture, schedule):
    """An exact predictor that asks for t as a network does: one for each example."""
    exact = ExactPredictor(mixture, schedule)

    def predictor(x_t, t, cond=None):
        if not isinstance(t, torch.Tensor) or t.shape != (len(x_t),):
            raise ValueError("a predictor wants one t for each example: torch.full((len(x_t),), t)")
        if t.is_floating_point():
            raise ValueError("a predictor wants the step t itself, a whole number, and not t / T")
        return exact(x_t, t)

    return predictor


def _step_cases():
    schedule, ring = linear_beta(1000), data.ring()
    predictor, pictures = _strict(ring, schedule), GaussianMixture(_draw(3, 1, 4, 4, seed=3), std=0.1)
    cases = [
        Case(f"points, t = {t}", predictor, schedule, _draw(500, 2, seed=1), t, _draw(500, 2, seed=2))
        for t in (500, 1000, 100, 2, 1)
    ]
    shape = (4, 1, 4, 4)
    cases.append(
        Case(
            "pictures, t = 50", _strict(pictures, schedule), schedule, _draw(*shape, seed=4), 50, _draw(*shape, seed=5)
        )
    )
    other = cosine(100)
    cases.append(Case("one point, cosine", _strict(ring, other), other, _draw(1, 2, seed=6), 40, _draw(1, 2, seed=7)))
    return cases


STD_HINTS = (
    "The noise that comes in has variance 1. What variance has c * noise?",
    "Eq. 7 gives a variance; the factor in front of the noise is its square root.",
)
LAST_HINTS = (
    "Put t = 1 into the variance of eq. 7: alpha_bar of row 0 is 1. What is left?",
    "variance = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t]. At t = 1 it is 0 by itself.",
)
MEAN_HINTS = (
    "At t = 1 the mean of eq. 7 is exactly the predicted x0. Does yours become that?",
    "x0 is multiplied by sqrt(alpha_bar[t - 1]) * beta[t], x_t by sqrt(1 - beta[t]) * (1 - alpha_bar[t - 1]), "
    "and both "
    "are divided by 1 - alpha_bar[t].",
)

STEP_MISTAKES = [
    Mistake(
        "variance for deviation",
        _around(spread=lambda variance, beta, t, ab_next: variance),
        "The noise is multiplied by the variance instead of its root: at t = 500 by 0.010 where 0.101 is right. A "
        "thousand such steps lead to the tight clumps of the experiment below.",
        STD_HINTS,
    ),
    Mistake(
        "noise at the last step",
        _around(spread=lambda variance, beta, t, ab_next: beta.sqrt()),
        lambda r: (
            "beta as the variance is DDPM's other choice, and then algorithm 2 leaves the noise out at t = 1. Yours "
            "adds it there too, so every finished sample keeps noise of deviation 0.01. Take eq. 7's variance: "
            "it ends at 0."
        ),
        LAST_HINTS,
    ),
    Mistake(
        "beta as the variance",
        _around(spread=lambda variance, beta, t, ab_next: beta.sqrt() * (t > 1)),
        "beta as the variance, without noise at t = 1, is DDPM's other choice (section 3.2), and it draws well. This "
        "exercise asks for the variance of eq. 7, which at t = 2 is less than half of that.",
        LAST_HINTS,
    ),
    Mistake(
        "noise left out",
        _around(spread=lambda variance, beta, t, ab_next: 0 * beta),
        "This is the mean of eq. 7, and no noise is added. You will see in a moment what a thousand means in a "
        "row draw: "
        "clumps that are too tight, and too near to the middle.",
        (
            "Which of the arguments does your function not use?",
            "Return mean + variance.sqrt() * noise.",
        ),
    ),
    Mistake(
        "straight to x0",
        _around(spread=lambda variance, beta, t, ab_next: 0 * beta, centre=lambda x0, eps, x_t, beta, ab, ab_next: x0),
        "You return the predicted x0 at once. At t = 500 that is a blur between all eight clusters; the walk "
        "goes only a "
        "small way towards it, and asks again.",
        MEAN_HINTS,
    ),
    Mistake(
        "x_t forgotten",
        _around(
            spread=lambda variance, beta, t, ab_next: (1 - ab_next).sqrt(),
            centre=lambda x0, eps, x_t, beta, ab, ab_next: ab_next.sqrt() * x0,
        ),
        "You noise the predicted x0 afresh to step t - 1 and forget where x_t was. A thousand points drawn that "
        "way from the "
        "exact predictor spread by 0.05 around their clusters, where 0.08 is right.",
        (
            "The mean of eq. 7 has two parts. Which one is missing?",
            "x_t stays in, multiplied by sqrt(1 - beta[t]) * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]).",
        ),
    ),
    Mistake(
        "no noise, but DDIM",
        _around(
            spread=lambda variance, beta, t, ab_next: 0 * beta,
            centre=lambda x0, eps, x_t, beta, ab, ab_next: ab_next.sqrt() * x0 + (1 - ab_next).sqrt() * eps,
        ),
        "This is a good step, and another one: DDIM with eta = 0, which re-uses the predicted noise and adds none "
        "(lesson 05). Here, write eq. 7, with fresh noise.",
        MEAN_HINTS,
    ),
    Mistake(
        "weights swapped",
        _around(
            centre=lambda x0, eps, x_t, beta, ab, ab_next: (
                ((1 - beta).sqrt() * (1 - ab_next) * x0 + ab_next.sqrt() * beta * x_t) / (1 - ab)
            )
        ),
        "The two weights of the mean are swapped: at t = 500 you move 99 % of the way to the guess in one step, "
        "and at "
        "t = 1, where only the guess should count, you return x_t.",
        MEAN_HINTS,
    ),
    Mistake(
        "not divided",
        _around(
            centre=lambda x0, eps, x_t, beta, ab, ab_next: (
                ab_next.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - ab_next) * x_t
            )
        ),
        "The mean is not divided by 1 - alpha_bar[t]. At t = 1 that number is 0.0001, so there you return ten "
        "thousand "
        "times too little: a point in the middle.",
        MEAN_HINTS,
    ),
    Mistake(
        "pair turned",
        _around(
            centre=lambda x0, eps, x_t, beta, ab, ab_next: (
                (ab_next.sqrt() * beta * eps + (1 - beta).sqrt() * (1 - ab_next) * x_t) / (1 - ab)
            )
        ),
        "You use the predicted noise where the predicted x0 belongs: the predictor returns x0 first, then eps. At t = "
        "1, where only that guess counts, your finished samples would be noise.",
        ("In which order does the predictor return its two answers?", "x0, eps = predictor(x_t, steps)"),
    ),
    Mistake(
        "alpha for alpha_bar",
        _around(
            spread=lambda variance, beta, t, ab_next: beta.sqrt() if t > 1 else 0 * beta,
            centre=lambda x0, eps, x_t, beta, ab, ab_next: (x_t - beta.sqrt() * eps) / (1 - beta).sqrt(),
        ),
        "You remove one step's worth of noise, sqrt(beta) * eps. But the noise in x_t is that of all steps, and "
        "the share "
        "of it that leaves now is beta / sqrt(1 - alpha_bar): at t = 500 you take away ten times too much.",
        MEAN_HINTS,
    ),
    Mistake(
        "own noise",
        _with_noise(lambda x_t, noise, eps: torch.randn_like(x_t)),
        lambda r: (
            "You draw noise of your own and leave the argument `noise` aside: your x_(t-1) is off by "
            f"{_off(r)}. It looks the same, and nobody could draw the same sample twice, or try a quieter noise."
        ),
        ("Which of the arguments does your function not use?", "Multiply the deviation by `noise`."),
    ),
    Mistake(
        "noise subtracted",
        _with_noise(lambda x_t, noise, eps: -noise),
        lambda r: (
            f"The noise is subtracted: your x_(t-1) is off by {_off(r)}. A normal distribution does not mind, but "
            "mean + deviation * noise is asked for, so that everybody's step gives the same numbers."
        ),
        ("Look at the sign in front of the noise.", "Return mean + variance.sqrt() * noise."),
    ),
    Mistake(
        "predicted noise added",
        _with_noise(lambda x_t, noise, eps: eps),
        lambda r: (
            f"You add the predicted noise again: your x_(t-1) is off by {_off(r)}. The noise of a reverse step is "
            "fresh; it comes in as the argument `noise`."
        ),
        ("Which of the arguments does your function not use?", "Return mean + variance.sqrt() * noise."),
    ),
    Mistake(
        "root of alpha_bar missing",
        _around(
            centre=lambda x0, eps, x_t, beta, ab, ab_next: (
                (ab_next * beta * x0 + (1 - beta).sqrt() * (1 - ab_next) * x_t) / (1 - ab)
            )
        ),
        lambda r: (
            f"A root is missing: x0 is multiplied by alpha_bar[t - 1] without it, and your x_(t-1) is off by "
            f"{_off(r)}. It seems little in one step; over a thousand steps it adds up."
        ),
        MEAN_HINTS,
    ),
    Mistake(
        "root of 1 - beta missing",
        _around(
            centre=lambda x0, eps, x_t, beta, ab, ab_next: (
                (ab_next.sqrt() * beta * x0 + (1 - beta) * (1 - ab_next) * x_t) / (1 - ab)
            )
        ),
        lambda r: (
            f"A root is missing: x_t is multiplied by 1 - beta[t] without it, and your x_(t-1) is off by {_off(r)}. "
            "It seems little in one step; over a thousand steps it adds up."
        ),
        MEAN_HINTS,
    ),
    Mistake(
        "beta of the row before",
        _at_rows(lambda t: (t, t - 1)),
        lambda r: (
            f"You take beta[t - 1]: your x_(t-1) is off by {_off(r)}, and at t = 1 you would use beta of row 0, which "
            "is 0. The step from t to t - 1 undoes the noise of row t."
        ),
        ("Which row of beta belongs to the step between t - 1 and t?", "beta[t]; only alpha_bar comes in two rows."),
    ),
    Mistake(
        "predictor asked about t - 1",
        _at_rows(lambda t: (t - 1, t)),
        lambda r: (
            f"You ask the predictor about step t - 1, but x_t is as noisy as step t: your x_(t-1) is off by {_off(r)}."
        ),
        ("How much noise is in x_t?", "predictor(x_t, torch.full((len(x_t),), t))"),
    ),
    Mistake(
        "precisions",
        _by_precisions,
        "Right at every t but one: at t = 1 the precision of row 0 is 1 / 0, and your result is not a number. The "
        "formula of section 5 multiplies where yours divides, and needs no `if`.",
        LAST_HINTS,
    ),
]

# ---- 2.5 one step of learning ----


def train_step(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class Lesson(NamedTuple):
    """What can be seen from outside of three calls: counts, the weight before and after, what was reported."""

    asked: int
    passes: int
    steps: int
    same_generator: bool
    same_x0: bool
    start: torch.Tensor
    weight: torch.Tensor
    reported: list


def learn(train_step, start, lr):
    """Let the function take three steps on a weight of two numbers."""
    weight = torch.nn.Parameter(start.clone())
    optimizer, generator = torch.optim.SGD([weight], lr), torch.Generator().manual_seed(0)
    asked, passes, steps = [], [], []
    weight.register_hook(lambda gradient: passes.append(1))
    optimizer.register_step_post_hook(lambda *_: steps.append(1))

    def loss_fn(x0, given):
        asked.append(given is generator)
        given = given if isinstance(given, torch.Generator) else generator
        return ((weight - x0 - torch.randn(x0.shape, generator=given)) ** 2).mean()

    batches = [_draw(50, 2, seed=k) for k in range(3)]
    reported = [train_step(optimizer, loss_fn, x0, generator) for x0 in batches]
    same_x0 = all(torch.equal(x0, _draw(50, 2, seed=k)) for k, x0 in enumerate(batches))
    return Lesson(len(asked), len(passes), len(steps), all(asked), same_x0, start, weight.detach().clone(), reported)


def judge_training(function):
    """Compare three calls of the student's function with three of the course's own, seen from outside."""
    for start, lr in ((torch.tensor([1.0, -2.0]), 0.1), (torch.tensor([4.0, 0.5]), 0.4)):
        seen = learn(function, start, lr)
        found = _training_counts(seen) or _training_weight(seen, lr) or _training_report(seen, start, lr)
        if found:
            return found
    return None


def _training_counts(seen):
    if seen.asked == 6 and seen.passes == seen.steps == 3:
        return "asked twice"
    if seen.steps == 0 and seen.passes == 3:
        return "never stepped"
    if seen.passes == 0 and seen.steps == 3:
        return "no gradients"
    counted = {
        "The loss was asked for": (seen.asked, "Call loss_fn(x0, generator) once."),
        "Gradients were computed": (seen.passes, "Call loss.backward() once."),
        "The optimiser stepped": (seen.steps, "Call optimizer.step() once."),
    }
    for what, (times, hint) in counted.items():
        if times != 3:
            return Finding("counts", f"{what} {times} times in 3 calls of your function.", ("Once a call.", hint))
    if not seen.same_x0:
        return Finding("in place", "You changed x0 in place: the next epoch would learn from other data.")
    return None if seen.same_generator else "generator left out"


def _training_weight(seen, lr):
    right = learn(train_step, seen.start, lr).weight
    if torch.allclose(seen.weight, right, atol=1e-5):
        return None
    if torch.equal(seen.weight, seen.start):
        return "gradients wiped"
    if torch.allclose(seen.weight, learn(_piled, seen.start, lr).weight, atol=1e-5):
        return "gradients pile up"
    after, wanted = ([round(x, 3) for x in weight.tolist()] for weight in (seen.weight, right))
    says = f"After three calls the weights are {after}, and they should be {wanted}."
    return Finding("weights", says, ("Does anything but optimizer.step() change them?", "zero_grad, backward, step."))


def _training_report(seen, start, lr):
    last = seen.reported[-1]
    if last is None:
        return Finding("nothing returned", "Your function returned None: is the `return` missing?")
    if callable(last):
        return "item not called"
    if isinstance(last, torch.Tensor) and last.requires_grad:
        return "graph kept"
    if not isinstance(last, float):
        return "no plain number"
    right = learn(train_step, start, lr).reported
    if not all(abs(one - other) < 1e-5 for one, other in zip(seen.reported, right, strict=True)):
        says = f"You report {last:.4g} at the third call, where the loss was {right[-1]:.4g}."
        return Finding("report off", says, ("Which loss did you learn from?", "Return that loss.item()."))
    return None


def _piled(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    loss.backward()
    optimizer.step()
    return loss.item()


def _wiped(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def _not_stepped(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


def _no_backward(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def _whole_graph(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def _asked_twice(optimizer, loss_fn, x0, generator):
    train_step(optimizer, loss_fn, x0, generator)
    return loss_fn(x0, generator).item()


def _no_generator(optimizer, loss_fn, x0, generator):
    return train_step(optimizer, loss_fn, x0, None)


def _item_uncalled(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    train_step(optimizer, lambda x0, generator: loss, x0, generator)
    return loss.item


def _tensor_returned(optimizer, loss_fn, x0, generator):
    return torch.tensor(train_step(optimizer, loss_fn, x0, generator))


TRAIN_MISTAKES = [
    Mistake(
        "gradients pile up",
        _piled,
        "The gradients of earlier steps are still there: torch adds new ones to the old. Your third step "
        "follows the sum "
        "of three gradients, and a long training would run away.",
        (
            "What does backward() do with gradients that are there already?",
            "Call optimizer.zero_grad() before backward().",
        ),
    ),
    Mistake(
        "gradients wiped",
        _wiped,
        "You compute the gradients and throw them away before the optimiser has seen them: after three steps "
        "the weights "
        "are where they were.",
        ("In which order do zero_grad, backward and step belong?", "zero_grad, then backward, then step."),
    ),
    Mistake(
        "never stepped",
        _not_stepped,
        "The gradients are there, and nobody uses them: after three steps the weights are where they were. The loss "
        "would stay as it is for ever.",
        ("Who changes the weights?", "Call optimizer.step() after backward()."),
    ),
    Mistake(
        "no gradients",
        _no_backward,
        "No gradient is ever computed, so the optimiser has nothing to follow, and it says nothing about that: after "
        "three steps the weights are where they were.",
        ("Which call computes the gradients?", "loss.backward(), between zero_grad and step."),
    ),
    Mistake(
        "graph kept",
        _whole_graph,
        "The training is right, but you return the loss with all that was computed for it. A list of a thousand such "
        "losses keeps a thousand whole computations in memory.",
        ("What kind of thing should come back, according to the statement?", "Return loss.item(): a plain number."),
    ),
    Mistake(
        "asked twice",
        _asked_twice,
        "You ask for the loss twice: once to learn and once to report. The second one draws new noise, so the number "
        "that you report is not the one that you learned from, and the network works for nothing.",
        ("How often do you call loss_fn?", "Keep the first loss in a variable, and return its .item()."),
    ),
    Mistake(
        "generator left out",
        _no_generator,
        "The generator that came in did not reach loss_fn. The noise of the loss would come from elsewhere, and nobody "
        "could repeat your training.",
        ("Which of the arguments does your function not use?", "Call loss_fn(x0, generator)."),
    ),
    Mistake(
        "item not called",
        _item_uncalled,
        "You return the method itself and not what it gives: are the () missing? It keeps the whole computation alive, "
        "too.",
        ("What does Python do with a function's bare name?", "Return loss.item(), with brackets."),
    ),
    Mistake(
        "no plain number",
        _tensor_returned,
        "The training is right, but what you return is still a tensor or an array. Asked for is a plain Python number, "
        "which can be put in a list, printed and saved without torch.",
        ("Which call makes a Python number of a tensor with one number?", "Return loss.item()."),
    ),
]

EXERCISES = catalogue(
    Exercise(
        number="2.1",
        name="best_guess",
        reference=best_guess,
        cases=GUESS_CASES,
        mistakes=GUESS_MISTAKES,
        hints=SHARE_HINTS,
        right="much noise gives the average, little noise the nearest point, and everything between.",
        atol=1e-5,
    ),
    Exercise(
        number="2.2",
        name="solve_output",
        reference=solve_output,
        cases=_rows(),
        mistakes=SOLVE_MISTAKES,
        hints=SOLVE_HINTS,
        right="eps, x0, v and flow, points and pictures: one output tells both.",
        atol=1e-4,
    ),
    Exercise(
        number="2.3",
        name="denoising_loss",
        reference=denoising_loss,
        mistakes=LOSS_MISTAKES,
        judge=judge_loss,
        right="every t from 1 to T, a t and a noise for each example, the right mixture, and a gradient that flows.",
    ),
    Exercise(
        number="2.4",
        name="reverse_step",
        reference=reverse_step,
        cases=_step_cases(),
        mistakes=STEP_MISTAKES,
        hints=MEAN_HINTS,
        right="mean and deviation at every t, points and pictures, and no noise in the finished sample.",
        atol=1e-4,
    ),
    Exercise(
        number="2.5",
        name="train_step",
        reference=train_step,
        mistakes=TRAIN_MISTAKES,
        judge=judge_training,
        right="one loss, one backward pass, one step, and a plain number to report.",
    ),
)
