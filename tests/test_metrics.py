"""Metrics: each number against a closed form, a loop that spells the formula out, and a trusted library."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.metrics import class_coverage, frechet_distance, kernel_distance, precision_recall

PAIRED = [frechet_distance, kernel_distance, precision_recall]


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def with_moments(mean, cov, n=200, seed=0):
    """Points whose sample mean and covariance are exactly these."""
    white = normal(n, len(mean), seed)
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    return white @ np.linalg.cholesky(cov).T + mean


def frechet(real, fake):
    return frechet_distance(real, fake, feature_name="points").value


def kernel(real, fake):
    return kernel_distance(real, fake, feature_name="points").value


def precision(real, fake, neighbours=3):
    return [r.value for r in precision_recall(real, fake, feature_name="points", neighbours=neighbours)]


def test_frechet_of_normals_along_the_axes_is_the_closed_form():
    m1, m2 = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    s1, s2 = np.array([1.0, 2.0, 0.3]), np.array([0.5, 2.5, 0.3])
    real, fake = with_moments(m1, np.diag(s1**2), 150), with_moments(m2, np.diag(s2**2), 90, seed=1)
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert frechet(real, fake) == pytest.approx(expected, rel=1e-9)
    assert frechet(fake, real) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_turned_normals_is_the_matrix_root_of_scipy():
    scipy_linalg = pytest.importorskip("scipy.linalg")
    a, b = normal(6, 6, 1), normal(6, 6, 2)
    c1, c2 = a @ a.T + 0.1 * np.eye(6), b @ b.T + 0.1 * np.eye(6)  # they do not commute
    m1, m2 = normal(1, 6, 3)[0], normal(1, 6, 4)[0]
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * np.real(scipy_linalg.sqrtm(c1 @ c2)))
    assert frechet(with_moments(m1, c1), with_moments(m2, c2, seed=5)) == pytest.approx(expected, rel=1e-8)


def test_frechet_does_not_care_for_shifts_turns_and_order():
    real, fake = normal(80, 5), 2 * normal(70, 5, 1) + 0.3
    turn = np.linalg.qr(normal(5, 5, 2))[0]
    expected = frechet(real, fake)
    assert expected > 1
    for a, b in [(real @ turn, fake @ turn), (real + 1e4, fake + 1e4), (real[::-1], fake[::-1])]:
        assert frechet(a, b) == pytest.approx(expected, rel=1e-7)
    assert frechet(3 * real, 3 * fake) == pytest.approx(9 * expected, rel=1e-9)


def test_frechet_of_fewer_points_than_features():
    """Both covariances are singular; along separate axes nothing overlaps, so the traces simply add."""
    line, other = np.zeros((5, 40)), np.zeros((7, 40))
    line[:, 0], other[:, 1] = [0, 1, 2, 3, 4], [0, 3, 6, 9, 12, 15, 18]
    expected = 2.0**2 + 9.0**2 + line[:, 0].var(ddof=1) + other[:, 1].var(ddof=1)
    assert frechet(line, other) == pytest.approx(expected, rel=1e-9)
    few = normal(10, 64)
    assert frechet(few, few) == pytest.approx(0, abs=1e-5)
    assert frechet(few, few + 1 / 8) == pytest.approx(1, abs=1e-5)


def test_frechet_of_one_number_per_picture():
    assert frechet(np.array([[0.0], [2.0]]), np.array([[1.0], [7.0]])) == pytest.approx(
        9 + (math.sqrt(18) - 2**0.5) ** 2
    )


def identity(width):
    """A feature extractor for torchmetrics that hands features through: its input is (N, width, 1, 1)."""
    net = torch.nn.Flatten()
    net.num_features = width
    return net


def fed(metric, real, fake):
    for x, is_real in ((real, True), (fake, False)):
        metric.update(torch.as_tensor(x)[..., None, None], real=is_real)
    return metric.compute()


def test_frechet_equals_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    real, fake = normal(300, 8), normal(200, 8, 1) @ (np.eye(8) + 0.3 * normal(8, 8, 2)) + 0.2
    theirs = fid.FrechetInceptionDistance(feature=identity(8), input_img_size=(8, 1, 1)).set_dtype(torch.float64)
    assert frechet(real, fake) == pytest.approx(float(fed(theirs, real, fake)), rel=1e-6)


def test_kernel_equals_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    real, fake = normal(50, 8), normal(50, 8, 1) + 0.5
    theirs = kid.KernelInceptionDistance(feature=identity(8), subsets=1, subset_size=50).set_dtype(torch.float64)
    mean, _ = fed(theirs, real, fake)
    assert kernel(real, fake) == pytest.approx(float(mean), rel=1e-5)


def k(x, y):
    return (float(np.dot(x, y)) / len(x) + 1) ** 3


def pairs(xs, ys):
    """The mean of k over all pairs, or over those of different places where both are the same set."""
    return np.mean([k(x, y) for i, x in enumerate(xs) for j, y in enumerate(ys) if xs is not ys or i != j])


@pytest.mark.parametrize("n, m", [(2, 2), (7, 4)])
def test_kernel_equals_two_loops(n, m):
    real, fake = normal(n, 3), normal(m, 3, 1) + 0.4
    expected = pairs(real, real) + pairs(fake, fake) - 2 * pairs(real, fake)
    assert kernel(real, fake) == pytest.approx(expected, rel=1e-9)


def test_kernel_of_more_points_than_are_taken_at_a_time():
    """Every point doubled: pairs within one set gain n pairs of equal points, pairs across keep their mean."""
    real, fake = normal(700, 3), normal(40, 3, 1) + 0.4
    twice = np.concatenate([real, real])
    n, own = len(real), np.mean([k(x, x) for x in real])
    within = kernel(real, fake) - kernel(twice, fake)  # all that is across, or within fake, cancels
    table = (real @ real.T / 3 + 1) ** 3
    different = (table.sum() - np.trace(table)) / (n * (n - 1))
    assert within == pytest.approx(different - (4 * n * (n - 1) * different + 2 * n * own) / (2 * n * (2 * n - 1)))


def test_kernel_is_unbiased_where_frechet_is_not():
    """The same distribution twice: the mean of many small comparisons is 0 for one and far from it for the other."""
    draws = [(normal(10, 4, 2 * i), normal(10, 4, 2 * i + 1)) for i in range(300)]
    kernels = np.array([kernel(*pair) for pair in draws])
    frechets = np.array([frechet(*pair) for pair in draws])
    assert abs(kernels.mean()) < 3.5 * kernels.std() / math.sqrt(300)
    assert (kernels < 0).any()
    assert frechets.mean() > 20 * frechets.std() / math.sqrt(300)


def naive_share(points, others, neighbours):
    """The definition, one point at a time."""
    inside = 0
    for p in points:
        for i, o in enumerate(others):
            to_others = sorted(math.dist(o, x) for j, x in enumerate(others) if j != i)
            if math.dist(p, o) <= to_others[neighbours - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("neighbours", [1, 3, 11])
def test_precision_and_recall_equal_the_definition(neighbours):
    real, fake = normal(30, 2), 0.5 * normal(12, 2, 1) + 0.8
    expected = [naive_share(fake, real, neighbours), naive_share(real, fake, neighbours)]
    assert 0 < expected[1] < 1
    assert precision(real, fake, neighbours) == expected


def test_precision_and_recall_of_known_cases():
    x = normal(60, 4)
    assert precision(x, x.copy()) == [1, 1]
    assert precision(x, x + 100) == [0, 0]
    assert precision(x, np.repeat(x[:1], 20, axis=0)) == [1, 1 / 60]  # one real picture, drawn again and again
    assert precision(x, np.repeat(x[:1] + 100, 20, axis=0)) == [0, 0]
    both = np.concatenate([x, x + 100])  # drawn from one of two modes: all good, half missing
    assert precision(both, x) == [1, 0.5]
    assert precision(x, both) == [0.5, 1]


@pytest.mark.parametrize("offset", [0, 1e6, 1e8])
def test_precision_and_recall_do_not_care_where_the_points_lie(offset):
    real, fake = np.round(normal(200, 3), 3), np.round(normal(200, 3, 1) * 1.3, 3)
    assert 0.5 < precision(real, fake)[0] < 1
    assert precision(real + offset, fake + offset) == precision(real, fake)


@pytest.mark.parametrize("d", [1, 7, 37, 128])
def test_equal_points_lie_within_a_radius_of_zero(d):
    """Rounding must not put a point outside of itself, in whatever order a library sums."""
    one = normal(1, d) / 3 + 5
    assert precision(np.repeat(one, 9, axis=0), np.repeat(one, 5, axis=0)) == [1, 1]


def test_more_points_than_are_taken_at_a_time():
    real = np.concatenate([normal(1100, 2), normal(1100, 2) + 50])
    assert precision(real, real[:1100] + 1e-9) == [1, 0.5]


def test_class_coverage_closed_forms():
    def values(labels, classes):
        return [r.value for r in class_coverage(np.array(labels), classes, feature_name="truth")]

    assert values(list(range(10)) * 3, 10) == [10, pytest.approx(0, abs=1e-12)]
    assert values([4] * 7, 10) == [1, pytest.approx(math.log(10))]
    assert values([0, 1, 2, 3, 4], 10) == [5, pytest.approx(math.log(2))]
    assert values([0, 0, 0, 1], 2) == [2, pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))]
    assert values([0], 1) == [1, 0]


def test_a_result_says_its_name_its_n_and_its_features():
    real, fake = normal(30, 2), normal(20, 2, 1)
    results = [measure(real, fake, feature_name="a tiny net") for measure in (frechet_distance, kernel_distance)]
    for result in [*results, *precision_recall(real, fake, feature_name="a tiny net")]:
        text = str(result)
        assert text.startswith(f"{result.name} {result.value:.4g} ")
        assert "N = 20 drawn, 30 real" in text and "a tiny net" in text
    counted = str(class_coverage(np.arange(20) % 3, 3, feature_name="a tiny net")[0])
    assert counted == "Classes covered 3 (N = 20 drawn; features: a tiny net)"
    with pytest.raises(TypeError, match="feature_name"):
        frechet_distance(real, fake)  # no number without the name of its features


@pytest.mark.parametrize("measure", PAIRED)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int64, np.uint8])
def test_numbers_of_any_kind_are_summed_in_float64(measure, kind):
    real, fake = (np.round(20 * normal(30, 4, seed) + 100).astype(kind) for seed in (0, 1))
    as_it_is, wide = (
        measure(a, b, feature_name="f") for a, b in ((real, fake), (real.astype(float), fake.astype(float)))
    )
    assert as_it_is == wide


@pytest.mark.parametrize("measure", PAIRED)
def test_tensors_and_lists_are_arrays_too(measure):
    real, fake = normal(6, 2), normal(5, 2, 1)
    expected = measure(real, fake, feature_name="f")
    assert measure(torch.as_tensor(real), fake.tolist(), feature_name="f") == expected


BAD = [
    (np.zeros(5), r"shape \(N, D\)"),
    (np.zeros((5, 1, 28, 28)), r"shape \(N, D\)"),
    (np.zeros((1, 2)), "N at least 2"),
    (np.zeros((0, 2)), "N at least 2"),
    (np.zeros((5, 0)), r"shape \(N, D\)"),
    (np.zeros((5, 2), dtype=complex), "complex"),
    (np.zeros((5, 2), dtype=bool), "bool"),
    (np.array([["a", "b"]] * 3), "shape"),
    (np.full((5, 2), np.nan), "NaN"),
    (np.full((5, 2), np.inf), "infinity"),
    (np.zeros((5, 3)), "widths"),
    (None, "shape"),
    ([[1.0, 2.0], [3.0]], "one array"),
    (torch.zeros(5, 2, requires_grad=True), r"detach\(\)\.cpu\(\)\.numpy\(\)"),
    (torch.zeros(5, 2, dtype=torch.bfloat16), "one array"),
]


@pytest.mark.parametrize("measure", PAIRED)
@pytest.mark.parametrize("bad, said", BAD, ids=[said for _, said in BAD])
def test_doors(measure, bad, said):
    for pair in ((bad, np.zeros((5, 2))), (np.zeros((5, 2)), bad)):
        with pytest.raises((TypeError, ValueError), match=f"expected .*{said}"):
            measure(*pair, feature_name="f")


@pytest.mark.parametrize("neighbours", [0, -1, 5, 2.0, "3", None])
def test_door_of_neighbours(neighbours):
    with pytest.raises(ValueError, match=r"1\.\.4"):
        precision_recall(np.zeros((9, 2)), np.zeros((5, 2)), feature_name="f", neighbours=neighbours)


@pytest.mark.parametrize(
    "labels, classes, said",
    [
        ([], 3, "shape"),
        ([[0, 1]], 3, "shape"),
        ([0.0, 1.0], 3, "float64"),
        ([0, 3], 3, r"0\.\.2, got 0\.\.3"),
        ([-1, 0], 3, "got -1"),
        ([True, False], 2, "bool"),
        (["1"], 2, "whole"),
        ([0, 1], 0, "at least 1"),
        ([0, 1], 2.5, "whole number"),
        ([0, 1], "two", "whole number"),
    ],
)
def test_doors_of_class_coverage(labels, classes, said):
    with pytest.raises(ValueError, match=f"expected .*{said}"):
        class_coverage(np.array(labels), classes, feature_name="f")


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    d=st.integers(1, 6),
    scale=st.sampled_from([1e-6, 1, 1e6]),
    seed=st.integers(0, 99),
)
def test_what_holds_for_any_two_sets(n, m, d, scale, seed):
    real, fake = scale * normal(n, d, seed), scale * normal(m, d, seed + 100)
    assert frechet(real, fake) >= 0
    assert frechet(real, fake) == pytest.approx(frechet(fake, real), rel=1e-5, abs=1e-6 * scale**2)
    assert kernel(real, fake) == pytest.approx(kernel(fake, real), rel=1e-9, abs=1e-12)
    good, found = precision(real, fake, neighbours=1)
    assert [found, good] == precision(fake, real, neighbours=1)
    assert 0 <= good <= 1 and 0 <= found <= 1
