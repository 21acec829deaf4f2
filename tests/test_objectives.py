"""Objectives: there and back again for every objective and schedule; loss weights against the papers' own formulas."""

import pytest
import torch

from course_lib import objectives, schedules

OBJECTIVES = [objectives.eps, objectives.x0, objectives.v, objectives.flow]
SCHEDULES = {
    "linear": schedules.linear_beta(),
    "cosine": schedules.cosine(),
    "sigmoid": schedules.sigmoid(),
    "flow": schedules.flow(),
    "zero terminal": schedules.rescale_zero_terminal_snr(schedules.linear_beta()),
}
SHAPES = [(4, 2), (4, 1, 28, 28), (4, 4, 8, 8), (4, 1, 16000)]
names = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)


def worst(found, expected):
    return float((found - expected).abs().max())


def noisy(schedule, shape, t, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randn(shape, generator=generator, dtype=torch.float64)
    eps = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x0, eps, schedule.add_noise(x0, t, eps), schedule.rates(t, x0)


@names
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_solve_undoes_target(objective, name, shape):
    schedule = SCHEDULES[name]
    t = torch.tensor([1, 300, 700, 999])  # signal and noise in each; the ends have tests of their own
    x0, eps, x_t, (a, s) = noisy(schedule, shape, t)
    answer = objectives.solve(objective, objectives.target(objective, x0, eps, a, s), x_t, a, s)
    assert worst(answer.x0, x0) < 1e-9 and worst(answer.eps, eps) < 1e-9
    assert answer.x0.shape == answer.eps.shape == shape


@names
@pytest.mark.parametrize("name", SCHEDULES)
def test_what_solve_returns_mixes_to_x_t_whatever_the_network_said(objective, name):
    """Prediction's promise: x_t == signal_rate * x0 + noise_rate * eps, even for a wrong output."""
    schedule = SCHEDULES[name]
    _, _, x_t, (a, s) = noisy(schedule, (4, 2), torch.tensor([1, 300, 700, 999]))
    answer = objectives.solve(objective, torch.full_like(x_t, 0.7), x_t, a, s)
    assert worst(a * answer.x0 + s * answer.eps, x_t) < 1e-9


@pytest.mark.parametrize("objective", [objectives.x0, objectives.v, objectives.flow], ids=lambda o: o.name)
@pytest.mark.parametrize("name", ["flow", "zero terminal"])
def test_only_eps_is_lost_where_no_signal_is_left(objective, name):
    x0, eps, x_t, (a, s) = noisy(SCHEDULES[name], (1, 2), 1000)
    answer = objectives.solve(objective, objectives.target(objective, x0, eps, a, s), x_t, a, s)
    assert worst(answer.x0, x0) < 1e-12 and worst(answer.eps, eps) < 1e-12
    with pytest.raises(ValueError, match=r"expected rates from which objective 'eps' tells x0.*use v"):
        objectives.solve(objectives.eps, eps, x_t, a, s)


def test_v_is_how_fast_x_t_turns_on_the_circle():
    """v = dx / dphi with x = cos(phi) x0 + sin(phi) eps (arXiv:2202.00512, appendix D), by a central difference."""
    x0, eps = torch.tensor([[1.3, -0.4]], dtype=torch.float64), torch.tensor([[0.2, 0.9]], dtype=torch.float64)
    phi, h = torch.tensor([[0.7]], dtype=torch.float64), 1e-5
    slope = sum(w * ((phi + w * h).cos() * x0 + (phi + w * h).sin() * eps) for w in (1, -1)) / (2 * h)
    assert worst(objectives.target(objectives.v, x0, eps, phi.cos(), phi.sin()), slope) < 1e-9


def test_flow_is_how_fast_x_t_moves_on_the_line():
    schedule, t = schedules.flow(1000), 400
    x0, eps, x_t, (a, s) = noisy(schedule, (3, 2), t)
    velocity = (schedule.add_noise(x0, t + 1, eps) - x_t) * 1000
    assert worst(objectives.target(objectives.flow, x0, eps, a, s), velocity) < 1e-9


def test_variational_weight_of_eps_is_eq_12_of_ddpm():
    """beta^2 / (2 std^2 alpha (1 - alpha_bar)) with std^2 = beta, computed from nothing but the betas."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = (1 - beta).cumprod(0)
    paper = beta**2 / (2 * beta * (1 - beta) * (1 - alpha_bar))
    found = objectives.variational(SCHEDULES["linear"], objectives.eps, torch.arange(1, 1001))
    assert worst(found / paper, torch.ones(())) < 1e-9


def test_variational_weight_of_x0_is_the_distance_of_posterior_means():
    """KL of two normals of std^2 = beta is |difference of means|^2 / (2 beta); the mean's share of x0 is in eq. 7."""
    schedule, t = SCHEDULES["cosine"], torch.arange(1, 1001)
    beta, before, after = schedule.beta[t], schedule.alpha_bar[t - 1], schedule.alpha_bar[t]
    share = before.sqrt() * beta / (1 - after)
    found = objectives.variational(schedule, objectives.x0, t)
    assert worst(found / (share**2 / (2 * beta)), torch.ones(())) < 1e-9


def test_min_snr_weights_are_the_table_of_the_paper():
    """arXiv:2303.09556, section 3.4: min(snr, gamma) for x0, over snr for eps, over snr + 1 for v."""
    for schedule in (SCHEDULES["linear"], SCHEDULES["cosine"]):
        t = torch.arange(1, 1001)
        snr = schedule.alpha_bar[t] / (1 - schedule.alpha_bar[t])
        capped = snr.clamp(max=5.0)
        table = {objectives.x0: capped, objectives.eps: capped / snr, objectives.v: capped / (snr + 1)}
        for objective, paper in table.items():
            found = objectives.min_snr(5.0)(schedule, objective, t)
            assert worst(found / paper, torch.ones(())) < 1e-6


@pytest.mark.parametrize("weight", [objectives.variational, objectives.min_snr(3.0)], ids=["variational", "min_snr"])
def test_weighted_loss_does_not_depend_on_the_objective(weight):
    """One wrong guess of x0, told in four units, costs the same in each: that is what the weights are for."""
    schedule, t = SCHEDULES["cosine"], torch.tensor([1, 200, 900])
    x0, eps, x_t, (a, s) = noisy(schedule, (3, 2), t)
    wrong_x0 = x0 + 0.1
    wrong_eps = (x_t - a * wrong_x0) / s
    costs = []
    for objective in OBJECTIVES:
        truth = objectives.target(objective, x0, eps, a, s)
        error = (objectives.target(objective, wrong_x0, wrong_eps, a, s) - truth).square().mean(1)
        costs.append(weight(schedule, objective, t) * error)
    assert worst(torch.stack(costs) / costs[0], torch.ones(())) < 1e-6
    assert (costs[0] > 0).all()


def test_simple_weight_is_one_and_weights_stay_finite_without_signal():
    t = torch.tensor([1, 999, 1000])
    for schedule in (SCHEDULES["zero terminal"], SCHEDULES["cosine"]):
        assert objectives.simple(schedule, objectives.v, t).tolist() == [1.0, 1.0, 1.0]
        for weight in (objectives.variational, objectives.min_snr()):
            for objective in (objectives.v, objectives.x0):
                assert torch.isfinite(weight(schedule, objective, t)).all()
    assert objectives.variational(SCHEDULES["zero terminal"], objectives.v, t)[-1] > 0
