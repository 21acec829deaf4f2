"""The exercises of lesson 00: scale grey levels, mix a digit with noise.

Equations: grey / 8 - 1 maps 0..16 to [-1, 1]; x_t = signal_rate * x0 + noise_rate * eps (DDPM, eq. 4).
Shapes: grey and x0 (B, *dims), any dims; rates are numbers.
Not here: how a verdict is reached (engine.py).
"""

import torch

from course_lib.checks.engine import Case, Exercise, Mistake, catalogue

# ---- 0.1 ----------------------------------------------------------------------------------------------------


def scale_pixels(grey):
    return grey / 8 - 1


def _ends(report):
    low, high = float(report.got.min()), float(report.got.max())
    return f"black to white comes out as {low:.4g} to {high:.4g}"


TWO_STEPS = (
    "What does your function make of 0? And of 16? Write both down before you change anything.",
    "From -1 to 1 it is 2, so 16 levels have to fit into 2; then everything moves until 0 is at -1.",
)

SCALE_MISTAKES = [
    Mistake(
        "0 to 1",
        lambda grey: grey / 16,
        lambda r: f"Scaled, and not yet moved: {_ends(r)}, and it should be -1 to 1.",
        TWO_STEPS,
    ),
    Mistake(
        "-1 to 0",
        lambda grey: grey / 16 - 1,
        lambda r: f"Moved, and scaled to half of the width: {_ends(r)}, and it should be -1 to 1.",
        TWO_STEPS,
    ),
    Mistake(
        "0 to 2",
        lambda grey: grey / 8,
        lambda r: f"The width is right, the place is not: {_ends(r)}. Noise is centred at 0; pictures should be.",
        ("How far, and in which direction, must all values move?", "The middle grey, 8, should become 0."),
    ),
    Mistake(
        "not scaled",
        lambda grey: grey - 8,
        lambda r: f"The middle is right, the width is not: {_ends(r)}. Noise of deviation 1 would hardly show.",
        ("16 levels have to fit into a width of 2.", "By what do you divide to get from 8 to 1?"),
    ),
    Mistake(
        "bytes",
        lambda grey: grey / 127.5 - 1,
        lambda r: f"This is for bytes, 0 to 255: here {_ends(r)}, nearly all black. These digits stop at 16.",
        ("Print `grey.max()`.", "Put 16 where your formula thinks of 255."),
    ),
    Mistake(
        "own maximum",
        lambda grey: grey / grey.max() * 2 - 1,
        "You divide by the largest value that happens to be there: in a batch whose brightest pixel is 4 of 16, "
        "dark grey became white. The scale must not depend on which pictures come together.",
        ("What is the largest value that a pixel can have?", "Write that number in place of the maximum."),
    ),
    Mistake(
        "own range",
        lambda grey: (grey - grey.min()) / (grey.max() - grey.min()) * 2 - 1,
        "You stretch whatever comes from its own darkest to its own brightest pixel: two batches get two different "
        "scales, and nobody can tell how dark a pixel was. The ends are fixed, 0 and 16.",
        ("Which values do `grey.min()` and `grey.max()` stand for?", "Write 0 and 16 for them, and simplify."),
    ),
    Mistake(
        "whole numbers",
        lambda grey: grey // 8 - 1,
        lambda r: f"The fractions are thrown away: of 17 grey levels {len(r.got.unique())} are left.",
        ("Which operator divides without rounding?", "One slash, not two, and no rounding."),
    ),
    Mistake(
        "standardised",
        lambda grey: (grey - grey.mean()) / grey.std(),
        lambda r: f"Mean 0 and deviation 1 depend on the batch: here {_ends(r)}. Asked for is a fixed scale.",
        ("No mean and no deviation is needed.", "0 becomes -1 and 16 becomes 1, whatever else is in the batch."),
    ),
    Mistake(
        "upside down",
        lambda grey: 1 - grey / 8,
        lambda r: f"Black and white changed places: grey level 0 became {float(r.got.flatten()[0]):.4g}.",
        ("Which end should be -1?", "Look at the sign in front of `grey`."),
    ),
]

# ---- 0.2 ----------------------------------------------------------------------------------------------------


def add_noise(x0, eps, signal_rate, noise_rate):
    return signal_rate * x0 + noise_rate * eps


def _rates(report):
    return f"signal_rate {float(report.case.args[2]):.2g} and noise_rate {float(report.case.args[3]):.2g}"


def _share(mixed, part):
    """How much of `part` is in `mixed`: the slope of a straight line through the pixels."""
    return float((mixed * part).sum() / (part * part).sum())


def _swapped(report):
    x0, eps = report.case.args[:2]
    return (
        f"The rates are swapped: with {_rates(report)} there should be more picture than noise, and your x_t is "
        f"{_share(report.got, x0):.0%} picture and {_share(report.got, eps):.0%} noise."
    )


def _fresh(report):
    x0, eps, signal_rate, noise_rate = report.case.args
    held = abs(_share(report.got - signal_rate * x0, eps)) / noise_rate
    return (
        f"You drew fresh noise: your x_t looks right, but only {held:.0%} of the `eps` that was handed in is in it. "
        "From lesson 02 on, a network is asked about the noise that went in, not about another one."
    )


def _clamped(report):
    changed = (report.got != report.expected).float().mean()
    return (
        f"You cut x_t off at -1 and 1, which changed {changed:.0%} of the values. Data lie in [-1, 1]; noisy data may "
        "lie anywhere, and what is cut off cannot be recovered."
    )


def _spread(report):
    got, expected = float(report.got.var()), float(report.expected.var())
    return f"with {_rates(report)} your x_t has variance {got:.2f}, where the right one has {expected:.2f}"


