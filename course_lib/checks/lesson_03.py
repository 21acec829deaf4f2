"""The exercises of lesson 03: a convolution counted, time as waves, a residual block, the walk, attention, the label.

Equations: U-Net (arXiv:1505.04597) figure 1; Transformer (arXiv:1706.03762) eq. 1 and section 3.5; FiLM
(arXiv:1709.07871) eq. 2.
Shapes: pictures x, h (B, C, H, W); time, label (B,); context (B, K).
Not here: how a verdict is reached (engine.py).
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import silu

from course_lib.checks.engine import Case, Exercise, Mistake, catalogue
from course_lib.models.unet import ResidualBlock


def _draw(*shape, seed):
    """Draw numbers of variance 1, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _awake(layer, seed):
    """Give every weight a value of its own: zero starts and ones would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():
            size = 1.5 / math.sqrt(weight[0].numel()) if weight.ndim > 1 else 0.3
            weight += size * torch.randn(weight.shape, generator=generator)
    return layer


# ---- 3.1 count a convolution ----


def count(channels_in, channels_out, kernel, size):
    per_output = channels_in * kernel**2
    weights = channels_out * (per_output + 1)
    multiplications = channels_out * per_output * size**2
    return weights, multiplications


COUNT_CASES = [
    Case("16 to 16 channels, kernel 3, 28 x 28", 16, 16, 3, 28),
    Case("1 to 48 channels, kernel 3, 14 x 14", 1, 48, 3, 14),
    Case("96 to 48 channels, kernel 1, 7 x 7", 96, 48, 1, 7),
    Case("3 to 2 channels, kernel 5, 9 x 9", 3, 2, 5, 9),
]
COUNT_HINTS = (
    "One output channel looks through its own small window of channels_in * kernel * kernel numbers.",
    "There are channels_out such windows, each with one number more (the bias); each is laid on size * size places.",
)


def _counted(weights, multiplications):
    return lambda channels_in, channels_out, kernel, size: (
        weights(channels_in, channels_out, kernel, size),
        multiplications(channels_in, channels_out, kernel, size),
    )


def _all_weights(i, o, k, n):
    return o * (i * k * k + 1)


def _all_work(i, o, k, n):
    return o * i * k * k * n * n


PLACES_HINTS = (
    "How many places does the window of one output channel visit, and how many numbers does it multiply at each?",
    "Multiplications: channels_out * channels_in * kernel**2 for one place, and size**2 places.",
)
CARETS = [  # `^` binds more loosely than `*` and `+`, so each way of writing it gives other numbers
    ("step by step", lambda i, o, k, n: o * ((i * k ^ 2) + 1), lambda i, o, k, n: o * (i * k ^ 2) * n ^ 2),
    ("in one line", lambda i, o, k, n: o * (i * k ^ 2 + 1), lambda i, o, k, n: o * i * k ^ 2 * n ^ 2),
    ("bias last", lambda i, o, k, n: o * i * k ^ 2 + o, lambda i, o, k, n: o * i * k ^ 2 * n ^ 2),
    ("in brackets", lambda i, o, k, n: o * (i * (k ^ 2) + 1), lambda i, o, k, n: o * i * (k ^ 2) * (n ^ 2)),
]

COUNT_MISTAKES = [
    Mistake(
        "bias forgotten",
        _counted(lambda i, o, k, n: o * i * k * k, _all_work),
        lambda r: (
            f"You count {r.got[0]:,} weights where torch has {r.expected[0]:,}: every output channel also adds one "
            "number of its own, the bias. (It is no multiplication, so your second number is right.)"
        ),
        (
            "Write down a layer with 2 output channels by hand: which numbers does each of the two own?",
            "Each output channel owns channels_in * kernel**2 weights that multiply, and one bias that is added.",
        ),
    ),
    Mistake(
        "one bias for all",
        _counted(lambda i, o, k, n: o * i * k * k + 1, _all_work),
        lambda r: (
            f"You count one bias for the whole layer: {r.got[0]:,} weights, where there are {r.expected[0]:,}. Each "
            "output channel has its own."
        ),
        (
            "Write down a layer with 2 output channels by hand: which numbers does each of the two own?",
            "Each output channel owns channels_in * kernel**2 weights that multiply, and one bias that is added.",
        ),
    ),
    Mistake(
        "a bias per input",
        _counted(lambda i, o, k, n: i * (o * k * k + 1), _all_work),
        "The bias is added once to every *output* channel; you count one for every input channel. With as many inputs "
        "as outputs nobody sees the difference; with 1 in and 48 out it is 47 weights.",
        (
            "Write down a layer with 2 output channels by hand: which numbers does each of the two own?",
            "Each output channel owns channels_in * kernel**2 weights that multiply, and one bias that is added.",
        ),
    ),
    Mistake(
        "kernel not squared",
        _counted(lambda i, o, k, n: o * (i * k + 1), lambda i, o, k, n: o * i * k * n * n),
        lambda r: (
            f"The kernel is a square: it reads kernel * kernel places, and you count kernel. That makes {r.got[0]:,} "
            f"weights out of {r.expected[0]:,}."
        ),
        COUNT_HINTS,
    ),
    Mistake(
        "size not squared",
        _counted(_all_weights, lambda i, o, k, n: o * i * k * k * n),
        lambda r: (
            f"The picture has size * size places, and you count one row of it: {r.got[1]:,} multiplications instead "
            f"of {r.expected[1]:,}."
        ),
        (
            "How many places does the window of one output channel visit?",
            "Multiplications: channels_out * channels_in * kernel**2 for one place, and size**2 places.",
        ),
    ),
    Mistake(
        "one place",
        _counted(_all_weights, lambda i, o, k, n: o * i * k * k),
        lambda r: (
            f"{r.got[1]:,} multiplications are what one place costs. The same weights are used again at every place, "
            f"so it is {r.expected[1]:,} in all: few weights, much work."
        ),
        (
            "How many places does the window of one output channel visit?",
            "Multiplications: channels_out * channels_in * kernel**2 for one place, and size**2 places.",
        ),
    ),
    Mistake(
        "bias multiplied",
        _counted(_all_weights, lambda i, o, k, n: o * (i * k * k + 1) * n * n),
        lambda r: (
            f"You multiply by the bias as well: {r.got[1]:,} instead of {r.expected[1]:,}. A bias is only added; the "
            "weights that multiply are one fewer for each output channel."
        ),
        (
            "Write down a layer with 2 output channels by hand: which numbers does each of the two own?",
            "Each output channel owns channels_in * kernel**2 weights that multiply, and one bias that is added.",
        ),
    ),
    Mistake(
        "one output channel",
        _counted(lambda i, o, k, n: i * k * k + 1, lambda i, o, k, n: i * k * k * n * n),
        lambda r: (
            f"This is one output channel: {r.got[0]:,} weights. Each of the channels_out has its own window over "
            f"all inputs, {r.expected[0]:,} in all."
        ),
        COUNT_HINTS,
    ),
    Mistake(
        "inputs not mixed",
        _counted(lambda i, o, k, n: o * (k * k + 1), lambda i, o, k, n: o * k * k * n * n),
        lambda r: (
            f"You count {r.got[0]:,} weights, as if each output channel read one input channel. A convolution reads "
            f"all of them at once: {r.expected[0]:,}."
        ),
        COUNT_HINTS,
    ),
    Mistake(
        "padding ignored",
        _counted(_all_weights, lambda i, o, k, n: o * i * k * k * (n - k + 1) ** 2),
        lambda r: (
            f"You lay the window only where it fits without padding: {r.got[1]:,} multiplications instead of "
            f"{r.expected[1]:,}. With padding there is an output at each of the size * size places."
        ),
        PLACES_HINTS,
    ),
    Mistake(
        "inputs forgotten in the work",
        _counted(_all_weights, lambda i, o, k, n: o * k * k * n * n),
        lambda r: (
            f"The second number: you have {r.got[1]:,}, expected {r.expected[1]:,}. The window multiplies in *every* "
            "input channel, and channels_in is missing there."
        ),
        PLACES_HINTS,
    ),
    Mistake(
        "additions counted",
        _counted(_all_weights, lambda i, o, k, n: 2 * o * i * k * k * n * n),
        lambda r: (
            f"The second number: you have {r.got[1]:,}, expected {r.expected[1]:,}, half of it. Each multiplication "
            "comes with an addition, and many tables count both; here only multiplications count."
        ),
        PLACES_HINTS,
    ),
    *(
        Mistake(
            f"^ for **, {where}",
            _counted(weights, work),
            lambda r: (
                f"You have {r.got[0]:,} and {r.got[1]:,}, expected {r.expected[0]:,} and {r.expected[1]:,}: in Python "
                "`^` is no power, it compares two whole numbers bit by bit, and 3 ^ 2 is 1. A power is `**`: kernel**2."
            ),
            ("What does print(3 ^ 2) say?", "Write kernel**2 and size**2."),
        )
        for where, weights, work in CARETS
    ),
    *(
        Mistake(
            f"only the {name}",
            lambda i, o, k, n, which=which: count(i, o, k, n)[which],
            f"The {name} are right, and two numbers are asked for: return weights, multiplications.",
            ("How many numbers does the statement ask for?", "return weights, multiplications"),
        )
        for which, name in enumerate(("weights", "multiplications"))
    ),
    *(
        Mistake(
            f"in {kind}",
            lambda i, o, k, n, put=put: put(count(i, o, k, n)),
            f"Both numbers are right, and packed into {kind}. Two plain whole numbers are asked for: return weights, "
            "multiplications.",
            ("What stands behind your `return`?", "return weights, multiplications"),
        )
        for kind, put in (("a tensor", torch.tensor), ("an array", np.array))
    ),
    Mistake(
        "turned",
        lambda i, o, k, n: count(i, o, k, n)[::-1],
        "Both numbers are right, in the other order: weights first, then multiplications.",
        ("Look at your `return` once more.", "return weights, multiplications"),
    ),
]


# ---- 3.2 time as waves ----


def time_waves(time, frequency):
    angle = time[:, None] * frequency  # (B, F)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


QUARTER = math.pi / 2
WAVE_CASES = [
    Case("three times, two frequencies", torch.tensor([0.3337, 0.0, 0.25]), torch.tensor([QUARTER, 8.0])),
    Case("as many times as frequencies", torch.tensor([0.875, 0.125, 0.5]), torch.tensor([8.0, 0.0, 5.0])),
    Case("one time", torch.tensor([1.0]), torch.logspace(0.2, 1, 8)),
]
WAVE_HINTS = (
    "Make the table of angles first: a row for each time, a column for each frequency.",
    "time[:, None] has shape (B, 1), so multiplied with (F,) it gives (B, F); torch.cat(..., dim=1) joins columns.",
)


def _angle(time, frequency):
    return time.unsqueeze(1) * frequency


WAVE_MISTAKES = [
    Mistake(
        "sines only",
        lambda time, frequency: _angle(time, frequency).sin(),
        "Half is missing: only sines. A sine alone has the same value at two places of each turn, so the network could "
        "not tell one from the other; the cosine settles which it is.",
        ("How many columns does the statement ask for?", "Join the sines and the cosines along dim=1."),
    ),
    Mistake(
        "cosines only",
        lambda time, frequency: _angle(time, frequency).cos(),
        "Half is missing: only cosines. The slow ones are flat at t = 0, where the slow sines are steep; with both, "
        "every wave moves equally far at each step.",
        ("How many columns does the statement ask for?", "Join the sines and the cosines along dim=1."),
    ),
    Mistake(
        "cosines first",
        lambda time, frequency: time_waves(time, frequency).roll(len(frequency), dims=1),
        "Right waves, other order: the statement asks for all sines first. A network would learn with either, but "
        "weights that were trained with one order are worthless with the other.",
        ("Which half comes first?", "torch.cat([sines, cosines], dim=1)"),
    ),
    Mistake(
        "taking turns",
        lambda time, frequency: torch.stack(
            [_angle(time, frequency).sin(), _angle(time, frequency).cos()], dim=2
        ).flatten(1),
        "Right waves, other order: sine and cosine take turns in yours; asked are first all sines, then all cosines.",
        ("Which call joins two tables side by side?", "torch.cat([sines, cosines], dim=1) needs no flatten."),
    ),
    Mistake(
        "joined below",
        lambda time, frequency: torch.cat([_angle(time, frequency).sin(), _angle(time, frequency).cos()], dim=0),
        lambda r: (
            f"You joined the two tables one below the other: {len(r.got)} rows for {len(r.expected)} pictures. "
            "torch.cat takes dim=0, the batch, unless told otherwise."
        ),
        ("Along which axis do the pictures of the batch lie?", "Join along dim=1."),
    ),
    Mistake(
        "added",
        lambda time, frequency: _angle(time, frequency).sin() + _angle(time, frequency).cos(),
        "Sine plus cosine is one wave again, moved by an eighth of a turn: two times in each turn look alike. Keep "
        "both, side by side.",
        ("How many columns does the statement ask for?", "Join the two tables along dim=1 instead of adding."),
    ),
    Mistake(
        "in steps",
        lambda time, frequency: time_waves(1000 * time, frequency),
        "time is a fraction t / T already, from 0 to 1; you multiply by 1000, as if it had to be turned into steps. "
        "All waves are 1000 times too fast: the fastest would turn 159 times from one step to the next.",
        ("In which unit does `time` come?", "The angle is time * frequency, nothing else."),
    ),
    Mistake(
        "angle by adding",
        lambda time, frequency: torch.cat([(time[:, None] + frequency).sin(), (time[:, None] + frequency).cos()], 1),
        "You add time and frequency. Then all waves turn equally fast, each from another beginning: there is no slow "
        "hand and no fast one.",
        ("By what does an angle grow that turns `frequency` radians per unit of time?", "time[:, None] * frequency"),
    ),
    Mistake(
        "sines twice",
        lambda time, frequency: torch.cat([_angle(time, frequency).sin()] * 2, dim=1),
        "Both halves are sines. A sine alone has the same value at two places of each turn; the second half should be "
        "the cosines.",
        ("What stands in the right half of your table?", "torch.cat([angle.sin(), angle.cos()], dim=1)"),
    ),
    Mistake(
        "degrees",
        lambda time, frequency: time_waves(time * math.pi / 180, frequency),
        lambda r: (
            "torch's sin takes radians, as Python's does, and you turned the angle from degrees. All waves are 57 "
            f"times too slow: the first entry is {r.got[0, 0]:.3f} instead of {r.expected[0, 0]:.3f}."
        ),
        ("In which unit does torch.sin measure angles?", "The angle is time * frequency, nothing else."),
    ),
    Mistake(
        "full turns",
        lambda time, frequency: time_waves(time * 2 * math.pi, frequency),
        lambda r: (
            "The frequency is in radians already; your 2 pi makes every wave 6.28 times too fast: the first entry is "
            f"{r.got[0, 0]:.3f} instead of {r.expected[0, 0]:.3f}."
        ),
        ("What is sin(time * frequency) with nothing added?", "The angle is time * frequency, nothing else."),
    ),
    Mistake(
        "divided",
        lambda time, frequency: time_waves(time, 1 / frequency),
        "You divide by the frequency, which makes the fast waves slow. (The Transformer paper divides by "
        "10000^(...), which is no frequency: it grows with the wavelength and is wavelength / 2 pi.)",
        ("A high frequency must turn fast.", "The angle is time * frequency."),
    ),
    Mistake(
        "place by place",
        lambda time, frequency: torch.cat([(time * frequency).sin(), (time * frequency).cos()], dim=-1),
        "time and frequency are multiplied place by place. That stops with an error for 3 times and 2 frequencies; and "
        "with as many times as frequencies it even runs, and each picture gets one wave instead of all.",
        WAVE_HINTS,
    ),
    Mistake(
        "axes exchanged",
        lambda time, frequency: torch.cat(
            [(frequency[:, None] * time).sin(), (frequency[:, None] * time).cos()], dim=0
        ),
        lambda r: (
            f"Your table has shape {tuple(r.got.shape)}: a row for each wave. A network wants a row for each picture: "
            f"{tuple(r.expected.shape)}."
        ),
        WAVE_HINTS,
    ),
    Mistake(
        "a new axis in front",
        lambda time, frequency: torch.cat(
            [torch.stack([_angle(time, frequency).sin(), _angle(time, frequency).cos()])], dim=0
        ),
        "torch.stack makes a new axis of two; torch.cat joins along one that is there.",
        WAVE_HINTS,
    ),
]


# ---- 3.3 the residual block ----


def residual(block, x, context):
    h = block.conv_1(silu(block.norm_1(x)))
    scale, shift = block.context(context)[:, :, None, None].chunk(2, dim=1)
    h = block.norm_2(h) * (1 + scale) + shift
    h = block.conv_2(silu(h))
    return block.skip(x) + h


def _pieces(block, x, context):
    """What every variant needs: after the first convolution, and scale and shift (B, C, 1, 1)."""
    scale, shift = torch.chunk(block.context(context).reshape(len(x), -1, 1, 1), 2, 1)
    return block.conv_1(silu(block.norm_1(x))), scale, shift


def _moved(change):
    """A block whose middle is `change(normalised, scale, shift)`."""

    def variant(block, x, context):
        h, scale, shift = _pieces(block, x, context)
        return block.skip(x) + block.conv_2(silu(change(block.norm_2(h), scale, shift)))

    return variant


def _without_skip(block, x, context):
    return residual(block, x, context) - block.skip(x)


def _plain_skip(block, x, context):
    return x + _without_skip(block, x, context)


def _by_the_last_axis(block, x, context):
    h = block.conv_1(silu(block.norm_1(x)))
    scale, shift = block.context(context).chunk(2, dim=1)
    return block.skip(x) + block.conv_2(silu(block.norm_2(h) * (1 + scale) + shift))


def _cut_the_batch(block, x, context):
    h = block.conv_1(silu(block.norm_1(x)))
    scale, shift = block.context(context)[:, :, None, None].chunk(2, dim=0)
    return block.skip(x) + block.conv_2(silu(block.norm_2(h) * (1 + scale) + shift))


def _before_the_norm(block, x, context):
    h, scale, shift = _pieces(block, x, context)
    return block.skip(x) + block.conv_2(silu(block.norm_2(h * (1 + scale) + shift)))


def _after_the_silu(block, x, context):
    h, scale, shift = _pieces(block, x, context)
    return block.skip(x) + block.conv_2(silu(block.norm_2(h)) * (1 + scale) + shift)


def _at_the_end(block, x, context):
    h, scale, shift = _pieces(block, x, context)
    return block.skip(x) + block.conv_2(silu(block.norm_2(h))) * (1 + scale) + shift


def _without_norm_2(block, x, context):
    h, scale, shift = _pieces(block, x, context)
    return block.skip(x) + block.conv_2(silu(h * (1 + scale) + shift))


def _without_norm_1(block, x, context):
    _, scale, shift = _pieces(block, x, context)
    h = block.conv_1(silu(x))
    return block.skip(x) + block.conv_2(silu(block.norm_2(h) * (1 + scale) + shift))


def _silu_missing(first, second):
    def variant(block, x, context):
        _, scale, shift = _pieces(block, x, context)
        h = block.norm_1(x)
        h = block.norm_2(block.conv_1(h if first else silu(h))) * (1 + scale) + shift
        return block.skip(x) + block.conv_2(h if second else silu(h))

    return variant


def _silu_last(block, x, context):
    _, scale, shift = _pieces(block, x, context)
    h = silu(block.conv_1(block.norm_1(x)))
    return block.skip(x) + silu(block.conv_2(block.norm_2(h) * (1 + scale) + shift))


def _silu_first(block, x, context):
    _, scale, shift = _pieces(block, x, context)
    h = block.conv_1(block.norm_1(silu(x)))
    return block.skip(x) + block.conv_2(silu(block.norm_2(h) * (1 + scale) + shift))


def _silu_behind_conv_1(block, x, context):
    _, scale, shift = _pieces(block, x, context)
    h = block.norm_2(silu(block.conv_1(block.norm_1(x))))
    return block.skip(x) + block.conv_2(silu(h * (1 + scale) + shift))


def _silu_behind_conv_2(block, x, context):
    h, scale, shift = _pieces(block, x, context)
    return block.skip(x) + silu(block.conv_2(block.norm_2(h) * (1 + scale) + shift))


def _silu_of_the_context(block, x, context):
    return residual(block, x, silu(context))


def _interleaved(block, x, context):
    both = block.context(context)[:, :, None, None]
    h = block.norm_2(block.conv_1(silu(block.norm_1(x)))) * (1 + both[:, 0::2]) + both[:, 1::2]
    return block.skip(x) + block.conv_2(silu(h))


def _relu_for_silu(block, x, context):
    _, scale, shift = _pieces(block, x, context)
    h = block.norm_2(block.conv_1(block.norm_1(x).relu())) * (1 + scale) + shift
    return block.skip(x) + block.conv_2(h.relu())


def _skip_of_the_normed(block, x, context):
    return block.skip(block.norm_1(x)) + _without_skip(block, x, context)


def _silu_of_the_sum(block, x, context):
    return silu(residual(block, x, context))


class _Layers(ResidualBlock):
    """A block whose layers can be used, and whose own forward cannot: in the lesson it calls the student's function."""

    def forward(self, x, context):
        raise RuntimeError("`block(x, context)` is what you are to write: use the block's layers")


