"""Every lesson of the course: its exercises, its own solutions, and the mistakes its checks know."""

import dataclasses
import inspect
import itertools
import math

import pytest
import torch

from course_lib import build
from course_lib.checks import exercises_of
from course_lib.checks.engine import Case, Exercise, diagnose

SOURCES = build.sources()
EXERCISES = [
    pytest.param(path, exercise, id=exercise.number)
    for path in SOURCES
    for exercise in exercises_of(path.stem[:2]).values()
]
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{exercise.number}: {mistake.name}")
    for exercise in (param.values[1] for param in EXERCISES)
    for mistake in exercise.mistakes
]


def test_there_are_lessons_and_they_are_numbered_from_00():
    numbers = [int(path.stem[:2]) for path in SOURCES]
    assert numbers == sorted(set(numbers)) and numbers[:1] == [0]  # lessons may still be missing in between
    assert SOURCES and EXERCISES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_and_its_checks_name_the_same_exercises(path):
    lesson = build.parse(path)
    assert [exercise.number for exercise in lesson.exercises] == list(exercises_of(lesson.number))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_has_nothing_to_mend(path):
    problems = build.check_lessons(names=[path.stem])
    assert not problems, "\n".join(map(str, problems))


def test_no_notebook_is_without_its_source():
    stray = [problem for problem in build.check_lessons() if "no source" in problem.says]
    assert not stray, "\n".join(map(str, stray))


@pytest.mark.parametrize(("path", "exercise"), EXERCISES)
def test_the_lessons_own_solution_passes(path, exercise):
    verdict = diagnose(exercise, build.solution_namespace(path)[exercise.name])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize(("path", "exercise"), EXERCISES)
def test_the_untouched_stub_is_still_open(path, exercise):
    verdict = diagnose(exercise, build.student_namespace(path)[exercise.name])
    assert verdict.state == "open", str(verdict)
    assert verdict.says.startswith(f"Exercise {exercise.number} is still open.")


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_each_mistake_is_known_by_name(exercise, mistake):
    verdict = diagnose(exercise, mistake.looks_like)
    assert (verdict.name, verdict.hints) == (mistake.name, tuple(mistake.hints)), str(verdict)


@pytest.mark.parametrize(("path", "exercise"), EXERCISES)
def test_three_mistakes_or_more_with_words_of_their_own(path, exercise):
    verdicts = [diagnose(exercise, mistake.looks_like) for mistake in exercise.mistakes]
    assert len({verdict.says for verdict in verdicts}) == len(verdicts)  # a sentence each
    assert len({verdict.hints for verdict in verdicts}) >= 3  # variants of one slip may share their hints


# ---- no wrong answer passes: the right one with its result or one of its arguments spoilt ------------------------


