"""The check engine: every way of being wrong gets its own sentence, and none of them stops a lesson."""

import dataclasses
import html
import math
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch

import course_lib.checks
from course_lib.checks import check, engine, exercises_of, find
from course_lib.checks.compare import difference
from course_lib.checks.engine import Case, Exercise, Finding, Mistake, catalogue, diagnose
from course_lib.checks.verdict import Verdict, cut, kind, quoted

HINTS = ("Look again.", "Look closer.")


def jump(x0, t, eps, alpha_bar):
    kept = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept).sqrt() * eps


def without_roots(x0, t, eps, alpha_bar):
    kept = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
    return kept * x0 + (1 - kept) * eps


def without_reshape(x0, t, eps, alpha_bar):
    return alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]).sqrt() * eps


def one_too_clean(x0, t, eps, alpha_bar):
    return jump(x0, t - 1, eps, alpha_bar)


def cases():
    draw = torch.Generator().manual_seed(1)
    alpha_bar = torch.linspace(1.0, 0.01, 11)
    shapes = {"points": (5, 2), "pictures": (3, 1, 4, 4), "one point": (1, 2)}
    return [
        Case(
            label,
            torch.randn(shape, generator=draw),
            torch.randint(1, 11, shape[:1], generator=draw),
            torch.randn(shape, generator=draw),
            alpha_bar,
        )
        for label, shape in shapes.items()
    ]


JUMP = Exercise(
    number="91.2",
    name="jump",
    reference=jump,
    cases=cases(),
    mistakes=[
        Mistake(
            "roots missing",
            without_roots,
            lambda report: f"Roots are missing: variance {report.got.var():.2f}.",
            HINTS,
        ),
        Mistake("reshape missing", without_reshape, "Works for one number only.", HINTS),
        Mistake("off by one", one_too_clean, "One step too clean.", HINTS),
    ],
    right="every t.",
)


@pytest.fixture
def lesson_91(monkeypatch):
    """Make exercise 91.2 known to `check`."""
    monkeypatch.setattr(course_lib.checks, "exercises_of", lambda lesson: catalogue(JUMP) if lesson == "91" else {})


def test_a_right_answer_is_right_and_is_returned(lesson_91, capsys):
    def mine(x0, t, eps, alpha_bar):
        return jump(x0, t, eps, alpha_bar)

    assert check("91.2", mine) is mine
    assert capsys.readouterr().out == "Right: every t.\n"


def test_a_wrong_answer_returns_the_reference_and_says_so(lesson_91, capsys):
    def mine(x0, t, eps, alpha_bar):
        return alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1)) * 1.0 * x0 + 0 * eps

    assert check("91.2", mine) is jump
    said = capsys.readouterr().out
    assert said.startswith("Not yet: ") and "The course's own `jump` stands in" in said


def test_an_open_exercise_reads_as_the_style_example_says(lesson_91, capsys):
    def stub(x0, t, eps, alpha_bar):
        raise NotImplementedError("Exercise 91.2 is yours to write")

    assert check("91.2", stub) is jump
    said = capsys.readouterr().out.strip()
    open_still = "Exercise 91.2 is still open. The course's own `jump` stands in for now, so you can read on."
    assert said == f"{open_still} (If you have written something: delete the line that begins with `raise`.)"


def test_an_unknown_number_and_a_second_run_are_a_sentence(lesson_91, capsys):
    assert check("91.9", without_roots) is without_roots
    assert "There is no exercise `'91.9'`" in capsys.readouterr().out
    assert check(None, 3) == 3
    assert "There is no exercise `None`" in capsys.readouterr().out
    assert check("91.2", jump) is jump
    assert "the course's own" in capsys.readouterr().out
    assert check("91.2", "jump") is jump
    assert "got a str: hand in its bare name" in capsys.readouterr().out


@pytest.mark.parametrize("mistake", JUMP.mistakes, ids=lambda mistake: mistake.name)
def test_each_mistake_is_named(mistake):
    verdict = diagnose(JUMP, mistake.looks_like)
    assert (verdict.state, verdict.name, verdict.hints) == ("wrong", mistake.name, HINTS)


