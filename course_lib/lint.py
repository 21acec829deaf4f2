"""The rules that a lesson keeps: one small function a rule, each telling its writer what to do.

Equation: none.
Shapes: none; a rule takes a Lesson (or a built notebook) and yields (index of the cell, sentence).
Not here: how the editions are made (build.py).
"""

import ast
import re
from pathlib import Path

from course_lib import build
from course_lib.build import Problem

TAGS = ("promise", "setup", "prediction", "picture", "exercise", "check")
LONGEST_CELL = 15  # lines of code
MOST_PARAGRAPHS = 3  # of prose, below one heading and between two code cells
SHORTEST_ALT = 5  # words
SUBSTANCE = 7  # tokens that make a line of a solution worth hiding
CHECK_LINE = re.compile(r'(\w+) = check\("([\d.]+)", (\w+)\)')
MACHINE = re.compile(
    r"(?<![\w.~<])/(?:home|Users|root|tmp|work|private|var|opt|usr|mnt|content)/\S*"
    r"|\b[A-Za-z]:\\\w\S*|\S*site-packages\S*|\b0x[0-9a-f]{6,}"
)


def check_lessons(root: Path, names=None) -> list[Problem]:
    """All problems of the lessons that `names` mean (of all lessons, and of stray notebooks, where None)."""
    problems = []
    for path in build.select(names, root):
        try:
            lesson = build.parse(path)
        except build.BuildError as error:
            problems.append(Problem(path, 0, f"{error}"))
            continue
        problems += source_problems(lesson)
        problems += edition_problems(lesson)
    if names is None:
        problems += _orphans(root)
    return problems


def source_problems(lesson) -> list[Problem]:
    """What is wrong in solutions/NN_name.py itself."""
    found = build.marker_problems(lesson)
    for rule in (
        _promise,
        _setup,
        _tags,
        _headings,
        _lengths,
        _pictures,
        _exercises,
        _catalogue,
        _prose,
        _ending,
    ):
        found += [Problem(lesson.path, index + 1, says) for index, says in rule(lesson)]
    return found


def edition_problems(lesson) -> list[Problem]:
    """What is wrong in the two notebooks made from it: missing, stale, leaking, or unfit to be shown."""
    number, stem = lesson.number, lesson.path.stem
    student_path, solution_path = lesson.root / "lessons" / f"{stem}.ipynb", lesson.path.with_suffix(".ipynb")
    student, solution = build.student_edition(lesson), build.solution_edition(lesson)
    student_rules = (_not_stale(student, lesson), _accepted, _no_outputs, _no_leaks(lesson))
    solution_rules = (_not_stale(solution, lesson), _accepted, _executed, _fit_to_show)
    found = []
    for path, rules in ((student_path, student_rules), (solution_path, solution_rules)):
        notebook, reason = _read(path)
        if notebook is None:
            found.append(Problem(path, 0, f"this edition {reason}: run `course build {number}`"))
            # what was never written may still leak once it is
            notebook, rules = student, (_no_leaks(lesson),) if path == student_path else ()
        found += [Problem(path, index + 1, says) for rule in rules for index, says in rule(notebook)]
    return found


def _read(path):
    """(notebook, "") or (None, why not)."""
    import nbformat

    try:
        notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        nbformat.validate(notebook)
    except FileNotFoundError:
        return None, "is missing"
    except nbformat.ValidationError as error:
        return None, f"is not a valid notebook ({str(error).splitlines()[0]})"
    except Exception as error:  # cut off, no JSON, no notebook, unreadable
        return None, f"is not a whole notebook ({type(error).__name__})"
    return notebook, ""


# ---- the source ----


