"""Samplers: each step derived a second way, their order of convergence, and what they draw with the exact predictor."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from course_lib import objectives, schedules
from course_lib.denoiser import Denoiser
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.samplers import ddim_step, dpm_step, heun_step, sample, sample_steps
from course_lib.types import Prediction, Step

f64 = torch.float64
SHAPES = [(3, 2), (3, 1, 28, 28), (3, 4, 8, 8), (3, 1, 16000)]
STEPS = {"ddim": ddim_step, "ddpm": partial(ddim_step, eta=1.0), "heun": heun_step, "dpm": dpm_step}
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.5], [0.8, 0.9], [0.3, -1.0]], dtype=f64),
    torch.tensor([0.3, 0.25, 0.4], dtype=f64),
    torch.tensor([0.5, 0.3, 0.2], dtype=f64),
)


def worst(found, expected):
    return float((found - expected).abs().max())


def wave(objective, schedule):
    """A Denoiser whose network is a fixed smooth function of x_t and t, good for nothing but testing."""
    return Denoiser(lambda x_t, time: torch.sin(x_t + 3 * time.reshape(-1, *[1] * (x_t.ndim - 1))), schedule, objective)


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


@pytest.mark.parametrize("objective", [objectives.eps, objectives.x0, objectives.v], ids=lambda o: o.name)
def test_eta_1_between_neighbours_is_the_posterior_of_ddpm(objective):
    """DDPM eq. 6 and 7: mean and variance of q(x_(t-1) | x_t, x0), from the betas."""
    schedule = schedules.linear_beta()
    beta, alpha_bar = schedule.beta, (1 - schedule.beta).cumprod(0)
    predict, x_t, z = wave(objective, schedule), noise((4, 2)), noise((4, 2), 1)
    for t in (1, 2, 3, 500, 999, 1000):
        x0 = predict(x_t, torch.full((4,), t)).x0
        share_x0 = alpha_bar[t - 1].sqrt() * beta[t] / (1 - alpha_bar[t])
        share_x_t = (1 - beta[t]).sqrt() * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
        std = ((1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t]).sqrt()
        step = ddim_step(predict, schedule, x_t, t, t - 1, eta=1.0, noise=z)
        assert worst(step.x_next, share_x0 * x0 + share_x_t * x_t + std * z) < 1e-9


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_any_eta_keeps_the_amount_of_noise(eta):
    """Given x0, x_next has mean a' x0 and deviation s' whatever eta is (DDIM, lemma 1)."""
    schedule, (t, t_next) = schedules.cosine(), (800, 300)
    x0, eps, z = torch.full((1, 3), 0.5, dtype=f64), torch.eye(3, dtype=f64)[:1], torch.eye(3, dtype=f64)[1:2]
    x_t = schedule.add_noise(x0, t, eps)
    step = ddim_step(lambda x_t, t, cond: Prediction(x0, eps), schedule, x_t, t, t_next, eta=eta, noise=z)
    left = step.x_next - schedule.signal_rate[t_next] * x0  # eps and z lie on axes of their own
    assert abs(float(left.norm()) - float(schedule.noise_rate[t_next])) < 1e-12
    share = (schedule.sigma[t_next] / schedule.sigma[t]) ** 2
    std = eta * float(schedule.noise_rate[t_next] * (1 - share).sqrt())  # eq. 16
    assert abs(float(left[0, 1]) - std) < 1e-12


def test_eta_0_on_the_flow_path_is_eulers_step():
    schedule = schedules.flow(100)
    predict, x_t = wave(objectives.flow, schedule), noise((5, 2))
    for t, t_next in ((100, 80), (80, 79), (60, 0)):
        velocity = predict.output(x_t, torch.full((5,), t))
        step = ddim_step(predict, schedule, x_t, t, t_next)
        assert worst(step.x_next, x_t + (t_next - t) / 100 * velocity) < 1e-12


def test_the_last_step_returns_the_guess_without_noise():
    for schedule in (schedules.cosine(), schedules.flow()):
        predict, x_t, z = wave(objectives.v, schedule), noise((4, 2)), noise((4, 2), 1)
        for step in STEPS.values():
            done = step(predict, schedule, x_t, 7, 0, noise=z)
            assert worst(done.x_next, done.prediction.x0) < 1e-12


def test_heun_is_the_trapezium_rule_in_sigma():
    """EDM algorithm 1, lines 4 to 8, in EDM's own variables (no signal rate)."""
    schedule, (t, t_next) = schedules.linear_beta(), (400, 250)
    predict, x_t = wave(objectives.v, schedule), noise((5, 2))

    def slope(y, t):
        x = y / (1 + schedule.sigma[t] ** 2).sqrt()
        return (y - predict(x, torch.full((5,), t)).x0) / schedule.sigma[t]

    y = x_t * (1 + schedule.sigma[t] ** 2).sqrt()
    h = schedule.sigma[t_next] - schedule.sigma[t]
    first = slope(y, t)
    y_next = y + h / 2 * (first + slope(y + h * first, t_next))
    found = heun_step(predict, schedule, x_t, t, t_next).x_next
    assert worst(found, y_next / (1 + schedule.sigma[t_next] ** 2).sqrt()) < 1e-9


