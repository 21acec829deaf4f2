"""Doors: random bad input at every public function of the floors F0 to F3 and at every picture.

For each function there is one good call, which must run, and for each of its parameters the kinds of value that must
not get in. Each refusal is a TypeError or ValueError of one sentence that begins with "expected", and comes from a
`raise` of the course: never a traceback from inside torch, numpy or matplotlib.
"""

import traceback
from pathlib import Path
from unittest.mock import Mock

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import course_lib
from course_lib import data, doors, judge, objectives, schedules, shapes, viz
from course_lib import types as course_types
from course_lib.denoiser import Denoiser, denoising_loss, logit_normal_t, uniform_t
from course_lib.ema import EMA
from course_lib.evaluate import evaluate_digits
from course_lib.features import DigitClassifier, DigitFeatures
from course_lib.gan_losses import discriminator_loss, generator_loss, gradient_penalty, r1_penalty
from course_lib.likelihood import bits_per_dim, log_likelihood
from course_lib.models.exact import ExactPredictor, GaussianMixture
from course_lib.models.gan import Discriminator, Generator, ModulatedConv, StyleGenerator
from course_lib.models.mlp import MLP, TimeEmbedding
from course_lib.models.unet import UNet
from course_lib.muon import Muon, orthogonal
from course_lib.recipes import draw, generate, muon
from course_lib.samplers import ddim_step, dpm_step, heun_step, sample, sample_steps
from course_lib.train import fit
from course_lib.train_gan import fit_gan
from course_lib.types import Prediction, Step

LIBRARY = Path(course_lib.__file__).resolve().parent
NAN = float("nan")

# What is good: three points at step 5 of a short schedule.
X, T, TIMES = torch.ones(3, 2), torch.tensor([1, 5, 10]), [10, 5, 0]
SCHEDULE = schedules.cosine(10)
A, S = SCHEDULE.rates(T, X)
MIXTURE = data.ring(3)
EXACT = ExactPredictor(MIXTURE, SCHEDULE)
NET = MLP(dim=2, width=4, depth=1)
DENOISER = Denoiser(NET, SCHEDULE, objectives.v)
POINTS, PATHS = np.zeros((4, 2)), np.zeros((3, 4, 2))


# Kinds of value that must not get in. Many belong nowhere, so every parameter sees some of those.
def handwritten_offline(train):
    """Load digits without MNIST and without looking for it: its door stands before the search."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_all_match", lambda folder: False)
        patch.setattr(data, "_fetch_mnist", Mock(side_effect=data.DataError("not to be had")))
        return data.handwritten(train)


def evaluate_offline(samples):
    """Evaluate against a few made-up digits in place of MNIST."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "mnist", lambda: data.Digits(torch.zeros(8, 1, 28, 28), torch.zeros(8), "MNIST"))
        return evaluate_digits(samples)


def nothing(*more):
    """Values of no use to any parameter."""
    return st.one_of(st.sampled_from([object(), {}, b"seven", 1j]), st.text(max_size=5).map(lambda s: s + "?"), *more)


def tensors(shapes, dtypes=(torch.float32,)):
    pairs = [(shape, dtype) for shape in shapes for dtype in dtypes]
    return st.sampled_from(pairs).map(lambda pair: torch.ones(pair[0], dtype=pair[1]))


