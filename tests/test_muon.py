"""Muon: against the singular value decomposition, torch's own Adam and a loop written by hand."""

import copy

import pytest
import torch
from torch import nn

from course_lib import data
from course_lib.ema import EMA
from course_lib.models.unet import UNet
from course_lib.muon import Muon, orthogonal
from course_lib.recipes import muon
from course_lib.train import fit


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(24, 24), (16, 144), (144, 16), (1, 9), (9, 1), (64, 65)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_orthogonal_keeps_the_singular_vectors_and_levels_the_values(shape, scale):
    matrix = scale * seeded(*shape).double()
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonal(matrix) @ vh.T  # diagonal, if the vectors are the same
    values = inside.diagonal()
    assert float((inside - torch.diag(values)).abs().max()) < 1e-6
    assert all(0.6 < value < 1.25 for value in values[:-1].tolist())
    assert 0.05 < float(values[-1]) < 1.25  # the last value of a square matrix may be next to nothing: it is lifted
    assert (u @ torch.diag(inside.diagonal()) @ vh - orthogonal(matrix)).abs().max() < 1e-6


def test_orthogonal_is_the_polynomial_applied_to_each_singular_value():
    """Five times p(s) = 3.4445 s - 4.7750 s^3 + 2.0315 s^5, on values divided by their root of squares."""
    s = torch.tensor([5.0, 2.0, 0.7, 0.01], dtype=torch.float64)
    by_hand = s / s.square().sum().sqrt()
    for _ in range(5):
        by_hand = 3.4445 * by_hand - 4.7750 * by_hand**3 + 2.0315 * by_hand**5
    assert float((orthogonal(torch.diag(s)).diagonal() - by_hand).abs().max()) < 1e-6
    once = s / s.square().sum().sqrt()
    once = 3.4445 * once - 4.7750 * once**3 + 2.0315 * once**5
    assert float((orthogonal(torch.diag(s), rounds=1).diagonal() - once).abs().max()) < 1e-6


def test_orthogonal_of_the_transpose_is_the_transpose():
    matrix = seeded(5, 12)
    assert torch.equal(orthogonal(matrix.T), orthogonal(matrix).T)


def test_orthogonal_of_zero_is_zero_and_finite():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def follow(weight, optimizer, gradients):
    """Take one step for each gradient."""
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()


def test_the_others_follow_torchs_adam_to_the_last_digits():
    gradients = [seeded(6, 5, seed=k) * 10 ** (k % 5 - 3) for k in range(20)]
    mine, theirs = (nn.Parameter(seeded(6, 5, seed=99).double()) for _ in range(2))
    gradients = [gradient.double() for gradient in gradients]
    follow(mine, Muon([], [mine], lr=0.02, ratio=0.3, betas=(0.8, 0.97)), gradients)
    follow(theirs, torch.optim.Adam([theirs], lr=0.006, betas=(0.8, 0.97), eps=1e-8), gradients)
    assert float((mine - theirs).detach().abs().max()) < 1e-9
    assert float((mine - seeded(6, 5, seed=99)).detach().abs().max()) > 0.01


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (40, 2, 3, 3), (5, 8)])
def test_matrices_follow_a_loop_written_by_hand(shape):
    gradients = [seeded(*shape, seed=k) for k in range(6)]
    weight = nn.Parameter(seeded(*shape, seed=99))
    expected, average = weight.detach().clone(), torch.zeros(shape)
    follow(weight, Muon([weight], lr=0.05, momentum=0.9), gradients)
    for gradient in gradients:
        average = 0.9 * average + 0.1 * gradient
        ahead = (0.1 * gradient + 0.9 * average).reshape(shape[0], -1)
        tall = max(1, ahead.shape[0] / ahead.shape[1]) ** 0.5
        expected -= 0.05 * tall * orthogonal(ahead).reshape(shape)
    assert float((weight - expected).detach().abs().max()) < 1e-5


def test_a_step_of_a_matrix_is_as_long_whatever_the_size_of_its_gradient():
    steps = []
    for size in (1e-3, 1.0, 1e3):
        weight = nn.Parameter(torch.zeros(8, 12))
        follow(weight, Muon([weight], lr=0.02), [size * seeded(8, 12)])
        steps.append(weight.detach())
    assert float((steps[0] - steps[1]).abs().max()) < 1e-5 and float((steps[2] - steps[1]).abs().max()) < 1e-5
    assert 0.01 < float(torch.linalg.matrix_norm(steps[1], 2)) < 0.03


def test_a_weight_without_a_gradient_stays_and_a_gradient_of_zero_is_no_step():
    still, matrix, other = (nn.Parameter(seeded(4, 4, seed=k)) for k in range(3))
    before = [weight.detach().clone() for weight in (still, matrix, other)]
    optimizer = Muon([still, matrix], [other])
    matrix.grad, other.grad = torch.zeros(4, 4), torch.zeros(4, 4)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, (still, matrix, other), strict=True))
    assert still not in optimizer.state


