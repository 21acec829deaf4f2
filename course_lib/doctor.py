"""The doctor: one look at this machine, and for each trouble the one thing to do about it.

    examine() -> list of Finding, one or more for each topic; line() -> the one line that lessons print
Nothing here may fail because something else is broken: torch, psutil and the rest are imported inside a check.
Does not belong here: mending anything, and anything a lesson computes with.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import threading
import warnings
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

__all__ = ["Finding", "examine", "line", "page"]

ROOT = Path(__file__).resolve().parent.parent
GB = 1e9  # bytes
OLDEST, NEWEST = (3, 11), (3, 13)  # Python, as in pyproject.toml: tests/test_doctor.py compares them
NEEDED_DISK = 1.0  # GB, for the students' own runs and the data sets
NEEDED_MEMORY = 2.0  # GB free, for the largest lesson on a CPU
WIDGETS = ("ipywidgets", "ipython", "ipykernel", "jupyterlab")
SOMEWHERE = "https://huggingface.co"  # where the last lessons fetch their pretrained models


class Finding(NamedTuple):
    """Say what was found about one topic: status "ok", "note" or "trouble"; `do` is the one thing to do, or "".

    >>> Finding("disk", "ok", "70 GB free").do
    ''
    """

    topic: str
    status: str
    says: str
    do: str = ""


def examine() -> list[Finding]:
    """Look at everything once and return the findings in the order in which to read them; never raises."""
    checks = (
        _python,
        _torch,
        _torchvision,
        _device,
        _memory,
        _disk,
        _widgets,
        _versions,
        _data,
        _writable,
        _network,
        _profile,
    )
    return [finding for check in checks for finding in _guarded(check)]


def line() -> str:
    """Return the line that lessons print: Python, torch, device, profile, data; never raises, names no path."""
    python, torch, device, profile = (_guarded(check)[0] for check in (_python, _torch, _device, _profile))
    told = [f"Python {python.says}", f"torch {torch.says}", device.says, f"profile {profile.says}", _place()]
    if any(finding.status == "trouble" for finding in (python, torch, device, profile)):
        told = [f"Python {platform.python_version()}", "trouble found: run `uv run course doctor` in a terminal"]
    return " | ".join(told)


def page(findings: list[Finding]) -> str:
    """Lay the findings out as one readable page of plain ASCII text.

    >>> print(page([Finding("disk", "trouble", "full", "Empty the bin.")]))
    TROUBLE  disk       full
                        -> Empty the bin.
    <BLANKLINE>
    1 thing to mend, from the top of the page.
    """
    rows = []
    for topic, status, says, do in findings:
        rows.append(f"{status.upper() if status == 'trouble' else status:<8} {topic:<10} {says}")
        rows += [f"{'':<19} -> {do}"] if do else []
    troubles = sum(finding.status == "trouble" for finding in findings)
    things = "thing" if troubles == 1 else "things"
    to_mend = f"{troubles} {things} to mend, from the top of the page."
    closing = to_mend if troubles else "All is well: `uv run course lab`."
    return "\n".join([*rows, "", closing]).encode("ascii", "backslashreplace").decode("ascii")


def _guarded(check):
    """Run one check; what goes wrong inside it becomes its finding."""
    try:
        return list(check())
    except Exception as error:  # a doctor never falls ill: whatever a broken package raises is told
        topic = check.__name__.strip("_")
        return [Finding(topic, "trouble", f"could not be examined: {_told(error)}", _reinstall())]


def _told(error) -> str:
    """Return type and first line of an error: packages write whole pages into theirs."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first[:160]}"


def _reinstall(*names) -> str:
    """Say how to install packages again in the environment this Python runs in."""
    settings = Path(sys.prefix, "pyvenv.cfg")
    made_by_uv = settings.is_file() and "\nuv = " in settings.read_text(encoding="utf-8")
    if made_by_uv and (ROOT / "pyproject.toml").is_file():
        return " ".join(["Run: uv sync", *(f"--reinstall-package {name}" for name in names)])
    if names:
        return f"Run: python -m pip install --force-reinstall -c constraints.txt {' '.join(names)}"
    return "Run: python -m pip install -c constraints.txt -e ."


def _python():
    version = platform.python_version()
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        yield Finding("python", "ok", version)
    else:
        fits = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        yield Finding(
            "python",
            "trouble",
            f"{version}, and the course is made for {fits}",
            "Run: uv run course doctor (uv fetches a Python that fits)",
        )


