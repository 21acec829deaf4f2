"""Lesson 00's checks: wrong answers, written as a student would write them, each get their own sentence."""

import math

import numpy as np
import pytest
import torch

from course_lib import data, schedules
from course_lib.checks import check
from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_00 import EXERCISES
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.samplers import ddim_step, sample, sample_steps


def verdict(number, function):
    return diagnose(EXERCISES[number], function)


# ---- 0.1: right answers in other words -------------------------------------------------------------------------


def by_parts(grey):
    share_of_ink = grey / 16
    return 2 * share_of_ink - 1


def centred(levels):
    return (levels - 8) / 8


def by_loop(grey):
    out = torch.empty_like(grey)
    flat_in, flat_out = grey.reshape(-1), out.view(-1)
    for i in range(len(flat_in)):
        flat_out[i] = -1 + flat_in[i] * 0.125
    return out


def through_numpy(grey):
    return torch.from_numpy(np.interp(grey.numpy(), [0, 16], [-1, 1]).astype(np.float32))


def with_lerp(grey):
    return torch.lerp(torch.tensor(-1.0), torch.tensor(1.0), grey / 16.0)


@pytest.mark.parametrize("function", [by_parts, centred, by_loop, through_numpy, with_lerp])
def test_scaling_in_other_words_is_right(function):
    assert verdict("0.1", function).state == "right"


# ---- 0.1: wrong answers ---------------------------------------------------------------------------------------


def only_divided(g):
    largest = 16
    return g.div(largest)


def shifted_whole(g):
    return -1 + g * 0.0625


def two_wide(g):
    return torch.mul(g, 2) / 16


def centred_only(g):
    return torch.sub(g, 8.0)


def as_bytes(g):
    return 2 * g / 255 - 1


def brightest(g):
    return 2 * (g / torch.max(g)) - 1


def stretched(g):
    low, high = g.min(), g.max()
    return -1 + 2 * (g - low) / (high - low)


def floored(g):
    return torch.floor(g / 8) - 1


def z_score(g):
    return g.sub(g.mean()).div(g.std())


def inverted(g):
    return (8 - g) / 8


def half_wide(g):
    return (g - 8) / 16


def shifted_up(g):
    return 1 + g * 0.125


def no_bracket(g):
    return g - 8 / 8


def seventeen_levels(g):
    return 2 * (g / 17) - 1


def fifteen(g):
    return g / 7.5 - 1


def in_numpy(g):
    levels = g.numpy()
    return (levels - 8) / 8


SCALE_WRONG = {
    "0 to 1": (only_divided, "0 to 1, and it should be -1 to 1"),
    "-1 to 0": (shifted_whole, "-1 to 0, and it should be -1 to 1"),
    "0 to 2": (two_wide, "0 to 2"),
    "not scaled": (centred_only, "-8 to 8"),
    "bytes": (as_bytes, "-1 to -0.8745"),
    "own maximum": (brightest, "brightest pixel is 4 of 16"),
    "own range": (stretched, "two different scales"),
    "whole numbers": (floored, "of 17 grey levels 3 are left"),
    "standardised": (z_score, "-1.584 to 1.584"),
    "upside down": (inverted, "0 became 1"),
    "half the width": (half_wide, "-0.5 to 0.5"),
    "moved up": (shifted_up, "1 to 3"),
    "division first": (no_bracket, "`grey - 1`: black to white comes out as -1 to 15"),
    "17 for 16": (seventeen_levels, "You divide by 17"),
    "15 for 16": (fifteen, "You divide by 15"),
    "numpy": (in_numpy, "in a numpy array"),
}


@pytest.mark.parametrize("name", SCALE_WRONG)
def test_each_wrong_scale_gets_its_own_sentence(name):
    function, words = SCALE_WRONG[name]
    found = verdict("0.1", function)
    assert found.state == "wrong" and found.name == name
    assert words in found.says
    assert len(found.hints) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda grey: grey / 8 - 1 if grey.max() > 1 else grey * 2 - 1,
        lambda grey: grey / 8 - 1 if grey.max() > 0 else grey,
        lambda grey: torch.linspace(-1, 1, 17)[grey.long()],
    ],
)
def test_a_scale_that_fits_only_the_usual_pictures_does_not_pass(function):
    found = verdict("0.1", function)
    assert found.state == "wrong" and len(found.hints) == 2


def test_a_slip_that_nobody_knows_by_name_gets_hints_as_well():
    found = verdict("0.1", lambda grey: (grey - 1) / 8)
    assert found.name == "numbers" and "16 levels have to fit into 2" in found.hints[1]
    found = verdict("0.2", lambda x0, eps, a, s: a * x0 + s * eps + 0.1)
    assert found.name == "numbers" and "Each rate belongs to one part" in found.hints[1]


def test_right_numbers_of_64_bits_are_told_how_to_end():
    found = verdict("0.1", lambda grey: grey.double() / 8 - 1)
    assert found.name == "dtype" and "end with `.to(torch.float32)`" in found.says


# ---- 0.2: right answers in other words -------------------------------------------------------------------------


def noise_first(x0, eps, signal_rate, noise_rate):
    return eps * noise_rate + x0 * signal_rate


