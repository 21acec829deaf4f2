"""The lesson factory: a good lesson passes, and each thing that can go wrong is found and said.

`tests/fixtures/90_good.txt` is a whole little lesson; every test of a rule breaks one thing in it.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import nbformat
import pytest

import course_lib.checks
from course_lib import build, lint
from course_lib.build import BuildError, Problem

FIXTURES = Path(__file__).parent / "fixtures"
GOOD = (FIXTURES / "90_good.txt").read_text(encoding="utf-8")
ADDRESS = "https://github.com/someone/course"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the good lesson once, for real: its notebook is executed by a kernel."""
    root = tmp_path_factory.mktemp("course")
    (root / "solutions").mkdir()
    (root / "checks").mkdir()
    (root / "solutions" / "90_good.py").write_text(GOOD, encoding="utf-8")
    shutil.copy(FIXTURES / "lesson_90.py", root / "checks")
    written = build.build(root=root)
    assert [path.relative_to(root).as_posix() for path in written] == [
        "lessons/90_good.ipynb",
        "solutions/90_good.ipynb",
    ]
    return root


@pytest.fixture
def root(built, tmp_path, monkeypatch):
    """A copy of the built course for one test, whose check module can be imported."""
    monkeypatch.setattr(course_lib.checks, "__path__", [*course_lib.checks.__path__, str(FIXTURES)])
    shutil.copytree(built, tmp_path / "course")
    return tmp_path / "course"


def source(root):
    return root / "solutions" / "90_good.py"


def student(root):
    return root / "lessons" / "90_good.ipynb"


def solution(root):
    return root / "solutions" / "90_good.ipynb"


def rewrite(root, old, new, count=1):
    """Replace text in the lesson's source, which must be there."""
    assert old in GOOD
    source(root).write_text(GOOD.replace(old, new, count), encoding="utf-8")
    return build.parse(source(root))


