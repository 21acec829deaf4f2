"""Build both editions of every lesson from solutions/NN_name.py, and check that they are whole.

Equation: lessons/NN_name.ipynb = source - solutions - outputs; solutions/NN_name.ipynb = source + outputs.
Shapes: none; cells are nbformat notebook nodes.
Not here: the rules that a lesson keeps (lint.py), what a right answer is (checks/), the commands (cli.py).
"""

import ast
import dataclasses
import hashlib
import os
import re
import textwrap
import tomllib
from pathlib import Path

REPOSITORY_ROOT = Path(__file__).resolve().parents[1]
OPEN, CLOSE = "# <solution>", "# </solution>"
EXERCISE_HEADING = re.compile(
    r"^### Exercise (?P<number>\d+\.\d+) - (?P<title>.+?) "
    r"\((?P<minutes>\d+) minutes, difficulty (?P<difficulty>[1-5]) of 5\)$",
    re.MULTILINE,
)
COLAB_LINE = "<!-- colab -->"
SETUP_MARK = "# <setup>"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 1800  # nobody waits longer for one cell of a build

SETUP = """\
# Run this cell first: it finds the course and prints one line about this machine.
import importlib.util, pathlib, sys
here = pathlib.Path.cwd()
root = next((folder for folder in (here.parent, here) if (folder / "course_lib").is_dir()), None)
if importlib.util.find_spec("course_lib") is None:
    if root is None:
        raise ImportError("course_lib was not found: open this notebook inside a copy of the course.")
    sys.path.insert(0, str(root))
from course_lib.page import start
start("{number}")"""

SETUP_COLAB = """\
# Run this cell first: it finds or fetches the course, and prints one line about this machine.
import importlib.util, pathlib, subprocess, sys
here, clone = pathlib.Path.cwd(), pathlib.Path("{clone}")
if importlib.util.find_spec("course_lib") is None:
    if "google.colab" in sys.modules and not (clone / "course_lib").is_dir():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", "{repository}", str(clone)])
    root = next((folder for folder in (here.parent, here, clone) if (folder / "course_lib").is_dir()), None)
    if root is None:
        raise ImportError("The course was not found or fetched: check the network, then run this cell again.")
    sys.path.insert(0, str(root))
missing = [name for name in {packages} if importlib.util.find_spec(name) is None]
if missing and "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *missing])
from course_lib.page import start
start("{number}")"""
COLAB_PACKAGES = ("ipywidgets", "matplotlib", "platformdirs", "psutil", "tqdm")  # never torch or numpy


class BuildError(Exception):
    """A lesson cannot be built; the message is a sentence for its writer."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something to mend in a lesson: the file, the cell (from 1; 0 for the whole file), and what to do."""

    path: Path
    cell: int
    says: str

    def __str__(self):
        place = f"{self.path.as_posix()}, cell {self.cell}" if self.cell else self.path.as_posix()
        return f"{place}: {self.says}"


@dataclasses.dataclass(frozen=True)
class ExerciseBlock:
    """An exercise: what its heading says, and the index of its code cell (None where that is missing)."""

    number: str
    title: str
    minutes: int
    difficulty: int
    heading: int
    cell: int | None


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A parsed solutions/NN_name.py: its cells, markers included, and the exercises in them."""

    path: Path
    cells: tuple
    exercises: tuple[ExerciseBlock, ...]

    @property
    def number(self) -> str:
        return self.path.stem[:2]

    @property
    def root(self) -> Path:
        return self.path.parent.parent


def tags(cell) -> list[str]:
    """The tags of a cell, an empty list where there are none."""
    return cell.metadata.get("tags", [])


# ---- reading ----


def sources(root=REPOSITORY_ROOT) -> list[Path]:
    """All lesson sources solutions/NN_name.py, in order."""
    return sorted(path for path in (Path(root) / "solutions").glob("*.py") if re.match(r"\d\d_", path.name))


def parse(path) -> Lesson:
    """Read a lesson source in jupytext's percent format; raises BuildError where it cannot be read."""
    import jupytext

    path = Path(path)
    try:
        notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path.name} cannot be read ({error}): expected a text file in UTF-8") from error
    cells = tuple(notebook.cells)
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    return Lesson(path, cells, tuple(_exercise_blocks(cells)))


