"""The U-Net: shapes, a second reading of its weights, what it starts as, and what may not depend on what."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from course_lib import checkpoints
from course_lib.models.mlp import TimeEmbedding
from course_lib.models.unet import Attention, ResidualBlock, UNet, _joined

f64 = torch.float64


def normal(*shape, seed=0, dtype=f64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def awake(net, seed=0, size=0.3):
    """The network in float64 with noise on all its weights: a fresh one returns 0, which would hide anything."""
    net = net.to(f64)
    with torch.no_grad():
        for i, weight in enumerate(net.parameters()):
            weight += size * normal(*weight.shape, seed=1000 * seed + i) / math.sqrt(max(1, weight[0].numel()))
    return net.eval()


def worst(found, expected):
    return float((found.detach() - expected.detach()).abs().max())


TIME = torch.tensor([0.2, 0.7], dtype=f64)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 32, 32), (2, 2, 24, 10)], ids=str)
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("widths", [(8,), (8, 16), (8, 16, 12)], ids=str)
def test_the_output_has_the_shape_of_the_input(shape, patch, blocks, widths):
    net = awake(UNet(channels=shape[1], widths=widths, blocks=blocks, patch=patch))
    out = net(normal(*shape), TIME)
    assert out.shape == shape and out.dtype == f64 and bool(out.isfinite().all())
    assert float(out.detach().std()) > 1e-3
    blocks_of = [m for m in net.modules() if isinstance(m, ResidualBlock)]
    assert len(blocks_of) == len(widths) * (2 * blocks + 1) + 1
    assert max(m.conv_2.out_channels for m in blocks_of) == max(widths)


def test_the_smallest_picture_and_the_default():
    assert UNet(widths=(8, 16), patch=2)(torch.zeros(1, 1, 4, 4), torch.rand(1)).shape == (1, 1, 4, 4)
    net = UNet()
    assert net(torch.zeros(1, 1, 28, 28), torch.rand(1)).shape == (1, 1, 28, 28)
    small, large = (sum(w.numel() for w in UNet(widths=widths).parameters()) for widths in ((24, 48), (48, 96)))
    assert 3.5 < large / small < 4.1  # the cost grows with the square of the width


def test_halving_an_odd_side_rounds_up_and_doubling_is_cut():
    """7 x 7 becomes 4 x 4, comes back as 8 x 8 and is joined with the 7 x 7 that was kept, place by place."""
    net, sizes = awake(UNet(widths=(8, 12), blocks=1, patch=1)), []
    hooks = [m.register_forward_hook(lambda m, i, out: sizes.append(out.shape[-1])) for m in (*net.down, *net.up)]
    x = normal(2, 1, 7, 7)
    assert net(x, TIME).shape == x.shape
    [hook.remove() for hook in hooks]
    assert sizes == [7, 4, 4, 4, 4, 8, 7, 7]
    h, kept = torch.arange(64.0).reshape(1, 1, 8, 8), torch.zeros(1, 2, 7, 6)
    assert torch.equal(_joined(h, kept)[0, 0], h[0, 0, :7, :6])


def by_hand(w, x, time, label, classes, heads=4):
    """Read the weights of UNet(widths=(8, 16), blocks=1, patch=2) once more, as one list of operations."""

    def norm(name, h, channels):
        h = h.reshape(len(h), channels // 8, -1)  # groups of eight
        h = (h - h.mean(2, keepdim=True)) / (h.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return (
            h.reshape(len(x), channels, *size) * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
        )

    def conv(name, h, **how):
        return functional.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    def block(name, h, channels_in):
        inner = conv(f"{name}.conv_1", functional.silu(norm(f"{name}.norm_1", h, channels_in)), padding=1)
        shifts = context @ w[f"{name}.context.weight"].T + w[f"{name}.context.bias"]
        channels = inner.shape[1]
        scale, shift = shifts[:, :channels, None, None], shifts[:, channels:, None, None]
        inner = functional.silu(norm(f"{name}.norm_2", inner, channels) * (1 + scale) + shift)
        inner = conv(f"{name}.conv_2", inner, padding=1)
        return (conv(f"{name}.skip", h) if f"{name}.skip.weight" in w else h) + inner

    def attention(name, h):
        table = conv(f"{name}.query_key_value", norm(f"{name}.norm", h, 16)).flatten(2)
        out = torch.zeros_like(h).flatten(2)
        for b in range(len(h)):
            for head in range(heads):
                rows = slice(16 // heads * head, 16 // heads * (head + 1))
                query, key, value = table[b, :16][rows], table[b, 16:32][rows], table[b, 32:][rows]
                for place in range(query.shape[1]):
                    score = torch.stack([query[:, place] @ key[:, other] for other in range(key.shape[1])])
                    share = (score / math.sqrt(16 // heads)).exp()
                    out[b, rows, place] = value @ (share / share.sum())
        return h + conv(f"{name}.write", out.reshape(h.shape))

    frequency = torch.logspace(math.log10(math.pi / 2), 3, 4).to(f64)
    waves = torch.cat([torch.sin(time[:, None] * frequency), torch.cos(time[:, None] * frequency)], dim=1)
    context = functional.silu(waves @ w["time.1.weight"].T + w["time.1.bias"])
    context = functional.silu(context + w["label.weight"][classes if label is None else label])
    folded = torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=2).flatten(1, 2)
    size = folded.shape[2:]
    a = conv("read", folded, padding=1)  # 8 channels, large
    b = block("down.0", a, 8)
    size = (size[0] // 2, size[1] // 2)
    c = conv("down.1", b, stride=2, padding=1)  # 8 channels, small
    d = block("down.2", c, 8)  # 16 channels, small
    h = attention("middle.1", block("middle.0", d, 16))
    h = block("up.0", torch.cat([h, d], dim=1), 32)
    h = block("up.1", torch.cat([h, c], dim=1), 24)
    h = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    size = folded.shape[2:]
    h = block("up.3", torch.cat([h, b], dim=1), 24)
    h = block("up.4", torch.cat([h, a], dim=1), 16)
    h = conv("write", functional.silu(norm("norm", h, 8)), padding=1)
    out = torch.zeros_like(x)
    for i in (0, 1):
        for j in (0, 1):
            out[:, :, i::2, j::2] = h.reshape(len(x), -1, 2, 2, *size)[:, :, i, j]
    return out


@pytest.mark.parametrize("channels", [1, 3])
def test_a_second_reading_of_the_weights_gives_the_same_picture(channels):
    net = awake(UNet(channels=channels, widths=(8, 16), blocks=1, patch=2, classes=3), size=1.0)
    x = normal(2, channels, 12, 8)
    for label in (None, torch.tensor([2, 0])):
        expected = by_hand(net.state_dict(), x, TIME, label, classes=3)
        assert float(expected.std()) > 0.05
        assert worst(net(x, TIME, label), expected) < 1e-9


@pytest.mark.parametrize("patch, channels, classes", [(1, 1, 0), (2, 3, 4)])
def test_a_new_network_returns_zero(patch, channels, classes):
    net = UNet(channels=channels, widths=(8, 16), patch=patch, classes=classes)
    assert worst(net(normal(2, channels, 8, 8, dtype=torch.float32), torch.rand(2)), torch.zeros(())) == 0


def test_mixed_precision_rounds_convolutions_but_neither_norms_nor_attention_nor_the_answer(monkeypatch):
    net = awake(UNet(widths=(8, 16), classes=3)).float()
    x, time = normal(3, 1, 28, 28, dtype=torch.float32), torch.tensor([0.1, 0.5, 0.9])
    seen = {}

    def watched(name):
        original = getattr(functional, name)

        def call(x, *more, **named):
            seen.setdefault(name, set()).add((x.dtype, torch.is_autocast_enabled("cpu") and name.startswith("scaled")))
            return original(x, *more, **named)

        monkeypatch.setattr(functional, name, call)

    def answer(half):
        seen.clear()
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = net(x, time, torch.tensor([0, 2, 3]))
        out.square().mean().backward()
        return out.detach(), torch.cat([weight.grad.flatten() for weight in net.parameters()])

    watched("group_norm")
    watched("scaled_dot_product_attention")
    (exact, exact_grad), (rough, rough_grad) = answer(False), answer(True)
    whole = {(torch.float32, False)}  # autocast would round what attention is given
    assert seen == {"group_norm": whole, "scaled_dot_product_attention": whole}
    assert rough.dtype == torch.float32 and 0 < worst(rough, exact) < 0.05 * float(exact.abs().max())
    assert 0 < float((rough_grad - exact_grad).norm()) < 0.05 * float(exact_grad.norm())


def test_a_network_may_be_half_precision_as_a_whole():
    net, x, time = awake(UNet(widths=(8, 16))).float(), normal(2, 1, 28, 28, dtype=torch.float32), TIME.float()
    exact = net(x, time)
    rough = net.bfloat16()(x.bfloat16(), time)
    assert rough.dtype == torch.bfloat16 and worst(rough.float(), exact) < 0.1 * float(exact.detach().abs().max())


def test_a_new_block_passes_its_input_on():
    x, context = normal(2, 16, 6, 6, dtype=torch.float32), normal(2, 4, dtype=torch.float32)
    assert torch.equal(ResidualBlock(16, 16, context=4)(x, context), x)
    assert torch.equal(Attention(16)(x), x)
    wider = ResidualBlock(16, 24, context=4)
    assert torch.equal(wider(x, context), wider.skip(x))
    assert worst(awake(ResidualBlock(16, 16, context=4))(x.double(), context.double()), x) > 0.1


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_a_softmax_over_all_places(heads):
    layer = awake(Attention(8, heads=heads), size=1.0)
    x = normal(2, 8, 3, 4)
    table = layer.query_key_value(layer.norm(x)).flatten(2)
    width, out = 8 // heads, torch.zeros(2, 8, 12, dtype=f64)
    for b in range(2):
        for head in range(heads):
            rows = range(head * width, (head + 1) * width)
            for place in range(12):
                score = [
                    sum(table[b, r, place] * table[b, 8 + r, other] for r in rows) / math.sqrt(width)
                    for other in range(12)
                ]
                share = torch.softmax(torch.stack(score), dim=0)
                for r in rows:
                    out[b, r, place] = sum(share[other] * table[b, 16 + r, other] for other in range(12))
    assert worst(layer(x), x + layer.write(out.reshape(2, 8, 3, 4))) < 1e-12


def test_attention_does_not_know_where_places_are():
    layer, x = awake(Attention(8), size=1.0), normal(2, 8, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))

    def shuffled(h):
        return h.flatten(2)[:, :, order].reshape(h.shape)

    assert worst(layer(shuffled(x)), shuffled(layer(x))) < 1e-12
    block, context = awake(ResidualBlock(8, 8, context=4)), normal(2, 4)
    assert worst(block(shuffled(x), context), shuffled(block(x, context))) > 0.01  # a convolution does


def on_a_ring(net):
    """Let every convolution see the picture as a ring, so that no place is an edge."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0):
            layer.padding_mode, layer._reversed_padding_repeated_twice = "circular", [1, 1, 1, 1]
    return net


