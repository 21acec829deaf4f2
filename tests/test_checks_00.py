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
from course_lib.samplers import ddim_step, sample


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
}


@pytest.mark.parametrize("name", SCALE_WRONG)
def test_each_wrong_scale_gets_its_own_sentence(name):
    function, words = SCALE_WRONG[name]
    found = verdict("0.1", function)
    assert found.state == "wrong" and found.name == name
    assert words in found.says
    assert len(found.hints) == 2


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


NOISE_WRONG = {
    "swapped": (rates_crossed, "your x_t is 56% picture and 79% noise"),
    "signal not shrunk": (added_on_top, "picture is still there"),
    "noise not shrunk": (loud_noise, "Even at t = 0"),
    "plain sum": (summed, "Neither rate is used"),
    "fresh noise": (drew_again, "fresh noise"),
    "blended": (faded, "1 - noise_rate for the picture"),
    "blended the other way": (faded_by_signal, "1 - signal_rate for the noise"),
    "roots twice": (rooted, "rates have them already"),
    "squared": (variances, "Squares belong to variances"),
    "subtracted": (taken_away, "% of `eps` is in your x_t"),
    "bracket": (bracketed, "reaches too far"),
    "clamped": (cut_off, "noisy data may lie anywhere"),
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


def test_a_root_that_happens_to_fit_is_caught_where_the_rates_add_up_to_one():
    def derived(x0, eps, signal_rate, noise_rate):
        return signal_rate * x0 + (1 - signal_rate**2) ** 0.5 * eps

    found = verdict("0.2", derived)
    assert found.state == "wrong" and "rates that add up to one" in found.says


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


def test_one_noise_becomes_ten_digits(digits):
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(9)).expand(10, 1, 8, 8)
    _, row = nearest(digits, drawn(digits, noise, cond=torch.arange(10)))
    assert digits[1][row].tolist() == list(range(10))
