"""Shapes: pictures that the course draws itself, without end, each with the sentence that says what is in it.

    pixel = ground + coverage * (colour - ground);   coverage = clamp(1/2 - signed distance to the outline, 0, 1)
Shapes: pictures (N, 3, 32, 32) in [-1, 1]; lengths in pixels; x to the right, y downwards, the middle is (16, 16).
Does not belong here: reading a picture back (judge.py), networks and tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_lib.doors import data_batch, described, generator_or_none, real_number, whole_number

__all__ = [
    "COLOURS",
    "GROUND",
    "PLACES",
    "SHAPES",
    "SIDE",
    "SIZES",
    "VOCABULARY",
    "Drawings",
    "Drawn",
    "Scene",
    "Thing",
    "coverage",
    "drawings",
    "every_scene",
    "held_out",
    "parse",
    "render",
    "sentence",
    "ways",
]

SIDE = 32  # pixels
#: sRGB in 0..255, far apart in OKLab, and still apart for eyes that lack one kind of cone
COLOURS = {
    "red": (215, 20, 20), "orange": (255, 155, 0), "yellow": (255, 245, 60), "green": (0, 130, 90),
    "blue": (15, 55, 185), "purple": (200, 65, 215), "white": (255, 255, 255), "black": (0, 0, 0),
}  # fmt: skip
GROUND = (148, 148, 148)
SHAPES = ("circle", "square", "triangle", "ring", "cross", "star")
SIZES = {"small": 4.7, "large": 6.9}  # half the width
#: where the middle of a thing lies, (x, y)
PLACES = {
    f"{row} {column}".strip() or "centre": (x, y)
    for (row, y), (column, x) in product(
        [("top", 8.5), ("", 16.0), ("bottom", 23.5)], [("left", 8.5), ("", 16.0), ("right", 23.5)]
    )
}
PAIRS = (("left", "right"), ("top", "bottom"))  # where two things may stand

SLACK = 1.0  # how far the middle of a single thing may lie from its place, in x and in y
PAIR_SLACK = (0.8, 0.3, 2.0)  # of two: moved apart by this, then loose along the line between them, and across it
SIZE_SLACK, TURN, COLOUR_SLACK, GROUND_SLACK = 0.2, math.radians(8), 8, 6

# Outlines of half width about 1, before they are turned; circle and ring need none.
_STAR = [
    (r * math.sin(k * math.pi / 5), 0.1 - r * math.cos(k * math.pi / 5)) for k, r in enumerate([1.05, 0.44] * 5)
]  # fmt: skip
_CROSS = [
    (0.34, 0.97), (0.34, 0.34), (0.97, 0.34), (0.97, -0.34), (0.34, -0.34), (0.34, -0.97),
    (-0.34, -0.97), (-0.34, -0.34), (-0.97, -0.34), (-0.97, 0.34), (-0.34, 0.34), (-0.34, 0.97),
]  # fmt: skip
OUTLINES = {
    "square": [(0.82, 0.82), (0.82, -0.82), (-0.82, -0.82), (-0.82, 0.82)],
    "triangle": [(0.0, -0.78), (-0.9, 0.78), (0.9, 0.78)],
    "cross": _CROSS,
    "star": _STAR,
}


class Thing(NamedTuple):
    """One object of a scene, in words; a size or a place of None was not said."""

    colour: str
    shape: str
    size: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Scene:
    """What is in a picture: things, in reading order of their places, so that equal scenes compare equal.

    >>> ring, cross = Thing("red", "ring", "small", "right"), Thing("blue", "cross", "large", "left")
    >>> Scene((ring, cross)) == Scene((cross, ring))
    True
    """

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "things", tuple(sorted(self.things, key=_reading_order)))


class Drawn(NamedTuple):
    """A batch of pictures (N, 3, 32, 32) in [-1, 1], the N sentences that say them, and the N scenes, whole."""

    pictures: Tensor
    sentences: list[str]
    scenes: list[Scene]


def _index(words: Sequence[str] | dict, word: str | None) -> int:
    return list(words).index(word) if word in words else -1


def _reading_order(thing: Thing) -> tuple[int, int, int, int]:
    words = ((PLACES, thing.place), (COLOURS, thing.colour), (SHAPES, thing.shape), (SIZES, thing.size))
    return tuple(_index(known, word) for known, word in words)


def _known(scene: Any, *, whole: bool = True) -> Scene:
    """Let in a scene of one or two things that can be drawn, or (not whole) at least said."""
    if not isinstance(scene, Scene):
        raise TypeError(f"expected a Scene, got {described(scene)}: parse('a small red circle on the left') makes one")
    if len(scene.things) not in (1, 2):
        raise ValueError(f"expected a scene of one or two things, got {len(scene.things)}")
    for thing in scene.things:
        for name, words in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES), ("place", PLACES)):
            word = getattr(thing, name)
            if word not in words and (word is not None or whole or name in ("colour", "shape")):
                raise ValueError(f"expected {name} to be one of {', '.join(words)}, got {described(word)}")
    places = tuple(thing.place for thing in scene.things)
    if len(places) == 2 and places not in PAIRS and (whole or places != (None, None)):
        raise ValueError(f"expected two things at left and right or at top and bottom, got {places[0]} and {places[1]}")
    return scene


# Words


_SAME = {"little": "small", "big": "large", "middle": "centre", "center": "centre", "over": "above", "under": "below"}
_PAIRED = {  # {0} stands left of, or above, {1}
    ("left", "right"): (
        "{0} left of {1}", "{1} right of {0}", "{0} to the left of {1}", "{1} to the right of {0}",
        "{0} on the left and {1} on the right", "{1} on the right and {0} on the left",
    ),
    ("top", "bottom"): (
        "{0} above {1}", "{1} below {0}", "{0} over {1}", "{1} under {0}",
        "{0} at the top and {1} at the bottom", "{1} at the bottom and {0} at the top",
    ),
    (None, None): ("{0} and {1}", "{1} and {0}"),
}  # fmt: skip
_ALONE = ("{0} {1}", "there is {0} {1}", "{1} there is {0}")
_SMALL_WORDS = "a above an and at below bottom centre corner in is left of on right the there to top"
VOCABULARY = tuple(sorted({*COLOURS, *SHAPES, *SIZES, *_SAME, *_SMALL_WORDS.split()}))


def _where(place: str) -> tuple[str, ...]:
    """All ways to say a place."""
    if " " in place:
        return f"in the {place} corner", f"at the {place}", f"in the {place}"
    if place == "centre":
        return "in the centre", "in the middle", "in the center"
    return (f"on the {place}",) if place in ("left", "right") else (f"at the {place}",)


def _phrases(scene: Scene) -> list[Sequence[str]]:
    """The frames of a sentence, then the words to choose from for each size: one choice of each makes a sentence."""
    places = tuple(thing.place for thing in scene.things)
    if len(places) == 2:
        frames = _PAIRED[places]
    elif places[0] is None:
        frames = ("{0}", "there is {0}")
    else:
        frames = [frame.replace("{1}", where) for frame in _ALONE for where in _where(places[0])]
    sizes = {None: ("",), "small": ("small ", "little "), "large": ("large ", "big ")}
    return [frames, *(sizes[thing.size] for thing in scene.things)]


def ways(scene: Scene) -> int:
    """Count the sentences that say a scene.

    >>> ways(parse("a red circle")), ways(parse("a small red circle at the top left"))
    (2, 18)
    """
    return math.prod(len(choices) for choices in _phrases(_known(scene, whole=False)))


def sentence(scene: Scene, way: int = 0) -> str:
    """Say a scene in English: all that it holds, nothing else. way: which of its `ways`, counted round and round.

    A size or a place of None is left out. Raises ValueError for what has no words: three things, an unknown colour.

    >>> scene = Scene((Thing("orange", "ring", "small", "left"), Thing("blue", "star", "large", "right")))
    >>> sentence(scene)
    'a small orange ring left of a large blue star'
    >>> sentence(scene, 21)
    'a big blue star to the right of a little orange ring'
    """
    phrases = _phrases(_known(scene, whole=False))
    way, chosen = whole_number("way", way, 0), []
    for choices in phrases:
        way, k = divmod(way, len(choices))
        chosen.append(choices[k])
    things = []
    for size, thing in zip(chosen[1:], scene.things, strict=True):
        article = "an" if not size and thing.colour == "orange" else "a"
        things.append(f"{article} {size}{thing.colour} {thing.shape}")
    return chosen[0].format(*things)


def _pattern() -> re.Pattern[str]:
    def one_of(words):
        return "|".join(sorted(words, key=len, reverse=True))  # "top left" before "top"

    thing = rf"(?:(?:an?|the) )?(?:({one_of(SIZES)}) )?({one_of(COLOURS)}) ({one_of(SHAPES)})"
    where = rf"(?:at|in|on) the ({one_of(PLACES)})(?: corner)?"
    between = r"(left of|right of|above|below|and)"
    return re.compile(rf"(?:{where} )?{thing}(?: {where})?(?: {between} {thing}(?: {where})?)?")


_PATTERN = _pattern()


def parse(text: str) -> Scene:
    """Read a sentence back into the scene it says; capitals, commas and full stops do not matter.

    Raises ValueError, with the words it knows or with an example, for anything else.

    >>> parse("A blue star above a small orange ring.").things[0]
    Thing(colour='blue', shape='star', size=None, place='top')
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a sentence as a str, got {described(text)}")
    words = re.findall(r"[^\s,.!]+", text.lower())
    strange = [word for word in words if word not in VOCABULARY]
    if strange:
        raise ValueError(f"expected words among {' '.join(VOCABULARY)}, got {described(strange[0])}")
    plain = " ".join(_SAME.get(word, word) for word in words if word not in ("there", "is"))
    found = _PATTERN.fullmatch(re.sub(r"to the (left|right) of", r"\1 of", plain))
    if found is None:
        raise ValueError(
            f"expected a sentence such as 'a small red circle on the left' or 'a red ring above a blue star', "
            f"got {described(text)}"
        )
    before, *first, after, between, size, colour, shape, last = found.groups()
    things = [(*first[1:], first[0], before or after)]
    if between is not None:
        things.append((colour, shape, size, last))
        things = _placed(things, between, text)
    elif before and after:
        raise ValueError(f"expected one place for one thing, got {described(text)}")
    return Scene(tuple(Thing(*thing) for thing in things))