def edit(path, change):
    """Change a notebook on disk."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change(notebook)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def cell_index(notebook_or_lesson, tag):
    cells = notebook_or_lesson["cells"] if isinstance(notebook_or_lesson, dict) else notebook_or_lesson.cells
    return next(i for i, cell in enumerate(cells) if tag in cell["metadata"].get("tags", []))


# ---- the good lesson ----


def test_the_good_lesson_has_no_problems(root):
    assert build.check_lessons(root) == []
    assert build.check_lessons(root, ["90"]) == []


def test_the_student_edition_has_stubs_and_no_outputs(root):
    notebook = nbformat.read(student(root), as_version=4)
    exercise = notebook.cells[cell_index(notebook, "exercise")]
    assert exercise.source == (
        "def deviation(first, second):\n"
        '    """Return the deviation of the sum of two independent noises."""\n'
        '    raise NotImplementedError("Exercise 90.1 is yours to write")'
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.metadata == build.METADATA
    assert "<solution>" not in student(root).read_text(encoding="utf-8")


def test_the_solution_edition_is_executed_and_fit_for_code_hosts(root):
    notebook = nbformat.read(solution(root), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert notebook.metadata == build.METADATA
    text = solution(root).read_text(encoding="utf-8")
    assert build.WIDGET_VIEW not in text and "<solution>" not in text and str(root) not in text
    check = notebook.cells[cell_index(notebook, "check")]
    assert check.outputs[0].data["text/plain"] == "Right: the deviation of every pair."
    prediction = notebook.cells[cell_index(notebook, "prediction")]
    assert "<li>3.5</li>" in prediction.outputs[0].data["text/html"]
    picture = notebook.cells[cell_index(notebook, "picture")].outputs[0]
    assert picture.metadata["image/png"]["alt"].startswith("A line that rises")


def test_both_editions_share_cell_ids_which_do_not_depend_on_place(root):
    ids = [cell.id for cell in nbformat.read(student(root), as_version=4).cells]
    assert ids == [cell.id for cell in nbformat.read(solution(root), as_version=4).cells]
    assert len(set(ids)) == len(ids)
    more = rewrite(root, "# %% [markdown]\n# ## 1.", "# %%\n1 + 1\n\n# %%\n1 + 1\n\n# %% [markdown]\n# ## 1.")
    new = [cell.id for cell in more.cells]
    assert [i for i in new if i in ids] == ids
    assert len(set(new)) == len(new) == len(ids) + 2


def test_building_twice_gives_the_same_bytes(root):
    before = student(root).read_bytes()
    build.build(["90"], root, execute_solutions=False)
    assert student(root).read_bytes() == before


def test_exercise_source_and_namespaces(root):
    text = build.exercise_source(source(root), "90.1")
    assert (
        text.startswith("def deviation(") and "return (first**2 + second**2).sqrt()" in text and "solution>" not in text
    )
    with pytest.raises(BuildError, match=r"has no exercise 90\.2"):
        build.exercise_source(source(root), "90.2")
    space = build.solution_namespace(source(root))
    assert float(space["deviation"](space["torch"].tensor(3.0), space["torch"].tensor(4.0))) == 5.0
    assert "measured" not in space and "figure" not in space  # nothing else of the lesson has run
    with pytest.raises(NotImplementedError, match=r"Exercise 90.1 is yours to write"):
        build.student_namespace(source(root))["deviation"](3, 4)


def test_namespaces_keep_helpers_and_literals_but_run_nothing_else(root):
    rewrite(
        root,
        "# ## 1. A guess",
        "# ## 1. A guess\n\n# %%\nT = 1000\nbig = sum(range(9))\ndef half(x):\n    return x / 2",
    )
    space = build.solution_namespace(source(root))
    assert space["T"] == 1000 and space["half"](4) == 2 and "big" not in space


# ---- each thing that can go wrong in the source ----

LONG = "\n".join(f"a{i} = {i}" for i in range(16))
PROSE = "\n#\n".join(f"# Paragraph {i} of words." for i in range(4))
OPTION = "# <details><summary>B. 17</summary>No: that is the sum of the deviations.</details>\n"
SOLUTION = "    # <solution>\n    return (first**2 + second**2).sqrt()\n    # </solution>"
BROKEN = {
    "a marker is not closed": (SOLUTION, SOLUTION.removesuffix("    # </solution>"), "never closed"),
    "a marker is not opened": ("    # <solution>\n", "", "without # <solution> before it"),
    "markers are nested": (
        "    # <solution>\n",
        "    # <solution>\n    # <solution>\n",
        "inside another one",
    ),
    "markers are crossed": (
        SOLUTION,
        "    # </solution>\n    return 1\n    # <solution>",
        "without # <solution>",
    ),
    "a marker is misspelt": ("    # </solution>", "    # </ solution>", "looks like a marker"),
    "a marker shares its line": (
        "    # <solution>\n    return",
        "    # <solution> return",
        "looks like a marker",
    ),
    "markers outside of an exercise": (
        "measured = float",
        "# <solution>\nx = 1\n# </solution>\nmeasured = float",
        "outside of an exercise",
    ),
    "a solution at the margin": (
        "    # <solution>\n    return (first**2 + second**2).sqrt()\n",
        "    return 1\n# <solution>\nx = 1\n",
        "inside a function, indented",
    ),
    "no solution": ("    return (first**2 + second**2).sqrt()\n", "    # soon\n", "has no solution"),
    "a stub that is no Python": (
        SOLUTION,
        "    return (\n        # <solution>\n        first\n        # </solution>\n    )",
        "not valid Python",
    ),
    "no promise": (' tags=["promise"]', "", "the first cell must be markdown"),
    "no title": ("# # 90. Two noises\n", "", "lacks a title"),
    "no prerequisites": ("# - Prerequisites: none.\n", "", "lacks the prerequisites"),
    "no minutes on a CPU": ("3 minutes on a CPU, ", "", "lacks the minutes on a CPU"),
    "no minutes on a GPU": (", 2 minutes on a GPU", "", "lacks the minutes on a GPU"),
    "no download size": ("# - Download: nothing.\n", "", "lacks the download size"),
    "no badge line": ("# <!-- colab -->\n", "", "lacks the line <!-- colab -->"),
    "no set-up": (' tags=["setup"]', "", "the second cell must be code with tags"),
    "a hand-written set-up": ("# <setup>\n", "print(1)\n", "hold only # <setup>"),
    "a second promise": ('tags=["prediction"]', 'tags=["prediction", "promise"]', "belongs to cell 1 only"),
    "an unknown tag": ('tags=["prediction"]', 'tags=["predicton"]', "the tag 'predicton' is not known"),
    "a heading level skipped": ("# ## 1. A guess", "# #### 1. A guess", "jumps from level 1 to 4"),
    "a second title": ("# ## 1. A guess", "# # 1. A guess", "is a second title"),
    "a cell too long": ("measured = float", f"{LONG}\nmeasured = float", "lines of code: 15 at most"),
    "an exercise too long": (
        "    # <solution>\n",
        "    # <solution>\n" + "    x = 1\n" * 15,
        "this cell has 17 lines",
    ),
    "too much prose": (
        "# Add a noise of deviation 3 and one of deviation 4.\n",
        PROSE + "\n",
        "more than 3 paragraphs",
    ),
    "no alt text": (', "A line that rises from three to five in two steps."', "", "alt text is missing"),
    "an alt text that says nothing": (
        "A line that rises from three to five in two steps.",
        "A plot.",
        "alt text is missing or says nothing",
    ),
    "a figure not shown": (
        'show(figure, "A line that rises from three to five in two steps.")',
        "",
        "must end in show",
    ),
    "a figure not shown, untagged": (
        "measured = float",
        "other = Figure()\nmeasured = float",
        "must end in show",
    ),
    "show is not last": ('in two steps.")', 'in two steps.")\nx = 1', "must end in show"),
    "a picture in the text": (
        "# Variances add.\n",
        "# Variances add. ![](a.png)\n",
        "a picture in the text has no alt",
    ),
    "an <img> in the text": (
        "# Variances add.\n",
        '# Variances add. <img src="a.png">\n',
        "a picture in the text has no alt",
    ),
    "a magic": ("measured = float", "%time 1\nmeasured = float", "not plain Python"),
    "an exercise without minutes": ("(5 minutes, difficulty 1 of 5)", "(difficulty 1 of 5)", "must read"),
    "an exercise without difficulty": ("(5 minutes, difficulty 1 of 5)", "(5 minutes)", "must read"),
    "an exercise without a heading": (
        "# ### Exercise 90.1 - the deviation (5 minutes, difficulty 1 of 5)\n",
        "",
        "no heading of its own",
    ),
    "an exercise without a cell": ('tags=["exercise"]', 'tags=["picture"]', "has no code cell"),
    "an exercise without a check": (
        '# %% tags=["check"]\ndeviation = check("90.1", deviation)\n',
        "",
        "needs a check cell right below",
    ),
    "a check of another number": (
        'check("90.1", deviation)',
        'check("90.2", deviation)',
        "needs a check cell right below",
    ),
    "a check that throws its answer away": (
        'deviation = check("90.1"',
        'other = check("90.1"',
        "needs a check cell right below",
    ),
    "a check far from its exercise": (
        '# %% tags=["check"]\n',
        '# %%\nx = 1\n\n# %% tags=["check"]\n',
        "right below its exercise cell",
    ),
    "a number of another lesson": (
        "# ### Exercise 90.1",
        "# ### Exercise 89.1",
        "exercise 89.1 stands in lesson 90",
    ),
    "a number that no check knows": (
        "# ### Exercise 90.1",
        "# ### Exercise 90.2",
        "no check knows exercise 90.2",
    ),
    "a check that the lesson lacks": (
        "# ### Exercise 90.1",
        "# ### Exercise 90.2",
        "checks exercise 90.1, which this lesson lacks",
    ),
    "no summary": ("# ## Summary\n", "# ## In short\n", "must end in ## Summary, ## Quiz and ## References"),
    "no quiz": ("# ## Quiz\n", "# ## Test\n", "must end in ## Summary, ## Quiz and ## References"),
    "no references": (
        "# ## References\n",
        "# ## Sources\n",
        "must end in ## Summary, ## Quiz and ## References",
    ),
    "an empty summary": ("# Variances add.\n#\n# ## Quiz", "# ## Quiz", "none empty"),
    "two questions": ("#\n# **3.** Deviation 5 and 12?\n#\n", "", "needs three questions"),
    "a question with one option": (OPTION, "", "needs three questions with two or more options"),
    "an option without a reason": (
        "No: that is the sum of the deviations.",
        "",
        "an option of the quiz is empty",
    ),
    "references without a source": ("arXiv:2006.11239, eq. 4", "2020", "name no source"),
    "no next lesson": (
        "# **Next:** there is none, this lesson is a test.\n",
        "",
        "does not name the next one",
    ),
    "code after the summary": (
        "# **Next:** there is none, this lesson is a test.\n",
        "# **Next:** none.\n\n# %%\nx = 1\n",
        "no code may follow",
    ),
}


@pytest.mark.parametrize(("old", "new", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_each_broken_source_is_found_and_said(root, old, new, words):
    problems = lint.source_problems(rewrite(root, old, new))
    found = [problem for problem in problems if words in problem.says]
    assert len(found) == 1, problems
    assert found[0].path == source(root) and str(found[0]).startswith(source(root).as_posix())
    assert [str(problem) for problem in found] == [str(p) for p in build.check_lessons(root) if words in p.says]


def test_a_number_used_twice(root):
    start, end = GOOD.index("# ### Exercise"), GOOD.index("# %%\nmeasured")
    lesson = rewrite(root, "# %%\nmeasured", "# %% [markdown]\n" + GOOD[start:end] + "# %%\nmeasured")
    assert ["the number 90.1 is used twice: number the exercises in order"] == [
        p.says for p in lint.source_problems(lesson)
    ]


FINE = {
    "exactly 15 lines": ("measured = float", "\n".join(LONG.split("\n")[:13]) + "\nmeasured = float"),
    "a long docstring in an exercise": (
        'independent noises."""',
        "independent noises.\n" + "\n    words" * 20 + '\n    """',
    ),
    "fenced code with hashes": (
        "# Variances add.\n",
        "# ```\n# #### not a heading\n# ```\n# Variances add.\n",
    ),
    "an alt text made of numbers": (
        '"A line that rises from three to five in two steps."',
        'f"A line that rises to {2 + 3}."',
    ),
    "an alt text by its name": ('show(figure, "A line', 'show(figure, alt="A line'),
    "lists are no paragraphs": (
        "# Add a noise",
        "# - a\n#\n# - b\n#\n# 1. c\n#\n# > d\n#\n# $$e$$\n#\n# Add a noise",
    ),
    "a function that draws later": ("measured = float", "def draw():\n    return Figure()\nmeasured = float"),
    "a widget in a picture cell": (
        "figure = Figure(figsize=(2, 1))\nfigure.subplots().plot([3, 4, 5])\n"
        'show(figure, "A line that rises from three to five in two steps.")',
        "explore(1)",
    ),
}


