"""Judge: read back from a picture what things are in it, and count how often that is what was asked for.

    picture = ground + cover * (colour - ground), solved for the cover and the colour of each blob; no training
Shapes: pictures (N, 3, 32, 32) in [-1, 1]; blobs of one colour (M,), each seen through a window of (M, 20, 20).
Does not belong here: drawing (shapes.py), anything about how the pictures were made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from course_lib.doors import data_batch, described
from course_lib.shapes import COLOURS, GROUND, PLACES, SHAPES, SIDE, SIZES, Scene, Thing, coverage

__all__ = ["UNKNOWN", "judge", "lab", "score"]

UNKNOWN = "unknown"  # the colour and the shape of a blob that is like nothing the course draws
WINDOW = 20  # pixels; the largest thing fits in
COVERED = 0.6  # a pixel belongs to a blob from this cover on
BLOCKS = 4  # a blob holds at least so many squares of 2 x 2 pixels; less is a speck
MOST = 4  # blobs of one picture that are looked at, the largest
GROWTH = 2  # pixels around a blob, where its soft edge lies
FAR = 0.25  # from the grey of the ground, in [-1, 1]; a picture's own ground may not be further
MISFIT = 0.09  # of a blob's energy that its best template may leave unexplained, beside the picture's grain
OFF_COLOUR = 24  # distance in CIE L*a*b* that a colour may have from its name
RADII = (3.5, 8.3)  # half the width of what counts as a thing
LEFT_OVER, LEFT_OVER_PIXELS = 0.3, 12  # a change of colour that no thing explains, and on how many pixels


class _Templates(NamedTuple):
    """Every shape at every size, angle, softness and place within a pixel, a row each; and some that are no shapes."""

    cover: Tensor  # (K, 400), each divided by its length
    length: Tensor  # (K,)
    shape: Tensor  # (K,) index into SHAPES
    radius: Tensor  # (K,) pixels
    middle: Tensor  # (K, 2) x and y from the middle of the window
    known: Tensor  # (K,) False for a decoy


class _Blobs(NamedTuple):
    """Blobs of one colour, each cut out with its soft edge."""

    picture: Tensor  # (M,) which picture
    pixels: Tensor  # (M, 3, 32, 32) minus the ground, 0 outside of the blob
    solid: Tensor  # (M, 32, 32) where it covers most of a pixel


class _Fits(NamedTuple):
    """The best template of each blob."""

    template: Tensor  # (M,) which
    corner: Tensor  # (M, 2) upper left corner of its window, x and y
    step: Tensor  # (M, 3) from ground to colour, times the template's length
    misfit: Tensor  # (M,) share of the blob's energy that it leaves


def lab(rgb: Tensor) -> Tensor:
    """Turn sRGB colours (..., 3) in [0, 1] into CIE L*a*b* (..., 3), where distances are nearly as people see them.

    L* is 0 for black and 100 for white (D65). Two colours at a distance of 2.3 can just be told apart.

    >>> [round(lightness, 1) for lightness in lab(torch.tensor([[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]]))[:, 0].tolist()]
    [100.0, 53.4]
    """
    if not isinstance(rgb, Tensor) or not rgb.is_floating_point() or rgb.shape[-1:] != (3,):
        raise ValueError(f"expected rgb as a floating-point tensor of shape (..., 3), got {described(rgb)}")
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ linear.new_tensor(to_xyz).T
    xyz = xyz / linear.new_tensor(to_xyz).sum(1)  # white is (1, 1, 1)
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


@torch.no_grad()
def judge(pictures: Tensor) -> list[Scene]:
    """Read what is in pictures (N, 3, 32, 32) in [-1, 1]: for each a Scene of all its things, none where it is empty.

    Each blob of one colour is compared with every shape at every size, angle and softness, as the course draws it; its
    colour is what makes the best of them fit best, its place the nearest of PLACES. Whatever of a picture is left when
    all the things found are taken away, another shape, another colour, noise, is one Thing of UNKNOWN colour and shape.

    Everything right, in 10,000 new scenes of one thing and 10,000 of two: 100 % each; with Gaussian noise of deviation
    0.1, 99.99 and 100 %; blurred by 0.7 pixels, 100 and 99.95 %. Blurred by a whole pixel, stars and rings get lost.

    >>> from course_lib.shapes import parse, render, sentence
    >>> scene = parse("a small red ring left of a large blue star")
    >>> sentence(judge(render([scene]))[0])
    'a small red ring left of a large blue star'
    """
    return [scene for few in _pictures(pictures).float().cpu().split(256) for scene in _judge(few.clamp(-1, 1))]


def score(pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, float | int]:
    """Count how often pictures (N, 3, 32, 32) in [-1, 1] show what N scenes ask for.

    Returns shares in [0, 1]: count (as many things as asked for), colour, shape, size, place (each right for every
    thing of the picture), colour_shape_place, all; and n. A picture with another number of things is wrong in
    everything; what a scene does not say cannot be wrong. Raises ValueError when there is not one scene a picture.

    >>> from course_lib.shapes import parse, render
    >>> asked = [parse("a small red ring on the left"), parse("a large blue star in the centre")]
    >>> found = score(render(asked), [asked[0], asked[0]])
    >>> found["count"], found["colour"], found["all"], found["n"]
    (1.0, 0.5, 0.5, 2)
    """
    if not isinstance(scenes, Sequence) or not all(isinstance(scene, Scene) for scene in scenes):
        raise TypeError(f"expected scenes as a list of Scene, got {described(scenes)}: parse makes one of a sentence")
    if len(scenes) != len(_pictures(pictures)):
        raise ValueError(f"expected one scene a picture, got {len(scenes)} scenes for {len(pictures)} pictures")
    right = [_right(seen, asked) for seen, asked in zip(judge(pictures), scenes, strict=True)]
    names = ("count", *Thing._fields, "colour_shape_place", "all")
    return {name: sum(name in found for found in right) / len(right) for name in names} | {"n": len(right)}


def _right(seen: Scene, asked: Scene) -> set[str]:
    """What is right in a picture, things paired in the way that makes the most of it right."""
    if len(seen.things) != len(asked.things):
        return set()

    def agreed(order: tuple[Thing, ...]) -> set[str]:
        pairs = list(zip(order, asked.things, strict=True))
        return {
            name
            for name in Thing._fields
            if all(getattr(want, name) in (None, getattr(see, name)) for see, want in pairs)
        }

    found = max((agreed(order) for order in permutations(seen.things)), key=len)
    more = {"colour_shape_place"} if {"colour", "shape", "place"} <= found else set()
    return {"count"} | found | more | ({"all"} if len(found) == len(Thing._fields) else set())


def _pictures(pictures: Tensor) -> Tensor:
    if data_batch("pictures", pictures).shape[1:] != (3, SIDE, SIDE):
        raise ValueError(f"expected pictures of shape (N, 3, {SIDE}, {SIDE}), got {described(pictures)}")
    if not pictures.isfinite().all():
        raise ValueError("expected finite pictures, got NaN or infinity: look at the sampler that made them")
    return pictures


def _judge(pictures: Tensor) -> list[Scene]:
    """Read a few pictures: find blobs, fit templates, look at what is left."""
    ground = _ground(pictures)
    pixels = pictures - ground[:, :, None, None]
    blobs = _blobs(pixels)
    fits = _fit(blobs, _grain(pictures))
    things = _things(fits, ground[blobs.picture])
    named = [i for i, thing in enumerate(things) if thing]
    left = pixels - _explained(fits, named, blobs.picture, len(pictures))
    found: list[list[Thing]] = [[] for _ in pictures]
    for row, thing in zip(blobs.picture.tolist(), things, strict=True):
        found[row] += [thing] if thing else []
    strange = avg_pool2d(left, 3, 1, 1).norm(dim=1) > LEFT_OVER
    for row in (strange.sum((1, 2)) >= LEFT_OVER_PIXELS).nonzero()[:, 0].tolist():
        found[row].append(Thing(UNKNOWN, UNKNOWN))
    return [Scene(tuple(of)) for of in found]


def _ground(pictures: Tensor) -> Tensor:
    """The grey behind the things, (N, 3): what half of the pixels are, if that is near the ground's own grey."""
    own, grey = pictures.flatten(2).median(2).values, torch.tensor(GROUND) / 127.5 - 1
    return torch.where((own - grey).norm(dim=1, keepdim=True) < FAR, own, grey)