def test_a_sentence_measures_the_students_result():
    expected = without_roots(*JUMP.cases[0].args).var()
    assert f"variance {expected:.2f}." in diagnose(JUMP, without_roots).says


def test_a_measurement_that_fails_leaves_the_general_sentence():
    broken = Mistake("x", without_roots, lambda report: report.got.no_such_thing, HINTS)
    verdict = diagnose(Exercise("91.1", "jump", jump, cases(), [broken]), without_roots)
    assert verdict.name == "numbers" and "is off by up to" in verdict.says


def returns_nothing(x0, t, eps, alpha_bar):
    jump(x0, t, eps, alpha_bar)


def returns_list(x0, t, eps, alpha_bar):
    return jump(x0, t, eps, alpha_bar).tolist()


def returns_flat(x0, t, eps, alpha_bar):
    return jump(x0, t, eps, alpha_bar).flatten()


def returns_double(x0, t, eps, alpha_bar):
    return jump(x0, t, eps, alpha_bar).double()


def returns_nan(x0, t, eps, alpha_bar):
    return jump(x0, t, eps, alpha_bar) * (t[0] - t[0]) / (t[0] - t[0])


def returns_infinity(x0, t, eps, alpha_bar):
    return jump(x0, t, eps, alpha_bar).abs() / 0


def returns_more(x0, t, eps, alpha_bar):
    return jump(x0, t, eps, alpha_bar) * 1.1


def changes_x0(x0, t, eps, alpha_bar):
    kept = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
    return x0.mul_(kept.sqrt()).add_((1 - kept).sqrt() * eps)


def raises(x0, t, eps, alpha_bar):
    return x0[99]


def leaves(x0, t, eps, alpha_bar):
    raise SystemExit(3)


def too_few(x0, t):
    return x0


def just_one(x0):
    return x0


def looks_up_by_noise(x0, t, eps, alpha_bar):
    return alpha_bar[eps]


def calls_the_table(x0, t, eps, alpha_bar):
    return alpha_bar(t)


def takes_a_number(x0, t, eps, alpha_bar):
    return math.sqrt(alpha_bar) * x0


def roots_a_number(x0, t, eps, alpha_bar):
    return torch.sqrt(0.5) * x0


def counts_by_tensor(x0, t, eps, alpha_bar):
    return [x0 for _ in range(alpha_bar)]


def takes_itself_away(x0, t, eps, alpha_bar):
    a = alpha_bar.sqrt()
    a -= a[-1]
    return a


def asks_all_at_once(x0, t, eps, alpha_bar):
    return x0 if alpha_bar > 0.5 else eps


def mixes_shapes(x0, t, eps, alpha_bar):
    return alpha_bar * torch.ones(7)


def joins_a_number(x0, t, eps, alpha_bar):
    return torch.cat([torch.tensor(1.0), alpha_bar])


def counts_on_pictures(x0, t, eps, alpha_bar):
    return x0[:, :, 0, 0]


def sums_over_pixels(x0, t, eps, alpha_bar):
    return x0.sum(dim=(2, 3))


def unpacks_pictures(x0, t, eps, alpha_bar):
    batch, channels, height, width = x0.shape
    return x0.reshape(batch, channels * height * width)