def _exercise_blocks(cells):
    """An exercise's code cell is the next one with the tag, before any other exercise heading."""
    headings = [
        (index, match)
        for index, cell in enumerate(cells)
        if cell.cell_type == "markdown"
        for match in EXERCISE_HEADING.finditer(cell.source)
    ]
    for place, (index, match) in enumerate(headings):
        end = headings[place + 1][0] if place + 1 < len(headings) else len(cells)
        cell = next((i for i in range(index, end) if "exercise" in tags(cells[i])), None)
        yield ExerciseBlock(
            match["number"], match["title"], int(match["minutes"]), int(match["difficulty"]), index, cell
        )


def exercise_source(path, number: str) -> str:
    """The source of an exercise's cell, with the solution and without the markers."""
    lesson = parse(path)
    for exercise in lesson.exercises:
        if exercise.number == number and exercise.cell is not None:
            return without_markers(lesson.cells[exercise.cell].source)
    raise BuildError(f"{Path(path).name} has no exercise {number}: it has {[e.number for e in lesson.exercises]}")


def solution_namespace(path) -> dict:
    """Run a lesson's imports, definitions and exercise cells, with solutions, and return the names made.

    Other statements are left out (training, pictures, checks), except for assignments of plain literals.
    """
    lesson = parse(path)
    return _namespace(lesson.cells, path)


def student_namespace(path) -> dict:
    """The same as `solution_namespace`, but of the student edition: exercises raise NotImplementedError."""
    return _namespace(student_edition(parse(path)).cells, path)


def _namespace(cells, path):
    space: dict = {"__name__": f"lesson_{Path(path).stem[:2]}"}
    for cell in cells:
        if cell.cell_type == "code" and "setup" not in tags(cell):
            tree = ast.parse(cell.source)
            if "exercise" not in tags(cell):
                tree.body = [node for node in tree.body if _is_definition(node)]
            exec(compile(tree, f"<{Path(path).stem}>", "exec"), space)
    return space


def _is_definition(node):
    if isinstance(node, ast.Assign):
        try:
            ast.literal_eval(node.value)
        except ValueError:
            return False
        return True
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def repository(root=REPOSITORY_ROOT) -> str:
    """The course's public address from pyproject's [tool.course], or "" while there is none."""
    path = Path(root) / "pyproject.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    address = table.get("tool", {}).get("course", {}).get("repository", "").rstrip("/")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise BuildError(f'expected [tool.course] repository like "https://github.com/OWNER/NAME", got {address!r}')
    return address


# ---- making the two editions ----


def without_markers(source: str) -> str:
    """Cell source without the solution markers."""
    return "\n".join(line for line in source.split("\n") if line.strip() not in (OPEN, CLOSE))


def solution_lines(source: str) -> list[str]:
    """The lines between the markers of a cell."""
    inside, lines = False, []
    for line in source.split("\n"):
        if line.strip() in (OPEN, CLOSE):
            inside = line.strip() == OPEN
        elif inside:
            lines.append(line)
    return lines


def with_stub(source: str, number: str) -> str:
    """Cell source with each marked solution replaced by a line that raises, at the same indentation."""
    kept, inside = [], False
    for line in source.split("\n"):
        if line.strip() == OPEN:
            inside = True
            indentation = line[: len(line) - len(line.lstrip())]
            kept.append(f'{indentation}raise NotImplementedError("Exercise {number} is yours to write")')
        elif line.strip() == CLOSE:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def setup_source(number: str, address: str = "") -> str:
    """The set-up cell of lesson "01"; with a public address it can also fetch the course on Colab."""
    if not address:
        return SETUP.format(number=number)
    clone = f"/content/{address.rsplit('/', 1)[1]}"
    return SETUP_COLAB.format(number=number, repository=address, clone=clone, packages=COLAB_PACKAGES)


def student_edition(lesson: Lesson):
    """The notebook for students: stubs for solutions, no outputs."""
    numbers = {exercise.cell: exercise.number for exercise in lesson.exercises}
    return _notebook(lesson, "lessons", lambda index, source: with_stub(source, numbers.get(index, "")))