def _placed(things: list[tuple], between: str, text: str) -> list[tuple]:
    """Give two things the places that the word between them says."""
    said = [thing[3] for thing in things]
    of = {"left of": PAIRS[0], "right of": PAIRS[0][::-1], "above": PAIRS[1], "below": PAIRS[1][::-1]}
    places = of.get(between, tuple(said))
    known = places in (*of.values(), (None, None))
    if not known or (between in of and said != [None, None]):
        raise ValueError(
            f"expected two things left and right or top and bottom of each other, got {described(text)}: "
            "write 'a red ring left of a blue star' or 'a red ring and a blue star'"
        )
    return [(*thing[:3], place) for thing, place in zip(things, places, strict=True)]


# Scenes


def every_scene(things: int) -> tuple[Scene, ...]:
    """List every scene of one thing (864) or of two (18,432).

    >>> len(every_scene(1)), len(every_scene(2))
    (864, 18432)
    """
    return _scenes_of("all", whole_number("things", things, 1, 2))


def held_out(scene: Scene) -> bool:
    """Say whether a scene is kept out of training: one combination of colour, shape and place in seven is.

    Numbered from 0 in the order of COLOURS, SHAPES and PLACES, it is out when colour + 2 shape + 3 place is a multiple
    of 7. So what is drawn from it tests combining: each colour, shape and place, and each pair of them, is trained on.
    A scene of two things is out when one of them is. Raises ValueError where a place is not said.

    >>> held_out(parse("a small red circle in the top left corner")), held_out(parse("a small red circle on the left"))
    (True, False)
    """
    for thing in _known(scene, whole=False).things:
        if thing.place is None:
            raise ValueError("expected a scene that says its places, got one without: only a whole scene is held out")
        number = _index(COLOURS, thing.colour) + 2 * _index(SHAPES, thing.shape) + 3 * _index(PLACES, thing.place)
        if number % 7 == 0:
            return True
    return False