def _calls_the_block(block, x, context):
    return block(x, context)


BLOCK_CASES = [
    Case("8 channels to 16", _awake(_Layers(8, 16, 5), 1), _draw(2, 8, 6, 4, seed=2), _draw(2, 5, seed=3)),
    Case("8 channels to 8", _awake(_Layers(8, 8, 5), 4), _draw(3, 8, 5, 5, seed=5), _draw(3, 5, seed=6)),
    Case(
        "8 channels, pictures 4 high and 8 wide, a batch of 4",
        _awake(_Layers(8, 8, 3), 7), _draw(4, 8, 4, 8, seed=8), _draw(4, 3, seed=9),
    ),
    Case("a batch of one", _awake(_Layers(16, 8, 3), 10), _draw(1, 16, 3, 3, seed=11), _draw(1, 3, seed=12)),
]  # fmt: skip
BLOCK_HINTS = (
    "Follow the five lines of the statement one by one, a line of code each, and print h.shape after each.",
    "block.context(context) is (B, 2 * C); [:, :, None, None] adds two axes, .chunk(2, dim=1) cuts it into two.",
)
TIME_HINTS = (
    "Which operation of your block sees time, and what comes right after it?",
    "Norm, then h * (1 + scale) + shift, then silu, then the second convolution.",
)

