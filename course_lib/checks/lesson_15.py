"""The exercises of lesson 15: tokens, latents, two clocks, guidance, image-to-image, inpainting, memory, dtype.

Equations: classifier-free guidance (arXiv:2207.12598) eq. 6; SDEdit (arXiv:2108.01073) algorithm 1; RePaint
(arXiv:2201.09865) eq. 8; latents = scaling_factor * encoder(picture) (arXiv:2112.10752, appendix G).
Shapes: latents (B, 4, h, w), pictures (B, 3, H, W), embeddings (B, tokens, width), masks (B, 1, H, W).
Not here: how a verdict is reached (engine.py), diffusers: small stand-ins take the place of its networks.
"""

import math
import operator
from unittest.mock import patch

import torch
from torch.nn.functional import interpolate, max_pool2d

from course_lib.checks.engine import Case, Exercise, Mistake, catalogue
from course_lib.schedules import cosine, flow, linear_beta


def _draw(*shape, seed):
    """Draw numbers of variance 1, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _off(report):
    """How far the student's result is from the right one, on average over the numbers."""
    return f"{float((report.got - report.expected).abs().mean()):.2f}"


# ---- 15.1 a row of tokens ----


def token_row(words, length, start, end):
    row = [start, *words[: length - 2], end]
    return torch.tensor(row + [end] * (length - len(row)))


def _row(words, length, first, fill, last):
    """A row that begins with `first`, goes on with words, and is filled up and ended by the given tokens."""
    row = [*first, *words, *last]
    return torch.tensor((row + [fill] * (length - len(row)))[: max(length, len(row))])


def _end_cut_off(words, length, start, end):
    row = [start, *words, end][:length]
    return torch.tensor(row + [end] * (length - len(row)))


def _end_for_the_last_word(words, length, start, end):
    row = [start, *words[: length - 1]]
    return torch.tensor(row + [end] * (length - len(row)))


def _no_start(words, length, start, end):
    return _row(words[: length - 1], length, [], end, [end])


def _zeros(words, length, start, end):
    return _row(words[: length - 2], length, [start], 0, [end])


def _fill_in_front(words, length, start, end):
    row = [start, *words[: length - 2], end]
    return torch.tensor([end] * (length - len(row)) + row)


def _not_filled(words, length, start, end):
    return torch.tensor([start, *words[: length - 2], end])


def _not_cut(words, length, start, end):
    return _row(words, length, [start], end, [end])


def _starts_for_ends(words, length, start, end):
    return _row(words[: length - 2], length, [start], start, [end])


def _one_too_short(words, length, start, end):
    row = [start, *words[: length - 3], end]
    return torch.tensor(row + [end] * (length - len(row)))


def _end_by_filling(words, length, start, end):
    row = [start, *words[: length - 3]]
    return torch.tensor(row + [end] * (length - len(row)))


def _one_too_long(words, length, start, end):
    return _row(words[: length - 1], length, [start], end, [end])


def _by_hand(length_too):
    """Stable Diffusion's 75 words, and its 77 places too, where the arguments should be asked."""

    def function(words, length, start, end):
        row = [start, *words[:75], end]
        return torch.tensor(row + [end] * ((77 if length_too else length) - len(row)))

    return function


WORD_TOO_FEW = "You cut one word more than you must: start and one end need two places, the rest is for words."
BY_HAND = (
    "You wrote Stable Diffusion's {} by hand. Another text encoder has another one: the argument `length` says which."
)


TOKEN_HINTS = (
    "Write the row for the words [5, 6], length 6, start 1 and end 2 on paper first: [1, 5, 6, 2, 2, 2].",
    "row = [start, *words[: length - 2], end], then as many ends as are missing: length - len(row).",
)
TOKEN_CASES = [
    Case("two words in six places", [5, 6], 6, 1, 2),
    Case("no word at all", [], 5, 8, 9),
    Case("just enough places", [3, 4, 5], 5, 10, 11),
    Case("one word too many", [3, 4, 5, 6], 5, 10, 11),
    Case("far too many words", list(range(100, 200)), 77, 49406, 49407),
    Case("one place less than there are words and frame", [7, 5, 3, 9], 5, 2, 4),
    Case("room for nothing but the frame", [5, 6], 2, 1, 2),
    Case("nine places", [40, 39, 41], 9, 50, 49),
]
TOKEN_MISTAKES = [
    Mistake(
        "end cut off",
        _end_cut_off,
        "Where there are too many words, your row has no end token: cut the words, not the framed row. The encoder "
        "would never learn that the text is over.",
        ("What stands in the last place of a row that was too long?", TOKEN_HINTS[1]),
    ),
    Mistake(
        "start missing",
        _no_start,
        "Your row lacks the start token in front. Every word then stands one place too early, where the encoder never "
        "saw it.",
        ("What did the tokenizer of the pipeline put in place 0?", TOKEN_HINTS[0]),
    ),
    Mistake(
        "filled with 0",
        _zeros,
        "You fill up with 0. Here the filling is the end token; the number 0 is the token of a piece of text, so the "
        'encoder would read it as one, again and again ("!" in the real vocabulary, whose versions 2 do fill with it).',
        ("Which token goes into every place behind the first end?", TOKEN_HINTS[0]),
    ),
    Mistake(
        "filled with start",
        _starts_for_ends,
        "You fill up with the start token: behind the end come more ends.",
        ("Which token goes into every place behind the first end?", TOKEN_HINTS[0]),
    ),
    Mistake(
        "filled in front",
        _fill_in_front,
        "You fill up in front, so the words move to the back. The encoder knows each place, and learned texts that "
        "begin at the front.",
        ("In which place does the first word of a short text stand?", TOKEN_HINTS[0]),
    ),
    Mistake(
        "not filled up",
        _not_filled,
        lambda r: (
            f"Your row has {len(r.got)} places where {len(r.expected)} were asked for: short texts are filled up."
        ),
        ("How many places has the row of a text without words?", TOKEN_HINTS[1]),
    ),
    Mistake(
        "not cut",
        _not_cut,
        lambda r: (
            f"A text that is too long gets {len(r.got)} places at your hands, and the encoder has "
            f"{len(r.expected)}: cut the words."
        ),
        ("How many words fit, if start and end need a place each?", TOKEN_HINTS[1]),
    ),
    Mistake(
        "one word too few",
        _one_too_short,
        WORD_TOO_FEW,
        ("How many words fit into a row of 5?", TOKEN_HINTS[1]),
    ),
    Mistake(
        "one word too few, the filling ends it",
        _end_by_filling,
        WORD_TOO_FEW + " Where words are missing, the filling ends your row, and hides it.",
        ("How many words fit into a row of 5?", TOKEN_HINTS[1]),
    ),
    Mistake(
        "one word too many",
        _one_too_long,
        "Where there are too many words, your row is one place too long: start and end need a place each, which "
        "leaves length - 2 for words.",
        ("How many words fit into a row of 5?", TOKEN_HINTS[1]),
    ),
    Mistake(
        "start and end exchanged",
        lambda words, length, start, end: token_row(words, length, end, start),
        "start and end have changed places: your rows begin with the end token. Look at the order of the arguments.",
        ("Which of the two stands in place 0?", TOKEN_HINTS[0]),
    ),
    Mistake(
        "75 by hand",
        _by_hand(False),
        BY_HAND.format("75 words"),
        ("Which of the arguments does your function hardly use?", TOKEN_HINTS[1]),
    ),
    Mistake(
        "75 and 77 by hand",
        _by_hand(True),
        BY_HAND.format("75 words and 77 places"),
        ("Which of the arguments does your function not use?", TOKEN_HINTS[1]),
    ),
]

