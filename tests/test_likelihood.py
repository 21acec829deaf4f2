"""Likelihood by the ODE against the mixture's own density."""

import math

import pytest
import torch

from course_lib import schedules
from course_lib.likelihood import bits_per_dim, log_likelihood
from course_lib.models.exact import ExactPredictor, GaussianMixture

f64 = torch.float64
MIXTURE = GaussianMixture(
    torch.tensor([[-0.8, 0.4], [0.7, 0.6], [0.2, -0.9]], dtype=f64),
    torch.tensor([0.3, 0.4, 0.35], dtype=f64),
    torch.tensor([0.5, 0.3, 0.2], dtype=f64),
    labels=torch.tensor([0, 1, 1]),
)
SCHEDULES = {
    "cosine": schedules.cosine(4000),
    "flow": schedules.flow(4000),
    "zero terminal": schedules.rescale_zero_terminal_snr(schedules.linear_beta(4000, 2.5e-5, 0.005)),
}


def worst(found, expected):
    return float((found - expected).abs().max())


def even_angles(schedule, n, first=1):
    """n rising steps from `first` to T, even in phi = atan(s / a), in which the rule integrates."""
    phi = torch.atan2(schedule.noise_rate, schedule.signal_rate)
    wanted = torch.linspace(float(phi[first]), float(phi[-1]), n + 1, dtype=f64)
    return sorted({max(first, int((phi - w).abs().argmin())) for w in wanted})


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("first", [1, 40, 2000])
def test_the_ode_finds_the_density_of_the_mixture(name, first):
    """At row 1 (a hair from clean data), and in the middle, where x_t has the density of noisy data."""
    schedule = SCHEDULES[name]
    a, s = float(schedule.signal_rate[first]), float(schedule.noise_rate[first])
    x = a * MIXTURE.sample(40, torch.Generator().manual_seed(0))
    x = x + s * torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=f64)
    found = log_likelihood(ExactPredictor(MIXTURE, schedule), schedule, x, even_angles(schedule, 300, first))
    assert worst(found, MIXTURE.log_prob(x, a, s)) < 5e-3
    clean = MIXTURE.log_prob(x)
    assert first != 1 or worst(found, clean) < 0.02  # so the likelihood of data may start from row 1
    bits = bits_per_dim(found, x)
    assert worst(bits, -MIXTURE.log_prob(x, a, s) / (2 * math.log(2))) < 4e-3


@pytest.mark.parametrize("first", [1, 2000])  # from row 1 the divergence is 0 at both ends, and any rule does well
def test_the_error_falls_with_the_square_of_the_step(first):
    schedule = SCHEDULES["flow"]
    x = MIXTURE.sample(20, torch.Generator().manual_seed(2))
    truth = MIXTURE.log_prob(x, float(schedule.signal_rate[first]), float(schedule.noise_rate[first]))
    predict = ExactPredictor(MIXTURE, schedule)
    errors = [worst(log_likelihood(predict, schedule, x, even_angles(schedule, n, first)), truth) for n in (40, 160)]
    assert 1.7 < math.log(errors[0] / errors[1]) / math.log(4) < 2.3, errors


def test_the_density_it_finds_integrates_to_one():
    """A check without the mixture's density: exp of what is found, summed over a board, is 1."""
    schedule, side = SCHEDULES["cosine"], torch.linspace(-3, 3, 41, dtype=f64)
    x = torch.cartesian_prod(side, side)
    found = log_likelihood(ExactPredictor(MIXTURE, schedule), schedule, x, even_angles(schedule, 60))
    assert abs(float(found.exp().sum()) * (6 / 40) ** 2 - 1) < 0.01


def test_a_condition_gives_the_density_of_its_class():
    schedule, x = SCHEDULES["cosine"], MIXTURE.sample(10, torch.Generator().manual_seed(3))
    predict, times = ExactPredictor(MIXTURE, schedule), even_angles(schedule, 300)
    found = log_likelihood(predict, schedule, x, times, torch.zeros(10, dtype=torch.int64))
    a, s = float(schedule.signal_rate[1]), float(schedule.noise_rate[1])
    only = GaussianMixture(MIXTURE.means[:1], MIXTURE.std[:1])
    assert worst(found, only.log_prob(x, a, s)) < 0.02


def test_probes_are_unbiased():
    """The mean of many probes approaches the exact divergence: within five standard errors of 64 estimates."""
    schedule, times = SCHEDULES["cosine"], [1, 800, 1600, 2400, 3200, 4000]
    mixture = GaussianMixture(torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(4), dtype=f64), 0.5)
    predict, x = ExactPredictor(mixture, schedule), mixture.sample(1, torch.Generator().manual_seed(5))
    exact = log_likelihood(predict, schedule, x, times)
    copies = x.expand(64, 1, 4, 4)  # each row gets directions of its own
    draws = log_likelihood(predict, schedule, copies, times, probes=2, generator=torch.Generator().manual_seed(6))
    error = float(draws.std()) / 8
    assert abs(float(draws.mean() - exact)) < 5 * error and 0 < error < 1
    many = log_likelihood(predict, schedule, copies, times, probes=32, generator=torch.Generator().manual_seed(7))
    assert float(many.std()) < float(draws.std()) / 2  # 16 times the probes: a quarter of the deviation


def test_pictures_give_one_number_each_and_leave_the_input_alone():
    schedule = SCHEDULES["cosine"]
    mixture = GaussianMixture(torch.zeros(1, 1, 3, 3), 1.0)
    x = torch.ones(5, 1, 3, 3)
    found = log_likelihood(ExactPredictor(mixture, schedule), schedule, x, [1, 2000, 4000])
    assert found.shape == (5,) and not found.requires_grad and not x.requires_grad
    assert worst(found, mixture.log_prob(x)) < 1e-2  # a unit normal does not move on a path that preserves variance
    assert worst(bits_per_dim(found, x), -found / (9 * math.log(2))) < 1e-6


def test_a_generator_repeats_the_probes():
    schedule, x = SCHEDULES["cosine"], torch.ones(2, 2, dtype=f64)
    predict = ExactPredictor(MIXTURE, schedule)

    def estimate(seed):
        return log_likelihood(
            predict, schedule, x, [1, 2000, 4000], probes=1, generator=torch.Generator().manual_seed(seed)
        )

    assert worst(estimate(1), estimate(1)) == 0 and max(worst(estimate(1), estimate(s)) for s in range(2, 8)) > 0
