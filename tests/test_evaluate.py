"""Evaluate: every bad file gets its sentence, every number is the metric of the very features it names."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from course_lib import data, evaluate
from course_lib.data import Digits
from course_lib.evaluate import evaluate_digits, load_digit_features, read_samples

HERE = Path(os.environ.get("COURSE_DATA", "nowhere"), "MNIST", "raw")
needs_mnist = pytest.mark.skipif(
    not all((HERE / f"{name}.gz").is_file() for name in data.MNIST_FILES), reason="needs MNIST in COURSE_DATA"
)
RANDOM = np.random.default_rng(0)


def digits(n=4, dtype=np.float32):
    return RANDOM.uniform(-1, 1, (n, 1, 28, 28)).astype(dtype)


def changed(value, n=4):
    x = digits(n)
    x[1, 0, 3, 3] = value
    return x


def npz():
    packed = io.BytesIO()
    np.savez(packed, x=digits())
    return packed.getvalue()


def npy(x, **more):
    packed = io.BytesIO()
    np.save(packed, x, **more)
    return packed.getvalue()


def liar():
    """A header that promises a million million digits, and nothing behind it."""
    packed = npy(digits())
    start = packed.index(b"(4, 1, 28, 28)")
    return packed[:start] + b"(10000000000, 1, 28, 28)" + packed[start + 14 : 104] + packed[start + 14 + 20 :]


@pytest.mark.parametrize("x", [digits(), digits(9), np.asfortranarray(digits()), changed(1.0005), changed(-1)])
def test_good_files_are_read_as_they_are(tmp_path, x):
    np.save(tmp_path / "good.npy", x)
    read = read_samples(tmp_path / "good.npy")
    assert read.dtype == np.float32 and np.array_equal(read, x)
    assert np.array_equal(read_samples(str(tmp_path / "good.npy")), x)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "got no file at .*: check the path"),
        (b"", "got one that numpy cannot read"),
        (b"seven, eight, nine\n", "got one that numpy cannot read"),
        (npy(digits())[:-9], "got one that numpy cannot read"),
        (npy(digits())[:40], "got one that numpy cannot read"),
        (liar(), "got one that numpy cannot read"),
        (npy(np.array([object(), 1], dtype=object), allow_pickle=True), "got one that numpy cannot read"),
        (b"\x80\x04]\x94.", "got one that numpy cannot read"),
        (npz(), "got an archive: save with numpy.save"),
        (npz()[:200], "got one that numpy cannot read"),
        (npy(digits(dtype=np.float64)), r"got float64 of shape \(4, 1, 28, 28\): save with"),
        (npy(digits().astype(">f4")), r"got >f4 of shape \(4, 1, 28, 28\): save with"),
        (npy((digits() * 100).astype(np.uint8)), r"got uint8 of shape \(4, 1, 28, 28\): save with"),
        (npy(digits()[:, 0]), r"got float32 of shape \(4, 28, 28\): save with"),
        (npy(digits().reshape(4, 28, 28, 1)), r"got float32 of shape \(4, 28, 28, 1\): save with"),
        (npy(np.float32(3)), r"got float32 of shape \(\): save with"),
        (npy(digits(3)), "got 3: draw more"),
        (npy(digits(0)), "got 0: draw more"),
        (npy(changed(np.nan)), "got NaN or infinity among 4: draw them again"),
        (npy(changed(-np.inf)), "got NaN or infinity among 4: draw them again"),
        (npy(changed(1.5)), r"got -.*\.\.1\.5: call .clamp"),
        (npy(changed(-2)), r"got -2\.\..*: call .clamp"),
        (npy((digits() + 1) * 127.5), "got .*: call .clamp"),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path, content, said):
    path = tmp_path / "samples.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_samples(path)
    message = str(caught.value)
    assert message.startswith("expected ") and "(N, 1, 28, 28) in [-1, 1]" in message and "\n" not in message
    if content is not None:
        path.unlink()  # nothing holds it open


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="got one that numpy cannot read"):
        read_samples(tmp_path)


class Danger:
    """What a pickle would run when it is read."""

    def __reduce__(self):
        return os.mkdir, ("danger",)


def test_a_pickle_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npy").write_bytes(npy(np.array([Danger()], dtype=object), allow_pickle=True))
    with pytest.raises(ValueError, match="numpy cannot read"):
        read_samples(tmp_path / "bad.npy")
    assert not (tmp_path / "danger").exists()


@pytest.mark.parametrize("bad", [None, "samples.npy", torch.zeros(4, 1, 28, 28), digits(3), digits(dtype=np.float64)])
def test_what_is_no_set_of_digits_is_refused_before_anything_is_loaded(monkeypatch, bad):
    monkeypatch.setattr(data, "mnist", None)
    monkeypatch.setattr(evaluate, "load_digit_features", None)
    with pytest.raises(ValueError, match=r"expected float32 digits of shape \(N, 1, 28, 28\) in .*, got"):
        evaluate_digits(bad)


# The numbers


@pytest.fixture(scope="module")
def real():
    x, labels = data.digits()
    small = torch.nn.functional.interpolate(x[:600], size=(28, 28))
    return Digits(small, labels[:600], "MNIST")


@pytest.fixture(scope="module")
def see():
    return load_digit_features()


def test_each_number_is_the_metric_of_the_features_it_names(real, see, monkeypatch):
    monkeypatch.setattr(data, "mnist", lambda: real)
    monkeypatch.setattr(evaluate, "REFERENCE", 400)
    fake = (
        real.pictures[400:600] + 0.2 * torch.randn(200, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    ).clamp(-1, 1)
    numbers = evaluate_digits(fake.numpy(), see)
    with torch.no_grad():
        r, f = (see.net.features(x).double().numpy() for x in (real.pictures[:400], fake))
        guesses = see.net(fake).argmax(1)
    # Frechet: means and covariances, with scipy's matrix root
    c_r, c_f = np.cov(r.T), np.cov(f.T)
    ridge = 1e-6 * np.eye(128)  # features that are always 0 make both singular
    root = scipy.linalg.sqrtm((c_r + ridge) @ (c_f + ridge)).real
    distance = ((r.mean(0) - f.mean(0)) ** 2).sum() + np.trace(c_r + c_f - 2 * root)
    assert abs(numbers["frechet_distance"] - distance) < 1e-3 * distance + 0.05
    # precision and recall: the definition, one point at a time
    assert abs(numbers["precision"] - share_within(f, r)) < 0.011
    assert abs(numbers["recall"] - share_within(r, f)) < 0.011
    share = torch.bincount(guesses, minlength=10).double() / 200
    seen = share[share > 0]
    assert numbers["classes_covered"] == len(seen)
    assert abs(numbers["nats_from_uniform"] - float((seen * (10 * seen).log()).sum())) < 1e-9
    assert (numbers["n"], numbers["n_real"], numbers["features"]) == (200, 400, see.name)
    assert numbers["real"] == "MNIST, the first 400 training digits"


def share_within(points, others):
    """The share of points that lie within some other's distance to its third neighbour (arXiv:1904.06991, eq. 1)."""
    among = np.linalg.norm(others[:, None] - others[None], axis=-1)
    radius = np.sort(among, axis=1)[:, 3]  # 0 is the point itself
    return float(np.mean([(np.linalg.norm(others - point, axis=1) <= radius).any() for point in points]))


