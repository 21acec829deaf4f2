"""Lesson 02's checks: wrong answers, written as a student would write them, each get their own sentence."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own examples write it

from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_02 import EXERCISES
from course_lib.samplers import ddim_step
from course_lib.schedules import linear_beta
from course_lib.types import Prediction


def verdict(number, function):
    return diagnose(EXERCISES[number], function)


# ---- right answers in other words ----


def guess_by_loops(x_t, points, a, s):
    out = []
    for value in x_t.tolist():
        scores = [-((value - a * p) ** 2) / (2 * s * s) for p in points.tolist()]
        weights = [math.exp(score - max(scores)) for score in scores]
        out.append(sum(w * p for w, p in zip(weights, points.tolist(), strict=True)) / sum(weights))
    return torch.tensor(out)


def guess_by_matrix(x_t, points, a, s):
    # the square of x_t is the same for all points, so softmax does not see it
    scores = (a * torch.outer(x_t, points) - a**2 * points**2 / 2) / s**2
    return F.softmax(scores, -1) @ points


def solve_by_torch(out, noisy, a, s, c, d):
    rows = [torch.cat([rate.reshape(-1, 1) for rate in row], dim=1) for row in ((a, s), (c, d))]
    right = torch.stack([noisy.flatten(1), out.flatten(1)], dim=1)
    both = torch.linalg.solve(torch.stack(rows, dim=1), right)  # (B, 2, pixels)
    return both[:, 0].reshape(noisy.shape), both[:, 1].reshape(noisy.shape)


def solve_with_a_list(out, noisy, a, s, c, d):
    det = a * d - c * s
    return [(noisy * d - out * s).div(det), (out * a - noisy * c).div(det)]


def loss_noise_first(net, x0, schedule, generator):
    noise = torch.empty_like(x0).normal_(generator=generator)
    t = 1 + torch.randint(schedule.T, x0.shape[:1], generator=generator)
    kept = schedule.alpha_bar.float()[t].view(-1, *[1] * (x0.dim() - 1))
    guess = net(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t.float() / schedule.T)
    return F.mse_loss(guess, noise)


def loss_with_add_noise(net, x0, schedule, generator):
    batch = x0.shape[0]
    steps = torch.randint(1, schedule.T + 1, size=[batch], generator=generator)
    eps = torch.randn(*x0.shape, generator=generator)
    error = net(schedule.add_noise(x0, steps, eps), steps / schedule.T) - eps
    return error.pow(2).sum() / error.numel()


def step_from_eps(predictor, schedule, x_t, t, noise):
    """The same mean as DDPM writes it in algorithm 2."""
    eps = predictor(x_t, torch.full((len(x_t),), t)).eps
    beta, ab = float(schedule.beta[t]), float(schedule.alpha_bar[t])
    x = (x_t - beta / math.sqrt(1 - ab) * eps) / math.sqrt(1 - beta)
    return x + math.sqrt(beta * (1 - float(schedule.alpha_bar[t - 1])) / (1 - ab)) * noise


def step_by_ddim(predictor, schedule, x_t, t, noise):
    return ddim_step(predictor, schedule, x_t, t, t - 1, eta=1.0, noise=noise).x_next


def learn_zeroing_last(optimizer, loss_fn, x0, generator):
    loss = loss_fn(x0, generator)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def learn_zeroing_first(optimizer, loss_fn, x0, generator):
    optimizer.zero_grad(set_to_none=False)
    value = loss_fn(x0, generator)
    value.backward()
    optimizer.step()
    return value.detach().numpy().tolist()


@pytest.mark.parametrize(
    ("number", "function"),
    [
        ("2.1", guess_by_loops),
        ("2.1", guess_by_matrix),
        ("2.2", solve_by_torch),
        ("2.3", loss_noise_first),
        ("2.3", loss_with_add_noise),
        ("2.4", step_from_eps),
        ("2.4", step_by_ddim),
        ("2.5", learn_zeroing_last),
        ("2.5", learn_zeroing_first),
    ],
)
def test_other_words_are_right_too(number, function):
    found = verdict(number, function)
    assert found.passed, str(found)


def test_a_list_in_place_of_a_pair_is_right_too():
    assert verdict("2.2", solve_with_a_list).passed


# ---- 2.1: wrong answers ----


def loop_nearest(x_t, points, a, s):
    return torch.stack([min(points, key=lambda p: abs(v - a * p)) for v in x_t])


def loop_mean(x_t, points, a, s):
    return torch.full((len(x_t),), float(points.sum() / len(points)))


def bells(x_t, points, a, variance, axis=1):
    scores = (x_t.unsqueeze(1) - a * points.unsqueeze(0)).pow(2) / (-2 * variance)
    return (scores.softmax(axis) * points).sum(1)


GUESSES = {
    "nearest point": loop_nearest,
    "x_t ignored": loop_mean,
    "points not shrunk": lambda x_t, points, a, s: bells(x_t, points, 1, s**2),
    "s not squared": lambda x_t, points, a, s: bells(x_t, points, a, s),
    "half missing": lambda x_t, points, a, s: bells(x_t, points, a, s * s / 2),
    "sign": lambda x_t, points, a, s: bells(x_t, points, a, -(s * s)),
    "softmax across the batch": lambda x_t, points, a, s: bells(x_t, points, a, s * s, axis=0),
    "rescaled": lambda noisy, points, a, s: noisy.div(a),
    "divided by a": lambda x_t, points, a, s: bells(x_t / a, points, 1.0, (s / torch.tensor(a)) ** 2),
    "rates exchanged": lambda x_t, points, a, s: bells(x_t, points, s, torch.tensor(a) ** 2),
    "divided and multiplied": lambda x_t, points, a, s: bells(x_t, points, a, 1 / (s * s)),
}


@pytest.mark.parametrize("name", GUESSES)
def test_wrong_guesses_are_known(name):
    assert verdict("2.1", GUESSES[name]).name == name


def mean_of_shares(x_t, points, a, s):
    share = (-((x_t.reshape(-1, 1) - a * points) ** 2) / (2 * s * s)).softmax(-1)
    return torch.mean(share * points, -1)


def exp_then_softmax(x_t, points, a, s):
    height = torch.exp(-0.5 * ((x_t.reshape(-1, 1) - a * points) / s) ** 2)
    return height.softmax(-1) @ points


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("mean for sum", mean_of_shares, "0.14 at x_t = 0.3, where 0.27 is right"),
        ("softmax of exp", exp_then_softmax, "The exponential is taken twice"),
    ],
)
def test_shares_that_are_spoilt_on_the_way_are_known(name, function, words):
    found = verdict("2.1", function)
    assert found.name == name and words in found.says


def test_exponentials_by_hand_are_told_about_underflow():
    def by_hand(x_t, points, a, s):
        w = torch.stack([(-((x_t - a * p) ** 2) / (2 * s**2)).exp() for p in points], dim=1)
        return (w / w.sum(1, keepdim=True)) @ points

    found = verdict("2.1", by_hand)
    assert found.name == "underflow" and "softmax" in found.hints[1]


def test_weights_that_do_not_add_up_are_told_so():
    def lazy(x_t, points, a, s):
        return sum((-((x_t - a * p) ** 2) / (2 * s**2)).exp() * p for p in points)

    assert verdict("2.1", lazy).name == "shares not normalised"


# ---- 2.2: wrong answers ----


def crossed(out, x_t, a, s, c, d):
    x0, eps = solve_with_a_list(out, x_t, a, s, c, d)
    return eps, x0


def bare(out, x_t, a, s, c, d):
    return x_t.mul(d) - out.mul(s), out.mul(a) - x_t.mul(c)


def plus_sign(out, x_t, a, s, c, d):
    det = c * s + a * d
    return (d * x_t - s * out) / det, (a * out - c * x_t) / det


def ddpm_only(out, x_t, a, s, c, d):
    eps = out
    return (x_t - s * eps) / a, eps


def lost_s(out, x_t, a, s, c, d):
    eps = solve_with_a_list(out, x_t, a, s, c, d)[1]
    return (x_t - eps) / a, eps


def lost_a(out, x_t, a, s, c, d):
    eps = solve_with_a_list(out, x_t, a, s, c, d)[1]
    return x_t - eps * s, eps


def columns(out, x_t, a, s, c, d):
    x0, eps = solve_with_a_list(out, x_t, a, c, s, d)
    return x0, eps


def wrong_sign_x0(out, x_t, a, s, c, d):
    return (s * out + d * x_t) / (a * d - c * s), solve_with_a_list(out, x_t, a, s, c, d)[1]


def wrong_sign_eps(out, x_t, a, s, c, d):
    return solve_with_a_list(out, x_t, a, s, c, d)[0], (c * x_t + a * out) / (a * d - c * s)


def mistaken_for_each_other(out, x_t, a, s, c, d):
    x_t, out = out, x_t
    det = a * d - c * s
    return (d * x_t - s * out) / det, (a * out - c * x_t) / det


def no_brackets(out, x_t, a, s, c, d):
    det = a * d - c * s
    return d * x_t - s * out / det, a * out - c * x_t / det


def plain_difference(out, x_t, a, s, c, d):
    eps = (out * a - x_t * c) / (d * a - c * s)
    return x_t - eps, eps


def in_one_tensor(out, x_t, a, s, c, d):
    pair = solve_with_a_list(out, x_t, a, s, c, d)
    return torch.stack((pair[0], pair[1]), dim=0)


SOLUTIONS = {
    "plus in x0": wrong_sign_x0,
    "plus in eps": wrong_sign_eps,
    "inputs exchanged": mistaken_for_each_other,
    "brackets missing": no_brackets,
    "no rates": plain_difference,
    "stacked": in_one_tensor,
    "order turned": crossed,
    "not divided": bare,
    "determinant with a plus": plus_sign,
    "always noise": ddpm_only,
    "noise rate missing": lost_s,
    "signal rate missing": lost_a,
    "table transposed": columns,
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_wrong_solutions_are_known(name):
    assert verdict("2.2", SOLUTIONS[name]).name == name


def test_a_wrong_sign_is_measured_by_putting_the_pair_back():
    output, x_t, a, s, c, d = EXERCISES["2.2"].cases[0].args
    x0, eps = wrong_sign_x0(output, x_t, a, s, c, d)
    missed = float((a * x0 + s * eps - x_t).abs().max())
    assert f"misses x_t by up to {missed:.2g}" in verdict("2.2", wrong_sign_x0).says


# ---- 2.3: wrong answers ----


def student_loss(draw_t, draw_eps=torch.randn_like, mix=None, time=None, score=F.mse_loss):
    """Put a loss together from the parts that a student may get wrong."""

    def denoising_loss(net, x0, schedule, generator):
        t, eps = draw_t(x0, schedule, generator), draw_eps(x0, generator)
        a, s = schedule.rates(t, x0)
        x_t = mix(a, s, x0, eps) if mix else x0 * a + eps * s
        return score(net(x_t, time(t, schedule) if time else t / schedule.T), eps)

    return denoising_loss


def every_t(x0, schedule, generator):
    return torch.randint(1, schedule.T + 1, (x0.shape[0],), generator=generator)


def normal(x0, generator):
    return torch.randn(x0.shape, generator=generator)


def from_zero(x0, schedule, g):
    return (torch.rand(len(x0), generator=g) * schedule.T).long()


def zero_to_T(x0, schedule, g):
    return torch.randint(schedule.T + 1, [len(x0)], generator=g)


def short_of_T(x0, schedule, g):
    return torch.randint(1, schedule.T, [len(x0)], generator=g)


def single_t(x0, schedule, g):
    return torch.randint(1, schedule.T + 1, (1,), generator=g).repeat(len(x0))


def same_noise(x0, g):
    return torch.randn(x0[0].shape, generator=g).unsqueeze(0).repeat(len(x0), *[1] * (x0.dim() - 1))


def global_noise(x0, g):
    return torch.randn_like(x0)


def new_target(net, x0, schedule, generator):
    t = every_t(x0, schedule, generator)
    x_t = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=generator))
    return F.mse_loss(net(x_t, t / schedule.T), torch.randn(x0.shape, generator=generator))


def target_x0(net, x0, schedule, generator):
    t = every_t(x0, schedule, generator)
    return F.mse_loss(net(schedule.add_noise(x0, t, normal(x0, generator)), t / schedule.T), x0)


def without_gradient(net, x0, schedule, generator):
    with torch.no_grad():
        return loss_with_add_noise(net, x0, schedule, generator)


def squeezed(x0, g):
    low, high = -(3**0.5), 3**0.5
    return low + (high - low) * torch.rand(x0.shape, generator=g)


def always_seed_0(net, x0, schedule, generator):
    generator = torch.Generator()
    generator.manual_seed(0)
    return loss_with_add_noise(net, x0, schedule, generator)


def noise_of_seed_0(x0, g):
    return torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))


def ends_with_backward(net, x0, schedule, generator):
    loss = loss_with_add_noise(net, x0, schedule, generator)
    loss.backward()
    return loss


def by_the_row(x0, schedule, g):
    return torch.tensor([1 + k % schedule.T for k in range(len(x0))])


GLOBAL = linear_beta(1000)


def from_the_notebook(net, x0, schedule, generator):
    return loss_with_add_noise(net, x0, GLOBAL, generator)


def counts_to_1000(net, x0, schedule, generator):
    t = torch.randint(1, 1001, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    return F.mse_loss(net(schedule.add_noise(x0, t, eps), t / 1000), eps)


def noise_as_it_lies_there(net, x0, schedule, generator):
    t, eps = every_t(x0, schedule, generator), normal(x0, generator)
    a, s = schedule.rates(t, x0)
    noise = s * eps
    return F.mse_loss(net(a * x0 + noise, t / schedule.T), noise)


LOSSES = {
    "own T": counts_to_1000,
    "whole division": student_loss(every_t, normal, time=lambda t, schedule: t // schedule.T),
    "even noise": student_loss(every_t, squeezed),
    "one noise a point": student_loss(every_t, lambda x0, g: torch.randn((len(x0), 1), generator=g) + 0 * x0),
    "noise in 64 bits": student_loss(every_t, lambda x0, g: torch.randn(x0.shape, generator=g).double()),
    "scaled target": noise_as_it_lies_there,
    "half": student_loss(every_t, normal, score=lambda out, eps: 0.5 * F.mse_loss(out, eps)),
    "root": student_loss(every_t, normal, score=lambda out, eps: F.mse_loss(out, eps) ** 0.5),
    "absolute": student_loss(every_t, normal, score=F.l1_loss),
    "in turn": student_loss(by_the_row, normal),
    "own generator": always_seed_0,
    "backward inside": ends_with_backward,
    "t from 0 to T-1": student_loss(from_zero, normal),
    "row 0 drawn too": student_loss(zero_to_T, normal),
    "last step never drawn": student_loss(short_of_T, normal),
    "one t for the whole batch": student_loss(single_t, normal),
    "t not divided by T": student_loss(every_t, normal, time=lambda t, schedule: t),
    "one noise for the batch": student_loss(every_t, same_noise),
    "noise from rand": student_loss(every_t, lambda x0, g: torch.rand(x0.shape, generator=g)),
    "rates swapped": student_loss(every_t, normal, mix=lambda a, s, x0, eps: s * x0 + a * eps),
    "rates squared": student_loss(every_t, normal, mix=lambda a, s, x0, eps: a * a * x0 + (1 - a * a) * eps),
    "compared with x0": target_x0,
    "other noise asked for": new_target,
    "gradient cut": without_gradient,
    "generator not used": student_loss(every_t, global_noise),
    "summed": student_loss(every_t, normal, score=lambda out, eps: F.mse_loss(out, eps, reduction="sum")),
}


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_losses_are_known(name):
    found = verdict("2.3", LOSSES[name])
    assert found.name == name, str(found)
    assert "{" not in found.says


def test_noise_of_one_seed_is_found_though_t_is_drawn():
    assert verdict("2.3", student_loss(every_t, noise_of_seed_0)).name == "own generator"


def test_a_schedule_from_outside_is_told_by_its_times():
    found = verdict("2.3", from_the_notebook)
    assert found.name == "time off" and "of the schedule that comes in" in found.hints[0]


def twice(net, x0, schedule, generator):
    return loss_with_add_noise(net, x0, schedule, generator) + loss_with_add_noise(net, x0, schedule, generator)


def in_place(net, x0, schedule, generator):
    t, eps = every_t(x0, schedule, generator), normal(x0, generator)
    a, s = schedule.rates(t, x0)
    x0.mul_(a).add_(s * eps)
    return F.mse_loss(net(x0, t / schedule.T), eps)


def points_only(net, x0, schedule, generator):
    t, eps = every_t(x0, schedule, generator), normal(x0, generator)
    a, s = schedule.signal_rate.float()[t][:, None], schedule.noise_rate.float()[t][:, None]
    x_t = (a * x0.flatten(1) + s * eps.flatten(1)).reshape(len(x0), -1)
    return F.mse_loss(net(x_t, t / schedule.T), eps.flatten(1))


def loud_for_large_x0(x0, g):
    return torch.randn(x0.shape, generator=g) + 0.5 * x0


OTHERS = {
    "asked once": twice,
    "in place": in_place,
    "pictures": points_only,
    "nothing returned": lambda net, x0, schedule, generator: None,
    "no single number": student_loss(every_t, normal, score=lambda out, eps: F.mse_loss(out, eps).reshape(1)),
    "value off": student_loss(every_t, normal, score=F.smooth_l1_loss),
    "t uneven": student_loss(
        lambda x0, schedule, g: (torch.rand(len(x0), generator=g) ** 2 * schedule.T).long() + 1, normal
    ),
    "time off": student_loss(every_t, normal, time=lambda t, schedule: t / (schedule.T + 1)),
    "shape of t": student_loss(every_t, normal, time=lambda t, schedule: t[:, None] / schedule.T),
    "shape of x_t": student_loss(
        every_t, normal, mix=lambda a, s, x0, eps: (a * x0 + s * eps)[:, :1], score=lambda out, eps: out.square().mean()
    ),
    "x_t off": student_loss(every_t, loud_for_large_x0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_wrong_losses_get_a_sentence_that_says_where(name):
    found = verdict("2.3", OTHERS[name])
    assert found.name == name, str(found)


def test_an_error_in_the_students_loss_is_named():
    found = verdict("2.3", lambda net, x0, schedule, generator: net(x0))
    assert found.state == "wrong" and "TypeError" in found.says


# ---- 2.4: wrong answers ----


def step(mean=None, std=None):
    """Put a step together from a mean and a deviation that a student may get wrong."""

    def reverse_step(predictor, schedule, x_t, t, noise):
        guess = predictor(x_t, torch.full((len(x_t),), t))
        beta, now, then = (
            float(table) for table in (schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1])
        )
        right = x_t - beta / math.sqrt(1 - now) * guess.eps
        centre = mean(guess, x_t, beta, now, then) if mean else right / math.sqrt(1 - beta)
        spread = std(beta, now, then) if std else math.sqrt(beta * (1 - then) / (1 - now))
        return centre + spread * noise

    return reverse_step


def swapped_mean(guess, x_t, beta, now, then):
    return (math.sqrt(then) * beta * x_t + math.sqrt(1 - beta) * (1 - then) * guess.x0) / (1 - now)


def undivided_mean(guess, x_t, beta, now, then):
    return math.sqrt(then) * beta * guess.x0 + math.sqrt(1 - beta) * (1 - then) * x_t


def rows(asked=lambda t: t, row=lambda t: t, swap=False, own=lambda noise, eps: noise, roots=(0.5, 0.5)):
    """Put a step together from the paper's two weights, with one slip."""

    def reverse_step(predictor, schedule, x_t, t, noise):
        x0, eps = predictor(x_t, torch.tensor([asked(t)] * len(x_t)))
        x0, eps = (eps, x0) if swap else (x0, eps)
        beta, now, then = schedule.beta[row(t)], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        of_x0, of_x_t = then ** roots[0] * beta / (1 - now), (1 - beta) ** roots[1] * (1 - then) / (1 - now)
        return of_x0 * x0 + of_x_t * x_t + torch.sqrt(beta * (1 - then) / (1 - now)) * own(noise, eps)

    return reverse_step


