"""Lesson 01's checks: wrong answers, written as a student would write them, each get their own sentence."""

import math

import pytest
import torch

from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_01 import EXERCISES
from course_lib.schedules import linear_beta, rescale_zero_terminal_snr

# ---- answers, right and wrong, as students write them ---------------------------------------------------------


def step_with_powers(picture, b, noise):
    keep = (1 - b) ** 0.5
    return noise * b**0.5 + keep * picture


def step_with_math(x, beta, eps):
    return math.sqrt(1 - float(beta)) * x + math.sqrt(float(beta)) * eps


def step_by_loop(x, beta, eps):
    out = torch.zeros_like(x)
    for i in range(len(x)):
        out[i] = torch.sqrt(1 - beta) * x[i] + torch.sqrt(beta) * eps[i]
    return out


def step_out_of_the_head(x, beta, eps):
    alpha = 1 - beta
    return alpha * x + (1 - alpha) * eps


def step_forgetting_a_root(x, beta, eps):
    shrunk = torch.sqrt(1 - beta) * x
    return shrunk + beta * eps


def step_forgetting_the_other_root(x, beta, eps):
    noise = eps * beta**0.5
    return x - beta * x + noise


def step_adding(x, beta, eps):
    std = beta**0.5
    return torch.add(x, eps, alpha=float(std))


def step_crossed(x, beta, eps):
    a, s = beta**0.5, (1 - beta) ** 0.5
    return a * x + s * eps


def step_by_lerp(x, beta, eps):
    return torch.lerp(x, eps, beta.sqrt())


def step_with_fresh_noise(x, beta, eps):
    noise = torch.randn(x.shape)
    return torch.sqrt(1 - beta) * x + torch.sqrt(beta) * noise


def step_removing(x, beta, eps):
    return (1 - beta) ** 0.5 * x - beta**0.5 * eps


def step_in_another_order(x, eps, beta):
    return (1 - beta) ** 0.5 * x + beta**0.5 * eps


def step_kept_on_the_page(x, beta, eps):
    return step_with_powers(x, beta, eps).clip(min=-1, max=1)


def step_normalised(x, beta, eps):
    mixed = step_with_powers(x, beta, eps)
    return mixed / torch.std(mixed)


def jump_by_loop(x0, t, eps, alpha_bar):
    pictures = []
    for i, step in enumerate(t.tolist()):
        pictures.append(alpha_bar[step] ** 0.5 * x0[i] + (1 - alpha_bar[step]) ** 0.5 * eps[i])
    return torch.stack(pictures)


def jump_with_views(x0, t, eps, alpha_bar):
    a = alpha_bar.gather(0, t)
    while a.ndim < x0.ndim:
        a = a.unsqueeze(-1)
    return torch.sqrt(a) * x0 + torch.sqrt(1 - a) * eps


def jump_transposed(x0, t, eps, alpha_bar):
    a, s = alpha_bar[t] ** 0.5, (1 - alpha_bar[t]) ** 0.5
    return (a * x0.movedim(0, -1) + s * eps.movedim(0, -1)).movedim(-1, 0)


def column(values, like):
    return values.view([len(values)] + [1] * (like.ndim - 1))


def jump_without_roots(x0, t, eps, alpha_bar):
    a = column(alpha_bar[t], x0)
    return a * x0 + (1.0 - a) * eps


def jump_with_one_root(x0, t, eps, alpha_bar):
    a = column(alpha_bar[t], x0)
    return a**0.5 * x0 + (1 - a) * eps


def jump_with_the_other_root(x0, t, eps, alpha_bar):
    a = column(alpha_bar[t], x0)
    return eps * torch.sqrt(1 - a) + x0 * a


def jump_like_lerp(x0, t, eps, alpha_bar):
    return torch.lerp(eps, x0, column(alpha_bar[t], x0).sqrt())


def jump_of_one_step(x0, t, eps, alpha_bar):
    beta = column(1 - alpha_bar[t] / alpha_bar[t - 1], x0)
    return (1 - beta).sqrt() * x0 + beta.sqrt() * eps


def jump_counting_from_zero(x0, t, eps, alpha_bar):
    index = t - 1
    return jump_by_loop(x0, index, eps, alpha_bar)