@pytest.mark.parametrize(("old", "new"), FINE.values(), ids=FINE.keys())
def test_what_is_fine_is_left_alone(root, old, new):
    assert lint.source_problems(rewrite(root, old, new)) == []


def test_an_unreadable_source_is_a_problem(root):
    source(root).write_bytes(b"# %%\n\xff\xfe")
    (problem,) = build.check_lessons(root)
    assert "cannot be read" in problem.says and problem.path == source(root)


# ---- each thing that can go wrong in the notebooks ----


def has(path, words, problems):
    found = [problem for problem in problems if problem.path == path and words in problem.says]
    assert found, problems
    return found


@pytest.mark.parametrize("which", [student, solution])
def test_a_stale_edition(root, which):
    before = build.check_lessons(root)
    edit(which(root), lambda book: book["cells"][2]["source"].append("\nx = 1"))
    (problem,) = build.check_lessons(root)
    assert before == [] and problem == Problem(which(root), 3, "stale: differs from 90_good.py; run `course build 90`")


def test_a_changed_source_makes_both_editions_stale(root):
    lesson = rewrite(root, "Variances add.\n#\n# ## Quiz", "Variances add up.\n#\n# ## Quiz")
    assert {p.path for p in lint.edition_problems(lesson)} == {student(root), solution(root)}
    lesson = rewrite(root, "# **Next:** there is none", "# %% [markdown]\n# **Next:** there is none")
    assert {p.cell for p in lint.edition_problems(lesson)} != {0}


