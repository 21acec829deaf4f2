"""Denoiser and its loss: what the network is called with, and losses whose value is known beforehand."""

import numpy as np
import pytest
import scipy.stats
import torch

from course_lib import objectives, schedules
from course_lib.denoiser import Denoiser, denoising_loss, logit_normal_t, uniform_t
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.types import noise_like

OBJECTIVES = [objectives.eps, objectives.x0, objectives.v, objectives.flow]
SHAPES = [(4, 2), (4, 1, 28, 28), (4, 4, 8, 8), (4, 1, 16000)]
f64 = torch.float64


def worst(found, expected):
    return float((found - expected).abs().max())


def all_knowing(mixture, schedule, objective):
    """A network that returns the objective's target for the exact prediction."""
    predict = ExactPredictor(mixture, schedule)

    def net(x_t, time, cond=None):
        t = (time * schedule.T).round().long()
        x0, eps = predict(x_t, t, cond)
        return objectives.target(objective, x0, eps, *schedule.rates(t, x_t))

    return net


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_a_denoiser_of_the_exact_targets_is_the_exact_predictor(objective):
    schedule, generator = schedules.cosine(), torch.Generator().manual_seed(0)
    mixture = GaussianMixture(torch.randn(3, 2, generator=generator, dtype=f64), 0.3, labels=torch.tensor([0, 1, 1]))
    denoiser = Denoiser(all_knowing(mixture, schedule, objective), schedule, objective)
    x_t, t = torch.randn(5, 2, generator=generator, dtype=f64), torch.tensor([1, 20, 500, 900, 999])
    for cond in (None, torch.tensor([0, 1, 0, 1, 1])):
        found, expected = denoiser(x_t, t, cond), ExactPredictor(mixture, schedule)(x_t, t, cond)
        assert worst(found.x0, expected.x0) < 1e-9 and worst(found.eps, expected.eps) < 1e-9


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_network_sees_time_as_a_fraction(shape):
    seen = []

    def net(x_t, time, *cond):
        seen.append((time, cond))
        return torch.zeros_like(x_t)

    denoiser = Denoiser(net, schedules.cosine(200), objectives.v)
    answer = denoiser(torch.ones(shape), torch.tensor([1, 50, 100, 200]))
    assert answer.x0.shape == answer.eps.shape == shape
    denoiser(torch.ones(shape), torch.tensor([100]), "a cat")
    assert worst(seen[0][0], torch.tensor([0.005, 0.25, 0.5, 1.0])) < 1e-7 and seen[0][1] == ()
    assert seen[1][0].tolist() == [0.5] * 4 and seen[1][1] == ("a cat",)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_is_algorithm_1(objective, shape):
    """The same draws in the same order, the formula written out for each row of the batch."""
    schedule, x0 = schedules.cosine(), torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    denoiser = Denoiser(lambda x_t, time: 0.1 * x_t, schedule, objective)
    weight = objectives.min_snr(5.0)
    found = denoising_loss(denoiser, x0, weight=weight, generator=torch.Generator().manual_seed(7))
    again = torch.Generator().manual_seed(7)
    t, eps = torch.randint(1, 1001, (4,), generator=again), noise_like(x0, again)
    expected = 0.0
    for i in range(4):
        a, s = float(schedule.signal_rate[t[i]]), float(schedule.noise_rate[t[i]])
        c, d = {"eps": (0, 1), "x0": (1, 0), "v": (-s, a), "flow": (-1, 1)}[objective.name]
        error = c * x0[i] + d * eps[i] - 0.1 * (a * x0[i] + s * eps[i])
        expected += float(weight(schedule, objective, t[i : i + 1])) * float(error.square().mean()) / 4
    assert abs(float(found) - expected) < 1e-5 * max(1, expected)
    assert found.ndim == 0


def test_loss_of_the_exact_answer_is_what_noise_leaves_unknown():
    """For one normal of std 1 on a variance-preserving path, Var(eps | x_t) = a^2: the loss is the mean of alpha_bar.

    N = 40,000 draws; bound: five standard errors (an error of eps has variance at most 2 per dimension).
    """
    schedule, N = schedules.cosine(), 40_000
    normal = GaussianMixture(torch.zeros(1, 2), 1.0)
    denoiser = Denoiser(all_knowing(normal, schedule, objectives.eps), schedule, objectives.eps)
    x0 = normal.sample(N, torch.Generator().manual_seed(2))
    loss = float(denoising_loss(denoiser, x0, generator=torch.Generator().manual_seed(3)))
    assert abs(loss - float(schedule.alpha_bar[1:].mean())) < 5 * (2 / N) ** 0.5