def leaves(change, value):
    """Apply `change` to every floating-point tensor or number of a tree; it returns None where it does not apply."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        changed = change(value.detach().clone())
        return value if changed is None else changed
    if isinstance(value, float):
        changed = change(torch.tensor(value, dtype=torch.float64))
        return value if changed is None else float(changed) if isinstance(changed, torch.Tensor) else changed
    if isinstance(value, dict):
        return {key: leaves(change, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [leaves(change, item) for item in value]
        if all(one is other for one, other in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def put(number):
    """Add a number where the result is largest: there a tolerance is largest too."""

    def change(x):
        at = x.abs().nan_to_num(posinf=0.0).flatten().argmax()
        x.view(-1)[at] += number
        return x

    return lambda x: change(x.contiguous())


RESULTS = {  # what a spoilt result is; each must be refused by every exercise
    "one number 1 too large": put(1.0),
    "one number NaN": put(math.nan),
    "one number infinite": put(math.inf),
    "all 0": torch.zeros_like,
    "its mean everywhere": lambda x: x.mean().expand_as(x).clone() if x.isfinite().all() and x.ndim else None,
    "0.1 % too large": lambda x: x * 1.001,
    "0.001 too large": lambda x: x + 0.001,
    "of the other sign": lambda x: -x,
    "in half precision on the way": lambda x: x.half().to(x.dtype) if x.ndim else None,
    "in float32 on the way": lambda x: x.float().double() if x.ndim and x.dtype == torch.float64 else None,
    "of another dtype": lambda x: x.half() if x.ndim else None,
    "backwards": lambda x: x.flip(0) if x.ndim else None,
    "moved by one": lambda x: x.roll(1, 0) if x.ndim else None,
    "the first for all": lambda x: x[:1].expand_as(x).clone() if x.ndim else None,
    "without the last": lambda x: x[:-1] if x.ndim else None,
    "without a batch of one": lambda x: x.squeeze(0) if x.ndim > 1 else None,
    "without axes of one": lambda x: x.squeeze() if x.ndim > 1 else None,
    "flat": lambda x: x.flatten() if x.ndim > 1 else None,
    "a list": lambda x: x.tolist() if x.ndim else None,
    "cut at -1 and 1": lambda x: x.clamp(-1, 1) if x.ndim else None,
    "cut at 0.00001": lambda x: x.clamp(min=1e-5),
    "without its sign": lambda x: x.abs() if x.ndim else None,
    "rounded to 3 digits": lambda x: x.round(decimals=3),
    "standardised": lambda x: (x - x.mean()) / x.std() if x.ndim else None,
    "divided by its deviation": lambda x: x / x.std() if x.ndim else None,
    "without infinity": lambda x: None if x.isfinite().all() else x.nan_to_num(),
    "0 for infinity": lambda x: None if x.isfinite().all() else x.nan_to_num(posinf=0.0, neginf=0.0),
}

ARGUMENTS = {  # what is done to an argument; "ignored" comes as 0, as 1, and as that of the first case
    "taken as 0": torch.zeros_like,
    "taken as 1": torch.ones_like,
    "sorted": lambda x: x.sort(0).values if x.ndim else None,
    "the first for all": lambda x: x[:1].expand_as(x).clone() if x.ndim else None,
    "standardised": lambda x: (x - x.mean()) / x.std() if x.numel() > 1 else None,
    "divided by its deviation": lambda x: x / x.std() if x.numel() > 1 else None,
    "cut at 0.5": lambda x: x.clamp(max=0.5),
    "cut at 0.00001": lambda x: x.clamp(min=1e-5),
    "cut at -1 and 1": lambda x: None if 0 <= x.min() and x.max() <= 1 else x.clamp(-1, 1),  # shares stay below 1
}

A_SHARE = {"result cut at -1 and 1": "shares are 0..1", "result without its sign": "shares are 0..1"}
RIGHT_ALL_THE_SAME = {  # number: {what is done: why it is no mistake}
    "0.1": {
        "result cut at -1 and 1": "grey is 0..16, so the result lies within",
        "result in half precision on the way": "half precision holds every multiple of 1/32 up to 1",
        "grey cut at 0.00001": "moves black by a millionth",
    },
    "0.2": {
        "x0 and signal_rate swapped": "a product has no order",
        "eps and noise_rate swapped": "a product has no order",
    },
    "1.3": A_SHARE,
    "1.5": A_SHARE,
    "2.1": {"points sorted": "a sum has no order"},
    "2.3": {"schedule that of the first case": "it has T = 10, which no notebook has"},
    "2.5": {"result cut at 0.00001": "a loss is positive"},
    "4.3": {f"{name} returned": "what is returned is not used" for name in ("average", "net", "k", "decay")},
    "3.2": {"result cut at -1 and 1": "sines and cosines lie within"},
    "5.2": {"power cut at 0.00001": "a power is at least 1"},
    "6.4": {"result cut at 0.00001": "both losses are positive"},
    "6.5": {"labels sorted": "a histogram has no order"},
    "6.6": {"share cut at 0.00001": "so small a share moves nothing"},
    "15.2": {"result cut at -1 and 1": "pictures end there"},
    "15.3": A_SHARE,
    "15.4": {"scale cut at 0.00001": "so small a scale moves nothing"},
    "15.5": {"strength cut at 0.00001": "a strength is larger"},
    "15.7": {"result cut at 0.00001": "memory is positive"},
}


class Spoilt:
    """The right function with its result, an argument or an input spoilt; `applied` says whether it could be."""

    def __init__(self, function, result=None, arguments=None, after=None):
        self.function, self.result, self.arguments, self.after = function, result, arguments, after
        self.applied = False

    def __call__(self, *args):
        result = self.function(*(self.arguments(self, args) if self.arguments else args))
        if self.after:
            self.after(self, args)
        return self.result(self, result, args) if self.result else result


def with_result(change):
    def result(spoilt, value, args):
        def noted(x):
            changed = change(x)
            spoilt.applied = spoilt.applied or changed is not None
            return changed

        return leaves(noted, value)

    return {"result": result}


def with_argument(index, change):
    def arguments(spoilt, args):
        value = args[index]
        whole = isinstance(value, torch.Tensor) and not value.is_floating_point()
        changed = change(value.clone()) if whole and change in WHOLE else leaves(change, value)
        spoilt.applied = spoilt.applied or changed is not value
        return [*args[:index], changed, *args[index + 1 :]]

    return {"arguments": arguments}


WHOLE = (ARGUMENTS["taken as 1"], ARGUMENTS["sorted"], ARGUMENTS["the first for all"])  # these fit t as well


def of_the_first_case(index):
    kept = []

    def arguments(spoilt, args):
        kept.append(args[index])
        spoilt.applied = True
        return [*args[:index], kept[0], *args[index + 1 :]]

    return {"arguments": arguments}


def swapped(one, other):
    def arguments(spoilt, args):
        args = list(args)
        args[one], args[other] = args[other], args[one]
        spoilt.applied = spoilt.applied or type(args[one]) is type(args[other])
        return args

    return {"arguments": arguments}


def returned(index):
    def result(spoilt, value, args):
        spoilt.applied = True
        return args[index]

    return {"result": result}


def turned():
    def result(spoilt, value, args):
        spoilt.applied = isinstance(value, tuple)
        return value[::-1] if spoilt.applied else value

    return {"result": result}


def changed_in_place(index):
    def after(spoilt, args):
        if isinstance(args[index], torch.Tensor):
            args[index].add_(1)
            spoilt.applied = True

    return {"after": after}


def spoilt_answers(exercise):
    """Name every way of spoiling the right answer that can be written without knowing the exercise."""
    names = list(inspect.signature(exercise.reference).parameters)
    yield "result in another order", turned()
    yield from ((f"result {name}", with_result(change)) for name, change in RESULTS.items())
    for index, name in enumerate(names):
        yield f"{name} returned", returned(index)
        yield f"{name} that of the first case", of_the_first_case(index)
        yield from ((f"{name} {how}", with_argument(index, change)) for how, change in ARGUMENTS.items())
        if not exercise.use:
            yield f"{name} changed in place", changed_in_place(index)
    for one, other in itertools.combinations(range(len(names)), 2):
        yield f"{names[one]} and {names[other]} swapped", swapped(one, other)


def survivors(exercise):
    """The spoilt answers that pass."""
    quick = exercise if exercise.judge else dataclasses.replace(exercise, mistakes=())  # no name is asked for here
    passed = []
    for name, how in spoilt_answers(exercise):
        spoilt = Spoilt(exercise.reference, **how)
        if diagnose(quick, spoilt).passed and spoilt.applied:
            passed.append(name)
    return passed


@pytest.mark.parametrize(("path", "exercise"), EXERCISES)
def test_no_spoilt_answer_passes(path, exercise):
    assert diagnose(exercise, Spoilt(exercise.reference)).passed
    passed, harmless = set(survivors(exercise)), set(RIGHT_ALL_THE_SAME.get(exercise.number, {}))
    assert not passed - harmless, f"{exercise.number} has no case in which these are wrong: {passed - harmless}"
    assert not harmless - passed, f"{exercise.number} refuses these, so they need no excuse: {harmless - passed}"


def test_spoilt_answers_find_what_an_exercise_forgets_to_try():
    table, x0, eps = torch.tensor([1.0, 0.9, 0.2]), torch.tensor([[3.0, 0.1], [0.5, -4.0]]), torch.ones(2, 2)

    def jump(x0, t, eps, alpha_bar):
        kept = alpha_bar[t].reshape(-1, 1)
        return kept.sqrt() * x0 + (1 - kept).sqrt() * eps

    cases = [Case("two", x0, torch.tensor([1, 2]), eps, table), Case("more", eps, torch.tensor([2, 1]), x0, table)]
    missed = {"without a batch of one", "without axes of one"}  # and another table, and a table that ends in 0
    expected = {f"result {how}" for how in missed} | {"alpha_bar that of the first case", "alpha_bar cut at 0.00001"}
    assert set(survivors(Exercise("91.1", "jump", jump, cases))) == expected
