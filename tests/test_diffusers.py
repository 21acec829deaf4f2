"""Agreement with diffusers: the same betas, network, first noise and noise draws give the same whole trajectory.

What had to be matched, once and for all:
- diffusers counts timesteps 0..999 and has no clean row: our row t is its timestep t - 1, and its value "after the
  last step" (`set_alpha_to_one`, `final_sigmas_type="zero"`) is our row 0;
- `timestep_spacing="trailing"` is our schedule.steps(n); `clip_sample` is off, since nothing here clips;
- "sample" is diffusers' name for our objective x0;
- its tables are float32. DDPM and DDIM read only alphas_cumprod, so they get it in float64 from the same betas. Euler,
  Heun and DPM-Solver make their sigmas in float32 (and the first and last cast the sample to it): there the bound of
  1e-5 is one for float32, on the linear schedule whose sigma ends at 157.
- Euler and Heun walk in y = x_t / signal_rate, whatever the path; `scale_model_input` brings them back to x_t.
"""

import math

import diffusers
import numpy as np
import pytest
import torch

from course_lib import objectives, schedules
from course_lib.denoiser import Denoiser
from course_lib.samplers import ddim_step, dpm_step, heun_step, sample_steps

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # torch and numpy, within diffusers
f64 = torch.float64
LINEAR, COSINE = schedules.linear_beta(), schedules.cosine()
ZERO = schedules.rescale_zero_terminal_snr(LINEAR)
PREDICTION_TYPE = {objectives.eps: "epsilon", objectives.x0: "sample", objectives.v: "v_prediction"}
SHAPES = [(2, 2), (2, 1, 28, 28), (2, 4, 8, 8), (2, 1, 16000)]
each_objective = pytest.mark.parametrize("objective", PREDICTION_TYPE, ids=lambda o: o.name)


def worst(found, expected):
    return float((found - expected).abs().max())