def solution_edition(lesson: Lesson):
    """The notebook for instructors, not yet executed."""
    return _notebook(lesson, "solutions", lambda index, source: without_markers(source))


def _notebook(lesson, folder, change):
    import nbformat

    address = repository(lesson.root)
    cells = []
    for index, cell in enumerate(lesson.cells):
        source = cell.source
        if cell.cell_type == "code":
            source = change(index, source)
            if source.strip() == SETUP_MARK:
                source = setup_source(lesson.number, address)
        elif COLAB_LINE in source:
            source = _with_badge(source, f"{folder}/{lesson.path.stem}.ipynb", address)
        metadata = {"tags": tags(cell)} if tags(cell) else {}
        extra = {"execution_count": None, "outputs": []} if cell.cell_type == "code" else {}
        cells.append(
            nbformat.from_dict(
                {"cell_type": cell.cell_type, "id": cell.id, "metadata": metadata, "source": source, **extra}
            )
        )
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": METADATA, "cells": cells})


def _with_badge(source, file, address):
    if not address:
        return re.sub(rf"\n*{re.escape(COLAB_LINE)}(\n*)", r"\1", source)
    owner_and_name = address.removeprefix("https://github.com/")
    target = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/{file}"
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    return source.replace(COLAB_LINE, f"[![Open this lesson in Colab]({badge})]({target})")


def execute(notebook, root=REPOSITORY_ROOT):
    """Run a solution notebook with the repository's own course_lib, tidy its outputs; or BuildError."""
    from nbclient import NotebookClient

    environment = {**os.environ, "TQDM_DISABLE": "1"}
    environment.setdefault("COURSE_PROFILE", "cpu")
    environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(Path(root) / "solutions")}},
    )
    try:
        client.execute(env=environment)
    except Exception as error:
        if getattr(client, "_async_cleanup_kernel_future", None):  # nbclient closed the kernel: the reader's interrupt
            raise KeyboardInterrupt from error
        raise BuildError(_why(error, notebook)) from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_tidied, cell.outputs) if output is not None]
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
    notebook.metadata = METADATA
    return notebook


def _why(error, notebook):
    """Which cell stopped, and with what; the cell is the last one, counted from 1, that was started."""
    from nbclient.exceptions import CellExecutionError

    code = [cell.get("execution_count") or cell.get("outputs") for cell in notebook.cells]
    cell = max((index for index, started in enumerate(code, 1) if started), default=1)
    if isinstance(error, CellExecutionError):
        return f"cell {cell} stopped with {error.ename}: {textwrap.shorten(str(error.evalue), 300)}"
    return f"cell {cell} did not finish: {type(error).__name__}: {textwrap.shorten(str(error), 200)}"


def _tidied(output):
    """An output without a live widget's view, which a saved page cannot show; what is beside it stays."""
    if "data" in output and WIDGET_VIEW in output["data"]:
        del output["data"][WIDGET_VIEW]
        if not {"text/html", "image/png"} & set(output["data"]):
            return None
    return output


# ---- writing ----


def build(names=None, root=REPOSITORY_ROOT, execute_solutions: bool = True) -> list[Path]:
    """Build lessons ("01", "01_noise_schedules"; all where None) and return the files that were written.

    A lesson's files are replaced only when all of it succeeded; otherwise BuildError or OSError, and the old
    ones stay whole. Without `execute_solutions` the solution edition keeps its outputs, and is written only
    where its code is unchanged.
    """
    written = []
    for path in select(names, root):
        lesson, target = parse(path), path.with_suffix(".ipynb")
        broken = marker_problems(lesson)
        if broken:
            raise BuildError(str(broken[0]))
        editions = {Path(root) / "lessons" / target.name: student_edition(lesson)}
        solution = solution_edition(lesson)
        try:
            if execute_solutions:
                editions[target] = execute(solution, root)
            elif keep_outputs(solution, target):
                editions[target] = solution
            texts = {file: as_text(notebook) for file, notebook in editions.items()}
        except BuildError as error:
            raise BuildError(f"{path.name}: {error}; nothing was written") from error
        write_whole(texts)
        written += texts
    return written


