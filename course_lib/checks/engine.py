"""Compare a student's function with the course's own one and name the mistake.

Equation: right means |got - expected| <= atol + rtol * |expected| for every number of every case.
Shapes: any tree of tensors, arrays, numbers, lists, dicts and named tuples.
Not here: exercises (lesson_NN.py); a lesson calls `check`, never this module.

An exercise, as a lesson's check module writes it:

    def q_sample(x0, t, eps, alpha_bar): ...          # the course's own
    def without_roots(x0, t, eps, alpha_bar): ...     # a wrong answer worth its own sentence

    EXERCISES = catalogue(
        Exercise(
            number="1.2", name="q_sample", reference=q_sample,
            cases=[Case("pictures at t = 500", x0, t, eps, alpha_bar), ...],
            mistakes=[Mistake("roots missing", looks_like=without_roots,
                              says=lambda r: f"Close: the roots are missing: your variance is {r.got.var():.2f}.",
                              hints=("Variances add.", "Take the square root of both factors."))],
            right="mean, variance, every t, points and pictures, and x0 left alone."),
    )
"""

import copy
import dataclasses
import html
import inspect
import linecache
import math
import numbers
import random
import re
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

LONGEST = 300  # characters of a student's own text that a verdict quotes


class Case:
    """One call that both functions get: `Case("points at t = 1", x0, t, eps, alpha_bar=table)`."""

    def __init__(self, label: str, /, *args, **kwargs):
        self.label, self.args, self.kwargs = label, args, kwargs

    def __repr__(self):
        return f"Case({self.label!r})"


@dataclasses.dataclass(frozen=True)
class Report:
    """What a Mistake's sentence may use: the first case that differs, and both results."""

    case: Case
    expected: Any
    got: Any

    @property
    def difference(self) -> float:
        """The largest absolute difference between the two results; nan where they cannot be subtracted."""
        try:
            return float((torch.as_tensor(self.got) - torch.as_tensor(self.expected)).abs().max())
        except Exception:
            return math.nan


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A wrong answer known by name: `looks_like` has the exercise's signature and does what the student did."""

    name: str
    looks_like: Callable
    says: str | Callable[[Report], str]
    hints: tuple[str, str]

    def __post_init__(self):
        if len(self.hints) != 2 or not all(isinstance(hint, str) and hint.strip() for hint in self.hints):
            raise ValueError(
                f"mistake {self.name!r}: expected two hints, each a sentence, got {self.hints!r}"
            )


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a judge, or the comparison, has to say about a function that is not right."""

    name: str
    says: str
    hints: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Exercise:
    """An exercise: the course's own function (or class), the cases it is tried on, and the mistakes worth a sentence.

    `use(thing, *args, **kwargs)` says how a case uses the thing; the default calls it. For a class, `use` makes one
    and returns something comparable. `judge(thing)` replaces comparing altogether: it returns None for right, the
    name of one of `mistakes`, or a Finding. Numbers are equal within `atol + rtol * |expected|`.
    """

    number: str
    name: str
    reference: Callable
    cases: Sequence[Case] = ()
    mistakes: Sequence[Mistake] = ()
    right: str = "every case agrees with the course's own."
    use: Callable | None = None
    judge: Callable[[Any], "Finding | str | None"] | None = None
    atol: float = 2e-6
    rtol: float = 1e-4

    def __post_init__(self):
        names = [mistake.name for mistake in self.mistakes]
        if len(set(names)) != len(names):
            raise ValueError(f"exercise {self.number}: two mistakes have the same name: {names}")
        if bool(self.cases) == bool(self.judge):
            raise ValueError(f"exercise {self.number}: give either cases to compare or a judge")


def catalogue(*exercises: Exercise) -> dict[str, Exercise]:
    """Index a lesson's exercises by number; a number used twice is an error."""
    by_number = {exercise.number: exercise for exercise in exercises}
    if len(by_number) != len(exercises):
        raise ValueError(f"two exercises share a number: {[exercise.number for exercise in exercises]}")
    return by_number