def test_dpm_is_the_update_of_the_paper():
    """DPM-Solver++ algorithm 2: x = s/s_last x - a (exp(-h) - 1) D with D = (1 + 1/2r) x0 - 1/2r x0_last."""
    schedule, (t0, t1, t2) = schedules.cosine(), (900, 600, 350)
    predict = wave(objectives.v, schedule)
    first = dpm_step(predict, schedule, noise((5, 2)), t0, t1)
    second = dpm_step(predict, schedule, first.x_next, t1, t2, previous=first)
    lam = (schedule.signal_rate / schedule.noise_rate).log()
    h, r = lam[t2] - lam[t1], (lam[t1] - lam[t0]) / (lam[t2] - lam[t1])
    D = (1 + 1 / (2 * r)) * second.prediction.x0 - first.prediction.x0 / (2 * r)
    s1, s2, a2 = schedule.noise_rate[t1], schedule.noise_rate[t2], schedule.signal_rate[t2]
    assert worst(second.x_next, s2 / s1 * first.x_next - a2 * ((-h).exp() - 1) * D) < 1e-12
    assert worst(first.x_next, ddim_step(predict, schedule, first.x_t, t0, t1).x_next) == 0


@pytest.mark.parametrize("name", ["flow", "zero terminal"])
def test_second_order_steps_begin_with_euler_where_no_signal_is_left(name):
    schedule = {"flow": schedules.flow(), "zero terminal": schedules.rescale_zero_terminal_snr(schedules.linear_beta())}
    schedule = schedule[name]
    predict, x_T = ExactPredictor(MIXTURE, schedule), noise((6, 2))
    euler = ddim_step(predict, schedule, x_T, 1000, 900)
    assert worst(heun_step(predict, schedule, x_T, 1000, 900).x_next, euler.x_next) == 0
    following = dpm_step(predict, schedule, euler.x_next, 900, 800, previous=euler)
    assert worst(following.x_next, ddim_step(predict, schedule, euler.x_next, 900, 800).x_next) == 0
    for step in STEPS.values():
        x = sample(step, predict, schedule, x_T, schedule.steps(10), generator=torch.Generator().manual_seed(0))
        assert torch.isfinite(x).all() and float(x.abs().max()) < 5


@pytest.mark.parametrize("make", [schedules.cosine, schedules.sigmoid, schedules.linear_beta])
def test_second_order_pays_from_pure_noise_on_every_path(make):
    """In 32 even steps Heun and DPM-Solver end nearer to 1000 small steps than DDIM does.

    Heun's rule itself cannot cross from sigma 20,000 (cosine) to sigma 20 in one step: it ended a whole unit away.
    """
    schedule, x_T = make(), noise((64, 2))
    predict = ExactPredictor(MIXTURE, schedule)
    fine = sample(ddim_step, predict, schedule, x_T, schedule.steps(1000))
    ends = [sample(step, predict, schedule, x_T, schedule.steps(32)) for step in (ddim_step, heun_step, dpm_step)]
    ddim, heun, dpm = (worst(end, fine) for end in ends)
    assert max(heun, dpm) < 0.8 * ddim, (ddim, heun, dpm)


