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
        "half the width",
        lambda grey: grey / 16 - 0.5,
        lambda r: f"The middle is right, and the width is half of what it should be: {_ends(r)}. Asked for is -1 to 1.",
        ("How wide is the range from -1 to 1?", "16 levels have to fit into a width of 2, not of 1."),
    ),
    Mistake(
        "moved up",
        lambda grey: grey / 8 + 1,
        lambda r: f"The width is right, and everything moved the wrong way: {_ends(r)}, and it should be -1 to 1.",
        ("Where is 0 after your division, and where should it be?", "Look at the sign of what you add."),
    ),
    Mistake(
        "division first",
        lambda grey: grey - 8 / 8,
        lambda r: (
            f"Python divides before it subtracts, so this is `grey - 1`: {_ends(r)}. A bracket changes the order."
        ),
        ("Which part of your line is worked out first?", "Put a bracket around the subtraction."),
    ),
    *(
        Mistake(
            f"{levels} for 16",
            lambda grey, levels=levels: grey / levels * 2 - 1,
            lambda r: (
                f"You divide by {round(2 * 16 / float(r.got.max() + 1))}: {_ends(r)}. There are 17 levels, because 0 "
                "is one of them; the largest is 16."
            ),
            ("What is the largest number that can come in?", "The largest number, divided by what, is 1?"),
        )
        for levels in (15, 17)
    ),
    Mistake(
        "numpy",
        lambda grey: grey.numpy() / 8 - 1,
        "The numbers are right, in a numpy array: the course goes on with torch tensors. Leave `.numpy()` out, or "
        "end with `torch.as_tensor(...)`.",
        ("A tensor takes `+ - * /` by itself.", "No conversion is needed."),
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


def _found(report):
    """The two rates that explain x_t best, of x0 and of eps: least squares over all pixels."""
    parts = torch.stack([part.flatten() for part in report.case.args[:2]], dim=1)  # (pixels, 2)
    return torch.linalg.lstsq(parts.double(), report.got.double().reshape(-1, 1)).solution.flatten().tolist()


def _swapped(report):
    picture, noise = _found(report)
    return (
        f"The rates are swapped: with {_rates(report)} there should be more picture than noise, and your x_t is "
        f"{picture:.2f} of the picture and {noise:.2f} of the noise."
    )


def _fresh(report):
    return (
        "You drew fresh noise: your x_t looks right, but of the `eps` that was handed in there is "
        f"{_found(report)[1]:.2f} in it, where it should be {report.case.args[3]:.2f}. "
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
        lambda r: (
            f"You took the roots, but rates have them already: {_spread(r)}. The paper's equation has roots "
            "because it is written with alpha_bar, the square of `signal_rate`."
        ),
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
        lambda r: (
            f"The noise is subtracted. It looks the same, but `eps` is in your x_t {_found(r)[1]:.2f} times, where it "
            f"should be {r.case.args[3]:.2f}: the sign is wrong for whoever asks about it later."
        ),
        ("Look at the sign between the two parts.", "Mixing is a sum."),
    ),
    Mistake(
        "bracket",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * (x0 + noise_rate * eps),
        lambda r: f"The bracket reaches too far: the signal rate shrinks the noise as well, and {_spread(r)}.",
        ("What stands inside your bracket?", SUM_OF_TWO),
    ),
    Mistake(
        "noise rate over both",
        lambda x0, eps, signal_rate, noise_rate: noise_rate * (signal_rate * x0 + eps),
        lambda r: f"The bracket reaches too far: the noise rate shrinks the picture as well, and {_spread(r)}.",
        ("What stands inside your bracket?", SUM_OF_TWO),
    ),
    *(
        Mistake(
            name,
            looks_like,
            lambda r: (
                "Your bracket adds a rate to a picture, which makes it brighter, not noisier: your x_t has a mean of "
                f"{float(r.got.mean()):.2f} and {_found(r)[1]:.2f} of the noise, where {r.case.args[3]:.2f} of it "
                "should be."
            ),
            ("Which two things does your bracket add?", SUM_OF_TWO),
        )
        for name, looks_like in (
            ("a rate added inside", lambda x0, eps, signal_rate, noise_rate: signal_rate * (x0 + noise_rate) + eps),
            ("a rate added, then eps", lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + noise_rate + eps),
        )
    ),
    *(
        Mistake(
            name,
            looks_like,
            lambda r: (
                "Here picture and noise are multiplied with each other: where the picture is near 0, there would be no "
                f"noise either. Of the noise itself {_found(r)[1]:.2f} is in your x_t; {r.case.args[3]:.2f} should be."
            ),
            ("Which two things does your line multiply?", SUM_OF_TWO),
        )
        for name, looks_like in (
            ("product", lambda x0, eps, signal_rate, noise_rate: (signal_rate * x0 + noise_rate) * eps),
            ("product in a bracket", lambda x0, eps, signal_rate, noise_rate: signal_rate * (x0 + noise_rate) * eps),
            ("product alone", lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 * noise_rate * eps),
        )
    ),
    Mistake(
        "number for noise",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + noise_rate,
        lambda r: (
            f"The noise rate alone is one number: it makes every pixel brighter by {r.case.args[3]:.2f}, and no noise "
            "comes in."
        ),
        (WHICH_UNUSED, SUM_OF_TWO),
    ),
    Mistake(
        "picture twice",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0 + noise_rate * x0,
        lambda r: f"Both parts are the picture: your x_t is {_found(r)[0]:.2f} times x0, and no noise comes in.",
        (WHICH_UNUSED, SUM_OF_TWO),
    ),
    Mistake(
        "picture only",
        lambda x0, eps, signal_rate, noise_rate: signal_rate * x0,
        lambda r: f"The picture is shrunk to {_found(r)[0]:.2f}, and no noise comes in: it would only turn grey.",
        (WHICH_UNUSED, SUM_OF_TWO),
    ),
    Mistake(
        "noise only",
        lambda x0, eps, signal_rate, noise_rate: noise_rate * eps,
        lambda r: f"Here is noise, {_found(r)[1]:.2f} of it, and nothing of the picture: nobody could find it again.",
        (WHICH_UNUSED, SUM_OF_TWO),
    ),
    *(
        Mistake(
            name,
            looks_like,
            lambda r, words=words: (
                f"You worked the {words[0]} rate out from the {words[1]} rate, and it is an argument. Not every "
                "schedule keeps their squares at a sum of 1: on the straight line of lesson 01 the rates add up to 1 "
                f"themselves, and {_spread(r)}."
            ),
            (f"`{words[0]}_rate` is an argument: is it used?", "Use both rates as they come, without a root."),
        )
        for name, words, looks_like in (
            ("noise rate derived", ("noise", "signal"), lambda x0, eps, a, s: a * x0 + (1 - a**2) ** 0.5 * eps),
            ("signal rate derived", ("signal", "noise"), lambda x0, eps, a, s: (1 - s**2) ** 0.5 * x0 + s * eps),
        )
    ),
    Mistake(
        "x0 itself",
        lambda x0, eps, signal_rate, noise_rate: x0 if noise_rate == 0 else signal_rate * x0 + noise_rate * eps,
        "The numbers are right, but where there is no noise you return `x0` itself, not a new tensor: whoever changes "
        "x_t then changes the clean picture as well.",
        ("What does your function return for noise_rate = 0?", "No `if` is needed: 0 * eps is 0."),
    ),
    Mistake(
        "clamped",
        lambda x0, eps, signal_rate, noise_rate: (signal_rate * x0 + noise_rate * eps).clamp(-1, 1),
        _clamped,
        ("Which values may x_t take?", "Leave the sum as it is."),
    ),
]