BLOCK_MISTAKES = [
    Mistake(
        "the block itself called",
        _calls_the_block,
        "You call the whole block, and its forward is what you are to write: in this lesson it calls your `residual`, "
        "which would call the block again, without an end. Use the block's layers: norm_1, conv_1, context, ...",
        (
            "Which layers does the block own? They stand in its __init__.",
            "Begin with h = block.conv_1(silu(block.norm_1(x))).",
        ),
    ),
    Mistake(
        "skip forgotten",
        _without_skip,
        lambda r: (
            "The skip is missing: you return only what the two convolutions made. A new block, whose second "
            "convolution starts at zero, would return 0 and pass nothing on; in a stack of ten the picture is lost."
        ),
        ("What remains if both convolutions return 0?", "End with block.skip(x) + h."),
    ),
    Mistake(
        "x itself added",
        _plain_skip,
        "You add x itself. That works where a block keeps its channels, and stops with an error where it changes them: "
        "8 channels cannot be added to 16. block.skip is a 1 x 1 convolution there, and does nothing elsewhere.",
        ("Which of the two has the channels of the input, x or h? block.skip reads those.", "block.skip(x) + h"),
    ),
    Mistake(
        "skip of the normalised",
        _skip_of_the_normed,
        "The skip must pass x on untouched, and yours passes the normalised x: how strong the picture was is forgotten "
        "in every block.",
        ("Did you overwrite x before the last line?", "Keep x as it is and work on h."),
    ),
    Mistake(
        "silu of the sum",
        _silu_of_the_sum,
        "You bend the sum as well: silu flattens what is below 0, so a new block no longer passes x on unchanged. (The "
        "first residual networks did this; later ones took it out.)",
        ("What should a block do whose second convolution is 0?", "The last line has no silu."),
    ),
    Mistake(
        "context ignored",
        _moved(lambda h, scale, shift: h),
        "Time never enters: your block returns the same for every context. It would denoise hardly noisy pictures and "
        "pure noise in the same way.",
        TIME_HINTS,
    ),
    Mistake(
        "scale missing",
        _moved(lambda h, scale, shift: h + shift),
        "Only the shift is used: it can open and close channels, but not make one stronger and another weaker. "
        "Multiply by (1 + scale) as well.",
        TIME_HINTS,
    ),
    Mistake(
        "shift missing",
        _moved(lambda h, scale, shift: h * (1 + scale)),
        "Only the scale is used; add the shift as well.",
        TIME_HINTS,
    ),
    Mistake(
        "one missing",
        _moved(lambda h, scale, shift: h * scale + shift),
        "The 1 in (1 + scale) is missing. Scales start near 0, so a new block would multiply its picture by about 0, "
        "and little of it, and of its gradient, gets through.",
        ("By what do you multiply where scale is 0?", "h * (1 + scale) + shift"),
    ),
    Mistake(
        "scale and shift exchanged",
        _moved(lambda h, scale, shift: h * (1 + shift) + scale),
        "Scale and shift have changed places: the first half of the channels is the scale. Trained like this a network "
        "would learn as well, but no weights of the library would fit it.",
        ("In which order does chunk return its parts?", "scale, shift = ....chunk(2, dim=1)"),
    ),
    Mistake(
        "shift first",
        _moved(lambda h, scale, shift: (h + shift) * (1 + scale)),
        "Brackets: you shift first and scale the sum. Asked is h * (1 + scale) + shift.",
        TIME_HINTS,
    ),
    Mistake(
        "lined up with the last axis",
        _by_the_last_axis,
        "Shapes line up from the last axis: (B, C) beside (B, C, H, W) means B with H and C with W. For most pictures "
        "that is an error. Where a batch of 4 meets 4 rows and 8 channels meet 8 columns it runs, and gives each "
        "*row* the time of another picture.",
        (
            "Which shape lines up with (B, C, H, W) so that each picture gets its own C numbers?",
            "Write [:, :, None, None] behind block.context(context).",
        ),
    ),
    Mistake(
        "batch cut in two",
        _cut_the_batch,
        "chunk cuts along dim=0, the batch, unless told otherwise: half of the pictures lend their time to the others.",
        ("Along which axis do scale and shift lie one after the other?", ".chunk(2, dim=1)"),
    ),
    Mistake(
        "before the norm",
        _before_the_norm,
        "You scale and shift before the norm, and the norm undoes much of it: what is common to all channels of a "
        "group is subtracted and divided away again. Time should come right after the norm.",
        TIME_HINTS,
    ),
    Mistake(
        "after silu",
        _after_the_silu,
        "You scale and shift after silu. Before it, a shift decides which places get through at all; after it, it is "
        "one more bias.",
        TIME_HINTS,
    ),
    Mistake(
        "after the second convolution",
        _at_the_end,
        "Time enters after the second convolution, which starts at zero: so a new block would not pass x on, "
        "it would add the shift to it everywhere.",
        TIME_HINTS,
    ),
    Mistake(
        "no second norm",
        _without_norm_2,
        "norm_2 is not used. Without it the values grow from block to block, and the scale means something else in "
        "each.",
        BLOCK_HINTS,
    ),
    Mistake(
        "no first norm",
        _without_norm_1,
        "norm_1 is not used: the first convolution gets values of any size.",
        BLOCK_HINTS,
    ),
    Mistake(
        "no first silu",
        _silu_missing(True, False),
        "The first silu is missing, between norm_1 and conv_1.",
        BLOCK_HINTS,
    ),
    Mistake(
        "no second silu",
        _silu_missing(False, True),
        "The second silu is missing, before conv_2.",
        BLOCK_HINTS,
    ),
    Mistake(
        "silu before norm_1",
        _silu_first,
        "You bend x before norm_1; the order is norm, silu, convolution. silu works best on numbers around 0, and that "
        "is what the norm makes.",
        ("Read step 1 from the inside out.", "h = block.conv_1(silu(block.norm_1(x)))"),
    ),
    Mistake(
        "silu behind conv_1",
        _silu_behind_conv_1,
        "The first silu stands behind conv_1; it belongs before it, between norm_1 and conv_1. As it is, h is bent "
        "twice before conv_2, and nothing is bent before conv_1.",
        ("Read step 1 from the inside out.", "h = block.conv_1(silu(block.norm_1(x)))"),
    ),
    Mistake(
        "silu behind conv_2",
        _silu_behind_conv_2,
        "The second silu stands behind conv_2; it belongs before it. silu's lowest value is -0.28, so what your block "
        "adds is hardly ever below 0.",
        ("Read step 4 from the inside out.", "h = block.conv_2(silu(h))"),
    ),
    Mistake(
        "silu of the context",
        _silu_of_the_context,
        "You bend the context before the linear layer. Many networks do; here it is done once for all blocks, outside "
        "(section 8), so the block takes the context as it comes.",
        ("What does step 2 do to the context first?", "block.context(context), with nothing in between."),
    ),
    Mistake(
        "scale and shift take turns",
        _interleaved,
        "You take every second number: scale, shift, scale, shift. Asked are halves: the first C numbers are the "
        "scale, the last C the shift.",
        ("What does .chunk(2, dim=1) return for the numbers 1 2 3 4?", "scale, shift = ....chunk(2, dim=1)"),
    ),
    Mistake(
        "relu for silu",
        _relu_for_silu,
        "That is relu, which is 0 for everything below 0. Asked is silu(h) = h / (1 + exp(-h)): it is smooth, and lets "
        "a little of what is below 0 through.",
        ("Which function bends in step 1?", "silu(h), imported at the top of the lesson."),
    ),
    Mistake(
        "no silu",
        _silu_missing(True, True),
        "Without silu, two convolutions in a row are one larger convolution: nothing bends, so a deep network "
        "could do no more than a shallow one.",
        BLOCK_HINTS,
    ),
    Mistake(
        "silu behind",
        _silu_last,
        "silu comes *before* each convolution here; you have it behind. Then what a block adds is hardly ever below 0 "
        "(silu's lowest value is -0.28), and a sum of such blocks can only grow.",
        BLOCK_HINTS,
    ),
]