def _grain(pictures: Tensor) -> Tensor:
    """The deviation (N,) of the noise in pictures, from neighbours: half of them differ by less than 0.954 of it."""
    return (pictures[..., 1:] - pictures[..., :-1]).abs().flatten(1).median(1).values / 0.954


def _blobs(pixels: Tensor) -> _Blobs:
    """Cut out the blobs of one colour from pictures minus their ground."""
    colour = _nearest_colour(pixels)
    ids = _connected(colour)  # (N, 32, 32), one number a blob in all pictures
    same = (ids[:, 1:, 1:] == ids[:, 1:, :-1]) & (ids[:, 1:, 1:] == ids[:, :-1, 1:])
    block = same & (ids[:, 1:, 1:] == ids[:, :-1, :-1]) & (ids[:, 1:, 1:] > 0)
    count = ids[:, 1:, 1:][block].bincount(minlength=pixels[:, 0].numel() + 1)
    known = (count >= BLOCKS).nonzero()[:, 0]
    picture = (known - 1) // SIDE**2
    order = (picture * (SIDE**2 + 1) - count[known]).argsort()  # by picture, the largest first
    known, picture = known[order], picture[order]
    first = torch.searchsorted(picture, picture)
    kept = torch.arange(len(known)) - first < MOST
    known, picture = known[kept], picture[kept]
    lasting = torch.zeros(len(count), dtype=torch.bool).index_fill_(0, known, True)
    ids = torch.where(lasting[ids], ids, 0)
    solid = ids[picture] == known[:, None, None]
    for _ in range(GROWTH):
        ids = torch.where(ids > 0, ids, torch.stack([shifted(ids) for shifted in _NEIGHBOURS]).amax(0))
    return _Blobs(picture, pixels[picture] * (ids[picture] == known[:, None, None])[:, None], solid)