SUM_OF_TWO = "Each rate belongs to one part: a product for the picture, a product for the noise, then the sum."
WHICH_UNUSED = "Which of the four arguments did you not use?"
BLEND = "Variances add, deviations do not: the two rates need not add up to 1 (lesson 01 shows why)."

NOISE_MISTAKES = [
    Mistake(
        "swapped",
        lambda x0, eps, signal_rate, noise_rate: noise_rate * x0 + signal_rate * eps,
        _swapped,
        ("Say it aloud: the signal rate belongs to what?", "Signal is the picture: it goes with `x0`."),
    ),
    Mistake(
        "signal not shrunk",
        lambda x0, eps, signal_rate, noise_rate: x0 + noise_rate * eps,
        lambda r: f"The picture is still there at full strength: {_spread(r)}. Nothing made room for the noise.",
        (WHICH_UNUSED, SUM_OF_TWO),
    ),
    Mistake(
        "noise not shrunk",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + eps,
        lambda r: f"The noise comes at full strength: {_spread(r)}. Even at t = 0 the picture would be noisy.",
        (WHICH_UNUSED, SUM_OF_TWO),
    ),
    Mistake(
        "plain sum",
        lambda x0, eps, signal_rate, noise_rate: x0 + eps,
        lambda r: f"Neither rate is used: {_spread(r)}, and every step t would look alike.",
        ("The two rates say how much of each goes in.", SUM_OF_TWO),
    ),
    Mistake(
        "fresh noise",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + noise_rate * torch.randn_like(x0),
        _fresh,
        ("Where does `eps` stand in your function?", "Nothing is drawn here: use the argument `eps`."),
    ),
    Mistake(
        "blended",
        lambda x0, eps, signal_rate, noise_rate: (1 - noise_rate) * x0 + noise_rate * eps,
        lambda r: f"A straight blend, with 1 - noise_rate for the picture: {_spread(r)}. {BLEND}",
        ("`signal_rate` is an argument: is it used?", "Put it where you wrote `1 - noise_rate`."),
    ),
    Mistake(
        "blended the other way",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + (1 - signal_rate) * eps,
        lambda r: f"A straight blend, with 1 - signal_rate for the noise: {_spread(r)}. {BLEND}",
        ("`noise_rate` is an argument: is it used?", "Put it where you wrote `1 - signal_rate`."),
    ),
    Mistake(
        "roots twice",
        lambda x0, eps, signal_rate, noise_rate: signal_rate**0.5 * x0 + noise_rate**0.5 * eps,
        lambda r: f"You took the roots, but rates have them already: {_spread(r)}. The paper's equation has roots "
        "because it is written with alpha_bar, the square of `signal_rate`.",
        ("Which symbols stand below the roots in the paper?", "Use both rates as they come."),
    ),
    Mistake(
        "squared",
        lambda x0, eps, signal_rate, noise_rate: signal_rate**2 * x0 + noise_rate**2 * eps,
        lambda r: f"The rates are squared: {_spread(r)}. Squares belong to variances, not to pictures.",
        ("By which power do you multiply a picture to make it half as strong?", "Use both rates as they come."),
    ),
    Mistake(
        "subtracted",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 - noise_rate * eps,
        lambda r: f"The noise is subtracted. It looks the same, but {_share(r.got, r.case.args[1]):.0%} of `eps` is "
        "in your x_t, and the sign is wrong for whoever asks about it later.",
        ("Look at the sign between the two parts.", "Mixing is a sum."),
    ),
    Mistake(
        "bracket",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * (x0 + noise_rate * eps),
        lambda r: f"The bracket reaches too far: the signal rate shrinks the noise as well, and {_spread(r)}.",
        ("What stands inside your bracket?", SUM_OF_TWO),
    ),
    Mistake(
        "clamped",
        lambda x0, eps, signal_rate, noise_rate: (signal_rate * x0 + noise_rate * eps).clamp(-1, 1),
        _clamped,
        ("Which values may x_t take?", "Leave the sum as it is."),
    ),
]


def _batch(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) * 2 - 1, torch.randn(shape, generator=generator)


EXERCISES = catalogue(
    Exercise(
        number="0.1",
        name="scale_pixels",
        reference=scale_pixels,
        cases=[
            Case("all 17 grey levels", torch.arange(17.0)),
            Case("a dark picture, no pixel above 4", torch.arange(64.0).reshape(1, 1, 8, 8) % 4 + 1),
            Case("a batch of three", torch.arange(192.0).reshape(3, 1, 8, 8) % 17),
        ],
        mistakes=SCALE_MISTAKES,
        right="0 became -1, 16 became 1, every level between is in its place, and dark pictures stay dark.",
    ),
    Exercise(
        number="0.2",
        name="add_noise",
        reference=add_noise,
        cases=[
            Case("four pictures, rates 0.8 and 0.6", *_batch(4, 1, 8, 8, seed=1), 0.8, 0.6),
            Case("points in the plane, rates 0.28 and 0.96", *_batch(50, 2, seed=2), 0.28, 0.96),
            Case("rates that add up to one, 0.7 and 0.3", *_batch(3, 1, 8, 8, seed=5), 0.7, 0.3),
            Case("no noise at all, rates 1 and 0", *_batch(2, 1, 8, 8, seed=3), 1.0, 0.0),
            Case("one picture alone, rates 0 and 1", *_batch(1, 1, 8, 8, seed=6), 0.0, 1.0),
            Case("rates from a table", *_batch(2, 1, 8, 8, seed=4), *torch.tensor([0.6, 0.8], dtype=torch.float64)),
        ],
        mistakes=NOISE_MISTAKES,
        right="picture and noise in their shares, for pictures and for points, and x0 is left alone.",
    ),
)
