"""The doctor never falls ill itself: each trouble is injected, and must be named with the one thing to do."""

import errno
import importlib.metadata
import io
import os
import subprocess
import sys
import threading
import tomllib
import types
from collections import namedtuple
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from packaging.specifiers import SpecifierSet

from course_lib import cli, doctor

GB = 1e9


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test of this file leaves the machine, unless it brings its own answer."""

    def closed(address, timeout):
        raise URLError("switched off for the tests")

    monkeypatch.setattr(doctor, "urlopen", closed)


@pytest.fixture
def importing(monkeypatch):
    """Let the doctor's import of a module give this module, or raise this error."""
    real = doctor.import_module
    instead = {}

    def imported(name):
        got = instead.get(name)
        if isinstance(got, BaseException):
            raise got
        return got or real(name)

    monkeypatch.setattr(doctor, "import_module", imported)
    return instead


@pytest.fixture
def installed(monkeypatch):
    """Change what the doctor sees as installed: name -> version, or None for missing."""
    real = importlib.metadata.version
    instead = {}

    def version(name):
        if name not in instead:
            return real(name)
        if instead[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return instead[name]

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    return instead


def found(topic):
    """Return what the doctor finds about one topic."""
    (finding,) = doctor._guarded(getattr(doctor, f"_{topic}"))
    return finding


def test_every_topic_is_examined_here():
    findings = doctor.examine()
    topics = {finding.topic for finding in findings}
    assert topics >= {
        "python",
        "torch",
        "device",
        "memory",
        "disk",
        "widgets",
        "versions",
        "data",
        "writable",
        "network",
        "profile",
    }
    assert {finding.status for finding in findings} <= {"ok", "note", "trouble"}
    for finding in findings:
        assert finding.says
        assert finding.do or finding.status != "trouble"


def test_the_page_shows_every_finding_in_plain_ascii():
    findings = [
        doctor.Finding("disk", "ok", "70 GB free at /home/zo\u00eb"),
        doctor.Finding("torch", "trouble", "?", "Mend."),
    ]
    page = doctor.page(findings)
    assert page.isascii()
    assert "70 GB" in page and "TROUBLE" in page and "-> Mend." in page
    assert page.splitlines()[-1] == "1 thing to mend, from the top of the page."
    assert doctor.page(findings[:1]).splitlines()[-1].startswith("All is well")


@pytest.mark.parametrize(
    ("error", "says", "do"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "torch is not installed", "torch"),
        (ModuleNotFoundError("No module named 'sympy'", name="sympy"), "sympy is not installed", "sympy"),
        (RuntimeError("operator torchvision::nms does not exist"), "different builds", "torchvision"),
        (OSError('[WinError 126] Error loading "c10.dll"'), "system library", "Visual C++"),
        (ImportError("libcudart.so.13: cannot open shared object file"), "does not import", "torch"),
        (AttributeError("partially initialized\nmodule 'torch'"), "partially initialized", "torch"),
    ],
)
def test_a_broken_torch_is_named(importing, error, says, do):
    importing["torch"] = error
    finding = found("torch")
    assert finding.status == "trouble"
    assert says in finding.says and do in finding.do
    assert "\n" not in finding.says
    assert found("device").status == "note"


