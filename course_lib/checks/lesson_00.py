"""The exercises of lesson 00: scale grey levels, mix a digit with noise.

Equations: grey / 8 - 1 maps 0..16 to [-1, 1]; x_t = signal_rate * x0 + noise_rate * eps (DDPM, eq. 4).
Shapes: grey and x0 (B, *dims), any dims; rates are numbers.
Not here: how a verdict is reached (engine.py).
"""

import torch

from course_lib.checks.engine import Case, Exercise, Mistake, catalogue

# ---- 0.1 ------------------------------------------------------------------------------------------------------


def scale_pixels(grey):
    return grey / 8 - 1


def _ends(report):
    return f"black to white comes out as {float(report.got.min()):.4g} to {float(report.got.max()):.4g}"


SHIFT_HINTS = (
    "What does your function make of 0? And of 16? Write both down before you change anything.",
    "The distance from -1 to 1 is 2, so 16 levels are squeezed into 2; then everything moves so that 0 becomes -1.",
)

SCALE_MISTAKES = [
    Mistake(
        "0 to 1",
        lambda grey: grey / 16,
        lambda r: f"Scaled, and not yet moved: {_ends(r)}, and it should be -1 to 1.",
        SHIFT_HINTS,
    ),
    Mistake(
        "-1 to 0",
        lambda grey: grey / 16 - 1,
        lambda r: f"Moved, and scaled to half of the width: {_ends(r)}, and it should be -1 to 1.",
        SHIFT_HINTS,
    ),
    Mistake(
        "0 to 2",
        lambda grey: grey / 8,
        lambda r: f"The width is right, the place is not: {_ends(r)}. Noise is centred at 0, and so the pictures should be.",
        ("How far, and in which direction, must all values move?", "The middle grey, 8, should become 0."),
    ),
    Mistake(
        "not scaled",
        lambda grey: grey - 8,
        lambda r: f"The middle is right, the width is not: {_ends(r)}. Beside that, noise of deviation 1 would be a whisper.",
        ("16 levels have to fit into a width of 2.", "By what do you divide to get from 8 to 1?"),
    ),
    Mistake(
        "bytes",
        lambda grey: grey / 127.5 - 1,
        lambda r: f"This is for bytes, 0 to 255: here {_ends(r)}, which is nearly black. These digits stop at 16.",
        ("Print `grey.max()`.", "Put 16 where your formula thinks of 255."),
    ),
    Mistake(
        "own maximum",
        lambda grey: grey / grey.max() * 2 - 1,
        "You divide by the largest value that happens to be there. In a batch whose brightest pixel is 4 of 16, dark grey "
        "became white. The scale must not depend on which pictures come together.",
        ("What is the largest value that a pixel *can* have?", "Write that number in place of `.max()`."),
    ),
    Mistake(
        "own range",
        lambda grey: (grey - grey.min()) / (grey.max() - grey.min()) * 2 - 1,
        "You stretch whatever comes from its own darkest to its own brightest pixel: two batches would get two different "
        "scales, and no one could tell how dark a pixel was. The ends are fixed: 0 and 16.",
        ("Which values do `grey.min()` and `grey.max()` stand for?", "Write 0 and 16 for them, and simplify."),
    ),
    Mistake(
        "whole numbers",
        lambda grey: grey // 8 - 1,
        lambda r: f"`//` throws the fraction away: of 17 grey levels {len(r.got.unique())} are left.",
        ("Which operator divides without rounding?", "One slash, not two."),
    ),
    Mistake(
        "standardised",
        lambda grey: (grey - grey.mean()) / grey.std(),
        lambda r: f"This makes mean 0 and deviation 1, which depends on the batch: {_ends(r)}. Asked for is a fixed scale.",
        ("No `.mean()` and no `.std()` is needed.", "0 becomes -1 and 16 becomes 1, whatever else is in the batch."),
    ),
    Mistake(
        "upside down",
        lambda grey: 1 - grey / 8,
        "Black and white have changed places: 0 became 1 and 16 became -1.",
        ("Which end should be -1?", "Look at the sign in front of `grey`."),
    ),
]

# ---- 0.2 ------------------------------------------------------------------------------------------------------


def add_noise(x0, eps, signal_rate, noise_rate):
    return signal_rate * x0 + noise_rate * eps


def _where(report):
    _, _, signal_rate, noise_rate = report.case.args
    return f"signal_rate {float(signal_rate):.2g} and noise_rate {float(noise_rate):.2g}"


def _swapped(report):
    x0, eps = report.case.args[:2]
    return (f"The rates are swapped: with {_where(report)} there should be more picture than noise, and your x_t is "
            f"{_share(report.got, x0):.0%} picture and {_share(report.got, eps):.0%} noise.")


def _share(mixed, part):
    """How much of `part` is in `mixed`: the slope of a straight line through the pixels."""
    return float((mixed * part).sum() / (part * part).sum())