# ---- 3.4 down, up, and what is kept ----


def _run(layer, h, context):
    return layer(h) if isinstance(layer, (nn.Conv2d, nn.Upsample)) else layer(h, context)


def walk(h, context, down, middle, up):
    kept = [h]
    for layer in down:
        h = _run(layer, h, context)
        kept.append(h)
    h = middle(h, context)
    for layer in up:
        if not isinstance(layer, nn.Upsample):
            h = torch.cat([h, kept.pop()], dim=1)
        h = _run(layer, h, context)
    return h


def _walk(keep_first=True, keep=lambda layer: True, join=None, take=lambda kept: kept.pop(), middle_kept=False):
    join = join or (lambda h, other: torch.cat([h, other], dim=1))

    def variant(h, context, down, middle, up):
        kept = [h] if keep_first else []
        for layer in down:
            h = _run(layer, h, context)
            if keep(layer):
                kept.append(h)
        h = middle(h, context)
        if middle_kept:
            kept.append(h)
        for layer in up:
            if not isinstance(layer, nn.Upsample):
                h = join(h, take(kept))
            h = _run(layer, h, context)
        return h

    return variant


def _keeps_before_only(h, context, down, middle, up):
    kept = [h]
    for layer in down:
        kept.append(h)
        h = _run(layer, h, context)
    return _up(middle(h, context), context, up, kept)