def noise(shape=(3, 1, 8, 8), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def network(objective, schedule):
    """A fixed smooth function of x_t and t. As eps it is tamed, or x0 = (x_t - s eps) / a would grow 157-fold."""

    def net(x_t, time):
        time = time.reshape(-1, *[1] * (x_t.ndim - 1))
        wave = torch.sin(x_t + 5 * time) + 0.3 * torch.cos(2 * x_t.flip(-1) - time)
        if objective is objectives.eps:
            t = (time * schedule.T).round().long()
            return schedule.noise_rate[t] * x_t + schedule.signal_rate[t] * wave
        return wave

    return net


def theirs(name, schedule, objective=objectives.eps, **more):
    """Make diffusers' scheduler on our betas, with its table of alphas in float64."""
    betas = schedule.beta[1:]
    scheduler = getattr(diffusers, name)(
        trained_betas=betas.tolist(), prediction_type=PREDICTION_TYPE[objective], timestep_spacing="trailing", **more
    )
    assert worst(scheduler.alphas_cumprod, schedule.alpha_bar[1:]) < 1e-6  # what it made of them itself
    scheduler.alphas_cumprod = (1 - betas).cumprod(0)
    return scheduler


def their_walk(scheduler, net, x_T, **more):
    """Run diffusers' own loop on x_t, yielding the sample after each timestep."""
    x = x_T
    for timestep in scheduler.timesteps:
        time = torch.full((len(x),), (float(timestep) + 1) / 1000, dtype=f64)
        output = net(scheduler.scale_model_input(x, timestep).to(f64), time)
        x = scheduler.step(output, timestep, x, **more).prev_sample
        yield x


def our_walk(step, schedule, objective, x_T, times, seed=0):
    predict = Denoiser(network(objective, schedule), schedule, objective)
    return sample_steps(step, predict, schedule, x_T, times, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("schedule", [LINEAR, COSINE, ZERO], ids=lambda s: s.name)
def test_add_noise(schedule, shape):
    x0, eps, t = noise(shape), noise(shape, 1), torch.tensor([1, 700])
    expected = theirs("DDPMScheduler", schedule).add_noise(x0, eps, t - 1)
    assert worst(schedule.add_noise(x0, t, eps), expected) < 1e-12


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=lambda s: s.name)
@each_objective
def test_ddpm_over_all_1000_steps(objective, schedule):
    """Ancestral sampling with DDPM's smaller variance ("fixed_small", eq. 7): ddim_step with eta 1, step by step."""

    def ancestral(*given, **more):
        return ddim_step(*given, eta=1.0, **more)

    scheduler = theirs("DDPMScheduler", schedule, objective, clip_sample=False, variance_type="fixed_small")
    scheduler.set_timesteps(1000)
    # both draw at each step, in the same order; theirs skips the draw of the last step, where std is 0
    generator = torch.Generator().manual_seed(5)
    expected = their_walk(scheduler, network(objective, schedule), noise(), generator=generator)
    steps = our_walk(ancestral, schedule, objective, noise(), schedule.steps(1000), seed=5)
    assert max(worst(s.x_next, e) for s, e in zip(steps, expected, strict=True)) < 1e-9


@pytest.mark.parametrize("n", [100, 8])  # diffusers steps back by 1000 // n, so n divides 1000
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@each_objective
def test_ddim(objective, eta, n):
    def step(*given, **more):
        return ddim_step(*given, eta=eta, **more)

    for schedule in (LINEAR, COSINE):
        scheduler = theirs("DDIMScheduler", schedule, objective, clip_sample=False, set_alpha_to_one=True)
        scheduler.set_timesteps(n)
        generator = torch.Generator().manual_seed(6)
        expected = their_walk(scheduler, network(objective, schedule), noise(), eta=eta, generator=generator)
        steps = our_walk(step, schedule, objective, noise(), schedule.steps(n), seed=6)
        assert max(worst(s.x_next, e) for s, e in zip(steps, expected, strict=True)) < 1e-9


@pytest.mark.parametrize("objective", [objectives.x0, objectives.v], ids=lambda o: o.name)  # eps is refused there
def test_ddim_at_zero_terminal_snr(objective):
    scheduler = theirs("DDIMScheduler", ZERO, objective, clip_sample=False)
    scheduler.set_timesteps(20)
    expected = their_walk(scheduler, network(objective, ZERO), noise())
    steps = our_walk(ddim_step, ZERO, objective, noise(), ZERO.steps(20))
    assert max(worst(s.x_next, e) for s, e in zip(steps, expected, strict=True)) < 1e-9


@pytest.mark.parametrize("n", [50, 12])
@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler"])
@each_objective
def test_euler_and_heun_in_sigma(objective, name, n):
    """Euler in y = x / a along sigma is DDIM; Heun's rule is heun_step, in two of diffusers' steps except the last."""
    scheduler = theirs(name, LINEAR, objective)
    scheduler.set_timesteps(n)
    times, first = LINEAR.steps(n), float(LINEAR.signal_rate[-1])
    walk = list(their_walk(scheduler, network(objective, LINEAR), noise() / first))
    heun = name.startswith("Heun")
    ends = walk[1::2] + walk[-1:] if heun else walk
    step = heun_step if heun else ddim_step
    steps = our_walk(step, LINEAR, objective, noise(), times)
    for done, y in zip(steps, ends, strict=True):
        assert worst(done.x_next, y * LINEAR.signal_rate[done.t_next]) < 1e-5


@pytest.mark.parametrize("n", [100, 20, 5])
@each_objective
def test_dpm_solver(objective, n):
    scheduler = theirs(
        "DPMSolverMultistepScheduler", LINEAR, objective, algorithm_type="dpmsolver++", solver_order=2,
        solver_type="midpoint", lower_order_final=True, final_sigmas_type="zero",
    )  # fmt: skip
    scheduler.set_timesteps(n)
    expected = their_walk(scheduler, network(objective, LINEAR), noise())
    steps = our_walk(dpm_step, LINEAR, objective, noise(), LINEAR.steps(n))
    assert max(worst(s.x_next, e) for s, e in zip(steps, expected, strict=True)) < 1e-5


def test_flow_matching_euler():
    """Rectified flow: eta 0 on the flow path; theirs walks the fractions t/T that we hand it."""
    schedule, times = schedules.flow(), [1000, 700, 400, 150, 0]
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(sigmas=[t / 1000 for t in times[:-1]])
    net, x = network(objectives.flow, schedule), noise()
    steps = our_walk(ddim_step, schedule, objectives.flow, noise(), times)
    for done, timestep in zip(steps, scheduler.timesteps, strict=True):
        output = net(x, torch.full((len(x),), float(timestep) / 1000, dtype=f64))
        x = scheduler.step(output, timestep, x).prev_sample
        assert worst(done.x_next, x) < 1e-5


@pytest.mark.parametrize("n", [1, 3, 7, 20, 50, 1000])
def test_trailing_steps(n):
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(n)
    assert (np.asarray(scheduler.timesteps) + 1).tolist() == LINEAR.steps(n)[:-1]


def test_the_schedules_are_the_ones_that_diffusers_makes():
    """Its own linear and squaredcos_cap_v2 betas (float32), and its rescaling to zero terminal SNR of both."""
    for name, ours in (("linear", LINEAR), ("squaredcos_cap_v2", COSINE)):
        scheduler = diffusers.DDIMScheduler(beta_schedule=name)
        assert worst(scheduler.betas, ours.beta[1:]) < 1e-6
        rescaled = diffusers.DDIMScheduler(beta_schedule=name, rescale_betas_zero_snr=True)
        ours = schedules.rescale_zero_terminal_snr(ours)
        assert worst(rescaled.alphas_cumprod, ours.alpha_bar[1:]) < 1e-5
        assert rescaled.alphas_cumprod[-1] == 0 and math.isinf(float(ours.sigma[-1]))
