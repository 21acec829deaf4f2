"""Keep the exact versions in step: constraints.txt is resolved, the other two files are written from it.

    python .ci/pins.py              resolve again, keeping every pin that still fits
    python .ci/pins.py --upgrade    resolve to the newest releases around `[tool.course] hold`
    python .ci/pins.py --check      change nothing, need no network; exit code 1 where the files disagree

The inputs are written by hand in pyproject.toml: the ranges of the project and of its dev group, and `hold`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"^constraint-dependencies = \[\n.*?^\]\n", re.DOTALL | re.MULTILINE)


def pins(text):
    """Return the lines of constraints.txt that pin something."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pyproject_table(text):
    """Write the pins as the constraint-dependencies of pyproject.toml."""
    rows = "".join(f'    "{pin}",\n' for pin in pins(text))
    return f"constraint-dependencies = [\n{rows}]\n"


def environment(dev):
    """Write environment.yml: Python and pip from conda, everything else from pip under constraints.txt."""
    rows = "".join(f'      - "{requirement}"\n' for requirement in sorted(dev))
    return (
        "# Made by `python .ci/pins.py`. Use: conda env create -f environment.yml && conda activate diffusion-course\n"
        "name: diffusion-course\n"
        "channels:\n"
        "  - conda-forge\n"
        "dependencies:\n"
        "  - python=3.13\n"
        "  - pip\n"
        "  - pip:\n"
        "      - -c constraints.txt\n"
        "      - -e .\n"
        f"{rows}"
    )


def resolve(root, upgrade=False):
    """Resolve the project and its dev group for every system and Python at once; return the new pins."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    old = root / "constraints.txt"
    with tempfile.TemporaryDirectory() as folder:
        hold, new = Path(folder, "hold.txt"), Path(folder, "constraints.txt")
        hold.write_text("\n".join(project["tool"]["course"]["hold"]), encoding="utf-8")
        if old.exists():  # uv keeps the pins that it finds in its output file
            new.write_text(old.read_text(encoding="utf-8"), encoding="utf-8")
        subprocess.run(
            ["uv", "pip", "compile", "--no-config", "--quiet", "--universal", "--python-version", "3.11",
             "--no-header", "--no-annotate", "--no-emit-index-url", "--group", "dev",
             "--constraints", str(hold), "--output-file", str(new), *["--upgrade"] * upgrade, "pyproject.toml"],
            cwd=root, check=True, stdout=subprocess.DEVNULL,
        )
        return "# Made by `python .ci/pins.py`: the exact versions this course is tested with.\n" + new.read_text(
            encoding="utf-8"
        )


def wanted(root, constraints):
    """Return what pyproject.toml and environment.yml should say, given the text of constraints.txt."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    dev = tomllib.loads(text)["dependency-groups"]["dev"]
    if not TABLE.search(text):
        raise SystemExit("pyproject.toml has no `constraint-dependencies = [` under [tool.uv]: put the empty list back")
    table = pyproject_table(constraints)
    return {"pyproject.toml": TABLE.sub(lambda _: table, text), "environment.yml": environment(dev)}


def disagreements(root):
    """Return one sentence for each place where the files do not follow constraints.txt."""
    constraints = (root / "constraints.txt").read_text(encoding="utf-8")
    found = [
        f"{name} does not follow constraints.txt: run `python .ci/pins.py`"
        for name, text in wanted(root, constraints).items()
        if (root / name).read_text(encoding="utf-8") != text
    ]
    return found + uncovered(root, pins(constraints))


def uncovered(root, lines):
    """Return one sentence for each requirement or held version that no pin meets."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    versions = {}  # name -> the versions pinned for it, one for each marker
    for pin in map(Requirement, lines):
        exact = [one.version for one in pin.specifier if one.operator == "=="]
        versions.setdefault(canonicalize_name(pin.name), []).extend(exact)
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["tool"]["course"]["hold"],
    ]
    found = []
    for need in map(Requirement, asked):
        have = versions.get(canonicalize_name(need.name), [])
        if not have or not all(need.specifier.contains(version) for version in have):
            found.append(f"pyproject.toml asks for {need}, constraints.txt has {', '.join(have) or 'no pin'}")
    return found


def main(arguments=None, root=ROOT):
    """Run the command line of this file and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--upgrade", action="store_true", help="move to the newest releases")
    asked = parser.parse_args(arguments)
    if not asked.check:
        constraints = resolve(root, asked.upgrade)
        (root / "constraints.txt").write_text(constraints, encoding="utf-8", newline="\n")
        for name, text in wanted(root, constraints).items():
            (root / name).write_text(text, encoding="utf-8", newline="\n")
    found = disagreements(root)
    print("\n".join(found) or "constraints.txt, pyproject.toml and environment.yml agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