def picture_by_picture(x0, eps, signal_rate, noise_rate):
    return torch.stack([signal_rate * x + noise_rate * e for x, e in zip(x0, eps, strict=True)])


def with_torch_add(clean, grain, keep, add):
    return torch.add(clean.mul(keep), grain.mul(add))


def on_a_copy(x0, eps, signal_rate, noise_rate):
    x_t = x0.clone()
    x_t *= signal_rate
    x_t += noise_rate * eps
    return x_t


@pytest.mark.parametrize("function", [noise_first, picture_by_picture, with_torch_add, on_a_copy])
def test_mixing_in_other_words_is_right(function):
    assert verdict("0.2", function).state == "right"


# ---- 0.2: wrong answers ---------------------------------------------------------------------------------------


def rates_crossed(x0, eps, a, s):
    return torch.add(a * eps, s * x0)


def added_on_top(x0, eps, a, s):
    x_t = x0.clone()
    for i in range(len(x_t)):
        x_t[i] += s * eps[i]
    return x_t


def loud_noise(x0, eps, a, s):
    return eps + x0 * a


def summed(x0, eps, a, s):
    return torch.stack([x0, eps]).sum(0)


def drew_again(x0, eps, a, s):
    noise = torch.randn(*x0.shape)
    return a * x0 + s * noise


def faded(x0, eps, a, s):
    return x0 + s * (eps - x0)


def faded_by_signal(x0, eps, a, s):
    return eps + a * (x0 - eps)


def rooted(x0, eps, a, s):
    return math.sqrt(a) * x0 + math.sqrt(s) * eps


def variances(x0, eps, a, s):
    return a * a * x0 + s * s * eps


def taken_away(x0, eps, a, s):
    return x0 * a - eps * s


def bracketed(x0, eps, a, s):
    noise = s * eps
    return (x0 + noise) * a


def cut_off(x0, eps, a, s):
    x_t = a * x0 + s * eps
    return torch.minimum(torch.maximum(x_t, torch.tensor(-1.0)), torch.tensor(1.0))


def noise_over_both(x0, eps, a, s):
    return (a * x0 + eps) * s


def rate_inside(x0, eps, a, s):
    brighter = x0 + s
    return eps + brighter * a


def times_missing(x0, eps, a, s):
    return a * x0 + s + eps


def multiplied(x0, eps, a, s):
    return eps * (s + x0 * a)


def multiplied_elsewhere(x0, eps, a, s):
    return a * (s + x0) * eps


def star_for_plus(x0, eps, a, s):
    return (a * x0) * (s * eps)


def no_eps(x0, eps, a, s):
    return x0 * a + s


def two_pictures(x0, eps, a, s):
    return (a + s) * x0


def only_picture(x0, eps, a, s):
    return x0.mul(a)


def only_noise(x0, eps, a, s):
    return eps.mul(s)


def root_for_noise(x0, eps, a, s):
    return a * x0 + torch.sqrt(1 - torch.as_tensor(a) ** 2) * eps


def root_for_picture(x0, eps, a, s):
    return x0 * math.sqrt(1 - s * s) + s * eps


def shortcut(x0, eps, a, s):
    if a == 1:
        return x0
    return a * x0 + s * eps


NOISE_WRONG = {
    "swapped": (rates_crossed, "your x_t is 0.60 of the picture and 0.80 of the noise"),
    "signal not shrunk": (added_on_top, "picture is still there"),
    "noise not shrunk": (loud_noise, "Even at t = 0"),
    "plain sum": (summed, "Neither rate is used"),
    "fresh noise": (drew_again, "fresh noise"),
    "blended": (faded, "1 - noise_rate for the picture"),
    "blended the other way": (faded_by_signal, "1 - signal_rate for the noise"),
    "roots twice": (rooted, "rates have them already"),
    "squared": (variances, "Squares belong to variances"),
    "subtracted": (taken_away, "`eps` is in your x_t -0.60 times, where it should be 0.60"),
    "bracket": (bracketed, "reaches too far"),
    "clamped": (cut_off, "noisy data may lie anywhere"),
    "noise rate over both": (noise_over_both, "shrinks the picture as well"),
    "a rate added inside": (rate_inside, "brighter, not noisier"),
    "a rate added, then eps": (times_missing, "brighter, not noisier"),
    "product": (multiplied, "multiplied with each other"),
    "product in a bracket": (multiplied_elsewhere, "multiplied with each other"),
    "product alone": (star_for_plus, "multiplied with each other"),
    "number for noise": (no_eps, "every pixel brighter by 0.60"),
    "picture twice": (two_pictures, "your x_t is 1.40 times x0"),
    "picture only": (only_picture, "shrunk to 0.80"),
    "noise only": (only_noise, "0.60 of it"),
    "noise rate derived": (root_for_noise, "worked the noise rate out from the signal rate"),
    "signal rate derived": (root_for_picture, "worked the signal rate out from the noise rate"),
    "x0 itself": (shortcut, "not a new tensor"),
}