@pytest.mark.parametrize("which", [student, solution])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is missing"),
        ("", "is not a whole notebook"),
        ('{"cells": [{"cell_ty', "is not a whole notebook"),
        ("[]", "is not a whole notebook"),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
            "is not a",
        ),
    ],
)
def test_an_edition_that_is_missing_or_cut_off(root, which, text, words):
    which(root).unlink()
    if text is not None:
        which(root).write_text(text, encoding="utf-8")
    (problem,) = build.check_lessons(root)
    assert problem.path == which(root) and words in problem.says and "run `course build 90`" in problem.says


def test_orphans(root):
    shutil.copy(student(root), root / "lessons" / "91_old.ipynb")
    shutil.copy(student(root), root / "solutions" / "92_old.ipynb")
    assert [(p.path.name, p.says.split(":")[0]) for p in build.check_lessons(root)] == [
        ("91_old.ipynb", "no source solutions/91_old.py"),
        ("92_old.ipynb", "no source solutions/92_old.py"),
    ]


def test_outputs_in_a_student_notebook(root):
    def run(book):
        book["cells"][2]["execution_count"] = 1

    edit(student(root), run)
    has(student(root), "must have no outputs and no execution counts", build.check_lessons(root))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"widgets": {"application/vnd.jupyter.widget-state+json": {}}}, "metadata.widgets has no state"),
        ({"colab": {"provenance": []}}, "metadata should be only"),
        ({"kernelspec": {"name": "my-env", "display_name": "My"}}, "metadata should be only"),
    ],
)
def test_metadata_that_code_hosts_refuse(root, metadata, words):
    for path in (student(root), solution(root)):
        edit(path, lambda book: book["metadata"].update(metadata))
        (problem,) = [p for p in build.check_lessons(root) if p.path == path]
        assert words in problem.says


