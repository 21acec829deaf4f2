"""Try a student's function beside the course's own one, and name the mistake.

Equation: right means that in every case both return the same (compare.py) and leave the same inputs alone.
Shapes: those of the exercise.
Not here: the exercises (lesson_NN.py) and what a verdict looks like (verdict.py).

An exercise, as the check module of a lesson writes it:

    EXERCISES = catalogue(
        Exercise(
            number="1.2",
            name="q_sample",
            reference=q_sample,  # the course's own
            cases=[Case("pictures at t = 500", x0, t, eps, alpha_bar), Case("points", ...)],
            mistakes=[
                Mistake(
                    "roots missing",
                    looks_like=without_roots,  # a wrong answer with the same signature
                    says=lambda report: f"The roots are missing: variance {report.got.var():.2f}.",
                    hints=("Variances add.", "Take the square root of both factors."),
                ),
            ],
            right="every t from 1 to T, points and pictures, and x0 left alone.",
        ),
    )
"""

import copy
import dataclasses
import inspect
import linecache
import random
import sys
import sysconfig
import threading
import time
import traceback
from _thread import interrupt_main
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course_lib.checks.compare import Difference, difference
from course_lib.checks.verdict import Verdict, cut, kind, quoted


class Case:
    """One call that both functions get: `Case("points at t = 1", x0, t, eps, alpha_bar=table)`."""

    def __init__(self, label: str, /, *args, **kwargs):
        self.label, self.args, self.kwargs = label, args, kwargs

    def __repr__(self):
        return f"Case({self.label!r})"


@dataclasses.dataclass(frozen=True)
class Report:
    """What a Mistake's sentence may measure: the first case that differs, and both results."""

    case: Case
    expected: Any
    got: Any


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A wrong answer known by name: `looks_like` has the exercise's signature and does what the student did.

    `says` is the sentence about it, or a function that makes it from a Report; `hints` are two sentences.
    """

    name: str
    looks_like: Callable
    says: str | Callable[[Report], str]
    hints: tuple[str, str]

    def __post_init__(self):
        if len(self.hints) != 2 or not all(isinstance(hint, str) and hint.strip() for hint in self.hints):
            raise ValueError(f"mistake {self.name!r}: expected two hints, each a sentence, got {self.hints!r}")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong with a function, by name and in a sentence, with hints where there are any."""

    name: str
    says: str
    hints: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Exercise:
    """An exercise: the course's own function, the cases to try, and the mistakes worth a sentence.

    `use(function, *args, **kwargs)` says how a case uses the function; the default calls it. For a class,
    `use` makes one and returns something to compare. `judge(function)` replaces comparing (for a random
    sampler, say): it returns None for right, the name of one of `mistakes`, or a Finding. `hints` (two, or none)
    are for numbers that are wrong in a way that no mistake names. Numbers are equal within
    `atol + rtol * |expected|`, whole numbers within `atol` alone. `seconds` is the patience with one call.
    """

    number: str
    name: str
    reference: Callable
    cases: Sequence[Case] = ()
    mistakes: Sequence[Mistake] = ()
    right: str = "every case agrees with the course's own."
    use: Callable | None = None
    judge: Callable[[Callable], Finding | str | None] | None = None
    atol: float = 2e-6
    rtol: float = 1e-4
    seconds: float = 10.0
    hints: tuple[str, ...] = ()

    def __post_init__(self):
        names = [mistake.name for mistake in self.mistakes]
        if len(set(names)) != len(names):
            raise ValueError(f"exercise {self.number}: two mistakes have the same name: {names}")
        if bool(self.cases) == bool(self.judge):
            raise ValueError(f"exercise {self.number}: give either cases to compare or a judge")


def catalogue(*exercises: Exercise) -> dict[str, Exercise]:
    """Index a lesson's exercises by number; a number used twice is a ValueError."""
    by_number = {exercise.number: exercise for exercise in exercises}
    if len(by_number) != len(exercises):
        raise ValueError(f"two exercises share a number: {[exercise.number for exercise in exercises]}")
    return by_number


# ---- diagnosis ----

WRITTEN_BELOW = "(If you have written something: delete the line that begins with `raise`.)"


def _is_stub(error) -> bool:
    """Whether nothing was written yet; torch says "not implemented for" of slips, and that is an error like others."""
    return type(error) is NotImplementedError and "not implemented for" not in str(error)