def _batch(*shape, seed, reach=1):
    generator = torch.Generator().manual_seed(seed)
    return reach * (torch.rand(shape, generator=generator) * 2 - 1), torch.randn(shape, generator=generator)


def _mixed(add_noise, x0, eps, signal_rate, noise_rate):
    """Call the function; where it hands back an input itself, a later change to x_t shows in that input."""
    x_t = add_noise(x0, eps, signal_rate, noise_rate)
    if x_t is x0 or x_t is eps:
        handed_back, x_t = x_t, x_t.clone()
        handed_back.zero_()
    return x_t


EXERCISES = catalogue(
    Exercise(
        number="0.1",
        name="scale_pixels",
        reference=scale_pixels,
        cases=[
            Case("all 17 grey levels", torch.arange(17.0)),
            Case("a dark picture, no pixel above 4", torch.arange(64.0).reshape(1, 1, 8, 8) % 4 + 1),
            Case("a batch of three", torch.arange(192.0).reshape(3, 1, 8, 8) % 17),
            Case("a blank picture", torch.zeros(1, 1, 8, 8)),
            Case("a nearly blank picture, no pixel above 1", torch.arange(64.0).reshape(1, 1, 8, 8) % 2),
            Case("grey levels with fractions, such as 2.5", torch.tensor([2.5, 0.25, 15.75])),
        ],
        mistakes=SCALE_MISTAKES,
        hints=TWO_STEPS,
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
            Case("data beyond 1, rates 0.05 and 0.999", *_batch(32, 3, 5, seed=7, reach=3), 0.05, 0.999),
        ],
        mistakes=NOISE_MISTAKES,
        hints=("Say the formula aloud: how much of which picture, plus how much of which noise?", SUM_OF_TWO),
        use=_mixed,
        right="picture and noise in their shares, for pictures and for points, and x0 is left alone.",
    ),
)