def _torch():
    try:
        yield Finding("torch", "ok", import_module("torch").__version__)
    except ModuleNotFoundError as error:
        missing = error.name or "torch"
        yield Finding("torch", "trouble", f"{missing} is not installed", _reinstall(missing))
    except Exception as error:
        yield _broken("torch", error)


def _torchvision():
    """Look only where it is installed: the diffusers library imports it, so a broken one breaks more than itself."""
    try:
        if _installed("torchvision"):
            yield Finding("torchvision", "ok", import_module("torchvision").__version__)
    except Exception as error:
        yield _broken("torchvision", error)


def _broken(name, error):
    """Name the known ways in which torch does not import."""
    text = str(error)
    if "torchvision::nms" in text:
        return Finding(
            name,
            "trouble",
            "torch and torchvision come from different builds, so torchvision cannot load",
            _reinstall("torch", "torchvision"),
        )
    if "DLL" in text or "WinError 126" in text:
        return Finding(
            name,
            "trouble",
            f"a system library of {name} is missing ({_told(error)})",
            "Install the Microsoft Visual C++ Redistributable (x64), then restart.",
        )
    return Finding(name, "trouble", f"{name} does not import ({_told(error)})", _reinstall(name))


def _imports(name) -> bool:
    """Say whether a package imports, whatever it raises when it does not."""
    try:
        import_module(name)
    except Exception:
        return False
    return True


def _device():
    if not _imports("torch"):
        yield Finding("device", "note", "unknown until torch imports")
        return
    torch = import_module("torch")
    threads = torch.get_num_threads()
    processor = f"CPU, {threads} thread{'s' * (threads > 1)}"
    with warnings.catch_warnings():  # an old driver warns here; it is told below
        warnings.simplefilter("ignore")
        cuda = torch.cuda.is_available()
    if cuda:
        card = torch.cuda.get_device_properties(0)
        yield Finding("device", "ok", f"CUDA: {card.name}, {card.total_memory / GB:.0f} GB; {processor}")
    elif torch.backends.mps.is_available():
        yield Finding("device", "ok", f"Apple MPS; {processor}")
    elif shutil.which("nvidia-smi") and torch.version.cuda:
        yield Finding(
            "device",
            "note",
            f"{processor}; an NVIDIA driver is here, but torch cannot use it",
            f"If you want it, update the driver to one for CUDA {torch.version.cuda}.",
        )
    else:
        yield Finding("device", "ok", processor)


def _memory():
    try:
        memory = import_module("psutil").virtual_memory()
    except ImportError:
        yield Finding("memory", "note", "unknown: psutil is not installed", _reinstall("psutil"))
        return
    says = f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB free"
    if memory.available < NEEDED_MEMORY * GB:
        yield Finding("memory", "note", says, "Close other programs before a training cell.")
    else:
        yield Finding("memory", "ok", says)


def _folder():
    """Return the data folder, or None while course_lib.data does not import."""
    try:
        return Path(import_module("course_lib.data").data_dir())
    except Exception:
        return None