def _nearest_colour(pixels: Tensor) -> Tensor:
    """Number each pixel's colour from 1, (N, 32, 32); 0: ground. A soft edge lies on the line from ground to colour."""
    steps = (torch.tensor(list(COLOURS.values())) - torch.tensor(GROUND)) / 127.5  # (8, 3)
    along = torch.einsum("nchw,kc->nkhw", pixels, steps) / steps.square().sum(1)[:, None, None]
    share = along.clamp(0, 1)
    away = share * (share - 2 * along) * steps.square().sum(1)[:, None, None]  # squared distance, but for |pixel|^2
    best = away.min(1, keepdim=True).indices
    return torch.where(share.gather(1, best) >= COVERED, best + 1, 0)[:, 0]


_NEIGHBOURS = (
    lambda ids: pad(ids[:, 1:], (0, 0, 0, 1)), lambda ids: pad(ids[:, :-1], (0, 0, 1, 0)),
    lambda ids: pad(ids[:, :, 1:], (0, 1)), lambda ids: pad(ids[:, :, :-1], (1, 0)),
)  # fmt: skip


def _connected(colour: Tensor) -> Tensor:
    """Number the connected pixels of one colour alike, from 1; the highest number of each spreads until all agree."""
    ids = torch.where(colour > 0, torch.arange(1, colour.numel() + 1).reshape(colour.shape), 0)
    alike = [shifted(colour) == colour for shifted in _NEIGHBOURS]
    while True:
        before = ids
        for shifted, same in zip(_NEIGHBOURS, alike, strict=True):
            ids = torch.where(same & (colour > 0), torch.maximum(ids, shifted(ids)), ids)
        if torch.equal(ids, before):
            return ids


def _fit(blobs: _Blobs, grain: Tensor) -> _Fits:
    """Find the template that explains most of each blob, and the colour with which it does."""
    bank, cover = _templates(), _cover(blobs)
    corner = _corner(cover)
    best = (_window(cover[:, None], corner).flatten(1) @ bank.cover.T).argmax(1)  # largest cosine: lengths are 1
    seen = _window(blobs.pixels, corner).flatten(2)  # (M, 3, 400)
    step = torch.einsum("mp,mcp->mc", bank.cover[best], seen)  # least squares
    energy, noise = seen.square().sum((1, 2)), grain[blobs.picture].square() * (seen != 0).sum((1, 2))
    return _Fits(best, corner, step, (energy - noise) / step.square().sum(1) - 1)


def _things(fits: _Fits, ground: Tensor) -> list[Thing | None]:
    """Name what each blob is; None for what no template or no colour explains."""
    bank, named = _templates(), torch.tensor(list(COLOURS.values())) / 255
    rgb = (ground + fits.step / bank.length[fits.template, None] + 1) / 2
    away, colour = torch.cdist(lab(rgb.clamp(0, 1)), lab(named)).min(1)
    middle = fits.corner + WINDOW / 2 + bank.middle[fits.template]
    place = torch.cdist(middle, torch.tensor(list(PLACES.values()))).argmin(1)
    large = bank.radius[fits.template] > math.sqrt(math.prod(SIZES.values()))
    known = bank.known[fits.template] & (fits.misfit < MISFIT) & (away < OFF_COLOUR)
    words = zip(*(x.tolist() for x in (known, colour, bank.shape[fits.template], large.long(), place)), strict=True)
    return [
        Thing(list(COLOURS)[c], SHAPES[s], list(SIZES)[size], list(PLACES)[p]) if sure else None
        for sure, c, s, size, p in words
    ]


