"""Lesson 03's checks: wrong answers, written as a student would write them, each get their own sentence."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own examples write it
from torch import nn

from course_lib import build
from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_03 import EXERCISES
from course_lib.models import unet
from course_lib.models.mlp import TimeEmbedding


def verdict(number, function):
    return diagnose(EXERCISES[number], function)


# ---- right answers in other words ----


def count_by_torch(channels_in, channels_out, kernel, size):
    layer = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    out = layer(torch.zeros(1, channels_in, size, size))
    return sum(p.numel() for p in layer.parameters()), layer.weight.numel() * out[0, 0].numel()


def waves_by_loops(time, frequency):
    rows = []
    for t in time.tolist():
        rows.append([math.sin(t * f) for f in frequency.tolist()] + [math.cos(t * f) for f in frequency.tolist()])
    return torch.tensor(rows)


def waves_by_numpy(time, frequency):
    angle = np.outer(time.numpy(), frequency.numpy())
    return torch.from_numpy(np.hstack([np.sin(angle), np.cos(angle)]))


def block_by_torch_alone(block, x, context):
    c = block.conv_1.out_channels
    both = block.context(context)
    h = F.silu(F.group_norm(x, block.norm_1.num_groups, block.norm_1.weight, block.norm_1.bias))
    h = block.norm_2(F.conv2d(h, block.conv_1.weight, block.conv_1.bias, padding=1))
    h = torch.einsum("bchw,bc->bchw", h, 1 + both[:, :c]) + both[:, c:].view(len(x), c, 1, 1)
    return block.conv_2(h * torch.sigmoid(h)) + block.skip(x)


def block_by_the_library(block, x, context):
    return unet.ResidualBlock.forward(block, x, context)


def walk_with_a_counter(h, context, down, middle, up):
    stages = [h]
    for layer in down:
        stages += [layer(stages[-1]) if type(layer) is nn.Conv2d else layer(stages[-1], context)]
    h, at = middle(stages[-1], context), len(stages)
    for layer in up:
        if type(layer) is nn.Upsample:
            h = layer(h)
        else:
            at -= 1
            h = layer(torch.cat((h, stages[at]), 1), context)
    return h


def look_by_loops(table, heads):
    B, C3, H, W = table.shape
    C, d = C3 // 3, C3 // 3 // heads
    flat, out = table.flatten(2), torch.zeros(B, C3 // 3, H * W, dtype=table.dtype)
    for b in range(B):
        for c in range(0, C, d):
            query, key, value = (flat[b, part * C + c : part * C + c + d] for part in range(3))
            for i in range(H * W):
                share = torch.softmax((query[:, i : i + 1] * key).sum(0) / math.sqrt(d), 0)
                out[b, c : c + d, i] = (share * value).sum(1)
    return out.view(B, C, H, W)


def look_by_torch(table, heads):
    query, key, value = (part.unflatten(1, (heads, -1)).flatten(3).mT for part in table.chunk(3, dim=1))
    return F.scaled_dot_product_attention(query, key, value).mT.flatten(1, 2).unflatten(2, table.shape[2:])


def label_by_one_hot(context, table, label=None):
    if label is None:
        return context + table[-1]
    return context + F.one_hot(label, len(table)).to(table.dtype) @ table


def label_by_embedding(context, table, label=None):
    label = torch.tensor([len(table) - 1] * len(context)) if label is None else label
    return F.embedding(label, table) + context


@pytest.mark.parametrize(
    ("number", "function"),
    [
        ("3.1", count_by_torch),
        ("3.2", waves_by_loops),
        ("3.2", waves_by_numpy),
        ("3.3", block_by_torch_alone),
        ("3.3", block_by_the_library),
        ("3.4", walk_with_a_counter),
        ("3.5", look_by_loops),
        ("3.5", look_by_torch),
        ("3.6", label_by_one_hot),
        ("3.6", label_by_embedding),
    ],
)
def test_other_words_are_right_too(number, function):
    found = verdict(number, function)
    assert found.passed, str(found)


# ---- 3.1 and 3.2: wrong answers ----


def loop_sines(time, frequency):
    return torch.tensor([[math.sin(t * f) for f in frequency.tolist()] for t in time.tolist()])


def in_turns(time, frequency):
    out = torch.zeros(len(time), 2 * len(frequency))
    out[:, 0::2] = torch.sin(torch.outer(time, frequency))
    out[:, 1::2] = torch.cos(torch.outer(time, frequency))
    return out


def outer_waves(angle, dim=1):
    return torch.concatenate((torch.sin(angle), torch.cos(angle)), dim)


COUNTS = {
    "bias forgotten": lambda i, o, k, n: (i * o * k**2, i * o * k**2 * n**2),
    "one bias for all": lambda i, o, k, n: (1 + i * o * k**2, i * o * k**2 * n**2),
    "a bias per input": lambda i, o, k, n: (i * o * k * k + i, i * o * k * k * n * n),
    "kernel not squared": lambda i, o, k, n: (i * o * k + o, i * o * k * n**2),
    "size not squared": lambda i, o, k, n: (i * o * k * k + o, n * i * o * k * k),
    "one place": lambda i, o, k, n: (i * o * k * k + o, i * o * k * k),
    "bias multiplied": lambda i, o, k, n: (i * o * k * k + o, (i * o * k * k + o) * n * n),
    "one output channel": lambda i, o, k, n: (i * k * k + 1, i * (k * n) ** 2),
    "inputs not mixed": lambda i, o, k, n: (o * k * k + o, o * (k * n) ** 2),
    "turned": lambda i, o, k, n: tuple(reversed(count_by_torch(i, o, k, n))),
}
WAVES = {
    "sines only": loop_sines,
    "cosines only": lambda time, frequency: torch.cos(torch.outer(time, frequency)),
    "taking turns": in_turns,
    "cosines first": lambda time, f: torch.cat(waves_by_loops(time, f).chunk(2, 1)[::-1], 1),
    "joined below": lambda time, f: outer_waves(torch.outer(time, f), 0),
    "added": lambda time, f: torch.stack([torch.outer(time, f).sin(), torch.outer(time, f).cos()]).sum(0),
    "degrees": lambda time, f: outer_waves(torch.deg2rad(torch.outer(time, f))),
    "full turns": lambda time, f: outer_waves(2 * torch.pi * torch.outer(time, f)),
    "divided": lambda time, f: outer_waves(time.unsqueeze(-1) / f),
    "place by place": lambda time, f: torch.hstack([torch.sin(time * f), torch.cos(time * f)]),
    "axes exchanged": lambda time, f: outer_waves(torch.outer(f, time), 0),
}


COUNTS |= {
    "padding ignored": lambda i, o, k, n: (i * o * k**2 + o, i * o * k**2 * (n - k + 1) * (n - k + 1)),
    "inputs forgotten in the work": lambda i, o, k, n: ((i * k**2 + 1) * o, (k * n) ** 2 * o),
    "additions counted": lambda i, o, k, n: (i * o * k**2 + o, i * o * k**2 * n**2 + i * o * k**2 * n**2),
    "only the weights": lambda i, o, k, n: i * o * k**2 + o,
    "only the multiplications": lambda i, o, k, n: i * o * (k * n) ** 2,
    "in a tensor": lambda i, o, k, n: torch.stack([torch.tensor(c) for c in count_by_torch(i, o, k, n)]),
    "in an array": lambda i, o, k, n: np.asarray([*count_by_torch(i, o, k, n)]),
}


def carets_by_steps(channels_in, channels_out, kernel, size):
    window = channels_in * kernel ^ 2
    one = channels_out * window
    return one + channels_out, one * size ^ 2


def carets_in_one_line(channels_in, channels_out, kernel, size):
    return channels_out * (channels_in * kernel ^ 2 + 1), channels_out * channels_in * kernel ^ 2 * size ^ 2


def carets_and_bias(channels_in, channels_out, kernel, size):
    weights = channels_in * channels_out * kernel ^ 2 + channels_out
    return weights, channels_in * channels_out * kernel ^ 2 * size ^ 2


def carets_in_brackets(channels_in, channels_out, kernel, size):
    window = channels_in * (kernel ^ 2)
    return window * channels_out + channels_out, window * channels_out * (size ^ 2)


COUNTS |= {
    "^ for **, step by step": carets_by_steps,
    "^ for **, in one line": carets_in_one_line,
    "^ for **, bias last": carets_and_bias,
    "^ for **, in brackets": carets_in_brackets,
}
WAVES |= {
    "in steps": lambda time, f: outer_waves(torch.outer((time * 1000), f)),
    "angle by adding": lambda time, f: outer_waves(time.unsqueeze(-1) + f.unsqueeze(0)),
    "sines twice": lambda time, f: torch.hstack([loop_sines(time, f), torch.outer(time, f).sin()]),
}


def waves_of_whole_steps(time, frequency):
    return outer_waves(torch.outer((time * 1000).round() / 1000, frequency))


def test_a_time_between_two_steps_counts():
    assert not verdict("3.2", waves_of_whole_steps).passed


# ---- 3.3: wrong answers, all from one loose copy ----


def block(skip=True, scale=lambda s: 1 + s, shift=lambda s: s, order=False, bend=(F.silu, F.silu), last=False):
    def forward(self, x, emb):
        a, b = self.context(emb).unsqueeze(-1).unsqueeze(-1).tensor_split(2, dim=1)
        a, b = (b, a) if order else (a, b)
        out = self.conv_1(bend[0](self.norm_1(x)))
        if last:
            return self.skip(x) + (self.conv_2(bend[1](self.norm_2(out))) * scale(a) + shift(b))
        out = self.conv_2(bend[1](torch.addcmul(shift(b), self.norm_2(out), scale(a))))
        return self.skip(x).add(out) if skip else out

    return forward


def plain_x(self, x, emb):
    return x + block(skip=False)(self, x, emb)


def no_axes(self, x, emb):
    emb = self.context(emb)
    half = emb.shape[1] // 2
    h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
    return self.skip(x) + self.conv_2(F.silu(h * (1 + emb[:, :half]) + emb[:, half:]))


def time_before_norm(self, x, emb):
    a, b = self.context(emb)[..., None, None].chunk(2, 1)
    h = self.norm_2(b + (a + 1) * self.conv_1(F.silu(self.norm_1(x))))
    return self.conv_2(F.silu(h)) + self.skip(x)


def in_place(self, x, emb):
    h = block(skip=False)(self, x, emb)
    if h.shape != x.shape:
        return self.skip(x) + h
    x += h.detach()
    return self.skip(x) + h - h.detach()


def bend_nothing(h):
    return h


def the_block_itself(self, x, emb):
    out = self(x, context=emb)
    return out


def the_blocks_forward(self, x, emb):
    return self.forward(x, emb)


def first_silu_elsewhere(where):
    def forward(self, x, emb):
        h = self.norm_1(F.silu(x) if where == "before" else x)
        h = self.conv_1(h)
        a, b = self.context(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.norm_2(F.silu(h) if where == "behind" else h)
        return self.skip(x) + self.conv_2(F.silu(b + h + h * a))

    return forward


def second_silu_behind(self, x, emb):
    a, b = self.context(emb)[:, :, None, None].chunk(2, dim=1)
    h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
    return self.skip(x) + F.silu(self.conv_2(h + h * a + b))


def every_second(self, x, emb):
    emb = self.context(emb)
    a, b = emb.view(len(x), -1, 2, 1, 1).unbind(2)
    h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
    return self.skip(x) + self.conv_2(F.silu(h + h * a + b))


def skip_of_h(self, x, emb):
    return self.skip(block(skip=False)(self, x, emb)) + x


BLOCKS = {
    "silu before norm_1": first_silu_elsewhere("before"),
    "silu behind conv_1": first_silu_elsewhere("behind"),
    "silu behind conv_2": second_silu_behind,
    "silu of the context": lambda self, x, emb: block()(self, x, emb * torch.sigmoid(emb)),
    "scale and shift take turns": every_second,
    "relu for silu": block(bend=(torch.relu, torch.relu)),
    "the block itself called": the_block_itself,
    "skip forgotten": block(skip=False),
    "x itself added": plain_x,
    "context ignored": block(scale=torch.ones_like, shift=torch.zeros_like),
    "scale missing": block(scale=torch.ones_like),
    "shift missing": block(shift=torch.zeros_like),
    "one missing": block(scale=lambda s: s),
    "scale and shift exchanged": block(order=True),
    "lined up with the last axis": no_axes,
    "before the norm": time_before_norm,
    "after the second convolution": block(last=True),
    "no first silu": block(bend=(bend_nothing, F.silu)),
    "no second silu": block(bend=(F.silu, bend_nothing)),
    "no silu": block(bend=(bend_nothing, bend_nothing)),
    "in place": in_place,
}


# ---- 3.4: wrong answers ----


def climb(h, context, down, middle, up, *, take=-1, axis=1, start=True, turned=False, leave=False):
    stages = [h] * start
    for layer in down:
        h = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, context)
        stages.append(h)
    h = middle(h, context)
    for layer in up:
        if isinstance(layer, nn.Upsample):
            h = layer(h)
            continue
        other = stages[take] if leave else stages.pop(take)
        h = layer(torch.cat((other, h) if turned else (h, other), axis), context)
    return h


def climb_joining_everywhere(h, context, down, middle, up):
    stages = [h]
    for layer in down:
        stages.append(layer(stages[-1]) if isinstance(layer, nn.Conv2d) else layer(stages[-1], context))
    h = middle(stages[-1], context)
    for layer in up:
        h = torch.cat((h, stages.pop()), 1)
        h = layer(h) if isinstance(layer, nn.Upsample) else layer(h, context)
    return h


def climb_adding(h, context, down, middle, up):
    stages = [h]
    for layer in down:
        stages.append(layer(stages[-1]) if isinstance(layer, nn.Conv2d) else layer(stages[-1], context))
    h = middle(stages[-1], context)
    for layer in up:
        h = layer(h) if isinstance(layer, nn.Upsample) else layer(h + stages.pop(), context)
    return h


def climb_keeping_before(h, context, down, middle, up):
    stages = []
    for layer in down:
        stages.append(h)
        h = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, context)
    h = middle(h, context)
    for layer in up:
        h = layer(h) if isinstance(layer, nn.Upsample) else layer(torch.cat([h, stages.pop()], 1), context)
    return h


def climb_standing_still(h, context, down, middle, up):
    stages = [h]
    for layer in down:
        out = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, context)
        stages.append(out)
    h = middle(h, context)
    for layer in up:
        h = layer(h) if isinstance(layer, nn.Upsample) else layer(torch.cat([h, stages.pop()], 1), context)
    return h


def climb_emptying(empty_down, empty_up):
    def go(h, context, down, middle, up):
        down, up = (down if empty_down else list(down)), (up if empty_up else list(up))
        stages = [h]
        while len(down) > 0:
            layer = down.pop(0)
            h = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, context)
            stages.append(h)
        h = middle(h, context)
        while len(up) > 0:
            layer = up.pop(0)
            h = layer(h) if isinstance(layer, nn.Upsample) else layer(torch.cat([h, stages.pop()], 1), context)
        return h

    return go


def with_options(**options):
    return lambda h, context, down, middle, up: climb(h, context, down, middle, up, **options)


WALKS = {
    "kept before the layer, the last one lost": climb_keeping_before,
    "h not moved on": climb_standing_still,
    "up emptied": climb_emptying(False, True),
    "down emptied": climb_emptying(True, False),
    "down and up emptied": climb_emptying(True, True),
    "taken from the front": with_options(take=0),
    "the last one over and over": with_options(leave=True),
    "kept first in the join": with_options(turned=True),
    "joined along the batch": with_options(axis=0),
    "joined along the rows": with_options(axis=2),
    "the first not kept": with_options(start=False),
    "joined before doubling": climb_joining_everywhere,
    "added": climb_adding,
    "middle forgotten": lambda h, c, down, middle, up: climb(h, c, down, lambda h, c: h, up),
    "context of zeros": lambda h, c, down, middle, up: climb(h, 0 * c, down, middle, up),
}


# ---- 3.5: wrong answers ----


def attend(table, heads, *, root=True, axis=-1, divisor=None, parts=(0, 1, 2), bend=torch.softmax):
    chunks = table.chunk(3, dim=1)
    query, key, value = (chunks[i].unflatten(1, (heads, -1)).flatten(3).mT for i in parts)
    score = torch.matmul(query, key.mT)
    score = score / (divisor(table, heads) if divisor else query.shape[-1] ** 0.5 if root else 1)
    return (bend(score, axis) @ value).mT.reshape(len(table), -1, *table.shape[2:])


def attend_with(**options):
    return lambda table, heads: attend(table, heads, **options)


def split_wrong(table, heads):
    B, _, H, W = table.shape
    query, key, value = (part.reshape(B, heads, H * W, -1) for part in table.chunk(3, dim=1))
    return F.scaled_dot_product_attention(query, key, value).transpose(2, 3).reshape(B, -1, H, W)


def joined_wrong(table, heads):
    query, key, value = (part.unflatten(1, (heads, -1)).flatten(3).mT for part in table.chunk(3, dim=1))
    return F.scaled_dot_product_attention(query, key, value).reshape(len(table), -1, *table.shape[2:])


def as_the_page_says(table, heads, way_in, way_out, late=False):
    B, C, H, W = table.shape[0], table.shape[1] // 3, table.shape[2], table.shape[3]
    query, key, value = way_in(table, B, heads, C // heads, H * W).unbind(1)
    score = query @ key.mT
    root = math.sqrt(C // heads)
    share = torch.softmax(score, -1) / root if late else torch.softmax(score / root, -1)
    return way_out(share @ value, B, C, H, W)


def way_in(table, B, heads, d, places):
    return table.reshape(B, 3, heads, d, places).mT


def way_out(out, B, C, H, W):
    return out.mT.reshape(B, C, H, W)


def at_once(table, B, heads, d, places):
    return table.view(B, 3, heads, places, d)


def straight_back(out, B, C, H, W):
    return out.reshape(B, C, H, W)


def back_by_places(out, B, C, H, W):
    return out.permute(0, 2, 1, 3).reshape(B, H * W, C).reshape(B, C, H, W)


def heads_last(table, B, heads, d, places):
    return table.view(B, 3, d, heads, places).permute(0, 1, 3, 4, 2)


def no_transposes(table, heads):
    B, C3, H, W = table.shape
    q, k, v = table.reshape(B, 3, heads, C3 // 3 // heads, H * W).unbind(1)
    share = torch.softmax(torch.einsum("bhcp,bhdp->bhcd", q, k) / (C3 / 3 / heads) ** 0.5, dim=-1)
    return torch.einsum("bhcd,bhdp->bhcp", share, v).reshape(B, C3 // 3, H, W)


LOOKS = {
    "both transposes forgotten": lambda table, heads: as_the_page_says(table, heads, at_once, straight_back),
    "channels look at channels": no_transposes,
    "put back through (H * W, C)": lambda table, heads: as_the_page_says(table, heads, way_in, back_by_places),
    "heads behind on the way in": lambda table, heads: as_the_page_says(table, heads, heads_last, way_out),
    "root after the softmax": lambda table, heads: as_the_page_says(table, heads, way_in, way_out, late=True),
    "root of the places": attend_with(divisor=lambda table, heads: math.sqrt(table.shape[2] * table.shape[3])),
    "shares transposed": attend_with(bend=lambda score, axis: torch.softmax(score, axis).transpose(2, 3)),
    "order value, query, key": attend_with(parts=(1, 2, 0)),
    "order key, value, query": attend_with(parts=(2, 0, 1)),
    "wrong axis": attend_with(axis=2),
    "softmax over heads": attend_with(axis=1),
    "softmax over the batch": attend_with(axis=0),
    "scale missing": attend_with(root=False),
    "divided by d": attend_with(divisor=lambda table, heads: table.shape[1] / 3 / heads),
    "root of all channels": attend_with(divisor=lambda table, heads: math.sqrt(table.shape[1] // 3)),
    "query and key exchanged": attend_with(parts=(1, 0, 2)),
    "value and key exchanged": attend_with(parts=(0, 2, 1)),
    "no softmax": attend_with(bend=lambda score, axis: score),
    "one head": lambda table, heads: attend(table, 1),
    "reshaped without transposing": split_wrong,
    "put back without transposing": joined_wrong,
    "plain exp": attend_with(bend=lambda s, axis: torch.exp(s) / torch.exp(s).sum(axis, keepdim=True)),
}


# ---- 3.6: wrong answers ----


def labels(null=-1, offset=0):
    def add(context, table, label=None):
        rows = [null] * len(context) if label is None else [int(k) + offset for k in label]
        return torch.stack([c + table[row] for c, row in zip(context, rows, strict=True)])

    return add


def nothing_for_none(context, table, label=None):
    if label is not None:
        context = context + table[label]
    return context


def grown_in_place(context, table, label=None):
    context += table[[len(table) - 1] * len(context) if label is None else label]
    return context


def no_question_asked(context, table, label=None):
    rows = table[label]
    return context + rows


LABELS = {
    "None as an index": no_question_asked,
    "null is row 10": labels(null=10),
    "null is 0": labels(null=0),
    "null is the last digit": labels(null=-2),
    "null left out": nothing_for_none,
    "counted from 1": labels(offset=-1),
    "in place": grown_in_place,
}

WRONG = [
    pytest.param(number, name, function, id=f"{number}: {name}")
    for number, answers in zip(EXERCISES, (COUNTS, WAVES, BLOCKS, WALKS, LOOKS, LABELS), strict=True)
    for name, function in answers.items()
]


@pytest.mark.parametrize(("number", "name", "function"), WRONG)
def test_a_wrong_answer_is_named(number, name, function):
    found = verdict(number, function)
    assert (found.state, found.name) == ("wrong", name), str(found)
    assert found.name == "in place" or len(found.hints) == 2


MORE = [  # other ways to write a mistake that has a test above
    ("3.3", "the block itself called", the_blocks_forward),
    ("3.3", "x itself added", skip_of_h),
]


@pytest.mark.parametrize(("number", "name", "function"), MORE)
def test_a_mistake_written_otherwise_has_the_same_name(number, name, function):
    assert verdict(number, function).name == name


def climb_with_copies(h, context, down, middle, up):
    stages = [h.detach()]
    for layer in down:
        h = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, context)
        stages.append(h.detach())
    h = middle(h, context)
    for layer in up:
        h = layer(h) if isinstance(layer, nn.Upsample) else layer(torch.cat([h, stages.pop()], 1), context)
    return h


@pytest.mark.parametrize(
    ("number", "function"),
    [
        ("3.4", climb_with_copies),
        ("3.4", lambda h, c, down, middle, up: climb(h.detach(), c, down, middle, up)),
        ("3.5", lambda table, heads: attend(table, heads).detach()),
        ("3.6", lambda context, table, label=None: label_by_embedding(context, table.detach(), label)),
        ("3.6", lambda context, table, label=None: label_by_embedding(context.detach(), table, label)),
    ],
)
def test_a_gradient_must_get_back(number, function):
    found = verdict(number, function)
    assert (found.state, found.name) == ("wrong", "gradient"), str(found)


def test_an_error_is_met_with_the_exercises_own_names():
    says = str(verdict("3.5", lambda table, heads: table @ table))
    assert "print(table.shape)" in says and "x0" not in says


def test_a_wrong_count_is_shown_in_full():
    says = str(verdict("3.1", lambda i, o, k, n: (i * o * k * k + o, 7 * i * o * k * k * n * n)))
    assert "you have 12644352, where 1806336 was expected" in says


# ---- the lesson's own network ----


@pytest.fixture(scope="module")
def lesson():
    return build.solution_namespace(next(path for path in build.sources() if path.stem == "03_unet"))


def test_the_students_parts_make_the_librarys_network(lesson):
    torch.manual_seed(0)
    theirs = unet.UNet(widths=(16, 24), blocks=1, classes=3)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight += 0.1 * torch.randn_like(weight)
    mine = lesson["UNet"]((16, 24), classes=3)
    mine.forward = lambda *inputs: lesson["unet_forward"](mine, *inputs)
    mine.load_state_dict(theirs.state_dict())
    x, time = torch.randn(3, 1, 12, 12), torch.tensor([0.0, 0.4, 1.0])
    for label in (None, torch.tensor([2, 3, 0])):
        expected = theirs(x, time, label)
        assert float(expected.detach().std()) > 0.01
        assert float((mine(x, time, label) - expected).detach().abs().max()) < 1e-5


def test_the_students_waves_are_the_librarys(lesson):
    time, embedding = torch.linspace(0, 1, 7), TimeEmbedding(12)
    assert torch.equal(lesson["time_waves"](time, embedding.frequency), embedding(time))
