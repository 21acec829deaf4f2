"""Features: the classifier of digits sees what it is trained to see, one layer before it decides."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from course_lib import checkpoints, data
from course_lib.evaluate import load_digit_features
from course_lib.features import DigitClassifier, DigitFeatures

HERE = Path(os.environ.get("COURSE_DATA", "nowhere"), "MNIST", "raw")
needs_mnist = pytest.mark.skipif(
    not all((HERE / f"{name}.gz").is_file() for name in data.MNIST_FILES), reason="needs MNIST in COURSE_DATA"
)


@pytest.fixture(scope="module")
def see():
    return load_digit_features()


def noise(n, dtype=torch.float32):
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(0)).to(dtype).clamp(-1, 1)


def test_features_are_what_the_last_layer_decides_from(see):
    x = noise(7)
    features, chances = see(x)
    assert features.shape == (7, 128) and features.dtype == np.float32 and features.min() >= 0
    assert chances.shape == (7, 10) and np.abs(chances.sum(1) - 1).max() < 1e-6
    logits = see.net(x).detach().numpy()
    by_hand = features @ see.net.decide.weight.detach().numpy().T + see.net.decide.bias.detach().numpy()
    assert np.abs(by_hand - logits).max() < 1e-3 and np.abs(logits).max() > 1
    odds = np.exp(logits - logits.max(1, keepdims=True))
    assert np.abs(chances - odds / odds.sum(1, keepdims=True)).max() < 1e-5


def test_more_pictures_than_are_seen_at_a_time_keep_their_order(see):
    x = noise(1003)
    features, chances = see(x)
    assert features.shape == (1003, 128) and chances.shape == (1003, 10)
    for rows in (slice(0, 3), slice(498, 502), slice(1000, 1003)):
        alone, alone_chances = see(x[rows])
        assert np.abs(alone - features[rows]).max() < 1e-4 and np.abs(alone_chances - chances[rows]).max() < 1e-5


def test_other_precisions_are_seen_as_float32(see):
    assert np.array_equal(see(noise(3, torch.float64))[0], see(noise(3))[0])
    assert see(noise(3, torch.float16))[0].dtype == np.float32


def test_the_gradient_reaches_the_picture_for_those_who_want_it():
    x = noise(2).requires_grad_()
    DigitClassifier().features(x).sum().backward()
    assert float(x.grad.abs().max()) > 0


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 32, 32), (2, 784), (0, 1, 28, 28)])
def test_pictures_of_another_size_are_refused(see, shape):
    with pytest.raises(ValueError, match=r"expected (digits|x) of shape .* got .*"):
        see(torch.zeros(shape))


def test_the_embedded_digits_are_recognised_although_no_such_one_was_ever_seen(see, monkeypatch):
    """Other pens, other scanners, 8 x 8 pixels enlarged: most of them are still read right."""

    def never(train):
        raise data.DataError("not to be had")

    monkeypatch.setattr(data, "mnist", never)
    x, labels, name = data.handwritten()
    assert name.startswith("embedded")
    assert (see(x)[1].argmax(1) == labels.numpy()).mean() > 0.8


@needs_mnist
def test_the_test_error_is_what_the_card_says(see):
    x, labels, _ = data.mnist(train=False)
    card = checkpoints.load(data.shipped("digit-classifier"))[1]
    wrong = int((see(x)[1].argmax(1) != labels.numpy()).sum())
    assert abs(wrong - card["metrics"]["test error"] * card["metrics"]["N"]) <= 2  # rounding may turn one or two
    assert card["metrics"]["N"] == len(x) and wrong < 100


def test_the_name_says_which_weights_and_which_data(see):
    card = checkpoints.load(data.shipped("digit-classifier"))[1]
    assert see.name == f"digit classifier {card['sha256'][:8]}, MNIST, 60,000 training digits"


def saved(folder, net, card):
    return checkpoints.save(folder, net.state_dict(), card)


def test_a_classifier_of_your_own_gives_a_feature_space_of_its_own(tmp_path, see):
    torch.manual_seed(0)
    mine = load_digit_features(saved(tmp_path, DigitClassifier(), {"data": "nothing at all"}))
    assert isinstance(mine, DigitFeatures) and mine.name != see.name and "nothing at all" in mine.name
    assert not mine.net.training
    assert np.abs(mine(noise(2))[0] - see(noise(2))[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "there is no whole checkpoint in .* train one with"),
        (lambda folder: data.shipped("mnist-ddpm"), "expected a digit classifier in .*, got other weights: `course"),
        (lambda folder: saved(folder, nn.Linear(2, 2), {"data": "x"}), "expected a digit classifier in .*, got other"),
        (lambda folder: saved(folder, DigitClassifier(), {}), "expected a digit classifier in .*, got other"),
    ],
    ids=["empty", "a diffusion model", "a layer", "no data on the card"],
)
def test_another_folder_is_refused(tmp_path, make, said):
    with pytest.raises(checkpoints.CheckpointError, match=said):
        load_digit_features(make(tmp_path))