def jump_counting_too_far(x0, t, eps, alpha_bar):
    a = column(alpha_bar[t + 1], x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


def jump_along_the_width(x0, t, eps, alpha_bar):
    a = alpha_bar[t].sqrt()
    s = (1 - alpha_bar[t]).sqrt()
    return a * x0 + s * eps


def jump_for_pictures(x0, t, eps, alpha_bar):
    a = alpha_bar[t][:, None, None, None]
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


def jump_with_the_first_t(x0, t, eps, alpha_bar):
    a = alpha_bar[int(t[0])]
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


def jump_crossed(x0, t, eps, alpha_bar):
    return jump_by_loop(eps, t, x0, alpha_bar)


def jump_with_fresh_noise(x0, t, eps, alpha_bar):
    return jump_by_loop(x0, t, torch.randn(x0.shape), alpha_bar)


USUAL = linear_beta().alpha_bar.float()


def jump_by_the_notebooks_table(x0, t, eps, alpha_bar):
    return jump_by_loop(x0, t, eps, USUAL)


def jump_removing(x0, t, eps, alpha_bar):
    a = column(alpha_bar[t], x0)
    return torch.sqrt(a) * x0 - torch.sqrt(1 - a) * eps


def jump_kept_on_the_page(x0, t, eps, alpha_bar):
    return torch.clip(jump_by_loop(x0, t, eps, alpha_bar), -1.0, 1.0)


def jump_normalised(x0, t, eps, alpha_bar):
    x_t = jump_by_loop(x0, t, eps, alpha_bar)
    return x_t / x_t.std()


def jump_scaling_in_place(x0, t, eps, alpha_bar):
    a = column(alpha_bar[t], x0)
    x0.mul_(a.sqrt())
    return x0 + (1 - a).sqrt() * eps


def table_by_loop(beta):
    rows = [1.0]
    for b in beta:
        rows.append(rows[-1] * (1 - float(b)))
    return torch.tensor(rows, dtype=beta.dtype)


def table_by_logarithms(beta):
    padded = torch.nn.functional.pad(beta, (1, 0))
    return torch.log1p(-padded).cumsum(0).exp()


def table_without_row_0(beta):
    left, rows = 1.0, []
    for b in beta:
        left = left * (1 - b)
        rows.append(left)
    return torch.stack(rows)


def table_called_prev(beta):
    return table_by_loop(beta)[:-1]


def table_turned(beta):
    return torch.cat((torch.cumprod(1 - beta, dim=0), torch.ones(1, dtype=beta.dtype)))


def table_from_zero(beta):
    table = torch.zeros(len(beta) + 1, dtype=beta.dtype)
    table[1:] = torch.cumprod(1 - beta, 0)
    return table


def table_of_betas(beta):
    table = torch.ones(len(beta) + 1, dtype=beta.dtype)
    for t in range(len(beta)):
        table[t + 1] = table[t] * beta[t]
    return table


def table_subtracting(beta):
    table = torch.ones(len(beta) + 1, dtype=beta.dtype)
    for t in range(len(beta)):
        table[t + 1] = table[t] - beta[t]
    return table


def table_of_single_steps(beta):
    return 1 - torch.nn.functional.pad(beta, (1, 0))


def table_of_rates(beta):
    return table_by_loop(beta) ** 0.5


def table_of_noise(beta):
    return 1 - table_by_loop(beta)


def table_overwritten(beta):
    a = torch.cumprod(1 - beta, dim=0)
    a[0] = 1.0
    return a


def table_with_a_copied_row(beta):
    a = torch.cumprod(1 - beta, dim=0)
    return torch.cat((a[0:1], a))


def table_by_exp_of_sum(beta):
    return torch.exp(-torch.nn.functional.pad(beta, (1, 0)).cumsum(0))


def clock_by_difference(alpha_bar):
    return torch.log(alpha_bar) - torch.log(1 - alpha_bar)


def clock_by_logit(alpha_bar):
    return torch.logit(alpha_bar)


def clock_to_base_10(alpha_bar):
    return torch.log10(alpha_bar) - torch.log10(1 - alpha_bar)


def clock_in_decibels(alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return 10 * torch.log10(snr)


def clock_in_octaves(alpha_bar):
    return torch.log2(alpha_bar / (1 - alpha_bar))


def clock_of_rates(alpha_bar):
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    return torch.log(signal / noise)


def clock_upside_down(alpha_bar):
    return -torch.logit(alpha_bar)


def clock_without_log(alpha_bar):
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    return (signal / noise) ** 2


def clock_of_the_signal(alpha_bar):
    return torch.log(alpha_bar)


def clock_dividing_logs(alpha_bar):
    return torch.log(alpha_bar) / torch.log(1 - alpha_bar)


def clock_mixing_roots(alpha_bar):
    return torch.log(alpha_bar / torch.sqrt(1 - alpha_bar))


def clock_of_the_top(alpha_bar):
    return torch.log(alpha_bar) / (1 - alpha_bar)


def clock_without_brackets(alpha_bar):
    return torch.log(alpha_bar / 1 - alpha_bar)


def clock_from_0(alpha_bar):
    r = clock_by_difference(alpha_bar)
    r[0] = 0.0
    return r


def clock_made_finite(alpha_bar):
    return torch.nan_to_num(torch.logit(alpha_bar))


def zero_by_rows(alpha_bar):
    a = [math.sqrt(value) for value in alpha_bar]
    out = [1.0] + [((x - a[-1]) * a[1] / (a[1] - a[-1])) ** 2 for x in a[1:]]
    return torch.tensor(out, dtype=alpha_bar.dtype)


def zero_without_roots(alpha_bar):
    out = alpha_bar - alpha_bar[-1]
    out = out * (alpha_bar[1] / out[1])
    out[0] = 1.0
    return out


def zero_as_rates(alpha_bar):
    return zero_by_rows(alpha_bar).sqrt()


def zero_at_the_end(alpha_bar):
    return torch.cat([alpha_bar[:-1], torch.zeros(1, dtype=alpha_bar.dtype)])


def zero_by_shift(alpha_bar):
    a = torch.sqrt(alpha_bar)
    a = a - a[-1]
    a[0] = 1
    return a * a


def zero_with_a_large_row_0(alpha_bar):
    a = alpha_bar**0.5
    shifted = a - a[-1]
    return (shifted * a[1] / shifted[1]) ** 2


def zero_around_row_0(alpha_bar):
    a = alpha_bar**0.5
    return ((a - a[-1]) / (a[0] - a[-1])) ** 2


def zero_rooted_twice(alpha_bar):
    return zero_by_rows(alpha_bar) ** 0.25


def zero_lost_on_the_way(alpha_bar):
    a = alpha_bar.sqrt()
    a = a - a[-1]
    return alpha_bar


def zero_overwriting(alpha_bar):
    new = zero_by_rows(alpha_bar)
    for i in range(len(new)):
        alpha_bar[i] = new[i]
    return alpha_bar


RIGHT = {
    "1.1": [step_with_powers, step_with_math, step_by_loop],
    "1.2": [jump_by_loop, jump_with_views, jump_transposed],
    "1.3": [table_by_loop, table_by_logarithms],
    "1.4": [clock_by_difference, clock_by_logit],
    "1.5": [zero_by_rows],
}

WRONG = {  # number: {answer: (name of the mistake, words of its sentence that were measured or must be there)}
    "1.1": {
        step_out_of_the_head: ("roots missing", "variance 0.68 where"),  # 0.64 + 0.04
        step_forgetting_a_root: ("noise root missing", "variance 0.84"),  # 0.80 + 0.04
        step_forgetting_the_other_root: ("shrink root missing", "variance 0.84"),  # 0.64 + 0.20
        step_adding: ("no shrinking", "variance 1.20"),
        step_crossed: ("swapped", "45% of the picture's strength"),
        step_by_lerp: ("deviations add to 1", "variance 0.51"),  # 0.31 + 0.20
        step_with_fresh_noise: ("own noise", "leave `eps` aside"),
        step_removing: ("noise taken away", "A minus where"),
        step_in_another_order: ("order of arguments", "call it as forward_step(x, beta, eps)"),
        step_kept_on_the_page: ("cut off", "where 31% of the values do not fit"),
        step_normalised: ("standardised", "whatever batch comes in"),
    },
    "1.2": {
        jump_without_roots: (
            "roots missing",
            "At t = 500 your x_t has variance 0.86 where it should stay at 1.00",
        ),
        jump_with_one_root: ("noise root missing", "variance 0.93"),
        jump_with_the_other_root: ("signal root missing", "8% of the picture's strength is left where 28%"),
        jump_like_lerp: ("root first", "variance 0.60"),
        jump_of_one_step: ("one step only", "still 99"),
        jump_counting_from_zero: ("one row early", "at t = 1 you return x0 itself"),
        jump_counting_too_far: ("one row late", "row 1001"),
        jump_along_the_width: ("no reshape", "the *last* axis"),
        jump_for_pictures: ("pictures only", "Points `(B, 2)` have two axes"),
        jump_with_the_first_t: ("one t for all", "the first t for the whole batch"),
        jump_crossed: ("swapped", "at t = 1 your x_t is noise"),
        jump_with_fresh_noise: ("own noise", "leave `eps` aside"),
        jump_by_the_notebooks_table: ("own table", "row 100 leaves 0% of the variance; yours leaves 90%"),
        jump_removing: ("noise taken away", "A minus where eq. 4"),
        jump_kept_on_the_page: ("cut off", "where 32% of the values do not fit"),
        jump_normalised: ("standardised", "whatever batch comes in"),
        jump_scaling_in_place: ("in place", "changed x0 in place"),
    },
    "1.3": {
        table_without_row_0: ("row 0 missing", "1000 rows where T + 1 = 1001"),
        table_called_prev: ("row 0 replaces step 1", "alpha_bar_prev"),
        table_turned: ("clean row last", "your row 1000 says"),
        table_from_zero: ("row 0 is 0", "Your row 0 is 0"),
        table_of_betas: ("product of betas", "row 2 reads 1.2e-08"),
        table_subtracting: ("sum instead of product", "reads -9.05"),
        table_of_single_steps: ("single steps", "reads 0.98"),
        table_of_rates: ("signal rate", "reads 0.280 where 0.079"),
        table_of_noise: ("noise share", "last row reads 1.0000"),
        table_overwritten: ("1 written over step 1", "1000 rows where T + 1 = 1001"),
        table_with_a_copied_row: ("first row doubled", "a copy of row 1: 0.9999"),
        table_by_exp_of_sum: ("exponential of the sum", "reads 4.32e-05 where 4.04e-05"),
    },
    "1.4": {
        clock_to_base_10: ("log10", "at t = 500 you have -1.07 where -2.46 should be"),
        clock_in_decibels: ("decibels", "you have -10.69"),
        clock_in_octaves: ("log2", "you have -3.55"),
        clock_of_rates: ("ratio of rates", "you have -1.23"),
        clock_upside_down: ("upside down", "you have 2.46"),
        clock_without_log: ("no logarithm", "value is 9999 and its smallest 4e-05"),
        clock_of_the_signal: ("signal only", "-0.0001 where 9.2"),
        clock_dividing_logs: ("quotient of logarithms", "the quotient was meant"),
        clock_mixing_roots: ("root in the noise", "Two roots or none"),
        clock_of_the_top: ("logarithm of the top only", "at t = 500 you have -2.76 where -2.46"),
        clock_without_brackets: ("brackets missing below", "divides by 1 first"),
        clock_from_0: ("row 0 set to 0", "infinity is the true answer"),
        clock_made_finite: ("infinity replaced", "infinity is no accident"),
    },
    "1.5": {
        zero_without_roots: ("alpha_bar instead of rates", "Row 999 reads 5.7e-05 where"),
        zero_as_rates: ("not squared", "Your row 500 reads 0.492 where 0.242"),
        zero_at_the_end: ("only the last row", "row 999 still has a signal rate of 0.069"),
        zero_by_shift: ("shifted only", "row 1 fell to 0.867, where it should still be 0.999"),
        zero_with_a_large_row_0: ("row 0 forgotten", "reads 1.0000"),
        zero_around_row_0: ("row 0 kept instead of row 1", "from 0.999150 to 0.999088"),
        zero_rooted_twice: ("root at the end", "your row 500 reads"),
        zero_lost_on_the_way: ("nothing done", "last signal rate is still 0.068"),
        zero_overwriting: ("in place", "you wrote them into the table"),
    },
}


@pytest.mark.parametrize(("number", "answer"), [(n, answer) for n, answers in RIGHT.items() for answer in answers])
def test_right_answers_in_other_words_pass(number, answer):
    verdict = diagnose(EXERCISES[number], answer)
    assert verdict.state == "right", str(verdict)


@pytest.mark.parametrize(
    ("number", "answer", "name", "words"),
    [(number, answer, *expected) for number, answers in WRONG.items() for answer, expected in answers.items()],
)
def test_wrong_answers_get_the_sentence_of_their_mistake(number, answer, name, words):
    verdict = diagnose(EXERCISES[number], answer)
    assert (verdict.state, verdict.name) == ("wrong", name), str(verdict)
    assert words in verdict.says and len(verdict.hints) == 2


@pytest.mark.parametrize("number", list(WRONG))
def test_every_known_mistake_is_met_here_and_says_something_of_its_own(number):
    mistakes = EXERCISES[number].mistakes
    assert {name for name, _ in WRONG[number].values()} == {mistake.name for mistake in mistakes}
    sentences = {diagnose(EXERCISES[number], answer).says for answer in WRONG[number]}
    assert len(sentences) == len(mistakes)


# ---- wrong answers that no sentence is written for must fail all the same -------------------------------------------


def step_with_large_betas_cut(x, beta, eps):
    return step_with_powers(x, beta.clamp(max=0.5), eps)


def step_centred(x, beta, eps):
    return step_with_powers(x - x.mean(), beta, eps)


def jump_losing_a_batch_of_one(x0, t, eps, alpha_bar):
    return jump_with_views(x0, t, eps, alpha_bar).squeeze(0)


def jump_made_safe(x0, t, eps, alpha_bar):
    return jump_with_views(x0, t, eps, alpha_bar.clamp(min=1e-5))


def table_made_safe(beta):
    return table_by_logarithms(beta).clamp(min=1e-5)


def table_sorted(beta):
    return table_by_logarithms(beta.sort().values)


def clock_made_safe(alpha_bar):
    return torch.logit(alpha_bar, eps=1e-6)


def clock_within_reason(alpha_bar):
    return torch.logit(alpha_bar).clamp(-30, 30)


def clock_in_float32(alpha_bar):
    return torch.logit(alpha_bar.float()).double()


def zero_divided_by_the_last(alpha_bar):
    new = zero_by_rows(alpha_bar)
    return new * (alpha_bar[-1] / alpha_bar[-1])


def zero_nearly(alpha_bar):
    new = zero_by_rows(alpha_bar)
    new[-1] = 1e-9
    return new


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("1.1", step_with_large_betas_cut),
        ("1.1", step_centred),
        ("1.2", jump_losing_a_batch_of_one),
        ("1.2", jump_made_safe),
        ("1.3", table_made_safe),
        ("1.3", table_sorted),
        ("1.4", clock_made_safe),
        ("1.4", clock_within_reason),
        ("1.4", clock_in_float32),
        ("1.5", zero_divided_by_the_last),
        ("1.5", zero_nearly),
    ],
)
def test_what_was_tried_to_slip_through_is_refused(number, answer):
    assert diagnose(EXERCISES[number], answer).state == "wrong"