NONE, INTEGERS, FLOATS = st.just(None), st.integers(-9, 9), st.floats()
BATCH_SHAPES = [(), (3,), (0, 2), (3, 0)]
BATCH = nothing(
    NONE, INTEGERS, FLOATS, st.just([[1.0, 2.0]]), st.just(np.zeros((3, 2))), tensors(BATCH_SHAPES),
    tensors([(3, 2)], [torch.int64, torch.bool, torch.complex64]),
)  # fmt: skip
LIKE_X = BATCH | tensors([(2, 2), (3, 3), (3, 2, 1), (1, 2)]) | tensors([(3, 2)], [torch.float64, torch.float16])
PLANE = BATCH | tensors([(3, 3), (3, 1, 2)])
T_TENSORS = (
    tensors([(3,)], [torch.float32, torch.bool, torch.complex64])
    | tensors([(2,), (4,), (0,), (), (3, 1)], [torch.int64])
    | st.lists(st.sampled_from([-1, 11, 10**6]), min_size=3, max_size=3).map(torch.tensor)
)
STEP_NUMBERS = nothing(NONE, FLOATS, st.booleans(), st.just([1, 2, 3]), T_TENSORS)
OUTSIDE = st.integers(-(10**9), -1) | st.integers(11, 10**9)  # of 0..10
TABLES = [
    [1.0, 0.5], [0.9, 0.5, 0.1], [1.0, NAN, 0.0], [1.0, 0.5, 0.6], [1.0, 0.0, 0.0], [1.0, 0.5, -0.1], [1.0],
    [[1.0, 0.5, 0.0]], [1.0, float("inf"), 0.0], [1.0, 0.9, 0.8, 0.7],
]  # fmt: skip
SIGNALS = nothing(NONE, FLOATS, st.just([1.0, 0.5, 0.1]), st.sampled_from(TABLES).map(torch.tensor), st.just(T))
NOISES = SIGNALS | st.sampled_from([[0.0, 0.0, 0.5], [0.0, 0.6, 0.5], [0.1, 0.5, 1.0]]).map(torch.tensor)
BETAS = nothing(NONE, FLOATS) | st.sampled_from(
    [[0.1, 0.2], [0.0], [0.0, 0.0], [0.0, 1.1], [0.0, -0.1], [0.0, NAN], [0.0, 1.0, 1.0], [0.0, 1e-30], [[0.0, 0.1]]]
).map(torch.tensor)
WHOLE = nothing(NONE, st.booleans(), st.floats(), st.integers(max_value=0), st.just(torch.tensor(3)))
SEEDS = nothing(NONE, st.booleans(), st.floats(), st.integers(max_value=-1))
UNREAL = nothing(NONE, st.booleans(), st.sampled_from([NAN, float("inf"), -float("inf")]), st.just(X))
NEGATIVE = UNREAL | st.floats(max_value=-1e-9)
SIZES = NEGATIVE | st.just(0)
NOT_SHARE = NEGATIVE | st.floats(min_value=1.0001)
GENERATOR = nothing(INTEGERS, FLOATS, st.just(np.random.default_rng(0)))
NOT_CALLABLE = nothing(NONE, INTEGERS, FLOATS, st.just(X))
NOT_SCHEDULE = NOT_CALLABLE | st.just(schedules.cosine)
FAULTY_PREDICTORS = [
    lambda x_t, t, cond: x_t,
    lambda x_t, t, cond: None,
    lambda x_t, t, cond: Prediction(x_t, None),
    lambda x_t, t, cond: Prediction(x_t[:1], x_t),
    lambda x_t, t, cond: Prediction(x_t, x_t.double()),
]
PREDICTORS = NOT_CALLABLE | st.sampled_from(FAULTY_PREDICTORS)
FAULTY_NETS = [
    lambda x_t, time: x_t[:, :1],
    lambda x_t, time: None,
    lambda x_t, time: 0.0,
    lambda x_t, time: (x_t, x_t),
    lambda x_t, time: x_t.double(),
]
FALLING = nothing(NONE, INTEGERS, FLOATS, st.just(torch.tensor(TIMES))) | st.sampled_from(
    [[], [10], [0, 5, 10], [10, 5, 5, 0], [10, 5.0, 0], [11, 0], [10, -1], ["10", "0"], [None, 0], "10"]
)
RISING = nothing(NONE, INTEGERS, FLOATS, st.just(torch.tensor([1, 10]))) | st.sampled_from(
    [[], [1], [10, 5, 1], [0, 10], [1, 5, 5, 10], [1, 11], [1, 2.5, 10], "110"]
)
LABELS = nothing(
    INTEGERS, FLOATS, tensors([(3,)], [torch.float32]), tensors([(2,), (), (3, 1)], [torch.int64]),
    st.just(torch.tensor([0, 1, 99])), st.just(torch.tensor([-1, 0, 1])), st.just([0, 1, 2]),
)  # fmt: skip
CLASSES = nothing(INTEGERS, tensors([(3,)], [torch.float32]), tensors([(2,), (), (3, 1)], [torch.int64]))
FRACTIONS = nothing(NONE, INTEGERS, FLOATS, tensors([(), (3, 1)]), tensors([(3,)], [torch.int64])) | st.sampled_from(
    [[0.5, 0.5, 1.5], [-0.1, 0.0, 1.0], [NAN, 0.0, 0.0], [500.0, 1.0, 2.0]]
).map(torch.tensor)
OBJECTIVES = NOT_CALLABLE | st.sampled_from(["eps", objectives.Objective])
RATES = nothing(NONE, FLOATS, tensors([(3,), (2, 1), (3, 2), (3, 1, 1)])) | tensors([(3, 1)], [torch.float64])
MODULES = NOT_CALLABLE | st.just(lambda x: x)

NUMBERS = nothing(NONE, st.just([[1.0], [1.0, 2.0]]))
NAMED = nothing(NONE, INTEGERS, FLOATS, st.just([("a", POINTS)]), st.just(POINTS))


def named(values):
    return NAMED | values.map(lambda value: {"good name, bad value": value})


ARRAYS = NUMBERS | st.sampled_from([(4,), (4, 3), (0, 2), (1, 4, 2), ()]).map(np.zeros)
CLOUDS = ARRAYS.filter(lambda value: value is not None)  # None draws no cloud
ARROWS = ARRAYS | st.just(np.zeros((5, 2)))
PAIRS = nothing(NONE, FLOATS) | st.sampled_from([(1, 2), ([1], [1, 2]), ([[1]], [[1]]), ([1], "a"), ([1], [1], [1])])
PICTURES = NUMBERS | st.sampled_from([(4, 4), (2, 2, 4, 4), (0, 4, 4), (1, 1, 1, 4, 4)]).map(np.zeros)
SAMPLES = NUMBERS | st.sampled_from([np.array([1.0, NAN]), np.array([]), np.array([np.inf])])
SPANS = nothing(INTEGERS, FLOATS) | st.sampled_from([(1, 0), (1, 1), (NAN, 1), (0,), (0, 1, 2), ("a", "b"), "ab"])

LINES = {"a": ([0, 1], [0, 1])}
STEP = ddim_step(EXACT, SCHEDULE, X, 10, 5)
STEPPING = {
    "predict": PREDICTORS, "schedule": NOT_SCHEDULE, "x_t": PLANE, "t": STEP_NUMBERS | OUTSIDE | st.just(0),
    "t_next": STEP_NUMBERS | OUTSIDE | st.just(10),
}  # fmt: skip
WALKING = {
    "step": NOT_CALLABLE | st.just(lambda *_, **__: X), "predict": PREDICTORS, "schedule": NOT_SCHEDULE, "x_T": PLANE,
    "times": FALLING, "generator": GENERATOR,
}  # fmt: skip
WEIGHING = {  # any number of steps will do
    "schedule": NOT_SCHEDULE, "objective": OBJECTIVES,
    "t": STEP_NUMBERS.filter(lambda t: not isinstance(t, torch.Tensor) or t.ndim != 1 or t.dtype != torch.int64)
    | st.sampled_from([[0], [11, 1], []]).map(lambda t: torch.tensor(t, dtype=torch.int64)),
}  # fmt: skip