def divides_by_zero(x0, t, eps, alpha_bar):
    return x0 * (1 / 0)


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (returns_nothing, "nothing returned", "is the `return` missing?"),
        (returns_list, "type", "should be a tensor of shape (5, 2), and it is a list"),
        (returns_flat, "shape", "should have the shape (5, 2), and it has (10,)"),
        (returns_double, "dtype", "should have the dtype torch.float32, and it has torch.float64"),
        (returns_nan, "nan", "holds NaN"),
        (returns_infinity, "inf", "holds infinity"),
        (returns_more, "numbers", "you have"),
        (changes_x0, "in place", "changed the input `x0` in place"),
        (raises, "error", "stopped with IndexError: index 99 is out of bounds"),
        (leaves, "error", "stopped with SystemExit: 3"),
        (too_few, "error", "stopped with TypeError: too_few() takes 2 positional arguments but 4 were given"),
        (just_one, "error", "takes 1 positional argument but 4 were given. Compare the call with the first line"),
        (looks_up_by_noise, "error", "are the arguments in the order of the page?"),
        (calls_the_table, "error", "Round brackets call a function; square brackets look up a row."),
        (takes_a_number, "error", "take one number; tensors have their own calls"),
        (roots_a_number, "error", "wants a tensor and got a plain number"),
        (counts_by_tensor, "error", "count with one whole number"),
        (takes_itself_away, "error", "write `a = a - a[-1]`"),
        (asks_all_at_once, "error", "`if` wants one yes or no"),
        (mixes_shapes, "error", "Shapes line up from the *last* axis backwards"),
        (joins_a_number, "error", "has no axis to join along"),
        (counts_on_pictures, "error", "counts on another number of dimensions"),
        (sums_over_pixels, "error", "counts on another number of dimensions"),
        (unpacks_pictures, "error", "counts on another number of dimensions"),
        (divides_by_zero, "error", "Something is divided by zero"),
    ],
)
def test_each_kind_of_trouble_has_its_own_sentence(function, name, words):
    verdict = diagnose(JUMP, function)
    assert (verdict.state, verdict.name) == ("wrong", name)
    assert words in verdict.says


def test_numbers_that_no_mistake_names_get_the_exercises_own_hints():
    hinted = dataclasses.replace(JUMP, hints=("Which rate?", "The other one."))
    assert diagnose(hinted, returns_more).hints == hinted.hints
    assert diagnose(hinted, changes_x0).hints == diagnose(hinted, returns_flat).hints == ()
    assert diagnose(JUMP, returns_more).hints == ()


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        (torch.ones(2, dtype=torch.float64), "`.to(torch.float32)`"),
        (np.ones(2, dtype=np.float64), "`.astype(np.float32)`"),
    ],
)
def test_another_dtype_is_told_how_to_end(wrong, cure):
    expected = torch.ones(2) if isinstance(wrong, torch.Tensor) else np.ones(2, dtype=np.float32)
    assert f"end with {cure}" in difference(expected, wrong, 0.0, 0.0).says


def test_an_error_names_the_line_of_the_students_code():
    assert "`return x0[99]`" in diagnose(JUMP, raises).says
    space = {}
    exec(compile("def f(x0, t, eps, alpha_bar):\n    a = 1\n    return x0 + missing", "<cell>", "exec"), space)
    verdict = diagnose(JUMP, space["f"])
    assert "NameError" in verdict.says and "at line 3" in verdict.says and "typing slip" in verdict.says


def test_a_line_of_the_course_is_not_taken_for_the_students_one(tmp_path, monkeypatch):
    """A folder that is reached by a detour, as through a link: frames keep the name that was imported."""
    course = tmp_path / "detour" / ".." / "course"
    ours, theirs = {}, {}
    exec(compile("def network(x):\n    return x.no_such_thing", str(course / "checks" / "lesson.py"), "exec"), ours)
    exec(compile("def f(net, x):\n    return net(x)", str(tmp_path / "mine.py"), "exec"), theirs)
    exercise = Exercise("91.1", "f", lambda net, x: x, [Case("one", ours["network"], 1)])
    before = diagnose(exercise, theirs["f"]).says
    (tmp_path / "mine.py").write_text("def f(net, x):\n    return net(x)", encoding="utf-8")
    monkeypatch.setattr(engine, "__file__", str(course / "checks" / "engine.py"))
    after = diagnose(exercise, theirs["f"]).says
    assert "`return net(x)`" in after and "`return net(x)`" not in before


def test_a_numbers_verdict_gives_place_and_both_values():
    x0, t, eps, alpha_bar = JUMP.cases[0].args
    expected = jump(x0, t, eps, alpha_bar)
    row, column = divmod(int(expected.abs().argmax()), 2)
    says = diagnose(JUMP, returns_more).says
    assert f"at [{row}, {column}] you have {1.1 * expected[row, column]:.4g}" in says
    assert f"where {expected[row, column]:.4g} was expected" in says