# ---- 15.2 back to pixels ----


class _Answer(dict):
    """What a network of diffusers returns: `.sample`, `["sample"]` and `[0]` are the same tensor."""

    def __init__(self, sample):
        super().__init__(sample=sample)

    @property
    def sample(self):
        return self["sample"]

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


def _answer(sample, return_dict):
    """Answer as diffusers does: an object, or a bare tuple for whoever asks for no dict."""
    return _Answer(sample) if return_dict else (sample,)


class _Config(dict):
    """What a network of diffusers was built with, by attribute and by key."""

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(f"the configuration has no {name!r}, only {', '.join(self)}")


class _Autoencoder:
    """A stand-in for diffusers' AutoencoderKL: it makes pictures of twice the side, a little beyond -1 and 1."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, scaling_factor):
        self.config = _Config(scaling_factor=scaling_factor)
        self.mixture = _draw(3, 4, seed=3) * 1.5

    def decode(self, z, return_dict=True, generator=None):
        x = torch.einsum("kc,bchw->bkhw", self.mixture.to(z), z)
        return _answer(1.3 * torch.tanh(0.2 * interpolate(x, scale_factor=2.0)), return_dict)


def decode_latents(vae, latents):
    return vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)


def _decoded(before=lambda z, k: z / k, after=lambda x: x.clamp(-1, 1)):
    return lambda vae, latents: after(vae.decode(before(latents, vae.config.scaling_factor)).sample)


def _spread(report):
    return (
        f"the deviation of your pictures is {float(report.got.std()):.2f} where it should be "
        f"{float(report.expected.std()):.2f}"
    )


DECODE_HINTS = (
    "latents = factor * encoder(picture). What undoes a multiplication?",
    "vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)",
)
DECODE_CASES = [
    Case("latents of Stable Diffusion's factor", _Autoencoder(0.18215), _draw(2, 4, 4, 4, seed=4)),
    Case("another factor", _Autoencoder(0.5), _draw(1, 4, 3, 5, seed=5)),
    Case("a factor above 1", _Autoencoder(1.6), 2 * _draw(3, 4, 4, 4, seed=6)),
    Case("far latents", _Autoencoder(0.13), 3 * _draw(2, 4, 2, 2, seed=7)),
]
DECODE_MISTAKES = [
    Mistake(
        "factor forgotten",
        _decoded(lambda z, k: z),
        lambda r: f"You decode without the factor, so contrast is lost: {_spread(r)}. No error tells you.",
        ("Which of the two directions is yours: into the latents or back?", DECODE_HINTS[1]),
    ),
    Mistake(
        "multiplied",
        _decoded(lambda z, k: z * k),
        lambda r: f"You multiply by the factor. That is the way *into* the latents; back, divide: {_spread(r)}.",
        DECODE_HINTS,
    ),
    Mistake(
        "scaled twice",
        _decoded(lambda z, k: z / k**2),
        lambda r: f"You divide by the factor twice: {_spread(r)}, and everything is glaring.",
        ("How often was the factor multiplied on the way in?", DECODE_HINTS[1]),
    ),
    Mistake(
        "picture scaled",
        lambda vae, latents: (vae.decode(latents).sample / vae.config.scaling_factor).clamp(-1, 1),
        lambda r: f"You divide the picture by the factor, not the latents: {_spread(r)}. A decoder is not linear.",
        ("What has the factor: the latents or the picture?", DECODE_HINTS[1]),
    ),
    Mistake(
        "both scaled",
        lambda vae, z: _decoded(after=lambda x: (x / vae.config.scaling_factor).clamp(-1, 1))(vae, z),
        lambda r: f"You divide the latents by the factor, which is right, and then the picture as well: {_spread(r)}.",
        ("What has the factor: the latents or the picture?", DECODE_HINTS[1]),
    ),
    Mistake(
        "not cut off",
        _decoded(after=lambda x: x),
        lambda r: f"Your pictures reach {float(r.got.abs().max()):.2f}; cut them off at -1 and 1.",
        ("Which call keeps numbers between two ends?", DECODE_HINTS[1]),
    ),
    Mistake(
        "in 0..1",
        _decoded(after=lambda x: (x / 2 + 0.5).clamp(0, 1)),
        "Your pictures are in [0, 1], as a file wants them; here they stay in [-1, 1].",
        ("What is black in this course?", DECODE_HINTS[1]),
    ),
    Mistake(
        "cut off at 0",
        _decoded(after=lambda x: x.clamp(0, 1)),
        "You cut off at 0, so everything darker than middle grey is lost: the range is [-1, 1].",
        ("What is black in this course?", DECODE_HINTS[1]),
    ),
    Mistake(
        "latents cut off",
        lambda vae, latents: vae.decode(latents.clamp(-1, 1) / vae.config.scaling_factor).sample.clamp(-1, 1),
        lambda r: (
            f"You cut the latents off as well. They have a deviation of 1, so a third of them lies beyond 1. Off "
            f"by {_off(r)} on average."
        ),
        ("Which of the two have a range: latents or pictures?", DECODE_HINTS[1]),
    ),
    Mistake(
        "Stable Diffusion's factor for all",
        _decoded(lambda z, k: z / 0.18215),
        "You wrote Stable Diffusion's factor, 0.18215, by hand. Another autoencoder has another one: "
        "`vae.config.scaling_factor`.",
        ("Where does an autoencoder keep its factor?", DECODE_HINTS[1]),
    ),
    Mistake(
        "sample forgotten",
        lambda vae, latents: vae.decode(latents / vae.config.scaling_factor),
        "`vae.decode` returns an object that holds the pictures: take its `.sample`.",
        ("What did the page say that `vae.decode(z)` returns?", DECODE_HINTS[1]),
    ),
    Mistake(
        "object cut off",
        lambda vae, latents: vae.decode(latents / vae.config.scaling_factor).clamp(-1, 1),
        "`vae.decode` returns an object that holds the pictures, and it cannot be cut off: take its `.sample` first.",
        ("What did the page say that `vae.decode(z)` returns?", DECODE_HINTS[1]),
    ),
]

# ---- 15.3 two clocks ----


def our_clock(alphas_cumprod, timesteps):
    alpha_bar = torch.cat([torch.ones(1, dtype=alphas_cumprod.dtype), alphas_cumprod])
    return alpha_bar, [timestep + 1 for timestep in timesteps] + [0]


def _clock(front=1.0, rows=lambda timesteps: [t + 1 for t in timesteps] + [0], table=None):
    """A student's clock with another first row, other rows, or another table."""

    def function(alphas_cumprod, timesteps):
        first = torch.full((1,), front, dtype=alphas_cumprod.dtype)
        whole = torch.cat([first, alphas_cumprod]) if table is None else table(alphas_cumprod)
        return whole, rows(timesteps)

    return function


def _with_whole_rows(our_clock, alphas_cumprod, timesteps):
    """Call a clock, and look at its rows as a table does, which takes 802 and refuses 802.0."""
    result = our_clock(alphas_cumprod, timesteps)
    rows = result[1] if isinstance(result, tuple | list) and len(result) == 2 else ()
    try:
        for row in rows if isinstance(rows, tuple | list) else ():
            operator.index(row)
    except TypeError:
        raise TypeError("one of the rows is no whole number") from None
    return result


def _clean_behind(alphas):
    return torch.cat([alphas, torch.ones(1, dtype=alphas.dtype)])