# Pictures


def coverage(shape: str, middle: Tensor, radius: Tensor, turn: Tensor, side: int = SIDE) -> Tensor:
    """Compute how much of each pixel N things of one shape cover, (N, side, side) in [0, 1].

    middle (N, 2) as (x, y) and radius (N,), half the width, in pixels; turn (N,) in radians, clockwise. A straight edge
    covers a pixel by 1/2 minus its distance from the pixel's middle: exact where it runs along the grid.

    >>> disc = coverage("circle", torch.tensor([[16.0, 16.0]]), torch.tensor([5.0]), torch.zeros(1))
    >>> round(float(disc.sum() / (math.pi * (0.92 * 5) ** 2)), 2)  # a disc's radius is 0.92 of half the width
    1.0
    """
    if shape not in SHAPES:
        raise ValueError(f"expected shape to be one of {', '.join(SHAPES)}, got {described(shape)}")
    n = len(data_batch("middle", middle))
    for name, value, of in (("middle", middle, (n, 2)), ("radius", radius, (n,)), ("turn", turn, (n,))):
        if not isinstance(value, Tensor) or value.shape != of or not value.is_floating_point():
            raise ValueError(f"expected {name} as a floating-point tensor of shape {of}, got {described(value)}")
    pixel = torch.arange(whole_number("side", side, 1), device=middle.device) + 0.5
    x, y = pixel[None, None, :] - middle[:, 0, None, None], pixel[None, :, None] - middle[:, 1, None, None]
    radius = radius[:, None, None]
    if shape == "circle":
        distance = (x * x + y * y).sqrt() - 0.92 * radius
    elif shape == "ring":
        distance = ((x * x + y * y).sqrt() - 0.735 * radius).abs() - 0.235 * radius
    else:
        cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
        distance = _distance(cos * x + sin * y, cos * y - sin * x, OUTLINES[shape], radius)
    return (0.5 - distance).clamp(0, 1)