def _explained(fits: _Fits, rows: list[int], picture: Tensor, n: int) -> Tensor:
    """Paint the templates of the blobs in rows, minus the ground, (n, 3, 32, 32)."""
    fitted = torch.einsum("mp,mc->mpc", _templates().cover[fits.template[rows]], fits.step[rows])
    canvas = torch.zeros(n, SIDE + WINDOW, SIDE + WINDOW, 3)
    at = fits.corner[rows][:, :, None] + WINDOW // 2 + torch.arange(WINDOW)  # (M, 2, 20)
    where = (picture[rows][:, None, None], at[:, 1, :, None], at[:, 0, None, :])
    canvas.index_put_(where, fitted.unflatten(1, (WINDOW, WINDOW)), accumulate=True)
    edge = WINDOW // 2
    return canvas[:, edge:-edge, edge:-edge].movedim(-1, 1)


def _cover(blobs: _Blobs) -> Tensor:
    """Measure how much of each pixel a blob covers, (M, 32, 32), up to a factor: how far it went towards its colour."""
    towards = (blobs.pixels * blobs.solid[:, None]).sum((2, 3))
    return torch.einsum("mc,mchw->mhw", towards / towards.square().sum(1, keepdim=True), blobs.pixels).clamp_min(0)


def _corner(cover: Tensor) -> Tensor:
    """The upper left corner, (M, 2) as x and y, of the window whose middle is nearest to that of the blob."""
    return (_mass_middle(cover) - WINDOW / 2).round().long()


def _mass_middle(cover: Tensor) -> Tensor:
    """The middle of mass (M, 2), as x and y, of covers (M, side, side)."""
    pixel = torch.arange(cover.shape[-1]) + 0.5
    return torch.stack([cover.sum(1) @ pixel, cover.sum(2) @ pixel], dim=1) / cover.sum((1, 2))[:, None]


def _soft(cover: Tensor) -> Tensor:
    """Blur covers (M, side, side) lightly, by a Gaussian of about 0.8 pixels."""
    weights = torch.tensor([0.24, 0.52, 0.24])
    return conv2d(cover[:, None], torch.outer(weights, weights)[None, None], padding=1)[:, 0]


def _window(x: Tensor, corner: Tensor) -> Tensor:
    """Cut windows (M, C, 20, 20) out of x (M, C, 32, 32); beyond its border there is nothing."""
    x, at = pad(x, (WINDOW // 2,) * 4), corner[:, :, None] + WINDOW // 2 + torch.arange(WINDOW)
    row = torch.arange(len(x))[:, None, None]
    return x.movedim(1, -1)[row, at[:, 1, :, None], at[:, 0, None, :]].movedim(-1, 1)


@lru_cache(maxsize=1)
def _templates() -> _Templates:
    """Draw the templates, their middle of mass within half a pixel of the window's."""
    radius, offset = torch.arange(2.9, 8.6, 0.3), torch.tensor([-1 / 3, 0.0, 1 / 3])
    upright = [-10.0, -5.0, 0.0, 5.0, 10.0]
    decoys = {"square": [30.0, 45.0, 60.0], "cross": [30.0, 45.0, 60.0], "triangle": [30.0, 60.0, 90.0, 180.0]}
    parts = []
    for number, shape in enumerate(SHAPES):
        turns = torch.tensor([0.0] if shape in ("circle", "ring") else upright + decoys.get(shape, []))
        r, turn, dx, dy = torch.cartesian_prod(radius, turns, offset, offset).T
        home = torch.full((len(r), 2), WINDOW / 2)
        middle = torch.stack([dx, dy], dim=1) - (_mass_middle(coverage(shape, home, r, turn.deg2rad(), WINDOW)) - home)
        sharp = coverage(shape, home + middle, r, turn.deg2rad(), WINDOW)
        known = (turn.abs() < 20) & (RADII[0] < r) & (r < RADII[1])
        for cover in (sharp, _soft(sharp)):
            parts.append((cover.flatten(1), torch.full((len(r),), number), r, middle, known))
    cover, *rest = (torch.cat(part) for part in zip(*parts, strict=True))
    length = cover.norm(dim=1)
    return _Templates(cover / length[:, None], length, *rest)