def _spread(report):
    return (f"with {_where(report)} your x_t has variance {float(report.got.var()):.2f}, "
            f"where the right one has {float(report.expected.var()):.2f}")


NOISE_MISTAKES = [
    Mistake(
        "swapped",
        lambda x0, eps, signal_rate, noise_rate: noise_rate * x0 + signal_rate * eps,
        _swapped,
        ("Say it aloud: the signal rate belongs to ...?", "Signal is the picture, so `signal_rate` goes with `x0`."),
    ),
    Mistake(
        "signal not shrunk",
        lambda x0, eps, signal_rate, noise_rate: x0 + noise_rate * eps,
        lambda r: f"The picture is still there at full strength: {_spread(r)}. Noise was added, and nothing made room for it.",
        ("Which of the four arguments did you not use?", "Both parts get a factor in front, the picture as well."),
    ),
    Mistake(
        "noise not shrunk",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + eps,
        lambda r: f"The noise comes at full strength at every step: {_spread(r)}. Even at t = 0 the picture would be noisy.",
        ("Which of the four arguments did you not use?", "Both parts get a factor in front, the noise as well."),
    ),
    Mistake(
        "plain sum",
        lambda x0, eps, signal_rate, noise_rate: x0 + eps,
        lambda r: f"Neither rate is used: {_spread(r)}, and every step t would look alike.",
        ("The two rates say how much of each goes in.", "One product for the picture, one for the noise, then the sum."),
    ),
    Mistake(
        "fresh noise",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + noise_rate * torch.randn_like(x0),
        lambda r: "You drew fresh noise; your x_t looks right, yet it holds "
                  f"{abs(_share(r.got - float(r.case.args[2]) * r.case.args[0], r.case.args[1])):.0%} of the `eps` that was "
                  "handed in. From lesson 02 on the network must be asked about the noise that went in, not another one.",
        ("Where does `eps` stand in your function?", "No `torch.randn` is needed: use the argument `eps`."),
    ),
    Mistake(
        "blended",
        lambda x0, eps, signal_rate, noise_rate: (1 - noise_rate) * x0 + noise_rate * eps,
        lambda r: f"A straight blend, with 1 - noise_rate for the picture: {_spread(r)}. Variances add, so the two rates need "
                  "not add up to 1; here their squares do.",
        ("`signal_rate` is an argument: is it used?", "Replace `1 - noise_rate`, and look at lesson 01 for the reason."),
    ),
    Mistake(
        "blended the other way",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + (1 - signal_rate) * eps,
        lambda r: f"A straight blend, with 1 - signal_rate for the noise: {_spread(r)}. Variances add, so the two rates need "
                  "not add up to 1; here their squares do.",
        ("`noise_rate` is an argument: is it used?", "Replace `1 - signal_rate`, and look at lesson 01 for the reason."),
    ),
    Mistake(
        "roots twice",
        lambda x0, eps, signal_rate, noise_rate: signal_rate**0.5 * x0 + noise_rate**0.5 * eps,
        lambda r: f"You took the roots, as in the paper, but rates have them already: {_spread(r)}. The paper writes its "
                  "equation with alpha_bar, which is the square of `signal_rate`.",
        ("Which symbols does the paper have below the roots?", "Use both rates as they come."),
    ),
    Mistake(
        "squared",
        lambda x0, eps, signal_rate, noise_rate: signal_rate**2 * x0 + noise_rate**2 * eps,
        lambda r: f"The rates are squared: {_spread(r)}. Squares are for variances; a picture is multiplied by the rate itself.",
        ("What is multiplied by a variance?", "Use both rates as they come."),
    ),
    Mistake(
        "subtracted",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 - noise_rate * eps,
        "The noise is subtracted. It would look the same, since noise is as often above 0 as below, but whoever asks later "
        "how much of `eps` is in x_t gets the wrong sign.",
        ("Look at the sign between the two parts.", "Mixing is a sum."),
    ),
    Mistake(
        "clamped",
        lambda x0, eps, signal_rate, noise_rate: (signal_rate * x0 + noise_rate * eps).clamp(-1, 1),
        lambda r: f"You cut x_t off at -1 and 1, which changed {float((r.got != r.expected).float().mean()):.0%} of the values. "
                  "Data lie in [-1, 1]; noisy data may lie anywhere, and what is cut off can never be recovered.",
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
            Case("a dark batch of pictures, none above 4", torch.arange(64.0).reshape(1, 1, 8, 8) % 4 + 1),
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
            Case("no noise at all, rates 1 and 0", *_batch(2, 1, 8, 8, seed=3), 1.0, 0.0),
            Case("rates from a table", *_batch(2, 1, 8, 8, seed=4), *torch.tensor([0.6, 0.8], dtype=torch.float64)),
        ],
        mistakes=NOISE_MISTAKES,
        right="picture and noise in their shares, for pictures and for points, and x0 is left alone.",
    ),
)