@pytest.mark.parametrize("widths, patch", [((8,), 1), ((8, 16), 1), ((8, 16), 2), ((8, 8, 8), 2)])
def test_a_moved_picture_moves_its_answer(widths, patch):
    """By whole strides, up to the edges; by less it does not, as halving and folding have a grid of their own."""
    net, x = on_a_ring(awake(UNet(widths=widths, patch=patch), size=1.0)), normal(2, 1, 16, 16)
    stride = patch * 2 ** (len(widths) - 1)
    for rows, columns in [(stride, 0), (-stride, 2 * stride)]:
        moved = net(x.roll((rows, columns), (2, 3)), TIME)
        assert worst(moved, net(x, TIME).roll((rows, columns), (2, 3))) < 1e-10
    if stride > 1:
        assert worst(net(x.roll(1, 3), TIME), net(x, TIME).roll(1, 3)) > 0.01


def test_a_mirrored_picture_has_a_mirrored_answer_if_the_kernels_are_symmetric():
    net, x = awake(UNet(widths=(8,), patch=1), size=1.0), normal(2, 1, 10, 10)
    assert worst(net(x.flip(3), TIME), net(x, TIME).flip(3)) > 0.01
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight += layer.weight.flip(3).clone()
    assert worst(net(x.flip(3), TIME), net(x, TIME).flip(3)) < 1e-10