def _distance(x: Tensor, y: Tensor, corners: Sequence[tuple[float, float]], radius: Tensor) -> Tensor:
    """Measure the signed distance of points to a polygon: to its nearest edge, below 0 inside."""
    nearest, inside = torch.full_like(x, math.inf), torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey = bx - ax, by - ay
        px, py = x - ax * radius, y - ay * radius
        along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp_min(0).minimum(radius)
        nearest = nearest.minimum((px - along * ex).square() + (py - along * ey).square())
        if ey:  # a ray to the right crosses this edge
            crossed = (y > ay * radius) != (y > by * radius)
            inside ^= crossed & ((px - py * (ex / ey)) < 0)
    return nearest.sqrt() * torch.where(inside, -1.0, 1.0)


def render(scenes: Sequence[Scene], *, generator: torch.Generator | None = None) -> Tensor:
    """Draw scenes as pictures (N, 3, 32, 32) in [-1, 1], no two quite alike.

    Places, sizes and angles are loose by a pixel, a fifth of a pixel and 8 degrees, colours and the grey of the ground
    by a few of 255; two things always have ground between them. Raises ValueError for a scene without size or place.

    >>> render([parse("a small red circle on the left")]).shape
    torch.Size([1, 3, 32, 32])
    """
    if not isinstance(scenes, Sequence) or isinstance(scenes, str) or not scenes:
        raise TypeError(f"expected a list of at least one Scene, got {described(scenes)}")
    things = [(row, k, thing) for row, scene in enumerate(scenes) for k, thing in enumerate(_known(scene).things)]
    rows, slots = torch.tensor([[row, k] for row, k, _ in things]).T  # the first or the second of its picture
    loose = 2 * torch.rand(len(things), 7, generator=generator_or_none(generator)) - 1
    grey = torch.tensor(GROUND) + GROUND_SLACK * (2 * torch.rand(len(scenes), 1, generator=generator) - 1)
    middle = torch.tensor([_middle(thing.place, len(scenes[row].things)) for row, _, thing in things])  # (M, 2, 2)
    middle = middle[:, 0] + middle[:, 1] * loose[:, :2]
    radius = torch.tensor([SIZES[thing.size] for _, _, thing in things]) + SIZE_SLACK * loose[:, 2]
    colour = torch.tensor([COLOURS[thing.colour] for _, _, thing in things]) + COLOUR_SLACK * loose[:, 4:]
    covered, step = torch.zeros(len(scenes), 2, SIDE, SIDE), torch.zeros(len(scenes), 2, 3)
    for shape in SHAPES:
        of = torch.tensor([i for i, (_, _, thing) in enumerate(things) if thing.shape == shape], dtype=torch.long)
        if len(of):
            covered[rows[of], slots[of]] = coverage(shape, middle[of], radius[of], TURN * loose[of, 3])
    step[rows, slots] = colour.clamp(0, 255) - grey[rows]
    ground = grey[:, :, None, None] / 127.5 - 1
    added = torch.einsum("nkc,nkhw->nchw", step / 127.5, covered)  # two things never cover the same part of a pixel
    return (ground + added).clamp(-1, 1)