def test_a_wrong_answer_that_fails_differently_is_not_taken_for_the_known_mistake():
    def fails_elsewhere(x0, t, eps, alpha_bar):
        return torch.zeros(2, 3) @ torch.zeros(2, 3)

    only_failing = Mistake("reshape missing", without_reshape, "...", HINTS)
    exercise = Exercise("91.1", "jump", jump, cases()[:1], [only_failing])
    assert diagnose(exercise, without_reshape).name == "reshape missing"
    assert diagnose(exercise, fails_elsewhere).name == "error"


def test_inputs_and_random_state_are_left_alone():
    before = [arg.clone() for case in JUMP.cases for arg in case.args]
    torch.manual_seed(5)
    np.random.seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    diagnose(JUMP, lambda x0, t, eps, alpha_bar: x0.normal_() + alpha_bar.zero_().sum() + np.random.rand())
    after = [arg for case in JUMP.cases for arg in case.args]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_functions_that_draw_get_the_same_draws():
    noisy = Exercise("91.3", "noisy", lambda x: x + torch.randn_like(x), [Case("two", torch.zeros(2))])
    assert diagnose(noisy, lambda x: torch.randn(2) + x).passed
    assert diagnose(noisy, lambda x: x - torch.randn_like(x)).name == "numbers"


def test_a_generator_object_among_the_inputs_is_copied():
    def draw(generator):
        return torch.randn(2, generator=generator)

    exercise = Exercise("91.3", "draw", draw, [Case("seed 0", torch.Generator().manual_seed(0))])
    assert diagnose(exercise, lambda generator: torch.randn(2, generator=generator)).passed
    assert diagnose(exercise, lambda generator: torch.randn(3, generator=generator)[1:]).name == "numbers"


def test_an_exercise_that_must_change_its_input():
    def update(ema, net, decay):
        for kept, new in zip(ema.parameters(), net.parameters(), strict=True):
            kept.data.mul_(decay).add_(new.data, alpha=1 - decay)

    torch.manual_seed(0)
    exercise = Exercise(
        "91.4", "update", update, [Case("one layer", torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), 0.9)]
    )

    def mine(ema, net, decay):
        for kept, new in zip(ema.parameters(), net.parameters(), strict=True):
            kept.data.lerp_(new.data, 1 - decay)

    def swapped(ema, net, decay):
        update(ema, net, 1 - decay)

    assert diagnose(exercise, mine).passed
    assert diagnose(exercise, lambda ema, net, decay: None).name == "left alone"
    assert "`ema` afterwards" in diagnose(exercise, swapped).says.replace("['weight']", "")


def test_an_exercise_whose_right_answer_is_to_refuse():
    def refuse(t):
        if t < 1:
            raise ValueError("expected t of at least 1")
        return t

    exercise = Exercise("91.5", "refuse", refuse, [Case("t = 0", 0), Case("t = 1", 1)])

    def mine(t):
        if t <= 0:
            raise ValueError("no")
        return t

    assert diagnose(exercise, mine).passed
    assert "a ValueError should refuse this input" in diagnose(exercise, lambda t: t).says


def test_a_class_is_tried_through_use():
    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = torch.nn.Linear(width, 3)

        def forward(self, x):
            return self.layer(x)

    exercise = Exercise("91.6", "Net", Net, [Case("four rows", torch.ones(4, 2))], use=lambda made, x: made(2)(x).shape)

    class Mine(torch.nn.Module):
        def __init__(self, size):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(size, 3))

        def forward(self, x):
            return x @ self.weight

    class Stub(torch.nn.Module):
        def __init__(self, size):
            raise NotImplementedError("Exercise 91.6 is yours to write")

    class NoForward(torch.nn.Module):
        def __init__(self, size):
            super().__init__()

    assert diagnose(exercise, Mine).passed
    assert diagnose(exercise, Stub).state == "open"
    assert diagnose(exercise, NoForward).state == "open"
    assert diagnose(exercise, lambda size: torch.nn.Linear(size, 4)).name == "numbers"