def test_time_and_label_change_the_answer():
    net, x = awake(UNet(widths=(8, 16), classes=3)), normal(2, 1, 8, 8)
    first = net(x, TIME, torch.tensor([0, 1]))
    later = net(x, torch.tensor([0.2, 0.8], dtype=f64), torch.tensor([0, 1]))
    assert worst(later[0], first[0]) == 0 and worst(later[1], first[1]) > 1e-3
    asked = net(x, TIME, torch.tensor([2, 1]))
    assert worst(asked[1], first[1]) == 0 and worst(asked[0], first[0]) > 1e-3
    for near in (1e-3, 1.0):  # neighbouring steps of T = 1000 differ, by little
        a, b = (net(x, torch.full((2,), time, dtype=f64)) for time in (near, near - 1e-3))
        assert 0 < worst(a, b) < worst(net(x, TIME.flip(0)), net(x, TIME))


def test_the_null_label_is_no_label():
    net, x = awake(UNet(widths=(8,), classes=3)), normal(2, 1, 8, 8)
    assert torch.equal(net(x, TIME), net(x, TIME, torch.tensor([3, 3])))
    assert worst(net(x, TIME), net(x, TIME, torch.tensor([2, 2]))) > 1e-3


def test_rows_of_a_batch_do_not_know_of_each_other():
    net, x = awake(UNet(widths=(8, 16), classes=3)), normal(3, 1, 8, 8)
    time, label = torch.tensor([0.1, 0.5, 1.0], dtype=f64), torch.tensor([0, 3, 2])
    together = net(x, time, label)
    alone = torch.cat([net(x[i : i + 1], time[i : i + 1], label[i : i + 1]) for i in range(3)])
    assert worst(together, alone) < 1e-12
    changed = x.clone()
    changed[1] = float("nan")
    assert worst(net(changed, time, label)[[0, 2]], together[[0, 2]]) < 1e-12


