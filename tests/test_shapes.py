"""Shapes: what is drawn covers the right area at the right place, and every sentence says its scene."""

import math
from itertools import combinations, product

import pytest
import torch

from course_lib import shapes
from course_lib.judge import lab
from course_lib.shapes import COLOURS, GROUND, PLACES, SHAPES, SIZES, Scene, Thing, parse, sentence

FIELDS = {"colour": COLOURS, "shape": SHAPES, "place": PLACES}
SEEN = {"one": shapes.every_scene(1), "two": shapes.every_scene(2)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def inside(shape, x, y, radius, turn):
    """Whether points are inside a shape, by rules that know no distances: radii, and turns around the corners."""
    if shape in ("circle", "ring"):
        r = torch.hypot(x, y) / radius
        return r < 0.92 if shape == "circle" else (r > 0.5) & (r < 0.97)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = (cos * x + sin * y) / radius, (cos * y - sin * x) / radius
    corners = torch.tensor(shapes.OUTLINES[shape], dtype=torch.float64)
    angles = torch.atan2(corners[:, 1, None, None] - y, corners[:, 0, None, None] - x)
    steps = (angles.roll(-1, 0) - angles + math.pi) % (2 * math.pi) - math.pi
    return steps.sum(0).abs() > math.pi  # the winding number is not 0


@pytest.mark.parametrize(("shape", "radius"), list(product(SHAPES, SIZES.values())))
def test_coverage_is_the_area_of_each_pixel_within_the_outline(shape, radius):
    """Counted on 16 x 16 points a pixel; only a pixel with the tip of a star in it is far off."""
    middle, turn = torch.tensor([[15.7, 16.2]]), 0.1
    cover = shapes.coverage(shape, middle, torch.tensor([radius]), torch.tensor([turn]))[0]
    fine = (torch.arange(32 * 16, dtype=torch.float64) + 0.5) / 16
    hit = inside(shape, fine[None, :] - 15.7, fine[:, None] - 16.2, radius, turn).double()
    area = hit.reshape(32, 16, 32, 16).mean((1, 3))
    assert float((cover - area).abs().max()) < 0.3 and float((cover - area).abs().mean()) < 2e-3
    assert abs(float(cover.sum() / area.sum()) - 1) < 0.02


def test_a_thing_lies_where_its_place_says_and_has_its_colour():
    pictures = shapes.render(SEEN["one"], generator=seeded())
    assert pictures.shape == (864, 3, 32, 32) and float(pictures.abs().max()) <= 1
    grey = pictures[:, :, :, 0].median(2).values  # a whole column, mostly ground
    assert float((grey * 127.5 + 127.5 - GROUND[0]).abs().max()) <= shapes.GROUND_SLACK + 1e-3
    share = (pictures - grey[:, :, None, None]).abs().sum(1)
    pixel = torch.arange(32) + 0.5
    found = torch.stack([share.sum(1) @ pixel, share.sum(2) @ pixel], dim=1) / share.sum((1, 2))[:, None]
    wanted = torch.tensor([PLACES[scene.things[0].place] for scene in SEEN["one"]])
    assert float((found - wanted).abs().max()) < shapes.SLACK + 0.3 * SIZES["large"]  # a triangle's mass lies low
    far = (pictures - grey[:, :, None, None]).abs().sum(1).flatten(1).argmax(1)
    colour = pictures.flatten(2).gather(2, far[:, None, None].expand(-1, 3, 1))[..., 0] * 127.5 + 127.5
    named = torch.tensor([COLOURS[scene.things[0].colour] for scene in SEEN["one"]])
    assert float((colour - named).abs().max()) < shapes.COLOUR_SLACK + 0.01


@pytest.mark.parametrize("seed", range(3))
def test_two_things_never_touch(seed):
    """Between them there is a line of ground, or nearly: all across the picture, or all the way down."""
    scenes = [s for s in SEEN["two"][seed::7] if {t.size for t in s.things} == {"large"}]
    pictures = shapes.render(scenes, generator=seeded(seed))
    away = (pictures - pictures.flatten(2).median(2).values[:, :, None, None]).abs().amax(1)
    lines = {"left": away[:, :, 12:20].amax(1), "top": away[:, 12:20].amax(2)}
    emptiest = torch.stack([lines[s.things[0].place][i].min() for i, s in enumerate(scenes)])
    assert len(scenes) > 500 and float(emptiest.max()) < 0.5


def test_pictures_of_one_scene_differ_and_follow_their_generator():
    scene = [parse("a small green star in the centre")] * 8
    first, same, other = (shapes.render(scene, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    apart = torch.pdist(first.flatten(1))
    assert float(apart.min()) > 0.5
    torch.manual_seed(5)
    drawn = shapes.render(scene)
    torch.manual_seed(5)
    assert torch.equal(drawn, shapes.render(scene))


# How eyes that lack one kind of cone see linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.
EYES = {
    "usual": [1, 0, 0, 0, 1, 0, 0, 0, 1],
    "no long": [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
    "no middle": [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881],
    "no short": [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900],
}


@pytest.mark.parametrize("eyes", EYES)
def test_colours_stay_apart_for_every_kind_of_eye(eyes):
    """2.3 is just noticeable; a colour may be 8 of 255 off in each channel, about 4 in these units."""
    rgb = torch.tensor([*COLOURS.values(), GROUND]) / 255
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ torch.tensor(EYES[eyes], dtype=torch.float32).reshape(3, 3).T).clamp(0, 1)
    seen = torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert float(torch.pdist(lab(seen)).min()) > (35 if eyes == "usual" else 15)


def test_every_sentence_of_one_thing_is_read_back_and_says_it_in_known_words():
    spoken = set()
    for scene in SEEN["one"]:
        said = {sentence(scene, way) for way in range(shapes.ways(scene))}
        assert len(said) == shapes.ways(scene) and all(parse(words) == scene for words in said)
        spoken |= {word for words in said for word in words.split()}
    assert spoken <= set(shapes.VOCABULARY)


def test_every_scene_of_two_things_is_read_back_and_all_words_are_used():
    spoken = set(sentence(parse("an orange star")).split())
    assert len(set(SEEN["two"])) == 18_432
    for i, scene in enumerate(SEEN["two"]):
        words = sentence(scene, way=i)
        assert parse(words) == scene
        spoken |= set(words.split())
    for scene in SEEN["two"][:: 18_432 // 20]:
        said = [sentence(scene, way) for way in range(shapes.ways(scene))]
        assert len(set(said)) == len(said) == 24 and all(parse(words) == scene for words in said)
    places = {w for s in SEEN["one"][:18] for way in range(shapes.ways(s)) for w in sentence(s, way).split()}
    assert spoken | places == set(shapes.VOCABULARY) and len(shapes.VOCABULARY) == 41


@pytest.mark.parametrize(
    ("text", "things"),
    [
        ("a red circle", [("red", "circle", None, None)]),
        ("An orange ring.", [("orange", "ring", None, None)]),
        ("big white cross in the top right corner", [("white", "cross", "large", "top right")]),
        ("In the centre, there is a little black star", [("black", "star", "small", "centre")]),
        ("a blue square and a red circle", [("red", "circle", None, None), ("blue", "square", None, None)]),
        ("a blue square under a red circle", [("red", "circle", None, "top"), ("blue", "square", None, "bottom")]),
        (
            "a small blue square to the right of a red circle",
            [("red", "circle", None, "left"), ("blue", "square", "small", "right")],
        ),
    ],
)
def test_people_may_write_it_their_way(text, things):
    scene = Scene(tuple(Thing(*thing) for thing in things))
    assert parse(text) == scene and [tuple(t) for t in parse(text).things] == things
    assert parse(sentence(scene)) == scene


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a pink circle", "got 'pink'"),
        ("a red circle in the corner", "expected a sentence such as"),
        ("a red", "expected a sentence such as"),
        ("", "expected a sentence such as"),
        ("on the left a red circle on the right", "one place for one thing"),
        ("a red circle on the left and a blue star", "left and right or top and bottom"),
        ("a red circle on the left and a blue star at the top", "left and right or top and bottom"),
        ("a red circle left of a blue star on the right", "left and right or top and bottom"),
        ("a red ring and a red ring and a red ring", "expected a sentence such as"),
    ],
)
def test_what_cannot_be_read_is_refused_with_advice(text, words):
    with pytest.raises(ValueError, match=r"^expected [^\n]*$") as refused:
        parse(text)
    assert words in str(refused.value)


def test_one_combination_in_seven_is_held_out_and_each_pair_is_in_training():
    out = [s for s in SEEN["one"] if shapes.held_out(s)]
    trained = set(SEEN["one"]) - set(out)
    assert abs(len(out) / len(SEEN["one"]) - 1 / 7) < 0.005
    for first, second in combinations(FIELDS, 2):
        pairs = set(product(FIELDS[first], FIELDS[second]))
        assert {(getattr(s.things[0], first), getattr(s.things[0], second)) for s in trained} == pairs
    for name, words in FIELDS.items():
        assert {getattr(s.things[0], name) for s in out} == set(words)
    both = {(t.colour, t.shape, t.place) for s in out for t in s.things}
    for scene in SEEN["two"]:
        assert shapes.held_out(scene) == any((t.colour, t.shape, t.place) in both for t in scene.things)
    share = sum(map(shapes.held_out, SEEN["two"])) / len(SEEN["two"])
    assert abs(share - (1 - (6 / 7) ** 2)) < 0.01  # about 27 %


@pytest.mark.parametrize("part", ["training", "held out", "all"])
def test_drawings_keep_their_part_and_their_sentences_say_them(part):
    pictures, sentences, scenes = next(shapes.drawings(600, part=part, brief=0.0))
    assert pictures.shape == (600, 3, 32, 32) and pictures.dtype == torch.float32
    assert [parse(words) for words in sentences] == scenes
    out = sum(map(shapes.held_out, scenes)) / 600
    assert {"training": out == 0, "held out": out == 1, "all": 0.1 < out < 0.3}[part]
    two = sum(len(scene.things) == 2 for scene in scenes) / 600
    assert abs(two - 0.5) < 5 * 0.5 / math.sqrt(600)


def test_a_brief_sentence_leaves_out_sizes_or_places_and_nothing_else():
    _, sentences, scenes = next(shapes.drawings(600, brief=1.0))
    kinds = set()
    for words, scene in zip(sentences, scenes, strict=True):
        said = {(t.size is None, t.place is None) for t in parse(words).things}
        assert len(said) == 1
        kinds |= said
        looks = sorted((t.colour, t.shape) for t in scene.things)
        assert sorted((t.colour, t.shape) for t in parse(words).things) == looks
    assert kinds == {(True, False), (False, True), (True, True)}
    whole = [parse(words) == scene for words, scene in zip(*next(shapes.drawings(600))[1:], strict=True)]
    assert abs(sum(whole) / 600 - 0.8) < 5 * 0.4 / math.sqrt(600)


def test_batch_n_follows_from_the_arguments_and_n():
    one, same, other = (shapes.drawings(5, seed=seed) for seed in (1, 1, 2))
    batches = [next(one) for _ in range(4)]
    same.skip_to(3)
    again = next(same)
    assert torch.equal(again.pictures, batches[3].pictures) and again[1:] == batches[3][1:]
    assert not torch.equal(next(other).pictures, batches[0].pictures) and iter(one) is one
    assert len({tuple(batch.sentences) for batch in batches}) == 4


WHOLE = parse("a small red circle on the left")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: shapes.render([parse("a red circle")]), "expected size to be one of small, large, got None"),
        (lambda: shapes.render([]), "at least one Scene"),
        (lambda: shapes.render("a red circle"), "at least one Scene"),
        (lambda: shapes.render(["a red circle"]), "expected a Scene, got 'a red circle' (str): parse"),
        (lambda: shapes.render([WHOLE], generator=0), "torch.Generator"),
        (lambda: shapes.render([Scene((Thing("pink", "circle", "small", "left"),))]), "expected colour to be one of"),
        (lambda: shapes.render([Scene(WHOLE.things * 3)]), "one or two things, got 3"),
        (lambda: shapes.render([Scene(WHOLE.things * 2)]), "expected two things at left and right"),
        (lambda: sentence(Scene(())), "one or two things, got 0"),
        (lambda: sentence(WHOLE, -1), "expected way of at least 0"),
        (lambda: sentence(WHOLE, 1.5), "whole number"),
        (lambda: parse(None), "expected a sentence as a str, got None"),
        (lambda: shapes.held_out(parse("a red circle")), "expected a scene that says its places"),
        (lambda: shapes.every_scene(3), "expected things in 1..2"),
        (lambda: shapes.drawings(0), "expected size of at least 1"),
        (lambda: shapes.drawings(4, part="test"), "expected part to be training, held out or all, got 'test'"),
        (lambda: shapes.drawings(4, brief=2), "expected brief in"),
        (lambda: shapes.drawings(4).skip_to(-1), "expected n of at least 0"),
        (lambda: shapes.coverage("heart", torch.ones(1, 2), torch.ones(1), torch.ones(1)), "expected shape to be"),
        (lambda: shapes.coverage("ring", torch.ones(1, 2), torch.ones(2), torch.ones(1)), "expected radius as"),
        (lambda: shapes.coverage("ring", torch.ones(1, 3), torch.ones(1), torch.ones(1)), "expected middle as"),
        (lambda: shapes.coverage("ring", torch.ones(1, 2), torch.ones(1), 0.0), "expected turn as"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(call, words):
    with pytest.raises((TypeError, ValueError), match=r"^expected [^\n]*$") as refused:
        call()
    assert words in str(refused.value)
