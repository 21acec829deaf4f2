"""Judge a finished test run: green is not enough where nothing ran, or where something that should run was skipped.

    python .ci/verdict.py REPORT.xml [colab [TEST ...]]   the report of `pytest --junitxml REPORT.xml [TEST ...]`

A skip passes only for a reason in ALLOWED, or because the test runs in the other of CI's two environments, the everyday
one and Colab's. Every tests/test_*.py and every notebook (of those named) must have run something, here or there. The
exit code is 0 or 1.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What CI cannot have. A missing package, data set or browser is not among them: CI installs those.
ALLOWED = (
    r"needs (a )?(CUDA|MPS|GPU)\b",
    r"(only|not) on (Windows|macOS|Linux)\b",
)
# What one environment leaves to the other, whose own report says whether it ran.
ELSEWHERE = {
    "everyday": r"needs the classic Notebook, which only Colab's environment has$",
    "colab": r"needs JupyterLab, which Colab's environment does not have$",
}


def complaints(report, expected, environment="everyday"):
    """Return one sentence for each thing wrong with the report; `expected` names the files that must have run."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    if not cases:
        return ["no test ran"]
    found, ran = [], set()
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        file = (case.get("file") or "").replace("\\", "/")
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found.append(f"{name} failed")
        elif skipped is not None:
            reason = skipped.get("message") or "no reason"
            if re.search(ELSEWHERE[environment], reason):
                ran.add(file)
            elif not any(re.search(allowed, reason) for allowed in ALLOWED):
                found.append(f"{name} did not run ({reason}): CI must give it what it needs")
        else:
            ran.add(file)
    return found + [f"{path} ran no test" for path in sorted(expected) if path not in ran]


def files_to_run(root):
    """Return the test files and notebooks of the repository, as paths from its root."""
    patterns = ("tests/test_*.py", "tests/browser/test_*.py", "lessons/*.ipynb", "solutions/*.ipynb")
    return {path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern)}


def main(arguments):
    """Print the complaints about one report and return the exit code."""
    report, environment, named = arguments[0], arguments[1:2], tuple(arguments[2:])
    expected = {path for path in files_to_run(ROOT) if not named or path.startswith(named)}
    found = complaints(report, expected, *environment)
    print("\n".join(found) or "verdict: every test file and every lesson ran, nothing was skipped that should run")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
