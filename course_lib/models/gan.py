"""GAN: a generator that turns noise into pictures, a discriminator that judges them, and a generator with styles.

    z -> generator -> picture;   picture -> discriminator -> logit;   z -> mapping -> w -> synthesis -> picture
Shapes: z (B, latent) normal noise; pictures (B, C, size, size) in [-1, 1], size 28 or 32; logits (B,), no sigmoid.
Does not belong here: losses (gan_losses.py), who is trained when (train_gan.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from course_lib.doors import data_batch, described, generator_or_none, whole_number

__all__ = ["Discriminator", "Generator", "ModulatedConv", "StyleGenerator", "StyleLayer"]


class Generator(nn.Module):
    """Turn noise z (B, latent) into pictures (B, channels, size, size) in [-1, 1] (DCGAN, arXiv:1511.06434).

    A linear layer makes a picture of a quarter of the size, and transposed convolutions double it twice; batch norm
    and ReLU between, tanh at the end. size: 28 or 32.
    Raises ValueError or TypeError when z has another shape or kind.

    >>> Generator(latent=8, width=4)(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(self, latent: int = 64, channels: int = 1, size: int = 28, width: int = 64) -> None:
        super().__init__()
        self.latent, self.size = whole_number("latent", latent, 1), _size(size)
        whole_number("channels", channels, 1), whole_number("width", width, 1)
        first = (2 * width, size // 4, size // 4)
        self.layers = nn.Sequential(
            nn.Linear(latent, first[0] * first[1] * first[2], bias=False),
            nn.Unflatten(1, first),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),  # size / 2
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),  # size
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(_latent("z", z, self.latent, self.layers[0].weight.dtype)).to(z)  # also in half precision


class Discriminator(nn.Module):
    """Judge pictures (B, channels, size, size) by logits (B,): the larger, the more real; no sigmoid (DCGAN).

    Two convolutions halve the picture (arXiv:1511.06434), then a linear layer looks at all of it. spectral: divide
    each layer's matrix by its largest singular value (arXiv:1802.05957; torch's own spectral_norm). batch_norm: after
    the second convolution; then real and fake pictures must come in batches of their own.
    Raises ValueError or TypeError when the pictures have another shape or kind.

    >>> Discriminator(width=4)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5])
    """

    def __init__(
        self, channels: int = 1, size: int = 28, width: int = 32, spectral: bool = False, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.shape = (whole_number("channels", channels, 1), _size(size), size)
        whole_number("width", width, 1)
        bounded = spectral_norm if _switch("spectral", spectral) else nn.Identity()
        self.layers = nn.Sequential(
            bounded(nn.Conv2d(channels, width, 4, stride=2, padding=1)),  # size / 2
            nn.LeakyReLU(0.2),
            bounded(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),  # size / 4
            nn.BatchNorm2d(2 * width) if _switch("batch_norm", batch_norm) else nn.Identity(),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            bounded(nn.Linear(2 * width * (size // 4) ** 2, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        if data_batch("pictures", x).shape[1:] != self.shape:
            raise ValueError(f"expected pictures of shape {('B', *self.shape)}, got {described(x)}".replace("'", ""))
        return self.layers(_of_dtype("pictures", x, next(self.parameters()).dtype)).squeeze(1).to(x)


class ModulatedConv(nn.Module):
    """Convolve x (B, channels_in, H, W) by kernels that a style (B, channels_in) scales (arXiv:1912.04958, eq. 1-3).

    Each input channel is scaled by its style (eq. 1), each output divided by the size that this gives it (eq. 2, 3),
    so that a style decides what matters but not how large it becomes. Scaling kernels or pictures is the same sum;
    pictures are scaled here, for then one convolution serves the whole batch. demodulate: False leaves out eq. 2-3.

    >>> ModulatedConv(4, 6)(torch.zeros(2, 4, 7, 7), torch.ones(2, 4)).shape
    torch.Size([2, 6, 7, 7])
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, demodulate: bool = True) -> None:
        super().__init__()
        for name, value in {"channels_in": channels_in, "channels_out": channels_out, "kernel": kernel}.items():
            whole_number(name, value, 1)
        weight = torch.randn(channels_out, channels_in, kernel, kernel)
        self.weight = nn.Parameter(weight / (channels_in * kernel**2) ** 0.5)
        self.demodulate, self.padding = _switch("demodulate", demodulate), kernel // 2

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = nn.functional.conv2d(x * style[:, :, None, None], self.weight, padding=self.padding)
        if not self.demodulate:
            return h
        variance = style.square() @ self.weight.square().sum((2, 3)).T  # (B, channels_out)
        return h * (variance + 1e-8).rsqrt()[:, :, None, None]


class StyleLayer(nn.Module):
    """One layer of the style-based generator: a modulated convolution, noise at a learned strength, a bias, leaky ReLU.

    x (B, channels_in, H, W), w (B, latent) -> (B, channels_out, H, W), twice as large with double=True. The noise is
    one number for each place, shared by the channels, from the generator (arXiv:1812.04948, sections 2 and 3.2).

    >>> StyleLayer(4, 6, latent=8, double=True)(torch.zeros(2, 4, 7, 7), torch.zeros(2, 8)).shape
    torch.Size([2, 6, 14, 14])
    """

    def __init__(self, channels_in: int, channels_out: int, latent: int, double: bool = False) -> None:
        super().__init__()
        self.double = _switch("double", double)
        self.style = _style(latent, channels_in)
        self.conv = ModulatedConv(channels_in, channels_out)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor, w: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.double:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        device = x.device if generator is None else generator.device
        noise = torch.randn(len(x), 1, *x.shape[2:], generator=generator, device=device, dtype=x.dtype).to(x.device)
        h = self.conv(x, self.style(w)) + self.strength * noise + self.bias[:, None, None]
        return 2**0.5 * nn.functional.leaky_relu(h, 0.2)  # about as large as before the half was cut


class StyleGenerator(nn.Module):
    """Turn noise z (B, latent) into pictures (B, channels, size, size) in [-1, 1] by way of styles (StyleGAN 1 and 2).

    mapping: z (B, latent) -> w (B, latent). synthesis: from a learned constant of a quarter of the size, doubled
    twice, each of its `count` layers taking its style from w and fresh noise from generator (arXiv:1812.04948;
    modulation as in arXiv:1912.04958, section 2.2). So the same z gives a slightly other picture each time, unless a
    generator of the same seed draws the noise. size: 28 or 32.
    Raises ValueError or TypeError when z or w has another shape or kind.

    >>> net = StyleGenerator(latent=8, width=4)
    >>> net(torch.zeros(5, 8)).shape, net.synthesis(torch.zeros(5, net.count, 8)).shape
    (torch.Size([5, 1, 28, 28]), torch.Size([5, 1, 28, 28]))
    """

    def __init__(self, latent: int = 64, channels: int = 1, size: int = 28, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.latent, self.size = whole_number("latent", latent, 1), _size(size)
        whole_number("channels", channels, 1), whole_number("width", width, 2), whole_number("depth", depth, 1)
        self.to_w = nn.Sequential()
        for _ in range(depth):
            self.to_w.extend([nn.Linear(latent, latent), nn.LeakyReLU(0.2)])
            nn.init.kaiming_normal_(self.to_w[-2].weight, 0.2)  # w as large as z, or all pictures begin alike
        self.constant = nn.Parameter(torch.randn(1, 2 * width, size // 4, size // 4))
        self.layers = nn.ModuleList(
            [
                StyleLayer(2 * width, 2 * width, latent),
                StyleLayer(2 * width, width, latent, double=True),  # size / 2
                StyleLayer(width, width, latent),
                StyleLayer(width, width // 2, latent, double=True),  # size
            ]
        )
        self.style = _style(latent, width // 2)
        self.write = ModulatedConv(width // 2, channels, kernel=1, demodulate=False)
        self.count = len(self.layers)

    def mapping(self, z: Tensor) -> Tensor:
        """Turn z (B, latent) into w (B, latent); z is brought to length sqrt(latent) first."""
        _latent("z", z, self.latent, self.constant.dtype)
        return self.to_w(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()).to(z)

    def synthesis(self, w: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw pictures from w (B, latent), or from one w for each layer, (B, count, latent)."""
        generator_or_none(generator)
        if isinstance(w, Tensor) and w.ndim == 3 and w.shape[1:] != (self.count, self.latent):
            raise ValueError(f"expected w of shape (B, {self.count}, {self.latent}), got {described(w)}")
        styles = w.unbind(1) if isinstance(w, Tensor) and w.ndim == 3 else [w] * self.count
        for style in styles:
            _latent("w", style, self.latent, self.constant.dtype)
        x = self.constant.expand(len(styles[0]), -1, -1, -1)
        for layer, style in zip(self.layers, styles, strict=True):
            x = layer(x, style, generator)
        return self.write(x, self.style(styles[-1])).tanh().to(styles[-1])

    def mix(self, z_a: Tensor, z_b: Tensor, crossover: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw pictures whose first `crossover` layers follow z_a and the others z_b (style mixing, arXiv:1812.04948).

        z_a and z_b: (B, latent). crossover in 0..count.
        """
        w_a, w_b = self.mapping(z_a), self.mapping(z_b)
        crossover = whole_number("crossover", crossover, 0, self.count)
        if len(w_a) != len(w_b):
            raise ValueError(f"expected as many rows in z_a as in z_b, got {len(w_a)} and {len(w_b)}")
        return self.synthesis(torch.stack([w_a] * crossover + [w_b] * (self.count - crossover), dim=1), generator)

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.synthesis(self.mapping(z), generator)


def _style(latent: int, channels: int) -> nn.Linear:
    """A layer that reads a style from w: at first 1 for each channel, give or take about 1."""
    layer = nn.Linear(latent, channels)
    nn.init.normal_(layer.weight, 0, latent**-0.5)
    nn.init.ones_(layer.bias)
    return layer


def _latent(name: str, value: Tensor, latent: int, dtype: torch.dtype) -> Tensor:
    if data_batch(name, value).shape[1:] != (latent,):
        raise ValueError(f"expected {name} of shape (B, {latent}), got {described(value)}")
    return _of_dtype(name, value, dtype)


def _of_dtype(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    if value.dtype != dtype:
        raise TypeError(f"expected {name} as {dtype}, like the weights, got {value.dtype}: call {name}.to({dtype})")
    return value


def _size(size: Any) -> int:
    if whole_number("size", size, 28, 32) not in (28, 32):
        raise ValueError(f"expected size 28 (MNIST) or 32 (CIFAR-10), got {size}")
    return size


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected {name} to be True or False, got {described(value)}")
    return value