def _promise(lesson):
    first = lesson.cells[0] if lesson.cells else None
    if first is None or first.cell_type != "markdown" or "promise" not in build.tags(first):
        yield 0, 'the first cell must be markdown with tags=["promise"]: title, prerequisites, minutes, download'
        return
    wanted = {
        "a title (# ...)": r"^# \S",
        "the prerequisites": r"(?i)prerequisite|you need",
        "the minutes on a CPU": r"(?is)(\d+ minutes?.{0,60}\bCPU|\bCPU.{0,60}\d+ minutes?)",
        "the minutes on a GPU": r"(?is)(\d+ minutes?.{0,60}\bGPU|\bGPU.{0,60}\d+ minutes?)",
        "the download size": r"(?i)download",
        f"the line {build.COLAB_LINE}": re.escape(build.COLAB_LINE),
    }
    for what, pattern in wanted.items():
        if not re.search(pattern, first.source, re.MULTILINE):
            yield 0, f"the promise cell lacks {what}: add it"


def _setup(lesson):
    second = lesson.cells[1] if len(lesson.cells) > 1 else None
    if second is None or "setup" not in build.tags(second) or second.source.strip() != build.SETUP_MARK:
        yield 1, f'the second cell must be code with tags=["setup"] and hold only {build.SETUP_MARK}'


def _tags(lesson):
    for index, cell in enumerate(lesson.cells):
        for tag in build.tags(cell):
            if tag not in TAGS:
                yield index, f"the tag {tag!r} is not known: use one of {', '.join(TAGS)}"
            elif tag in TAGS[:2] and index != TAGS.index(tag):
                yield index, f"the tag {tag!r} belongs to cell {TAGS.index(tag) + 1} only: take it off here"


def _heading_lines(cell):
    """(level, text) of the headings of a markdown cell, leaving fenced code out."""
    if cell.cell_type != "markdown":
        return []
    plain = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
    return [(len(marks), text.strip()) for marks, text in re.findall(r"^(#{1,6})\s+(.*)$", plain, re.MULTILINE)]


def _headings(lesson):
    level = 0
    for index, cell in enumerate(lesson.cells):
        for new, text in _heading_lines(cell):
            if new > level + 1:
                yield index, f"the heading {text!r} jumps from level {level} to {new}: use {'#' * (level + 1)}"
            if new == 1 and index > 0:
                yield index, f"the heading {text!r} is a second title: use ##"
            level = new


def _lengths(lesson):
    for index, cell in enumerate(lesson.cells):
        if cell.cell_type == "code":
            count = _counted_lines(cell)
            if count > LONGEST_CELL:
                yield index, f"this cell has {count} lines of code: {LONGEST_CELL} at most, so split it"


def _counted_lines(cell):
    """Lines of a cell; of an exercise, docstrings are the statement's and do not count."""
    source = build.without_markers(cell.source)
    count = len(source.strip("\n").split("\n"))
    tree = _tree(source)
    if tree is None or "exercise" not in build.tags(cell):
        return count
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            count -= node.body[0].end_lineno - node.body[0].lineno + 1
    return count


def _tree(source):
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def _pictures(lesson):
    for index, cell in enumerate(lesson.cells):
        if cell.cell_type == "markdown":
            if re.search(r"!\[\s*\]\(", cell.source) or _images_without_alt(cell.source):
                yield index, "a picture in the text has no alt text: write ![what there is to see](file)"
        elif not {"setup", "exercise"} & set(build.tags(cell)):
            tree = _tree(cell.source)
            if tree is None:
                yield index, "this cell is not plain Python: no magics, no shell lines"
            else:
                yield from ((index, says) for says in _picture_cell(tree, "picture" in build.tags(cell)))


def _picture_cell(tree, tagged):
    """What a cell that makes a figure, or says so by its tag, lacks."""
    calls = [node for statement in tree.body for node in _run_at_once(statement) if isinstance(node, ast.Call)]
    names = [_called(call) for call in calls]
    draws = any(name.startswith(("plt.", "viz.")) or name.split(".")[-1] == "Figure" for name in names)
    if not (draws or tagged or "show" in names) or (not draws and "explore" in names):
        return
    last = tree.body[-1] if tree.body else None
    if not (isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) and _called(last.value) == "show"):
        yield 'a cell that makes a figure must end in show(figure, "what there is to see")'
    for call in (call for call in calls if _called(call) == "show"):
        alt = next((word.value for word in call.keywords if word.arg == "alt"), (call.args[1:2] or [None])[0])
        words = _literal_words(alt)
        if alt is None or (words is not None and words < SHORTEST_ALT):
            yield f"the alt text is missing or says nothing: {SHORTEST_ALT} words at least on what to see"