def test_cell_metadata_left_behind(root):
    edit(solution(root), lambda book: book["cells"][2]["metadata"].update(collapsed=True))
    has(solution(root), "cell metadata should be only tags", build.check_lessons(root))


@pytest.mark.parametrize("where", ["markdown", "code"])
def test_a_leaked_solution_line_anywhere_in_the_student_lesson(root, where):
    leak = "#  Think of ( first**2+second ** 2 ).sqrt()  here"
    edit(
        student(root),
        lambda book: book["cells"][3 if where == "markdown" else 2]["source"].append("\n" + leak),
    )
    problem = has(student(root), "the solution of exercise 90.1 stands here", build.check_lessons(root))[0]
    assert problem.cell == (4 if where == "markdown" else 3)


def test_a_leak_in_the_source_is_found_before_the_lesson_exists(root):
    lesson = rewrite(root, "# **What you saw.** The line rises.", "# Try `return (first**2 + second**2).sqrt()`.")
    student(root).unlink()
    has(student(root), "the solution of exercise 90.1 stands here", lint.edition_problems(lesson))


@pytest.mark.parametrize(
    ("line", "piece"),
    [
        ("    return (1 - kept).sqrt() * eps  # the noise", "(1 - kept).sqrt() * eps"),
        ("    kept = alpha_bar[t].reshape(-1, 1)", "alpha_bar[t].reshape(-1, 1)"),
        ("    total += weight * (x - y) ** 2", "weight * (x - y) ** 2"),
        ("    mean, std = f(x0, t, eps)", "f(x0, t, eps)"),
        ("    assert_same(x == y, x <= y)", "assert_same(x == y, x <= y)"),
        ("    return x0", None),
        ("    # kept.sqrt() * x0 + (1 - kept).sqrt() * eps", None),
        ("    for t in reversed(range(1, T + 1)):", None),
        ("    import torch.nn.functional as F, math, os", None),
    ],
)
def test_what_a_line_gives_away(line, piece):
    assert lint._substance(line) == piece


def _outputs(book):
    return book["cells"][cell_index(book, "picture")]["outputs"]