def test_no_network_beats_the_exact_answer():
    schedule, mixture = schedules.cosine(), GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.2)
    x0, net = mixture.sample(4000, torch.Generator().manual_seed(4)), all_knowing(mixture, schedule, objectives.v)
    losses = []
    for factor in (1.0, 0.9, 1.1):
        denoiser = Denoiser(lambda x_t, time, f=factor: f * net(x_t, time), schedule, objectives.v)
        losses.append(float(denoising_loss(denoiser, x0, generator=torch.Generator().manual_seed(5))))
    assert losses[0] < losses[1] and losses[0] < losses[2]


def test_steps_are_drawn_from_1_to_T_and_never_0():
    seen, schedule = [], schedules.flow(5)

    def net(x_t, time):
        seen.append((time * 5).round())
        return x_t

    generator = torch.Generator().manual_seed(6)
    denoising_loss(Denoiser(net, schedule, objectives.v), torch.zeros(500, 2), generator=generator)
    assert sorted(set(seen[0].tolist())) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_loss_passes_gradients_and_the_condition_to_the_network():
    net, conds = torch.nn.Linear(2, 2), []

    def conditional(x_t, time, cond):
        conds.append(cond)
        return net(x_t)

    loss = denoising_loss(Denoiser(conditional, schedules.cosine(), objectives.eps), torch.ones(8, 2), "seven")
    loss.backward()
    assert conds == ["seven"] and float(net.weight.grad.abs().sum()) > 0


def test_loss_without_a_generator_draws_from_torch():
    denoiser = Denoiser(lambda x_t, time: x_t, schedules.cosine(), objectives.eps)
    torch.manual_seed(0)
    first, second = (float(denoising_loss(denoiser, torch.ones(8, 2))) for _ in range(2))
    torch.manual_seed(0)
    assert float(denoising_loss(denoiser, torch.ones(8, 2))) == first != second


CONDITIONS = [
    "a sentence of more letters than pictures",
    torch.arange(8),
    torch.tensor(3),
    torch.ones(1, 5),
    {"a": 1},
    7,
]


@pytest.mark.parametrize("cond", CONDITIONS, ids=repr)
def test_any_condition_reaches_the_network_whole(cond):
    conds = []
    denoiser = Denoiser(lambda x_t, time, cond: conds.append(cond) or x_t, schedules.cosine(), objectives.eps)
    denoising_loss(denoiser, torch.ones(8, 2), cond)
    assert len(conds) == 1 and (torch.equal(conds[0], cond) if isinstance(cond, torch.Tensor) else conds[0] == cond)


def test_logit_normal_t_is_the_logistic_normal_of_scipy():
    """Kolmogorov and Smirnov's largest gap, against the distribution on the grid 1/T .. T/T; N = 20,000."""
    N, T = 20_000, 1000
    t = logit_normal_t(N, T, torch.Generator().manual_seed(0))
    grid = np.arange(1, T + 1)
    found = (t.numpy()[:, None] <= grid).mean(0)
    with np.errstate(divide="ignore"):
        expected = scipy.stats.norm.cdf(np.log(grid / T) - np.log1p(-grid / T))  # P(sigmoid(z) <= t / T)
    assert np.abs(found - expected).max() < 1.95 / N**0.5  # one seed in a thousand lies beyond
    assert np.abs(found - grid / T).max() > 0.1  # uniform it is not