@pytest.mark.parametrize("classes", [0, 3])
def test_every_weight_learns(classes):
    net = awake(UNet(widths=(8, 16), classes=classes))
    x, label = normal(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]) if classes else None
    net(x, torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=f64), label).square().mean().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and bool(weight.grad.isfinite().all()) and float(weight.grad.abs().max()) > 0, (
            name
        )
    if classes:
        assert bool((net.label.weight.grad.abs().amax(1) > 0).all())  # the null label too


def test_a_fresh_network_wakes_up_layer_by_layer():
    """At first only the last layer has a gradient; after a few steps every weight has moved."""
    torch.manual_seed(0)
    net = UNet(widths=(8, 16), classes=2).to(f64)
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    x, label = normal(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    losses, touched = [], []
    for _ in range(4):
        net.zero_grad()
        loss = (net(x, torch.linspace(0, 1, 6, dtype=f64), label) - x).square().mean()
        loss.backward()
        with torch.no_grad():
            for weight in net.parameters():
                weight -= 0.1 * weight.grad
        losses.append(loss.item())
        touched.append({name for name, weight in net.named_parameters() if float(weight.grad.abs().max()) > 0})
    assert touched[0] == {"write.weight", "write.bias"} and touched[-1] == set(before)
    assert all(not torch.equal(weight, before[name]) for name, weight in net.named_parameters())
    assert losses == sorted(losses, reverse=True)


def test_a_small_network_learns_a_small_task():
    torch.manual_seed(0)
    net = UNet(widths=(8, 16), blocks=1, patch=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x = normal(16, 1, 8, 8, dtype=torch.float32)
    time = torch.linspace(0, 1, 16)
    target = x.flip(3) * time[:, None, None, None]  # needs far places and time
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(x, time) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.4 * float(target.square().mean())


def test_other_number_formats_give_the_same_answer():
    net, x = awake(UNet(channels=3, widths=(8, 16))), normal(2, 3, 16, 16)
    expected = net(x, TIME)
    channels_last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), TIME)
    assert worst(channels_last, expected) < 1e-12
    assert worst(net(x.transpose(2, 3).contiguous().transpose(2, 3), TIME), expected) < 1e-12
    single = net.float()(x.float(), TIME.float())
    assert single.dtype == torch.float32 and worst(single, expected) < 1e-3 * float(expected.detach().abs().max())
    assert worst(net(x.float(), TIME), single) < 1e-5  # time may come in float64
    with torch.autocast("cpu", torch.bfloat16):
        assert worst(net(x.float(), TIME.float()).float(), expected) < 0.1 * float(expected.detach().abs().max())