def diagnose(exercise: Exercise, function) -> Verdict:
    """Say whether `function` solves the exercise and, if not, which mistake it looks like.

    Never raises, whatever `function` does, except KeyboardInterrupt when the reader interrupts.
    """
    if not callable(function):
        says = f"expected the function `{exercise.name}`, got {kind(function)}: hand in its bare name."
        finding = Finding("not callable", says)
    else:
        with _FirstLines():
            finding = _judged(exercise, function) if exercise.judge else _compared(exercise, function)
    stands_in = f"The course's own `{exercise.name}` stands in for now, so you can read on."
    if finding is None:
        return Verdict("right", exercise.right)
    if finding.name == "open":
        return Verdict("open", f"Exercise {exercise.number} is still open. {stands_in} {WRITTEN_BELOW}", "open")
    return Verdict("wrong", f"{finding.says} {stands_in}", finding.name, finding.hints)


def unknown(number) -> Verdict:
    """The verdict for a number that no lesson has."""
    says = f"There is no exercise {quoted(number)}: compare with the number in the heading above."
    return Verdict("note", f"{says} What you handed in is kept, unchecked.")


def stand_in(exercise: Exercise) -> Verdict:
    """The verdict for the course's own function, which a second run of the check cell alone hands in."""
    says = f"This is the course's own `{exercise.name}`."
    return Verdict("note", f"{says} To check yours, run the cell that defines it, then this one again.")


@cache
def _own_first(judge, reference):
    """Judge the course's own function once: what torch imports on the way is not on the student's clock."""
    with _same_random_numbers():
        judge(reference)


def _judged(exercise, function):
    _own_first(exercise.judge, exercise.reference)
    outcome = Outcome()
    with _same_random_numbers():
        _guarded(outcome, exercise.seconds, lambda: exercise.judge(function))
    if outcome.error is not None:
        return _stopped(exercise, outcome.error)
    if isinstance(outcome.value, str):
        mistake = next(mistake for mistake in exercise.mistakes if mistake.name == outcome.value)
        return Finding(mistake.name, mistake.says, mistake.hints)
    return outcome.value


def _compared(exercise, function):
    expected = [_try(exercise, exercise.reference, case) for case in exercise.cases]
    got = []
    for case in exercise.cases:
        late = got and isinstance(got[-1].error, TimeoutError)  # one wait is enough
        got.append(got[-1] if late else _try(exercise, function, case, exercise.seconds))
    differences = [_unlike(exercise, e, g) for e, g in zip(expected, got, strict=True)]
    first = next((index for index, found in enumerate(differences) if found), None)
    if first is None:
        return None
    case, error = exercise.cases[first], got[first].error
    if _is_stub(error):
        return _stopped(exercise, error)
    for mistake in exercise.mistakes:
        if _looks_like(exercise, mistake, got):
            says = _sentence(mistake.says, Report(case, expected[first].value, got[first].value))
            if says:
                return Finding(mistake.name, says, mistake.hints)
    if error is not None:
        return _stopped(exercise, error, case)
    name, says = differences[first]
    return Finding(name, f'In the case "{case.label}" {says}', exercise.hints if name == "numbers" else ())


def _looks_like(exercise, mistake, got):
    """Does the student's function do what this wrong answer does: the same results, the same kinds of error?

    Where both fail in every case, the messages must agree too: a RuntimeError alone says too little.
    """
    wrong = [_try(exercise, mistake.looks_like, case) for case in exercise.cases]
    pairs = list(zip(wrong, got, strict=True))
    if all(one.error is not None and type(one.error) is type(other.error) for one, other in pairs):
        return any(_message(one.error) == _message(other.error) for one, other in pairs)
    return all(
        type(one.error) is type(other.error) and (one.error is not None or not _unlike(exercise, one, other))
        for one, other in pairs
    )


def _sentence(says, report):
    if isinstance(says, str):
        return says
    try:
        return says(report)
    except Exception:  # the measurement does not fit what the student returned: leave it to the general sentence
        return None