def test_a_closure_is_called_with_gradients_on_and_its_loss_comes_back():
    weight = nn.Parameter(torch.eye(3))
    optimizer = Muon([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        losses = [float(optimizer.step(closure)) for _ in range(5)]
    assert losses[0] == 3.0 and losses == sorted(losses, reverse=True) and losses[-1] < 2


def test_the_unet_gives_muon_the_kernels_in_the_middle_and_adam_all_else():
    net = UNet(widths=(8, 16), classes=3)
    groups = {group["step_of"]: group["params"] for group in muon(net, 0.02).param_groups}
    names = {id(weight): name for name, weight in net.named_parameters()}
    kernels = {names[id(weight)] for weight in groups["muon"]}
    others = {names[id(weight)] for weight in groups["adam"]}
    assert kernels | others == set(names.values()) and not kernels & others
    assert all(weight.ndim == 4 for weight in groups["muon"]) and len(kernels) > 5
    assert (
        {name for name in others if net.get_parameter(name).ndim == 4}
        == {
            name
            for name in names.values()
            if name.startswith(("read.", "write.")) and net.get_parameter(name).ndim == 4
        }
        != set()
    )


def made(seed=0):
    torch.manual_seed(seed)
    net = UNet(widths=(8, 16), patch=2).to(memory_format=torch.channels_last)
    return net, muon(net, 0.02), EMA(net, 0.9)


def losses_of(net, optimizer, ema, folder=None, until=None):
    def loss(x, generator):
        noise = torch.randn(x.shape, generator=generator)
        return (net(x + noise, torch.full((len(x),), 0.5)) - noise).square().mean()

    losses, x = [], seeded(16, 1, 8, 8)
    for p in fit(
        loss, net, data.batches(x, 8), steps=20, lr=0.02, optimizer=optimizer, ema=ema, folder=folder
    ):  # fmt: skip
        losses.append(p.loss)
        if p.step == until:
            break
    return losses


def test_ten_and_ten_steps_of_muon_equal_twenty_to_the_last_bit(tmp_path):
    whole_net, whole_optimizer, whole_ema = made()
    whole = losses_of(whole_net, whole_optimizer, whole_ema)
    first = losses_of(*made(), folder=tmp_path, until=10)
    net, optimizer, ema = made(seed=7)
    assert first + losses_of(net, optimizer, ema, folder=tmp_path) == whole
    assert whole[-1] < whole[0]
    for mine, other in ((net, whole_net), (ema.net, whole_ema.net)):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))
    kernel = net.get_parameter("read.weight" if "read.weight" in dict(net.named_parameters()) else "write.weight")
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_a_state_dict_goes_into_another_muon():
    weight, twin = (nn.Parameter(seeded(4, 6)) for _ in range(2))
    bias, twin_bias = (nn.Parameter(torch.zeros(4)) for _ in range(2))
    one, two = Muon([weight], [bias], lr=0.03), Muon([twin], [twin_bias], lr=0.5)
    for k in range(3):
        bias.grad = seeded(4, seed=k)
        follow(weight, one, [seeded(4, 6, seed=k)])
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    with torch.no_grad():
        twin.copy_(weight)
        twin_bias.copy_(bias)
    for w, b, optimizer in ((weight, bias, one), (twin, twin_bias, two)):
        b.grad = seeded(4, seed=9)
        follow(w, optimizer, [seeded(4, 6, seed=9)])
    assert torch.equal(weight, twin) and torch.equal(bias, twin_bias)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: Muon([nn.Parameter(torch.zeros(3))]),
            r"expected matrices .* of shape \(3,\): it is one of the others",
        ),
        (lambda: Muon(["w"]), "expected matrices of two or more dimensions, got 'w'"),
        (lambda: Muon([], ["w"]), "expected others to be weights .*, got 'w'"),
        (lambda: Muon([]), "expected weights to follow, got none"),
        (lambda: Muon([nn.Parameter(torch.eye(2))], lr=-1), "expected lr in .* got -1"),
        (lambda: Muon([nn.Parameter(torch.eye(2))], momentum=1.5), "expected momentum in .* got 1.5"),
        (lambda: Muon([nn.Parameter(torch.eye(2))], betas=(0.9, 1)), "expected each of betas in .* got 1"),
        (lambda: Muon([nn.Parameter(torch.eye(2))], betas=0.9), "expected betas as two numbers in .0, 1., got 0.9"),
        (lambda: orthogonal(torch.zeros(3)), r"expected a matrix \(m, n\)"),
        (lambda: orthogonal(torch.eye(3, dtype=torch.int64)), r"expected a matrix \(m, n\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(call, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
