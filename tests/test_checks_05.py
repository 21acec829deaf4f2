"""Lesson 05's checks: wrong answers, written as a student would write them, each get their own sentence."""

import math

import numpy as np
import pytest
import torch

from course_lib import data, recipes, samplers, schedules
from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_05 import EXERCISES
from course_lib.types import Step


def verdict(number, function):
    return diagnose(EXERCISES[number], function)


def steps_like(x, t):
    return t * torch.ones(x.shape[0], dtype=torch.long)


def numbers(schedule, *times):
    """Plain numbers out of the tables: a, s for each of the times."""
    return [float(table[t]) for t in times for table in (schedule.signal_rate, schedule.noise_rate)]


# ---- right answers in other words ----


def mix_by_rows(model, sch, x, now, later):
    answer = model(x, steps_like(x, now))
    signal, noise = numbers(sch, later)
    return torch.stack([signal * p + noise * e for p, e in zip(answer.x0, answer.eps, strict=True)])


def euler_in_sigma(model, sch, x, now, later):
    """The same step as Euler's, in y; where a is 0 there is no y."""
    a, s, a1, s1 = numbers(sch, now, later)
    answer = model(x, steps_like(x, now))
    return a1 * (x / a + (s1 / a1 - s / a) * answer.eps) if a > 0 else a1 * answer.x0 + s1 * answer.eps


def library_ddim(model, sch, x, now, later):
    return samplers.ddim_step(model, sch, x, now, later).x_next


def times_by_loop(T, n, power):
    out = [T]
    for k in range(1, n):
        share = 1 - k / n
        out.append(max(n - k, int(T * share**power + 0.5)))
    return [*out, 0]


def times_by_numpy(T, n, power):
    i = np.arange(n, -1, -1)
    return np.maximum(i, np.rint(T * (i / n) ** power)).astype(int).tolist()


def order_by_hand(steps, errors):
    x, y = [math.log(n) for n in steps], [math.log10(e) * math.log(10) for e in errors]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (my - b) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def heun_in_numbers(model, sch, x, now, later):
    a, s, a1, s1 = numbers(sch, now, later)
    first = model(x, steps_like(x, now))
    trial = a1 * first.x0 + s1 * first.eps
    if later < 1 or a < s / 1000:
        return trial
    second = model(trial, steps_like(x, later))
    return trial + a1 * (s1 / a1 - s / a) * 0.5 * (second.eps - first.eps)  # the trial corrected


def library_heun(model, sch, x, now, later):
    return samplers.heun_step(model, sch, x, now, later).x_next


def leap_as_in_the_paper(new, old, s0, s1, s2):
    r = torch.tensor([s0, s1]).log().diff().neg() / torch.tensor([s1, s2]).log().diff().neg()
    return (1 + 1 / (2 * r)) * new - 1 / (2 * r) * old


def eta_stable(model, sch, x, now, later, eta, z):
    """kept written without a difference of squares."""
    a, s, a1, s1 = numbers(sch, now, later)
    ratio = a * s1 / (a1 * s)
    guess = model(x, steps_like(x, now))
    old, new = s1 * math.sqrt(1 - eta**2 + (eta * ratio) ** 2), eta * s1 * math.sqrt(1 - ratio**2)
    return a1 * guess.x0 + old * guess.eps + new * z


def library_eta(model, sch, x, now, later, eta, z):
    return samplers.ddim_step(model, sch, x, now, later, eta=eta, noise=z).x_next


@pytest.mark.parametrize(
    ("number", "function"),
    [
        ("5.1", mix_by_rows),
        ("5.1", euler_in_sigma),
        ("5.1", library_ddim),
        ("5.2", times_by_loop),
        ("5.2", times_by_numpy),
        ("5.3", order_by_hand),
        ("5.4", heun_in_numbers),
        ("5.4", library_heun),
        ("5.5", leap_as_in_the_paper),
        ("5.6", eta_stable),
        ("5.6", library_eta),
    ],
)
def test_other_words_are_right_too(number, function):
    found = verdict(number, function)
    assert found.passed, str(found)


