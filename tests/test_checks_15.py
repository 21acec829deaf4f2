"""Lesson 15's checks: wrong answers, written as a student would write them, each get their own sentence."""

import math

import pytest
import torch
from miniature_made_up import pipeline
from torch.nn import functional

from course_lib import schedules
from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_15 import EXERCISES
from course_lib.pretrained import open_pipeline, times
from course_lib.samplers import ddim_step, sample


def verdict(number, function):
    return diagnose(EXERCISES[number], function)


def known(number, answers):
    return [pytest.param(number, name, function, id=f"{number}: {name}") for name, function in answers.items()]


# ---- right answers in other words ----


def row_by_loop(words, length, start, end):
    out = torch.full((length,), end)
    out[0] = start
    for place, word in enumerate(words, 1):
        if place < length - 1:
            out[place] = word
    return out


def decode_by_index(autoencoder, z):
    k = 1 / autoencoder.config.scaling_factor
    x = autoencoder.decode(k * z)[0]
    return torch.minimum(torch.maximum(x, torch.tensor(-1.0)), torch.tensor(1.0))


def clock_by_pad(table, steps):
    rows = [*steps, -1]
    return functional.pad(table, (1, 0), value=1.0), [row + 1 for row in rows]


def guided_by_two_calls(net, x, timestep, null, text, scale):
    a = net(x, timestep, encoder_hidden_states=null)[0]
    b = net(x, timestep, encoder_hidden_states=text)[0]
    return (1 - scale) * a + scale * b


def half_way_by_index(x, share, sch, rows, z):
    n = len(rows) - 1
    first = min(n - round(n * share), n - 1)
    now = rows[first]
    return sch.signal_rate[now].float() * x + sch.noise_rate[now].float() * z, rows[first:]


def known_by_where(x, clean, mask, row, sch, z):
    k = mask.shape[2] // x.shape[2]
    new = mask.unfold(2, k, k).unfold(3, k, k).flatten(4).amax(4) > 0
    return torch.where(new, x, sch.add_noise(clean, torch.full((len(x),), row), z))


def gib_by_info(count, kind, work):
    size = torch.empty(0, dtype=kind).element_size()
    return count / 1024**3 * size + work / 1024 / 1024 / 1024


def dtype_by_name(where):
    return torch.half if where.startswith("cuda") else torch.float


@pytest.mark.parametrize(
    ("number", "function"),
    [
        ("15.1", row_by_loop),
        ("15.2", decode_by_index),
        ("15.3", clock_by_pad),
        ("15.4", guided_by_two_calls),
        ("15.5", half_way_by_index),
        ("15.6", known_by_where),
        ("15.7", gib_by_info),
        ("15.8", dtype_by_name),
    ],
)
def test_other_words_are_right_too(number, function):
    found = verdict(number, function)
    assert found.passed, str(found)


def two_halves(both, scale):
    a, b = both.chunk(2)
    return a + scale * (b - a)