def _run_at_once(node):
    """The nodes of a statement that run with it (not the bodies of functions that it defines)."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _run_at_once(child)


def _called(call):
    """The dotted name that is called: "show", "viz.schedule", "" where it is no name."""
    return ast.unparse(call.func) if isinstance(call.func, (ast.Name, ast.Attribute)) else ""


def _literal_words(node):
    """How many words a literal string has; None for anything that is computed."""
    if isinstance(node, ast.Constant):
        return len(str(node.value).split())
    if isinstance(node, ast.JoinedStr):
        return len("".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values).split())
    return None


def _images_without_alt(text):
    return [
        tag
        for tag in re.findall(r"<img\b[^>]*>", text)
        if not re.search(r"""\balt=("[^"]*\S[^"]*"|'[^']*\S[^']*')""", tag)
    ]


def _exercises(lesson):
    cells, seen = lesson.cells, set()
    for index, cell in enumerate(cells):
        for _, text in _heading_lines(cell):
            if re.match(r"(?i)exercise\b", text) and not any(
                f"Exercise {e.number} - {e.title} (" in text for e in lesson.exercises if e.heading == index
            ):
                yield (
                    index,
                    f'the heading {text!r} must read "### Exercise 1.2 - title (10 minutes, difficulty 2 of 5)"',
                )
        if "exercise" in build.tags(cell) and index not in [e.cell for e in lesson.exercises]:
            yield index, "this exercise has no heading of its own above it: add ### Exercise ..."
        if "check" in build.tags(cell) and (index == 0 or "exercise" not in build.tags(cells[index - 1])):
            yield index, "a check cell must stand right below its exercise cell"
    for exercise in lesson.exercises:
        if exercise.number in seen:
            yield exercise.heading, f"the number {exercise.number} is used twice: number the exercises in order"
        seen.add(exercise.number)
        if int(exercise.number.split(".")[0]) != int(lesson.number):
            yield (
                exercise.heading,
                f"exercise {exercise.number} stands in lesson {lesson.number}: use {int(lesson.number)}.k",
            )
        if exercise.cell is None:
            yield exercise.heading, f'exercise {exercise.number} has no code cell: add one with tags=["exercise"]'
        else:
            yield from _exercise_cell(cells, exercise)


def _exercise_cell(cells, exercise):
    source, index = cells[exercise.cell].source, exercise.cell
    opened = [line for line in source.split("\n") if line.strip() == build.OPEN]
    if not any(line.strip() and not line.strip().startswith("#") for line in build.solution_lines(source)):
        yield index, f"exercise {exercise.number} has no solution: put it between {build.OPEN} and {build.CLOSE}"
    if any(line == build.OPEN for line in opened):
        yield index, "a solution must stand inside a function, indented, so that its stub can raise there"
    elif _tree(source) is None or _tree(build.with_stub(source, exercise.number)) is None:
        yield index, "the cell is not valid Python with its solution or with its stub: run both"
    check = cells[index + 1] if index + 1 < len(cells) else None
    line = CHECK_LINE.fullmatch(check.source.strip()) if check is not None and "check" in build.tags(check) else None
    if line is None or line[1] != line[3] or line[2] != exercise.number:
        yield (
            index,
            f'exercise {exercise.number} needs a check cell right below: tags=["check"] and '
            f'name = check("{exercise.number}", name)',
        )


def _catalogue(lesson):
    from course_lib.checks import exercises_of

    known, here = exercises_of(lesson.number), {exercise.number: exercise for exercise in lesson.exercises}
    module = f"course_lib/checks/lesson_{lesson.number}.py"
    for number in sorted(here.keys() - known.keys()):
        yield here[number].heading, f"no check knows exercise {number}: add it to {module}"
    for number in sorted(known.keys() - here.keys()):
        yield -1, f"{module} checks exercise {number}, which this lesson lacks: add it or take the check away"


def _prose(lesson):
    """Paragraphs below one heading without code between; lists, tables, formulas, quotes do not count."""
    count = 0
    for index, cell in enumerate(lesson.cells[1:], 1):
        if any(text.startswith("Summary") for _, text in _heading_lines(cell)):
            return
        if cell.cell_type == "code":
            count = 0
            continue
        plain = re.sub(r"\$\$.*?\$\$|^```.*?^```", "", cell.source, flags=re.DOTALL | re.MULTILINE)
        for block in map(str.strip, re.split(r"\n\s*\n|\n(?=#)", plain)):
            if block.startswith("#"):
                count, block = 0, block.partition("\n")[2]
            count += bool(block) and not re.match(r"[-*+]\s|\d+[.)]\s|[|>!<]", block)
            if count > MOST_PARAGRAPHS:
                says = f"more than {MOST_PARAGRAPHS} paragraphs below a heading without any code"
                yield index, f"{says}: shorten, or let something run in between"
                count = -len(plain)  # say it once


def _ending(lesson):
    text, start = "", None
    for index, cell in enumerate(lesson.cells):
        if cell.cell_type == "markdown" and (
            start is not None or re.search(r"^## Summary\s*$", cell.source, re.MULTILINE)
        ):
            start = index if start is None else start
            text += "\n" + cell.source
        elif start is not None:
            yield index, "no code may follow the summary: move it up"
    last = len(lesson.cells) - 1
    parts = dict(re.findall(r"^## (Summary|Quiz|References)[ \t]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    if list(parts) != ["Summary", "Quiz", "References"] or not all(part.strip() for part in parts.values()):
        yield last, "the lesson must end in ## Summary, ## Quiz and ## References, in this order, none empty"
        return
    yield from ((start, says) for says in _quiz(parts["Quiz"]))
    if not re.search(r"https?://|arXiv", parts["References"]):
        yield last, "the references name no source: give a link or an arXiv number, with equation numbers"
    if not re.search(r"(?i)\bnext\b", parts["References"]) and not re.search(r"(?im)^## .*next|\*\*next", text):
        yield last, "the lesson does not name the next one: end with **Next:** ..."


def _quiz(text):
    """A question is some text and the <details> below it: one option each, with the reason inside."""
    options = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
    if any(not summary.strip() or not reason.strip() for summary, reason in options.findall(text)):
        yield "an option of the quiz is empty: <details><summary>A. ...</summary>why right or wrong</details>"
    runs = re.findall(r"\S[^\0]*?((?:\0\s*)+)", options.sub("\0", text))
    counts = [run.count("\0") for run in runs]
    if len(counts) < 3 or min(counts) < 2:
        yield f"the quiz needs three questions with two or more options each: its options are {counts}"


# ---- the notebooks ----


def _not_stale(wanted, lesson):
    def parts(cell):
        return cell["cell_type"], cell.get("id"), cell["source"], cell["metadata"].get("tags", [])

    def rule(notebook):
        have, want = ([parts(cell) for cell in book["cells"]] for book in (notebook, wanted))
        if have != want:
            place = next((i for i, pair in enumerate(zip(have, want, strict=False)) if pair[0] != pair[1]), -1)
            yield place, f"stale: differs from {lesson.path.name}; run `course build {lesson.number}`"

    return rule


def _accepted(notebook):
    """What code hosts refuse to show, or what a hand-made edit leaves behind."""
    metadata = notebook["metadata"]
    if "widgets" in metadata and not all("state" in value for value in metadata["widgets"].values()):
        yield -1, "metadata.widgets has no state, and code hosts refuse to show that: build it again"
    elif metadata != build.METADATA:
        yield -1, f"metadata should be only {', '.join(build.METADATA)}, not {sorted(metadata)}: build it again"
    for index, cell in enumerate(notebook["cells"]):
        if set(cell["metadata"]) - {"tags"}:
            yield index, f"cell metadata should be only tags, and it is {sorted(cell['metadata'])}: build it again"


def _no_outputs(notebook):
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"] is not None):
            yield index, "a student's notebook must have no outputs and no execution counts: build it again"


def _executed(notebook):
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            if cell["execution_count"] is None and cell["source"].strip():
                yield index, "the solution edition was not executed: run `course build`"
            checked = "check" in cell["metadata"].get("tags", [])
            yield from ((index, says) for output in cell["outputs"] if (says := _failure(output, checked)))


def _failure(output, checked):
    """What an output of an executed solution must not be: an error, a warning, a check that does not pass."""
    if output["output_type"] == "error":
        return f"the solution stops with {output['ename']}: mend it and build again"
    if output.get("name") == "stderr":
        first = (output["text"].strip().splitlines() or [""])[0][:120]
        return f"a warning is shown ({first}): mend its cause and build again"
    if checked and not output.get("data", {}).get("text/plain", "Right").startswith("Right"):
        return "the lesson's own solution does not pass its check: mend one of the two"
    return None


def _fit_to_show(notebook):
    """Outputs: no machine's paths or addresses, no picture without alt text."""
    for index, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts = [value for mime, value in data.items() if mime.startswith("text/")]
            for text in [*texts, output.get("text", "")]:
                text = re.sub(r"[\w+/=]{200,}", "", text)  # packed pictures: no paths, and long to search
                if match := MACHINE.search(text):
                    yield index, f"the output shows {match[0]!r}, which is this machine's own: do not print it"
                    break
            page = data.get("text/html", "")
            for mime in (mime for mime in data if mime.startswith("image/")):
                alt = output["metadata"].get(mime, {}).get("alt", "")
                if not alt.strip() and not (re.search(r"<img\b", page) and not _images_without_alt(page)):
                    yield index, "a picture in the output has no alt text: make it with show(figure, alt)"
            if _images_without_alt(page):
                yield index, "an <img> in the output has no alt text: add one"