def walk(**given):
    return list(sample_steps(**given))


def play(**given):
    return list(fit_gan(**given))


def train(**given):
    return list(fit(**given))


def train_for(loss):
    return lambda x, generator: loss(x)


def method(function, *inputs):
    """Bind some inputs by position, so that a method is thrown at like a function."""
    return lambda **given: function(*inputs, **given)


MAKES, JUDGES = torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
STYLES = StyleGenerator(latent=2, width=2)
LOGITS = nothing(NONE, FLOATS, tensors([(), (3, 1), (0,)]), tensors([(3,)], [torch.int64]))
KINDS = nothing(NONE, INTEGERS, st.just("gan"))
SWITCHES = nothing(NONE, INTEGERS, FLOATS)
GAN_RATES = NEGATIVE.filter(lambda lr: lr != ()) | st.sampled_from([(1.0,), (1.0, 1.0, 1.0), (1.0, -1.0), ("a", 1.0)])


def steep(real):
    """Take R1 of a plane, with logits that follow from real if it lets them."""
    if isinstance(real, torch.Tensor) and real.is_floating_point() and real.ndim == 2 and real.numel():
        real = real.clone().requires_grad_()
        return r1_penalty(real.sum(1), real)
    return r1_penalty(torch.ones(3, requires_grad=True), real)


LIKE_NO_MATRIX = nothing(NONE, INTEGERS, FLOATS, tensors([(3,), (), (2, 2, 2)]), tensors([(2, 2)], [torch.int64]))


class Quiet(torch.nn.Module):
    """A network of three classes that answers with nothing."""

    classes = 3

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, time, label=None):
        return x * 0


DIGITS = torch.zeros(4, 1, 28, 28)
NOT_DIGITS = BATCH | tensors([(4, 28, 28), (4, 3, 28, 28), (4, 1, 27, 28), (0, 1, 28, 28)])
BAD_DIGITS = nothing(NONE, INTEGERS, FLOATS, st.just(DIGITS)) | st.sampled_from(
    [np.zeros((3, 1, 28, 28), "f4"), np.zeros((4, 1, 28, 28)), np.full((4, 1, 28, 28), NAN, "f4"), np.zeros(4, "f4"),
     np.full((4, 1, 28, 28), 2, "f4")]
)  # fmt: skip
COLOURED = torch.zeros(1, 3, 32, 32)
NOT_COLOURED = BATCH | tensors([(1, 1, 32, 32), (1, 3, 28, 28), (3, 32, 32), (0, 3, 32, 32)]) | st.just(COLOURED * NAN)
SCENE = shapes.parse("a small red circle on the left")
PINK = shapes.Scene((shapes.Thing("pink", "ring", "small", "top"),))
UNDRAWN = [shapes.Scene(()), shapes.Scene(SCENE.things * 2), PINK]
NOT_SCENE = nothing(NONE, INTEGERS, FLOATS, st.just("a red circle"), st.just(SCENE.things), st.sampled_from(UNDRAWN))
FAULTY_DRAWS = [
    lambda n, T, g: torch.zeros(n, dtype=torch.int64), lambda n, T, g: torch.rand(n), lambda n, T, g: 5,
    lambda n, T, g: torch.full((n,), T + 1), lambda n, T, g: torch.ones(1, dtype=torch.int64), lambda n, T, g: None,
]  # fmt: skip


def weighed(**given):
    return Muon([torch.nn.Parameter(torch.eye(2))], **given)


