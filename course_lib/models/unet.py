"""U-Net: the network that denoises pictures, small enough for two CPU cores.

    down: blocks, then halve;  middle: attention;  up: double, join the picture kept on the way down, blocks
Shapes: x (B, C, H, W), time (B,) in [0, 1], label (B,) whole numbers; output like x.
Does not belong here: schedules, objectives, training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_lib.doors import data_batch, described, whole_number
from course_lib.models.mlp import TimeEmbedding, network_inputs

__all__ = ["Attention", "ResidualBlock", "UNet"]


class ResidualBlock(nn.Module):
    """Add to x what two convolutions make of it, shifted and scaled by the context (time and label).

    x (B, channels_in, H, W), context (B, context) -> (B, channels_out, H, W). The second convolution starts at zero,
    so that a new block passes x on unchanged (Improved DDPM, arXiv:2102.09672, appendix A; FiLM, arXiv:1709.07871).

    >>> ResidualBlock(8, 16, context=4)(torch.zeros(2, 8, 7, 7), torch.zeros(2, 4)).shape
    torch.Size([2, 16, 7, 7])
    """

    def __init__(self, channels_in: int, channels_out: int, context: int) -> None:
        super().__init__()
        self.norm_1 = _GroupNorm(_groups(channels_in), channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.context = nn.Linear(context, 2 * channels_out)
        self.norm_2 = _GroupNorm(_groups(channels_out), channels_out)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        _zero(self.conv_2)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.conv_1(nn.functional.silu(self.norm_1(x)))
        scale, shift = self.context(context)[:, :, None, None].chunk(2, dim=1)  # (B, channels_out, 1, 1) each
        h = self.conv_2(nn.functional.silu(self.norm_2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class _GroupNorm(nn.GroupNorm):
    """GroupNorm in the precision of its weights, in mixed precision, too: in bfloat16 CPUs need three times as long."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Attention(nn.Module):
    """Let every place of a small picture look at every other (Transformer, arXiv:1706.03762, eq. 1).

    x (B, channels, H, W) -> the same; the cost grows with (H W)^2, so it stands where pictures are smallest.

    >>> Attention(8, heads=2)(torch.zeros(2, 8, 7, 7)).shape
    torch.Size([2, 8, 7, 7])
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        if whole_number("channels", channels, 1) % whole_number("heads", heads, 1):
            raise ValueError(f"expected heads to divide {channels} channels, got {heads}: choose a divisor")
        self.heads = heads
        self.norm = _GroupNorm(_groups(channels), channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.write = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        table = self.query_key_value(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W)
        query, key, value = table.transpose(-1, -2).unbind(1)  # (B, heads, H * W, C / heads) each
        looked = _looked(query, key, value, self.norm.weight.dtype)
        return x + self.write(looked.transpose(-1, -2).reshape(B, C, H, W))


class UNet(nn.Module):
    """Map noisy pictures x (B, C, H, W), time (B,) in [0, 1] and optional labels (B,) to pictures like x.

    widths: channels at each size, multiples of 4, from the largest picture to the smallest. patch: 2 folds each 2 x 2
    square of pixels into channels first (pixel unshuffle), a quarter of the work for a little sharpness. classes:
    number of labels; label == classes means "no label", the null condition of guidance. H and W must be multiples of
    patch. Halving rounds up, so 7 x 7 becomes 4 x 4, and 8 x 8 on the way up, of which the last row and column go.
    Raises ValueError or TypeError when x, time or label has another shape or kind.

    >>> net = UNet(channels=1, widths=(16, 32))
    >>> net(torch.zeros(2, 1, 28, 28), torch.rand(2)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self, channels: int = 1, widths: tuple[int, ...] = (48, 96), blocks: int = 2, patch: int = 2, classes: int = 0
    ) -> None:
        super().__init__()
        widths = _widths(widths)
        self.channels, self.patch = whole_number("channels", channels, 1), whole_number("patch", patch, 1, 4)
        self.classes = whole_number("classes", classes, 0)
        whole_number("blocks", blocks, 1)
        context = 4 * widths[0]
        self.time = nn.Sequential(TimeEmbedding(widths[0]), nn.Linear(widths[0], context), nn.SiLU())
        self.label = nn.Embedding(classes + 1, context) if classes else None
        self.read = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, kept = widths[0], [widths[0]]
        for level, wider in enumerate(widths):
            for _ in range(blocks):
                self.down.append(ResidualBlock(width, wider, context))
                width = wider
                kept.append(width)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = nn.ModuleList([ResidualBlock(width, width, context), Attention(width)])
        for level, narrower in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(width + kept.pop(), narrower, context))
                width = narrower
            if level > 0:
                self.up.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.norm = _GroupNorm(_groups(width), width)
        self.write = _zero(nn.Conv2d(width, channels * patch**2, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        self._door(x, time, label)
        context = self._context(x, time, label)
        h = self.read(nn.functional.pixel_unshuffle(x, self.patch))
        kept = [h]
        for layer in self.down:
            h = layer(h, context) if isinstance(layer, ResidualBlock) else layer(h)
            kept.append(h)
        h = self.middle[1](self.middle[0](h, context))
        for layer in self.up:
            h = layer(_joined(h, kept.pop()), context) if isinstance(layer, ResidualBlock) else layer(h)
        h = self.write(nn.functional.silu(self.norm(h)))
        return nn.functional.pixel_shuffle(h, self.patch).to(x)  # also in mixed precision

    def _context(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        context = self.time(time.to(x))
        if self.label is not None:
            none = torch.full((len(x),), self.classes, device=x.device)
            context = context + self.label(none if label is None else label)
        return nn.functional.silu(context)

    def _door(self, x: Tensor, time: Tensor, label: Tensor | None) -> None:
        shape = data_batch("x", x).shape
        if len(shape) != 4 or shape[1] != self.channels or shape[2] % self.patch or shape[3] % self.patch:
            wanted = f"(B, {self.channels}, H, W), H and W multiples of {self.patch}"
            raise ValueError(f"expected x of shape {wanted}, got {described(x)}")
        network_inputs(x, time, label, self.read.weight.dtype, self.classes)


def _widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths:
        raise TypeError(f"expected widths as channels at each size, such as (48, 96), got {described(widths)}")
    for width in widths:
        if whole_number("each of widths", width, 4) % 4:
            raise ValueError(f"expected widths as multiples of 4, for four heads of attention, got {width}")
    return tuple(widths)


def _joined(h: Tensor, kept: Tensor) -> Tensor:
    """Set the channels of h and of the picture kept at its size side by side; what doubling made too large is cut."""
    return torch.cat([h[..., : kept.shape[-2], : kept.shape[-1]], kept], dim=1)


def _looked(query: Tensor, key: Tensor, value: Tensor, precision: torch.dtype) -> Tensor:
    """softmax(query key^T / sqrt(width)) value; on CPUs in that precision: in bfloat16 its gradient is slow there.

    Shapes: (B, heads, places, width) each.
    """
    if query.device.type != "cpu":
        return nn.functional.scaled_dot_product_attention(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return nn.functional.scaled_dot_product_attention(*(x.to(precision) for x in (query, key, value)))


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Let a layer say nothing at first: a random bias, too, would be noise that the network must unlearn."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _groups(channels: int) -> int:
    """Choose as many groups of at least 8 channels as divide them, up to 8."""
    return max(g for g in range(1, 9) if channels % g == 0 and (channels // g >= 8 or g == 1))
