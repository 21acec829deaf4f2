"""The exact versions come from one place: constraints.txt, and pyproject.toml and environment.yml follow it."""

import shutil
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

FILES = ("pyproject.toml", "constraints.txt", "environment.yml")


@pytest.fixture
def pins(ci_module):
    return ci_module("pins")


@pytest.fixture
def copy(repository, tmp_path):
    """A folder with the three files, to break."""
    for name in FILES:
        shutil.copy(repository / name, tmp_path / name)
    return tmp_path


def change(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_three_files_agree(pins, repository):
    assert pins.disagreements(repository) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pyproject.toml", "constraint-dependencies = [\n", 'constraint-dependencies = [\n    "anyio==1.0",\n'),
        ("environment.yml", "  - pip\n", ""),
    ],
)
def test_a_changed_copy_is_noticed(pins, copy, name, old, new):
    change(copy / name, old, new)
    (sentence,) = pins.disagreements(copy)
    assert name in sentence and "python .ci/pins.py" in sentence


def test_a_lost_pin_is_noticed_in_every_file(pins, copy):
    change(copy / "constraints.txt", "tqdm==", "# tqdm==")
    told = " ".join(pins.disagreements(copy))
    assert "pyproject.toml does not follow" in told
    assert "asks for tqdm" in told and "no pin" in told


def test_a_pin_outside_the_asked_range_is_noticed(pins, copy):
    change(copy / "pyproject.toml", '"ipywidgets>=7.7.1,<9"', '"ipywidgets>=7.7.1,<8"')
    assert any("ipywidgets" in sentence for sentence in pins.disagreements(copy))


def test_a_held_version_must_be_the_pinned_one(pins, copy):
    change(copy / "pyproject.toml", 'hold = [\n    "torch==2.13.0"', 'hold = [\n    "torch==2.12.0"')
    assert pins.disagreements(copy) == ["pyproject.toml asks for torch==2.12.0, constraints.txt has 2.13.0"]


def test_check_only_reads(pins, copy, capsys):
    before = {name: (copy / name).read_bytes() for name in FILES}
    assert pins.main(["--check"], copy) == 0
    assert "agree" in capsys.readouterr().out
    change(copy / "environment.yml", "conda-forge", "defaults")
    before["environment.yml"] = (copy / "environment.yml").read_bytes()
    assert pins.main(["--check"], copy) == 1
    assert {name: (copy / name).read_bytes() for name in FILES} == before


def test_an_update_carries_the_new_versions_everywhere(pins, copy, monkeypatch):
    new = (copy / "constraints.txt").read_text(encoding="utf-8").replace("tqdm==", "tqdm==9")
    monkeypatch.setattr(pins, "resolve", lambda root, upgrade: new)  # the resolver itself needs a network
    assert pins.main([], copy) == 0
    assert '"tqdm==9' in (copy / "pyproject.toml").read_text(encoding="utf-8")
    assert (copy / "constraints.txt").read_text(encoding="utf-8") == new


def test_every_pin_is_exact_and_names_no_host(repository):
    for name in ("constraints.txt", "environment.yml", "tests/colab.txt"):
        assert "://" not in (repository / name).read_text(encoding="utf-8")
    for name in ("constraints.txt", "tests/colab.txt"):
        rows = [row for row in (repository / name).read_text(encoding="utf-8").splitlines() if row[:1] != "#"]
        assert rows
        for row in rows:
            assert [one.operator for one in Requirement(row).specifier] == ["=="], row


def test_environment_yml_is_what_conda_reads(repository):
    environment = yaml.safe_load((repository / "environment.yml").read_text(encoding="utf-8"))
    python, pip, section = environment["dependencies"]
    pip_rows = section["pip"]
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert pip == "pip"
    assert pip_rows[:2] == ["-c constraints.txt", "-e ."]
    assert sorted(pip_rows[2:]) == sorted(project["dependency-groups"]["dev"])
    asked = Requirement("python" + project["project"]["requires-python"])
    assert asked.specifier.contains(Version(python.removeprefix("python=")))


def test_the_colab_row_meets_the_projects_ranges(repository):
    rows = (repository / "tests/colab.txt").read_text(encoding="utf-8").splitlines()
    colab = {need.name: str(need.specifier)[2:] for need in map(Requirement, (r for r in rows if r[:1] != "#"))}
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    needs = [Requirement(row) for row in project["project"]["dependencies"]]
    missing = [need.name for need in needs if need.name not in colab]
    assert missing == ["jupyterlab"]  # Colab has a front end of its own
    for need in needs:
        assert need.name in missing or need.specifier.contains(colab[need.name]), need
