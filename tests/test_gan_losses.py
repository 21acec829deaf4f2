"""GAN losses: closed forms, torch's own cross entropy, the best discriminator there is, gradients by differences."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from course_lib.gan_losses import (
    DISCRIMINATOR,
    GENERATOR,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)

f64 = torch.float64
KINDS = ["minimax", "non_saturating", "hinge", "least_squares", "wasserstein"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


REAL, FAKE = 2 * normal(64), 2 * normal(48, seed=1)


def worst(found, expected):
    return float((found - expected).abs().max())


def test_every_kind_has_both_sides():
    assert list(DISCRIMINATOR) == list(GENERATOR) == KINDS


@pytest.mark.parametrize("kind", ["minimax", "non_saturating"])
@pytest.mark.parametrize("smooth", [0.0, 0.1, 0.5])
def test_the_log_losses_are_torchs_cross_entropy(kind, smooth):
    expected = cross_entropy(REAL, torch.full_like(REAL, 1 - smooth)) + cross_entropy(FAKE, torch.zeros_like(FAKE))
    assert worst(discriminator_loss(REAL, FAKE, kind, smooth), expected) < 1e-12
    assert worst(generator_loss(FAKE), cross_entropy(FAKE, torch.ones_like(FAKE))) < 1e-12
    assert worst(generator_loss(FAKE, "minimax"), -cross_entropy(FAKE, torch.zeros_like(FAKE))) < 1e-12


def by_hand(kind, real, fake):
    """The losses once more, from what each paper prints, in plain Python."""
    sigmoid = lambda v: 1 / (1 + math.exp(-v))  # noqa: E731
    mean = lambda f, values: sum(map(f, values.tolist())) / len(values)  # noqa: E731
    log_d = -mean(lambda v: math.log(sigmoid(v)), real) - mean(lambda v: math.log(1 - sigmoid(v)), fake)
    return {
        "minimax": (log_d, mean(lambda v: math.log(1 - sigmoid(v)), fake)),
        "non_saturating": (log_d, -mean(lambda v: math.log(sigmoid(v)), fake)),
        "hinge": (
            -mean(lambda v: min(0, -1 + v), real) - mean(lambda v: min(0, -1 - v), fake), -mean(lambda v: v, fake)
        ),
        "least_squares": (
            mean(lambda v: (v - 1) ** 2 / 2, real) + mean(lambda v: v**2 / 2, fake),
            mean(lambda v: (v - 1) ** 2 / 2, fake),
        ),
        "wasserstein": (-(mean(lambda v: v, real) - mean(lambda v: v, fake)), -mean(lambda v: v, fake)),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_loss_is_what_its_paper_prints(kind):
    judge, maker = by_hand(kind, REAL, FAKE)
    assert abs(float(discriminator_loss(REAL, FAKE, kind)) - judge) < 1e-12
    assert abs(float(generator_loss(FAKE, kind)) - maker) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_sides_pull_apart(kind):
    """Higher logits for real data and lower ones for fake data please the discriminator; the generator wants more."""
    real, fake = torch.zeros(4, dtype=f64, requires_grad=True), torch.zeros(4, dtype=f64, requires_grad=True)
    discriminator_loss(real, fake, kind).backward()
    assert bool((real.grad < 0).all())
    assert bool((fake.grad == 0 if kind == "least_squares" else fake.grad > 0).all())  # 0 is its label of fake data
    wish = torch.zeros(4, dtype=f64, requires_grad=True)
    generator_loss(wish, kind).backward()
    assert bool((wish.grad < 0).all())


def test_minimax_is_flat_where_the_discriminator_is_sure_and_non_saturating_is_not():
    """At a logit of -20 the slopes are -sigmoid(-20)/1 and -(1 - sigmoid(-20))/1 (Goodfellow et al., section 3)."""
    slopes = {}
    for kind in ("minimax", "non_saturating"):
        logit = torch.tensor([-20.0], dtype=f64, requires_grad=True)
        generator_loss(logit, kind).backward()
        slopes[kind] = float(logit.grad)
    share = 1 / (1 + math.exp(20))
    assert abs(slopes["minimax"] + share) < 1e-15 and abs(slopes["non_saturating"] + (1 - share)) < 1e-12


@pytest.mark.parametrize("kind", ["minimax", "non_saturating"])
def test_the_best_discriminator_knows_the_densities(kind):
    """Two classes of known odds: the loss is least at logit = log(p_data / p_g) (arXiv:1406.2661, proposition 1).

    Its value is then 2 log 2 - 2 JSD (theorem 1), here of two coins that show heads once and three times in four.
    """
    data, made = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1])  # heads is 1
    best = torch.tensor([math.log(3), -math.log(3)], dtype=f64, requires_grad=True)  # logits of tails and of heads
    loss = discriminator_loss(best[data], best[made], kind)
    (slope,) = torch.autograd.grad(loss, best)
    assert worst(slope, torch.zeros(2, dtype=f64)) < 1e-12
    p, q = [0.75, 0.25], [0.25, 0.75]
    divergence = sum(a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b)) for a, b in zip(p, q, strict=True))
    assert abs(float(loss.detach()) - (2 * math.log(2) - divergence)) < 1e-12


def test_smoothing_moves_the_best_logit_to_the_smoothed_odds():
    """Alone with real data the discriminator would say sigmoid = 1 - smooth, and no more (arXiv:1606.03498, 3.4)."""
    real = torch.tensor([math.log(0.9 / 0.1)], dtype=f64, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator_loss(real, FAKE, smooth=0.1), real)
    assert abs(float(slope)) < 1e-12
    real = torch.tensor([0.9], dtype=f64, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator_loss(real, FAKE, "least_squares", smooth=0.1), real)
    assert abs(float(slope)) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_huge_logits_stay_finite(kind):
    for size in (1e4, -1e4):
        real, fake = torch.full((3,), size, requires_grad=True), torch.full((3,), -size, requires_grad=True)
        total = discriminator_loss(real, fake, kind) + generator_loss(fake, kind)
        total.backward()
        assert bool(torch.isfinite(total)) and bool(real.grad.isfinite().all() and fake.grad.isfinite().all())
    if kind in ("minimax", "non_saturating"):  # cross entropy of a sure mistake is the logit itself
        assert float(discriminator_loss(torch.tensor([-1e4]), torch.tensor([-1e4]), kind)) == 1e4


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences(kind):
    real, fake = normal(5).requires_grad_(), normal(6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: discriminator_loss(a, b, kind), (real, fake))
    assert torch.autograd.gradcheck(lambda b: generator_loss(b, kind), (fake,))


# Penalties


def line(weight):
    return lambda x: x.flatten(1) @ weight.flatten()


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)], ids=str)
def test_the_penalties_of_a_plane_are_known(shape):
    """Logits x . w have the slope ||w|| everywhere: ||w||^2 and (||w|| - 1)^2, whatever the data."""
    weight = normal(*shape, seed=2)
    real, fake = normal(7, *shape).requires_grad_(), normal(7, *shape, seed=1)
    norm = float(weight.norm())
    assert abs(float(r1_penalty(line(weight)(real), real)) - norm**2) < 1e-12
    assert abs(float(gradient_penalty(line(weight), real, fake)) - (norm - 1) ** 2) < 1e-12


def test_r1_of_a_bowl_is_known():
    """Logits ||x||^2 / 2 have the gradient x: the mean of ||x||^2, a mean over the batch and a sum over the rest."""
    real = normal(9, 1, 2, 2).requires_grad_()
    logits = real.square().flatten(1).sum(1) / 2
    assert worst(r1_penalty(logits, real).detach(), real.detach().square().sum((1, 2, 3)).mean()) < 1e-12


def test_the_gradient_penalty_looks_at_points_between():
    """A bowl again: its slope is the norm of the point itself, so the points can be told from the penalty.

    real 0 and fake u of norm 2: the points have norms 2 (1 - share), uniform in 0..2, and the mean of (norm - 1)^2 is
    1/3; all on real or all on fake data it would be 1.
    """
    seen = []

    def bowl(x):
        seen.append(x)
        return x.square().sum(1) / 2

    fake = torch.zeros(20_000, 3, dtype=f64)
    fake[:, 0] = 2.0
    penalty = gradient_penalty(bowl, torch.zeros_like(fake), fake, torch.Generator().manual_seed(0))
    assert abs(float(penalty.detach()) - 1 / 3) < 0.01
    norms = seen[0].detach().norm(dim=1)
    assert abs(float(norms.mean()) - 1) < 0.02 and float(norms.min()) < 0.01 and float(norms.max()) > 1.99
    assert len(set(norms.tolist())) > 19_000  # each pair its own point


def test_one_share_for_all_numbers_of_a_picture():
    seen = []
    real, fake = torch.zeros(4, 1, 3, 3, dtype=f64), torch.ones(4, 1, 3, 3, dtype=f64)
    gradient_penalty(lambda x: seen.append(x) or x.sum((1, 2, 3)), real, fake)
    points = seen[0].detach().flatten(1)
    assert worst(points, points[:, :1].expand(4, 9)) == 0 and len(set(points[:, 0].tolist())) == 4


def test_the_generator_decides_the_points():
    real, fake = normal(6, 2), normal(6, 2, seed=1)
    bowl = lambda x: x.square().sum(1)  # noqa: E731
    a, b, c = (gradient_penalty(bowl, real, fake, torch.Generator().manual_seed(s)).item() for s in (0, 0, 1))
    assert a == b != c
    torch.manual_seed(5)
    before = torch.get_rng_state()
    gradient_penalty(bowl, real, fake, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.Linear(5, 1), nn.Flatten(0)).to(f64)


@pytest.mark.parametrize("name", ["r1", "gradient penalty"])
def test_a_penalty_teaches_the_discriminator(name):
    """Its gradient by the weights is that of differences: penalties are differentiated twice."""
    judge, real, fake = net(), normal(6, 3).requires_grad_(), normal(6, 3, seed=1)
    weight = judge[0].weight

    def penalty():
        if name == "r1":
            return r1_penalty(judge(real), real)
        return gradient_penalty(judge, real, fake, torch.Generator().manual_seed(0))

    (gradient,) = torch.autograd.grad(penalty(), weight)
    assert float(gradient.abs().max()) > 1e-4
    with torch.no_grad():
        for place in [(0, 0), (4, 2)]:
            kept, ends = float(weight[place]), []
            for step in (1e-6, -1e-6):
                weight[place] = kept + step
                with torch.enable_grad():
                    ends.append(float(penalty().detach()))
            weight[place] = kept
            assert abs((ends[0] - ends[1]) / 2e-6 - float(gradient[place])) < 1e-7


def test_the_gradient_penalty_teaches_nobody_else():
    judge, real, fake = net(), normal(4, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    gradient_penalty(judge, real, fake).backward()
    assert real.grad is None and fake.grad is None and judge[0].weight.grad is not None


def test_a_flat_discriminator_has_a_finite_gradient():
    """The slope of the norm at 0 has no value; 0 is taken."""
    judge = net()
    nn.init.zeros_(judge[2].weight)
    penalty = gradient_penalty(judge, normal(4, 3), normal(4, 3, seed=1))
    penalty.backward()
    assert penalty.item() == 1 and all(w.grad is None or bool(w.grad.isfinite().all()) for w in judge.parameters())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: discriminator_loss(REAL, FAKE, "hinges"), "expected kind minimax, .* got 'hinges'"),
        (lambda: generator_loss(FAKE, None), "expected kind minimax, .* got None"),
        (lambda: discriminator_loss(REAL[:, None], FAKE), r"expected real_logits of shape \(B,\), .* \(64, 1\)"),
        (lambda: generator_loss(FAKE.mean()), r"expected fake_logits of shape \(B,\)"),
        (lambda: discriminator_loss(REAL, FAKE, smooth=1.5), r"expected smooth in \[0, 1\], got 1.5"),
        (lambda: discriminator_loss(REAL, FAKE, "hinge", 0.1), "expected smooth=0 with kind 'hinge'"),
        (lambda: r1_penalty(REAL, normal(64, 2)), r"expected logits that follow from real: call .requires_grad_\(\)"),
        (
            lambda: r1_penalty(normal(4).requires_grad_() * 2, normal(4, 2).requires_grad_()),
            "expected logits that follow from real, got those of other data",
        ),
        (lambda: gradient_penalty(net(), normal(4, 3), normal(5, 3)), "expected fake to have the shape of real"),
        (lambda: gradient_penalty(net()[:3], normal(4, 3), normal(4, 3)), "expected the discriminator's logits of sha"),
        (lambda: gradient_penalty("judge", normal(4, 3), normal(4, 3)), "expected discriminator to be a network"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, said):
    with pytest.raises((TypeError, ValueError), match=said):
        call()
