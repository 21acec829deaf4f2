"""Toys, digits, batches, and where data live."""

import math
from pathlib import Path

import pytest
import torch

from course_lib import data


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_ring_lies_on_its_circle_with_a_label_for_each_mode():
    ring = data.ring(modes=6, radius=1.5, std=0.01)
    assert float((ring.means.norm(dim=1) - 1.5).abs().max()) < 1e-6 and ring.labels.tolist() == [0, 1, 2, 3, 4, 5]
    gaps = (ring.means.roll(-1, 0) - ring.means).norm(dim=1)
    assert float((gaps - 2 * 1.5 * math.sin(math.pi / 6)).abs().max()) < 1e-5
    assert float((ring.sample(500, seeded()).norm(dim=1) - 1.5).abs().max()) < 0.06


def test_two_moons_without_jitter_are_two_half_circles_of_equal_share():
    points = data.two_moons(4000, std=0.0, generator=seeded())
    upper = (points - torch.tensor([-0.5, -0.25])).norm(dim=1)
    lower = (points - torch.tensor([0.5, 0.25])).norm(dim=1)
    on_upper, on_lower = (upper - 1).abs() < 1e-5, (lower - 1).abs() < 1e-5
    assert (on_upper | on_lower).all()
    assert abs(float(on_upper.float().mean()) - 0.5) < 5 * 0.5 / math.sqrt(4000)
    assert (points[on_upper & ~on_lower][:, 1] >= -0.2501).all()
    assert (points[on_lower & ~on_upper][:, 1] <= 0.2501).all()


def test_spiral_is_evenly_filled_along_its_length():
    """Length grows with the square of the radius, so radius^2 is uniform: compare quartiles (N = 4000)."""
    share = data.spiral(4000, std=0.0, generator=seeded()).norm(dim=1).div(1.4).square()
    quartiles = share.quantile(torch.tensor([0.25, 0.5, 0.75]))
    assert float((quartiles - torch.tensor([0.25, 0.5, 0.75])).abs().max()) < 5 * 0.5 / math.sqrt(4000)


def test_spiral_turns_as_often_as_it_is_told():
    points = data.spiral(2000, turns=2, std=0.0, generator=seeded())
    radius = points.norm(dim=1) / 1.4
    angle = torch.atan2(points[:, 1], points[:, 0])
    turned = (angle - 2 * math.pi * 2 * radius) / (2 * math.pi)
    assert float((turned - turned.round()).abs().max()) < 1e-3


@pytest.mark.parametrize("squares", [2, 4, 5])
def test_checkerboard_fills_dark_squares_only_and_all_of_them(squares):
    points = data.checkerboard(4000, squares, seeded())
    cell = ((points + 1.5) / 3 * squares).floor().long()
    assert float(points.abs().max()) <= 1.5 and (cell.sum(1) % 2 == 0).all()
    assert len(set(map(tuple, cell.tolist()))) == (squares**2 + 1) // 2


@pytest.mark.parametrize("toy", [data.two_moons, data.spiral, data.checkerboard])
def test_toys_repeat_with_a_seed_and_follow_torch_without(toy):
    assert torch.equal(toy(50, generator=seeded(1)), toy(50, generator=seeded(1)))
    assert not torch.equal(toy(50, generator=seeded(1)), toy(50, generator=seeded(2)))
    torch.manual_seed(3)
    first = toy(50)
    torch.manual_seed(3)
    assert torch.equal(first, toy(50)) and first.shape == (50, 2) and float(first.abs().max()) < 3


def test_digits_are_pictures_in_minus_1_to_1_that_look_like_their_labels():
    pictures, labels = data.digits()
    assert pictures.shape == (1797, 1, 8, 8) and pictures.dtype == torch.float32 and labels.dtype == torch.int64
    assert (float(pictures.min()), float(pictures.max())) == (-1.0, 1.0)
    assert labels.bincount().min() > 170 and labels.unique().tolist() == list(range(10))
    means = torch.stack([pictures[:900][labels[:900] == k].mean(0) for k in range(10)])
    nearest = torch.cdist(pictures[900:].flatten(1), means.flatten(1)).argmin(1)
    assert float((nearest == labels[900:]).float().mean()) > 0.8  # measured: 0.88 on the later half


def test_an_epoch_sees_each_row_once():
    x, labels = torch.arange(10.0)[:, None], torch.arange(10)
    stream = data.batches(x, 3, labels, seed=1)
    for _ in range(2):
        epoch = [next(stream) for _ in range(3)]
        rows = torch.cat([rows for _, rows in epoch]).tolist()
        assert len(set(rows)) == 9 and all(len(b) == 3 for b, _ in epoch)
        assert all(torch.equal(b[:, 0].long(), rows) for b, rows in epoch)


def test_batches_repeat_with_a_seed_and_differ_between_epochs():
    x = torch.arange(100.0)[:, None]
    one, same, other = (data.batches(x, 100, seed=seed) for seed in (1, 1, 2))
    first, second = next(one), next(one)
    assert torch.equal(first, next(same)) and not torch.equal(first, next(other)) and not torch.equal(first, second)


def test_data_live_where_COURSE_DATA_says(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "here"))
    assert data.data_dir() == tmp_path / "here"
    monkeypatch.setenv("COURSE_DATA", "~/there")
    assert data.data_dir() == Path.home() / "there"


def test_data_live_in_the_repository_or_else_in_a_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert data.data_dir() == Path(data.__file__).resolve().parent.parent / "data"
    monkeypatch.setattr(data, "__file__", str(tmp_path / "site-packages" / "course_lib" / "data.py"))
    assert data.data_dir().name == "diffusion-course" and tmp_path not in data.data_dir().parents


@pytest.mark.parametrize("name", ["mnist-ddpm", "mnist-ddpm-labels", "mnist-gan", "digit-classifier"])
def test_what_ships_lies_in_the_repository_wherever_data_live(monkeypatch, tmp_path, name):
    """So weights that a student trains and keeps in COURSE_DATA never stand in for those that ship."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert data.shipped(name) == Path(data.__file__).resolve().parent.parent / "data" / "checkpoints" / name
    assert (data.shipped(name) / "card.json").is_file()


@pytest.mark.parametrize("name", ["mnist-vae", "", "..", "mnist-ddpm/..", ".gitignore", None])
def test_what_does_not_ship_is_refused_with_the_list(name):
    with pytest.raises(ValueError, match=r"expected name to be one of .*digit-classifier.*mnist-ddpm.*, got"):
        data.shipped(name)