def test_the_course_s_own_2m_is_the_extrapolated_x0_mixed_again():
    """Exercise 5.5 and the lesson's step around it agree with the library's dpm_step."""
    asked, schedule, x = EXERCISES["5.1"].cases[0].args[:3]
    predict = asked.predict
    before = samplers.dpm_step(predict, schedule, x, 700, 500)
    step = samplers.dpm_step(predict, schedule, before.x_next, 500, 300, previous=before)
    sigma = schedule.sigma[[700, 500, 300]].tolist()
    guess = EXERCISES["5.5"].reference(step.prediction.x0, before.prediction.x0, *sigma)
    (a, s), (a_next, s_next) = schedule.rates(500, x), schedule.rates(300, x)
    mixed = a_next * guess + s_next * (before.x_next - a * guess) / s
    assert isinstance(step, Step) and torch.allclose(mixed, step.x_next, atol=1e-5)


# ---- wrong answers ----


def mixed(change=lambda a, s: (a, s), ask_at=lambda t, n: t, row=lambda t, n: n, parts=lambda x, p: p):
    """A student's DDIM step with one thing done otherwise."""

    def step(model, sch, x, now, later):
        p, e = parts(x, model(x, steps_like(x, ask_at(now, later))))
        a, s = change(*numbers(sch, row(now, later)))
        return p * a + e * s

    return step


MIXES = {
    "rates of t": mixed(row=lambda t, n: t),
    "one row too low": mixed(row=lambda t, n: n - 1 if n else 0),
    "to the neighbour": mixed(row=lambda t, n: t - 1),
    "rates exchanged": mixed(change=lambda a, s: (s, a)),
    "squared rates": mixed(change=lambda a, s: (a * a, s * s)),
    "x_t for eps": mixed(parts=lambda x, p: (p[0], x)),
    "jumped to x0": mixed(change=lambda a, s: (1.0, 0.0)),
    "fresh noise": mixed(parts=lambda x, p: (p.x0, torch.randn(*x.shape))),
    "minus": mixed(change=lambda a, s: (a, -s)),
    "x_t for x0": mixed(parts=lambda x, p: (x, p[1])),
    "clamped": mixed(parts=lambda x, p: (torch.clip(p.x0, -1.0, 1.0), p.eps)),
    "asked twice": lambda *args: asks_twice(*args),
}


def asks_twice(model, sch, x, now, later, *more):
    a, s = numbers(sch, later)
    return a * model(x, steps_like(x, now)).x0 + s * model(x, steps_like(x, now)).eps


@pytest.mark.parametrize("number", ["5.1", "5.4", "5.6"])
def test_what_the_network_refuses_is_refused_here(number):
    """Otherwise a wrong answer passes, and the lesson stops some cells later."""

    def with_time(time):
        def asked(predict):
            return lambda x, t: predict(x, time(x, t))

        return lambda predict, *rest: EXERCISES[number].reference(asked(predict), *rest)

    assert "expected t of shape (" in verdict(number, with_time(lambda x, t: int(t[0]))).says
    assert "expected t to hold whole numbers" in verdict(number, with_time(lambda x, t: t.float())).says

    def row_zero(predict, sch, x, now, later, *more):
        predict(x, steps_like(x, later))
        return EXERCISES[number].reference(predict, sch, x, now, later, *more)

    assert not verdict(number, row_zero).passed


def test_what_is_wrong_at_step_1_alone_is_wrong():
    for number in ("5.1", "5.4", "5.6"):
        step = EXERCISES[number].reference
        assert not verdict(number, lambda *args, step=step: step(*args[:4], args[4] * (args[4] > 1), *args[5:])).passed


@pytest.mark.parametrize("name", MIXES)
def test_wrong_mixtures_are_known(name):
    found = verdict("5.1", MIXES[name])
    assert found.name == name, str(found)