def _unlike(exercise, expected, got):
    """The first Difference between what two calls did, or None."""
    if expected.error is not None and type(got.error) is not type(expected.error):
        return Difference("not refused", f"a {type(expected.error).__name__} should refuse this input.")
    if got.error is not None:
        return None if expected.error is not None else Difference("error", "an error was raised.")
    try:
        found = difference(expected.value, got.value, exercise.atol, exercise.rtol)
        if found:
            return found
        for name in sorted(got.changed.keys() - expected.changed.keys()):
            says = f"the numbers are right, but you changed the input `{name}` in place"
            return Difference(
                "in place", f"{says}, and the next cell goes on with it: make a new one (no `+=`, no `mul_`)."
            )
        for name, after in expected.changed.items():
            if name not in got.changed:
                return Difference("left alone", f"`{name}` should be changed in place, and it is as it was.")
            found = difference(after, got.changed[name], exercise.atol, exercise.rtol, f"`{name}` afterwards")
            if found:
                return found
    except Exception:  # a student's own class may refuse to be compared
        return Difference("type", f"your result is {kind(got.value)}, which cannot be compared with the expected one.")
    return None


# ---- running ----


@dataclasses.dataclass
class Outcome:
    """What one call did: its value or its error, and the inputs that it changed (name: state afterwards)."""

    value: Any = None
    error: BaseException | None = None
    changed: dict = dataclasses.field(default_factory=dict)


def _try(exercise, function, case, seconds=None):
    """Call a function on copies of a case's inputs; `seconds` is the patience with a student's function."""
    args, kwargs = copy.deepcopy((case.args, case.kwargs))
    outcome, use = Outcome(), exercise.use or (lambda function, *args, **kwargs: function(*args, **kwargs))
    with _same_random_numbers():
        _guarded(outcome, seconds, lambda: use(function, *args, **kwargs))
    names = _argument_names(exercise, case)
    before, after = [*case.args, *case.kwargs.values()], [*args, *kwargs.values()]
    for name, old, new in zip(names, map(_state, before), map(_state, after), strict=True):
        if old is not None and difference(old, new, 0.0, 0.0):
            outcome.changed[name] = new
    return outcome


def _guarded(outcome, seconds, call):
    """Put a call's value or error into `outcome`; only the reader's own interrupt goes through."""
    limit = _TimeLimit(seconds)
    try:
        with limit:
            outcome.value = call()
    except KeyboardInterrupt:
        if not limit.over:
            raise
        outcome.error = TimeoutError(f"no answer after {seconds:g} seconds")
    except BaseException as error:  # SystemExit too: nothing that a student writes may stop the lesson
        outcome.error = error


class _FirstLines:
    """Let the first lines that are printed inside the block through, and say how many more there were."""

    LINES, LETTERS = 10, 2000

    def __enter__(self):
        self.out, self.lines, self.letters, self.more = sys.stdout, 0, 0, 0
        sys.stdout = self
        return self

    def __exit__(self, *_):
        sys.stdout = self.out
        if self.more:
            self.out.write(f"\n(lines left out of what your function printed: {self.more})\n")

    def write(self, text):
        for line in text.splitlines(keepends=True):
            if self.lines < self.LINES and self.letters < self.LETTERS:
                self.out.write(line[: self.LETTERS - self.letters])
                self.letters += len(line)
            else:
                self.more += line.endswith("\n")
            self.lines += line.endswith("\n")
        return len(text)

    def __getattr__(self, name):  # flush, encoding, isatty, ...
        return getattr(self.out, name)


class _TimeLimit:
    """Interrupt the main thread after some seconds, as the reader's own interrupt would; None: never."""

    def __init__(self, seconds):
        self.over, self.timer = False, None
        if seconds is not None and threading.current_thread() is threading.main_thread():
            self.timer = threading.Timer(seconds, self._end)
            self.timer.daemon = True

    def _end(self):
        self.over = True
        interrupt_main()

    def __enter__(self):
        if self.timer:
            self.timer.start()

    def __exit__(self, kind_of_error, error, trace):
        if self.timer:
            self.timer.cancel()
            self.timer.join()
            if self.over and kind_of_error is not KeyboardInterrupt:  # finished in the last moment: let it arrive here
                with suppress(KeyboardInterrupt):
                    time.sleep(1)


