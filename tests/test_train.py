"""Training as a generator, and the slow copy of the weights."""

import math

import pytest
import torch
from torch import nn

from course_lib import data, objectives, schedules
from course_lib.denoiser import Denoiser, denoising_loss
from course_lib.ema import EMA
from course_lib.models.exact import ExactPredictor
from course_lib.models.mlp import MLP
from course_lib.train import fit, quick_precision


def worst(found, expected):
    return float((found - expected).abs().max())


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def small(seed=0):
    torch.manual_seed(seed)
    net = MLP(dim=2, width=16, depth=1)
    denoiser = Denoiser(net, schedules.cosine(), objectives.v)
    points = data.two_moons(256, generator=torch.Generator().manual_seed(0))
    return net, (lambda x0, generator: denoising_loss(denoiser, x0, generator=generator)), points


def test_the_same_seed_gives_the_same_weights_and_losses():
    runs = []
    for seed in (3, 3, 4):
        net, loss_fn, points = small()
        losses = [p.loss for p in fit(loss_fn, net, data.batches(points, 64), steps=5, seed=seed)]
        runs.append((losses, weights(net)))
    assert runs[0][0] == runs[1][0] and worst(runs[0][1], runs[1][1]) == 0
    assert runs[0][0] != runs[2][0]


def test_the_global_generator_is_neither_used_nor_moved():
    net, loss_fn, points = small()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    list(fit(loss_fn, net, data.batches(points, 64), steps=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_break_keeps_what_was_learnt():
    whole, loss_fn, points = small()
    at_3 = [weights(whole) for p in fit(loss_fn, whole, data.batches(points, 64), steps=6)][2]
    net, loss_fn, points = small()
    for progress in fit(loss_fn, net, data.batches(points, 64), steps=6):
        if progress.step == 3:
            break
    assert worst(weights(net), at_3) == 0 and worst(weights(net), weights(small()[0])) > 0


def test_loss_falls_towards_that_of_the_exact_answer():
    """500 steps close at least 80 % of the gap between an untrained network and the best there is, never all of it."""
    torch.manual_seed(0)
    ring, schedule, net = data.ring(modes=3, std=0.2), schedules.cosine(), MLP(dim=2, width=32, depth=2)
    denoiser, exact = Denoiser(net, schedule, objectives.eps), ExactPredictor(ring, schedule)
    best = Denoiser(lambda x_t, time: exact(x_t, (time * 1000).round().long()).eps, schedule, objectives.eps)
    points = ring.sample(4096, torch.Generator().manual_seed(1))

    def loss_of(denoiser):  # on the same draws each time
        with torch.no_grad():
            return float(denoising_loss(denoiser, points, generator=torch.Generator().manual_seed(2)))

    before = loss_of(denoiser)
    steps = fit(
        lambda x0, generator: denoising_loss(denoiser, x0, generator=generator),
        net, data.batches(points, 128), steps=500, lr=lambda share: 5e-3 * (1 - share),
    )  # fmt: skip
    assert len(list(steps)) == 500
    closed = (before - loss_of(denoiser)) / (before - loss_of(best))
    assert 0.8 < closed < 1, closed


def test_progress_counts_and_times():
    net, loss_fn, points = small()
    done = list(fit(loss_fn, net, data.batches(points, 64), steps=4, lr=lambda share: 1e-2 * (1 - share)))
    assert [(p.step, p.steps) for p in done] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [round(p.lr, 10) for p in done] == [0.01, 0.0075, 0.005, 0.0025]
    assert all(isinstance(p.loss, float) and p.seconds > 0 for p in done)
    assert [p.seconds for p in done] == sorted(p.seconds for p in done)


def test_one_step_is_adamw_on_the_clipped_gradient():
    """The first AdamW step moves each weight by lr * sign(gradient), but for decay (0.01) and its 1e-8."""
    net = nn.Linear(3, 1, bias=False)
    before = weights(net)
    list(fit(lambda x, _: 100 * net(x).sum(), net, [torch.tensor([[1.0, -2.0, 3.0]])], steps=1, lr=0.1))
    expected = before * (1 - 0.1 * 0.01) - 0.1 * torch.tensor([1.0, -1.0, 1.0])
    assert worst(weights(net), expected) < 1e-5


def test_fit_is_a_plain_loop_of_adamw():
    """Five steps against gradients taken afresh, clipped by hand, and torch's own optimiser."""
    net, loss_fn, points = small()
    list(fit(loss_fn, net, [points[:64]] * 5, steps=5, lr=0.01, seed=9))
    twin, twin_loss, points = small()
    optimizer, generator = torch.optim.AdamW(twin.parameters(), lr=0.01), torch.Generator().manual_seed(9)
    for _ in range(5):
        gradients = torch.autograd.grad(twin_loss(points[:64], generator), list(twin.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for weight, gradient in zip(twin.parameters(), gradients, strict=True):
            weight.grad = gradient / max(1.0, float(norm))
        optimizer.step()
    assert worst(weights(net), weights(twin)) < 1e-5


def test_gradients_are_clipped_to_norm_1():
    net = nn.Linear(1, 1, bias=False)
    list(fit(lambda x, _: 1000 * net(x).sum(), net, [torch.ones(1, 1)], steps=1))
    assert abs(float(net.weight.grad) - 1) < 1e-4


def test_frozen_weights_stay():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    before = weights(net[0])
    list(fit(lambda x, _: net(x).square().mean(), net, [torch.ones(4, 2)] * 3, steps=3))
    assert worst(weights(net[0]), before) == 0


def test_running_out_of_batches_is_said_and_keeps_the_weights():
    net, loss_fn, points = small()
    with pytest.raises(ValueError, match="expected a batch for each of 5 steps, got 2"):
        list(fit(loss_fn, net, [points[:64], points[64:128]], steps=5))
    after = weights(net)
    other, loss_fn, points = small()
    list(fit(loss_fn, other, [points[:64], points[64:128]], steps=2))
    assert worst(after, weights(other)) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(bad):
    net = nn.Linear(2, 1)
    kept = []

    def loss_fn(x, generator):
        kept.append(weights(net))
        return net(x).mean() * (bad if len(kept) == 3 else 1.0)

    with pytest.raises(FloatingPointError, match=r"expected a finite loss, got .* at step 3 of 9: lower lr"):
        list(fit(loss_fn, net, [torch.ones(1, 2)] * 9, steps=9))
    assert worst(weights(net), kept[-1]) == 0


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change():
    """sqrt has an infinite slope at 0: the loss is finite, its gradient is not."""
    net = nn.Linear(2, 1)
    before = weights(net)
    with pytest.raises(FloatingPointError, match="expected finite gradients"):
        list(fit(lambda x, _: (net(x) * 0).sqrt().mean(), net, [torch.ones(1, 2)], steps=1))
    assert worst(weights(net), before) == 0


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_ema_of_a_constant_follows_its_closed_form(decay):
    """Weights 0 at the start, then 1 for ever: 1 - product of the decays, min(decay, (1 + k) / (10 + k))."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema, left = EMA(net, decay), 1.0
    nn.init.ones_(net.weight)
    for k in range(200):
        ema.update(net)
        left *= min(decay, (1 + k) / (10 + k))
        assert abs(float(ema.net.weight) - (1 - left)) < 1e-6
    assert ema.updates == 200


def test_ema_after_its_warm_up_is_the_plain_average():
    """From update 100 on, decay 0.9 in full: the geometric sum of drawn weights, written out."""
    net, drawn = nn.Linear(4, 1, bias=False), torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    ema = EMA(net, decay=0.9)
    ema.updates = 100
    expected = weights(net) * 0.9**30 + sum(0.1 * 0.9 ** (29 - i) * drawn[i] for i in range(30))
    for row in drawn:
        net.weight.data = row[None]
        ema.update(net)
    assert worst(weights(ema.net), expected) < 1e-6


def test_ema_is_a_copy_for_drawing_only():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(net)
    net(torch.randn(8, 2))  # moves the running statistics, which are buffers
    ema.update(net)
    assert worst(ema.net[1].running_mean, net[1].running_mean) == 0 and ema.net[1].num_batches_tracked == 1
    assert not ema.net.training and not any(p.requires_grad for p in ema.net.parameters())
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_fit_updates_the_ema_after_each_step():
    net, loss_fn, points = small()
    ema, by_hand = EMA(net, 0.99), EMA(net, 0.99)
    for _ in fit(loss_fn, net, data.batches(points, 64), steps=4, ema=ema):
        by_hand.update(net)
    assert ema.updates == 4 and worst(weights(ema.net), weights(by_hand.net)) == 0
    assert worst(weights(ema.net), weights(net)) > 0


def trained(precision, steps=60):
    net, loss_fn, points = small()
    seen = []

    def watched(x0, generator):
        seen.append(torch.is_autocast_enabled("cpu"))
        return loss_fn(x0, generator)

    ema = EMA(net, 0.9)
    run = fit(watched, net, data.batches(points, 64), steps=steps, lr=1e-2, ema=ema, precision=precision)
    return [p.loss for p in run], net, ema, seen


def test_half_precision_learns_as_well_and_keeps_its_weights_whole():
    exact, exact_net, _, never = trained(torch.float32)
    rough, net, ema, always = trained(torch.bfloat16)
    assert not any(never) and all(always)
    assert 0 < abs(rough[0] - exact[0]) < 0.02 * exact[0]  # it does round
    tail, exact_tail = sum(rough[-20:]) / 20, sum(exact[-20:]) / 20
    assert abs(tail - exact_tail) < 0.1 * exact_tail and tail < 0.8 * rough[0]
    assert {p.dtype for p in [*net.parameters(), *ema.net.parameters()]} == {torch.float32}
    assert 0 < worst(weights(net), weights(exact_net)) < 0.5


def test_half_precision_ends_with_the_step():
    net, loss_fn, points = small()
    for _ in fit(loss_fn, net, data.batches(points, 64), steps=2, precision=torch.bfloat16):
        assert not torch.is_autocast_enabled("cpu")
        assert net(points, torch.rand(len(points))).dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "capabilities", "expected"),
    [
        ("cuda", {}, torch.bfloat16),
        ("mps", {"amx_bf16": True}, torch.float32),
        ("cpu", {"avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ("cpu", {"architecture": "aarch64", "bf16": True}, torch.float32),
        ("cpu", {"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_which_precision_is_quick(monkeypatch, device, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert quick_precision(torch.device(device)) == expected


@pytest.mark.parametrize("bad", [torch.float16, torch.float64, "bfloat16", None, 16])
def test_another_precision_is_refused(bad):
    net, loss_fn, points = small()
    with pytest.raises(ValueError, match=r"expected precision torch.float32 or torch.bfloat16, got"):
        fit(loss_fn, net, data.batches(points, 64), steps=2, precision=bad)