def test_a_pair_taken_the_other_way_round_and_a_question_about_t_next_are_known():
    assert verdict("5.1", mixed(parts=lambda x, p: (p.eps, p.x0))).name == "rates exchanged"
    assert verdict("5.1", mixed(ask_at=lambda t, n: n)).name == "asked about t_next"


def test_the_notebook_s_own_schedule_and_network_are_told_from_the_arguments():
    table, network = schedules.flow(), recipes.load_denoiser(data.shipped("mnist-ddpm"))

    def notebook_schedule(model, sch, x, now, later):
        p, e = model(x, steps_like(x, now))
        a, s = table.rates(later, x)
        return p * a + e * s

    def notebook_network(predict, sch, x, now, later):
        p, e = network(x, steps_like(x, now))
        a, s = sch.rates(later, x)
        return p * a + e * s

    assert verdict("5.1", notebook_schedule).name == "global flow"
    assert verdict("5.1", notebook_network).name == "global model"
    assert verdict("5.4", lambda *walk: heun_in_numbers(network, *walk[1:])).name == "global model"
    assert verdict("5.6", lambda *walk: eta_stable(network, *walk[1:])).name == "global model"


def ladder(T, n, power, start=0, stop=None, to=round):
    shares = [i / n for i in range(n + 1)]
    rows = [max(i, to(T * share**power)) for i, share in enumerate(shares)]
    return rows[::-1][start:stop]


TIMES = {
    "0 left out": lambda T, n, power: ladder(T, n, power, stop=n),
    "T left out": lambda T, n, power: ladder(T, n, power, start=1),
    "n numbers": lambda T, n, power: [round(x) for x in T * np.linspace(1, 0, n) ** power] if n > 1 else [0],
    "rising": lambda T, n, power: sorted(ladder(T, n, power)),
    "repeats": lambda T, n, power: [round(x) for x in (T * np.linspace(1, 0, n + 1) ** power).tolist()],
    "no whole numbers": lambda T, n, power: ladder(T, n, power, to=float),
    "cut, not rounded": lambda T, n, power: ladder(T, n, power, to=math.floor),
    "power upside down": lambda T, n, power: ladder(T, n, power**-1),
    "dense at the wrong end": lambda T, n, power: [T - t for t in ladder(T, n, power)][::-1],
    "power ignored": lambda T, n, power: ladder(T, n, 1),
    "power made whole": lambda T, n, power: ladder(T, n, math.floor(power)),
    "bits for a power": lambda T, n, power: [round(T * (1 - k / n) ^ power) for k in range(n + 1)],
}


def test_numpy_s_numbers_must_be_whole_too():
    right = EXERCISES["5.2"].reference
    assert verdict("5.2", lambda T, n, power: [np.float64(t) for t in right(T, n, power)]).name == "a decimal point"
    assert verdict("5.2", lambda T, n, power: [np.int64(t) for t in right(T, n, power)]).passed


@pytest.mark.parametrize("name", TIMES)
def test_wrong_times_are_known(name):
    found = verdict("5.2", TIMES[name])
    assert found.name == name, str(found)


def line(x, y):
    """Slope and intercept by the normal equations."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return float(slope), float(y.mean() - slope * x.mean())


ORDERS = {
    "sign": lambda n, e: line(np.log10(n), np.log10(e))[0],
    "no logarithms": lambda n, e: -line(n, e)[0],
    "one logarithm": lambda n, e: -line(n, np.log(e))[0],
    "intercept": lambda n, e: -line(np.log(n), np.log(e))[1],
    "axes exchanged": lambda n, e: -line(np.log(e), np.log(n))[0],
    "first and last only": lambda n, e: float(np.log(e[0] / e[-1]) / np.log(n[-1] / n[0])),
    "sign dropped": lambda n, e: max(line(np.log(n), np.log(e))[0], -line(np.log(n), np.log(e))[0]),
    "factor for order": lambda n, e: 0.5 ** line(np.log(n), np.log(e))[0],
    "rounded": lambda n, e: float(f"{-line(np.log(n), np.log(e))[0]:.2f}"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_wrong_orders_are_known(name):
    found = verdict("5.3", ORDERS[name])
    assert found.name == name, str(found)


def heun_in_y(before, after):
    """A student's Heun step in y; before and after turn y into what the predictor is asked about."""

    def step(model, sch, x, now, later):
        a, s, a1, s1 = numbers(sch, now, later)
        if a * 1000 < s or later == 0:
            return library_ddim(model, sch, x, now, later)
        y, sigma, sigma1 = x / a, s / a, s1 / a1
        slope = model(before(y, a), steps_like(x, now)).eps
        trial = y + (sigma1 - sigma) * slope
        slope1 = model(after(trial, a1), steps_like(x, later)).eps
        return (y + (sigma1 - sigma) * (slope + slope1) / 2) * a1

    return step


