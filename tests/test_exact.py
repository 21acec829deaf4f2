"""The answer key itself: against gradients of the density, against integrals, and against drawn samples."""

import math

import pytest
import torch

from course_lib import data, schedules
from course_lib.models.exact import ExactPredictor, GaussianMixture

f64 = torch.float64
SCHEDULES = {
    "cosine": schedules.cosine(),
    "flow": schedules.flow(),
    "zero terminal": schedules.rescale_zero_terminal_snr(schedules.linear_beta()),
}


def worst(found, expected):
    return float((found - expected).abs().max())


def uneven(dims=(2,), seed=0, **more):
    """Three components of uneven means, deviations and weights."""
    means = torch.randn(3, *dims, generator=torch.Generator().manual_seed(seed), dtype=f64)
    std, weights = torch.tensor([[0.2, 0.5, 0.3], [0.5, 0.2, 0.3]], dtype=f64)
    return GaussianMixture(means, std, weights, **more)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("dims", [(2,), (1, 4, 4)], ids=str)
def test_eps_is_the_gradient_of_log_p(name, dims):
    """Tweedie: eps = -s grad log p(x_t), the gradient taken by autograd; x0 = (x_t - s eps) / a."""
    schedule, mixture = SCHEDULES[name], uneven(dims)
    predict = ExactPredictor(mixture, schedule)
    x_t = torch.randn(6, *dims, generator=torch.Generator().manual_seed(1), dtype=f64).requires_grad_()
    for t in (1, 10, 300, 999, 1000):
        a, s = float(schedule.signal_rate[t]), float(schedule.noise_rate[t])
        (score,) = torch.autograd.grad(mixture.log_prob(x_t, a, s).sum(), x_t)
        found = predict(x_t.detach(), torch.full((6,), t))
        assert worst(found.eps, -s * score) < 1e-7
        assert worst(a * found.x0 + s * found.eps, x_t.detach()) < 1e-9


def test_x0_is_the_posterior_mean_by_numerical_integration():
    """E[x0 | x_t] as a sum over a grid of x0, from nothing but the definition of a mixture (one dimension)."""
    mixture, schedule = uneven((1,)), SCHEDULES["cosine"]
    grid = torch.linspace(-8, 8, 40_001, dtype=f64)
    parts = mixture.weights / mixture.std * torch.exp(-0.5 * ((grid[:, None] - mixture.means[:, 0]) / mixture.std) ** 2)
    prior = parts.sum(1) / math.sqrt(2 * math.pi)
    assert abs(float(prior.sum()) * 16 / 40_000 - 1) < 1e-9
    for t in (50, 400, 900):
        a, s = float(schedule.signal_rate[t]), float(schedule.noise_rate[t])
        for x_t in (-1.2, 0.1, 2.0):
            posterior = prior * torch.exp(-0.5 * ((x_t - a * grid) / s) ** 2)
            expected = float((posterior * grid).sum() / posterior.sum())
            found = ExactPredictor(mixture, schedule)(torch.tensor([[x_t]], dtype=f64), torch.tensor([t]))
            assert abs(float(found.x0) - expected) < 1e-8


def test_x0_is_the_posterior_mean_by_drawing():
    """Weigh 200,000 draws of x0 by how well they explain x_t; within five standard errors."""
    mixture, schedule, t = uneven(), SCHEDULES["cosine"], 600
    a, s = float(schedule.signal_rate[t]), float(schedule.noise_rate[t])
    x0 = mixture.sample(200_000, torch.Generator().manual_seed(2))
    x_t = torch.tensor([[0.4, -0.9]], dtype=f64)
    share = (-0.5 * ((x_t - a * x0) / s).square().sum(1)).softmax(0)[:, None]
    expected = (share * x0).sum(0)
    error = (share**2 * (x0 - expected) ** 2).sum(0).sqrt()
    found = ExactPredictor(mixture, schedule)(x_t, torch.tensor([t])).x0[0]
    assert ((found - expected).abs() < 5 * error).all() and (error < 0.01).all()


@pytest.mark.parametrize(("a", "s"), [(1.0, 0.0), (0.6, 0.8), (0.0, 1.0)])
def test_density_integrates_to_one(a, s):
    mixture = uneven()
    side = torch.linspace(-7, 7, 501, dtype=f64)
    density = mixture.log_prob(torch.cartesian_prod(side, side), a, s).exp()
    assert abs(float(density.sum()) * (14 / 500) ** 2 - 1) < 1e-8


def test_log_prob_is_the_textbook_formula():
    mixture, x = uneven(), torch.tensor([[0.3, -0.7]], dtype=f64)
    total = 0.0
    for mean, std, weight in zip(mixture.means.tolist(), mixture.std.tolist(), mixture.weights.tolist(), strict=True):
        square = (0.3 - mean[0]) ** 2 + (-0.7 - mean[1]) ** 2
        total += weight * math.exp(-square / (2 * std**2)) / (2 * math.pi * std**2)
    assert abs(float(mixture.log_prob(x)) - math.log(total)) < 1e-12