def keep_outputs(notebook, old: Path) -> bool:
    """Take over the outputs of an older notebook; False where its code differs or it cannot be read."""
    import nbformat

    try:
        before = nbformat.v4.reads(old.read_text(encoding="utf-8")).cells
    except Exception:  # missing, cut off, no notebook: then there is nothing to keep
        return False
    before = [cell for cell in before if cell.cell_type == "code"]
    now = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.source for cell in before] != [cell.source for cell in now]:
        return False
    for cell, kept in zip(now, before, strict=True):
        cell.outputs, cell.execution_count = kept.outputs, kept.execution_count
    return True


def select(names, root=REPOSITORY_ROOT) -> list[Path]:
    """The sources that names such as "01" or "01_noise_schedules" mean; all where there are no names."""
    known = sources(root)
    chosen = []
    for name in names or []:
        stem = Path(name).stem
        found = [path for path in known if path.stem == stem or (stem.isdigit() and int(stem) == int(path.stem[:2]))]
        if not found:
            raise BuildError(
                f"there is no lesson {name!r}: expected one of {', '.join(p.stem for p in known) or 'none'}"
            )
        chosen += found
    return chosen or known


def as_text(notebook) -> str:
    """A notebook as JSON text, valid by nbformat's own schema; raises BuildError where it is not."""
    import nbformat

    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        raise BuildError(f"the notebook is not valid: {error}") from error
    return nbformat.writes(notebook) + "\n"


def write_whole(texts: dict[Path, str]) -> None:
    """Replace files: each is first written beside the old one, and an error leaves the old ones whole."""
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(drafts[path], "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for path, draft in drafts.items():
            os.replace(draft, path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def marker_problems(lesson: Lesson) -> list[Problem]:
    """Solution markers that do not pair up, or that stand where they must not."""
    found = []
    for index, cell in enumerate(lesson.cells):
        inside, pairs = False, 0
        for line in cell.source.split("\n"):
            if line.strip() == OPEN:
                if inside:
                    found.append(Problem(lesson.path, index + 1, f"{OPEN} stands inside another one: close the first"))
                inside = True
            elif line.strip() == CLOSE:
                if not inside:
                    found.append(Problem(lesson.path, index + 1, f"{CLOSE} without {OPEN} before it: open it first"))
                inside, pairs = False, pairs + 1
            elif re.search(r"<\s*/?\s*solution\b", line):
                found.append(
                    Problem(
                        lesson.path,
                        index + 1,
                        f"{line.strip()!r} looks like a marker: write {OPEN} or {CLOSE} on its own line",
                    )
                )
        if inside:
            found.append(Problem(lesson.path, index + 1, f"{OPEN} is never closed in this cell: add {CLOSE}"))
        if pairs and "exercise" not in tags(cell):
            found.append(
                Problem(lesson.path, index + 1, 'solution markers outside of an exercise: tag the cell "exercise"')
            )
    return found


def check_lessons(root=REPOSITORY_ROOT, names=None) -> list[Problem]:
    """All problems of the lessons: stale editions, leaks, missing parts; an empty list when all is well."""
    from course_lib import lint

    return lint.check_lessons(Path(root), names)


def main(names: list[str], check: bool, execute: bool = True) -> int:
    """Build or check lessons, print plain sentences, and return an exit code (0: all is well)."""
    root = REPOSITORY_ROOT
    try:
        return _check(names, root) if check else _build(names, root, execute)
    except BuildError as error:
        print(f"Not built: {error}.")
        return 1
    except OSError as error:
        print(
            f"Not written, the old files are whole ({error.strerror or error}): "
            "free space or allow writing, then run the same command again."
        )
        return 1
    except KeyboardInterrupt:
        print("Interrupted: the old files are whole. Run the same command again.")
        return 130


def _check(names, root):
    problems = check_lessons(root, names or None)
    for problem in problems:
        print(dataclasses.replace(problem, path=problem.path.relative_to(root)))
    count = len(select(names, root))
    print(f"{len(problems)} to mend." if problems else f"{count} lesson{'s'[: count != 1]}: all is well.")
    return 1 if problems else 0


def _build(names, root, execute):
    for path in select(names, root):
        for written in build([path.stem], root, execute):
            print(f"wrote {written.relative_to(root).as_posix()}")
    return 0