def test_real_digits_lie_at_0_from_themselves_and_one_class_is_one_class(real, see, monkeypatch):
    monkeypatch.setattr(data, "mnist", lambda: real)
    numbers = evaluate_digits(real.pictures.numpy(), see)
    assert numbers["frechet_distance"] < 1e-2 and numbers["precision"] == numbers["recall"] == 1
    ones = evaluate_digits(real.pictures[:1].expand(50, -1, -1, -1).numpy(), see)
    assert ones["classes_covered"] == 1 and abs(ones["nats_from_uniform"] - np.log(10)) < 1e-9
    assert ones["frechet_distance"] > 10 and ones["recall"] < 0.05


@needs_mnist
def test_real_digits_score_far_below_spoilt_ones_and_these_below_noise(see, monkeypatch):
    monkeypatch.setattr(evaluate, "REFERENCE", 2000)  # fewer than the course measures with: quicker
    clean = data.mnist(train=False).pictures[:500]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    spoilt = [clean, (clean + 0.5 * noise).clamp(-1, 1), noise.clamp(-1, 1)]
    scores = [evaluate_digits(x.numpy(), see) for x in spoilt]
    distances = [score["frechet_distance"] for score in scores]
    assert 3 * distances[0] < distances[1] and 3 * distances[1] < distances[2]
    assert scores[0]["precision"] > 0.7 and scores[0]["recall"] > 0.7 and scores[2]["precision"] < 0.1
    assert (scores[0]["n_real"], scores[0]["n"], scores[0]["classes_covered"]) == (2000, 500, 10)
