"""Lesson 06's checks: wrong answers, written as a student would write them, each get their own sentence."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from course_lib import gan_losses
from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_06 import EXERCISES
from course_lib.models.gan import Discriminator, Generator


def verdict(number, function):
    return diagnose(EXERCISES[number], function)


# ---- right answers in other words ----


class MakerByHand(nn.Module):
    """The parts in another order, without a bias before a norm, put together in forward."""

    def __init__(self, latent, width):
        super().__init__()
        self.paint = nn.ConvTranspose2d(width, 1, kernel_size=4, stride=2, padding=1)
        self.grow = nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(2 * width), nn.BatchNorm2d(width)])
        self.begin = nn.Linear(latent, 98 * width)

    def forward(self, z):
        x = self.begin(z).reshape(len(z), -1, 7, 7)
        x = self.grow(functional.relu(self.norms[0](x)))
        return torch.tanh(self.paint(functional.relu(self.norms[1](x))))


def maker_by_list(n, c):
    parts = [nn.Linear(n, c * 98), nn.Unflatten(1, (c * 2, 7, 7))]
    for before, after in ((2 * c, c), (c, 1)):
        parts += [nn.BatchNorm2d(before), nn.ReLU(True), nn.ConvTranspose2d(before, after, 4, 2, 1)]
    return nn.Sequential(*parts, nn.Tanh())


def maker_of_lazy_layers(latent, width):
    """Layers that learn how many channels come in from their first batch."""
    return nn.Sequential(
        nn.LazyLinear(98 * width), nn.Unflatten(1, (2 * width, 7, 7)), nn.LazyBatchNorm2d(), nn.ReLU(),
        nn.LazyConvTranspose2d(width, 4, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU(),
        nn.LazyConvTranspose2d(1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


class JudgeByHand(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.decide = nn.Linear(width * 98, 1)
        self.two, self.one = nn.Conv2d(width, width * 2, 4, 2, 1), nn.Conv2d(1, width, 4, 2, 1)

    def forward(self, x):
        x = functional.leaky_relu(self.one(x), 0.2)
        x = functional.leaky_relu(self.two(x), 0.2)
        return self.decide(x.view(x.shape[0], -1))[:, 0]


def loss_by_cross_entropy(logits):
    return functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def loss_in_double(logits):
    return functional.softplus(-logits.double()).mean()


def loss_by_logsigmoid(logits):
    return -functional.logsigmoid(logits).sum() / len(logits)


def step_by_cross_entropy(maker, judge, for_maker, for_judge, x, z):
    with torch.no_grad():
        drawn = maker(z)
    real, fake = judge(x), judge(drawn)
    loss = functional.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    loss = loss + functional.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    judge.zero_grad()
    loss.backward()
    for_judge.step()
    for weight in judge.parameters():
        weight.requires_grad_(False)
    for_maker.zero_grad(set_to_none=False)
    other = functional.softplus(-judge(maker(z))).mean()
    other.backward()
    for_maker.step()
    for weight in judge.parameters():
        weight.requires_grad_(True)
    return float(loss.detach()), float(other.detach())


def step_with_inputs(g, d, g_opt, d_opt, real, z):
    """Gradients asked for by name, so that nothing has to be cleared."""
    fake = g(z)
    d_loss = gan_losses.discriminator_loss(d(real), d(fake.detach()))
    for weight, gradient in zip(d.parameters(), torch.autograd.grad(d_loss, list(d.parameters())), strict=True):
        weight.grad = gradient
    d_opt.step()
    g_loss = gan_losses.generator_loss(d(fake))
    for weight, gradient in zip(g.parameters(), torch.autograd.grad(g_loss, list(g.parameters())), strict=True):
        weight.grad = gradient
    g_opt.step()
    return [d_loss.item(), g_loss.item()]


def coverage_by_loop(labels, classes):
    nats, found = 0.0, 0
    for k in range(classes):
        p = float((labels == k).double().mean())
        if p > 0:
            found, nats = found + 1, nats + p * math.log(classes * p)
    return found, nats


def coverage_by_numpy(labels, K):
    p = np.bincount(labels.numpy(), minlength=K) / labels.numel()
    return np.unique(labels).size, math.log(K) + np.sum(p[p > 0] * np.log(p[p > 0]))


def coverage_as_a_list(labels, classes):
    values, counts = labels.unique(return_counts=True)
    p = counts.double() / counts.sum()
    return [values.numel(), float((p * (p * classes).log()).sum())]


def penalty_by_loop(judge, real, fake, share):
    total = 0.0
    for a, b, w in zip(real, fake, share, strict=True):
        m = (w * a + (1 - w) * b)[None].requires_grad_()
        (slope,) = torch.autograd.grad(judge(m), m, create_graph=True, grad_outputs=torch.ones(1, dtype=m.dtype))
        total = total + (slope.pow(2).sum().sqrt() - 1) ** 2
    return total / real.size(0)


def penalty_by_lerp(judge, real, fake, share):
    m = torch.lerp(fake, real, share.view([-1] + [1] * (real.dim() - 1)))
    m.requires_grad = True
    slope = torch.autograd.grad(judge(m).sum(), m, create_graph=True)[0]
    return ((torch.linalg.vector_norm(slope.reshape(len(m), -1), dim=1) - 1) ** 2).mean()


def sphere_by_rows(a, b, w):
    angle = math.acos(float(torch.dot(a / a.norm(), b / b.norm())))
    rows = [(math.sin((1 - x) * angle) * a + math.sin(x * angle) * b) / math.sin(angle) for x in w.tolist()]
    return torch.stack(rows)


def sphere_by_atan2(a, b, w):
    """The angle by its tangent, in double precision inside."""
    u, v = (x.double() / x.double().norm() for x in (a, b))
    theta = 2 * torch.atan2((u - v).norm(), (u + v).norm())
    p, q = ((theta * k).sin() / theta.sin() for k in (1 - w.double(), w.double()))
    return (p[:, None] * a + q[:, None] * b).float()


def sphere_by_a_right_angle(a, b, w):
    """Turn within the plane of the two, and let both scale with their own lengths."""
    one, other = a / a.norm(), b / b.norm()
    angle = torch.acos(one @ other)
    first, second = torch.sin(angle - w * angle) / torch.sin(angle), torch.sin(w * angle) / torch.sin(angle)
    return torch.outer(first, a) + torch.outer(second, b)


RIGHT = [
    ("6.1", MakerByHand),
    ("6.1", maker_by_list),
    ("6.1", maker_of_lazy_layers),
    ("6.2", JudgeByHand),
    ("6.2", lambda width: Discriminator(width=width)),
    ("6.3", loss_by_cross_entropy),
    ("6.3", loss_by_logsigmoid),
    ("6.3", loss_in_double),
    ("6.3", gan_losses.generator_loss),
    ("6.4", step_by_cross_entropy),
    ("6.4", step_with_inputs),
    ("6.5", coverage_by_loop),
    ("6.5", coverage_by_numpy),
    ("6.5", coverage_as_a_list),
    ("6.6", penalty_by_loop),
    ("6.6", penalty_by_lerp),
    ("6.7", sphere_by_rows),
    ("6.7", sphere_by_atan2),
    ("6.7", sphere_by_a_right_angle),
]


@pytest.mark.parametrize(("number", "function"), RIGHT, ids=lambda value: getattr(value, "__name__", value))
def test_other_words_are_right_too(number, function):
    found = verdict(number, function)
    assert found.passed, str(found)


# ---- 6.1 and 6.2 ----


def maker(*, end=(nn.Tanh,), unflatten=True, norm=True, act=nn.ReLU, first=2, kernel=(4, 2, 1), twice=True):
    def make(latent, width):
        parts = [nn.Linear(latent, first * width * 49)]
        if unflatten:
            parts.append(nn.Unflatten(1, (first * width, 7, 7)))
        for before, after in ((first * width, width), (width, 1))[: 2 if twice else 1]:
            parts += [nn.BatchNorm2d(before)] if norm else []
            parts += [act()] if act else []
            parts.append(nn.ConvTranspose2d(before, after, *kernel))
        return nn.Sequential(*parts, *(layer() for layer in end))

    return make


def grown_by_wide_layers(latent, width):
    return nn.Sequential(
        nn.Linear(latent, width * 49), nn.Unflatten(1, (width, 7, 7)), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, width * 2, 4, 2, 1), nn.BatchNorm2d(width * 2), nn.ReLU(),
        nn.ConvTranspose2d(width * 2, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def bent_once(*, at):
    """A generator with a ReLU at 7 x 7 or at 14 x 14, and none at the other."""

    def make(latent, width):
        one, two = (nn.ReLU() if at == side else nn.Identity() for side in (7, 14))
        return nn.Sequential(
            nn.Linear(latent, 98 * width), nn.Unflatten(1, (2 * width, 7, 7)), nn.BatchNorm2d(2 * width), one,
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), two,
            nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    return make


MAKERS = {
    "first relu missing": bent_once(at=14),
    "second relu missing": bent_once(at=7),
    "asleep": lambda latent, width: maker()(latent, width).train(False),
    "no tanh": maker(end=()),
    "sigmoid for tanh": maker(end=(nn.Sigmoid,)),
    "no batch norm": maker(norm=False),
    "batch norm at the end": maker(end=(lambda: nn.BatchNorm2d(1), nn.Tanh)),
    "no relu": maker(act=None),
    "leaky": maker(act=lambda: nn.LeakyReLU(0.2, inplace=True)),
    "width twice": maker(first=1),
    "channels grow": grown_by_wide_layers,
    "no unflatten": maker(unflatten=False),
}


@pytest.mark.parametrize("name", MAKERS)
def test_wrong_generators_are_known(name):
    found = verdict("6.1", MAKERS[name])
    assert found.name == name, str(found)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (maker(kernel=(4, 2, 0)), "7 ends at 34"),
        (maker(kernel=(4, 1, 1)), "7 ends at 9"),
        (maker(kernel=(3, 2, 1)), "should double the side"),
        (lambda latent, width: maker(twice=False)(latent, 1), "one doubling is missing"),
        (maker(end=(lambda: nn.Conv2d(1, 3, 1), nn.Tanh)), "(3, 28, 28) (channels, height, width)"),
    ],
)
def test_pictures_of_another_size_are_told_why(make, words):
    found = verdict("6.1", make)
    assert found.name == "size" and words in found.says, str(found)


def test_a_width_written_as_a_number_is_told_by_its_weights():
    found = verdict("6.1", lambda latent, width: maker()(latent, 16))
    assert found.name == "numbers" and "the weights in its layers" in found.says, str(found)
    assert "you have 108800, where 52352 was expected" in found.says, str(found)


def test_a_kernel_of_three_is_told_by_its_weights():
    def make(width):
        return nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(98 * width, 1), nn.Flatten(0),
        )  # fmt: skip

    found = verdict("6.2", make)
    assert found.name == "numbers" and "the weights in its layers" in found.says, str(found)


def test_what_is_no_network_is_told_so():
    def drawn(latent, width):
        return maker()(latent, width)(torch.randn(2, latent))

    for function, words in ((drawn, "return the network itself"), (lambda n, w: [nn.Linear(n, w)], "nn.Sequential(*")):
        found = verdict("6.1", function)
        assert found.name == "no network" and words in found.says, str(found)
    assert "return" in verdict("6.1", lambda latent, width: None).says
    assert verdict("6.2", lambda width: (nn.Conv2d(1, width, 4), nn.ReLU())).name == "no network"


def test_the_course_own_generator_differs_by_a_bias_alone():
    """The library leaves out the linear layer's bias, one number a pixel; a student's network has it."""
    assert verdict("6.1", lambda latent, width: Generator(latent, width=width)).name == "numbers"


def judge(*, slope=0.2, norm=False, double=2, end=(lambda: nn.Flatten(0),), act=None):
    def make(width):
        act_ = act or (lambda: nn.LeakyReLU(slope))
        parts = [nn.Conv2d(1, width, 4, 2, 1), act_(), nn.Conv2d(width, double * width, 4, 2, 1)]
        parts += [nn.BatchNorm2d(double * width)] if norm else []
        parts += [act_(), nn.Flatten(), nn.Linear(double * width * 49, 1)]
        return nn.Sequential(*parts, *(layer() for layer in end))

    return make


class Squeezing(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.all = judge(end=())(width)

    def forward(self, x):
        return torch.squeeze(self.all(x))


class BentOnce(nn.Module):
    """A discriminator without one of its two LeakyReLUs."""

    def __init__(self, width, first):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, width, 4, 2, 1), nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.decide, self.first = nn.Linear(98 * width, 1), first

    def forward(self, x):
        x = functional.leaky_relu(self.one(x), 0.2) if self.first else self.one(x)
        x = self.two(x) if self.first else functional.leaky_relu(self.two(x), 0.2)
        return self.decide(x.flatten(1)).flatten()


JUDGES = {
    "first leaky relu missing": lambda width: BentOnce(width, first=False),
    "second leaky relu missing": lambda width: BentOnce(width, first=True),
    "slope of 2": judge(slope=2),
    "asleep": lambda width: judge()(width).eval(),
    "sigmoid": judge(end=(nn.Sigmoid, lambda: nn.Flatten(0))),
    "a column": judge(end=()),
    "squeezed": Squeezing,
    "plain relu": judge(act=nn.ReLU),
    "torch's slope": judge(act=nn.LeakyReLU),
    "batch norm": judge(norm=True),
    "same width": judge(double=1),
    "nothing between": judge(act=nn.Identity),
}


@pytest.mark.parametrize("name", JUDGES)
def test_wrong_discriminators_are_known(name):
    found = verdict("6.2", JUDGES[name])
    assert found.name == name, str(found)


# ---- 6.3 ----

LOSSES = {
    "minimax": lambda logits: torch.log1p(-torch.sigmoid(logits.clamp(max=30))).mean(),
    "labels swapped": lambda logits: functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits)),
    "sigmoid twice": lambda p: functional.binary_cross_entropy_with_logits(torch.sigmoid(p), torch.ones_like(p)),
    "sum": lambda logits: functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="sum"),
    "logarithm cut off": lambda x: functional.binary_cross_entropy(x.sigmoid(), torch.ones(len(x), dtype=x.dtype)),
    "infinite": lambda logits: -(1 / (1 + torch.exp(-logits))).log().mean(),
    "sign": lambda logits: -functional.softplus(-logits).mean(),
    "no logarithm": lambda logits: (-logits).mean(),
    "probability": lambda logits: -(logits.sigmoid()).mean(),
    "not one number": lambda logits: -functional.logsigmoid(logits),
    "a number": lambda logits: functional.softplus(-logits).mean().tolist(),
    "detached": lambda logits: functional.softplus(-torch.tensor(logits.tolist(), dtype=logits.dtype)).mean(),
}


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "minimax"])
def test_wrong_losses_are_known(name):
    found = verdict("6.3", LOSSES[name])
    assert found.name == name, str(found)


def test_an_exponential_that_overflows_is_not_called_a_sigmoid_of_yours():
    found = verdict("6.3", lambda logits: torch.log1p(torch.exp(-logits)).mean())
    assert found.name == "infinite" and "exp(200) is infinite" in found.says, str(found)


def test_a_loss_that_is_printed_and_not_returned_is_told_so():
    found = verdict("6.3", lambda logits: None)
    assert "is the `return` missing?" in found.says, str(found)


def test_minimax_is_told_by_its_slope():
    found = verdict(
        "6.3", lambda logits: -functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
    )
    assert found.name == "minimax" and "at a logit of -5, its slope is -0.001, and -0.2 is wanted" in found.says


# ---- 6.4 ----


def bce(logits, label):
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(label)))


def both_cleared_first(g, d, g_opt, d_opt, real, z):
    g_opt.zero_grad()
    d_opt.zero_grad()
    fake = g(z)
    d_loss = bce(d(real), 1) + bce(d(fake), 0)
    d_loss.backward(retain_graph=True)
    d_opt.step()
    g_loss = bce(d(fake), 1)
    g_loss.backward()
    g_opt.step()
    return d_loss.item(), g_loss.item()


def drawn_twice_without_detach(g, d, g_opt, d_opt, real, z):
    d_loss = bce(d(real), 1) + bce(d(g(z)), 0)
    d_opt.zero_grad()
    d_loss.backward()
    d_opt.step()
    g_loss = bce(d(g(z)), 1)
    g_opt.zero_grad()
    g_loss.backward()
    g_opt.step()
    return d_loss.item(), g_loss.item()


def second_backward_through_a_freed_graph(g, d, g_opt, d_opt, real, z):
    d_opt.zero_grad()
    drawn = g(z)
    (bce(d(real), 1) + bce(d(drawn), 0)).backward()
    d_opt.step()
    g_opt.zero_grad()
    bce(d(drawn), 1).backward()


def rounds(first=None, second=None):
    """A round with the discriminator's part or the generator's replaced."""

    def d_part(g, d, g_opt, d_opt, real, z):
        loss = bce(d(real), 1) + bce(d(g(z).detach()), 0)
        d_opt.zero_grad()
        loss.backward()
        d_opt.step()
        return loss.item()

    def g_part(g, d, g_opt, d_opt, real, z):
        loss = bce(d(g(z)), 1)
        g_opt.zero_grad()
        loss.backward()
        g_opt.step()
        return loss.item()

    def step(*given):
        return (first or d_part)(*given), (second or g_part)(*given)

    return step


def swapped_labels(g, d, g_opt, d_opt, real, z):
    loss = bce(d(real), 0) + bce(d(g(z).detach()), 1)
    d_opt.zero_grad()
    loss.backward()
    d_opt.step()
    return loss.item()


def never_cleared(g, d, g_opt, d_opt, real, z):
    loss = bce(d(real), 1) + bce(d(g(z).detach()), 0)
    loss.backward()
    d_opt.step()
    return loss.item()


def one_batch(g, d, g_opt, d_opt, real, z):
    logits = d(torch.cat((real, g(z).detach())))
    loss = bce(logits[: len(real)], 1) + bce(logits[len(real) :], 0)
    d_opt.zero_grad()
    loss.backward()
    d_opt.step()
    return loss.item()


def d_unmoved(g, d, g_opt, d_opt, real, z):
    d_opt.zero_grad()
    loss = bce(d(real), 1) + bce(d(g(z).detach()), 0)
    d_opt.step()
    return loss.item()


def d_cleared_late(g, d, g_opt, d_opt, real, z):
    loss = bce(d(real), 1) + bce(d(g(z).detach()), 0)
    loss.backward()
    d_opt.zero_grad(set_to_none=False)
    d_opt.step()
    return loss.item()


def d_stepless(g, d, g_opt, d_opt, real, z):
    loss = bce(d(real), 1) + bce(d(g(z).detach()), 0)
    d_opt.zero_grad()
    loss.backward()
    return loss.item()


def g_steps_for_d(g, d, g_opt, d_opt, real, z):
    loss = bce(d(real), 1) + bce(d(g(z).detach()), 0)
    d_opt.zero_grad()
    loss.backward()
    g_opt.step()
    return loss.item()


def steps_exchanged(g, d, g_opt, d_opt, real, z):
    drawn = g(z)
    d_opt.zero_grad()
    d_loss = bce(d(real), 1) + bce(d(drawn.detach()), 0)
    d_loss.backward()
    g_opt.step()
    g_opt.zero_grad()
    g_loss = bce(d(drawn), 1)
    g_loss.backward()
    d_opt.step()
    return d_loss.item(), g_loss.item()


def g_without_backward(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(z)), 1)
    g_opt.zero_grad()
    g_opt.step()
    return loss.item()


def opinion_kept(g, d, g_opt, d_opt, real, z):
    on_fake = d(g(z).detach())
    d_loss = bce(d(real), 1) + bce(on_fake, 0)
    d_opt.zero_grad()
    d_loss.backward()
    d_opt.step()
    g_loss = bce(on_fake, 1)
    g_opt.zero_grad()
    g_loss.backward()
    g_opt.step()
    return d_loss.item(), g_loss.item()


def d_moves_again(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(z)), 1)
    g_opt.zero_grad()
    loss.backward()
    d_opt.step()
    return loss.item()


def nobody_moves(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(z)), 1)
    g_opt.zero_grad()
    loss.backward()
    return loss.item()


def everybody_moves(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(z)), 1)
    g_opt.zero_grad()
    loss.backward()
    d_opt.step()
    g_opt.step()
    return loss.item()


def detached_again(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(z).detach()), 1)
    g_opt.zero_grad()
    loss.backward()
    g_opt.step()
    return loss.item()


def saturating(g, d, g_opt, d_opt, real, z):
    loss = -bce(d(g(z)), 0)
    g_opt.zero_grad()
    loss.backward()
    g_opt.step()
    return loss.item()


def honest(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(z)), 0)
    g_opt.zero_grad()
    loss.backward()
    g_opt.step()
    return loss.item()


def grows(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(z)), 1)
    loss.backward()
    g_opt.step()
    return loss.item()


def new_noise(g, d, g_opt, d_opt, real, z):
    loss = bce(d(g(torch.randn(z.shape, dtype=z.dtype))), 1)
    g_opt.zero_grad()
    loss.backward()
    g_opt.step()
    return loss.item()


def generator_moves_first(g, d, g_opt, d_opt, real, z):
    drawn = g(z)
    g_loss = bce(d(drawn), 1)
    g_opt.zero_grad()
    g_loss.backward()
    g_opt.step()
    d_loss = bce(d(real), 1) + bce(d(drawn.detach()), 0)
    d_opt.zero_grad()
    d_loss.backward()
    d_opt.step()
    return d_loss.item(), g_loss.item()


def losses_first(g, d, g_opt, d_opt, real, z):
    drawn = g(z)
    g_loss, d_loss = bce(d(drawn), 1), bce(d(real), 1) + bce(d(drawn.detach()), 0)
    g_opt.zero_grad()
    g_loss.backward()
    d_opt.zero_grad()
    d_loss.backward()
    g_opt.step()
    d_opt.step()
    return d_loss.item(), g_loss.item()


def old_opinion(g, d, g_opt, d_opt, real, z):
    opinion = d(g(z))
    d_loss = bce(d(real), 1) + bce(opinion, 0)
    d_opt.zero_grad()
    d_loss.backward(retain_graph=True)
    d_opt.step()
    g_opt.zero_grad()
    bce(opinion, 1).backward()
    g_opt.step()


def turned_round(*given):
    return rounds()(*given)[::-1]


def tensors_returned(*given):
    return tuple(torch.tensor(loss) for loss in rounds()(*given))


ROUNDS = {
    "the generator follows both": both_cleared_first,
    "detach missing": drawn_twice_without_detach,
    "graph gone": second_backward_through_a_freed_graph,
    "logits of before": old_opinion,
    "the generator never moves": rounds(second=detached_again),
    "logits kept": opinion_kept,
    "the discriminator never moves": rounds(first=d_unmoved),
    "no step of the discriminator": rounds(first=d_stepless),
    "steps exchanged": steps_exchanged,
    "not two losses": lambda *given: sum(rounds()(*given)),
    "wrong optimiser": rounds(second=d_moves_again),
    "both optimisers": rounds(second=everybody_moves),
    "no step of the generator": rounds(second=nobody_moves),
    "labels swapped": rounds(first=swapped_labels),
    "the discriminator's gradients add up": rounds(first=never_cleared),
    "the generator's gradients add up": rounds(second=grows),
    "one batch": rounds(first=one_batch),
    "old opponent": losses_first,
    "minimax": rounds(second=saturating),
    "helps its opponent": rounds(second=honest),
    "fresh z": rounds(second=new_noise),
    "losses turned": turned_round,
    "no plain numbers": tensors_returned,
}


@pytest.mark.parametrize("name", ROUNDS)
def test_wrong_rounds_are_known(name):
    found = verdict("6.4", ROUNDS[name])
    assert found.name == name, str(found)


def test_a_forgotten_backward_is_not_called_a_detach():
    found = verdict("6.4", rounds(second=g_without_backward))
    assert found.name == "the generator never moves" and "is `g_loss.backward()` missing" in found.says, str(found)


def test_a_gradient_cleared_before_its_step_moves_nobody():
    assert verdict("6.4", rounds(first=d_cleared_late)).name == "the discriminator never moves"


def test_steps_exchanged_are_known_where_each_turn_draws_for_itself():
    assert verdict("6.4", rounds(first=g_steps_for_d, second=d_moves_again)).name == "steps exchanged"


def test_a_loss_that_is_off_is_told_by_whose_it_is_and_when():
    def doubled(*given):
        d_loss, g_loss = rounds()(*given)
        return d_loss, 2 * g_loss

    found = verdict("6.4", doubled)
    assert found.name == "numbers" and "the generator's loss in round 1" in found.says, str(found)


def test_a_generator_that_moves_first_faces_the_old_opponent_too():
    assert verdict("6.4", generator_moves_first).name == "old opponent"


def test_drawing_twice_is_right_too():
    assert verdict("6.4", rounds()).passed


# ---- 6.5 ----


def shares(labels, classes):
    return [(labels == k).double().mean().item() for k in range(classes)]


def with_threshold(least):
    def covered(x, K):
        p = [share for share in shares(x, K) if share > least]
        return len(p), sum(share * math.log(K * share) for share in p)

    return covered


COVERAGES = {
    "rare classes left out": with_threshold(0.04),
    "order": lambda x, K: coverage_by_loop(x, K)[::-1],
    "tensors": lambda x, K: (len(x.unique()), torch.tensor(coverage_by_loop(x, K)[1])),
    "by the classes seen": lambda x, K: (
        len(x.unique()),
        sum(p * math.log(p * len(x.unique())) for p in shares(x, K) if p),
    ),
    "not a number": lambda x, K: (len(x.unique()), sum(p * torch.tensor(K * p).log() for p in shares(x, K)).item()),
    "bits": lambda x, K: (len(x.unique()), sum(p * math.log2(K * p) for p in shares(x, K) if p)),
    "entropy": lambda x, K: (len(x.unique()), -sum(p * math.log(p) for p in shares(x, K) if p)),
    "sign": lambda x, K: (len(x.unique()), sum(p * math.log(1 / (K * p)) for p in shares(x, K) if p)),
    "mean": lambda x, K: (len(x.unique()), float(np.mean([p * math.log(K * p) for p in shares(x, K) if p]))),
    "largest label": lambda x, K: (len(torch.bincount(x)), coverage_by_loop(x, K)[1]),
    "all classes": lambda x, K: (len(torch.bincount(x, minlength=K)), coverage_by_loop(x, K)[1]),
}


@pytest.mark.parametrize("name", COVERAGES)
def test_wrong_coverages_are_known(name):
    found = verdict("6.5", COVERAGES[name])
    assert found.name == name, str(found)


@pytest.mark.parametrize("least", [0.003, 0.01, 0.05])
def test_no_threshold_above_zero_passes(least):
    assert verdict("6.5", with_threshold(least)).name == "rare classes left out"


def test_a_count_that_stays_a_tensor_is_told_so():
    def counted(x, K):
        counts = torch.bincount(x, minlength=K)
        return (counts > 0).sum(), coverage_by_loop(x, K)[1]

    assert verdict("6.5", counted).name == "tensors"


def test_a_logarithm_of_nothing_is_told_by_its_error():
    found = verdict("6.5", lambda x, K: (len(x.unique()), sum(p * math.log(K * p) for p in shares(x, K))))
    assert found.name == "error" and "ValueError" in found.says, str(found)


# ---- 6.6 ----


def penalty(*, where=None, size=None, target=1, end=torch.mean, graph=True, ask=torch.sum, power=2):
    def measured(judge, real, fake, share):
        w = share.view(-1, *(1 for _ in real.shape[1:]))
        m = (where or (lambda a, b, w: b + w * (a - b)))(real, fake, w).clone().detach()
        m.requires_grad = True
        slope = torch.autograd.grad(ask(judge(m)), m, create_graph=graph)[0].reshape(len(m), -1)
        length = (size or (lambda s: (s * s).sum(1).sqrt()))(slope)
        return end((length - target) ** power)

    return measured


PENALTIES = {
    "at real pictures": penalty(where=lambda a, b, w: a),
    "at drawings": penalty(where=lambda a, b, w: b),
    "half way": penalty(where=lambda a, b, w: 0.5 * a + 0.5 * b),
    "shares swapped": penalty(where=lambda a, b, w: a + w * (b - a)),
    "one share for all": penalty(where=lambda a, b, w: w[0] * a + (1 - w[0]) * b),
    "norm over the batch": penalty(size=lambda s: s.norm(2)),
    "columns": penalty(size=lambda s: s.norm(2, dim=0)),
    "each pixel": penalty(size=torch.abs),
    "mean over the pixels": penalty(size=lambda s: s.pow(2).mean(dim=1) ** 0.5),
    "no root": penalty(size=lambda s: s.pow(2).sum(dim=1)),
    "not squared": penalty(power=1),
    "size for square": penalty(size=lambda s: 1 + (s.norm(dim=1) - 1).abs(), power=1),
    "towards 0": penalty(target=0),
    "sum": penalty(end=torch.sum),
    "mean of the logits": penalty(ask=torch.mean),
    "no way back": penalty(graph=False),
    "not one number": penalty(end=lambda x: x),
    "a number": penalty(end=lambda x: x.mean().item()),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_wrong_penalties_are_known(name):
    found = verdict("6.6", PENALTIES[name])
    assert found.name == name, str(found)


def test_a_length_that_is_not_flattened_is_known():
    def along_the_channels(judge, real, fake, share):
        m = torch.lerp(fake, real, share.view([-1] + [1] * (real.dim() - 1))).requires_grad_()
        slope = torch.autograd.grad(judge(m).sum(), m, create_graph=True)[0]
        return ((slope.norm(2, dim=1) - 1) ** 2).mean()

    assert verdict("6.6", along_the_channels).name == "not flattened"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("real", lambda real, fake, share: real.mul_(share.view(-1, *[1] * (real.dim() - 1)))),
        ("fake", lambda real, fake, share: fake.add_(1)),
        ("share", lambda real, fake, share: share.mul_(0.5)),
    ],
)
def test_an_input_changed_in_place_is_named(name, change):
    def changing(judge, real, fake, share):
        change(real, fake, share)
        return penalty_by_lerp(judge, real, fake, share)

    found = verdict("6.6", changing)
    assert found.name == "in place" and f"You changed `{name}` in place" in found.says, str(found)


@pytest.mark.parametrize("cut", [lambda p: p.detach(), lambda p: torch.tensor(p.item(), dtype=p.dtype)])
def test_a_penalty_cut_off_from_its_graph_is_not_told_about_create_graph_alone(cut):
    found = verdict("6.6", lambda *given: cut(penalty_by_lerp(*given)))
    assert found.name == "no way back" and "`detach`, `item` or numpy" in found.says, str(found)


def test_a_mixture_that_asks_for_no_gradient_is_known():
    def forgotten(judge, real, fake, share):
        m = real * share.view(-1, *[1] * (real.ndim - 1)) + fake * (1 - share.view(-1, *[1] * (real.ndim - 1)))
        return torch.autograd.grad(judge(m).sum(), m, create_graph=True)[0].flatten(1).norm(dim=1).mean()

    assert verdict("6.6", forgotten).name == "no gradient asked for"


def test_a_share_that_lines_up_with_the_pixels_is_told_by_its_shapes():
    def wide(judge, real, fake, share):
        m = (share * real + (1 - share) * fake).requires_grad_()
        slope = torch.autograd.grad(judge(m).sum(), m, create_graph=True)[0]
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()

    found = verdict("6.6", wide)
    assert found.name == "error" and "last* axis" in found.says, str(found)


# ---- 6.7 ----


def turn(*, cosine=None, ends=None, divide=True):
    def way(a, b, w):
        c = (cosine or (lambda a, b: a @ b / (a.norm() * b.norm())))(a, b)
        t = torch.acos(c)
        if ends:
            a, b = ends(a, b)
        rows = [torch.sin((1 - x) * t) * a + torch.sin(x * t) * b for x in w]
        return torch.stack(rows) / (torch.sin(t) if divide else 1)

    return way


def unsigned(a, b):
    return (a @ b / (a.norm() * b.norm())).abs()


def by_the_sine(a, b, w):
    c = a @ b / (a.norm() * b.norm())
    t = torch.asin((1 - c * c).sqrt())
    return torch.stack([(torch.sin((1 - x) * t) * a + torch.sin(x * t) * b) / torch.sin(t) for x in w])


SPHERES = {
    "folded angle": turn(cosine=unsigned),
    "angle cut off": turn(cosine=lambda a, b: (a @ b / (a.norm() * b.norm())).clamp(0, 1)),
    "line": lambda a, b, w: torch.stack([a + x * (b - a) for x in w]),
    "no division": turn(divide=False),
    "ends swapped": turn(ends=lambda a, b: (b, a)),
    "length lost": turn(ends=lambda a, b: (functional.normalize(a, dim=0), functional.normalize(b, dim=0))),
    "no lengths": turn(cosine=lambda a, b: a @ b),
    "right angle": turn(cosine=lambda a, b: torch.zeros((), dtype=a.dtype)),
    "w along the numbers": lambda a, b, w: a * (1 - w) + b * w,
}


@pytest.mark.parametrize("name", SPHERES)
def test_wrong_ways_are_known(name):
    found = verdict("6.7", SPHERES[name])
    assert found.name == name, str(found)


def test_an_angle_from_its_sine_is_folded_too():
    found = verdict("6.7", by_the_sine)
    assert found.name == "folded angle" and "an obtuse angle" in found.says, str(found)


def test_a_cosine_clamped_to_its_range_is_right():
    found = verdict("6.7", turn(cosine=lambda a, b: (a @ b / (a.norm() * b.norm())).clamp(-1, 1)))
    assert found.passed, str(found)


def test_the_line_is_told_how_short_its_middle_is():
    found = verdict("6.7", SPHERES["line"])
    assert "near the middle your z is 5.47 long, where 7.49 was expected" in found.says, str(found)