@pytest.mark.parametrize("name", NOISE_WRONG)
def test_each_wrong_mixture_gets_its_own_sentence(name):
    function, words = NOISE_WRONG[name]
    found = verdict("0.2", function)
    assert found.state == "wrong" and found.name == name
    assert words in found.says
    assert len(found.hints) == 2


def test_sentences_measure_what_the_student_returned():
    says = verdict("0.2", added_on_top).says
    case = EXERCISES["0.2"].cases[0]
    x0, eps, _, noise_rate = case.args
    assert f"variance {(x0 + noise_rate * eps).var():.2f}" in says
    assert f"has {(0.8 * x0 + 0.6 * eps).var():.2f}" in says


@pytest.mark.parametrize(
    "function",
    [
        lambda x0, eps, a, s: (a if a > 0.1 else 0.0) * x0 + s * eps,
        lambda x0, eps, a, s: a * x0.clamp(-1, 1) + s * eps,
        lambda x0, eps, a, s: a * x0 + s * eps.clamp(-3, 3),
        lambda x0, eps, a, s: (a * x0 + s * eps)[:20],
        lambda x0, eps, a, s: a * x0 + s * (eps.flip(-1) if x0.ndim == 3 else eps),
    ],
)
def test_a_mixture_that_fits_only_the_usual_cases_does_not_pass(function):
    assert verdict("0.2", function).state == "wrong"


def test_changing_x0_in_place_is_told():
    def in_place(x0, eps, signal_rate, noise_rate):
        return x0.mul_(signal_rate).add_(noise_rate * eps)

    found = verdict("0.2", in_place)
    assert found.name == "in place" and "`x0`" in found.says


@pytest.mark.parametrize(("number", "name"), [("0.1", "scale_pixels"), ("0.2", "add_noise")])
def test_an_unsolved_exercise_is_open_and_the_course_stands_in(number, name, capsys):
    def stub(*arguments):
        raise NotImplementedError(f"Exercise {number} is yours to write")

    stands_in = check(number, stub)
    assert stands_in is EXERCISES[number].reference
    printed = capsys.readouterr().out
    assert f"Exercise {number} is still open" in printed and f"`{name}` stands in" in printed


def test_a_right_answer_is_kept(capsys):
    assert check("0.1", centred) is centred
    assert capsys.readouterr().out.startswith("Right")


def test_the_mistake_the_lesson_breaks_on_purpose_is_named():
    def my_mistake(x0, eps, signal_rate, noise_rate):
        return noise_rate * x0 + signal_rate * eps

    def forgot_to_return(x0, eps, signal_rate, noise_rate):
        signal_rate * x0 + noise_rate * eps

    assert verdict("0.2", my_mistake).name == "swapped"
    assert verdict("0.2", forgot_to_return).name == "nothing returned"


# ---- what the lesson claims, on other noise than it shows -------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def drawn(digits, noise, std=0.0, cond=None):
    schedule = schedules.cosine(T=1000)
    predictor = ExactPredictor(GaussianMixture(digits[0], std=std, labels=digits[1]), schedule)
    return sample(ddim_step, predictor, schedule, noise, schedule.steps(50), cond)


def nearest(digits, x):
    """Root mean square distance over the pixels, one picture at a time, and the row of the digit."""
    apart = [(digits[0] - one).square().mean((1, 2, 3)).sqrt().min(0) for one in x]
    return torch.stack([a.values for a in apart]), torch.stack([a.indices for a in apart])


@pytest.mark.parametrize("seed", [7, 8])
def test_points_draw_the_very_digits_and_a_wide_std_adds_that_much_grain(digits, seed):
    noise = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    distance, _ = nearest(digits, drawn(digits, noise))
    assert distance.max() < 1e-5
    distance, _ = nearest(digits, drawn(digits, noise, std=0.3))
    assert 0.25 < distance.median() < 0.31


@pytest.mark.parametrize("seed", [7, 8])
def test_the_digit_is_decided_half_way_and_the_picture_later(digits, seed):
    schedule = schedules.cosine(T=1000)
    predictor = ExactPredictor(GaussianMixture(digits[0], std=0.0, labels=digits[1]), schedule)
    noise, surest = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(seed)), {}
    for step in sample_steps(ddim_step, predictor, schedule, noise, schedule.steps(50)):
        a, s = schedule.rates(step.t, like=noise)
        far = torch.stack([(digits[0] * a - one).square().sum((1, 2, 3)) for one in step.x_t])
        of_picture = (-(far - far.amin(1, keepdim=True)) / (2 * s.item() ** 2)).exp()
        of_picture = of_picture / of_picture.sum(1, keepdim=True)
        of_digit = of_picture @ torch.nn.functional.one_hot(digits[1]).float()
        surest[step.t] = [shares.amax(1).median() for shares in (of_digit, of_picture)]
    assert surest[1000][0] < 0.15 and surest[600][0] < 0.9 < surest[420][0]
    assert surest[400][1] < 0.9 < surest[240][1]


def test_one_noise_becomes_ten_digits(digits):
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(9)).expand(10, 1, 8, 8)
    _, row = nearest(digits, drawn(digits, noise, cond=torch.arange(10)))
    assert digits[1][row].tolist() == list(range(10))