def test_a_torch_that_breaks_on_import_leaves_the_page_whole(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")', encoding="utf-8"
    )
    paths = os.pathsep.join([str(tmp_path), str(doctor.ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "COURSE_PROFILE": "auto"}
    answer = subprocess.run(
        [sys.executable, "-m", "course_lib.cli", "doctor"], env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 1 and answer.stderr == ""
    assert "different builds" in answer.stdout and "unknown until torch imports" in answer.stdout
    assert "to mend" in answer.stdout.splitlines()[-1]


def test_a_torchvision_of_another_build_is_named_only_where_installed(importing, installed):
    importing["torchvision"] = RuntimeError("operator torchvision::nms does not exist")
    installed["torchvision"] = None
    assert doctor._guarded(doctor._torchvision) == []
    installed["torchvision"] = "0.28.0"
    finding = found("torchvision")
    assert finding.status == "trouble" and "torchvision" in finding.do
    importing["torchvision"] = types.SimpleNamespace(__version__="0.28.0")
    assert found("torchvision") == ("torchvision", "ok", "0.28.0", "")


def torch_with(cuda, mps=False):
    card = types.SimpleNamespace(name="Card 5", total_memory=16e9)
    return types.SimpleNamespace(
        __version__="2.13.0",
        version=types.SimpleNamespace(cuda="13.0"),
        get_num_threads=lambda: 2,
        cuda=types.SimpleNamespace(is_available=lambda: cuda, get_device_properties=lambda index: card),
        backends=types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: mps)),
    )


@pytest.mark.parametrize(
    ("torch", "driver", "says", "do"),
    [
        (torch_with(cuda=True), True, "CUDA: Card 5, 16 GB", ""),
        (torch_with(cuda=False, mps=True), False, "Apple MPS; CPU, 2 threads", ""),
        (torch_with(cuda=False), False, "CPU, 2 threads", ""),
        (torch_with(cuda=False), True, "torch cannot use it", "CUDA 13.0"),
    ],
)
def test_each_device_is_named(importing, monkeypatch, torch, driver, says, do):
    importing["torch"] = torch
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "nvidia-smi" if driver else None)
    finding = doctor._guarded(doctor._device)[0]
    assert says in finding.says and do in finding.do and finding.status != "trouble"


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 14, 0)])
def test_an_unfit_python_is_named(monkeypatch, version):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    assert found("python").status == "trouble"


def test_the_range_of_python_is_the_projects():
    asked = tomllib.loads((doctor.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    fits = [minor for minor in range(30) if f"3.{minor}.0" in SpecifierSet(asked)]
    assert ((3, fits[0]), (3, fits[-1])) == (doctor.OLDEST, doctor.NEWEST)


def test_memory_is_told_and_missed_without_psutil(importing):
    importing["psutil"] = ModuleNotFoundError("No module named 'psutil'", name="psutil")
    assert found("memory").status == "note" and "psutil" in found("memory").do
    full = types.SimpleNamespace(available=0.5 * GB, total=8 * GB)
    importing["psutil"] = types.SimpleNamespace(virtual_memory=lambda: full)
    assert found("memory") == ("memory", "note", "0.5 of 8.0 GB free", "Close other programs before a training cell.")
    full.available = 6 * GB
    assert found("memory").status == "ok"


@pytest.mark.parametrize(("free", "status"), [(0.2 * GB, "trouble"), (50 * GB, "ok")])
def test_a_full_disk_is_named(monkeypatch, free, status):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(100 * GB, 100 * GB - free, free))
    finding = found("disk")
    assert finding.status == status and bool(finding.do) == (status == "trouble")


@pytest.mark.parametrize(
    ("error", "says", "do"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied", "COURSE_DATA"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only", "COURSE_DATA"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full", "Delete"),
    ],
)
def test_a_data_folder_that_takes_no_file_is_named(monkeypatch, tmp_path, error, says, do):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "not" / "there" / "yet"))
    monkeypatch.setattr(doctor, "ROOT", tmp_path)  # no lessons there: nothing else to try
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", raising(error))
    finding = found("writable")
    assert finding.status == "trouble" and says in finding.says and do in finding.do


def raising(error):
    def refuse(*arguments, **named):
        raise error

    return refuse


def test_lessons_that_take_no_file_are_named(monkeypatch, tmp_path):
    (tmp_path / "lessons").mkdir()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "_folder", lambda: None)
    assert found("writable").status == "ok"
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", raising(PermissionError(errno.EACCES, "Permission denied")))
    finding = found("writable")
    assert str(tmp_path / "lessons") in finding.says and "Copy the course" in finding.do


@pytest.mark.parametrize("lost", ["ipywidgets", "ipython", "ipykernel", "jupyterlab_widgets"])
def test_a_lost_widget_package_is_named(installed, lost):
    installed.update(jupyterlab="4.6.6", jupyterlab_widgets="3.0.17")
    assert found("widgets").status == "ok"
    installed[lost] = None
    finding = found("widgets")
    assert finding.status == "trouble" and lost in finding.do


def test_jupyterlab_may_be_absent(installed):
    installed["jupyterlab"] = None
    assert found("widgets").status == "note"
    assert "jupyterlab" not in found("versions").says


