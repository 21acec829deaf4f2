"""The smallest network: what it depends on, and what it can learn."""

import math

import pytest
import torch

from course_lib.models.mlp import MLP, TimeEmbedding


def worst(found, expected):
    return float((found - expected).detach().abs().max())


def made(**more):
    torch.manual_seed(0)
    return MLP(dim=3, width=16, depth=2, **more)


def test_embedding_is_the_sines_and_cosines_it_says():
    time = torch.tensor([0.0, 0.3, 1.0])
    found = TimeEmbedding(6)(time)
    ratio = (1000 / (math.pi / 2)) ** 0.5  # three frequencies, geometric
    for i, frequency in enumerate([math.pi / 2, math.pi / 2 * ratio, 1000.0]):
        assert worst(found[:, i], (time * frequency).sin()) < 1e-3
        assert worst(found[:, 3 + i], (time * frequency).cos()) < 1e-3


def test_every_step_of_a_thousand_has_an_embedding_of_its_own():
    table = TimeEmbedding(128)(torch.arange(1001) / 1000)
    distances = torch.cdist(table, table) + torch.eye(1001) * 9
    assert float(distances.min()) > 0.1


def test_embedding_moves_no_weights_and_is_not_saved():
    assert list(TimeEmbedding(8).parameters()) == [] and TimeEmbedding(8).state_dict() == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_row_is_answered_alone(dtype):
    net, x, time = made().to(dtype), torch.randn(5, 3, dtype=dtype), torch.rand(5)
    together = net(x, time)
    assert together.shape == (5, 3) and together.dtype == dtype
    for i in range(5):
        assert worst(together[i], net(x[i : i + 1], time[i : i + 1])[0]) < 1e-5


def test_the_answer_depends_on_point_time_and_label():
    net, x, time = made(classes=4), torch.ones(2, 3), torch.full((2,), 0.5)
    base = net(x, time, torch.tensor([1, 1]))
    assert worst(net(x + 1, time, torch.tensor([1, 1])), base) > 1e-3
    assert worst(net(x, time + 0.1, torch.tensor([1, 1])), base) > 1e-3
    assert worst(net(x, time, torch.tensor([1, 2]))[0], base[0]) < 1e-6
    assert worst(net(x, time, torch.tensor([1, 2]))[1], base[1]) > 1e-3


def test_no_label_is_the_last_label():
    net, x, time = made(classes=4), torch.ones(2, 3), torch.zeros(2)
    assert worst(net(x, time), net(x, time, torch.tensor([4, 4]))) == 0
    assert worst(net(x, time), net(x, time, torch.tensor([0, 0]))) > 1e-3


def test_every_weight_gets_a_gradient():
    net = made(classes=2)
    net(torch.randn(8, 3), torch.rand(8), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in net.parameters())


def test_it_is_as_big_as_counted_by_hand():
    net = MLP(dim=2, width=8, depth=3, classes=5)
    read, time, label, layers, write = 2 * 8 + 8, 8 * 8 + 8, 6 * 8, 3 * (8 * 8 + 8), 8 * 2 + 2
    assert sum(p.numel() for p in net.parameters()) == read + time + label + layers + write