# (name, function, good arguments, {parameter: values that must not get in})
DOORS = [
    # F0: numbers
    ("noise_like", course_types.noise_like, {"x": X, "generator": None}, {"x": BATCH, "generator": GENERATOR}),
    (
        "Schedule", schedules.Schedule,
        {"name": "s", "signal_rate": torch.tensor([1.0, 0.5, 0.1]), "noise_rate": torch.tensor([0.0, 0.5, 0.9])},
        {"signal_rate": SIGNALS, "noise_rate": NOISES},
    ),
    ("Schedule.rates", SCHEDULE.rates, {"t": T, "like": X}, {"t": STEP_NUMBERS | OUTSIDE, "like": BATCH}),
    (
        "Schedule.add_noise", SCHEDULE.add_noise, {"x0": X, "t": T, "eps": X},
        {"x0": BATCH, "t": STEP_NUMBERS | OUTSIDE, "eps": LIKE_X},
    ),
    (
        "Schedule.steps", SCHEDULE.steps, {"n": 3, "spacing": "karras"},
        {"n": WHOLE | st.integers(11), "spacing": nothing(NONE, INTEGERS, st.just("leading"))},
    ),
    ("Schedule.beta", method(lambda s: s.beta, schedules.cosine(4)), {}, {}),
    ("from_beta", schedules.from_beta, {"beta": torch.tensor([0.0, 0.1])}, {"beta": BETAS}),
    (
        "linear_beta", schedules.linear_beta, {"T": 5, "beta_start": 0.1, "beta_end": 0.2},
        {"T": WHOLE, "beta_start": NOT_SHARE | st.floats(0.21, 1), "beta_end": NOT_SHARE | st.floats(0, 0.09)},
    ),
    (
        "cosine", schedules.cosine, {"T": 5, "offset": 0.008, "beta_max": 0.999},
        {"T": WHOLE, "offset": NOT_SHARE, "beta_max": NOT_SHARE | st.just(0)},
    ),
    (
        "sigmoid", schedules.sigmoid, {"T": 5, "start": -3, "end": 3, "tau": 1},
        {"T": WHOLE, "start": UNREAL | st.floats(3, 99), "end": UNREAL | st.floats(-99, -3), "tau": SIZES},
    ),
    ("flow", schedules.flow, {"T": 5}, {"T": WHOLE}),
    (
        "rescale_zero_terminal_snr", schedules.rescale_zero_terminal_snr, {"schedule": SCHEDULE},
        {"schedule": NOT_SCHEDULE | st.sampled_from([schedules.flow(5), schedules.cosine(1)])},
    ),
    (
        "target", objectives.target, {"objective": objectives.v, "x0": X, "eps": X, "a": A, "s": S},
        {"objective": OBJECTIVES, "x0": BATCH, "eps": LIKE_X, "a": RATES, "s": RATES},
    ),
    (
        "solve", objectives.solve, {"objective": objectives.eps, "output": X, "x_t": X, "a": A, "s": S},
        {"objective": OBJECTIVES, "output": LIKE_X, "x_t": BATCH, "a": RATES | st.just(A * 0), "s": RATES},
    ),
    ("simple", objectives.simple, {"schedule": SCHEDULE, "objective": objectives.v, "t": T}, WEIGHING),
    (
        "variational", objectives.variational, {"schedule": SCHEDULE, "objective": objectives.v, "t": T},
        WEIGHING | {"schedule": NOT_SCHEDULE | st.just(schedules.flow(10))},
    ),
    ("min_snr", objectives.min_snr, {"gamma": 5.0}, {"gamma": SIZES}),
    ("min_snr()", objectives.min_snr(), {"schedule": SCHEDULE, "objective": objectives.v, "t": T}, WEIGHING),
    # F1: material
    (
        "GaussianMixture", GaussianMixture,
        {"means": X, "std": 0.1, "weights": torch.tensor([0.2, 0.3, 0.5]), "labels": torch.tensor([0, 1, 2])},
        {
            "means": BATCH | st.just(X * NAN),
            "std": nothing(NONE, st.floats(max_value=-1e-9), st.just(NAN), tensors([(2,), (3, 1)]), st.just(-X[:, 0])),
            "weights": nothing(FLOATS, tensors([(3,), (2,), (3, 1)]), st.just(torch.tensor([0.5, 0.5, 0.0]))),
            "labels": CLASSES,
        },
    ),
    ("GaussianMixture.sample", MIXTURE.sample, {"n": 4, "generator": None}, {"n": WHOLE, "generator": GENERATOR}),
    (
        "GaussianMixture.log_prob", MIXTURE.log_prob, {"x_t": X, "a": 1, "s": 0.1},
        {"x_t": PLANE | st.just(X.double()), "a": NEGATIVE, "s": NEGATIVE},
    ),
    (
        "log_prob of single points", GaussianMixture(X, 0.0).log_prob, {"x_t": X, "a": 1, "s": 0.1},
        {"s": st.just(0) | st.just(0.0) | NEGATIVE},
    ),
    (
        "ExactPredictor", ExactPredictor, {"mixture": MIXTURE, "schedule": SCHEDULE},
        {"mixture": NOT_CALLABLE, "schedule": NOT_SCHEDULE},
    ),
    (
        "ExactPredictor()", EXACT, {"x_t": X, "t": T, "cond": torch.tensor([0, 1, 2])},
        {"x_t": PLANE | st.just(X.double()), "t": STEP_NUMBERS | OUTSIDE, "cond": LABELS},
    ),
    (
        "ExactPredictor() without labels", ExactPredictor(GaussianMixture(X, 0.1), SCHEDULE),
        {"x_t": X, "t": T, "cond": None}, {"cond": LABELS | st.just(torch.tensor([0, 1, 2]))},
    ),
    (
        "MLP", MLP, {"dim": 2, "width": 8, "depth": 2, "classes": 3},
        {"dim": WHOLE, "width": WHOLE | st.sampled_from([1, 7]), "depth": WHOLE, "classes": SEEDS},
    ),
    (
        "MLP()", MLP(dim=2, width=4, depth=1, classes=3),
        {"x": X, "time": torch.rand(3), "label": torch.tensor([0, 1, 3])},
        {"x": PLANE | st.just(X.double()), "time": FRACTIONS | tensors([(2,)]), "label": LABELS},
    ),
    ("MLP() without classes", NET, {"x": X, "time": torch.rand(3), "label": None}, {"label": LABELS}),
    (
        "Generator", Generator, {"latent": 2, "channels": 1, "size": 28, "width": 2},
        {"latent": WHOLE, "channels": WHOLE, "size": WHOLE | st.sampled_from([27, 30, 64]), "width": WHOLE},
    ),
    ("Generator()", Generator(latent=2, width=2), {"z": X}, {"z": PLANE | st.just(X.double())}),
    (
        "StyleGenerator", StyleGenerator, {"latent": 2, "channels": 1, "size": 32, "width": 2, "depth": 1},
        {
            "latent": WHOLE, "channels": WHOLE, "size": WHOLE | st.sampled_from([27, 30, 64]), "width": WHOLE,
            "depth": WHOLE,
        },
    ),
    (
        "StyleGenerator()", STYLES, {"z": X, "generator": None},
        {"z": PLANE | st.just(X.double()), "generator": GENERATOR},
    ),
    (
        "StyleGenerator.synthesis", STYLES.synthesis, {"w": torch.ones(3, 4, 2), "generator": None},
        {"w": PLANE | tensors([(3, 3, 2), (3, 4, 3)]) | st.just(X.double()), "generator": GENERATOR},
    ),
    (
        "StyleGenerator.mix", STYLES.mix, {"z_a": X, "z_b": X, "crossover": 2, "generator": None},
        {
            "z_a": PLANE | st.just(X[:2]), "z_b": PLANE | st.just(X[:2]), "generator": GENERATOR,
            "crossover": nothing(NONE, FLOATS, st.integers(5), st.integers(max_value=-1)),
        },
    ),
    (
        "ModulatedConv", ModulatedConv, {"channels_in": 2, "channels_out": 3, "kernel": 3, "demodulate": True},
        {"channels_in": WHOLE, "channels_out": WHOLE, "kernel": WHOLE, "demodulate": SWITCHES},
    ),
    (
        "Discriminator", Discriminator,
        {"channels": 1, "size": 28, "width": 2, "spectral": False, "batch_norm": False},
        {
            "channels": WHOLE, "size": WHOLE | st.sampled_from([27, 30, 64]), "width": WHOLE, "spectral": SWITCHES,
            "batch_norm": SWITCHES,
        },
    ),
    (
        "Discriminator()", Discriminator(width=2), {"x": torch.zeros(4, 1, 28, 28)},
        {"x": NOT_DIGITS | st.just(DIGITS.double())},
    ),
    ("TimeEmbedding", TimeEmbedding, {"width": 4}, {"width": WHOLE | st.sampled_from([1, 3, 5])}),
    ("TimeEmbedding()", TimeEmbedding(4), {"time": torch.rand(3)}, {"time": FRACTIONS}),
    (
        "ring", data.ring, {"modes": 3, "radius": 1.0, "std": 0.1},
        {"modes": WHOLE, "radius": UNREAL, "std": nothing(NONE, st.just(NAN), st.floats(max_value=-1e-9))},
    ),
    (
        "two_moons", data.two_moons, {"n": 4, "std": 0.1, "generator": None},
        {"n": WHOLE, "std": NEGATIVE, "generator": GENERATOR},
    ),
    (
        "spiral", data.spiral, {"n": 4, "turns": 1.5, "std": 0.1, "generator": None},
        {"n": WHOLE, "turns": UNREAL, "std": NEGATIVE, "generator": GENERATOR},
    ),
    (
        "checkerboard", data.checkerboard, {"n": 4, "squares": 4, "generator": None},
        {"n": WHOLE, "squares": WHOLE | st.just(1), "generator": GENERATOR},
    ),
    (
        "batches", data.batches, {"x": X, "size": 2, "labels": None, "seed": 0},
        {"x": BATCH, "size": WHOLE | st.integers(4), "labels": nothing(INTEGERS, tensors([(2,), ()])), "seed": SEEDS},
    ),
    ("Batches.skip_to", lambda n: data.batches(X, 2).skip_to(n) or True, {"n": 3}, {"n": SEEDS}),
    ("shipped", data.shipped, {"name": "mnist-ddpm"}, {"name": nothing(NONE, INTEGERS, st.text(), st.just(".."))}),
    ("handwritten", lambda train: handwritten_offline(train), {"train": True}, {"train": nothing(NONE, INTEGERS)}),
    ("parse", shapes.parse, {"text": "a red circle"}, {"text": nothing(NONE, INTEGERS, FLOATS, st.just("a red"))}),
    ("sentence", shapes.sentence, {"scene": SCENE, "way": 0}, {"scene": NOT_SCENE, "way": SEEDS}),
    ("ways", shapes.ways, {"scene": SCENE}, {"scene": NOT_SCENE}),
    ("held_out", shapes.held_out, {"scene": SCENE}, {"scene": NOT_SCENE | st.just(shapes.parse("a red circle"))}),
    ("every_scene", shapes.every_scene, {"things": 1}, {"things": nothing(NONE, FLOATS, st.sampled_from([0, 3]))}),
    (
        "render", shapes.render, {"scenes": [SCENE], "generator": None},
        {"scenes": NOT_SCENE | NOT_SCENE.map(lambda scene: [scene]) | st.just([]), "generator": GENERATOR},
    ),
    (
        "drawings", shapes.drawings, {"size": 2, "part": "all", "brief": 0.5, "seed": 0},
        {"size": WHOLE, "part": nothing(NONE, INTEGERS), "brief": NOT_SHARE, "seed": SEEDS},
    ),
    (
        "coverage", shapes.coverage,
        {"shape": "ring", "middle": X, "radius": X[:, 0], "turn": X[:, 0], "side": 32},
        {
            "shape": nothing(NONE, INTEGERS), "middle": PLANE, "radius": NUMBERS | tensors([(2,), (3, 1)]),
            "turn": NUMBERS | tensors([(2,), (3, 1)]), "side": WHOLE,
        },
    ),
    # F2: algorithms
    (
        "Denoiser", Denoiser,
        {"net": NET, "schedule": SCHEDULE, "objective": objectives.eps, "clip": 1.0, "precision": torch.bfloat16},
        {
            "net": NOT_CALLABLE, "schedule": NOT_SCHEDULE | st.just(schedules.flow(5)), "objective": OBJECTIVES,
            "clip": SIZES.filter(lambda size: size is not None),
            "precision": nothing() | st.just(torch.float16) | st.just("bfloat16"),
        },
    ),
    (
        "Denoiser.output", DENOISER.output, {"x_t": X, "t": T},
        {"x_t": PLANE | st.just(X.double()), "t": STEP_NUMBERS | st.integers() | st.just(torch.tensor([0, 1, 2]))},
    ),
    (
        "Denoiser()", DENOISER, {"x_t": X, "t": T},
        {"x_t": PLANE | st.just(X.double()), "t": STEP_NUMBERS | st.integers() | st.just(torch.tensor([0, 1, 2]))},
    ),
    (
        "denoising_loss", denoising_loss,
        {"denoiser": DENOISER, "x0": X, "weight": objectives.simple, "draw_t": uniform_t, "generator": None},
        {
            "denoiser": NOT_CALLABLE | st.just(NET), "x0": PLANE, "weight": NOT_CALLABLE,
            "draw_t": NOT_CALLABLE | st.sampled_from(FAULTY_DRAWS), "generator": GENERATOR,
        },
    ),
    *(
        (how.__name__, how, {"n": 3, "T": 10, "generator": None}, {"n": WHOLE, "T": WHOLE, "generator": GENERATOR})
        for how in (uniform_t, logit_normal_t)
    ),
    ("DigitClassifier.features", DigitClassifier().features, {"x": DIGITS}, {"x": NOT_DIGITS}),
    ("DigitFeatures()", DigitFeatures(DigitClassifier(), "of nothing"), {"x": DIGITS}, {"x": NOT_DIGITS}),
    ("orthogonal", orthogonal, {"matrix": torch.eye(2)}, {"matrix": LIKE_NO_MATRIX}),
    (
        "ddim_step", ddim_step,
        {"predict": EXACT, "schedule": SCHEDULE, "x_t": X, "t": 5, "t_next": 2, "eta": 0.5, "noise": X},
        STEPPING | {"eta": NOT_SHARE, "noise": LIKE_X},
    ),
    ("heun_step", heun_step, {"predict": EXACT, "schedule": SCHEDULE, "x_t": X, "t": 5, "t_next": 2}, STEPPING),
    (
        "dpm_step", dpm_step,
        {"predict": EXACT, "schedule": SCHEDULE, "x_t": X, "t": 5, "t_next": 2, "previous": STEP},
        STEPPING | {"previous": nothing(INTEGERS, st.just(X), st.just(STEP._replace(t_next=4)))},
    ),
    (
        "sample_steps", walk,
        {"step": ddim_step, "predict": EXACT, "schedule": SCHEDULE, "x_T": X, "times": TIMES, "generator": None},
        WALKING,
    ),
    (
        "sample", sample,
        {"step": ddim_step, "predict": EXACT, "schedule": SCHEDULE, "x_T": X, "times": TIMES, "generator": None},
        WALKING,
    ),
    (
        "log_likelihood", log_likelihood,
        {"predict": EXACT, "schedule": SCHEDULE, "x": X, "times": [1, 5, 10], "probes": 1, "generator": None},
        {
            "predict": PREDICTORS | st.just(lambda x_t, t, cond: Prediction(x_t.detach(), x_t.detach())),
            "schedule": NOT_SCHEDULE, "x": PLANE, "times": RISING, "probes": SEEDS, "generator": GENERATOR,
        },
    ),
    (
        "bits_per_dim", bits_per_dim, {"log_prob": torch.ones(3), "x": X},
        {"log_prob": nothing(NONE, FLOATS, tensors([(2,), (3, 1), ()])), "x": BATCH},
    ),
    (
        "discriminator_loss", discriminator_loss,
        {"real_logits": X[:, 0], "fake_logits": X[:, 0], "kind": "minimax", "smooth": 0.1},
        {"real_logits": LOGITS, "fake_logits": LOGITS, "kind": KINDS | st.just("hinge"), "smooth": NOT_SHARE},
    ),
    (
        "generator_loss", generator_loss, {"fake_logits": X[:, 0], "kind": "hinge"},
        {"fake_logits": LOGITS, "kind": KINDS},
    ),
    ("r1_penalty", steep, {"real": X}, {"real": BATCH}),
    (
        "gradient_penalty", gradient_penalty, {"discriminator": JUDGES, "real": X, "fake": X, "generator": None},
        {
            "discriminator": NOT_CALLABLE | st.sampled_from([lambda x: None, lambda x: x, lambda x: torch.ones(3)]),
            "real": BATCH, "fake": LIKE_X, "generator": GENERATOR,
        },
    ),
    ("lab", judge.lab, {"rgb": torch.ones(2, 3)}, {"rgb": NUMBERS | tensors([(2, 4), (3, 1), ()])}),
    ("judge", judge.judge, {"pictures": COLOURED}, {"pictures": NOT_COLOURED}),
    (
        "score", judge.score, {"pictures": COLOURED, "scenes": [SCENE]},
        {"pictures": NOT_COLOURED, "scenes": NOT_SCENE | st.just(["a red circle"]) | st.just([SCENE] * 2)},
    ),
    # F3: runs
    (
        "fit_gan", play,
        {
            "generator": MAKES, "discriminator": JUDGES, "batches": [X, X], "steps": 2, "loss": "non_saturating",
            "lr": 0.0, "betas": (0.5, 0.9), "r1": 0.0, "gradient_penalty": 0.0, "smooth": 0.1,
            "discriminator_steps": 1, "latent": 2, "ema": None, "seed": 0, "name": "",
        },
        {
            "generator": MODULES | st.sampled_from([torch.nn.ReLU(), torch.nn.Linear(2, 3)]),
            "discriminator": MODULES | st.sampled_from([torch.nn.ReLU(), torch.nn.Linear(2, 1)]),
            "batches": nothing(NONE, INTEGERS, st.just(X), st.just([]), st.just([X]), st.just([(X, T), (X, T)])),
            "steps": WHOLE, "loss": KINDS | st.just("hinge"), "lr": GAN_RATES | UNREAL.map(lambda r: lambda share: r),
            "betas": nothing(NONE, FLOATS) | st.sampled_from([(0.9,), (0.9, 1), (-0.1, 0.9), (NAN, 0.9), ("a", "b")]),
            "r1": NEGATIVE, "gradient_penalty": NEGATIVE, "smooth": NOT_SHARE, "discriminator_steps": WHOLE,
            "latent": WHOLE, "ema": nothing(INTEGERS, st.just(NET)), "seed": SEEDS,
            "name": INTEGERS | FLOATS | st.just({}) | NONE,
        },
    ),
    ("EMA", EMA, {"net": NET, "decay": 0.9}, {"net": MODULES, "decay": NOT_SHARE | st.just(1)}),
    ("EMA.update", EMA(NET).update, {"net": NET}, {"net": MODULES | st.just(MLP(dim=2, width=6, depth=1))}),
    (
        "fit", train,
        {
            "loss_fn": lambda x, generator: NET(x, torch.rand(len(x))).mean(), "net": NET, "batches": [X, X],
            "steps": 2, "lr": 0.0, "ema": None, "seed": 0, "name": "",
        },
        {
            "loss_fn": NOT_CALLABLE | st.sampled_from([None, 1.0, X, X.mean(), "loss"]).map(lambda r: lambda x, g: r),
            "net": MODULES | st.just(torch.nn.ReLU()),
            "batches": nothing(NONE, INTEGERS, st.just(X), st.just([]), st.just([X])),
            "steps": WHOLE, "lr": NEGATIVE | UNREAL.map(lambda r: lambda share: r),
            "ema": nothing(INTEGERS, st.just(NET)), "seed": SEEDS, "name": INTEGERS | FLOATS | st.just({}) | NONE,
        },
    ),
    (
        "Muon", Muon, {"matrices": [torch.nn.Parameter(torch.eye(2))], "others": [torch.nn.Parameter(X)]},
        {
            "matrices": st.sampled_from([["w"], [X[0]], [None], [3.0], [np.eye(2)], [b"w"]]),
            "others": st.sampled_from([["w"], [None], [3.0], [np.zeros(3)], [1], [b"w"]]),
        },
    ),
    (
        "Muon of a matrix", weighed, {"lr": 0.1, "momentum": 0.9, "ratio": 0.1, "betas": (0.9, 0.99)},
        {
            "lr": NEGATIVE, "momentum": NOT_SHARE, "ratio": NEGATIVE,
            "betas": nothing(NONE, FLOATS) | st.sampled_from([(0.9,), (0.9, 1), (-0.1, 0.9), (NAN, 0.9), ("a", "b")]),
        },
    ),
    (
        "muon", muon, {"net": UNet(widths=(4, 8), patch=2), "lr": 0.02}, {"net": NOT_CALLABLE, "lr": NEGATIVE},
    ),
    (
        "draw", draw,
        {
            "denoiser": Denoiser(Quiet(), SCHEDULE, objectives.v), "n": 2, "sampler": "ddim", "steps": 2, "seed": 0,
            "label": 1, "scale": 1.5,
        },
        {
            "denoiser": NOT_CALLABLE | st.just(Denoiser(lambda x, time: x, SCHEDULE, objectives.v)), "n": WHOLE,
            "sampler": nothing(NONE, INTEGERS, st.just([])), "steps": WHOLE | st.integers(11), "seed": SEEDS,
            "label": nothing(FLOATS, st.booleans(), st.integers(3), st.integers(max_value=-1)), "scale": NEGATIVE,
        },
    ),
    (
        "generate", generate, {"generator": Generator(latent=2, width=2), "n": 2, "seed": 0},
        {"generator": MODULES | st.just(NET), "n": WHOLE, "seed": SEEDS},
    ),
    (
        "evaluate_digits",
        lambda samples: evaluate_offline(samples), {"samples": np.zeros((4, 1, 28, 28), "f4")}, {"samples": BAD_DIGITS},
    ),
    # F4: pictures
    (
        "curves", viz.curves, {"lines": LINES, "xlabel": "x", "ylabel": "y", "log": "", "mark": None},
        {"lines": named(PAIRS), "log": nothing(NONE, INTEGERS), "mark": nothing(st.just(NAN), st.booleans())},
    ),
    (
        "two_clocks", viz.two_clocks, {"left": LINES, "right": LINES, "xlabels": ("a", "b"), "ylabel": "y"},
        {"left": named(PAIRS), "right": named(PAIRS), "xlabels": nothing(NONE, INTEGERS, st.just(("a",)))},
    ),
    (
        "rulers", viz.rulers, {"rows": {"a": [1.0]}, "xlabel": "x", "band": None},
        {"rows": named(NUMBERS), "band": SPANS},
    ),
    (
        "picture_and_curves", viz.picture_and_curves,
        {"picture": np.zeros((1, 8, 8)), "lines": {"a": [1.0, 0.5]}, "t": 1},
        {
            "picture": NUMBERS | st.sampled_from([(2, 4, 4), (4,), (0, 4, 4), (1, 1, 4, 4)]).map(np.zeros),
            "lines": named(NUMBERS),
            "t": nothing(NONE, FLOATS, st.integers(2), st.integers(max_value=-1)),
        },
    ),
    (
        "histogram", viz.histogram, {"samples": {"a": [1.0, 2.0]}, "xlabel": "x", "bins": 10, "spread": None},
        {"samples": named(SAMPLES), "bins": SIZES, "spread": SPANS},
    ),
    (
        "picture_rows", viz.picture_rows, {"rows": {"a": np.zeros((2, 8, 8))}, "columns": None, "size": 1.0},
        {"rows": named(PICTURES), "columns": nothing(INTEGERS), "size": SIZES},
    ),
    (
        "clouds", viz.clouds, {"points": {"a": POINTS}, "limit": 2.0, "size": 3.0},
        {"points": named(ARRAYS), "limit": SIZES, "size": SIZES},
    ),
    (
        "field", viz.field, {"at": POINTS, "arrows": POINTS, "cloud": None, "limit": 2.0},
        {"at": ARROWS, "arrows": ARROWS, "cloud": CLOUDS, "limit": SIZES},
    ),
    (
        "fields", viz.fields, {"at": POINTS, "arrows": {"a": POINTS}, "cloud": None, "limit": 2.0},
        {"at": ARROWS, "arrows": named(ARROWS), "cloud": CLOUDS, "limit": SIZES},
    ),
    (
        "shares", viz.shares, {"counts": {"a": [0.5, 0.5]}, "expected": 0.5, "margin": 0.1, "xlabel": "x"},
        {"counts": named(NUMBERS), "expected": UNREAL, "margin": NEGATIVE},
    ),
    (
        "trajectories", viz.trajectories, {"paths": {"a": PATHS}, "cloud": None, "limit": 2.0, "size": 3.0},
        {
            "paths": named(NUMBERS | st.sampled_from([(4, 2), (3, 4, 3), (0, 4, 2), (3, 0, 2)]).map(np.zeros)),
            "cloud": CLOUDS, "limit": SIZES, "size": SIZES,
        },
    ),
    (
        "orbits", viz.orbits,
        {"paths": {"a": POINTS}, "at": POINTS, "arrows": POINTS, "xlabel": "x", "ylabel": "y", "size": 3.0},
        {"paths": named(ARRAYS), "at": ARROWS, "arrows": ARROWS, "size": SIZES},
    ),
    (
        "heat_maps", viz.heat_maps,
        {"maps": {"a": np.eye(3)}, "xlabel": "x", "ylabel": "y", "label": "z", "log": False, "size": 2.2},
        {"maps": named(NUMBERS | st.sampled_from([np.zeros((2, 2)), -np.eye(2), np.ones(3)])), "size": SIZES},
    ),
    (
        "parts", viz.parts, {"rows": {"a": {"one": 0.4, "two": 0.6}}, "xlabel": "share"},
        {"rows": named(nothing(NONE, INTEGERS) | st.sampled_from([{}, {"one": -1.0}, {"one": NAN}, {"one": "x"}]))},
    ),
]  # fmt: skip
THROWS = [
    pytest.param(function, good, name, bad, id=f"{title}-{name}")
    for title, function, good, parameters in DOORS
    for name, bad in parameters.items()
]


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def refused(call):
    """Call, and check how it was refused."""
    try:
        call()
    except (TypeError, ValueError) as error:
        message, last = str(error), traceback.extract_tb(error.__traceback__)[-1]
        assert message.startswith("expected ") and "\n" not in message, message
        assert Path(last.filename).resolve().is_relative_to(LIBRARY), (last.filename, message)
        assert last.line.startswith("raise "), f"not refused at the door, but by {last.line!r}: {message}"
        return
    raise AssertionError("this got in")