def _clean_over_first(alphas):
    whole = alphas.clone()
    whole[0] = 1
    return whole


CLOCK_HINTS = (
    "diffusers' timestep 0 is the least noisy level. Which row is that, when row 0 is clean data?",
    "torch.cat([one, alphas_cumprod]) and [t + 1 for t in timesteps] + [0]",
)


def _clock_cases():
    for label, schedule, timesteps in [
        ("five steps of Stable Diffusion's", linear_beta(1000, 0.00085, 0.012), [801, 601, 401, 201, 1]),
        ("every timestep of ten", cosine(10), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("from the last timestep", linear_beta(50), [49, 20, 3]),
        ("a single step", cosine(100), [70]),
    ]:
        yield Case(label, schedule.alpha_bar[1:].clone().float(), timesteps)
    yield Case("in double precision", linear_beta(20).alpha_bar[1:].clone(), [15, 5, 0])


CLOCK_MISTAKES = [
    Mistake(
        "no shift",
        _clock(rows=lambda timesteps: [*timesteps, 0]),
        "Your rows are the timesteps as they are, one row too clean: the network is told of less noise than there "
        "is. Its timestep 999 is row 1000.",
        CLOCK_HINTS,
    ),
    Mistake(
        "shifted down",
        _clock(rows=lambda timesteps: [t - 1 for t in timesteps] + [0]),
        "You shift the wrong way: timestep 0 would become row -1, which Python reads as the last row, pure noise.",
        CLOCK_HINTS,
    ),
    Mistake(
        "clean row missing",
        _clock(table=lambda alphas: alphas),
        lambda r: (
            f"Your table has {len(r.got[0])} rows and no clean one in front, so row t + 1 is one level too noisy."
        ),
        ("How many rows has a table of levels 0 to T?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "nothing changed",
        _clock(table=lambda alphas: alphas, rows=lambda timesteps: [*timesteps, 0]),
        "Table and rows fit each other, but row 0 is diffusers' first noisy level: your walk never arrives at clean "
        "data.",
        ("What is alpha_bar of clean data?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "0 for clean",
        _clock(front=0.0),
        "alpha_bar of clean data is 1, not 0: it is the share of the signal that is left. Your row 0 is pure noise.",
        ("Which share of the variance is signal in clean data?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "clean row behind",
        _clock(table=_clean_behind),
        "Your clean row stands at the end of the table: it is row 0.",
        ("Which row is clean data in this course?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "clean row written over",
        _clock(table=_clean_over_first),
        "You write 1 over the first level; it is still needed, as row 1. The table grows by a row.",
        ("How many rows has a table of levels 0 to T?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "last step missing",
        _clock(rows=lambda timesteps: [t + 1 for t in timesteps]),
        "Your rows end before clean data: append the last one, 0.",
        ("Where should a walk end?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "last step at 1",
        _clock(rows=lambda timesteps: [t + 1 for t in [*timesteps, 0]]),
        "Your last row is 1, the first noisy level: append 0 after the shift, not before it.",
        ("Which row is clean data in this course?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "rows as floats",
        _clock(rows=lambda timesteps: [t + 1.0 for t in timesteps] + [0]),
        "Your rows are not whole numbers. A row looks up a table, and `alpha_bar[802.0]` is an error where "
        "`alpha_bar[802]` is a number: add 1, not 1.0.",
        ("What is the type of 801 + 1, and what is that of 801 + 1.0?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "what append returns",
        _clock(rows=lambda timesteps: [t + 1 for t in timesteps].append(0)),
        "Your second item is None: `append` changes a list and returns None. Write it on a line of its own, or join "
        "two lists with `+`.",
        ("What does `print([1, 2].append(3))` show?", CLOCK_HINTS[1]),
    ),
    Mistake(
        "root taken",
        _clock(table=lambda alphas: torch.cat([torch.ones(1, dtype=alphas.dtype), alphas.sqrt()])),
        "You return signal rates, the roots; asked for was alpha_bar itself.",
        ("What is alphas_cumprod in our names?", CLOCK_HINTS[1]),
    ),
]

# ---- 15.4 guidance ----


class _Network:
    """A stand-in for diffusers' UNet2DConditionModel; its answer depends on all that it is given."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, seed=1):
        self.mixture = _draw(6, 4, seed=seed)

    def __call__(self, sample, timestep, encoder_hidden_states, return_dict=True):
        if sample.shape[1] != 4:
            raise RuntimeError(f"expected latents of 4 channels, got {sample.shape[1]}")
        said = (encoder_hidden_states @ self.mixture).square().mean(1).sqrt()  # (B, 4)
        if len(said) != len(sample):
            raise RuntimeError(
                f"expected as many texts as latents, got {len(said)} and {len(sample)}"  # torch's own is a riddle
            )
        clock = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1, 1, 1, 1) / 1000
        return _answer(torch.tanh(sample * clock + said[:, :, None, None]) + 0.3 * sample, return_dict)

    forward = __call__


def guided_output(unet, x_t, timestep, null, text, scale):
    both = unet(torch.cat([x_t, x_t]), timestep, encoder_hidden_states=torch.cat([null, text])).sample
    without, told = both.chunk(2)
    return without + scale * (told - without)


def _guided(formula):
    """A student's guidance: formula(without, told, scale)."""

    def function(unet, x_t, timestep, null, text, scale):
        without, told = (unet(x_t, timestep, encoder_hidden_states=text).sample for text in (null, text))
        return formula(without, told, scale)

    return function


def _mixed_texts(unet, x_t, timestep, null, text, scale):
    return unet(x_t, timestep, encoder_hidden_states=null + scale * (text - null)).sample


def _not_doubled(unet, x_t, timestep, null, text, scale):
    both = unet(x_t, timestep, encoder_hidden_states=torch.cat([null, text])).sample
    without, told = both.chunk(2)
    return without + scale * (told - without)


def _cut_by_channel(unet, x_t, timestep, null, text, scale):
    both = unet(torch.cat([x_t, x_t]), timestep, encoder_hidden_states=torch.cat([null, text])).sample
    without, told = both.chunk(2, dim=1)
    return without + scale * (told - without)


def _joined_by_channel(unet, x_t, timestep, null, text, scale):
    return unet(torch.cat([x_t, x_t], 1), timestep, encoder_hidden_states=torch.cat([null, text], 1)).sample


def _in_pairs(doubled, without_and_told):
    """A student's guidance in one call that takes the rows in another order than torch.cat joined them."""

    def function(unet, x_t, timestep, null, text, scale):
        both = unet(doubled(x_t), timestep, encoder_hidden_states=torch.cat([null, text])).sample
        without, told = without_and_told(both)
        return without + scale * (told - without)

    return function


def _bare_answer(unet, x_t, timestep, null, text, scale):
    both = unet(torch.cat([x_t, x_t]), timestep, encoder_hidden_states=torch.cat([null, text]))
    without, told = both.chunk(2)
    return without + scale * (told - without)


def _bare_answers(unet, x_t, timestep, null, text, scale):
    without, told = (unet(x_t, timestep, encoder_hidden_states=text) for text in (null, text))
    return without + scale * (told - without)


def _from_the_latents(unet, x_t, timestep, null, text, scale):
    told = unet(x_t, timestep, encoder_hidden_states=text).sample
    return x_t + scale * (told - x_t)


def _guided_cases():
    for seed, (label, n, timestep, scale) in enumerate(
        [
            ("scale 3", 2, 600, 3.0), ("Stable Diffusion's 7.5, one picture", 1, 981, 7.5), ("scale 1", 2, 300, 1.0),
            ("scale 0", 2, 300, 0.0), ("half a scale", 3, 41, 0.5),
        ]
    ):  # fmt: skip
        null, text = (_draw(n, 5, 6, seed=first + seed) for first in (50, 60))
        yield Case(label, _Network(seed), _draw(n, 4, 3, 3, seed=40 + seed), timestep, null, text, scale)
    x_t, null, text = _draw(2, 4, 3, 3, seed=45), 0.1 * _draw(2, 5, 6, seed=55), _draw(2, 5, 6, seed=65)
    yield Case("scale 16, two answers that are far apart", _Network(5), x_t, 700, null, text, 16.0)


GUIDE_HINTS = (
    "Begin at the answer without the text, and go `scale` times the way to the answer with it.",
    "without + scale * (told - without), where `without` is the answer to null and `told` the answer to text.",
)
SAMPLE_FORGOTTEN = "`unet(...)` returns an object that holds the output: take its `.sample`, then cut and reckon."
GUIDE_MISTAKES = [
    Mistake(
        "wrong way round",
        _guided(lambda without, told, scale: told + scale * (without - told)),
        lambda r: (
            f"Guidance the wrong way round: you lead from the text to nothing, and beyond, so the picture flees "
            "what was asked for. Either the formula or the two halves of the batch have changed places. Off by "
            f"{_off(r)} on average."
        ),
        ("At scale 1, which of the two answers should come out?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "the paper's w",
        _guided(lambda without, told, scale: told + scale * (told - without)),
        "You count like the paper, whose w is scale - 1: your scale 0 already is the plain answer to the text, and "
        "your 7.5 is our 8.5.",
        ("Which answer should come out at scale 0, and which at scale 1?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "one less",
        _guided(lambda without, told, scale: told + (scale - 2) * (told - without)),
        "Your scale is one too small: at scale 1 the text is ignored.",
        ("Which answer should come out at scale 1?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "difference alone",
        _guided(lambda without, told, scale: scale * (told - without)),
        "You return the difference alone, times scale: at scale 0 nothing is left, where the answer without the text "
        "should be.",
        ("Where does the way begin?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "answer with the text, scaled",
        _guided(lambda without, told, scale: scale * told),
        "You multiply the answer itself: at 7.5 the network's output would be 7.5 times too large. What is scaled is "
        "the difference of the two answers.",
        ("What does the answer without the text do in your function?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "difference missing",
        _guided(lambda without, told, scale: without + scale * told),
        "You add scale times the whole answer: at scale 1 you have both answers at once, and about twice the output.",
        ("What is the way from one answer to the other?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "no guidance",
        _guided(lambda without, told, scale: told),
        "scale and null have no effect: this is the plain answer to the text.",
        ("Which of the arguments does your function not use?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "embeddings mixed",
        _mixed_texts,
        lambda r: (
            f"You extrapolate the *embeddings* and ask once. The network never saw a text so far out, and it is "
            f"not linear: ask twice, and extrapolate the answers. Off by {_off(r)} on average."
        ),
        ("How often must the network be asked?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "latents not doubled",
        _not_doubled,
        "You give the network two texts for each latent: the latents must be doubled as well, `torch.cat([x_t, x_t])`.",
        ("How many rows has your batch of latents, how many that of texts?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "cut by channel",
        _cut_by_channel,
        lambda r: (
            f"Your halves have the shape {tuple(r.got.shape)}: you cut the channels in two, not the batch. "
            "`chunk(2)` alone cuts the first axis."
        ),
        ("Along which axis did you join?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "joined by channel",
        _joined_by_channel,
        "You join the latents along axis 1, so one picture gets 8 channels where the network takes 4. A batch of 2B is "
        "joined along the first axis: `torch.cat([a, b])`, without a number.",
        ("Which axis counts the pictures?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "every other row",
        _in_pairs(lambda x: torch.cat([x, x]), lambda both: (both[::2], both[1::2])),
        "You take every other row of the output. `torch.cat` puts all rows of null first, then all of text, so the "
        "answers are the two *halves*: `both.chunk(2)`. (With one picture there is no difference.)",
        ("In which order do the rows of `torch.cat([a, b])` stand?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "latents doubled one by one",
        _in_pairs(lambda x: x.repeat_interleave(2, 0), lambda both: both.chunk(2)),
        "`repeat_interleave` puts each picture beside its double, and the texts come as two halves: most pictures get "
        "another one's text. Double all of them at once, `torch.cat([x_t, x_t])`. (With one picture there is no "
        "difference.)",
        ("In which order do your latents stand, and in which your texts?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "doubled one by one, every other row",
        _in_pairs(lambda x: x.repeat_interleave(2, 0), lambda both: (both[::2], both[1::2])),
        "Your latents stand in pairs, your texts in two halves: `repeat_interleave` and `[::2]` need the texts in "
        "pairs, too. `torch.cat` for both and `chunk(2)` is the short way.",
        ("In which order do your latents stand, and in which your texts?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "sign",
        _guided(lambda without, told, scale: without - scale * (told - without)),
        "You begin at the answer without the text, and walk *away* from the answer with it: a minus where a plus "
        "belongs, or a difference taken the wrong way round.",
        ("At scale 1, which of the two answers should come out?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "sample forgotten",
        _bare_answer,
        SAMPLE_FORGOTTEN,
        ("What does the page say that `unet` returns?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "sample forgotten, two calls",
        _bare_answers,
        SAMPLE_FORGOTTEN.replace("cut", "subtract"),
        ("What does the page say that `unet` returns?", GUIDE_HINTS[1]),
    ),
    Mistake(
        "from the latents",
        _from_the_latents,
        lambda r: f"You lead away from x_t, not from the answer without the text. Off by {_off(r)} on average.",
        ("What does null do in your function?", GUIDE_HINTS[1]),
    ),
]

# ---- 15.5 begin half way ----


def begin_half_way(x0, strength, schedule, rows, eps):
    left = max(1, round(strength * (len(rows) - 1)))
    rest = rows[-left - 1 :]
    a, s = schedule.rates(rest[0], x0)
    return a * x0 + s * eps, rest


def _begun(noisy=lambda x0, a, s, eps: a * x0 + s * eps, rest=None, row=lambda rest, rows: rest[0]):
    """A student's start with another mixture, other rows, or the noise of another row."""

    def function(x0, strength, schedule, rows, eps):
        left = max(1, round(strength * (len(rows) - 1)))
        walk = rows[-left - 1 :] if rest is None else rest(rows, left, strength)
        a, s = schedule.rates(row(walk, rows), x0)
        return noisy(x0, a, s, eps), walk

    return function


def _by_strength(x0, strength, schedule, rows, eps):
    _, rest = begin_half_way(x0, strength, schedule, rows, eps)
    return (1 - strength) * x0 + strength * eps, rest


def _by_strength_of_t(x0, strength, schedule, rows, eps):
    _, rest = begin_half_way(x0, strength, schedule, rows, eps)
    a, s = schedule.rates(max(1, round(strength * schedule.T)), x0)
    return a * x0 + s * eps, rest


def _by_alpha_bar(power):
    """A student's start with alpha_bar to a power in place of the schedule's own rates."""

    def function(x0, strength, schedule, rows, eps):
        _, rest = begin_half_way(x0, strength, schedule, rows, eps)
        kept = schedule.alpha_bar[rest[0]]
        return kept**power * x0 + (1 - kept) ** power * eps, rest

    return function


def _without_least(x0, strength, schedule, rows, eps):
    left = round(strength * (len(rows) - 1))
    rest = rows[len(rows) - 1 - left :]
    a, s = schedule.rates(rest[0], x0)
    return a * x0 + s * eps, rest


def _noise_of(report):
    """The noise in the first case, whose x0 is 0: the student's deviation and the right one."""
    got, expected = (float(pair[0].std()) for pair in (report.got, report.expected))
    return f"the noise has a deviation of {got:.2f}, where row {report.expected[1][0]} means {expected:.2f}"


def _half_way_cases():
    rows = linear_beta().steps(10)
    nothing, eps = torch.zeros(2, 4, 8, 8), _draw(2, 4, 8, 8, seed=70)
    yield Case("nothing but noise, strength 0.3", nothing, 0.3, linear_beta(), rows, eps)
    for seed, (label, shape, strength, schedule, n) in enumerate(
        [
            ("latents, strength 0.6", (2, 4, 3, 3), 0.6, cosine(), 5),
            ("all of the way", (1, 4, 4, 4), 1.0, linear_beta(), 4),
            ("so little that nothing would be left to walk", (2, 4, 2, 2), 0.01, cosine(100), 20),
            ("strength 0.78 of 10 steps, rounded up", (3, 4, 2, 2), 0.78, flow(), 10),
            ("strength 0.72 of 10 steps, rounded down", (3, 4, 2, 2), 0.72, linear_beta(200), 10),
            ("points", (7, 2), 0.5, flow(), 6),
        ]
    ):  # fmt: skip
        x0, eps = _draw(*shape, seed=80 + seed), _draw(*shape, seed=90 + seed)
        yield Case(label, x0, strength, schedule, schedule.steps(n), eps)
    x0, eps = _draw(2, 4, 3, 3, seed=98), _draw(2, 4, 3, 3, seed=99)
    yield Case("rows that end in 1, as diffusers' do", x0, 0.4, linear_beta(), [802, 602, 402, 202, 2, 1], eps)


HALF_HINTS = (
    "First the rows: how many steps are left, and at which row does the first of them begin? Then the noise of that "
    "row.",
    "left = max(1, round(strength * (len(rows) - 1))); rest = rows[-left - 1 :]; a, s = schedule.rates(rest[0], x0)",
)
HALF_MISTAKES = [
    Mistake(
        "noise of the first row",
        _begun(row=lambda rest, rows: rows[0]),
        lambda r: (
            f"You add the noise of the first row, and begin half way: {_noise_of(r)}. The network takes what is "
            "too much for a part of the picture, and draws one that hardly knows x0."
        ),
        ("Which row does the network believe to see first?", HALF_HINTS[1]),
    ),
    Mistake(
        "no noise",
        _begun(noisy=lambda x0, a, s, eps: x0 + 0 * eps),
        "Your start is the clean picture: the network is told of noise where there is none, so it smooths away what it "
        "takes for noise, and nothing new can come.",
        ("How much noise belongs to the row where the walk begins?", HALF_HINTS[1]),
    ),
    Mistake(
        "noise not matched",
        _by_strength,
        lambda r: (
            f"You mix by strength itself: {_noise_of(r)}. Strength counts steps; the noise of a row is in the schedule."
        ),
        ("Which table says how much noise a row has?", HALF_HINTS[1]),
    ),
    Mistake(
        "strength times T",
        _by_strength_of_t,
        lambda r: (
            f"You take the noise of row strength * T, and begin at another row: {_noise_of(r)}. The rows need "
            "not be evenly spaced."
        ),
        ("Which row does the network believe to see first?", HALF_HINTS[1]),
    ),
    Mistake(
        "noise alone",
        _begun(noisy=lambda x0, a, s, eps: s * eps),
        "Your start holds nothing of x0: this is noise, weaker than it should be.",
        ("Which of the arguments does your function not use?", HALF_HINTS[1]),
    ),
    Mistake(
        "picture not lowered",
        _begun(noisy=lambda x0, a, s, eps: x0 + s * eps),
        lambda r: (
            "You add noise and leave the picture at full strength: the signal of a row is a * x0. Off by "
            f"{float((r.got[0] - r.expected[0]).abs().mean()):.2f} on average."
        ),
        ("What was the jump of lesson 01?", HALF_HINTS[1]),
    ),
    Mistake(
        "strength the other way",
        _begun(rest=lambda rows, left, strength: rows[-max(1, round((1 - strength) * (len(rows) - 1))) - 1 :]),
        lambda r: (
            f"Your strength works the other way round: {len(r.got[1]) - 1} steps are left where there should be "
            f"{len(r.expected[1]) - 1}. Strength 1 redraws everything."
        ),
        ("How many steps are left at strength 1?", HALF_HINTS[1]),
    ),
    Mistake(
        "the first steps",
        _begun(rest=lambda rows, left, strength: rows[: left + 1]),
        "You walk the first steps of the list: they begin at pure noise, and end half way. The last ones lead to a "
        "picture.",
        ("Where must the walk end?", HALF_HINTS[1]),
    ),
    Mistake(
        "one step too few",
        _begun(rest=lambda rows, left, strength: rows[-max(left, 2) :]),
        lambda r: (
            f"You walk {len(r.got[1]) - 1} steps where there should be {len(r.expected[1]) - 1}: k steps need k "
            "+ 1 rows."
        ),
        ("How many rows has a walk of one step?", HALF_HINTS[1]),
    ),
    Mistake(
        "one row too few",
        _begun(rest=lambda rows, left, strength: rows[-left:]),
        lambda r: (
            f"Your list has {len(r.got[1])} rows, which are {len(r.got[1]) - 1} steps, where "
            f"{len(r.expected[1]) - 1} steps should be left: k steps need k + 1 rows."
        ),
        ("How many rows has a walk of one step?", HALF_HINTS[1]),
    ),
    Mistake(
        "rounded up",
        _begun(rest=lambda rows, left, strength: rows[-max(1, math.ceil(strength * (len(rows) - 1))) - 1 :]),
        "You round up, always: 7.2 steps are 7, to the nearest whole number.",
        ("What is math.ceil(7.2), and what is round(7.2)?", HALF_HINTS[1]),
    ),
    Mistake(
        "alpha_bar for rates",
        _by_alpha_bar(0.5),
        "Right for most schedules, wrong for flow(): there signal and noise are no roots of alpha_bar and 1 - "
        "alpha_bar, for the variance does not stay 1. `schedule.rates` is right for all.",
        ("Which call gives signal and noise of a row for every schedule?", HALF_HINTS[1]),
    ),
    Mistake(
        "alpha_bar without roots",
        _by_alpha_bar(1.0),
        lambda r: (
            f"You mix with alpha_bar and 1 - alpha_bar, which are variances: {_noise_of(r)}. The rates are their "
            "roots, and `schedule.rates` gives them."
        ),
        ("Which of the two adds up to 1: the rates or their squares?", HALF_HINTS[1]),
    ),
    Mistake(
        "rates exchanged",
        _begun(noisy=lambda x0, a, s, eps: s * x0 + a * eps),
        lambda r: f"The two rates have changed places: {_noise_of(r)}. `rates` returns signal first, then noise.",
        ("Which of the two rates is 1 at row 0?", HALF_HINTS[1]),
    ),
    Mistake(
        "own noise",
        _begun(noisy=lambda x0, a, s, eps: a * x0 + s * torch.randn_like(x0)),
        "You draw new noise, and `eps` has no effect: with the noise that comes in, the same call gives the same "
        "picture again.",
        ("Which of the arguments does your function not use?", HALF_HINTS[1]),
    ),
    Mistake(
        "rounded down",
        _begun(rest=lambda rows, left, strength: rows[-max(1, int(strength * (len(rows) - 1))) - 1 :]),
        "You cut off the digits behind the point (as diffusers does); asked for is rounding: 7.8 steps are 8.",
        ("What is int(7.8), and what is round(7.8)?", HALF_HINTS[1]),
    ),
    Mistake(
        "nothing left to walk",
        _without_least,
        "At the smallest strengths no step is left: at least one must be.",
        ("What is round(0.2)?", HALF_HINTS[1]),
    ),
]

# ---- 15.6 keep what is known ----


def keep_known(x_next, x0, mask, t_next, schedule, eps):
    anew = max_pool2d(mask, mask.shape[-1] // x0.shape[-1])  # (B, 1, h, w)
    a, s = schedule.rates(t_next, x0)
    return anew * x_next + (1 - anew) * (a * x0 + s * eps)


def _kept(
    shrink=lambda mask, k: max_pool2d(mask, k),
    known=lambda x0, a, s, eps: a * x0 + s * eps,
    join=lambda anew, x, known: anew * x + (1 - anew) * known,
    row=lambda t, T: t,
):
    """A student's inpainting with another small mask, another known part, or another mixture."""

    def function(x_next, x0, mask, t_next, schedule, eps):
        a, s = schedule.rates(row(t_next, schedule.T), x0)
        small = shrink(mask, mask.shape[-1] // x0.shape[-1])
        return join(small, x_next, known(x0, a, s, eps))

    return function


def _noise_on_both(x_next, x0, mask, t_next, schedule, eps):
    anew = max_pool2d(mask, mask.shape[-1] // x0.shape[-1])
    a, s = schedule.rates(t_next, x0)
    return a * (anew * x_next + (1 - anew) * x0) + s * eps


def _known_by_alpha_bar(x_next, x0, mask, t_next, schedule, eps):
    anew, kept = max_pool2d(mask, mask.shape[-1] // x0.shape[-1]), schedule.alpha_bar[t_next]
    return anew * x_next + (1 - anew) * (kept.sqrt() * x0 + (1 - kept).sqrt() * eps)


def _rounded_mean(mask, k):
    return _mean(mask, k).round()


def _corner(mask, k):
    return mask[..., : mask.shape[-2] // k, : mask.shape[-1] // k]


def _mean(mask, k):
    return mask.unfold(2, k, k).unfold(3, k, k).mean((-2, -1))


def _smallest(mask, k):
    return -max_pool2d(-mask, k)


def _mask(b, side, *boxes):
    """A mask of 1 in boxes (top, bottom, left, right)."""
    mask = torch.zeros(b, 1, side, side)
    for top, bottom, left, right in boxes:
        mask[..., top:bottom, left:right] = 1
    return mask


def _inpaint_cases():
    right = _mask(1, 16, (0, 16, 8, 16))
    for seed, (label, n, h, mask, t, schedule) in enumerate(
        [
            ("a part at t = 400", 2, 4, _mask(2, 16, (0, 16, 9, 16), (3, 6, 0, 2)), 400, linear_beta()),
            ("another part of each", 2, 4, torch.cat([right, _mask(1, 16, (0, 3, 0, 3))]), 300, linear_beta()),
            ("the last step, t = 0", 2, 4, _mask(2, 16, (2, 9, 0, 7)), 0, linear_beta()),
            ("eight pixels to a cell", 1, 3, _mask(1, 24, (5, 20, 11, 12)), 30, cosine(50)),
            ("nothing is known", 1, 4, _mask(1, 16, (0, 16, 0, 16)), 700, linear_beta()),
            ("another schedule", 3, 4, _mask(3, 8, (1, 2, 1, 5)), 250, flow()),
            ("a cell for each pixel", 1, 4, _mask(1, 4, (0, 2, 1, 3)), 600, flow()),
        ]
    ):
        x, x0, eps = (_draw(n, 4, h, h, seed=110 + 3 * seed + k) for k in range(3))
        yield Case(label, x, 2 * x0, mask, t, schedule, eps)
    wide = _mask(2, 16, (0, 8, 3, 5))[..., :8, :]
    x, x0, eps = (_draw(2, 4, 2, 4, seed=140 + k) for k in range(3))
    yield Case("a picture wider than high", x, x0, wide, 20, cosine(100), eps)


KEEP_HINTS = (
    "Three things: a mask of the latents' size, the known latents with the noise of t_next, and a mixture by the mask.",
    "anew = max_pool2d(mask, k); anew * x_next + (1 - anew) * (a * x0 + s * eps), with a, s = schedule.rates(t_next, "
    "x0).",
)
KEEP_MISTAKES = [
    Mistake(
        "mask inverted",
        _kept(join=lambda anew, x, known: (1 - anew) * x + anew * known),
        "Your mask works the other way round: what should be drawn anew is kept, and all around it is redrawn. Here 1 "
        "means anew.",
        ("What does the mask say where something is to be drawn?", KEEP_HINTS[1]),
    ),
    Mistake(
        "known part clean",
        _kept(known=lambda x0, a, s, eps: x0 + 0 * eps),
        lambda r: (
            "You put the known part back clean: beside it the network sees noise, and is told of noise "
            f"everywhere. Off by {_off(r)} on average. Right at t_next = 0 alone."
        ),
        ("How much noise has x_next?", KEEP_HINTS[1]),
    ),
    Mistake(
        "noise of T",
        _kept(row=lambda t, T: T),
        "You give the known part the noise of row T at every step, so that at the end the known part is noise.",
        ("Which row has x_next arrived at?", KEEP_HINTS[1]),
    ),
    Mistake(
        "noise of the next row up",
        _kept(row=lambda t, T: min(t + 1, T)),
        "Your known part has the noise of row t_next + 1. At t_next = 0 it should be clean, and is not.",
        ("How noisy is the known part at t_next = 0?", KEEP_HINTS[1]),
    ),
    Mistake(
        "row too clean",
        _kept(row=lambda t, T: max(t - 1, 0)),
        "Your known part has the noise of row t_next - 1: diffusers counts from 0, our schedule has a clean row 0.",
        ("Which row has x_next arrived at?", KEEP_HINTS[1]),
    ),
    Mistake(
        "mask at picture size",
        _kept(shrink=lambda mask, k: mask),
        "Your mask still has the picture's size: latents have fewer cells, so shrink it first.",
        ("What are the shapes of mask and x_next?", KEEP_HINTS[1]),
    ),
    Mistake(
        "corner of the mask",
        _kept(shrink=_corner),
        "You cut the upper left corner out of the mask. It has to be shrunk, each cell from the pixels that it "
        "stands for.",
        ("Which pixels does the last cell of the latents stand for?", KEEP_HINTS[1]),
    ),
    Mistake(
        "every k-th pixel",
        _kept(shrink=lambda mask, k: mask[..., ::k, ::k]),
        "You look at one pixel of each square only: what lies between is missed, and a thin line would vanish.",
        ("What if one pixel only of a square is to be drawn anew?", KEEP_HINTS[1]),
    ),
    Mistake(
        "mean of the mask",
        _kept(shrink=_mean),
        "Your small mask holds shares such as 0.25, so that at the border two pictures are blended. A cell is drawn "
        "anew if any of its pixels is.",
        ("Which values may the small mask have?", KEEP_HINTS[1]),
    ),
    Mistake(
        "all pixels of a square",
        _kept(shrink=_smallest),
        "You redraw a cell only if *all* of its pixels are to be drawn anew, so a seam of the old picture stays.",
        ("What if one pixel only of a square is to be drawn anew?", KEEP_HINTS[1]),
    ),
    Mistake(
        "mean of the mask, rounded",
        _kept(shrink=_rounded_mean),
        "You redraw a cell only if more than half of its pixels are to be drawn anew. One of them is enough, or a seam "
        "of the old picture stays.",
        ("What if one pixel only of a square is to be drawn anew?", KEEP_HINTS[1]),
    ),
    Mistake(
        "noise on both parts",
        _noise_on_both,
        lambda r: (
            "You add noise to the mixture, so x_next gets noise a second time: it has its own already. Only the known "
            f"part is clean and needs some. Off by {_off(r)} on average."
        ),
        ("Which of the two parts comes in without noise?", KEEP_HINTS[1]),
    ),
    Mistake(
        "own noise",
        _kept(known=lambda x0, a, s, eps: a * x0 + s * torch.randn_like(x0)),
        "You draw new noise, and `eps` has no effect: use the noise that comes in, so that the same call gives the "
        "same picture again.",
        ("Which of the arguments does your function not use?", KEEP_HINTS[1]),
    ),
    Mistake(
        "rates exchanged",
        _kept(known=lambda x0, a, s, eps: s * x0 + a * eps),
        "The two rates have changed places: at t_next = 0 your known part is pure noise. `rates` returns signal "
        "first, then noise.",
        ("Which of the two rates is 1 at row 0?", KEEP_HINTS[1]),
    ),
    Mistake(
        "alpha_bar for rates",
        _known_by_alpha_bar,
        "Right for most schedules, wrong for flow(): there signal and noise are no roots of alpha_bar and 1 - "
        "alpha_bar, for the variance does not stay 1. `schedule.rates` is right for all.",
        ("Which call gives signal and noise of a row for every schedule?", KEEP_HINTS[1]),
    ),
    Mistake(
        "added",
        _kept(join=lambda anew, x, known: x + (1 - anew) * known),
        lambda r: f"You add the known part to x_next, which is still there: two pictures at once. Off by {_off(r)}.",
        ("What should be left of x_next where the picture is known?", KEEP_HINTS[1]),
    ),
    Mistake(
        "signal not lowered",
        _kept(known=lambda x0, a, s, eps: x0 + s * eps),
        lambda r: f"The known part has noise, but its signal is not lowered: a * x0. Off by {_off(r)} on average.",
        ("What was the jump of lesson 01?", KEEP_HINTS[1]),
    ),
]

# ---- 15.7 how much memory ----


def gib_needed(weights, dtype, working):
    return (weights * dtype.itemsize + working) / 2**30


def _plain_number(gib_needed, weights, dtype, working):
    """Call a student's function; a tensor, which `round` refuses in the lesson, is refused here as well."""
    result = gib_needed(weights, dtype, working)
    if isinstance(result, torch.Tensor):
        raise TypeError("the result is a tensor, where a float was asked for")
    return result


def _in_gib(report):
    return f"{report.got:.2f} where it should be {report.expected:.2f} GiB"


GIB_CASES = [
    Case("a billion weights in half precision, 1 GiB of work", 10**9, torch.float16, 2**30),
    Case("Stable Diffusion 1.5 in single precision", 1_066_235_307, torch.float32, 700_000_000),
    Case("in double precision, no work", 5 * 10**8, torch.float64, 0),
    Case("in eight bits", 7 * 10**9, torch.int8, 3 * 2**29),
    Case("work alone", 0, torch.bfloat16, 3 * 10**9),
]
GIB_HINTS = (
    "First bytes: so many weights, each of so many bytes, and the work. Then divide once.",
    "(weights * dtype.itemsize + working) / 2**30",
)
GIB_MISTAKES = [
    Mistake(
        "bits for bytes",
        lambda weights, dtype, working: (weights * dtype.itemsize * 8 + working) / 2**30,
        lambda r: f"You count bits: {_in_gib(r)}. float16 has 16 bits, which are 2 bytes.",
        ("How many bytes has one float16?", GIB_HINTS[1]),
    ),
    Mistake(
        "brackets missing",
        lambda weights, dtype, working: weights * dtype.itemsize + working / 2**30,
        "Only the work is divided: `/` comes before `+`. Put brackets around the sum of the bytes, then divide.",
        ("What is 1 + 2 / 2 in Python?", GIB_HINTS[1]),
    ),
    Mistake(
        "2^30",
        lambda weights, dtype, working: (weights * dtype.itemsize + working) / (2 ^ 30),
        "You divide by `2^30`, which is 28: in Python `^` compares bits, and a power is written `2**30`.",
        ("What does `print(2 ^ 30, 2**30)` show?", GIB_HINTS[1]),
    ),
    Mistake(
        "2 bytes or else 4",
        lambda weights, dtype, working: (weights * (2 if dtype == torch.float16 else 4) + working) / 2**30,
        "You know float16 alone, and take 4 bytes for every other dtype: float64 has 8, bfloat16 has 2, int8 has 1. "
        "The dtype knows it: `dtype.itemsize`.",
        ("How many bytes has one float64?", GIB_HINTS[1]),
    ),
    Mistake(
        "a tensor",
        lambda weights, dtype, working: torch.tensor((weights * dtype.itemsize + working) / 2**30),
        "You return a tensor; asked for is a float, as Python's own reckoning gives it. (`.item()` makes one of a "
        "tensor with one number.)",
        ("Is a tensor needed anywhere in your function?", GIB_HINTS[1]),
    ),
    Mistake(
        "bits and work in bits",
        lambda weights, dtype, working: (weights * dtype.itemsize + working) * 8 / 2**30,
        lambda r: f"Your result is in gibibits: {_in_gib(r)}.",
        ("How many bits has a byte?", GIB_HINTS[1]),
    ),
    Mistake(
        "GB for GiB",
        lambda weights, dtype, working: (weights * dtype.itemsize + working) / 10**9,
        lambda r: f"These are GB, a thousand million bytes: {_in_gib(r)}. A card of 4 GB has 4 GiB, 7 % more.",
        ("How many bytes has a GiB?", GIB_HINTS[1]),
    ),
    Mistake(
        "work forgotten",
        lambda weights, dtype, working: weights * dtype.itemsize / 2**30,
        lambda r: (
            f"The weights are not all: {_in_gib(r)}. Whoever forgets the work runs out of memory at the first step."
        ),
        ("Which of the arguments does your function not use?", GIB_HINTS[1]),
    ),
    Mistake(
        "always 4 bytes",
        lambda weights, dtype, working: (weights * 4 + working) / 2**30,
        lambda r: f"You take 4 bytes for every dtype: {_in_gib(r)}.",
        ("How many bytes has one float16?", GIB_HINTS[1]),
    ),
    Mistake(
        "always 2 bytes",
        lambda weights, dtype, working: (weights * 2 + working) / 2**30,
        lambda r: f"You take 2 bytes for every dtype: {_in_gib(r)}.",
        ("How many bytes has one float32?", GIB_HINTS[1]),
    ),
    Mistake(
        "work in GiB",
        lambda weights, dtype, working: weights * dtype.itemsize / 2**30 + working,
        "You add the work in bytes to the weights in GiB: the work is divided as well.",
        ("In which unit does `working` come?", GIB_HINTS[1]),
    ),
    Mistake(
        "work times bytes",
        lambda weights, dtype, working: (weights + working) * dtype.itemsize / 2**30,
        lambda r: f"`working` comes in bytes already, and you multiply it once more: {_in_gib(r)}.",
        ("In which unit does `working` come?", GIB_HINTS[1]),
    ),
    Mistake(
        "MiB",
        lambda weights, dtype, working: (weights * dtype.itemsize + working) / 2**20,
        "These are MiB, 2**20 bytes; a GiB is 2**30.",
        ("How many bytes has a GiB?", GIB_HINTS[1]),
    ),
    Mistake(
        "whole GiB",
        lambda weights, dtype, working: (weights * dtype.itemsize + working) // 2**30,
        "`//` cuts off what is behind the point: 2.86 GiB would become 2.",
        ("What is 3 // 2 in Python?", GIB_HINTS[1]),
    ),
]

# ---- 15.8 which dtype ----


def choose_dtype(device):
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32


def _chosen(on_cuda, elsewhere):
    return lambda device: on_cuda if torch.device(device).type == "cuda" else elsewhere


def _on_a_machine(choose_dtype, device, has_gpu):
    """Choose where torch says of every GPU that it is there, or is not: no verdict hangs on the machine that asks."""
    with (
        patch.object(torch.cuda, "is_available", lambda: has_gpu),
        patch.object(torch.cuda, "device_count", lambda: 16 * has_gpu),
        patch.object(torch.backends.mps, "is_available", lambda: has_gpu),
    ):
        return choose_dtype(device)


DTYPE_CASES = [
    Case(f"the device {device!r}, where torch reports {'a' if has_gpu else 'no'} GPU", device, has_gpu)
    for has_gpu in (True, False)
    for device in ("cuda", "cpu", "cuda:1", "mps", "cpu:0", "cuda:0", "cuda:7", "cuda:12")
]
MACHINE = (
    "Your answer depends on the machine that asks: without a GPU, {what} gets single precision from you. The name "
    "alone decides, for the weights may be meant for another machine."
)
DTYPE_HINTS = (
    "Two questions: is it a CUDA device, whatever its number? And what does torch call half precision?",
    'torch.float16 if torch.device(device).type == "cuda" else torch.float32',
)
DTYPE_MISTAKES = [
    Mistake(
        "a string",
        _chosen("float16", "float32"),
        'You return a string, "float16". diffusers drops a string for a dtype, with a line in the log, and loads '
        "single "
        "precision: return torch.float16 itself.",
        ("What is the type of `torch.float16`, and what is that of yours?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "torch's name in a string",
        _chosen("torch.float16", "torch.float32"),
        "You return a string that looks like a dtype: take away the quotation marks.",
        ("What is the type of `torch.float16`, and what is that of yours?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "half everywhere",
        lambda device: torch.float16,
        "You choose half precision everywhere: a processor without instructions for it gets slower, and the page asks "
        "for single precision there.",
        ("What did the page ask for elsewhere?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "single everywhere",
        lambda device: torch.float32,
        "Every device gets single precision from you, CUDA too: on a card of 4 GB the weights of Stable Diffusion "
        "would leave no room. (If your line does compare, it never finds the two equal: `==` compares texts, `is` "
        "does not, and a torch.device is no text, but its `.type` is.)",
        ("Which of the devices can save half of the memory?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "asks the machine, too",
        lambda device: torch.float16 if torch.cuda.is_available() and "cuda" in device else torch.float32,
        MACHINE.format(what='"cuda"'),
        ("What does your function use beside its argument?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "asks the machine alone",
        lambda device: torch.float16 if torch.cuda.is_available() else torch.float32,
        MACHINE.format(what='"cuda"') + ' And with a GPU "cpu" gets half precision.',
        ("Which of the arguments does your function not use?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "names listed",
        lambda device: torch.float16 if device in ("cuda", "cuda:0", "cuda:1") else torch.float32,
        'You list the names of CUDA devices, and a machine may have more of them, "cuda:7" for example: compare the '
        "type, not the whole name.",
        ('What is `torch.device("cuda:7").type`?', DTYPE_HINTS[1]),
    ),
    Mistake(
        "first GPU only",
        lambda device: torch.float16 if device == "cuda" else torch.float32,
        '"cuda:1" is a CUDA device as well, and you give it single precision: compare the type, not the whole name.',
        ('What is `torch.device("cuda:1").type`?', DTYPE_HINTS[1]),
    ),
    Mistake(
        "bfloat16",
        _chosen(torch.bfloat16, torch.float32),
        "bfloat16 takes as little memory, but has 8 binary digits where float16 has 11 (you measured the "
        "difference), and older GPUs lack it.",
        ("Which dtype of 16 bits was asked for?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "the other way round",
        _chosen(torch.float32, torch.float16),
        "The other way round: half precision is for the GPU.",
        ("Which of the devices computes well in half precision?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "double elsewhere",
        _chosen(torch.float16, torch.float64),
        "float64 is double precision, twice the memory of single: a processor gets float32.",
        ("How many bits has single precision?", DTYPE_HINTS[1]),
    ),
    Mistake(
        "all but the processor",
        lambda device: torch.float32 if torch.device(device).type == "cpu" else torch.float16,
        "You give half precision to every device but the processor. Asked for is CUDA alone: on Apple's GPUs, "
        '"mps", the course stays with single precision.',
        ("Which devices are neither CUDA nor a processor?", DTYPE_HINTS[1]),
    ),
]

EXERCISES = catalogue(
    Exercise(
        number="15.1", name="token_row", reference=token_row, cases=TOKEN_CASES, mistakes=TOKEN_MISTAKES,
        hints=TOKEN_HINTS, right="short texts, long ones and none at all: framed, cut and filled up.",
    ),
    Exercise(
        number="15.2", name="decode_latents", reference=decode_latents, cases=DECODE_CASES, mistakes=DECODE_MISTAKES,
        hints=DECODE_HINTS, right="three factors, small latents and far ones, cut off at -1 and 1.",
    ),
    Exercise(
        number="15.3", name="our_clock", reference=our_clock, cases=list(_clock_cases()), mistakes=CLOCK_MISTAKES,
        use=_with_whole_rows, atol=1e-9, rtol=0.0, hints=CLOCK_HINTS,
        right="a clean row in front, every level at its row, and a last step to clean data.",
    ),
    Exercise(
        number="15.4", name="guided_output", reference=guided_output, cases=list(_guided_cases()),
        mistakes=GUIDE_MISTAKES, hints=GUIDE_HINTS, atol=1e-5,
        right="scale 0, 1 and far beyond, one picture and several.",
    ),
    Exercise(
        number="15.5", name="begin_half_way", reference=begin_half_way, cases=list(_half_way_cases()),
        mistakes=HALF_MISTAKES, hints=HALF_HINTS, right="strengths from next to nothing to 1, each with the noise of "
        "its row.",
    ),
    Exercise(
        number="15.6", name="keep_known", reference=keep_known, cases=list(_inpaint_cases()), mistakes=KEEP_MISTAKES,
        hints=KEEP_HINTS, right="the known part with the noise of each row, and clean at the end; the rest as it was "
        "drawn.",
    ),
    Exercise(
        number="15.7", name="gib_needed", reference=gib_needed, cases=GIB_CASES, mistakes=GIB_MISTAKES, hints=GIB_HINTS,
        use=_plain_number, right="weights of every dtype, and the work beside them.",
    ),
    Exercise(
        number="15.8", name="choose_dtype", reference=choose_dtype, cases=DTYPE_CASES, mistakes=DTYPE_MISTAKES,
        use=_on_a_machine, hints=DTYPE_HINTS, right="half precision on every CUDA device, single elsewhere, on "
        "whatever machine it is asked.",
    ),
)  # fmt: skip