def test_a_judge_replaces_comparing():
    def judge(sampler):
        mean = float(sampler(1000).mean())
        if abs(mean - 3) < 0.2:
            return None
        return "not shifted" if abs(mean) < 0.2 else Finding("far", f"The mean is {mean:.1f}.")

    not_shifted = Mistake("not shifted", lambda n: torch.randn(n), "The mean is zero.", HINTS)
    exercise = Exercise("91.7", "sampler", lambda n: 3 + torch.randn(n), (), [not_shifted], judge=judge)
    assert diagnose(exercise, lambda n: torch.randn(n) + 3).passed
    assert diagnose(exercise, torch.randn).says.startswith("The mean is zero.")
    assert diagnose(exercise, lambda n: torch.randn(n) + 9).name == "far"
    assert diagnose(exercise, lambda n: None).name == "error"

    def stub(n):
        raise NotImplementedError

    assert diagnose(exercise, stub).state == "open"


def test_a_loop_without_end_is_stopped():
    exercise = Exercise("91.8", "same", lambda x: x, [Case("1", 1), Case("2", 2), Case("3", 3)], seconds=0.3)

    def loops(x):
        while True:
            x += 1

    started = time.monotonic()
    verdict = diagnose(exercise, loops)
    assert "TimeoutError: no answer after 0.3 seconds" in verdict.says and "A loop without an end" in verdict.says
    assert time.monotonic() - started < 30  # one wait, not one a case, and far from the loop's own end
    assert diagnose(exercise, lambda x: x).passed


def test_only_the_readers_own_interrupt_goes_through():
    def interrupted(x0, t, eps, alpha_bar):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        diagnose(JUMP, interrupted)