def _keeps_before_without_first(h, context, down, middle, up):
    kept = []
    for layer in down:
        kept.append(h)
        h = _run(layer, h, context)
    return _up(middle(h, context), context, up, kept)


def _goes_nowhere(h, context, down, middle, up):
    kept = [h] + [_run(layer, h, context) for layer in down]
    return _up(middle(h, context), context, up, kept)


def _emptied(*which):
    """The right walk, which takes the layers out of `down` or `up` (their places are 2 and 4) on its way."""

    def variant(*inputs):
        result = walk(*inputs)
        for place in which:
            while len(inputs[place]):
                inputs[place].pop(0)
        return result

    return variant


def _up(h, context, up, kept):
    for layer in up:
        if not isinstance(layer, nn.Upsample):
            h = torch.cat([h, kept.pop()], dim=1)
        h = _run(layer, h, context)
    return h


def _joins_before_doubling(h, context, down, middle, up):
    kept = [h]
    for layer in down:
        h = _run(layer, h, context)
        kept.append(h)
    h = middle(h, context)
    for layer in up:
        h = _run(layer, torch.cat([h, kept.pop()], dim=1), context)
    return h


def _without_middle(h, context, down, middle, up):
    return walk(h, context, down, lambda h, context: h, up)


def _middle_between(h, context, down, middle, up):
    return walk(middle(h, context), context, down, lambda h, context: h, up)


def _without_context(h, context, down, middle, up):
    return walk(h, torch.zeros_like(context), down, middle, up)


def _only_down(h, context, down, middle, up):
    for layer in down:
        h = _run(layer, h, context)
    return middle(h, context)


class _Middle(nn.Module):
    def __init__(self, channels, context):
        super().__init__()
        self.block = ResidualBlock(channels, channels, context)

    def forward(self, h, context):
        return self.block(h, context)


