"""Judge: it reads the renderer's own truth, spoilt a little, and nothing else fools it."""

import math

import pytest
import torch
from torch.nn.functional import conv2d, interpolate, pad

from course_lib import shapes
from course_lib.judge import UNKNOWN, judge, lab, score
from course_lib.shapes import COLOURS, GROUND, PLACES, SHAPES, SIZES, Scene, Thing, parse, render, sentence

GREY = torch.tensor(GROUND)[:, None, None] / 127.5 - 1
STRANGE = Scene((Thing(UNKNOWN, UNKNOWN),))
ONE, TWO = shapes.every_scene(1), shapes.every_scene(2)[::37]  # 37: no multiple of a count, so all words occur


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(pictures, std):
    return pictures + std * torch.randn(pictures.shape, generator=seeded(1))


def blurred(pictures, std):
    x = torch.arange(-3.0, 4.0)
    weights = (-(x**2) / (2 * std**2)).exp()
    weights = (weights / weights.sum()).expand(3, 1, 1, 7)
    across = conv2d(pad(pictures, (3, 3, 3, 3), mode="replicate"), weights, groups=3)
    return conv2d(across, weights.mT, groups=3)


def halved(pictures):
    return interpolate(interpolate(pictures, size=24, mode="bilinear", antialias=True), size=32, mode="bilinear")


SPOILT = {
    "clean": (lambda x: x, 0.995),
    "noise 0.1": (lambda x: noisy(x, 0.1), 0.97),
    "blur 0.5": (lambda x: blurred(x, 0.5), 0.97),
    "blur 0.7": (lambda x: blurred(x, 0.7), 0.97),
    "noise and blur": (lambda x: noisy(blurred(x, 0.5), 0.1), 0.97),
    "three quarters of the pixels": (halved, 0.95),
    "paler": (lambda x: 0.9 * x, 0.97),
    "a warm lamp": (lambda x: x + torch.tensor([0.06, 0.0, -0.06])[:, None, None], 0.97),
    "too bright": (lambda x: 1.15 * x, 0.97),
}


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("scenes", [ONE, TWO], ids=["one thing", "two things"])
def test_what_was_drawn_is_read_back(scenes, spoilt):
    """On more scenes, once: see the docstring of judge."""
    spoil, wanted = SPOILT[spoilt]
    scenes = scenes if spoilt == "clean" else scenes[::2]
    found = score(spoil(render(scenes, generator=seeded())), scenes)
    assert found["n"] == len(scenes) >= 249 and found["all"] >= wanted, found


@pytest.mark.parametrize("scene", [ONE[100], TWO[100]], ids=["one thing", "two things"])
def test_one_wrong_word_is_found_and_only_that_one(scene):
    pictures = render([scene] * 4, generator=seeded())
    for name, words in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES)):
        first, *rest = scene.things
        for word in set(words) - {getattr(first, name)}:
            found = score(pictures, [Scene((first._replace(**{name: word}), *rest))] * 4)
            assert found[name] == 0 and found["all"] == 0 and found["count"] == 1
            assert all(found[other] == 1 for other in {"colour", "shape", "size", "place"} - {name})
            assert found["colour_shape_place"] == (name == "size")


def test_things_that_swapped_places_or_colours_are_wrong_in_that():
    asked = parse("a small red ring left of a large blue star")
    places, colours = "a large blue star left of a small red ring", "a small blue ring left of a large red star"
    found = score(render([parse(places), parse(colours)]), [asked, asked])
    assert (found["place"], found["colour"], found["shape"], found["all"]) == (0.5, 0.5, 1.0, 0.0)


def test_what_was_not_asked_for_cannot_be_wrong_but_one_thing_more_is():
    drawn = render([parse("a small red ring left of a large blue star"), parse("a large white cross at the top")])
    right = [parse("a blue star and a red ring"), parse("a white cross")]
    assert all(share == 1 for name, share in score(drawn, right).items() if name != "n")
    fewer = [parse("a red ring"), parse("a white cross at the top")]
    assert [score(drawn, fewer)[name] for name in ("count", "shape", "place", "all")] == [0.5, 0.5, 0.5, 0.5]