def _standing(folder):
    """Return the folder or the nearest one above it that exists."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _disk():
    folder = _standing(_folder() or ROOT)
    free = shutil.disk_usage(folder).free / GB
    if free < NEEDED_DISK:
        yield Finding(
            "disk",
            "trouble",
            f"{free:.1f} GB free at {folder}",
            "Delete what you can spare there, or set COURSE_DATA to a folder on another disk.",
        )
    else:
        yield Finding("disk", "ok", f"{free:.0f} GB free at {folder}")


def _installed(name):
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _widgets():
    have = {name: _installed(name) for name in WIDGETS}
    told = ", ".join(f"{name} {version or 'missing'}" for name, version in have.items())
    lost = [name for name in WIDGETS if name != "jupyterlab" and not have[name]]
    if have["jupyterlab"] and not _installed("jupyterlab_widgets"):
        lost.append("jupyterlab_widgets")  # without it JupyterLab shows text where a slider should be
    if lost:
        yield Finding(
            "widgets", "trouble", f"sliders will not show without {' and '.join(lost)} ({told})", _reinstall(*lost)
        )
    elif not have["jupyterlab"]:
        yield Finding(
            "widgets",
            "note",
            f"{told}: right for Colab and VS Code, but `course lab` needs it",
            _reinstall("jupyterlab"),
        )
    else:
        yield Finding("widgets", "ok", told)


def _requirements():
    """Return what the course asks for, and what it was tested with: lists of Requirement that hold on this system."""
    requirement = import_module("packaging.requirements").Requirement
    if (ROOT / "pyproject.toml").is_file():
        tomllib = import_module("tomllib")
        asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        asked = importlib.metadata.requires("diffusion-course") or []
    pins = ROOT / "constraints.txt"
    rows = pins.read_text(encoding="utf-8").splitlines() if pins.is_file() else []
    tested = [requirement(row) for row in rows if row.strip() and not row.startswith("#")]
    return [
        [one for one in many if not one.marker or one.marker.evaluate()]
        for many in ([requirement(row) for row in asked], tested)
    ]


def _versions():
    asked, tested = _requirements()
    pins = {pin.name: pin.specifier for pin in tested}
    wrong, other = [], []
    for need in asked:
        have = _installed(need.name)
        if have is None and need.name in WIDGETS:
            continue  # told under widgets
        if have is None or not need.specifier.contains(have, prereleases=True):
            wrong.append((need.name, f"{need.name} {have or 'missing'} (needs {need.specifier})"))
        elif need.name in pins and not pins[need.name].contains(have, prereleases=True):
            other.append(f"{need.name} {have} (tested: {str(pins[need.name]).removeprefix('==')})")
    if wrong:
        yield Finding("versions", "trouble", ", ".join(told for _, told in wrong), _reinstall(*(n for n, _ in wrong)))
    if other:
        yield Finding("versions", "note", "should work, but not what the tests ran with: " + ", ".join(other))
    if not wrong and not other:
        where = "as in constraints.txt" if tested else "in the ranges the course asks for"
        yield Finding("versions", "ok", f"all {len(asked)} direct dependencies {where}")


def _place() -> str:
    """Name the data folder without its path: this is printed into notebooks that people share."""
    folder = _folder()
    if folder is None:
        return "data unknown"
    if os.environ.get("COURSE_DATA"):
        return "data in COURSE_DATA"
    return "data in the repository" if folder == ROOT / "data" else "data in the user's cache"


def _data():
    folder = _folder()
    if folder is None:
        yield Finding("data", "note", "cannot be looked for until torch imports")
        return
    found = [name for name in ("MNIST", "cifar-10-batches-py", "checkpoints") if (folder / name).is_dir()]
    told = f"found {', '.join(found)}" if found else "nothing downloaded yet"
    yield Finding("data", "ok", f"{folder} ({_place()}): {told}; the digits of scikit-learn are always there")


def _writable():
    places = {"lessons": ROOT / "lessons", "data": _folder()}
    failed = 0
    for name, folder in places.items():
        if folder is None or (name == "lessons" and not folder.is_dir()):
            continue
        try:
            with tempfile.TemporaryFile(dir=_standing(folder)) as file:
                file.write(bytes(65536))
                file.flush()
        except OSError as error:
            failed += 1
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full" if full else error.strerror or _told(error)
            do = (
                "Delete what you can spare there."
                if full
                else "Set COURSE_DATA to a folder of your own."
                if name == "data"
                else "Copy the course into a folder of your own and run it there."
            )
            yield Finding("writable", "trouble", f"cannot write to {folder}: {why}", do)
    if not failed:
        yield Finding("writable", "ok", " and ".join(name for name, folder in places.items() if folder))


def _network(seconds=2.0):
    """Try once, in a thread: looking a name up can take longer than any time-out that urlopen knows."""
    answers = []

    def knock():
        try:
            urlopen(SOMEWHERE, timeout=seconds).close()
            answers.append("reachable")
        except HTTPError:
            answers.append("reachable")
        except Exception as error:
            answers.append(f"not reachable ({getattr(error, 'reason', error)})")

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(seconds)
    told = answers[0] if answers else f"no answer within {seconds:g} s"
    status, rest = ("ok", "") if told == "reachable" else ("note", "; no lesson so far needs it")
    yield Finding("network", status, told + rest)


def _profile():
    if not _imports("torch") and os.environ.get("COURSE_PROFILE", "auto") == "auto":
        yield Finding("profile", "note", "unknown until torch imports")
        return
    try:
        yield Finding("profile", "ok", import_module("course_lib.profile").profile())
    except ValueError as error:
        yield Finding("profile", "trouble", str(error), "Unset COURSE_PROFILE, or set it to smoke, cpu, gpu or auto.")