@pytest.mark.parametrize(("function", "good"), [door[1:3] for door in DOORS], ids=[door[0] for door in DOORS])
def test_the_good_call_runs(function, good):
    assert function(**good) is not None or function.__name__ == "update"


@pytest.mark.parametrize(("function", "good", "name", "bad"), THROWS)
def test_bad_input_is_refused_in_one_sentence(function, good, name, bad):
    thrown = []

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bad)
    def throw(value):
        thrown.append(value)
        refused(lambda: function(**good | {name: value}))
        assert not plt.get_fignums(), "a picture was begun before its input was looked at"

    throw()
    assert len(thrown) >= 5


def test_every_public_function_has_a_door():
    covered = {title.split("(")[0].split(".")[0].split(" ")[0] for title, *_ in DOORS}
    modules = [schedules, objectives, data, shapes, judge, viz, course_types]
    public = {name for module in modules for name in module.__all__ if callable(getattr(module, name))}
    types = {"Objective", "Weight", "Prediction", "Predictor", "Progress", "GanProgress", "Step", "Digits", "DataError"}
    types |= {"Drawings", "Drawn", "Scene", "Thing"}
    not_called = types | {"digits", "data_dir", "mnist"}  # mnist: through handwritten
    assert public - not_called - covered == set()
    assert len(THROWS) * 5 >= 200