def outlined(corners, radius=6.5, turn=0.0):
    """Draw a shape that the course does not know, in red."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.OUTLINES, "ring", corners)
        patch.setattr(shapes, "SHAPES", (*SHAPES, "other"))
        patch.setitem(shapes.OUTLINES, "other", corners)
        return painted("other", radius, turn, COLOURS["red"])


def painted(shape, radius, turn, colour):
    n = 20
    middle = 16 + 2 * torch.rand(n, 2, generator=seeded()) - 1
    cover = shapes.coverage(shape, middle, torch.full((n,), radius), torch.full((n,), turn))
    return GREY + cover[:, None] * (torch.tensor(colour)[:, None, None] / 127.5 - 1 - GREY)


def beside(left, right):
    return torch.cat([left[..., :16], right[..., 16:]], dim=-1)


def disc(colour="red", radius=6.0):
    return painted("circle", radius, 0.0, COLOURS.get(colour, colour))


def around(n, inner=1.0):
    """Corners on a circle, every second one further in."""
    radii = [1.0, inner] * n
    return [(r * math.sin(math.pi * k / n), -r * math.cos(math.pi * k / n)) for k, r in enumerate(radii)]


STRANGERS = {
    "diamond": lambda: outlined(shapes.OUTLINES["square"], turn=math.pi / 4),
    "slanted cross": lambda: outlined(shapes.OUTLINES["cross"], turn=math.pi / 4),
    "triangle upside down": lambda: outlined(shapes.OUTLINES["triangle"], turn=math.pi),
    "star of four": lambda: outlined(around(4, 0.4)),
    "star of six": lambda: outlined(around(6, 0.5)),
    "half moon": lambda: outlined([(math.cos(k * math.pi / 20), 0.5 - math.sin(k * math.pi / 20)) for k in range(21)]),
    "bar": lambda: outlined([(1, 0.35), (1, -0.35), (-1, -0.35), (-1, 0.35)]),
    "rectangle": lambda: outlined([(1, 0.6), (1, -0.6), (-1, -0.6), (-1, 0.6)]),
    "tiny disc": lambda: disc(radius=2.5),
    "huge disc": lambda: disc(radius=12.0),
    "pink disc": lambda: disc((255, 150, 190)),
    "brown disc": lambda: disc((120, 70, 20)),
    "cyan disc": lambda: disc((0, 220, 230)),
    "dark red disc": lambda: disc((140, 0, 0)),
    "light grey disc": lambda: disc((195, 195, 195)),
    "dark grey disc": lambda: disc((70, 70, 70)),
    "half red, half blue": lambda: beside(disc("red"), disc("blue")),
    "half a disc": lambda: beside(disc("red"), GREY.expand(20, 3, 32, 32)),
    "noise": lambda: torch.randn(20, 3, 32, 32, generator=seeded()),
    "even noise": lambda: 2 * torch.rand(20, 3, 32, 32, generator=seeded()) - 1,
    "clouds": lambda: interpolate(torch.randn(20, 3, 8, 8, generator=seeded()), size=32, mode="bilinear"),
    "a red page": lambda: torch.tensor(COLOURS["red"])[None, :, None, None].expand(20, 3, 32, 32) / 127.5 - 1,
    "a black page": lambda: -torch.ones(20, 3, 32, 32),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_the_course_does_not_draw_is_not_taken_for_what_it_does(stranger):
    pictures = STRANGERS[stranger]()
    assert judge(pictures) == [STRANGE] * 20
    found = score(pictures, [parse("a red circle")] * 20)  # one thing, as asked for, but not that one
    assert found["count"] == 1 and found["colour"] == found["shape"] == found["all"] == 0


@pytest.mark.parametrize("std", [0.0, 0.03, 0.1])
def test_an_empty_picture_holds_nothing(std):
    empty = noisy(GREY.expand(50, 3, 32, 32), std)
    assert judge(empty) == [Scene(())] * 50
    assert set(score(empty, [ONE[0]] * 50).values()) == {0.0, 50}


def test_something_strange_beside_the_right_thing_is_one_thing_too_many():
    asked = [parse("a small blue square in the top left corner")] * 20
    good = render(asked, generator=seeded())
    smudge = good.clone()
    smudge[:, :, 22:28, 20:28] = torch.rand(20, 3, 1, 1, generator=seeded()) * 0.4 - 1  # dark, of no one colour
    other = render([parse("a small white ring on the right")] * 20, generator=seeded())
    second = torch.where((other - GREY).abs().amax(1, keepdim=True) > 0.1, other, good)
    assert score(good, asked)["all"] == 1
    assert score(smudge, asked)["all"] == 0 and all(len(scene.things) == 2 for scene in judge(smudge))
    assert score(second, asked)["count"] == 0
    assert {sentence(Scene((scene.things[1],))) for scene in judge(second)} == {"a small white ring on the right"}


def test_things_on_top_of_each_other_are_not_read_as_two():
    discs = [parse(f"a large {colour} circle in the centre") for colour in ("red", "blue")]
    first, second = (render([scene] * 20, generator=seeded(7)) for scene in discs)
    second = second.roll(6, -1)
    over = torch.where((second - GREY).abs().amax(1, keepdim=True) > 0.3, second, first)
    assert score(over, [parse("a red circle left of a blue circle")] * 20)["all"] == 0


def test_it_reads_any_float_type_any_range_and_any_number_of_pictures():
    scenes = [*ONE[::100], *TWO[::100]] * 20  # more than are read at once
    pictures = render(scenes, generator=seeded())
    assert len(scenes) > 256 and judge(pictures) == scenes
    assert judge(pictures[:3].double()) == judge(pictures[:3].bfloat16()) == scenes[:3]
    assert judge((5 * pictures[:3]).requires_grad_())[:3] == judge((5 * pictures[:3]).clamp(-1, 1))


def test_lab_knows_white_grey_and_the_published_red():
    colours = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    wanted = torch.tensor([[100.0, 0.0, 0.0], [0.0, 0.0, 0.0], [53.24, 80.09, 67.20]])
    assert float((lab(colours) - wanted).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: judge(torch.zeros(2, 1, 28, 28)), "expected pictures of shape (N, 3, 32, 32)"),
        (lambda: judge(torch.zeros(3, 32, 32)), "expected pictures of shape (N, 3, 32, 32)"),
        (lambda: judge(None), "expected pictures to be a torch tensor"),
        (lambda: judge(torch.full((1, 3, 32, 32), math.nan)), "expected finite pictures"),
        (lambda: score(torch.zeros(2, 3, 32, 32), [ONE[0]]), "expected one scene a picture, got 1 scenes for 2"),
        (lambda: score(torch.zeros(1, 3, 32, 32), ["a red ring"]), "expected scenes as a list of Scene"),
        (lambda: score(torch.zeros(1, 3, 32, 32), ONE[0]), "expected scenes as a list of Scene"),
        (lambda: lab(torch.zeros(2, 4)), "expected rgb as a floating-point tensor of shape (..., 3)"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_sentence(call, words):
    with pytest.raises((TypeError, ValueError), match=r"^expected [^\n]*$") as refused:
        call()
    assert words in str(refused.value)


def test_places_and_sizes_are_told_apart_half_way():
    """Moved by a third of the way to the next place, or drawn a sixth smaller, a thing is still what it was."""
    for place, (x, y) in PLACES.items():
        cover = shapes.coverage(
            "square", torch.tensor([[x + 2.5, y], [x, y - 2.5]]).clamp(6, 26), torch.full((2,), 6.1), torch.zeros(2)
        )
        seen = judge(GREY + cover[:, None] * (-1 - GREY))
        assert [scene.things[0][2:] for scene in seen] == [("large", place)] * 2