def test_a_heun_step_in_y_that_asks_about_x_is_right():
    assert verdict("5.4", heun_in_y(lambda y, a: y * a, lambda y, a: y * a)).passed


def clamped_heun(model, sch, x, now, later):
    a, s, a1, s1 = numbers(sch, now, later)
    p, e = model(x, steps_like(x, now))
    trial = p.clip(-1, 1) * a1 + s1 * e
    if later == 0 or a * 1000 < s:
        return trial
    e1 = model(trial, steps_like(x, later)).eps
    return fair(x, trial, a, s, a1, s1, e, e1)


def heun(result, first=1000, last=True, place=lambda x, trial, t, n: (trial, n)):
    """A student's Heun step with another result, without a special case, or asked elsewhere."""

    def step(model, sch, x, now, later):
        a, s, a1, s1 = map(torch.tensor, numbers(sch, now, later))
        p, e = model(x, steps_like(x, now))
        trial = a1 * p + s1 * e
        if (first and a * first < s) or (last and later == 0):
            return trial
        at, time = place(x, trial, now, later)
        e1 = model(at, steps_like(x, time)).eps
        return result(x, trial, a, s, a1, s1, e, e1)

    return step


def fair(x, trial, a, s, a1, s1, e, e1):
    return a1 * (x / a + (s1 / a1 - s / a) * torch.stack([e, e1]).mean(0))


def heun_of_three_calls(model, sch, x, now, later):
    """As a student writes it who calls ddim_step for the trial and then asks for its slope again."""
    a, s, a1, s1 = numbers(sch, now, later)
    e = model(x, steps_like(x, now)).eps
    trial = library_ddim(model, sch, x, now, later)
    if later == 0 or a * 1000 < s:
        return trial
    return x * a1 / a + a1 * (s1 / a1 - s / a) * (e + model(trial, steps_like(x, later)).eps) / 2


HEUNS = {
    "no second slope": library_ddim,
    "last step asked again": heun(fair, last=False),
    "first step divided by 0": heun(fair, first=0),
    "a of 0 alone": heun(fair, first=1e9),
    "asked too often": heun_of_three_calls,
    "both ends": heun(fair, first=0, last=False),
    "sigma turned": heun(lambda x, trial, a, s, a1, s1, e, e1: a1 * (x / a - (s1 / a1 - s / a) * (e + e1) / 2)),
    "sigma upside down": heun(lambda x, trial, a, s, a1, s1, e, e1: a1 * (x / a + (a1 / s1 - a / s) * (e + e1) / 2)),
    "a for a_next": heun(lambda x, trial, a, s, a1, s1, e, e1: x + a * (s1 / a1 - s / a) * (e + e1) / 2),
    "half of one slope": heun(lambda x, trial, a, s, a1, s1, e, e1: a1 * (x / a + (s1 / a1 - s / a) * (e + e1 / 2))),
    "stepped in x": heun(lambda x, trial, a, s, a1, s1, e, e1: x + (s1 / a1 - s / a) * (e + e1) * 0.5),
    "not scaled back": heun(lambda x, trial, a, s, a1, s1, e, e1: fair(x, trial, a, s, a1, s1, e, e1) / a1),
    "noise_rate for sigma": heun(lambda x, trial, a, s, a1, s1, e, e1: (x / a + (s1 - s) * (e + e1) * 0.5) * a1),
    "second call at t": heun(fair, place=lambda x, trial, t, n: (trial, t)),
    "second call from x_t": heun(fair, place=lambda x, trial, t, n: (x, n)),
    "second slope alone": heun(lambda x, trial, a, s, a1, s1, e, e1: a1 * (x / a + (s1 / a1 - s / a) * e1)),
    "slopes added": heun(lambda x, trial, a, s, a1, s1, e, e1: a1 * (x / a + (s1 / a1 - s / a) * (e + e1))),
    "trial asked in y": heun_in_y(lambda y, a: y * a, lambda y, a: y),
    "asked in y": heun_in_y(lambda y, a: y, lambda y, a: y),
    "old x0 kept": heun(lambda x, trial, a, s, a1, s1, e, e1: trial - s1 * e + s1 * 0.5 * (e + e1)),
    "on from the trial": heun(lambda x, trial, a, s, a1, s1, e, e1: fair(trial * a / a1, trial, a, s, a1, s1, e, e1)),
    "clamped": clamped_heun,
}