def runge_kutta(y, sigmas):
    """Solve dy/dsigma = -sigma grad log p(y; sigma) by the classic fourth-order rule.

    The gradient comes from autograd of the density: no schedule, no predictor and no step of the course is used.
    """

    def slope(y, sigma):
        y = y.detach().requires_grad_()
        return -sigma * torch.autograd.grad(MIXTURE.log_prob(y, 1.0, sigma).sum(), y)[0]

    for sigma, sigma_next in pairwise(sigmas):
        h = sigma_next - sigma
        k1 = slope(y, sigma)
        k2 = slope(y + h / 2 * k1, sigma + h / 2)
        k3 = slope(y + h / 2 * k2, sigma + h / 2)
        k4 = slope(y + h * k3, sigma_next)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def even_in_log_sigma(schedule, n, high=20.0, low=0.05):
    """n steps from sigma 20 to sigma 0.05: where a second-order rule sees a smooth curve.

    Even steps in t would end at sigma 0 (lambda is infinite there) and, on the cosine path, begin at sigma 20,000: one
    step over three decades of sigma says nothing about the order of a rule. The first steps, from there, and the last
    step, to clean data, are of first order by design, so they stay out as well.
    """
    wanted = torch.linspace(math.log(high), math.log(low), n + 1, dtype=f64)
    return [1 + int(i) for i in (schedule.sigma[1:].log()[:, None] - wanted).abs().argmin(0)]


@pytest.fixture(scope="module", params=["linear", "cosine", "flow"])
def fine(request):
    """A table of 8192 rows, so that snapping to rows stays small; noisy points; where the exact ODE takes them."""
    T = 8192
    schedule = {
        "linear": lambda: schedules.linear_beta(T, 0.1 / T, 20 / T),  # ends at the same alpha_bar as T = 1000
        "cosine": lambda: schedules.cosine(T),
        "flow": lambda: schedules.flow(T),
    }[request.param]()
    first, *_, last = even_in_log_sigma(schedule, 8)
    high, low = float(schedule.sigma[first]), float(schedule.sigma[last])
    y = MIXTURE.sample(64, torch.Generator().manual_seed(1)) + high * noise((64, 2), 2)
    sigmas = torch.linspace(math.log(high), math.log(low), 401, dtype=f64).exp().tolist()
    end = runge_kutta(y, sigmas)
    assert worst(end, runge_kutta(y, sigmas[::2])) < 1e-6  # the reference itself has converged
    return schedule, y * schedule.signal_rate[first], end * schedule.signal_rate[last]


@pytest.mark.parametrize(
    ("step", "low", "high"),
    [(ddim_step, 0.85, 1.1), (heun_step, 1.9, 2.1), (dpm_step, 1.8, 2.1)],
    ids=["ddim", "heun", "dpm"],
)
def test_order_of_convergence(fine, step, low, high):
    """Slope of log error against log n: near 1 for DDIM, near 2 for Heun and DPM-Solver++(2M)."""
    schedule, x, end = fine
    predict, counts = ExactPredictor(MIXTURE, schedule), [32, 64, 128]
    errors = [worst(sample(step, predict, schedule, x, even_in_log_sigma(schedule, n)), end) for n in counts]
    slope = math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])
    assert low < slope < high, (slope, errors)


def test_one_normal_ends_where_its_closed_form_says():
    """For one normal the ODE has the solution y - mean = C sqrt(std^2 + sigma^2); Heun in 400 steps comes close."""
    schedule, mean = schedules.linear_beta(), torch.tensor([[0.5, -1.0]], dtype=f64)
    predict, x_T = ExactPredictor(GaussianMixture(mean, 0.6), schedule), noise((50, 2))
    a, s = float(schedule.signal_rate[-1]), float(schedule.noise_rate[-1])
    exact = mean + (x_T / a - mean) * 0.6 / math.sqrt(0.36 + (s / a) ** 2)
    found = sample(heun_step, predict, schedule, x_T, schedule.steps(400, "karras"))
    assert worst(found, exact) < 1e-3


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("schedule", [schedules.cosine(), schedules.flow()], ids=lambda s: s.name)
def test_samples_match_the_mean_and_covariance_of_the_mixture(name, schedule):
    """N = 4000 samples against the mixture's own moments.

    Bounds: five standard errors, from the draws themselves, plus 0.02 for the steps (200, or 1000 for DDPM's variance,
    which is right for small steps only).
    """
    times = schedule.steps(1000 if name == "ddpm" else 200)
    N, generator = 4000, torch.Generator().manual_seed(3)
    x_T = torch.randn((N, 2), generator=generator, dtype=f64)
    x = sample(STEPS[name], ExactPredictor(MIXTURE, schedule), schedule, x_T, times, generator=generator)
    centred = x - MIXTURE.mean
    products = centred[:, :, None] * centred[:, None, :]
    assert ((x.mean(0) - MIXTURE.mean).abs() < 0.02 + 5 * x.std(0) / math.sqrt(N)).all()
    assert ((products.mean(0) - MIXTURE.covariance).abs() < 0.02 + 5 * products.std(0) / math.sqrt(N)).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", STEPS)
