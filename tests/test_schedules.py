"""Schedules: each table against a second way to compute it, and the promises that every table keeps."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import schedules

SCHEDULES = {
    "linear": schedules.linear_beta(),
    "cosine": schedules.cosine(),
    "sigmoid": schedules.sigmoid(),
    "flow": schedules.flow(),
    "zero terminal": schedules.rescale_zero_terminal_snr(schedules.linear_beta()),
}
PRESERVING = [name for name in SCHEDULES if name != "flow"]
MAKERS = [schedules.cosine, schedules.sigmoid, schedules.flow, schedules.linear_beta]
SHAPES = [(3, 2), (3, 1, 28, 28), (3, 4, 8, 8), (3, 1, 16000)]


def worst(found, expected):
    return float((found - expected).abs().max())


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_table_keeps_its_promises(name):
    schedule = SCHEDULES[name]
    a, s = schedule.signal_rate, schedule.noise_rate
    assert schedule.T == 1000 and a.dtype == s.dtype == torch.float64
    assert (float(a[0]), float(s[0])) == (1.0, 0.0)
    assert (a.diff() <= 0).all() and (s.diff() >= 0).all() and (s[1:] > 0).all()
    assert schedule.variance_preserving == (name != "flow")
    assert worst(schedule.sigma[1:-1] ** -2 / schedule.snr[1:-1], torch.ones(())) < 1e-12
    assert schedule.sigma[0] == 0 and schedule.snr[0] == math.inf


@pytest.mark.parametrize("name", PRESERVING)
def test_beta_rebuilds_its_schedule(name):
    schedule = SCHEDULES[name]
    rebuilt = schedules.from_beta(schedule.beta)
    assert schedule.beta[0] == 0
    assert worst(rebuilt.signal_rate, schedule.signal_rate) < 1e-9


@pytest.mark.parametrize("name", PRESERVING)
def test_small_steps_collapse_into_one_jump(name):
    """q(x_t | x_(t-1)) of DDPM eq. 2, one step after the other, has the mean and variance of eq. 4."""
    schedule = SCHEDULES[name]
    mean, variance = 1.0, 0.0
    for t in range(1, schedule.T + 1):
        beta = float(schedule.beta[t])
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        assert abs(mean - float(schedule.signal_rate[t])) < 1e-8
        assert abs(variance - float(schedule.noise_rate[t]) ** 2) < 1e-12


def test_small_steps_collapse_into_one_jump_for_drawn_noise():
    """20,000 walks of 40 steps: mean and variance within five standard errors of the jump."""
    generator = torch.Generator().manual_seed(0)
    schedule, N = schedules.cosine(40), 20_000
    x = torch.full((N, 1), 1.5, dtype=torch.float64)
    for t in range(1, 31):
        beta = float(schedule.beta[t])
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * noise
    a, s = float(schedule.signal_rate[30]), float(schedule.noise_rate[30])
    assert abs(float(x.mean()) - 1.5 * a) < 5 * s / math.sqrt(N)
    assert abs(float(x.var()) - s**2) < 5 * s**2 * math.sqrt(2 / N)


def test_linear_beta_rises_evenly():
    beta = schedules.linear_beta(50, 0.01, 0.2).beta
    expected = torch.tensor([0.0] + [0.01 + 0.19 * i / 49 for i in range(50)], dtype=torch.float64)
    assert worst(beta, expected) < 1e-14


def test_cosine_is_the_papers_curve_until_the_cap():
    schedule = schedules.cosine()
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    paper = torch.tensor([f[t] / f[0] for t in range(1000)], dtype=torch.float64)
    assert worst(schedule.alpha_bar[:1000], paper) < 1e-12
    assert abs(float(schedule.beta[1000]) - 0.999) < 1e-12  # 1 - f[1000] / f[999] would be 1


def test_sigmoid_is_the_papers_curve():
    def sigma(x):
        return 1 / (1 + math.exp(-x))

    schedule = schedules.sigmoid(200, start=0, end=3, tau=0.9)
    for t in range(200):
        paper = (sigma(3 / 0.9) - sigma(3 * t / 200 / 0.9)) / (sigma(3 / 0.9) - sigma(0))
        assert abs(float(schedule.alpha_bar[t]) - paper) < 1e-12
    assert abs(float(schedule.alpha_bar[200]) - 1e-9) < 1e-15


def test_flow_is_a_straight_line():
    schedule = schedules.flow(10)
    x0, eps = torch.tensor([[2.0]]), torch.tensor([[-1.0]])
    path = torch.cat([schedule.add_noise(x0, t, eps) for t in range(11)])
    assert worst(path.diff(dim=0), torch.tensor(-0.3)) < 1e-6


def test_zero_terminal_snr_follows_algorithm_1():
    """arXiv:2305.08891, algorithm 1, from the betas and back to betas, as printed there."""
    before, after = schedules.linear_beta(), SCHEDULES["zero terminal"]
    root = (1 - before.beta[1:]).cumprod(0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    alpha_bar = ((root - last) * first / (first - last)) ** 2
    alpha = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    assert worst(after.beta[1:], 1 - alpha) < 1e-12
    assert after.signal_rate[-1] == 0 and after.noise_rate[-1] == 1
    assert after.signal_rate[1] == before.signal_rate[1]
    assert schedules.rescale_zero_terminal_snr(after) is after


@settings(max_examples=60, deadline=None)
@given(T=st.integers(1, 400), maker=st.sampled_from(MAKERS), share=st.floats(0, 1))
def test_steps_fall_from_T_to_0_for_every_T(T, maker, share):
    schedule = maker(T)
    n = 1 + round(share * (T - 1))
    for spacing in ("trailing", "karras"):
        steps = schedule.steps(n, spacing)
        assert len(steps) == n + 1 and (steps[0], steps[-1]) == (T, 0)
        assert all(t > t_next for t, t_next in pairwise(steps))


def test_trailing_steps_are_even_in_t():
    assert schedules.linear_beta().steps(5) == [1000, 800, 600, 400, 200, 0]
    assert schedules.linear_beta().steps(3) == [1000, 667, 333, 0]


def test_karras_steps_are_even_in_the_seventh_root_of_sigma():
    """EDM eq. 5, on a table so fine that snapping to its rows moves little."""
    schedule = schedules.linear_beta(4000, 2.5e-5, 0.005)
    gaps = (schedule.sigma[schedule.steps(20, "karras")[:-1]] ** (1 / 7)).diff()
    assert worst(gaps / gaps.mean(), torch.ones(())) < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_each_row_of_a_batch_gets_its_own_noise(shape):
    generator = torch.Generator().manual_seed(1)
    schedule, t = SCHEDULES["cosine"], torch.tensor([1, 500, 1000])
    x0, eps = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    x_t = schedule.add_noise(x0, t, eps)
    for i in range(3):
        alpha_bar = float(schedule.alpha_bar[t[i]])
        expected = math.sqrt(alpha_bar) * x0[i] + math.sqrt(1 - alpha_bar) * eps[i]
        assert worst(x_t[i], expected) < 1e-6
    assert x_t.shape == shape and x_t.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rates_come_in_the_dtype_of_the_data(dtype):
    schedule, like = schedules.flow(4), torch.zeros(2, 1, 3, 3, dtype=dtype)
    a, s = schedule.rates(torch.tensor([1, 3]), like)
    assert a.dtype == s.dtype == dtype and a.shape == s.shape == (2, 1, 1, 1)
    assert a.flatten().tolist() == [0.75, 0.25] and s.flatten().tolist() == [0.25, 0.75]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_t_of_any_whole_number_dtype_means_the_same_row(dtype):
    schedule = schedules.linear_beta(100)
    a, _ = schedule.rates(torch.tensor([1, 0, 100], dtype=dtype), torch.zeros(3, 2, dtype=torch.float64))
    assert worst(a.flatten(), schedule.signal_rate[[1, 0, 100]]) == 0


def test_one_number_means_one_step_for_the_whole_batch():
    schedule, x0 = schedules.cosine(10), torch.ones(4, 2)
    once = schedule.add_noise(x0, 7, torch.zeros(4, 2))
    each = schedule.add_noise(x0, torch.full((4,), 7), torch.zeros(4, 2))
    assert worst(once, each) == 0 and once.shape == (4, 2)


def test_rates_are_converted_once_for_each_dtype():
    schedule, like = schedules.cosine(10), torch.zeros(2, 2)
    first, again = schedule.rates(3, like)[0], schedule.rates(3, like)[0]
    assert first.data_ptr() == again.data_ptr()  # a view of one table, not a copy at each step


def test_row_0_is_clean_data_for_every_schedule():
    x0 = torch.randn(3, 2, generator=torch.Generator().manual_seed(2))
    for schedule in SCHEDULES.values():
        assert worst(schedule.add_noise(x0, 0, torch.ones(3, 2)), x0) == 0