def test_versions_are_compared_with_the_range_and_with_the_pin(installed):
    pins = {pin.name: str(pin.specifier)[2:] for pin in doctor._requirements()[1]}
    installed.update({name: pins[name] for name in pins})
    assert found("versions") == ("versions", "ok", found("versions").says, "")
    installed["tqdm"] = "4.99.0"
    finding = found("versions")
    assert finding.status == "note" and f"tqdm 4.99.0 (tested: {pins['tqdm']})" in finding.says
    assert "ipython" not in finding.says
    installed.update(tqdm=pins["tqdm"], ipywidgets="9.0.0", matplotlib=None)
    finding = found("versions")
    assert finding.status == "trouble"
    assert "ipywidgets 9.0.0 (needs" in finding.says and "matplotlib missing" in finding.says
    assert "ipywidgets" in finding.do and "matplotlib" in finding.do


def test_outside_a_checkout_the_packages_own_ranges_count(monkeypatch, tmp_path, installed):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ["tqdm>=5", 'x>1; extra == "y"'])
    installed["tqdm"] = "5.1"
    assert found("versions").says == "all 1 direct dependencies in the ranges the course asks for"
    assert doctor._reinstall("torch").startswith("Run: python -m pip install")


@pytest.mark.parametrize(("uv", "start"), [(True, "Run: uv sync"), (False, "Run: python -m pip")])
def test_the_cure_fits_the_environment(monkeypatch, tmp_path, uv, start):
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n" + "uv = 0.13.8\n" * uv, encoding="utf-8")
    monkeypatch.setattr(doctor.sys, "prefix", str(tmp_path))
    assert doctor._reinstall("torch").startswith(start) and "torch" in doctor._reinstall("torch")
    assert doctor._reinstall().startswith(start)


def test_data_that_are_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert "nothing downloaded yet" in found("data").says
    (tmp_path / "MNIST").mkdir()
    assert "found MNIST" in found("data").says and str(tmp_path) in found("data").says


def test_data_cannot_be_looked_for_without_torch(importing):
    importing["course_lib.data"] = ImportError("torch")
    assert found("data").status == "note"
    assert "data unknown" in doctor.line()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda address, timeout: io.BytesIO(), "reachable"),
        (raising(HTTPError("https://x", 403, "no", None, None)), "reachable"),
        (raising(URLError("name not known")), "not reachable (name not known)"),
        (raising(RuntimeError("odd")), "not reachable (odd)"),
    ],
)
def test_the_network_is_tried_once_and_never_fatal(monkeypatch, answer, says):
    monkeypatch.setattr(doctor, "urlopen", answer)
    (finding,) = doctor._network()
    assert finding.says.startswith(says) and finding.status != "trouble"


def test_a_network_that_never_answers_is_left_waiting(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(doctor, "urlopen", lambda address, timeout: over.wait(60))
    (finding,) = doctor._network(seconds=0.05)
    over.set()
    assert finding.says.startswith("no answer within 0.05 s") and finding.status == "note"


def test_an_unknown_profile_is_named(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "turbo")
    finding = found("profile")
    assert finding.status == "trouble" and "turbo" in finding.says and "COURSE_PROFILE" in finding.do
    assert "course doctor" in doctor.line()
    assert cli.main(["doctor"]) == 1


@pytest.mark.parametrize(
    ("setting", "folder", "place"),
    [
        ("/somewhere/else", Path("/somewhere/else"), "data in COURSE_DATA"),
        ("", doctor.ROOT / "data", "data in the repository"),
        ("", Path.home() / "cache", "data in the user's cache"),
    ],
)
def test_the_line_names_everything_but_no_folder(monkeypatch, setting, folder, place):
    monkeypatch.setenv("COURSE_DATA", setting)
    monkeypatch.setattr(doctor, "_folder", lambda: folder)
    told = doctor.line()
    assert told.endswith(place) and "\n" not in told and str(folder) not in told
    assert all(word in told for word in ("Python 3.", "torch ", "thread", "profile smoke"))


def test_the_line_sends_the_student_to_the_doctor(importing):
    importing["torch"] = RuntimeError("broken")
    assert doctor.line().endswith("run `uv run course doctor` in a terminal")


def test_a_check_that_breaks_becomes_a_finding(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", raising(RuntimeError("odd\nvery odd")))
    assert found("disk")[:3] == ("disk", "trouble", "could not be examined: RuntimeError: odd")