def test_a_saved_network_is_the_same_network(tmp_path):
    net, x = awake(UNet(widths=(8, 16), classes=3)), normal(2, 1, 8, 8)
    checkpoints.save(tmp_path, net.state_dict(), {"widths": [8, 16]})
    tensors, card = checkpoints.load(tmp_path)
    other = UNet(widths=card["widths"], classes=3).to(f64).eval()
    assert worst(other(x, TIME), net(x, TIME)) > 1e-3
    other.load_state_dict(tensors)
    assert torch.equal(other(x, TIME), net(x, TIME))


# Doors


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"widths": ()}, "such as"),
        ({"widths": 8}, "such as"),
        ({"widths": None}, "such as"),
        ({"widths": "abc"}, "such as"),
        ({"widths": (0,)}, "at least 4"),
        ({"widths": (8, 10)}, "multiples of 4"),
        ({"widths": (7,)}, "multiples of 4"),
        ({"widths": (8.0,)}, "whole number"),
        ({"channels": 0}, "channels"),
        ({"channels": 1.0}, "channels"),
        ({"blocks": 0}, "blocks"),
        ({"patch": 0}, "patch"),
        ({"patch": 5}, "patch"),
        ({"patch": "2"}, "patch"),
        ({"classes": -1}, "classes"),
        ({"classes": True}, "classes"),
    ],
    ids=str,
)
def test_networks_that_cannot_be_made(wrong, said):
    with pytest.raises((TypeError, ValueError), match=f"expected .*{said}"):
        UNet(**{"widths": (8,), **wrong})


@pytest.mark.parametrize("channels, heads", [(8, 3), (8, 0), (8, 16), (0, 1), (8, 2.0)])
def test_attention_that_cannot_be_made(channels, heads):
    with pytest.raises((TypeError, ValueError), match="expected"):
        Attention(channels, heads)


NET, UNLABELLED = UNet(widths=(8, 8), classes=3), UNet(widths=(8, 8))
SIZES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 10]), min_size=0, max_size=5)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64])
TENSORS = st.builds(lambda size, dtype: torch.ones(size).to(dtype), SIZES, DTYPES)
FRACTIONS = st.lists(st.floats(-0.5, 1.5, width=32) | st.just(math.nan), max_size=3).map(torch.tensor)
LABELS = st.lists(st.integers(-1, 5), max_size=3).map(lambda v: torch.tensor(v, dtype=torch.int64))
OTHERS = st.sampled_from([None, 3, 0.5, "x", [0.1, 0.2]])


@settings(max_examples=300, deadline=None)
@given(
    x=st.just(torch.ones(2, 1, 8, 8)) | TENSORS | OTHERS,
    time=st.just(torch.tensor([0.1, 0.9])) | FRACTIONS | TENSORS | OTHERS,
    label=st.none() | LABELS | TENSORS | OTHERS,
    net=st.sampled_from([NET, UNLABELLED]),
)
def test_a_call_is_right_or_refused_in_one_sentence(x, time, label, net):
    good = (
        isinstance(x, torch.Tensor) and x.dtype == torch.float32 and x.ndim == 4 and x.shape[1] == 1 and len(x) > 0
        and x.shape[2] in (2, 4, 8, 10) and x.shape[3] in (2, 4, 8, 10)
        and isinstance(time, torch.Tensor) and time.is_floating_point() and time.shape == x.shape[:1]
        and bool(((0 <= time) & (time <= 1)).all())
        and (label is None or (net is NET and isinstance(label, torch.Tensor) and label.dtype == torch.int64
             and label.shape == x.shape[:1] and bool(((0 <= label) & (label <= 3)).all())))
    )  # fmt: skip
    if good:
        assert net(x, time, label).shape == x.shape
        return
    with pytest.raises((TypeError, ValueError), match=r"^expected ") as caught:
        net(x, time, label)
    assert "\n" not in str(caught.value)


def test_time_waves_tell_all_steps_apart():
    waves = TimeEmbedding(8)(torch.linspace(0, 1, 1001))
    distance = torch.cdist(waves, waves) + torch.eye(1001) * 9
    assert float(distance.min()) > 1e-3