def test_a_solution_that_was_not_executed(root):
    def forget(book):
        for cell in book["cells"]:
            if cell["cell_type"] == "code":
                cell.update(execution_count=None, outputs=[])

    edit(solution(root), forget)
    assert len(has(solution(root), "was not executed", build.check_lessons(root))) == 7


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []},
            "stops with ValueError",
        ),
        (
            {"output_type": "stream", "name": "stderr", "text": "FutureWarning: soon\n"},
            "a warning is shown (FutureW",
        ),
        ({"output_type": "stream", "name": "stdout", "text": "saved /tmp/x.pt\n"}, "shows '/tmp/x.pt'"),
        (
            {"output_type": "stream", "name": "stdout", "text": "saved /home/me/x.pt\n"},
            "shows '/home/me/x.pt'",
        ),
        ({"output_type": "stream", "name": "stdout", "text": "C:\\Users\\me"}, "shows 'C:\\\\Users"),
        ({"output_type": "stream", "name": "stdout", "text": "<Net at 0x7f5a2c>\n"}, "shows '0x7f5a2c'"),
        (
            {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<p>/Users/me</p>"}},
            "shows '/Users/me",
        ),
        (
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"image/png": "aGk=", "text/plain": "<Figure>"},
            },
            "a picture in the output has no alt text",
        ),
        (
            {"output_type": "display_data", "metadata": {}, "data": {"text/html": '<img src="a" alt="">'}},
            "an <img> in the output has no alt text",
        ),
    ],
)
def test_outputs_that_are_unfit_to_show(root, output, words):
    edit(solution(root), lambda book: _outputs(book).append(output))
    (problem,) = build.check_lessons(root)
    assert words in problem.says and problem.path == solution(root)


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/home/x",
        "a ratio of 1/2, and/or",
        "<p>x</p>",
        'src="data:image/png;base64,A/tmp/B=="',
    ],
)
def test_outputs_that_only_look_like_paths(root, text):
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": text}}
    edit(solution(root), lambda book: _outputs(book).append(output))
    assert build.check_lessons(root) == []


def test_a_solution_that_fails_its_own_check(root):
    def fail(book):
        data = book["cells"][cell_index(book, "check")]["outputs"][0]["data"]
        data["text/plain"] = "Not yet: ..."

    edit(solution(root), fail)
    has(solution(root), "does not pass its check", build.check_lessons(root))


# ---- writing ----


def snapshot(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refuse(error):
    def call(*args, **kwargs):
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "the old files are whole (No space left on device)",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            1,
            "the old files are whole (Permission denied)",
        ),
        (KeyboardInterrupt(), 130, "Interrupted: the old files are whole"),
    ],
)
@pytest.mark.parametrize("where", ["replace", "fsync", "open"])
def test_an_interrupted_build_leaves_the_old_files_whole(root, monkeypatch, capsys, error, code, words, where):
    rewrite(root, "Variances add.\n#\n# ## Quiz", "Variances add up.\n#\n# ## Quiz")
    before = snapshot(root)
    monkeypatch.setattr(build, "REPOSITORY_ROOT", root)
    target = {"replace": os, "fsync": os, "open": build}[where]
    monkeypatch.setattr(target, where, refuse(error), raising=False)
    assert build.main([], check=False, execute=False) == code
    said = capsys.readouterr().out
    assert words in said and len(said.splitlines()) == 1
    monkeypatch.undo()
    assert snapshot(root) == before


def test_a_real_read_only_folder(root, monkeypatch, capsys):
    if os.name == "nt" or os.geteuid() == 0:
        shutil.rmtree(root / "lessons")
        (root / "lessons").write_text("a file stands where the folder should be", encoding="utf-8")
    else:
        (root / "lessons").chmod(0o500)
    before = snapshot(root)
    monkeypatch.setattr(build, "REPOSITORY_ROOT", root)
    assert build.main([], check=False, execute=False) == 1
    assert "the old files are whole" in capsys.readouterr().out
    assert snapshot(root) == before


def test_written_files_have_ordinary_permissions_and_newlines(root):
    build.build(root=root, execute_solutions=False)
    other = root / "plain.txt"
    other.write_text("x", encoding="utf-8")
    assert student(root).stat().st_mode == other.stat().st_mode
    assert b"\r" not in student(root).read_bytes() and student(root).read_bytes().endswith(b"}\n")


def test_a_solution_that_stops_writes_nothing_and_says_where(root, monkeypatch, capsys):
    rewrite(root, "print(guess.compare(measured))", 'raise ValueError("no such luck")')
    before = snapshot(root)
    monkeypatch.setattr(build, "REPOSITORY_ROOT", root)
    assert build.main(["90"], check=False) == 1
    said = capsys.readouterr().out
    assert "Not built: 90_good.py: cell 10 stopped with ValueError: no such luck; nothing was written." in said
    assert snapshot(root) == before