def _middle(place: str, things: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Say where a thing's middle lies, and how loose it is there, in x and y."""
    x, y = PLACES[place]
    if things == 1:
        return (x, y), (SLACK, SLACK)
    apart, along, across = PAIR_SLACK
    x, y = (c + math.copysign(apart, c - SIDE / 2) if c != SIDE / 2 else c for c in (x, y))
    return (x, y), ((along, across) if place in PAIRS[0] else (across, along))


class Drawings:
    """Batches of new pictures for ever, half of them of two things. Batch n follows from the arguments and n alone."""

    def __init__(self, size: int, *, part: str = "training", brief: float = 0.2, seed: int = 0) -> None:
        self.size, self.brief = whole_number("size", size, 1), real_number("brief", brief, 0, 1)
        self.seed, self.drawn = whole_number("seed", seed, 0, 2**31 - 1), 0
        if part not in ("training", "held out", "all"):
            raise ValueError(f"expected part to be training, held out or all, got {described(part)}")
        self.part = part

    @property
    def settings(self) -> dict[str, int | float | str]:
        """What the batches follow from: runs that differ here are two runs."""
        return {"part": self.part, "size": self.size, "brief": self.brief, "seed": self.seed}

    def skip_to(self, n: int) -> None:
        """Let the next batch be number n, counted from 0."""
        self.drawn = whole_number("n", n, 0)

    def __iter__(self) -> Iterator[Drawn]:
        return self

    def __next__(self) -> Drawn:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.drawn) % 2**32)
        chance = torch.rand(self.size, 4, generator=generator).tolist()
        way = torch.randint(2**31 - 1, (self.size,), generator=generator).tolist()
        scenes = [_pick(_scenes_of(self.part, 1 + (two < 0.5)), where) for two, where, _, _ in chance]
        said = [_forget(scene, a < self.brief, b) for scene, (_, _, a, b) in zip(scenes, chance, strict=True)]
        self.drawn += 1
        return Drawn(render(scenes, generator=generator), list(map(sentence, said, way)), scenes)


def drawings(size: int, *, part: str = "training", brief: float = 0.2, seed: int = 0) -> Drawings:
    """Yield batches of new pictures with their sentences and scenes for ever, half of them of two things.

    part: "training", "held out" (scenes for which `held_out` is true) or "all". brief: the share of sentences that
    leave out the sizes, the places or both, so that a model learns to choose what it is not told.

    >>> batch = next(drawings(4))
    >>> batch.pictures.shape, len(batch.sentences), len(batch.scenes)
    (torch.Size([4, 3, 32, 32]), 4, 4)
    """
    return Drawings(size, part=part, brief=brief, seed=seed)


@lru_cache(maxsize=6)
def _scenes_of(part: str, things: int) -> tuple[Scene, ...]:
    if part != "all":
        return tuple(scene for scene in _scenes_of("all", things) if held_out(scene) == (part == "held out"))
    looks = list(product(COLOURS, SHAPES, SIZES))
    if things == 1:
        return tuple(Scene((Thing(*look, place),)) for look in looks for place in PLACES)
    return tuple(
        Scene((Thing(*one, first), Thing(*other, second)))
        for first, second in PAIRS
        for one, other in product(looks, looks)
    )


def _pick(scenes: tuple[Scene, ...], where: float) -> Scene:
    return scenes[int(where * len(scenes))]


def _forget(scene: Scene, brief: bool, what: float) -> Scene:
    """Leave out the sizes, the places, or both, a third each."""
    if not brief:
        return scene
    gone = ({"size": None}, {"place": None}, {"size": None, "place": None})[int(3 * what)]
    return Scene(tuple(thing._replace(**gone) for thing in scene.things))