@contextmanager
def _same_random_numbers():
    """Give torch, numpy and random one seed inside the block; give the notebook its own states back."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _argument_names(exercise, case):
    """The course's own names for a case's arguments, so that a sentence can say `x0`."""
    try:
        names = list(inspect.signature(exercise.use or exercise.reference).parameters)
    except (TypeError, ValueError):  # some built-in functions have no signature
        names = []
    names = names[1:] if exercise.use else names
    numbered = [f"argument {index + 1}" for index in range(len(case.args))]
    return [*names[: len(case.args)], *numbered[len(names) :], *case.kwargs]


def _state(value):
    """What of an input counts when we ask whether it was changed; None where that cannot be asked."""
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    return value if isinstance(value, torch.Tensor | np.ndarray | list | tuple | dict) else None


# ---- errors in a student's code ----

NUMBERS_ONLY = "`math`, `int` and `float` take one number; tensors have their own calls: `x.sqrt()`, `x.log()`."
ARGUMENTS = "Compare the call with the first line of the function: how many arguments, and in which order?"
DIMENSIONS = "Your line counts on another number of dimensions: print the shape of what comes in."
MESSAGES = {  # a part of a message: what it means for somebody new to torch; asked before ADVICE
    "tensors used as indices must be": "An index must be whole numbers: are the arguments in the order of the page?",
    "'Tensor' object is not callable": "Round brackets call a function; square brackets look up a row.",
    "only one element tensors can be": NUMBERS_ONLY,
    "cannot be converted to Scalar": NUMBERS_ONLY,
    "must be Tensor, not": "This call wants a tensor and got a plain number: `x**0.5` and `math` work for those.",
    "only integer tensors of a single": "`range` and lists count with one whole number; a tensor can index a tensor.",
    "refer to a single memory location": "`a -= a[-1]` changes `a[-1]` while it is being taken away: write "
    "`a = a - a[-1]`.",
    "Boolean value of Tensor with more": "`if` wants one yes or no, and a tensor holds many: is the `if` needed?",
    "does not require grad": "No path leads from here back to the weights: look for `no_grad`, `detach` or `item`.",
    "too many indices for tensor": DIMENSIONS,
    "Dimension out of range": DIMENSIONS,
    "values to unpack": DIMENSIONS,
    "must match the size of tensor": "Shapes line up from the *last* axis backwards: print both shapes.",
    "cannot be concatenated": "A single number has no axis to join along: `torch.ones(1)` has one.",
    "positional argument": ARGUMENTS,
}
ADVICE = {
    "TypeError": "Usually a value of the wrong kind, or one argument too many or too few.",
    "NameError": "A name is not defined: a typing slip, or a cell above that has not been run?",
    "AttributeError": "What stands before the dot does not have what comes after it: print its type.",
    "IndexError": "An index lies outside of its table: print the shape of the table, and the index.",
    "KeyError": "A dict has no such key: print its keys.",
    "ZeroDivisionError": "Something is divided by zero: for which of the inputs?",
    "RecursionError": "The function calls itself without an end.",
    "TimeoutError": "A loop without an end, or far too many steps?",
    "RuntimeError": "Print the shapes and dtypes that go in, such as `print({shapes})`.",
    "SystemExit": "`exit()` and `quit()` end a program; a function ends with `return`.",
}


def _stopped(exercise, error, case=None):
    """The finding for an error: its type and message, the student's line that raised it, and advice."""
    if _is_stub(error):
        return Finding("open", "")
    name, line = type(error).__name__, _their_line(error)
    by_type = (ADVICE[base.__name__] for base in type(error).__mro__ if base.__name__ in ADVICE)
    advice = next((said for part, said in MESSAGES.items() if part in _message(error)), None) or next(by_type, "")
    advice = advice.replace("{shapes}", _shapes(exercise, case))
    where = f'In the case "{case.label}" ' if case else ""
    says = f"{where}your `{exercise.name}` stopped with {name}: {_message(error)}{line}. {advice}".strip()
    return Finding("error", says[0].upper() + says[1:])


def _shapes(exercise, case):
    """What to print of a case's tensors, by the exercise's own names; x0 and t where there is no case."""
    if case is None:
        return "x0.shape, t.shape"
    pairs = zip(_argument_names(exercise, case), [*case.args, *case.kwargs.values()], strict=True)
    return ", ".join(f"{name}.shape" for name, value in pairs if isinstance(value, torch.Tensor)) or "x.shape"


def _their_line(error):
    """ ", at line 3, `return a + b`" for the deepest frame that is neither the course's nor a package's."""
    here = Path(__file__)  # a frame knows the path that was imported, which may lead through a link
    ours = (str(here.parents[1]), str(here.resolve().parents[1]), sysconfig.get_path("stdlib"), "<frozen")
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if not file.startswith(ours) and "site-packages" not in file and "dist-packages" not in file:
            text = cut(linecache.getline(file, number).replace("`", " "))
            return f", at line {number}" + (f", `{text}`" if text else "")
    return ""


def _message(error):
    try:
        return cut(str(error)).rstrip(".") or "(no message)"
    except Exception:  # a student's own exception may have any __str__
        return "(a message that cannot be shown)"