def test_samples_have_the_mean_and_covariance_that_the_mixture_states():
    """N = 50,000: within five standard errors, those of a covariance bounded by fourth moments of the draws."""
    mixture, N = uneven((3,)), 50_000
    x = mixture.sample(N, torch.Generator().manual_seed(3))
    centred = x - mixture.mean
    products = centred[:, :, None] * centred[:, None, :]
    assert ((x.mean(0) - mixture.mean).abs() < 5 * x.std(0) / math.sqrt(N)).all()
    assert ((products.mean(0) - mixture.covariance).abs() < 5 * products.std(0) / math.sqrt(N)).all()


def test_samples_keep_shape_and_dtype():
    assert uneven((1, 4, 4)).sample(5).shape == (5, 1, 4, 4)
    assert uneven().sample(5).dtype == f64 and data.ring().sample(5).dtype == torch.float32


def test_single_points_are_the_nearest_point_in_faint_noise_and_the_mean_in_pure_noise():
    points, labels = data.digits()
    digits = GaussianMixture(points[:50], std=0.0, labels=labels[:50])
    schedule = SCHEDULES["flow"]
    predict, generator = ExactPredictor(digits, schedule), torch.Generator().manual_seed(4)
    noise = torch.randn(50, 1, 8, 8, generator=generator)
    faint = predict(schedule.add_noise(points[:50], 50, noise), torch.full((50,), 50))
    assert worst(faint.x0, points[:50]) < 1e-4 and worst(faint.eps, noise) < 1e-3
    pure = predict(noise, torch.full((50,), 1000))
    assert worst(pure.x0, points[:50].mean(0)) < 1e-5 and worst(pure.eps, noise) < 1e-5


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_each_row_of_a_batch_is_answered_at_its_own_t(std):
    """Row 0 has limits of its own (x0 = x_t, eps = 0); they must not leak into the rest of the batch."""
    mixture = GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=f64), std)
    predict, t = ExactPredictor(mixture, SCHEDULES["cosine"]), torch.tensor([0, 1, 500, 1000, 0])
    x_t = torch.randn(5, 2, generator=torch.Generator().manual_seed(5), dtype=f64)
    together = predict(x_t, t)
    for i in range(5):
        alone = predict(x_t[i : i + 1], t[i : i + 1])
        assert worst(together.x0[i], alone.x0[0]) < 1e-12 and worst(together.eps[i], alone.eps[0]) < 1e-12
    assert worst(together.x0[[0, 4]], x_t[[0, 4]]) == 0 and worst(together.eps[[0, 4]], torch.zeros(())) == 0
    assert worst(together.x0[2], x_t[2]) > 0.1


def test_a_condition_keeps_only_the_components_of_its_label():
    mixture, schedule = uneven(labels=torch.tensor([7, 3, 7])), SCHEDULES["cosine"]
    x_t = torch.randn(4, 2, generator=torch.Generator().manual_seed(6), dtype=f64)
    t, cond = torch.tensor([10, 200, 600, 1000]), torch.tensor([7, 7, 3, 7])
    found = ExactPredictor(mixture, schedule)(x_t, t, cond)
    for label, rows in ((7, [0, 2]), (3, [1])):
        kept = mixture.weights[rows] / mixture.weights[rows].sum()
        only = ExactPredictor(GaussianMixture(mixture.means[rows], mixture.std[rows], kept), schedule)(x_t, t)
        mask = cond == label
        assert worst(found.x0[mask], only.x0[mask]) < 1e-10 and worst(found.eps[mask], only.eps[mask]) < 1e-10


def test_one_normal_is_a_wiener_filter():
    """A single normal: x0 = mean + a std^2 / (a^2 std^2 + s^2) (x_t - a mean), the oldest denoiser there is."""
    mean, schedule = torch.tensor([[0.5, -2.0]], dtype=f64), SCHEDULES["flow"]
    predict, x_t = ExactPredictor(GaussianMixture(mean, 0.7), schedule), torch.tensor([[1.0, 1.0]], dtype=f64)
    for t in (100, 500, 900):
        a, s = 1 - t / 1000, t / 1000
        expected = mean + a * 0.49 / (a**2 * 0.49 + s**2) * (x_t - a * mean)
        assert worst(predict(x_t, torch.tensor([t])).x0, expected) < 1e-12


def test_gradients_pass_at_every_row():
    predict = ExactPredictor(GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 0.5]]), 0.0), SCHEDULES["cosine"])
    x_t = torch.ones(2, 2, requires_grad=True)
    predict(x_t, torch.tensor([0, 500])).x0.sum().backward()
    assert torch.isfinite(x_t.grad).all() and x_t.grad[0].tolist() == [1.0, 1.0]
