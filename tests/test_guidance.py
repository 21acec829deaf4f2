"""Guidance against second derivations: scores by autograd, the paper's own formula, diffusers' way with raw outputs."""

import pytest
import torch

from course_lib import data, objectives, schedules
from course_lib.denoiser import Denoiser
from course_lib.guidance import guided
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.models.unet import UNet
from course_lib.samplers import ddim_step, dpm_step, sample

SCHEDULE = schedules.cosine()
RING = data.ring(4)
NONE = torch.tensor(3)  # the label of a network of three classes that stands for none


def worst(found, expected):
    return float((found - expected).abs().max())


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network():
    """Return a small untrained Predictor with three labels, and a list of the batch sizes that it was asked for."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = UNet(widths=(8, 16), blocks=1, patch=2, classes=3)
        for weight in net.parameters():  # the last layer begins at 0, where all labels look alike
            weight.data.add_(0.1 * torch.randn_like(weight))
    asked, denoiser = [], Denoiser(net.eval().requires_grad_(False), SCHEDULE, objectives.v)

    def predict(x_t, t, cond=None):
        asked.append(len(x_t))
        return denoiser(x_t, t, cond)

    return predict, asked


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_the_exact_predictor_is_led_along_the_scores(scale):
    """eps = -s times the gradient of (1 - scale) log p(x) + scale log p(x given label), by autograd."""
    t, label = torch.tensor([200, 500, 800]), torch.tensor([0, 1, 3])
    x_t = draws(3, 2)
    eps = guided(ExactPredictor(RING, SCHEDULE), scale)(x_t, t, label).eps
    for i in range(3):
        a, s = (float(rate[t[i]]) for rate in (SCHEDULE.signal_rate, SCHEDULE.noise_rate))
        told = GaussianMixture(RING.means[label[i]][None], RING.std[label[i]].item())
        x = x_t[i : i + 1].clone().requires_grad_()
        density = (1 - scale) * RING.log_prob(x, a, s) + scale * told.log_prob(x, a, s)
        (score,) = torch.autograd.grad(density.sum(), x)
        assert worst(eps[i], -s * score[0]) < 1e-4


@pytest.mark.parametrize("w", [0.5, 2.0, 6.5])
def test_it_is_the_papers_formula_with_w_one_less_than_scale(w):
    predict, _ = network()
    x_t, t, label = draws(2, 1, 28, 28), torch.tensor([300, 900]), torch.tensor([0, 2])
    told, without = predict(x_t, t, label), predict(x_t, t, NONE.expand(2))
    assert worst(told.eps, without.eps) > 1e-2  # labels matter to this network
    led = guided(predict, 1 + w, NONE)(x_t, t, label)
    assert worst(led.eps, (1 + w) * told.eps - w * without.eps) < 1e-5
    a, s = SCHEDULE.rates(t, x_t)
    assert worst(a * led.x0 + s * led.eps, x_t) < 1e-5


def test_it_is_the_same_as_leading_the_networks_raw_output():
    """diffusers mixes what the network returns, here v, before anything else; all that follows is linear."""
    predict, _ = network()
    x_t, t, label = draws(2, 1, 28, 28), torch.tensor([300, 900]), torch.tensor([0, 2])
    a, s = SCHEDULE.rates(t, x_t)
    told, without = (objectives.target(objectives.v, *predict(x_t, t, c), a, s) for c in (label, NONE.expand(2)))
    expected = objectives.solve(objectives.v, without + 4 * (told - without), x_t, a, s)
    found = guided(predict, 4, NONE)(x_t, t, label)
    assert max(worst(found.x0, expected.x0), worst(found.eps, expected.eps)) < 1e-5


def test_two_questions_make_one_batch_and_one_question_none():
    predict, asked = network()
    x_t, t, label = draws(3, 1, 28, 28), torch.tensor([300, 600, 900]), torch.tensor([0, 1, 2])
    plain, without = predict(x_t, t, label), predict(x_t, t, NONE.expand(3))
    asked.clear()
    assert worst(guided(predict, 1, NONE)(x_t, t, label).eps, plain.eps) == 0
    assert worst(guided(predict, 0, NONE)(x_t, t, label).eps, without.eps) == 0
    guided(predict, 2, NONE)(x_t, t, label)
    assert asked == [3, 3, 6]


@pytest.mark.parametrize("null_cond", [NONE, NONE[None], NONE.expand(2)], ids=["()", "(1,)", "(B,)"])
def test_null_cond_may_be_one_for_all_or_one_each(null_cond):
    predict, _ = network()
    x_t, label = draws(2, 1, 28, 28), torch.tensor([0, 2])
    found = guided(predict, 3, null_cond)(x_t, torch.tensor([400]), label)  # one t for both
    expected = guided(predict, 3, NONE)(x_t, torch.tensor([400, 400]), label)
    assert worst(found.eps, expected.eps) == 0


@pytest.mark.parametrize("step", [ddim_step, dpm_step])
def test_samplers_walk_where_it_leads(step):
    label, x_T = torch.tensor([0, 1, 2, 3]).repeat(50), draws(200, 2, seed=2)
    exact = ExactPredictor(RING, SCHEDULE)
    away = []
    for scale in (1, 4):
        x0 = sample(step, guided(exact, scale), SCHEDULE, x_T, SCHEDULE.steps(50), label)
        assert bool((torch.cdist(x0, RING.means).argmin(1) == label).all())  # each at the mode it was told
        away.append(float((x0 * RING.means[label]).sum(1).mean()))  # how far out along its mode's own direction
    assert abs(away[0] - 1) < 0.02 and away[1] > 1.02  # guidance overshoots: it is no sampling from p(x given label)


X, T, LABEL = torch.zeros(2, 2), torch.tensor([5, 5]), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"scale": -1}, ValueError, "expected scale in"),
        ({"scale": float("nan")}, ValueError, "expected scale in"),
        ({"scale": "7.5"}, TypeError, "expected scale to be a number"),
        ({"predict": None}, TypeError, "expected a Predictor"),
        ({"null_cond": 3}, TypeError, "expected null_cond to be a tensor"),
        ({"null_cond": torch.tensor([3, 3, 3])}, ValueError, "expected null_cond of shape"),
        ({"null_cond": torch.zeros(2, 2)}, ValueError, "expected null_cond of shape"),
        ({"cond": None}, ValueError, "expected cond with 2 rows"),
        ({"cond": torch.tensor([0])}, ValueError, "expected cond with 2 rows"),
        ({"cond": torch.tensor(0)}, ValueError, "expected cond with 2 rows"),
        ({"cond": [0, 1]}, ValueError, "expected cond with 2 rows"),
        ({"x_t": torch.zeros(2, 2).long()}, TypeError, "expected x_t to hold floating-point"),
    ],
)
def test_doors(given, error, words):
    good = {"predict": ExactPredictor(RING, SCHEDULE), "scale": 2.0, "null_cond": None, "cond": LABEL, "x_t": X}
    with pytest.raises(error, match=words):
        asked = good | given
        guided(asked["predict"], asked["scale"], asked["null_cond"])(asked["x_t"], T, asked["cond"])
