"""Try a student's function and say what is right, or which known mistake it looks like.

Equation: none; the course's own function is the answer key.
Shapes: those of the exercise.
Not here: how a verdict is reached (engine.py) and the exercises themselves (lesson_NN.py, one a lesson).
"""

import importlib
import re

__all__ = ["check", "exercises_of", "find"]


def exercises_of(lesson: str) -> dict:
    """Return the exercises of lesson "01" by number, an empty dict where the lesson has no check module."""
    module = f"{__name__}.lesson_{int(lesson):02d}"
    try:
        return importlib.import_module(module).EXERCISES
    except ModuleNotFoundError as error:
        if error.name == module:
            return {}
        raise


def find(number: str):
    """Return the Exercise "1.2" of lesson 01, or None where there is none.

    >>> find("no such exercise") is None
    True
    """
    match = re.fullmatch(r"(\d{1,2})\.(\d{1,2})", str(number).strip())
    return exercises_of(match[1]).get(match[0]) if match else None


def check(number: str, function):
    """Try `function` on exercise `number`, show a verdict, and return what the lesson goes on with.

    That is `function` where it passes, and the course's own one where it does not. A wrong answer never
    raises and never stops the lesson, whatever it does; only the reader's own interrupt goes through.
    """
    from course_lib.checks import engine

    exercise = find(number)
    if exercise is None:
        engine.unknown(number).show()
        return function
    own = function is exercise.reference
    verdict = engine.stand_in(exercise) if own else engine.diagnose(exercise, function)
    verdict.show()
    return function if verdict.passed else exercise.reference
