"""Every lesson of the course: its exercises, its own solutions, and the mistakes its checks know."""

import pytest

from course_lib import build
from course_lib.checks import exercises_of
from course_lib.checks.engine import diagnose

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
    assert [path.stem[:2] for path in SOURCES] == [f"{index:02d}" for index in range(len(SOURCES))]
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
