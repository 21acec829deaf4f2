"""What the README promises about installing is what CI runs, and CI does not pass on nothing."""

import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("pip install uv && uv run course lab", "pip install uv && uv run pytest")
FILES = {"tests/test_a.py", "lessons/00_b.ipynb"}


@pytest.fixture
def verdict(ci_module):
    return ci_module("verdict")


@pytest.fixture
def report(tmp_path):
    """Write a junit report from (file, outcome, message) and return its path."""

    def write(*cases):
        suite = ElementTree.Element("testsuite")
        for file, outcome, message in cases:
            case = ElementTree.SubElement(suite, "testcase", classname=file, name="one", file=file)
            if outcome != "passed":
                ElementTree.SubElement(case, outcome, message=message)
        path = tmp_path / "report.xml"
        ElementTree.ElementTree(suite).write(path)
        return path

    return write


PASSED = [(file, "passed", "") for file in sorted(FILES)]


def test_a_whole_run_passes(verdict, report):
    assert verdict.complaints(report(*PASSED), FILES) == []


@pytest.mark.parametrize(
    ("cases", "complaint"),
    [
        ([], "no test ran"),
        (PASSED[:1], "tests/test_a.py ran no test"),
        (PASSED[1:], "lessons/00_b.ipynb ran no test"),
        ([*PASSED, ("tests/test_a.py", "failure", "assert 0")], "failed"),
        ([*PASSED, ("tests/test_a.py", "error", "fixture")], "failed"),
        ([*PASSED, ("tests/test_a.py", "skipped", "needs MNIST")], "did not run (needs MNIST)"),
        ([*PASSED, ("tests/test_a.py", "skipped", "could not import 'diffusers'")], "did not run"),
        ([PASSED[0], ("tests/test_a.py", "skipped", "needs CUDA")], "tests/test_a.py ran no test"),
    ],
)
def test_a_run_that_left_something_out_does_not(verdict, report, cases, complaint):
    (told,) = verdict.complaints(report(*cases), FILES)
    assert complaint in told


def test_what_ci_cannot_have_may_be_skipped(verdict, report):
    cases = [*PASSED, ("tests/test_a.py", "skipped", "needs CUDA"), ("tests/test_a.py", "skipped", "only on Windows")]
    assert verdict.complaints(report(*cases), FILES) == []


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ("everyday", "needs the classic Notebook, which only Colab's environment has"),
        ("colab", "needs JupyterLab, which Colab's environment does not have"),
    ],
)
def test_what_runs_in_the_other_environment_may_be_left_to_it(verdict, report, environment, reason):
    skipped = report(PASSED[0], ("tests/test_a.py", "skipped", reason))
    assert verdict.complaints(skipped, FILES, environment) == []
    (other,) = {"everyday", "colab"} - {environment}
    assert [told for told in verdict.complaints(skipped, FILES, other) if "CI must give it what it needs" in told]


def test_a_report_of_windows_names_the_same_files(verdict, report):
    cases = [(file.replace("/", "\\"), outcome, message) for file, outcome, message in PASSED]
    assert verdict.complaints(report(*cases), FILES) == []


def test_the_verdict_expects_this_very_file(verdict, repository, report, capsys):
    expected = verdict.files_to_run(repository)
    assert "tests/test_install.py" in expected
    assert verdict.main([report(*PASSED)]) == 1
    assert "tests/test_install.py ran no test" in capsys.readouterr().out
    assert verdict.main([report(*((file, "passed", "") for file in expected))]) == 0


def test_ci_reads_the_readmes_test_command(repository):
    readme = (repository / "README.md").read_text(encoding="utf-8").splitlines()
    assert all(readme.count(command) == 1 for command in COMMANDS)
    script = (repository / ".ci" / "run").read_text(encoding="utf-8")
    assert f"sed -n '/^{COMMANDS[1]}$/p' README.md" in script
    assert "uv run pytest" not in script.replace(f"/^{COMMANDS[1]}$/p", "")  # read, never repeated


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: the bash there is another system's")
def test_ci_stops_at_the_first_stage_that_fails(repository):
    script = (repository / ".ci" / "run").read_text(encoding="utf-8")
    stage = re.search(r"^stage\(\) \{.*?^\}$", script, re.DOTALL | re.MULTILINE).group()
    answer = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{stage}\nstage good true\nstage bad false\nstage never true"],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert "== good: 0 s, exit code 0" in answer.stdout and "never" not in answer.stdout


def test_the_workflow_covers_what_the_readme_promises(repository):
    workflow = yaml.safe_load((repository / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    oldest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["project"]["requires-python"]).groups()
    jobs = workflow["jobs"]
    for name in ("pinned", "newest"):
        matrix = jobs[name]["strategy"]["matrix"]
        assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
        assert matrix["python"] == [f"3.{oldest}", f"3.{int(beyond) - 1}"]
    assert COMMANDS[1] in [step.get("run") for step in jobs["pinned"]["steps"]]
    assert workflow["permissions"] == {"contents": "read"}
    for job in jobs.values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
            assert step.keys() & {"uses", "run"}


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_the_top_level_stays_as_small_as_it_is(repository):
    listed = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True).stdout
    top = {name.split("/")[0] for name in listed.splitlines() if not name.startswith(".")}
    files = {"README.md", "LICENSE", "CONTRIBUTING.md", "pyproject.toml", "constraints.txt", "environment.yml"}
    assert top <= files | {"lessons", "solutions", "course_lib", "data", "tests"}
