"""The command line: quick to answer, plain when it refuses, and right about what it starts."""

import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

from course_lib import build, cli, doctor


def run(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "course_lib.cli", *arguments], capture_output=True, text=True, encoding="utf-8", **more
    )


def test_help_names_every_command_without_torch():
    loaded = "import sys, course_lib.cli as c\ntry: c.main(['-h'])\nexcept SystemExit: print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert all(command in answer for command in ("lab", "doctor", "build"))
    assert answer.splitlines()[-1] == "False"


@pytest.mark.parametrize("arguments", [[], ["paint"], ["lab", "--port", "eight"], ["doctor", "--loud"]])
def test_what_is_not_understood_is_told_with_exit_code_2(arguments):
    answer = run(*arguments)
    assert answer.returncode == 2
    assert "usage: course" in answer.stderr and "Traceback" not in answer.stderr


def test_an_unknown_lesson_is_one_sentence():
    answer = run("build", "99_nothing")
    assert answer.returncode == 1
    assert "99_nothing" in answer.stdout and len(answer.stdout.splitlines()) == 1
    assert answer.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["build"], ([], False, True)),
        (["build", "01", "02", "--check"], (["01", "02"], True, True)),
        (["build", "--no-execute"], ([], False, False)),
    ],
)
def test_build_hands_over_to_the_factory(monkeypatch, arguments, expected):
    asked = []
    monkeypatch.setattr(build, "main", lambda names, check, execute: asked.append((names, check, execute)) or 7)
    assert cli.main(arguments) == 7
    assert asked == [expected]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("trouble", 1)])
def test_doctor_tells_people_and_scripts_the_same(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("disk", status, "12 GB free", "Look at it.")])
    assert cli.main(["doctor"]) == code
    assert "12 GB free" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is (code == 0)
    assert told["findings"] == [{"topic": "disk", "status": status, "says": "12 GB free", "do": "Look at it."}]


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """A checkout with a first lesson, and a JupyterLab that only notes its arguments."""
    (tmp_path / "lessons").mkdir()
    (tmp_path / cli.FIRST).write_text("{}", encoding="utf-8")
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")  # put back afterwards
    started = []
    app = types.ModuleType("jupyterlab.labapp")
    app.main = started.extend
    package = types.ModuleType("jupyterlab")
    package.__spec__ = types.SimpleNamespace(name="jupyterlab")  # what find_spec reads of a loaded module
    monkeypatch.setitem(sys.modules, "jupyterlab", package)
    monkeypatch.setitem(sys.modules, "jupyterlab.labapp", app)
    return started


def test_lab_finds_the_setting_that_keeps_the_news_away(lab, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "mine")
    setting, found = "labconfig/default_setting_overrides.json", []

    def look(arguments):
        folders = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
        found.extend([folders[1], json.loads(Path(folders[0], setting).read_text(encoding="utf-8"))])

    monkeypatch.setattr(sys.modules["jupyterlab.labapp"], "main", look)
    assert cli.main(["lab", "--no-browser"]) == 0
    assert found == ["mine", {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}]


@pytest.fixture
def busy():
    """A port of this machine that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_lab_opens_the_first_lesson_on_this_machine_only(lab, tmp_path):
    assert cli.main(["lab"]) == 0
    assert "--ServerApp.ip=127.0.0.1" in lab
    assert f"--LabApp.default_url=/lab/tree/{cli.FIRST}" in lab
    assert f"--ServerApp.root_dir={tmp_path}" in lab
    assert "--no-browser" not in lab
    assert not any("token" in argument.lower() or "password" in argument.lower() for argument in lab)


def test_lab_takes_another_port_when_the_first_is_taken(lab, monkeypatch, busy):
    monkeypatch.setattr(cli, "PORTS", (busy, 0))  # port 0 is always free
    assert cli.main(["lab", "--no-browser"]) == 0
    assert "--ServerApp.port=0" in lab and "--no-browser" in lab


def test_lab_keeps_to_the_port_it_is_given(lab, capsys, busy):
    assert cli.main(["lab", "--port", str(busy)]) == 1
    assert f"port {busy} is taken" in capsys.readouterr().err
    assert cli.main(["lab", "--port", "70000"]) == 1
    assert "port 70000" in capsys.readouterr().err
    assert lab == []


def test_lab_says_so_when_every_port_is_taken(lab, monkeypatch, capsys, busy):
    monkeypatch.setattr(cli, "PORTS", (busy, busy))
    assert cli.main(["lab"]) == 1
    assert "--port" in capsys.readouterr().err and lab == []


def test_lab_needs_jupyterlab(lab, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "jupyterlab")
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["lab"]) == 1
    assert "pip install -c constraints.txt jupyterlab" in capsys.readouterr().err and lab == []


def test_lab_needs_a_checkout(lab, tmp_path, capsys):
    (tmp_path / cli.FIRST).unlink()
    assert cli.main(["lab"]) == 1
    assert "clone the course" in capsys.readouterr().err and lab == []


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_is_allowed_only_for_root(monkeypatch, user, allowed):
    monkeypatch.setattr(cli.os, "geteuid", lambda: user, raising=False)
    assert ("--allow-root" in cli._jupyter_arguments(8888, browser=True)) is allowed