def test_a_cell_without_end_is_given_up(root, monkeypatch):
    monkeypatch.setattr(build, "CELL_SECONDS", 2)
    rewrite(root, "print(guess.compare(measured))", "while True:\n    pass")
    with pytest.raises(BuildError, match="did not finish: CellTimeoutError"):
        build.build(root=root)


def test_a_kernel_that_is_not_there_is_one_sentence(root, monkeypatch):
    monkeypatch.setattr("nbclient.NotebookClient.create_kernel_manager", refuse(RuntimeError("no such kernel")))
    with pytest.raises(BuildError, match="did not finish: RuntimeError: no such kernel; nothing was written"):
        build.build(root=root)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_an_interrupt_while_a_lesson_runs_writes_nothing(root):
    wait = "import pathlib, time\npathlib.Path('../started').touch()\ntime.sleep(300)"
    rewrite(root, "print(guess.compare(measured))", wait)
    before = snapshot(root)
    code = "import pathlib, sys; from course_lib import build; "
    code += "build.REPOSITORY_ROOT = pathlib.Path(sys.argv[1]); sys.exit(build.main([], check=False))"
    command = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while not (root / "started").exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert said == "Interrupted: the old files are whole. Run the same command again.\n"
    assert process.returncode == 130
    (root / "started").unlink()
    assert snapshot(root) == before


def test_markers_that_do_not_match_stop_the_build(root):
    rewrite(root, "    # </solution>", "")
    before = snapshot(root)
    with pytest.raises(BuildError, match="never closed"):
        build.build(root=root)
    assert snapshot(root) == before


def test_without_executing_outputs_are_kept_where_the_code_is_the_same(root):
    rewrite(root, "Variances add.\n#\n# ## Quiz", "Variances add up.\n#\n# ## Quiz")
    assert len(build.build(root=root, execute_solutions=False)) == 2
    assert build.check_lessons(root) == []
    rewrite(root, "measured = float", "measured = 1.0 * float")
    assert build.build(root=root, execute_solutions=False) == [student(root)]
    assert {p.path for p in build.check_lessons(root)} == {solution(root)}
    solution(root).unlink()
    assert build.build(root=root, execute_solutions=False) == [student(root)]


def test_outputs_of_live_widgets_are_kept_only_where_something_else_shows_them():
    def output(**data):
        return {
            "output_type": "display_data",
            "metadata": {},
            "data": {build.WIDGET_VIEW: {"model_id": "x"}, **data},
        }

    assert build._tidied(output(**{"text/plain": "0%| | 0/9"})) is None
    assert build._tidied(output(**{"text/html": "<p>x</p>"}))["data"] == {"text/html": "<p>x</p>"}
    stream = {"output_type": "stream", "name": "stdout", "text": "x"}
    assert build._tidied(dict(stream)) == stream


def test_a_notebook_that_is_not_valid_is_not_written():
    with pytest.raises(BuildError, match="the notebook is not valid"):
        build.as_text(
            nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"id": "a", "x": 1}]})
        )


# ---- the command, names, the address ----


def test_main_checks_and_says_so(root, monkeypatch, capsys):
    monkeypatch.setattr(build, "REPOSITORY_ROOT", root)
    assert build.main([], check=True) == 0
    assert capsys.readouterr().out == "1 lesson: all is well.\n"
    student(root).unlink()
    assert build.main(["90_good"], check=True) == 1
    said = capsys.readouterr().out.splitlines()
    assert said == ["lessons/90_good.ipynb: this edition is missing: run `course build 90`", "1 to mend."]
    assert build.main(["90"], check=False, execute=False) == 0
    assert capsys.readouterr().out.splitlines()[0] == "wrote lessons/90_good.ipynb"
    assert build.main(["17"], check=False) == 1
    assert capsys.readouterr().out == "Not built: there is no lesson '17': expected one of 90_good.\n"


@pytest.mark.parametrize("name", ["90", "90_good", "solutions/90_good.py", "lessons/90_good.ipynb"])
def test_a_lesson_has_many_names(root, name):
    assert build.select([name], root) == [source(root)]


def write_address(root, address):
    (root / "pyproject.toml").write_text(f'[tool.course]\nrepository = "{address}"\n', encoding="utf-8")