def test_every_step_takes_every_shape(shape, name):
    """A batch equals its rows taken one by one."""
    schedule = schedules.cosine(100)
    predict, x_T, z = wave(objectives.v, schedule), noise(shape).float(), noise(shape, 1).float()
    done = STEPS[name](predict, schedule, x_T, 60, 30, noise=z)
    assert done.x_next.shape == shape and done.x_next.dtype == torch.float32
    for i in range(3):
        alone = STEPS[name](predict, schedule, x_T[i : i + 1], 60, 30, noise=z[i : i + 1])
        assert worst(done.x_next[i], alone.x_next[0]) < 1e-5


def test_steps_are_linked_and_say_where_they_stood():
    schedule, times = schedules.cosine(), [1000, 600, 250, 0]
    steps = list(sample_steps(ddim_step, wave(objectives.v, schedule), schedule, noise((3, 2)), times))
    assert [(step.t, step.t_next) for step in steps] == [(1000, 600), (600, 250), (250, 0)]
    assert worst(steps[0].x_t, noise((3, 2))) == 0
    for step, following in pairwise(steps):
        assert following.x_t is step.x_next
    last = sample(ddim_step, wave(objectives.v, schedule), schedule, noise((3, 2)), times)
    assert worst(last, steps[-1].x_next) == 0


def test_the_generator_decides_the_noise_and_each_step_gets_new_noise():
    schedule = schedules.cosine(10)
    predict, x_T, ddpm = wave(objectives.v, schedule), noise((3, 2)), STEPS["ddpm"]

    def draw(seed):
        return sample(ddpm, predict, schedule, x_T, schedule.steps(10), generator=torch.Generator().manual_seed(seed))

    assert worst(draw(1), draw(1)) == 0 and worst(draw(1), draw(2)) > 0.01
    given, by_hand = torch.Generator().manual_seed(1), x_T
    for t in range(10, 0, -1):
        z = torch.randn((3, 2), generator=given, dtype=f64)
        by_hand = ddim_step(predict, schedule, by_hand, t, t - 1, eta=1.0, noise=z).x_next
    assert worst(draw(1), by_hand) == 0


def test_sampling_keeps_no_gradients_and_leaves_the_switch_alone():
    net, schedule = torch.nn.Linear(2, 2).double(), schedules.cosine(10)
    predict = Denoiser(lambda x_t, time: net(x_t), schedule, objectives.v)
    for step in sample_steps(ddim_step, predict, schedule, noise((3, 2)), [10, 5, 0]):
        assert not step.x_next.requires_grad and torch.is_grad_enabled()


def test_the_condition_reaches_the_predictor_in_every_step():
    schedule, seen = schedules.cosine(10), []

    def predict(x_t, t, cond):
        seen.append((int(t[0]), cond))
        return Prediction(x_t, x_t)

    for step in (ddim_step, heun_step, dpm_step):
        sample(step, predict, schedule, noise((1, 2)), [10, 4, 0], "seven")
    asked = {"ddim": [10, 4], "heun": [10, 4, 4], "dpm": [10, 4]}
    assert seen == [(t, "seven") for steps in asked.values() for t in steps]


def test_a_step_of_ones_own_runs_in_the_same_loop():
    def halve(predict, schedule, x_t, t, t_next, cond=None, *, noise=None, previous=None):
        return Step(t, t_next, x_t, Prediction(x_t, noise), x_t / 2 if previous is None else previous.x_t)

    schedule, x_T = schedules.cosine(4), noise((2, 2))
    assert [s.x_next.tolist() for s in sample_steps(halve, None, schedule, x_T, [4, 2, 0])] == [
        (x_T / 2).tolist(),
        x_T.tolist(),
    ]