def test_beta_is_refused_where_variance_is_not_preserved():
    refused(lambda: schedules.flow(5).beta)


def test_eps_is_refused_where_no_signal_is_left():
    zero = schedules.rescale_zero_terminal_snr(schedules.linear_beta(10, 0.1, 0.5))
    refused(lambda: Denoiser(NET, zero, objectives.eps))
    assert Denoiser(NET, zero, objectives.v).schedule is zero


@pytest.mark.parametrize("net", FAULTY_NETS)
def test_what_a_network_returns_is_looked_at(net):
    refused(lambda: Denoiser(net, SCHEDULE, objectives.v)(X, T))


@pytest.mark.parametrize("predict", FAULTY_PREDICTORS)
@pytest.mark.parametrize("step", [ddim_step, heun_step, dpm_step])
def test_what_a_predictor_returns_is_looked_at(step, predict):
    refused(lambda: step(predict, SCHEDULE, X, 5, 2))


def test_noise_is_asked_for_when_eta_is_not_0():
    refused(lambda: ddim_step(EXACT, SCHEDULE, X, 5, 2, eta=1.0))
    assert isinstance(ddim_step(EXACT, SCHEDULE, X, 5, 2, eta=0.0), Step)


@settings(max_examples=100, deadline=None)
@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.binary())
def test_any_value_can_be_described_in_a_few_words(value):
    words = doors.described(value)
    assert words and "\n" not in words and (isinstance(value, int) or len(words) < 200)


def test_a_value_says_its_shape():
    assert doors.described(np.zeros((2, 3))) == "ndarray of shape (2, 3)"
    assert doors.described(torch.zeros(2, dtype=torch.int64)) == "a int64 tensor of shape (2,)"