# ---- verdicts -------------------------------------------------------------------------------------------------

ICONS = {
    "right": ("&#10003;", "Right", "#009E73"),
    "wrong": ("&#10007;", "Not yet", "#D55E00"),
    "open": ("&#9998;", "", "#0072B2"),
    "note": ("&#9432;", "", "#0072B2"),
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What `check` shows: an icon with a word, a sentence, and hints that unfold."""

    state: str  # right, wrong, open or note
    says: str
    name: str = ""  # of the mistake
    hints: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.state == "right"

    def show(self) -> None:
        """Display the verdict: HTML in a notebook, plain words in a terminal."""
        from IPython.display import display

        display(self)

    def __str__(self):
        word = ICONS[self.state][1]
        lines = [f"{word}: {self.says}" if word else self.says]
        lines += [f"{name}: {hint}" for name, hint in zip(("Hint", "Second hint"), self.hints, strict=False)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": str(self), "text/html": self._html()}

    def _html(self):
        icon, word, colour = ICONS[self.state]
        folded = ""
        for name, hint in reversed(list(zip(("Hint", "Second hint"), self.hints, strict=False))):
            folded = f"<details><summary>{name}</summary><p>{_marked(hint)}</p>{folded}</details>"
        word = f"<strong>{word}:</strong> " if word else ""
        return (
            f'<div role="status" style="border-left: 5px solid {colour}; padding: 0.2em 0.9em; margin: 0.4em 0">'
            f'<p><span aria-hidden="true">{icon}</span> {word}{_marked(self.says)}</p>{folded}</div>'
        )


def _marked(text):
    """Escape text for HTML; `code` between backticks becomes <code>."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _stands_in(exercise):
    return f"The course's own `{exercise.name}` stands in for now, so you can read on."


def unknown(number) -> Verdict:
    """The verdict for a number that no lesson has."""
    return Verdict(
        "note",
        f"There is no exercise {_quoted(number)}: look at the heading above for its number. "
        "What you wrote is kept as it is, unchecked.",
    )


def stand_in(exercise: Exercise) -> Verdict:
    """The verdict for the course's own function, which a second run of the check cell hands in."""
    return Verdict(
        "note",
        f"This is the course's own `{exercise.name}`. To check yours, run the cell above that "
        "defines it, then this one again.",
    )


# ---- diagnosis ------------------------------------------------------------------------------------------------


def diagnose(exercise: Exercise, function) -> Verdict:
    """Say whether `function` solves the exercise and, if not, which mistake it looks like.

    Never raises, whatever `function` does, except for KeyboardInterrupt.
    """
    if not callable(function):
        finding = Finding(
            "not callable",
            f"Expected the function `{exercise.name}`, got {_kind(function)} "
            f"{_quoted(function)}: hand in its name without brackets, `{exercise.name}`.",
        )
    else:
        finding = _judged(exercise, function) if exercise.judge else _compared(exercise, function)
    if finding is None:
        return Verdict("right", exercise.right)
    if finding.name == "open":
        return Verdict("open", f"Exercise {exercise.number} is still open. {_stands_in(exercise)}", "open")
    return Verdict("wrong", f"{finding.says} {_stands_in(exercise)}", finding.name, finding.hints)


def _judged(exercise, function):
    finding, error = None, None
    try:
        with _same_random_numbers():
            finding = exercise.judge(function)
    except KeyboardInterrupt:
        raise
    except BaseException as caught:  # SystemExit too: nothing a student writes may stop the lesson
        error = caught
    if error is not None:
        return Finding("open", "") if isinstance(error, NotImplementedError) else _raised(exercise, error)
    if isinstance(finding, str):
        mistake = {mistake.name: mistake for mistake in exercise.mistakes}[finding]
        return Finding(mistake.name, mistake.says, mistake.hints)
    return finding


def _compared(exercise, function):
    expected = [_try(exercise, exercise.reference, case) for case in exercise.cases]
    got = [_try(exercise, function, case) for case in exercise.cases]
    if isinstance(got[0].error, NotImplementedError):
        return Finding("open", "")
    differs = [_difference(e, g, exercise) for e, g in zip(expected, got, strict=True)]
    if not any(differs):
        return None
    first = next(index for index, difference in enumerate(differs) if difference)
    case = exercise.cases[first]
    for mistake in exercise.mistakes:
        if _alike(exercise, mistake, got):
            says = _sentence(mistake.says, Report(case, expected[first].value, got[first].value))
            if says:
                return Finding(mistake.name, says, mistake.hints)
    if got[first].error is not None:
        return _raised(exercise, got[first].error, case)
    name, words = differs[first]
    return Finding(name, f'In the case "{case.label}" {words}')


def _alike(exercise, mistake, got):
    """Does the student's function do what this wrong answer does, in every case and in at least one with a value?"""
    wrong = [_try(exercise, mistake.looks_like, case) for case in exercise.cases]
    for mine, theirs in zip(wrong, got, strict=True):
        if mine.error is None or theirs.error is None:
            if _difference(mine, theirs, exercise):
                return False
        elif type(mine.error) is not type(theirs.error):
            return False
    return any(
        mine.error is None or str(mine.error) == _text(theirs.error)
        for mine, theirs in zip(wrong, got, strict=True)
    )


def _sentence(says, report):
    if isinstance(says, str):
        return says
    try:
        return says(report)
    except (
        Exception
    ):  # the measurement did not fit what the student returned: leave it to the general sentence
        return None


# ---- running --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Outcome:
    """What one call did: its value or its error, and the inputs that it changed (name -> state afterwards)."""

    value: Any = None
    error: BaseException | None = None
    changed: dict = dataclasses.field(default_factory=dict)


def _try(exercise, function, case):
    args, kwargs = copy.deepcopy((case.args, case.kwargs))
    outcome = Outcome()
    with _same_random_numbers():
        try:
            use = exercise.use or (lambda thing, *args, **kwargs: thing(*args, **kwargs))
            outcome.value = use(function, *args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: nothing a student writes may stop the lesson
            outcome.error = error
    names = _argument_names(exercise, case)
    for name, before, after in zip(
        names, [*case.args, *case.kwargs.values()], [*args, *kwargs.values()], strict=True
    ):
        before, after = _state(before), _state(after)
        if after is not None and _unequal(before, after, 0.0, 0.0, name):
            outcome.changed[name] = after
    return outcome


def _argument_names(exercise, case):
    """The reference's own names for a case's arguments, so that a sentence can say `x0`."""
    function, skip = (exercise.use, 1) if exercise.use else (exercise.reference, 0)
    try:
        names = [name for name in inspect.signature(function).parameters][skip:]
    except (TypeError, ValueError):
        names = []
    names = names[: len(case.args)]
    names += [f"argument {index + 1}" for index in range(len(names), len(case.args))]
    return names + list(case.kwargs)


def _state(value):
    """What of an input counts when we ask whether it was changed; None where that cannot be asked."""
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    return value if isinstance(value, (torch.Tensor, np.ndarray, list, dict)) else None


class _same_random_numbers:
    """Give torch, numpy and random the same seed inside the block, and the notebook its own state back after it."""

    def __enter__(self):
        self.before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        torch.default_generator.manual_seed(0)
        np.random.seed(0)
        random.seed(0)

    def __exit__(self, *_):
        torch.set_rng_state(self.before[0])
        np.random.set_state(self.before[1])
        random.setstate(self.before[2])


# ---- comparing ------------------------------------------------------------------------------------------------


def _difference(expected, got, exercise):
    """None, or (name, words) for the first thing in which two outcomes differ."""
    if got.error is not None or expected.error is not None:
        return "error", "an error was raised."
    try:
        found = _unequal(expected.value, got.value, exercise.atol, exercise.rtol, "your result")
    except Exception:
        return (
            "type",
            f"your result is {_kind(got.value)}, which cannot be compared with {_kind(expected.value)}.",
        )
    if found:
        return found
    for name in sorted(got.changed.keys() - expected.changed.keys()):
        return "in place", (
            f"the numbers are right, but you changed the input `{name}` in place, and the next cell "
            f"would go on with the changed one: make a new tensor (no `+=`, no `mul_`)."
        )
    for name, after in expected.changed.items():
        if name not in got.changed:
            return "left alone", f"`{name}` should be changed in place, and you left it as it was."
        found = _unequal(after, got.changed[name], exercise.atol, exercise.rtol, f"`{name}` afterwards")
        if found:
            return found
    return None


def _unequal(expected, got, atol, rtol, where):
    """None where two trees agree, else (name of the difference, words for the student)."""
    if got is None and expected is not None:
        return "nothing returned", "your function returned None: is the `return` missing?"
    if isinstance(expected, (torch.Tensor, np.ndarray)):
        return _unequal_arrays(expected, got, atol, rtol, where)
    if isinstance(expected, (numbers.Number, np.generic)):
        return _unequal_numbers(expected, got, atol, rtol, where)
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(expected):
            return (
                "type",
                f"{where} should be a dict with the keys {list(expected)}, and it is {_quoted(got)}.",
            )
        pairs = [(f"{where}[{key!r}]", expected[key], got[key]) for key in expected]
    elif isinstance(expected, (tuple, list)):
        names = getattr(expected, "_fields", None)
        if not isinstance(got, (tuple, list)) or (names and getattr(got, "_fields", None) != names):
            return "type", f"{where} should be {_kind(expected)}, and it is {_kind(got)}."
        if len(got) != len(expected):
            return "length", f"{where} should have {len(expected)} items, and it has {len(got)}."
        labels = names or [f"item {index}" for index in range(len(expected))]
        pairs = [(f"`{label}` of {where}", e, g) for label, e, g in zip(labels, expected, got, strict=True)]
    else:
        same = expected is got or (type(expected) is type(got) and bool(expected == got))
        return (
            None if same else ("value", f"{where} should be {_quoted(expected)}, and it is {_quoted(got)}.")
        )
    for label, e, g in pairs:
        found = _unequal(e, g, atol, rtol, label)
        if found:
            return found
    return None


def _unequal_numbers(expected, got, atol, rtol, where):
    if isinstance(got, (torch.Tensor, np.ndarray)) and got.ndim == 0:
        got = got.item()
    if not isinstance(got, (numbers.Number, np.generic)):
        return "type", f"{where} should be a number, and it is {_kind(got)}."
    if isinstance(expected, (bool, np.bool_)) != isinstance(got, (bool, np.bool_)):
        return "type", f"{where} should be {_kind(expected)}, and it is {_kind(got)}: {_quoted(got)}."
    return _unequal_arrays(np.asarray(expected), np.asarray(got), atol, rtol, where, dtype_too=False)


def _unequal_arrays(expected, got, atol, rtol, where, dtype_too=True):
    family = torch.Tensor if isinstance(expected, torch.Tensor) else np.ndarray
    if not isinstance(got, family):
        return "type", f"{where} should be {_kind(expected)}, and it is {_kind(got)}."
    if tuple(got.shape) != tuple(expected.shape):
        return (
            "shape",
            f"{where} should have the shape {tuple(expected.shape)}, and it has {tuple(got.shape)}.",
        )
    if dtype_too and got.dtype != expected.dtype:
        return "dtype", (
            f"{where} should have the dtype {expected.dtype}, and it has {got.dtype}: convert with "
            "`.to(...)`, as in `table.to(x0.dtype)`."
        )
    e, g = _numbers(expected), _numbers(got)
    if torch.isnan(g).any() and not torch.isnan(e).any():
        return "nan", f"{where} holds NaN (not a number): look for 0 / 0 or the root of a negative number."
    if torch.isinf(g).any() and not torch.isinf(e).any():
        return "inf", f"{where} holds infinity: look for a division by zero or a logarithm of zero."
    gap = torch.where((e == g) | (torch.isnan(e) & torch.isnan(g)), torch.zeros_like(e), (e - g).abs())
    excess = torch.nan_to_num(gap - rtol * e.abs(), nan=math.inf, posinf=math.inf)
    if e.numel() == 0 or bool((excess <= atol).all()):
        return None
    place = int(torch.nan_to_num(gap, nan=math.inf).argmax())
    at = f" at {_index(place, expected.shape)}" if e.ndim else ""
    mine, theirs = _short(g.flatten()[place]), _short(e.flatten()[place])
    return "numbers", (
        f"{where} is off by up to {_short(gap.flatten()[place])}:{at} you have {mine}, "
        f"where {theirs} was expected."
    )


def _numbers(array):
    """Any tensor or array as float64 on the CPU (complex numbers as pairs)."""
    tensor = array if isinstance(array, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(array))
    tensor = tensor.detach().cpu()
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double()


def _index(place, shape):
    return "[" + ", ".join(str(int(i)) for i in np.unravel_index(place, tuple(shape))) + "]"


def _short(number):
    return f"{float(number):.4g}"


# ---- words ----------------------------------------------------------------------------------------------------

FRIENDLY = {
    "TypeError": "Usually a value of the wrong kind, or one argument too many or too few.",
    "NameError": "A name is used that is not defined: a typing slip, or a cell above that has not been run?",
    "AttributeError": "The thing before the dot does not have what comes after it: print its type.",
    "IndexError": "An index lies outside of its table: print the shape of the table and the index.",
    "KeyError": "A dict has no such key: print its keys.",
    "ZeroDivisionError": "Something is divided by zero: which t makes it so?",
    "RecursionError": "The function calls itself without an end.",
    "RuntimeError": "Print the shapes and dtypes of what goes in: `print(x0.shape, t.shape)`.",
    "SystemExit": "`exit()` and `quit()` end a program; end a function with `return`.",
}


def _raised(exercise, error, case=None):
    """The finding for an error in the student's code, with the line of theirs that raised it."""
    kind, where = type(error).__name__, _their_line(error)
    advice = next((FRIENDLY[base.__name__] for base in type(error).__mro__ if base.__name__ in FRIENDLY), "")
    during = f'In the case "{case.label}" your' if case else "Your"
    at = f", at {where}" if where else ""
    return Finding(
        "error", f"{during} `{exercise.name}` stopped with {kind}: {_cut(_text(error))}{at}. {advice}".strip()
    )


def _their_line(error):
    """ "line 3, `return a + b`" for the deepest frame that is not the course's, a package's or Python's own."""
    ours = [
        str(Path(__file__).resolve().parents[1]),
        *{sysconfig.get_path(key) for key in ("stdlib", "purelib", "platlib")},
    ]
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = frame.f_code.co_filename
        if not any(name.startswith(folder) for folder in ours) and not name.startswith("<frozen"):
            text = linecache.getline(name, number).strip()
            return f"line {number}" + (f", `{_cut(text.replace('`', ' '))}`" if text else "")
    return ""


def _text(error):
    try:
        return str(error).strip().rstrip(".") or "(no message)"
    except Exception:
        return "(a message that cannot be shown)"


def _kind(value):
    """A type in plain words: "a tensor of shape (4, 2)"."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        family = "a tensor" if isinstance(value, torch.Tensor) else "a numpy array"
        return f"{family} of shape {tuple(value.shape)}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _quoted(value):
    try:
        return f"`{_cut(repr(value).replace('`', ' '))}`"
    except Exception:
        return _kind(value)


def _cut(text):
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