class _AnyChannels(nn.Module):
    """A layer that reads as many channels as come, so that a wrong join shows in the numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def forward(self, h, context):
        return self.weight * h.roll(1, dims=1) + h.cumsum(dim=1).sin() + context[:, :1, None, None]


class _Dead(nn.Module):
    """A middle that no gradient passes: what is learned on the way down can only come from the kept pictures."""

    def forward(self, h, context):
        return h.detach()


def _layers(seed, *layers):
    return _awake(nn.ModuleList(layers), seed)


def _halve(channels):
    return nn.Conv2d(channels, channels, 3, stride=2, padding=1)


WALK_CASES = [
    Case(
        "two sizes, 4 and 8 channels",
        _draw(2, 4, 8, 8, seed=1), _draw(2, 3, seed=2),
        _layers(3, ResidualBlock(4, 4, 3), _halve(4), ResidualBlock(4, 8, 3)),
        _awake(_Middle(8, 3), 4),
        _layers(5, ResidualBlock(16, 8, 3), ResidualBlock(12, 8, 3), nn.Upsample(scale_factor=2),
                ResidualBlock(12, 4, 3), ResidualBlock(8, 4, 3)),
    ),
    Case(
        "one size, the same channels everywhere",
        _draw(3, 4, 4, 6, seed=6), _draw(3, 2, seed=7),
        _layers(8, ResidualBlock(4, 4, 2), ResidualBlock(4, 4, 2)),
        _awake(_Middle(4, 2), 9),
        _layers(10, *(ResidualBlock(8, 4, 2) for _ in range(3))),
    ),
    Case(
        "blocks that read any number of channels",
        _draw(2, 4, 3, 3, seed=16), _draw(2, 2, seed=17),
        _layers(18, _AnyChannels(), nn.Conv2d(4, 4, 3, padding=1)),
        _awake(_AnyChannels(), 19),
        _layers(20, *(_AnyChannels() for _ in range(3))),
    ),
    Case(
        "three sizes, a batch of one",
        _draw(1, 4, 8, 8, seed=11), _draw(1, 3, seed=12),
        _layers(13, _halve(4), ResidualBlock(4, 4, 3), _halve(4)),
        _awake(_Middle(4, 3), 14),
        _layers(15, ResidualBlock(8, 4, 3), nn.Upsample(scale_factor=2), ResidualBlock(8, 4, 3),
                ResidualBlock(8, 4, 3), nn.Upsample(scale_factor=2), ResidualBlock(8, 4, 3)),
    ),
    Case(
        "layers without weights, and a gradient asked for h",
        _draw(2, 4, 3, 3, seed=21).requires_grad_(), _draw(2, 2, seed=22),
        _layers(23, _AnyChannels()).requires_grad_(False),
        _Dead(),
        _layers(24, _AnyChannels(), _AnyChannels()).requires_grad_(False),
    ),
]  # fmt: skip
WALK_HINTS = (
    "Write down the list `kept` on paper for the table above: what is in it after the way down, and who takes what?",
    "kept = [h] first; kept.append(h) after each layer down; h joined with kept.pop() before each block up.",
)
ORDER_HINTS = (
    "The last picture that was kept is the first that is needed: it has the size of the bottom.",
    "list.pop() takes the last one off; list.pop(0) takes the first.",
)

WALK_MISTAKES = [
    Mistake(
        "taken from the front",
        _walk(take=lambda kept: kept.pop(0)),
        "You take the pictures from the front of the list: the largest first. At the bottom its size does not fit, "
        "which is an error; with one size only it runs, and joins the wrong pictures.",
        ORDER_HINTS,
    ),
    Mistake(
        "the last one over and over",
        _walk(take=lambda kept: kept[-1]),
        "You look at the last kept picture and leave it in the list, so the next block gets the same one again. Where "
        "sizes change that is an error; with one size it runs, and the first pictures are never used.",
        ORDER_HINTS,
    ),
    Mistake(
        "kept first in the join",
        _walk(join=lambda h, other: torch.cat([other, h], dim=1)),
        "The two halves of the join have changed places: first h, then the kept picture. A network would learn with "
        "either, but weights that were trained with one order are worthless with the other.",
        ("Which comes first in the statement?", "torch.cat([h, kept picture], dim=1)"),
    ),
    Mistake(
        "joined along the batch",
        _walk(join=lambda h, other: torch.cat([h, other])),
        "torch.cat takes dim=0, the batch, unless told otherwise: you made more pictures, not more channels.",
        ("Along which axis do the channels lie?", "torch.cat([...], dim=1)"),
    ),
    Mistake(
        "joined along the rows",
        _walk(join=lambda h, other: torch.cat([h, other], dim=2)),
        "You joined along dim=2, the rows: one picture stands below the other. Channels are dim=1.",
        ("Along which axis do the channels lie?", "torch.cat([...], dim=1)"),
    ),
    Mistake(
        "added",
        _walk(join=lambda h, other: h + other),
        "You add the kept picture. Some networks do so; here the blocks on the way up expect both, side by side, and "
        "twice the channels.",
        ("How many channels does the first block on the way up read, by the table?", "torch.cat([...], dim=1)"),
    ),
    Mistake(
        "nothing joined",
        _walk(join=lambda h, other: h),
        "Nothing is joined, so the way up sees only what got through the bottom: the blocks expect more channels.",
        WALK_HINTS,
    ),
    Mistake(
        "zeros joined",
        _walk(join=lambda h, other: torch.cat([h, torch.zeros_like(other)], dim=1)),
        "The channels fit, but what you join is empty: the details that the way down kept never arrive.",
        WALK_HINTS,
    ),
    Mistake(
        "h joined with itself",
        _walk(join=lambda h, other: torch.cat([h, h], dim=1)),
        "You join h with itself: the kept pictures are never used.",
        WALK_HINTS,
    ),
    Mistake(
        "the first not kept",
        _walk(keep_first=False),
        "The list runs empty: the picture that comes in, before any layer, must be kept as well. There is one more "
        "block on the way up than layers on the way down.",
        WALK_HINTS,
    ),
    Mistake(
        "halved pictures not kept",
        _walk(keep=lambda layer: not isinstance(layer, nn.Conv2d)),
        "You keep what the blocks return and not what the halving convolutions return: the list runs empty, or the "
        "sizes do not fit. Every layer's result on the way down is kept.",
        WALK_HINTS,
    ),
    Mistake(
        "kept before the layer",
        _keeps_before_only,
        "You keep h before each layer instead of after it, so the first one is there twice and the last one never.",
        WALK_HINTS,
    ),
    Mistake(
        "kept before the layer, the last one lost",
        _keeps_before_without_first,
        "You keep h before each layer, so the result of the last layer down is never kept, and the way up asks for one "
        "picture more than there is.",
        WALK_HINTS,
    ),
    Mistake(
        "h not moved on",
        _goes_nowhere,
        "Every layer on the way down gets the same picture: what a layer returns must become h, or the next one never "
        "sees it, and nothing gets down to the bottom.",
        ("Which picture goes into the second layer of `down`?", "h = run(layer, h, context), then kept.append(h)"),
    ),
    *(
        Mistake(
            f"{names} emptied",
            _emptied(*which),
            f"The numbers are right, and {names} is empty now: pop takes the layers out of the network itself, and its "
            "next picture finds none. Go through the layers with `for layer in ...`, or pop from a copy, list(up).",
            ("What is left of the network after your function?", "for layer in up: ..."),
        )
        for names, which in (("up", (4,)), ("down", (2,)), ("down and up", (2, 4)))
    ),
    Mistake(
        "the middle kept",
        _walk(middle_kept=True),
        "You keep the middle's result as well and join it with itself; from then on every picture comes one too late.",
        WALK_HINTS,
    ),
    Mistake(
        "joined before doubling",
        _joins_before_doubling,
        "You join before *every* layer of the way up, doubling included: doubling layers are no blocks, they take no "
        "kept picture.",
        (
            "Which layers of `up` are nn.Upsample, and what should happen there?",
            "Join only if not isinstance(layer, nn.Upsample).",
        ),
    ),
    Mistake(
        "middle forgotten",
        _without_middle,
        "The middle is never called: between down and up stands h = middle(h, context).",
        WALK_HINTS,
    ),
    Mistake(
        "middle first",
        _middle_between,
        "The middle belongs at the bottom, where the picture is smallest, not in front of the way down.",
        WALK_HINTS,
    ),
    Mistake(
        "context of zeros",
        _without_context,
        "The context that reaches the blocks is not the one you were given: hand it on as it is.",
        WALK_HINTS,
    ),
    Mistake(
        "only down",
        _only_down,
        "You return what is found at the bottom: the way up is missing.",
        WALK_HINTS,
    ),
]


# ---- 3.5 attention ----


def look(table, heads):
    B, C, H, W = table.shape[0], table.shape[1] // 3, *table.shape[2:]
    query, key, value = table.reshape(B, 3, heads, C // heads, H * W).transpose(-1, -2).unbind(1)
    score = query @ key.transpose(-1, -2) / math.sqrt(C // heads)
    looked = torch.softmax(score, dim=-1) @ value  # (B, heads, H * W, C / heads)
    return looked.transpose(-1, -2).reshape(B, C, H, W)


def _look(
    scale=lambda d, C: d**0.5, axis=-1, order=(0, 1, 2), share=None, heads_of=lambda heads: heads, split=None, join=None
):
    """Attention with one thing done otherwise."""

    def variant(table, heads):
        B, C, H, W = len(table), table.shape[1] // 3, table.shape[2], table.shape[3]
        heads = heads_of(heads)
        d = C // heads
        if split:
            parts = split(table, B, heads, d, H * W)
        else:
            parts = table.reshape(B, 3, heads, d, H * W).permute(1, 0, 2, 4, 3)
        query, key, value = (parts[i] for i in order)
        score = torch.einsum("bhid,bhjd->bhij", query, key) / scale(d, C)
        out = (share(score) if share else score.softmax(axis)) @ value
        return join(out, B, C, H, W) if join else out.permute(0, 1, 3, 2).reshape(B, C, H, W)

    return variant


def _channels_look(table, heads):
    """No transpose at all: the table of scores is (d, d)."""
    query, key, value = table.reshape(len(table), 3, heads, -1, table[0, 0].numel()).unbind(1)
    share = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[2]), dim=-1)
    return (share @ value).reshape(len(table), -1, *table.shape[2:])


def _root_of_places(table, heads):
    return _look(scale=lambda d, C: math.sqrt(table[0, 0].numel()))(table, heads)


def _root_late(table, heads):
    d = table.shape[1] // 3 // heads
    return _look(scale=lambda d, C: 1.0)(table, heads) / math.sqrt(d)


LOOK_CASES = [
    Case("8 channels, 2 heads, 3 x 2 places", _draw(2, 24, 3, 2, seed=1), 2),
    Case("one head", 1.5 * _draw(1, 12, 2, 2, seed=2), 1),
    Case("4 heads, a square", _draw(3, 48, 4, 4, seed=3), 4),
    Case("strong scores", 30 * _draw(1, 12, 2, 3, seed=4), 2),
    Case("a gradient asked for", _draw(1, 12, 2, 2, seed=5).requires_grad_(), 2),
]
LOOK_HINTS = (
    "Go step by step and print shapes: (B, 3, heads, d, HW), then three of (B, heads, HW, d), then (B, heads, HW, HW).",
    "The rows of the score belong to the places that look, the columns to those looked at: softmax along dim=-1.",
)
HEAD_HINTS = (
    "reshape never moves a number: it only says how to count them. Which axis is the last one in memory?",
    "First reshape to (B, 3, heads, d, H * W), then transpose the last two; on the way back the other way round.",
)

LOOK_MISTAKES = [
    Mistake(
        "wrong axis",
        _look(axis=-2),
        "Your softmax runs over the places that look, not over those looked at. The shares of one place should add up "
        "to 1; yours add up to 1 for each place that is *seen*, so some places get several times their due and others "
        "next to nothing.",
        LOOK_HINTS,
    ),
    Mistake(
        "softmax over heads",
        _look(axis=1),
        "Your softmax runs over the heads: they compete, instead of each looking on its own. With one head all shares "
        "are 1, and every place returns the sum of all values.",
        LOOK_HINTS,
    ),
    Mistake(
        "softmax over the batch",
        _look(axis=0),
        "Your softmax runs over the batch: the answer for one picture depends on the others.",
        LOOK_HINTS,
    ),
    Mistake(
        "scale missing",
        _look(scale=lambda d, C: 1.0),
        "The division by sqrt(d) is missing. A sum of d products has deviation sqrt(d), and softmax of large scores "
        "puts everything on one place: with hundreds of channels hardly any gradient is left.",
        ("How does the spread of a dot product grow with the number of channels?", "Divide the score by sqrt(d)."),
    ),
    Mistake(
        "divided by d",
        _look(scale=lambda d, C: d),
        "You divide by d instead of its root: the scores come out too small, and every place looks nearly equally "
        "everywhere.",
        ("Variances add, deviations do not (lesson 01).", "Divide the score by sqrt(d)."),
    ),
    Mistake(
        "multiplied by the root",
        _look(scale=lambda d, C: d**-0.5),
        "You multiply by sqrt(d) instead of dividing: the shares become nearly all or nothing.",
        ("The scores are too large by sqrt(d) before scaling.", "Divide the score by sqrt(d)."),
    ),
    Mistake(
        "root of all channels",
        _look(scale=lambda d, C: C**0.5),
        "You divide by the root of all C channels. A dot product adds up over the channels of *one head*, so d = C / "
        "heads counts. With one head nobody sees the difference.",
        ("How many products does one score add up?", "d = C // heads."),
    ),
    Mistake(
        "query and key exchanged",
        _look(order=(1, 0, 2)),
        "Query and key have changed places: place i now looks where it is looked at. The first C channels are the "
        "query, the next the key, the last the value.",
        LOOK_HINTS,
    ),
    Mistake(
        "value and key exchanged",
        _look(order=(0, 2, 1)),
        "Key and value have changed places: the first C channels are the query, the next the key, the last the value.",
        LOOK_HINTS,
    ),
    Mistake(
        "value for query",
        _look(order=(2, 1, 0)),
        "Query and value have changed places: the first C channels are the query, the next the key, the last the "
        "value.",
        LOOK_HINTS,
    ),
    *(
        Mistake(
            f"order {names}",
            _look(order=order),
            "The three parts are there, in another order: the first C channels are the query, the next the key, the "
            f"last the value. You take them as {names}.",
            ("Which third of the channels is which?", "query, key, value = ....unbind(1)"),
        )
        for names, order in (("value, query, key", (1, 2, 0)), ("key, value, query", (2, 0, 1)))
    ),
    Mistake(
        "shares transposed",
        _look(share=lambda score: score.softmax(-1).transpose(-1, -2)),
        "You turn the shares before they mix the values: place i then gets what others gave *to* it, and its shares no "
        "longer add up to 1. out = share @ value, with nothing turned.",
        LOOK_HINTS,
    ),
    Mistake(
        "root of the places",
        _root_of_places,
        "You divide by the root of H * W, the number of places. A score adds up one product for each channel of the "
        "head, so d = C / heads counts.",
        ("How many products does one score add up?", "d = C // heads."),
    ),
    Mistake(
        "root after the softmax",
        _root_late,
        "You divide after the softmax: the scores are as strong as before, and the shares of one place add up to "
        "1 / sqrt(d) instead of 1. Divide the scores.",
        ("What do the shares of one place add up to?", "torch.softmax(score / math.sqrt(d), dim=-1)"),
    ),
    Mistake(
        "no softmax",
        _look(share=lambda score: score),
        "The softmax is missing: your shares are below 0 and above 1, and the answer grows with the number of places.",
        LOOK_HINTS,
    ),
    Mistake(
        "one head",
        _look(heads_of=lambda heads: 1),
        "All channels look together: you made one head, whatever was asked. Several heads can look at several places "
        "at once; cut the channels into `heads` pieces.",
        HEAD_HINTS,
    ),
    Mistake(
        "reshaped without transposing",
        _look(split=lambda table, B, heads, d, n: table.reshape(B, 3, heads, n, d).transpose(0, 1)),
        "The shape is right and the numbers are not where it says: you reshaped to (..., HW, d) at once, though in "
        'memory the places of one channel lie side by side. So one "place" holds several places of one channel.',
        HEAD_HINTS,
    ),
    Mistake(
        "put back without transposing",
        _look(join=lambda out, B, C, H, W: out.reshape(B, C, H, W)),
        "On the way back you reshape (B, heads, HW, d) to a picture at once: channels and places are mixed up. "
        "Transpose to (B, heads, d, HW) first.",
        HEAD_HINTS,
    ),
    Mistake(
        "both transposes forgotten",
        _look(
            split=lambda table, B, heads, d, n: table.reshape(B, 3, heads, n, d).transpose(0, 1),
            join=lambda out, B, C, H, W: out.reshape(B, C, H, W),
        ),
        "Both transposes are missing: you reshape to (..., HW, d) at once and straight back. The numbers come out in "
        "their places, but each row that looked was d neighbouring places of one channel, and no place.",
        HEAD_HINTS,
    ),
    Mistake(
        "channels look at channels",
        _channels_look,
        "Your rows are channels: without a transpose, query @ key gives a (d, d) table, and channels look at channels. "
        "Asked is a table of (H * W, H * W): places look at places.",
        HEAD_HINTS,
    ),
    Mistake(
        "put back through (H * W, C)",
        _look(join=lambda out, B, C, H, W: out.permute(0, 2, 1, 3).reshape(B, H * W, C).reshape(B, C, H, W)),
        "On the way back you have (B, H * W, C), which is right so far, and then reshape it to (B, C, H, W): reshape "
        "moves no numbers, so channels and places are mixed up. Transpose to (B, C, H * W) first.",
        HEAD_HINTS,
    ),
    Mistake(
        "heads behind on the way in",
        _look(split=lambda table, B, heads, d, n: table.reshape(B, 3, d, heads, n).permute(1, 0, 3, 4, 2)),
        "On the way in you cut the channels into (d, heads), so the heads take turns among them; on the way back you "
        "put them as (heads, d). The channels return in another order. Cut into (heads, d) both times.",
        HEAD_HINTS,
    ),
    Mistake(
        "heads behind",
        _look(
            split=lambda table, B, heads, d, n: table.reshape(B, 3, d, heads, n).permute(1, 0, 3, 4, 2),
            join=lambda out, B, C, H, W: out.permute(0, 3, 1, 2).reshape(B, C, H, W),
        ),
        "Your heads take turns among the channels (0, 2, 4 ... and 1, 3, 5 ...). Asked is a row of neighbours for each "
        "head: channels 0 .. d - 1 for the first, and so on. It matters as soon as weights come from elsewhere.",
        HEAD_HINTS,
    ),
    Mistake(
        "heads before the three",
        _look(split=lambda table, B, heads, d, n: table.reshape(B, heads, 3, d, n).permute(2, 0, 1, 4, 3)),
        "You cut the channels into heads first, then each into query, key and value. Asked is the other way round: "
        "first C channels of query, C of key, C of value, and each of them into heads.",
        HEAD_HINTS,
    ),
    Mistake(
        "plain exp",
        _look(share=lambda score: score.exp() / score.exp().sum(-1, keepdim=True)),
        "Right for small scores. For large ones exp() becomes infinite, and infinity / infinity is not a number; "
        "torch.softmax subtracts the largest score first.",
        ("What is exp(1000) in a computer?", "torch.softmax(score, dim=-1)"),
    ),
]


# ---- 3.6 the label ----


def add_label(context, table, label=None):
    null = len(table) - 1
    if label is None:
        label = torch.full((len(context),), null)
    return context + table[label]


def _null_at(row):
    def variant(context, table, label=None):
        if label is None:
            label = torch.full((len(context),), row % len(table))
        return context + table[label]

    return variant


def _none_left_out(context, table, label=None):
    return context if label is None else context + table[label]


def _mean_for_none(context, table, label=None):
    return context + (table[:-1].mean(dim=0) if label is None else table[label])


def _from_one(context, table, label=None):
    return context + (table[-1] if label is None else table[label - 1])


def _only_label(context, table, label=None):
    return table[-1].expand_as(context) + 0 * context if label is None else table[label]


def _joined(context, table, label=None):
    rows = table[-1].expand_as(context) if label is None else table[label]
    return torch.cat([context, rows], dim=1)


def _first_for_all(context, table, label=None):
    return context + (table[-1] if label is None else table[label[0]])


def _times(context, table, label=None):
    return context * (table[-1] if label is None else table[label])


def _number_itself(context, table, label=None):
    rows = torch.full((len(context),), len(table) - 1) if label is None else label
    return context + rows[:, None]


LABEL_CASES = [
    Case("labels 2, 0, 2", _draw(3, 4, seed=1), _draw(4, 4, seed=2), torch.tensor([2, 0, 2])),
    Case("no label", _draw(2, 4, seed=3), _draw(4, 4, seed=4)),
    Case("no label, eleven rows", _draw(3, 5, seed=5), _draw(11, 5, seed=6), None),
    Case("the null label given by its number", _draw(3, 4, seed=7), _draw(4, 4, seed=8), torch.tensor([3, 1, 0])),
    Case("a batch of one", _draw(1, 3, seed=9), _draw(11, 3, seed=10), torch.tensor([9])),
    Case(
        "a gradient for the context", _draw(2, 3, seed=11).requires_grad_(), _draw(4, 3, seed=12), torch.tensor([1, 0])
    ),
    Case("a gradient for the table", _draw(2, 3, seed=13), _draw(4, 3, seed=14).requires_grad_(), torch.tensor([0, 2])),
]
LABEL_HINTS = (
    "table[label] looks up a whole row for each label at once, shape (B, K).",
    "The null row is the last one: its index is len(table) - 1; torch.full((B,), index) repeats it.",
)

LABEL_MISTAKES = [
    Mistake(
        "None as an index",
        lambda context, table, label=None: context + table[label],
        "Right with labels. But label is None here, which means no label for any picture, and indexing with None adds "
        "an axis: table[None] is the whole table once more, not its last row.",
        ("What is `label` when nobody gives one?", "if label is None: take the row len(table) - 1 for each picture."),
    ),
    Mistake(
        "null is row 10",
        lambda context, table, label=None: context + table[torch.full((len(context),), 10) if label is None else label],
        lambda r: (
            f"You take row 10 for no label. The last row is not always 10: this table has {len(r.case.args[1])} rows, "
            f"and its last one is {len(r.case.args[1]) - 1}."
        ),
        (
            "How many rows does a table for three classes have?",
            "The null row is the last one: its index is len(table) - 1, and table[-1] is the same row.",
        ),
    ),
    Mistake(
        "null is 0",
        _null_at(0),
        "For you, no label is label 0. That is the digit zero: asked for nothing in particular, the network would be "
        "asked for zeros, and could not tell the two apart.",
        (
            "How many rows does the table have for ten classes, and which one belongs to none of them?",
            "The null row is the last one: its index is len(table) - 1, and table[-1] is the same row.",
        ),
    ),
    Mistake(
        "null is the last digit",
        _null_at(-2),
        "Off by one: your null row is that of the last class. The table has one row more than there are classes.",
        (
            "How many rows does the table have for ten classes, and which one belongs to none of them?",
            "The null row is the last one: its index is len(table) - 1, and table[-1] is the same row.",
        ),
    ),
    Mistake(
        "null left out",
        _none_left_out,
        'Without a label you return the context as it came. It would run, but then "no label" is a row of zeros that '
        "is never learned; here it has a row of its own, the last one.",
        (
            "How many rows does the table have for ten classes, and which one belongs to none of them?",
            "The null row is the last one: its index is len(table) - 1, and table[-1] is the same row.",
        ),
    ),
    Mistake(
        "mean of the classes",
        _mean_for_none,
        'Without a label you add the mean of all classes. The mean of ten rows is a guess at what "any digit" means; '
        "the network has a row of its own for it, which it learns.",
        (
            "How many rows does the table have for ten classes, and which one belongs to none of them?",
            "The null row is the last one: its index is len(table) - 1, and table[-1] is the same row.",
        ),
    ),
    Mistake(
        "counted from 1",
        _from_one,
        "You look one row too high: labels count from 0 here, so label 0 took the last row, the null label.",
        LABEL_HINTS,
    ),
    Mistake(
        "context replaced",
        _only_label,
        "Only the label's row is left: time is gone. Add the row to the context.",
        (
            "What else does the context hold, and must not be lost?",
            "Add the row to the context: the shape stays (B, K).",
        ),
    ),
    Mistake(
        "joined",
        _joined,
        lambda r: (
            f"You join the row to the context: {r.got.shape[1]} columns, where the blocks read {r.expected.shape[1]}. "
            "Add it instead."
        ),
        (
            "What else does the context hold, and must not be lost?",
            "Add the row to the context: the shape stays (B, K).",
        ),
    ),
    Mistake(
        "the first label for all",
        _first_for_all,
        "All pictures got the label of the first one.",
        LABEL_HINTS,
    ),
    Mistake(
        "multiplied",
        _times,
        "You multiply; the row is added to the context.",
        (
            "What else does the context hold, and must not be lost?",
            "Add the row to the context: the shape stays (B, K).",
        ),
    ),
    Mistake(
        "the number itself",
        _number_itself,
        "You add the label's number. Then a seven would be a little more of a six, and a nine three times a three; "
        "classes have no order, so each has a row of its own in the table.",
        LABEL_HINTS,
    ),
]


EXERCISES = catalogue(
    Exercise(
        number="3.1",
        name="count",
        reference=count,
        cases=COUNT_CASES,
        mistakes=COUNT_MISTAKES,
        right="kernels of 1, 3 and 5, any channels, and torch's own layers have as many weights.",
        hints=COUNT_HINTS,
    ),
    Exercise(
        number="3.2",
        name="time_waves",
        reference=time_waves,
        cases=WAVE_CASES,
        mistakes=WAVE_MISTAKES,
        atol=4e-6,
        right="a row for each time, sines first, slow waves and fast ones.",
        hints=WAVE_HINTS,
    ),
    Exercise(
        number="3.3",
        name="residual",
        reference=residual,
        cases=BLOCK_CASES,
        mistakes=BLOCK_MISTAKES,
        right="with and without a change of channels, each picture with its own context, and x left alone.",
        hints=BLOCK_HINTS,
        atol=1e-5,
    ),
    Exercise(
        number="3.4",
        name="walk",
        reference=walk,
        cases=WALK_CASES,
        mistakes=WALK_MISTAKES,
        right="one, two and three sizes; every picture kept on the way down is joined where it fits.",
        hints=WALK_HINTS,
        atol=1e-5,
    ),
    Exercise(
        number="3.5",
        name="look",
        reference=look,
        cases=LOOK_CASES,
        mistakes=LOOK_MISTAKES,
        right="one head and several, squares and oblongs, small scores and large ones.",
        hints=LOOK_HINTS,
    ),
    Exercise(
        number="3.6",
        name="add_label",
        reference=add_label,
        cases=LABEL_CASES,
        mistakes=LABEL_MISTAKES,
        right="each picture its own row, and a row of its own for no label.",
        hints=LABEL_HINTS,
    ),
)