def test_without_a_public_address_there_is_no_badge_and_no_download(root):
    for text in ('[project]\nname = "x"\n', '[tool.course]\nrepository = ""\n'):
        (root / "pyproject.toml").write_text(text, encoding="utf-8")
        notebook = build.student_edition(build.parse(source(root)))
        whole = build.as_text(notebook)
        assert "colab" not in whole and "git" not in whole and "http" not in notebook.cells[0].source
        assert notebook.cells[0].source.startswith("# 90. Two noises\n\nYou will add")


def test_with_a_public_address_the_badge_and_the_set_up_use_it(root):
    write_address(root, ADDRESS + "/")
    lesson = build.parse(source(root))
    for notebook, folder in (
        (build.student_edition(lesson), "lessons"),
        (build.solution_edition(lesson), "solutions"),
    ):
        target = f"colab.research.google.com/github/someone/course/blob/main/{folder}/90_good.ipynb"
        assert target in notebook.cells[0].source and "[![Open this lesson in Colab](" in notebook.cells[0].source
        assert ADDRESS in notebook.cells[1].source and "--no-deps" in notebook.cells[1].source


@pytest.mark.parametrize(
    "bad", ["http://example.org/a/b", "https://github.com/only", 'x"; import os'.replace('"', "'")]
)
def test_an_address_that_is_none_is_refused(root, bad):
    write_address(root, bad)
    with pytest.raises(BuildError, match="repository like"):
        build.repository(root)


# ---- the set-up cell ----


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Run set-up cells as if the course were not installed; start() is replaced by a note."""
    started, real = [], __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "course_lib" else real(name))
    monkeypatch.setattr("course_lib.page.start", started.append)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lessons").mkdir()
    monkeypatch.chdir(tmp_path / "lessons")
    return started


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_set_up_cell_is_short_and_never_touches_torch_or_numpy(address):
    text = build.setup_source("01", address)
    assert len(text.splitlines()) <= 15 and "torch" not in text and "numpy" not in text
    assert compile(text, "setup", "exec")
    assert text.endswith('start("01")')


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_set_up_cell_finds_a_checkout_from_lessons_and_from_its_root(bare, tmp_path, monkeypatch, address):
    (tmp_path / "course_lib").mkdir()
    for folder in ("lessons", "."):
        monkeypatch.chdir(tmp_path / folder)
        exec(build.setup_source("01", address), {})
        assert sys.path[0] == str(tmp_path)
    assert bare == ["01", "01"]


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_set_up_cell_says_in_a_sentence_that_nothing_was_found(bare, address):
    with pytest.raises(ImportError, match=r"found.*: .*\.$"):
        exec(build.setup_source("01", address), {})
    assert bare == []


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_set_up_cell_leaves_an_installed_course_alone(monkeypatch, tmp_path, address):
    started, path = [], list(sys.path)
    monkeypatch.setattr("course_lib.page.start", started.append)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", refuse(AssertionError("nothing may be fetched or installed")))
    for _ in range(2):
        exec(build.setup_source("01", address), {})
    assert started == ["01", "01"] and sys.path == path


def test_on_colab_the_course_is_cloned_once_and_only_missing_packages_are_installed(bare, tmp_path, monkeypatch):
    clone, calls = tmp_path / "content" / "course", []
    find = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "psutil" else find(name))
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))

    def run(command, **options):
        calls.append(command)
        if command[0] == "git":
            (clone / "course_lib").mkdir(parents=True)

    monkeypatch.setattr(subprocess, "run", run)
    text = build.setup_source("01", ADDRESS).replace("/content/course", clone.as_posix())
    exec(text, {})
    exec(text, {})
    assert calls[0] == ["git", "clone", "--quiet", "--depth", "1", ADDRESS, str(clone)]
    assert [call[0] for call in calls].count("git") == 1
    assert calls[1] == [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "psutil"]
    assert sys.path[0] == str(clone) and bare == ["01", "01"]


def test_on_colab_without_network_there_is_one_sentence(bare, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", lambda command, **options: None)  # git failed, and said so itself
    with pytest.raises(ImportError, match="check the network, then run this cell again"):
        exec(build.setup_source("01", ADDRESS), {})