def test_uniform_t_is_uniform():
    N, T = 20_000, 50
    counts = uniform_t(N, T, torch.Generator().manual_seed(0)).bincount(minlength=T + 1)
    assert int(counts[0]) == 0
    assert scipy.stats.chisquare(counts[1:].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("draw_t", [uniform_t, logit_normal_t])
@pytest.mark.parametrize("T", [1, 2, 5, 1000])
def test_steps_lie_in_1_to_T(draw_t, T):
    t = draw_t(5000, T, torch.Generator().manual_seed(1))
    assert t.shape == (5000,) and t.dtype == torch.int64
    assert int(t.min()) >= 1 and int(t.max()) <= T and (T > 5 or t.unique().tolist() == list(range(1, T + 1)))
    torch.manual_seed(3)
    first = draw_t(5, 1000)
    torch.manual_seed(3)
    assert torch.equal(draw_t(5, 1000), first)


def test_the_loss_trains_at_the_steps_that_draw_t_says():
    seen = []
    denoiser = Denoiser(lambda x_t, time: seen.append(time) or x_t, schedules.cosine(10), objectives.v)
    denoising_loss(denoiser, torch.ones(3, 2), draw_t=lambda n, T, generator: torch.tensor([1, T // 2, T]))
    assert seen[0].tolist() == pytest.approx([0.1, 0.5, 1.0])
    generator, again = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    denoising_loss(denoiser, torch.ones(100, 2), draw_t=logit_normal_t, generator=generator)
    assert torch.equal((seen[1] * 10).round().long(), logit_normal_t(100, 10, again))


@pytest.mark.parametrize(
    ("draw_t", "said"),
    [
        (lambda n, T, generator: torch.rand(n), "expected t to hold whole numbers in 1..10"),
        (lambda n, T, generator: torch.ones(n + 1, dtype=torch.int64), r"expected draw_t.* t of shape \(4,\), got"),
        (lambda n, T, generator: torch.ones(1, dtype=torch.int64), r"expected draw_t.* t of shape \(4,\), got"),
        (lambda n, T, generator: torch.ones(n, 1, dtype=torch.int64), r"expected draw_t.* t of shape \(4,\), got"),
        (lambda n, T, generator: 5, r"expected draw_t.* t of shape \(4,\), got 5"),
        (lambda n, T, generator: None, r"expected draw_t.* t of shape \(4,\), got None"),
        (lambda n, T, generator: torch.arange(n), "expected t in 1..10, got 0: row 0 is clean data"),
        (lambda n, T, generator: torch.full((n,), T + 1), "expected t in 1..10, got 11"),
        ("uniform", "expected draw_t to be uniform_t or logit_normal_t, got 'uniform'"),
        (None, "expected draw_t to be uniform_t or logit_normal_t, got None"),
    ],
)
def test_a_draw_t_that_does_not_fit_is_refused(draw_t, said):
    denoiser = Denoiser(lambda x_t, time: x_t, schedules.cosine(10), objectives.v)
    with pytest.raises((TypeError, ValueError), match=said):
        denoising_loss(denoiser, torch.ones(4, 2), draw_t=draw_t)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("draw_t", [uniform_t, logit_normal_t])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_generators_of_either_device_draw_for_pictures_on_a_gpu(draw_t, device):
    denoiser = Denoiser(lambda x_t, time: x_t, schedules.cosine(), objectives.v)
    generator = torch.Generator(device).manual_seed(0)
    loss = denoising_loss(denoiser, torch.ones(8, 1, 4, 4, device="cuda"), draw_t=draw_t, generator=generator)
    assert loss.device.type == "cuda" and torch.isfinite(loss)


def test_clip_bounds_the_guess_and_keeps_x_t_whole():
    schedule, x_t, t = schedules.cosine(), 3 * torch.randn(6, 1, 4, 4), torch.tensor([1, 10, 500, 900, 999, 1000])
    open_, clipped = (Denoiser(lambda x, time: x.sin(), schedule, objectives.eps, clip) for clip in (None, 1.0))
    x0, eps = clipped(x_t, t)
    a, s = schedule.rates(t, x_t)
    assert x0.abs().max() <= 1 and open_(x_t, t).x0.abs().max() > 100
    assert worst(x0, open_(x_t, t).x0.clamp(-1, 1)) == 0
    assert worst(a * x0 + s * eps, x_t) < 1e-5


@pytest.mark.parametrize("around", [False, True])
def test_precision_says_what_the_network_computes_in(around):
    """float32 and bfloat16 whatever the code around says, None as it says; answers are like x_t in any case."""
    seen = []

    def net(x_t, time):
        output = x_t @ torch.eye(2)  # of the precision in which matrices are multiplied here
        seen.append(output.dtype)
        return output

    for precision in (None, torch.float32, torch.bfloat16):
        denoiser = Denoiser(net, schedules.cosine(10), objectives.x0, precision=precision)
        with torch.autocast("cpu", torch.bfloat16, enabled=around):
            x0, eps = denoiser(torch.ones(3, 2), torch.full((3,), 5))
        assert x0.dtype == eps.dtype == torch.float32
    assert seen == [torch.bfloat16 if around else torch.float32, torch.float32, torch.bfloat16]