def test_an_answer_that_never_ends_is_stopped_within_ten_seconds():
    assert all(exercise.seconds <= 10 for exercise in EXERCISES.values())


# ---- the course's own answers, derived a second time ----------------------------------------------------------


def test_the_jump_is_the_librarys_own():
    generator, t = torch.Generator().manual_seed(0), torch.tensor([1, 500, 1000])
    x0, eps = torch.randn(2, 3, 1, 8, 8, generator=generator, dtype=torch.float64)
    schedule = linear_beta()
    ours = EXERCISES["1.2"].reference(x0, t, eps, schedule.alpha_bar)
    assert (ours - schedule.add_noise(x0, t, eps)).abs().max() < 1e-12


def test_a_thousand_steps_have_the_mean_and_variance_of_one_jump():
    beta = linear_beta().beta[1:]
    table = EXERCISES["1.3"].reference(beta)
    mean, variance = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for b in beta:  # through the step itself: its factors are what it returns for (1, 0) and (0, 1)
        shrink, noise = EXERCISES["1.1"].reference(one, b, zero), EXERCISES["1.1"].reference(zero, b, one)
        mean, variance = shrink * mean, shrink**2 * variance + noise**2
    assert abs(mean - table[-1].sqrt()) < 1e-12 and abs(variance - (1 - table[-1])) < 1e-12


def test_the_mended_table_is_the_librarys_own():
    schedule = linear_beta()
    ours = EXERCISES["1.5"].reference(schedule.alpha_bar)
    assert (ours - rescale_zero_terminal_snr(schedule).alpha_bar).abs().max() < 1e-12


def test_the_clock_is_the_librarys_snr():
    schedule = linear_beta()
    assert (EXERCISES["1.4"].reference(schedule.alpha_bar)[1:] - schedule.snr[1:].log()).abs().max() < 1e-9


@pytest.mark.parametrize("number", ["1.1", "1.2", "1.3", "1.4", "1.5"])
def test_a_slip_without_a_name_gets_hints_too(number):
    exercise = EXERCISES[number]
    verdict = diagnose(exercise, lambda *arguments: 1.07 * exercise.reference(*arguments) + 0.013)
    assert verdict.state == "wrong" and verdict.hints == exercise.hints
    assert len(exercise.hints) == 2