class Hostile:
    """A result whose every method fails."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


def test_hostile_results_and_errors_are_survived():
    class RudeError(Exception):
        def __str__(self):
            raise ValueError("no words")

    def rude(x0, t, eps, alpha_bar):
        raise RudeError

    assert "a message that cannot be shown" in diagnose(JUMP, rude).says
    assert diagnose(JUMP, lambda *args: Hostile()).name == "type"
    thing = Exercise("91.1", "thing", lambda: Hostile(), [Case("one")])
    assert diagnose(thing, lambda: Hostile()).name == "type"

    class Callable:
        __name__ = "<script>"

        def __call__(self, *args):
            raise ValueError("<script>alert(1)</script>" * 100)

    shown = diagnose(JUMP, Callable())._repr_mimebundle_()["text/html"]
    assert "<script>" not in shown and html.escape("<script>alert(1)</script>") in shown
    assert len(shown) < 4000


def test_a_verdict_shows_an_icon_with_a_word_and_nested_hints():
    bundle = Verdict("wrong", "the `roots` are <b>missing</b>.", "x", HINTS)._repr_mimebundle_()
    page, text = bundle["text/html"], bundle["text/plain"]
    assert "<strong>Not yet:</strong>" in page and "&#10007;" in page
    assert "<code>roots</code> are &lt;b&gt;missing&lt;/b&gt;" in page
    second = "<details><summary>Second hint</summary><p>Look closer.</p></details>"
    assert f"<details><summary>Hint</summary><p>Look again.</p>{second}</details>" in page
    assert text.splitlines()[1:] == ["Hint: Look again.", "Second hint: Look closer."]
    assert text.isascii() and "background" not in page and "; color:" not in page  # readable in any theme


class Pair(NamedTuple):
    x0: torch.Tensor
    eps: torch.Tensor


@pytest.mark.parametrize(
    ("expected", "got", "name"),
    [
        (Pair(torch.ones(2), torch.ones(2)), (torch.ones(2), torch.ones(2)), "type"),
        (Pair(torch.ones(2), torch.ones(2)), Pair(torch.ones(2), torch.zeros(2)), "numbers"),
        ((1, 2), [1, 2], None),
        ((1, 2), [1, 2, 3], "length"),
        ((1, [2]), (1, None), "nothing returned"),
        ((1, None), (1, None), None),
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"b": 1}, "type"),
        ({"a": 1}, {"a": 2}, "numbers"),
        (1.5, torch.tensor(1.5), None),
        (1.5, np.float64(1.5), None),
        (1.5, "1.5", "type"),
        (True, 1, "type"),
        (True, np.bool_(True), None),
        (2, 2.0, None),
        (np.ones(2), torch.ones(2), "type"),
        (np.ones(2), np.ones(2), None),
        (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan]), None),
        (torch.tensor([1.0, torch.inf]), torch.tensor([1.0, torch.inf]), None),
        (torch.tensor([1.0, torch.inf]), torch.tensor([1.0, 2.0]), "numbers"),
        (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0]), "numbers"),
        (torch.tensor([1.0, torch.nan]), torch.tensor([torch.nan, 1.0]), "numbers"),
        (math.inf, math.inf, None),
        (math.inf, -math.inf, "numbers"),
        (-math.inf, -1e300, "numbers"),
        (1.5, 1.5 + 0j, "type"),
        (1 + 2j, 1.0, "type"),
        (100_000, 100_001, "numbers"),
        (100_000, 100_000.0, None),
        (torch.tensor([100_000]), torch.tensor([100_001]), "numbers"),
        (2**60 + 1, 2**60, "numbers"),
        (torch.tensor(True), torch.tensor(1), "dtype"),
        ([True], [1], "type"),
        (torch.ones(2), torch.ones(2, dtype=torch.float16), "dtype"),
        (torch.zeros(0, 2), torch.zeros(0, 3), "shape"),
        (torch.zeros(0), [], "type"),
        ([], (), None),
        (torch.ones(2, requires_grad=True) * 2, torch.full((2,), 2.0), "gradient"),
        (torch.full((2,), 2.0), torch.ones(2, requires_grad=True) * 2, None),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 3j]), "numbers"),
        (torch.zeros(0, 2), torch.zeros(0, 2), None),
        (torch.tensor([True]), torch.tensor([False]), "numbers"),
        ("cosine", "linear", "value"),
        (None, None, None),
        (None, 3, "value"),
    ],
)
def test_trees_are_compared_by_structure_and_number(expected, got, name):
    for rtol in (0.0, 1e-4):  # no slack lets a wrong one pass
        found = difference(expected, got, atol=1e-6, rtol=rtol)
        assert (found and found.name) == name


def test_a_part_that_is_none_is_not_taken_for_a_missing_return():
    assert "is the `return` missing?" in difference((1, [2]), None, 0.0, 0.0).says
    says = difference((1, [2]), (1, None), 0.0, 0.0).says
    assert says.startswith("item 1 of your result should be a list, and it is None (") and "`append`" in says
    says = difference({"eps": torch.ones(2)}, {"eps": None}, 0.0, 0.0).says
    assert says == "your result['eps'] should be a tensor of shape (2,), and it is None."


def test_tolerances_add_up():
    expected = torch.tensor([100.0])
    assert difference(expected, expected + 0.9, atol=0.0, rtol=0.01) is None
    assert difference(expected, expected + 1.1, atol=0.0, rtol=0.01).name == "numbers"
    assert difference(expected, expected + 1.1, atol=0.2, rtol=0.01) is None


BIGGEST = torch.finfo(torch.float64).max


@pytest.mark.parametrize("wrong", [0.0, 3.0, math.nan, BIGGEST, -BIGGEST, "the other infinity"])
@pytest.mark.parametrize("place", [0, 4])
def test_where_infinity_belongs_nothing_else_passes(place, wrong):
    alpha_bar = torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0], dtype=torch.float64)
    right = torch.logit(alpha_bar)  # inf, ..., -inf
    table = right.clone()
    table[place] = -right[place] if isinstance(wrong, str) else wrong
    found = difference(right, table, atol=1e-9, rtol=1e-7)
    assert found.name in ("numbers", "nan") and "is off by" not in found.says
    assert difference(right, right.clone(), atol=1e-9, rtol=1e-7) is None


def test_a_table_without_its_infinities_does_not_pass():
    right = torch.tensor([math.inf, 1.0, -math.inf], dtype=torch.float64)
    assert difference(right, right.nan_to_num(), atol=1e-9, rtol=1e-7).name == "numbers"
    assert difference(right, right.clamp(-30, 30), atol=1e-9, rtol=1e-7).name == "numbers"


def test_a_difference_is_written_with_as_many_digits_as_it_takes():
    table = torch.tensor([0.9026], dtype=torch.float64)
    says = difference(table, table.float().double(), atol=1e-12, rtol=1e-9).says
    mine, theirs = says.split("you have ")[1].split(", where ")
    assert mine != theirs.split(" was expected")[0] and "float32 may have crept in" in says
    assert difference(0.9026, float(np.float32(0.9026)), atol=1e-12, rtol=1e-9).name == "numbers"
    assert "float32" not in difference(table, table + 0.1, atol=1e-12, rtol=1e-9).says
    says = difference(torch.tensor([1.0, torch.inf]), torch.tensor([1.0, 3.0]), atol=1.0, rtol=1.0).says
    assert says == "your result differs: at [1] you have 3, where inf was expected."
    assert "10000000 was expected" in difference(10_000_000, 10_000_001, atol=0, rtol=0).says


def test_what_is_shown_as_worst_is_outside_the_tolerance():
    expected, got = torch.tensor([1e6, 0.0]), torch.tensor([1e6 + 50, 0.5])
    assert "at [1] you have 0.5" in difference(expected, got, atol=1e-6, rtol=1e-4).says


def test_a_tuple_of_inputs_that_is_changed_in_place_is_noticed():
    def total(pair):
        return pair[0] + pair[1]

    def changes(pair):
        return pair[0].add_(pair[1])

    exercise = Exercise("91.9", "total", total, [Case("two", (torch.ones(2), torch.ones(2)))])
    assert diagnose(exercise, lambda pair: sum(pair)).passed
    assert diagnose(exercise, changes).name == "in place"


def test_a_flood_of_print_is_cut_and_counted(lesson_91, capsys):
    def chatty(x0, t, eps, alpha_bar):
        for line in range(40):
            print("line", line)
        return jump(x0, t, eps, alpha_bar)

    assert check("91.2", chatty) is chatty
    lines = capsys.readouterr().out.splitlines()
    assert lines[:10] == [f"line {index}" for index in range(10)]
    assert lines[10:] == ["", "(lines left out of what your function printed: 110)", "Right: every t."]

    def wide(x0, t, eps, alpha_bar):
        print("x" * 10_000)

    check("91.2", wide)
    said = capsys.readouterr().out
    assert said.count("x" * 100) == 20 and "left out" in said and "None" in said
    print("as before")
    assert capsys.readouterr().out == "as before\n"


def test_a_few_printed_lines_stay_and_an_interrupt_gives_the_screen_back(capsys):
    def quiet(x0, t, eps, alpha_bar):
        print(x0.shape, flush=True)
        raise KeyboardInterrupt

    before = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        diagnose(JUMP, quiet)
    assert sys.stdout is before and capsys.readouterr().out == "torch.Size([5, 2])\n"


def test_authors_are_told_of_slips():
    with pytest.raises(ValueError, match="two exercises share a number"):
        catalogue(JUMP, JUMP)
    with pytest.raises(ValueError, match="two hints"):
        Mistake("x", jump, "says", ("only one",))
    with pytest.raises(ValueError, match="two mistakes have the same name"):
        Exercise("91.1", "jump", jump, cases(), [JUMP.mistakes[0], JUMP.mistakes[0]])
    with pytest.raises(ValueError, match="either cases to compare or a judge"):
        Exercise("91.1", "jump", jump)


def test_find_knows_numbers_and_missing_lessons(lesson_91, monkeypatch):
    assert find("91.2") is JUMP
    assert find(" 91.2 ") is JUMP
    assert find("90.2") is None and find("91") is None and find(91.2) is JUMP
    assert exercises_of("98") == {}


def test_a_check_module_that_cannot_import_something_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "lesson_97.py").write_text("import no_such_package", encoding="utf-8")
    monkeypatch.setattr(course_lib.checks, "__path__", [str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        exercises_of("97")


def test_words_about_values():
    assert kind(np.ones((2, 3))) == "a numpy array of shape (2, 3)"
    assert kind(None) == "None" and kind([]) == "a list"
    assert quoted(Hostile()) == "a Hostile"
    assert len(cut("word " * 500)) == 300


def test_an_operation_that_torch_does_not_have_is_an_error_and_no_stub():
    exercise = Exercise(number="91.9", name="f", reference=lambda x: x - 1, cases=[Case("one", torch.ones(2))])
    verdict = diagnose(exercise, lambda x: x ^ 8)
    assert verdict.name != "open" and "NotImplementedError" in verdict.says