def _no_leaks(lesson):
    """No line of a solution may stand anywhere in the student's notebook."""

    def rule(notebook):
        texts = [re.sub(r"[\s`]", "", cell["source"]) for cell in notebook["cells"]]
        for exercise in (exercise for exercise in lesson.exercises if exercise.cell is not None):
            solution = build.solution_lines(lesson.cells[exercise.cell].source)
            for piece in filter(None, map(_substance, solution)):
                for index in (i for i, text in enumerate(texts) if re.sub(r"\s", "", piece) in text):
                    says = f"the solution of exercise {exercise.number} stands here ({piece!r})"
                    yield index, f"{says}: say it in other words, or build again"

    return rule


def _substance(line):
    """What a line of a solution gives away: its right-hand side; None for comments and bare control lines."""
    line = re.sub(r"\s+#.*$", "", line).strip()
    if re.match(r"#|(for|while|if|elif|else|with|def|class|try|except|import|from|pass|break|continue)\b|[\"']", line):
        return None
    right = re.sub(r"^(return\b|[\w.,\[\]\s:]+[-+*/@]?=(?!=))\s*", "", line)
    return right if len(re.findall(r"\w+|[^\w\s]", right)) >= SUBSTANCE else None


def _orphans(root):
    stems = {path.stem for path in build.sources(root)}
    for folder in ("lessons", "solutions"):
        for path in sorted((Path(root) / folder).glob("*.ipynb")):
            if path.stem not in stems:
                yield Problem(path, 0, f"no source solutions/{path.stem}.py: add it, or delete this notebook")