@pytest.mark.parametrize("name", HEUNS)
def test_wrong_heun_steps_are_known(name):
    found = verdict("5.4", HEUNS[name])
    assert found.name == name, str(found)


def test_averages_of_pictures_are_told_to_be_ddim():
    def averaged(model, sch, x, now, later):
        a1, s1 = numbers(sch, later)
        p, e = model(x, steps_like(x, now))
        trial = a1 * p + s1 * e
        if later == 0:
            return trial
        again = model(trial, steps_like(x, later))
        return a1 * (p + again.x0) / 2 + s1 * (e + again.eps) / 2

    found = verdict("5.4", averaged)
    assert found.name == "no second slope" and "is the Euler guess again" in found.says


def leap(share):
    """A student's extrapolation by a share of the change, from the three logarithms."""

    def function(new, old, s0, s1, s2):
        l0, l1, l2 = (-np.log(s) for s in (s0, s1, s2))
        return new + (new - old) * float(share(l1 - l0, l2 - l1))

    return function


def upside_down(new, old, s0, s1, s2):
    return new + math.log(s2 / s1) / (2 * math.log(s1 / s0)) * (new - old)


def half_upside_down(new, old, s0, s1, s2):
    last = math.log(s1 / s0)
    return new + 0.5 * (math.log(s1) - math.log(s2)) * (new - old) / last


LEAPS = {
    "brackets missing": leap(lambda last, h: h / 2 * last),
    "logs upside down": upside_down,
    "last log upside down": half_upside_down,
    "half missing": leap(lambda last, h: h / last),
    "ratio upside down": leap(lambda last, h: last / h / 2),
    "backwards": leap(lambda last, h: -0.5 * h / last),
    "sigma without logarithm": lambda new, old, s0, s1, s2: new + (new - old) * (s2 - s1) / (s1 - s0) / 2,
    "steps taken as equal": lambda new, old, s0, s1, s2: 1.5 * new - 0.5 * old,
    "not extrapolated": lambda new, old, s0, s1, s2: new.clone(),
    "change alone": lambda new, old, s0, s1, s2: leap(lambda last, h: h / last / 2)(new, old, s0, s1, s2) - new,
    "from the older guess": lambda new, old, s0, s1, s2: old + math.log(s1 / s2) / math.log(s0 / s1) / 2 * (new - old),
}


@pytest.mark.parametrize("name", LEAPS)
def test_wrong_extrapolations_are_known(name):
    found = verdict("5.5", LEAPS[name])
    assert found.name == name, str(found)


def noisy(parts):
    """A student's step with noise; parts(s, s1, ratio, eta) gives the old and the fresh share."""

    def step(model, sch, x, now, later, eta, z):
        a, s, a1, s1 = numbers(sch, now, later)
        guess = model(x, steps_like(x, now))
        old, new = parts(s, s1, a * s1 / (a1 * s), eta)
        return a1 * guess.x0 + old * guess.eps + new * z

    return step