DIFFUSERS = {  # how diffusers' own pipeline, and the web, ask its networks: number, function
    "15.2: return_dict": lambda vae, z: vae.decode(z / vae.config.scaling_factor, return_dict=False)[0].clamp(-1, 1),
    "15.2: return_dict and a generator": lambda vae, z: (
        vae.decode(z / vae.config["scaling_factor"], return_dict=False, generator=None)[0].clamp(-1, 1)
    ),
    "15.2: config by key": lambda vae, z: vae.decode(z / vae.config["scaling_factor"]).sample.clamp(-1, 1),
    "15.2: config by get": lambda vae, z: vae.decode(z / vae.config.get("scaling_factor")).sample.clamp(-1, 1),
    "15.2: dtype": lambda vae, z: vae.decode((z / vae.config.scaling_factor).to(vae.dtype))["sample"].clamp(-1, 1),
    "15.4: return_dict": lambda net, x, t, null, text, w: two_halves(
        net(torch.cat([x] * 2), t, encoder_hidden_states=torch.cat([null, text]), return_dict=False)[0], w
    ),
    "15.4: by place and key": lambda net, x, t, null, text, w: two_halves(
        net(torch.cat([x] * 2).to(net.device, net.dtype), t, torch.cat([null, text]))["sample"], w
    ),
    "15.4: forward": lambda net, x, t, null, text, w: two_halves(
        net.forward(sample=x.repeat(2, 1, 1, 1), timestep=t, encoder_hidden_states=torch.cat([null, text])).sample, w
    ),
    "15.4: in pairs": lambda net, x, t, null, text, w: two_halves(
        net(
            x.repeat_interleave(2, 0), t, encoder_hidden_states=torch.stack([null, text], 1).flatten(0, 1)
        ).sample.unflatten(0, (-1, 2)).transpose(0, 1).flatten(0, 1),
        w,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFUSERS)
def test_what_works_on_the_real_networks_is_right(pipe, name):
    number, function = name[:4], DIFFUSERS[name]
    found = verdict(number, function)
    assert found.passed, str(found)
    draw = torch.Generator().manual_seed(5)
    z = torch.randn(2, 4, 8, 8, generator=draw)
    width = pipe.unet.config.cross_attention_dim
    null, text = torch.randn(2, 2, 7, width, generator=draw)
    inputs = {"15.2": (pipe.vae, z), "15.4": (pipe.unet, z, 300, null, text, 2.0)}[number]
    with torch.no_grad():
        assert torch.allclose(function(*inputs), EXERCISES[number].reference(*inputs), atol=1e-5)


@pytest.mark.parametrize("there", [True, False])
def test_the_dtype_s_verdict_does_not_depend_on_the_machine(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(there))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    assert verdict("15.8", dtype_by_name).passed
    for name in ("asks the machine, too", "asks the machine alone"):
        found = verdict("15.8", DTYPES[name])
        assert found.name == name and "depends on the machine that asks" in found.says
    counted = verdict("15.8", lambda d: torch.half if "cuda" in d and torch.cuda.device_count() else torch.float)
    apple = verdict("15.8", lambda d: torch.half if "cuda" in d or torch.backends.mps.is_available() else torch.float)
    assert counted.name == "asks the machine, too" and apple.state == "wrong"
    assert torch.cuda.is_available() is there and torch.cuda.device_count() == int(there)


# ---- the course's own answers are diffusers' and the library's ----


@pytest.fixture(scope="module")
def pipe():
    return pipeline("v_prediction")


@pytest.mark.parametrize("text", ["", "a red ball", "a blue box on the left of the red ball and the box on the right"])
def test_a_row_of_tokens_is_the_tokenizer_s(pipe, text):
    words = pipe.tokenizer
    ids = words.convert_tokens_to_ids(words.tokenize(text))
    row = EXERCISES["15.1"].reference(ids, words.model_max_length, words.bos_token_id, words.eos_token_id)
    theirs = words(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]
    assert torch.equal(row, theirs)


def test_decoded_latents_are_the_codec_s(pipe):
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    _, _, codec = open_pipeline(pipe, "a")
    with torch.no_grad():
        assert torch.allclose(EXERCISES["15.2"].reference(pipe.vae, z), codec.decode(z), atol=1e-6)


def test_the_clock_is_the_library_s(pipe):
    pipe.scheduler.set_timesteps(5)
    table, rows = EXERCISES["15.3"].reference(pipe.scheduler.alphas_cumprod, pipe.scheduler.timesteps.tolist())
    _, schedule, _ = open_pipeline(pipe, "a")
    assert torch.allclose(table.double(), schedule.alpha_bar, atol=1e-7)
    assert rows[:5] == times(pipe, 5)[:5] and rows[5:] == [0]


def test_guided_output_is_what_the_library_s_predictor_says(pipe):
    texts = ["a red ball", "a blue box"]
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    text, null = pipe.encode_prompt(texts, torch.device("cpu"), 1, True, ["", ""])
    with torch.no_grad():
        v = EXERCISES["15.4"].reference(pipe.unet, x, 500, null, text, 3.0)
    predict, schedule, _ = open_pipeline(pipe, texts, scale=3.0)
    a, s = schedule.rates(501, x)
    assert torch.allclose(a * x - s * v, predict(x, torch.tensor([501, 501])).x0, atol=1e-5)


def test_half_way_at_full_strength_is_the_whole_walk_and_mixes_like_add_noise(pipe):
    schedule = schedules.linear_beta()
    rows, x0 = schedule.steps(10), torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    eps = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    start, rest = EXERCISES["15.5"].reference(x0, 1.0, schedule, rows, eps)
    assert rest == rows and torch.allclose(start, eps, atol=0.05)
    half, rest = EXERCISES["15.5"].reference(x0, 0.5, schedule, rows, eps)
    assert rest == rows[5:] and torch.allclose(half, schedule.add_noise(x0, torch.tensor([500] * 3), eps), atol=1e-6)


def test_a_known_picture_comes_through_inpainting_untouched(pipe):
    """Nothing masked: after the last step, to row 0, the latents are the known ones, whatever the network says."""
    predict, schedule, _ = open_pipeline(pipe, "a red ball")
    x0, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    x = sample(ddim_step, predict, schedule, eps, [1000, 500, 0])
    kept = EXERCISES["15.6"].reference(x, x0, torch.zeros(1, 1, 16, 16), 0, schedule, eps)
    assert torch.equal(kept, x0) and not torch.allclose(x, x0, atol=0.1)


# ---- wrong answers ----


def framed(words, length, start, end, fill=None, cut=lambda words, length: words[: length - 2], first=True):
    row = ([start] if first else []) + list(cut(words, length))
    row.append(end)
    while len(row) < length:
        row.append(end if fill is None else fill)
    return torch.as_tensor(row)


ROWS = {
    "end cut off": lambda w, n, s, e: torch.tensor(([s] + w + [e] * n)[:n]),
    "start missing": lambda w, n, s, e: framed(w, n, s, e, cut=lambda w, n: w[: n - 1], first=False),
    "filled with 0": lambda w, n, s, e: functional.pad(torch.tensor([s, *w[: n - 2], e]), (0, n - len(w[: n - 2]) - 2)),
    "filled with start": lambda w, n, s, e: framed(w, n, s, e, fill=s),
    "filled in front": lambda w, n, s, e: functional.pad(
        torch.tensor([s, *w[: n - 2], e]), (n - len(w[: n - 2]) - 2, 0), value=e
    ),
    "not filled up": lambda w, n, s, e: torch.tensor([token for part in ([s], w[: n - 2], [e]) for token in part]),
    "not cut": lambda w, n, s, e: framed(w, n, s, e, cut=lambda w, n: w),
    "one word too few": lambda w, n, s, e: framed(w, n, s, e, cut=lambda w, n: w[: n - 3]),
    "one word too few, the filling ends it": lambda w, n, s, e: functional.pad(
        torch.tensor([s, *w[: n - 3]]), (0, n - 1 - len(w[: n - 3])), value=e
    ),
    "one word too many": lambda w, n, s, e: framed(w, n, s, e, cut=lambda w, n: w[: n - 1]),
    "start and end exchanged": lambda w, n, s, e: framed(w, n, e, s),
    "75 by hand": lambda w, n, s, e: framed(w, n, s, e, cut=lambda w, n: w[:75]),
    "75 and 77 by hand": lambda w, n, s, e: framed(w, 77, s, e),
}


def pixels(divide=1, after=lambda x: torch.clip(x, -1, 1)):
    def function(net, z):
        k = net.config.scaling_factor
        return after(net.decode(z * k**-divide).sample)

    return function


PIXELS = {
    "factor forgotten": pixels(0),
    "multiplied": pixels(-1),
    "scaled twice": pixels(2),
    "picture scaled": lambda net, z: torch.clip(net.decode(z)[0] * (1 / net.config.scaling_factor), -1, 1),
    "both scaled": lambda net, z: pixels(after=lambda x: torch.clip(x / net.config.scaling_factor, -1, 1))(net, z),
    "not cut off": pixels(after=lambda x: x),
    "in 0..1": pixels(after=lambda x: torch.clip((1 + x) / 2, 0, 1)),
    "cut off at 0": pixels(after=lambda x: torch.clip(x, 0, 1)),
    "latents cut off": lambda net, z: torch.clip(
        net.decode(torch.clip(z, -1, 1) / net.config.scaling_factor)[0], -1, 1
    ),
    "Stable Diffusion's factor for all": lambda net, z: net.decode(z / 0.18215).sample.clip(-1, 1),
    "sample forgotten": lambda net, z: net.decode(z / net.config.scaling_factor),
    "object cut off": lambda net, z: net.decode(z / net.config.scaling_factor).clamp(min=-1, max=1),
}


def clock(front=(1.0,), shift=1, tail=(0,), behind=(), start=0):
    def function(table, steps):
        parts = [torch.tensor(list(part), dtype=table.dtype) for part in (front, behind)]
        return torch.cat([parts[0], table[start:], parts[1]]), [t + shift for t in steps] + list(tail)

    return function


CLOCKS = {
    "no shift": clock(shift=0),
    "shifted down": clock(shift=-1),
    "clean row missing": clock(front=()),
    "nothing changed": clock(front=(), shift=0),
    "0 for clean": clock(front=(0.0,)),
    "clean row behind": clock(front=(), behind=(1.0,)),
    "clean row written over": clock(start=1),
    "last step missing": clock(tail=()),
    "last step at 1": clock(tail=(1,)),
    "rows as floats": clock(shift=1.0),
    "what append returns": lambda table, steps: (
        functional.pad(table, (1, 0), value=1.0),
        [step + 1 for step in steps].append(0),
    ),
    "root taken": lambda table, steps: (functional.pad(table, (1, 0), value=1.0) ** 0.5, [t + 1 for t in steps] + [0]),
}


def guide(mix):
    def function(net, x, timestep, null, text, w):
        a = net(x, timestep, encoder_hidden_states=null).sample
        b = net(x, timestep, encoder_hidden_states=text).sample
        return mix(a, b, w, x)

    return function


def halves(order=(0, 1), doubled=True, axis=0):
    def function(net, x, timestep, null, text, w):
        texts = torch.cat([(null, text)[k] for k in order])
        out = net(x.repeat(2, 1, 1, 1) if doubled else x, timestep, encoder_hidden_states=texts).sample
        a, b = out.chunk(2, axis)
        return a + w * (b - a)

    return function


def in_turn(double, part):
    def function(net, x, timestep, null, text, w):
        a, b = part(net(double(x), timestep, torch.cat((null, text)), return_dict=False)[0])
        return w * b + (1 - w) * a

    return function


def unopened(net, x, timestep, null, text, w):
    both = net(x.repeat(2, 1, 1, 1), timestep, torch.cat((null, text)))
    return two_halves(both, w)


def unopened_twice(net, x, timestep, null, text, w):
    a, b = net(x, timestep, null), net(x, timestep, text)
    return a + w * (b - a)


def twice(x):
    return torch.cat([x] * 2)


def one_by_one(x):
    return x[:, None].expand(-1, 2, -1, -1, -1).flatten(0, 1)


def evens_and_odds(both):
    return both[0::2], both[1::2]


GUIDES = {
    "joined by channel": lambda net, x, t, null, text, w: two_halves(
        net(torch.cat([x, x], dim=1), t, encoder_hidden_states=torch.cat([null, text])).sample, w
    ),
    "every other row": in_turn(twice, evens_and_odds),
    "latents doubled one by one": in_turn(one_by_one, lambda both: both.chunk(2)),
    "doubled one by one, every other row": in_turn(one_by_one, evens_and_odds),
    "sign": guide(lambda a, b, w, x: a + w * (a - b)),
    "sample forgotten": unopened,
    "sample forgotten, two calls": unopened_twice,
    "wrong way round": guide(lambda a, b, w, x: w * a + (1 - w) * b),
    "the paper's w": guide(lambda a, b, w, x: (1 + w) * b - w * a),
    "one less": guide(lambda a, b, w, x: a + (w - 1) * (b - a)),
    "difference alone": guide(lambda a, b, w, x: w * b - w * a),
    "answer with the text, scaled": guide(lambda a, b, w, x: b * w),
    "difference missing": guide(lambda a, b, w, x: a + b * w),
    "no guidance": guide(lambda a, b, w, x: b),
    "embeddings mixed": lambda net, x, t, null, text, w: (
        net(x, t, encoder_hidden_states=(1 - w) * null + w * text).sample
    ),
    "latents not doubled": halves(doubled=False),
    "cut by channel": halves(axis=1),
    "from the latents": guide(lambda a, b, w, x: (1 - w) * x + w * b),
}


def test_halves_exchanged_are_guidance_the_wrong_way_round():
    found = verdict("15.4", halves(order=(1, 0)))
    assert found.name == "wrong way round" and "two halves of the batch" in found.says


def begun(mix=lambda x, a, s, z: x * a + z * s, steps=None, at=lambda rest, rows: rest[0]):
    """A student's start, with plain numbers out of the tables."""

    def function(x, share, sch, rows, z):
        n = len(rows) - 1
        k = max(round(n * share), 1)
        rest = rows[n - k :] if steps is None else steps(rows, n, k, share)
        row = at(rest, rows)
        return mix(x, float(sch.signal_rate[row]), float(sch.noise_rate[row]), z), rest

    return function


def mixed_by_strength(x, share, sch, rows, z):
    _, rest = begun()(x, share, sch, rows, z)
    return x + share * (z - x), rest


def noise_at_strength_times_t(x, share, sch, rows, z):
    _, rest = begun()(x, share, sch, rows, z)
    row = int(max(1, round(sch.T * share)))
    return float(sch.signal_rate[row]) * x + float(sch.noise_rate[row]) * z, rest


def by_alpha_bar(root):
    def function(x, share, sch, rows, z):
        _, rest = begun()(x, share, sch, rows, z)
        kept = float(sch.alpha_bar[rest[0]])
        return root(kept) * x + root(1 - kept) * z, rest

    return function


STARTS = {
    "one row too few": begun(steps=lambda rows, n, k, share: rows[n + 1 - k :]),
    "rounded up": begun(steps=lambda rows, n, k, share: rows[n - math.ceil(n * share) :]),
    "alpha_bar for rates": by_alpha_bar(math.sqrt),
    "alpha_bar without roots": by_alpha_bar(float),
    "rates exchanged": begun(mix=lambda x, a, s, z: x * s + z * a),
    "own noise": begun(mix=lambda x, a, s, z: x * a + torch.randn(x.shape) * s),
    "noise of the first row": begun(at=lambda rest, rows: max(rows)),
    "no noise": begun(mix=lambda x, a, s, z: x.clone()),
    "noise not matched": mixed_by_strength,
    "strength times T": noise_at_strength_times_t,
    "noise alone": begun(mix=lambda x, a, s, z: z * s),
    "picture not lowered": begun(mix=lambda x, a, s, z: x + z * s),
    "strength the other way": begun(steps=lambda rows, n, k, share: rows[n - max(1, round(n * (1 - share))) :]),
    "the first steps": begun(steps=lambda rows, n, k, share: rows[: k + 1]),
    "one step too few": begun(steps=lambda rows, n, k, share: rows[n - k + 1 :] if k > 1 else rows[-2:]),
    "rounded down": begun(steps=lambda rows, n, k, share: rows[n - max(1, int(n * share)) :]),
    "nothing left to walk": begun(steps=lambda rows, n, k, share: rows[n - round(n * share) :]),
}


def inpainted(
    small=lambda m, k: functional.max_pool2d(m, k, stride=k),
    row=lambda t, sch: t,
    noisy=lambda x, a, s, z: x * a + z * s,
    join=lambda m, new, old: torch.lerp(old, new, m),
):
    def function(x, clean, mask, t, sch, z):
        now = row(t, sch)
        old = noisy(clean, float(sch.signal_rate[now]), float(sch.noise_rate[now]), z)
        return join(small(mask, mask.shape[3] // clean.shape[3]), x, old)

    return function


PAINTS = {
    "mask inverted": inpainted(join=lambda m, new, old: new + m * (old - new)),
    "known part clean": inpainted(noisy=lambda x, a, s, z: x),
    "noise of T": inpainted(row=lambda t, sch: sch.T),
    "noise of the next row up": inpainted(row=lambda t, sch: t + 1),
    "row too clean": inpainted(row=lambda t, sch: t - 1 if t else 0),
    "mask at picture size": inpainted(small=lambda m, k: m),
    "corner of the mask": inpainted(small=lambda m, k: m[:, :, : m.shape[2] // k, : m.shape[3] // k]),
    "every k-th pixel": inpainted(small=lambda m, k: functional.interpolate(m, scale_factor=1 / k, mode="nearest")),
    "mean of the mask": inpainted(small=lambda m, k: functional.avg_pool2d(m, k)),
    "all pixels of a square": inpainted(small=lambda m, k: (functional.avg_pool2d(m, k) == 1).float()),
    "added": inpainted(join=lambda m, new, old: new + old - m * old),
    "signal not lowered": inpainted(noisy=lambda x, a, s, z: x + s * z),
    "mean of the mask, rounded": inpainted(small=lambda m, k: (functional.avg_pool2d(m, k) > 0.5).float()),
    "noise on both parts": lambda x, clean, mask, t, sch, z: (
        float(sch.signal_rate[t]) * inpainted(row=lambda t, sch: 0)(x, clean, mask, t, sch, z)
        + float(sch.noise_rate[t]) * z
    ),
    "own noise": inpainted(noisy=lambda x, a, s, z: a * x + s * torch.randn(x.shape)),
    "rates exchanged": inpainted(noisy=lambda x, a, s, z: s * x + a * z),
    "alpha_bar for rates": lambda x, clean, mask, t, sch, z: inpainted(
        noisy=lambda x, a, s, z: float(sch.alpha_bar[t]) ** 0.5 * x + (1 - float(sch.alpha_bar[t])) ** 0.5 * z
    )(x, clean, mask, t, sch, z),
}

GIBS = {
    "brackets missing": lambda n, kind, work: work / 1024**3 + n * kind.itemsize,
    "2^30": lambda n, kind, work: (work + n * kind.itemsize) / (2 ^ 30),
    "2 bytes or else 4": lambda n, kind, work: (n * {torch.half: 2}.get(kind, 4) + work) / 1024**3,
    "a tensor": lambda n, kind, work: torch.tensor(n * kind.itemsize + work, dtype=torch.float64) / 1024**3,
    "bits for bytes": lambda n, kind, work: (
        (n * torch.finfo(kind).bits if kind.is_floating_point else n * 8) / 2**30 + work / 2**30
    ),
    "bits and work in bits": lambda n, kind, work: 8 * (n * kind.itemsize + work) / 1024**3,
    "GB for GiB": lambda n, kind, work: (work + n * kind.itemsize) / 1e9,
    "work forgotten": lambda n, kind, work: n * kind.itemsize / 1024**3,
    "always 4 bytes": lambda n, kind, work: (4 * n + work) / 1024**3,
    "always 2 bytes": lambda n, kind, work: (2 * n + work) / 1024**3,
    "work in GiB": lambda n, kind, work: n * kind.itemsize / 1024**3 + work,
    "work times bytes": lambda n, kind, work: kind.itemsize * (n + work) / 1024**3,
    "MiB": lambda n, kind, work: (n * kind.itemsize + work) / 1024 / 1024,
    "whole GiB": lambda n, kind, work: float(int((n * kind.itemsize + work) / 1024**3)),
}

DTYPES = {
    "asks the machine, too": lambda where: (
        torch.half if where.startswith("cuda") and torch.cuda.is_available() else torch.float
    ),
    "asks the machine alone": lambda where: torch.half if torch.cuda.is_available() else torch.float,
    "names listed": lambda where: {"cuda": torch.half, "cuda:0": torch.half, "cuda:1": torch.half}.get(
        where, torch.float
    ),
    "a string": lambda where: "float16" if "cuda" in where else "float32",
    "torch's name in a string": lambda where: str(torch.half if "cuda" in where else torch.float),
    "half everywhere": lambda where: torch.half,
    "single everywhere": lambda where: torch.get_default_dtype(),
    "first GPU only": lambda where: {"cuda": torch.half}.get(where, torch.float),
    "bfloat16": lambda where: torch.bfloat16 if where[:4] == "cuda" else torch.float,
    "the other way round": lambda where: torch.float if where[:4] == "cuda" else torch.half,
    "double elsewhere": lambda where: torch.half if where[:4] == "cuda" else torch.double,
    "all but the processor": lambda where: torch.half if not where.startswith("cpu") else torch.float,
}

WRONG = [
    *known("15.1", ROWS), *known("15.2", PIXELS), *known("15.3", CLOCKS), *known("15.4", GUIDES),
    *known("15.5", STARTS), *known("15.6", PAINTS), *known("15.7", GIBS), *known("15.8", DTYPES),
]  # fmt: skip


@pytest.mark.parametrize(("number", "name", "function"), WRONG)
def test_wrong_answers_are_known(number, name, function):
    found = verdict(number, function)
    assert found.name == name, str(found)


def test_every_mistake_is_written_once_more_as_a_student_would():
    written = {(param.values[0], param.values[1]) for param in WRONG}
    assert written == {(number, m.name) for number, exercise in EXERCISES.items() for m in exercise.mistakes}


@pytest.mark.parametrize("cap", [lambda out: out.clamp(-10, 10), lambda out: out.clamp(-15, 15)])
def test_a_guided_output_that_is_cut_off_is_wrong(cap):
    assert verdict("15.4", lambda *inputs: cap(guided_by_two_calls(*inputs))).name == "numbers"


def test_a_scale_that_is_cut_off_is_wrong():
    capped = verdict("15.4", lambda *inputs: guided_by_two_calls(*inputs[:5], min(inputs[5], 8)))
    assert capped.name == "numbers" and '"scale 16, ' in capped.says


@pytest.mark.parametrize("row", [float, lambda t: torch.tensor(float(t)), str, lambda t: None])
def test_rows_that_are_no_whole_numbers_are_named(row):
    def rows_of_another_kind(table, steps):
        right, rows = clock_by_pad(table, steps)
        return right, [*map(row, rows)]

    assert verdict("15.3", rows_of_another_kind).name == "rows as floats"


@pytest.mark.parametrize("row", [torch.tensor, lambda t: torch.tensor(t).numpy()[()]])
def test_rows_that_a_table_takes_are_right(row):
    def rows_of_another_kind(table, steps):
        right, rows = clock_by_pad(table, steps)
        return right, [*map(row, rows)]

    assert verdict("15.3", rows_of_another_kind).passed


@pytest.mark.parametrize(
    "answer",
    [lambda table, steps: table, lambda table, steps: (clock_by_pad(table, steps)[0], 3), lambda table, steps: 0],
)
def test_a_clock_that_is_no_pair_of_table_and_list_is_told_so(answer):
    assert verdict("15.3", answer).name == "type"


def test_a_comparison_that_is_never_true_is_told_of_equality():
    found = verdict("15.8", lambda where: torch.half if torch.device(where) == "cuda" else torch.float)
    assert found.name == "single everywhere" and "`is` does not" in found.says


def test_a_sentence_measures_the_student_s_own_result():
    assert "Your list has 3 rows, which are 2 steps, where 3 steps" in verdict("15.5", STARTS["one row too few"]).says
    assert "deviation" in verdict("15.2", PIXELS["factor forgotten"]).says
    spoken = verdict("15.7", GIBS["bits for bytes"]).says
    assert "15.90 where it should be 2.86 GiB" in spoken
    assert "row 300 means" in verdict("15.5", STARTS["noise of the first row"]).says
