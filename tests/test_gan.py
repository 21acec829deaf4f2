"""The networks of a GAN: shapes, a second reading of the styles, what noise and styles may change, and doors."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from course_lib import checkpoints
from course_lib.models.gan import Discriminator, Generator, ModulatedConv, StyleGenerator, StyleLayer

f64 = torch.float64


def normal(*shape, seed=0, dtype=f64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def worst(found, expected):
    return float((found.detach() - expected.detach()).abs().max())


def made(kind, seed=0, **how):
    """A network in float64, its weights from a seed; styles with their noise switched on."""
    torch.manual_seed(seed)
    net = kind(**how).to(f64)
    for name, weight in net.named_parameters():
        if name.endswith(("strength", "bias")):
            nn.init.normal_(weight, 0, 0.3) if "style" not in name else nn.init.normal_(weight, 1, 0.3)
    return net


def style(**how):
    return made(StyleGenerator, **({"latent": 6, "width": 4} | how))


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


# Shapes


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [Generator, StyleGenerator])
def test_generators_make_pictures_and_discriminators_judge_them(kind, channels, size):
    net = kind(latent=6, channels=channels, size=size, width=4)
    x = net(normal(3, 6, dtype=torch.float32))
    assert x.shape == (3, channels, size, size) and x.abs().max().item() <= 1 and x.std().item() > 1e-3
    assert (net.latent, net.size) == (6, size)
    for how in ({}, {"spectral": True}, {"batch_norm": True}):
        logits = Discriminator(channels, size, width=4, **how)(x)
        assert logits.shape == (3,) and logits.std().item() > 0


@pytest.mark.parametrize("kind", [Generator, StyleGenerator])
def test_first_comes_a_picture_of_a_quarter_of_the_size(kind):
    net, seen = kind(latent=6, size=32, width=4), []
    convolutions = [m for m in net.modules() if isinstance(m, nn.ConvTranspose2d | StyleLayer)]
    for layer in convolutions:
        layer.register_forward_hook(lambda layer, inputs, out: seen.append((*inputs[0].shape[1:3], out.shape[1:3])))
    net(torch.zeros(2, 6))
    expected = [(8, 8, (4, 16)), (4, 16, (1, 32))]
    if kind is StyleGenerator:
        expected = [(8, 8, (8, 8)), (8, 8, (4, 16)), (4, 16, (4, 16)), (4, 16, (2, 32))]
    assert seen == [(a, b, torch.Size(c)) for a, b, c in expected]


def test_the_default_sizes():
    count = lambda net: sum(w.numel() for w in net.parameters())  # noqa: E731
    assert Generator()(torch.zeros(2, 64)).shape == StyleGenerator()(torch.zeros(2, 64)).shape == (2, 1, 28, 28)
    assert 4e5 < count(Generator()) < 7e5 and 2e5 < count(StyleGenerator()) < 4e5 and count(Discriminator()) < 1e5


def test_a_discriminator_without_batch_norm_judges_each_picture_alone():
    net, x = made(Discriminator, width=4), normal(4, 1, 28, 28)
    alone = torch.cat([net(row[None]) for row in x])
    assert worst(net(x), alone) < 1e-12
    crowd = made(Discriminator, width=4, batch_norm=True)
    assert worst(crowd(x)[:2], crowd(x[:2])) > 1e-3  # there company counts


def test_the_discriminator_gives_logits_of_any_size_and_sign():
    net = made(Discriminator, width=4)
    x = normal(5, 1, 28, 28)
    with torch.no_grad():
        for weight in net.layers[-1].parameters():
            weight *= 100
        logits = net(x)
        for weight in net.layers[-1].parameters():
            weight *= -1
        assert float(logits.abs().min()) > 1 and worst(net(x), -logits) < 1e-12


def test_spectral_norm_bounds_every_layer_and_the_whole():
    """After a few power iterations each matrix's largest singular value is 1."""
    net = made(Discriminator, width=4, spectral=True)
    for _ in range(60):
        net(normal(2, 1, 28, 28))
    net.eval()
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        assert abs(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() - 1) < 1e-3
    plain = [m for m in made(Discriminator, width=4).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert any(abs(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() - 1) > 0.1 for layer in plain)


# Modulated convolutions


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_is_that_of_each_pictures_own_kernels(kernel, demodulate):
    """StyleGAN2's equations as they are printed: kernels scaled, then divided, one picture at a time."""
    layer = made(ModulatedConv, channels_in=3, channels_out=5, kernel=kernel, demodulate=demodulate)
    x, s = normal(4, 3, 6, 7), normal(4, 3, seed=1)
    rows = []
    for picture, scales in zip(x, s, strict=True):
        w = layer.weight * scales[None, :, None, None]  # eq. 1
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # eq. 3
        rows.append(functional.conv2d(picture[None], w, padding=kernel // 2))
    assert worst(layer(x, s), torch.cat(rows)) < 1e-12


def test_demodulation_gives_noise_its_size_back():
    """For inputs of independent numbers of deviation 1 the output has deviation 1, however large the style (eq. 2)."""
    layer = made(ModulatedConv, channels_in=16, channels_out=8)
    x = normal(8, 16, 40, 40)
    for size in (0.01, 1.0, 100.0):
        s = size * (1 + normal(8, 16, seed=1).abs())
        inner = layer(x, s)[:, :, 1:-1, 1:-1]
        assert abs(float(inner.detach().std()) - 1) < 0.03


# The style-based generator


def by_hand(w, styles, noises):
    """Read the weights of StyleGenerator(latent=6, width=4, size=28) once more: grouped kernels, one picture a time."""
    pictures = []
    for b in range(len(styles)):
        x = w["constant"]
        for i, (name, size) in enumerate([("layers.0", 7), ("layers.1", 14), ("layers.2", 14), ("layers.3", 28)]):
            if x.shape[-1] != size:
                x = functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
            s = w[f"{name}.style.weight"] @ styles[b][i] + w[f"{name}.style.bias"]
            kernel = w[f"{name}.conv.weight"] * s[None, :, None, None]
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            x = functional.conv2d(x, kernel, padding=1) + w[f"{name}.strength"] * noises[i][b]
            x = x + w[f"{name}.bias"][:, None, None]
            x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
        s = w["style.weight"] @ styles[b][3] + w["style.bias"]
        pictures.append(torch.einsum("oi,ihw->ohw", w["write.weight"][:, :, 0, 0] * s, x[0]).tanh())
    return torch.stack(pictures)


def test_a_second_reading_of_the_weights_gives_the_same_picture():
    net, w = style(), normal(3, 4, 6)
    drawn = noise(7)
    noises = [torch.randn(3, 1, size, size, generator=drawn, dtype=f64) for size in (7, 14, 14, 28)]
    expected = by_hand(net.state_dict(), w, noises)
    assert float(expected.std()) > 0.01
    assert worst(net.synthesis(w, noise(7)), expected) < 1e-10


def test_the_mapping_reads_a_direction():
    net, z = style(), normal(3, 6)
    h = z / z.square().mean(1, keepdim=True).sqrt()
    for k in (0, 2, 4):
        h = h @ net.to_w[k].weight.T + net.to_w[k].bias
        h = torch.where(h > 0, h, 0.2 * h)
    assert worst(net.mapping(z), h) < 1e-6
    assert worst(net.mapping(5 * z), net.mapping(z)) < 1e-6 and worst(net.mapping(-z), net.mapping(z)) > 1e-2


def test_one_w_stands_for_the_same_w_in_every_layer():
    net, z = style(), normal(3, 6)
    w = net.mapping(z)
    whole = net(z, noise())
    assert torch.equal(net.synthesis(w, noise()), whole)
    assert torch.equal(net.synthesis(w[:, None].expand(3, net.count, 6), noise()), whole)


def test_mixing_goes_from_one_to_the_other():
    net, a, b = style(), normal(3, 6), normal(3, 6, seed=1)
    mixed = [net.mix(a, b, k, noise()) for k in range(net.count + 1)]
    assert torch.equal(mixed[0], net(b, noise())) and torch.equal(mixed[-1], net(a, noise()))
    for one, other in pairwise(mixed):
        assert worst(one, other) > 1e-3  # every layer's style counts
    styles = torch.stack([net.mapping(a)] * 2 + [net.mapping(b)] * 2, dim=1)
    assert torch.equal(mixed[2], net.synthesis(styles, noise()))


def test_noise_follows_from_the_generator():
    net, z = style(), normal(3, 6)
    assert torch.equal(net(z, noise(1)), net(z, noise(1)))
    assert worst(net(z, noise(1)), net(z, noise(2))) > 1e-3
    torch.manual_seed(3)
    before = torch.get_rng_state()
    net(z, noise(1))
    assert torch.equal(torch.get_rng_state(), before)
    first, second = net(z), net(z)
    torch.manual_seed(3)
    assert worst(first, second) > 1e-3 and torch.equal(net(z), first)


def test_the_strength_of_noise_is_learned_from_nothing():
    """At first there is none, and its gradient is not 0."""
    torch.manual_seed(0)
    net, z = StyleGenerator(latent=6, width=4), normal(3, 6, dtype=torch.float32)
    assert torch.equal(net(z, noise(1)), net(z, noise(2)))
    net(z, noise(1)).square().sum().backward()
    assert all(float(layer.strength.grad.abs()) > 0 for layer in net.layers)


@pytest.mark.parametrize("kind", [Generator, StyleGenerator, Discriminator])
def test_every_weight_learns(kind):
    net = made(kind, width=4, **({} if kind is Discriminator else {"latent": 6}))
    x = normal(4, 1, 28, 28) if kind is Discriminator else normal(4, 6)
    (net(x) * normal(*net(x).shape, seed=5)).sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and bool(weight.grad.isfinite().all()), name
        assert float(weight.grad.abs().max()) > 0, name


@pytest.mark.parametrize("kind", [Generator, StyleGenerator])
def test_a_new_generator_makes_another_picture_of_each_noise(kind):
    """Were they alike at the start, the discriminator would judge them as one and the generator collapse."""
    torch.manual_seed(0)
    net = kind()
    with torch.no_grad():
        x = net(normal(64, 64, dtype=torch.float32))
    over_noise, in_all = float(x.std(0).mean()), float(x.std())
    assert 0.2 < in_all < 0.9 and over_noise > 0.5 * in_all
    if kind is StyleGenerator:
        w = net.mapping(normal(64, 64, dtype=torch.float32)).detach()
        assert 0.6 < float(w.std()) < 1.4


@pytest.mark.parametrize("kind", [Generator, StyleGenerator, Discriminator])
def test_a_saved_network_is_the_same_network(tmp_path, kind):
    how = {"width": 4, "spectral": True} if kind is Discriminator else {"width": 4, "latent": 6}
    net = made(kind, **how).eval()
    x = normal(2, 1, 28, 28) if kind is Discriminator else normal(2, 6)
    draw = lambda net: net(x, noise()) if kind is StyleGenerator else net(x)  # noqa: E731
    checkpoints.save(tmp_path, net.state_dict(), {})
    other = made(kind, seed=1, **how).eval()
    assert worst(draw(other), draw(net)) > 1e-4
    other.load_state_dict(checkpoints.load(tmp_path)[0])
    assert torch.equal(draw(other), draw(net))


def test_channels_last_and_half_precision_give_the_same_answer():
    for kind in (Generator, StyleGenerator):
        net, z = made(kind, latent=6, width=8).float().eval(), normal(4, 6, dtype=torch.float32)
        draw = lambda net: net(z, noise()) if isinstance(net, StyleGenerator) else net(z)  # noqa: B023, E731
        expected = draw(net)
        assert worst(draw(net.to(memory_format=torch.channels_last)), expected) < 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            assert 0 < worst(draw(net).float(), expected) < 0.1


# Doors


G, S, D = Generator(latent=6, width=4), StyleGenerator(latent=6, width=4), Discriminator(width=4)
Z = torch.zeros(2, 6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Generator(size=30), r"expected size 28 \(MNIST\) or 32 \(CIFAR-10\), got 30"),
        (lambda: StyleGenerator(size=64), "expected size in 28..32, got 64"),
        (lambda: Discriminator(size=28.0), "expected size to be a whole number, got 28.0"),
        (lambda: Generator(latent=0), "expected latent of at least 1, got 0"),
        (lambda: Generator(width=0), "expected width of at least 1, got 0"),
        (lambda: StyleGenerator(width=1), "expected width of at least 2, got 1"),
        (lambda: StyleGenerator(depth=0), "expected depth of at least 1, got 0"),
        (lambda: Discriminator(channels=0), "expected channels of at least 1, got 0"),
        (lambda: Discriminator(spectral=1), "expected spectral to be True or False, got 1"),
        (lambda: Discriminator(batch_norm="no"), "expected batch_norm to be True or False, got 'no'"),
        (lambda: ModulatedConv(3, 3, kernel=0), "expected kernel of at least 1, got 0"),
        (lambda: StyleLayer(3, 3, 4, double=2), "expected double to be True or False, got 2"),
        (lambda: G(Z[:, :5]), r"expected z of shape \(B, 6\), got .* \(2, 5\)"),
        (lambda: G(Z[:, :, None, None]), r"expected z of shape \(B, 6\), got .* \(2, 6, 1, 1\)"),
        (lambda: G(Z.double()), r"expected z as torch.float32, like the weights, got torch.float64: call z.to"),
        (lambda: S(Z.long()), "expected z to hold floating-point numbers"),
        (lambda: S.synthesis(Z[:, :3]), r"expected w of shape \(B, 6\), got .* \(2, 3\)"),
        (lambda: S.synthesis(torch.zeros(2, 3, 6)), r"expected w of shape \(B, 4, 6\), got .* \(2, 3, 6\)"),
        (lambda: S.synthesis(None), "expected w to be a torch tensor, got None"),
        (lambda: S.synthesis(Z, 7), "expected generator to be a torch.Generator or None, got 7"),
        (lambda: S.mix(Z, Z, 5), r"expected crossover in 0..4, got 5"),
        (lambda: S.mix(Z, Z[:1], 2), "expected as many rows in z_a as in z_b, got 2 and 1"),
        (lambda: D(torch.zeros(2, 1, 32, 32)), r"expected pictures of shape \(B, 1, 28, 28\), got .* \(2, 1, 32, 32\)"),
        (lambda: D(torch.zeros(2, 1, 28, 28).double()), "expected pictures as torch.float32, like the weights"),
        (lambda: D("a picture"), "expected pictures to be a torch tensor"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_sizes_of_a_style_generator_are_powers_no_reader_needs_to_know():
    net = StyleGenerator(latent=5, width=6, depth=1)
    assert len([m for m in net.to_w if isinstance(m, nn.Linear)]) == 1 and net.count == len(net.layers) == 4
    assert math.prod(net.constant.shape) == 12 * 7 * 7