def rest(s1, new):
    return math.sqrt(s1 * s1 - new * new) if new <= s1 else math.nan


def ddpm(s1, ratio, eta):
    return eta * s1 * math.sqrt(1 - ratio * ratio)


def noise_drawn_inside(model, sch, x, now, later, eta, z):
    return eta_stable(model, sch, x, now, later, eta, torch.randn(x.shape))


def as_in_the_paper(model, sch, x, now, later, eta, z):
    """DDIM's eq. 16, with alpha_bar = a * a."""
    a, s, a1, s1 = numbers(sch, now, later)
    new = eta * (s1 / s) * math.sqrt(1 - a * a / (a1 * a1))
    guess = model(x, steps_like(x, now))
    return a1 * guess.x0 + rest(s1, new) * guess.eps + new * z


def clamped_noisy(model, sch, x, now, later, eta, z):
    a, s, a1, s1 = numbers(sch, now, later)
    guess = model(x, steps_like(x, now))
    new = ddpm(s1, a * s1 / (a1 * s), eta)
    return a1 * torch.clamp(guess.x0, min=-1, max=1) + rest(s1, new) * guess.eps + new * z


ETAS = {
    "no fresh noise": noisy(lambda s, s1, ratio, eta: (s1, 0.0)),
    "old noise not lowered": noisy(lambda s, s1, ratio, eta: (s1, ddpm(s1, ratio, eta))),
    "variance for std": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, r, eta)), ddpm(s1, r, eta) ** 2)),
    "root of std missing": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, r, eta) ** 2), ddpm(s1, r, eta) ** 2)),
    "deviations subtracted": noisy(lambda s, s1, r, eta: (s1 - ddpm(s1, r, eta), ddpm(s1, r, eta))),
    "root of kept missing": noisy(lambda s, s1, r, eta: (s1 * s1 - ddpm(s1, r, eta) ** 2, ddpm(s1, r, eta))),
    "eta squared": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, r, eta * eta)), ddpm(s1, r, eta * eta))),
    "eta once more at the noise": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, r, eta)), ddpm(s1, r, eta * eta))),
    "noise rates for sigma": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, s1 / s, eta)), ddpm(s1, s1 / s, eta))),
    "shrink not squared": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, r**0.5, eta)), ddpm(s1, r**0.5, eta))),
    "all noise fresh": noisy(lambda s, s1, r, eta: (rest(s1, eta * s1), eta * s1)),
    "s for s_next": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s, r, eta)), ddpm(s, r, eta))),
    "own noise": noise_drawn_inside,
    "eta ignored": noisy(lambda s, s1, r, eta: (s1 * r, ddpm(s1, r, 1))),
    "kept and std exchanged": noisy(lambda s, s1, r, eta: (ddpm(s1, r, eta), rest(s1, ddpm(s1, r, eta)))),
    "no root in std": noisy(lambda s, s1, r, eta: (rest(s1, eta * s1 * (1 - r * r)), eta * s1 * (1 - r * r))),
    "eta under the root": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, r, eta**0.5)), ddpm(s1, r, eta**0.5))),
    "kept from s": noisy(lambda s, s1, r, eta: (rest(s, ddpm(s1, r, eta)), ddpm(s1, r, eta))),
    "shrink upside down": noisy(lambda s, s1, r, eta: (math.nan, math.nan)),
    "fresh noise not added": noisy(lambda s, s1, r, eta: (rest(s1, ddpm(s1, r, eta)), 0)),
    "eq. 16 verbatim": as_in_the_paper,
    "asked twice": asks_twice,
    "clamped": clamped_noisy,
}


@pytest.mark.parametrize("name", ETAS)
def test_wrong_noises_are_known(name):
    found = verdict("5.6", ETAS[name])
    assert found.name == name, str(found)


def test_surplus_noise_is_measured_in_the_sentence():
    assert "0.62 where step t_next has 0.50" in verdict("5.6", ETAS["old noise not lowered"]).says