def by_precision(predictor, schedule, x_t, t, noise):
    guess = predictor(x_t, torch.full((len(x_t),), t)).x0
    alpha, then = 1 - schedule.beta[t], schedule.alpha_bar[t - 1]
    sharp = alpha / schedule.beta[t] + 1 / (1 - then)
    centre = (alpha.sqrt() / schedule.beta[t] * x_t + then.sqrt() / (1 - then) * guess) / sharp
    return centre + noise / sharp.sqrt()


STEPS = {
    "pair turned": rows(swap=True),
    "own noise": rows(own=lambda noise, eps: torch.randn(noise.shape)),
    "noise subtracted": rows(own=lambda noise, eps: -noise),
    "predicted noise added": rows(own=lambda noise, eps: eps),
    "root of alpha_bar missing": rows(roots=(1, 0.5)),
    "root of 1 - beta missing": rows(roots=(0.5, 1)),
    "beta of the row before": rows(row=lambda t: t - 1),
    "predictor asked about t - 1": rows(asked=lambda t: t - 1),
    "precisions": by_precision,
    "variance for deviation": step(std=lambda beta, now, then: beta * (1 - then) / (1 - now)),
    "noise at the last step": step(std=lambda beta, now, then: math.sqrt(beta)),
    "beta as the variance": step(std=lambda beta, now, then: math.sqrt(beta) if then < 1 else 0.0),
    "noise left out": step(std=lambda beta, now, then: 0.0),
    "straight to x0": lambda predictor, schedule, x_t, t, noise: predictor(x_t, torch.full((len(x_t),), t))[0],
    "x_t forgotten": step(
        lambda guess, x_t, beta, now, then: math.sqrt(then) * guess.x0, lambda beta, now, then: math.sqrt(1 - then)
    ),
    "no noise, but DDIM": lambda predictor, schedule, x_t, t, noise: (
        ddim_step(predictor, schedule, x_t, t, t - 1).x_next
    ),
    "weights swapped": step(swapped_mean),
    "not divided": step(undivided_mean),
    "alpha for alpha_bar": step(
        lambda guess, x_t, beta, now, then: (x_t - math.sqrt(beta) * guess.eps) / math.sqrt(1 - beta),
        lambda beta, now, then: math.sqrt(beta) if then < 1 else 0.0,
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_wrong_steps_are_known(name):
    found = verdict("2.4", STEPS[name])
    assert found.name == name, str(found)


def test_a_bare_t_is_refused_as_a_network_would():
    def with_a_bare_t(predictor, schedule, x_t, t, noise):
        return Prediction(*predictor(x_t, t)).x0

    found = verdict("2.4", with_a_bare_t)
    assert "torch.full" in found.says and not found.passed


def test_a_fraction_of_T_is_told_what_the_predictor_wants():
    def with_a_fraction(predictor, schedule, x_t, t, noise):
        return predictor(x_t, torch.full((len(x_t),), t / schedule.T)).x0

    assert "the step t itself" in verdict("2.4", with_a_fraction).says


# ---- 2.5: wrong answers ----


def sums_up(opt, f, x0, generator):
    value = f(x0, generator)
    value.backward()
    opt.step()
    return float(value.detach())


def forgets(opt, f, x0, generator):
    value = f(x0, generator)
    value.backward()
    opt.zero_grad(set_to_none=True)
    opt.step()
    return value.item()


def idle(opt, f, x0, generator):
    opt.zero_grad()
    value = f(x0, generator)
    value.backward()
    return float(value.detach())


def blind(opt, f, x0, generator):
    opt.zero_grad()
    value = f(x0, generator)
    opt.step()
    return float(value.detach())


def keeps(opt, f, x0, generator):
    opt.zero_grad()
    value = f(x0, generator)
    value.backward()
    opt.step()
    return value


def reports_another(opt, f, x0, generator):
    opt.zero_grad()
    f(x0, generator).backward()
    opt.step()
    return f(x0, generator).item()


def no_generator(opt, f, x0, generator):
    opt.zero_grad()
    value = f(x0, None)
    value.backward()
    opt.step()
    return value.item()


def no_brackets_behind_item(opt, f, x0, generator):
    opt.zero_grad()
    value = f(x0, generator)
    value.backward()
    opt.step()
    return value.item


def as_a_tensor(opt, f, x0, generator):
    opt.zero_grad()
    value = f(x0, generator)
    value.backward()
    opt.step()
    return value.detach()


TRAININGS = {
    "generator left out": no_generator,
    "item not called": no_brackets_behind_item,
    "no plain number": as_a_tensor,
    "gradients pile up": sums_up,
    "gradients wiped": forgets,
    "never stepped": idle,
    "no gradients": blind,
    "graph kept": keeps,
    "asked twice": reports_another,
}


@pytest.mark.parametrize("name", TRAININGS)
def test_wrong_trainings_are_known(name):
    found = verdict("2.5", TRAININGS[name])
    assert found.name == name, str(found)


def test_an_array_is_no_plain_number_either():
    def in_numpy(opt, f, x0, generator):
        return as_a_tensor(opt, f, x0, generator).numpy()

    assert verdict("2.5", in_numpy).name == "no plain number"


def steps_twice(opt, f, x0, generator):
    value = learn_zeroing_first(opt, f, x0, generator)
    opt.step()
    return value


def shrinks(opt, f, x0, generator):
    value = learn_zeroing_first(opt, f, x0, generator)
    with torch.no_grad():
        opt.param_groups[0]["params"][0].mul_(0.9)
    return value


def moves_x0(opt, f, x0, generator):
    value = learn_zeroing_first(opt, f, x0, generator)
    x0.add_(1)
    return value


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (steps_twice, "counts", "The optimiser stepped 6 times in 3 calls"),
        (lambda opt, f, x0, generator: 0.5, "counts", "The loss was asked for 0 times"),
        (shrinks, "weights", "After three calls the weights are"),
        (lambda *inputs: -learn_zeroing_first(*inputs), "report off", "You report -"),
        (lambda *inputs: print(learn_zeroing_first(*inputs)), "nothing returned", "is the `return` missing?"),
        (moves_x0, "in place", "changed x0 in place"),
    ],
)
def test_other_wrong_trainings_are_told_what_was_counted(function, name, words):
    found = verdict("2.5", function)
    assert found.name == name and words in found.says, str(found)


def test_a_loss_without_a_path_back_is_advised_about_no_grad():
    def in_no_grad(opt, f, x0, generator):
        opt.zero_grad()
        with torch.no_grad():
            value = f(x0, generator)
        value.backward()
        opt.step()
        return value.item()

    assert "look for `no_grad`" in verdict("2.5", in_no_grad).says


@pytest.mark.parametrize("number", ["2.1", "2.2", "2.4"])
def test_a_slip_without_a_name_gets_the_exercises_hints(number):
    def nearly(*inputs):
        result = EXERCISES[number].reference(*inputs)
        return (result[0] + 0.1, result[1]) if isinstance(result, tuple) else result + 0.1

    found = verdict(number, nearly)
    assert found.name == "numbers" and len(found.hints) == 2
